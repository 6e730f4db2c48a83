//! References: takes a word of the inventory, gives the role, host, network or everyone that it means.

use super::hosts::{Hosts, ROLES};
use crate::base::diagnostic::Diagnostic;
use crate::base::net::HostName;
use crate::inventory::raw::Node;
use crate::inventory::read::Problems;
use crate::inventory::site::{Party, Role};

/// Who is meant by a word in a rule.
pub(super) fn party(node: &Node, key: &str, hosts: &Hosts<'_>, problems: &mut Problems) -> Option<Party> {
    let text = problems.text(node, key)?;
    match text {
        "internet" => return Some(Party::Internet),
        "all" => return Some(Party::All),
        _ => {}
    }
    if ROLES.iter().any(|(word, _)| *word == text) {
        return role(node, key, hosts, problems).map(Party::Role);
    }
    if hosts.entries.contains_key(text) {
        return text.parse().ok().map(Party::Host);
    }
    if text.contains([':', '/']) || text.chars().all(|c| c.is_ascii_digit() || c == '.') {
        return problems.parse(node, key).map(Party::Net);
    }
    let there = ROLES.iter().filter(|(_, role)| !hosts.lacks(*role));
    let words = there.map(|(word, _)| *word).chain(["all", "internet"]);
    let near = problems.near(text, hosts.entries.len(), words.chain(hosts.entries.keys().copied()));
    let diagnostic = Diagnostic::error(format!("`{text}` is neither a role nor a host")).at(&node.span());
    let help = "write a role, a host, `all`, `internet`, or a network such as `198.51.100.0/24`";
    problems.push(diagnostic.help(near.unwrap_or_else(|| help.into())));
    None
}

/// A role that some host has.
pub(super) fn role(node: &Node, key: &str, hosts: &Hosts<'_>, problems: &mut Problems) -> Option<Role> {
    let role = problems.word(node, key, &ROLES)?;
    if hosts.lacks(role) {
        problems.push(
            Diagnostic::error(format!("no host has the role `{role}`"))
                .at(&node.span())
                .help(format!("give a host `roles: [{role}]`, or name another role")),
        );
        return None;
    }
    Some(role)
}

/// A host of the inventory.
pub(super) fn host(node: &Node, key: &str, hosts: &Hosts<'_>, problems: &mut Problems) -> Option<HostName> {
    let text = problems.text(node, key)?;
    if hosts.entries.contains_key(text) {
        return text.parse().ok();
    }
    let diagnostic = Diagnostic::error(format!("there is no host `{text}`")).at(&node.span());
    let hint = problems.near(text, hosts.entries.len(), hosts.entries.keys().copied());
    problems.push(diagnostic.help(hint.unwrap_or_else(|| "name a host of `hosts`".into())));
    None
}
