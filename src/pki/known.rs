//! What is known of every certificate: takes the site, the state folder and the clock, gives the authorities and each
//! certificate with its dates, its signer, and when it is renewed and why. Nothing is made, not even a folder.

use std::collections::BTreeMap;
use std::path::Path;

use sha2::{Digest as _, Sha256};
use time::OffsetDateTime;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::base::chain;
use crate::base::material::CertificateId;
use crate::base::net::DnsName;
use crate::base::words::count;
use crate::inventory::site::{Bought, Site, WebSite};
use crate::pki::fulfil;
use crate::pki::internal_ca::{self, Authority, Leaf, Wish};
use crate::pki::internal_store::{Authorities, Error, InternalStore, Leaves, Rotation, Step};
use crate::pki::public_store::PublicStore;
use crate::service::certificates::schedule::{Decision, Life, Record};
use crate::service::certificates::wanted::{self, Wanted};

/// An internal authority.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Root {
    /// Its common name: `infra shop hops 2026-11-23`.
    pub title: String,
    /// What it may sign for.
    pub domains: Vec<String>,
    /// `notAfter`, seconds since 1970.
    pub not_after: i64,
    /// From when on it is replaced, seconds since 1970.
    pub due: i64,
    /// Whether it signs what the hosts show each other; else it signs names of sites.
    pub hops: bool,
}

/// A certificate as our state has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// Which it is.
    pub id: CertificateId,
    /// What it is for, the main name first; addresses as text.
    pub names: Vec<String>,
    /// Who signed it: an authority's title, or the host of a CA's directory. `None` where there is no certificate yet.
    pub issuer: Option<String>,
    /// Its dates.
    pub life: Option<Life>,
    /// Of its DER, lower-case hex.
    pub sha256: Option<String>,
    /// Of what stands in its place until there is one, where that was made.
    pub placeholder: Option<String>,
    /// What is to be done about it.
    pub next: Decision,
    /// Failures in a row at its CA.
    pub failures: u32,
    /// The last of them.
    pub last_failure: Option<String>,
    /// The file in which a person puts its successor, where it was bought.
    pub by_hand: Option<String>,
}

impl Known {
    /// Days until it ends, rounded down.
    pub fn days_left(&self, now: i64) -> Option<i64> {
        self.life.map(|life| (life.not_after - now).div_euclid(86_400))
    }

    /// Whether it should have been renewed by now.
    pub fn is_due(&self) -> bool {
        !matches!(self.next, Decision::Good { .. })
    }

    /// Whether its renewal goes wrong: it was refused, or it is due and less than a sixth of its life is left.
    pub fn is_failing(&self, now: i64) -> bool {
        // A person has half of the time in which it is due.
        let pressing = |life: Life| match &self.by_hand {
            Some(_) => life.not_after - (life.not_after - by_hand(life)) / 2,
            None => life.pressing(),
        };
        self.is_due() && (self.failures > 0 || self.life.is_some_and(|life| pressing(life) <= now))
    }
}

/// All of them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Overview {
    /// The internal authorities in use: those of the hops first.
    pub roots: Vec<Root>,
    /// Where a rotation of the hop authority stands, for a person.
    pub rotation: Option<String>,
    /// The sites' certificates, then those of the hosts.
    pub certificates: Vec<Known>,
    /// Whether this state folder holds any certificate.
    pub state: bool,
}

/// Looks at the state without changing it.
///
/// # Errors
/// [`Error`] of the stores.
pub fn known(site: &Site, state: &Path, now: OffsetDateTime) -> Result<Overview, Error> {
    let internal = InternalStore::existing(state)?;
    let (authorities, leaves) = match &internal {
        Some(internal) => (internal.authorities()?, internal.leaves()?),
        None => (Authorities::default(), Leaves::default()),
    };
    let public = PublicStore::existing(state)?;
    let mut certificates = Vec::new();
    for web in site.sites.values() {
        if let Some(bought) = &web.certificate {
            certificates.push(of_bought(web, bought, now));
        } else if site.orders(web) {
            certificates.push(of_public(public.as_ref(), &web.name, &Wanted::of(site, web), now)?);
        }
    }
    certificates.extend(of_internal(site, &authorities, &leaves, now));
    let rotation = authorities.hops.as_ref().and_then(|hops| hops.rotation);
    let hops = authorities.hops.iter().flat_map(|hops| &hops.trusted).map(|authority| root(authority, true));
    let sites = authorities.sites.iter().filter(|a| leaves.values().any(|leaf| leaf.issuer == a.id));
    Ok(Overview {
        roots: hops.chain(sites.map(|authority| root(authority, false))).collect(),
        rotation: rotation.map(|rotation| about(rotation).to_owned()),
        certificates,
        state: internal.is_some() || public.is_some(),
    })
}

fn about(rotation: Rotation) -> &'static str {
    match (rotation.step, rotation.deployed) {
        (Step::Trust, false) => "step 1 of 3: all hosts must learn to trust the new authority",
        (Step::Trust, true) => "step 2 of 3 comes next: the new authority signs all leaves",
        (Step::Leaves, false) => "step 2 of 3: all hosts must get leaves of the new authority",
        (Step::Leaves, true) => "step 3 of 3 comes next: the old authority is forgotten",
    }
}

fn root(authority: &Authority, hops: bool) -> Root {
    let (from, not_after) = (authority.not_before, authority.not_after);
    Root {
        title: title(&authority.certificate),
        domains: authority.permitted.domains.clone(),
        not_after,
        due: internal_ca::due(from, not_after),
        hops,
    }
}

/// The common name of a certificate's subject.
fn title(pem: &str) -> String {
    let read = |der: &[u8]| {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        let name = certificate.subject().iter_common_name().next()?.as_str().ok()?;
        Some(name.to_owned())
    };
    der(pem).and_then(|der| read(&der)).unwrap_or_else(|| "an authority".to_owned())
}

fn der(pem: &str) -> Option<Vec<u8>> {
    x509_parser::pem::parse_x509_pem(pem.as_bytes()).ok().map(|(_, block)| block.contents)
}

/// The certificate of a site by a public CA.
fn of_public(
    public: Option<&PublicStore>,
    name: &DnsName,
    wanted: &Wanted,
    now: OffsetDateTime,
) -> Result<Known, Error> {
    let mut known = Known {
        id: CertificateId::Site(name.clone()),
        names: wanted.names.clone(),
        issuer: None,
        life: None,
        sha256: None,
        placeholder: None,
        next: Decision::Order { why: "there is no certificate yet".to_owned(), from: 0 },
        failures: 0,
        last_failure: None,
        by_hand: None,
    };
    let Some(public) = public else { return Ok(known) };
    known.next = fulfil::decide(public, wanted, now)?;
    let records: Vec<Record> =
        (0..wanted.sources.len()).map(|rank| public.record(&wanted.site, rank)).collect::<Result<_, _>>()?;
    if let Some(record) = records.into_iter().find(|record| record.failures > 0) {
        (known.failures, known.last_failure) = (record.failures, record.last);
    }
    if let Some(current) = public.current(&wanted.site)? {
        known.issuer = current.directory.as_deref().map(|directory| wanted::host(directory).to_owned());
        known.life = Some(current.life);
        known.sha256 = Some(current.sha256);
    } else {
        known.placeholder = public.stand_in(&wanted.site, &wanted.names, now)?.map(|placeholder| placeholder.sha256);
    }
    Ok(known)
}

/// From when on a person should replace what they bought, seconds since 1970.
fn by_hand(life: Life) -> i64 {
    chain::due(life.not_before, life.not_after)
}

/// The certificate of a site as the inventory names it.
fn of_bought(web: &WebSite, bought: &Bought, now: OffsetDateTime) -> Known {
    let life = Life { not_before: bought.chain.not_before, not_after: bought.chain.not_after };
    let (due, seconds) = (by_hand(life), now.unix_timestamp());
    let next = if seconds < due {
        Decision::Good { until: due, why: "it was bought, so nobody renews it but you".to_owned() }
    } else {
        let left = count((life.not_after - seconds).div_euclid(86_400), "day");
        let why = if seconds < life.not_after { format!("{left} are left") } else { "it has ended".to_owned() };
        Decision::Order { why, from: 0 }
    };
    Known {
        id: CertificateId::Site(web.name.clone()),
        names: wanted::identifiers(web),
        issuer: Some(bought.chain.issuer.trim_matches('`').to_owned()),
        life: Some(life),
        sha256: Some(bought.chain.sha256.clone()),
        placeholder: None,
        next,
        failures: 0,
        last_failure: None,
        by_hand: Some(bought.file.display().to_string()),
    }
}

/// Every certificate that an internal authority signs: the sites' first.
fn of_internal(site: &Site, authorities: &Authorities, leaves: &Leaves, now: OffsetDateTime) -> Vec<Known> {
    let titles: BTreeMap<&str, String> = authorities
        .hops
        .iter()
        .flat_map(|hops| &hops.trusted)
        .chain(&authorities.sites)
        .map(|authority| (authority.id.as_str(), title(&authority.certificate)))
        .collect();
    // Warnings are `ensure`'s, which makes the leaves.
    let wishes = super::wishes(site, authorities, &mut Vec::new());
    let hop = signing(authorities);
    let each = wishes.iter().map(|(id, wish)| {
        let signer = if id.site().is_some() {
            super::site_authority(authorities, wish, now).map_or("", |authority| authority.id.as_str())
        } else {
            hop
        };
        let leaf = leaves.get(id);
        let der = leaf.and_then(|leaf| der(&leaf.certificate));
        let addresses = wish.addresses.iter().map(ToString::to_string);
        Known {
            id: id.clone(),
            names: wish.names.iter().cloned().chain(addresses).collect(),
            issuer: leaf.and_then(|leaf| titles.get(leaf.issuer.as_str()).cloned()),
            life: leaf.map(life),
            sha256: der.map(|der| data_encoding::HEXLOWER.encode(&Sha256::digest(der))),
            placeholder: None,
            next: decide(leaf, wish, signer, now),
            failures: 0,
            last_failure: None,
            by_hand: None,
        }
    });
    let mut all: Vec<Known> = each.collect();
    all.sort_by_key(|known| known.id.site().is_none());
    all
}

/// The hop authority that signs what is made next.
fn signing(authorities: &Authorities) -> &str {
    let Some(hops) = &authorities.hops else { return "" };
    match (&hops.rotation, hops.trusted.last()) {
        (Some(Rotation { step: Step::Trust, deployed: true }), Some(new)) => &new.id,
        _ => &hops.signing,
    }
}

fn life(leaf: &Leaf) -> Life {
    Life { not_before: leaf.not_before, not_after: leaf.not_after }
}

/// What [`super::ensure`] would do about a leaf, with the reason.
fn decide(leaf: Option<&Leaf>, wish: &Wish, signer: &str, now: OffsetDateTime) -> Decision {
    let due = |why: &str| Decision::Order { why: why.to_owned(), from: 0 };
    let Some(leaf) = leaf else { return due("there is no certificate yet") };
    let (life, seconds) = (life(leaf), now.unix_timestamp());
    if leaf.wish != *wish {
        return due("the names have changed");
    }
    if leaf.issuer != signer {
        return due("another authority signs now");
    }
    if !leaf.is_stale(wish, signer, now) {
        let (until, why) = (internal_ca::due(life.not_before, life.not_after), "a third of its life is left then");
        return Decision::Good { until, why: why.to_owned() };
    }
    if seconds < life.not_before {
        return due("it is from the future: a clock was put right");
    }
    let days = |seconds: i64| seconds.div_euclid(86_400);
    let (left, all) = (days(life.not_after - seconds), days(life.not_after - life.not_before));
    due(&if left < 0 { "it has ended".to_owned() } else { format!("{left} of {all} days are left") })
}

#[cfg(test)]
mod tests {
    use time::Duration;
    use time::macros::datetime;

    use super::*;
    use crate::inventory::load::load_text;
    use crate::pki::{ensure, forget, mark_deployed, start_rotation};

    const NOW: OffsetDateTime = datetime!(2026-11-23 12:00 UTC);

    fn site(issuer: &str, aliases: &str) -> Site {
        let text = format!(
            "name: shop\n\
             hosts:\n\
             \x20 lb1: {{ address: 10.0.1.11, roles: [lb], public: 203.0.113.11 }}\n\
             \x20 web1: {{ address: 10.0.2.11, roles: [web] }}\n\
             firewall: {{ manage_from: [10.0.0.0/24] }}\n\
             sites:\n\
             \x20 a.example.com: {{ aliases: [{aliases}], static: {{ root: /srv, prefix: / }} }}\n\
             certificates: {{ issuer: {issuer}, contact: ops@example.com }}\n"
        );
        load_text(&text, Path::new("inventory.yml")).unwrap().0
    }

    /// What is due and why, by material.
    fn due(site: &Site, state: &Path, now: OffsetDateTime) -> BTreeMap<CertificateId, String> {
        let all = known(site, state, now).unwrap().certificates.into_iter();
        all.filter_map(|known| match known.next {
            Decision::Order { why, .. } => Some((known.id, why)),
            _ => None,
        })
        .collect()
    }

    #[test]
    fn looking_makes_nothing() {
        let state = tempfile::tempdir().unwrap();
        for issuer in ["internal", "letsencrypt"] {
            let overview = known(&site(issuer, "b.example.com"), state.path(), NOW).unwrap();
            assert!(!overview.state && overview.roots.is_empty());
            assert_eq!(overview.certificates.len(), 5);
            assert!(overview.certificates[0].id.to_string() == "site/a.example.com", "sites come first");
            assert!(overview.certificates.iter().all(|known| known.is_due() && known.sha256.is_none()));
        }
        assert_eq!(fs_err::read_dir(state.path()).unwrap().count(), 0);
    }

    /// Whatever is told to be due is what `ensure` makes, and nothing else.
    #[test]
    fn what_is_told_is_what_is_made() {
        let state = tempfile::tempdir().unwrap();
        let (old, new) = (site("internal", "b.example.com"), site("internal", "b.example.com, c.example.com"));
        let same = |site: &Site, days: i64| {
            let now = NOW + Duration::days(days);
            let told = due(site, state.path(), now);
            let made = ensure(site, state.path(), now).unwrap();
            assert_eq!(told.keys().collect::<Vec<_>>(), made.made.iter().collect::<Vec<_>>(), "day {days}");
            assert!(due(site, state.path(), now).is_empty());
            (told.into_values().next(), made.step)
        };
        assert_eq!(same(&old, 0).0.as_deref(), Some("there is no certificate yet"));
        assert_eq!(same(&old, 39).0, None);
        assert_eq!(same(&old, 40).0.as_deref(), Some("19 of 60 days are left"));
        assert_eq!(same(&new, 41).0.as_deref(), Some("the names have changed"));
        forget(state.path(), &["site/a.example.com".parse().unwrap()]).unwrap();
        assert_eq!(same(&new, 42).0.as_deref(), Some("there is no certificate yet"));
        start_rotation(&new, state.path(), NOW + Duration::days(42)).unwrap();
        for (why, step) in [
            (None, Some("step 1 of 3: all hosts must learn to trust the new authority")),
            (Some("another authority signs now"), Some("step 2 of 3: all hosts must get leaves of the new authority")),
            (None, None),
        ] {
            let (told, deployed) = same(&new, 43);
            assert_eq!(told.as_deref(), why);
            let overview = known(&new, state.path(), NOW + Duration::days(43)).unwrap();
            assert_eq!(overview.rotation.as_deref(), step);
            assert_eq!(overview.roots.iter().filter(|root| root.hops).count(), 1 + usize::from(step.is_some()));
            mark_deployed(state.path(), deployed).unwrap();
        }
        // Our own words for a clock that was put right.
        let early = due(&new, state.path(), NOW - Duration::days(400));
        assert!(early.values().all(|why| why.starts_with("it is from the future")), "{early:?}");
    }
}
