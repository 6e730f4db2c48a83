//! A change of rules on one host: takes the rules, gives whether they stand, or what put the old ones back. It is armed: a timer on the
//! host takes them back unless a new connection gets in through them. Rules that only accept more than those that are live need none.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use time::OffsetDateTime;

use crate::base::sh::quote;
use crate::host::execute::{Executor, Now, StepError, Told};
use crate::host::reach;
use crate::host::report;
use crate::host::transport::{Output, Script, TransportError};
use crate::plan::ruleset::Ruleset;
use crate::plan::state::Phase;
use crate::service::firewall::entries::{Entry, entries};
use crate::service::firewall::script::{self as firewall, Status, WINDOW};

impl Executor<'_> {
    /// Loads rules that accept more than `from`, which is live, in one go: they cut nobody off. Where `from` is not to the byte what the
    /// host has and reads at boot, they are loaded armed, as all others are.
    ///
    /// # Errors
    /// What failed, and how the host stands then.
    pub fn add_rules(&mut self, phase: Phase, from: &Ruleset, to: &Ruleset) -> Result<(), StepError> {
        let title = format!("{phase}: load rules");
        let text = self.under_lock() + &firewall::add_script(from, to, &self.folder_of(phase));
        // The connection is not to break here: where it does, the host finishes this, or leaves a mark by which it is taken back.
        let output = self.transport.run(&Script::new(&title, text), b"").map_err(|error| StepError {
            what: title.clone(),
            words: vec![error.to_string()],
            put_back: None,
            now: Now::Unknown,
            files: false,
        })?;
        match Status::of(output.status) {
            Status::Done => Ok(()),
            Status::NotAsRecorded => self.firewall(phase, to),
            _ => {
                let (now, put_back) = came_of(&output).unwrap_or((Now::Unknown, None));
                Err(self.refused(&title, &output, now, put_back))
            }
        }
    }

    fn folder_of(&self, phase: Phase) -> String {
        format!("/var/lib/infra/runs/{}/{phase}", self.run)
    }

    /// The beginning of a script that loads rules: it does so under the lock of its own run only.
    fn under_lock(&self) -> String {
        let (ours, run, refused) = (include_str!("scripts/ours.sh"), quote(&self.run), firewall::REFUSED);
        format!("RUN={run}\n{ours}if lost; then echo \"$words\" >&2; exit {refused}; fi\n")
    }

    /// Loads rules with a timer that takes them back, and disarms it over a new connection.
    ///
    /// # Errors
    /// What failed, and how the host stands then.
    pub fn firewall(&mut self, phase: Phase, to: &Ruleset) -> Result<(), StepError> {
        let folder = self.folder_of(phase);
        let load = self.under_lock() + &firewall::load_script(to, &folder, WINDOW);
        let load = Script::new(format!("{phase}: load rules"), load);
        let open = reach::open(&entries(to, &self.here, reach::local_address));
        let began = Instant::now();
        // The load may cut this very connection; whether it worked is for a new one to say.
        let cut = match self.transport.run(&load, b"") {
            Ok(output) if output.ok() => None,
            Ok(output) => {
                let armed = String::from_utf8_lossy(&output.stdout).lines().any(|line| line == firewall::ARMED);
                let (now, put_back) = came_of(&output).unwrap_or((Now::Unknown, None));
                let now = if armed { now } else { Now::AsBefore };
                return Err(self.refused(&load.title, &output, now, put_back));
            }
            Err(error) => Some(error),
        };
        let shut = reach::shut(&open);
        if !shut.is_empty() {
            return Err(self.shut_out(&shut, &folder, began));
        }
        let confirm = Script::new(format!("{phase}: confirm rules"), firewall::confirm_script(to, &folder));
        let confirmed = (self.reconnect)().and_then(|mut new| new.run(&confirm, b""));
        let mut error = match &confirmed {
            Ok(output) if output.ok() => return Ok(()),
            Ok(output) => {
                if let Some((now, put_back)) = came_of(output) {
                    self.refused(&confirm.title, output, now, put_back)
                } else {
                    // The script of the confirmation did not run: whoever is to become root is refused, or no shell was given.
                    let words = self.refused(&confirm.title, output, Now::Unknown, None).words;
                    self.locked_out(&confirm.title, words, &folder, began)
                }
            }
            // Without the address, which is another on each host: what they have in common is told once.
            Err(error) => {
                let words = match error {
                    TransportError::Unreachable { reason, .. } => reason.clone(),
                    other => other.to_string(),
                };
                self.locked_out("a new SSH connection through the new rules", vec![words], &folder, began)
            }
        };
        // What kept the rules from being loaded is the cause, and how that was found out is not.
        if let Some(cut) = cut.filter(|_| error.now == Now::AsBefore) {
            error = StepError { what: load.title, words: vec![cut.to_string()], ..error };
        }
        Err(error)
    }

    /// Where others got in before the rules were loaded they do not get in any more: the old rules come back at once.
    fn shut_out(&self, shut: &BTreeSet<Entry>, folder: &str, loaded: Instant) -> StepError {
        let what = "what was open before these rules";
        let mut words: Vec<String> = shut
            .iter()
            .map(|entry| format!("`{}` at {} connected before, and does not now", entry.words(), entry.address))
            .collect();
        let undo = Script::new("undo rules", firewall::undo_script(folder));
        let came = (self.reconnect)().and_then(|mut new| {
            let from = |to| reach::local_address(to).into_iter().collect();
            let again = || drop(reach::open(shut));
            // Who refuses it is worth a few of the seconds that there are, and no more.
            let told = reach::traced(new.as_mut(), &reach::watched(shut, from), again).unwrap_or_default();
            let refusals: BTreeSet<String> = told.refused.values().map(ToString::to_string).collect();
            words.extend(refusals.iter().map(|text| report::phrase(&self.materials.redact(text))));
            new.run(&undo, b"")
        });
        match came.ok().as_ref().and_then(came_of) {
            Some((now, put_back)) => StepError { what: what.to_owned(), words, put_back, now, files: false },
            None => self.locked_out(what, words, folder, loaded),
        }
    }

    fn refused(&self, title: &str, output: &Output, now: Now, put_back: Option<String>) -> StepError {
        let said = String::from_utf8_lossy(&output.stderr);
        let words = report::words(&self.materials.redact(&said));
        StepError { what: title.to_owned(), words, put_back, now, files: false }
    }

    /// Nobody gets in through the new rules: the timer on the host brings the old ones back, and that is waited for.
    fn locked_out(&self, what: &str, mut words: Vec<String>, folder: &str, loaded: Instant) -> StepError {
        let (mut now, mut put_back) = (Now::Unknown, None);
        let until = OffsetDateTime::now_utc() + WINDOW.saturating_sub(loaded.elapsed());
        let (hour, minute, second) = until.to_hms();
        (self.tell)(Told::Note(format!(
            "no new connection gets in; at {hour:02}:{minute:02}:{second:02} UTC its own timer puts the old rules back, \
             which is waited for"
        )));
        while loaded.elapsed() < WINDOW + RETURN {
            let undo = Script::new("undo rules", firewall::undo_script(folder));
            match (self.reconnect)().and_then(|mut new| new.run(&undo, b"")) {
                Ok(output) => match (Status::of(output.status), came_of(&output)) {
                    (Status::PutBack, _) => {
                        now = Now::RolledBack;
                        put_back = Some("a later connection got in and has put the old rules back".to_owned());
                        break;
                    }
                    (Status::RolledBack, _) => {
                        now = Now::RolledBack;
                        let after = WINDOW.as_secs();
                        put_back = Some(format!("the host's own timer has put the old rules back after {after} s"));
                        break;
                    }
                    (_, Some((stands, why))) => {
                        words.extend(report::words(&self.materials.redact(&String::from_utf8_lossy(&output.stderr))));
                        (now, put_back) = (stands, why);
                        break;
                    }
                    // It did not run either; the timer is what is left.
                    (_, None) => std::thread::sleep(Duration::from_secs(1)),
                },
                Err(error) if error.is_unreachable() => std::thread::sleep(Duration::from_secs(1)),
                Err(error) => {
                    words.push(error.to_string());
                    break;
                }
            }
        }
        StepError { what: what.to_owned(), words, put_back, now, files: false }
    }
}

/// How a host stands after one of the firewall's scripts, and what has put its rules back, as the script itself has said; `None` where it
/// did not come to say it.
fn came_of(output: &Output) -> Option<(Now, Option<String>)> {
    let back = |by: &str| Some((Now::RolledBack, Some(by.to_owned())));
    match Status::of(output.status) {
        Status::Done | Status::NotArmed | Status::Refused | Status::NeverLoaded | Status::NotAsRecorded => {
            Some((Now::AsBefore, None))
        }
        Status::RolledBack => back("the host's own timer has put the old rules back"),
        Status::Restarted => back("the host was started anew, with the old rules"),
        Status::PutBack => back("the host has put the old rules back at once"),
        Status::RollbackFailed => Some((Now::Mixed, Some("the old rules could not be put back".to_owned()))),
        Status::Failed => None,
    }
}

/// How long after its timer a host may take until it answers again.
const RETURN: Duration = Duration::from_secs(30);
