//! Hosts from other tools' files: takes an inventory of Ansible or a configuration of ssh and which role whom belongs to, gives the hosts
//! of a first inventory. Whoever has no role is named and left out.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, ToSocketAddrs as _};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::questions::Questions;
use crate::base::diagnostic::{Diagnostic, did_you_mean};
use crate::base::net::{HostName, Invalid, Port};
use crate::base::words::count;
use crate::cli::stop::Stop;
use crate::host::known_hosts::wildcard;
use crate::host::ssh::{Config, Target};
use crate::host::ssh_config::{self, Asked, Effective};
use crate::inventory::draft::{self, DraftHost, Login, ansible};
use crate::inventory::site::Role;
use crate::report::Reporter;

/// `GROUP=ROLE`; a role of `none` leaves the group out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mapping {
    /// The group, or a pattern of hosts' names.
    pub of: String,
    /// Its role, or none.
    pub role: Option<Role>,
}

impl FromStr for Mapping {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let (of, word) = text.split_once('=').ok_or("write GROUP=ROLE, such as webservers=web")?;
        if of.is_empty() {
            return Err("write GROUP=ROLE, such as webservers=web".to_owned());
        }
        Ok(Self { of: of.to_owned(), role: role(word)? })
    }
}

/// A role by its word; `none` is none.
fn role(word: &str) -> Result<Option<Role>, String> {
    let words = Role::ALL.map(Role::as_str);
    if word == "none" {
        return Ok(None);
    }
    Role::ALL.into_iter().find(|role| role.as_str() == word).map(Some).ok_or_else(|| {
        let near = did_you_mean(word, words).unwrap_or_else(|| format!("the roles are {}, or none", words.join(", ")));
        format!("`{word}` is not a role; {near}")
    })
}

/// The role that a group, or a host, of such a name usually has.
fn usual(name: &str) -> Option<Role> {
    let name = name.to_ascii_lowercase();
    let table = [
        (Role::Lb, &["lb", "loadbalancer", "load-balancer", "load_balancer", "haproxy", "proxy", "edge"][..]),
        (Role::Web, &["web", "www", "nginx", "frontend"]),
        (Role::App, &["app", "backend", "application"]),
        (Role::Db, &["db", "database", "mysql", "mariadb", "sql"]),
        (Role::Monitor, &["monitor", "prometheus"]),
    ];
    let of = |start: &&str| {
        let rest = name.strip_prefix(*start).map(|rest| rest.trim_start_matches(['-', '_']));
        rest.is_some_and(|rest| {
            let rest = rest.trim_end_matches(|c: char| c.is_ascii_digit());
            ["", "s", "server", "servers", "host", "hosts", "node", "nodes", "ing", "-"].contains(&rest)
        })
    };
    table.iter().find(|(_, starts)| starts.iter().any(of)).map(|(role, _)| *role)
}

/// Which role each name has: what was said, what is usual, or what the person answers.
fn mapped(
    names: &BTreeSet<String>,
    kind: &str,
    map: &[Mapping],
    questions: &Questions<'_>,
    reporter: &Reporter,
) -> Result<BTreeMap<String, Role>, Stop> {
    let fits = |mapping: &Mapping, name: &str| wildcard(mapping.of.as_bytes(), name.as_bytes());
    for mapping in map {
        if !names.iter().any(|name| fits(mapping, name)) {
            let error = Diagnostic::error(format!("`--map {}=…` fits no {kind} of the file", mapping.of));
            let near = did_you_mean(&mapping.of, names.iter().map(String::as_str));
            let all: Vec<&str> = names.iter().take(12).map(String::as_str).collect();
            return Err(error.help(near.unwrap_or_else(|| format!("it has {}", all.join(", ")))).into());
        }
    }
    let (mut roles, mut guessed) = (BTreeMap::new(), Vec::new());
    for name in names {
        let found = if let Some(mapping) = map.iter().find(|mapping| fits(mapping, name)) {
            mapping.role
        } else if questions.can() {
            let words = usual(name).map_or("none", Role::as_str);
            questions.ask(
                &format!("the role of {kind} {name}: lb, web, app, db, monitor or none"),
                Some(words),
                role,
            )?
        } else {
            let found = usual(name);
            guessed.extend(found.map(|role| format!("{name}={role}")));
            found
        };
        roles.extend(found.map(|role| (name.clone(), role)));
    }
    if !guessed.is_empty() {
        reporter.note(&format!("roles by their usual names: {}; `--map` says otherwise", guessed.join(", ")));
    }
    Ok(roles)
}

/// What a host is to become.
struct Found {
    given: String,
    roles: BTreeSet<Role>,
    /// What is connected to: an address, or a name that is looked up.
    target: String,
    login: Login,
}

/// The hosts by role, each with the address that its name resolves to.
fn hosts(found: Vec<Found>, from: &str, site: &HostName) -> Result<Vec<DraftHost>, Stop> {
    let (mut out, mut taken, mut errors): (Vec<DraftHost>, BTreeSet<HostName>, Vec<Diagnostic>) = Default::default();
    for Found { given, roles, target, mut login } in found {
        let Some(role) = roles.first().copied() else { continue };
        let addresses = if target.parse::<IpAddr>().is_ok() {
            draft::address(&target).map(|address| vec![address])
        } else {
            login.address = Some(target.clone());
            resolved(&target)
        };
        let addresses = match addresses {
            Ok(addresses) => addresses,
            Err(why) => {
                let error = Diagnostic::error(format!("the host `{given}` of {from} has no address: `{target}` {why}"));
                errors.push(error.help("write its address there (`ansible_host=10.0.2.11`, `HostName 10.0.2.11`), or leave its group out (`--map GROUP=none`)"));
                continue;
            }
        };
        let reason = (roles.len() > 1).then(|| format!("so it was in {from}"));
        let host = super::host(&given, role, addresses, roles, reason, (site, &taken))?;
        taken.insert(host.name.clone());
        out.push(DraftHost { login, ..host });
    }
    if !errors.is_empty() {
        return Err(errors.into());
    }
    if out.is_empty() {
        let error = Diagnostic::error(format!("no host of {from} has a role"));
        return Err(error.help("say which group has which: `--map webservers=web,dbservers=db`").into());
    }
    out.sort_by_key(|host| host.roles.first().copied());
    Ok(super::once(out)?)
}

/// One address of each family.
fn resolved(name: &str) -> Result<Vec<IpAddr>, Invalid> {
    let all: Vec<IpAddr> = (name, 22)
        .to_socket_addrs()
        .map_err(|error| Invalid::new(format!("cannot be resolved ({error})")))?
        .map(|address| address.ip())
        .filter(|address| draft::address(&address.to_string()).is_ok())
        .collect();
    let of = |v4: bool| all.iter().copied().find(|address| address.is_ipv4() == v4);
    let found: Vec<IpAddr> = of(true).into_iter().chain(of(false)).collect();
    if found.is_empty() { Err(Invalid::new("has no address by which others could reach it")) } else { Ok(found) }
}

/// The hosts of an inventory of Ansible.
pub(super) fn ansible(
    file: &Path,
    text: &str,
    map: &[Mapping],
    site: &HostName,
    questions: &Questions<'_>,
    reporter: &Reporter,
) -> Result<Vec<DraftHost>, Stop> {
    let from = format!("`{}`", file.display());
    let all = ansible::read(text).map_err(|invalid| Diagnostic::error(format!("{from} {}", invalid.reason)))?;
    let groups: BTreeSet<String> = all.iter().flat_map(|host| host.groups.clone()).collect();
    let roles = mapped(&groups, "group", map, questions, reporter)?;
    let (mut found, mut out) = (Vec::new(), Vec::new());
    for host in all {
        let here = host.vars.get("ansible_connection").is_some_and(|word| word == "local");
        let own: BTreeSet<Role> = host.groups.iter().filter_map(|group| roles.get(group)).copied().collect();
        if own.is_empty() || here {
            out.push(host.name);
            continue;
        }
        let login = login_of(&host, reporter);
        let var = |name: &str| host.vars.get(name).filter(|value| !value.contains("{{")).cloned();
        let target = var("ansible_host").or_else(|| var("ansible_ssh_host")).unwrap_or_else(|| host.name.clone());
        found.push(Found { given: host.name, roles: own, target, login });
    }
    if !out.is_empty() {
        let some: Vec<&str> = out.iter().take(8).map(String::as_str).collect();
        let rest = if out.len() > some.len() { ", …" } else { "" };
        reporter.note(&format!(
            "{} left out, as no group says a role: {}{rest}; `--map GROUP=ROLE` says it",
            count(out.len(), "host"),
            some.join(", ")
        ));
    }
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    for beside in ["group_vars", "host_vars"] {
        if folder.join(beside).is_dir() {
            reporter
                .note(&format!("{} is not read: look there for users, ports and keys", folder.join(beside).display()));
        }
    }
    hosts(found, &from, site)
}

/// How Ansible logs in. Passwords stay where they are.
fn login_of(host: &ansible::Host, reporter: &Reporter) -> Login {
    let var = |names: &[&str]| {
        let value = names.iter().find_map(|name| host.vars.get(*name));
        if let Some(value) = value.filter(|value| value.contains("{{")) {
            reporter.note(&format!("{}: the template `{value}` is not read", host.name));
        }
        value.filter(|value| !value.contains("{{") && !value.is_empty()).cloned()
    };
    let common = var(&["ansible_ssh_common_args", "ansible_ssh_extra_args"]).unwrap_or_default();
    let words = shlex::split(&common).unwrap_or_default();
    let after = words.iter().zip(words.iter().skip(1)).find(|(word, _)| *word == "-J").map(|(_, jump)| jump.clone());
    let jump =
        words.iter().find_map(|word| word.trim_start_matches("-o").strip_prefix("ProxyJump=").map(ToOwned::to_owned));
    Login {
        user: var(&["ansible_user", "ansible_ssh_user"]),
        port: var(&["ansible_port", "ansible_ssh_port"]).and_then(|port| port.parse::<Port>().ok()),
        identity: var(&["ansible_ssh_private_key_file", "ansible_private_key_file"]),
        jump: after.or(jump),
        address: None,
    }
}

/// The hosts of a configuration of ssh; what it says of them goes on to hold, so nothing of it is repeated.
pub(super) fn ssh_config(
    file: Option<&Path>,
    map: &[Mapping],
    site: &HostName,
    questions: &Questions<'_>,
    reporter: &Reporter,
) -> Result<Vec<DraftHost>, Stop> {
    let path: PathBuf = file.map_or_else(|| ssh_config::home().join(".ssh/config"), Path::to_owned);
    let config = file.map_or(Config::Default, |file| Config::File(file.to_owned()));
    let from = format!("`{}`", path.display());
    let text =
        crate::base::fsx::read_text(&path, super::SOURCE).map_err(|error| Diagnostic::error(error.to_string()))?;
    let lines = text.lines().filter_map(|line| {
        let line = line.trim();
        let (word, rest) = line.split_at_checked(4).filter(|(word, _)| word.eq_ignore_ascii_case("host"))?;
        rest.starts_with([' ', '\t', '=']).then(|| (word, rest.trim_start_matches([' ', '\t', '='])))
    });
    let plain = |name: &&str| !name.contains(['*', '?', '!', '"']);
    let names: BTreeSet<String> =
        lines.flat_map(|(_, rest)| rest.split_whitespace().filter(plain).map(ToOwned::to_owned)).collect();
    let roles = mapped(&names, "host", map, questions, reporter)?;
    let left: Vec<&str> = names.iter().filter(|name| !roles.contains_key(*name)).map(String::as_str).collect();
    if !left.is_empty() {
        reporter.note(&format!("left out, as nothing says a role: {}; `--map 'NAME*=ROLE'` says it", left.join(", ")));
    }
    let (asked, mut found) = (Asked::default(), Vec::new());
    for (name, role) in roles {
        let effective =
            Effective::of(&Target::new(name.clone()), &config, &asked).map_err(|error| Stop::Failed(error.into()))?;
        // A block is found by the host's name; where that must be another one, what the block says is repeated.
        let same = name.parse::<HostName>().is_ok();
        let identity = effective.identity_files.iter().find(|file| file.exists());
        let login = if same {
            Login::default()
        } else {
            Login {
                user: Some(effective.user),
                port: effective.port.to_string().parse().ok(),
                identity: identity.map(|file| file.display().to_string()),
                jump: effective.proxy_jump,
                address: None,
            }
        };
        found.push(Found { given: name, roles: [role].into(), target: effective.hostname, login });
    }
    hosts(found, &from, site)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usual_names_of_groups_have_their_roles() {
        for (name, role) in [
            ("webservers", Some(Role::Web)),
            ("web", Some(Role::Web)),
            ("WWW-01", Some(Role::Web)),
            ("load_balancers", Some(Role::Lb)),
            ("lb2", Some(Role::Lb)),
            ("haproxy", Some(Role::Lb)),
            ("app_servers", Some(Role::App)),
            ("dbservers", Some(Role::Db)),
            ("databases", Some(Role::Db)),
            ("monitoring", Some(Role::Monitor)),
            ("webmail", None),
            ("prod", None),
            ("apple", None),
        ] {
            assert_eq!(usual(name), role, "{name}");
        }
    }

    #[test]
    fn a_mapping_names_a_role() {
        assert_eq!("a=web".parse(), Ok(Mapping { of: "a".into(), role: Some(Role::Web) }));
        assert_eq!("a=none".parse(), Ok(Mapping { of: "a".into(), role: None }));
        for (text, words) in [("a", "write GROUP=ROLE"), ("=web", "write GROUP=ROLE"), ("a=wbe", "did you mean `web`?")]
        {
            assert!(text.parse::<Mapping>().unwrap_err().contains(words), "{text}");
        }
    }
}
