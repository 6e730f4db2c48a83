use super::*;
use crate::base::net::HostName;
use crate::inventory::load::load_text;
use crate::inventory::site::Site;
use crate::plan::decision::Memory;
use crate::plan::ruleset::Ruleset;
use crate::plan::said::{Delivery, Lately, Shown, Traffic};
use crate::plan::state::{
    Digest, Facts as System, Follow, Observed, ObservedFile, ObservedFleet, ObservedUnit, Recorded,
};
use crate::service::claims::Claims;
use crate::service::{Context, Service};

pub(crate) fn name(text: &str) -> HostName {
    text.parse().unwrap()
}

pub(crate) const NOW: i64 = 1_795_435_200;
const DAY: i64 = 86_400;

/// A fleet of so many web hosts behind two load balancers.
pub(crate) fn site(webs: usize) -> Site {
    let hosts =
        (1..=webs).map(|n| format!("  web{n}: {{ address: 10.0.{}.{}, roles: [web] }}\n", 2 + n / 200, 11 + n % 200));
    let text = format!(
        "name: shop
hosts:
  lb1: {{ address: 10.0.1.11, roles: [lb] }}
  lb2: {{ address: 10.0.1.12, roles: [lb] }}
{}firewall: {{ manage_from: [10.0.0.0/24] }}
sites: {{ shop.example.com: {{ static: {{ root: /srv/x, prefix: / }} }} }}
certificates: {{ issuer: internal }}
",
        hosts.collect::<String>()
    );
    load_text(&text, std::path::Path::new("inventory.yml")).unwrap_or_else(|e| panic!("{e:?}")).0
}

/// A host as an apply has left it.
pub(crate) fn well() -> Observed {
    let mut seen = Observed::bare(System::of_release("debian", "12"));
    (seen.clock, seen.free) = (NOW, 8 << 30);
    let digest = Digest::of(b"x");
    let file = ObservedFile { digest: Some(digest.clone()), other: None, access: Access::root(0o644), text: None };
    seen.files.insert("/etc/x.conf".into(), file);
    seen.manifest.insert("/etc/x.conf".into(), Recorded { digest, then: BTreeMap::new() });
    let unit = ObservedUnit { active: "active".into(), enabled: "enabled".into(), load: "loaded".into() };
    seen.units.insert("x.service".into(), unit);
    (seen.firewall.loaded, seen.firewall.intact, seen.firewall.boot_current) = (Some(Ruleset::default()), true, true);
    seen
}

pub(crate) fn wanted(site: &Site) -> BTreeMap<HostName, Wanted> {
    let one = || Wanted {
        units: ["x.service".to_owned()].into(),
        access: [("/etc/x.conf".to_owned(), Access::root(0o644))].into(),
        certificates: BTreeSet::new(),
    };
    site.hosts.keys().map(|host| (host.clone(), one())).collect()
}

/// Says what load balancers would: 100 requests in 10 s at each, of which as many failed as its facts have features.
struct Edge;

impl Service for Edge {
    fn name(&self) -> &'static str {
        "edge"
    }

    fn want(&self, _: &Context<'_>, _: &mut Claims) -> Result<(), crate::base::diagnostic::Diagnostic> {
        Ok(())
    }

    fn status(&self, seen: &Seen<'_>) -> Said {
        let mut said = Said::default();
        for host in seen.site.hosts.keys().filter(|host| host.as_str().starts_with("lb")) {
            let Some(observed) = seen.observed.get(host) else { continue };
            let errors = u64::try_from(observed.facts.features.len()).unwrap_or(0);
            let answers = [0, 100 - errors, 0, 0, errors];
            let lately = Some(Lately { milliseconds: 10_000, requests: 100, answers });
            let site: DnsName = "shop.example.com".parse().unwrap();
            said.traffic.push(Traffic { host: host.clone(), site: site.clone(), requests: 1000, answers, lately });
            said.certificates.push(Shown { host: host.clone(), site: Some(site), not_after: Some(NOW + 59 * DAY) });
            said.word(host, "10.0 requests/s");
            said.delivery(host, Delivery { what: "measures", at: Some(NOW - 8), waiting: 2, dropped: 0 });
            said.figure(host, "edge_sessions", "Sessions.", 3.0);
        }
        said
    }
}

pub(crate) const EDGE: Services = Services(&[&Edge]);

/// As a look finds them, where each answer comes at once.
fn clocks(observed: &ObservedFleet) -> BTreeMap<HostName, i64> {
    observed.iter().map(|(host, seen)| (host.clone(), seen.clock - NOW)).collect()
}

/// What is judged of `observed`; hosts that are not in it are away.
pub(crate) fn view(site: &Site, observed: &ObservedFleet) -> View {
    let away = site.hosts.keys().filter(|host| !observed.contains_key(*host));
    let away = away.map(|host| (host.clone(), "cannot be reached: no route to host".to_owned())).collect();
    let (earlier, memory, overview) = (BTreeMap::new(), Memory::at(NOW), Overview::default());
    let seen = Seen { site, observed, away: &away, earlier: &earlier, memory: &memory, now: NOW };
    judge(EDGE, Facts { seen, wanted: &wanted(site), overview: &overview, clocks: &clocks(observed) })
}

pub(crate) fn fleet(site: &Site) -> ObservedFleet {
    site.hosts.keys().map(|host| (host.clone(), well())).collect()
}

fn told(change: impl FnOnce(&mut Observed)) -> Vec<String> {
    let site = site(1);
    let mut observed = fleet(&site);
    change(observed.get_mut(&name("web1")).unwrap());
    let view = view(&site, &observed);
    assert_eq!(view.is_well(), view.findings.iter().all(|finding| finding.minor));
    assert_eq!(view.hosts[&name("web1")].troubles + view.hosts[&name("web1")].notes, view.findings.len());
    view.findings.into_iter().map(|finding| finding.what).collect()
}

#[test]
fn a_fleet_that_is_well_has_no_finding() {
    let site = site(2);
    let view = view(&site, &fleet(&site));
    assert!(view.is_well() && view.findings.is_empty(), "{:?}", view.findings);
    let shop = view.sites.values().next().unwrap();
    assert_eq!((shop.per_second, shop.errors, shop.classes[1]), (Some(20.0), Some(0.0), 20.0));
    assert_eq!(view.hosts[&name("lb1")].certificates_until, Some(NOW + 59 * DAY));
    assert_eq!(view.hosts[&name("web1")].certificates_until, None);
}

#[test]
fn each_thing_that_is_wrong_is_named() {
    type Change = fn(&mut Observed);
    let cases: [(Change, &str); 16] = [
        (|seen| seen.units.get_mut("x.service").unwrap().active = "failed".into(), "x.service is failed"),
        (|seen| seen.units.get_mut("x.service").unwrap().load = "masked".into(), "x.service is masked"),
        (|seen| seen.units.clear(), "x.service is missing"),
        (
            |seen| seen.files.get_mut("/etc/x.conf").unwrap().digest = Some(Digest::of(b"y")),
            "/etc/x.conf was changed by someone else since the last run",
        ),
        (|seen| seen.files.clear(), "/etc/x.conf was removed by someone else since the last run"),
        (
            |seen| seen.files.get_mut("/etc/x.conf").unwrap().access = Access::root(0o666),
            "/etc/x.conf got another owner or mode since the last run",
        ),
        (|seen| seen.firewall.loaded = None, "its firewall rules are gone"),
        (
            |seen| seen.firewall.intact = false,
            "its live firewall rules were changed by someone else since the last run",
        ),
        (
            |seen| seen.firewall.boot_current = false,
            "its firewall would load other rules at boot than those that hold now",
        ),
        (
            |seen| seen.owed = [("x.service".to_owned(), Follow::Reload)].into(),
            "a reload of x.service is owed by an earlier run",
        ),
        (|seen| seen.held = ["x.service".to_owned()].into(), "the restart of x.service waits for a person's word"),
        (|seen| seen.free = 100 << 20, "has 100 MiB of disk left"),
        (|seen| seen.clock += 90, "its clock is 90 s fast"),
        (|seen| seen.clock -= 31, "its clock is 31 s slow"),
        (|seen| seen.refusal = Some("systemd does not run on it".into()), "is left alone: systemd does not run on it"),
        (|seen| seen.manifest.clear(), "nothing of infra is on it yet"),
    ];
    for (change, words) in cases {
        assert_eq!(told(change), [words]);
    }
    assert!(told(|seen| seen.clock += 5).is_empty(), "an answer takes a moment");
}

#[test]
fn the_way_out_of_a_mask_is_that_of_its_kind() {
    for (enabled, command) in [
        ("masked", "`systemctl unmask x.service` on the host"),
        ("masked-runtime", "`systemctl unmask --runtime x.service` on the host"),
    ] {
        let site = site(1);
        let mut observed = fleet(&site);
        let unit = observed.get_mut(&name("web1")).unwrap().units.get_mut("x.service").unwrap();
        (unit.load, unit.enabled) = ("masked".into(), enabled.into());
        let help = view(&site, &observed).findings.remove(0).help;
        assert!(help.starts_with(command), "{help}");
    }
}

#[test]
fn a_host_that_is_away_is_told_and_one_that_was_not_asked_is_not() {
    let site = site(2);
    let mut observed = fleet(&site);
    observed.remove(&name("web2"));
    let seen = view(&site, &observed);
    assert!(seen.is_any_away() && !seen.is_well());
    assert_eq!(seen.hosts[&name("web2")].away.as_deref(), Some("cannot be reached: no route to host"));
    let (nobody, earlier, memory, overview) = (BTreeMap::new(), BTreeMap::new(), Memory::at(NOW), Overview::default());
    let facts = Seen { site: &site, observed: &observed, away: &nobody, earlier: &earlier, memory: &memory, now: NOW };
    let limited =
        judge(EDGE, Facts { seen: facts, wanted: &wanted(&site), overview: &overview, clocks: &clocks(&observed) });
    assert!(limited.is_well() && !limited.hosts.contains_key(&name("web2")));
}

#[test]
fn errors_of_a_site_are_a_share_of_enough_answers() {
    let site = site(1);
    let with = |errors: usize| {
        let mut observed = fleet(&site);
        let of = observed.get_mut(&name("lb1")).unwrap();
        of.facts.features = (0..errors).map(|n| n.to_string()).collect();
        view(&site, &observed).findings
    };
    assert!(with(9).is_empty());
    let said: Vec<String> = with(20).into_iter().map(|finding| finding.what).collect();
    assert_eq!(said, ["shop.example.com: 10 % of its last 200 answers were errors (5xx)"]);
}

#[test]
fn certificates_are_held_against_the_state() {
    use crate::fleet::certificates::tests::known;
    let site = site(1);
    let judged = |change: &dyn Fn(&mut Known)| {
        let mut known = known("site/shop.example.com", &["shop.example.com"]);
        change(&mut known);
        let id = known.id.clone();
        let overview = Overview { certificates: vec![known], state: true, ..Overview::default() };
        let mut wanted = wanted(&site);
        wanted.get_mut(&name("lb1")).unwrap().certificates.insert(id);
        let (observed, away, earlier, memory) = (fleet(&site), BTreeMap::new(), BTreeMap::new(), Memory::at(NOW));
        let seen = Seen { site: &site, observed: &observed, away: &away, earlier: &earlier, memory: &memory, now: NOW };
        let view = judge(EDGE, Facts { seen, wanted: &wanted, overview: &overview, clocks: &clocks(&observed) });
        view.findings.into_iter().map(|finding| (finding.what, finding.minor)).collect::<Vec<_>>()
    };
    assert!(judged(&|_| ()).is_empty());
    let other = judged(&|known| known.life.as_mut().unwrap().not_after += DAY);
    let words = "shows another certificate of shop.example.com than the one in use";
    assert_eq!(other, [(words.to_owned(), false), (words.to_owned(), false)], "both load balancers show it");
    let due = |failures: u32| {
        judged(&|known| {
            known.next = crate::service::certificates::schedule::Decision::Order { why: "old".into(), from: 0 };
            (known.failures, known.last_failure) = (failures, Some("the CA said no".into()));
        })
    };
    assert_eq!(due(0), [("the certificate of shop.example.com is due".to_owned(), true)]);
    let failing = "the certificate of shop.example.com is due, and could not be renewed: the CA said no";
    assert_eq!(due(1), [(failing.to_owned(), false)]);
    assert_eq!(
        judged(&|known| known.life = None),
        [("the certificate of shop.example.com is not there yet".to_owned(), false)]
    );
}

#[test]
fn what_was_read_is_remembered_for_a_while() {
    let state = tempfile::tempdir().unwrap();
    let site = Site { state: state.path().to_owned(), ..site(1) };
    let mut remembered = remembered::Remembered::of(&site);
    let parts = BTreeMap::from([("edge".to_owned(), serde_json::json!({ "count": 7 }))]);
    remembered.take(
        &site,
        NOW,
        BTreeMap::from([("lb1".parse().unwrap(), parts.clone()), ("gone".parse().unwrap(), parts)]),
    );
    remembered.keep(&site).unwrap();
    let kept = remembered::Remembered::of(&site);
    assert_eq!(kept.usable(NOW + 5).len(), 2);
    // However often it is looked, one of two readings is old enough.
    let mut often = kept.clone();
    let number = |of: &remembered::Remembered, now: i64| of.usable(now)[&name("lb1")]["edge"]["count"].as_i64();
    for second in 1..40 {
        let parts = BTreeMap::from([("edge".to_owned(), serde_json::json!({ "count": second }))]);
        often.take(&site, NOW + second, BTreeMap::from([(name("lb1"), parts)]));
        let age = second - number(&often, NOW + second + 2).unwrap_or(0);
        assert!(second < 4 || (0..=5).contains(&age), "{second}: {age}");
    }
    assert!(kept.usable(NOW + 1).is_empty() && kept.usable(NOW + 600).is_empty() && kept.usable(NOW - 9).is_empty());
    let other = Site { name: "blog".parse().unwrap(), ..site.clone() };
    assert!(remembered::Remembered::of(&other).usable(NOW + 5).is_empty());
    fs_err::write(state.path().join("status.json"), "{").unwrap();
    assert!(remembered::Remembered::of(&site).usable(NOW + 5).is_empty(), "a damaged hint is none");
    let nowhere = Site { state: state.path().join("none"), ..site };
    remembered.keep(&nowhere).unwrap();
    assert!(!nowhere.state.exists(), "a look makes no state folder");
}
