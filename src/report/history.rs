//! Past runs for a person: takes them, gives a list, the latest first, or all that is known of one.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::text::{Paint, clean, names, natural, seconds};
use crate::base::net::HostName;
use crate::base::words::count;
use crate::fleet::journals::{Course, Past};

/// The time of a run as a person reads it, UTC.
fn time(run: &str) -> String {
    let at = |from: usize, to: usize| run.get(from..to).unwrap_or_default();
    format!("{}-{}-{} {}:{}:{}", at(0, 4), at(4, 6), at(6, 8), at(9, 11), at(11, 13), at(13, 15))
}

/// Whether a host did not get through.
fn is_odd(verdict: &str) -> bool {
    ["failed", "cut off"].iter().any(|word| verdict.starts_with(word))
}

/// `none` is said where there is no run.
pub(super) fn draw(runs: &[Past], whole: bool, none: &str, paint: Paint) -> String {
    let mut out = String::new();
    if runs.is_empty() {
        return format!("{none}\n");
    }
    for past in runs {
        let took = past.seconds.map_or(String::new(), |took| format!(", {}", seconds(took)));
        let by = past.who.as_ref().map_or(String::new(), |who| format!(" by {}", clean(who)));
        let _ = writeln!(out, "{}  {} UTC{by}{took}", paint.strong(&clean(&past.run)), time(&past.run));
        if let Some(command) = &past.command {
            let _ = writeln!(out, "  {}", clean(command));
        }
        if let Some(plan) = &past.plan {
            let _ = writeln!(out, "  plan {}", paint.faint(&plan.to_string()));
        }
        match past.course {
            Some(Course::Killed) => {
                let text = "it did not come to its end: it was killed, stopped at once, or its machine went down";
                let _ = writeln!(out, "  {}", paint.bad(text));
            }
            Some(Course::AtWork) => out.push_str("  it is at work\n"),
            Some(Course::Ended) | None => {}
        }
        let mut fates: BTreeMap<&str, Vec<&HostName>> = BTreeMap::new();
        for (host, fate) in &past.hosts {
            fates.entry(&fate.verdict).or_default().push(host);
        }
        for (verdict, mut hosts) in fates {
            hosts.sort_by_cached_key(|host| natural(host.as_str()));
            // A list is for looking through: which hosts is told where something is odd, or where they are few.
            let who =
                if whole || hosts.len() <= 4 || is_odd(verdict) { names(&hosts) } else { count(hosts.len(), "host") };
            let verdict = if is_odd(verdict) { paint.bad(&clean(verdict)) } else { clean(verdict) };
            let _ = writeln!(out, "  {who}: {verdict}");
        }
        if !whole {
            continue;
        }
        for words in &past.words {
            let _ = writeln!(out, "  {}", clean(words));
        }
        if !past.planned.is_empty() {
            out.push_str("  the plan:\n");
        }
        for line in &past.planned {
            let _ = writeln!(out, "    {}", clean(line));
        }
        for (host, fate) in &past.hosts {
            for (title, lines) in [("words", &fate.words), ("journal", &fate.journal)] {
                if !lines.is_empty() {
                    let _ = writeln!(out, "  {host}, {title}:");
                }
                for line in lines {
                    let _ = writeln!(out, "    {}", clean(line));
                }
            }
        }
        if !past.remembered {
            let _ = writeln!(
                out,
                "  {}",
                paint.faint("only the hosts tell of this run: the state of this controller does not have it")
            );
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::{event, history, journals};

    #[test]
    fn a_run_that_was_killed_is_told() {
        let state = tempfile::tempdir().unwrap();
        let host: HostName = "web1".parse().unwrap();
        let ended = event::Outcome { run: "20261122T101500".into(), ..event::Outcome::default() };
        history::save_outcome(state.path(), &ended).unwrap();
        let at_work = history::save_beginning(state.path(), "20261123T184501", "", &[&host].into()).unwrap();
        let told = || {
            let runs: Vec<Past> = journals::remembered(state.path()).runs.into_values().collect();
            draw(&runs, false, "", Paint::default())
        };
        assert!(told().contains("  it is at work\n") && told().contains("  web1: being changed\n"), "{}", told());
        drop(at_work);
        assert_eq!(told().matches("it did not come to its end: it was killed").count(), 1, "{}", told());
        assert!(told().contains("  web1: planned to change\n"), "{}", told());
    }
}
