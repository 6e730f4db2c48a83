//! A plan in a file: takes what `diff` saw and would do, gives what `apply --plan` compares. It holds digests of deeds, whole
//! and under a key that stays in the state folder, no text and no secret: without the key nobody can try what a short password
//! would give. A plan holds for a time, and for one run.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ring::hmac;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use time::OffsetDateTime;

use crate::base::fsx;
use crate::base::net::HostName;
use crate::fleet::survey::Prepared;
use crate::inventory::site::{Host, Site};
use crate::plan::plan::{self, Action, HostPlan};
use crate::plan::state::{Digest, Phase};
use crate::plan::step::{Step, StepKind};

/// Changes when what is compared does.
const VERSION: u32 = 7;
/// What a deed is depends on the program that does it.
const INFRA: &str = env!("CARGO_PKG_VERSION");
/// So many reasons are told.
const TOLD: usize = 8;

/// Why a plan cannot be kept, or not be executed as it was shown.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file holds something else.
    #[error("`{}` is not a plan that can be executed: {why}", file.display())]
    NoPlan {
        /// The file.
        file: PathBuf,
        /// What it is instead.
        why: String,
    },
    /// Something else would be executed than was shown.
    #[error("the plan no longer holds, nothing was done: {0}")]
    Moved(String),
    /// Its time is over, or it was carried out already.
    #[error("`{}` holds no longer, nothing was done: {why}", file.display())]
    Over {
        /// The file.
        file: PathBuf,
        /// Since when, or by which run.
        why: String,
    },
    /// The file, or the key in the state folder.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// No key can be made.
    #[error("no random numbers: {0}")]
    NoChance(String),
    /// A deed that JSON cannot hold.
    #[error(transparent)]
    Json(#[from] serde_json::Error),
}

impl Error {
    /// What to do next.
    pub fn help(&self) -> Option<&'static str> {
        match self {
            Self::NoPlan { .. } => Some("make a plan with `infra diff --out FILE`"),
            Self::Moved(_) | Self::Over { .. } => Some("look at a new plan: `infra diff --out FILE`"),
            Self::Io(_) | Self::NoChance(_) | Self::Json(_) => None,
        }
    }
}

/// The plan as it was shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Saved {
    /// The inventory's name.
    name: HostName,
    /// Of nothing: tells whether the key is still the same.
    key: Digest,
    /// Units whose restart a person confirmed when it was shown.
    confirmed: BTreeSet<String>,
    /// Of how long workers of before are waited for: who is left then keeps something open.
    drain: Digest,
    /// What is done on each host.
    hosts: BTreeMap<HostName, Entry>,
    /// What the controller does at the end, by kind and subject; each part of a step by its name.
    steps: BTreeMap<StepKind, BTreeMap<String, BTreeMap<String, Digest>>>,
}

/// A plan in a file, with its term.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Ticket {
    /// Of what is compared.
    version: u32,
    /// Of the program.
    infra: String,
    /// When it was made, seconds since 1970.
    made: i64,
    /// Until when it holds.
    until: i64,
    /// Of the plan and its term: nobody gives it another one without the key.
    seal: Digest,
    /// The plan itself.
    plan: Saved,
}

/// Who has made a plan: read first, as the rest may have another form.
#[derive(Deserialize)]
struct Made {
    version: u32,
    infra: String,
}

/// One host of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
struct Entry {
    /// Of how it is reached: a deed on another machine is another deed.
    reached: Digest,
    /// Of what the host was.
    observed: Digest,
    /// Of what it should be: also what is executed on it to check and to see that it works.
    desired: Digest,
    /// Of what is to be done, whole and in order.
    planned: Digest,
    /// Of each deed, by what a person calls it; says what has moved.
    deeds: BTreeMap<String, Digest>,
}

/// Makes digests that mean nothing without the state folder.
struct Seal(hmac::Key);

impl Seal {
    fn of_state(state: &Path) -> Result<Self, Error> {
        let file = state.join("plan.key");
        // In hexadecimal digits: all that stands in the folder is text.
        let key = match fsx::read_text(&file, fsx::STATE_BYTES) {
            Ok(key) if key.trim_end().len() == 64 => key.trim_end().to_owned(),
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
            _ => {
                let mut chance = [0; 32];
                getrandom::fill(&mut chance).map_err(|e| Error::NoChance(e.to_string()))?;
                let key = data_encoding::HEXLOWER.encode(&chance);
                fsx::private_dir(state)?;
                fsx::write_atomic(&file, format!("{key}\n").as_bytes(), 0o600)?;
                key
            }
        };
        Ok(Self(hmac::Key::new(hmac::HMAC_SHA256, key.as_bytes())))
    }

    /// Of all that a value holds; a type that is serialized by `derive` has no field that is left out but the origin of a text.
    fn of(&self, value: &impl Serialize) -> Result<Digest, Error> {
        let bytes = serde_json::to_vec(value)?;
        // The tag is hashed once more only for its form.
        Ok(Digest::of(hmac::sign(&self.0, &bytes).as_ref()))
    }

    fn entry(
        &self,
        site: &Site,
        prepared: &Prepared,
        name: &HostName,
        plan: &HostPlan,
    ) -> Result<Option<Entry>, Error> {
        let (Some(host), Some(observed), Some(desired)) =
            (site.hosts.get(name), prepared.survey.observed.get(name), prepared.desired.get(name))
        else {
            return Ok(None);
        };
        // The other fields are deeds only through what the host should be.
        let Host { addresses, ssh, name: _, public: _, roles: _, allow_mixed_roles: _, place: _ } = host;
        let mut deeds: BTreeMap<String, Vec<&Action>> = BTreeMap::new();
        for (phase, actions) in &plan.phases {
            for action in actions {
                deeds.entry(title(*phase, action)).or_default().push(action);
            }
        }
        let deeds = deeds.into_iter().map(|(title, actions)| Ok((title, self.of(&actions)?)));
        Ok(Some(Entry {
            reached: self.of(&(addresses, ssh))?,
            observed: self.of(&plan::fingerprint(observed, desired))?,
            desired: self.of(desired)?,
            planned: self.of(plan)?,
            deeds: deeds.collect::<Result<_, Error>>()?,
        }))
    }

    /// Of each part of what a step does.
    fn step(&self, step: &Step) -> Result<BTreeMap<String, Digest>, Error> {
        match &step.deed {
            Value::Object(parts) => parts.iter().map(|(part, value)| Ok((part.clone(), self.of(value)?))).collect(),
            whole => Ok(BTreeMap::from([(step.kind.noun().to_owned(), self.of(whole)?)])),
        }
    }
}

/// A deed as a person would say it.
fn title(phase: Phase, action: &Action) -> String {
    match action {
        Action::Install { .. } => "install packages".to_owned(),
        Action::MakeFolder { path, .. } => format!("make the folder {path}"),
        Action::Write { path, .. } => format!("write {path}"),
        Action::Adopt { path, .. } => format!("take over {path}"),
        Action::Remove { path, .. } => format!("remove {path}"),
        Action::Firewall { .. } => format!("load the firewall's rules in `{phase}`"),
        Action::Follow { unit, follow, .. } => format!("{follow} {unit} in `{phase}`"),
        Action::Set { unit, path, .. } => format!("tell {unit} of {path}"),
        Action::Hold { unit } => format!("keep in mind that {unit} must restart"),
        Action::Perform { task, .. } => task.title.clone(),
        Action::Undo { of } => format!("take back what was begun in `{}` of run {}", of.phase, of.run),
    }
}

impl Saved {
    /// The digests of a plan, and of the steps of the controller in it.
    ///
    /// # Errors
    /// Where the key cannot be read or made.
    pub fn of(site: &Site, prepared: &Prepared) -> Result<Self, Error> {
        let seal = Seal::of_state(&site.state)?;
        let (mut hosts, mut confirmed) = (BTreeMap::new(), prepared.confirmed.clone());
        let kept = |unit: &String| {
            prepared
                .plan
                .hosts
                .keys()
                .any(|name| prepared.desired.get(name).is_some_and(|host| host.units.contains_key(unit)))
        };
        confirmed.retain(kept);
        for (name, plan) in &prepared.plan.hosts {
            if let Some(entry) = seal.entry(site, prepared, name, plan)? {
                hosts.insert(name.clone(), entry);
            }
        }
        let mut steps: BTreeMap<StepKind, BTreeMap<String, BTreeMap<String, Digest>>> = BTreeMap::new();
        for step in &prepared.plan.steps {
            steps.entry(step.kind).or_default().insert(step.subject.clone(), seal.step(step)?);
        }
        Ok(Self { name: site.name.clone(), key: seal.of(&())?, confirmed, drain: seal.of(&site.drain)?, hosts, steps })
    }

    /// The hosts that it is for.
    pub fn hosts(&self) -> impl Iterator<Item = &HostName> {
        self.hosts.keys()
    }

    /// The units whose restart was confirmed when it was shown: what is executed has that word too.
    pub fn confirmed(&self) -> &BTreeSet<String> {
        &self.confirmed
    }

    fn steps(&self) -> impl Iterator<Item = (StepKind, &str, &BTreeMap<String, Digest>)> {
        let each = self.steps.iter();
        each.flat_map(|(kind, steps)| steps.iter().map(|(subject, parts)| (*kind, subject.as_str(), parts)))
    }

    fn step(&self, kind: StepKind, subject: &str) -> Option<&BTreeMap<String, Digest>> {
        self.steps.get(&kind)?.get(subject)
    }

    /// Refuses unless `now` is exactly this plan. Gives the steps of the controller that are no longer due: leaving
    /// one out is the one thing that may differ.
    ///
    /// # Errors
    /// [`Error::Moved`].
    pub fn same_as(&self, now: &Self, site: &Site) -> Result<BTreeSet<(StepKind, String)>, Error> {
        let mut moved = Vec::new();
        if self.name != now.name {
            moved.push(format!("it was made for `{}`, not for `{}`", self.name, now.name));
        } else if self.key != now.key {
            moved.push("it was made with another state folder than this one".to_owned());
        } else {
            if self.drain != now.drain {
                moved.push("the inventory's `drain` has changed".to_owned());
            }
            for (name, then) in &self.hosts {
                match now.hosts.get(name) {
                    None if !site.hosts.contains_key(name) => {
                        moved.push(format!("{name} is no longer in the inventory"));
                    }
                    None => moved.push(format!("{name} cannot be worked on now")),
                    Some(entry) => then.moved(name, entry, &mut moved),
                }
            }
            for (kind, subject, step) in now.steps() {
                match self.step(kind, subject) {
                    None => {
                        let (object, done) = (kind.object(subject), kind.done());
                        moved.push(format!("{object} has become due and would be {done}"));
                    }
                    Some(then) if then != step => {
                        let parts: BTreeSet<&String> = then.keys().chain(step.keys()).collect();
                        let parts: Vec<&str> =
                            parts.into_iter().filter(|p| then.get(*p) != step.get(*p)).map(String::as_str).collect();
                        let (noun, parts) = (kind.noun(), parts.join(", "));
                        moved.push(format!("the {noun} for {subject} has changed, in: {parts}"));
                    }
                    Some(_) => {}
                }
            }
        }
        if moved.is_empty() {
            let gone = self.steps().filter(|(kind, subject, _)| now.step(*kind, subject).is_none());
            return Ok(gone.map(|(kind, subject, _)| (kind, subject.to_owned())).collect());
        }
        let more = moved.len().saturating_sub(TOLD);
        moved.truncate(TOLD);
        if more > 0 {
            moved.push(format!("and {more} more"));
        }
        Err(Error::Moved(moved.join("; ")))
    }
}

impl Ticket {
    /// A plan that holds from `now` on for as long as `valid`.
    ///
    /// # Errors
    /// Where the key cannot be read or made.
    pub fn of(plan: Saved, state: &Path, now: OffsetDateTime, valid: Duration) -> Result<Self, Error> {
        let made = now.unix_timestamp();
        let until = made.saturating_add(i64::try_from(valid.as_secs()).unwrap_or(i64::MAX));
        let seal = Seal::of_state(state)?.of(&(made, until, &plan))?;
        Ok(Self { version: VERSION, infra: INFRA.to_owned(), made, until, seal, plan })
    }

    /// What a file for `apply --plan` holds.
    ///
    /// # Errors
    /// Where it cannot be said in JSON, which is a mistake of this program.
    pub fn text(&self) -> Result<Vec<u8>, Error> {
        Ok(serde_json::to_vec_pretty(self)?)
    }

    /// Reads a file of `diff --out`.
    ///
    /// # Errors
    /// [`Error::NoPlan`].
    pub fn read(file: &Path) -> Result<Self, Error> {
        let refused = |why: String| Error::NoPlan { file: file.to_owned(), why };
        let text = fsx::read_named(file, fsx::STATE_BYTES).map_err(|error| {
            refused(match error.kind() {
                io::ErrorKind::NotFound => "there is no such file".to_owned(),
                io::ErrorKind::PermissionDenied => "it may not be read".to_owned(),
                _ => error.to_string(),
            })
        })?;
        let text = String::from_utf8_lossy(&text);
        let text = text.trim();
        let made: Option<Made> = serde_json::from_str(text).ok().filter(|_| Self::is_like(text));
        let made = made.ok_or_else(|| refused(Self::instead(text).to_owned()))?;
        if (made.version, made.infra.as_str()) != (VERSION, INFRA) {
            return Err(refused(format!("it was made by another version of infra; this version is {INFRA}")));
        }
        serde_json::from_str(text).map_err(|_| refused(Self::DAMAGED.to_owned()))
    }

    /// What is said of a file that has what a plan has.
    const DAMAGED: &str = "it is a plan that was changed, or of which a part is missing";

    /// Whether a text has what a plan has, in whatever order whoever kept it has put that.
    fn is_like(text: &str) -> bool {
        let has = |key: &&str| text.contains(&format!("\"{key}\""));
        text.starts_with('{') && ["infra", "seal", "until", "observed"].into_iter().filter(has).count() > 1
    }

    /// What a file is that cannot be read as a plan.
    fn instead(text: &str) -> &'static str {
        match Self::is_like(text) {
            true => Self::DAMAGED,
            false if text.is_empty() => "it is empty",
            false => "it holds something else",
        }
    }

    /// The plan.
    pub fn plan(&self) -> &Saved {
        &self.plan
    }

    /// Refuses a plan whose time is over, that was carried out already, or whose term is not the one that it was made with. A plan
    /// of another state folder is for [`Saved::same_as`] to refuse.
    ///
    /// # Errors
    /// [`Error::Over`], [`Error::NoPlan`].
    pub fn holds(&self, file: &Path, state: &Path, now: OffsetDateTime) -> Result<(), Error> {
        let over = |why: String| Err(Error::Over { file: file.to_owned(), why });
        let seal = Seal::of_state(state)?;
        if self.plan.key == seal.of(&())? && self.seal != seal.of(&(self.made, self.until, &self.plan))? {
            return Err(Error::NoPlan {
                file: file.to_owned(),
                why: "somebody has changed it since it was made".to_owned(),
            });
        }
        if now.unix_timestamp() > self.until {
            return over(format!("it held until {} UTC", time_of(self.until)));
        }
        match fsx::read_text(&self.mark(state), fsx::STATE_BYTES) {
            Ok(text) => over(format!(
                "it was begun by run {}, and a plan is for one run",
                text.split(' ').next().unwrap_or_default()
            )),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Keeps in the state folder that `run` carries it out, and forgets those whose time is over.
    ///
    /// # Errors
    /// Any error of the file system.
    pub fn spend(&self, state: &Path, run: &str, now: OffsetDateTime) -> Result<(), Error> {
        let folder = state.join("plans");
        fsx::private_dir(&folder)?;
        for entry in fs_err::read_dir(&folder)?.flatten() {
            let until = fsx::read_text(&entry.path(), fsx::STATE_BYTES).ok().and_then(|text| {
                let (_, until) = text.trim_end().split_once(' ')?;
                until.parse::<i64>().ok()
            });
            if until.is_some_and(|until| until < now.unix_timestamp()) {
                fs_err::remove_file(entry.path())?;
            }
        }
        Ok(fsx::write_atomic(&self.mark(state), format!("{run} {}\n", self.until).as_bytes(), 0o600)?)
    }

    fn mark(&self, state: &Path) -> PathBuf {
        // What stands in a file is no name of one.
        state.join("plans").join(Digest::of(self.seal.0.as_bytes()).0)
    }
}

/// `2026-11-27 18:45:01`, as far as it is a time at all.
fn time_of(seconds: i64) -> String {
    let format = time::macros::format_description!("[year]-[month]-[day] [hour]:[minute]:[second]");
    OffsetDateTime::from_unix_timestamp(seconds).ok().and_then(|time| time.format(&format).ok()).unwrap_or_default()
}

impl Entry {
    /// Adds what has moved since, in whole sentences.
    fn moved(&self, name: &HostName, now: &Self, moved: &mut Vec<String>) {
        if self.reached != now.reached {
            moved.push(format!("{name} is reached in another way now, or at another address"));
        }
        if self.observed != now.observed {
            moved.push(format!("{name} has changed since"));
            return;
        }
        let titles: BTreeSet<&String> = self.deeds.keys().chain(now.deeds.keys()).collect();
        let parts: Vec<String> = titles
            .into_iter()
            .filter_map(|title| match (self.deeds.get(title), now.deeds.get(title)) {
                (Some(then), Some(now)) if then != now => Some(format!("to {title} would not do what was shown")),
                (None, Some(_)) => Some(format!("to {title} was not shown")),
                (Some(_), None) => Some(format!("to {title} is no longer asked for")),
                _ => None,
            })
            .collect();
        if !parts.is_empty() {
            moved.push(format!(
                "the inventory, a template or a certificate asks for something else on {name} now: {}",
                parts.join(", ")
            ));
        } else if self.planned != now.planned || self.desired != now.desired {
            moved.push(format!("the checks and probes of {name} have changed"));
        }
    }
}

#[cfg(test)]
mod tests;
