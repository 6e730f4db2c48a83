//! Carries a plan out on one host: takes the plan's actions phase by phase, gives for each phase what was seen, or a
//! failure that says what was put back. Every step is one script that finishes on the host, whatever becomes of us.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use time::OffsetDateTime;

use crate::base::net::HostName;
use crate::base::secret::Materials;
use crate::host::report::{self, Pairs};
use crate::host::transport::{Output, Script, Transport, TransportError};
use crate::inventory::site::Backend;
use crate::plan::manifest;
use crate::plan::plan::{Action, HostPlan};
use crate::plan::ruleset::Ruleset;
use crate::plan::state::{DesiredHost, Folder, Follow, Phase, Probe, Recorded};
use crate::service::firewall::script::{self as firewall, Status, WINDOW};

/// Opens one more connection to the host; the armed firewall is confirmed over a new one only.
pub type Reconnect<'a> = dyn Fn() -> Result<Box<dyn Transport>, TransportError> + Send + Sync + 'a;

/// Says at once what is waited for, in one sentence.
pub type Tell<'a> = dyn Fn(String) + Send + 'a;

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
    /// To whoever looks on.
    pub tell: Box<Tell<'a>>,
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
                Action::Write { path, file, .. } => {
                    wrote = true;
                    let text = self.materials.materialize(&file.body.text).map_err(|e| local(path, &e.to_string()))?;
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
            // Twice where something goes: what is to be removed stands beside the new until `Narrow`.
            let views: &[&str] = if gones.is_empty() { &["with"] } else { &["with", "without"] };
            for view in views {
                text.push_str(&format!("stage_view {view}\n"));
                for check in &desired.checks {
                    text.push_str(&format!("check {} {}\n", quote(&check.title), quote(&check.command)));
                    passed.push(check.title.clone());
                }
            }
        }
        passed.extend(plan.phases.values().flatten().find_map(|a| match a {
            Action::Firewall { to, .. } => Some(check_title(to).to_owned()),
            _ => None,
        }));
        passed.sort_unstable();
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
        let mut swaps = Vec::new();
        let mut after = self.manifest.clone();
        for action in actions {
            match action {
                Action::Write { path, file, .. } => {
                    files.push(path.clone());
                    if file.then.values().any(|follow| *follow == Follow::Swap) {
                        swaps.push(path.clone());
                    }
                    after.insert(path.clone(), Recorded::of(file));
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
            "PHASE={phase}\nfiles={}\ngones={}\nfollows={}\nswaps={}\n{}\nmake_folders() {{\n{folders}:\n}}\nprobes() {{\n{looks}:\n}}\ncommit\n",
            list(&files),
            list(&gones),
            list(&follows),
            list(&swaps),
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
        let folder = format!("/var/lib/infra/runs/{}/{phase}", self.run);
        let load = Script::new(format!("{phase}: load rules"), firewall::load_script(to, &folder, WINDOW));
        let began = Instant::now();
        // The load may cut this very connection; whether it worked is for a new one to say.
        if let Ok(output) = self.transport.run(&load, b"")
            && !output.ok()
        {
            return Err(self.refused(&load.title, &output));
        }
        let confirm = Script::new(format!("{phase}: confirm rules"), firewall::confirm_script(to));
        match (self.reconnect)().and_then(|mut new| new.run(&confirm, b"")) {
            Ok(output) if output.ok() => Ok(()),
            Ok(output) => Err(self.refused(&confirm.title, &output)),
            Err(error) => Err(self.locked_out(&error, began)),
        }
    }

    fn refused(&self, title: &str, output: &Output) -> StepError {
        let said = String::from_utf8_lossy(&output.stderr);
        let (now, put_back) = match Status::of(output.status) {
            Status::Done | Status::NotArmed | Status::Refused => (Now::AsBefore, None),
            Status::RolledBack | Status::NothingArmed => {
                (Now::RolledBack, Some("the host's own timer has put the old rules back".to_owned()))
            }
            Status::RollbackFailed => (Now::Mixed, Some("the old rules could not be put back".to_owned())),
            Status::Failed => (Now::Unknown, None),
        };
        let words = report::words(&self.materials.redact(&said));
        StepError { what: title.to_owned(), words, put_back, now }
    }

    /// Nobody gets in through the new rules: the timer on the host brings the old ones back, and that is waited for.
    fn locked_out(&self, cut: &TransportError, loaded: Instant) -> StepError {
        // Without the address, which is another on each host: what they have in common is told once.
        let mut words = vec![match cut {
            TransportError::Unreachable { reason, .. } => reason.clone(),
            other => other.to_string(),
        }];
        let (mut now, mut put_back) = (Now::Unknown, None);
        let until = OffsetDateTime::now_utc() + WINDOW.saturating_sub(loaded.elapsed());
        let (hour, minute, second) = until.to_hms();
        (self.tell)(format!(
            "no new connection gets in; at {hour:02}:{minute:02}:{second:02} UTC its own timer puts the old rules back, \
             which is waited for"
        ));
        while loaded.elapsed() < WINDOW + RETURN {
            let undo = Script::new("undo rules", firewall::undo_script());
            match (self.reconnect)().and_then(|mut new| new.run(&undo, b"")) {
                Ok(output) if output.ok() => {
                    now = Now::RolledBack;
                    put_back = Some(if loaded.elapsed() < WINDOW {
                        "a later connection got in and has put the old rules back".to_owned()
                    } else {
                        format!("the host's own timer has put the old rules back after {} s", WINDOW.as_secs())
                    });
                    break;
                }
                Ok(output) => {
                    words.extend(report::words(&String::from_utf8_lossy(&output.stderr)));
                    now = Now::Mixed;
                    break;
                }
                Err(error) if error.is_unreachable() => std::thread::sleep(Duration::from_secs(1)),
                Err(error) => {
                    words.push(error.to_string());
                    break;
                }
            }
        }
        StepError { what: "a new SSH connection through the new rules".into(), words, put_back, now }
    }
}

/// How long after its timer a host may take until it answers again.
const RETURN: Duration = Duration::from_secs(30);

fn commit_text() -> String {
    [include_str!("../service/restore.sh"), include_str!("scripts/swap.sh"), include_str!("scripts/commit.sh")]
        .join("\n")
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

fn local(what: &str, why: &str) -> StepError {
    StepError { what: what.to_owned(), words: vec![why.to_owned()], put_back: None, now: Now::AsBefore }
}

fn append(upload: &mut tar::Builder<Vec<u8>>, path: &str, bytes: &[u8]) -> std::io::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_size(bytes.len() as u64);
    header.set_mode(0o600);
    header.set_mtime(std::time::SystemTime::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_secs()));
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
    let (script, title) = (firewall::check_script(to), quote(check_title(to)));
    format!("words=$(\nexec 2>&1\n{script}\n) || {{ emit failed {title}; emit words \"$words\"; exit 10; }}\n")
}

fn check_title(to: &Ruleset) -> &'static str {
    match to.backend {
        Backend::Nftables => "nft -c",
        Backend::Iptables => "iptables-restore --test",
    }
}
