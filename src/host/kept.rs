//! What a host keeps of past runs, for a way back: makes the question, reads the answer.

use std::collections::BTreeMap;

use crate::base::sh::quote;
use crate::host::report;
use crate::host::transport::{Script, Transport, TransportError};
use crate::host::wire;
use crate::plan::manifest;
use crate::plan::ruleset::Ruleset;
use crate::plan::state::Recorded;
use crate::plan::wanted::Wanted;
use crate::service::drained::Mark;

/// Most bytes of an answer: ten records of a large inventory.
const ANSWER: usize = 32 << 20;

/// What a run changed on a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Changed {
    /// Nothing.
    Nothing,
    /// Certificates, passwords, or the role of a database alone, which never go back.
    Part,
    /// Whatever differed from what was wanted.
    Whole,
}

/// A run of which a host keeps something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// Its name.
    pub name: String,
    /// What it changed there.
    pub changed: Changed,
    /// The run that it took back.
    pub restores: Option<String>,
}

/// In the place of a run's name: what is there now, before the run that comes next.
pub const NOW: &str = ".";

/// What was before a run on a host.
#[derive(Debug, Clone, Default)]
pub struct Before {
    /// What infra had put there; `None` where that was nothing yet.
    pub manifest: Option<BTreeMap<String, Recorded>>,
    /// The rules that were loaded.
    pub rules: Option<Ruleset>,
    /// What infra has put there until now.
    pub now: BTreeMap<String, Recorded>,
    /// What earlier runs wanted, the latest first.
    pub wanted: Vec<Wanted>,
    /// What the run did that is no file, by title.
    pub performed: Vec<String>,
    /// Whether it installed packages.
    pub packages: bool,
}

/// All that is kept.
#[derive(Debug, Clone, Default)]
pub struct Kept {
    /// In the order of their times.
    pub runs: Vec<Run>,
    /// What was before the run that was asked for, where that is kept; what is now, where that run was not here.
    pub before: Option<Before>,
    /// Whether the run was here, and has kept that.
    pub was_here: bool,
    /// Whether the host was retired, and by whom.
    pub retired: Option<Mark>,
}

/// Why a run cannot be taken back on a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Barred {
    /// It changed nothing there, as far as the host knows.
    NotHere,
    /// It changed only what never goes back.
    Part,
    /// These have changed the host since, the latest first.
    Later(Vec<String>),
    /// This run has taken it back already.
    Taken(String),
}

impl Kept {
    /// Whether `run` is the last that counts here. A run that was taken back counts no more, nor does the one that took it back; the
    /// very last one counts always, as a run that takes back is a run like others.
    ///
    /// # Errors
    /// [`Barred`] says what stands in the way.
    pub fn may_take_back(&self, run: &str) -> Result<(), Barred> {
        if self.runs.iter().any(|one| one.name == run && one.changed == Changed::Part) {
            return Err(Barred::Part);
        }
        // What never goes back is not in the way of what does.
        let changed: Vec<&Run> = self.runs.iter().filter(|one| one.changed == Changed::Whole).collect();
        if !changed.iter().any(|one| one.name == run) {
            return Err(Barred::NotHere);
        }
        // One that took it back may not have come to its end, and is gone on with.
        if changed.last().is_some_and(|last| last.name == run || last.restores.as_deref() == Some(run)) {
            return Ok(());
        }
        let (mut counts, mut before): (Vec<&Run>, BTreeMap<&str, Vec<&Run>>) = (Vec::new(), BTreeMap::new());
        for one in &changed {
            before.insert(&one.name, counts.clone());
            match one.restores.as_deref().and_then(|run| before.get(run)) {
                Some(then) => counts.clone_from(then),
                None => counts.push(one),
            }
        }
        let Some(at) = counts.iter().position(|one| one.name == run) else {
            let by = changed.iter().rev().find(|one| one.restores.as_deref() == Some(run));
            return Err(by.map_or(Barred::NotHere, |by| Barred::Taken(by.name.clone())));
        };
        let later: Vec<String> = counts.iter().skip(at + 1).rev().map(|one| one.name.clone()).collect();
        if later.is_empty() { Ok(()) } else { Err(Barred::Later(later)) }
    }
}

/// The question; with `run` also what was before that.
fn script(run: Option<&str>) -> Script {
    let text = format!("RUN={}\n{}", quote(run.unwrap_or("")), include_str!("scripts/kept.sh"));
    wire::question("read what is kept of past runs", &text).up_to(ANSWER)
}

/// Asks a host.
///
/// # Errors
/// What the transport says, or that the answer does not read.
pub fn ask(transport: &mut dyn Transport, run: Option<&str>) -> Result<Kept, TransportError> {
    let output = transport.run(&script(run), b"")?;
    parse(&output.stdout).ok_or_else(|| {
        let said = report::phrase(&String::from_utf8_lossy(&output.stderr));
        TransportError::Setup(format!("what the host keeps of past runs does not read; it said: {said}"))
    })
}

/// Reads an answer; nothing where it is none.
fn parse(answer: &[u8]) -> Option<Kept> {
    let pairs = wire::pairs(answer);
    if !pairs.is_whole() {
        return None;
    }
    let run = |line: &str| {
        let mut words = line.trim().split(' ');
        let (name, changed, restores) = (words.next()?, words.next()?, words.next()?);
        let restores = Some(restores.to_owned()).filter(|run| run != "-");
        let changed = match changed {
            "yes" => Changed::Whole,
            "part" => Changed::Part,
            _ => Changed::Nothing,
        };
        Some(Run { name: name.to_owned(), changed, restores })
    };
    let runs = pairs.all("run").map(run).collect::<Option<_>>()?;
    let lines = |key| match pairs.last(key) {
        Some(text) => manifest::from_text(text).ok().map(|(_, lines)| Some(lines)),
        None => Some(None),
    };
    let before = match pairs.last("before") {
        None => None,
        Some(_) => Some(Before {
            manifest: lines("before manifest")?,
            rules: pairs.last("before firewall.rules").map(Ruleset::from_text).transpose().ok()?,
            now: lines("manifest")?.unwrap_or_default(),
            wanted: pairs
                .iter()
                .filter(|(key, _)| key.starts_with("wanted "))
                .filter_map(|(_, text)| Wanted::from_text(text))
                .collect(),
            performed: pairs.last("performed").unwrap_or("").lines().map(report::phrase).collect(),
            packages: pairs.last("packages").is_some(),
        }),
    };
    let was_here = pairs.last("before").is_some_and(|run| run != "now");
    Some(Kept { runs, before, was_here, retired: pairs.last("retired").map(Mark::of_file) })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `x` changed, `x:y` changed and took back `y`, `-x` changed nothing, `~x` only what never goes back.
    fn kept(runs: &str) -> Kept {
        let run = |word: &str| {
            let (name, restores) = word.split_once(':').map_or((word, None), |(name, of)| (name, Some(of)));
            let changed = match name.chars().next() {
                Some('-') => Changed::Nothing,
                Some('~') => Changed::Part,
                _ => Changed::Whole,
            };
            let name = name.trim_start_matches(['-', '~']);
            Run { name: name.into(), changed, restores: restores.map(ToOwned::to_owned) }
        };
        Kept { runs: runs.split(' ').map(run).collect(), ..Kept::default() }
    }

    #[test]
    fn the_last_run_that_counts_may_be_taken_back() {
        let later = |runs: &[&str]| Err(Barred::Later(runs.iter().map(|run| (*run).to_owned()).collect()));
        for (runs, run, answer) in [
            ("a b c", "c", Ok(())),
            ("a b c", "a", later(&["c", "b"])),
            ("a b -c", "b", Ok(())),
            ("a b", "z", Err(Barred::NotHere)),
            ("a -b", "b", Err(Barred::NotHere)),
            ("a ~b", "a", Ok(())),
            ("a ~b", "b", Err(Barred::Part)),
            // Taken back: the one before it is next; what took it back may be taken back itself, or gone on with.
            ("a b r:b", "a", Ok(())),
            ("a b r:b", "r", Ok(())),
            ("a b r:b", "b", Ok(())),
            ("a b r:b c", "a", later(&["c"])),
            ("a b r:b c", "b", Err(Barred::Taken("r".into()))),
            // Taken back, and that taken back.
            ("a b r:b s:r", "b", Ok(())),
            ("a b r:b s:r", "a", later(&["b"])),
            ("a b r:b s:r", "s", Ok(())),
            ("a b r:b s:a", "a", Ok(())),
        ] {
            assert_eq!(kept(runs).may_take_back(run), answer, "{run} of {runs}");
        }
    }

    #[test]
    fn an_answer_reads_or_is_none() {
        let digest = "0".repeat(64);
        let answer = format!(
            "run\0a yes -\0run\0b no a\0before\0b\0before manifest\0{digest} - /etc/x\n\0performed\0one\ntwo\n\0wanted a\0{{}}\0end\0\0"
        );
        let kept = parse(answer.as_bytes()).unwrap();
        assert_eq!(kept.runs.len(), 2);
        assert_eq!(kept.runs[1], Run { name: "b".into(), changed: Changed::Nothing, restores: Some("a".into()) });
        let before = kept.before.unwrap();
        assert_eq!(before.manifest.unwrap().keys().collect::<Vec<_>>(), ["/etc/x"]);
        assert_eq!((before.performed.len(), before.wanted.len(), before.packages), (2, 0, false));
        assert!(parse(answer.trim_end_matches("end\0\0").as_bytes()).is_none());
        assert!(parse(b"run\0a\0end\0\0").is_none());
    }
}
