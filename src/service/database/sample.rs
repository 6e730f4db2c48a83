//! A group for tests: db1 writes, db2 and db3 follow it, and app1 has programs.

use std::collections::BTreeSet;
use std::path::Path;

use super::gtid::Gtid;
use super::kept::Kept;
use super::seen::{NOW, Now, SEEN, Seen, Server, Source, Threads, Written};
use crate::base::net::HostName;
use crate::inventory::load::load_text;
use crate::inventory::site::{Engine, Site};
use crate::plan::state::{Facts, Observed, ObservedFleet};

/// The inventory.
pub(crate) fn site() -> Site {
    let text = "name: shop
hosts:
  front: { address: 10.0.1.11, public: 203.0.113.11, roles: [lb, web], allow_mixed_roles: a test }
  app1: { address: 10.0.3.11, roles: [app] }
  db1: { address: 10.0.4.11, roles: [db] }
  db2: { address: 10.0.4.12, roles: [db] }
  db3: { address: 10.0.4.13, roles: [db] }
firewall: { manage_from: [10.0.0.0/24] }
certificates: { issuer: internal }
sites: { shop.example.com: { app: { port: 8080, health: /healthz } } }
database: { engine: mariadb, primary: db1, schemas: [shop] }
";
    load_text(text, Path::new("inventory.yml")).unwrap_or_else(|e| panic!("{e:?}")).0
}

/// A name.
pub(crate) fn name(text: &str) -> HostName {
    text.parse().unwrap_or_else(|e| panic!("{text}: {e}"))
}

/// A position, as MariaDB writes it.
pub(crate) fn gtid(text: &str) -> Option<Gtid> {
    Gtid::parse(Engine::Mariadb, text)
}

/// The row of `infra.role`.
pub(crate) fn written(epoch: u64, writer: &str) -> Written {
    Written { epoch, writer: writer.to_owned(), since: "2026-11-26 10:24:54.723759".to_owned() }
}

/// All hosts as they should be.
pub(crate) fn fleet() -> ObservedFleet {
    let facts = || Facts::of_release("debian", "12");
    let mut all = ObservedFleet::from([(name("app1"), Observed::bare(facts()))]);
    for (host, id) in [("db1", 101), ("db2", 102), ("db3", 103)] {
        let writes = id == 101;
        let server = Server {
            version: "10.11.19-MariaDB-0+deb12u1-log".to_owned(),
            server_id: id,
            has_tables: true,
            read_only: !writes,
            log_bin: true,
            gtid: true,
            certificate: Some("/etc/mysql/infra/server.crt".to_owned()),
            semi_sync: writes,
            role: Some(written(2, "db1")),
            sources: if writes { Vec::new() } else { vec![source("10.0.4.11")] },
            ..Server::default()
        };
        let seen = Seen {
            engine: Some(Engine::Mariadb),
            schemas: BTreeSet::from(["shop".to_owned()]),
            has_own: true,
            server: Some(server),
            ..Seen::default()
        };
        let threads = Threads { io: "Yes".to_owned(), sql: "Yes".to_owned(), behind: Some(0), ..Threads::default() };
        let now = Now {
            executed: gtid("1-101-900"),
            received: gtid("1-101-900"),
            state: gtid("1-101-900"),
            purged: gtid(""),
            threads: if writes { Vec::new() } else { vec![threads] },
            heartbeat_ms: Some(400),
            heartbeat_semi_sync: Some("ON".to_owned()),
            semi_sync: writes,
            semi_sync_clients: if writes { 2 } else { 0 },
            sessions: 12,
            size: 1_300_000_000,
            free: 14_000_000_000,
            binlogs: Some((3, 120_000_000, 1_700_000_000)),
            tls_until: Some("Feb 20 10:15:50 2027 GMT".to_owned()),
            uptime: 1000,
            ..Now::default()
        };
        let mut observed = Observed::bare(facts());
        SEEN.put(&seen, &mut observed);
        NOW.put(&now, &mut observed);
        all.insert(name(host), observed);
    }
    all
}

/// A source as infra sets it.
pub(crate) fn source(host: &str) -> Source {
    Source {
        host: host.to_owned(),
        port: 3306,
        user: "infra_repl".to_owned(),
        by_gtid: true,
        verified: true,
        started: true,
        ..Source::default()
    }
}

/// Changes what was seen of one host.
pub(crate) fn edit(fleet: &mut ObservedFleet, host: &str, change: impl FnOnce(&mut Seen, &mut Now)) {
    let observed = fleet.get_mut(&name(host)).unwrap_or_else(|| panic!("{host}"));
    let (mut seen, mut now) = (SEEN.of(observed).unwrap_or_default(), NOW.of(observed).unwrap_or_default());
    change(&mut seen, &mut now);
    SEEN.put(&seen, observed);
    NOW.put(&now, observed);
}

/// Changes the server of one host.
pub(crate) fn server(fleet: &mut ObservedFleet, host: &str, change: impl FnOnce(&mut Server)) {
    edit(fleet, host, |seen, _| change(seen.server.as_mut().unwrap_or_else(|| panic!("{host} has no server"))));
}

/// The server of one host does not answer.
pub(crate) fn down(fleet: &mut ObservedFleet, host: &str) {
    edit(fleet, host, |seen, now| {
        seen.server = None;
        *now = Now { down: Some("it does not run".to_owned()), ..Now::default() };
    });
}

/// Nothing is remembered.
pub(crate) fn nothing() -> Kept {
    Kept::default()
}
