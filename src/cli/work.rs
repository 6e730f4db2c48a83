//! A run in parts, as `apply` and `cert` make it: look and plan, carry out on the hosts, then the controller's steps, each of which
//! brings what came of it by one more plan. Each part takes the value of the one before; what became of all is one outcome.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Instant;

use time::OffsetDateTime;

use super::global::Global;
use super::stop::{Done, Stop};
use super::{exit, limits, stages};
use crate::base::diagnostic::Diagnostic;
use crate::base::materials::Materials;
use crate::base::net::HostName;
use crate::base::warning::Warning;
use crate::fleet::beforehand::{self, Ahead};
use crate::fleet::connect::SshConnector;
use crate::fleet::drain::{self, Left};
use crate::fleet::event::{Event, HostOutcome, Outcome};
use crate::fleet::files::Share;
use crate::fleet::rollback::Back;
use crate::fleet::survey::{self, Away, Connector, Prepared, Sources};
use crate::fleet::transaction::{self, Options};
use crate::fleet::wave::Waves;
use crate::fleet::{adopt, history, identity, memory, rollback, way_in};
use crate::host::report;
use crate::inventory::site::Site;
use crate::material::{self, Revealed};
use crate::pki::{self, Issued};
use crate::plan::decision::{Decided, Memory};
use crate::plan::plan::Action;
use crate::plan::state::{Digest, Facts, Follow, ObservedFleet};
use crate::report::certificates::moment;
use crate::report::interrupt::Interrupt;
use crate::report::line::Line;
use crate::report::outcome::Next;
use crate::report::{Reporter, prompt, text};
use crate::service::Services;
use crate::service::firewall::beside;
use crate::service::render::Templates;

mod orders;

/// What all parts of a run share.
pub(super) struct Work<'a> {
    pub(super) site: &'a Site,
    /// When it began; later by the time that a person took to answer.
    pub(super) began: Instant,
    templates: Templates,
    pub(super) connector: SshConnector,
    pub(super) options: Options,
    next: Next,
    /// Units whose restart a person has confirmed.
    pub(super) confirmed: BTreeSet<String>,
    /// Another infrastructure whose hosts a person lets this one take over.
    pub(super) adopt: Option<HostName>,
    revealed: RefCell<Revealed>,
    /// Whether a person was told of issuers of which nobody knows who trusts them.
    doubted: Cell<bool>,
    /// Whether what this run has changed can be taken back: not where infra does not know what a host was before.
    undoable: Cell<bool>,
    /// Whether a person has answered no to what was decided; its exit code is that of a failure too.
    pub(super) declined: bool,
    pub(super) interrupt: Interrupt,
    pub(super) reporter: &'a Reporter,
}

/// How hosts are asked: whether anything is planned for them by that.
type Ask<'f> = dyn Fn(
        &BTreeSet<HostName>,
        Sources<'_>,
        &BTreeMap<HostName, Facts>,
        &dyn Connector,
        usize,
        &Sender<Event>,
    ) -> Result<Prepared, Vec<Diagnostic>>
    + 'f;

/// Hosts that a verb was to look at before it decides.
pub(super) struct Looked {
    issued: Issued,
    prepared: Prepared,
    /// Those that cannot be worked on, and why.
    pub(super) away: Away,
}

impl Looked {
    /// What the others are.
    pub(super) fn observed(&self) -> &ObservedFleet {
        &self.prepared.survey.observed
    }
}

/// How a person agrees to a plan.
pub(super) enum Consent<'c> {
    /// They want to see it alone.
    DryRun,
    /// They said `--yes`.
    Given,
    /// By a yes to this question.
    Asked(&'c str),
    /// By typing this word, what it is asked for with before it: what is destroyed does not come back.
    Typed(&'c str, &'c str),
}

impl Consent<'_> {
    /// Whether they agree; nothing where that is not asked for.
    pub(super) fn given(self) -> Result<Option<bool>, Stop> {
        let answer = match self {
            Self::DryRun => return Ok(None),
            Self::Given => return Ok(Some(true)),
            Self::Asked(question) => prompt::confirm(question),
            Self::Typed(question, word) => prompt::typed(question, word),
        };
        let help = "add `--yes` to go on without being asked";
        answer.map(Some).map_err(|error| Stop::Refused(error.to_string(), vec![help.to_owned()]))
    }
}

impl<'a> Work<'a> {
    /// A run under a name of its own on at most `hosts`; `command` is how it may be gone on with.
    pub(super) fn new(
        site: &'a Site,
        hosts: &BTreeSet<HostName>,
        command: String,
        global: &Global,
        services: Services,
        reporter: &'a Reporter,
    ) -> Result<Self, Stop> {
        let began = Instant::now();
        let options = Options {
            parallel: global.at_once(),
            waves: Waves::default(),
            max_failed: 0,
            settle: false,
            drain: None,
            run: identity::run_name(),
            who: identity::who(),
            restores: None,
            plan: None,
        };
        Ok(Self {
            site,
            began,
            templates: stages::templates(services, site, reporter)?,
            connector: stages::connector((reporter, global), site, hosts),
            options,
            next: Next { command, limit: global.limited(), may_be_limited: false, undo: None },
            confirmed: BTreeSet::new(),
            adopt: None,
            revealed: RefCell::default(),
            doubted: Cell::default(),
            undoable: Cell::default(),
            declined: false,
            interrupt: Interrupt::default(),
            reporter,
        })
    }

    /// Makes what is missing, asks the hosts and plans. Where the plan would replace a certificate by an older one, because another
    /// controller has renewed it or our state was lost, the newer one is taken into use, and the plan is made again.
    pub(super) fn planned(&self, hosts: &BTreeSet<HostName>) -> Result<(Issued, Prepared), Stop> {
        self.planned_by(hosts, &survey::prepare)
    }

    /// As [`Work::planned`], for hosts that are to be what they were before a run, with the materials of today.
    pub(super) fn restored(&self, back: &Back) -> Result<(Issued, Prepared), Stop> {
        let (standing, services) = (back.standing(), self.templates.services());
        let hosts = back.hosts().union(&standing).cloned().collect();
        let (issued, prepared) = self.planned_by(&hosts, &|_, sources, _, connector, parallel, events| {
            let desired = back.desired(services, sources.materials);
            survey::prepare_as(desired, &standing, sources, connector, parallel, events)
        })?;
        let moved = back.moved(&prepared.survey.observed);
        if moved.is_empty() {
            return Ok((issued, prepared));
        }
        Err(Stop::Refused(
            format!(
                "another run has changed {} while this one was planned; nothing was done",
                text::names(&moved.iter().collect::<Vec<_>>())
            ),
            vec!["`infra history` says who; then run this again".to_owned()],
        ))
    }

    /// From now on this is a run that takes `run` back.
    pub(super) fn goes_back(&mut self, run: &str, inventory: &Path) {
        self.next.command = format!("infra rollback {run} {}", inventory.display());
        self.may_be_undone(inventory);
    }

    /// What this run changes may be taken back, and its last line says so; hosts that failed may be gone on with alone.
    pub(super) fn may_be_undone(&mut self, inventory: &Path) {
        self.next.may_be_limited = true;
        let usual = inventory == Path::new("inventory.yml");
        self.next.undo = Some(if usual { String::new() } else { format!(" {}", inventory.display()) });
    }

    /// What hosts keep of past runs, and why those that are not named did not answer.
    pub(super) fn kept(&self, run: Option<&str>, hosts: &BTreeSet<HostName>) -> rollback::Asked {
        let hosts = hosts.iter().filter_map(|name| self.site.hosts.get(name)).collect();
        let asked = rollback::ask(run, hosts, &self.connector, self.options.parallel);
        stages::told(&self.connector, self.reporter);
        for (host, why) in &asked.away {
            self.reporter.note(&format!("  {host}: {why}"));
        }
        asked
    }

    fn planned_by(&self, hosts: &BTreeSet<HostName>, how: &Ask<'_>) -> Result<(Issued, Prepared), Stop> {
        let (issued, mut prepared) = self.ask(hosts, how)?;
        let newer = adopt::before_writing(self.site, &mut prepared, self.options.parallel)?;
        if newer.is_empty() {
            return Ok((issued, prepared));
        }
        // The connections end before the same hosts are asked again.
        drop(prepared);
        self.adopted(&newer);
        self.ask(hosts, how)
    }

    fn ask(&self, hosts: &BTreeSet<HostName>, how: &Ask<'_>) -> Result<(Issued, Prepared), Stop> {
        let now = OffsetDateTime::now_utc();
        let (services, mut revealed) = (self.templates.services(), self.revealed.borrow_mut());
        let mut issued = material::gather(self.site, services, hosts, &mut revealed, now)?;
        issued.materials.hide_with(self.reporter.hidden());
        for warning in &issued.warnings {
            self.reporter.note(&format!("warning: {warning}"));
        }
        let memory = memory::read(self.site, self.templates.services(), now)?;
        let sources = self.sources(&issued, &memory);
        let seen = history::LastSeen::of(&self.site.state);
        let prepared = self.reporter.during(&Interrupt::default(), |events| -> Result<Prepared, Stop> {
            seen.lost.iter().for_each(|lost| warn(&events, lost));
            let parallel = self.options.parallel;
            let prepared = how(hosts, sources, &seen.facts(), &self.connector, parallel, &events)?;
            history::save(self.site, &prepared.survey.observed)?;
            let sources = prepared.survey.observed.iter().filter_map(|(host, o)| Some((host.clone(), o.controller?)));
            let learned = way_in::learned(self.site, &sources.collect());
            if !learned.is_empty() {
                return Err(Stop::Learned(learned));
            }
            rivals(self.site, &prepared, &events);
            Ok(prepared)
        })?;
        Ok((issued, prepared))
    }

    /// Looks at `hosts` for a verb that decides over them by itself, and plans nothing yet.
    ///
    /// # Errors
    /// Also where one of them cannot be worked on, told with its reason; unless they `may_be_away`, which [`Looked`] says then.
    pub(super) fn look(&self, hosts: &BTreeSet<HostName>, may_be_away: bool) -> Result<Looked, Stop> {
        let (issued, mut prepared) = self.ask(hosts, &survey::look)?;
        let away = prepared.survey.away();
        if !away.is_empty() && (!may_be_away || prepared.survey.observed.is_empty()) {
            let refused = !prepared.survey.refused.is_empty();
            for (host, why) in &away {
                self.reporter.error(&format!("{host} {why}"), &[], &[])?;
            }
            let help = vec!["run this again when all of them can be worked on".to_owned()];
            let not_all = || Stop::Refused("not all hosts that this is about can be worked on".to_owned(), help);
            return Err(if refused { not_all() } else { Stop::Unreachable });
        }
        prepared.survey.unreachable.clear();
        prepared.survey.refused.clear();
        Ok(Looked { issued, prepared, away })
    }

    /// Carries out what `decide` gives over the hosts that were looked at, and nothing else: it is shown as a plan, agreed to, decided
    /// again under the locks of all these hosts, executed, and told. What is decided is `service`'s, by whose name its tasks begin.
    ///
    /// # Errors
    /// What cannot be decided is the person's to mend: exit code 2.
    pub(super) fn decided_by(
        &mut self,
        looked: Looked,
        service: &'static str,
        decide: impl Fn(&Site, &ObservedFleet, &Memory) -> Result<Decided, Diagnostic> + Send + Sync + 'static,
        consent: Consent<'_>,
    ) -> Done {
        let Looked { mut issued, mut prepared, .. } = looked;
        prepared.plan_alone(self.site, service, Arc::new(decide))?;
        for text in &prepared.decided.notes {
            self.reporter.note(text);
        }
        self.reporter.plan(self.site, &prepared.plan)?;
        let options = self.options.clone();
        if prepared.plan.is_empty() && prepared.news.is_empty() {
            let mut outcome = self.untouched(&mut prepared, &options);
            outcome.seconds = self.began.elapsed().as_secs_f64();
            self.tell(&outcome)?;
            return Ok(exit::of(&outcome));
        }
        let (seconds, asked) = (self.began.elapsed().as_secs_f64(), Instant::now());
        if !prepared.plan.is_empty() {
            match consent.given()? {
                Some(true) => {}
                Some(false) => {
                    self.declined = true;
                    self.reporter.note("nothing was changed");
                    return Ok(exit::DECLINED);
                }
                None => return Ok(exit::PENDING),
            }
        }
        self.began += asked.elapsed();
        self.interrupt.watch(exit::INTERRUPTED.into())?;
        let hosts = prepared.plan.changed().cloned().collect();
        if material::make(self.site, self.templates.services(), &hosts, &mut issued.materials)? {
            issued.materials.hide_with(self.reporter.hidden());
        }
        let outcome = self.pass(&issued, prepared, &options, seconds)?;
        self.end(outcome, exit::of)
    }

    /// Carries out a plan that leaves hosts, once it is agreed to; gives nothing where it is not. No material is made for it.
    pub(super) fn farewell(&mut self, mut prepared: Prepared, consent: Consent<'_>) -> Result<Option<u8>, Stop> {
        self.reporter.plan(self.site, &prepared.plan)?;
        let options = self.options.clone();
        if prepared.plan.is_empty() {
            let mut outcome = self.untouched(&mut prepared, &options);
            outcome.seconds = self.began.elapsed().as_secs_f64();
            self.tell(&outcome)?;
            return Ok(Some(exit::of(&outcome)));
        }
        let (seconds, asked) = (self.began.elapsed().as_secs_f64(), Instant::now());
        if consent.given()? != Some(true) {
            self.reporter.note("nothing was changed");
            return Ok(None);
        }
        self.began += asked.elapsed();
        self.interrupt.watch(exit::INTERRUPTED.into())?;
        let outcome = self.carried_out(&Materials::default(), prepared, &options, seconds)?;
        self.end(outcome, exit::of).map(Some)
    }

    /// Tells which of the hosts that were asked still trust one that is not in the inventory any more, until the plan is carried out.
    pub(super) fn tell_of_gone(&self, prepared: &Prepared) -> Result<(), Stop> {
        for gone in stages::left(self.site) {
            let gone = gone.trusted(self.site, &prepared.survey.observed, &prepared.plan);
            if self.reporter.is_json() {
                self.reporter.line(&Line::Gone(&gone))?;
                continue;
            }
            let host = &gone.host;
            for (by, what) in &gone.trusted_by {
                let waits = prepared.plan.hosts.get(by).is_some_and(|plan| !plan.kept_for.is_empty());
                let until = if waits { "an apply gets through on all hosts" } else { "this plan is carried out" };
                self.reporter.note(&format!("{by} still trusts {host}, until {until}: {}", what.join("; ")));
            }
            if let Some(until) = gone.certificate_until {
                let until = moment(until);
                self.reporter
                    .note(&format!("{host} has a certificate of the internal authority that holds until {until}"));
            }
        }
        Ok(())
    }

    fn sources<'s>(&'s self, issued: &'s Issued, memory: &'s Memory) -> Sources<'s> {
        let confirmed = &self.confirmed;
        let (materials, templates, adopt) = (&issued.materials, &self.templates, self.adopt.as_ref());
        Sources { site: self.site, materials, templates, memory, confirmed, adopt }
    }

    /// Makes the passwords that `hosts` are the first to need, and plans with them: what was shown stays as it is, but for what
    /// stands behind its names.
    pub(super) fn make_passwords(
        &self,
        hosts: &BTreeSet<HostName>,
        issued: &mut Issued,
        prepared: &mut Prepared,
    ) -> Result<(), Stop> {
        if material::make(self.site, self.templates.services(), hosts, &mut issued.materials)? {
            issued.materials.hide_with(self.reporter.hidden());
            let memory = prepared.memory.clone();
            prepared.replan(self.sources(issued, &memory))?;
        }
        Ok(())
    }

    /// Looks at the hosts to which packages or their first rules come. Those where something stands in the way are left alone from
    /// then on.
    pub(super) fn ahead(&self, prepared: &mut Prepared) -> Ahead {
        beforehand::look(prepared, self.options.parallel)
    }

    /// Tells what was seen ahead.
    pub(super) fn warn_of(&self, ahead: &Ahead) -> Result<(), Stop> {
        let told = self.site.told(ahead.warnings());
        if !told.is_empty() {
            self.reporter.diagnostics(&told)?;
        }
        Ok(self.reporter.closes(&ahead.closes(self.site))?)
    }

    /// Refuses a word for a unit that none of `hosts` has, and tells of one for a unit that restarts nowhere.
    pub(super) fn confirms_what_is_there(&self, prepared: &Prepared, hosts: &BTreeSet<HostName>) -> Result<(), Stop> {
        for unit in &self.confirmed {
            if !hosts.iter().filter_map(|host| prepared.desired.get(host)).any(|host| host.units.contains_key(unit)) {
                return Err(Stop::Refused(
                    format!("`--restart {unit}` names a unit that infra keeps on none of these hosts"),
                    vec!["the plan says which unit waits for that word, and how it is named".to_owned()],
                ));
            }
            let restarts = |action: &Action| matches!(action, Action::Follow { unit: its, follow: Follow::Restart, .. } if its == unit);
            if !prepared.plan.hosts.values().flat_map(|host| host.phases.values().flatten()).any(restarts) {
                self.reporter
                    .note(&format!("`--restart {unit}` changes nothing: no host of this plan owes it a restart"));
            }
        }
        Ok(())
    }

    /// Tells which decisions are left out, and the way out.
    pub(super) fn undecided(&self, prepared: &Prepared) -> Result<(), Stop> {
        let help = "run this again when these hosts answer; a host that is gone for good is taken out of the inventory";
        Ok(prepared.undecided.iter().try_for_each(|text| self.reporter.error(text, &[], &[help.to_owned()]))?)
    }

    fn adopted(&self, newer: &BTreeMap<String, String>) {
        for (name, about) in newer {
            self.reporter.note(&format!("{name}: {about}"));
        }
    }

    /// As [`Work::planned`], where at least one host answers. Those that are away have no part in the plan.
    fn survey(&self, hosts: &BTreeSet<HostName>) -> Result<(Issued, Prepared, Away), Stop> {
        let (issued, mut prepared) = self.planned(hosts)?;
        let away = prepared.survey.away();
        prepared.plan.hosts.retain(|host, _| !away.contains_key(host));
        if !prepared.survey.observed.is_empty() {
            return Ok((issued, prepared, away));
        }
        for (host, why) in &away {
            self.reporter.error(&format!("{host} {why}"), &[], &[])?;
        }
        Err(Stop::Unreachable)
    }

    /// Carries a plan out on its hosts; keeps and tells what became of it.
    pub(super) fn pass(
        &self,
        issued: &Issued,
        prepared: Prepared,
        options: &Options,
        looked: f64,
    ) -> Result<Outcome, Stop> {
        let observed = &prepared.survey.observed;
        let changed: Vec<&HostName> = prepared.plan.changed().collect();
        let is_first = |host: &&HostName| observed.get(*host).is_some_and(|seen| seen.manifest.is_empty());
        // A part with certificates alone never goes back, and one that took this run back leaves nothing to take back.
        if options.run == self.options.run {
            self.undoable.set(!changed.is_empty() && !changed.iter().any(is_first));
        } else if options.restores.is_some() {
            self.undoable.set(false);
        }
        self.carried_out(&issued.materials, prepared, options, looked)
    }

    /// How the descriptors of this process are shared out while a plan is carried out.
    ///
    /// # Errors
    /// Where they do not suffice for all hosts of it: in the middle of it, good rules would be taken back for want of one.
    pub(super) fn share(&self, prepared: &Prepared, options: &Options) -> Result<Share, Stop> {
        let hosts = prepared.held().len();
        // They are as far as they were when they were asked.
        let at_once = self.connector.at_once(options.parallel);
        limits::share(limits::files(), hosts, hosts * self.connector.files(), at_once)
            .map_err(|(words, help)| Stop::Refused(words, vec![help]))
    }

    fn carried_out(
        &self,
        materials: &Materials,
        mut prepared: Prepared,
        options: &Options,
        looked: f64,
    ) -> Result<Outcome, Stop> {
        let share = self.share(&prepared, options)?;
        self.connector.keep(share.kept);
        prepared.rest();
        let plan = self.reporter.plan_text(self.site, &prepared.plan);
        let digest = Some(Digest::of(plan.as_bytes()));
        let options = &Options { parallel: share.at_once, plan: digest, ..options.clone() };
        let (flag, undecided) = (self.interrupt.flag(), prepared.undecided.clone());
        let changed = prepared.plan.hosts.iter().filter(|(_, host)| !host.phases.is_empty()).map(|(name, _)| name);
        let _at_work = history::save_beginning(&self.site.state, &options.run, &plan, &changed.collect())?;
        let mut outcome = self.reporter.during(&self.interrupt, |events| {
            transaction::execute(self.site, prepared, materials, &self.connector, options, flag, &events)
        });
        outcome.seconds += looked;
        outcome.undecided = undecided;
        for why in &outcome.refused {
            self.reporter.error(
                why,
                &[],
                &["run the same command again: it plans with what is there now".to_owned()],
            )?;
        }
        self.keep(&outcome)?;
        self.tell(&outcome)?;
        Ok(outcome)
    }

    /// Keeps what became of a run, without what is never told.
    pub(super) fn keep(&self, outcome: &Outcome) -> Result<(), Stop> {
        Ok(history::save_outcome(&self.site.state, &self.reporter.hidden().redacted(outcome)?)?)
    }

    /// The outcome of a plan that leaves all hosts as they are. While an authority is replaced it is asked where workers of before
    /// still serve; else nobody is asked.
    pub(super) fn untouched(&self, prepared: &mut Prepared, options: &Options) -> Outcome {
        let former = if options.settle {
            let (within, parallel, interrupt) = (self.site.drain, options.parallel, Interrupt::default());
            self.reporter.during(&interrupt, |events| {
                drain::settle(prepared, drain::Patience { within, parallel, stop: interrupt.flag(), events: &events })
            })
        } else {
            Left::new()
        };
        let undecided = prepared.undecided.clone();
        let mut outcome = Outcome { run: options.run.clone(), former, undecided, ..Outcome::default() };
        for name in prepared.plan.hosts.keys() {
            outcome.hosts.insert(name.clone(), HostOutcome::Unchanged);
        }
        for (name, error) in &prepared.survey.unreachable {
            outcome.hosts.insert(name.clone(), HostOutcome::Unreachable { reason: error.to_string() });
        }
        outcome
    }

    /// A rotation of the internal authority takes its next step when every host of the inventory has taken this one, and nobody of
    /// before serves any more.
    pub(super) fn finished(&self, outcome: &Outcome, all: bool, issued: &Issued) -> Result<(), Stop> {
        if all && exit::of(outcome) == exit::DONE && outcome.former.is_empty() {
            pki::mark_deployed(&self.site.state, issued.step)?;
            history::forget(self.site)?;
        }
        Ok(())
    }

    /// Tells the outcome of hosts.
    pub(super) fn tell(&self, outcome: &Outcome) -> Result<(), Stop> {
        Ok(self.reporter.outcome(outcome, &self.next(), exit::of(outcome))?)
    }

    /// How this run may be gone on with.
    fn next(&self) -> Next {
        let next = self.next.clone();
        Next { undo: next.undo.clone().filter(|_| self.undoable.get()), ..next }
    }

    /// Keeps what became of a whole run, and gives its exit code. Programs are told it where there was more than hosts.
    pub(super) fn end(&self, mut outcome: Outcome, code: fn(&Outcome) -> u8) -> Done {
        outcome.seconds = self.began.elapsed().as_secs_f64();
        let code = code(&outcome);
        if !outcome.steps.is_empty() || !outcome.refused.is_empty() {
            self.keep(&outcome)?;
            if self.reporter.is_json() {
                self.reporter.outcome(&outcome, &self.next(), code)?;
            }
        }
        Ok(code)
    }

    /// Carries out those actions of the plan for `hosts` that `keep` names, shown as a plan, and nothing else of it. All of these hosts have
    /// to be there. `run` is what is added to the run's name: a part is a run of its own in the journals.
    pub(super) fn part(
        &self,
        hosts: &BTreeSet<HostName>,
        run: &str,
        keep: impl Fn(&Action) -> bool,
    ) -> Result<Outcome, Stop> {
        let (issued, mut prepared) = self.all_of(hosts)?;
        for host in prepared.plan.hosts.values_mut() {
            host.phases.values_mut().for_each(|actions| actions.retain(&keep));
            host.phases.retain(|_, actions| !actions.is_empty());
        }
        prepared.plan.steps.clear();
        prepared.plan.waiting.clear();
        prepared.undecided.clear();
        prepared.decisions.clear();
        prepared.news.clear();
        prepared.whole = false;
        let options = Options { run: format!("{}-{run}", self.options.run), ..self.options.clone() };
        if prepared.plan.leaves_hosts() {
            return Ok(self.untouched(&mut prepared, &options));
        }
        self.reporter.plan(self.site, &prepared.plan)?;
        self.pass(&issued, prepared, &options, 0.0)
    }

    /// The hosts for which a plan has an action of this kind. All of `hosts` have to be there.
    pub(super) fn pending(
        &self,
        hosts: &BTreeSet<HostName>,
        kind: impl Fn(&Action) -> bool,
    ) -> Result<BTreeSet<HostName>, Stop> {
        let (_, prepared) = self.all_of(hosts)?;
        let due = prepared.plan.hosts.iter().filter(|(_, plan)| plan.phases.values().flatten().any(&kind));
        Ok(due.map(|(host, _)| host.clone()).collect())
    }

    fn all_of(&self, hosts: &BTreeSet<HostName>) -> Result<(Issued, Prepared), Stop> {
        let (issued, prepared, away) = self.survey(hosts)?;
        for (host, why) in &away {
            self.reporter.error(&format!("{host} {why}"), &[], &[])?;
        }
        if away.is_empty() { Ok((issued, prepared)) } else { Err(Stop::Unreachable) }
    }
}

/// Tells what may disturb our rules, hosts with the same once.
fn rivals(site: &Site, prepared: &Prepared, events: &Sender<Event>) {
    if !site.tells(Warning::OtherRules) {
        return;
    }
    let mut warnings: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for (name, seen) in &prepared.survey.observed {
        let rules = prepared.desired.get(name).and_then(|desired| desired.firewall.as_ref());
        let missed = rules.map(|rules| beside::missed(name, rules, &seen.firewall)).unwrap_or_default();
        for text in seen.firewall.warnings.iter().cloned().chain(missed) {
            warnings.entry(text).or_default().push(name.as_str());
        }
    }
    for (text, hosts) in warnings {
        warn(events, &format!("{}: {}; {}", hosts.join(", "), report::phrase(&text), Warning::OtherRules.silencing()));
    }
}

/// A reporter that is gone stops nothing.
fn warn(events: &Sender<Event>, text: &str) {
    let _ = events.send(Event::Note { host: None, text: format!("warning: {text}") });
}
