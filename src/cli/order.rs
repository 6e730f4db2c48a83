//! The stage of public certificates that `apply`, `diff` and `cert` share: what is due, the orders, and their installation on
//! the load balancers, one at a time.

use std::collections::{BTreeMap, BTreeSet};

use time::OffsetDateTime;

use super::args::Global;
use super::{Stop, apply, exit, preflight, stages};
use crate::base::net::HostName;
use crate::base::secret::{names, sentinel};
use crate::fleet::connect::SshConnector;
use crate::fleet::event::{HostOutcome, Outcome};
use crate::fleet::survey::{Prepared, Sessions};
use crate::fleet::{adopt, history, transaction};
use crate::host::lock::{self, Locked};
use crate::host::transport::{Hold, TransportError};
use crate::inventory::site::{Issuer, Role, Site};
use crate::pki::acme::Kind;
use crate::pki::fulfil::{self, Fate};
use crate::pki::renew::Decision;
use crate::pki::vault::Vault;
use crate::pki::wanted::{Source, Wanted};
use crate::pki::{self, store};
use crate::plan::plan::Action;
use crate::report::Reporter;
pub(super) use crate::report::certificates::moment;
use crate::report::interrupt::Interrupt;
use crate::report::outcome::Next;
use crate::service::render::Templates;

/// How the orders of a run ended; the worst is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Ended {
    /// Nothing was due.
    Nothing,
    /// At least one certificate is new.
    Renewed,
    /// At least one waits for its time.
    Deferred,
    /// A load balancer does not have all certificates that it should.
    Pending,
    /// At least one order was not begun, as a load balancer that a CA may ask is away.
    Unreachable,
    /// At least one order failed, or what came of it could not be installed.
    Failed,
}

pub(super) fn store_error(error: &store::Error) -> Stop {
    Stop::Refused(error.to_string(), error.help().into_iter().collect())
}

/// The certificate of each site; nothing where our own authority signs.
pub(super) fn wanted(site: &Site) -> Vec<Wanted> {
    let public = site.certificates.issuer != Issuer::Internal;
    site.sites.values().filter(|_| public).map(|web| Wanted::of(site, web)).collect()
}

/// What is to be done about each site's certificate now; nothing where our own authority signs.
pub(super) fn decisions(site: &Site) -> Result<Vec<(String, Decision)>, Stop> {
    let wanted = wanted(site);
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    let vault = Vault::open(&site.state).map_err(|e| store_error(&e))?;
    let now = OffsetDateTime::now_utc();
    let each = wanted.into_iter().map(|wanted| {
        let decision = fulfil::decide(&vault, &wanted, now).map_err(|e| store_error(&e))?;
        Ok((wanted.site, decision))
    });
    each.collect()
}

/// The sites whose certificates are ordered now, each told; those that wait are told too.
pub(super) fn announce(site: &Site, reporter: &Reporter) -> Result<BTreeSet<String>, Stop> {
    let sources = Source::all(&site.certificates);
    let mut due = BTreeSet::new();
    for (name, decision) in decisions(site)? {
        match decision {
            Decision::Good { .. } => {}
            Decision::Order { why, from } => {
                let issuer = sources.get(from).map_or("", Source::host);
                say(
                    reporter,
                    "order",
                    &name,
                    &format!("then: the certificate of {name} is ordered from {issuer}: {why}"),
                )?;
                due.insert(name);
            }
            Decision::Deferred { until, why } => {
                let text = format!("the certificate of {name} is due, but waits until {}: {why}", moment(until));
                say(reporter, "deferred", &name, &text)?;
            }
        }
    }
    Ok(due)
}

fn say(reporter: &Reporter, step: &str, name: &str, text: &str) -> Result<(), Stop> {
    if reporter.is_json() {
        let event = serde_json::json!({ "event": "certificate", "step": step, "site": name, "text": text });
        return Ok(reporter.line(&event)?);
    }
    reporter.note(text);
    Ok(())
}

/// Load balancers that cannot be worked on now, and why: `cannot be reached: …`.
pub(super) type Away = BTreeMap<HostName, String>;

/// Load balancers that lack certificates: of which sites, where that is known, and why.
type Pending = BTreeMap<HostName, (BTreeSet<String>, String)>;

/// What the orders of one run work with.
pub(super) struct Work<'a> {
    pub(super) site: &'a Site,
    pub(super) templates: &'a Templates,
    pub(super) connector: &'a SshConnector,
    pub(super) global: &'a Global,
    pub(super) options: transaction::Options,
    pub(super) next: &'a Next,
    pub(super) interrupt: &'a Interrupt,
    pub(super) reporter: &'a Reporter,
}

impl Work<'_> {
    /// All load balancers.
    pub(super) fn lbs(site: &Site) -> BTreeSet<HostName> {
        site.with_role(Role::Lb).map(|h| h.name.clone()).collect()
    }

    /// Hosts as they are; at least one of them answers.
    fn survey(&self, hosts: &BTreeSet<HostName>) -> Result<(pki::Issued, Prepared, Away), Stop> {
        let (issued, mut prepared) =
            stages::planned(self.site, hosts, self.templates, self.connector, self.global, self.reporter)?;
        let survey = &prepared.survey;
        prepared.plan.hosts.retain(|host, _| !survey.refused.contains_key(host));
        let mut away: Away = survey
            .unreachable
            .iter()
            .map(|(host, error)| (host.clone(), format!("cannot be reached: {error}")))
            .collect();
        away.extend(survey.refused.iter().map(|(host, reason)| (host.clone(), format!("is left alone: {reason}"))));
        if !survey.observed.is_empty() {
            return Ok((issued, prepared, away));
        }
        for (host, why) in &away {
            self.reporter.error(&format!("{host} {why}"), &[], &[])?;
        }
        Err(Stop::Unreachable)
    }

    /// Orders the certificates of `sites`, those of `force` in any case, and installs what came of it.
    pub(super) fn run(&self, sites: &BTreeSet<String>, force: &BTreeSet<String>) -> Result<Ended, Stop> {
        let ordered = self.order(sites, force)?;
        let mut ended = ordered.ended;
        let mut fresh = ordered.adopted;
        for (name, fate) in &ordered.fates {
            let (step, text, how) = match fate {
                Fate::Good { .. } => continue,
                Fate::Obtained { about, notes } => {
                    for note in notes {
                        self.reporter.note(&format!("warning: {name}: {note}"));
                    }
                    fresh.insert(name.clone());
                    ("obtained", format!("obtained: {about}"), Ended::Renewed)
                }
                Fate::Deferred { until, why } => {
                    ("deferred", format!("{name} waits until {}: {why}", moment(*until)), Ended::Deferred)
                }
                Fate::Failed { failure, .. } if failure.kind == Kind::Stopped => {
                    self.reporter.note(&format!("{name}: {}", failure.why));
                    return Err(Stop::Interrupted);
                }
                Fate::Failed { failure, until, pressing } => {
                    // A CA that is down, or that bids us wait, is nobody's fault while there is time.
                    let theirs = matches!(failure.kind, Kind::Limited | Kind::Outage);
                    let how = if theirs && !pressing { Ended::Deferred } else { Ended::Failed };
                    let text = format!("no certificate for {name}: {}", failure.why);
                    let help = format!("what is in use stays; it is tried again from {} on", moment(*until));
                    self.reporter.error(&text, &[], &[help])?;
                    ended = ended.max(how);
                    continue;
                }
            };
            say(self.reporter, step, name, &text)?;
            ended = ended.max(how);
        }
        if !fresh.is_empty() {
            ended = ended.max(self.install(&Self::lbs(self.site), &fresh)?);
        }
        Ok(ended)
    }

    fn order(&self, sites: &BTreeSet<String>, force: &BTreeSet<String>) -> Result<Ordered, Stop> {
        let (_, mut prepared, away) = self.survey(&Self::lbs(self.site))?;
        if let Some((host, _)) = prepared.plan.hosts.iter().find(|(_, plan)| !plan.is_empty()) {
            return Err(Stop::Refused(
                format!("no certificate was ordered: {host} is not as the inventory says"),
                vec!["`infra apply` brings it there, and orders what is due".to_owned()],
            ));
        }
        // The kernel of the first load balancer keeps a second controller out; the locks end with this connection. That of the
        // host is free again for the installation, that of orders is not: another would order what it does not see yet.
        let first = prepared.survey.sessions.iter_mut().find(|(host, _)| !away.contains_key(*host));
        let mut locks = Vec::new();
        if let Some((_, transport)) = first {
            locks.push(Self::locked(lock::take_orders(transport.as_mut(), &self.options.who, &self.options.run))?);
            locks.push(Self::locked(lock::take(transport.as_mut(), &self.options.who, &self.options.run))?);
        }
        let adopted = self.adopt(&mut prepared, sites)?;
        let force: BTreeSet<String> = force.difference(&adopted).cloned().collect();
        let wanted: Vec<Wanted> = wanted(self.site).into_iter().filter(|w| sites.contains(&w.site)).collect();
        let refused = preflight::refused(self, &mut prepared, &away, &wanted, &force)?;
        let ended = refused.values().copied().max().unwrap_or(Ended::Nothing);
        let vault = Vault::open(&self.site.state).map_err(|e| store_error(&e))?;
        let mut fates = Vec::new();
        for wanted in wanted.into_iter().filter(|w| !refused.contains_key(&w.site)) {
            let (force, now) = (force.contains(&wanted.site), OffsetDateTime::now_utc());
            let fate = fulfil::fulfil(&vault, &wanted, force, self.interrupt.flag(), now);
            let fate = fate.map_err(|e| store_error(&e))?;
            // Where the CA itself is the trouble, the other orders would meet it too.
            let over =
                matches!(&fate, Fate::Failed { failure, .. } if matches!(failure.kind, Kind::Outage | Kind::Limited));
            fates.push((wanted.site, fate));
            if over || self.interrupt.is_set() {
                break;
            }
        }
        drop(locks.pop());
        Ok(Ordered { fates, adopted, ended, _locks: locks, _sessions: prepared.survey.sessions })
    }

    fn locked(taken: Result<Locked, TransportError>) -> Result<Box<dyn Hold>, Stop> {
        match taken.map_err(|e| Stop::Failed(e.into()))? {
            Locked::Ours(hold) => Ok(hold),
            Locked::Held(holder) => Err(Stop::Refused(
                format!("another run works on the load balancers: {holder}"),
                vec!["wait for it, then run this again".to_owned()],
            )),
        }
    }

    /// What another controller has renewed since we looked is taken over, and told: it needs no order.
    fn adopt(&self, prepared: &mut Prepared, sites: &BTreeSet<String>) -> Result<BTreeSet<String>, Stop> {
        let due: BTreeSet<_> = self.site.sites.keys().filter(|name| sites.contains(name.as_str())).cloned().collect();
        let places = prepared.survey.sessions.keys().map(|host| (host.clone(), due.clone())).collect();
        let newer = adopt::take(self.site, &mut prepared.survey, &places, self.global.parallel.get());
        let newer = newer.map_err(stages::adoption_error)?;
        for (name, about) in &newer {
            self.reporter.note(&format!("{name}: {about}"));
        }
        Ok(newer.into_keys().collect())
    }

    /// Brings the certificates in use to those of `hosts` that answer and have others; the plan is shown, and holds nothing
    /// else. Those that do not get them are told: they are pending. `fresh` are the sites that have just got a new one.
    pub(super) fn install(&self, hosts: &BTreeSet<HostName>, fresh: &BTreeSet<String>) -> Result<Ended, Stop> {
        let (issued, prepared, away) = self.survey(hosts)?;
        // Whether what holds now holds everywhere.
        let all = away.is_empty() && hosts.len() == self.site.hosts.len();
        let mut pending = Pending::default();
        for (host, why) in away {
            pending.insert(host, (fresh.clone(), why));
        }
        if prepared.plan.is_empty() {
            apply::finished(self.site, &Outcome::default(), all, &issued)?;
            return self.tell(pending);
        }
        let other = prepared.plan.hosts.iter().find(|(_, plan)| !plan.phases.values().flatten().all(is_certificate));
        if let Some((host, _)) = other {
            return Err(Stop::Refused(
                format!("{host} differs from the inventory by more than certificates"),
                vec!["`infra apply` brings it there, with the certificates".to_owned()],
            ));
        }
        // What a CA gave was told when it came.
        let made =
            prepared.plan.hosts.values().flat_map(|plan| plan.phases.values().flatten()).any(|a| self.is_ours(a));
        let mut written: BTreeMap<HostName, BTreeSet<String>> = BTreeMap::new();
        for host in prepared.plan.changed() {
            let sites = prepared.plan.hosts.get(host).map(|plan| adopt::written(self.site, plan)).unwrap_or_default();
            written.insert(host.clone(), sites.into_keys().map(ToString::to_string).collect());
        }
        for (host, sites) in written.iter().filter(|(_, sites)| fresh.is_empty() && !sites.is_empty()) {
            let sites: Vec<&str> = sites.iter().map(String::as_str).collect();
            self.reporter.note(&format!("pending on {host}, and brought now without an order: {}", sites.join(", ")));
        }
        self.reporter.plan(self.site, &prepared.plan)?;
        let mut options = self.options.clone();
        // A run of its own in the journals: what it replaces can be put back by itself.
        options.run.push_str("-certificates");
        let outcome = self.reporter.during(self.interrupt, |events| {
            let flag = self.interrupt.flag();
            transaction::execute(self.site, prepared, &issued.materials, self.connector, &options, flag, &events)
        });
        history::save_outcome(&self.site.state, &outcome)?;
        let code = exit::of(&outcome);
        self.reporter.outcome(&outcome, self.next, code)?;
        for (host, sites) in written {
            if !matches!(outcome.hosts.get(&host), Some(HostOutcome::Changed | HostOutcome::Unchanged)) {
                pending.insert(host, (sites, "was not brought to it, see above".to_owned()));
            }
        }
        let told = self.tell(pending)?;
        match apply::finished(self.site, &outcome, all, &issued)? {
            exit::DONE | exit::UNREACHABLE => Ok(if made { told.max(Ended::Renewed) } else { told }),
            exit::INTERRUPTED => Err(Stop::Interrupted),
            _ => Ok(Ended::Failed),
        }
    }

    /// Whether an action brings a certificate of our own authorities.
    fn is_ours(&self, action: &Action) -> bool {
        let Action::Write { file, .. } = action else { return false };
        let public = self.site.certificates.issuer != Issuer::Internal;
        names(&file.body.text).iter().any(|name| !(public && name.starts_with("site/")))
    }

    /// Tells which load balancers still wait for certificates.
    fn tell(&self, pending: Pending) -> Result<Ended, Stop> {
        let ended = if pending.is_empty() { Ended::Nothing } else { Ended::Pending };
        for (host, (sites, why)) in pending {
            let sites: Vec<&str> = sites.iter().map(String::as_str).collect();
            let text = match sites.as_slice() {
                [] => format!("{host} {why}"),
                some => format!("{host} does not have the certificate of {} yet: it {why}", some.join(", ")),
            };
            let help = "pending: what it lacks is brought to it by the next `infra cert renew`, or `infra apply`, without an order";
            self.reporter.error(&text, &[], &[help.to_owned()])?;
        }
        Ok(ended)
    }
}

/// Whether an action only brings certificates: a file made of nothing but those, and what follows.
fn is_certificate(action: &Action) -> bool {
    match action {
        Action::Write { file, .. } => {
            let materials = names(&file.body.text);
            let ours = |name: &&str| name.starts_with("pki/") || name.starts_with("site/");
            materials.iter().all(ours)
                && materials.iter().map(|name| sentinel(name)).collect::<String>() == file.body.text
        }
        Action::Follow { .. } | Action::Adopt { .. } => true,
        _ => false,
    }
}

/// What came of the orders. Nobody else orders while this lives.
struct Ordered {
    fates: Vec<(String, Fate)>,
    /// Sites whose certificate was found on a load balancer.
    adopted: BTreeSet<String>,
    /// How the orders that were not begun count.
    ended: Ended,
    _locks: Vec<Box<dyn Hold>>,
    _sessions: Sessions,
}
