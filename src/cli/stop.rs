//! Why a verb ended before its work was done: takes the errors of all stages, gives the exit code and the words for a person.

use std::collections::BTreeSet;
use std::io;

use super::exit;
use crate::base::diagnostic::Diagnostic;
use crate::fleet::event::{HostOutcome, Outcome, StepFate, StepOutcome};
use crate::fleet::{adopt, memory, orders, saved};
use crate::lab;
use crate::material;
use crate::pki;
use crate::report::Reporter;

/// Why a verb ended before its work was done.
#[derive(Debug)]
pub enum Stop {
    /// What a person wrote is wrong (exit code 2), with places.
    Input(Vec<Diagnostic>),
    /// What a person asked for cannot be done as asked (exit code 2): a sentence, and what to do.
    Refused(String, Vec<String>),
    /// Some hosts cannot be reached, told already (exit code 4).
    Unreachable,
    /// Hosts have told of our way to them what the rules were not made for; it is kept, and the verb begins anew with it.
    Learned(Vec<String>),
    /// All else (exit code 1).
    Failed(anyhow::Error),
}

impl From<anyhow::Error> for Stop {
    fn from(error: anyhow::Error) -> Self {
        Self::Failed(error)
    }
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Self::Failed(error.into())
    }
}

impl From<serde_json::Error> for Stop {
    fn from(error: serde_json::Error) -> Self {
        Self::Failed(error.into())
    }
}

impl From<Diagnostic> for Stop {
    fn from(diagnostic: Diagnostic) -> Self {
        Self::Input(vec![diagnostic])
    }
}

impl From<Vec<Diagnostic>> for Stop {
    fn from(diagnostics: Vec<Diagnostic>) -> Self {
        Self::Input(diagnostics)
    }
}

impl From<lab::Error> for Stop {
    fn from(error: lab::Error) -> Self {
        match error {
            lab::Error::Missing(_) => Self::Refused(
                error.to_string(),
                vec!["or add `--install` to `infra lab up` or `infra lab demo`".to_owned()],
            ),
            lab::Error::Spec(_) | lab::Error::NotRoot | lab::Error::NotUp(_) | lab::Error::NoHost { .. } => {
                Self::Refused(error.to_string(), Vec::new())
            }
            other => Self::Failed(other.into()),
        }
    }
}

impl From<pki::Error> for Stop {
    fn from(error: pki::Error) -> Self {
        Self::Refused(error.to_string(), error.help().into_iter().collect())
    }
}

impl From<memory::Error> for Stop {
    fn from(error: memory::Error) -> Self {
        Self::Refused(error.to_string(), error.help().into_iter().collect())
    }
}

impl From<material::Error> for Stop {
    fn from(error: material::Error) -> Self {
        Self::Refused(error.to_string(), error.help().into_iter().collect())
    }
}

/// Why certificates on load balancers could not be taken over.
impl From<adopt::Error> for Stop {
    fn from(error: adopt::Error) -> Self {
        match error {
            adopt::Error::Store(error) => error.into(),
            error @ adopt::Error::Unread { .. } => Self::Failed(error.into()),
        }
    }
}

impl From<orders::Error> for Stop {
    fn from(error: orders::Error) -> Self {
        let refused = |help: &str| Self::Refused(error.to_string(), vec![help.to_owned()]);
        match error {
            orders::Error::NotAsPlanned(_) => {
                refused("`infra apply` makes the host as the inventory says, and orders the certificates that are due")
            }
            orders::Error::Busy(_) => refused("wait until it has ended, then run this again"),
            orders::Error::Transport(error) => Self::Failed(error.into()),
            orders::Error::Adopt(error) => error.into(),
            orders::Error::Store(error) => error.into(),
        }
    }
}

impl From<saved::Error> for Stop {
    fn from(error: saved::Error) -> Self {
        match error.help() {
            Some(help) => Self::Refused(error.to_string(), vec![help.to_owned()]),
            None => Self::Failed(error.into()),
        }
    }
}

impl Stop {
    /// Its exit code.
    pub fn code(&self) -> u8 {
        match self {
            Self::Input(_) | Self::Refused(..) => exit::INPUT,
            Self::Unreachable => exit::UNREACHABLE,
            Self::Failed(_) | Self::Learned(_) => exit::FAILED,
        }
    }

    /// What it is, as a sentence.
    pub fn words(&self) -> String {
        match self {
            Self::Input(diagnostics) => diagnostics.first().map(|one| one.message.clone()).unwrap_or_default(),
            Self::Refused(message, _) => message.clone(),
            Self::Unreachable => "no host could be reached".to_owned(),
            Self::Failed(error) => error.to_string(),
            Self::Learned(ways) => ways.join("; "),
        }
    }

    /// Puts what stopped the orders of `sites` into the outcome, whose steps from `before` on are theirs, and gives it to be told.
    ///
    /// # Errors
    /// It, where nothing was done before in the whole run: there is no outcome beside it.
    pub(super) fn beside(self, sites: &BTreeSet<String>, before: usize, outcome: &mut Outcome) -> Result<Self, Self> {
        let ran = |fate: &StepFate| matches!(fate, StepFate::Done { .. } | StepFate::Failed { .. });
        let hosts = outcome.count(|host| *host != HostOutcome::Unchanged) > 0;
        let told = !outcome.refused.is_empty() && !matches!(self, Self::Unreachable);
        if !hosts && !outcome.renewed && !told && !outcome.any_step(ran) {
            return Err(self);
        }
        let why = self.words();
        let known: BTreeSet<String> = outcome.steps.iter().skip(before).map(|step| step.subject.clone()).collect();
        // That no load balancer answers is no failure, as long as nothing was ordered for it.
        let fate = if matches!(self, Self::Unreachable) && known.is_empty() {
            StepFate::Refused { why: vec![why], away: true }
        } else {
            outcome.refused.push(why.clone());
            StepFate::LeftOut { why }
        };
        outcome.steps.extend(sites.difference(&known).map(|site| StepOutcome::order(site, fate.clone())));
        Ok(self)
    }

    /// Tells it to the person.
    pub(super) fn tell(&self, reporter: &Reporter) -> io::Result<()> {
        match self {
            Self::Input(diagnostics) => reporter.diagnostics(diagnostics),
            Self::Refused(message, help) => reporter.error(message, &[], help),
            Self::Unreachable => Ok(()),
            Self::Learned(ways) => {
                let help =
                    "the way to these hosts changes from one look to the next; make it steady, then run this again";
                reporter.error(&ways.join("; "), &[], &[help.to_owned()])
            }
            Self::Failed(error) => {
                let causes: Vec<String> = error.chain().skip(1).map(ToString::to_string).collect();
                reporter.error(&error.to_string(), &causes, &[])
            }
        }
    }
}

/// What a verb gives: an exit code of [`exit`], or why it stopped.
pub type Done = Result<u8, Stop>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stops_orders_after_something_was_done_stands_in_the_outcome() {
        let sites = ["a.example.com", "b.example.com"].map(ToOwned::to_owned).into();
        let refused = || Stop::Refused("another run works here".to_owned(), Vec::new());
        let host = |fate| Outcome { hosts: [("lb1".parse().unwrap(), fate)].into(), ..Outcome::default() };
        let steps = |outcome: &Outcome| {
            let left = |fate: &StepFate| matches!(fate, StepFate::LeftOut { .. });
            outcome.steps.iter().map(|step| (step.subject.clone(), left(&step.fate))).collect::<Vec<_>>()
        };
        let stopped = refused().beside(&sites, 0, &mut host(HostOutcome::Unchanged));
        assert!(matches!(stopped, Err(Stop::Refused(..))), "{stopped:?}");
        let (a, b) = ("a.example.com".to_owned(), "b.example.com".to_owned());
        let mut changed = host(HostOutcome::Changed);
        assert!(refused().beside(&sites, 0, &mut changed).is_ok());
        assert_eq!((exit::of(&changed), steps(&changed)), (exit::FAILED, vec![(a.clone(), true), (b.clone(), true)]));
        // No host answered, neither for what was to be brought before nor for the orders.
        let mut nobody = Outcome { refused: vec![Stop::Unreachable.words()], ..Outcome::default() };
        assert!(matches!(Stop::Unreachable.beside(&sites, 0, &mut nobody), Err(Stop::Unreachable)));
        let mut away = host(HostOutcome::Changed);
        assert!(Stop::Unreachable.beside(&sites, 0, &mut away).is_ok());
        assert_eq!((exit::of(&away), away.refused.len()), (exit::UNREACHABLE, 0));
        // One was obtained: that stays, though it came to no load balancer.
        let done = StepFate::Done { about: "until May".to_owned(), notes: Vec::new() };
        let mut obtained = Outcome { renewed: true, steps: vec![StepOutcome::order(&*a, done)], ..Outcome::default() };
        assert!(Stop::Unreachable.beside(&sites, 0, &mut obtained).is_ok());
        assert_eq!((exit::of_renewal(&obtained), steps(&obtained)), (exit::FAILED, vec![(a, false), (b, true)]));
    }
}
