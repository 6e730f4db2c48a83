//! What a host is: makes the probe script and its request from what is wanted, parses the answer into [`Observed`].
//!
//! Missing tools and files are facts, not failures; the parser is total over any bytes that a host may send.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::base::secret;
use crate::host::transport::Script;
use crate::plan::manifest;
use crate::plan::state::{
    Access, DesiredHost, Digest, Facts, Follow, Observed, ObservedFile, ObservedUnit, Recorded, Version,
};
use crate::service::firewall::observe;
use crate::service::platform;

/// Packages whose versions are facts, whoever asked for them.
const VERSIONED: [&str; 8] =
    ["haproxy", "nginx", "nginx-light", "nginx-core", "libssl3", "libssl3t64", "nftables", "docker.io"];

/// The probe script; the same for every host.
pub fn script() -> Script {
    let firewall = observe::observe_fragment();
    let probe = include_str!("scripts/probe.sh").replace("FW_UNITS", &observe::UNITS.join(" "));
    Script::new("observe", format!("{probe}\nemit firewall \"$(\n{firewall}\n)\"\nexit 0\n"))
}

/// What the probe script reads on stdin: the paths, units and packages that matter for `desired`.
pub fn request(desired: &DesiredHost) -> String {
    let mut lines = String::new();
    let mut line = |text: &str| {
        lines.push_str(text);
        lines.push('\n');
    };
    for (path, file) in &desired.files {
        // A host's copy of a file with a secret may hold a secret that we do not know: its text never comes here.
        if secret::names(&file.body.text).is_empty() {
            line(&format!("F {} {path}", file.body.digest));
        } else {
            line(&format!("S {path}"));
        }
    }
    for path in desired.folders.keys() {
        line(&format!("D {path}"));
    }
    for unit in desired.units.keys() {
        line(&format!("U {unit}"));
    }
    for package in desired.packages.iter().map(String::as_str).chain(VERSIONED) {
        line(&format!("P {package}"));
    }
    lines
}

/// Why an answer cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// A part is missing, so the script did not come to its end.
    #[error("the host's answer has no `{0}`")]
    Missing(&'static str),
    /// A part is there and does not read.
    #[error("the host's answer has a `{part}` that does not read: {reason}")]
    Bad {
        /// Which part.
        part: &'static str,
        /// What is wrong.
        reason: String,
    },
}

fn bad(part: &'static str, reason: impl Into<String>) -> ParseError {
    ParseError::Bad { part, reason: reason.into() }
}

/// Reads the answer of [`script`].
///
/// # Errors
/// [`ParseError`] names the part.
pub fn parse(answer: &[u8]) -> Result<Observed, ParseError> {
    let text = String::from_utf8_lossy(answer);
    let mut one: BTreeMap<&str, &str> = BTreeMap::new();
    let (mut owed, mut texts) = (BTreeMap::new(), BTreeMap::new());
    let mut parts = text.split('\0');
    while let (Some(key), Some(value)) = (parts.next(), parts.next()) {
        if key == "owed" {
            owed_line(value, &mut owed)?;
        } else if let Some(path) = key.strip_prefix("text .") {
            texts.insert(path.to_owned(), with_final_newline(value));
        } else {
            one.insert(key, value);
        }
    }
    let get = |key: &'static str| one.get(key).copied().ok_or(ParseError::Missing(key));
    let installed = packages(one.get("packages").copied().unwrap_or(""));
    let (facts, refusal) = facts(&one, &installed);
    let firewall = observe::parse_observed(get("firewall")?);
    let mut observed = Observed {
        facts,
        packages: installed,
        files: BTreeMap::new(),
        folders: BTreeMap::new(),
        units: units(one.get("units").copied().unwrap_or("")),
        firewall: firewall.firewall.clone(),
        manifest: BTreeMap::new(),
        owed,
        controller: get("ssh")?.split(' ').next().and_then(|a| a.parse::<IpAddr>().ok()).map(|a| a.to_canonical()),
        clock: get("clock")?.trim().parse().map_err(|_| bad("clock", "is no number"))?,
        free: get("free")?.trim().parse::<u64>().map_err(|_| bad("free", "is no number"))?.saturating_mul(1024),
        refusal,
    };
    observed.facts.guest_forwarding |= firewall.guest_forwarding;
    observed.firewall.pending = firewall.armed.is_some();
    observed.manifest = manifest_lines(one.get("manifest").copied().unwrap_or(""))?;
    stat(one.get("stat").copied().unwrap_or(""), get("sums")?, &mut texts, &mut observed)?;
    Ok(observed)
}

/// `$(…)` takes the last line ends away; a text file has one.
fn with_final_newline(text: &str) -> String {
    if text.is_empty() || text.ends_with('\n') { text.to_owned() } else { format!("{text}\n") }
}

fn manifest_lines(text: &str) -> Result<BTreeMap<String, Recorded>, ParseError> {
    manifest::from_text(text).map_err(|e| bad("manifest", e.to_string()))
}

fn owed_line(value: &str, owed: &mut BTreeMap<String, Follow>) -> Result<(), ParseError> {
    let (unit, follow) = value.trim().split_once(' ').ok_or_else(|| bad("owed", "has no unit"))?;
    let follow = follow.trim().parse::<Follow>().map_err(|e| bad("owed", e.to_string()))?;
    owed.insert(unit.to_owned(), follow);
    Ok(())
}

fn packages(text: &str) -> BTreeMap<String, String> {
    let lines = text.lines().filter_map(|line| {
        let mut words = line.split(' ');
        match (words.next(), words.next(), words.next()) {
            (Some("installed"), Some(name), Some(version)) => Some((name.to_owned(), version.to_owned())),
            _ => None,
        }
    });
    lines.collect()
}

/// The facts, and why we leave the host alone, if so.
fn facts(one: &BTreeMap<&str, &str>, installed: &BTreeMap<String, String>) -> (Facts, Option<String>) {
    let (distribution, release) =
        one.get("os").and_then(|os| os.trim().split_once(' ')).unwrap_or(("unknown", "unknown"));
    let shipped = platform::shipped(distribution, release);
    let refusal = if shipped.is_none() {
        Some(format!(
            "it runs `{distribution} {release}`, which is not supported; supported are {}",
            platform::supported().join(", ")
        ))
    } else if one.contains_key("nodpkg") {
        Some("it has no dpkg".to_owned())
    } else if one.get("init") != Some(&"systemd") {
        Some("systemd does not run on it".to_owned())
    } else {
        None
    };
    let mut facts = shipped.unwrap_or_else(platform::oldest);
    distribution.clone_into(&mut facts.distribution);
    release.clone_into(&mut facts.release);
    facts.guest_forwarding = one.contains_key("guest") || installed.contains_key("docker.io");
    let version = |names: &[&str]| {
        let text = names.iter().find_map(|name| installed.get(*name))?;
        // An epoch is no part of the daemon's version.
        Version::find(text.split_once(':').map_or(text.as_str(), |(_, rest)| rest))
    };
    facts.haproxy = version(&["haproxy"]).unwrap_or(facts.haproxy);
    facts.nginx = version(&["nginx-light", "nginx-core", "nginx"]).unwrap_or(facts.nginx);
    facts.openssl = version(&["libssl3t64", "libssl3"]).unwrap_or(facts.openssl);
    facts.nft = version(&["nftables"]).unwrap_or(facts.nft);
    (facts, refusal)
}

/// Blocks of `Key=Value` lines, an empty line between units.
fn units(text: &str) -> BTreeMap<String, ObservedUnit> {
    let mut units = BTreeMap::new();
    for block in text.split("\n\n") {
        let (mut id, mut unit) = (String::new(), ObservedUnit::default());
        for (key, value) in block.lines().filter_map(|line| line.split_once('=')) {
            match key {
                "Id" => value.clone_into(&mut id),
                "LoadState" => value.clone_into(&mut unit.load),
                "ActiveState" => value.clone_into(&mut unit.active),
                "UnitFileState" => value.clone_into(&mut unit.enabled),
                _ => {}
            }
        }
        if !id.is_empty() {
            units.insert(id, unit);
        }
    }
    units
}

fn stat(
    stats: &str,
    sums: &str,
    texts: &mut BTreeMap<String, String>,
    observed: &mut Observed,
) -> Result<(), ParseError> {
    let digests: BTreeMap<&str, &str> =
        sums.lines().filter_map(|line| line.split_once("  .").map(|(digest, path)| (path, digest))).collect();
    for line in stats.lines() {
        let fields: Vec<&str> = line.splitn(5, '|').collect();
        let [kind, mode, owner, group, path] = fields[..] else {
            return Err(bad("stat", "has a line without five fields"));
        };
        let path = path.strip_prefix('.').ok_or_else(|| bad("stat", "has a path without its dot"))?;
        let mode = u32::from_str_radix(mode, 8).map_err(|_| bad("stat", "has a mode that is no octal number"))?;
        let access = Access { owner: owner.to_owned(), group: group.to_owned(), mode };
        if kind == "directory" {
            observed.folders.insert(path.to_owned(), access);
        } else {
            let digest = digests.get(path).map(|d| Digest((*d).to_owned()));
            observed.files.insert(path.to_owned(), ObservedFile { digest, access, text: texts.remove(path) });
        }
    }
    Ok(())
}
