//! The rendered files with real certificates through the real daemons' own checks, each host in namespaces of its own.

mod common;

use std::time::Duration;

use common::twin::{Twin, text, wait};
use infra::base::material::{CertificateId, Purpose};
use infra::inventory::site::Site;
use infra::plan::state::{DesiredHost, Follow};
use infra::service::platform;

fn accepted(site: &Site) {
    let (desired, materials) = common::built(site, &platform::oldest());
    let twin = Twin::new(site, &desired, &materials);
    let mut refused = Vec::new();
    for (host, wanted) in &desired {
        for check in &wanted.checks {
            let out = twin.run(host.as_str(), &check.command);
            let words = text(&out);
            // A warning today is an error of the next version.
            if !out.status.success() || words.contains("WARNING") || words.contains("[warn]") {
                refused.push(format!("{host}: {}: {words}", check.title));
            }
        }
    }
    assert!(refused.is_empty(), "{}", refused.join("\n"));
}

#[test]
fn three_tier() {
    let state = tempfile::tempdir().unwrap();
    accepted(&common::three_tier(state.path()));
}

#[test]
fn single() {
    let state = tempfile::tempdir().unwrap();
    accepted(&common::single(state.path()));
}

#[test]
fn watched() {
    let state = tempfile::tempdir().unwrap();
    accepted(&common::watched(state.path()));
}

#[test]
fn databases() {
    let state = tempfile::tempdir().unwrap();
    accepted(&common::databases(state.path()));
}

/// Puts a file of `wanted` on db1 and tells the running server of it, as a run does.
fn told(twin: &Twin, wanted: &DesiredHost, path: &str, body: &str) -> std::process::Output {
    assert_eq!(wanted.files[path].then["mariadb.service"], Follow::Set, "{path}");
    twin.put("db1", path, body);
    twin.put("db1", "/run/set.sh", &wanted.setters["mariadb.service"]);
    twin.run("db1", &format!("chgrp mysql '{path}'; chmod 640 '{path}'; sh /run/set.sh '{path}' <'{path}'"))
}

#[test]
fn a_database_server_starts_fenced_and_takes_settings_and_certificates_while_it_runs() {
    let state = tempfile::tempdir().unwrap();
    let mut site = common::databases(state.path());
    site.hosts.retain(|name, _| name.as_str() == "db1");
    let (desired, materials) = common::built(&site, &platform::oldest());
    let (host, wanted) = desired.first_key_value().unwrap();
    let twin = Twin::new(&site, &desired, &materials);
    // The unit starts it so, but for its sandbox; `setsid`: it outlives the shell.
    let begun = twin.run(
        "db1",
        "set -e\nchgrp -R mysql /etc/mysql/infra\nrm -rf /var/lib/mysql\n\
         install -d -o mysql -g mysql /run/mysqld /var/lib/mysql /var/log/mysql\n: >/var/log/mysql/error.log\nchown mysql /var/log/mysql/error.log\n\
         mariadb-install-db --user=mysql --skip-test-db >/run/install.log 2>&1 || { tail /run/install.log; exit 1; }\n\
         setsid mariadbd --user=mysql >/run/start.log 2>&1 </dev/null &",
    );
    assert!(begun.status.success(), "{}", text(&begun));
    let sql = |statement: &str| twin.run("db1", &format!("mariadb --no-defaults -uroot -NBe \"{statement}\""));
    let up = wait(Duration::from_secs(60), || sql("SELECT 1").status.success().then_some(()));
    assert!(up.is_some(), "{}", text(&twin.run("db1", "cat /run/start.log; tail -n 20 /var/log/mysql/error.log")));
    let is = |statement: &str, value: &str| assert_eq!(text(&sql(statement)).trim(), value, "{statement}");
    is("SELECT @@read_only, @@log_bin, @@gtid_strict_mode, @@have_ssl, @@require_secure_transport", "1\t1\t1\tYES\t1");
    is(
        "SELECT @@rpl_semi_sync_slave_enabled, @@rpl_semi_sync_master_enabled, @@innodb_buffer_pool_size >> 20",
        "1\t0\t384",
    );

    // Settings: those that change, one that it does not take, and one that goes again.
    let live = wanted.files.keys().find(|path| path.contains("99-infra")).unwrap();
    let body = wanted.files[live].body.text.clone();
    let changed = body.replace("max_connections = 128", "max_connections = 222\nsql_mode = \"ANSI,TRADITIONAL\"");
    assert_ne!(*body, changed);
    let out = told(&twin, wanted, live, &changed);
    assert!(out.status.success(), "{}", text(&out));
    is("SELECT @@GLOBAL.max_connections, @@GLOBAL.sql_mode LIKE '%ANSI%', @@read_only", "222\t1\t1");
    let out = told(&twin, wanted, live, &format!("{body}innodb_io_capacity = 1\n"));
    assert!(!out.status.success() && text(&out).contains("innodb_io_capacity"), "{}", text(&out));
    let out = told(&twin, wanted, live, &body);
    assert!(out.status.success(), "{}", text(&out));
    is("SELECT @@GLOBAL.max_connections, @@GLOBAL.sql_mode LIKE '%ANSI%'", "128\t0");

    // A new leaf is served without a restart, as the probe sees it, and nothing of all that is in the binary log.
    let made = sql("SET sql_log_bin = 0; CREATE USER a@'10.0.4.11', a@'127.0.0.1'");
    assert!(made.status.success(), "{}", text(&made));
    let shown = |wanted: &DesiredHost| {
        let probes: Vec<_> =
            wanted.probes.iter().filter(|p| p.title.starts_with("the database shows the right certificate")).collect();
        assert_eq!(probes.len(), 1);
        probes
            .iter()
            .map(|probe| twin.run("db1", &probe.command))
            .find(|out| !out.status.success())
            .map(|out| text(&out))
    };
    assert_eq!(shown(wanted), None);
    let pid = text(&twin.run("db1", "cat /run/mysqld/mysqld.pid"));
    infra::pki::forget(state.path(), &[CertificateId::Hop { host: host.clone(), purpose: Purpose::Server }]).unwrap();
    let (desired, materials) = common::built(&site, &platform::oldest());
    let wanted = &desired[host];
    let body = |path: &str| materials.share(host).materialize(&wanted.files[path].body.text).unwrap();
    let pair = ["/etc/mysql/infra/server.key", "/etc/mysql/infra/server.crt"];
    twin.put("db1", pair[0], &body(pair[0]));
    twin.put("db1", pair[1], &body(pair[1]));
    assert!(shown(wanted).is_some_and(|why| why.contains("another certificate is served")));
    for path in pair {
        let out = told(&twin, wanted, path, &body(path));
        assert!(out.status.success(), "{}", text(&out));
    }
    assert_eq!(shown(wanted), None);
    assert_eq!(text(&twin.run("db1", "cat /run/mysqld/mysqld.pid")), pid);
    is("SELECT @@gtid_binlog_pos = '', @@read_only", "1\t1");
    // What stands at this machine's own loopback is the database too, for a client behind a proxy.
    let proxied = twin.run(
        "db1",
        "timeout 5 openssl s_client -starttls mysql -connect 127.0.0.1:3306 -verify_ip 127.0.0.1 -CAfile /etc/mysql/infra/ca.crt \
         </dev/null 2>&1",
    );
    assert!(text(&proxied).contains("Verify return code: 0 (ok)"), "{}", text(&proxied));
}

#[test]
fn what_a_database_refuses_is_seen() {
    let state = tempfile::tempdir().unwrap();
    let site = common::databases(state.path());
    let (desired, materials) = common::built(&site, &platform::oldest());
    let twin = Twin::new(&site, &desired, &materials);
    let check = desired.values().flat_map(|h| &h.checks).find(|c| c.title.starts_with("mariadbd")).unwrap();
    let path = "/etc/mysql/mariadb.conf.d/99-infra-live.cnf";
    for (line, words) in [
        ("no_such_setting = 1", "no_such_setting"),
        ("binlog_format = NONSENSE", "NONSENSE"),
        ("max_connections = 9999999", "adjusted to 100000"),
        ("plugin_load_add = nonsense.so", "nonsense.so"),
    ] {
        twin.put("db1", path, &format!("[mariadbd]\n{line}\n"));
        let out = twin.run("db1", &check.command);
        assert!(!out.status.success() && text(&out).contains(words), "{line}: {}", text(&out));
    }
    twin.put("db1", path, "[mariadbd]\nmax_connections = 300\n");
    let out = twin.run("db1", &check.command);
    assert!(out.status.success(), "{}", text(&out));
}

#[test]
fn what_a_daemon_refuses_is_seen() {
    let state = tempfile::tempdir().unwrap();
    let site = common::single(state.path());
    let (desired, materials) = common::built(&site, &platform::oldest());
    let twin = Twin::new(&site, &desired, &materials);
    for (path, command) in [
        ("/etc/haproxy/haproxy.cfg", "haproxy -c -q -f /etc/haproxy/haproxy.cfg"),
        ("/etc/infra/programs/programs.cfg", "haproxy -c -q -f /etc/infra/programs/programs.cfg"),
        ("/etc/nginx/nginx.conf", "nginx -t -q"),
    ] {
        let check = desired.values().flat_map(|h| &h.checks).find(|c| c.command == command).unwrap();
        twin.put("one", path, "nonsense\n");
        assert!(!twin.run("one", &check.command).status.success(), "{command} took nonsense");
    }
}
