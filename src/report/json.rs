//! The run for programs: takes plan, events and outcome, gives one JSON object a line, told apart by `event`.
//!
//! | `event` | fields |
//! |---|---|
//! | `observing` | `hosts`: number |
//! | `observed` | `host`, `error`: null or text |
//! | `plan` | `site`, `changed`, `unchanged`: numbers, `hosts`: by name `{drift: [text], phases: {PHASE: [action]}}` |
//! | `phase_begin` | `phase`, `hosts`: names |
//! | `host_begin` | `phase`, `host` |
//! | `host_end` | `phase`, `host`, `seconds`, `failure`: null or `{phase, what, words, put_back, state}` |
//! | `phase_end` | `phase`, `passed`, `failed`: numbers, `note`, `seconds` |
//! | `note` | `host`: null or name, `text` |
//! | `outcome` | `run`, `exit`: the exit code, `seconds`, `interrupted`, `notes`, `hosts`: by name `{outcome: unchanged\|changed\|failed\|rolled_back\|unreachable\|not_reached, …}` |
//! | `diagnostic` | `severity`, `message`, `help`: texts, `file`, `line`, `column` or null |
//! | `error` | `message`, `causes`, `help`: texts |
//!
//! An action has `action` (`install`, `folder`, `write`, `adopt`, `remove`, `firewall`, `follow`) and what it is about; secrets are
//! names (`‹db/app›`). Fields may be added, none is renamed or removed.

use serde_json::{Value, json};

use crate::base::diagnostic::{Diagnostic, Severity, Span};
use crate::base::net::HostName;
use crate::base::secret;
use crate::fleet::event::{Event, Outcome};
use crate::plan::diff;
use crate::plan::plan::{Action, HostPlan, Plan};
use crate::plan::ruleset::Rule;
use crate::plan::state::Access;

/// `plan`.
pub fn plan(site: &HostName, plan: &Plan) -> Value {
    let hosts: serde_json::Map<String, Value> = plan.hosts.iter().map(|(n, h)| (n.to_string(), host_plan(h))).collect();
    let changed = plan.changed().count();
    json!({
        "event": "plan", "site": site, "changed": changed, "unchanged": plan.hosts.len() - changed, "hosts": hosts,
    })
}

/// One host's part of a plan.
pub fn host_plan(plan: &HostPlan) -> Value {
    let phases: serde_json::Map<String, Value> =
        plan.phases.iter().map(|(phase, actions)| (phase.to_string(), actions.iter().map(action).collect())).collect();
    json!({ "drift": plan.drift, "phases": phases })
}

fn access(access: &Access) -> Value {
    json!({ "owner": access.owner, "group": access.group, "mode": format!("{:04o}", access.mode) })
}

fn rules<'a>(rules: impl IntoIterator<Item = &'a Rule>) -> Value {
    rules.into_iter().map(|rule| json!(rule)).collect()
}

fn action(action: &Action) -> Value {
    match action {
        Action::Install { packages } => json!({ "action": "install", "packages": packages }),
        Action::MakeFolder { path, access: a, exists } => {
            json!({ "action": "folder", "path": path, "access": access(a), "exists": exists })
        }
        Action::Write { path, file, change, old } => {
            let body = &file.body;
            let new = secret::display(&body.text);
            let lines = old.as_ref().filter(|_| file.about.is_none()).map(|old| diff::unified(old, &new));
            json!({
                "action": "write", "path": path, "service": file.service, "change": change, "access": access(&file.access),
                "digest": body.digest, "about": file.about, "diff": lines,
                "text": if old.is_none() && file.about.is_none() { Some(new) } else { None },
                "then": file.then,
            })
        }
        Action::Adopt { path, .. } => json!({ "action": "adopt", "path": path }),
        Action::Remove { path, drift } => {
            json!({ "action": "remove", "path": path, "drift": drift })
        }
        Action::Firewall { added, removed, why, .. } => {
            json!({ "action": "firewall", "why": why, "added": rules(added), "removed": rules(removed) })
        }
        Action::Follow { unit, follow, because } => {
            json!({ "action": "follow", "unit": unit, "follow": follow, "because": because })
        }
    }
}

/// What happened while the run goes on.
pub fn event(event: &Event) -> Value {
    serde_json::to_value(event).unwrap_or_else(|e| json!({ "event": "note", "host": null, "text": e.to_string() }))
}

/// `outcome`.
pub fn outcome(outcome: &Outcome, exit: u8) -> Value {
    let mut value = json!(outcome);
    if let Some(fields) = value.as_object_mut() {
        fields.insert("event".to_owned(), "outcome".into());
        fields.insert("exit".to_owned(), exit.into());
    }
    value
}

/// `diagnostic`.
pub fn diagnostic(diagnostic: &Diagnostic) -> Value {
    let span = diagnostic.span.as_ref();
    json!({
        "event": "diagnostic",
        "severity": match diagnostic.severity { Severity::Error => "error", Severity::Warning => "warning" },
        "message": diagnostic.message,
        "help": diagnostic.help,
        "file": span.map(|s| s.source.path.display().to_string()),
        "line": span.map(Span::line),
        "column": span.map(Span::column),
    })
}

/// `error`.
pub fn error(message: &str, causes: &[String], help: &[String]) -> Value {
    json!({ "event": "error", "message": message, "causes": causes, "help": help })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;

    fn pretty(value: &Value) -> String {
        serde_json::to_string_pretty(value).unwrap()
    }

    #[test]
    fn plans() {
        let (site, mut of_three) = sample::drift();
        let first = sample::first_apply().1;
        of_three.hosts.insert(sample::name("new"), first.hosts[&sample::name("lb1")].clone());
        insta::assert_snapshot!(pretty(&plan(&site.name, &of_three)));
    }

    #[test]
    fn outcomes_and_events() {
        let end = Event::HostEnd {
            phase: crate::plan::state::Phase::Web,
            host: sample::name("web1"),
            failure: Some(sample::failure()),
            seconds: 0.5,
        };
        let lines = [outcome(&sample::outcome(), 5), event(&end), event(&Event::Observing { hosts: 3 })];
        insta::assert_snapshot!(lines.iter().map(pretty).collect::<Vec<_>>().join("\n"));
    }
}
