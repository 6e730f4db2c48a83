//! `database:`: takes the section, gives the engine, the first writer, schemas, users, and how the servers are set.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::hosts::Hosts;
use super::{names, settings};
use crate::base::diagnostic::{Diagnostic, did_you_mean};
use crate::base::sh::UnitName;
use crate::base::warning::Warning;
use crate::inventory::raw::{Entry, Node, Value};
use crate::inventory::read::{Fields, Problems};
use crate::inventory::site::{Database, DatabaseUser, Engine, PRIVILEGES, Role, SemiSync, USUAL_PRIVILEGES};

/// Longest name of a schema in either engine (`MySQL` 9.7 reference manual, 11.2.1).
const MAX_SCHEMA: usize = 64;
/// Longest name of a user in `MySQL` (reference manual, 8.2.3); `MariaDB`'s is longer.
const MAX_USER: usize = 32;
/// Schemas that the engines have already.
const SYSTEM_SCHEMAS: [&str; 4] = ["mysql", "sys", "information_schema", "performance_schema"];
/// Users that the engines, Debian or this program have already.
const SYSTEM_USERS: [&str; 4] = ["root", "mysql", "mariadb", "infra"];
/// The longest name of a group (useradd(8)).
const MAX_GROUP: usize = 32;
/// Both waits where nothing is said.
const USUAL: Duration = Duration::from_secs(10);
/// The writer's heartbeat comes each second, and takes some time.
const LEAST_LAG: Duration = Duration::from_secs(2);
/// Reads that are older than this are no use as a fallback.
const MOST_LAG: Duration = Duration::from_hours(1);
/// A client has given up by then.
const MOST_WAIT: Duration = Duration::from_mins(5);

const KEYS: [&str; 7] = ["engine", "primary", "schemas", "users", "max_lag", "semi_sync", "settings"];

/// Reads the section.
pub(super) fn database(root: Fields<'_>, hosts: &Hosts<'_>, problems: &mut Problems) -> Option<Database> {
    let Some(entry) = root.get("database") else {
        if root.lacks("database")
            && let Some(host) = hosts.roles.get(&Role::Db).and_then(|entries| entries.first())
        {
            problems.push(
                Diagnostic::warning(Warning::NoDatabase, "there are database hosts, but no `database` section")
                    .at(&host.key.mark.span())
                    .help(format!(
                        "write `database: {{ engine: mariadb, primary: {}, schemas: [shop] }}`",
                        host.key.text
                    )),
            );
        }
        return None;
    };
    let what = "`database`";
    let fields = problems.fields(entry, what, &KEYS)?;
    if hosts.lacks(Role::Db) {
        problems.push(
            Diagnostic::error("`database` needs a host with the role `db`, but no host has it")
                .at(&entry.key.mark.span())
                .help("give a host `roles: [db]`, or remove the section"),
        );
    }
    let engine = problems
        .require(fields, what, "engine", "write `engine: mariadb` or `engine: mysql`")
        .and_then(|e| problems.word(&e.value, "engine", &[("mariadb", Engine::Mariadb), ("mysql", Engine::Mysql)]));
    let db = hosts.roles.get(&Role::Db).and_then(|all| all.first()).map_or("db1", |entry| entry.key.text.as_str());
    let help = format!("write `primary: {db}`, the host that takes the first writes");
    let primary = problems.require(fields, what, "primary", &help).and_then(|e| {
        if let Value::List(_) = e.value.value {
            problems.push(
                Diagnostic::error("`primary` is one host, found a list")
                    .at(&e.value.span())
                    .help("name the one that takes the first writes; all other hosts of the role `db` follow it"),
            );
            return None;
        }
        let name = names::host(&e.value, "primary", hosts, problems)?;
        let fits = hosts.roles.get(&Role::Db).is_some_and(|dbs| dbs.iter().any(|db| db.key.text == name.as_str()));
        if !fits && hosts.complete && hosts.roles.contains_key(&Role::Db) {
            let dbs = hosts.roles.get(&Role::Db).into_iter().flatten().map(|db| db.key.text.as_str());
            let diagnostic =
                Diagnostic::error(format!("the host `{name}` does not have the role `db`")).at(&e.value.span());
            let hint = dbs.clone().next().map(|db| format!("write a host that has the role, such as `{db}`"));
            problems.push(diagnostic.help(did_you_mean(name.as_str(), dbs).or(hint).unwrap_or_default()));
        }
        Some(name)
    });
    let schemas =
        problems.require(fields, what, "schemas", "write `schemas: [shop]`").and_then(|e| schemas(&e.value, problems));
    let users = fields.get("users").map(|e| users(e, schemas.as_deref(), hosts, problems)).unwrap_or_default();
    let (users, former_users) = users;
    let max_lag = match fields.value("max_lag") {
        Some(node) => problems.duration(node, "max_lag", LEAST_LAG..=MOST_LAG, ""),
        None => Some(USUAL),
    };
    let semi_sync = match fields.value("semi_sync") {
        Some(node) if node.text() == Some("strict") => Some(SemiSync::Strict),
        Some(node) => {
            let why = ", or `strict` for a writer that never goes on without a replica";
            problems.duration(node, "semi_sync", Duration::from_secs(1)..=MOST_WAIT, why).map(SemiSync::Wait)
        }
        None => Some(SemiSync::Wait(USUAL)),
    };
    let settings = fields.get("settings").map(|e| settings::settings(e, problems)).unwrap_or_default();
    Some(Database {
        engine: engine?,
        primary: primary?,
        schemas: schemas?,
        users,
        former_users,
        max_lag: max_lag?,
        semi_sync: semi_sync?,
        settings,
        place: entry.key.mark.place(),
    })
}

fn schemas(node: &Node, problems: &mut Problems) -> Option<Vec<String>> {
    let mut out: Vec<String> = Vec::new();
    for item in problems.some(node, "schemas", "[shop]")? {
        let Some(name) = identifier(item, "schemas", MAX_SCHEMA, problems) else { continue };
        let (message, help) = if SYSTEM_SCHEMAS.contains(&name.as_str()) {
            (format!("the schema `{name}` belongs to the engine itself"), "choose another name")
        } else if name == "infra" || name.starts_with("infra_") {
            (format!("the schema `{name}` belongs to infra"), "choose a name that does not begin with `infra`")
        } else if out.contains(&name) {
            (format!("the schema `{name}` is given twice"), "remove one")
        } else {
            out.push(name);
            continue;
        };
        problems.push(Diagnostic::error(message).at(&item.span()).help(help));
    }
    Some(out)
}

/// A name that needs no quoting in SQL.
fn identifier(node: &Node, key: &str, most: usize, problems: &mut Problems) -> Option<String> {
    let text = problems.text(node, key)?;
    if let Some(why) = unfit(text, most) {
        problems.push(Diagnostic::error(format!("`{text}` {why}")).at(&node.span()).help(NAMES));
        return None;
    }
    Some(text.to_owned())
}

const NAMES: &str = "use a-z, 0-9 and `_`, a letter first";

fn unfit(text: &str, most: usize) -> Option<String> {
    if text.len() > most {
        return Some(format!("is longer than {most} characters"));
    }
    if !text.starts_with(|c: char| c.is_ascii_lowercase()) {
        return Some("does not begin with a lower-case letter".into());
    }
    let odd = text.chars().find(|c| !(c.is_ascii_lowercase() || c.is_ascii_digit() || *c == '_'))?;
    Some(format!("has the character `{}`", odd.escape_default()))
}

const USER_KEYS: [&str; 7] = ["schema", "from", "password", "grants", "group", "reload", "remove"];

/// The users, and those of before that are to be removed.
fn users(
    entry: &Entry,
    schemas: Option<&[String]>,
    hosts: &Hosts<'_>,
    problems: &mut Problems,
) -> (BTreeMap<String, DatabaseUser>, BTreeSet<String>) {
    let (mut out, mut former) = (BTreeMap::new(), BTreeSet::new());
    let Some(entries) = problems.named(
        entry,
        &format!(
            "write `shop: {{ schema: {}, from: {} }}`",
            schemas.and_then(|all| all.first()).map_or("shop", String::as_str),
            hosts.some_role(&[Role::App, Role::Web, Role::Db])
        ),
    ) else {
        return (out, former);
    };
    for entry in entries {
        let name = entry.key.text.as_str();
        let span = entry.key.mark.span();
        if let Some(why) = unfit(name, MAX_USER) {
            problems.push(Diagnostic::error(format!("`{name}` {why}")).at(&span).help(NAMES));
        } else if SYSTEM_USERS.contains(&name) || name.starts_with("infra_") {
            problems.push(
                Diagnostic::error(format!("the user `{name}` belongs to the engine or to infra"))
                    .at(&span)
                    .help("choose another name"),
            );
        }
        let what = format!("user `{name}`");
        let Some(fields) = problems.fields(entry, &what, &USER_KEYS) else { continue };
        let remove =
            fields.value("remove").map(|node| problems.word(node, "remove", &[("true", true), ("false", false)]));
        if remove == Some(Some(true)) {
            let other = USER_KEYS.iter().filter(|key| **key != "remove").find_map(|key| fields.get(key));
            if let Some(other) = other {
                problems.push(
                    Diagnostic::error(format!("the user `{name}` is to be removed, and has `{}` too", other.key.text))
                        .at(&other.key.mark.span())
                        .help(format!("write `{name}: {{ remove: true }}`, and nothing else")),
                );
            }
            former.insert(name.to_owned());
            continue;
        }
        let schema = problems
            .require(
                fields,
                &what,
                "schema",
                &format!(
                    "write `schema: {}`, one of `schemas`",
                    schemas.and_then(|all| all.first()).map_or("shop", String::as_str)
                ),
            )
            .and_then(|e| schema(&e.value, schemas, problems));
        let from = problems
            .require(
                fields,
                &what,
                "from",
                &format!(
                    "write `from: {}`, the role whose hosts may log in as this user",
                    hosts.some_role(&[Role::App, Role::Web, Role::Db])
                ),
            )
            .and_then(|e| names::role(&e.value, "from", hosts, problems));
        let password = fields.value("password").and_then(|node| problems.secret(node, "password"));
        // Nothing is less than what holds where the key is left out, so it is not the same.
        let grants = match fields.written("grants") {
            Some(entry) => grants(&entry.value, problems),
            None => Some(USUAL_PRIVILEGES.into()),
        };
        let group = match fields.value("group") {
            Some(node) => group(node, problems),
            None => Some("root".to_owned()),
        };
        let reload = fields.value("reload").and_then(|node| unit(node, problems));
        if let (Some(schema), Some(from), Some(grants), Some(group)) = (schema, from, grants, group) {
            out.insert(name.to_owned(), DatabaseUser { schema, from, password, grants, group, reload });
        }
    }
    (out, former)
}

/// SQL does not tell upper from lower case.
fn grants(node: &Node, problems: &mut Problems) -> Option<BTreeSet<&'static str>> {
    let mut out = BTreeSet::new();
    for item in problems.some(node, "grants", "[SELECT, INSERT]")? {
        let Some(text) = problems.text(item, "grants") else { continue };
        let word = text.to_ascii_uppercase();
        if let Some(privilege) = PRIVILEGES.iter().find(|privilege| **privilege == word) {
            out.insert(*privilege);
            continue;
        }
        let hint = did_you_mean(&word, PRIVILEGES);
        let all = || format!("what may be granted on a schema is {}", PRIVILEGES.join(", "));
        problems.push(
            Diagnostic::error(format!("`{text}` cannot be granted on a schema"))
                .at(&item.span())
                .help(hint.unwrap_or_else(all)),
        );
    }
    Some(out)
}

/// A group of Debian's (adduser.conf(5), `NAME_REGEX`).
fn group(node: &Node, problems: &mut Problems) -> Option<String> {
    let text = problems.text(node, "group")?;
    let fits = text.len() <= MAX_GROUP
        && text.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'_' | b'-'));
    if !fits {
        problems.push(
            Diagnostic::error(format!("`{text}` is not the name of a group"))
                .at(&node.span())
                .help("write a group of the hosts of `from`, such as `www-data`"),
        );
        return None;
    }
    Some(text.to_owned())
}

/// A unit that is the user's own.
fn unit(node: &Node, problems: &mut Problems) -> Option<UnitName> {
    let text = problems.text(node, "reload")?;
    match text.parse() {
        Ok(unit) => Some(unit),
        Err(invalid) => {
            problems.push(
                Diagnostic::error(format!("`{text}` {invalid}"))
                    .at(&node.span())
                    .help("write a unit of the hosts of `from`, such as `shop.service`"),
            );
            None
        }
    }
}

fn schema(node: &Node, schemas: Option<&[String]>, problems: &mut Problems) -> Option<String> {
    let text = problems.text(node, "schema")?;
    if let Some(schemas) = schemas
        && !schemas.iter().any(|schema| schema == text)
    {
        let hint = problems.near(text, schemas.len(), schemas.iter().map(String::as_str));
        problems.push(
            Diagnostic::error(format!("there is no schema `{text}`"))
                .at(&node.span())
                .help(hint.unwrap_or_else(|| format!("add the schema: `schemas: [{text}]`"))),
        );
        return None;
    }
    Some(text.to_owned())
}
