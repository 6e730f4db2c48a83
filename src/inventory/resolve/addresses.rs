//! Sites that are asked for by address (RFC 8738): takes sites, hosts and who signs, reports the addresses that lead nowhere or
//! that nobody would sign.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::hosts::Hosts;
use super::sites::Sites;
use crate::base::diagnostic::Diagnostic;
use crate::inventory::read::Problems;
use crate::inventory::site::{Certificates, Challenge, Issuer, Role};

/// Reports each address at most once.
pub(super) fn check(
    sites: &Sites<'_>,
    hosts: &Hosts<'_>,
    certificates: Option<&Certificates>,
    problems: &mut Problems,
) {
    let Some((_, site, first)) = sites.addresses.first() else { return };
    let reached = reached(hosts);
    let mut taken = BTreeSet::new();
    for (address, owner, mark) in &sites.addresses {
        let error = |message: String| Diagnostic::error(message).at(&mark.span());
        if owner != site {
            let error = error(format!("`{site}` and `{owner}` are both asked for by address"))
                .related(&first.span(), "an address of the other site");
            problems.push(error.help("give all addresses to one site: a client that asks by address does not say which it wants (RFC 6066 section 3)"));
        } else if !taken.insert(address) {
            problems.push(error(format!("the address `{address}` is given twice")).help("remove one of the two"));
        } else if let Some(reached) = reached.as_ref().filter(|reached| !reached.contains(address)) {
            let known: Vec<String> = reached.iter().map(|a| format!("`{a}`")).collect();
            let help = format!("write an address at which the internet reaches a load balancer: {}", known.join(", "));
            problems.push(error(format!("`{address}` is not an address of a load balancer")).help(help));
        }
    }
    let bought = sites.whole.values().any(|whole| whole.name.as_str() == *site && whole.certificate.is_some());
    let certificates = certificates.filter(|_| !bought);
    if let Some((message, help)) = certificates.and_then(|certificates| unsigned(certificates, &sites.addresses[0].0)) {
        problems.push(Diagnostic::error(message).at(&first.span()).help(help));
    }
}

/// At which addresses clients reach the load balancers; `None` where a mistake hides some.
fn reached(hosts: &Hosts<'_>) -> Option<BTreeSet<IpAddr>> {
    let edge = hosts.whole.values().filter(|h| h.has(Role::Lb));
    let all = edge.flat_map(|h| if h.public.is_empty() { &h.addresses } else { &h.public }).copied().collect();
    (hosts.whole.len() == hosts.entries.len()).then_some(all)
}

/// Why the issuer would not sign for an address, and what to write.
fn unsigned(certificates: &Certificates, address: &IpAddr) -> Option<(String, &'static str)> {
    if certificates.issuer == Issuer::Internal {
        return None;
    }
    if matches!(certificates.challenge, Challenge::Dns01 { .. }) {
        let help = "write `challenge: http-01`, or remove the address (RFC 8738 section 7)";
        return Some((format!("`challenge: dns-01` cannot prove the address `{address}`"), help));
    }
    let lets_encrypt = |issuer: &Issuer| matches!(issuer, Issuer::LetsEncrypt | Issuer::LetsEncryptStaging);
    let asked = std::iter::once(&certificates.issuer).chain(certificates.fallback.as_ref().map(|f| &f.issuer));
    if asked.into_iter().any(lets_encrypt) && certificates.profile.as_deref() != Some("shortlived") {
        let help = "write `profile: shortlived` below `certificates`, and let a timer run `infra cert renew` every day: such certificates live for six days";
        return Some((format!("Let's Encrypt signs the address `{address}` only with `profile: shortlived`"), help));
    }
    None
}
