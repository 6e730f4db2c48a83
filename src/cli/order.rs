//! The stage of public certificates that `apply`, `diff` and `cert` share: what is due, the orders, and their installation on
//! the load balancers, one at a time.

use std::collections::BTreeSet;

use time::OffsetDateTime;

use super::args::Global;
use super::{Stop, apply, exit, stages};
use crate::base::net::HostName;
use crate::base::secret::{names, sentinel};
use crate::fleet::connect::SshConnector;
use crate::fleet::event::Outcome;
use crate::fleet::survey::Prepared;
use crate::fleet::{history, transaction};
use crate::host::lock::{self, Locked};
use crate::host::transport::Script;
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
use crate::service::haproxy::CHALLENGE_PROBE;
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
    /// Some host could not be reached; what was to be done elsewhere was done.
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

    /// Asks the load balancers, which must all answer.
    fn survey(&self) -> Result<Prepared, Stop> {
        let (_, prepared) = self.look(&Self::lbs(self.site))?;
        if prepared.survey.unreachable.is_empty() && prepared.survey.refused.is_empty() {
            return Ok(prepared);
        }
        Err(Stop::Unreachable)
    }

    /// Asks `hosts`, and tells which of them cannot be worked on.
    fn look(&self, hosts: &BTreeSet<HostName>) -> Result<(pki::Issued, Prepared), Stop> {
        let issued = stages::issue(self.site, self.reporter)?;
        let prepared = self.reporter.during(&Interrupt::default(), |events| {
            stages::prepare(self.site, hosts, &issued, self.templates, self.connector, self.global, &events)
        })?;
        for (host, error) in &prepared.survey.unreachable {
            let help = if self.site.hosts.get(host).is_some_and(|host| host.has(Role::Lb)) {
                "nothing is ordered until all load balancers answer, as the CA may ask any; what was obtained already is \
                 brought to the others now, and to this one by the next run"
            } else {
                "what is due on it is brought to it by the next run"
            };
            self.reporter.error(&format!("{host} cannot be reached: {error}"), &[], &[help.to_owned()])?;
        }
        for (host, reason) in &prepared.survey.refused {
            self.reporter.error(&format!("{host} is left alone: {reason}"), &[], &[])?;
        }
        Ok((issued, prepared))
    }

    /// Orders the certificates of `sites`, those of `force` in any case, and installs what came of it.
    pub(super) fn run(&self, sites: &BTreeSet<String>, force: &BTreeSet<String>) -> Result<Ended, Stop> {
        let fates = self.order(sites, force)?;
        let mut ended = Ended::Nothing;
        for (name, fate) in &fates {
            let (step, text, how) = match fate {
                Fate::Good { .. } => continue,
                Fate::Obtained { about, notes } => {
                    for note in notes {
                        self.reporter.note(&format!("warning: {name}: {note}"));
                    }
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
        if fates.iter().any(|(_, fate)| matches!(fate, Fate::Obtained { .. })) {
            ended = ended.max(self.install(&Self::lbs(self.site))?);
        }
        Ok(ended)
    }

    fn order(&self, sites: &BTreeSet<String>, force: &BTreeSet<String>) -> Result<Vec<(String, Fate)>, Stop> {
        let mut prepared = self.survey()?;
        if let Some((host, _)) = prepared.plan.hosts.iter().find(|(_, plan)| !plan.is_empty()) {
            return Err(Stop::Refused(
                format!("no certificate was ordered: {host} is not as the inventory says"),
                vec!["`infra apply` brings it there, and orders what is due".to_owned()],
            ));
        }
        // The kernel of the first load balancer keeps a second controller out; the lock ends with this connection.
        let first = prepared.survey.sessions.values_mut().next();
        let _hold = first.map(|transport| self.lock(transport.as_mut())).transpose()?;
        Self::answers(&mut prepared)?;
        let vault = Vault::open(&self.site.state).map_err(|e| store_error(&e))?;
        let mut fates = Vec::new();
        for wanted in wanted(self.site).into_iter().filter(|w| sites.contains(&w.site)) {
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
        Ok(fates)
    }

    fn lock(
        &self,
        transport: &mut dyn crate::host::transport::Transport,
    ) -> Result<Box<dyn crate::host::transport::Hold>, Stop> {
        match lock::take(transport, &self.options.who, &self.options.run).map_err(|e| Stop::Failed(e.into()))? {
            Locked::Ours(hold) => Ok(hold),
            Locked::Held(holder) => Err(Stop::Refused(
                format!("another run works on the load balancers: {holder}"),
                vec!["wait for it, then run this again".to_owned()],
            )),
        }
    }

    /// Every load balancer must answer for every name before a CA is asked to look: failed looks are counted there.
    fn answers(prepared: &mut Prepared) -> Result<(), Stop> {
        for (host, transport) in &mut prepared.survey.sessions {
            let probes = prepared.desired.get(host).map(|d| d.probes.as_slice()).unwrap_or_default();
            for probe in probes.iter().filter(|p| p.title.starts_with(CHALLENGE_PROBE)) {
                let script = Script::new(probe.title.clone(), probe.command.clone());
                let output = transport.run(&script, b"").map_err(|e| Stop::Failed(e.into()))?;
                if !output.ok() {
                    let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
                    return Err(Stop::Failed(anyhow::anyhow!("{host}: not seen: {} ({said})", probe.title)));
                }
            }
        }
        Ok(())
    }

    /// Brings the certificates in use to those of `hosts` that have others; the plan is shown, and holds nothing else. A host that
    /// cannot be worked on gets them the next time. A public one was told as renewed when it was obtained.
    pub(super) fn install(&self, hosts: &BTreeSet<HostName>) -> Result<Ended, Stop> {
        let (issued, mut prepared) = self.look(hosts)?;
        let refused = &prepared.survey.refused;
        prepared.plan.hosts.retain(|host, _| !refused.contains_key(host));
        let missed = match (refused.is_empty(), prepared.survey.unreachable.is_empty()) {
            (true, true) => Ended::Nothing,
            (true, false) => Ended::Unreachable,
            (false, _) => Ended::Failed,
        };
        let all = missed == Ended::Nothing && hosts.len() == self.site.hosts.len();
        if prepared.plan.is_empty() {
            apply::finished(self.site, &Outcome::default(), all, &issued)?;
            return Ok(missed);
        }
        let other = prepared.plan.hosts.iter().find(|(_, plan)| !plan.phases.values().flatten().all(is_certificate));
        if let Some((host, _)) = other {
            return Err(Stop::Refused(
                format!("{host} differs from the inventory by more than certificates"),
                vec!["`infra apply` brings it there, with the certificates".to_owned()],
            ));
        }
        let internal = self.site.certificates.issuer == Issuer::Internal
            || prepared.plan.hosts.values().flat_map(|plan| plan.phases.values().flatten()).any(is_between_hosts);
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
        match apply::finished(self.site, &outcome, all, &issued)? {
            exit::DONE if internal => Ok(missed.max(Ended::Renewed)),
            exit::DONE => Ok(missed),
            exit::INTERRUPTED => Err(Stop::Interrupted),
            exit::UNREACHABLE => Ok(missed.max(Ended::Unreachable)),
            _ => Ok(Ended::Failed),
        }
    }
}

/// Whether an action brings what hosts show each other.
fn is_between_hosts(action: &Action) -> bool {
    matches!(action, Action::Write { file, .. } if names(&file.body.text).iter().any(|name| name.starts_with("pki/")))
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
