//! Logs: takes a context and the section, adds syslog-ng, which reads the journal and the files of daemons and programs, keeps what is not
//! accepted yet in a buffer on disk, and posts each line once.

use serde::Serialize;

use super::{category, config, roles, unit};
use crate::base::diagnostic::Diagnostic;
use crate::inventory::site::{Monitoring, Role};
use crate::plan::state::{Access, Check, Folder, Follow, Version};
use crate::service::Context;
use crate::service::agent::{self, PHASE};
use crate::service::claims::Claims;
use crate::service::firewall::flows::is_host;
use crate::service::product::Product;

/// syslog-ng.
pub(super) const SYSLOG_NG: Product = Product {
    name: "syslog-ng",
    packages: &["syslog-ng-core"],
    shipped: [
        Version(3, 38, 1),
        Version(3, 35, 1),
        Version(4, 3, 1),
        Version(4, 8, 1),
        Version(4, 8, 1),
        Version(4, 8, 1),
    ],
};
/// Its unit.
pub(super) const UNIT: &str = "syslog-ng.service";
/// The file by which the unit is infra's own.
pub(super) const DROP_IN: &str = "/etc/systemd/system/syslog-ng.service.d/infra.conf";
/// Where it keeps what is not accepted yet, and how far it has read.
const STATE: &str = "/var/lib/infra-syslog-ng";
/// The logs of a database host: what it is, where it stands, how a record begins where it has several lines.
const DATABASE_LOGS: [(&str, &str, Option<&str>); 2] = [
    ("error", "/var/log/mysql/error.log", None),
    // The line with the time is left out by MariaDB for a statement of the same second.
    ("slow", "/var/log/mysql/slow.log", Some("^# User@Host: ")),
];
/// The most that all buffers of a host hold together, bytes.
const BUFFERS: u64 = 512 * 1024 * 1024;

#[derive(Serialize)]
struct Model<'a> {
    site: &'a str,
    host: &'a str,
    roles: String,
    version: String,
    /// Of each stream, bytes.
    buffer: u64,
    streams: Vec<Stream<'a>>,
}

/// Lines of one category.
#[derive(Serialize)]
pub(super) struct Stream<'a> {
    /// As the configuration calls it.
    pub(super) id: String,
    /// What a person knows it by: a path, or what writes it.
    name: String,
    pub(super) category: String,
    /// Of lines of the journal: which.
    filter: Option<&'static str>,
    /// Of lines of files: these.
    pub(super) path: Option<String>,
    folder: String,
    pattern: String,
    pub(super) multiline: Option<&'a str>,
    body: &'static str,
}

/// A line of a program that writes to the journal.
const WITH_HEADER: &str = "${ISODATE} ${HOST} ${PROGRAM}[${PID}]: ${MESSAGE}";
/// A line that says all by itself.
const ALONE: &str = "${MESSAGE}";

impl<'a> Stream<'a> {
    fn of_journal(id: &str, category: String, filter: Option<&'static str>, body: &'static str) -> Self {
        let (path, folder, pattern) = (None, String::new(), String::new());
        Self { id: id.into(), name: id.into(), category, filter, path, folder, pattern, multiline: None, body }
    }

    fn of_files(id: String, path: &str, category: String, multiline: Option<&'a str>) -> Self {
        let (folder, pattern) = path.rsplit_once('/').unwrap_or_default();
        Self {
            id,
            name: path.into(),
            category,
            filter: None,
            path: Some(path.into()),
            folder: folder.into(),
            pattern: pattern.into(),
            multiline,
            body: ALONE,
        }
    }
}

/// Adds it.
///
/// # Errors
/// What cannot be rendered, or is claimed by another.
pub(super) fn want(context: &Context<'_>, section: &Monitoring, out: &mut Claims) -> Result<(), Diagnostic> {
    let host = context.host;
    for package in ["syslog-ng-core", "syslog-ng-mod-http"] {
        out.package(package)?;
    }
    let streams = streams(context, section);
    let Version(major, minor, _) = SYSLOG_NG.of(context.facts);
    let model = Model {
        site: context.site.name.as_str(),
        host: host.name.as_str(),
        roles: roles(context),
        version: format!("{major}.{minor}"),
        buffer: BUFFERS / streams.len().max(1) as u64,
        streams,
    };
    unit(out, UNIT)?;
    out.folder(STATE, Folder { phase: PHASE, access: Access::root(0o700) })?;
    agent::file(
        out,
        DROP_IN,
        context.render("monitoring/syslog-ng.service", &model)?,
        Access::root(0o644),
        &[(UNIT, Follow::Restart)],
    )?;
    config(out, "syslog-ng.conf", context.render("monitoring/syslog-ng.conf", &model)?, 0o644, &[UNIT])?;
    out.check(Check {
        title: "syslog-ng --syntax-only".into(),
        command: "SUMO_HTTP_SOURCE=https://localhost/ syslog-ng --syntax-only --no-caps -f /etc/infra/monitoring/syslog-ng.conf"
            .into(),
    });
    Ok(())
}

/// What is shipped of a host.
pub(super) fn streams<'a>(context: &Context<'_>, section: &'a Monitoring) -> Vec<Stream<'a>> {
    let host = context.host;
    let mut streams = vec![
        Stream::of_journal("journal", category(context, "journal"), None, WITH_HEADER),
        Stream::of_journal("auth", category(context, "auth"), Some("is_auth"), WITH_HEADER),
    ];
    if host.has(Role::Lb) {
        streams.push(Stream::of_journal("haproxy", category(context, "haproxy"), Some("is_haproxy"), ALONE));
    }
    if [Role::Web, Role::App].into_iter().any(|role| host.has(role)) {
        for what in ["access", "error"] {
            let path = format!("/var/log/nginx/{what}.log");
            let category = category(context, &format!("nginx/{what}"));
            streams.push(Stream::of_files(format!("nginx_{what}"), &path, category, None));
        }
    }
    if context.site.database.is_some() && host.has(Role::Db) {
        for (what, path, multiline) in DATABASE_LOGS {
            let category = category(context, &format!("database/{what}"));
            streams.push(Stream::of_files(format!("database_{what}"), path, category, multiline));
        }
    }
    let own = section.logs.iter().filter(|log| is_host(&log.on, host)).enumerate();
    streams.extend(own.map(|(n, log)| {
        Stream::of_files(format!("log_{n}"), &log.path, log.category.clone(), log.multiline.as_deref())
    }));
    streams
}
