//! `trust --all`: the keys of all hosts that are not known yet, in one table, accepted by one answer, or compared with what was got by
//! another way. A key that has changed or is revoked is never accepted here.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::Context as _;

use super::Trust;
use crate::base::diagnostic::Diagnostic;
use crate::base::fsx;
use crate::base::net::HostName;
use crate::base::words::count;
use crate::cli::global::Global;
use crate::cli::stop::{Done, Stop};
use crate::cli::{exit, stages};
use crate::fleet::{connect, run};
use crate::host::console;
use crate::host::known_hosts::{HostKey, KnownHosts, Verdict};
use crate::host::ssh::{self, Options};
use crate::host::ssh_config::Effective;
use crate::host::transport::TransportError;
use crate::host::trust;
use crate::inventory::site::{Host, Site};
use crate::report::keys::{KeyLine, Known};
use crate::report::{Reporter, prompt};

/// Hosts behind hosts behind hosts: each round trusts those that the next ones are reached through.
const ROUNDS: usize = 4;

/// `[HOST=]FILE`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Console {
    host: Option<HostName>,
    file: PathBuf,
}

impl FromStr for Console {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let named = text.split_once('=').and_then(|(host, file)| Some((host.parse().ok()?, file)));
        let (host, file) = named.map_or((None, text), |(host, file)| (Some(host), file));
        if file.is_empty() { Err("write FILE or HOST=FILE".to_owned()) } else { Ok(Self { host, file: file.into() }) }
    }
}

/// What was got by another way than the one that is to be trusted.
#[derive(Default)]
struct Beside {
    /// In the form of `ssh-keyscan` and known_hosts.
    known: Option<KnownHosts>,
    /// Fingerprints that consoles have printed: of one host, or of any.
    consoles: Vec<(Option<HostName>, BTreeSet<String>)>,
}

impl Beside {
    fn read(trust: &Trust, site: &Site) -> Result<Self, Stop> {
        let text = |file: &Path| {
            let bytes = fsx::read_named(file, fsx::SSH_BYTES);
            let bytes =
                bytes.map_err(|error| Diagnostic::error(format!("`{}` cannot be read: {error}", file.display())))?;
            Ok::<_, Stop>(String::from_utf8_lossy(&bytes).into_owned())
        };
        let mut beside = Self::default();
        if let Some(file) = &trust.known {
            let known = KnownHosts::parse([(file.as_path(), text(file)?.as_str())]);
            if known.is_empty() {
                let error = Diagnostic::error(format!("`{}` has no host key", file.display()));
                return Err(error
                    .help("it is to be in the form of `ssh-keyscan HOST` or known_hosts: `HOST TYPE KEY` a line")
                    .into());
            }
            beside.known = Some(known);
        }
        for Console { host, file } in &trust.console {
            if let Some(host) = host {
                stages::host(site, host)?;
            }
            let found = console::fingerprints(&text(file)?);
            if found.is_empty() {
                let error =
                    Diagnostic::error(format!("`{}` has no host keys between the marks of cloud-init", file.display()));
                let marks =
                    "it prints them at the first boot, between `-----BEGIN SSH HOST KEY FINGERPRINTS-----` and its end";
                return Err(error.help(marks).into());
            }
            beside.consoles.push((host.clone(), found));
        }
        Ok(beside)
    }

    fn is_nothing(&self) -> bool {
        self.known.is_none() && self.consoles.is_empty()
    }

    /// What it says of a key: whether it has it, or has another in its place; nothing where it says nothing.
    fn says(&self, host: &Host, to: &Effective, key: &HostKey) -> Option<(Known, String)> {
        let (name, port) = to.key_name();
        let addresses: Vec<String> = host.addresses.iter().chain(&host.public).map(ToString::to_string).collect();
        let names = [name, host.name.as_str()].into_iter().chain(addresses.iter().map(String::as_str));
        let mut changed = None;
        for name in names {
            match self.known.as_ref().map(|known| known.lookup(name, port, key)) {
                Some(Verdict::Trusted) => return Some((Known::Confirmed, String::new())),
                Some(Verdict::Revoked { place }) => return Some((Known::Revoked, place.to_string())),
                Some(Verdict::Changed { place, known }) => changed = Some(format!("{place} has {known}")),
                Some(Verdict::Unknown { .. }) | None => {}
            }
        }
        let print = key.fingerprint();
        let own = self.consoles.iter().filter(|(of, _)| of.as_ref().is_none_or(|of| *of == host.name));
        if own.clone().any(|(_, prints)| prints.contains(&print)) {
            return Some((Known::Confirmed, String::new()));
        }
        changed.map(|words| (Known::Changed, words))
    }

    /// Whether it is of the console of this host alone.
    fn has_console_of(&self, host: &Host) -> bool {
        self.consoles.iter().any(|(of, _)| of.as_ref() == Some(&host.name))
    }

    /// What is wrong where nothing that it says is of a key that a host shows.
    fn says_none(&self, host: &Host) -> (Known, String) {
        let own = self.consoles.iter().find(|(of, _)| of.as_ref() == Some(&host.name));
        match own {
            Some((_, prints)) => {
                let prints: Vec<&str> = prints.iter().map(String::as_str).collect();
                (Known::Changed, format!("its console has printed {}, and no key that it shows now", prints.join(", ")))
            }
            None => (Known::Unknown, "what it was to be compared with says nothing of this host's keys".to_owned()),
        }
    }
}

/// A host and what it has shown.
struct Shown<'s> {
    host: &'s Host,
    to: Effective,
    /// The key that may be accepted; none where one of its keys is known already.
    key: Option<HostKey>,
    file: PathBuf,
}

pub(super) fn run(trust: &Trust, inventory: &Path, global: &Global, reporter: &Reporter) -> Done {
    let site = stages::site(inventory, reporter)?;
    let beside = Beside::read(trust, &site)?;
    let selected = stages::selected(&site, global)?;
    let mut waiting: Vec<&Host> = selected.iter().filter_map(|name| site.hosts.get(name)).collect();
    let options = Options::default();
    let (mut known, mut accepted, mut refused) = (0, 0, BTreeSet::new());
    let mut away: BTreeMap<&HostName, TransportError> = BTreeMap::new();
    for _ in 0..ROUNDS {
        let asked = run::each(std::mem::take(&mut waiting), global.at_once(), |host| {
            let options = Options { config: connect::config(host), ..options.clone() };
            (host, ssh::presented_keys(&connect::target(host), &options))
        });
        let (mut shown, mut lines) = (Vec::new(), Vec::new());
        for (host, keys) in asked {
            away.remove(&host.name);
            match keys {
                Ok((to, keys)) => match looked(host, to, &keys, &beside, &mut lines)? {
                    Some(host) => shown.push(host),
                    None => drop(refused.insert(&host.name)),
                },
                Err(error) => drop(away.insert(&host.name, error)),
            }
        }
        known += shown.iter().filter(|host| host.key.is_none()).count();
        let new: Vec<&Shown<'_>> = shown.iter().filter(|host| host.key.is_some()).collect();
        if !lines.is_empty() {
            tell_twins(&lines, reporter);
            reporter.keys(&lines)?;
        }
        if new.is_empty() {
            break;
        }
        if beside.is_nothing() && !confirmed(new.len(), inventory)? {
            reporter.note("nothing was written");
            return Ok(exit::DECLINED);
        }
        for Shown { host, to, key, file } in new {
            let (name, port) = to.key_name();
            let Some(key) = key else { continue };
            trust::trust(file, name, port, key, &key.fingerprint()).map_err(anyhow::Error::from)?;
            accepted += 1;
            reporter.note(&format!("{}: {} {} is in {}", host.name, key.kind(), key.fingerprint(), file.display()));
        }
        // Whoever is reached through another host may answer now that this one is known.
        waiting =
            away.keys().filter_map(|name| site.hosts.get(*name)).filter(|host| is_behind(host, &options)).collect();
        if waiting.is_empty() {
            break;
        }
    }
    let mut words = vec![format!("{} known already, {accepted} accepted", count(known, "host"))];
    words.extend((!refused.is_empty()).then(|| format!("{} not accepted", refused.len())));
    words.extend((!away.is_empty()).then(|| format!("{} not reached", away.len())));
    reporter.note(&words.join(", "));
    for (host, error) in &away {
        reporter.error(&format!("{host} shows no key: {error}"), &[], &[])?;
    }
    Ok(match (refused.is_empty(), away.is_empty()) {
        (false, _) => exit::FAILED,
        (true, false) => exit::UNREACHABLE,
        (true, true) => exit::DONE,
    })
}

/// Whether something may stand between us and a host.
fn is_behind(host: &Host, options: &Options) -> bool {
    let to = Effective::of(&connect::target(host), &connect::config(host), &options.asked);
    to.is_ok_and(|to| to.proxy_jump.is_some() || to.proxy_command.is_some())
}

/// Judges what a host shows, with a line for each key that is not known; nothing where none of them can be accepted here.
fn looked<'s>(
    host: &'s Host,
    to: Effective,
    keys: &[HostKey],
    beside: &Beside,
    lines: &mut Vec<KeyLine<'s>>,
) -> Result<Option<Shown<'s>>, Stop> {
    let (file, files) = (super::book(&to)?, to.known_hosts_files());
    let known = KnownHosts::read(&files).context("the known host keys cannot be read")?;
    let (name, port) = to.key_name();
    let mut line = |key: &HostKey, known, about: Option<String>| {
        let (kind, fingerprint) = (key.kind().to_owned(), key.fingerprint());
        lines.push(KeyLine { host: &host.name, kind, fingerprint, known, about });
    };
    let (mut trusted, mut stop, mut unknown) = (false, false, Vec::new());
    for key in keys {
        if let Some(place) = super::revocation(&known, name, port, key, to.revoked_host_keys.as_deref())? {
            line(key, Known::Revoked, Some(place));
            stop = true;
            continue;
        }
        match known.lookup(name, port, key) {
            Verdict::Trusted => trusted = true,
            Verdict::Changed { place, known } => {
                let one = format!(
                    "{place} has {known}; compare, then `infra trust {} --fingerprint {}`",
                    host.name,
                    key.fingerprint()
                );
                line(key, Known::Changed, Some(one));
                stop = true;
            }
            Verdict::Revoked { place } => {
                line(key, Known::Revoked, Some(place.to_string()));
                stop = true;
            }
            Verdict::Unknown { .. } => unknown.push(key),
        }
    }
    if stop {
        return Ok(None);
    }
    if trusted {
        // What is known may be what a stranger has shown: whoever compares wants to be told.
        for key in keys {
            if let Some((other, words)) = beside.says(host, &to, key).filter(|(says, _)| *says != Known::Confirmed) {
                line(key, other, Some(words));
                stop = true;
            }
        }
        let confirmed = |key: &HostKey| matches!(beside.says(host, &to, key), Some((Known::Confirmed, _)));
        if !stop && beside.has_console_of(host) && !keys.iter().any(confirmed) {
            let (says, words) = beside.says_none(host);
            keys.iter().take(1).for_each(|key| line(key, says, Some(words.clone())));
            stop = true;
        }
        if stop {
            return Ok(None);
        }
        return Ok(Some(Shown { host, to, key: None, file }));
    }
    if beside.is_nothing() {
        let Some(key) = unknown.first() else { return Ok(None) };
        line(key, Known::Unknown, None);
        return Ok(Some(Shown { host, key: Some((*key).clone()), to, file }));
    }
    let mut chosen = None;
    for key in unknown {
        match beside.says(host, &to, key) {
            Some((Known::Confirmed, _)) if chosen.is_none() => {
                line(key, Known::Confirmed, None);
                chosen = Some(key.clone());
            }
            // One is enough, and what says nothing of a key says nothing against it.
            None | Some((Known::Confirmed, _)) => {}
            Some((other, words)) => {
                line(key, other, Some(words));
                stop = true;
            }
        }
    }
    if let Some(key) = keys.first().filter(|_| chosen.is_none() && !stop) {
        let (says, words) = beside.says_none(host);
        line(key, says, Some(words));
    }
    Ok(chosen.filter(|_| !stop).map(|key| Shown { host, key: Some(key), to, file }))
}

/// Machines that were copied with their keys: each can stand for the other.
fn tell_twins(lines: &[KeyLine<'_>], reporter: &Reporter) {
    let mut by_key: BTreeMap<&str, BTreeSet<&HostName>> = BTreeMap::new();
    for line in lines {
        by_key.entry(&line.fingerprint).or_default().insert(line.host);
    }
    for (key, hosts) in by_key.into_iter().filter(|(_, hosts)| hosts.len() > 1) {
        let hosts: Vec<&str> = hosts.into_iter().map(HostName::as_str).collect();
        reporter.note(&format!(
            "warning: {} show the same key {key}: they are copies of one machine, and each can stand for the others; give each \
             new keys (`rm /etc/ssh/ssh_host_*; ssh-keygen -A`)",
            hosts.join(", ")
        ));
    }
}

/// Whether the person has compared all of them.
fn confirmed(hosts: usize, inventory: &Path) -> Result<bool, Stop> {
    let of = if hosts == 1 { "is this fingerprint".to_owned() } else { format!("are these {hosts} fingerprints") };
    let question =
        format!("{of} what `ssh-keygen -lf` prints on each host, seen by another way, and shall they be accepted?");
    prompt::confirm(&question).map_err(|error| {
        let file = inventory.display();
        Stop::Refused(
            error.to_string(),
            vec![
                format!("compare them with keys that were got by another way: infra trust --all {file} --known FILE, or --console [HOST=]FILE"),
                format!("or one by one: infra trust HOST {file} --fingerprint SHA256:…"),
            ],
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_console_may_be_that_of_one_host() {
        let of =
            |text: &str| text.parse::<Console>().map(|c| (c.host.map(|h| h.to_string()), c.file.display().to_string()));
        assert_eq!(of("a.log"), Ok((None, "a.log".into())));
        assert_eq!(of("web1=a=b.log"), Ok((Some("web1".into()), "a=b.log".into())));
        assert_eq!(of("./x=1/a.log"), Ok((None, "./x=1/a.log".into())));
        assert!(of("web1=").is_err());
    }
}
