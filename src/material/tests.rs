//! A service that is not of this crate, with a secret of each kind.

use std::collections::BTreeMap;
use std::path::Path;

use time::macros::datetime;

use super::*;
use crate::base::diagnostic::Diagnostic;
use crate::base::materials::{Denied, Owner};
use crate::base::secret::{display, sentinel};
use crate::inventory::load::load_text;
use crate::inventory::site::{Role, SecretRef};
use crate::plan::decision::Memory;
use crate::plan::state::{Access, File, Phase};
use crate::service::claims::Claims;
use crate::service::render::Templates;
use crate::service::{Context, Service, desire};

const NOW: OffsetDateTime = datetime!(2026-11-23 12:00 UTC);
const SERVICES: Services = Services(&[&Trial]);
/// The same under a name that certificates have taken.
const GREEDY: Services = Services(&[&Greedy]);

struct Trial;

impl Service for Trial {
    fn name(&self) -> &'static str {
        "trial"
    }

    fn secrets(&self, site: &Site) -> Vec<SecretWanted> {
        let app = Owner::Hosts(site.with_role(Role::App).map(|host| host.name.clone()).collect());
        let given = SecretRef::File("token".into());
        vec![
            SecretWanted { name: "cache".into(), owner: app.clone(), given: None },
            SecretWanted { name: "edge".into(), owner: Owner::host(&"lb1".parse().unwrap()), given: None },
            SecretWanted { name: "token".into(), owner: app, given: Some(given) },
        ]
    }

    fn want(&self, context: &Context<'_>, out: &mut Claims) -> Result<(), Diagnostic> {
        if !context.host.has(Role::App) {
            return Ok(());
        }
        let text = format!("password {}\ntoken {}\n", sentinel("trial/cache"), sentinel("trial/token"));
        let file = File {
            service: self.name(),
            phase: Phase::App,
            access: Access::root(0o644),
            body: context.body(text)?,
            then: BTreeMap::new(),
            about: None,
        };
        out.file("/etc/trial.conf", file)
    }
}

struct Greedy;

impl Service for Greedy {
    fn name(&self) -> &'static str {
        "pki"
    }

    fn secrets(&self, _: &Site) -> Vec<SecretWanted> {
        vec![SecretWanted { name: "web1".into(), owner: Owner::All, given: None }]
    }

    fn want(&self, _: &Context<'_>, _: &mut Claims) -> Result<(), Diagnostic> {
        Ok(())
    }
}

/// In a folder of its own, where the token stands.
fn site(folder: &Path) -> Site {
    let text = "name: shop\n\
         hosts:\n\
         \x20 lb1: { address: 10.0.1.11, roles: [lb], public: 203.0.113.11 }\n\
         \x20 web1: { address: 10.0.2.11, roles: [web] }\n\
         \x20 app1: { address: 10.0.3.11, roles: [app] }\n\
         firewall: { manage_from: [10.0.0.0/24] }\n\
         sites:\n\
         \x20 shop.example.com: { app: { port: 8080, health: /healthz } }\n\
         certificates: { issuer: internal }\n";
    fs_err::write(folder.join("token"), "a token of somebody else\n").unwrap();
    load_text(text, &folder.join("inventory.yml")).unwrap().0
}

/// As for all hosts.
fn gathered(site: &Site) -> Result<Issued, Error> {
    gather(site, SERVICES, &site.hosts.keys().cloned().collect(), &mut Revealed::new(), NOW)
}

fn secret(name: &str) -> Material {
    Material::Secret(SecretId::new("trial", name).unwrap())
}

fn host(name: &str) -> HostName {
    name.parse().unwrap()
}

#[test]
fn a_password_is_made_by_the_run_that_needs_it_and_stays() {
    let folder = tempfile::tempdir().unwrap();
    let site = site(folder.path());
    let file = site.state.join("passwords.json");
    let mut issued = gathered(&site).unwrap().materials;
    assert!(issued.is_unmade(&secret("cache")) && !file.exists());
    let apps = BTreeSet::from([host("app1")]);
    assert!(make(&site, SERVICES, &apps, &mut issued).unwrap());
    assert!(!issued.is_unmade(&secret("cache")) && issued.is_unmade(&secret("edge")), "no host of the run may have it");
    assert!(!make(&site, SERVICES, &apps, &mut issued).unwrap());
    let app = host("app1");
    let value = issued.share(&app).materialize(&sentinel("trial/cache")).unwrap();
    let mut later = gathered(&site).unwrap().materials;
    assert_eq!(later.share(&app).materialize(&sentinel("trial/cache")).unwrap(), value);
    assert!(make(&site, SERVICES, &BTreeSet::from([host("lb1")]), &mut later).unwrap());

    let id = SecretId::new("trial", "cache").unwrap();
    passwords::rotate(&site.state, &site.name, &id).unwrap();
    let rotating = gathered(&site).unwrap().materials;
    let both =
        rotating.share(&app).materialize(&[sentinel("trial/cache.previous"), sentinel(secret("cache"))].concat());
    let both = both.unwrap();
    assert!(both.starts_with(&value) && both.len() == 2 * value.len() && !both.ends_with(&value));
    assert_eq!(rotating.redact(&both), "‹trial/cache.previous›‹trial/cache›");
}

/// Law 1: what stands behind a name is no part of what is shown, and nothing of it goes to a host before it is made.
#[test]
fn a_plan_is_the_same_before_and_after_but_for_what_stands_behind_its_names() {
    let folder = tempfile::tempdir().unwrap();
    let site = site(folder.path());
    let templates = Templates::load(SERVICES, None).unwrap();
    let mut materials = gathered(&site).unwrap().materials;
    let desired =
        |materials: &Materials| desire(&site, (&BTreeMap::new(), &Memory::default()), materials, &templates).unwrap();
    let (before, again) = (desired(&materials), desired(&gathered(&site).unwrap().materials));
    let (app, path) = (host("app1"), "/etc/trial.conf");
    let of = |desired: &crate::plan::state::Desired| desired[&app].files[path].clone();
    assert_eq!(of(&before).body, of(&again).body, "the same each time");
    assert_eq!(of(&before).access.mode, 0o640, "kept as what it will be");
    let text = of(&before).body.text;
    assert_eq!(display(&text), "password ‹trial/cache›\ntoken ‹trial/token›\n");
    assert_eq!(materials.share(&app).materialize(&text), Err(Denied::Unmade(secret("cache"))));
    make(&site, SERVICES, &BTreeSet::from([app.clone()]), &mut materials).unwrap();
    let after = desired(&materials);
    assert_eq!(of(&after).body.text, text);
    assert_ne!(of(&after).body.digest, of(&before).body.digest);
    let sent = materials.share(&app).materialize(&text).unwrap();
    assert!(sent.ends_with("token a token of somebody else\n") && !sent.contains('('), "{sent}");
    let shown = serde_json::to_string(&after[&app]).unwrap();
    assert!(!shown.contains("a token of") && !shown.contains(sent.split_whitespace().nth(1).unwrap()), "{shown}");
}

#[test]
fn each_has_its_owner_whether_it_is_made_or_not() {
    let folder = tempfile::tempdir().unwrap();
    let site = site(folder.path());
    let mut made = gathered(&site).unwrap().materials;
    make(&site, SERVICES, &site.hosts.keys().cloned().collect(), &mut made).unwrap();
    for materials in [placeholders(&site, SERVICES).unwrap(), gathered(&site).unwrap().materials, made] {
        for (name, owner, other) in
            [("trial/cache", "app1", "lb1"), ("trial/token", "app1", "lb1"), ("trial/edge", "lb1", "app1")]
        {
            assert_eq!(materials.share(&host(owner)).may(name), Ok(()), "{name}");
            let denied = materials.share(&host(other)).may(name).unwrap_err().to_string();
            assert_eq!(denied, format!("`{name}` is for {owner} alone, and {other} may not have it"));
        }
    }
}

#[test]
fn placeholders_need_no_state_and_read_no_reference() {
    let folder = tempfile::tempdir().unwrap();
    let site = site(folder.path());
    fs_err::remove_file(folder.path().join("token")).unwrap();
    let materials = placeholders(&site, SERVICES).unwrap();
    let text = [sentinel("trial/cache"), sentinel("trial/token")].concat();
    let app = host("app1");
    assert!(materials.share(&app).is_secret(&text));
    assert_eq!(materials.share(&app).draft(&text).unwrap(), "(secret trial/cache)(secret trial/token)");
    assert!(!site.state.exists());
    let error = gathered(&site).unwrap_err().to_string();
    assert!(error.starts_with("`trial/token` is in `") && error.contains("cannot be read"), "{error}");
}

/// A command may ask a person or a vault: once a run, and only for whom it is.
#[test]
fn what_a_command_prints_is_asked_for_once_a_run_and_for_its_hosts_alone() {
    struct Asked;
    impl Service for Asked {
        fn name(&self) -> &'static str {
            "asked"
        }
        fn secrets(&self, _: &Site) -> Vec<SecretWanted> {
            let argv = ["sh", "-c", "echo asked >>log; cat token"].map(ToOwned::to_owned).to_vec();
            let owner = Owner::host(&host("app1"));
            vec![SecretWanted { name: "token".into(), owner, given: Some(SecretRef::Command(argv)) }]
        }
        fn want(&self, _: &Context<'_>, _: &mut Claims) -> Result<(), Diagnostic> {
            Ok(())
        }
    }
    const ASKED: Services = Services(&[&Asked]);
    let folder = tempfile::tempdir().unwrap();
    let (site, mut revealed) = (site(folder.path()), Revealed::new());
    let mut run = |hosts: &[&str]| {
        let hosts = hosts.iter().map(|name| host(name)).collect();
        let mut materials = gather(&site, ASKED, &hosts, &mut revealed, NOW).unwrap().materials;
        assert!(!make(&site, ASKED, &hosts, &mut materials).unwrap(), "what is given is not made");
        let asked = fs_err::read_to_string(folder.path().join("log")).unwrap_or_default();
        (materials.share(&host("app1")).materialize(&sentinel("asked/token")), asked.lines().count())
    };
    let (value, asked) = run(&["lb1", "web1"]);
    assert!(value.is_err() && asked == 0, "{value:?}");
    for hosts in [["app1"].as_slice(), &["app1", "lb1"]] {
        assert_eq!(run(hosts), (Ok("a token of somebody else".to_owned()), 1));
    }
}

#[test]
fn a_service_cannot_take_the_name_of_a_certificate() {
    let folder = tempfile::tempdir().unwrap();
    let error = placeholders(&site(folder.path()), GREEDY).unwrap_err().to_string();
    assert!(error.contains("`pki` declares the secret `web1`, which is taken by the certificates"), "{error}");
}
