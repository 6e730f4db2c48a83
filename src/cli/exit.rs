//! How a run tells other programs what became of it: takes an outcome, gives the exit code. The numbers are stable.

use crate::fleet::event::{HostOutcome, Outcome};

/// Done, or nothing to do.
pub const DONE: u8 = 0;
/// A step failed on some host; what it had touched was put back.
pub const FAILED: u8 = 1;
/// The input is wrong: the command line, the inventory, a template, a plan file. Nothing was touched.
pub const INPUT: u8 = 2;
/// `diff` found changes that are not applied yet.
pub const PENDING: u8 = 3;
/// Some host could not be reached.
pub const UNREACHABLE: u8 = 4;
/// An armed change was not confirmed, and a host went back to its old state by itself.
pub const ROLLED_BACK: u8 = 5;
/// `cert renew` obtained and installed at least one certificate.
pub const RENEWED: u8 = 6;
/// A certificate is due, but the CA may not be asked before a time that is told.
pub const DEFERRED: u8 = 7;
/// Stopped by Ctrl-C or a termination signal (128 + SIGINT, as shells count).
pub const INTERRUPTED: u8 = 130;

/// The table of `--help`.
pub const HELP: &str = "\
Exit codes:
  0    done, or nothing to do
  1    a step failed on some host
  2    the input is wrong: command line, inventory, template, plan file
  3    changes are pending (diff)
  4    some host could not be reached
  5    an armed change was not confirmed and was rolled back
  6    certificates were renewed (cert renew)
  7    a certificate is due, but must wait for its time
  130  interrupted";

/// The code of a run. Where several apply, the first of: interrupted, rolled back, failed, unreachable.
pub fn of(outcome: &Outcome) -> u8 {
    let any = |test: fn(&HostOutcome) -> bool| outcome.hosts.values().any(test);
    if outcome.interrupted {
        INTERRUPTED
    } else if any(|o| matches!(o, HostOutcome::RolledBack(_))) {
        ROLLED_BACK
    } else if any(|o| matches!(o, HostOutcome::Failed(_))) {
        FAILED
    } else if any(|o| matches!(o, HostOutcome::Unreachable { .. })) {
        UNREACHABLE
    } else if any(|o| matches!(o, HostOutcome::NotReached { .. })) {
        FAILED
    } else {
        DONE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_outcome_gives_the_code() {
        let mut outcome = Outcome::default();
        assert_eq!(of(&outcome), DONE);
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
}
