//! `ssh:` of the inventory and of a host: takes the map, gives [`Ssh`] with what was said and no more.

use std::net::IpAddr;

use crate::base::diagnostic::Diagnostic;
use crate::inventory::raw::{Entry, Node};
use crate::inventory::read::{Problems, expand};
use crate::inventory::site::{Become, Ssh};

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
