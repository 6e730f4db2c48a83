//! The orders of certificates in a run: takes the steps that are due after what became of the hosts, has them carried out, and brings what
//! came of them to the load balancers by one more plan; adds what became of all that to the outcome.

use std::collections::BTreeSet;

use time::OffsetDateTime;

use super::Work;
use crate::base::diagnostic::Diagnostic;
use crate::base::net::HostName;
use crate::cli::exit;
use crate::cli::stop::Stop;
use crate::fleet::authority;
use crate::fleet::event::{Outcome, StepFate, StepOutcome};
use crate::fleet::installation::{self, Brought};
use crate::fleet::orders::{self, Ordered, Orders};
use crate::fleet::survey::Prepared;
use crate::fleet::transaction::Options;
use crate::fleet::trust;
use crate::plan::step::{Step, StepKind};
use crate::report::outcome::waits;
use crate::report::steps;

impl Work<'_> {
    /// Takes out of the plan the steps that a run on `hosts` does not carry out, and tells them: they are neither asked for nor pending.
    pub(in crate::cli) fn leave_out(
        &self,
        prepared: &mut Prepared,
        hosts: &BTreeSet<HostName>,
    ) -> Result<Vec<StepOutcome>, Stop> {
        if orders::edge(self.site).is_subset(hosts) {
            return Ok(Vec::new());
        }
        let steps = std::mem::take(&mut prepared.plan.steps);
        self.left_out(steps.into_iter().map(|step| step.subject), "not all load balancers are selected")
    }

    fn left_out(&self, sites: impl IntoIterator<Item = String>, why: &str) -> Result<Vec<StepOutcome>, Stop> {
        let fate = || StepFate::LeftOut { why: why.to_owned() };
        let steps: Vec<_> = sites.into_iter().map(|site| StepOutcome::order(site, fate())).collect();
        steps.iter().try_for_each(|step| steps::fate(step, self.reporter))?;
        Ok(steps)
    }

    /// Refuses to put another internal authority in the place of the one that the hosts trust, unless the inventory says that this is
    /// meant.
    ///
    /// # Errors
    /// The hosts whose authority is not here.
    pub(in crate::cli) fn keeps_authority(&self, prepared: &mut Prepared) -> Result<(), Stop> {
        match authority::strange(self.site, prepared, self.options.parallel)? {
            Some(strange) => Err(Stop::Input(vec![strange])),
            None => Ok(()),
        }
    }

    /// Refuses to replace a certificate that browsers trust by one that they do not, unless the inventory says that this is meant. Where
    /// that is not known of the new one, it is told, once in a run.
    ///
    /// # Errors
    /// The sites that would lose it.
    pub(in crate::cli) fn keeps_trust(&self, prepared: &Prepared) -> Result<(), Stop> {
        let found = trust::lost(self.site, prepared, OffsetDateTime::now_utc())?;
        let (lost, unknown): (Vec<_>, Vec<_>) = found.into_iter().partition(Diagnostic::is_error);
        if !lost.is_empty() {
            return Err(Stop::Input(lost));
        }
        if !unknown.is_empty() && !self.doubted.replace(true) {
            self.reporter.diagnostics(&unknown)?;
        }
        Ok(())
    }

    /// The controller's steps of a plan, after `outcome` of its hosts. They come when all went well there, or are left out.
    pub(in crate::cli) fn steps(&self, mut outcome: Outcome, all: &[Step]) -> Result<Outcome, Stop> {
        let mut sites = BTreeSet::new();
        for step in all {
            match step.kind {
                StepKind::Order => sites.insert(step.subject.clone()),
            };
        }
        if sites.is_empty() {
            return Ok(outcome);
        }
        let why = match exit::of(&outcome) {
            exit::DONE => {
                self.order(&sites, &BTreeSet::new(), &mut outcome)?;
                return Ok(outcome);
            }
            exit::DEFERRED => "old flows are in use; the next `infra apply` orders what is due",
            _ => "not all hosts got through",
        };
        outcome.steps.extend(self.left_out(sites, why)?);
        Ok(outcome)
    }

    /// Orders the certificates of `sites`, those of `force` in any case, brings what came of it to the load balancers, and adds what
    /// became of that to `outcome`. What stops it after something was done is told, and stands in the outcome too.
    ///
    /// # Errors
    /// What stopped it, where nothing was done before in the whole run.
    pub(in crate::cli) fn order(
        &self,
        sites: &BTreeSet<String>,
        force: &BTreeSet<String>,
        outcome: &mut Outcome,
    ) -> Result<(), Stop> {
        let before = outcome.steps.len();
        let Err(stop) = self.try_order(sites, force, outcome) else { return Ok(()) };
        let known = outcome.steps.len();
        let stop = stop.beside(sites, before, outcome)?;
        stop.tell(self.reporter)?;
        Ok(outcome.steps.iter().skip(known).try_for_each(|step| steps::fate(step, self.reporter))?)
    }

    fn try_order(&self, sites: &BTreeSet<String>, force: &BTreeSet<String>, outcome: &mut Outcome) -> Result<(), Stop> {
        let edge = orders::edge(self.site);
        let (_, mut prepared, _) = self.survey(&edge)?;
        self.keeps_authority(&mut prepared)?;
        self.keeps_trust(&prepared)?;
        let mut orders = Orders::begin(self.site, prepared, sites, &self.options)?;
        let newer = orders.adopt()?;
        self.adopted(&newer);
        let mut fresh: BTreeSet<String> = newer.into_keys().collect();
        let force: BTreeSet<String> = force.difference(&fresh).cloned().collect();
        let looked = orders.look(&force, self.interrupt.flag())?;
        steps::looked(&looked, self.reporter)?;
        outcome.steps.extend(looked.fates.into_iter().map(|(site, fate)| StepOutcome::order(site, fate)));
        let mut ordered = Ordered::default();
        let carried_out = orders.fulfil(&force, self.interrupt.flag(), &mut ordered);
        for (site, fate) in ordered.fates {
            if matches!(fate, StepFate::Done { .. }) {
                outcome.renewed = true;
                fresh.insert(site.clone());
            }
            let step = StepOutcome::order(site, fate);
            steps::fate(&step, self.reporter)?;
            outcome.steps.push(step);
        }
        carried_out?;
        if let Some((site, why)) = ordered.stopped {
            self.reporter.note(&format!("{site}: {why}"));
            outcome.interrupted = true;
            outcome.steps.push(StepOutcome::order(site, StepFate::LeftOut { why }));
            return Ok(());
        }
        if fresh.is_empty() {
            return Ok(());
        }
        // Until it is brought nobody else orders.
        let brought = self.install(&edge, &fresh)?;
        drop(orders);
        *outcome = std::mem::take(outcome).then(brought);
        Ok(())
    }

    /// Brings the certificates in use to those of `hosts` that answer and have others; the plan is shown, and holds nothing
    /// else. Those that do not get them are told: they are pending. `fresh` are the sites that have just got a new one.
    pub(in crate::cli) fn install(
        &self,
        hosts: &BTreeSet<HostName>,
        fresh: &BTreeSet<String>,
    ) -> Result<Outcome, Stop> {
        let (issued, mut prepared, away) = self.survey(hosts)?;
        // What was just ordered was agreed to when it was planned.
        if fresh.is_empty() {
            self.keeps_authority(&mut prepared)?;
            self.keeps_trust(&prepared)?;
        }
        // Whether what holds now holds everywhere.
        let all = away.is_empty() && hosts.len() == self.site.hosts.len();
        // A run of its own in the journals: what it replaces can be put back by itself.
        let run = format!("{}-certificates", self.options.run);
        let options = Options { run, settle: all && issued.step.is_some(), ..self.options.clone() };
        let brought = Brought::of(self.site, &prepared.plan).map_err(|host| {
            Stop::Refused(
                format!("{host} differs from the inventory by more than certificates"),
                vec!["`infra apply` makes the host as the inventory says, with the certificates".to_owned()],
            )
        })?;
        // Nothing but certificates is brought: no decision of another kind is missing, or made.
        prepared.undecided.clear();
        prepared.decisions.clear();
        prepared.news.clear();
        prepared.whole = false;
        let ours = brought.ours;
        let mut outcome = if prepared.plan.leaves_hosts() {
            let outcome = self.untouched(&mut prepared, &options);
            if let Some(text) = waits(&outcome.former) {
                self.reporter.note(&text);
            }
            outcome
        } else {
            // Our own authorities have just signed what they brought; what a CA gave waits from an earlier run.
            let waited = fresh.is_empty() && self.site.sites.values().any(|web| self.site.orders(web));
            for (host, sites) in brought.sites.iter().filter(|(_, sites)| waited && !sites.is_empty()) {
                let sites: Vec<&str> = sites.iter().map(String::as_str).collect();
                self.reporter
                    .note(&format!("pending on {host}, and brought now without an order: {}", sites.join(", ")));
            }
            self.reporter.plan(self.site, &prepared.plan)?;
            self.pass(&issued, prepared, &options, 0.0)?
        };
        self.finished(&outcome, all, &issued)?;
        let pending = brought.pending(away, fresh, &outcome);
        steps::pending(&pending, self.reporter)?;
        installation::count(self.site, &pending, &mut outcome);
        // What a CA gave was told when it came.
        outcome.renewed = ours;
        Ok(outcome)
    }
}
