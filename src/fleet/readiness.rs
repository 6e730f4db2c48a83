//! What each load balancer says before an order: takes open connections and the names to prove, gives what stands in the way.
//! One exec on each: its clock, room for a certificate, and its answers to a CA.

use std::collections::BTreeMap;

use time::OffsetDateTime;

use crate::base::net::{HostName, Port};
use crate::base::proto::Proto;
use crate::base::sh::quote;
use crate::base::words::count;
use crate::fleet::run;
use crate::fleet::survey::Prepared;
use crate::host::report;
use crate::host::transport::Script;
use crate::host::wire::{self, Pairs};
use crate::inventory::site::Site;
use crate::pki::dns_check::{self, Finding};
use crate::plan::state::Probe;
use crate::service::certificates::{CHALLENGE_PROBE, CHALLENGE_UNIT, SITES_FOLDER};
use crate::service::firewall::explain::{Verdict, explain};
use crate::service::firewall::flows;
use crate::service::platform;

/// What a clock may be off by, seconds: told, refused.
const SKEW: (i64, i64) = (300, 3600);
/// As much as a chain and its key take, bytes.
const ROOM: u32 = 16 * 1024;

/// What one load balancer said.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Readiness {
    /// How many seconds its clock is ahead of ours.
    pub ahead: Option<i64>,
    /// Why a file of a certificate's size does not fit; `None` where it was written.
    pub full: Option<String>,
    /// The names for which it does not answer a CA, and what it said.
    pub silent: BTreeMap<String, String>,
}

/// By load balancer; an error where it could not be asked.
pub type Look = BTreeMap<HostName, Result<Readiness, String>>;

/// Asks all load balancers to which there is a connection, about these names (as `Host` says them).
pub fn look(prepared: &mut Prepared, names: &[String], parallel: usize) -> Look {
    let desired = &prepared.desired;
    let work: Vec<_> = prepared.survey.sessions.iter_mut().collect();
    let asked = run::each(work, parallel, |(host, transport)| {
        let probes = desired.get(host).map(|d| asking(&d.probes, names)).unwrap_or_default();
        let before = OffsetDateTime::now_utc().unix_timestamp();
        let output = transport.run(&script(&probes), b"");
        let after = OffsetDateTime::now_utc().unix_timestamp();
        let seen = output.map(|output| parse(&probes, &wire::pairs(&output.stdout), (before, after)));
        (host.clone(), seen.map_err(|e| e.to_string()))
    });
    asked.into_iter().collect()
}

/// The name that a probe of http-01 is about.
fn about(probe: &Probe) -> Option<&str> {
    probe.title.strip_prefix(CHALLENGE_PROBE).map(str::trim)
}

/// Those of the probes that ask for these names as a CA does.
fn asking<'a>(probes: &'a [Probe], names: &[String]) -> Vec<&'a Probe> {
    probes.iter().filter(|probe| about(probe).is_some_and(|name| names.iter().any(|n| n == name))).collect()
}

fn script(probes: &[&Probe]) -> Script {
    // A file whose name begins with a dot is none that is read there.
    let mut text = format!(
        "umask 077\nfile=\"$ROOT{SITES_FOLDER}/.infra-preflight\"\n\
         emit clock \"$(date +%s)\"\n\
         if real_way {SITES_FOLDER}/-; then\n\
         rm -f \"$file\"\n\
         hear dd if=/dev/zero of=\"$file\" bs={ROOM} count=1 conv=excl,fsync status=none || emit full \"$heard\"\n\
         rm -f \"$file\"\n\
         else emit full \"$odd\"; fi\n"
    );
    for (number, probe) in probes.iter().enumerate() {
        let command = quote(&probe.command);
        text.push_str(&format!("hear timeout 6 sh -c {command} || emit silent \"{number} $heard\"\n"));
    }
    // Each probe gives up by itself after 5 seconds.
    let patience = 60 + 6 * u64::try_from(probes.len()).unwrap_or(0);
    wire::question("look before an order", &text).within(std::time::Duration::from_secs(patience))
}

/// Reads an answer; `(before, after)` is our own clock around it. An answer that does not end counts as full: nothing is
/// known of what comes after it.
fn parse(probes: &[&Probe], told: &Pairs, (before, after): (i64, i64)) -> Readiness {
    let mut seen = Readiness::default();
    for (key, value) in told.iter() {
        match key {
            "clock" => {
                // Somewhere between our two looks at the clock is no skew.
                let off = |clock: i64| if clock < before { clock - before } else { (clock - after).max(0) };
                seen.ahead = value.trim().parse().ok().map(off);
            }
            "full" => seen.full = Some(report::phrase(value)),
            "silent" => {
                let (number, said) = value.split_once(' ').unwrap_or((value, ""));
                let name = number.parse::<usize>().ok().and_then(|n| about(probes.get(n)?));
                seen.silent.extend(name.map(|name| (name.to_owned(), report::phrase(said))));
            }
            _ => {}
        }
    }
    if !told.is_whole() && seen.full.is_none() {
        seen.full = Some("its answer does not end".to_owned());
    }
    seen
}

/// What one load balancer says against an order for `names` (as `Host` says them).
pub fn judge(host: &HostName, seen: &Result<Readiness, String>, names: &[String]) -> Vec<Finding> {
    let seen = match seen {
        Ok(seen) => seen,
        Err(why) => {
            let todo = "an order needs every load balancer that a CA may ask; run this again when it answers";
            return vec![Finding::refusal(format!("{host} does not answer: {why}"), todo)];
        }
    };
    let mut findings = Vec::new();
    let (told, refused) = SKEW;
    if let Some(ahead) = seen.ahead.filter(|ahead| ahead.abs() > told) {
        let way = if ahead > 0 { "ahead of" } else { "behind" };
        let what = format!("{host}: its clock is {} {way} this machine's", count(ahead.abs() / 60, "minute"));
        let todo = "set it right (`timedatectl set-ntp true`): certificates are valid by the clock";
        findings.push(if ahead.abs() > refused { Finding::refusal(what, todo) } else { Finding::warning(what, todo) });
    }
    if let Some(why) = &seen.full {
        findings.push(Finding::refusal(
            format!("{host}: a file of {} KiB cannot be written to {SITES_FOLDER}: {why}", ROOM / 1024),
            "make room there (`df -h`, `df -i`), or make it writable: the new certificate would not fit",
        ));
    }
    for (name, said) in seen.silent.iter().filter(|(name, _)| names.contains(name)) {
        findings.push(Finding::refusal(
            format!("{host} does not answer a CA for {name} ({said})"),
            format!("look at `systemctl status {CHALLENGE_UNIT}` on it; `infra apply` puts the right answer there"),
        ));
    }
    findings
}

/// What the firewall says against http-01: a load balancer whose port 80 is not open to the whole internet of a family.
pub fn firewall(site: &Site, host: &HostName) -> Vec<Finding> {
    let ends = ("internet", host.as_str());
    let Ok(answer) = explain(site, &platform::oldest(), &flows::derive(site), ends, Some(Port::HTTP), Proto::Tcp)
    else {
        return Vec::new();
    };
    if answer.verdict == Verdict::Allowed {
        return Vec::new();
    }
    // Where it has no address of a family, nobody asks it there.
    let edge = dns_check::edge(site);
    let has = |ipv4: bool| edge.iter().any(|(address, name)| name == host && address.is_ipv4() == ipv4);
    let shut = answer.sides.iter().filter(|side| !side.accepted && has(!side.peer.contains(':')));
    let findings = shut.map(|side| {
        let by = match (&side.flow, &side.place) {
            (Some(flow), Some(place)) => format!("`{flow}` ({place})"),
            (Some(flow), None) => format!("`{flow}`"),
            (None, _) => "no flow allows it".to_owned(),
        };
        Finding::refusal(
            format!("{host}: its firewall lets nobody of {} in to 80/tcp: {by}", side.peer),
            "a CA asks there: take the network out of `firewall.block`, or prove by `challenge: dns-01`",
        )
    });
    findings.collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::pki::dns_check::Weight;
    use crate::plan::state::Phase;

    fn probe(name: &str) -> Probe {
        Probe {
            phase: Phase::Edge,
            title: format!("{CHALLENGE_PROBE} {name}"),
            command: "false".into(),
            within: Duration::ZERO,
            advisory: false,
        }
    }

    #[test]
    fn answers_are_read_and_judged() {
        let probes = [probe("a.example.com"), probe("b.example.com"), probe("[2001:db8::1]")];
        let names = ["a.example.com".to_owned(), "[2001:db8::1]".to_owned()];
        let asked = asking(&probes, &names);
        assert_eq!(asked.len(), 2);
        let refusal = Weight::Refusal;
        // A line for each pair, `end` without a value.
        let table: [(&str, &[(Weight, &str)]); 9] = [
            ("clock 1000\nend ", &[]),
            ("clock 1302\nend ", &[]),
            ("clock 1303\nend ", &[(Weight::Warning, "lb1: its clock is 5 minutes ahead of")]),
            ("clock -2599\nend ", &[(Weight::Warning, "lb1: its clock is 59 minutes behind")]),
            ("clock -2601\nend ", &[(refusal, "lb1: its clock is 60 minutes behind")]),
            ("clock 1000\nfull dd: No space left on device\nend ", &[(refusal, "No space left")]),
            ("clock 1000\nsilent 0 answered: 503\nend ", &[(refusal, "for a.example.com (answered: 503)")]),
            ("clock 1000\nsilent 1\nsilent 7 x\nsilent \nend ", &[(refusal, "for [2001:db8::1] ()")]),
            ("clock 1000", &[(refusal, "does not end")]),
        ];
        let told = |text: &str| {
            wire::pairs(
                text.lines().fold(String::new(), |all, line| all + &line.replacen(' ', "\0", 1) + "\0").as_bytes(),
            )
        };
        let host: HostName = "lb1".parse().unwrap();
        for (text, expected) in table {
            let seen = parse(&asked, &told(text), (1000, 1002));
            let told = judge(&host, &Ok(seen), &names);
            assert_eq!(told.len(), expected.len(), "{text}: {told:?}");
            for (finding, (weight, what)) in told.iter().zip(expected) {
                assert!(finding.weight == *weight && finding.what.contains(what), "{text}: {finding:?}");
            }
        }
        // Another site's silence stops this one not.
        let seen = parse(&asked, &told("silent 1 x\nend "), (0, 0));
        assert_eq!(judge(&host, &Ok(seen), &names[..1]), []);
        assert_eq!(judge(&host, &Err("lost".into()), &names).len(), 1);
    }

    #[test]
    fn the_script_answers_in_a_folder() {
        let dir = tempfile::tempdir().unwrap();
        let run = |probes: &[&Probe]| {
            let script = script(probes);
            let output = std::process::Command::new("sh").args(["-c", &script.text]).env("ROOT", dir.path()).output();
            let output = output.unwrap();
            parse(probes, &wire::pairs(&output.stdout), (0, i64::MAX))
        };
        let good = Probe { command: "said='a b'\n[ \"$said\" = 'a b' ] || { echo no; exit 1; }".into(), ..probe("a") };
        let bad = Probe { command: "echo \"it's 404\"; exit 1".into(), ..probe("b") };
        let seen = run(&[&good, &bad]);
        assert_eq!(seen.silent, BTreeMap::from([("b".to_owned(), "it's 404".to_owned())]));
        assert!(seen.full.is_some_and(|why| why.contains("No such file")), "there is no such folder yet");
        let folder = dir.path().join(SITES_FOLDER.trim_start_matches('/'));
        std::fs::create_dir_all(&folder).unwrap();
        assert_eq!(run(&[]), Readiness { ahead: Some(0), ..Readiness::default() });
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 0);
        // Nothing is written through a link, neither at the file's name nor at the folder's.
        let theirs = dir.path().join("theirs");
        std::fs::write(&theirs, "theirs").unwrap();
        std::os::unix::fs::symlink(&theirs, folder.join(".infra-preflight")).unwrap();
        assert_eq!(run(&[]).full, None);
        assert_eq!(std::fs::read_to_string(&theirs).unwrap(), "theirs");
        let elsewhere = dir.path().join("elsewhere");
        std::fs::rename(&folder, &elsewhere).unwrap();
        std::os::unix::fs::symlink(&elsewhere, &folder).unwrap();
        assert!(run(&[]).full.is_some_and(|why| why.contains("/etc/haproxy/sites is a link")));
        assert_eq!(std::fs::read_dir(&elsewhere).unwrap().count(), 0);
    }

    #[test]
    fn a_blocked_internet_is_told_with_its_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("inventory.yml");
        let text = "name: shop
hosts:
  lb1: { address: [10.0.1.11], roles: [lb], public: [203.0.113.11, \"2001:db8::11\"] }
  web1: { address: [10.0.2.11], roles: [web] }
firewall:
  manage_from: [10.0.0.0/24]
  block: [192.0.2.0/24]
sites:
  shop.example.com: { static: { root: /srv/shop, prefix: / } }
certificates: { issuer: letsencrypt, contact: ops@example.com }
";
        std::fs::write(&path, text).unwrap();
        let mut site = crate::inventory::load::load(&path).unwrap().0;
        let host: HostName = "lb1".parse().unwrap();
        assert_eq!(firewall(&site, &host), []);
        // The inventory refuses this where it would part the hosts from each other.
        let place = crate::inventory::site::Place { file: "inventory.yml".into(), line: 7 };
        site.firewall.block.push(("::/0".parse().unwrap(), place));
        let shut = firewall(&site, &host);
        assert_eq!(shut.len(), 1, "{shut:?}");
        let what = "lb1: its firewall lets nobody of ::/0 in to 80/tcp: `firewall.block` (inventory.yml:7)";
        assert_eq!(shut[0].what, what);
        // A family in which nobody meets it is no matter.
        site.hosts.get_mut(&host).unwrap().public.retain(std::net::IpAddr::is_ipv4);
        assert_eq!(firewall(&site, &host), []);
    }
}
