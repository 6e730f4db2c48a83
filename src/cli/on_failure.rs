//! `apply --on-failure`: takes a run that has failed in the middle, and takes it back on the hosts that the person has named beforehand.

use std::collections::{BTreeMap, BTreeSet};

use super::stop::Stop;
use super::work::Work;
use crate::base::net::HostName;
use crate::fleet::event::{HostOutcome, Outcome};
use crate::fleet::transaction::Options;
use crate::fleet::wave::Waves;
use crate::fleet::{rollback, way_in};
use crate::host::kept::Barred;
use crate::plan::state::Phase;
use crate::report::text::count;

/// What is taken back where an apply fails in the middle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum OnFailure {
    /// The failed phase on its host, which is put back always, and nothing else
    Keep,
    /// All that the run did on the hosts that failed
    Host,
    /// The same on all hosts that changed at the same time as one that failed
    Wave,
    /// The same on every host of the run
    All,
}

/// Takes a run back that has failed in the middle, on the hosts that the person has named beforehand; what came of it is told, and
/// kept as a run of its own. The failure stays one.
pub(super) fn after_failure(work: &Work<'_>, mut outcome: Outcome, what: OnFailure) -> Result<Outcome, Stop> {
    let failed = |host: &HostOutcome| match host {
        HostOutcome::Failed(failure) | HostOutcome::RolledBack(failure) => failure.phase > Phase::Stage,
        _ => false,
    };
    if outcome.interrupted || !outcome.hosts.values().any(failed) {
        return Ok(outcome);
    }
    let untouched = |host: &HostOutcome| matches!(host, HostOutcome::Unchanged | HostOutcome::Unreachable { .. });
    let chosen = |(name, host): &(&HostName, &HostOutcome)| match what {
        OnFailure::Keep => false,
        OnFailure::Host => failed(host),
        OnFailure::Wave => failed(host) || outcome.wave.contains(*name),
        OnFailure::All => !untouched(host),
    };
    let hosts: BTreeSet<HostName> = outcome.hosts.iter().filter(chosen).map(|(name, _)| name.clone()).collect();
    if hosts.is_empty() {
        return Ok(outcome);
    }
    let all = outcome.hosts.keys().cloned().collect();
    let back = match taken_back(work, &outcome.run, (&all, &hosts)) {
        Ok(back) => back,
        Err(stop) => {
            stop.tell(work.reporter)?;
            work.reporter.note("these hosts stay as the failed run has left them");
            return Ok(outcome);
        }
    };
    mark(&mut outcome, &back);
    // `--limit failed` goes by what is kept: a host on which the run was taken back is one that it left undone.
    work.keep(&outcome)?;
    Ok(outcome)
}

/// Says of the hosts on which the run was taken back that they are as before it.
fn mark(outcome: &mut Outcome, back: &BTreeMap<HostName, HostOutcome>) {
    let state = "as before this run: it was taken back on this host";
    for (name, host) in &mut outcome.hosts {
        if !matches!(back.get(name), Some(HostOutcome::Changed | HostOutcome::Unchanged)) {
            continue;
        }
        match host {
            HostOutcome::Failed(failure) | HostOutcome::RolledBack(failure) => state.clone_into(&mut failure.state),
            HostOutcome::Unchanged => {}
            other => *other = HostOutcome::NotReached { state: state.to_owned() },
        }
    }
}

/// What became of the hosts on which `run` was taken back. One that it did not change, or on which all was put back, is left alone.
fn taken_back(
    work: &Work<'_>,
    run: &str,
    (all, chosen): (&BTreeSet<HostName>, &BTreeSet<HostName>),
) -> Result<BTreeMap<HostName, HostOutcome>, Stop> {
    let mut asked = work.kept(Some(run), all);
    // A host of the run that keeps what it did is no part of this.
    asked.kept.retain(|host, kept| chosen.contains(host) || kept.may_take_back(run) == Err(Barred::NotHere));
    for (host, error) in asked.away.iter().filter(|(host, _)| chosen.contains(*host)) {
        work.reporter.error(&format!("{host} is left as it is: {error}"), &[], &[])?;
    }
    let back = rollback::before(&asked, run)?;
    let changed = back.hosts();
    if changed.is_empty() {
        return Ok(BTreeMap::new());
    }
    let (issued, prepared) = work.restored(&back)?;
    work.reporter.note(&format!("run {run} is taken back on {}, as `--on-failure` says", count(changed.len(), "host")));
    back.notes.iter().for_each(|note| work.reporter.note(note));
    work.reporter.plan(work.site, &prepared.plan)?;
    let cut = way_in::refusals(work.site, &prepared);
    if !cut.is_empty() {
        return Err(Stop::Input(cut));
    }
    let options = Options {
        run: format!("{run}-back"),
        restores: Some(run.to_owned()),
        waves: Waves::default(),
        ..work.options.clone()
    };
    let mut fates = work.pass(&issued, prepared, &options, 0.0)?.hosts;
    fates.retain(|host, _| changed.contains(host));
    Ok(fates)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::event::Failure;
    use crate::fleet::history;

    #[test]
    fn hosts_on_which_a_run_was_taken_back_are_left_undone() {
        let host = |name: &str| name.parse::<HostName>().unwrap();
        let failure = || {
            let (what, state) = ("reload nginx".to_owned(), "put back".to_owned());
            Failure { phase: Phase::Web, what, words: Vec::new(), put_back: None, state }
        };
        let mut outcome = Outcome { run: "20261127T220000".to_owned(), ..Outcome::default() };
        outcome.hosts = [
            (host("web1"), HostOutcome::Changed),
            (host("web2"), HostOutcome::RolledBack(failure())),
            (host("app1"), HostOutcome::Changed),
            (host("app2"), HostOutcome::Unchanged),
        ]
        .into();
        let back = [host("web1"), host("web2")].map(|name| (name, HostOutcome::Changed)).into();
        mark(&mut outcome, &back);
        let folder = tempfile::tempdir().unwrap();
        history::save_outcome(folder.path(), &outcome).unwrap();
        // The way back is a run of its own, in which all went well, and whose name sorts before.
        let back = Outcome { run: format!("{}-back", outcome.run), hosts: back, ..Outcome::default() };
        history::save_outcome(folder.path(), &back).unwrap();
        assert_eq!(history::last_undone(folder.path()), Ok(Some([host("web1"), host("web2")].into())));
    }
}
