//! `hosts:`: takes the map of machines, gives those that are whole, and what is known of the others, so that a mistake in
//! one line does not make every reference to that host a second one.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::ssh;
use crate::base::diagnostic::Diagnostic;
use crate::base::net::HostName;
use crate::base::warning::Warning;
use crate::inventory::raw::{Entry, Mark, Node};
use crate::inventory::read::{Fields, Problems};
use crate::inventory::site::{Become, Host, Role, Ssh};

/// The words for the roles.
pub(super) const ROLES: [(&str, Role); 5] =
    [("lb", Role::Lb), ("web", Role::Web), ("app", Role::App), ("db", Role::Db), ("monitor", Role::Monitor)];
/// Words that mean something else where a host may be named: in rules, in `--limit`, in the lab.
pub(in crate::inventory) const RESERVED: [&str; 10] =
    ["lb", "web", "app", "db", "monitor", "all", "internet", "failed", "controller", "outside"];
/// `HOST.NAME.infra.internal` is a common name, which has room for 64 characters (RFC 5280 appendix A.1).
const MAX_INTERNAL: usize = 64;

/// All that is known of the hosts.
#[derive(Default)]
pub(super) struct Hosts<'a> {
    /// Those without a mistake.
    pub(super) whole: BTreeMap<HostName, Host>,
    /// All of them.
    pub(super) entries: BTreeMap<&'a str, &'a Entry>,
    /// Names by role, as far as roles could be read.
    pub(super) roles: BTreeMap<Role, Vec<&'a Entry>>,
    /// Whether the roles of every host could be read: only then can one say that a role has no host.
    pub(super) complete: bool,
}

impl Hosts<'_> {
    /// A role that some host has, for an example: the first of these, or the last one.
    pub(super) fn some_role(&self, roles: &[Role]) -> Role {
        let there = roles.iter().find(|role| self.roles.contains_key(role));
        there.or(roles.last()).copied().unwrap_or(Role::Web)
    }

    /// Whether it is certain that no host has `role`.
    pub(super) fn lacks(&self, role: Role) -> bool {
        self.complete && !self.roles.contains_key(&role)
    }
}

/// Reads all hosts.
pub(super) fn hosts<'a>(root: Fields<'a>, common: &Ssh, site: Option<&HostName>, problems: &mut Problems) -> Hosts<'a> {
    let mut out = Hosts::default();
    let help = "write `hosts:` and a line for each host, such as `web1: { address: 10.0.2.11, roles: [web] }`; one machine alone is \
                `one: { address: 10.0.2.11, roles: [lb, web, app], allow_mixed_roles: \"one machine until the launch\" }`";
    let Some(section) = problems.require(root, "the inventory", "hosts", help) else { return out };
    let Some(entries) = problems.named(section, help) else { return out };
    out.complete = true;
    let mut taken: BTreeMap<IpAddr, (&Mark, &str)> = BTreeMap::new();
    let mut told = false;
    for entry in entries {
        let name = name(entry, entries, site, problems);
        out.entries.insert(&entry.key.text, entry);
        let what = format!("host `{}`", entry.key.text);
        let Some(fields) = problems.fields(entry, &what, &["address", "public", "roles", "allow_mixed_roles", "ssh"])
        else {
            out.complete = false;
            continue;
        };
        let help = "write `roles: [web]`; the roles are `lb`, `web`, `app`, `db` and `monitor`";
        let roles = problems.require(fields, &what, "roles", help).and_then(|e| roles(&e.value, &what, problems));
        out.complete &= roles.is_some();
        for role in roles.iter().flatten() {
            out.roles.entry(*role).or_default().push(entry);
        }
        let help = "write `address: 10.0.2.11`, the address that SSH connects to and that the firewall lets in";
        let private =
            problems.require(fields, &what, "address", help).and_then(|e| addresses(&e.value, "address", problems));
        let public = fields.value("public").map(|node| addresses(node, "public", problems));
        for (address, node) in private.iter().flatten().chain(public.iter().flatten().flatten()) {
            claim(*address, node, &entry.key.text, &mut taken, problems);
        }
        let reason = mixed(fields, roles.as_ref(), problems);
        let own = fields.get("ssh").map(|entry| ssh::ssh(entry, &format!("`ssh` of {what}"), problems));
        let merged = ssh::merged(own.unwrap_or_default(), common);
        become_fits(&merged, fields, root, entry, &mut told, problems);
        let public_ok = public.as_ref().is_none_or(Option::is_some);
        let (Some(name), Some(roles), Some(private), true) = (name, roles, private, public_ok) else { continue };
        let host = Host {
            name: name.clone(),
            addresses: private.into_iter().map(|(address, _)| address).collect(),
            public: public.flatten().unwrap_or_default().into_iter().map(|(address, _)| address).collect(),
            roles,
            allow_mixed_roles: reason,
            ssh: merged,
            place: entry.key.mark.place(),
        };
        out.whole.insert(name, host);
    }
    out
}

fn name(entry: &Entry, all: &[Entry], site: Option<&HostName>, problems: &mut Problems) -> Option<HostName> {
    let text = entry.key.text.as_str();
    let name: HostName = match text.parse() {
        Ok(name) => name,
        Err(invalid) => {
            problems.invalid(&invalid, text, &entry.key.mark);
            return None;
        }
    };
    if RESERVED.contains(&text) {
        let taken = |name: &String| all.iter().any(|other| other.key.text == *name);
        let free = (1..=all.len() + 1).map(|number| format!("{text}{number}")).find(|name| !taken(name));
        problems.push(Diagnostic::error(format!("a host cannot be named `{text}`")).at(&entry.key.mark.span()).help(
            format!("the word means something else in rules and selections: write `{}`", free.unwrap_or_default()),
        ));
        return None;
    }
    let length = site.map_or(0, |site| format!("{name}.{site}.infra.internal").len());
    if length > MAX_INTERNAL {
        problems.push(
            Diagnostic::error(format!("the internal name of `{text}` has {length} characters"))
                .at(&entry.key.mark.span())
                .help(format!(
                    "shorten the host's name or `name`: a certificate's common name has room for {MAX_INTERNAL}"
                )),
        );
        return None;
    }
    Some(name)
}

fn roles(node: &Node, what: &str, problems: &mut Problems) -> Option<BTreeSet<Role>> {
    if node.is_nothing() {
        problems.push(
            Diagnostic::error(format!("{what} has no role"))
                .at(&node.span())
                .help("write `roles: [web]`; the roles are `lb`, `web`, `app`, `db` and `monitor`"),
        );
        return None;
    }
    let mut out = BTreeSet::new();
    let mut whole = true;
    for item in problems.some(node, "roles", "[web]")? {
        match problems.word(item, "roles", &ROLES) {
            Some(role) if !out.insert(role) => problems.push(
                Diagnostic::error(format!("the role `{role}` is given twice")).at(&item.span()).help("remove one"),
            ),
            Some(_) => {}
            None => whole = false,
        }
    }
    whole.then_some(out)
}

/// One address, or one of each family.
fn addresses<'a>(node: &'a Node, key: &str, problems: &mut Problems) -> Option<Vec<(IpAddr, &'a Node)>> {
    let mut out: Vec<(IpAddr, &Node)> = Vec::new();
    let mut whole = true;
    for item in problems.some(node, key, r#"[10.0.2.11, "fd00:2::11"]"#)? {
        let Some(address) = address(item, key, problems) else {
            whole = false;
            continue;
        };
        if let Some((_, first)) = out.iter().find(|(other, _)| other.is_ipv4() == address.is_ipv4()) {
            let family = if address.is_ipv4() { "IPv4" } else { "IPv6" };
            problems.push(
                Diagnostic::error(format!("`{key}` has two {family} addresses"))
                    .at(&item.span())
                    .related(&first.span(), "the first address")
                    .help("give at most one of each family"),
            );
            whole = false;
            continue;
        }
        out.push((address, item));
    }
    whole.then_some(out)
}

/// One address that a host can have.
fn address(node: &Node, key: &str, problems: &mut Problems) -> Option<IpAddr> {
    let text = problems.text(node, key)?;
    let mut fail = |message: String, help: String| {
        problems.push(Diagnostic::error(message).at(&node.span()).help(help));
        None
    };
    let Ok(address) = text.parse::<IpAddr>() else {
        if let Some((bare, _)) = text.split_once('/')
            && bare.parse().is_ok_and(|address| unfit(address).is_none())
        {
            return fail(format!("`{text}` is a network, `{key}` takes an address"), format!("write `{bare}`"));
        }
        let help = "write an IPv4 or IPv6 address; a name to connect to goes under the host's `ssh: { address: … }`";
        return fail(format!("`{text}` is not an address"), help.into());
    };
    let Some(why) = unfit(address) else { return Some(address) };
    let mapped = match address {
        IpAddr::V6(v6) => v6.to_ipv4_mapped().filter(|v4| unfit(IpAddr::V4(*v4)).is_none()),
        IpAddr::V4(_) => None,
    };
    let help = mapped
        .map_or("write the address by which the other hosts reach this one".to_owned(), |v4| format!("write `{v4}`"));
    fail(format!("`{text}` {why}"), help)
}

/// Why no host can have an address by which others reach it.
pub(in crate::inventory) fn unfit(address: IpAddr) -> Option<&'static str> {
    match address {
        _ if address.is_loopback() => Some("is a loopback address"),
        _ if address.is_unspecified() => Some("is the unspecified address"),
        _ if address.is_multicast() => Some("is a multicast address"),
        IpAddr::V4(v4) if v4.is_broadcast() => Some("is the broadcast address"),
        IpAddr::V4(v4) if v4.is_link_local() => Some("is a link-local address"),
        IpAddr::V6(v6) if v6.is_unicast_link_local() => Some("is a link-local address"),
        IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some() => Some("is an IPv4 address written as an IPv6 address"),
        _ => None,
    }
}

/// Notes who has an address, and reports the second one.
fn claim<'a>(
    address: IpAddr,
    node: &'a Node,
    host: &'a str,
    taken: &mut BTreeMap<IpAddr, (&'a Mark, &'a str)>,
    problems: &mut Problems,
) {
    match taken.get(&address) {
        // A load balancer may itself hold what the internet sees.
        Some((_, other)) if *other == host => {}
        Some((first, other)) => problems.push(
            Diagnostic::error(format!("`{address}` is used by `{other}` and by `{host}`"))
                .at(&node.span())
                .related(&first.span(), "first used here")
                .help("give each host addresses of its own"),
        ),
        None => {
            taken.insert(address, (&node.mark, host));
        }
    }
}

/// Roles that belong apart stand together only for a reason.
fn mixed(fields: Fields<'_>, roles: Option<&BTreeSet<Role>>, problems: &mut Problems) -> Option<String> {
    let mut reason = None;
    let mut given = false;
    if let Some(node) = fields.value("allow_mixed_roles") {
        given = true;
        reason = problems.text(node, "allow_mixed_roles").map(ToOwned::to_owned);
        if reason.as_deref().is_some_and(|text| matches!(text, "true" | "yes" | "on" | "false" | "no" | "off")) {
            problems.push(
                Diagnostic::error("`allow_mixed_roles` takes the reason, not a switch").at(&node.span()).help(
                    "write the reason, for a person who audits the inventory: `allow_mixed_roles: \"one machine until the launch\"`",
                ),
            );
        }
    }
    let (Some(roles), Some(node)) = (roles, fields.value("roles")) else { return reason };
    let public = fields.value("public").filter(|_| roles.contains(&Role::Db));
    if given {
        if roles.len() < 2 && public.is_none() {
            let entry = fields.get("allow_mixed_roles").map_or(&fields.node.mark, |entry| &entry.key.mark);
            problems.push(
                Diagnostic::warning(Warning::NeedlessReason, "`allow_mixed_roles` is not needed for a single role")
                    .at(&entry.span())
                    .help("remove it"),
            );
        }
        return reason;
    }
    let help = "if the mixture is meant, give the reason: `allow_mixed_roles: \"the reason\"`";
    if roles.len() > 1 {
        let names: Vec<&str> = roles.iter().map(|role| role.as_str()).collect();
        let why = if roles.contains(&Role::Monitor) {
            "who watches reaches every host, and is to stand when another host falls"
        } else if roles.contains(&Role::Db) {
            "a database does not stand where other programs, or the internet, reach it"
        } else if roles.contains(&Role::App) {
            "an attacker who breaks into the application would own its neighbours too"
        } else {
            "the machine that faces the internet holds the certificates' keys and no more"
        };
        problems.push(
            Diagnostic::error(format!("the roles {} do not belong on one host", names.join(", ")))
                .at(&node.span())
                .label(why)
                .help("give each role hosts of its own")
                .help(help),
        );
    } else if let Some(public) = public {
        problems.push(
            Diagnostic::error("a database host has a public address")
                .at(&public.span())
                .label("a database never faces the internet")
                .help("remove `public`")
                .help(help),
        );
    }
    reason
}

/// Without sudo one must be root already.
fn become_fits(ssh: &Ssh, host: Fields<'_>, root: Fields<'_>, entry: &Entry, told: &mut bool, problems: &mut Problems) {
    let (Some(Become::None), Some(user)) = (ssh.r#become, ssh.user.as_deref()) else { return };
    if user == "root" {
        return;
    }
    let own = host.value("ssh").and_then(|node| node.get("become").or(node.get("user")));
    let common = root.value("ssh").and_then(|node| node.get("become"));
    // The common section's mistake is told once, at the first host that inherits it.
    if own.is_none() && common.is_some() && std::mem::replace(told, true) {
        return;
    }
    let place = own.or(common).map_or(&entry.key.mark, |entry| &entry.value.mark);
    let diagnostic = Diagnostic::error(format!("`become: none` needs the user root, not `{user}`"))
        .at(&place.span())
        .help("write `become: sudo`, or `user: root`");
    problems.push(diagnostic);
}
