//! `trust`: a host's SSH key is accepted after a person has compared its fingerprint, in place of an old one that is named before.

use std::path::Path;
use std::str::FromStr;

use anyhow::Context as _;

use super::global::{Global, Inventory};
use super::stop::{Done, Stop};
use super::{exit, stages};
use crate::base::diagnostic::{Diagnostic, did_you_mean};
use crate::base::net::{HostName, Invalid};
use crate::fleet::connect;
use crate::host::known_hosts::{HostKey, KnownHosts, Verdict};
use crate::host::ssh::{self, Options};
use crate::host::trust::{self, revoked_by};
use crate::report::{Reporter, prompt};

/// `trust`.
#[derive(Debug, Clone, clap::Args)]
pub struct Trust {
    /// A host of the inventory
    pub host: HostName,
    /// The inventory
    #[command(flatten)]
    pub inventory: Inventory,
    /// Accept only a key with this fingerprint, as `ssh-keygen -lf` prints it; without it you are asked
    #[arg(long, value_name = "SHA256:…")]
    pub fingerprint: Option<Fingerprint>,
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

pub(super) fn run(trust: &Trust, _: &Global, reporter: &Reporter) -> Done {
    let site = stages::site(&trust.inventory.inventory, reporter)?;
    let Some(host) = site.hosts.get(&trust.host) else {
        let error = Diagnostic::error(format!("`{}` has no host `{}`", site.name, trust.host));
        let near = did_you_mean(trust.host.as_str(), site.hosts.keys().map(HostName::as_str));
        return Err(near.map_or(error.clone(), |near| error.help(near)).into());
    };
    let options = Options { config: connect::config(host), ..Options::default() };
    let (to, keys) = ssh::presented_keys(&connect::target(host), &options).map_err(anyhow::Error::from)?;
    let files = to.known_hosts_files();
    let Some(file) = files.first() else {
        return Err(Stop::Refused(
            "no known_hosts file is configured".into(),
            vec!["set `UserKnownHostsFile` in ~/.ssh/config".into()],
        ));
    };
    let known = KnownHosts::read(&files).context("the known host keys cannot be read")?;
    let (name, port) = to.key_name();
    let revoked = to.revoked_host_keys.as_deref();
    let key = match choose(trust, &keys, |key| !known.others(name, port, key).is_empty(), reporter)? {
        Choice::Key(key) => key,
        Choice::Nothing => return Ok(exit::FAILED),
    };
    if let Some(place) = revocation(&known, name, port, key, revoked)? {
        return Err(Stop::Refused(
            format!("the key {} that {} shows is revoked: {place}", key.fingerprint(), trust.host),
            vec![format!(
                "do not connect, for whoever holds this key may not be {0}: give the host a new key, then `infra trust {0}`",
                trust.host
            )],
        ));
    }
    let others = known.others(name, port, key);
    for other in &others {
        let (kind, names) = (key.kind(), other.names.join(", "));
        let keep = if names.is_empty() { String::new() } else { format!("; {names} keep it") };
        reporter.note(&format!(
            "{} is known by another {kind} key, {} in {}, which this one takes the place of{keep}",
            trust.host, other.fingerprint, other.place
        ));
    }
    if trust.fingerprint.is_none() && !confirmed(trust, key, !others.is_empty())? {
        reporter.note("nothing was written");
        return Ok(exit::FAILED);
    }
    // Elsewhere first: when one of them cannot be written, the old key is not half forgotten.
    for other in others.iter().filter(|other| other.place.file != *file) {
        trust::forget(&other.place.file, name, port, key).map_err(anyhow::Error::from)?;
    }
    trust::trust(file, name, port, key, &key.fingerprint()).map_err(anyhow::Error::from)?;
    reporter.note(&format!("{}: {} {} is in {}", trust.host, key.kind(), key.fingerprint(), file.display()));
    for changed in keys.iter().filter(|other| *other != key && !known.others(name, port, other).is_empty()) {
        reporter.note(&format!(
            "its {} key has changed too: compare it, then `infra trust {} --fingerprint {}`",
            changed.kind(),
            trust.host,
            changed.fingerprint()
        ));
    }
    Ok(exit::DONE)
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
    keys: &'a [HostKey],
    changed: impl Fn(&HostKey) -> bool,
    reporter: &Reporter,
) -> Result<Choice<'a>, Stop> {
    if let Some(wanted) = &trust.fingerprint {
        let found = keys.iter().find(|key| key.fingerprint() == wanted.as_str());
        return found.map(Choice::Key).ok_or_else(|| {
            let shown = keys.iter().map(|key| format!("it shows {} {}", key.kind(), key.fingerprint())).collect();
            Stop::Refused(format!("{} shows no key with the fingerprint {}", trust.host, wanted.as_str()), shown)
        });
    }
    for key in keys {
        reporter.note(&format!("{} shows {} {}", trust.host, key.kind(), key.fingerprint()));
    }
    let key = keys.iter().find(|key| changed(key)).or(keys.first());
    Ok(key.map_or(Choice::Nothing, Choice::Key))
}

/// Whether the person has compared the key.
fn confirmed(trust: &Trust, key: &HostKey, replaces: bool) -> Result<bool, Stop> {
    let then = if replaces { ", and shall it take the place of the old one" } else { "" };
    let question =
        format!("is {} what `ssh-keygen -lf` prints on {}, seen by another way{then}?", key.fingerprint(), trust.host);
    prompt::confirm(&question).map_err(|error| {
        let help = format!("compare, then: infra trust {} --fingerprint {}", trust.host, key.fingerprint());
        Stop::Refused(error.to_string(), vec![help])
    })
}
