//! The store through time: what is made, renewed, rotated, and refused.

use std::os::unix::fs::PermissionsExt as _;

use time::Duration;
use time::macros::datetime;

use super::*;
use crate::base::materials::Owner;
use crate::base::secret::sentinel;
use crate::inventory::load::load_text;
use crate::inventory::site::Role;

const NOW: OffsetDateTime = datetime!(2026-11-23 12:00 UTC);

fn site() -> Site {
    let text = "name: shop\n\
         hosts:\n\
         \x20 lb1: { address: 10.0.1.11, roles: [lb], public: 203.0.113.11 }\n\
         \x20 web1: { address: [10.0.2.11, \"fd00:2::11\"], roles: [web] }\n\
         \x20 app1: { address: 198.51.100.7, roles: [app] }\n\
         firewall: { manage_from: [10.0.0.0/24] }\n\
         sites:\n\
         \x20 shop.example.com: { aliases: [www.shop.example.com], app: { port: 8080, health: /healthz } }\n\
         certificates: { issuer: internal }\n";
    load_text(text, Path::new("inventory.yml")).unwrap().0
}

fn days(n: i64) -> OffsetDateTime {
    NOW + Duration::days(n)
}

fn material(name: &str) -> Material {
    name.parse().unwrap()
}

fn ids(names: &[&str]) -> Vec<CertificateId> {
    names.iter().map(|name| name.parse().unwrap()).collect()
}

fn certificates(bundle: &str) -> usize {
    bundle.matches("BEGIN CERTIFICATE").count()
}

#[test]
fn the_first_call_makes_everything_and_the_second_nothing() {
    let (site, state) = (site(), tempfile::tempdir().unwrap());
    let first = ensure(&site, state.path(), NOW).unwrap();
    assert_eq!(first.made.len(), 2 * 3 + 1, "{:?}", first.made);
    assert!(first.warnings.is_empty() && first.step.is_none());
    let second = ensure(&site, state.path(), days(1)).unwrap();
    assert!(second.made.is_empty());
    for name in
        ["pki/ca.crt", "pki/sites-ca.crt", "pki/web1/server.crt", "pki/lb1/client.crt", "site/shop.example.com.crt"]
    {
        assert_eq!(
            first.materials.public(&material(name)).unwrap(),
            second.materials.public(&material(name)).unwrap(),
            "{name}"
        );
    }
    assert!(
        first.materials.is_secret(&material("pki/web1/server.key"))
            && first.materials.public(&material("pki/web1/server.key")).is_none()
    );
    assert_eq!(
        first.materials.about(&material("pki/web1/server.crt")),
        Some("web1.shop.infra.internal, 60 days, until 2027-01-22")
    );
    let folder = state.path().join("pki");
    assert_eq!(fs_err::metadata(&folder).unwrap().permissions().mode() & 0o777, 0o700);
    for entry in fs_err::read_dir(&folder).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{:?}", entry.path());
    }
}

#[test]
fn leaves_are_renewed_at_a_third_left_and_when_their_names_change() {
    let state = tempfile::tempdir().unwrap();
    ensure(&site(), state.path(), NOW).unwrap();
    assert!(ensure(&site(), state.path(), days(39)).unwrap().made.is_empty());
    assert_eq!(ensure(&site(), state.path(), days(40)).unwrap().made.len(), 7);
    let mut with_db = site();
    let mut db = with_db.hosts.values().next().unwrap().clone();
    (db.name, db.addresses) = ("db1".parse().unwrap(), vec!["10.0.4.11".parse().unwrap()]);
    with_db.hosts.insert(db.name.clone(), db);
    let with_db = ensure(&with_db, state.path(), days(41)).unwrap();
    assert_eq!(with_db.made, ids(&["pki/db1/client", "pki/db1/server"]));
    let without = ensure(&site(), state.path(), days(41)).unwrap();
    assert!(without.made.is_empty() && !without.materials.is_secret(&material("pki/db1/server.key")));
}

#[test]
fn another_kind_of_key_makes_a_sites_certificate_anew_and_no_other() {
    let (mut site, state) = (site(), tempfile::tempdir().unwrap());
    ensure(&site, state.path(), NOW).unwrap();
    for kind in [KeyKind::Rsa2048, KeyKind::EcdsaP256] {
        site.sites.values_mut().for_each(|web| web.manner.key = kind);
        let issued = ensure(&site, state.path(), days(1)).unwrap();
        assert_eq!(issued.made, ids(&["site/shop.example.com"]));
        assert!(ensure(&site, state.path(), days(1)).unwrap().made.is_empty());
        let leaf = InternalStore::open(state.path()).unwrap().leaves().unwrap();
        let leaf = &leaf[&"site/shop.example.com".parse::<CertificateId>().unwrap()];
        assert_eq!(key::kind(leaf.key.reveal()), kind);
        let (_, pem) = x509_parser::pem::parse_x509_pem(leaf.certificate.as_bytes()).unwrap();
        let certificate = pem.parse_x509().unwrap();
        let is_rsa = matches!(certificate.public_key().parsed().unwrap(), x509_parser::public_key::PublicKey::RSA(_));
        assert_eq!(is_rsa, kind == KeyKind::Rsa2048);
    }
}

#[test]
fn a_rotation_trusts_then_signs_then_forgets() {
    let (site, state) = (site(), tempfile::tempdir().unwrap());
    let old = ensure(&site, state.path(), NOW).unwrap();
    let old_ca = old.materials.public(&material("pki/ca.crt")).unwrap().to_owned();
    start_rotation(&site, state.path(), days(1)).unwrap();
    assert!(matches!(start_rotation(&site, state.path(), days(1)), Err(Error::Rotating)));

    for _ in 0..2 {
        let trust = ensure(&site, state.path(), days(1)).unwrap();
        assert_eq!(trust.step, Some(Step::Trust));
        assert!(trust.made.is_empty(), "until all hosts trust the new one, the old one signs");
        let bundle = trust.materials.public(&material("pki/ca.crt")).unwrap();
        assert_eq!(certificates(bundle), 2);
        assert!(bundle.starts_with(&old_ca));
    }
    // What was applied before the rotation began proves nothing about it.
    mark_deployed(state.path(), old.step).unwrap();
    assert_eq!(ensure(&site, state.path(), days(1)).unwrap().step, Some(Step::Trust));

    mark_deployed(state.path(), Some(Step::Trust)).unwrap();
    let leaves = ensure(&site, state.path(), days(2)).unwrap();
    assert_eq!((leaves.step, leaves.made.len()), (Some(Step::Leaves), 6), "all but the public one");
    assert_eq!(certificates(leaves.materials.public(&material("pki/ca.crt")).unwrap()), 2);
    mark_deployed(state.path(), Some(Step::Trust)).unwrap();
    assert_eq!(ensure(&site, state.path(), days(2)).unwrap().step, Some(Step::Leaves), "the step before is over");

    mark_deployed(state.path(), Some(Step::Leaves)).unwrap();
    let rest = ensure(&site, state.path(), days(3)).unwrap();
    assert!(rest.step.is_none() && rest.made.is_empty());
    let bundle = rest.materials.public(&material("pki/ca.crt")).unwrap();
    assert!(certificates(bundle) == 1 && bundle != old_ca);
}

#[test]
fn an_authority_near_its_end_is_rotated_by_itself() {
    let (site, state) = (site(), tempfile::tempdir().unwrap());
    ensure(&site, state.path(), NOW).unwrap();
    assert!(ensure(&site, state.path(), days(2400)).unwrap().step.is_none());
    let late = ensure(&site, state.path(), days(2500)).unwrap();
    assert_eq!(late.step, Some(Step::Trust));
    assert_eq!(late.warnings.len(), 1, "that of the public names is told: {:?}", late.warnings);
}

#[test]
fn the_authorities_are_confined() {
    let (site, state) = (site(), tempfile::tempdir().unwrap());
    ensure(&site, state.path(), NOW).unwrap();
    let authorities = InternalStore::open(state.path()).unwrap().authorities().unwrap();
    let hop = &authorities.hops.unwrap().trusted[0].permitted;
    assert!(hop.name("web1.shop.infra.internal") && !hop.name("shop.example.com"));
    assert!(hop.address("198.51.100.7".parse().unwrap()), "a host's own address");
    assert!(!hop.address("198.51.100.8".parse().unwrap()));
    let sites = &authorities.sites[0].permitted;
    assert!(sites.name("new.example.com") && !sites.name("web1.shop.infra.internal") && !sites.name("example.org"));
    assert!(!sites.address("10.0.0.1".parse().unwrap()));
}

#[test]
fn a_new_domain_gets_an_authority_of_its_own_and_leaves_the_old_one_alone() {
    let (mut site, state) = (site(), tempfile::tempdir().unwrap());
    let before = ensure(&site, state.path(), NOW).unwrap();
    let mut other = site.sites.values().next().unwrap().clone();
    (other.name, other.aliases) = ("tiny.example.org".parse().unwrap(), vec![]);
    site.sites.insert(other.name.clone(), other);
    let after = ensure(&site, state.path(), NOW).unwrap();
    assert_eq!(after.made, ids(&["site/tiny.example.org"]));
    let bundle = after.materials.public(&material("pki/sites-ca.crt")).unwrap();
    assert!(
        certificates(bundle) == 2
            && bundle.starts_with(before.materials.public(&material("pki/sites-ca.crt")).unwrap())
    );
}

#[test]
fn a_site_that_is_asked_for_by_address_gets_an_authority_that_permits_it() {
    let (mut site, state) = (site(), tempfile::tempdir().unwrap());
    ensure(&site, state.path(), NOW).unwrap();
    let (public, other): (IpAddr, IpAddr) = ("203.0.113.11".parse().unwrap(), "203.0.113.12".parse().unwrap());
    let shop = site.sites.values_mut().next().unwrap();
    shop.addresses = vec![public, "2001:db8:113::11".parse().unwrap()];
    let name = format!("site/{}", shop.name);
    let issued = ensure(&site, state.path(), NOW).unwrap();
    assert_eq!(issued.made, ids(&[&name]));
    let authorities = InternalStore::open(state.path()).unwrap().authorities().unwrap();
    let [before, after] = &authorities.sites[..] else { panic!("{}", authorities.sites.len()) };
    assert!(!before.permitted.address(public));
    assert!(after.permitted.address(public) && !after.permitted.address(other));
    let leaf = issued.materials.public(&material(&format!("{name}.crt"))).unwrap();
    let (_, pem) = x509_parser::pem::parse_x509_pem(leaf.as_bytes()).unwrap();
    let leaf = pem.parse_x509().unwrap();
    let sans = &leaf.subject_alternative_name().unwrap().unwrap().value.general_names;
    let addresses = sans.iter().filter(|san| matches!(san, x509_parser::extensions::GeneralName::IPAddress(_)));
    assert_eq!(addresses.count(), 2);
    assert!(ensure(&site, state.path(), NOW).unwrap().made.is_empty());
}

#[test]
fn an_address_that_the_authority_does_not_permit_is_told() {
    let (mut site, state) = (site(), tempfile::tempdir().unwrap());
    ensure(&site, state.path(), NOW).unwrap();
    let host = site.hosts.get_mut(&"app1".parse().unwrap()).unwrap();
    host.addresses = vec!["198.51.100.99".parse().unwrap()];
    let issued = ensure(&site, state.path(), NOW).unwrap();
    assert_eq!(issued.made, ids(&["pki/app1/server"]));
    assert!(issued.warnings[0].contains("does not name 198.51.100.99"), "{:?}", issued.warnings);
}

#[test]
fn a_damaged_store_is_refused_and_never_replaced() {
    let site = site();
    let path = |state: &tempfile::TempDir, name: &str| state.path().join("pki").join(name);
    let break_it = |name: &str, change: fn(&str) -> Option<String>| {
        let state = tempfile::tempdir().unwrap();
        ensure(&site, state.path(), NOW).unwrap();
        let file = path(&state, name);
        let text = fs_err::read_to_string(&file).unwrap();
        match change(&text) {
            Some(changed) => {
                assert_ne!(changed, text);
                fs_err::write(&file, changed).unwrap();
            }
            None => fs_err::remove_file(&file).unwrap(),
        }
        let before = fs_err::read(path(&state, "authorities.json")).ok();
        let error = ensure(&site, state.path(), NOW).unwrap_err();
        assert_eq!(fs_err::read(path(&state, "authorities.json")).ok(), before, "touched");
        assert!(error.help().is_some());
        let words = format!("{error} {error:?} {}", error.help().unwrap());
        assert!(!words.contains("PRIVATE") && !words.contains("MII"), "{words}");
        words
    };
    assert!(break_it("authorities.json", |_| None).contains("is missing"));
    assert!(break_it("authorities.json", |t| Some(t[..t.len() / 2].into())).contains("cannot be read at line"));
    assert!(break_it("authorities.json", |_| Some(String::new())).contains("cannot be read"));
    assert!(
        break_it("authorities.json", |t| Some(t.replace("\"version\": 1", "\"version\": 9"))).contains("version 9")
    );
    assert!(
        break_it("authorities.json", |t| {
            // The key of the other authority.
            let keys: Vec<&str> = t.split("\"key\": \"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
            Some(t.replacen(keys[0], keys[1], 1))
        })
        .contains("does not belong")
    );
    assert!(
        break_it("leaves.json", |t| Some(t.replacen("\"not_after\": 1", "\"not_after\": 2", 1))).contains("as it was")
    );
    assert!(break_it("leaves.json", |t| Some(t.replacen("BEGIN CERT", "BEGIN CART", 1))).contains("as it was written"));
}

#[test]
fn placeholders_stand_for_every_material() {
    let (site, state) = (site(), tempfile::tempdir().unwrap());
    let (real, shown) = (ensure(&site, state.path(), NOW).unwrap().materials, placeholders(&site));
    for (host, leaf) in [("web1", "pki/web1/server"), ("lb1", "pki/lb1/client"), ("lb1", "site/shop.example.com")] {
        let host = host.parse().unwrap();
        let (real, shown) = (real.share(&host), shown.share(&host));
        let (key, certificate) = (sentinel(format!("{leaf}.key")), sentinel(format!("{leaf}.crt")));
        assert!(real.is_secret(&key) && shown.is_secret(&key));
        assert!(!real.is_secret(&certificate) && !shown.is_secret(&certificate));
        assert_eq!(shown.materialize(&key).unwrap(), format!("(key {leaf}.key)\n"));
        assert_eq!(shown.materialize(&certificate).unwrap(), format!("(certificate {leaf}.crt)\n"));
    }
}

/// Real ones and stand-ins alike: each host gets its own, load balancers what belongs to sites, everyone whom to trust.
#[test]
fn every_material_has_its_owner() {
    let (site, state) = (site(), tempfile::tempdir().unwrap());
    for materials in [ensure(&site, state.path(), NOW).unwrap().materials, placeholders(&site)] {
        let lb: HostName = "lb1".parse().unwrap();
        for host in site.hosts.keys() {
            let share = materials.share(host);
            assert_eq!(share.may("pki/ca.crt"), Ok(()));
            let edge = site.hosts[host].has(Role::Lb);
            for ending in ["crt", "key"] {
                assert_eq!(share.may(&format!("site/shop.example.com.{ending}")).is_ok(), edge, "{host}");
                for purpose in ["server", "client"] {
                    assert_eq!(share.may(&format!("pki/{host}/{purpose}.{ending}")), Ok(()));
                    let other = share.may(&format!("pki/{lb}/{purpose}.{ending}"));
                    assert_eq!(other.is_ok(), *host == lb, "{host}: {other:?}");
                }
            }
        }
    }
    for name in ["pki/nobody/server.key", "db/shop", "db/shop.previous"] {
        assert_eq!(owner(&site, &material(name)), Owner::Nobody, "{name}");
    }
    for name in ["acme/thumbprint", "site/shop.example.com.names", "site/shop.example.com.unrooted"] {
        assert_eq!(owner(&site, &material(name)), Owner::host(&"lb1".parse().unwrap()), "{name}");
    }
}

#[test]
fn two_processes_take_turns() {
    let (site, state) = (site(), tempfile::tempdir().unwrap());
    let issued = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..4).map(|_| scope.spawn(|| ensure(&site, state.path(), NOW).unwrap())).collect();
        workers.into_iter().map(|w| w.join().unwrap()).collect::<Vec<_>>()
    });
    assert_eq!(issued.iter().filter(|i| !i.made.is_empty()).count(), 1);
    let bundles: std::collections::BTreeSet<_> =
        issued.iter().map(|i| i.materials.public(&Material::HopAuthorities)).collect();
    assert_eq!(bundles.len(), 1);
}

#[test]
fn a_host_that_comes_back_has_its_certificates_of_before() {
    let (site, state) = (site(), tempfile::tempdir().unwrap());
    let web1 = ids(&["pki/web1/client", "pki/web1/server"]);
    let first = ensure(&site, state.path(), NOW).unwrap();
    let mut without = site.clone();
    without.hosts.remove(&"web1".parse().unwrap());
    let left = ensure(&without, state.path(), days(1)).unwrap();
    assert!(left.made.is_empty() && left.materials.public(&material("pki/web1/server.crt")).is_none());
    let back = ensure(&site, state.path(), days(2)).unwrap();
    let certificate =
        |issued: &Issued| issued.materials.public(&material("pki/web1/server.crt")).map(ToOwned::to_owned);
    assert_eq!((back.made.clone(), certificate(&back)), (Vec::new(), certificate(&first)));
    // What has run out meanwhile is forgotten.
    let end = days(61);
    ensure(&without, state.path(), end).unwrap();
    let made = ensure(&site, state.path(), end).unwrap().made;
    assert!(web1.iter().all(|id| made.contains(id)), "{made:?}");
}

#[test]
fn a_state_folder_of_another_inventory_is_refused() {
    let (mut site, state) = (site(), tempfile::tempdir().unwrap());
    ensure(&site, state.path(), NOW).unwrap();
    site.name = "blog".parse().unwrap();
    let error = ensure(&site, state.path(), NOW).unwrap_err();
    assert!(error.to_string().contains("holds the authorities of `shop`, and this inventory is `blog`"), "{error}");
    let help = error.help().unwrap();
    assert!(help.contains("`name: shop`") && help.contains("`--adopt shop`"), "{help}");
}
