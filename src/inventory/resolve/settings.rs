//! `database.settings`: takes names and values, gives them in one spelling; refuses what infra itself decides, each with its reason.

use std::collections::BTreeMap;

use crate::base::diagnostic::Diagnostic;
use crate::base::warning::Warning;
use crate::inventory::raw::Entry;
use crate::inventory::read::{Fields, Problems};
use crate::inventory::site::{Engine, Setting};
use crate::inventory::variables;

/// The longest name of a variable of either engine has 58 characters.
const MAX_NAME: usize = 64;

/// Names that infra decides, and why. One that ends in `*` stands for all that begin so.
const OWNED: &[(&[&str], &str)] = &[
    (
        &["read_only", "super_read_only", "skip_slave_start", "skip_replica_start", "init_rpl_role", "offline_mode"],
        "who may write is decided by the role of a host, never by a file",
    ),
    (&["server_id", "server_uuid", "report_host", "report_port"], "infra gives each host its own"),
    (
        &[
            "gtid_*",
            "enforce_gtid_consistency",
            "log_bin",
            "log_bin_basename",
            "log_bin_index",
            "log_bin_compress*",
            "binlog_format",
            "binlog_do_db",
            "binlog_ignore_db",
            "replicate_*",
            "log_slave_updates",
            "log_replica_updates",
            "relay_log*",
            "master_*",
            "rpl_semi_sync_*",
            "slave_skip_errors",
            "replica_skip_errors",
            "slave_exec_mode",
            "replica_exec_mode",
            "sql_log_bin",
        ],
        "a replica is only worth something when it has every transaction, and infra sees to that",
    ),
    (
        &["sync_binlog", "innodb_flush_log_at_trx_commit", "innodb_doublewrite", "innodb_force_recovery"],
        "what was acknowledged must be on disk",
    ),
    (
        &[
            "ssl",
            "ssl_*",
            "tls_*",
            "admin_ssl_*",
            "admin_tls_*",
            "skip_ssl",
            "require_secure_transport",
            "auto_generate_certs",
        ],
        "all connections are TLS with certificates of the internal authority",
    ),
    (
        &["bind_address", "port", "extra_port", "admin_address", "admin_port", "socket", "skip_networking", "mysqlx*"],
        "the firewall and the other hosts count on the server's usual port and socket",
    ),
    (
        &[
            "datadir",
            "basedir",
            "user",
            "pid_file",
            "plugin_dir",
            "plugin_load",
            "lc_messages_dir",
            "chroot",
            "log_error",
        ],
        "infra, the package and the log collector look for it at its usual place",
    ),
    (
        &["skip_grant_tables", "init_file", "skip_show_database", "skip_name_resolve"],
        "accounts are those of the inventory, each bound to the addresses of its hosts",
    ),
];

/// Reads the map.
pub(super) fn settings(entry: &Entry, problems: &mut Problems) -> BTreeMap<String, Setting> {
    let mut out = BTreeMap::new();
    let Some(entries) = problems.named(entry, "write `max_connections: 300`") else { return out };
    for entry in entries {
        if entry.value.is_nothing() {
            continue;
        }
        let (given, span) = (entry.key.text.as_str(), entry.key.mark.span());
        let mut fail = |message: String, help: String| {
            problems.push(Diagnostic::error(message).at(&span).help(help));
        };
        let name = spelled(given);
        if !is_name(&name) {
            let help = "write the name of a system variable, such as `max_connections`";
            fail(format!("`{given}` is not the name of a setting"), help.into());
            continue;
        }
        if name.starts_with("loose_") {
            let help =
                "remove `loose_`: with it the server passes over a name that it does not know, and nobody is told";
            fail(format!("`{given}` hides mistakes"), help.into());
            continue;
        }
        if let Some(why) = owned(&name) {
            fail(format!("the setting `{given}` is infra's own: {why}"), "remove it".into());
            continue;
        }
        let Some(value) = problems.text(&entry.value, given) else { continue };
        if let Some(odd) = value.chars().find(|c| !(c.is_ascii_graphic() || *c == ' ') || matches!(c, '"' | '\\')) {
            problems.push(
                Diagnostic::error(format!("the value of `{given}` has the character `{odd}`"))
                    .at(&entry.value.span())
                    .help("write letters of ASCII, without `\"` and `\\`, as an option file can hold them"),
            );
            continue;
        }
        let setting = Setting { value: value.trim().to_owned(), span: span.clone() };
        if out.insert(name, setting).is_some() {
            problems.push(
                Diagnostic::error(format!("the setting `{given}` is given twice"))
                    .at(&span)
                    .help("remove one: `-` and `_` are the same to the server"),
            );
        }
    }
    out
}

/// The one spelling of a name: upper case and `-` are the same to the server.
fn spelled(given: &str) -> String {
    given.to_ascii_lowercase().replace('-', "_")
}

fn is_name(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    name.len() <= MAX_NAME && name.starts_with(|c: char| c.is_ascii_lowercase()) && name.chars().all(plain)
}

/// Tells, beside other mistakes of the inventory, which settings no server would know. Where there are no others, the service has the
/// word, which knows the version of each host.
pub(super) fn unknown(root: Fields<'_>, problems: &mut Problems) {
    if !problems.has_errors() {
        return;
    }
    let section = |key| root.value("database").and_then(|database| database.get(key));
    let (Some(engine), Some(settings)) = (section("engine"), section("settings")) else { return };
    let engine = match engine.value.text() {
        Some("mariadb") => Engine::Mariadb,
        Some("mysql") => Engine::Mysql,
        _ => return,
    };
    let Some((known, versions)) = variables::anywhere(engine) else { return };
    for entry in settings.value.entries() {
        let name = spelled(&entry.key.text);
        // What is told of these already is enough.
        let is_told = !is_name(&name) || name.starts_with("loose_") || owned(&name).is_some();
        if is_told || known.contains(name.as_str()) {
            continue;
        }
        let message = format!("`{}` is no setting of {versions}", entry.key.text);
        let unknown = match problems.near(&name, known.len(), known.iter().copied()) {
            Some(hint) => Diagnostic::error(message).help(hint),
            // A server of another version may have it.
            None => Diagnostic::warning(Warning::UnknownSetting, message)
                .help("remove it, or look up how the version of your hosts calls it"),
        };
        problems.push(unknown.at(&entry.key.mark.span()));
    }
}

/// Why a name is infra's own, if it is.
fn owned(name: &str) -> Option<&'static str> {
    let fits = |pattern: &&str| match pattern.strip_suffix('*') {
        Some(start) => name.starts_with(start),
        None => name == *pattern,
    };
    OWNED.iter().find(|(names, _)| names.iter().any(fits)).map(|(_, why)| *why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_mistakes_of_the_settings_are_told_with_those_of_the_rest() {
        let text = |settings: &str, more: &str| {
            format!(
                "name: shop\nhosts:\n  db1: {{ address: 10.0.4.11, roles: [db] }}\nfirewall: {{ manage_from: [10.0.0.0/24] }}\n\
                 database: {{ engine: mariadb, primary: db1, schemas: [shop]{more}, settings: {{ {settings} }} }}\n"
            )
        };
        let told = |settings: &str, more: &str| {
            let loaded = crate::inventory::load::load_text(&text(settings, more), "shop.yml".as_ref());
            loaded.map_or_else(|all| all, |(_, warnings)| warnings).into_iter().map(|d| d.message).collect::<Vec<_>>()
        };
        let all = told("read_only: 1, inodb_buffer_pool_size: 8G, zzz: 1, max_connections: 9", ", max_lag: 1s");
        for (count, part) in [
            (1, "`read_only` is infra's own"),
            (1, "`inodb_buffer_pool_size` is no setting of MariaDB 10.11 and 11.8"),
            (1, "`zzz` is no setting of MariaDB 10.11 and 11.8"),
            (1, "max_lag"),
            (0, "max_connections"),
        ] {
            assert_eq!(all.iter().filter(|message| message.contains(part)).count(), count, "{part}: {all:?}");
        }
        // Alone, the version of each host decides.
        assert!(!told("zzz: 1", "").iter().any(|message| message.contains("zzz")));
    }

    #[test]
    fn infra_keeps_what_it_decides() {
        for name in ["read_only", "gtid_domain_id", "log_bin", "log_bin_index", "ssl_ca", "ssl", "mysqlx_port"] {
            assert!(owned(name).is_some(), "{name}");
        }
        for name in [
            "max_connections",
            "log_bin_trust_function_creators",
            "binlog_expire_logs_seconds",
            "innodb_read_only_compressed",
            "sslx",
            "report_user",
        ] {
            assert!(owned(name).is_none(), "{name}");
        }
    }
}
