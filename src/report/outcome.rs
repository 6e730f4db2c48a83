//! What became of a run, for a person: takes the outcome of each host, gives the failures in full, the summary line, and what
//! to type next.

use std::fmt::Write as _;

use super::text::{Paint, clean, count, names, natural, seconds};
use crate::base::net::HostName;
use crate::fleet::event::{Failure, HostOutcome, Outcome};

/// How the run may be gone on with.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Next {
    /// The command that was given, without its limits: `infra apply inventories/three-tier.yml`.
    pub command: String,
    /// The command that undoes the run, where there is one.
    pub undo: Option<String>,
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
        let _ = writeln!(out, "{} {}: {}", paint.bad("unreachable"), paint.strong(&names(&hosts)), clean(reason));
    }
    let waiting = same(outcome, |o| match o {
        HostOutcome::NotReached { state } => Some(state),
        _ => None,
    });
    for (state, hosts) in waiting {
        let _ = writeln!(out, "{} {}: {}", paint.warn("not reached"), paint.strong(&names(&hosts)), clean(state));
    }
    if let Some(step) = next_step(outcome, next) {
        let _ = writeln!(out, "{}", paint.hint(&step));
    }
    out
}

/// `6 hosts changed, 2 unchanged, 0 failed in 4.2 s`.
pub fn summary(outcome: &Outcome, next: &Next, paint: Paint) -> String {
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
    for (number, word) in [(rolled_back, "rolled back"), (unreachable, "unreachable"), (waiting, "not reached")] {
        if number > 0 {
            parts.push(format!("{number} {word}"));
        }
    }
    let mut line = format!("{} in {}", parts.join(", "), seconds(outcome.seconds));
    if outcome.interrupted {
        line.insert_str(0, "interrupted: ");
    }
    let well = !outcome.interrupted && failed + rolled_back + unreachable + waiting == 0;
    let line = if well { paint.good(&line) } else { paint.bad(&line) };
    let undo = next.undo.as_ref().filter(|_| changed > 0);
    undo.map_or(line.clone(), |undo| format!("{line} · undo: {undo}"))
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
    pick: impl Fn(&'a HostOutcome) -> Option<T>,
) -> Vec<(T, Vec<&'a HostName>)> {
    let mut hosts: Vec<&HostName> = outcome.hosts.keys().collect();
    hosts.sort_by_cached_key(|h| natural(h.as_str()));
    let mut groups: Vec<(T, Vec<&HostName>)> = Vec::new();
    for host in hosts {
        let Some(value) = outcome.hosts.get(host).and_then(&pick) else { continue };
        match groups.iter_mut().find(|group| group.0 == value) {
            Some(group) => group.1.push(host),
            None => groups.push((value, vec![host])),
        }
    }
    groups
}

fn next_step(outcome: &Outcome, next: &Next) -> Option<String> {
    let any = |test: fn(&HostOutcome) -> bool| outcome.count(test) > 0;
    let again = format!("{} --limit failed", next.command);
    let step = if any(|o| matches!(o, HostOutcome::RolledBack(_))) {
        format!(
            "the new rules cut the way from here to the host: `infra check` says what is declared; mend it, then `{again}`"
        )
    } else if any(|o| matches!(o, HostOutcome::Failed(_))) {
        format!("mend the cause, then `{again}`")
    } else if any(|o| matches!(o, HostOutcome::Unreachable { .. })) {
        format!("when they answer again: `{again}`")
    } else if outcome.interrupted || any(|o| matches!(o, HostOutcome::NotReached { .. })) {
        format!("to go on: `{again}`")
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
        Next {
            command: "infra apply inventory.yml".to_owned(),
            undo: Some("infra rollback 20261123T184501".to_owned()),
        }
    }

    fn both(outcome: &Outcome) -> String {
        details(outcome, &next(), Paint::default()) + &summary(outcome, &next(), Paint::default())
    }

    #[test]
    fn one_of_each() {
        insta::assert_snapshot!(both(&sample::outcome()));
    }

    #[test]
    fn all_went_well() {
        let mut outcome = sample::outcome();
        outcome.notes.clear();
        for (at, host) in outcome.hosts.values_mut().enumerate() {
            *host = if at < 2 { HostOutcome::Unchanged } else { HostOutcome::Changed };
        }
        assert_eq!(
            both(&outcome),
            "6 hosts changed, 2 unchanged, 0 failed in 4.2 s · undo: infra rollback 20261123T184501"
        );
        outcome.hosts.values_mut().for_each(|host| *host = HostOutcome::Unchanged);
        assert_eq!(both(&outcome), "0 hosts changed, 8 unchanged, 0 failed in 4.2 s");
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
