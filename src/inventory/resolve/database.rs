//! `database:`: takes the section, gives the engine, the first writer, schemas and users.

use std::collections::BTreeMap;

use super::hosts::Hosts;
use super::names;
use crate::base::diagnostic::{Diagnostic, did_you_mean};
use crate::inventory::raw::{Entry, Node};
use crate::inventory::read::{Fields, Problems};
use crate::inventory::site::{Database, DatabaseUser, Engine, Role};

/// Longest name of a schema in either engine (`MySQL` 9.7 reference manual, 11.2.1).
const MAX_SCHEMA: usize = 64;
/// Longest name of a user in `MySQL` (reference manual, 8.2.3); `MariaDB`'s is longer.
const MAX_USER: usize = 32;
/// Schemas that the engines have already.
const SYSTEM_SCHEMAS: [&str; 4] = ["mysql", "sys", "information_schema", "performance_schema"];
/// Users that the engines, Debian or this program have already.
const SYSTEM_USERS: [&str; 4] = ["root", "mysql", "mariadb", "infra"];

/// Reads the section.
pub(super) fn database(root: Fields<'_>, hosts: &Hosts<'_>, problems: &mut Problems) -> Option<Database> {
    let Some(entry) = root.get("database") else {
        if root.lacks("database")
            && let Some(host) = hosts.roles.get(&Role::Db).and_then(|entries| entries.first())
        {
            problems.push(
                Diagnostic::warning("there are database hosts, and no `database`").at(&host.key.mark.span()).help(
                    format!("write `database: {{ engine: mariadb, primary: {}, schemas: [shop] }}`", host.key.text),
                ),
            );
        }
        return None;
    };
    let what = "`database`";
    let fields = problems.fields(entry, what, &["engine", "primary", "schemas", "users"])?;
    if hosts.lacks(Role::Db) {
        problems.push(
            Diagnostic::error("`database` needs a host with the role `db`, and there is none")
                .at(&entry.key.mark.span())
                .help("give a host `roles: [db]`, or remove the section"),
        );
    }
    let engine = problems
        .require(fields, what, "engine", "write `engine: mariadb` or `engine: mysql`")
        .and_then(|e| problems.word(&e.value, "engine", &[("mariadb", Engine::Mariadb), ("mysql", Engine::Mysql)]));
    let primary = problems
        .require(fields, what, "primary", "write `primary: db1`, the host that takes the first writes")
        .and_then(|e| {
            let name = names::host(&e.value, "primary", hosts, problems)?;
            let fits = hosts.roles.get(&Role::Db).is_some_and(|dbs| dbs.iter().any(|db| db.key.text == name.as_str()));
            if !fits && hosts.complete && hosts.roles.contains_key(&Role::Db) {
                let dbs = hosts.roles.get(&Role::Db).into_iter().flatten().map(|db| db.key.text.as_str());
                let diagnostic =
                    Diagnostic::error(format!("the host `{name}` has not the role `db`")).at(&e.value.span());
                let hint = dbs.clone().next().map(|db| format!("write a host that has it, such as `{db}`"));
                problems.push(diagnostic.help(did_you_mean(name.as_str(), dbs).or(hint).unwrap_or_default()));
            }
            Some(name)
        });
    let schemas =
        problems.require(fields, what, "schemas", "write `schemas: [shop]`").and_then(|e| schemas(&e.value, problems));
    let users = fields.get("users").map(|e| users(e, schemas.as_deref(), hosts, problems)).unwrap_or_default();
    Some(Database { engine: engine?, primary: primary?, schemas: schemas?, users, place: entry.key.mark.place() })
}

fn schemas(node: &Node, problems: &mut Problems) -> Option<Vec<String>> {
    let mut out: Vec<String> = Vec::new();
    for item in problems.some(node, "schemas", "[shop]")? {
        let Some(name) = identifier(item, "schemas", MAX_SCHEMA, problems) else { continue };
        let (message, help) = if SYSTEM_SCHEMAS.contains(&name.as_str()) {
            (format!("the schema `{name}` is the engine's own"), "choose another name")
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

fn users(
    entry: &Entry,
    schemas: Option<&[String]>,
    hosts: &Hosts<'_>,
    problems: &mut Problems,
) -> BTreeMap<String, DatabaseUser> {
    let mut out = BTreeMap::new();
    let Some(entries) = problems.named(entry, "write `shop: { schema: shop, from: app }`") else { return out };
    for entry in entries {
        let name = entry.key.text.as_str();
        let span = entry.key.mark.span();
        if let Some(why) = unfit(name, MAX_USER) {
            problems.push(Diagnostic::error(format!("`{name}` {why}")).at(&span).help(NAMES));
        } else if SYSTEM_USERS.contains(&name) || name.starts_with("infra_") {
            problems.push(
                Diagnostic::error(format!("the user `{name}` is the engine's or infra's own"))
                    .at(&span)
                    .help("choose another name"),
            );
        }
        let what = format!("user `{name}`");
        let Some(fields) = problems.fields(entry, &what, &["schema", "from", "password"]) else { continue };
        let schema = problems
            .require(fields, &what, "schema", "write `schema:` and one of `schemas`")
            .and_then(|e| schema(&e.value, schemas, problems));
        let from = problems
            .require(fields, &what, "from", "write `from: app`, the role whose hosts may log in as this user")
            .and_then(|e| names::role(&e.value, "from", hosts, problems));
        let password = fields.value("password").and_then(|node| problems.secret(node, "password"));
        if let (Some(schema), Some(from)) = (schema, from) {
            out.insert(name.to_owned(), DatabaseUser { schema, from, password });
        }
    }
    out
}

fn schema(node: &Node, schemas: Option<&[String]>, problems: &mut Problems) -> Option<String> {
    let text = problems.text(node, "schema")?;
    if let Some(schemas) = schemas
        && !schemas.iter().any(|schema| schema == text)
    {
        let hint = did_you_mean(text, schemas.iter().map(String::as_str));
        problems.push(
            Diagnostic::error(format!("there is no schema `{text}`"))
                .at(&node.span())
                .help(hint.unwrap_or_else(|| format!("add it: `schemas: [{text}]`"))),
        );
        return None;
    }
    Some(text.to_owned())
}
