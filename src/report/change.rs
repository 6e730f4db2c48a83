//! The changes of one host in full: takes its plan, gives the lines that a person reads before they say yes.

use std::collections::{BTreeMap, BTreeSet};

use super::text::{Paint, clean, count};
use crate::base::net::Cidr;
use crate::base::secret;
use crate::plan::diff;
use crate::plan::plan::{Action, Because, Change, HostPlan, Reload};
use crate::plan::ruleset::{Direction, Rule};
use crate::plan::state::{Access, Body, File, Follow, Phase};

/// A new file of up to so many lines is shown without being asked for.
const SHORT: usize = 5;

/// All lines of one host, drift first, then in the order in which the changes are made.
pub(super) fn lines(plan: &HostPlan, verbose: bool, paint: Paint) -> Vec<String> {
    let mut out: Vec<String> =
        plan.drift.iter().map(|d| format!("  {}", paint.warn(&format!("! drift: {}", clean(d))))).collect();
    let mut firewall_shown = false;
    for (phase, actions) in &plan.phases {
        for action in actions {
            match action {
                Action::Firewall { .. } if firewall_shown => {}
                Action::Firewall { .. } => {
                    firewall_shown = true;
                    out.extend(firewall(plan, verbose, paint));
                }
                _ => out.extend(one(*phase, action, verbose, paint)),
            }
        }
    }
    out
}

/// How many things a person sees in a phase; a reload that follows a file is told with the file.
pub(super) fn weight(actions: &[Action]) -> usize {
    let follows = |a: &&Action| matches!(a, Action::Follow { because: Because::Changed, .. });
    actions.len() - actions.iter().filter(follows).count()
}

fn one(phase: Phase, action: &Action, verbose: bool, paint: Paint) -> Vec<String> {
    match action {
        Action::Install { packages } => vec![item('+', "packages", &[packages.join(" ")], paint)],
        Action::MakeFolder { path, access, exists } => {
            let sign = if *exists { '~' } else { '+' };
            vec![item(sign, &format!("{path}/"), &[access_text(access)], paint)]
        }
        Action::Write { path, file, change, old } => {
            let body = &file.body;
            let mut notes = notes(file, *change, body);
            notes.extend(then(&file.then));
            let sign = if *change == Change::New { '+' } else { '~' };
            let mut out = vec![item(sign, path, &notes, paint)];
            out.extend(content(body, file, *change, old.as_deref(), verbose, paint));
            out
        }
        Action::Adopt { path, .. } => {
            vec![item('=', path, &["right already, from now on kept by infra".to_owned()], paint)]
        }
        Action::Remove { path, drift } => {
            let mut notes = vec!["no longer wanted".to_owned()];
            if *drift {
                notes.push("with someone else's changes".to_owned());
            }
            vec![item('-', path, &notes, paint)]
        }
        Action::Follow { unit, follow, because } => match because {
            _ if *follow == Follow::Stop => {
                vec![item('-', unit, &["stopped and disabled, nothing wants it".to_owned()], paint)]
            }
            // The files that go in this phase name no unit themselves.
            Because::Changed if phase == Phase::Narrow => vec![item('~', unit, &[follow.to_string()], paint)],
            Because::Changed => Vec::new(),
            Because::Owed => vec![item('~', unit, &[format!("{follow}, owed by an earlier run")], paint)],
            Because::Down => vec![item('~', unit, &["enable and start, it does not run".to_owned()], paint)],
        },
        Action::Firewall { .. } => Vec::new(),
    }
}

/// `  ~ /etc/nginx/conf.d/shop.conf                 then reload nginx`.
fn item(sign: char, name: &str, notes: &[String], paint: Paint) -> String {
    let name = clean(name);
    let notes = clean(&notes.join(", "));
    let line = if notes.is_empty() { format!("{sign} {name}") } else { format!("{sign} {name:<44} {notes}") };
    let line = match sign {
        '+' => paint.good(&line),
        '-' => paint.bad(&line),
        '~' => paint.warn(&line),
        _ => line,
    };
    format!("  {line}")
}

fn notes(file: &File, change: Change, body: &Body) -> Vec<String> {
    let mut notes = Vec::new();
    match change {
        Change::New => {
            if file.about.is_none() {
                notes.push(format!("({})", count(body.text.lines().count(), "line")));
            }
            if file.access != Access::root(0o644) {
                notes.push(access_text(&file.access));
            }
        }
        Change::Access => notes.push(format!("content is right, access becomes {}", access_text(&file.access))),
        Change::Drift => notes.push("drift, written again".to_owned()),
        Change::Foreign => notes.push("stood there before infra".to_owned()),
        Change::Content => {}
    }
    notes
}

fn access_text(access: &Access) -> String {
    format!("{}:{} {:04o}", access.owner, access.group, access.mode)
}

fn then(units: &BTreeMap<String, Follow>) -> Option<String> {
    let one = |(unit, follow): (&String, &Follow)| {
        let into = if *follow == Follow::Swap { "into " } else { "" };
        format!("{follow} {into}{}", unit.trim_end_matches(".service"))
    };
    let words: Vec<String> = units.iter().map(one).collect();
    if words.is_empty() { None } else { Some(format!("then {}", words.join(", "))) }
}

fn content(body: &Body, file: &File, change: Change, old: Option<&str>, verbose: bool, paint: Paint) -> Vec<String> {
    let indented = |line: &str| format!("    {}", diff_line(line, paint));
    if let Some(about) = &file.about {
        return vec![indented(about)];
    }
    let new = secret::display(&body.text);
    let whole = || new.lines().map(|line| indented(&format!("+{line}"))).collect();
    match (change, old) {
        (Change::Access, _) => Vec::new(),
        (_, Some(old)) => {
            let lines = diff::unified(old, &new);
            if lines.is_empty() {
                let behind: BTreeSet<&str> = secret::names(&body.text).into_iter().collect();
                let behind: Vec<String> = behind.into_iter().map(|name| format!("‹{name}›")).collect();
                let what = if behind.is_empty() { "white space at the end".to_owned() } else { behind.join(", ") };
                return vec![indented(&format!("{what} changes, the rest of the text stays"))];
            }
            lines.iter().map(|line| indented(line)).collect()
        }
        (Change::New, None) if verbose || new.lines().count() <= SHORT => whole(),
        (Change::New, None) => Vec::new(),
        (_, None) if verbose => whole(),
        (_, None) => vec![indented("the old text is not shown: it holds a secret, is large, or is no text")],
    }
}

fn diff_line(line: &str, paint: Paint) -> String {
    let line = clean(line);
    match line.chars().next() {
        Some('+') => paint.good(&line),
        Some('-') => paint.bad(&line),
        Some('@') => paint.faint(&line),
        _ => line,
    }
}

/// What a person calls a flow: its words, port and protocol. Both ends of it on one host are one flow.
fn flow(rule: &Rule) -> String {
    let way = match rule.direction {
        Direction::In => "in",
        Direction::Out => "out",
    };
    if rule.flow.contains("->") {
        format!("{} {}/{}", rule.flow, rule.port, rule.proto)
    } else {
        format!("{} ({way}) {}/{}", rule.flow, rule.port, rule.proto)
    }
}

fn by_flow(rules: &BTreeSet<&Rule>) -> BTreeMap<String, BTreeSet<Cidr>> {
    let mut flows: BTreeMap<String, BTreeSet<Cidr>> = BTreeMap::new();
    for rule in rules {
        flows.entry(flow(rule)).or_default().extend(rule.peers.iter().copied());
    }
    flows
}

/// All loads of rules on a host as one change: what is opened in `widen` and what is closed in `narrow`.
fn firewall(plan: &HostPlan, verbose: bool, paint: Paint) -> Vec<String> {
    let (mut opened, mut closed) = (BTreeSet::new(), BTreeSet::new());
    let mut reason = None;
    for action in plan.phases.values().flatten() {
        if let Action::Firewall { added, removed, why, .. } = action {
            opened.extend(added);
            closed.extend(removed);
            reason.get_or_insert(*why);
        }
    }
    let (opened, closed) = (by_flow(&opened), by_flow(&closed));
    let mut flows: Vec<String> = Vec::new();
    for (name, peers) in &opened {
        let line = match closed.get(name) {
            None if verbose => format!("+ {name} {}", list(peers)),
            None => format!("+ {name}"),
            Some(old) => peers_line(name, old, peers),
        };
        flows.push(line);
    }
    flows.extend(closed.keys().filter(|name| !opened.contains_key(*name)).map(|name| format!("- {name}")));
    let note = match reason {
        Some(Reload::First) => "infra's first rules here: all else is closed",
        Some(Reload::Drift) => "someone else changed the live rules, loaded again",
        Some(Reload::Boot) => "the file that is read at boot is written again",
        _ if flows.is_empty() => "blocked sources or forwarding",
        _ => "",
    };
    let colour = |line: &String| match line.chars().next() {
        Some('+') => paint.good(&clean(line)),
        Some('-') => paint.bad(&clean(line)),
        _ => paint.warn(&clean(line)),
    };
    if reason == Some(Reload::Drift) && !verbose {
        // All of them are «added» to rules that are not ours any more; a person wants to know how many, or -v.
        let notes = [note.to_owned(), count(opened.len(), "flow")];
        return vec![item('~', "firewall", &notes, paint)];
    }
    if note.is_empty() && flows.len() <= 2 {
        let flows: Vec<String> = flows.iter().map(colour).collect();
        return vec![format!("  {} {}", paint.warn("~ firewall     "), flows.join("   "))];
    }
    let notes: Vec<String> = if note.is_empty() { Vec::new() } else { vec![note.to_owned()] };
    let sign = if reason == Some(Reload::First) { '+' } else { '~' };
    let mut out = vec![item(sign, "firewall", &notes, paint)];
    out.extend(flows.iter().map(|line| format!("    {}", colour(line))));
    out
}

/// The same flow with other partners.
fn peers_line(name: &str, old: &BTreeSet<Cidr>, new: &BTreeSet<Cidr>) -> String {
    let mut words = vec![format!("~ {name}")];
    words.extend(new.difference(old).map(|net| format!("+ {net}")));
    words.extend(old.difference(new).map(|net| format!("- {net}")));
    if new.is_empty() != old.is_empty() {
        words.push(if new.is_empty() { "+ anyone".to_owned() } else { "- anyone".to_owned() });
    }
    words.join(" ")
}

fn list(peers: &BTreeSet<Cidr>) -> String {
    if peers.is_empty() {
        return "anyone".to_owned();
    }
    peers.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
