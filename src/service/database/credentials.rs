//! How programs log in: takes a context, adds the files with a user's name and password on the hosts that it logs in from, and those
//! of infra's own accounts on the db hosts; lets a unit that reads such a file take it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::Serialize;

use crate::base::diagnostic::Diagnostic;
use crate::base::secret::names;
use crate::base::sh::quote;
use crate::inventory::site::{Database, Engine};
use crate::plan::plan::Action;
use crate::plan::state::{Access, Body, Check, Digest, File, Folder, Phase};
use crate::plan::task::Task;
use crate::service::Context;
use crate::service::claims::Claims;
use crate::service::database::accounts::{ADMIN, AGENT, REPLICATION};
use crate::service::database::engine::Flavor;
use crate::service::database::{FOLDER, NAME};
use crate::service::render::{Template, template};

/// The task by which a replica takes the password of replication, and the fact that it has taken it.
pub const REPLICATION_PASSWORD: &str = "database/replication-password";
/// How the tasks are named by which units take credentials.
const RELOAD: &str = "database/reload-";
/// The folder of what leads to the database, on the hosts that use it.
pub const USERS: &str = "/etc/infra/db";
/// Whom a client trusts.
pub const AUTHORITY: &str = "/etc/infra/db/ca.crt";
/// Where a program reaches the writer and the readers: at the proxy of its own host.
pub const LOCAL: &str = "127.0.0.1";
/// The port of that for writes, as `MySQL` Router has it.
pub const WRITES: u16 = 6446;
/// The port for reads.
pub const READS: u16 = 6447;

pub(super) const TEMPLATES: [Template; 3] =
    [template!("database/own.cnf"), template!("database/user.env"), template!("database/user.cnf")];

#[derive(Serialize)]
struct Own<'a> {
    user: &'a str,
    secret: &'a str,
}

#[derive(Serialize)]
struct Login<'a> {
    host: &'a str,
    write_port: u16,
    read_port: u16,
    schema: &'a str,
    name: &'a str,
    secret: &'a str,
    ca: &'a str,
    mysql: bool,
}

/// The credentials of infra's own accounts, on a db host. What is used on another host comes after all of them have the accounts.
///
/// # Errors
/// What cannot be rendered or is claimed by another.
pub(super) fn own(context: &Context<'_>, flavor: Flavor, out: &mut Claims) -> Result<(), Diagnostic> {
    for (name, user, phase, group) in [
        ("replication", REPLICATION, Phase::Replica, None),
        ("admin", ADMIN, Phase::Replica, None),
        ("agent", AGENT, Phase::Primary, Some("mysql")),
    ] {
        let body = context.render("database/own.cnf", &Own { user, secret: name })?;
        let access = match group {
            Some(group) => Access { owner: "root".into(), group: group.into(), mode: 0o640 },
            None => Access::root(0o600),
        };
        if name == "replication" {
            out.task(REPLICATION_PASSWORD, replication(context, flavor, &body)?)?;
        }
        let file = File { service: NAME, phase, access, body, then: BTreeMap::new(), about: None };
        out.file(&format!("{FOLDER}/{name}.cnf"), file)?;
    }
    Ok(())
}

/// A replica takes the password of replication that stands in its file: the server keeps a copy of its own.
fn replication(context: &Context<'_>, flavor: Flavor, file: &Body) -> Result<Task, Diagnostic> {
    Ok(Task {
        service: NAME,
        phase: Phase::Replica,
        title: "let a replica take the password of replication".into(),
        script: format!("{}{}", flavor.dialect(), include_str!("scripts/replication-password.sh")),
        input: context.body(String::new())?,
        limit: Duration::from_secs(180),
        undo: None,
        makes: BTreeMap::from([(REPLICATION_PASSWORD.to_owned(), file.digest.to_string())]),
    })
}

/// The credentials of the inventory's users that log in from this host. Whom they trust stands there for the host's proxy.
///
/// # Errors
/// What cannot be rendered or is claimed by another.
pub(super) fn users(context: &Context<'_>, database: &Database, out: &mut Claims) -> Result<(), Diagnostic> {
    let phase = Phase::App;
    let file = |body: Body, group: &str, mode| {
        let access = Access { owner: "root".into(), group: group.into(), mode };
        File { service: NAME, phase, access, body, then: BTreeMap::new(), about: None }
    };
    if super::is_client(database, context.host) {
        // The group of a user has to come through.
        out.folder("/etc/infra", Folder { phase, access: Access::root(0o755) })?;
    }
    let mut units: BTreeMap<&str, (Vec<&str>, String)> = BTreeMap::new();
    for (name, user) in database.users.iter().filter(|(_, user)| context.host.has(user.from)) {
        let secret = format!("user-{name}");
        let model = Login {
            host: LOCAL,
            write_port: WRITES,
            read_port: READS,
            schema: &user.schema,
            name,
            secret: &secret,
            ca: AUTHORITY,
            mysql: database.engine == Engine::Mysql,
        };
        for kind in ["env", "cnf"] {
            let body = context.render(&format!("database/user.{kind}"), &model)?;
            if let Some(unit) = &user.reload {
                units.entry(unit).or_default().1.push_str(&format!("{name}.{kind} {}\n", body.digest));
            }
            out.file(&format!("{USERS}/{name}.{kind}"), file(body, &user.group, 0o640))?;
        }
        if user.group != "root" {
            out.check(Check {
                title: format!("the group of the user {name}"),
                command: format!(
                    "getent group {group} >/dev/null || {{ echo 'the group {group}, which is to read the files of the user {name}, \
                     is not there: make it, or name another one as users.{name}.group'; exit 1; }}",
                    group = user.group
                ),
            });
        }
        if let Some(unit) = &user.reload {
            units.entry(unit).or_default().0.push(name);
        }
    }
    for (unit, (users, files)) in units {
        out.task(&format!("{RELOAD}{unit}"), reload(unit, &users, &files))?;
    }
    Ok(())
}

/// A unit of the user's own takes the files of these users. No unit that infra keeps: nobody starts or enables it here.
fn reload(unit: &str, users: &[&str], files: &str) -> Task {
    let fact = format!("{NAME}/read-by-{unit}");
    Task {
        service: NAME,
        phase: Phase::App,
        title: format!("let {unit} take the credentials of {}", users.join(" and ")),
        script: format!("unit={}\n{}", quote(unit), include_str!("scripts/reload.sh")),
        input: Body { text: "".into(), digest: Digest::of(b""), origin: None },
        limit: Duration::from_secs(120),
        undo: None,
        makes: BTreeMap::from([(fact, Digest::of(files.as_bytes()).to_string())]),
    }
}

/// Whether an action brings one of these secrets to where it is used, or lets one of these units take it.
pub fn brings(action: &Action, secrets: &BTreeSet<String>, units: &BTreeSet<String>) -> bool {
    let holds = |text: &str| names(text).into_iter().any(|name| secrets.contains(name));
    match action {
        // Whoever logs in with it has a file with it, and restarts where it reads that once.
        Action::Write { file, .. } => holds(&file.body.text),
        Action::Follow { unit, .. } => units.contains(unit),
        Action::Perform { name, task } => {
            let of_unit = name.strip_prefix(RELOAD).is_some_and(|unit| units.contains(unit));
            let of_replicas = name == REPLICATION_PASSWORD && secrets.contains("database/replication");
            of_unit || of_replicas || holds(&task.input.text)
        }
        _ => false,
    }
}
