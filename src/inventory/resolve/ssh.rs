//! `ssh:` of the inventory and of a host: takes the map, gives [`Ssh`] with what was said and no more.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;

use super::hosts::Hosts;
use crate::base::diagnostic::Diagnostic;
use crate::base::net::HostName;
use crate::inventory::raw::{Entry, Node};
use crate::inventory::read::{Fields, Problems, expand};
use crate::inventory::site::{Become, Host, Ssh};

/// Reads one `ssh` map; `what` names it in messages.
pub(super) fn ssh(entry: &Entry, what: &str, problems: &mut Problems) -> Ssh {
    let Some(fields) =
        problems.fields(entry, what, &["user", "become", "port", "identity", "jump", "config", "address"])
    else {
        return Ssh::default();
    };
    let user = fields.value("user").and_then(|node| user(node, problems));
    let r#become = fields
        .value("become")
        .and_then(|node| problems.word(node, "become", &[("sudo", Become::Sudo), ("none", Become::None)]));
    let address = fields.value("address").and_then(|node| endpoint(node, "address", problems));
    if let (Some(node), true) = (fields.value("address"), what == "`ssh`") {
        problems.push(
            Diagnostic::error("`ssh.address` is the address of one host")
                .at(&node.span())
                .help("write it under the host: `web1: { ssh: { address: … } }`"),
        );
    }
    Ssh {
        user,
        r#become,
        port: fields.value("port").and_then(|node| problems.port(node, "port")),
        identity: fields.value("identity").and_then(|n| problems.text(n, "identity")).map(expand),
        jump: fields.value("jump").and_then(|node| jump(node, problems)),
        config: fields.value("config").and_then(|n| problems.text(n, "config")).map(expand),
        address,
    }
}

/// A host's own words over those of the inventory, field by field.
pub(super) fn merged(host: Ssh, common: &Ssh) -> Ssh {
    let common = common.clone();
    Ssh {
        user: host.user.or(common.user),
        r#become: host.r#become.or(common.r#become),
        port: host.port.or(common.port),
        identity: host.identity.or(common.identity),
        jump: host.jump.or(common.jump),
        config: host.config.or(common.config),
        address: host.address,
    }
}

/// Reports each host that is to be reached through itself, at once or on a longer way: it is reached by nobody.
pub(super) fn circles(root: Fields<'_>, hosts: &Hosts<'_>, problems: &mut Problems) {
    let ways: BTreeMap<&HostName, Vec<&HostName>> =
        hosts.whole.values().map(|host| (&host.name, hops(host, hosts))).collect();
    let mut told = BTreeSet::new();
    for name in hosts.whole.keys() {
        let Some(circle) = circle(name, &ways).filter(|circle| told.insert(circle.iter().copied().min())) else {
            continue;
        };
        let own = hosts.entries.get(name.as_str()).and_then(|entry| entry.value.get("ssh")?.value.get("jump"));
        let common = root.value("ssh").and_then(|ssh| ssh.get("jump"));
        let Some(place) = own.or(common) else { continue };
        let message = match circle.as_slice() {
            [_] => format!("`{name}` would be reached through itself"),
            more => {
                let others: Vec<&str> = more.iter().skip(1).map(|host| host.as_str()).collect();
                format!("`{name}` would be reached through itself, by way of {}", others.join(", "))
            }
        };
        problems.push(
            Diagnostic::error(message).at(&place.value.span()).help(if own.is_none() {
                format!("the host that all others are reached through is reached without: write `{name}: {{ ssh: {{ jump: none }} }}`")
            } else {
                "write `jump: none`, or a way that does not come back here".to_owned()
            }),
        );
    }
}

/// The hosts of the inventory through which one is reached.
fn hops<'h>(host: &Host, hosts: &'h Hosts<'_>) -> Vec<&'h HostName> {
    let jump = host.ssh.jump.as_deref().filter(|jump| *jump != "none").unwrap_or_default();
    let named = jump.split(',').map(|hop| {
        let hop = hop.strip_prefix("ssh://").unwrap_or(hop);
        let hop = hop.rsplit_once('@').map_or(hop, |(_, hop)| hop);
        match hop.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((address, _)) => address,
            None => hop.split_once(':').filter(|(_, port)| !port.contains(':')).map_or(hop, |(hop, _)| hop),
        }
    });
    let is = |other: &Host, hop: &str| {
        other.name.as_str() == hop
            || other.ssh.address.as_deref() == Some(hop)
            || hop.parse::<IpAddr>().is_ok_and(|hop| other.addresses.iter().chain(&other.public).any(|a| *a == hop))
    };
    named.filter_map(|hop| hosts.whole.values().find(|other| is(other, hop)).map(|other| &other.name)).collect()
}

/// The way from a host back to itself, if there is one: the host first.
fn circle<'h>(from: &'h HostName, ways: &BTreeMap<&'h HostName, Vec<&'h HostName>>) -> Option<Vec<&'h HostName>> {
    let (mut seen, mut queue) = (BTreeSet::new(), VecDeque::from([vec![from]]));
    while let Some(way) = queue.pop_front() {
        for hop in way.last().and_then(|last| ways.get(last)).into_iter().flatten() {
            if *hop == from {
                return Some(way);
            }
            if seen.insert(*hop) {
                queue.push_back(way.iter().copied().chain([*hop]).collect());
            }
        }
    }
    None
}

/// A login name (useradd(8): `[a-z_][a-z0-9_-]*[$]?`, 32 characters; capitals and dots occur in directories).
fn user(node: &Node, problems: &mut Problems) -> Option<String> {
    let text = problems.text(node, "user")?;
    let fits = text.len() <= 32
        && text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
    if !fits {
        problems.push(Diagnostic::error(format!("`{text}` is not a user name")).at(&node.span()).help(
            "a user name has letters, digits, `_`, `.` and `-`, begins with a letter, and has at most 32 characters",
        ));
    }
    fits.then(|| text.to_owned())
}

/// A name or address of a host, without anything that ssh could take for an option.
fn endpoint(node: &Node, key: &str, problems: &mut Problems) -> Option<String> {
    let text = problems.text(node, key)?;
    let name = !text.starts_with(['-', '.']) && text.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
    if !name && text.parse::<IpAddr>().is_err() {
        problems.push(
            Diagnostic::error(format!("`{text}` is neither a host name nor an address"))
                .at(&node.span())
                .help("write an address or a name alone; user and port have keys of their own"),
        );
        return None;
    }
    Some(text.to_owned())
}

/// What `ssh -J` takes: `[user@]host[:port]`, several with commas.
fn jump(node: &Node, problems: &mut Problems) -> Option<String> {
    let text = problems.text(node, "jump")?;
    let fits = text.split(',').all(|hop| {
        let hop = hop.strip_prefix("ssh://").unwrap_or(hop);
        !hop.is_empty()
            && !hop.starts_with('-')
            && !hop.contains("@-")
            && hop.chars().all(|c| c.is_ascii_alphanumeric() || "._-@:[]%".contains(c))
    });
    if !fits {
        problems.push(
            Diagnostic::error(format!("`{text}` is not a jump host"))
                .at(&node.span())
                .help("write `[user@]host[:port]`, as for `ssh -J`"),
        );
    }
    fits.then(|| text.to_owned())
}
