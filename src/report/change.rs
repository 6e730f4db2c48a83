//! The changes of one host in full: takes its plan, gives the lines that a person reads before they say yes.

use std::collections::{BTreeMap, BTreeSet};

use super::text::{Paint, clean, count, names, seconds};
use crate::base::net::{Cidr, HostName};
use crate::base::nets::Nets;
use crate::base::{secret, visible};
use crate::inventory::site::Backend;
use crate::plan::behind::Behind;
use crate::plan::diff;
use crate::plan::narrow;
use crate::plan::plan::{Action, Around, Because, Change, HostPlan, Reload};
use crate::plan::ruleset::{Direction, PASSAGE, Rule};
use crate::plan::state::{Access, Body, File, Follow, Other, Phase};
use crate::plan::task::Task;
use crate::service::firewall::GUESTS;

/// Columns of a name that has notes beside it.
const BESIDE: usize = 44;
/// A new file of up to so many lines is shown without being asked for.
const SHORT: usize = 5;

/// All lines of one host, drift first, then in the order in which the changes are made.
pub(super) fn lines(plan: &HostPlan, verbose: bool, paint: Paint) -> Vec<String> {
    let mut out: Vec<String> = plan
        .drift
        .iter()
        .map(|d| format!("  {}", paint.warn(&format!("! drift: {}", clean(&visible::short(d, visible::LINE))))))
        .collect();
    for unit in &plan.waits {
        out.push(format!("  {}", paint.warn(&format!("! waits: {unit} {}", clean(&waits(plan, unit))))));
    }
    if let Some(line) = stays_open(plan) {
        out.push(format!("  {}", paint.warn(&format!("! stays open: {line}"))));
    }
    let mut firewall_shown = false;
    for (phase, actions) in &plan.phases {
        for action in actions {
            match action {
                Action::Firewall { .. } if firewall_shown => {}
                Action::Firewall { .. } => {
                    firewall_shown = true;
                    out.extend(firewall(plan, verbose, paint));
                }
                _ => out.extend(one(plan, *phase, action, verbose, paint)),
            }
        }
    }
    out
}

/// What this run does not close here, and for whom; nothing where it closes all.
fn stays_open(plan: &HostPlan) -> Option<String> {
    if plan.kept_for.is_empty() {
        return None;
    }
    let kept: BTreeSet<String> = plan.phases.get(&Phase::Narrow).into_iter().flatten().flat_map(narrow::told).collect();
    let mut why: BTreeMap<Behind, Vec<&HostName>> = BTreeMap::new();
    for (host, behind) in &*plan.kept_for {
        why.entry(*behind).or_default().push(host);
    }
    let why: Vec<String> =
        why.into_iter().map(|(behind, hosts)| format!("{} {}", names(&hosts), behind.of(hosts.len()))).collect();
    let kept = kept.into_iter().collect::<Vec<_>>().join(", ");
    Some(clean(&format!("{kept}, as {}; the next run on all hosts closes it", why.join(", "))))
}

/// How many things a person sees in a phase; a reload that follows a file is told with the file.
pub(super) fn weight(actions: &[Action]) -> usize {
    let goes = || actions.iter().any(|a| matches!(a, Action::Remove { .. }));
    let follows = |a: &&Action| match a {
        Action::Follow { unit, follow, because: Because::Changed } => {
            *follow == Follow::Stop || goes() || is_named(actions, unit, None)
        }
        Action::Set { unit, path, because: Because::Changed, .. } => is_named(actions, unit, Some(path)),
        _ => false,
    };
    actions.len() - actions.iter().filter(follows).count()
}

/// Whether a file that is written among `actions`, the one at `path` if that is given, says what the unit does.
fn is_named(actions: &[Action], unit: &str, path: Option<&String>) -> bool {
    let names = |action: &Action| match action {
        Action::Write { path: at, file, .. } => path.is_none_or(|path| path == at) && file.then.contains_key(unit),
        _ => false,
    };
    actions.iter().any(names)
}

fn one(plan: &HostPlan, phase: Phase, action: &Action, verbose: bool, paint: Paint) -> Vec<String> {
    match action {
        Action::Install { packages } => vec![item('+', "packages", &[packages.join(" ")], paint)],
        Action::MakeFolder { path, access, exists } => {
            let sign = if *exists { '~' } else { '+' };
            vec![item(sign, &format!("{path}/"), &[access_text(access)], paint)]
        }
        Action::Write { path, file, change, old, stood } => {
            let body = &file.body;
            let mut notes = notes(file, *change, body);
            notes.extend(then(&plan.then(phase, path, file)));
            let sign = if *change == Change::New { '+' } else { '~' };
            let mut out = vec![item(sign, path, &notes, paint)];
            out.extend(stood.as_ref().map(|other| paint.warn(&clean(&format!("    {}", takes_place(other))))));
            // There is no old text to compare with, or to miss.
            let change = if stood.is_some() { Change::New } else { *change };
            out.extend(content(body, file, change, old.as_deref(), verbose, paint));
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
            Because::Changed if is_told(plan, phase, unit, *follow) => Vec::new(),
            // A file that goes names no unit itself, and what is decided over the fleet may have no file.
            Because::Changed => vec![item('~', unit, &[follow.to_string()], paint)],
            Because::Owed => vec![item('~', unit, &[format!("{follow}, owed by an earlier run")], paint)],
            Because::Down => vec![item('~', unit, &["enable and start, it does not run".to_owned()], paint)],
        },
        Action::Firewall { .. } => Vec::new(),
        Action::Set { unit, path, because: Because::Changed, .. }
            if is_named(plan.phases.get(&phase).map_or(&[], Vec::as_slice), unit, Some(path)) =>
        {
            Vec::new()
        }
        Action::Set { unit, path, .. } => vec![item('~', unit, &[format!("is told of {path} while it runs")], paint)],
        Action::Hold { unit } => vec![item('!', unit, &[waits(plan, unit)], paint)],
        // What is done is told first, and in full; its terms stand below where they find no room beside it.
        Action::Perform { task, .. } if task.title.chars().count() > BESIDE => {
            vec![item('>', &task.title, &[], paint), format!("      {}", clean(&terms(task).join(", ")))]
        }
        Action::Perform { task, .. } => vec![item('>', &task.title, &terms(task), paint)],
        Action::Undo { of } => {
            let notes = format!("begun in {} of run {}, in which the host went down", of.phase, of.run);
            vec![item('<', "what was begun is taken back", &[notes], paint)]
        }
    }
}

/// Whether a file that is written in the phase tells that the unit does this.
fn is_told(plan: &HostPlan, phase: Phase, unit: &str, follow: Follow) -> bool {
    plan.phases.get(&phase).into_iter().flatten().any(|action| match action {
        Action::Write { path, file, .. } => plan.then(phase, path, file).get(unit) == Some(&follow),
        _ => false,
    })
}

/// That a restart is a person's to decide, and how they do.
fn waits(plan: &HostPlan, unit: &str) -> String {
    let word = plan.words.get(unit).cloned().unwrap_or_else(|| format!("--restart {unit}"));
    format!("must restart to take its files, once a person has confirmed it: `{word}`")
}

/// Within what time, with which secrets, and whether there is a way back.
fn terms(task: &Task) -> Vec<String> {
    let mut terms = vec![format!("within {}", seconds(task.limit.as_secs_f64()))];
    let secrets: Vec<String> = task.secrets().into_iter().map(|name| format!("‹{name}›")).collect();
    if !secrets.is_empty() {
        terms.push(format!("with {}", secrets.join(", ")));
    }
    terms.push(if task.undo.is_some() { "undone if the phase fails" } else { "cannot be undone" }.to_owned());
    terms
}

/// `  ~ /etc/nginx/conf.d/shop.conf                 then reload nginx`.
fn item(sign: char, name: &str, notes: &[String], paint: Paint) -> String {
    let name = clean(name);
    let notes = clean(&notes.join(", "));
    let line = if notes.is_empty() { format!("{sign} {name}") } else { format!("{sign} {name:<BESIDE$} {notes}") };
    let line = match sign {
        '+' => paint.good(&line),
        '-' => paint.bad(&line),
        '~' | '!' | '>' | '<' => paint.warn(&line),
        _ => line,
    };
    format!("  {line}")
}

fn notes(file: &File, change: Change, body: &Body) -> Vec<String> {
    let mut notes = Vec::new();
    match change {
        Change::New => {
            if file.about.is_none() {
                notes.push(format!("({})", count(body.text.height(), "line")));
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

/// What a file does to what is none.
fn takes_place(other: &Other) -> String {
    match other {
        Other::Link(to) => format!("it is a link to {to}: a file takes the link's place, {to} stays as it is"),
        other => format!("it is {other}: a file takes its place"),
    }
}

fn access_text(access: &Access) -> String {
    format!("{}:{} {:04o}", access.owner, access.group, access.mode)
}

fn then(units: &BTreeMap<String, Follow>) -> Option<String> {
    let one = |(unit, follow): (&String, &Follow)| {
        let unit = unit.trim_end_matches(".service");
        match follow {
            Follow::Swap => format!("swap into {unit}"),
            Follow::Set => format!("tell {unit} while it runs"),
            Follow::Confirm => format!("restart {unit} once it is confirmed"),
            _ => format!("{follow} {unit}"),
        }
    };
    let words: Vec<String> = units.iter().map(one).collect();
    if words.is_empty() { None } else { Some(format!("then {}", words.join(", "))) }
}

fn content(body: &Body, file: &File, change: Change, old: Option<&str>, verbose: bool, paint: Paint) -> Vec<String> {
    let indented = |line: &str| format!("    {}", diff_line(line, paint));
    if let Some(about) = &file.about {
        return vec![indented(about)];
    }
    if change == Change::New && old.is_none() && !verbose && body.text.height() > SHORT {
        return Vec::new();
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
        (Change::New, None) => whole(),
        (_, None) if verbose => whole(),
        (_, None) => vec![indented("the old text is not shown: it holds a secret, is large, or is not text")],
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

/// A flow with its partners.
pub(super) fn whole_flow(rule: &Rule) -> String {
    format!("{} {}", flow(rule), list(&rule.peers))
}

/// What a person calls a flow: its words, port and protocol. Both ends of it on one host are one flow.
fn flow(rule: &Rule) -> String {
    let way = match rule.direction {
        Direction::In => "in",
        Direction::Out => "out",
        Direction::Through => "through",
    };
    let door = rule.proto.at(rule.port);
    if let Some((ends, why)) = rule.flow.split_once(PASSAGE) {
        format!("{ends} {door}{PASSAGE}{why}")
    } else if rule.flow.contains("->") {
        format!("{} {door}", rule.flow)
    } else {
        format!("{} ({way}) {door}", rule.flow)
    }
}

fn by_flow(rules: &BTreeSet<&Rule>) -> BTreeMap<String, Nets> {
    let mut flows: BTreeMap<String, Nets> = BTreeMap::new();
    for rule in rules {
        let all = flows.entry(flow(rule)).or_default();
        *all = std::mem::take(all).union(rule.peers.clone());
    }
    flows
}

/// All loads of rules on a host as one change: what is opened in `widen` and what is closed in `narrow`.
fn firewall(plan: &HostPlan, verbose: bool, paint: Paint) -> Vec<String> {
    let (mut opened, mut closed) = (BTreeSet::new(), BTreeSet::new());
    let (mut reason, mut beside) = (None, Vec::new());
    for action in plan.phases.values().flatten() {
        if let Action::Firewall { added, removed, why, around: changes, .. } = action {
            opened.extend(added);
            closed.extend(removed);
            beside.extend(around(changes));
            reason.get_or_insert(*why);
        }
    }
    let (opened, closed) = (by_flow(&opened), by_flow(&closed));
    let mut flows: Vec<String> = Vec::new();
    for (name, peers) in &opened {
        let line = match closed.get(name) {
            // The words of other flows say who may use them.
            None if verbose || name.starts_with("manage_from") => format!("+ {name} {}", list(peers)),
            None => format!("+ {name}"),
            // It says itself when it closes.
            Some(_) if name.contains(PASSAGE) => format!("+ {name}"),
            Some(old) => peers_line(name, old, peers),
        };
        flows.push(line);
    }
    flows.extend(closed.keys().filter(|name| !opened.contains_key(*name)).map(|name| format!("- {name}")));
    flows.extend(beside);
    let note = match reason {
        Some(Reload::First) => "infra's first rules here: all else is closed",
        Some(Reload::Drift) => "someone else changed the live rules, loaded again",
        Some(Reload::Boot) => "the file that is read at boot is written again",
        _ => "",
    };
    let colour = |line: &String| match line.chars().next() {
        Some('+') => paint.good(&clean(line)),
        Some('-') => paint.bad(&clean(line)),
        _ => paint.warn(&clean(line)),
    };
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

/// What changes beside the rules, a line each.
fn around(changes: &Around) -> Vec<String> {
    let mut lines: Vec<String> = changes.blocked.iter().map(|net| format!("+ block {net}")).collect();
    lines.extend(changes.unblocked.iter().map(|net| format!("- block {net}")));
    lines.extend(changes.guest_forwarding.map(|open| {
        let sign = if open { '+' } else { '-' };
        format!("{sign} forwarding for {GUESTS}")
    }));
    lines.extend(changes.backend.map(|backend| match backend {
        Backend::Nftables => "~ the rules are held by nftables".to_owned(),
        Backend::Iptables => "~ the rules are held by iptables".to_owned(),
    }));
    lines
}

/// The same flow with other partners.
fn peers_line(name: &str, old: &Nets, new: &Nets) -> String {
    let mut words = vec![format!("~ {name}")];
    if old.is_same(new) {
        return words.concat();
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::ruleset::Ruleset;
    use crate::plan::state::Digest;
    use crate::report::sample;

    /// What a unit really does for a file is shown, beside the file or by itself.
    #[test]
    fn what_a_unit_does_is_shown() {
        let unit = || "x.service".to_owned();
        let body = Body { text: "x\n".into(), digest: Digest::of(b"x\n"), origin: None };
        let write = |asked: Follow| {
            let (phase, then) = (Phase::Web, BTreeMap::from([(unit(), asked)]));
            let (access, body) = (Access::root(0o644), body.clone());
            let file = File { service: "t", phase, access, body, then, about: None };
            Action::Write {
                path: "/etc/x".into(),
                file,
                change: Change::Content,
                old: Some(String::new()),
                stood: None,
            }
        };
        let follow = |follow: Follow| Action::Follow { unit: unit(), follow, because: Because::Changed };
        let set =
            || Action::Set { unit: unit(), path: "/etc/x".into(), script: "true".into(), because: Because::Changed };
        let hold = || Action::Hold { unit: unit() };
        // The actions of a phase, what stands beside the file, whether the unit has a line of its own, and the phase's weight.
        let cases: [(Vec<Action>, Option<&str>, bool, usize); 11] = [
            (vec![write(Follow::Reload), follow(Follow::Reload)], Some("then reload x"), false, 1),
            (vec![write(Follow::Confirm), follow(Follow::Restart)], Some("then restart x"), false, 1),
            (vec![write(Follow::Confirm), follow(Follow::Reload)], Some("then reload x"), false, 1),
            (vec![write(Follow::Confirm), hold()], Some("then restart x once it is confirmed"), true, 2),
            (vec![write(Follow::Set), follow(Follow::Restart)], Some("then restart x"), false, 1),
            (vec![write(Follow::Set), set()], Some("then tell x while it runs"), false, 1),
            (vec![write(Follow::Set), set(), follow(Follow::Reload)], Some("then tell x while it runs"), true, 1),
            (vec![write(Follow::Reload), follow(Follow::Restart)], Some("then reload x"), true, 1),
            (vec![follow(Follow::Restart)], None, true, 1),
            (vec![set()], None, true, 1),
            (vec![Action::Remove { path: "/etc/x".into(), drift: false }, follow(Follow::Reload)], None, true, 1),
        ];
        for (actions, beside, own, weighs) in cases {
            assert_eq!(weight(&actions), weighs, "{actions:?}");
            let plan = HostPlan { phases: BTreeMap::from([(Phase::Web, actions)]), ..HostPlan::default() };
            let lines = lines(&plan, false, Paint::default());
            let file = lines.iter().find_map(|line| line.strip_prefix("  ~ /etc/x"));
            assert_eq!(file.map(str::trim), beside, "{lines:?}");
            assert_eq!(lines.iter().any(|line| line.contains(" x.service ")), own, "{lines:?}");
        }
        // One that waits since an earlier run is not held anew.
        let waits = BTreeSet::from([unit()]);
        let plan = HostPlan {
            phases: BTreeMap::from([(Phase::Web, vec![write(Follow::Confirm)])]),
            waits,
            ..HostPlan::default()
        };
        let text = lines(&plan, false, Paint::default()).join("\n");
        assert!(
            text.contains("then restart x once it is confirmed") && text.contains("`--restart x.service`"),
            "{text}"
        );
        let words = BTreeMap::from([(unit(), "--restart-x".to_owned())]);
        let text = lines(&HostPlan { words, ..plan }, false, Paint::default()).join("\n");
        assert!(text.contains("once a person has confirmed it: `--restart-x`"), "{text}");
    }

    #[test]
    fn what_a_file_takes_the_place_of_is_told() {
        let told = |other: Other| {
            let writes = |h: &HostPlan| h.phases.values().flatten().any(|a| matches!(a, Action::Write { .. }));
            let mut plan = sample::drift().1.hosts.into_values().find(writes).unwrap();
            plan.phases.values_mut().flatten().for_each(|action| {
                if let Action::Write { stood, old, .. } = action {
                    (*stood, *old) = (Some(other.clone()), None);
                }
            });
            lines(&plan, false, Paint::default()).join("\n")
        };
        let link = told(Other::Link("/srv/x\u{1b}[2J".into()));
        let expected =
            "    it is a link to /srv/x\\u{1b}[2J: a file takes the link's place, /srv/x\\u{1b}[2J stays as it is";
        assert!(link.lines().any(|l| l == expected), "{link}");
        assert!(!link.contains("the old text is not shown"), "{link}");
        assert!(told(Other::Fifo).lines().any(|l| l == "    it is a FIFO: a file takes its place"));
    }

    /// What is dropped, what is forwarded and by what the rules are held is shown like any flow.
    #[test]
    fn what_changes_beside_the_rules_is_shown_in_full() {
        let net = |text: &str| text.parse::<Cidr>().unwrap();
        let blocked: Vec<Cidr> = ["0.0.0.0/1", "2001:db8::/32", "192.0.2.7"].map(net).to_vec();
        for (why, backend) in [(Reload::First, None), (Reload::Flows, Some(Backend::Iptables)), (Reload::Drift, None)] {
            let around = Around {
                blocked: blocked.clone(),
                unblocked: vec![net("198.51.100.0/24")],
                guest_forwarding: Some(true),
                backend,
            };
            let to = Box::new(Ruleset::default());
            let action = Action::Firewall { to, added: Vec::new(), removed: Vec::new(), around, why };
            let phases = BTreeMap::from([(Phase::Widen, vec![action])]);
            let plan = HostPlan { phases, ..HostPlan::default() };
            let text = lines(&plan, false, Paint::default()).join("\n");
            for line in [
                "+ block 0.0.0.0/1",
                "+ block 2001:db8::/32",
                "+ block 192.0.2.7",
                "- block 198.51.100.0/24",
                "+ forwarding for what another owner of rules (Docker) runs",
            ] {
                assert!(text.contains(line), "{why:?}:\n{text}");
            }
            assert_eq!(text.contains("~ the rules are held by iptables"), backend.is_some(), "{text}");
        }
    }
}
