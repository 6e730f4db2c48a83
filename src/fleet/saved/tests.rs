//! A saved plan is refused exactly when something else would be executed: one thing at a time is changed of an inventory, a
//! template, a material or a host, and then several.

use std::path::Path;

use proptest::prelude::*;
use time::OffsetDateTime;
use time::macros::datetime;

use super::*;
use crate::base::materials::{Materials, Owner};
use crate::fleet::moved::Others;
use crate::fleet::{self, survey::Beside, survey::Sources, survey::Survey};
use crate::inventory::load::load_text;
use crate::pki;
use crate::plan::decision::{Decided, Memory};
use crate::plan::state::{Access, Observed, ObservedFile, ObservedUnit};
use crate::service::certificates::Remembered;
use crate::service::certificates::schedule::{Held, Life, Past};
use crate::service::certificates::wanted::Wanted;
use crate::service::firewall::GUEST_FORWARDING;
use crate::service::render::Templates;
use crate::service::{self, platform};

const INVENTORY: &str = "name: shop
ssh: { user: ops }
hosts:
  lb1: { address: 10.0.1.11, roles: [lb], public: 203.0.113.11 }
  web1: { address: 10.0.2.11, roles: [web] }
  web2: { address: 10.0.2.12, roles: [web] }
  app1: { address: 10.0.3.11, roles: [app] }
ports: { web: 8443, app: 9443 }
firewall:
  backend: nftables
  manage_from: [10.0.0.0/24]
  allow:
    - { to: web, port: 9000, from: [198.51.100.7], why: checks }
    - { to: 192.0.2.25, port: 25, proto: tcp, from: [app], why: mail }
  block: [198.51.100.128/25]
  resolvers: [10.0.0.53]
sites:
  shop.example.com:
    aliases: [www.shop.example.com]
    static: { root: /srv/shop, prefix: /static/ }
    app: { port: 8080, health: /healthz }
    hsts: 300
certificates:
  issuer: https://acme.example.com/directory
  contact: ops@example.com
  challenge: dns-01
  hook: [./hook.sh, --zone, example.com]
  eab: { kid: kid-1, key: { env: EAB_KEY } }
  profile: tlsserver
  fallback: { issuer: letsencrypt, after: 3 }
  hot_swap: false
  check_dns: true
";

/// What replaces what in the inventory; each changes a deed.
const DEEDS: &[(&str, &str)] = &[
    ("user: ops", "user: root"),
    ("{ user: ops }", "{ user: ops, port: 2222 }"),
    ("{ user: ops }", "{ user: ops, jump: ops@elsewhere.example.com }"),
    ("address: 10.0.2.12", "address: 10.0.2.13"),
    ("roles: [web] }\n  app1", "roles: [web], ssh: { address: 192.0.2.99 } }\n  app1"),
    ("ports: {", "drain: 0s\nports: {"),
    ("web: 8443", "web: 8444"),
    ("app: 9443", "app: 9444"),
    ("backend: nftables", "backend: iptables"),
    ("[10.0.0.0/24]", "[10.0.0.0/16]"),
    ("[10.0.0.0/24]", "[10.0.0.0/24, 192.0.2.0/24]"),
    ("from: [198.51.100.7]", "from: [0.0.0.0/1]"),
    ("from: [198.51.100.7]", "from: [198.51.100.7, 198.51.100.8]"),
    ("port: 9000", "port: 9001"),
    ("to: web, port: 9000", "to: web2, port: 9000"),
    ("proto: tcp", "proto: udp"),
    ("192.0.2.25", "192.0.2.0/24"),
    ("block: [198.51.100.128/25]", "block: [64.0.0.0/2]"),
    ("block: [198.51.100.128/25]", "block: [198.51.100.128/25, 192.0.2.7]"),
    ("block: [198.51.100.128/25]", "block: []"),
    ("10.0.0.53", "10.0.0.54"),
    ("[www.shop.example.com]", "[www.shop.example.com, m.shop.example.com]"),
    ("root: /srv/shop", "root: /srv/else"),
    ("prefix: /static/", "prefix: /files/"),
    ("port: 8080", "port: 8081"),
    ("health: /healthz", "health: /health"),
    ("hsts: 300", "hsts: 301"),
    ("https://acme.example.com/directory", "https://acme.example.org/directory"),
    ("ops@example.com", "other@example.com"),
    ("challenge: dns-01\n  hook: [./hook.sh, --zone, example.com]", "challenge: http-01"),
    ("./hook.sh", "./other.sh"),
    ("--zone, example.com", "--zone, example.org"),
    ("example.com]\n  eab", "example.com, extra]\n  eab"),
    ("kid-1", "kid-2"),
    ("env: EAB_KEY", "env: OTHER_KEY"),
    ("profile: tlsserver", "profile: shortlived"),
    ("issuer: letsencrypt", "issuer: letsencrypt-staging"),
    ("after: 3", "after: 4"),
    ("hot_swap: false", "hot_swap: true"),
    ("check_dns: true", "check_dns: false"),
];

/// As before, but for what nothing is executed by.
const WORDS: &[(&str, &str)] = &[
    ("name: shop", "# the shop\nname: shop"),
    // What DNS is expected to say before an order is no part of the order.
    ("public: 203.0.113.11", "public: 203.0.113.12"),
    ("ports: { web: 8443, app: 9443 }", "ports: { app: 9443, web: 8443 }"),
    ("ports: { web: 8443, app: 9443 }\n", ""),
    ("block: [198.51.100.128/25]", "block: [ \"198.51.100.128/25\" ]"),
    ("hot_swap: false\n  check_dns: true\n", ""),
];

/// All that a plan is made from.
struct World {
    dir: tempfile::TempDir,
    inventory: String,
    materials: fn(&mut Materials),
    observed: fn(&mut Observed),
    /// The sites that are due.
    due: bool,
    /// Whose restart a person has confirmed.
    confirmed: BTreeSet<String>,
}

fn world() -> World {
    let dir = tempfile::tempdir().unwrap();
    fs_err::write(dir.path().join("hook.sh"), "#!/bin/sh\n").unwrap();
    let (inventory, confirmed) = (INVENTORY.into(), BTreeSet::new());
    World { dir, inventory, materials: |_| (), observed: |_| (), due: true, confirmed }
}

const NOW: OffsetDateTime = datetime!(2026-11-23 12:00 UTC);

/// Every certificate is young.
fn held(site: &Site) -> Remembered {
    let mut remembered = Remembered::default();
    for wanted in Wanted::all(site) {
        let life = Life { not_before: NOW.unix_timestamp(), not_after: NOW.unix_timestamp() + 90 * 86_400 };
        let held = Held {
            directory: wanted.sources[0].directory.clone(),
            key: wanted.key,
            profile: wanted.profile_at(&wanted.sources[0]).map(ToOwned::to_owned),
            names: wanted.names,
            life,
            leaf: String::new(),
            revoked: false,
            untrusted: false,
        };
        remembered.sites.insert(wanted.site, Past { held: Some(held), ..Past::default() });
    }
    remembered
}

impl World {
    fn site(&self) -> Site {
        load_text(&self.inventory, &self.dir.path().join("inventory.yml")).unwrap_or_else(|e| panic!("{e:?}")).0
    }

    fn saved(&self) -> Saved {
        let site = self.site();
        let mut materials = pki::placeholders(&site);
        (self.materials)(&mut materials);
        let templates = Templates::load(service::ALL, Some(self.dir.path())).unwrap();
        // Without a certificate each is due; what the hook's files hold is remembered as for a run.
        let mut memory = fleet::memory::read(&site, service::ALL, NOW).unwrap();
        if !self.due {
            memory = Memory::at(NOW.unix_timestamp());
            memory.put("certificates", &held(&site)).unwrap();
        }
        let sources = Sources {
            site: &site,
            materials: &materials,
            templates: &templates,
            memory: &memory,
            confirmed: &self.confirmed,
            adopt: None,
        };
        let desired = sources.desire(&BTreeMap::new()).unwrap();
        let mut survey = Survey::default();
        for name in site.hosts.keys() {
            let mut seen = Observed::bare(platform::oldest());
            (self.observed)(&mut seen);
            survey.observed.insert(name.clone(), seen);
        }
        let nobody = (&survey.observed, &BTreeSet::new());
        let each = service::ALL.decide(&site, nobody, &memory, &mut BTreeMap::new()).unwrap();
        let mut decided = Decided::default();
        for (_, one) in each {
            decided.join(one);
        }
        let plan = decided.clone().onto(plan::plan(&desired, &survey.observed));
        assert_eq!(plan.steps.len(), usize::from(self.due));
        let (undecided, news, confirmed) = (Vec::new(), BTreeMap::new(), self.confirmed.clone());
        let services = service::ALL;
        let (decisions, beside) = (Vec::new(), Beside::default());
        let prepared = Prepared {
            desired,
            survey,
            decided,
            decisions,
            beside,
            others: Others::default(),
            undecided,
            plan,
            memory,
            news,
            confirmed,
            services,
            whole: true,
        };
        Saved::of(&site, &prepared).unwrap()
    }

    fn change(&mut self, (from, to): (&str, &str)) {
        assert!(self.inventory.contains(from), "{from}");
        self.inventory = self.inventory.replacen(from, to, 1);
    }

    #[track_caller]
    fn refused(&self, shown: &Saved) -> String {
        match shown.same_as(&self.saved(), &self.site()) {
            Err(error @ Error::Moved(_)) => {
                let why = error.to_string();
                assert!(why.starts_with("the plan no longer holds, nothing was done: "), "{why}");
                assert!(error.help().is_some());
                why
            }
            other => panic!("not refused: {other:?}\n{}", self.inventory),
        }
    }
}

#[test]
fn every_change_of_what_is_executed_is_refused() {
    let mut world = world();
    let shown = world.saved();
    assert_eq!(shown.same_as(&world.saved(), &world.site()).unwrap(), BTreeSet::new());
    for change in DEEDS {
        world.change(*change);
        let why = world.refused(&shown);
        assert!(why.len() < 3000, "{why}");
        world.inventory = INVENTORY.into();
    }
    for change in WORDS {
        world.change(*change);
        assert!(shown.same_as(&world.saved(), &world.site()).is_ok(), "{change:?}");
        world.inventory = INVENTORY.into();
    }
    // A host that goes, and one that comes.
    world.change(("  web2: { address: 10.0.2.12, roles: [web] }\n", ""));
    assert!(world.refused(&shown).contains("web2 is no longer in the inventory"));
    world.inventory = INVENTORY.into();
    world.change(("  app1:", "  web3: { address: 10.0.2.14, roles: [web] }\n  app1:"));
    assert!(world.refused(&shown).contains("lb1"));
}

#[test]
fn a_template_a_material_a_host_or_a_hook_that_changes_is_refused() {
    let mut world = world();
    let shown = world.saved();
    let template = world.dir.path().join("templates/nginx/nginx.conf");
    fs_err::create_dir_all(template.parent().unwrap()).unwrap();
    fs_err::write(&template, "# mine\n").unwrap();
    let why = world.refused(&shown);
    assert!(why.contains("web1 now: to write /etc/nginx/nginx.conf would not do what was shown"), "{why}");
    fs_err::remove_file(&template).unwrap();

    world.materials = |m| m.add_secret("pki/web1/server.key".parse().unwrap(), "(another key)\n", Owner::All);
    let why = world.refused(&shown);
    assert!(why.contains("web1") && why.contains("/etc/nginx/tls/server.key") && !why.contains("web2"), "{why}");
    world.materials = |_| ();

    let observations: [fn(&mut Observed); 6] = [
        |o| drop(o.packages.insert("nginx".into(), "1.22".into())),
        |o| {
            o.owed.insert("nginx.service".into(), crate::plan::state::Follow::Restart);
        },
        |o| GUEST_FORWARDING.note(&mut o.facts),
        |o| {
            o.facts.versions.insert("openssl".into(), crate::plan::state::Version(3, 5, 0));
        },
        |o| o.firewall.intact = true,
        |o| {
            let file = ObservedFile { digest: None, access: Access::root(0o644), text: None, other: None };
            o.files.insert("/etc/nginx/nginx.conf".into(), file);
        },
    ];
    for observed in observations {
        world.observed = observed;
        assert!(world.refused(&shown).contains("web1 has changed since"));
    }
    // The clock, the room and where we come from are no part of it, nor is what a restart of the host makes of other units.
    let passed_over: [fn(&mut Observed); 2] = [
        |o| (o.clock, o.free, o.controller) = (7, 8, Some([192, 0, 2, 1].into())),
        |o| {
            let unit = ObservedUnit { active: "active".into(), enabled: "enabled".into(), load: "loaded".into() };
            o.units.insert("infra-firewall.service".into(), unit);
        },
    ];
    for observed in passed_over {
        world.observed = observed;
        assert!(shown.same_as(&world.saved(), &world.site()).is_ok());
    }
    world.observed = |o| {
        let unit = ObservedUnit { active: "failed".into(), enabled: "enabled".into(), load: "loaded".into() };
        o.units.insert("nginx.service".into(), unit);
    };
    assert!(world.refused(&shown).contains("web1 has changed since"));
    world.observed = |_| ();

    fs_err::write(world.dir.path().join("hook.sh"), "#!/bin/sh\ncurl evil.example.com\n").unwrap();
    let why = world.refused(&shown);
    assert!(why.ends_with("the order for shop.example.com has changed, in: programs"), "{why}");
}

/// A plan that holds for an hour from [`NOW`] on.
fn ticket(world: &World, plan: &Saved) -> Ticket {
    Ticket::of(plan.clone(), &world.site().state, NOW, Duration::from_hours(1)).unwrap()
}

#[test]
fn a_plan_holds_for_its_time_and_for_one_run() {
    let world = world();
    let (ticket, state, file) = (ticket(&world, &world.saved()), world.site().state, Path::new("plan.json"));
    let at = |minutes: u64| NOW + Duration::from_mins(minutes);
    assert!(ticket.holds(file, &state, at(60)).is_ok());
    let why = ticket.holds(file, &state, at(61)).unwrap_err();
    assert!(why.to_string().starts_with("`plan.json` holds no longer, nothing was done: it held until "), "{why}");
    assert!(why.help().is_some());
    ticket.spend(&state, "20261123T184501-k7q2xm", at(1)).unwrap();
    let why = ticket.holds(file, &state, at(2)).unwrap_err().to_string();
    assert!(why.ends_with("it was begun by run 20261123T184501-k7q2xm, and a plan is for one run"), "{why}");
    // Nobody gives it more time by an editor, and what has ended is forgotten.
    let longer = Ticket { until: at(600).unix_timestamp(), ..ticket.clone() };
    let why = longer.holds(file, &state, at(2)).unwrap_err().to_string();
    assert!(why.contains("somebody has changed it since it was made"), "{why}");
    let later = Ticket::of(world.saved(), &state, at(90), Duration::from_hours(1)).unwrap();
    later.spend(&state, "20261123T200000-aaaaaa", at(91)).unwrap();
    assert_eq!(fs_err::read_dir(state.join("plans")).unwrap().count(), 1);
}

/// What is published of the file is what stands in it.
#[test]
fn a_file_is_one_of_the_schema() {
    let world = world();
    let kept = serde_json::to_value(ticket(&world, &world.saved())).unwrap();
    assert!(kept.pointer("/plan/hosts/web1/deeds").unwrap().as_object().unwrap().len() > 3);
    let schema = jsonschema::validator_for(&crate::report::line::plan_schema()).unwrap();
    let errors: Vec<String> = schema.iter_errors(&kept).map(|error| error.to_string()).collect();
    assert!(errors.is_empty(), "{errors:?}");
    for field in ["until", "seal", "plan"] {
        let mut less = kept.clone();
        less.as_object_mut().unwrap().remove(field);
        assert!(!schema.is_valid(&less), "{field}");
    }
}

#[test]
fn an_order_may_be_left_out_and_none_may_come() {
    let mut world = world();
    let with = world.saved();
    world.due = false;
    let without = world.saved();
    let left = with.same_as(&without, &world.site()).unwrap();
    assert_eq!(left, BTreeSet::from([(StepKind::Order, "shop.example.com".to_owned())]));
    world.due = true;
    assert!(world.refused(&without).contains("the certificate of shop.example.com has become due"));
}

#[test]
fn a_word_for_a_restart_is_kept_with_the_plan() {
    let mut world = world();
    let before = world.saved();
    world.confirmed = ["haproxy.service", "nobody.service"].map(ToOwned::to_owned).into();
    let shown = world.saved();
    assert!(world.refused(&before).contains("have changed"));
    let file = world.dir.path().join("plan");
    std::fs::write(&file, ticket(&world, &shown).text().unwrap()).unwrap();
    world.confirmed = Ticket::read(&file).unwrap().plan().confirmed().clone();
    assert_eq!(world.confirmed.iter().collect::<Vec<_>>(), ["haproxy.service"]);
    assert_eq!(world.saved(), shown);
}

#[test]
fn another_state_folder_or_version_is_refused_and_no_text_is_kept() {
    let world = world();
    let shown = world.saved();
    let file = world.dir.path().join("plan");
    std::fs::write(&file, ticket(&world, &shown).text().unwrap()).unwrap();
    assert_eq!(Ticket::read(&file).unwrap().plan(), &shown);
    let text = fs_err::read_to_string(&file).unwrap();
    for word in ["(key ", "ops@example.com", "198.51.100", "kid-1", "hook.sh"] {
        assert!(!text.contains(word), "{word}");
    }
    // Without the key a digest says nothing: it is no plain hash of what it is of.
    let plain = Digest::of(&serde_json::to_vec(&"ops@example.com").unwrap());
    assert!(!text.contains(plain.0.as_str()));
    for (from, to) in [("\"version\": 7", "\"version\": 1"), ("\"infra\": \"", "\"infra\": \"9.")] {
        fs_err::write(&file, text.replacen(from, to, 1)).unwrap();
        let Err(Error::NoPlan { why, .. }) = Ticket::read(&file) else { panic!("{to}") };
        assert!(why.contains("made by another version of infra"), "{why}");
    }
    let half = text.get(..text.len() / 2).unwrap();
    // Whoever keeps it may put its keys in another order.
    let sorted = serde_json::from_str::<Value>(&text).unwrap().to_string();
    assert!(!sorted.starts_with("{\"version\""), "{sorted}");
    fs_err::write(&file, &sorted).unwrap();
    assert_eq!(Ticket::read(&file).unwrap().plan(), &shown);
    for (bytes, words) in [
        ("", "it is empty"),
        (" \n", "it is empty"),
        ("name: shop\n", "it holds something else"),
        ("{\"a\": 1}", "it holds something else"),
        ("{\"version\": 1, \"infra\": {\"a\": 2}}", "it holds something else"),
        ("{\"version\": 3}", "it holds something else"),
        (sorted.trim_end_matches('}'), "a part is missing"),
        ("[]", "it holds something else"),
        (half, "a part is missing"),
        (&text.replacen("\"made\"", "\"maid\"", 1), "was changed"),
    ] {
        fs_err::write(&file, bytes).unwrap();
        let Err(Error::NoPlan { why, .. }) = Ticket::read(&file) else { panic!("{bytes}") };
        assert!(why.contains(words) && !why.contains("line 1"), "{bytes}: {why}");
    }
    let key = world.site().state.join("plan.key");
    fs_err::remove_file(&key).unwrap();
    assert!(world.refused(&shown).contains("another state folder"));
    // A key that is no file holds nobody up.
    fs_err::remove_file(&key).unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, &key, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    let site = world.site();
    assert!(
        matches!(Seal::of_state(&site.state), Err(Error::Io(why)) if why.to_string().contains("it is a pipe, not a file"))
    );
    assert!(Ticket::read(Path::new("/nonexistent")).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    /// Two inventories that differ by any of these changes have plans that differ, and the same changes give the same plan.
    #[test]
    fn plans_are_the_same_where_the_changes_are(
        one in prop::sample::subsequence((0..DEEDS.len()).collect::<Vec<_>>(), 0..4),
        two in prop::sample::subsequence((0..DEEDS.len()).collect::<Vec<_>>(), 0..4),
    ) {
        let mut world = world();
        let mut make = |those: &[usize]| {
            world.inventory = INVENTORY.into();
            for change in those.iter().filter_map(|at| DEEDS.get(*at)) {
                // An earlier change may have taken the place of a later one away.
                if world.inventory.contains(change.0) {
                    world.change(*change);
                }
            }
            let readable = load_text(&world.inventory, &world.dir.path().join("inventory.yml")).is_ok();
            readable.then(|| (world.inventory.clone(), world.saved(), world.site()))
        };
        if let (Some((first, shown, _)), Some((second, now, site))) = (make(&one), make(&two)) {
            prop_assert_eq!(first == second, shown.same_as(&now, &site).is_ok());
        }
    }
}
