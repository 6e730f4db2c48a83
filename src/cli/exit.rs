//! How a run tells other programs what became of it: takes an outcome, gives the exit code. The numbers are stable.

use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;

use crate::fleet::event::{HostOutcome, Outcome, StepFate};

/// Done, or nothing to do.
pub const DONE: u8 = 0;
/// A step failed on some host; what it had touched was put back. Of a status: something is not as it should be.
pub const FAILED: u8 = 1;
/// A person was asked, and did not agree: what was asked about was not done, so nobody may go on as if it were (`infra apply && …`).
pub const DECLINED: u8 = FAILED;
/// The input is wrong: the command line, the inventory, a template, a plan file. Nothing was touched.
pub const INPUT: u8 = 2;
/// `diff` found changes that are not applied yet.
pub const PENDING: u8 = 3;
/// Some host could not be reached, or was not seen by a service that decides by it, so that its decision was left out.
pub const UNREACHABLE: u8 = 4;
/// An armed change was not confirmed, and a host went back to its old state by itself.
pub const ROLLED_BACK: u8 = 5;
/// `cert renew` obtained and installed at least one certificate.
pub const RENEWED: u8 = 6;
/// Something waits: a certificate is due, but the CA may not be asked before a time that is told; or what should be closed is
/// still in use.
pub const DEFERRED: u8 = 7;
/// Stopped by Ctrl-C or a termination signal (128 + SIGINT, as shells count).
pub const INTERRUPTED: u8 = 130;

/// The table of `--help`.
pub const HELP: &str = "\
Exit codes:
  0    done, or nothing to do
  1    a step failed on some host, a host is left alone, a status found something wrong, drift cannot be told, or a
       question was not answered with yes
  2    the input is wrong: command line, inventory, template, plan file
  3    changes are pending (diff), or something differs (drift)
  4    some host could not be reached
  5    an armed change was not confirmed and was rolled back
  6    certificates were renewed (cert renew)
  7    something must wait: a certificate for its time, or an old flow until nobody uses it
  130  interrupted";

/// The code of a run, its hosts and the controller's steps together. Where several apply, the first of: interrupted, rolled back,
/// failed, unreachable, deferred.
pub fn of(outcome: &Outcome) -> u8 {
    let any = |test: fn(&HostOutcome) -> bool| outcome.hosts.values().any(test);
    let step = |test: fn(&StepFate) -> bool| outcome.any_step(test);
    if outcome.interrupted {
        INTERRUPTED
    } else if any(|o| matches!(o, HostOutcome::RolledBack(_))) {
        ROLLED_BACK
    } else if any(|o| matches!(o, HostOutcome::Failed(_)))
        || step(|s| matches!(s, StepFate::Failed { excused: false, .. } | StepFate::Refused { away: false, .. }))
        || !outcome.refused.is_empty()
    {
        FAILED
    } else if any(|o| matches!(o, HostOutcome::Unreachable { .. }))
        || step(|s| matches!(s, StepFate::Refused { away: true, .. }))
        || !outcome.undecided.is_empty()
    {
        UNREACHABLE
    } else if any(|o| matches!(o, HostOutcome::NotReached { .. })) {
        FAILED
    } else if any(|o| matches!(o, HostOutcome::Deferred { .. }))
        || step(|s| matches!(s, StepFate::Deferred { .. } | StepFate::Failed { .. }))
    {
        DEFERRED
    } else {
        DONE
    }
}

/// The code of a run that was to renew: as of any other, but where all went well, whether anything was renewed.
pub fn of_renewal(outcome: &Outcome) -> u8 {
    match of(outcome) {
        DONE if outcome.renewed => RENEWED,
        code => code,
    }
}

/// The code of a command that was run for the person, as shells count.
pub(super) fn of_command(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(FAILED)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::fleet::event::StepOutcome;

    #[test]
    fn the_worst_outcome_gives_the_code() {
        let mut outcome = Outcome::default();
        assert_eq!(of(&outcome), DONE);
        outcome.hosts.insert(
            "lb1".parse().unwrap(),
            HostOutcome::Deferred { kept: Vec::new(), by: Vec::new(), behind: BTreeSet::new() },
        );
        assert_eq!(of(&outcome), DEFERRED);
        outcome.hosts.insert("db1".parse().unwrap(), HostOutcome::NotReached { state: "old".into() });
        assert_eq!(of(&outcome), FAILED);
        outcome.hosts.insert("db2".parse().unwrap(), HostOutcome::Unreachable { reason: "no route".into() });
        assert_eq!(of(&outcome), UNREACHABLE);
        let failure = crate::report::sample::failure();
        outcome.hosts.insert("web1".parse().unwrap(), HostOutcome::Failed(failure.clone()));
        assert_eq!(of(&outcome), FAILED);
        outcome.hosts.insert("web2".parse().unwrap(), HostOutcome::RolledBack(failure));
        assert_eq!(of(&outcome), ROLLED_BACK);
        outcome.interrupted = true;
        assert_eq!(of(&outcome), INTERRUPTED);
    }

    #[test]
    fn steps_count_as_hosts_do() {
        let of_steps = |fates: &[StepFate]| {
            let steps = fates.iter().map(|fate| StepOutcome::order("a.example.com", fate.clone())).collect();
            Outcome { renewed: fates.iter().any(|f| matches!(f, StepFate::Done { .. })), steps, ..Outcome::default() }
        };
        let why = || "why".to_owned();
        let done = StepFate::Done { about: why(), notes: Vec::new() };
        let waits = StepFate::Deferred { until: 7, why: why() };
        let failed = |excused| StepFate::Failed { why: why(), until: 7, excused };
        let refused = |away| StepFate::Refused { why: vec![why()], away };
        let left = StepFate::LeftOut { why: why() };
        for (fates, code, renewal) in [
            (vec![StepFate::Unneeded, left], DONE, DONE),
            (vec![done.clone()], DONE, RENEWED),
            (vec![done.clone(), waits.clone()], DEFERRED, DEFERRED),
            (vec![done.clone(), failed(true)], DEFERRED, DEFERRED),
            (vec![waits, refused(true)], UNREACHABLE, UNREACHABLE),
            (vec![refused(true), refused(false)], FAILED, FAILED),
            (vec![refused(true), failed(false)], FAILED, FAILED),
        ] {
            let outcome = of_steps(&fates);
            assert_eq!((of(&outcome), of_renewal(&outcome)), (code, renewal), "{fates:?}");
        }
        let mut outcome = of_steps(&[done]);
        outcome.undecided.push(why());
        assert_eq!(of_renewal(&outcome), UNREACHABLE);
        outcome.refused.push(why());
        assert_eq!(of_renewal(&outcome), FAILED);
    }

    #[test]
    fn what_comes_later_in_a_run_counts_and_what_was_changed_stays_changed() {
        let host =
            |name: &str, outcome| Outcome { hosts: [(name.parse().unwrap(), outcome)].into(), ..Outcome::default() };
        let away = || HostOutcome::Unreachable { reason: "no route".into() };
        let both =
            host("lb1", HostOutcome::Changed).then(host("lb1", HostOutcome::Unchanged)).then(host("lb2", away()));
        assert_eq!(both.hosts.values().cloned().collect::<Vec<_>>(), [HostOutcome::Changed, away()]);
        let state = || HostOutcome::NotReached { state: "it lacks a certificate".into() };
        assert_eq!(of(&both.then(host("lb2", state()))), FAILED);
    }

    #[test]
    fn a_command_ends_with_its_own_code() {
        assert_eq!(of_command(ExitStatus::from_raw(3 << 8)), 3);
        assert_eq!(of_command(ExitStatus::from_raw(9)), 137);
    }
}
