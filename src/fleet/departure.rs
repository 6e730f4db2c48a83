//! A host that changes while it gets no requests: takes a step of a run on one host, drains the host before it and brings it back after
//! it, and gives what came of all that. One host does it at a time, as each asks whether another serves meanwhile.

use std::sync::atomic::AtomicBool;
use std::sync::mpsc::Sender;
use std::time::{Duration, SystemTime};

use crate::base::net::HostName;
use crate::fleet::away::Watch;
use crate::fleet::drain::{Left, Patience};
use crate::fleet::event::Event;
use crate::fleet::member::Member;
use crate::fleet::survey::Connector;
use crate::host::execute::{Now, StepError};
use crate::host::report;
use crate::host::transport::Script;
use crate::inventory::site::{Host, Site};
use crate::plan::state::Phase;
use crate::service::away::{self, Mark, Questions};

/// How hosts are drained in a run.
#[derive(Clone, Copy)]
pub(super) struct Departure<'a> {
    pub(super) site: &'a Site,
    pub(super) connector: &'a dyn Connector,
    /// How long connections may take to end, and leaders to see that a host is back.
    pub(super) within: Duration,
    pub(super) who: &'a str,
    pub(super) stop: &'a AtomicBool,
    pub(super) events: &'a Sender<Event>,
}

impl<'a> Departure<'a> {
    /// The host of a member, where it is drained for its step in `phase`.
    pub(super) fn of(&self, host: &HostName, phase: Phase) -> Option<&'a Host> {
        self.site.hosts.get(host).filter(|host| away::serves_in(host, phase))
    }

    /// Does `step` while the host gets no requests. One that a person has drained stays so; one that nobody can stand in for is not
    /// drained.
    pub(super) fn around(
        &self,
        host: &Host,
        member: &mut Member<'_>,
        step: impl FnOnce(&mut Member<'_>) -> Result<Vec<String>, StepError>,
    ) -> Result<Vec<String>, StepError> {
        // One that a run of before has left because it was killed is ended by this one.
        if !runs(member, away::NOT_DRAINED_BY_HAND)?.is_empty() {
            return step(member);
        }
        if !runs(member, away::KNOWS)?.is_empty() {
            let text = "it is not drained: its front does not know yet how to be".to_owned();
            let _ = self.events.send(Event::Note { host: Some(host.name.clone()), text });
            return step(member);
        }
        let asked = away::leaders(self.site, host).into_iter().chain([&host.name]).cloned().collect();
        let mut watch = Watch::open(self.site, &asked, self.connector, 1);
        let mut alone = self.wait(&mut watch, &away::alone(self.site, host), Duration::ZERO, "");
        // Who cannot be asked has not agreed.
        alone.extend(watch.away.iter().map(|(of, why)| (of.clone(), vec![format!("cannot be asked: {why}")])));
        if !alone.is_empty() {
            let text = format!("it is not drained: {}", words(&alone).join("; "));
            let _ = self.events.send(Event::Note { host: Some(host.name.clone()), text });
            return step(member);
        }
        let since = SystemTime::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_secs().try_into().unwrap_or(0));
        let mark = Mark { since, by: self.who.to_owned(), why: away::WHILE.to_owned() };
        let failed = |what: &str, words: Vec<String>, files| {
            let what = format!("{what} {}", host.name);
            StepError { what, words, put_back: None, now: Now::AsBefore, files }
        };
        let said = runs(member, &away::leave_script(&mark))?;
        if !said.is_empty() {
            return Err(failed("drain of", said, false));
        }
        let left = self.wait(&mut watch, &away::leaving(self.site, host), self.within, "before it changes");
        let done = if left.is_empty() { step(member) } else { Err(failed("drain of", words(&left), false)) };
        let back = match runs(member, away::GONE) {
            Ok(said) if said.is_empty() => Ok(()),
            Ok(said) => Err(failed("undrain of", said, true)),
            Err(error) => Err(error),
        };
        let done = whole(&host.name, done, back)?;
        let left =
            self.wait(&mut watch, &away::returning(self.site, host), self.within, "before the next host changes");
        if left.is_empty() { Ok(done) } else { Err(failed("return into traffic of", words(&left), true)) }
    }

    fn wait(&self, watch: &mut Watch, questions: &Questions, within: Duration, why: &str) -> Left {
        watch.wait(questions, Patience { within, parallel: 1, stop: self.stop, events: self.events }, why)
    }
}

/// What came of a step and of the way back into traffic after it: where both fail, the step's failure says the other too.
fn whole(
    host: &HostName,
    done: Result<Vec<String>, StepError>,
    back: Result<(), StepError>,
) -> Result<Vec<String>, StepError> {
    let Err(mut back) = back else { return done };
    back.words
        .push(format!("{host} is still drained: the next `infra apply` brings it back, or `infra undrain {host}`"));
    match done {
        Ok(_) => Err(back),
        Err(mut error) => {
            error.words.extend(back.words);
            Err(error)
        }
    }
}

/// What a script says where it does not end well.
fn runs(member: &mut Member<'_>, text: &str) -> Result<Vec<String>, StepError> {
    let script = Script::new("drain", format!("{{ {text}\n}} 2>&1")).within(Duration::from_secs(30));
    let unknown = |why: String| StepError {
        what: script.title.clone(),
        words: vec![why],
        put_back: None,
        now: Now::Unknown,
        files: false,
    };
    let output = member.asked(|transport| transport.run(&script, b"")).map_err(|error| unknown(error.to_string()))?;
    if output.ok() {
        return Ok(Vec::new());
    }
    let said = report::words(&String::from_utf8_lossy(&output.stdout));
    Ok(if said.is_empty() { vec![format!("it ended with {}", output.status)] } else { said })
}

fn words(left: &Left) -> Vec<String> {
    left.iter().map(|(host, words)| format!("{host} {}", words.join("; "))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn that_a_host_stays_drained_is_told_with_whatever_else_failed() {
        let host: HostName = "web1".parse().unwrap();
        let error = |what: &str, words: &str| StepError {
            what: what.to_owned(),
            words: vec![words.to_owned()],
            put_back: None,
            now: Now::AsBefore,
            files: false,
        };
        let stays = "web1 is still drained: the next `infra apply` brings it back, or `infra undrain web1`";
        let told = |done, back| whole(&host, done, back).map_err(|error| (error.what, error.words));
        assert_eq!(told(Ok(vec!["x".to_owned()]), Ok(())), Ok(vec!["x".to_owned()]));
        let failed = || Err(error("reload nginx", "no"));
        assert_eq!(told(failed(), Ok(())), Err(("reload nginx".to_owned(), vec!["no".to_owned()])));
        let undrain = || Err(error("undrain of web1", "read-only"));
        let words = |all: &[&str]| all.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        assert_eq!(told(Ok(Vec::new()), undrain()), Err(("undrain of web1".to_owned(), words(&["read-only", stays]))));
        assert_eq!(told(failed(), undrain()), Err(("reload nginx".to_owned(), words(&["no", "read-only", stays]))));
    }
}
