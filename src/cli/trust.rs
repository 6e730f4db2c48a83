//! `trust`: a host's SSH key is accepted after a person has compared its fingerprint, in place of an old one that is named before.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::Context as _;

use super::global::{Global, Inventory};
use super::stop::{Done, Stop};
use super::{exit, stages};
use crate::base::diagnostic::Diagnostic;
use crate::base::net::{HostName, Invalid};
use crate::fleet::connect;
use crate::host::known_hosts::{HostKey, KnownHosts, Verdict};
use crate::host::ssh::{self, Options};
use crate::host::ssh_config::Effective;
use crate::host::trust::{self, revoked_by};
use crate::report::{Reporter, prompt};

mod all;

/// `trust`.
#[derive(Debug, Clone, clap::Args)]
#[command(override_usage = "infra trust [OPTIONS] <HOST|--all> [INVENTORY]")]
pub struct Trust {
    /// A host of the inventory; with `--all`, the inventory
    #[arg(required_unless_present = "all")]
    pub host: Option<String>,
    /// The inventory
    #[command(flatten)]
    pub inventory: Inventory,
    /// Accept only a key with this fingerprint, as `ssh-keygen -lf` prints it; without it you are asked
    #[arg(long, value_name = "SHA256:…")]
    pub fingerprint: Option<Fingerprint>,
    /// All hosts whose keys are not known yet, in one table, accepted by one answer
    #[arg(long, conflicts_with = "fingerprint")]
    pub all: bool,
    /// Compare with FILE, in the form of ssh-keyscan, instead of asking
    #[arg(long, value_name = "FILE", requires = "all")]
    pub known: Option<PathBuf>,
    /// Compare with what cloud-init printed on the console at the first boot, instead of asking
    #[arg(long, value_name = "[HOST=]FILE", requires = "all", value_delimiter = ',')]
    pub console: Vec<all::Console>,
}

/// `SHA256:` and 43 characters of base64 without padding, as `ssh-keygen -lf` prints it (ssh-keygen(1)).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fingerprint(String);

impl Fingerprint {
    /// The text as it was checked, with `SHA256:`.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Fingerprint {
    type Err = Invalid;
    fn from_str(text: &str) -> Result<Self, Invalid> {
        let hash = text.strip_prefix("SHA256:").unwrap_or_default().trim_end_matches('=');
        let base64 = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '/');
        if hash.len() == 43 && hash.chars().all(base64) {
            Ok(Self(format!("SHA256:{hash}")))
        } else {
            Err(Invalid::new("write `SHA256:` and 43 characters, as `ssh-keygen -lf FILE.pub` prints it"))
        }
    }
}

pub(super) fn run(trust: &Trust, global: &Global, reporter: &Reporter) -> Done {
    let word = trust.host.as_deref().unwrap_or_default();
    if trust.all {
        if !word.is_empty() && !Path::new(word).exists() && word.parse::<HostName>().is_ok() {
            return Err(Stop::Refused(
                format!("`{word}` is not a file; with `--all` the word is the inventory"),
                vec![format!("for this host alone: `infra trust {word}`, or `infra trust --all --limit {word}`")],
            ));
        }
        let inventory = if word.is_empty() { trust.inventory.inventory.as_path() } else { Path::new(word) };
        return all::run(trust, inventory, global, reporter);
    }
    let who: HostName = word.parse().map_err(|invalid: Invalid| {
        let error = Diagnostic::error(format!("`{word}` is no name of a host: it {invalid}"));
        error.help("`infra trust HOST INVENTORY` is for one host, `infra trust --all INVENTORY` for all of them")
    })?;
    let site = stages::site(&trust.inventory.inventory, reporter)?;
    let host = stages::host(&site, &who)?;
    let options = Options { config: connect::config(host), ..Options::default() };
    let (to, keys) = ssh::presented_keys(&connect::target(host), &options).map_err(anyhow::Error::from)?;
    let file = &book(&to)?;
    let files = to.known_hosts_files();
    let known = KnownHosts::read(&files).context("the known host keys cannot be read")?;
    let (name, port) = to.key_name();
    let revoked = to.revoked_host_keys.as_deref();
    let is_known = |key: &&HostKey| matches!(known.lookup(name, port, key), Verdict::Trusted);
    let unchanged = keys.iter().all(|key| known.others(name, port, key).is_empty());
    if unchanged
        && trust.fingerprint.is_none()
        && let Some(key) = keys.iter().find(is_known)
        && revocation(&known, name, port, key, revoked)?.is_none()
    {
        reporter.note(&format!("{who} is known already by its {} key {}", key.kind(), key.fingerprint()));
        return Ok(exit::DONE);
    }
    let key = match choose(trust, &who, &keys, |key| !known.others(name, port, key).is_empty(), reporter)? {
        Choice::Key(key) => key,
        Choice::Nothing => return Ok(exit::FAILED),
    };
    if let Some(place) = revocation(&known, name, port, key, revoked)? {
        return Err(Stop::Refused(
            format!("the key {} that {} shows is revoked: {place}", key.fingerprint(), who),
            vec![format!(
                "do not connect, for whoever holds this key may not be {0}: give the host a new key, then `infra trust {0}`",
                who
            )],
        ));
    }
    let others = known.others(name, port, key);
    for other in &others {
        let (kind, names) = (key.kind(), other.names.join(", "));
        let keep = if names.is_empty() { String::new() } else { format!("; {names} keep it") };
        reporter.note(&format!(
            "{} is known by another {kind} key, {} in {}, which this one takes the place of{keep}",
            who, other.fingerprint, other.place
        ));
    }
    if trust.fingerprint.is_none() && !confirmed(&who, key, !others.is_empty())? {
        reporter.note("nothing was written");
        return Ok(exit::DECLINED);
    }
    // Elsewhere first: when one of them cannot be written, the old key is not half forgotten.
    for other in others.iter().filter(|other| other.place.file != *file) {
        trust::forget(&other.place.file, name, port, key).map_err(anyhow::Error::from)?;
    }
    trust::trust(file, name, port, key, &key.fingerprint()).map_err(anyhow::Error::from)?;
    reporter.note(&format!("{}: {} {} is in {}", who, key.kind(), key.fingerprint(), file.display()));
    for changed in keys.iter().filter(|other| *other != key && !known.others(name, port, other).is_empty()) {
        reporter.note(&format!(
            "its {} key has changed too: compare it, then `infra trust {} --fingerprint {}`",
            changed.kind(),
            who,
            changed.fingerprint()
        ));
    }
    Ok(exit::DONE)
}

/// The person's own file of host keys.
fn book(to: &Effective) -> Result<PathBuf, Stop> {
    to.book().map(Path::to_owned).map_err(|why| Stop::Refused(why, vec![trust::A_BOOK.to_owned()]))
}

/// Where a key is revoked, in words.
fn revocation(
    known: &KnownHosts,
    name: &str,
    port: u16,
    key: &HostKey,
    file: Option<&Path>,
) -> Result<Option<String>, Stop> {
    if let Verdict::Revoked { place } = known.lookup(name, port, key) {
        return Ok(Some(format!("marked `@revoked` in {place}")));
    }
    match file {
        Some(file) if revoked_by(file, key).map_err(anyhow::Error::from)? => {
            Ok(Some(format!("listed in {}", file.display())))
        }
        _ => Ok(None),
    }
}

/// Which key is to be trusted.
enum Choice<'a> {
    Key(&'a HostKey),
    /// The host shows none.
    Nothing,
}

/// The key with the fingerprint that was given, or the one that the person is asked about: one whose known key has changed, for
/// that is what keeps us out, else the first.
fn choose<'a>(
    trust: &Trust,
    name: &HostName,
    keys: &'a [HostKey],
    changed: impl Fn(&HostKey) -> bool,
    reporter: &Reporter,
) -> Result<Choice<'a>, Stop> {
    if let Some(wanted) = &trust.fingerprint {
        let found = keys.iter().find(|key| key.fingerprint() == wanted.as_str());
        return found.map(Choice::Key).ok_or_else(|| {
            let shown = keys.iter().map(|key| format!("it shows {} {}", key.kind(), key.fingerprint())).collect();
            Stop::Refused(format!("{} shows no key with the fingerprint {}", name, wanted.as_str()), shown)
        });
    }
    for key in keys {
        reporter.note(&format!("{} shows {} {}", name, key.kind(), key.fingerprint()));
    }
    let key = keys.iter().find(|key| changed(key)).or(keys.first());
    Ok(key.map_or(Choice::Nothing, Choice::Key))
}

/// Whether the person has compared the key.
fn confirmed(name: &HostName, key: &HostKey, replaces: bool) -> Result<bool, Stop> {
    let then = if replaces { ", and shall it take the place of the old one" } else { "" };
    let question =
        format!("is {} what `ssh-keygen -lf` prints on {}, seen by another way{then}?", key.fingerprint(), name);
    prompt::confirm(&question).map_err(|error| {
        let help = format!("compare, then: infra trust {} --fingerprint {}", name, key.fingerprint());
        Stop::Refused(error.to_string(), vec![help])
    })
}
