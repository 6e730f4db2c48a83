//! An internal authority that the hosts trust and this controller does not have, as its state was lost, is an old one, or was never
//! here: takes what was seen of the hosts and the open connections, gives the refusal to put another authority in its place. One exec
//! on each host whose authorities are about to change, and on no other.

use std::collections::{BTreeMap, BTreeSet};

use crate::base::chain;
use crate::base::diagnostic::Diagnostic;
use crate::base::net::HostName;
use crate::base::warning::Warning;
use crate::base::words;
use crate::fleet::run;
use crate::fleet::survey::Prepared;
use crate::host::wire;
use crate::inventory::site::Site;
use crate::pki::internal_store::{Error, InternalStore};
use crate::plan::state::{DesiredHost, Observed};
use crate::service::base_system::CA_FILE;

/// More than the authorities of a rotation take, bytes.
const LONGEST: usize = 64 * 1024;

/// So many hosts are named.
const NAMED: usize = 8;

/// The error that the hosts trust an authority of which `state/pki` knows nothing, unless the inventory says that another one is meant.
/// None where one host or more trust one of ours: then the others have missed a rotation, and are brought up to date.
///
/// # Errors
/// [`Error`] of the store.
pub fn strange(site: &Site, prepared: &mut Prepared, parallel: usize) -> Result<Option<Diagnostic>, Error> {
    if !site.tells(Warning::NewAuthority) {
        return Ok(None);
    }
    let changed = changed(site, &prepared.desired, &prepared.survey.observed);
    if changed.is_empty() {
        return Ok(None);
    }
    let Some(store) = InternalStore::existing(&site.state)? else { return Ok(None) };
    let authorities = store.authorities()?;
    let ours: BTreeSet<Vec<u8>> =
        authorities.hops.iter().flat_map(|hops| &hops.trusted).flat_map(|one| chain::ders(&one.certificate)).collect();
    let give = format!(
        "real_way '{CA_FILE}' && plain \"$ROOT{CA_FILE}\" && pour authorities head -c {LONGEST} \"$ROOT{CA_FILE}\"\n:\n"
    );
    let script = wire::question("look at the authorities", &give);
    let work: Vec<_> = prepared.survey.sessions.iter_mut().filter(|(host, _)| changed.contains(*host)).collect();
    let read = run::each(work, parallel, |(host, session)| {
        let output = session.run(&script, b"");
        session.rest();
        (host.clone(), output)
    });
    // Who does not answer now is found by whatever comes next.
    let told = read.into_iter().filter_map(|(host, output)| {
        let told = wire::pairs(&output.ok()?.stdout);
        Some((host, told.last("authorities").unwrap_or_default().to_owned()))
    });
    let hosts = trusting_others(&told.collect(), &ours);
    Ok((!hosts.is_empty()).then(|| refusal(site, &hosts)))
}

fn refusal(site: &Site, hosts: &[HostName]) -> Diagnostic {
    let state = site.state.display();
    let verb = if hosts.len() == 1 { "trusts" } else { "trust" };
    Diagnostic::error(format!(
        "{} {verb} an internal authority that {state}/pki does not have: another state folder made it, or this one was lost or is of \
         an old backup",
        words::first(hosts, NAMED)
    ))
    .help(format!("bring back the {state} by which infra was last applied, or work where that is"))
    .help(
        "if it is gone for good: a new authority reaches one tier after another, and until all have it the tiers refuse each other, \
         so that requests fail",
    )
    .help(Warning::NewAuthority.silencing())
}

/// The hosts of this infrastructure whose authorities are not those that are wanted; none where one of them has just those.
fn changed(
    site: &Site,
    desired: &BTreeMap<HostName, DesiredHost>,
    observed: &BTreeMap<HostName, Observed>,
) -> BTreeSet<HostName> {
    let mut changed = BTreeSet::new();
    for (host, seen) in observed {
        // What another infrastructure has put there is replaced on purpose.
        if seen.owner.as_ref() != Some(&site.name) || !seen.manifest.contains_key(CA_FILE) {
            continue;
        }
        let wanted = desired.get(host).and_then(|host| host.files.get(CA_FILE));
        let (Some(wanted), Some(file)) = (wanted, seen.files.get(CA_FILE)) else { continue };
        match &file.digest {
            Some(digest) if *digest == wanted.body.digest => return BTreeSet::new(),
            Some(_) => drop(changed.insert(host.clone())),
            None => {}
        }
    }
    changed
}

/// Of the hosts with what they trust those that trust others than ours; none where any of them trusts one of ours. What holds no
/// certificate is somebody's mistake, and is drift.
fn trusting_others(told: &BTreeMap<HostName, String>, ours: &BTreeSet<Vec<u8>>) -> Vec<HostName> {
    let trusted = || told.iter().map(|(host, text)| (host, chain::ders(text)));
    if trusted().any(|(_, all)| all.iter().any(|one| ours.contains(one))) {
        return Vec::new();
    }
    trusted().filter(|(_, all)| !all.is_empty()).map(|(host, _)| host.clone()).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use time::macros::datetime;

    use super::*;
    use crate::base::material::Material;
    use crate::inventory::load::load_text;
    use crate::pki;
    use crate::plan::state::{Access, Body, Digest, Facts, File, ObservedFile, Phase, Recorded};

    const NOW: time::OffsetDateTime = datetime!(2026-11-23 12:00 UTC);

    fn site(state: &Path) -> Site {
        let text = format!(
            "name: shop
state: {}
hosts:
  lb1: {{ address: 10.0.1.11, roles: [lb] }}
  web1: {{ address: 10.0.2.11, roles: [web] }}
firewall: {{ manage_from: [10.0.0.0/24] }}
sites:
  a.example.com: {{ static: {{ root: /srv, prefix: / }} }}
certificates: {{ issuer: internal }}
",
            state.display()
        );
        load_text(&text, Path::new("inventory.yml")).unwrap().0
    }

    fn bundle(site: &Site) -> String {
        pki::ensure(site, &site.state, NOW).unwrap().materials.public(&Material::HopAuthorities).unwrap().to_owned()
    }

    fn host(owner: Option<&str>, text: &str) -> Observed {
        let digest = Digest::of(text.as_bytes());
        let file = ObservedFile { digest: Some(digest.clone()), other: None, access: Access::root(0o644), text: None };
        Observed {
            owner: owner.map(|owner| owner.parse().unwrap()),
            files: BTreeMap::from([(CA_FILE.to_owned(), file)]),
            manifest: BTreeMap::from([(CA_FILE.to_owned(), Recorded { digest, then: BTreeMap::new() })]),
            ..Observed::bare(Facts::of_release("debian", "12"))
        }
    }

    fn wanting(text: &str) -> DesiredHost {
        let file = File {
            service: "base",
            phase: Phase::Widen,
            access: Access::root(0o644),
            body: Body { text: "".into(), digest: Digest::of(text.as_bytes()), origin: None },
            then: BTreeMap::new(),
            about: None,
        };
        DesiredHost { files: BTreeMap::from([(CA_FILE.to_owned(), file)]), ..DesiredHost::default() }
    }

    #[test]
    fn another_authority_is_refused_where_no_host_knows_ours() {
        let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let site_here = site(here.path());
        let (ours, theirs) = (bundle(&site_here), bundle(&site(there.path())));
        pki::start_rotation(&site_here, here.path(), NOW).unwrap();
        let rotated = bundle(&site_here);
        assert_ne!(ours, rotated);
        let known: BTreeSet<Vec<u8>> = chain::ders(&rotated).into_iter().collect();
        let shop = Some("shop");
        for (what, hosts, expected) in [
            ("all have ours", [(shop, &rotated), (shop, &rotated)], ""),
            ("all have missed a step of a rotation", [(shop, &ours), (shop, &ours)], ""),
            ("one has missed more", [(shop, &theirs), (shop, &rotated)], ""),
            ("one has missed more than the other", [(shop, &theirs), (shop, &ours)], ""),
            ("they were changed by hand", [(shop, &"nothing".to_owned()), (shop, &String::new())], ""),
            ("they are taken over", [(Some("other"), &theirs), (Some("other"), &theirs)], ""),
            ("both trust another", [(shop, &theirs), (shop, &theirs)], "lb1, web1 trust an internal authority"),
            ("a new one beside it", [(shop, &theirs), (None, &theirs)], "lb1 trusts an internal authority"),
        ] {
            let names = ["lb1", "web1"].map(|name| name.parse::<HostName>().unwrap());
            let observed: BTreeMap<HostName, Observed> =
                names.iter().cloned().zip(hosts.map(|(owner, text)| host(owner, text))).collect();
            let desired = names.iter().map(|name| (name.clone(), wanting(&rotated))).collect();
            let told = changed(&site_here, &desired, &observed);
            let text = |name: &HostName| hosts[usize::from(name.as_str() == "web1")].1.clone();
            let told = told.iter().map(|name| (name.clone(), text(name))).collect();
            let found = trusting_others(&told, &known);
            let message = if found.is_empty() { String::new() } else { refusal(&site_here, &found).message };
            assert_eq!(message.is_empty(), expected.is_empty(), "{what}: {message}");
            assert!(message.starts_with(expected), "{what}: {message}");
        }
    }
}
