//! Hosts from other tools' files: takes an inventory of Ansible or a configuration of ssh and which role whom belongs to, gives the hosts
//! of a first inventory. Whoever has no role is named and left out.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, ToSocketAddrs as _};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::SOURCE;
use super::questions::Questions;
use crate::base::diagnostic::{Diagnostic, did_you_mean};
use crate::base::fsx;
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
    let mut sealed = Vec::new();
    let all = ansible::read(text, &mut |of, name| beside(fsx::folder(file), of, name, &mut sealed))
        .map_err(|invalid| Diagnostic::error(format!("{from} {}", invalid.reason)))?;
    for file in sealed {
        reporter.note(&format!("{} is encrypted by ansible-vault, and is not read", file.display()));
    }
    let groups: BTreeSet<String> = all.iter().flat_map(|host| host.groups.clone()).collect();
    let roles = mapped(&groups, "group", map, questions, reporter)?;
    let (mut found, mut out, mut elsewhere) = (Vec::new(), Vec::new(), Vec::new());
    let mut notes: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for host in all {
        let own: BTreeSet<Role> = host.groups.iter().filter_map(|group| roles.get(group)).copied().collect();
        if own.is_empty() {
            out.push(host.name);
            continue;
        }
        let ssh = ["ssh", "smart", "paramiko", "paramiko_ssh", "libssh"];
        let how = host.vars.get("ansible_connection").map(|word| word.rsplit('.').next().unwrap_or(word).to_owned());
        if let Some(how) = how.filter(|how| !ssh.contains(&how.as_str())) {
            elsewhere.push((host.name, how));
            continue;
        }
        let login = login_of(&host, &mut notes)
            .map_err(|why| Diagnostic::error(format!("the host `{}` of {from} {why}", host.name)))?;
        let var = |name: &str| host.vars.get(name).filter(|value| !ansible::is_opaque(value)).cloned();
        let target = var("ansible_host").or_else(|| var("ansible_ssh_host")).unwrap_or_else(|| host.name.clone());
        found.push(Found { given: host.name, roles: own, target, login });
    }
    for (words, hosts) in notes {
        let some = hosts.iter().take(3).map(String::as_str).collect::<Vec<_>>().join(", ");
        let rest = if hosts.len() > 3 { format!(" and {} more", hosts.len() - 3) } else { String::new() };
        reporter.note(&format!("{some}{rest}: {words}"));
    }
    let out: Vec<&str> = out.iter().map(String::as_str).collect();
    tell_left_out(&out, "no group says a role", "`--map GROUP=ROLE` says it", reporter);
    let elsewhere: Vec<String> = elsewhere.into_iter().map(|(name, how)| format!("{name} ({how})")).collect();
    let elsewhere: Vec<&str> = elsewhere.iter().map(String::as_str).collect();
    tell_left_out(&elsewhere, "Ansible does not reach them by SSH", "infra has no other way", reporter);
    hosts(found, &from, site)
}

/// The variables of a group or a host in the files beside an inventory, as Ansible finds them: one of its name, or all of a folder of
/// its name. Those that are encrypted as a whole go to `sealed`.
fn beside(
    folder: &Path,
    of: ansible::Of,
    name: &str,
    sealed: &mut Vec<PathBuf>,
) -> Result<ansible::Variables, Invalid> {
    let mut vars = BTreeMap::new();
    // A name with a slash in it would lead elsewhere.
    if name.contains('/') || name.starts_with('.') {
        return Ok(vars);
    }
    let own = folder.join(of.folder()).join(name);
    let is_read =
        |path: &PathBuf| path.extension().is_none_or(|end| ["yml", "yaml", "json"].iter().any(|own| end == *own));
    let mut files: Vec<PathBuf> = match fs_err::read_dir(&own) {
        Ok(entries) => entries.flatten().map(|entry| entry.path()).filter(is_read).collect(),
        Err(_) => Vec::new(),
    };
    files.sort();
    let ends = ["", ".yml", ".yaml", ".json"].iter().map(|end| folder.join(of.folder()).join(format!("{name}{end}")));
    for path in ends.chain(files).filter(|path| path.is_file()) {
        let shown = path.display();
        let text = fsx::read_named(&path, SOURCE)
            .map_err(|error| Invalid::new(format!("has {shown} beside it, which cannot be read: {error}")))?;
        let text = String::from_utf8_lossy(&text);
        if ansible::is_sealed(&text) {
            sealed.push(path);
            continue;
        }
        let read = ansible::variables(&text)
            .map_err(|invalid| Invalid::new(format!("has {shown} beside it, which {}", invalid.reason)))?;
        vars.extend(read);
    }
    Ok(vars)
}

/// Names hosts that are left out: some of them, and how many they are.
fn tell_left_out(hosts: &[&str], why: &str, help: &str, reporter: &Reporter) {
    if hosts.is_empty() {
        return;
    }
    let some = hosts.iter().take(8).copied().collect::<Vec<_>>().join(", ");
    let rest = if hosts.len() > 8 { ", …" } else { "" };
    reporter.note(&format!("{} left out, as {why}: {some}{rest}; {help}", count(hosts.len(), "host")));
}

/// The variables that say how Ansible logs in.
const READ: [&str; 11] = [
    "ansible_host",
    "ansible_ssh_host",
    "ansible_port",
    "ansible_ssh_port",
    "ansible_user",
    "ansible_ssh_user",
    "ansible_ssh_private_key_file",
    "ansible_private_key_file",
    "ansible_ssh_common_args",
    "ansible_ssh_extra_args",
    "ansible_ssh_args",
];

/// How Ansible logs in. Passwords stay where they are; what else is not taken over is noted, with its hosts.
///
/// # Errors
/// What is no value, half a sentence.
fn login_of(host: &ansible::Host, notes: &mut BTreeMap<String, Vec<String>>) -> Result<Login, String> {
    let mut note = |words: String| notes.entry(words).or_default().push(host.name.clone());
    // A template may have a password in it.
    let opaque = |(name, value): &(&String, &String)| READ.contains(&name.as_str()) && ansible::is_opaque(value);
    for (name, _) in host.vars.iter().filter(opaque) {
        note(format!("`{name}` is a template, or encrypted, and is not read"));
    }
    let var = |names: &[&str]| {
        let value = names.iter().find_map(|name| host.vars.get(*name));
        value.filter(|value| !ansible::is_opaque(value) && !value.is_empty()).cloned()
    };
    let port = var(&["ansible_port", "ansible_ssh_port"]);
    let port = port.map(|text| text.parse::<Port>().map_err(|_| format!("has `{text}` as its port"))).transpose()?;
    let mut jump = None;
    for name in ["ansible_ssh_common_args", "ansible_ssh_extra_args", "ansible_ssh_args"] {
        let text = var(&[name]).unwrap_or_default();
        let words = shlex::split(&text).ok_or_else(|| format!("has a quote in `{name}` that is not closed"))?;
        let (way, rest) = jump_of(&words);
        jump = jump.or(way);
        if !rest.is_empty() {
            let rest = rest.join(" ");
            note(format!("`{rest}` of `{name}` is not taken over: what ssh is to do belongs into ~/.ssh/config"));
        }
    }
    let no = |word: &String| ["no", "false", "0", "n", "off"].contains(&word.to_ascii_lowercase().as_str());
    let user = var(&["ansible_user", "ansible_ssh_user"]);
    if user.as_deref() != Some("root") && host.vars.get("ansible_become").is_some_and(no) {
        note("Ansible does not become root there (`ansible_become`); infra does, by sudo".to_owned());
    }
    Ok(Login {
        user,
        port,
        identity: var(&["ansible_ssh_private_key_file", "ansible_private_key_file"]),
        jump,
        address: None,
    })
}

/// The host that arguments of ssh lead through, and the arguments that say something else.
fn jump_of(words: &[String]) -> (Option<String>, Vec<String>) {
    let (mut jump, mut rest) = (None, Vec::new());
    let mut words = words.iter().map(String::as_str);
    while let Some(word) = words.next() {
        let (flag, joined) = word.split_at_checked(2).unwrap_or((word, ""));
        let value = |words: &mut dyn Iterator<Item = &str>| match joined {
            "" => words.next().unwrap_or_default().to_owned(),
            joined => joined.to_owned(),
        };
        match flag {
            "-J" => jump = jump.or(Some(value(&mut words))),
            "-o" => {
                let option = value(&mut words);
                let (name, way) = option.split_once(['=', ' ']).unwrap_or((&option, ""));
                if name.trim().eq_ignore_ascii_case("proxyjump") {
                    jump = jump.or(Some(way.trim().to_owned()));
                } else {
                    // Its value may be a command with a password in it.
                    rest.push(format!("-o {}", name.trim()));
                }
            }
            _ => rest.push(flag.to_owned()),
        }
    }
    (jump.filter(|jump| !jump.is_empty()), rest)
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
    // What is named and cannot be read is told; files that it includes are optional to ssh itself.
    fsx::read_text(&path, SOURCE).map_err(|error| Diagnostic::error(error.to_string()))?;
    let names = ssh_config::names(&config);
    if names.is_empty() {
        let error = Diagnostic::error(format!("{from} has no block of a host (`Host web1`)"));
        return Err(error.help("hosts that only patterns or `Match` are for are not found there: name them by `--lb`, `--web` and so on").into());
    }
    let roles = mapped(&names, "host", map, questions, reporter)?;
    let left: Vec<&str> = names.iter().filter(|name| !roles.contains_key(*name)).map(String::as_str).collect();
    tell_left_out(&left, "nothing says a role", "`--map 'NAME*=ROLE'` says it", reporter);
    let (asked, mut found) = (Asked::default(), Vec::new());
    for (name, role) in roles {
        let effective = Effective::of(&Target::new(name.clone()), &config, &asked).map_err(|error| {
            let error = Diagnostic::error(format!("ssh does not take {from}: {error}"));
            error.help(format!("mend it until `ssh -G -F {} {name}` prints settings", path.display()))
        })?;
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
    fn arguments_of_ssh_lead_through_a_host() {
        for (text, jump, rest) in [
            ("-J ops@b:22", Some("ops@b:22"), vec![]),
            ("-Jb -C", Some("b"), vec!["-C"]),
            ("-o ProxyJump=b", Some("b"), vec![]),
            ("-oproxyjump=b -J c", Some("b"), vec![]),
            ("-o 'ProxyJump b'", Some("b"), vec![]),
            ("-o 'ProxyCommand=sshpass -p geheim ssh -W %h:%p b'", None, vec!["-o ProxyCommand"]),
            ("-o ServerAliveInterval=5 -Jb -vv", Some("b"), vec!["-o ServerAliveInterval", "-v"]),
            ("-o ProxyJump=", None, vec![]),
            ("-J", None, vec![]),
        ] {
            let (found, other) = jump_of(&shlex::split(text).unwrap());
            assert_eq!((found.as_deref(), other), (jump, rest.into_iter().map(ToOwned::to_owned).collect()), "{text}");
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
