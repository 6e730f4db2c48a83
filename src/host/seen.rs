//! What a host is: takes the answer of the observing script, gives [`Observed`], in which each service reads its own part. Total over any
//! bytes that a host may send.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use crate::base::net::HostName;
use crate::base::sh::UnitName;
use crate::host::wire;
use crate::plan::state::{Access, Digest, Facts, Follow, Observed, ObservedFile, ObservedUnit, Other, Recorded};
use crate::plan::task::CutOff;
use crate::plan::{made, manifest};
use crate::service::{Services, platform};

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

/// Reads the answer of [`script`](super::observe::script), or of [`script_with_gauges`](super::observe::script_with_gauges), for the same
/// services.
///
/// # Errors
/// [`ParseError`] names the part.
pub fn parse(services: Services, answer: &[u8]) -> Result<Observed, ParseError> {
    let told = wire::pairs(answer);
    let mut one: BTreeMap<&str, &str> = BTreeMap::new();
    let (mut owed, mut texts) = (BTreeMap::new(), BTreeMap::new());
    let (mut held, mut untold, mut doubted) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    let mut facts_made = BTreeMap::new();
    let (mut memory, mut manifest) = (0_u64, String::new());
    let mut looked: BTreeMap<&str, String> = BTreeMap::new();
    let all = told.last("told").ok_or(ParseError::Missing("told"))?;
    let mut release = BTreeMap::new();
    for (word, rest) in all.lines().map(|line| line.split_once(' ').unwrap_or((line, ""))) {
        match word {
            "owed" => owed_line(rest, &mut owed)?,
            "made" => {
                let (fact, value) = rest.split_once(' ').ok_or_else(|| bad("made", "has no value"))?;
                facts_made.insert(made::text(fact), made::text(value.trim()));
            }
            "manifest" => manifest.push_str(&format!("{rest}\n")),
            "memory" => memory = rest.trim().parse().unwrap_or(0),
            "os" => drop(rest.split_once('=').map(|(name, value)| release.insert(name, unquoted(value)))),
            "of" => {
                let (service, line) = rest.split_once(' ').unwrap_or((rest, ""));
                looked.entry(service).or_default().push_str(&format!("{line}\n"));
            }
            _ => {}
        }
    }
    for (key, value) in told.iter() {
        if key == "held" {
            held.insert(value.to_owned());
        } else if key == "untold" {
            untold.insert(value.to_owned());
        } else if key == "doubted" {
            doubted.insert(made::text(value));
        } else if let Some(path) = key.strip_prefix("text .") {
            texts.insert(path.to_owned(), with_final_newline(value));
        } else {
            one.insert(key, value);
        }
    }
    let get = |key: &'static str| one.get(key).copied().ok_or(ParseError::Missing(key));
    let part = |key: &str| one.get(key).copied().unwrap_or("");
    let installed = packages(part("packages"), part("status"));
    let (mut facts, refusal) = facts(&one, &release);
    facts.memory = memory / 1024 / Facts::MEMORY_STEP * Facts::MEMORY_STEP;
    facts.versions = services.versions(&installed, &candidates(part("candidates")));
    let undo_limit = one.get("undo_limit").and_then(|seconds| seconds.trim().parse::<u32>().ok());
    let undo_limit = Duration::from_secs(undo_limit.unwrap_or(0).into());
    let (owner, manifest) = manifest_lines(&manifest)?;
    let digests = digests(get("sums")?);
    let number = |key: &'static str| match one.get(key) {
        Some(number) => number.trim().parse::<u64>().map_err(|_| bad(key, "is not a number")),
        None => Ok(0),
    };
    let mut observed = Observed {
        packages: installed,
        units: units(&part),
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
        clock: i64::try_from(number("clock")?).unwrap_or(i64::MAX),
        free: number("free")?.saturating_mul(1024),
        refusal,
        ..Observed::bare(facts)
    };
    for (service, inquiry) in services.inquiries() {
        let mut answer = String::new();
        for path in inquiry.digests {
            if let Some(digest) = digests.get(path) {
                answer.push_str(&format!("sum {digest} {path}\n"));
            }
        }
        answer.push_str(looked.get(service).map_or("", String::as_str));
        if !(inquiry.script)().is_empty() {
            answer.push_str(one.get(format!("of {service}").as_str()).ok_or(ParseError::Missing(service))?);
        }
        (inquiry.read)(&answer, &mut observed);
    }
    for (service, gauge) in services.gauges() {
        // A plan is made without them.
        if let Some(answer) = one.get(format!("gauge of {service}").as_str()) {
            (gauge.read)(answer, &mut observed);
        }
    }
    observed.made.retain(|fact, _| !doubted.contains(fact));
    stat(part("stat"), &digests, &links(part("links")), &mut texts, &mut observed)?;
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

/// What is installed, from lines `STATUS NAME VERSION`, or from stanzas of dpkg's own (deb822(5), dpkg-query(1)): each from its line of
/// the package to that of the version or further, with what is between them left out.
fn packages(text: &str, stanzas: &str) -> BTreeMap<String, String> {
    let mut installed = BTreeMap::new();
    let (mut package, mut there) = ("", false);
    for line in stanzas.lines() {
        match line.split_once(": ") {
            Some(("Package", name)) => (package, there) = (name, false),
            Some(("Status", status)) => there = status.split(' ').nth(2) == Some("installed"),
            Some(("Version", version)) if there && !package.is_empty() => {
                installed.insert(package.to_owned(), version.to_owned());
            }
            None if line.is_empty() || line == "--" => (package, there) = ("", false),
            _ => {}
        }
    }
    let lines = text.lines().filter_map(|line| {
        let mut words = line.split(' ');
        match (words.next(), words.next(), words.next()) {
            (Some("installed"), Some(name), Some(version)) => Some((name.to_owned(), version.to_owned())),
            _ => None,
        }
    });
    installed.extend(lines);
    installed
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
fn facts(one: &BTreeMap<&str, &str>, os: &BTreeMap<&str, String>) -> (Facts, Option<String>) {
    let field = |name: &str| os.get(name).map(String::as_str).filter(|value| !value.is_empty());
    let distribution = field("ID").unwrap_or("unknown");
    let release = field("VERSION_ID").or_else(|| field("VERSION_CODENAME")).unwrap_or("unknown");
    let shipped = platform::shipped(distribution, release);
    let refusal = if shipped.is_none() {
        let why = platform::too_old(distribution, release).map(|why| format!(" ({why})")).unwrap_or_default();
        Some(format!(
            "it runs `{distribution} {release}`, which is not supported{why}; supported are {}",
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

/// A value of os-release(5), which a shell would read.
fn unquoted(value: &str) -> String {
    let bare = |quote: char| value.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote));
    bare('"').or_else(|| bare('\'')).unwrap_or(value).replace('\\', "")
}

/// The states of units: what was listed of those that are there and what links start them, and in its place what systemd itself says of
/// those that were asked for one by one, in blocks of `Key=Value` lines with an empty line between them.
fn units<'a>(part: &impl Fn(&str) -> &'a str) -> BTreeMap<String, ObservedUnit> {
    let mut units = BTreeMap::new();
    for other in part("others").split_whitespace() {
        // systemd does not have in mind what neither runs nor has failed.
        let unit = ObservedUnit { active: "inactive".into(), enabled: "disabled".into(), load: "loaded".into() };
        units.insert(other.to_owned(), unit);
    }
    for line in part("listed").lines() {
        let mut words = line.split_whitespace();
        if let (Some(name), Some(load), Some(active)) = (words.next(), words.next(), words.next()) {
            let unit = ObservedUnit { active: active.into(), enabled: "disabled".into(), load: load.into() };
            units.insert(name.to_owned(), unit);
        }
    }
    for linked in part("linked").split_whitespace() {
        if let Some(unit) = units.get_mut(linked) {
            "enabled".clone_into(&mut unit.enabled);
        }
    }
    for block in part("units").split("\n\n") {
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

/// What sha256sum says, by path.
fn digests(sums: &str) -> BTreeMap<&str, &str> {
    sums.lines().filter_map(|line| line.split_once("  .").map(|(digest, path)| (path, digest))).collect()
}

/// Where links point to, by path.
fn links(text: &str) -> BTreeMap<&str, &str> {
    text.lines().filter_map(|line| line.strip_prefix('.')?.split_once(" -> ")).collect()
}

fn stat(
    stats: &str,
    digests: &BTreeMap<&str, &str>,
    links: &BTreeMap<&str, &str>,
    texts: &mut BTreeMap<String, String>,
    observed: &mut Observed,
) -> Result<(), ParseError> {
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
    use crate::plan::state::{DesiredHost, Part, Version};
    use crate::service::claims::Claims;
    use crate::service::inquiry::Inquiry;
    use crate::service::product::Product;
    use crate::service::{ALL, Context, Service};

    /// A service that asks for more than a shipped one does.
    struct Cache;

    const CACHED: Product = Product {
        name: "cached",
        packages: &["cached-full", "cached"],
        shipped: [
            Version(1, 6, 0),
            Version(1, 6, 0),
            Version(1, 6, 1),
            Version(1, 6, 2),
            Version(1, 6, 3),
            Version(1, 6, 4),
        ],
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
                digests: &["/etc/cached"],
                script: || "echo \"$units\" >&2; units=mine; echo items 7".to_owned(),
                read: |answer, observed| {
                    if let Some(items) = answer.strip_prefix("items ").and_then(|rest| rest.trim().parse().ok()) {
                        ITEMS.put(&items, observed);
                    }
                },
                ..Inquiry::NOTHING
            })
        }

        fn want(&self, _: &Context<'_>, _: &mut Claims) -> Result<(), Diagnostic> {
            Ok(())
        }
    }

    const ONE: Services = Services(&[&Cache]);

    fn answer(pairs: &[(&str, &str)]) -> Vec<u8> {
        let usual = [("told", ""), ("ssh", "10.0.0.1 1 10.0.0.2 22"), ("clock", "7"), ("free", "1"), ("sums", "")];
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
        let os = ("told", "os ID=ubuntu\nos VERSION_ID=\"24.04\"\n");
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
    fn a_release_that_is_too_old_is_refused_with_the_reason() {
        let refusal = |os: &str| {
            let (id, version) = os.split_once(' ').unwrap();
            let told = format!("os ID={id}\nos VERSION_ID=\"{version}\"\n");
            parse(ONE, &answer(&[("told", &told), ("of cache", "")])).unwrap().refusal.unwrap()
        };
        for (os, words) in [
            ("debian 11", "HAProxy 2.2 is too old for the role `lb`"),
            ("fedora 44", "not supported; supported are debian 12"),
        ] {
            let said = refusal(os);
            assert!(said.contains(os) && said.contains(words) && said.contains("supported are debian 12"), "{said}");
        }
    }

    #[test]
    fn memory_and_processors_are_known_where_the_host_tells_them() {
        let of = |memory: &str, cores: &str| {
            let told = format!("memory {memory}\n");
            let facts = parse(ONE, &answer(&[("of cache", ""), ("told", &told), ("cores", cores)])).unwrap().facts;
            (facts.memory, facts.cores)
        };
        // A kernel that takes some pages more changes nothing.
        assert_eq!(of("2035520", "0-1"), (1984, 2));
        assert_eq!(of("2033100", "0,2-4,8"), (1984, 5));
        for odd in ["", "x", "7-3", "0-4294967295", "-1"] {
            assert_eq!(of(odd, odd), (0, 0), "{odd}");
        }
    }

    #[test]
    fn packages_are_read_out_of_dpkgs_own_words() {
        let stanzas = "Package: cached\nStatus: install ok installed\nPriority: optional\nVersion: 1:1.6-2\nDepends: x\n\n\
            Package: gone\nStatus: deinstall ok config-files\nVersion: 1\n--\nPackage: half\nStatus: install ok unpacked\n\
            Version: 2\n--\nPackage: held\nStatus: hold ok installed\nVersion: 3\n\nVersion: 4";
        let seen = parse(ONE, &answer(&[("status", stanzas), ("of cache", "")])).unwrap();
        let packages: Vec<(&str, &str)> = seen.packages.iter().map(|(name, version)| (&**name, &**version)).collect();
        assert_eq!(packages, [("cached", "1:1.6-2"), ("held", "3")]);
    }

    #[test]
    fn states_of_units_are_those_that_are_listed_or_told_one_by_one() {
        let seen = parse(
            ONE,
            &answer(&[
                ("of cache", ""),
                ("others", " ufw.service nftables.service"),
                ("listed", "a.service  loaded active   running A\nb.service  loaded failed failed   active loaded\nufw.service loaded active exited U"),
                ("linked", " a.service ufw.service"),
                ("units", "Id=b.service\nLoadState=loaded\nActiveState=failed\nUnitFileState=static\n\nId=c.service\nLoadState=masked"),
            ]),
        )
        .unwrap();
        let told: Vec<String> = seen
            .units
            .iter()
            .map(|(name, unit)| format!("{name} {} {} {}", unit.load, unit.active, unit.enabled))
            .collect();
        assert_eq!(
            told,
            [
                "a.service loaded active enabled",
                "b.service loaded failed static",
                "c.service masked  ",
                "nftables.service loaded inactive disabled",
                "ufw.service loaded active enabled"
            ]
        );
    }

    #[test]
    fn values_of_os_release_are_read_as_a_shell_does() {
        for (value, expected) in
            [("debian", "debian"), ("\"22.04\"", "22.04"), ("'12'", "12"), ("\"a\\$b\"", "a$b"), ("\"", "\""), ("", "")]
        {
            assert_eq!(unquoted(value), expected, "{value}");
        }
    }

    proptest! {
        #[test]
        fn any_answer_reads_or_is_refused(
            pairs in prop::collection::vec((prop::sample::select(vec![
                "told", "init", "nodpkg", "packages", "candidates", "units", "listed", "status", "links", "stat", "sums", "text ./x", "of firewall",
            ]), "(of firewall |was live |ruleset\n|owed |made |manifest |os ID=|rule |drops |unit |guest |Id=|installed |  Candidate: |[a-z:=|. 0-9-]{0,12}|\n){0,12}"), 0..12),
        ) {
            let pairs: Vec<(&str, &str)> = pairs.iter().map(|(key, value)| (*key, value.as_str())).collect();
            if let Ok(seen) = parse(ALL, &answer(&pairs)) {
                prop_assert!(pairs.iter().any(|(key, _)| *key == "of firewall"));
                prop_assert!(seen.free <= 1024);
            }
        }
    }
}
