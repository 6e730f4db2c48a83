//! Groups as data: what each of them needs, and what is told.

use std::path::Path;

use super::*;
use crate::inventory::load::load_text;
use crate::inventory::site::Engine;
use crate::plan::state::Observed;
use crate::service::database::gtid::Gtid;
use crate::service::database::seen::{Later, NOW, Now, Origin, Running, SEEN, Seen, Server, Source, Threads, Written};
use crate::service::platform;
use proptest::prelude::*;

const INVENTORY: &str = "name: shop
hosts:
  db1: { address: 10.0.4.11, roles: [db] }
  db2: { address: 10.0.4.12, roles: [db] }
  db3: { address: 10.0.4.13, roles: [db] }
firewall: { manage_from: [10.0.0.0/24] }
certificates: { issuer: internal }
database: { engine: mariadb, primary: db1, schemas: [shop] }
";

fn site() -> Site {
    load_text(INVENTORY, Path::new("inventory.yml")).unwrap_or_else(|e| panic!("{e:?}")).0
}

fn gtid(text: &str) -> Option<Gtid> {
    Gtid::parse(Engine::Mariadb, text)
}

type Host = Option<(Seen, Now)>;

/// A server with nothing on it, as its package leaves it.
fn packaged() -> (Seen, Now) {
    let server = Server { version: "10.11.19-MariaDB".into(), server_id: 1, ..Server::default() };
    let seen = Seen { engine: Some(Engine::Mariadb), server: Some(server), ..Seen::default() };
    (seen, Now { executed: gtid(""), state: gtid(""), ..Now::default() })
}

/// One that infra has set up, and that holds the schema.
fn set_up(id: u32, epoch: u64, writer: &str) -> (Seen, Now) {
    let (mut seen, mut now) = packaged();
    seen.schemas.insert("shop".into());
    seen.has_own = true;
    seen.written = [("gtid_strict_mode", "ON"), ("sync_binlog", "1")].map(|(a, b)| (a.to_owned(), b.to_owned())).into();
    if let Some(server) = &mut seen.server {
        server.server_id = id;
        (server.log_bin, server.gtid, server.read_only, server.has_tables) = (true, true, true, true);
        server.certificate = Some("/etc/mysql/infra/server.crt".into());
        server.role = Some(Written { epoch, writer: writer.into(), since: String::new() });
    }
    (now.executed, now.state, now.purged) = (gtid("1-101-9"), gtid("1-101-9"), gtid(""));
    (seen, now)
}

fn server(host: &mut Host) -> &mut Server {
    host.as_mut().unwrap().0.server.as_mut().unwrap()
}

fn writer(id: u32, epoch: u64, name: &str) -> Host {
    let mut host = Some(set_up(id, epoch, name));
    (server(&mut host).read_only, server(&mut host).semi_sync) = (false, true);
    host
}

fn replica(id: u32, epoch: u64, name: &str, of: &str) -> Host {
    let mut host = Some(set_up(id, epoch, name));
    let (user, host_name) = ("infra_repl".to_owned(), of.to_owned());
    let source = Source {
        host: host_name,
        user,
        port: 3306,
        by_gtid: true,
        verified: true,
        started: true,
        channel: String::new(),
    };
    server(&mut host).sources.push(source);
    host.as_mut().unwrap().1.threads.push(Threads { io: "Yes".into(), sql: "Yes".into(), ..Threads::default() });
    host
}

/// A server of somebody's that infra has never seen.
#[expect(clippy::unnecessary_wraps, reason = "a host as the others are made")]
fn theirs() -> Host {
    let (mut seen, now) = packaged();
    seen.schemas.insert("old".into());
    if let Some(server) = &mut seen.server {
        server.has_tables = true;
    }
    Some((seen, now))
}

fn fleet(hosts: [Host; 3]) -> ObservedFleet {
    let one = |(at, host): (usize, Host)| {
        let mut observed = Observed::bare(platform::oldest());
        if let Some((seen, now)) = host {
            SEEN.put(&seen, &mut observed);
            NOW.put(&now, &mut observed);
        }
        (format!("db{}", at + 1).parse().unwrap(), observed)
    };
    hosts.into_iter().enumerate().map(one).collect()
}

fn kept(epoch: u64, writer: &str, closed: &[&str]) -> Memory {
    let closed = closed.iter().map(|name| name.parse().unwrap()).collect();
    let mut memory = Memory::at(0);
    let kept = Kept { epoch, writer: writer.parse().ok(), closed, ..Kept::default() };
    memory.put(NAME, &kept).unwrap();
    memory
}

fn decided(hosts: [Host; 3], memory: &Memory) -> Result<Decided, Diagnostic> {
    decide(&site(), &fleet(hosts), memory)
}

/// What is done and told, a line each; an error is one line.
fn lines(hosts: [Host; 3], memory: &Memory) -> Vec<String> {
    let decided = match decided(hosts, memory) {
        Ok(decided) => decided,
        Err(error) => return vec![format!("error: {}", error.message)],
    };
    let mut lines = Vec::new();
    for (host, phases) in &decided.hosts {
        for (phase, actions) in phases {
            for action in actions {
                let Action::Perform { task, .. } = action else { panic!("{action:?}") };
                lines.push(format!("{host} {phase}: {}", task.title));
            }
        }
    }
    lines.extend(decided.notes);
    lines
}

fn whole() -> [Host; 3] {
    let of = "10.0.4.11";
    [writer(101, 1, "db1"), replica(102, 1, "db1", of), replica(103, 1, "db1", of)]
}

#[test]
fn bare_hosts_become_a_writer_and_replicas() {
    for hosts in [[None, None, None], [Some(packaged()), Some(packaged()), None]] {
        let decided = decided(hosts.clone(), &Memory::at(0)).unwrap();
        assert_eq!(
            lines(hosts, &Memory::at(0)),
            [
                "db1 primary: make it the writer, epoch 1, with the schema shop",
                "db2 replica: follow db1 from its first transaction on",
                "db3 replica: follow db1 from its first transaction on",
            ]
        );
        assert_eq!(decided.confirms.len(), 3, "nobody uses them yet");
        assert!(decided.remember[NAME]["writer"].is_null(), "nobody has seen yet who writes");
    }
}

#[test]
fn what_is_whole_is_left_as_it_is() {
    assert_eq!(lines(whole(), &Memory::at(0)), [""; 0]);
    let decided = decided(whole(), &kept(1, "db1", &[])).unwrap();
    let confirmed: Vec<&str> = decided.confirms.keys().map(HostName::as_str).collect();
    assert_eq!(confirmed, ["db2", "db3"], "the writer's restart is a person's decision");
    assert_eq!(decided.remember[NAME]["writer"], "db1");
    // Remembered once, it is remembered.
    let mut memory = Memory::at(0);
    memory.put(NAME, &decided.remember[NAME]).unwrap();
    assert!(decide(&site(), &fleet(whole()), &memory).unwrap().news(&memory).is_empty());
}

#[test]
fn a_restart_that_waits_on_the_writer_is_told() {
    let told = |host: &str| {
        let mut fleet = fleet(whole());
        fleet.get_mut(&host.parse::<HostName>().unwrap()).unwrap().held.insert("mariadb.service".into());
        decide(&site(), &fleet, &kept(1, "db1", &[])).unwrap().notes
    };
    assert_eq!(
        told("db1"),
        [
            "settings of db1 wait for a restart, which is yours to decide: with `infra apply --restart-writer` writes stop for a time that nobody has measured yet, as no database server was seen to restart; to have them stop for less than that, run `infra db switchover db2` first, which makes db1 a replica"
        ]
    );
    assert_eq!(told("db2"), [""; 0], "a replica's needs nobody's word");
}

#[test]
fn the_longest_restart_is_told_and_remembered() {
    let mut hosts = whole();
    hosts[1].as_mut().unwrap().1.restart_ms = Some(1_430);
    hosts[2].as_mut().unwrap().1.restart_ms = Some(610);
    let mut fleet = fleet(hosts);
    let writer: HostName = "db1".parse().unwrap();
    fleet.get_mut(&writer).unwrap().held.insert("mariadb.service".into());
    let first = decide(&site(), &fleet, &kept(1, "db1", &[])).unwrap();
    assert!(first.notes[0].contains("writes stop for about 1.4 s, the longest restart"), "{:?}", first.notes);
    // After a boot no host tells it any more.
    let mut memory = Memory::at(0);
    memory.put(NAME, &first.remember[NAME]).unwrap();
    let mut fleet = self::fleet(whole());
    fleet.get_mut(&writer).unwrap().held.insert("mariadb.service".into());
    let later = decide(&site(), &fleet, &memory).unwrap();
    assert_eq!((&later.notes, &later.remember), (&first.notes, &first.remember));
}

/// How the whole group is broken, and what is done and told then.
type Broken = (&'static str, fn(&mut [Host; 3]), &'static [&'static str]);

const BROKEN: [Broken; 26] = [
    ("a replica was stopped", |h| server(&mut h[1]).sources[0].started = false, &["db2 replica: follow db1 again"]),
    (
        "a replica is not fenced",
        |h| server(&mut h[1]).read_only = false,
        &["db2 replica: fence it again; it follows db1"],
    ),
    (
        "the writer came back fenced",
        |h| server(&mut h[0]).read_only = true,
        &["db1 primary: let it write again, epoch 1"],
    ),
    (
        "the writer came back fenced, and another server is silent",
        |h| {
            server(&mut h[0]).read_only = true;
            let (seen, now) = h[2].as_mut().unwrap();
            (seen.server, now.down) = (None, Some("it does not run".into()));
        },
        &[
            "the database of db3 (it does not run) does not tell who writes, so nothing is decided about the group: start the server there, or see `infra db status`",
        ],
    ),
    (
        "a schema is missing",
        |h| {
            h[0].as_mut().unwrap().0.schemas.remove("shop");
        },
        &["db1 primary: make what is missing, with the schema shop"],
    ),
    (
        "the writer waits for nobody",
        |h| server(&mut h[0]).semi_sync = false,
        &["db1 replica: let commits wait for a replica"],
    ),
    (
        "by file and position",
        |h| server(&mut h[1]).sources[0].by_gtid = false,
        &["db2 replica: follow db1 by GTID over verified TLS, no longer by file and position"],
    ),
    ("without TLS", |h| server(&mut h[1]).sources[0].verified = false, &["db2 replica: follow db1 over verified TLS"]),
    (
        "a replica of a replica",
        |h| server(&mut h[2]).sources[0].host = "10.0.4.12".into(),
        &["db3 replica: follow db1, no longer 10.0.4.12"],
    ),
    (
        "a replica of a stranger",
        |h| server(&mut h[2]).sources[0].host = "192.0.2.9".into(),
        &[
            "db3 follows 192.0.2.9, which is no db host of the inventory: `infra db seed db3 --wipe` replaces what is there by a copy of db1's data",
        ],
    ),
    (
        "a switchover that died after the promotion",
        |h| {
            let promoted = server(&mut h[1]);
            promoted.role.as_mut().unwrap().epoch = 2;
            promoted.role.as_mut().unwrap().writer = "db2".into();
            promoted.sources.clear();
            (promoted.read_only, promoted.semi_sync) = (false, true);
            (server(&mut h[0]).read_only, server(&mut h[0]).semi_sync) = (true, false);
        },
        &[
            "db1 replica: follow db2, which writes now",
            "db3 replica: follow db2, no longer 10.0.4.11",
            "db2 writes (epoch 2), and the inventory names db1 as the first writer: set `database.primary: db2`, or run `infra db switchover db1`",
        ],
    ),
    (
        "a replica has what the writer lacks",
        |h| {
            h[1].as_mut().unwrap().1.state = gtid("1-101-9,1-102-10");
            server(&mut h[1]).read_only = false;
        },
        &[
            "db2 primary: fence it: it does not write",
            "db2 has transactions that db1 lacks (1-102-10): `infra db rejoin db2` shows them and takes it in again",
        ],
    ),
    (
        "a replica has stopped with an error",
        |h| {
            server(&mut h[1]).sources[0].started = false;
            h[1].as_mut().unwrap().1.threads[0].sql_error = Some((1062, "Duplicate entry".into()));
        },
        &[
            "db2 has stopped to follow db1 (error 1062, Duplicate entry): mend it and `START SLAVE`, or `infra db seed db2 --wipe` replaces what is there by a copy of db1's data",
        ],
    ),
    (
        "what it needs is purged",
        |h| {
            h[0].as_mut().unwrap().1.purged = gtid("1-101-50");
            server(&mut h[1]).sources[0].host = "10.0.4.13".into();
        },
        &[
            "db2 needs transactions that stand in no binary log of db1 any more: `infra db seed db2 --wipe` replaces what is there by a copy of db1's data",
        ],
    ),
    (
        "somebody's data",
        |h| h[2] = theirs(),
        &[
            "db3 primary: fence it: it does not write",
            "db3 holds data and follows nobody, so they are left alone: `infra db seed db3 --wipe` replaces what is there by a copy of db1's data",
        ],
    ),
    (
        "the writer's data are gone",
        |h| h[0] = Some(packaged()),
        &[
            "db1 is to write by epoch 1, but has not got so far itself: its data are gone or of another time. Nothing is decided; see `infra db status`, then `infra db failover HOST` with a host that has the data",
        ],
    ),
    (
        "a replica is older than its source",
        |h| server(&mut h[0]).version = "11.8.9-MariaDB".into(),
        &["error: db2 has version 10.11.19, which is older than the 11.8.9 of db1, which writes"],
    ),
    (
        "somebody has told the writer something else, so that nobody could follow it",
        |h| {
            server(&mut h[0]).gtid = false;
            let (name, value) = ("gtid_strict_mode".to_owned(), "OFF".to_owned());
            h[0].as_mut().unwrap().1.running.push(Running { name, value, origin: Origin::Statement });
            server(&mut h[1]).sources[0].started = false;
        },
        &[
            "db1 primary: set back what somebody has told the running server: gtid_strict_mode = OFF (infra: ON)",
            "db2 replica: follow db1 again",
        ],
    ),
    (
        "a server is started with an option",
        |h| {
            let (name, value) = ("sync_binlog".to_owned(), "0".to_owned());
            h[1].as_mut().unwrap().1.running.push(Running { name, value, origin: Origin::Command });
        },
        &[
            "the server of db2 runs with sync_binlog = 0 (infra: 1): take it out of what starts it: `systemctl cat mariadb.service`, then restart it",
        ],
    ),
    (
        "option files that decide in place of infra's",
        |h| {
            let line = |name: &str, value: &str| Later {
                path: "/etc/mysql/conf.d/own.cnf".into(),
                line: 2,
                behind_both: true,
                group: "mysqld".into(),
                name: name.into(),
                value: value.into(),
            };
            h[1].as_mut().unwrap().0.later = vec![line("read_only", "0"), line("sort_buffer_size", "4M")];
            h[2].as_mut().unwrap().0.later = vec![line("sync_binlog", "0")];
        },
        &[
            "error: db2: `/etc/mysql/conf.d/own.cnf:2` says `read_only = 0`, and is read after `/etc/mysql/mariadb.conf.d/98-infra.cnf`, which says `read_only = ON`; db3: `/etc/mysql/conf.d/own.cnf:2` says `sync_binlog = 0`, and is read after `/etc/mysql/mariadb.conf.d/99-infra-live.cnf`, which says `sync_binlog = 1`",
        ],
    ),
    (
        "the writer's own agent fetches what a crash has taken",
        |h| {
            server(&mut h[0]).read_only = true;
            server(&mut h[0]).sources = server(&mut h[1]).sources.clone();
            server(&mut h[0]).sources[0].host = "10.0.4.12".into();
            h[0].as_mut().unwrap().1.fetches = Some("db2".into());
        },
        &[
            "db1 writes by epoch 1, and fetches from db2 what it has lost in a crash: nothing is decided until it is through; run this again in a moment",
        ],
    ),
    (
        "a copied machine that keeps a log in its own way",
        |h| {
            server(&mut h[2]).server_id = 102;
            (server(&mut h[2]).log_bin, server(&mut h[2]).binlog) = (false, Some("/srv/own-bin".into()));
        },
        &["error: db2 and db3 both are the server 102: one is a copy of the other"],
    ),
    (
        "a copied machine",
        |h| server(&mut h[2]).server_id = 102,
        &["error: db2 and db3 both are the server 102: one is a copy of the other"],
    ),
    (
        "a copied data folder",
        |h| h[1..].iter_mut().for_each(|host| server(host).uuid = Some("3e11fa47-71ca-11e1-9e33-c80aa9429562".into())),
        &["error: db2 and db3 have the same server_uuid: one is a copy of the other"],
    ),
    (
        "a disk that is too small for a copy",
        |h| {
            h[0].as_mut().unwrap().1.size = 40_000_000_000;
            h[1].as_mut().unwrap().1.size = 40_000_000_000;
            h[2] = Some(packaged());
            h[2].as_mut().unwrap().1.free = 12_000_000_000;
        },
        &["error: db3 has 12.0 GB free, and a copy of the data of db2 needs 44.3 GB beside what is there"],
    ),
    (
        "two were promoted",
        |h| server(&mut h[2]).role.as_mut().unwrap().writer = "db3".into(),
        &["error: db3 and db1 were both made the writer of epoch 1: db1 says the second"],
    ),
];

#[test]
fn what_is_broken_is_mended_or_told() {
    for (what, broken, expected) in BROKEN {
        let mut hosts = whole();
        broken(&mut hosts);
        assert_eq!(lines(hosts, &Memory::at(0)), expected, "{what}");
    }
}

#[test]
fn what_is_there_already_is_adopted() {
    let mut source = theirs();
    server(&mut source).log_bin = true;
    let waits = |host: &str| {
        format!(
            "{host} follows later: db1 has to be restarted first, so that it logs by GTID and shows infra's certificate: `infra apply --restart-writer`, then `infra apply`"
        )
    };
    let adopt = "db1 primary: adopt its data: it is the writer, epoch 1, with the schema shop".to_owned();
    let expected = [adopt, waits("db2"), waits("db3")];
    assert_eq!(lines([source.clone(), None, None], &Memory::at(0)), expected);
    assert!(decided([source.clone(), None, None], &Memory::at(0)).unwrap().confirms.is_empty());
    // One that follows by file and position, in the way of its owner.
    let mut follows = theirs();
    server(&mut follows).server_id = 2;
    server(&mut follows).sources.push(Source { host: "10.0.4.11".into(), started: true, ..Source::default() });
    assert_eq!(lines([source.clone(), follows.clone(), None], &Memory::at(0)), expected);
    // Whoever is followed writes, whatever the inventory says.
    let mut reversed = follows;
    server(&mut reversed).sources[0].host = "10.0.4.12".into();
    let said = lines([reversed, source, None], &Memory::at(0));
    assert!(
        said[0].starts_with("db2 primary: adopt") && said[1].contains("`infra db switchover db1` afterwards"),
        "{said:?}"
    );
}

#[test]
fn nobody_guesses_whose_data_are_right() {
    for (hosts, expected) in [
        (
            [theirs(), theirs(), None],
            "error: db1 and db2 hold data, and none of them follows another: nobody can say which of them is right",
        ),
        ([None, theirs(), None], "error: db2 holds data, and the inventory says that db1 writes"),
    ] {
        assert_eq!(lines(hosts, &Memory::at(0)), [expected]);
    }
    let mut crashes = theirs();
    crashes.as_mut().unwrap().0.unsafe_tables.push("old/t.MYI".into());
    let said = lines([crashes, None, None], &Memory::at(0));
    assert!(
        said[0].starts_with("error: db1 has tables that are not InnoDB") && said[0].ends_with("old/t.MYI"),
        "{said:?}"
    );
    let mut outside = theirs();
    server(&mut outside).sources.push(Source { host: "192.0.2.9".into(), ..Source::default() });
    let expected = "error: db1 replicates from 192.0.2.9, which is no db host of the inventory";
    assert_eq!(lines([outside, None, None], &Memory::at(0)), [expected]);
}

#[test]
fn what_is_remembered_is_a_hint() {
    let said = lines(whole(), &kept(7, "db2", &[]));
    assert!(
        said[0].starts_with("this controller remembers that db2 writes since epoch 7, but the databases say epoch 1"),
        "{said:?}"
    );
    let mut hosts = whole();
    for host in &mut hosts {
        server(host).role.as_mut().unwrap().epoch = 4;
    }
    let said = lines(hosts, &kept(3, "db3", &[]));
    assert_eq!(said, ["db1 writes since epoch 4, of which this controller did not know: it remembered db3 in epoch 3"]);
    let mut hosts = whole();
    server(&mut hosts[2]).sources.clear();
    let said = lines(hosts, &kept(1, "db1", &["db3"]));
    assert_eq!(said, ["db3 was given up by a failover: `infra db rejoin db3` takes it in again"]);
}

#[test]
fn a_fresh_host_is_seeded_where_the_log_does_not_reach_back() {
    let mut hosts = whole();
    hosts[2] = None;
    let copied =
        ["db2 primary: give a copy of the data to db3", "db3 replica: get a copy of the data of db2, and follow db1"];
    assert_eq!(lines(hosts.clone(), &Memory::at(0)), copied, "there are tables");
    server(&mut hosts[0]).has_tables = false;
    assert_eq!(lines(hosts.clone(), &Memory::at(0)), ["db3 replica: follow db1 from its first transaction on"]);
    hosts[0].as_mut().unwrap().1.purged = gtid("1-101-3");
    assert_eq!(lines(hosts, &Memory::at(0)), copied, "the first log is gone");
}

fn any_host(id: u32) -> impl Strategy<Value = Host> {
    let of = prop::sample::select(vec!["10.0.4.11", "10.0.4.12", "10.0.4.13", "192.0.2.9"]);
    let name = prop::sample::select(vec!["db1", "db2", "db3"]);
    (0_u8..6, 0_u64..4, name, of, any::<[bool; 4]>()).prop_map(move |(kind, epoch, name, of, flags)| {
        let mut host = match kind {
            0 => return None,
            1 => Some(packaged()),
            2 => theirs(),
            3 => writer(id, epoch, name),
            _ => replica(id, epoch, name, of),
        };
        let server = server(&mut host);
        (server.read_only, server.semi_sync, server.log_bin) = (flags[0], flags[1], flags[2]);
        if flags[3] {
            host.as_mut().unwrap().0.server = None;
        }
        host
    })
}

proptest! {
    #[test]
    fn nobody_is_made_the_writer_beside_the_one_of_the_highest_epoch(a in any_host(101), b in any_host(102), c in any_host(103)) {
        let hosts = [a, b, c];
        let fleet = fleet(hosts.clone());
        let Ok(decided) = decide(&site(), &fleet, &Memory::at(0)) else { return Ok(()) };
        let named = |what: &str| -> Vec<&str> {
            let does = |action: &Action| matches!(action, Action::Perform { name, .. } if name == what);
            decided.hosts.iter().filter(|(_, phases)| phases.values().flatten().any(does)).map(|(host, _)| host.as_str()).collect()
        };
        let group_site = site();
        let group = Group::of(&group_site, &fleet);
        let (writers, replicas) = (named("database/primary"), named("database/replica"));
        prop_assert!(writers.len() <= 1 && writers.iter().all(|host| !replicas.contains(host)));
        if let Some(written) = &group.written {
            prop_assert!(writers.iter().all(|host| *host == written.writer));
            prop_assert!(!replicas.contains(&written.writer.as_str()) && !named("database/fence").contains(&written.writer.as_str()));
            // What is somebody's is neither followed away nor confirmed.
            if let Some(writer) = group.writer() {
                for member in group.members.values().filter(|member| group.standing(member, writer) == Standing::Foreign) {
                    prop_assert!(!replicas.contains(&member.host.name.as_str()));
                    prop_assert!(member.host.name == writer.host.name || !decided.confirms.contains_key(&member.host.name));
                }
            }
        }
    }
}
