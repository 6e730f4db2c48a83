//! Past runs: takes what the controller's state and the hosts' own journals hold, gives each run once. Where the state is lost, the hosts
//! still tell of the last ten runs that changed them.

use std::collections::{BTreeMap, BTreeSet};
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

/// Prints of each run `run NAME SECONDS`, the time of its last line, then its journal, each line after a tab, and behind it the phases
/// whose rules were loaded and stayed, of which the journal says nothing. A run's folder is root's.
const SCRIPT: &str = "cd \"$ROOT/var/lib/infra/runs\" 2>/dev/null || exit 0
for run in *; do
	[ -f \"$run/journal\" ] && [ ! -L \"$run\" ] && [ ! -L \"$run/journal\" ] || continue
	printf 'run %s %s\\n' \"$run\" \"$(stat -c %Y \"$run/journal\")\"
	head -c 65536 \"$run/journal\" | sed 's/^/\t/'
	for loaded in \"$run\"/*/loaded; do
		phase=${loaded%/loaded}
		[ ! -e \"$loaded\" ] || [ -e \"$phase/rolled-back\" ] || printf '\t%s loaded rules\n' \"${phase##*/}\"
	done
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

/// How far a run has come, as the state of the controller that began it says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Course {
    /// It came to its end, well or not.
    Ended,
    /// It is at work now.
    AtWork,
    /// It was killed.
    Killed,
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
    /// How far it has come, where the controller's state tells that.
    pub course: Option<Course>,
    /// What became of each host.
    pub hosts: BTreeMap<HostName, Fate>,
    /// Steps of the controller, advice, and parts that were not begun, each a sentence.
    pub words: Vec<String>,
}

impl Past {
    /// A run of which nothing is known but its name.
    fn unknown(run: &str) -> Self {
        Self {
            run: run.to_owned(),
            who: None,
            command: None,
            seconds: None,
            plan: None,
            planned: Vec::new(),
            remembered: false,
            course: None,
            hosts: BTreeMap::new(),
            words: Vec::new(),
        }
    }
}

/// How the file of a run ends that has begun.
pub(super) const BEGUN: &str = "begun";

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

/// A file of `state/runs` that is there as long as a run has not come to its end.
#[derive(Debug, Serialize, Deserialize)]
pub struct Beginning {
    /// The hosts that it is about to change.
    pub hosts: BTreeSet<HostName>,
    /// Who runs it.
    pub who: Option<String>,
    /// By which command.
    pub command: Option<String>,
}

impl Beginning {
    /// Reads such a file; those of earlier versions have the hosts alone.
    pub fn read(text: &[u8]) -> Option<Self> {
        let hosts = |_| serde_json::from_slice(text).map(|hosts| Self { hosts, who: None, command: None });
        serde_json::from_slice(text).or_else(hosts).ok()
    }

    /// What is known of its run, which is named `run`.
    fn past(self, run: &str, course: Course) -> Past {
        let Self { hosts, who, command } = self;
        let verdict = if course == Course::AtWork { "being changed" } else { "planned to change" };
        let fate = |host| (host, Fate { verdict: verdict.to_owned(), ..Fate::default() });
        let hosts = hosts.into_iter().map(fate).collect();
        Past { who, command, hosts, remembered: true, course: Some(course), ..Past::unknown(run) }
    }
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
    let read = |path: &Path| {
        let text = || fsx::read_bounded(path, fsx::STATE_BYTES).ok();
        if path.extension()? == "json" {
            return Some(text().and_then(|text| Some(past(serde_json::from_slice(&text).ok()?))));
        }
        let run = path.file_stem().filter(|_| path.extension().is_some_and(|ending| ending == BEGUN))?.to_str()?;
        let course = if fsx::is_locked(path) { Course::AtWork } else { Course::Killed };
        let past = text().and_then(|text| Beginning::read(&text)).map(|begun| begun.past(run, course));
        // A run that ends meanwhile takes this file away.
        (past.is_some() || path.exists()).then_some(past)
    };
    let mut all = Remembered::default();
    for path in files {
        match read(&path) {
            // Where both files are there, the run has come to its end.
            Some(Some(past)) if past.course == Some(Course::Ended) => drop(all.runs.insert(past.run.clone(), past)),
            Some(Some(past)) => drop(all.runs.entry(past.run.clone()).or_insert(past)),
            Some(None) => all.unread.push(path),
            None => {}
        }
    }
    for past in all.runs.values_mut().filter(|past| past.plan.is_none()) {
        past.plan = plan_digest(state, &past.run);
    }
    all.unread.sort();
    all
}

/// Where the plan of a run is.
pub(super) fn plan_file(state: &Path, run: &str) -> PathBuf {
    state.join("runs").join(format!("{run}.plan"))
}

/// The digest of the plan of a run, where the state has it.
pub(super) fn plan_digest(state: &Path, run: &str) -> Option<Digest> {
    fsx::read_bounded(&plan_file(state, run), fsx::STATE_BYTES).ok().map(|text| Digest::of(&text))
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
    let (seconds, course) = (Some(outcome.seconds), Some(Course::Ended));
    Past { who, command, seconds, plan, remembered: true, course, hosts, words, ..Past::unknown(&outcome.run) }
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
        let past = runs.entry(run.to_owned()).or_insert_with(|| Past::unknown(run));
        if let Some(staged) = journal.iter().find_map(|line| line.strip_prefix("staged by ")) {
            let (who, command) = staged.split_once(": ").map_or((staged, None), |(who, command)| (who, Some(command)));
            let (who, plan) = who.split_once(BY_PLAN).map_or((who, None), |(who, plan)| (who, Some(plan)));
            past.who.get_or_insert_with(|| who.to_owned());
            past.plan = past.plan.take().or(plan.map(|plan| Digest(plan.to_owned())));
            past.command = past.command.take().or(command.map(ToOwned::to_owned));
        }
        if !matches!(past.course, Some(Course::Ended | Course::AtWork))
            && let (Some(ended), Some(began)) = (ended, began(run))
        {
            #[expect(clippy::cast_precision_loss, reason = "seconds of a run")]
            let took = (ended - began).max(0) as f64;
            past.seconds = Some(past.seconds.map_or(took, |known| known.max(took)));
        }
        // Of a run that was killed the hosts alone know how far it came.
        if past.course == Some(Course::Killed) {
            past.hosts.remove(host);
        }
        let new = || Fate { verdict: told(&journal), ..Fate::default() };
        let fate = past.hosts.entry(host.clone()).or_insert_with(new);
        fate.journal = journal;
    }
}

/// Between who ran it and the digest of its plan, in a host's journal.
const BY_PLAN: &str = " by plan ";

/// What a host's journal says of a run when it is staged there: who ran it, by which plan and command.
pub(super) fn staged(who: &str, plan: Option<&Digest>, command: &str) -> String {
    let plan = plan.map(|plan| format!("{BY_PLAN}{plan}")).unwrap_or_default();
    format!("{who}{plan}: {command}")
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
    let (begun, done, loaded) = (phases(" begins"), phases(" done"), phases(" loaded rules"));
    match begun.iter().find(|phase| !done.contains(phase)) {
        Some(phase) if back.is_none() => format!("cut off in {phase}"),
        Some(phase) => format!("{phase} was put back"),
        None if done.is_empty() && loaded.is_empty() => "left as it was".to_owned(),
        None if done.is_empty() => "changed: rules alone".to_owned(),
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
        let digest = Digest::of(b"plan for shop\n");
        let more = format!(
            "run 20261123T210000-cccccc 1795467601\n\tstaged by {}\n\twiden loaded rules\n\tnarrow loaded rules\n\
             run 20261123T220000-dddddd 1795471201\n\tstaged by a@b: c\n",
            staged("ops@desk", Some(&digest), "infra apply: x")
        );
        let (mut others, web2) = (BTreeMap::new(), "web2".parse::<HostName>().unwrap());
        parse(&web2, &more, &mut others);
        let told: Vec<_> = others.values().map(|past| past.hosts[&web2].verdict.as_str()).collect();
        assert_eq!(told, ["changed: rules alone", "left as it was"]);
        let first = others.values().next().unwrap();
        assert_eq!((first.who.as_deref(), first.plan.as_ref()), (Some("ops@desk"), Some(&digest)));
        assert_eq!(first.command.as_deref(), Some("infra apply: x"));
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
    fn of_a_run_that_was_killed_the_hosts_tell_how_far_it_came() {
        let hosts = ["web1", "web2"].map(|host| host.parse::<HostName>().unwrap());
        for (course, verdicts) in [
            (Course::Killed, ["cut off in web", "planned to change"]),
            (Course::AtWork, ["being changed", "being changed"]),
        ] {
            let begun = Beginning { hosts: hosts.clone().into(), who: None, command: Some("infra apply x.yml".into()) };
            let run = "20261123T184501-k7q2xm";
            let mut runs = BTreeMap::from([(run.to_owned(), begun.past(run, course))]);
            parse(&hosts[0], &format!("run {run} 1795459510\n\tstaged by a@b: c\n\tweb begins\n"), &mut runs);
            let past = &runs[run];
            assert_eq!(hosts.clone().map(|host| past.hosts[&host].verdict.clone()), verdicts);
            assert_eq!((past.who.as_deref(), past.command.as_deref()), (Some("a@b"), Some("infra apply x.yml")));
            assert_eq!(past.seconds, (course == Course::Killed).then_some(9.0));
        }
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
