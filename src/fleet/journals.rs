//! Past runs: takes what the controller's state and the hosts' own journals hold, gives each run once. Where the state is lost, the hosts
//! still tell of the last ten runs that changed them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::base::fsx;
use crate::base::net::HostName;
use crate::base::words::count;
use crate::fleet::event::{HostOutcome, Outcome, StepFate};
use crate::fleet::run;
use crate::fleet::survey::Connector;
use crate::host::report;
use crate::host::transport::Script;
use crate::inventory::site::Host;
use crate::plan::body::Digest;

/// Most bytes of a host's journals.
const ANSWER: usize = 4 << 20;

/// Prints of each run `run NAME SECONDS`, the time of its last line, then its journal, each line after a tab. A run's folder is root's.
const SCRIPT: &str = "cd \"$ROOT/var/lib/infra/runs\" 2>/dev/null || exit 0
for run in *; do
	[ -f \"$run/journal\" ] && [ ! -L \"$run\" ] && [ ! -L \"$run/journal\" ] || continue
	printf 'run %s %s\\n' \"$run\" \"$(stat -c %Y \"$run/journal\")\"
	head -c 65536 \"$run/journal\" | sed 's/^/\t/'
done
";

/// What became of a host in a run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Fate {
    /// One or a few words: `changed`, `failed at nginx -t`.
    pub verdict: String,
    /// More about it, lines.
    pub words: Vec<String>,
    /// The host's own journal of the run, lines.
    pub journal: Vec<String>,
}

/// A past run.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Past {
    /// Its name, which begins with its time, UTC.
    pub run: String,
    /// `ops@workstation`, where that is known.
    pub who: Option<String>,
    /// The command, where that is known.
    pub command: Option<String>,
    /// How long it took, where that is known.
    pub seconds: Option<f64>,
    /// The digest of its plan (SHA-256), where that is known.
    pub plan: Option<Digest>,
    /// The plan as it was shown, lines; told of one run alone.
    pub planned: Vec<String>,
    /// Whether the controller's state tells of it; else only hosts do.
    pub remembered: bool,
    /// What became of each host.
    pub hosts: BTreeMap<HostName, Fate>,
    /// Steps of the controller, advice, and parts that were not begun, each a sentence.
    pub words: Vec<String>,
}

/// A file of `state/runs`. Earlier versions did not say who and what.
#[derive(Debug, Serialize, Deserialize)]
pub struct Record {
    /// What became of it.
    #[serde(flatten)]
    pub outcome: Outcome,
    /// Who ran it.
    #[serde(default)]
    pub who: Option<String>,
    /// By which command.
    #[serde(default)]
    pub command: Option<String>,
    /// The digest of the plan's text, which stands beside it.
    #[serde(default)]
    pub plan: Option<Digest>,
}

/// Whether a text is the name of a run, or how one begins: its time, and what chance has added.
pub fn is_run(text: &str) -> bool {
    let (time, rest) = text.split_once('-').unwrap_or((text, ""));
    let bytes = time.as_bytes();
    let digits = |range: &[u8]| range.iter().all(u8::is_ascii_digit);
    bytes.len() == 15
        && bytes.get(8) == Some(&b'T')
        && bytes.get(..8).is_some_and(digits)
        && bytes.get(9..).is_some_and(digits)
        && rest.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
}

/// Whether a text is how the name of a run begins, the year at least.
pub fn begins_run(text: &str) -> bool {
    let form = "00000000T000000";
    let fits = |(c, form): (char, char)| if form == '0' { c.is_ascii_digit() } else { c == form };
    is_run(text) || ((4..form.len()).contains(&text.len()) && text.chars().zip(form.chars()).all(fits))
}

/// What the state folder tells of past runs.
#[derive(Debug, Default)]
pub struct Remembered {
    /// The runs, by name.
    pub runs: BTreeMap<String, Past>,
    /// Files that are of a run and do not read.
    pub unread: Vec<PathBuf>,
}

/// The runs that the state folder tells of.
pub fn remembered(state: &Path) -> Remembered {
    let files = fs_err::read_dir(state.join("runs")).into_iter().flatten().flatten().map(|entry| entry.path());
    let json = files.filter(|path| path.extension().is_some_and(|ending| ending == "json"));
    let read = |path: &Path| serde_json::from_slice::<Record>(&fsx::read_bounded(path, fsx::STATE_BYTES).ok()?).ok();
    let mut all = Remembered::default();
    for path in json {
        match read(&path) {
            Some(record) => drop(all.runs.insert(record.outcome.run.clone(), past(record))),
            None => all.unread.push(path),
        }
    }
    all.unread.sort();
    all
}

/// Where the plan of a run is.
pub(super) fn plan_file(state: &Path, run: &str) -> PathBuf {
    state.join("runs").join(format!("{run}.plan"))
}

/// The plan of a run as it was shown, lines; nothing where the state does not have it.
pub fn planned(state: &Path, run: &str) -> Vec<String> {
    let text = fsx::read_text(&plan_file(state, run), fsx::STATE_BYTES).unwrap_or_default();
    text.lines().map(ToOwned::to_owned).collect()
}

fn past(Record { outcome, who, command, plan }: Record) -> Past {
    let mut words: Vec<String> =
        outcome.steps.iter().map(|step| format!("{}: {}", step.subject, fate(&step.fate))).collect();
    words.extend(outcome.refused);
    words.extend(outcome.undecided);
    words.extend(outcome.notes);
    words.extend(outcome.interrupted.then(|| "the person stopped it".to_owned()));
    let hosts = outcome.hosts.into_iter().map(|(host, outcome)| (host, verdict(outcome))).collect();
    let (run, seconds) = (outcome.run, Some(outcome.seconds));
    Past { run, who, command, seconds, plan, planned: Vec::new(), remembered: true, hosts, words }
}

fn fate(fate: &StepFate) -> String {
    match fate {
        StepFate::Done { about, .. } => format!("done, {about}"),
        StepFate::Unneeded => "there was nothing left to do".to_owned(),
        StepFate::Deferred { why, .. } => format!("put off: {why}"),
        StepFate::Failed { why, .. } => format!("failed: {why}"),
        StepFate::Refused { why, .. } => format!("not begun: {}", why.join("; ")),
        StepFate::LeftOut { why } => format!("left out: {why}"),
    }
}

fn verdict(outcome: HostOutcome) -> Fate {
    let (verdict, words) = match outcome {
        HostOutcome::Unchanged => ("unchanged".to_owned(), Vec::new()),
        HostOutcome::Changed => ("changed".to_owned(), Vec::new()),
        HostOutcome::Failed(failure) | HostOutcome::RolledBack(failure) => {
            let words = failure.words.into_iter().chain(failure.put_back).chain([failure.state]).collect();
            (format!("failed in {}: {}", failure.phase, failure.what), words)
        }
        HostOutcome::Deferred { by, .. } => ("changed, some flows are kept".to_owned(), by),
        HostOutcome::Unreachable { reason } => ("not reached".to_owned(), vec![reason]),
        HostOutcome::NotReached { state } => ("left as it was".to_owned(), vec![state]),
    };
    Fate { verdict, words, journal: Vec::new() }
}

/// Asks hosts for their journals and joins them to `runs`; gives why hosts did not answer.
pub fn join(
    runs: &mut BTreeMap<String, Past>,
    hosts: Vec<&Host>,
    connector: &dyn Connector,
    parallel: usize,
) -> BTreeMap<HostName, String> {
    let script = Script::new("read the journals of past runs", SCRIPT).up_to(ANSWER);
    let answers = run::each(hosts, parallel, |host| {
        let answer = connector.connect(host).and_then(|mut transport| transport.run(&script, b""));
        (&host.name, answer.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()))
    });
    let mut away = BTreeMap::new();
    for (host, answer) in answers {
        match answer {
            Ok(text) => parse(host, &text, runs),
            Err(error) => drop(away.insert(host.clone(), error.to_string())),
        }
    }
    away
}

/// Reads what one host says.
fn parse(host: &HostName, text: &str, runs: &mut BTreeMap<String, Past>) {
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        let mut words = line.split(' ');
        let (Some("run"), Some(run)) = (words.next(), words.next().filter(|run| is_run(run))) else { continue };
        let ended: Option<i64> = words.next().and_then(|seconds| seconds.parse().ok());
        let mut journal = Vec::new();
        while let Some(line) = lines.next_if(|line| line.starts_with('\t')) {
            journal.push(report::phrase(line));
        }
        let new = || Past {
            run: run.to_owned(),
            who: None,
            command: None,
            seconds: None,
            plan: None,
            planned: Vec::new(),
            remembered: false,
            hosts: BTreeMap::new(),
            words: Vec::new(),
        };
        let past = runs.entry(run.to_owned()).or_insert_with(new);
        if let Some(staged) = journal.iter().find_map(|line| line.strip_prefix("staged by ")) {
            let (who, command) = staged.split_once(": ").map_or((staged, None), |(who, command)| (who, Some(command)));
            past.who.get_or_insert_with(|| who.to_owned());
            past.command = past.command.take().or(command.map(ToOwned::to_owned));
        }
        if !past.remembered
            && let (Some(ended), Some(began)) = (ended, began(run))
        {
            #[expect(clippy::cast_precision_loss, reason = "seconds of a run")]
            let took = (ended - began).max(0) as f64;
            past.seconds = Some(past.seconds.map_or(took, |known| known.max(took)));
        }
        let told = told(&journal);
        let fate = past.hosts.entry(host.clone()).or_insert_with(|| Fate { verdict: told, ..Fate::default() });
        fate.journal = journal;
    }
}

/// What a journal comes to.
fn told(journal: &[String]) -> String {
    let failed = journal.iter().find_map(|line| line.split_once(" failed at "));
    let back = journal.iter().rev().find_map(|line| line.split_once(" put back").map(|(_, rest)| rest));
    if let Some((phase, what)) = failed {
        return match back {
            Some("") => format!("failed in {phase}: {what}; put back"),
            Some(rest) => format!("failed in {phase}: {what}; put back{rest}"),
            None => format!("failed in {phase}: {what}"),
        };
    }
    let phases = |word: &str| -> Vec<&str> { journal.iter().filter_map(|line| line.strip_suffix(word)).collect() };
    let (begun, done) = (phases(" begins"), phases(" done"));
    match begun.iter().find(|phase| !done.contains(phase)) {
        Some(phase) if back.is_none() => format!("cut off in {phase}"),
        Some(phase) => format!("{phase} was put back"),
        None if done.is_empty() => "staged, or changed rules alone".to_owned(),
        None => format!("changed: {} done", count(done.len(), "phase")),
    }
}

/// When a run began, seconds since 1970, as its name says.
pub fn began(run: &str) -> Option<i64> {
    let format = time::macros::format_description!("[year][month][day]T[hour][minute][second]");
    let time = time::PrimitiveDateTime::parse(run.get(..15)?, format).ok()?;
    Some(time.assume_utc().unix_timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_alone_tell_of_a_run() {
        let mut runs = BTreeMap::new();
        let text = "run 20261123T184501-k7q2xm 1795459510\n\tstaged by ops@desk: infra apply x.yml --yes\n\tweb begins\n\tweb reload nginx.service\n\
                    \tweb done\nrun 20261123T190000-aaaaaa 1795460401\n\tstaged by eve@lap\n\tedge begins\n\tedge failed at haproxy.service\n\tedge put back\n\
                    run ../../etc 5\n\tx\nrun 20261123T200000-bbbbbb x\n\tstaged by a@b: c\u{1b}[2J\n\tweb begins\n";
        parse(&"web1".parse().unwrap(), text, &mut runs);
        let host: HostName = "web1".parse().unwrap();
        let all: Vec<_> = runs
            .values()
            .map(|past| {
                (
                    past.who.as_deref().unwrap(),
                    past.command.as_deref(),
                    past.seconds,
                    past.hosts[&host].verdict.as_str(),
                )
            })
            .collect();
        assert_eq!(
            all,
            [
                ("ops@desk", Some("infra apply x.yml --yes"), Some(9.0), "changed: 1 phase done"),
                ("eve@lap", None, Some(1.0), "failed in edge: haproxy.service; put back"),
                ("a@b", Some("c\\u{1b}[2J"), None, "cut off in web"),
            ]
        );
    }

    #[test]
    fn what_the_state_tells_counts_more() {
        let state = tempfile::tempdir().unwrap();
        let host: HostName = "web1".parse().unwrap();
        let hosts = [(host.clone(), HostOutcome::Changed)].into();
        let outcome = Outcome { run: "20261123T184501-k7q2xm".into(), hosts, seconds: 4.5, ..Outcome::default() };
        crate::fleet::history::save_outcome(state.path(), &outcome).unwrap();
        for damaged in ["", "{bad", "[]"] {
            let file = state.path().join("runs/20261122T000000.json");
            fs_err::write(&file, damaged).unwrap();
            assert_eq!(remembered(state.path()).unread, [file]);
        }
        let mut runs = remembered(state.path()).runs;
        parse(&host, "run 20261123T184501-k7q2xm 1795459999\n\tweb begins\n", &mut runs);
        let past = &runs["20261123T184501-k7q2xm"];
        assert_eq!((past.seconds, past.remembered), (Some(4.5), true));
        assert_eq!((past.hosts[&host].verdict.as_str(), past.hosts[&host].journal.len()), ("changed", 1));
        assert!(past.who.as_ref().is_some_and(|who| who.contains('@')) && past.command.is_some());
    }

    #[test]
    fn names_of_runs() {
        for (text, is) in [
            ("20261123T184501", true),
            ("20261123T184501-k7q2xm", true),
            ("20261123T184501-k7q2xm-seed", true),
            ("inventory.yml", false),
            ("20261123T18450", false),
            ("20261123T184501-../x", false),
        ] {
            assert_eq!(is_run(text), is, "{text}");
        }
        for (text, begins) in [
            ("20261123T184501-k7", true),
            ("20261123T18", true),
            ("20261123", true),
            ("2026", true),
            ("202", false),
            ("2026-11", false),
            ("shop", false),
            ("", false),
        ] {
            assert_eq!(begins_run(text), begins, "{text}");
        }
    }
}
