//! A run for programs: takes a plan, an outcome and diagnostics, gives their lines of [`Line`](super::line::Line), where the table
//! stands.
//!
//! Of a firewall, `added` and `removed` are rules, `blocked` and `unblocked` networks; `guest_forwarding` and `backend` are as they
//! are afterwards. The `digest` of a file is null where it is made of materials. Secrets are names (`‹db/app›`).

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::Serialize;

use crate::base::diagnostic::{Diagnostic, Severity, Span};
use crate::base::net::{Cidr, HostName};
use crate::base::warning::Warning;
use crate::base::{secret, visible};
use crate::fleet::event::Outcome;
use crate::inventory::site::Backend;
use crate::plan::behind::{Behind, Half};
use crate::plan::diff;
use crate::plan::plan::{self, Action, Because, Change, Plan, Reload};
use crate::plan::ruleset::Rule;
use crate::plan::state::{self, Digest, Follow, Other, Phase};

/// What would be done, or is done next.
#[derive(Debug, Serialize, JsonSchema)]
pub struct PlanLine<'a> {
    /// The inventory's name.
    site: &'a HostName,
    /// Hosts that change.
    changed: usize,
    /// Hosts that stay as they are.
    unchanged: usize,
    /// What is done on each host.
    hosts: BTreeMap<&'a HostName, HostPlan<'a>>,
    /// Flows that open on one end alone, by why the hosts of the other end have no part in this.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    halves: &'a BTreeMap<Behind, Half>,
}

/// One host's part of a plan.
#[derive(Debug, Serialize, JsonSchema)]
struct HostPlan<'a> {
    /// What was changed by someone else since the last run, each a sentence.
    drift: &'a [String],
    /// Units whose restart waits for a person's word since an earlier run.
    waits: &'a BTreeSet<String>,
    /// Hosts for which the phase `narrow` is put off here, as nobody sees them move in this run, and why.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    kept_for: &'a BTreeMap<HostName, Behind>,
    /// By phase, in the order in which they are carried out.
    phases: BTreeMap<Phase, Vec<ActionView<'a>>>,
}

/// One thing that is done.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(tag = "action", rename_all = "snake_case")]
enum ActionView<'a> {
    /// Packages are installed.
    Install {
        /// Their names.
        packages: &'a [String],
    },
    /// A folder is made, or its access is set.
    Folder {
        /// Absolute.
        path: &'a str,
        /// Owner, group, mode.
        access: AccessView<'a>,
        /// Whether it exists with another access.
        exists: bool,
    },
    /// A file is put in place.
    Write(Box<WriteView<'a>>),
    /// A file that is right already is remembered as ours.
    Adopt {
        /// Absolute.
        path: &'a str,
    },
    /// A file of ours that is no longer wanted is removed.
    Remove {
        /// Absolute.
        path: &'a str,
        /// Whether someone else changed it since.
        drift: bool,
    },
    /// Rules are loaded.
    Firewall {
        /// Why.
        why: Reload,
        /// Accepted from now on.
        added: &'a [Rule],
        /// No longer accepted.
        removed: &'a [Rule],
        /// Dropped from now on, before any rule.
        blocked: &'a [Cidr],
        /// No longer dropped.
        unblocked: &'a [Cidr],
        /// Whether what another owner forwards stays open.
        guest_forwarding: bool,
        /// The tool that holds the rules.
        backend: Backend,
    },
    /// A unit takes its files, is reloaded, restarted or started; or it is stopped for good.
    Follow {
        /// Its name.
        unit: &'a str,
        /// How.
        follow: Follow,
        /// Why.
        because: Because,
    },
    /// A running unit is told what stands in a file.
    Set {
        /// Its name.
        unit: &'a str,
        /// The file, absolute.
        path: &'a str,
        /// Why.
        because: Because,
    },
    /// A unit must restart, which waits for a person's word.
    Hold {
        /// Its name.
        unit: &'a str,
    },
    /// A task is carried out.
    Perform {
        /// Its name.
        name: &'a str,
        /// The service that wants it.
        service: &'a str,
        /// As a person says it.
        title: &'a str,
        /// How long it may take.
        limit_seconds: u64,
        /// Whether it can be taken back.
        undo: bool,
        /// Names of the secrets that it gets.
        secrets: BTreeSet<&'a str>,
        /// The facts that become true by it, with their values.
        makes: &'a BTreeMap<String, String>,
    },
    /// What an earlier run began, and did not end because the host went down, is taken back.
    Undo {
        /// The run.
        run: &'a str,
        /// Its phase.
        phase: &'a str,
    },
}

/// A file that is put in place.
#[derive(Debug, Serialize, JsonSchema)]
struct WriteView<'a> {
    /// Absolute.
    path: &'a str,
    /// The service that wants it.
    service: &'a str,
    /// Why.
    change: Change,
    /// Owner, group, mode.
    access: AccessView<'a>,
    /// SHA-256 of its bytes, where it is made of no materials.
    digest: Option<&'a Digest>,
    /// One line about it, where its content is not shown.
    about: Option<&'a str>,
    /// The lines that change, where the old text is known and both may be shown.
    diff: Option<Vec<String>>,
    /// The whole text, where no old one is known and it may be shown.
    text: Option<String>,
    /// Units that follow, and how.
    then: BTreeMap<String, Follow>,
    /// What it takes the place of, where that is no regular file.
    #[serde(skip_serializing_if = "Option::is_none")]
    instead_of: Option<&'a Other>,
}

/// Owner, group, and mode as four octal digits.
#[derive(Debug, Serialize, JsonSchema)]
struct AccessView<'a> {
    owner: &'a str,
    group: &'a str,
    mode: String,
}

/// `plan`.
pub fn plan<'a>(site: &'a HostName, plan: &'a Plan) -> PlanLine<'a> {
    let changed = plan.changed().count();
    let hosts = plan.hosts.iter().map(|(name, host)| (name, host_plan(host))).collect();
    PlanLine { site, changed, unchanged: plan.hosts.len() - changed, hosts, halves: &plan.halves }
}

fn host_plan(plan: &plan::HostPlan) -> HostPlan<'_> {
    let phases = plan
        .phases
        .iter()
        .map(|(phase, actions)| (*phase, actions.iter().map(|a| action(plan, *phase, a)).collect()))
        .collect();
    HostPlan { drift: &plan.drift, waits: &plan.waits, kept_for: &plan.kept_for, phases }
}

fn access(access: &state::Access) -> AccessView<'_> {
    AccessView { owner: &access.owner, group: &access.group, mode: format!("{:04o}", access.mode) }
}

fn action<'a>(plan: &plan::HostPlan, phase: Phase, action: &'a Action) -> ActionView<'a> {
    match action {
        Action::Install { packages } => ActionView::Install { packages },
        Action::MakeFolder { path, access: a, exists } => {
            ActionView::Folder { path, access: access(a), exists: *exists }
        }
        Action::Write { path, file, change, old, stood } => {
            let body = &file.body;
            let new = secret::display(&body.text);
            let shown = file.about.is_none();
            ActionView::Write(Box::new(WriteView {
                path,
                service: file.service,
                change: *change,
                access: access(&file.access),
                // The digest of a short secret in a known text would give it away.
                digest: secret::names(&body.text).is_empty().then_some(&body.digest),
                about: file.about.as_deref(),
                diff: old.as_ref().filter(|_| shown).map(|old| diff::unified(old, &new)),
                text: (old.is_none() && shown).then_some(new),
                then: plan.then(phase, path, file),
                instead_of: stood.as_ref(),
            }))
        }
        Action::Adopt { path, .. } => ActionView::Adopt { path },
        Action::Remove { path, drift } => ActionView::Remove { path, drift: *drift },
        Action::Firewall { to, added, removed, around, why } => ActionView::Firewall {
            why: *why,
            added,
            removed,
            blocked: &around.blocked,
            unblocked: &around.unblocked,
            guest_forwarding: to.guest_forwarding,
            backend: to.backend,
        },
        Action::Follow { unit, follow, because } => ActionView::Follow { unit, follow: *follow, because: *because },
        Action::Set { unit, path, because, .. } => ActionView::Set { unit, path, because: *because },
        Action::Hold { unit } => ActionView::Hold { unit },
        Action::Perform { name, task } => ActionView::Perform {
            name,
            service: task.service,
            title: &task.title,
            limit_seconds: task.limit.as_secs(),
            undo: task.undo.is_some(),
            secrets: task.secrets(),
            makes: &task.makes,
        },
        Action::Undo { of } => ActionView::Undo { run: &of.run, phase: &of.phase },
    }
}

/// What became of a run.
#[derive(Debug, Serialize, JsonSchema)]
pub struct OutcomeLine<'a> {
    #[serde(flatten)]
    outcome: &'a Outcome,
    /// The exit code.
    exit: u8,
}

/// `outcome`.
pub fn outcome(outcome: &Outcome, exit: u8) -> OutcomeLine<'_> {
    OutcomeLine { outcome, exit }
}

/// What is wrong, or odd, with something that a person wrote.
#[derive(Debug, Serialize, JsonSchema)]
pub struct DiagnosticLine {
    severity: SeverityView,
    /// What is wrong.
    message: String,
    /// What to write instead, each a sentence.
    help: Vec<String>,
    /// Of a warning, the word that silences it in `silence`.
    kind: Option<&'static str>,
    /// Where, if it has a place.
    file: Option<String>,
    /// From 1.
    line: Option<usize>,
    /// From 1, in characters.
    column: Option<usize>,
}

/// Whether it stops the work.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum SeverityView {
    Error,
    Warning,
}

/// `diagnostic`.
pub fn diagnostic(diagnostic: &Diagnostic) -> DiagnosticLine {
    let span = diagnostic.span.as_ref();
    DiagnosticLine {
        severity: match diagnostic.severity {
            Severity::Error => SeverityView::Error,
            Severity::Warning(_) => SeverityView::Warning,
        },
        message: visible::short(&diagnostic.message, visible::LINE).into_owned(),
        help: diagnostic.helps().map(|help| visible::short(&help, visible::LINE).into_owned()).collect(),
        kind: diagnostic.kind().map(Warning::word),
        file: span.map(|s| s.source.path.display().to_string()),
        line: span.map(Span::line),
        column: span.map(Span::column),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::event::Event;
    use crate::report::line::{self, Line};
    use crate::report::sample;

    fn pretty(line: Line<'_>) -> String {
        serde_json::to_string_pretty(&serde_json::to_value(line).unwrap()).unwrap()
    }

    #[test]
    fn plans() {
        let (site, mut of_three) = sample::drift();
        let first = sample::first_apply().1;
        of_three.hosts.insert(sample::name("new"), first.hosts[&sample::name("lb1")].clone());
        insta::assert_snapshot!(pretty(Line::Plan(plan(&site.name, &of_three))));
    }

    /// What programs are told is what the published schema says, and that is no bag into which everything fits.
    #[test]
    fn plans_are_those_of_the_schema() {
        let schema = jsonschema::validator_for(&line::plan_schema()).unwrap();
        for (site, of) in [sample::first_apply(), sample::port_move(), sample::drift(), sample::many(40)] {
            let line = serde_json::to_value(Line::Plan(plan(&site.name, &of))).unwrap();
            let errors: Vec<String> = schema.iter_errors(&line).map(|error| error.to_string()).collect();
            assert!(errors.is_empty(), "{errors:?}");
            for field in ["event", "hosts", "changed"] {
                let mut less = line.clone();
                less.as_object_mut().unwrap().remove(field);
                assert!(!schema.is_valid(&less), "{field}");
            }
        }
    }

    #[test]
    fn outcomes_and_events() {
        let end = Event::HostEnd {
            phase: Phase::Web,
            host: sample::name("web1"),
            failure: Some(sample::failure()),
            seconds: 0.5,
        };
        let (outcome, observing) = (sample::outcome(), Event::Observing { hosts: 3 });
        let lines = [Line::Outcome(super::outcome(&outcome, 5)), Line::Progress(&end), Line::Progress(&observing)];
        insta::assert_snapshot!(lines.into_iter().map(pretty).collect::<Vec<_>>().join("\n"));
    }
}
