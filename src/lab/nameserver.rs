//! The name servers of the twin's world where certificates are asked for by DNS: three of BIND's `named` in `outside`, a
//! primary that takes dynamic updates (RFC 2136) and signs (RFC 4035), a secondary that copies it, and a resolver that
//! believes only what is signed. Takes the spec's zones, names and addresses, gives running servers and the key that may
//! set challenges.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use data_encoding::BASE64;

use super::spec::{Outside, Spec};
use super::{Error, command, net, requirements};
use crate::base::fsx;

/// The key's name, as both sides of a transaction signature tell it (RFC 8945 §4.2).
const KEY: &str = "infra-lab";
/// Who is the first server of a zone, below it, and who the second; and who asks them for everybody else.
const SERVERS: [&str; 3] = ["ns1", "ns2", "resolver"];
/// How long resolvers may keep what they are told, and what they are not told; seconds.
const TTL: (u32, u32) = (60, 1);

/// The zone of a name by a simple rule: its last two labels. That is wrong for what is registered below a suffix of two
/// (`example.co.uk`), where the lab's zone is larger than the real one.
pub(super) fn zone_of(name: &str) -> &str {
    let from = name.rmatch_indices('.').nth(1).map_or(0, |(at, _)| at + 1);
    name.get(from..).unwrap_or(name)
}

/// Where the key for updates is kept, and where those of the zones.
const UPDATE: &str = "update.key";
const KEYS: &str = "keys";

/// The key that may set and remove challenges, in named's format (what nsupdate(1) takes by `-k`).
pub(super) fn key(dir: &Path) -> PathBuf {
    dir.join("outside/nameserver").join(UPDATE)
}

/// One of the three.
struct Server {
    /// Its name.
    name: &'static str,
    addresses: Vec<IpAddr>,
    /// Where it keeps everything.
    folder: PathBuf,
}

impl Server {
    fn config(&self) -> PathBuf {
        self.folder.join("named.conf")
    }
}

fn failed(reason: &impl ToString) -> Error {
    Error::Command { what: "start the twin's name servers".to_owned(), reason: reason.to_string() }
}

/// `{ 192.0.2.1; 2001:db8::1; }`
fn list<'a>(addresses: impl IntoIterator<Item = &'a IpAddr>) -> String {
    addresses.into_iter().fold("{ ".to_owned(), |all, address| all + &format!("{address}; ")) + "}"
}

/// What all have in common: nothing but its own folder and addresses is touched, and nothing listens for rndc(8).
fn options(server: &Server, own: &str) -> String {
    let mut text = format!(
        "options {{\n  directory \"{}\";\n  pid-file none;\n  lock-file none;\n  session-keyfile none;\n  \
         interface-interval 0;\n  querylog yes;\n{own}",
        server.folder.display()
    );
    // All stand on one interface: each must come from its own address, or the other would not know it.
    for (like, family) in [("-v6", false), ("", true)] {
        let own: Vec<&IpAddr> = server.addresses.iter().filter(|a| a.is_ipv4() == family).collect();
        // Writing to a string cannot fail.
        let _ = writeln!(text, "  listen-on{like} port 53 {};", list(own.iter().copied()));
        for address in own {
            let _ = writeln!(text, "  notify-source{like} {address};\n  transfer-source{like} {address};");
        }
    }
    text + "};\ncontrols { };\n"
}

/// Of one that only says what it knows.
const AUTHORITATIVE: &str = "  recursion no;\n  dnssec-validation no;\n  notify-delay 1;\n";

/// named.conf(5) of the primary. The key may change TXT records at the challenges' names (RFC 8555 §8.4) and nothing else.
fn primary(spec: &Spec, here: &Path, own: &Server, other: &Server) -> String {
    let mut text = format!("include \"{}\";\n{}", here.join(UPDATE).display(), options(own, AUTHORITATIVE));
    let other = list(&other.addresses);
    for zone in &spec.zones {
        let names = spec.names.keys().filter(|name| spec.zone(name) == Some(zone));
        let mut names: Vec<&str> = names.map(|name| name.strip_prefix("*.").unwrap_or(name)).collect();
        names.push(zone);
        names.sort_unstable();
        names.dedup();
        let grants = names.iter().map(|name| format!("    grant {KEY} name _acme-challenge.{name}. TXT;\n"));
        let _ = writeln!(
            text,
            "zone \"{zone}\" {{\n  type primary;\n  file \"{zone}.zone\";\n  key-directory \"{}\";\n  \
             dnssec-policy default;\n  notify explicit;\n  also-notify {other};\n  allow-transfer {other};\n  \
             update-policy {{\n{}  }};\n}};",
            here.join(KEYS).display(),
            grants.collect::<String>()
        );
    }
    text
}

/// named.conf(5) of the secondary.
fn secondary(spec: &Spec, own: &Server, other: &Server) -> String {
    let mut text = options(own, AUTHORITATIVE);
    for zone in &spec.zones {
        let _ = writeln!(
            text,
            "zone \"{zone}\" {{\n  type secondary;\n  file \"{zone}.zone\";\n  notify no;\n  primaries {};\n}};",
            list(&other.addresses)
        );
    }
    text
}

/// named.conf(5) of the resolver, with each zone's public key in place of a parent's word for it.
fn resolver(zones: &[(&str, String)], own: &Server, primary: &Server) -> String {
    // What was asked before an update is forgotten soon, or an order would wait for it.
    let validating = "  recursion yes;\n  allow-recursion { any; };\n  dnssec-validation yes;\n  empty-zones-enable no;\n  \
                      max-cache-ttl 1;\n  max-ncache-ttl 1;\n";
    let mut text = options(own, validating);
    for (zone, anchor) in zones {
        let _ = writeln!(
            text,
            "trust-anchors {{ \"{zone}.\" static-key {anchor}; }};\n\
             zone \"{zone}\" {{\n  type static-stub;\n  server-addresses {};\n}};",
            list(&primary.addresses)
        );
    }
    text
}

/// The public key that a zone is signed with, as `trust-anchors` takes it; made if there is none.
fn anchor(keys: &Path, zone: &str) -> Result<String, Error> {
    let find = || {
        let names = std::fs::read_dir(keys).ok()?.flatten().map(|entry| entry.path());
        let of_zone = |path: &PathBuf| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.starts_with(&format!("K{zone}.+")) && name.ends_with(".key")
        };
        names.filter(of_zone).min()
    };
    if find().is_none() {
        let mut keygen = Command::new("dnssec-keygen");
        command::run("make a zone's key", keygen.args(["-q", "-k", "default", "-K"]).arg(keys).arg(zone))?;
    }
    let text = fs_err::read_to_string(find().ok_or_else(|| failed(&format!("{zone} has no key")))?)?;
    let record = text.lines().find_map(|line| Some(line.split_once(" DNSKEY ")?.1));
    let fields: Vec<&str> = record.unwrap_or_default().splitn(4, ' ').collect();
    match fields.as_slice() {
        [flags, protocol, algorithm, key] => Ok(format!("{flags} {protocol} {algorithm} \"{key}\"")),
        _ => Err(failed(&format!("the key of {zone} cannot be read"))),
    }
}

/// A zone as it begins (RFC 1035 §5): its servers, and the addresses of the spec's names in it.
fn zone_file(spec: &Spec, zone: &str, servers: [&Server; 2]) -> String {
    let (ttl, none) = TTL;
    let mut text = format!("$TTL {ttl}\n@ SOA {}.{zone}. hostmaster.{zone}. 1 60 5 86400 {none}\n", SERVERS[0]);
    let own = servers.iter().map(|s| (format!("{}.{zone}", s.name), s.addresses.as_slice()));
    for (name, _) in own.clone() {
        let _ = writeln!(text, "@ NS {name}.");
    }
    let given = spec.names.iter().filter(|(name, _)| spec.zone(name) == Some(zone));
    for (name, addresses) in own.chain(given.map(|(name, addresses)| (name.clone(), addresses.as_slice()))) {
        for address in addresses {
            let kind = if address.is_ipv4() { "A" } else { "AAAA" };
            let _ = writeln!(text, "{name}. {kind} {address}");
        }
    }
    text
}

/// Starts what does not run. What was set by updates stays, unless the spec has changed since: then the zones begin anew.
pub(super) fn start(spec: &Spec, outside: &Outside, dir: &Path) -> Result<(), Error> {
    let key = key(dir);
    let here = dir.join("outside/nameserver");
    fsx::private_dir(&here)?;
    if !key.exists() {
        let mut secret = [0; 32];
        getrandom::fill(&mut secret).map_err(|e| failed(&e))?;
        let text =
            format!("key \"{KEY}\" {{\n  algorithm hmac-sha256;\n  secret \"{}\";\n}};\n", BASE64.encode(&secret));
        fsx::write_atomic(&key, text.as_bytes(), 0o600)?;
    }
    let keys = here.join(KEYS);
    fsx::private_dir(&keys)?;
    let servers: Vec<Server> = SERVERS
        .iter()
        .zip(&outside.nameservers)
        .map(|(name, addresses)| Server { name, addresses: addresses.clone(), folder: here.join(name) })
        .collect();
    let [one, two, three] = servers.as_slice() else { return Err(failed(&"they have no addresses")) };
    let anchors: Vec<(&str, String)> =
        spec.zones.iter().map(|zone| Ok((zone.as_str(), anchor(&keys, zone)?))).collect::<Result<_, Error>>()?;
    let mut files = vec![
        (one.config(), primary(spec, &here, one, two)),
        (two.config(), secondary(spec, two, one)),
        (three.config(), resolver(&anchors, three, one)),
    ];
    files.extend(
        spec.zones.iter().map(|zone| (one.folder.join(format!("{zone}.zone")), zone_file(spec, zone, [one, two]))),
    );
    // named writes into its zone files, so what they were made from is kept apart.
    let wanted = files.iter().fold(String::new(), |all, (path, text)| all + &format!("# {}\n{text}", path.display()));
    let made_from = here.join("made-from");
    let same = std::fs::read_to_string(&made_from).is_ok_and(|old| old == wanted);
    let namespace = net::namespace(&spec.name, "outside");
    let running = |server: &Server| {
        let inside = net::pids(&namespace);
        let all = command::processes().into_iter().filter(|p| inside.contains(&p.pid));
        all.filter(|p| p.has(&server.config().to_string_lossy())).map(|p| p.pid).collect::<Vec<u32>>()
    };
    if !same {
        let old: Vec<u32> = servers.iter().flat_map(&running).collect();
        command::kill(&old);
        let deadline = Instant::now() + Duration::from_secs(10);
        let ended = || servers.iter().all(|s| running(s).is_empty()).then_some(());
        command::wait_for(deadline, Duration::from_millis(20), ended);
        for folder in servers.iter().map(|s| &s.folder) {
            if folder.exists() {
                fs_err::remove_dir_all(folder)?;
            }
            fsx::private_dir(folder)?;
        }
        files.iter().try_for_each(|(path, text)| fsx::write_atomic(path, text.as_bytes(), 0o600))?;
        fsx::write_atomic(&made_from, wanted.as_bytes(), 0o600)?;
    }
    // The resolver last: it would remember for a while that a zone is not signed yet.
    let start = |server: &Server| {
        if running(server).is_empty() {
            launch(&namespace, &here, server)?;
        }
        let deadline = Instant::now() + Duration::from_secs(20);
        let answer = || serves(&namespace, spec, server).then_some(());
        command::wait_for(deadline, Duration::from_millis(100), answer).ok_or_else(|| {
            let log = std::fs::read_to_string(here.join(format!("{}.log", server.name))).unwrap_or_default();
            failed(&command::last_lines(&log, 4))
        })
    };
    servers.iter().try_for_each(start)
}

/// Runs a copy of the program: where `AppArmor` confines it by its path (Debian, Ubuntu), it may read nothing of the lab.
fn launch(namespace: &str, here: &Path, server: &Server) -> Result<(), Error> {
    let program = requirements::find("named").ok_or_else(|| failed(&"there is no `named`"))?;
    let copy = here.join("named");
    fsx::write_atomic(&copy, &fs_err::read(program)?, 0o755)?;
    let enter = format!("--net={}", net::file(namespace).display());
    // In the foreground, words to stderr.
    let argv = ["nsenter".as_ref(), OsStr::new(&enter), copy.as_os_str()];
    let more = ["-g", "-n", "1", "-c"].map(OsStr::new);
    let config = server.config();
    let argv: Vec<&OsStr> = argv.into_iter().chain(more).chain([config.as_os_str()]).collect();
    command::detach("start a name server", &here.join(format!("{}.log", server.name)), &argv)
}

/// Whether it answers for each zone over each of its addresses: with signatures, and the resolver that they are good (RFC 4035
/// §3.2.3: the bit AD).
fn serves(namespace: &str, spec: &Spec, server: &Server) -> bool {
    let resolves = server.name == SERVERS[2];
    let ask = |zone: &str, address: &IpAddr| {
        let mut dig = Command::new("nsenter");
        dig.arg(format!("--net={}", net::file(namespace).display()));
        dig.args(["dig", "+dnssec", "+tries=1", "+time=2", &format!("@{address}"), &format!("ns2.{zone}"), "A"]);
        let said = command::run("ask a name server", &mut dig).unwrap_or_default();
        said.contains("RRSIG") && (!resolves || said.contains(" ad; "))
    };
    spec.zones.iter().all(|zone| server.addresses.iter().all(|address| ask(zone, address)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> (Spec, Outside) {
        let address = |text: &str| vec![text.parse().unwrap()];
        let spec = Spec {
            name: "shop".to_owned(),
            zones: ["example.com".to_owned()].into(),
            names: [
                ("*.shop.example.com".to_owned(), address("203.0.113.11")),
                ("shop.example.com".to_owned(), address("2001:db8:113::11")),
                ("notexample.com".to_owned(), address("203.0.113.12")),
            ]
            .into(),
            ..Spec::default()
        };
        let outside = spec.choose_outside(None).unwrap();
        (spec, outside)
    }

    fn servers(outside: &Outside) -> [Server; 3] {
        [0, 1, 2].map(|n| Server {
            name: SERVERS[n],
            addresses: outside.nameservers[n].clone(),
            folder: PathBuf::from("/l").join(SERVERS[n]),
        })
    }

    #[test]
    fn a_zone_is_the_last_two_labels() {
        for (name, zone) in [
            ("example.com", "example.com"),
            ("a.b.example.com", "example.com"),
            ("*.example.com", "example.com"),
            ("localhost", "localhost"),
        ] {
            assert_eq!(zone_of(name), zone);
        }
    }

    #[test]
    fn the_key_may_set_challenges_of_the_zone_and_nothing_else() {
        let (spec, outside) = spec();
        let [one, two, _] = servers(&outside);
        let text = primary(&spec, Path::new("/l"), &one, &two);
        let grants: Vec<&str> = text.lines().map(str::trim).filter(|l| l.starts_with("grant")).collect();
        assert_eq!(
            grants,
            [
                "grant infra-lab name _acme-challenge.example.com. TXT;",
                "grant infra-lab name _acme-challenge.shop.example.com. TXT;"
            ]
        );
        assert!(text.contains("controls { };\n") && text.contains("recursion no;\n"));
    }

    #[test]
    fn a_zone_holds_its_names_and_the_way_to_its_servers() {
        let (spec, outside) = spec();
        let [one, two, three] = servers(&outside);
        let text = zone_file(&spec, "example.com", [&one, &two]);
        for line in [
            "@ NS ns1.example.com.",
            "@ NS ns2.example.com.",
            "ns2.example.com. A 192.0.2.251",
            "*.shop.example.com. A 203.0.113.11",
            "shop.example.com. AAAA 2001:db8:113::11",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} in\n{text}");
        }
        assert!(!text.contains("notexample"));
        let text = resolver(&[("example.com", "257 3 13 \"a b\"".to_owned())], &three, &one);
        assert!(text.contains("trust-anchors { \"example.com.\" static-key 257 3 13 \"a b\"; };\n"), "{text}");
    }
}
