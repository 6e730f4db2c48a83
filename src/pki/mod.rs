//! Certificates: takes the site, the state folder and the clock, gives every certificate and key as materials.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

use ipnet::IpNet;
use time::OffsetDateTime;

use crate::base::material::{CertificateId, Material};
use crate::base::materials::Materials;
use crate::base::net::HostName;
use crate::inventory::owner::owner;
use crate::inventory::site::{Host, KeyKind, Role, Site, WebSite};
use crate::pki::internal_ca::{Authority, LEAF_LIFE, Permitted, Problem, Purpose, Signer, Wish, date};
use crate::pki::internal_store::{Authorities, Hops, InternalStore, Leaves, Rotation, Step};
use crate::pki::public_store::PublicStore;
use crate::service::certificates::wanted::{LETS_ENCRYPT, identifiers};

mod account_key;
pub mod acme;
pub mod dns;
pub mod dns_check;
pub mod fulfil;
pub mod given;
pub mod guard;
pub mod handover;
mod hook;
pub mod internal_ca;
pub mod internal_store;
mod key;
pub mod known;
pub mod public;
pub mod public_store;
pub mod records;

pub use internal_store::Error;

/// Addresses that are nobody's on the internet (RFC 1918, RFC 6598, RFC 4193, RFC 6890): the hop authority may sign them all, so
/// that a new host needs no new authority.
const INSIDE: [&str; 7] =
    ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "127.0.0.0/8", "fc00::/7", "::1/128"];

/// What a database is asked for besides its own addresses: clients verify it while they talk to the proxy on their own host.
const LOOPBACK: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];

/// What [`ensure`] gives.
#[derive(Debug)]
pub struct Issued {
    /// Every certificate and key by name, with a line about each.
    pub materials: Materials,
    /// What was made in this call.
    pub made: Vec<CertificateId>,
    /// What a person should know: an authority that ends, an address that its authority does not permit.
    pub warnings: Vec<String>,
    /// The step of a rotation that these materials belong to; for [`mark_deployed`].
    pub step: Option<Step>,
}

/// Makes what is missing or due and gives everything. The same call again makes nothing and gives the same.
///
/// # Errors
/// See [`Error`]; a damaged store is never mended by making another authority.
pub fn ensure(site: &Site, state: &Path, now: OffsetDateTime) -> Result<Issued, Error> {
    let store = InternalStore::open(state)?;
    let before = store.authorities()?;
    if let Some(found) = before.hops.as_ref().and_then(|hops| of_another(site, hops)) {
        let (path, name) = (store.authorities_path(), site.name.clone());
        return Err(Error::Foreign { path, found, name });
    }
    let mut authorities = before.clone();
    let mut warnings = Vec::new();
    advance(site, &mut authorities, now)?;
    let wishes = wishes(site, &authorities, &mut warnings);
    add_site_authorities(site, &mut authorities, now)?;
    // Authorities are on disk before anything that they sign is.
    if authorities != before {
        store.put_authorities(&authorities)?;
    }
    let mut leaves = store.leaves()?;
    let made = renew(&mut leaves, &wishes, &authorities, &store, now)?;
    let known = leaves.len();
    // A host that left may come back, and its certificates with it, as long as they are good.
    let good = |leaf: &internal_ca::Leaf| leaf.not_after > now.unix_timestamp();
    leaves.retain(|id, leaf| wishes.contains_key(id) || id.site().is_none() && good(leaf));
    if !made.is_empty() || leaves.len() != known {
        store.put_leaves(&leaves)?;
    }
    for authority in authorities.sites.iter().filter(|a| a.is_due(now)) {
        let (domains, end) = (authority.permitted.domains.join(", "), date(authority.not_after));
        warnings
            .push(format!("the authority that signs {domains} ends on {end}; clients must then trust a new authority"));
    }
    let step = authorities.hops.as_ref().and_then(|h| h.rotation).map(|r| r.step);
    leaves.retain(|id, _| wishes.contains_key(id));
    let mut materials = materials(site, &authorities, &leaves);
    if site.sites.values().any(|web| site.orders(web)) {
        add_public(site, &PublicStore::open(state)?, &mut materials, now)?;
    }
    add_bought(site, &mut materials);
    Ok(Issued { materials, made, warnings, step })
}

/// Forgets leaves, so that the next [`ensure`] makes them anew, each with a new key.
///
/// # Errors
/// See [`Error`].
pub fn forget(state: &Path, names: &[CertificateId]) -> Result<(), Error> {
    let Some(store) = InternalStore::existing(state)? else { return Ok(()) };
    let mut leaves = store.leaves()?;
    let known = leaves.len();
    leaves.retain(|name, _| !names.contains(name));
    if leaves.len() == known { Ok(()) } else { store.put_leaves(&leaves) }
}

/// Until when the certificates hold that a host shows others, where it has some; seconds since 1970.
///
/// # Errors
/// Where the store cannot be read.
pub fn hops_until(state: &Path, host: &HostName) -> Result<Option<i64>, Error> {
    let leaves = InternalStore::existing(state)?.map(|store| store.leaves()).transpose()?.unwrap_or_default();
    let own = |id: &CertificateId| matches!(id, CertificateId::Hop { host: of, .. } if of == host);
    Ok(leaves.iter().filter(|(id, _)| own(id)).map(|(_, leaf)| leaf.not_after).max())
}

/// Begins to replace the hop authority: in three applies hosts learn to trust the new one, get leaves from it, forget the old one.
///
/// # Errors
/// [`Error::Rotating`] if a rotation is under way; [`Error`].
pub fn start_rotation(site: &Site, state: &Path, now: OffsetDateTime) -> Result<(), Error> {
    let store = InternalStore::open(state)?;
    let mut authorities = store.authorities()?;
    let hops = match authorities.hops.take() {
        None => first(site, now)?,
        Some(hops) if hops.rotation.is_some() => return Err(Error::Rotating),
        Some(hops) => begin(site, hops, now)?,
    };
    authorities.hops = Some(hops);
    store.put_authorities(&authorities)
}

/// To be called after an apply to **all** hosts has succeeded, with the step of the [`Issued`] that was applied: the next
/// [`ensure`] then takes the next step. Without a rotation it does nothing.
///
/// # Errors
/// See [`Error`].
pub fn mark_deployed(state: &Path, step: Option<Step>) -> Result<(), Error> {
    let Some(step) = step else { return Ok(()) };
    let store = InternalStore::open(state)?;
    let mut authorities = store.authorities()?;
    match authorities.hops.as_mut().and_then(|h| h.rotation.as_mut()) {
        Some(rotation) if rotation.step == step && !rotation.deployed => rotation.deployed = true,
        _ => return Ok(()),
    }
    store.put_authorities(&authorities)
}

/// Stand-ins for every certificate and key, for `check` and `render`: no state is read or made, and each has the owner of what it
/// stands for. What stands for a key is a secret too, so that a file with it is kept as one.
pub fn placeholders(site: &Site) -> Materials {
    let mut materials = Materials::default();
    let mut public = |material: Material, text: String| {
        let owner = owner(site, &material);
        materials.add_public(material, text, owner);
    };
    public(Material::AccountThumbprint, "thumbprint-of-the-account-key".to_owned());
    for bundle in [Material::HopAuthorities, Material::SiteAuthorities] {
        let text = format!("(certificates {bundle})\n");
        public(bundle, text);
    }
    let hops = site.hosts.keys().flat_map(hop_certificates);
    for id in hops.chain(site.sites.keys().cloned().map(CertificateId::Site)) {
        let (certificate, key) = (Material::Certificate(id.clone()), Material::Key(id));
        let (text, owner) = (format!("(key {key})\n"), owner(site, &key));
        materials.add_secret(key, text, owner.clone());
        let text = format!("(certificate {certificate})\n");
        materials.add_public(certificate, text, owner);
    }
    materials
}

/// What a host shows to others, as a client and as a server.
fn hop_certificates(host: &HostName) -> [CertificateId; 2] {
    [Purpose::Client, Purpose::Server].map(|purpose| CertificateId::Hop { host: host.clone(), purpose })
}

/// The name of the inventory for which authorities were made, where that is not this one.
fn of_another(site: &Site, hops: &Hops) -> Option<String> {
    let own = |authority: &Authority| authority.permitted.name(&site.internal_domain());
    if hops.trusted.iter().any(own) {
        return None;
    }
    let domain = hops.trusted.iter().flat_map(|authority| &authority.permitted.domains).next()?;
    Some(domain.split('.').next().unwrap_or_default().to_owned())
}

/// The rotation's next step, if it is time for it.
fn advance(site: &Site, authorities: &mut Authorities, now: OffsetDateTime) -> Result<(), Error> {
    let hops = match authorities.hops.take() {
        None => first(site, now)?,
        Some(mut hops) => match hops.rotation {
            Some(Rotation { step: Step::Trust, deployed: true }) => {
                hops.signing = hops.trusted.last().map(|a| a.id.clone()).unwrap_or_default();
                hops.rotation = Some(Rotation { step: Step::Leaves, deployed: false });
                hops
            }
            Some(Rotation { step: Step::Leaves, deployed: true }) => {
                hops.trusted.retain(|a| a.id == hops.signing);
                hops.rotation = None;
                hops
            }
            None if hops.trusted.iter().any(|a| a.is_due(now)) => begin(site, hops, now)?,
            Some(_) | None => hops,
        },
    };
    authorities.hops = Some(hops);
    Ok(())
}

fn first(site: &Site, now: OffsetDateTime) -> Result<Hops, Error> {
    let authority = hop_authority(site, now)?;
    Ok(Hops { signing: authority.id.clone(), trusted: vec![authority], rotation: None })
}

fn begin(site: &Site, mut hops: Hops, now: OffsetDateTime) -> Result<Hops, Error> {
    hops.trusted.push(hop_authority(site, now)?);
    hops.rotation = Some(Rotation { step: Step::Trust, deployed: false });
    Ok(hops)
}

fn hop_authority(site: &Site, now: OffsetDateTime) -> Result<Authority, Error> {
    let mut networks: Vec<IpNet> = INSIDE.iter().filter_map(|n| n.parse().ok()).collect();
    for address in site.hosts.values().flat_map(|h| &h.addresses) {
        if !networks.iter().any(|n| n.contains(address)) {
            networks.push(IpNet::from(*address));
        }
    }
    let permitted = Permitted { domains: vec![site.internal_domain()], networks };
    // The day is in the name so that two authorities of a rotation have two names.
    let title = format!("infra {} hops {}", site.name, date(now.unix_timestamp()));
    Ok(Authority::new(&title, permitted, now)?)
}

/// An authority for the public names that none permits, if there are any.
fn add_site_authorities(site: &Site, authorities: &mut Authorities, now: OffsetDateTime) -> Result<(), Error> {
    let signed = site.sites.values().filter(|web| site.signs(web));
    let orphans: Vec<&WebSite> = signed.filter(|s| site_authority(authorities, &public(s), now).is_none()).collect();
    if orphans.is_empty() {
        return Ok(());
    }
    let mut domains: Vec<String> = orphans.iter().flat_map(|s| s.names()).map(|n| domain(n.as_str())).collect();
    domains.sort();
    domains.dedup();
    let networks = orphans.iter().flat_map(|s| &s.addresses).map(|a| IpNet::from(*a)).collect();
    let title = format!("infra {} sites {} {}", site.name, date(now.unix_timestamp()), authorities.sites.len() + 1);
    authorities.sites.push(Authority::new(&title, Permitted { domains, networks }, now)?);
    Ok(())
}

/// The first authority that permits all that `wish` names and outlives a leaf.
fn site_authority<'a>(authorities: &'a Authorities, wish: &Wish, now: OffsetDateTime) -> Option<&'a Authority> {
    let end = (now + LEAF_LIFE).unix_timestamp();
    let permits = |a: &Permitted| {
        wish.names.iter().all(|n| a.name(n)) && wish.addresses.iter().all(|address| a.address(*address))
    };
    authorities.sites.iter().find(|a| a.not_after >= end && permits(&a.permitted))
}

/// What the leaf of a site says.
fn public(site: &WebSite) -> Wish {
    Wish { names: names(site), addresses: site.addresses.clone(), purpose: Purpose::Server, key: site.manner.key }
}

/// What a site authority is confined to for a name: the domain above it, so that its sisters need no new authority.
fn domain(name: &str) -> String {
    let bare = name.strip_prefix("*.").unwrap_or(name);
    match bare.split_once('.') {
        Some((_, above)) if above.contains('.') => above.to_owned(),
        _ => bare.to_owned(),
    }
}

/// Every leaf that should exist, by name.
fn wishes(site: &Site, authorities: &Authorities, warnings: &mut Vec<String>) -> BTreeMap<CertificateId, Wish> {
    let mut wishes = BTreeMap::new();
    let signing = authorities.hops.as_ref().and_then(|h| h.trusted.iter().find(|a| a.id == h.signing));
    for host in site.hosts.values() {
        let loopback = LOOPBACK.iter().filter(|_| host.has(Role::Db) && site.database.is_some());
        let (addresses, refused): (Vec<IpAddr>, Vec<IpAddr>) =
            host.addresses.iter().chain(loopback).partition(|a| signing.is_some_and(|s| s.permitted.address(**a)));
        for address in refused {
            warnings.push(format!(
                "the certificate of `{}` does not name {address}: the internal authority is older than this address; \
                 rotate it to include the address",
                host.name
            ));
        }
        let client = Wish {
            names: vec![site.internal_name(&host.name)],
            addresses: vec![],
            purpose: Purpose::Client,
            key: KeyKind::default(),
        };
        wishes.extend(hop_certificates(&host.name).into_iter().zip([client, server(site, host, addresses)]));
    }
    if let Some(host) = site.outside_watcher() {
        let wish = Wish {
            names: vec![site.internal_name(&host)],
            addresses: vec![],
            purpose: Purpose::Client,
            key: KeyKind::default(),
        };
        wishes.insert(CertificateId::Hop { host, purpose: Purpose::Client }, wish);
    }
    for s in site.sites.values().filter(|web| site.signs(web)) {
        wishes.insert(CertificateId::Site(s.name.clone()), public(s));
    }
    wishes
}

fn server(site: &Site, host: &Host, addresses: Vec<IpAddr>) -> Wish {
    let own = std::iter::once(site.internal_name(&host.name));
    let names = own.chain(host.roles.iter().map(|r| site.role_name(*r))).collect();
    Wish { names, addresses, purpose: Purpose::Server, key: KeyKind::default() }
}

/// Issues what is missing or stale and says what.
fn renew(
    leaves: &mut Leaves,
    wishes: &BTreeMap<CertificateId, Wish>,
    authorities: &Authorities,
    store: &InternalStore,
    now: OffsetDateTime,
) -> Result<Vec<CertificateId>, Error> {
    let damaged = |problem: Problem| match problem {
        Problem::Damaged(why) => Error::Damaged { path: store.authorities_path(), why },
        other => Error::Problem(other),
    };
    let mut signers: BTreeMap<&str, Signer<'_>> = BTreeMap::new();
    for authority in authorities.hops.iter().flat_map(|h| &h.trusted).chain(&authorities.sites) {
        signers.insert(&authority.id, authority.signer().map_err(damaged)?);
    }
    let hop = authorities.hops.as_ref().map_or("", |h| h.signing.as_str());
    let mut made = Vec::new();
    for (name, wish) in wishes {
        let issuer = if name.site().is_some() {
            site_authority(authorities, wish, now).map_or("", |a| a.id.as_str())
        } else {
            hop
        };
        if leaves.get(name).is_some_and(|leaf| !leaf.is_stale(wish, issuer, now)) {
            continue;
        }
        let signer = signers.get(issuer).ok_or_else(|| Error::Damaged {
            path: store.authorities_path(),
            why: format!("no authority can sign `{name}`"),
        })?;
        leaves.insert(name.clone(), signer.issue(wish, now)?);
        made.push(name.clone());
    }
    Ok(made)
}

fn materials(site: &Site, authorities: &Authorities, leaves: &Leaves) -> Materials {
    let mut materials = Materials::default();
    let bundles = [
        (Material::HopAuthorities, authorities.hops.as_ref().map(|h| h.trusted.as_slice()).unwrap_or_default()),
        (Material::SiteAuthorities, authorities.sites.as_slice()),
    ];
    for (material, bundle) in bundles {
        let text = bundle.iter().map(|a| a.certificate.as_str()).collect::<String>();
        materials.add_public(material.clone(), text, owner(site, &material));
        let lines: Vec<String> = bundle.iter().map(|a| format!("until {}", date(a.not_after))).collect();
        materials.describe(material, format!("{} trusted: {}", lines.len(), lines.join(", ")));
    }
    for (id, leaf) in leaves {
        add_certificate(site, &mut materials, id, &leaf.about(), (&leaf.certificate, leaf.key.reveal()));
    }
    materials
}

/// Adds a chain and its key, both with a line about them.
fn add_certificate(
    site: &Site,
    materials: &mut Materials,
    id: &CertificateId,
    about: &str,
    (chain, key): (&str, &str),
) {
    let (certificate, private) = (Material::Certificate(id.clone()), Material::Key(id.clone()));
    materials.describe(certificate.clone(), about);
    materials.describe(private.clone(), format!("key of {about}"));
    let owner = owner(site, &certificate);
    materials.add_public(certificate, chain, owner.clone());
    materials.add_secret(private, key, owner);
}

/// What the edge shows of each site, a placeholder where no certificate was ordered yet, and what it answers a CA with.
fn add_public(site: &Site, store: &PublicStore, materials: &mut Materials, now: OffsetDateTime) -> Result<(), Error> {
    let add = |materials: &mut Materials, material: Material, text: String| {
        let owner = owner(site, &material);
        materials.add_public(material, text, owner);
    };
    add(materials, Material::AccountThumbprint, store.account_key()?.thumbprint());
    for s in site.sites.values().filter(|web| site.orders(web)) {
        let names = identifiers(s);
        let shown = store.shown(s.name.as_str(), &names, now)?;
        let is_own = shown.directory.is_none() || store.current(s.name.as_str())?.is_some();
        // One whose authority is gone from the roots is shown until its successor comes, and no root of a host vouches for it.
        if shown.directory.as_deref() != Some(LETS_ENCRYPT) || guard::vouched(&shown.ders(), now).is_err() {
            add(materials, Material::SiteUnrooted(s.name.clone()), String::new());
        }
        let covered: Vec<&str> = names.iter().filter(|name| shown.is_for(name)).map(String::as_str).collect();
        add(materials, Material::SiteNames(s.name.clone()), covered.join("\n"));
        let id = CertificateId::Site(s.name.clone());
        let about = if is_own { shown.about() } else { format!("{}; it stands in for the site's own", shown.about()) };
        add_certificate(site, materials, &id, &about, (&shown.chain, shown.key.reveal()));
    }
    Ok(())
}

/// The certificates that were bought. Their keys are secrets, and come from where those come from.
fn add_bought(site: &Site, materials: &mut Materials) {
    for web in site.sites.values() {
        let Some(bought) = &web.certificate else { continue };
        let material = Material::Certificate(CertificateId::Site(web.name.clone()));
        materials.describe(material.clone(), format!("{}, {}", web.name, bought.about()));
        let owner = owner(site, &material);
        materials.add_public(material, &bought.chain.pem, owner);
    }
}

/// The names of a site, the main one first.
pub fn names(site: &WebSite) -> Vec<String> {
    site.names().map(ToString::to_string).collect()
}

#[cfg(test)]
pub(crate) mod sample;
#[cfg(test)]
mod tests;
