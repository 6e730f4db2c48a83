//! The firewall: takes the roles and the policy of an inventory, gives every host's rules, the files that hold them, the
//! scripts that load them without a lockout, and the probes that show that they hold.

pub mod admit;
pub mod attempts;
pub mod beside;
pub mod entries;
pub mod explain;
pub mod exposure;
pub mod flows;
pub mod iptables;
pub mod matrix;
pub mod nft;
pub mod observe;
pub mod rules;
pub mod script;
pub mod trace;

use std::collections::BTreeSet;

use crate::base::diagnostic::Diagnostic;
use crate::base::net::{Cidr, Port};
use crate::base::proto::Proto;
use crate::inventory::site::Backend;
use crate::plan::ruleset::{Direction, Ruleset};
use crate::plan::state::{Facts, Version};
use crate::service::claims::Claims;
use crate::service::inquiry::Inquiry;
use crate::service::product::{Feature, Product};
use crate::service::{Context, Service};

/// `SO_MARK` of the sockets of `infra firewall verify`. A marked connection that no rule accepts is dropped where
/// others are rejected, so that a refusal can only have come from the other host. It opens nothing.
pub const ATTEMPT_MARK: u32 = 0x0001_f7a5;

/// nft.
const NFT: Product = Product {
    name: "nft",
    packages: &["nftables"],
    shipped: [
        Version(1, 0, 6),
        Version(1, 0, 2),
        Version(1, 0, 9),
        Version(1, 1, 3),
        Version(1, 1, 6),
        Version(1, 1, 7),
    ],
};

/// Something else forwards packets on the host (Docker and its kind).
pub const GUEST_FORWARDING: Feature = Feature("guest_forwarding");

/// How a feature begins that says which number the host's user `_apt` has, where that is not [`flows::APT_UID`].
const APT: &str = "apt_uid=";

/// The number of the user that fetches packages on a host of these facts.
pub fn apt_uid(facts: &Facts) -> u32 {
    let told = facts.features.iter().find_map(|feature| feature.strip_prefix(APT)?.parse().ok());
    told.unwrap_or(flows::APT_UID)
}

/// Whom it forwards for, in a sentence.
pub const GUESTS: &str = "what another owner of rules (Docker) runs";

/// The firewall as a service: wants rules and the tool that holds them, on every host.
#[derive(Debug, Clone, Copy)]
pub struct Firewall;

impl Service for Firewall {
    fn name(&self) -> &'static str {
        "firewall"
    }

    fn products(&self) -> &'static [Product] {
        &[NFT]
    }

    fn inquiry(&self) -> Option<Inquiry> {
        Some(observe::INQUIRY)
    }

    fn want(&self, context: &Context<'_>, out: &mut Claims) -> Result<(), Diagnostic> {
        out.package(match context.site.firewall.backend {
            Backend::Nftables => "nftables",
            Backend::Iptables => "iptables",
        })?;
        out.firewall(context.rules.host(context.host, context.facts))
    }
}

/// What becomes of a connection that was opened before the rules were loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Older {
    /// It goes on, as far as the other rules are concerned.
    GoesOn,
    /// Its packets count as those of a new one, while the rules wait for their confirmation. A tunnel that was there before is then no
    /// way in, unless a flow lets the tunnel in too: the connection that confirms is new on every layer under it.
    CountsAsNew,
}

/// The files of a ruleset by their name in `/etc/infra`, as they are loaded; those where older connections go on are read at boot.
pub fn files(set: &Ruleset, older: Older) -> Vec<(&'static str, String)> {
    match set.backend {
        Backend::Nftables => vec![("firewall.nft", nft::render(set, older))],
        Backend::Iptables => vec![
            ("firewall.v4", iptables::render(set, iptables::Family::V4, older)),
            ("firewall.v6", iptables::render(set, iptables::Family::V6, older)),
            ("firewall.sh", script::iptables_loader()),
        ],
    }
}

/// The peers of one family without those that another one holds already.
fn family(peers: impl IntoIterator<Item = Cidr>, ipv4: bool) -> Vec<Cidr> {
    let mut nets: Vec<Cidr> = peers.into_iter().filter(|net| net.is_ipv4() == ipv4).collect();
    nets.sort_by_key(|net| (net.net().network(), net.net().prefix_len()));
    let mut kept: Vec<Cidr> = Vec::with_capacity(nets.len());
    for net in nets {
        // Sorted by first address, then widest first: only the last kept one can hold this one.
        if !kept.last().is_some_and(|last| last.net().contains(&net.net())) {
            kept.push(net);
        }
    }
    kept
}

/// The TCP ports at which the host is reached, by its rules.
fn listening(set: &Ruleset) -> BTreeSet<Port> {
    let inward = set.rules.iter().filter(|rule| rule.direction == Direction::In && rule.proto == Proto::Tcp);
    inward.filter_map(|rule| rule.port).collect()
}

/// A flow's name as it may stand between double quotes in a comment of either tool.
fn comment(flow: &str) -> String {
    flow.chars()
        .map(|c| if c.is_ascii_graphic() && !matches!(c, '"' | '\\') || c == ' ' { c } else { '?' })
        .take(120)
        .collect()
}
