//! Carries a plan out on one host: takes the plan's actions phase by phase, gives for each phase what was seen, or a
//! failure that says what was put back. Every step is one script that finishes on the host, whatever becomes of us.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::base::net::HostName;
use crate::base::secret::Materials;
use crate::host::report::{self, Pairs};
use crate::host::transport::{Output, Script, Transport, TransportError};
use crate::plan::manifest;
use crate::plan::plan::{Action, HostPlan};
use crate::plan::ruleset::Ruleset;
use crate::plan::state::{DesiredHost, Folder, Phase, Probe, Recorded};
use crate::service::firewall::script as firewall;

/// Opens one more connection to the host; the armed firewall is confirmed over a new one only.
pub type Reconnect<'a> = dyn Fn() -> Result<Box<dyn Transport>, TransportError> + Send + Sync + 'a;

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
    /// The connection broke; the host finishes or puts back on its own.
    Unknown,
}

/// One host under change.
pub struct Executor<'a> {
    /// The host's name.
    pub host: HostName,
    /// The run's name, `20261123T184501`.
    pub run: String,
    /// Who runs it, from where; for the journal.
    pub who: String,
    /// Values behind the sentinels.
    pub materials: &'a Materials,
    /// The connection.
    pub transport: Box<dyn Transport>,
    /// Another connection.
    pub reconnect: Box<Reconnect<'a>>,
    /// The manifest as it stands on the host.
    pub manifest: BTreeMap<String, Recorded>,
}

/// `sh`'s own quoting of one word.
fn quote(word: &str) -> String {
    shlex::try_quote(word).map_or_else(|_| "''".to_owned(), std::borrow::Cow::into_owned)
}

fn list<'s>(words: impl IntoIterator<Item = &'s String>) -> String {
    quote(&words.into_iter().map(String::as_str).collect::<Vec<_>>().join(" "))
}

impl Executor<'_> {
    fn script(&self, title: &str, body: &str, timeout: Duration) -> Script {
        let head = format!("RUN={}\nWHO={}\n{}\n", quote(&self.run), quote(&self.who), include_str!("scripts/lib.sh"));
        Script::new(title, format!("{head}{body}")).within(timeout)
    }

    fn run(&mut self, script: &Script, stdin: &[u8]) -> Result<Output, StepError> {
        self.transport.run(script, stdin).map_err(|error| StepError {
            what: script.title.clone(),
            words: vec![error.to_string()],
            put_back: None,
            now: Now::Unknown,
        })
    }

    /// Exit 0 gives the pairs; 10 and 11 are failures that the script tells about itself; anything else is its stderr.
    fn judge(&self, title: &str, output: &Output) -> Result<Pairs, StepError> {
        let pairs = report::pairs(&output.stdout);
        if output.ok() {
            return Ok(pairs);
        }
        let said =
            pairs.last("words").map_or_else(|| String::from_utf8_lossy(&output.stderr).into_owned(), str::to_owned);
        Err(StepError {
            what: pairs.last("failed").unwrap_or(title).to_owned(),
            words: report::words(&self.materials.redact(&said)),
            put_back: pairs.last("put_back").map(ToOwned::to_owned),
            now: if output.status == 11 { Now::Mixed } else { Now::AsBefore },
        })
    }

    /// Installs packages; nothing of them is started.
    ///
    /// # Errors
    /// apt's own words.
    pub fn install(&mut self, packages: &[String]) -> Result<(), StepError> {
        let body = format!("PACKAGES={}\n{}", list(packages), include_str!("scripts/install.sh"));
        let script = self.script("install packages", &body, Duration::from_mins(20));
        let output = self.run(&script, b"")?;
        self.judge(&script.title, &output).map(|_| ())
    }

    /// Uploads everything new and lets the daemons check it; gives the titles of the checks that passed.
    ///
    /// # Errors
    /// The check that refused, with its words. Nothing was changed.
    pub fn stage(&mut self, plan: &HostPlan, desired: &DesiredHost) -> Result<Vec<String>, StepError> {
        let mut upload = tar::Builder::new(Vec::new());
        let (mut body, mut folders, mut gones) = (String::new(), Vec::new(), Vec::new());
        let mut wrote = false;
        for (phase, action) in plan.phases.iter().flat_map(|(phase, actions)| actions.iter().map(move |a| (phase, a))) {
            match action {
                Action::Write { path, body: content, file, .. } => {
                    wrote = true;
                    let text = self.materials.materialize(&content.text).map_err(|e| local(path, &e.to_string()))?;
                    append(&mut upload, &format!("{phase}{path}"), text.as_bytes())
                        .map_err(|e| local(path, &e.to_string()))?;
                    let access = &file.access;
                    body.push_str(&format!(
                        "own {phase} {} {} {} {:04o}\n",
                        quote(path),
                        quote(&access.owner),
                        quote(&access.group),
                        access.mode
                    ));
                }
                Action::MakeFolder { path, .. } => folders.push(path.clone()),
                Action::Remove { path, .. } => gones.push(path.clone()),
                Action::Firewall { to, .. } => body.push_str(&firewall_check(to)),
                Action::Install { .. } | Action::Adopt { .. } | Action::Follow { .. } => {}
            }
        }
        let stream = upload.into_inner().map_err(|e| local("upload", &e.to_string()))?;
        let mut text =
            format!("gones={}\nfolders={}\n{}\n{body}", list(&gones), list(&folders), include_str!("scripts/stage.sh"));
        let mut passed = Vec::new();
        if wrote || !gones.is_empty() {
            let views: &[&[Phase]] = &[&BEFORE_NARROW, &[Phase::Narrow]];
            for (nth, view) in views.iter().enumerate() {
                if nth > 0
                    && !plan
                        .phases
                        .get(&Phase::Narrow)
                        .is_some_and(|a| a.iter().any(|a| matches!(a, Action::Write { .. })))
                {
                    continue;
                }
                let phases: Vec<&str> =
                    BEFORE_NARROW.iter().chain(if nth > 0 { *view } else { &[] }).map(|p| p.as_str()).collect();
                text.push_str(&format!("stage_view {}\n", phases.join(" ")));
                for check in &desired.checks {
                    text.push_str(&format!("check {} {}\n", quote(&check.title), quote(&check.command)));
                    passed.push(check.title.clone());
                }
            }
        }
        passed.extend(plan.phases.values().flatten().find_map(|a| match a {
            Action::Firewall { to, .. } => Some(firewall::check_title(to).to_owned()),
            _ => None,
        }));
        passed.dedup();
        text.push_str("stage_end\n");
        let script = self.script("stage", &text, Duration::from_mins(3));
        let output = self.run(&script, &stream)?;
        self.judge(&script.title, &output)?;
        Ok(passed)
    }

    /// One phase: files, folders, units and probes; then its firewall change, if it has one. Gives advice.
    ///
    /// # Errors
    /// What failed, and what was put back.
    pub fn commit(&mut self, phase: Phase, actions: &[Action], probes: &[Probe]) -> Result<Vec<String>, StepError> {
        let mut advice = Vec::new();
        if actions.iter().any(|a| !matches!(a, Action::Install { .. } | Action::Firewall { .. })) || actions.is_empty()
        {
            advice = self.commit_files(phase, actions, probes)?;
        }
        for action in actions {
            if let Action::Firewall { to, .. } = action {
                self.firewall(phase, to)?;
            }
        }
        Ok(advice)
    }

    fn commit_files(&mut self, phase: Phase, actions: &[Action], probes: &[Probe]) -> Result<Vec<String>, StepError> {
        let (mut files, mut gones, mut follows, mut folders) = (Vec::new(), Vec::new(), Vec::new(), String::new());
        let mut after = self.manifest.clone();
        for action in actions {
            match action {
                Action::Write { path, body, file, .. } => {
                    files.push(path.clone());
                    let recorded = Recorded { digest: body.digest.clone(), phase: file.phase, then: file.then.clone() };
                    after.insert(path.clone(), recorded);
                }
                Action::Adopt { path, recorded } => {
                    after.insert(path.clone(), recorded.clone());
                }
                Action::Remove { path, .. } => {
                    gones.push(path.clone());
                    after.remove(path);
                }
                Action::MakeFolder { path, access, .. } => {
                    folders.push_str(&make_folder(path, &Folder { phase, access: access.clone() }));
                }
                Action::Follow { unit, follow, .. } => follows.push(format!("{unit}={follow}")),
                Action::Install { .. } | Action::Firewall { .. } => {}
            }
        }
        let looks = looks(probes);
        let body = format!(
            "PHASE={phase}\nfiles={}\ngones={}\nfollows={}\n{}\nmake_folders() {{\n{folders}:\n}}\nprobes() {{\n{looks}:\n}}\ncommit\n",
            list(&files),
            list(&gones),
            list(&follows),
            commit_text(),
        );
        let script = self.script(phase.as_str(), &body, Duration::from_mins(5) + patience(probes));
        let output = self.run(&script, format!("{}# end\n", manifest::to_text(&after)).as_bytes())?;
        let pairs = self.judge(&script.title, &output)?;
        self.manifest = after;
        Ok(self.advice(&pairs))
    }

    /// Looks at what should be seen, changes nothing.
    ///
    /// # Errors
    /// The probe that did not come true.
    pub fn look(&mut self, phase: Phase, probes: &[Probe]) -> Result<Vec<String>, StepError> {
        let body = format!(
            "follows=''\n{}\nprobes() {{\n{}:\n}}\nprobes && exit 0\nemit failed \"$failed\"\nemit words \"$words\"\nexit 10\n",
            commit_text(),
            looks(probes)
        );
        let script = self.script(phase.as_str(), &body, Duration::from_mins(1) + patience(probes));
        let output = self.run(&script, b"")?;
        let pairs = self.judge(&script.title, &output)?;
        Ok(self.advice(&pairs))
    }

    fn advice(&self, pairs: &Pairs) -> Vec<String> {
        pairs.all("advice").map(|text| report::words(&self.materials.redact(text)).join(" ")).collect()
    }

    /// Loads rules with a timer that takes them back, and disarms it over a new connection.
    fn firewall(&mut self, phase: Phase, to: &Ruleset) -> Result<(), StepError> {
        let load = self.script(&format!("{phase}: load rules"), &firewall::load_script(to), Duration::from_secs(60));
        // The load may cut this very connection; whether it worked is for the new one to say.
        let loaded = self.run(&load, firewall::load_stdin(to).as_bytes());
        if let Ok(output) = &loaded
            && !output.ok()
        {
            return self.judge(&load.title, output).map(|_| ());
        }
        let confirm =
            self.script(&format!("{phase}: confirm rules"), &firewall::confirm_script(to), Duration::from_secs(60));
        let confirmed = (self.reconnect)().and_then(|mut new| new.run(&confirm, firewall::load_stdin(to).as_bytes()));
        match confirmed {
            Ok(output) if output.ok() => Ok(()),
            Ok(output) => {
                let mut error =
                    self.judge(&confirm.title, &output).err().unwrap_or_else(|| local("firewall", "not confirmed"));
                error.now = Now::RolledBack;
                Err(error)
            }
            Err(error) => Err(StepError {
                what: "a new SSH connection through the new rules".into(),
                words: vec![error.to_string()],
                put_back: Some("the old rules come back by the host's own timer".into()),
                now: Now::RolledBack,
            }),
        }
    }
}

fn commit_text() -> String {
    format!("{}\n{}", include_str!("../service/restore.sh"), include_str!("scripts/commit.sh"))
}

fn patience(probes: &[Probe]) -> Duration {
    probes.iter().map(|p| p.within + Duration::from_secs(20)).sum()
}

fn looks(probes: &[Probe]) -> String {
    let mut text = String::new();
    for probe in probes {
        let kind = if probe.advisory { "advisory" } else { "binding" };
        let (title, command) = (quote(&probe.title), quote(&probe.command));
        text.push_str(&format!("probe {kind} {} {title} {command} || return 1\n", probe.within.as_secs()));
    }
    text
}

const BEFORE_NARROW: [Phase; 7] =
    [Phase::Widen, Phase::Primary, Phase::Replica, Phase::App, Phase::Web, Phase::Edge, Phase::Monitor];

fn local(what: &str, why: &str) -> StepError {
    StepError { what: what.to_owned(), words: vec![why.to_owned()], put_back: None, now: Now::AsBefore }
}

fn append(upload: &mut tar::Builder<Vec<u8>>, path: &str, bytes: &[u8]) -> std::io::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_size(bytes.len() as u64);
    header.set_mode(0o600);
    upload.append_data(&mut header, path, bytes)
}

fn make_folder(path: &str, folder: &Folder) -> String {
    let (path, access) = (quote(path), &folder.access);
    let (owner, mode) = (quote(&format!("{}:{}", access.owner, access.group)), access.mode);
    format!(
        "out=$(mkdir -p \"$ROOT\"{path} && chown {owner} \"$ROOT\"{path} && chmod {mode:04o} \"$ROOT\"{path} 2>&1) || fail {path} \"$out\" || return 1\n"
    )
}

fn firewall_check(to: &Ruleset) -> String {
    format!(
        "words=$({}) || {{ emit failed {}; emit words \"$words\"; exit 10; }}\n",
        firewall::check_script(to),
        quote(firewall::check_title(to))
    )
}
