//! Carries a plan out on one host: takes the plan's actions phase by phase, gives for each phase what was seen, or a
//! failure that says what was put back. Every step is one script that finishes on the host, whatever becomes of us.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use crate::base::materials::Materials;
use crate::base::net::HostName;
use crate::base::sh::quote;
use crate::host::commit::{self, list, make_folder};
use crate::host::drain;
use crate::host::lock::RECORDS;
use crate::host::report;
use crate::host::transport::{Output, Script, Transport, TransportError};
use crate::host::wire::{self, Live, Pairs, WIRE};
use crate::plan::plan::{Action, HostPlan};
use crate::plan::ruleset::Ruleset;
use crate::plan::state::{DesiredHost, Drain, Phase, Probe, Recorded};
use crate::plan::wanted::kept_copy;
use crate::service::WAYS;
use crate::service::firewall::script as firewall;

/// Opens one more connection to the host; the armed firewall is confirmed over a new one only.
pub type Reconnect<'a> = dyn Fn() -> Result<Box<dyn Transport>, TransportError> + Send + Sync + 'a;

/// What is told while a step is under way, redacted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    /// What a person should know at once: what is waited for, in one sentence.
    Note(String),
    /// How far a long step is.
    Progress(String),
}

/// Tells it at once.
pub type Tell<'a> = dyn Fn(Told) + Send + 'a;

/// Why a step failed on a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepError {
    /// File, unit, check or probe.
    pub what: String,
    /// The service's own words, redacted.
    pub words: Vec<String>,
    /// What was put back.
    pub put_back: Option<String>,
    /// How the host stands now.
    pub now: Now,
    /// Whether the files and units of the step are as planned all the same: its rules alone failed.
    pub files: bool,
}

/// How a host stands after a failed step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Now {
    /// As before the step.
    AsBefore,
    /// The armed change returned to the old rules by itself.
    RolledBack,
    /// Not everything could be put back.
    Mixed,
    /// Files and units are as before the step; what is no file and cannot be undone stays.
    Stays,
    /// The step was killed half-way; the next run, or a boot, puts the old files back.
    Halved,
    /// The connection broke; the host finishes or puts back on its own.
    Unknown,
}

/// What a phase has told when it was done.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Committed {
    /// Advice, each a sentence.
    pub advice: Vec<String>,
    /// Who of before still serves, in the services' words, where that was asked.
    pub former: Option<Vec<String>>,
}

/// One host under change.
pub struct Executor<'a> {
    /// The host's name.
    pub host: HostName,
    /// The run's name, `20261123T184501-k7q2xm`.
    pub run: String,
    /// Who runs it, from where; for the journal.
    pub who: String,
    /// Values behind the sentinels.
    pub materials: &'a Materials,
    /// The connection.
    pub transport: Box<dyn Transport>,
    /// Another connection.
    pub reconnect: Box<Reconnect<'a>>,
    /// Addresses of the host that this machine reaches by itself: what is open there stays open when rules are loaded.
    pub here: Vec<IpAddr>,
    /// To whoever looks on.
    pub tell: Box<Tell<'a>>,
    /// How units take files while they run, as in [`DesiredHost::swaps`].
    pub swaps: &'a BTreeMap<String, String>,
    /// The inventory's name, which the host keeps as its owner.
    pub owner: Option<HostName>,
    /// The manifest as it stands on the host.
    pub manifest: BTreeMap<String, Recorded>,
    /// What the host keeps of this run beside its journal, by name: what it was wanted to be, and which run this one takes back.
    pub records: BTreeMap<&'static str, String>,
}

impl Executor<'_> {
    /// A step that changes something: it does so under the lock of its own run only.
    fn script(&self, title: &str, body: &str, timeout: Duration) -> Script {
        let ours = include_str!("scripts/ours.sh");
        self.harmless(title, &format!("{ours}if lost; then refuse 'the host lock' \"$words\"; fi\n{body}"), timeout)
    }

    /// A step that changes nothing.
    fn harmless(&self, title: &str, body: &str, timeout: Duration) -> Script {
        let (run, who) = (quote(&self.run), quote(&self.who));
        let head = format!("RUN={run}\nWHO={who}\n{WAYS}\n{WIRE}\n{RECORDS}\n{}\n", include_str!("scripts/lib.sh"));
        Script::new(title, format!("{head}{body}")).within(timeout)
    }

    /// Runs a step. `ended` is how the host stands where it has killed the step itself, because the time for it was over.
    fn run(&mut self, script: &Script, stdin: &[u8], ended: Now) -> Result<Output, StepError> {
        let (mut live, materials, tell) = (Live::default(), self.materials, &self.tell);
        let mut listen = |answer: &[u8]| {
            for (key, value) in live.pairs(answer).iter() {
                let text = || report::phrase(&materials.redact(value));
                match key {
                    "note" => tell(Told::Note(text())),
                    "progress" => tell(Told::Progress(text())),
                    _ => {}
                }
            }
        };
        self.transport.run_told(script, stdin, &mut listen).map_err(|error| StepError {
            what: script.title.clone(),
            words: vec![error.to_string()],
            put_back: None,
            now: if matches!(error, TransportError::Ended { .. }) { ended } else { Now::Unknown },
            files: false,
        })
    }

    /// Exit 0 gives the pairs; 10 to 12 are failures that the script tells about itself; with anything else it did not come to its
    /// end, and the host stands as `ended` says.
    fn judge(&self, title: &str, output: &Output, ended: Now) -> Result<Pairs, StepError> {
        let pairs = wire::pairs(&output.stdout);
        if output.ok() {
            return Ok(pairs);
        }
        let said =
            pairs.last("words").map_or_else(|| String::from_utf8_lossy(&output.stderr).into_owned(), str::to_owned);
        // Shortened, a secret would not be known any more.
        let phrase = |text: &str| report::phrase(&self.materials.redact(text));
        Err(StepError {
            what: phrase(pairs.last("failed").unwrap_or(title)),
            words: report::words(&self.materials.redact(&said)),
            put_back: pairs.last("put_back").map(phrase),
            now: match output.status {
                10 => Now::AsBefore,
                11 => Now::Mixed,
                12 => Now::Stays,
                _ => ended,
            },
            files: false,
        })
    }

    /// Uploads everything new but what stands already when all others are staged, and lets the daemons check it; gives the titles
    /// of the checks that passed.
    ///
    /// # Errors
    /// The check that refused, with its words. Nothing was changed.
    pub fn stage(&mut self, plan: &HostPlan, desired: &DesiredHost) -> Result<Vec<String>, StepError> {
        let phases = || plan.phases.range(Phase::Stage..);
        let mut upload = self.upload(phases().map(|(phase, actions)| (*phase, actions.as_slice())), &self.records)?;
        let mut passed = Vec::new();
        if upload.changes {
            let mut seen = upload.views(&self.run);
            // Twice where something goes: what is to be removed stands beside the new until `Narrow`.
            let views: &[&str] = if upload.removes { &["with", "without"] } else { &["with"] };
            for view in views {
                seen.push_str(&format!("stage_view {view}\n"));
                for check in &desired.checks {
                    seen.push_str(&format!("check {} {}\n", quote(&check.title), quote(&check.command)));
                    passed.push(check.title.clone());
                }
            }
            upload.text.push_str(&format!("in_views {}\n", quote(&seen)));
        }
        passed.extend(phases().flat_map(|(_, actions)| actions).find_map(|a| match a {
            Action::Firewall { to, .. } => Some(firewall::check_title(to.backend).to_owned()),
            _ => None,
        }));
        passed.sort_unstable();
        passed.dedup();
        self.send(upload)?;
        Ok(passed)
    }

    /// What is new in these phases, and the beginning of the script that takes it.
    fn upload<'p>(
        &self,
        phases: impl IntoIterator<Item = (Phase, &'p [Action])>,
        records: &BTreeMap<&'static str, String>,
    ) -> Result<Upload, StepError> {
        let mut upload = tar::Builder::new(Vec::new());
        let mut add = |path: &str, text: &str, what: &str| {
            append(&mut upload, path, text.as_bytes()).map_err(|e| local(what, &e.to_string()))
        };
        let (mut body, mut folders, mut makes) = (String::new(), Vec::new(), String::new());
        let (mut files, mut staged, mut gones) = (Vec::new(), Vec::new(), Vec::new());
        let (mut kept, mut also) = (String::new(), Vec::new());
        for (name, text) in records {
            add(&format!("records/{name}"), text, "upload")?;
        }
        for (phase, actions) in phases {
            for (name, text) in commit::records(actions).map_err(|(what, why)| local(&what, &why))? {
                add(&format!("{phase}.tasks/{name}"), &text, "upload")?;
            }
            for action in actions {
                match action {
                    Action::Write { path, file, .. } => {
                        files.push(path.clone());
                        staged.push(format!("{phase}:{path}"));
                        let share = self.materials.share(&self.host);
                        let kept_there = kept_copy(&file.body.text);
                        // Whoever could read the file that comes back could read it before.
                        if kept_there.is_none() && share.is_secret(&file.body.text) && file.access.mode & 0o007 != 0 {
                            return Err(local(path, "it holds a secret, and everyone could read it"));
                        }
                        if let Some(digest) = kept_there {
                            kept.push_str(&format!("find_kept {phase} {} {digest}\n", quote(path)));
                        } else {
                            let text = share.materialize(&file.body.text).map_err(|e| local(path, &e.to_string()))?;
                            add(&format!("{phase}{path}"), &text, path)?;
                        }
                        let access = &file.access;
                        body.push_str(&format!(
                            "own {phase} {} {} {} {:04o}\n",
                            quote(path),
                            quote(&access.owner),
                            quote(&access.group),
                            access.mode
                        ));
                    }
                    Action::MakeFolder { path, access, .. } => {
                        folders.push(path.clone());
                        makes.push_str(&make_folder(path, access));
                    }
                    Action::Remove { path, .. } => gones.push(path.clone()),
                    Action::Firewall { to, .. } => {
                        also.extend(firewall::written(to.backend));
                        body.push_str(&firewall_check(to));
                    }
                    Action::Install { .. }
                    | Action::Adopt { .. }
                    | Action::Follow { .. }
                    | Action::Set { .. }
                    | Action::Hold { .. }
                    | Action::Perform { .. }
                    | Action::Undo { .. } => {}
                }
            }
        }
        let stream = upload.into_inner().map_err(|e| local("upload", &e.to_string()))?;
        let text = format!(
            "files={}\ngones={}\nfolders={}\nalso={}\nfind_all_kept() {{\n{kept}:\n}}\n{}\n{body}",
            list(&files),
            list(&gones),
            list(&folders),
            list(&also),
            include_str!("scripts/stage.sh")
        );
        let view = format!("staged_files={}\ngones={}\nmake_folders() {{\n{makes}:\n}}\n", list(&staged), list(&gones));
        let (changes, removes) = (!files.is_empty() || !gones.is_empty(), !gones.is_empty());
        Ok(Upload { stream, text, view, changes, removes })
    }

    fn send(&mut self, upload: Upload) -> Result<(), StepError> {
        let script = self.script("stage", &(upload.text + "stage_end\n"), Duration::from_mins(3));
        let output = self.run(&script, &upload.stream, Now::AsBefore)?;
        self.judge(&script.title, &output, Now::AsBefore).map(|_| ())
    }

    /// One phase: all that is no rule, and the phase's probes; then its firewall change, if it has one. Gives advice.
    ///
    /// # Errors
    /// What failed, and what was put back.
    pub fn commit(&mut self, phase: Phase, actions: &[Action], probes: &[Probe]) -> Result<Vec<String>, StepError> {
        Ok(self.commit_and_ask(phase, actions, probes, &[])?.advice)
    }

    /// The same, and asks in the end who of before still serves, by `drains`.
    ///
    /// # Errors
    /// As for [`Self::commit`].
    pub fn commit_and_ask(
        &mut self,
        phase: Phase,
        actions: &[Action],
        probes: &[Probe],
        drains: &[Drain],
    ) -> Result<Committed, StepError> {
        let mut committed = Committed::default();
        let files = actions.iter().any(|a| !matches!(a, Action::Firewall { .. }));
        // What comes before the others are staged was not uploaded with them.
        if phase < Phase::Stage
            && actions.iter().any(|a| !matches!(a, Action::Install { .. } | Action::Firewall { .. }))
        {
            let upload = self.upload([(phase, actions)], &BTreeMap::new())?;
            self.send(upload)?;
        }
        if files || actions.is_empty() {
            committed = self.commit_files(phase, actions, (probes, drains))?;
        }
        for action in actions {
            if let Action::Firewall { to, .. } = action {
                let loaded = match action.adds_to() {
                    Some(from) => self.add_rules(phase, &from, to),
                    None => self.firewall(phase, to),
                };
                loaded.map_err(|error| StepError { files, ..error })?;
            }
        }
        Ok(committed)
    }

    fn commit_files(
        &mut self,
        phase: Phase,
        actions: &[Action],
        seen_by: (&[Probe], &[Drain]),
    ) -> Result<Committed, StepError> {
        let share = self.materials.share(&self.host);
        let commit = commit::commit(phase, actions, seen_by, (self.owner.as_ref(), &self.manifest), self.swaps, share)
            .map_err(|(what, why)| local(&what, &why))?;
        let script = self.script(phase.as_str(), &commit.text, commit.limit).grace(commit.grace);
        let packages = actions.iter().all(|a| matches!(a, Action::Install { .. }));
        let ended = if packages && !actions.is_empty() { Now::AsBefore } else { Now::Halved };
        let output = self.run(&script, &commit.stdin, ended)?;
        let pairs = self.judge(&script.title, &output, ended)?;
        self.manifest = commit.manifest;
        let former = pairs.last("left").map(|_| drain::former(&pairs));
        Ok(Committed { advice: self.advice(&pairs), former })
    }

    /// Looks at what should be seen, changes nothing.
    ///
    /// # Errors
    /// The probe that did not come true.
    pub fn look(&mut self, phase: Phase, probes: &[Probe]) -> Result<Vec<String>, StepError> {
        let body = format!(
            "follows=''\n{}\nprobes() {{\n{}:\n}}\nprobes && exit 0\nrefuse \"$failed\" \"$words\"\n",
            commit::functions(),
            commit::looks(probes)
        );
        let script = self.harmless(phase.as_str(), &body, Duration::from_mins(1) + commit::patience(probes));
        let output = self.run(&script, b"", Now::AsBefore)?;
        let pairs = self.judge(&script.title, &output, Now::AsBefore)?;
        Ok(self.advice(&pairs))
    }

    fn advice(&self, pairs: &Pairs) -> Vec<String> {
        pairs.all("advice").map(|text| report::words(&self.materials.redact(text)).join(" ")).collect()
    }
}

/// What is sent to a host before anything is changed there.
struct Upload {
    /// A tar stream.
    stream: Vec<u8>,
    /// The script that takes it.
    text: String,
    /// What the shell of the views has to know.
    view: String,
    /// Whether files come or go.
    changes: bool,
    /// Whether files go.
    removes: bool,
}

impl Upload {
    /// The beginning of the text of the views.
    fn views(&self, run: &str) -> String {
        format!("RUN={}\n{WAYS}\n{WIRE}\n{}\n{}", quote(run), include_str!("scripts/view.sh"), self.view)
    }
}

fn local(what: &str, why: &str) -> StepError {
    StepError { what: what.to_owned(), words: vec![why.to_owned()], put_back: None, now: Now::AsBefore, files: false }
}

fn append(upload: &mut tar::Builder<Vec<u8>>, path: &str, bytes: &[u8]) -> std::io::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_size(bytes.len() as u64);
    header.set_mode(0o600);
    header.set_mtime(std::time::SystemTime::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_secs()));
    upload.append_data(&mut header, path, bytes)
}

fn firewall_check(to: &Ruleset) -> String {
    let (script, title) = (firewall::check_script(to), quote(firewall::check_title(to.backend)));
    format!("words=$(\nexec 2>&1\n{script}\n) || refuse {title} \"$words\"\n")
}
