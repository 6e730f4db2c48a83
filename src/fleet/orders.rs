//! Carries orders of certificates out: takes the load balancers as they are and the sites that are due, keeps every other
//! controller out, gives what became of each order. Whoever brings what came of them to the hosts still holds the lock.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};

use time::OffsetDateTime;

use crate::base::net::HostName;
use crate::fleet::adopt;
use crate::fleet::event::StepFate;
use crate::fleet::preflight::{self, Looked};
use crate::fleet::survey::{Away, Prepared};
use crate::fleet::transaction::Options;
use crate::host::lock::{self, Locked};
use crate::host::transport::{Hold, TransportError};
use crate::inventory::site::{Role, Site};
use crate::pki::acme::Kind;
use crate::pki::fulfil::{self, Fate};
use crate::pki::handover::{self, Owed};
use crate::pki::public::Public;
use crate::pki::public_store::PublicStore;
use crate::service::certificates::wanted::Wanted;

/// Why no order was begun, or none more.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A CA would meet something else than the inventory says.
    #[error("no certificate was ordered: {0} is not as the inventory says")]
    NotAsPlanned(HostName),
    /// Another run is at it.
    #[error("another run works on the load balancers: {0}")]
    Busy(String),
    /// A connection.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// What the load balancers hold.
    #[error(transparent)]
    Adopt(#[from] adopt::Error),
    /// The state folder.
    #[error(transparent)]
    Store(#[from] crate::pki::Error),
}

/// The hosts that show public certificates.
pub fn edge(site: &Site) -> BTreeSet<HostName> {
    site.with_role(Role::Lb).map(|host| host.name.clone()).collect()
}

/// Orders under way. While this lives, nobody else orders.
pub struct Orders<'a> {
    // The locks come first: they go before the connections that they live by.
    /// Of the first load balancer itself; it is free again for the installation.
    host_lock: Option<Box<dyn Hold>>,
    _order_lock: Option<Box<dyn Hold>>,
    site: &'a Site,
    prepared: Prepared,
    away: Away,
    wanted: Vec<Wanted>,
    parallel: usize,
}

impl<'a> Orders<'a> {
    /// Begins with the orders of these sites; `prepared` is of the load balancers.
    ///
    /// # Errors
    /// [`Error::NotAsPlanned`], [`Error::Busy`], [`Error::Transport`].
    pub fn begin(
        site: &'a Site,
        mut prepared: Prepared,
        sites: &BTreeSet<String>,
        options: &Options,
    ) -> Result<Self, Error> {
        let away = prepared.survey.away();
        if let Some((host, _)) = prepared.plan.hosts.iter().find(|(_, plan)| !plan.is_empty()) {
            return Err(Error::NotAsPlanned(host.clone()));
        }
        // The kernel of the first load balancer keeps a second controller out; the locks end with this connection. That of the
        // host is free again for the installation, that of orders is not: another would order what it does not see yet.
        let first = prepared.survey.sessions.iter_mut().find(|(host, _)| !away.contains_key(*host));
        let (mut order_lock, mut host_lock) = (None, None);
        if let Some((_, transport)) = first {
            order_lock = Some(locked(lock::take_orders(transport.as_mut(), &options.who, &options.run))?);
            host_lock = Some(locked(lock::take(transport.as_mut(), &options.who, &options.run))?);
        }
        let wanted = Wanted::all(site).into_iter().filter(|wanted| sites.contains(&wanted.site)).collect();
        Ok(Self { host_lock, _order_lock: order_lock, site, prepared, away, wanted, parallel: options.parallel })
    }

    /// Takes over what another controller has renewed since we looked: it needs no order. A line about each, by site.
    ///
    /// # Errors
    /// [`Error::Adopt`].
    pub fn adopt(&mut self) -> Result<BTreeMap<String, String>, Error> {
        let is_wanted = |name: &str| self.wanted.iter().any(|wanted| wanted.site == name);
        let due: BTreeSet<_> = self.site.sites.keys().filter(|name| is_wanted(name.as_str())).cloned().collect();
        let places = self.prepared.survey.sessions.keys().map(|host| (host.clone(), due.clone())).collect();
        Ok(adopt::take(self.site, &mut self.prepared.survey, &places, self.parallel)?)
    }

    /// Looks at all that a CA would meet, those of `force` as if they were due; what is refused is not ordered.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub fn look(&mut self, force: &BTreeSet<String>, stop: &AtomicBool) -> Result<Looked, Error> {
        let about = (self.wanted.as_slice(), force);
        let looked = preflight::look(self.site, &mut self.prepared, &self.away, about, self.parallel, stop)?;
        self.wanted.retain(|wanted| !looked.fates.contains_key(&wanted.site));
        Ok(looked)
    }

    /// Orders what is due by now, and what is in `force`, one after the other, and adds what became of each to `ordered`, also where
    /// a later one ends in an error. What the CA's own trouble or the person keeps from being begun is left out.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub fn fulfil(&mut self, force: &BTreeSet<String>, stop: &AtomicBool, ordered: &mut Ordered) -> Result<(), Error> {
        let mut over: Option<&str> = None;
        let store = PublicStore::open(&self.site.state)?;
        let (all, mut queue) = (Wanted::all(self.site), std::mem::take(&mut self.wanted));
        // Those whose order gave up names that others were to have by orders after it, with what was in use before.
        let mut exchanged: Vec<(Wanted, Public)> = Vec::new();
        while let Some(wanted) = handover::next(&store, &mut queue, &all, OffsetDateTime::now_utc())? {
            if let Some(why) = over {
                ordered.fates.push((wanted.site, StepFate::LeftOut { why: why.to_owned() }));
                continue;
            }
            let (force, now) = (force.contains(&wanted.site), OffsetDateTime::now_utc());
            // Visitors of a name that moves are shown the certificate of before until the new one is there.
            let owed = handover::owed(&store, &wanted, &all, now)?;
            let before = if owed.is_empty() { None } else { store.current(&wanted.site)? };
            let bare = owed.into_iter().find(|owed| !queue.iter().any(|other| other.site == owed.to));
            if let Some(Owed { name, to }) = bare.filter(|_| !force) {
                let why = format!("{name} would be left without a certificate: {to} has none for it yet");
                ordered.fates.push((wanted.site, StepFate::LeftOut { why }));
                continue;
            }
            let fate = fulfil::fulfil(&store, &wanted, force, stop, now)?;
            // Where the CA itself is the trouble, the other orders would meet it too.
            if matches!(&fate, Fate::Failed { failure, .. } if matches!(failure.kind, Kind::Outage | Kind::Limited)) {
                over = Some("the CA had trouble with an order before this one");
            } else if stop.load(Ordering::Relaxed) {
                over = Some("the run was stopped");
            }
            let obtained = matches!(&fate, Fate::Obtained { .. }) && !force;
            exchanged.extend(before.filter(|_| obtained).map(|former| (wanted.clone(), former)));
            match told(fate) {
                Ok(fate) => ordered.fates.push((wanted.site, fate)),
                Err(why) => ordered.stopped = Some((wanted.site, why)),
            }
        }
        for (wanted, former) in exchanged.into_iter().rev() {
            let Some(Owed { name, to }) =
                handover::put_back(&former, &store, &wanted, &all, OffsetDateTime::now_utc())?
            else {
                continue;
            };
            let why = format!(
                "the new certificate is not used, as {name} would be left without one: {to} has none for it yet"
            );
            let fates = ordered.fates.iter_mut().filter(|(site, _)| *site == wanted.site);
            fates.for_each(|(_, fate)| *fate = StepFate::LeftOut { why: why.clone() });
        }
        self.host_lock = None;
        Ok(())
    }
}

/// What became of orders.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ordered {
    /// By site, in the order in which they came.
    pub fates: Vec<(String, StepFate)>,
    /// The order that the person stopped, and in what state.
    pub stopped: Option<(String, String)>,
}

fn locked(taken: Result<Locked, TransportError>) -> Result<Box<dyn Hold>, Error> {
    match taken? {
        Locked::Ours(hold) => Ok(hold),
        Locked::Held(holder) => Err(Error::Busy(holder)),
    }
}

/// The fate of an order as that of a step.
///
/// # Errors
/// Where the person stopped it, and in what state.
fn told(fate: Fate) -> Result<StepFate, String> {
    Ok(match fate {
        Fate::Good { .. } => StepFate::Unneeded,
        Fate::Obtained { about, notes } => StepFate::Done { about, notes },
        Fate::Deferred { until, why } => StepFate::Deferred { until, why },
        Fate::Failed { failure, .. } if failure.kind == Kind::Stopped => return Err(failure.why),
        Fate::Failed { failure, until, pressing } => {
            // A CA that is down, or that bids us wait, is nobody's fault while there is time.
            let theirs = matches!(failure.kind, Kind::Limited | Kind::Outage);
            StepFate::Failed { why: failure.why, until, excused: theirs && !pressing }
        }
    })
}
