//! The name servers of the twin's world where certificates are asked for by DNS: two of BIND's `named` in `outside`, a
//! primary that takes dynamic updates (RFC 2136) and a secondary that copies it. Takes the spec's zones, names and
//! addresses, gives running servers and the key that may set challenges.

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
/// Who is the first server of a zone, below it, and who the second.
const SERVERS: [&str; 2] = ["ns1", "ns2"];
/// How long resolvers may keep what they are told, and what they are not told; seconds.
const TTL: (u32, u32) = (60, 1);

/// The zone of a name by a simple rule: its last two labels. That is wrong for what is registered below a suffix of two
/// (`example.co.uk`), where the lab's zone is larger than the real one.
pub(super) fn zone_of(name: &str) -> &str {
    let from = name.rmatch_indices('.').nth(1).map_or(0, |(at, _)| at + 1);
    name.get(from..).unwrap_or(name)
}

/// The key that may set and remove challenges, in named's format (what nsupdate(1) takes by `-k`).
pub(super) fn key(dir: &Path) -> PathBuf {
    dir.join("outside/nameserver/update.key")
}

/// One of the two.
struct Server {
    /// Its name and its folder's.
    name: &'static str,
    addresses: Vec<IpAddr>,
    config: PathBuf,
}

fn failed(reason: &impl ToString) -> Error {
    Error::Command { what: "start the twin's name servers".to_owned(), reason: reason.to_string() }
}

/// `{ 192.0.2.1; 2001:db8::1; }`
fn list<'a>(addresses: impl IntoIterator<Item = &'a IpAddr>) -> String {
    addresses.into_iter().fold("{ ".to_owned(), |all, address| all + &format!("{address}; ")) + "}"
}

/// What both have in common: nothing but its own folder and addresses is touched, and nothing listens for rndc(8).
fn options(folder: &Path, addresses: &[IpAddr]) -> String {
    let mut text = format!(
        "options {{\n  directory \"{}\";\n  pid-file none;\n  lock-file none;\n  session-keyfile none;\n  \
         dnssec-validation no;\n  recursion no;\n  interface-interval 0;\n  querylog yes;\n  notify-delay 1;\n",
        folder.display()
    );
    // All stand on one interface: each must come from its own address, or the other would not know it.
    for (like, family) in [("-v6", false), ("", true)] {
        let own: Vec<&IpAddr> = addresses.iter().filter(|a| a.is_ipv4() == family).collect();
        // Writing to a string cannot fail.
        let _ = writeln!(text, "  listen-on{like} port 53 {};", list(own.iter().copied()));
        for address in own {
            let _ = writeln!(text, "  notify-source{like} {address};\n  transfer-source{like} {address};");
        }
    }
    text + "};\ncontrols { };\n"
}

/// named.conf(5) of the primary. The key may change TXT records at the challenges' names (RFC 8555 §8.4) and nothing else.
fn primary(spec: &Spec, key: &Path, folder: &Path, own: &[IpAddr], other: &[IpAddr]) -> String {
    let mut text = format!("include \"{}\";\n{}", key.display(), options(folder, own));
    for zone in &spec.zones {
        let names = spec.names.keys().filter(|name| spec.zone(name) == Some(zone));
        let mut names: Vec<&str> = names.map(|name| name.strip_prefix("*.").unwrap_or(name)).collect();
        names.push(zone);
        names.sort_unstable();
        names.dedup();
        let grants = names.iter().map(|name| format!("    grant {KEY} name _acme-challenge.{name}. TXT;\n"));
        let _ = writeln!(
            text,
            "zone \"{zone}\" {{\n  type primary;\n  file \"{zone}.zone\";\n  notify explicit;\n  also-notify {};\n  \
             allow-transfer {};\n  update-policy {{\n{}  }};\n}};",
            list(other),
            list(other),
            grants.collect::<String>()
        );
    }
    text
}

/// named.conf(5) of the secondary.
fn secondary(spec: &Spec, folder: &Path, own: &[IpAddr], other: &[IpAddr]) -> String {
    let mut text = options(folder, own);
    for zone in &spec.zones {
        let _ = writeln!(
            text,
            "zone \"{zone}\" {{\n  type secondary;\n  file \"{zone}.zone\";\n  notify no;\n  primaries {};\n}};",
            list(other)
        );
    }
    text
}

/// A zone as it begins (RFC 1035 §5): its servers, and the addresses of the spec's names in it.
fn zone_file(spec: &Spec, zone: &str, servers: &[Server]) -> String {
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
    let [first, second] = outside.nameservers.as_slice() else { return Err(failed(&"it has no addresses")) };
    let folders = SERVERS.map(|name| here.join(name));
    let servers: Vec<Server> = SERVERS
        .iter()
        .zip(&folders)
        .zip([first, second])
        .map(|((name, folder), addresses)| Server {
            name,
            addresses: addresses.clone(),
            config: folder.join("named.conf"),
        })
        .collect();
    let [one, two] = &folders;
    let mut files = vec![
        (one.join("named.conf"), primary(spec, &key, one, first, second)),
        (two.join("named.conf"), secondary(spec, two, second, first)),
    ];
    files.extend(spec.zones.iter().map(|zone| (one.join(format!("{zone}.zone")), zone_file(spec, zone, &servers))));
    // named writes into its zone files, so what they were made from is kept apart.
    let wanted = files.iter().fold(String::new(), |all, (path, text)| all + &format!("# {}\n{text}", path.display()));
    let made_from = here.join("made-from");
    let same = std::fs::read_to_string(&made_from).is_ok_and(|old| old == wanted);
    let namespace = net::namespace(&spec.name, "outside");
    let running = |server: &Server| {
        let inside = net::pids(&namespace);
        let all = command::processes().into_iter().filter(|p| inside.contains(&p.pid));
        all.filter(|p| p.has(&server.config.to_string_lossy())).map(|p| p.pid).collect::<Vec<u32>>()
    };
    if !same {
        let old: Vec<u32> = servers.iter().flat_map(&running).collect();
        command::kill(&old);
        let deadline = Instant::now() + Duration::from_secs(10);
        let ended = || servers.iter().all(|s| running(s).is_empty()).then_some(());
        command::wait_for(deadline, Duration::from_millis(20), ended);
        for folder in &folders {
            if folder.exists() {
                fs_err::remove_dir_all(folder)?;
            }
            fsx::private_dir(folder)?;
        }
        files.iter().try_for_each(|(path, text)| fsx::write_atomic(path, text.as_bytes(), 0o600))?;
        fsx::write_atomic(&made_from, wanted.as_bytes(), 0o600)?;
    }
    for server in servers.iter().filter(|s| running(s).is_empty()) {
        launch(&namespace, &here, server)?;
    }
    let answer = || servers.iter().all(|s| serves(&namespace, spec, s)).then_some(());
    let deadline = Instant::now() + Duration::from_secs(20);
    command::wait_for(deadline, Duration::from_millis(100), answer).ok_or_else(|| {
        let logs = SERVERS.map(|name| std::fs::read_to_string(here.join(format!("{name}.log"))).unwrap_or_default());
        failed(&logs.map(|log| command::last_lines(&log, 3)).join(" · "))
    })
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
    let argv: Vec<&OsStr> = argv.into_iter().chain(more).chain([server.config.as_os_str()]).collect();
    command::detach("start a name server", &here.join(format!("{}.log", server.name)), &argv)
}

/// Whether it answers for each zone, over each of its addresses.
fn serves(namespace: &str, spec: &Spec, server: &Server) -> bool {
    let ask = |zone: &str, address: &IpAddr| {
        let mut nslookup = Command::new("nsenter");
        nslookup.arg(format!("--net={}", net::file(namespace).display()));
        nslookup.args(["busybox", "nslookup", "-type=soa", zone, &address.to_string()]);
        command::run("ask a name server", &mut nslookup).is_ok_and(|said| said.contains("serial"))
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
        let [one, two] = outside.nameservers.as_slice() else { panic!("{outside:?}") };
        let text = primary(&spec, Path::new("/l/key"), Path::new("/l/ns1"), one, two);
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
        let server =
            |name, addresses: &[IpAddr]| Server { name, addresses: addresses.to_vec(), config: PathBuf::new() };
        let [one, two] = outside.nameservers.as_slice() else { panic!("{outside:?}") };
        let text = zone_file(&spec, "example.com", &[server("ns1", one), server("ns2", two)]);
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
    }
}
