//! What became of a run, for a person: takes the outcome of each host, gives the failures in full, the summary line, and what
//! to type next.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use super::change;
use super::text::{Paint, clean, count, names, natural, seconds};
use crate::base::net::HostName;
use crate::base::visible;
use crate::fleet::event::{Failure, HostOutcome, OpenFlow, Outcome};
use crate::plan::state::Phase;

/// How the run may be gone on with.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Next {
    /// The command that was given, without its limits: `infra apply inventories/three-tier.yml`.
    pub command: String,
    /// The limits that were given with it, as they are typed again: ` --limit web1`.
    pub limit: String,
    /// Whether it may be limited to the hosts that failed: one that names its host may not.
    pub may_be_limited: bool,
    /// The inventory as it is named in a command that takes this run back, where there is one: ` inventories/three-tier.yml`.
    pub undo: Option<String>,
}

/// The command that takes the run back, where it changed anything.
fn undo(outcome: &Outcome, next: &Next) -> Option<String> {
    let changed = outcome.hosts.values().any(|host| match host {
        HostOutcome::Changed | HostOutcome::Deferred { .. } => true,
        HostOutcome::Failed(failure) | HostOutcome::RolledBack(failure) => failure.phase > Phase::Stage,
        _ => false,
    });
    // What chance has added to its time is for those that began in the same second.
    let time = outcome.run.split('-').next().unwrap_or_default();
    next.undo.as_ref().filter(|_| changed).map(|inventory| format!("infra rollback {time}{inventory}"))
}

/// The last line: what became of the hosts, and the way back.
pub fn last_line(outcome: &Outcome, next: &Next, paint: Paint) -> String {
    let undo = undo(outcome, next).map(|command| paint.hint(&format!(" · undo: {command}")));
    summary(outcome, paint) + &undo.unwrap_or_default()
}

/// Everything but the summary: notes, then failures, unreachable hosts and hosts whose turn did not come, then the next
/// command. Empty where all went well.
pub fn details(outcome: &Outcome, next: &Next, paint: Paint) -> String {
    let mut out = String::new();
    for note in &outcome.notes {
        let _ = writeln!(out, "{}: {}", paint.warn("note"), clean(note));
    }
    for (word, wanted) in [("failed", false), ("rolled back", true)] {
        for (failure, hosts) in same(outcome, |o| match o {
            HostOutcome::Failed(f) if !wanted => Some(f),
            HostOutcome::RolledBack(f) if wanted => Some(f),
            _ => None,
        }) {
            failed(&mut out, word, &hosts, failure, paint);
        }
    }
    let unreachable = same(outcome, |o| match o {
        HostOutcome::Unreachable { reason } => Some(reason),
        _ => None,
    });
    for (reason, hosts) in unreachable {
        let mut said = visible::lines(reason).into_iter();
        let first = said.next().unwrap_or_default();
        let _ = writeln!(out, "{} {}: {first}", paint.bad("unreachable"), paint.strong(&names(&hosts)));
        for line in said {
            let _ = writeln!(out, "{line}");
        }
    }
    let waiting = same(outcome, |o| match o {
        HostOutcome::NotReached { state } => Some(state),
        _ => None,
    });
    for (state, hosts) in waiting {
        let _ = writeln!(out, "{} {}: {}", paint.warn("not reached"), paint.strong(&names(&hosts)), clean(state));
    }
    out.push_str(&kept(outcome, paint));
    out.push_str(&open(outcome, paint));
    if let Some(text) = waits(&outcome.former) {
        let _ = writeln!(out, "{}: {}", paint.warn("note"), clean(&text));
    }
    if let Some(step) = next_step(outcome, next) {
        let _ = writeln!(out, "{}", paint.hint(&step));
    }
    out
}

/// That the replacement of an authority does not go on yet, and why; nothing where nobody of before serves.
pub fn waits(former: &BTreeMap<HostName, Vec<String>>) -> Option<String> {
    let who = former.iter().map(|(host, words)| format!("{host}: {}", words.join("; "))).collect::<Vec<_>>();
    (!who.is_empty()).then(|| {
        format!(
            "the replacement of the internal authority waits for workers that may still trust the old authority alone; the next `infra apply` goes on with it: {}",
            who.join("; ")
        )
    })
}

/// So many of those who still use something are named.
const NAMED: usize = 12;

/// What is kept open, hosts with the same once, and who still uses it.
fn kept(outcome: &Outcome, paint: Paint) -> String {
    let (mut out, mut users) = (String::new(), BTreeSet::new());
    let kept = same(outcome, |o| match o {
        HostOutcome::Deferred { kept, by, .. } => {
            users.extend(by);
            Some(kept)
        }
        _ => None,
    });
    for (kept, hosts) in kept {
        let (hosts, what) = (names(&hosts), clean(&kept.join(", ")));
        let _ = writeln!(out, "{} on {}: {what}", paint.warn("kept open"), paint.strong(&hosts));
    }
    for line in users.iter().take(NAMED) {
        let _ = writeln!(out, "  | {}", clean(line));
    }
    if users.len() > NAMED {
        let _ = writeln!(out, "  | and {} more", users.len() - NAMED);
    }
    out
}

/// The flows that are open on hosts that did not get through, hosts with the same ones once.
fn open(outcome: &Outcome, paint: Paint) -> String {
    let mut groups: Vec<(Vec<String>, Option<&str>, Vec<&HostName>)> = Vec::new();
    for (host, flows) in &outcome.open {
        let line = |flow: &OpenFlow| {
            let (sign, why) = match (flow.opened, flow.declared) {
                (true, true) => ('+', "which this run opened"),
                (true, false) => ('+', "which this run opened, and the inventory does not declare"),
                (false, _) => ('-', "which the inventory no longer declares"),
            };
            format!("{sign} {}, {why}", clean(&change::whole_flow(&flow.rule)))
        };
        let unseen =
            flows.iter().find(|flow| !flow.seen).map(|flow| flow.unseen.as_deref().unwrap_or("it cannot be asked"));
        let lines = flows.iter().map(line).collect::<Vec<_>>();
        match groups.iter_mut().find(|(known, why, _)| *known == lines && *why == unseen) {
            Some((.., hosts)) => hosts.push(host),
            None => groups.push((lines, unseen, vec![host])),
        }
    }
    let mut out = String::new();
    for (lines, unseen, mut hosts) in groups {
        hosts.sort_by_cached_key(|host| natural(host.as_str()));
        let word = if unseen.is_some() { "perhaps open" } else { "still open" };
        let why = unseen.map(|why| format!(" ({})", clean(why))).unwrap_or_default();
        let _ = writeln!(out, "{} on {}{why}:", paint.warn(word), paint.strong(&names(&hosts)));
        for line in lines {
            let _ = writeln!(out, "  {line}");
        }
    }
    if !out.is_empty() {
        out.push_str("  the next apply that gets through closes what the inventory does not declare then\n");
    }
    out
}

/// `6 hosts changed, 2 unchanged, 0 failed in 4.2 s`.
pub fn summary(outcome: &Outcome, paint: Paint) -> String {
    let n = |test: fn(&HostOutcome) -> bool| outcome.count(test);
    let changed = n(|o| matches!(o, HostOutcome::Changed));
    let failed = n(|o| matches!(o, HostOutcome::Failed(_)));
    let mut parts = vec![
        format!("{} changed", count(changed, "host")),
        format!("{} unchanged", n(|o| matches!(o, HostOutcome::Unchanged))),
        format!("{failed} failed"),
    ];
    let rolled_back = n(|o| matches!(o, HostOutcome::RolledBack(_)));
    let unreachable = n(|o| matches!(o, HostOutcome::Unreachable { .. }));
    let waiting = n(|o| matches!(o, HostOutcome::NotReached { .. }));
    let kept = n(|o| matches!(o, HostOutcome::Deferred { .. }));
    for (number, word) in
        [(rolled_back, "rolled back"), (unreachable, "unreachable"), (waiting, "not reached"), (kept, "kept open")]
    {
        if number > 0 {
            parts.push(format!("{number} {word}"));
        }
    }
    let mut line = format!("{} in {}", parts.join(", "), seconds(outcome.seconds));
    if outcome.interrupted {
        line.insert_str(0, "interrupted: ");
    }
    let well = !outcome.interrupted && failed + rolled_back + unreachable + waiting + kept == 0;
    if well { paint.good(&line) } else { paint.bad(&line) }
}

fn failed(out: &mut String, word: &str, hosts: &[&HostName], failure: &Failure, paint: Paint) {
    let (phase, what) = (failure.phase, clean(&failure.what));
    let _ = writeln!(out, "{} on {} in {phase}: {what}", paint.bad(word), paint.strong(&names(hosts)));
    for line in &failure.words {
        let _ = writeln!(out, "  | {}", clean(line));
    }
    if let Some(put_back) = &failure.put_back {
        let _ = writeln!(out, "  undone:   {}", clean(put_back));
    }
    let _ = writeln!(out, "  now:      {}", clean(&failure.state));
}

/// Hosts by what they have in common, in the order of the first host of each.
fn same<'a, T: PartialEq>(
    outcome: &'a Outcome,
    mut pick: impl FnMut(&'a HostOutcome) -> Option<T>,
) -> Vec<(T, Vec<&'a HostName>)> {
    let mut hosts: Vec<&HostName> = outcome.hosts.keys().collect();
    hosts.sort_by_cached_key(|h| natural(h.as_str()));
    let mut groups: Vec<(T, Vec<&HostName>)> = Vec::new();
    for host in hosts {
        let Some(value) = outcome.hosts.get(host).and_then(&mut pick) else { continue };
        match groups.iter_mut().find(|group| group.0 == value) {
            Some(group) => group.1.push(host),
            None => groups.push((value, vec![host])),
        }
    }
    groups
}

fn next_step(outcome: &Outcome, next: &Next) -> Option<String> {
    let any = |test: fn(&HostOutcome) -> bool| outcome.count(test) > 0;
    let behind: BTreeSet<&HostName> = outcome.hosts.values().flat_map(HostOutcome::behind).collect();
    // What is kept open closes when all its users are seen, those that got through among them.
    let limit = if behind.is_empty() && next.may_be_limited { " --limit failed" } else { "" };
    let again = format!("{}{limit}", next.command);
    let step = if any(|o| matches!(o, HostOutcome::RolledBack(_))) {
        format!(
            "the new rules were not confirmed, for the reason above: mend it (`infra check` says what is declared), then `{again}`"
        )
    } else if any(|o| matches!(o, HostOutcome::Failed(_))) {
        format!("mend the cause, then `{again}`")
    } else if any(|o| matches!(o, HostOutcome::Unreachable { .. })) {
        format!("when they answer again: `{again}`")
    } else if outcome.interrupted || any(|o| matches!(o, HostOutcome::NotReached { .. })) {
        format!("to go on: `{again}`")
    } else if !behind.is_empty() {
        let behind: Vec<&HostName> = behind.into_iter().collect();
        let names = names(&behind);
        format!("`{}` on all hosts closes what is kept open, when {names} can be seen to have moved", next.command)
    } else if any(|o| matches!(o, HostOutcome::Deferred { .. })) {
        let Next { command, limit, .. } = next;
        format!("when the former workers have ended, `{command}{limit}` closes what is kept open")
    } else {
        return None;
    };
    Some(format!("next: {step}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;

    fn next() -> Next {
        Next { command: "infra apply inventory.yml".to_owned(), may_be_limited: true, ..Next::default() }
    }

    fn both(outcome: &Outcome) -> String {
        details(outcome, &next(), Paint::default()) + &summary(outcome, Paint::default())
    }

    #[test]
    fn one_of_each() {
        insta::assert_snapshot!(both(&sample::outcome()));
    }

    #[test]
    fn what_is_open_is_told() {
        let mut outcome = sample::outcome();
        outcome.notes.clear();
        outcome.hosts.retain(|_, o| matches!(o, HostOutcome::Changed | HostOutcome::RolledBack(_)));
        for (host, seen) in [("lb1", true), ("lb2", true), ("web1", false)] {
            outcome.open.insert(sample::name(host), sample::open(seen));
        }
        let mut answers = sample::open(false);
        for flow in &mut answers {
            flow.unseen = Some("its live rules are not those that infra has loaded".to_owned());
        }
        outcome.open.insert(sample::name("web2"), answers);
        insta::assert_snapshot!(both(&outcome));
    }

    #[test]
    fn what_is_still_used_is_kept_open() {
        let mut outcome = sample::outcome();
        outcome.notes.clear();
        let by = vec!["lb1: 1 former worker of x still holds 2 connections (pid 7)".to_owned()];
        for (at, host) in outcome.hosts.values_mut().enumerate() {
            let kept = vec!["lb -> web 8443/tcp".to_owned(), "/etc/x.conf".to_owned()];
            *host = if at < 2 {
                HostOutcome::Deferred { kept, by: by.clone(), behind: BTreeSet::new() }
            } else {
                HostOutcome::Changed
            };
        }
        outcome
            .former
            .insert(sample::name("lb1"), vec!["1 former worker of x still holds 2 connections (pid 7)".into()]);
        insta::assert_snapshot!(both(&outcome));
    }

    #[test]
    fn all_went_well() {
        let mut outcome = sample::outcome();
        outcome.notes.clear();
        for (at, host) in outcome.hosts.values_mut().enumerate() {
            *host = if at < 2 { HostOutcome::Unchanged } else { HostOutcome::Changed };
        }
        assert_eq!(both(&outcome), "6 hosts changed, 2 unchanged, 0 failed in 4.2 s");
        outcome.hosts.values_mut().for_each(|host| *host = HostOutcome::Unchanged);
        assert_eq!(both(&outcome), "0 hosts changed, 8 unchanged, 0 failed in 4.2 s");
    }

    #[test]
    fn a_run_that_changed_something_names_the_way_back() {
        let mut outcome = sample::outcome();
        outcome.run = "20261123T184501-k7q2xm".to_owned();
        let next = Next { undo: Some(" x.yml".to_owned()), ..next() };
        let line = |outcome: &Outcome| last_line(outcome, &next, Paint::default());
        assert!(line(&outcome).ends_with(" · undo: infra rollback 20261123T184501 x.yml"), "{}", line(&outcome));
        outcome.hosts.values_mut().for_each(|host| *host = HostOutcome::Unchanged);
        assert!(!line(&outcome).contains("undo"));
        let unable = Next { undo: None, ..next.clone() };
        assert!(!last_line(&sample::outcome(), &unable, Paint::default()).contains("undo"));
    }

    #[test]
    fn no_command_is_advised_with_a_limit_that_it_refuses() {
        let named = Next { command: "infra drain app2".to_owned(), ..Next::default() };
        let told = details(&sample::outcome(), &named, Paint::default());
        assert!(told.contains("then `infra drain app2`") && !told.contains("--limit"), "{told}");
    }

    #[test]
    fn interrupted() {
        let mut outcome = sample::outcome();
        outcome.notes.clear();
        outcome.hosts.retain(|_, o| matches!(o, HostOutcome::Changed | HostOutcome::NotReached { .. }));
        outcome.interrupted = true;
        insta::assert_snapshot!(both(&outcome));
    }
}
