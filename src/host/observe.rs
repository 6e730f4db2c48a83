//! What a host is: makes the observing script from what services ask, and its request from what is wanted, and parses the answer into
//! [`Observed`], in which each service reads its own part.
//!
//! Missing tools and files are facts, not failures; the parser is total over any bytes that a host may send.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use crate::base::net::HostName;
use crate::base::secret;
use crate::base::sh::UnitName;
use crate::host::transport::Script;
use crate::host::wire::{self, WIRE};
use crate::plan::state::{
    Access, DesiredHost, Digest, Facts, Follow, Observed, ObservedFile, ObservedUnit, Other, Recorded,
};
use crate::plan::task::CutOff;
use crate::plan::{made, manifest};
use crate::service::{Services, WAYS, platform};

/// The observing script; the same for every host.
pub fn script(services: Services) -> Script {
    Script::new("observe", format!("{}exit 0\n", text(services)))
}

/// The same with the gauges of the services; `twice` is whether counters are read twice, a second apart.
pub fn script_with_gauges(services: Services, twice: bool) -> Script {
    let mut gauges = format!("twice={}\n", if twice { "yes" } else { "no" });
    for (service, gauge) in services.gauges() {
        gauges.push_str(&part("gauge of", service, &(gauge.script)()));
    }
    Script::new("observe", format!("{}{gauges}exit 0\n", text(services)))
}

/// What a service asks, in a subshell of its own.
fn part(of: &str, service: &str, lines: &str) -> String {
    format!("emit '{of} {service}' \"$(\n[ -z \"$odd\" ] || exit 0\n{lines}\n)\"\n")
}

fn text(services: Services) -> String {
    let (mut units, mut records, mut parts) = (Vec::<&str>::new(), Vec::new(), String::new());
    for (service, inquiry) in services.inquiries() {
        units.extend(inquiry.units);
        records.extend(inquiry.records.iter().map(|path| format!("./{path}")));
        parts.push_str(&part("of", service, &(inquiry.script)()));
    }
    let text =
        include_str!("scripts/observe.sh").replace("UNITS", &units.join(" ")).replace("RECORDS", &records.join(" "));
    format!("{WAYS}\n{WIRE}\n{text}\n{parts}")
}

/// What the observing script reads on stdin: the paths, units and packages that matter for `desired`, and to `services`.
pub fn request(services: Services, desired: &DesiredHost) -> String {
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
    let products: BTreeSet<&str> = services.products().flat_map(|product| product.packages).copied().collect();
    for package in &desired.packages {
        // Where it is not there yet, the version that comes decides what its configuration may say.
        line(&format!("{} {package}", if products.contains(package.as_str()) { 'C' } else { 'P' }));
    }
    let asked = services.inquiries().flat_map(|(_, inquiry)| inquiry.packages).copied();
    for package in products.iter().copied().chain(asked).filter(|package| !desired.packages.contains(*package)) {
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

/// Reads the answer of [`script`], or of [`script_with_gauges`], for the same services.
///
/// # Errors
/// [`ParseError`] names the part.
pub fn parse(services: Services, answer: &[u8]) -> Result<Observed, ParseError> {
    let told = wire::pairs(answer);
    let mut one: BTreeMap<&str, &str> = BTreeMap::new();
    let (mut owed, mut texts) = (BTreeMap::new(), BTreeMap::new());
    let (mut held, mut untold, mut doubted) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    let mut facts_made = BTreeMap::new();
    for (key, value) in told.iter() {
        if key == "owed" {
            owed_line(value, &mut owed)?;
        } else if key == "held" {
            held.insert(value.to_owned());
        } else if key == "untold" {
            untold.insert(value.to_owned());
        } else if key == "doubted" {
            doubted.insert(made::text(value));
        } else if key == "made" {
            let (fact, value) = value.split_once(' ').ok_or_else(|| bad("made", "has no value"))?;
            facts_made.insert(made::text(fact), made::text(value.trim()));
        } else if let Some(path) = key.strip_prefix("text .") {
            texts.insert(path.to_owned(), with_final_newline(value));
        } else {
            one.insert(key, value);
        }
    }
    let get = |key: &'static str| one.get(key).copied().ok_or(ParseError::Missing(key));
    let installed = packages(one.get("packages").copied().unwrap_or(""));
    let (mut facts, refusal) = facts(&one);
    facts.versions = services.versions(&installed, &candidates(one.get("candidates").copied().unwrap_or("")));
    let undo_limit = one.get("undo_limit").and_then(|seconds| seconds.trim().parse::<u32>().ok());
    let undo_limit = Duration::from_secs(undo_limit.unwrap_or(0).into());
    let (owner, manifest) = manifest_lines(one.get("manifest").copied().unwrap_or(""))?;
    let mut observed = Observed {
        packages: installed,
        units: units(one.get("units").copied().unwrap_or("")),
        owner,
        manifest,
        owed,
        held,
        untold,
        made: facts_made,
        cut_off: one.get("cut_off").and_then(|record| record.trim().split_once(' ')).map(|(run, phase)| CutOff {
            run: run.to_owned(),
            phase: phase.to_owned(),
            limit: undo_limit,
        }),
        entrance: get("ssh")?.split(' ').nth(3).and_then(|port| port.trim().parse().ok()),
        controller: get("ssh")?.split(' ').next().and_then(|a| a.parse::<IpAddr>().ok()).map(|a| a.to_canonical()),
        clock: get("clock")?.trim().parse().map_err(|_| bad("clock", "is not a number"))?,
        free: get("free")?.trim().parse::<u64>().map_err(|_| bad("free", "is not a number"))?.saturating_mul(1024),
        refusal,
        ..Observed::bare(facts)
    };
    for (service, inquiry) in services.inquiries() {
        let answer = one.get(format!("of {service}").as_str()).ok_or(ParseError::Missing(service))?;
        (inquiry.read)(answer, &mut observed);
    }
    for (service, gauge) in services.gauges() {
        // A plan is made without them.
        if let Some(answer) = one.get(format!("gauge of {service}").as_str()) {
            (gauge.read)(answer, &mut observed);
        }
    }
    observed.made.retain(|fact, _| !doubted.contains(fact));
    let links = links(one.get("links").copied().unwrap_or(""));
    stat(one.get("stat").copied().unwrap_or(""), get("sums")?, &links, &mut texts, &mut observed)?;
    Ok(observed)
}

/// `$(…)` takes the last line ends away; a text file has one.
fn with_final_newline(text: &str) -> String {
    if text.is_empty() || text.ends_with('\n') { text.to_owned() } else { format!("{text}\n") }
}

fn manifest_lines(text: &str) -> Result<(Option<HostName>, BTreeMap<String, Recorded>), ParseError> {
    manifest::from_text(text).map_err(|e| bad("manifest", e.to_string()))
}

fn owed_line(value: &str, owed: &mut BTreeMap<String, Follow>) -> Result<(), ParseError> {
    let (unit, follow) = value.trim().split_once(' ').ok_or_else(|| bad("owed", "has no unit"))?;
    let follow = follow.trim().parse::<Follow>().map_err(|e| bad("owed", e.to_string()))?;
    // A script expands it.
    unit.parse::<UnitName>().map_err(|e| bad("owed", format!("has a unit that {e}")))?;
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

/// What apt would install, by package: blocks of a line `NAME:` and indented lines.
fn candidates(text: &str) -> BTreeMap<String, String> {
    let mut candidates = BTreeMap::new();
    let mut package = "";
    for line in text.lines() {
        match line.strip_prefix("  Candidate: ") {
            Some(version) => drop(candidates.insert(package.to_owned(), version.to_owned())),
            None => package = line.strip_suffix(':').unwrap_or(""),
        }
    }
    candidates
}

/// The facts without versions, and why we leave the host alone, if so.
fn facts(one: &BTreeMap<&str, &str>) -> (Facts, Option<String>) {
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
    let kib = one.get("memory").and_then(|kib| kib.trim().parse::<u64>().ok()).unwrap_or(0);
    facts.memory = kib / 1024 / Facts::MEMORY_STEP * Facts::MEMORY_STEP;
    facts.cores = one.get("cores").map_or(0, |list| cores(list.trim()));
    facts.files = one.get("files").and_then(|files| files.trim().parse().ok()).unwrap_or(0);
    (facts, refusal)
}

/// How many processors a list such as `0-3,8` names (`cpu(4)` of sysfs).
fn cores(list: &str) -> u32 {
    let count = |part: &str| {
        let (from, to) = part.split_once('-').unwrap_or((part, part));
        let (from, to) = (from.parse::<u32>().ok()?, to.parse::<u32>().ok()?);
        to.checked_sub(from)?.checked_add(1)
    };
    list.split(',').filter_map(count).fold(0, u32::saturating_add)
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

/// Where links point to, by path.
fn links(text: &str) -> BTreeMap<&str, &str> {
    text.lines().filter_map(|line| line.strip_prefix('.')?.split_once(" -> ")).collect()
}

fn stat(
    stats: &str,
    sums: &str,
    links: &BTreeMap<&str, &str>,
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
        let mode = u32::from_str_radix(mode, 8).map_err(|_| bad("stat", "has a mode that is not an octal number"))?;
        let access = Access { owner: owner.to_owned(), group: group.to_owned(), mode };
        if kind == "directory" {
            observed.folders.insert(path.to_owned(), access);
        } else {
            let digest = digests.get(path).map(|d| Digest((*d).to_owned()));
            let other = match kind {
                "symbolic link" => Some(Other::Link(links.get(path).map_or("?", |to| *to).to_owned())),
                "fifo" => Some(Other::Fifo),
                "socket" => Some(Other::Socket),
                "block special file" | "character special file" => Some(Other::Device),
                _ => None,
            };
            observed.files.insert(path.to_owned(), ObservedFile { digest, other, access, text: texts.remove(path) });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::base::diagnostic::Diagnostic;
    use crate::plan::plan::fingerprint;
    use crate::plan::state::{Part, Version};
    use crate::service::claims::Claims;
    use crate::service::firewall::GUEST_FORWARDING;
    use crate::service::inquiry::Inquiry;
    use crate::service::product::Product;
    use crate::service::{ALL, Context, Service};

    /// A service that asks for more than a shipped one does.
    struct Cache;

    const CACHED: Product = Product {
        name: "cached",
        packages: &["cached-full", "cached"],
        shipped: [Version(1, 6, 0), Version(1, 6, 1), Version(1, 6, 2), Version(1, 6, 3), Version(1, 6, 4)],
    };
    const ITEMS: Part<u64> = Part::steady("cache");

    impl Service for Cache {
        fn name(&self) -> &'static str {
            "cache"
        }

        fn products(&self) -> &'static [Product] {
            &[CACHED]
        }

        fn inquiry(&self) -> Option<Inquiry> {
            Some(Inquiry {
                records: &["var/lib/infra/cache"],
                units: &["cached-rival.service"],
                packages: &["cached-tools"],
                script: || "echo \"$units\" >&2; units=mine; echo items 7".to_owned(),
                read: |answer, observed| {
                    if let Some(items) = answer.strip_prefix("items ").and_then(|rest| rest.trim().parse().ok()) {
                        ITEMS.put(&items, observed);
                    }
                },
            })
        }

        fn want(&self, _: &Context<'_>, _: &mut Claims) -> Result<(), Diagnostic> {
            Ok(())
        }
    }

    const ONE: Services = Services(&[&Cache]);

    fn answer(pairs: &[(&str, &str)]) -> Vec<u8> {
        let usual = [("ssh", "10.0.0.1 1 10.0.0.2 22"), ("clock", "7"), ("free", "1"), ("sums", "")];
        usual.iter().chain(pairs).flat_map(|(key, value)| format!("{key}\0{value}\0").into_bytes()).collect()
    }

    #[test]
    fn each_service_reads_its_own_answer() {
        let seen = parse(ONE, &answer(&[("of cache", "items 7\n")])).unwrap();
        assert_eq!(ITEMS.of(&seen), Some(7));
        assert_eq!(ITEMS.of(&parse(ONE, &answer(&[("of cache", "?")])).unwrap()), None);
        let missing = parse(ONE, &answer(&[])).unwrap_err();
        assert_eq!(missing.to_string(), "the host's answer has no `cache`");
    }

    #[test]
    fn a_plan_depends_on_what_services_know_but_not_on_what_passes() {
        let desired = DesiredHost::default();
        let mut seen = parse(ONE, &answer(&[("of cache", "items 7\n")])).unwrap();
        let before = fingerprint(&seen, &desired);
        Part::<u64>::passing("cache").put(&1, &mut seen);
        assert_eq!(fingerprint(&seen, &desired), before);
        ITEMS.put(&8, &mut seen);
        assert_ne!(fingerprint(&seen, &desired), before);
    }

    #[test]
    fn a_version_is_installed_or_comes_or_is_the_releases() {
        let os = ("os", "ubuntu 24.04");
        let of = |pairs: &[(&str, &str)]| {
            let pairs = [pairs, &[os, ("of cache", "")]].concat();
            CACHED.of(&parse(ONE, &answer(&pairs)).unwrap().facts)
        };
        let installed = ("packages", "installed cached 1:1.5.9-2\nnot-installed cached-full 1.7-1");
        let comes = ("candidates", "cached:\n  Candidate: 1.6.18+dfsg-1\ncached-full:\n  Candidate: (none)\n");
        assert_eq!(of(&[]), Version(1, 6, 1), "nothing is known but the release");
        assert_eq!(of(&[comes]), Version(1, 6, 18));
        assert_eq!(of(&[installed, comes]), Version(1, 5, 9));
        assert_eq!(of(&[("candidates", "  Candidate: 9\nN: x\n")]), Version(1, 6, 1));
    }

    #[test]
    fn memory_and_processors_are_known_where_the_host_tells_them() {
        let of = |pairs: &[(&str, &str)]| {
            let pairs = [pairs, &[("of cache", "")]].concat();
            let facts = parse(ONE, &answer(&pairs)).unwrap().facts;
            (facts.memory, facts.cores)
        };
        // A kernel that takes some pages more changes nothing.
        assert_eq!(of(&[("memory", "2035520"), ("cores", "0-1")]), (1984, 2));
        assert_eq!(of(&[("memory", "2033100"), ("cores", "0,2-4,8")]), (1984, 5));
        for odd in ["", "x", "7-3", "0-4294967295", "-1"] {
            assert_eq!(of(&[("memory", odd), ("cores", odd)]), (0, 0), "{odd}");
        }
        assert_eq!(of(&[]), (0, 0));
    }

    #[test]
    fn what_comes_is_asked_for_products_alone() {
        let packages = ["curl".to_owned(), "cached".to_owned()].into();
        let desired = DesiredHost { packages, ..DesiredHost::default() };
        assert_eq!(request(ONE, &desired), "C cached\nP curl\nP cached-full\nP cached-tools\n");
    }

    #[test]
    fn a_services_lines_stand_in_the_script_and_disturb_nobody() {
        let text = script(ONE).text;
        assert!(
            text.contains(" ./var/lib/infra/cache; do") && text.contains("for unit in cached-rival.service; do"),
            "{text}"
        );
        let ours = text.find("emit 'of cache' \"$(").unwrap();
        assert!(text[ours..].contains("items 7\n)\"\n"), "it runs in a subshell: {text}");
        let all = script(ALL).text;
        assert!(!["UNITS", "RECORDS", "LIVE_", "BOOT_"].iter().any(|word| all.contains(word)), "{all}");
    }

    proptest! {
        #[test]
        fn any_answer_reads_or_is_refused(
            pairs in prop::collection::vec((prop::sample::select(vec![
                "os", "init", "nodpkg", "packages", "candidates", "units", "owed", "manifest", "links", "stat", "sums", "text ./x", "of firewall",
            ]), "(rule |drops |unit |guest |Id=|installed |  Candidate: |[a-z:=|. 0-9-]{0,12}|\n){0,12}"), 0..12),
        ) {
            let pairs: Vec<(&str, &str)> = pairs.iter().map(|(key, value)| (*key, value.as_str())).collect();
            if let Ok(seen) = parse(ALL, &answer(&pairs)) {
                prop_assert!(pairs.iter().any(|(key, _)| *key == "of firewall"));
                let guest = pairs.iter().rev().find(|(key, _)| *key == "of firewall").is_some_and(|(_, text)| text.lines().any(|line| line.starts_with("guest ")));
                prop_assert!(!guest || GUEST_FORWARDING.of(&seen.facts));
            }
        }
    }
}
