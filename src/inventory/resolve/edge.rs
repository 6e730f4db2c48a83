//! `edge:`, who stands before the load balancers and what one client may take: takes the section, gives networks, the place of the
//! client's address and limits, reports what would let anybody pretend.

use super::firewall::networks;
use crate::base::diagnostic::Diagnostic;
use crate::base::net::Cidr;
use crate::inventory::raw::{Mark, Node};
use crate::inventory::read::{Fields, Problems};
use crate::inventory::site::{ClientAddress, Edge, EdgeLimits};

/// No limit is larger: a source of which more is let in is one to be named in `exempt`.
const MOST: u64 = 1_000_000;

/// Reads the section; where there is none, clients come by themselves, under the usual limits.
pub(super) fn edge(root: Fields<'_>, problems: &mut Problems) -> Edge {
    let mut out = Edge::default();
    let Some(section) = root.get("edge") else { return out };
    let Some(fields) = problems.fields(section, "`edge`", &["trusted_proxies", "client_address", "limits"]) else {
        return out;
    };
    if let Some(node) = fields.value("trusted_proxies") {
        out.trusted_proxies = some_of_the_internet(node, "trusted_proxies", problems);
    }
    out.client_address = fields.value("client_address").and_then(|node| client_address(node, problems));
    let mut alone = |key: &str, other: &str, mark: &Mark, help: &str| {
        problems.push(Diagnostic::error(format!("`edge` has `{key}` and no `{other}`")).at(&mark.span()).help(help));
    };
    match (fields.get("trusted_proxies"), fields.get("client_address")) {
        (Some(proxies), None) => alone(
            "trusted_proxies",
            "client_address",
            &proxies.key.mark,
            "write `client_address: X-Forwarded-For`, the header in which they tell the client's address, or `proxy-protocol`",
        ),
        (None, Some(address)) => alone(
            "client_address",
            "trusted_proxies",
            &address.key.mark,
            "write `trusted_proxies: [198.51.100.0/24]`, the networks of those that are believed; anybody else could pretend",
        ),
        _ => {}
    }
    if let Some(entry) = fields.get("limits")
        && let Some(fields) = problems.fields(entry, "`limits` of `edge`", &["connections", "requests", "exempt"])
    {
        out.limits = limits(fields, problems);
    }
    out
}

/// Networks of which none is everybody.
fn some_of_the_internet(node: &Node, key: &str, problems: &mut Problems) -> Vec<Cidr> {
    let nets = networks(node, key, problems);
    for (net, node) in nets.iter().filter(|(net, _)| net.net().prefix_len() == 0) {
        problems.push(
            Diagnostic::error(format!("`{net}` in `{key}` is the whole internet"))
                .at(&node.span())
                .help("name the networks of your CDN, of the load balancer in front, or of your office"),
        );
    }
    nets.into_iter().map(|(net, _)| net).collect()
}

/// A header's name (RFC 9110 section 5.6.2), or the PROXY protocol.
fn client_address(node: &Node, problems: &mut Problems) -> Option<ClientAddress> {
    let text = problems.text(node, "client_address")?;
    if text == "proxy-protocol" {
        return Some(ClientAddress::ProxyProtocol);
    }
    // What has another meaning already, or stands for itself on each hop.
    let taken = ["host", "connection", "cookie", "authorization", "content-length", "transfer-encoding", "forwarded"];
    let is_name = !text.is_empty() && text.len() <= 64 && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
    if !is_name || taken.contains(&text.to_ascii_lowercase().as_str()) {
        problems.push(
            Diagnostic::error(format!("`{text}` is no header that holds a client's address"))
                .at(&node.span())
                .help("write the header that your CDN documents, such as `X-Forwarded-For` or `CF-Connecting-IP`, or `proxy-protocol`"),
        );
        return None;
    }
    Some(ClientAddress::Header(text.to_owned()))
}

fn limits(fields: Fields<'_>, problems: &mut Problems) -> EdgeLimits {
    let mut out = EdgeLimits::default();
    for (key, limit) in [("connections", &mut out.connections), ("requests", &mut out.requests)] {
        let Some(node) = fields.value(key) else { continue };
        match problems.number(node, key) {
            Some(number) if (1..=MOST).contains(&number) => *limit = u32::try_from(number).unwrap_or(u32::MAX),
            Some(_) => problems.push(
                Diagnostic::error(format!("`{key}` must be between 1 and {MOST}"))
                    .at(&node.span())
                    .help("whoever needs more is named in `exempt`"),
            ),
            None => {}
        }
    }
    if let Some(node) = fields.value("exempt") {
        out.exempt = some_of_the_internet(node, "exempt", problems);
    }
    out
}
