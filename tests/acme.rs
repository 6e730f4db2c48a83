//! Orders against a real CA on loopback: Pebble, which takes every name for proved here. What a load balancer has to do with it
//! is the lab's matter; this is about accounts, orders, advice and what is remembered.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use infra::inventory::site::{Challenge, KeyKind, SecretRef};
use infra::pki::acme::{Kind, Reason};
use infra::pki::fulfil::{self, Fate};
use infra::pki::internal_ca::{Authority, Permitted, Purpose, Wish};
use infra::pki::public::Public;
use infra::pki::public_store::PublicStore;
use infra::service::certificates::schedule::Decision;
use infra::service::certificates::wanted::{Source, Wanted};
use time::OffsetDateTime;

const SITE: &str = "shop.example.com";
/// Where a test finds the folder that its parent made for it.
const FOLDER: &str = "INFRA_TEST_ACME";

/// Runs the test once more as a process that trusts the CA's own certificate: trust is the machine's, or the environment's.
/// Gives the folder in the inner run.
fn trusting(name: &str) -> Option<PathBuf> {
    if let Some(folder) = std::env::var_os(FOLDER) {
        return Some(folder.into());
    }
    let dir = tempfile::tempdir().unwrap();
    let now = OffsetDateTime::now_utc();
    let permitted = Permitted { domains: vec!["localhost".to_owned()], networks: vec![] };
    let authority = Authority::new("loopback", permitted, now).unwrap();
    let wish = Wish {
        names: vec!["localhost".to_owned()],
        addresses: vec![],
        purpose: Purpose::Server,
        key: KeyKind::default(),
    };
    let leaf = authority.signer().unwrap().issue(&wish, now).unwrap();
    std::fs::write(dir.path().join("ca.crt"), &authority.certificate).unwrap();
    std::fs::write(dir.path().join("server.crt"), &leaf.certificate).unwrap();
    // The key itself is only told as part of the store: kept by a store, read from there.
    let key = serde_json::to_value(&leaf).unwrap()["key"].as_str().unwrap().to_owned();
    std::fs::write(dir.path().join("server.key"), key).unwrap();
    let status = Command::new(std::env::current_exe().unwrap())
        .args([name, "--exact", "--nocapture"])
        .env(FOLDER, dir.path())
        .env("SSL_CERT_FILE", dir.path().join("ca.crt"))
        .status()
        .unwrap();
    assert!(status.success(), "{name}: see above");
    None
}

/// What a CA is like.
#[derive(Default)]
struct Like<'a> {
    /// Key id and MAC key of the one external account.
    binding: Option<(&'a str, &'a str)>,
    /// Whether it offers a second profile. One that is asked for none gives any of those that it has.
    profiles: bool,
    /// Pebble's own variables.
    env: &'a [(&'a str, &'a str)],
}

struct Ca {
    child: Child,
    log: PathBuf,
    ports: (u16, u16),
    new: bool,
}

impl Drop for Ca {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn free() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl Ca {
    fn start(folder: &Path, like: &Like<'_>) -> Self {
        Self::at(folder, like, (free(), free()))
    }

    fn at(folder: &Path, like: &Like<'_>, ports: (u16, u16)) -> Self {
        let newer = std::env::var_os("INFRA_LAB_PEBBLE");
        let keys = like.binding.map(|(kid, key)| serde_json::json!({ kid: key })).unwrap_or_default();
        let mut profiles =
            serde_json::json!({ "default": { "description": "90 days", "validityPeriod": 90 * 86_400 } });
        if like.profiles {
            profiles["shortlived"] = serde_json::json!({ "description": "160 hours", "validityPeriod": 160 * 3600 });
        }
        let config = serde_json::json!({ "pebble": {
            "listenAddress": format!("127.0.0.1:{}", ports.0),
            "managementListenAddress": format!("127.0.0.1:{}", ports.1),
            "certificate": folder.join("server.crt"),
            "privateKey": folder.join("server.key"),
            "httpPort": 80,
            "tlsPort": 443,
            "ocspResponderURL": "",
            "externalAccountBindingRequired": like.binding.is_some(),
            "externalAccountMACKeys": keys,
            "profiles": if newer.is_some() { profiles } else { serde_json::Value::Null },
            "certificateValidityPeriod": 90 * 86_400,
        }});
        let path = folder.join(format!("pebble-{}.json", ports.0));
        std::fs::write(&path, config.to_string()).unwrap();
        let log = folder.join(format!("pebble-{}.log", ports.0));
        let out = std::fs::File::options().create(true).append(true).open(&log).unwrap();
        let child = Command::new(newer.clone().unwrap_or_else(|| "pebble".into()))
            .arg("-config")
            .arg(&path)
            .envs([("PEBBLE_VA_NOSLEEP", "1"), ("PEBBLE_VA_ALWAYS_VALID", "1"), ("PEBBLE_AUTHZREUSE", "0")])
            .envs([("PEBBLE_WFE_NONCEREJECT", "5")])
            .envs(like.env.iter().copied())
            .stdout(out.try_clone().unwrap())
            .stderr(out)
            .stdin(Stdio::null())
            .spawn()
            .unwrap_or_else(|e| panic!("pebble: {e}"));
        let ca = Self { child, log, ports, new: newer.is_some() };
        let deadline = Instant::now() + Duration::from_secs(20);
        while ca.get("/roots/0").is_none() {
            assert!(Instant::now() < deadline, "Pebble does not answer: {}", ca.words());
            std::thread::sleep(Duration::from_millis(50));
        }
        ca
    }

    fn words(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    /// A page of its management.
    fn get(&self, path: &str) -> Option<String> {
        let url = format!("https://localhost:{}{path}", self.ports.1);
        let ca = std::env::var_os("SSL_CERT_FILE").unwrap();
        let curl =
            Command::new("curl").args(["-qsSf", "--noproxy", "*", "--cacert"]).arg(ca).arg(url).output().unwrap();
        curl.status.success().then(|| String::from_utf8(curl.stdout).unwrap())
    }

    fn directory(&self) -> String {
        format!("https://localhost:{}/dir", self.ports.0)
    }

    fn orders(&self) -> usize {
        self.words().matches("Added order").count()
    }
}

fn wanted(folder: &Path, sources: Vec<Source>) -> Wanted {
    Wanted {
        site: SITE.to_owned(),
        names: vec![SITE.to_owned(), "www.shop.example.com".to_owned()],
        contact: Some("ops@example.com".to_owned()),
        profile: None,
        key: KeyKind::default(),
        challenge: Challenge::Http01,
        sources,
        folder: folder.to_owned(),
    }
}

fn now() -> OffsetDateTime {
    OffsetDateTime::now_utc()
}

fn fulfil(folder: &Path, wanted: &Wanted, force: bool) -> Fate {
    let store = PublicStore::open(&folder.join("state")).unwrap();
    fulfil::fulfil(&store, wanted, force, &AtomicBool::new(false), now()).unwrap()
}

fn decide(folder: &Path, wanted: &Wanted) -> Decision {
    fulfil::decide(&PublicStore::open(&folder.join("state")).unwrap(), wanted, now()).unwrap()
}

fn current(folder: &Path) -> Public {
    PublicStore::open(&folder.join("state")).unwrap().current(SITE).unwrap().unwrap()
}

#[track_caller]
fn obtained(fate: &Fate) {
    assert!(matches!(fate, Fate::Obtained { .. }), "{fate:?}");
}

#[track_caller]
fn failed(fate: &Fate, kind: Kind, words: &str) {
    let Fate::Failed { failure, .. } = fate else { panic!("{fate:?}") };
    assert!(failure.kind == kind && failure.why.contains(words), "{failure:?}");
}

/// The pause after a failure is over.
fn over(folder: &Path) {
    let path = folder.join(format!("state/acme/sites/{SITE}/record.json"));
    let mut record: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    record["wait_until"] = 0.into();
    std::fs::write(path, record.to_string()).unwrap();
}

#[test]
fn an_external_account_is_bound_once() {
    let Some(folder) = trusting("an_external_account_is_bound_once") else { return };
    let ca = Ca::start(
        &folder,
        &Like {
            binding: Some(("kid-1", "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W")),
            ..Like::default()
        },
    );
    let bound = |file: &str| Source {
        binding: Some(("kid-1".to_owned(), SecretRef::File(file.into()))),
        ..Source::new(&ca.directory())
    };
    failed(
        &fulfil(&folder, &wanted(&folder, vec![Source::new(&ca.directory())]), false),
        Kind::Refused,
        "asks for an external account",
    );
    over(&folder);
    failed(&fulfil(&folder, &wanted(&folder, vec![bound("eab")]), false), Kind::Ours, "`eab` is in");
    over(&folder);
    std::fs::write(folder.join("eab"), "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\n").unwrap();
    let fate = fulfil(&folder, &wanted(&folder, vec![bound("eab")]), false);
    failed(&fate, Kind::Refused, "");
    assert!(!format!("{fate:?}").contains("AAAAAAAA"), "{fate:?}");
    over(&folder);
    std::fs::write(folder.join("eab"), "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W\n").unwrap();
    let wanted = wanted(&folder, vec![bound("eab")]);
    obtained(&fulfil(&folder, &wanted, false));
    // The account is there now; its key at the CA is not needed again.
    std::fs::remove_file(folder.join("eab")).unwrap();
    obtained(&fulfil(&folder, &wanted, true));
    assert_eq!(ca.words().matches("Successful newAccount Binding").count(), 1);
    let store = PublicStore::open(&folder.join("state")).unwrap();
    assert!(store.account(&ca.directory()).unwrap().unwrap().url.contains("/my-account/"));
}

#[test]
fn a_storm_of_refused_nonces_costs_no_order() {
    let Some(folder) = trusting("a_storm_of_refused_nonces_costs_no_order") else { return };
    let ca = Ca::start(&folder, &Like { env: &[("PEBBLE_WFE_NONCEREJECT", "30")], ..Like::default() });
    let wanted = wanted(&folder, vec![Source::new(&ca.directory())]);
    for _ in 0..5 {
        obtained(&fulfil(&folder, &wanted, true));
    }
    assert_eq!(ca.orders(), 5);
}

#[test]
fn what_is_proved_already_is_not_proved_again() {
    let Some(folder) = trusting("what_is_proved_already_is_not_proved_again") else { return };
    let ca = Ca::start(&folder, &Like { env: &[("PEBBLE_AUTHZREUSE", "100")], ..Like::default() });
    let wanted = wanted(&folder, vec![Source::new(&ca.directory())]);
    obtained(&fulfil(&folder, &wanted, false));
    let looks = |ca: &Ca| ca.words().matches("authz").count().min(ca.words().matches("chalZ").count());
    let before = looks(&ca);
    obtained(&fulfil(&folder, &wanted, true));
    assert_eq!((ca.orders(), looks(&ca)), (2, before));
}

#[test]
fn a_ca_that_has_forgotten_us_gets_an_account_with_the_same_key() {
    let Some(folder) = trusting("a_ca_that_has_forgotten_us_gets_an_account_with_the_same_key") else { return };
    let ca = Ca::start(&folder, &Like::default());
    let wanted = wanted(&folder, vec![Source::new(&ca.directory())]);
    obtained(&fulfil(&folder, &wanted, false));
    let key = std::fs::read(folder.join("state/acme/account.key")).unwrap();
    let known = |folder: &Path| {
        PublicStore::open(&folder.join("state")).unwrap().account(&wanted.sources[0].directory).unwrap()
    };
    let before = known(&folder);
    let ports = ca.ports;
    drop(ca);
    // With an order under way that nobody knows any more.
    let mut journal: serde_json::Value =
        serde_json::json!({ "directory": wanted.sources[0].directory, "names": wanted.names });
    journal["url"] = format!("https://localhost:{}/my-order/forgotten", ports.0).into();
    journal["key"] = serde_json::to_value(current(&folder)).unwrap()["key"].clone();
    std::fs::write(folder.join(format!("state/acme/sites/{SITE}/order.json")), journal.to_string()).unwrap();
    failed(&fulfil(&folder, &wanted, true), Kind::Outage, "onnect");
    over(&folder);
    let ca = Ca::at(&folder, &Like::default(), ports);
    let first = current(&folder).sha256;
    obtained(&fulfil(&folder, &wanted, true));
    assert_ne!(current(&folder).sha256, first);
    assert_eq!(std::fs::read(folder.join("state/acme/account.key")).unwrap(), key);
    assert_ne!(known(&folder), before);
    assert_eq!(ca.orders(), 2, "one before and one after the restart");
}

#[test]
fn a_second_ca_is_asked_when_the_first_has_failed_for_days() {
    let Some(folder) = trusting("a_second_ca_is_asked_when_the_first_has_failed_for_days") else { return };
    let ca = Ca::start(&folder, &Like::default());
    let dead = format!("https://localhost:{}/dir", free());
    let second = Source { after: time::Duration::days(3), ..Source::new(&ca.directory()) };
    let wanted = Wanted { profile: Some("shortlived".to_owned()), ..wanted(&folder, vec![Source::new(&dead), second]) };
    failed(&fulfil(&folder, &wanted, false), Kind::Outage, "");
    assert!(matches!(fulfil(&folder, &wanted, false), Fate::Deferred { .. }));
    assert_eq!(ca.orders(), 0);
    // Three days later; the first is tried once more and fails, and nobody waits for the second.
    let path = folder.join(format!("state/acme/sites/{SITE}/record.json"));
    let mut record: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    record["since"] = (now().unix_timestamp() - 3 * 86_400).into();
    record["wait_until"] = 0.into();
    std::fs::write(path, record.to_string()).unwrap();
    obtained(&fulfil(&folder, &wanted, false));
    assert_eq!(current(&folder).directory, Some(ca.directory()));
    assert!(matches!(decide(&folder, &wanted), Decision::Good { .. }));
    assert_eq!(ca.orders(), 1);
}

#[test]
fn a_profile_and_the_cas_advice_are_followed_where_they_are_offered() {
    let Some(folder) = trusting("a_profile_and_the_cas_advice_are_followed_where_they_are_offered") else { return };
    let ca = Ca::start(&folder, &Like { profiles: true, ..Like::default() });
    let plain = wanted(&folder, vec![Source::new(&ca.directory())]);
    let odd = Wanted { profile: Some("odd".to_owned()), ..plain.clone() };
    let short = Wanted { profile: Some("shortlived".to_owned()), ..plain.clone() };
    let consult = |wanted: &Wanted| {
        let store = PublicStore::open(&folder.join("state")).unwrap();
        fulfil::consult(&store, wanted, &AtomicBool::new(false), now()).unwrap();
        store.advice(SITE).unwrap()
    };
    if !ca.new {
        failed(&fulfil(&folder, &odd, false), Kind::Ours, "offers no profiles");
        over(&folder);
        obtained(&fulfil(&folder, &plain, false));
        assert_eq!(consult(&plain).unwrap().at, None);
        if let Some(list) = std::env::var_os("INFRA_TESTS_SKIPPED") {
            use std::io::Write as _;
            let mut list = std::fs::File::options().append(true).create(true).open(list).unwrap();
            writeln!(list, "acme profiles and advice: they need a newer Pebble (INFRA_LAB_PEBBLE)").unwrap();
        }
        return;
    }
    failed(&fulfil(&folder, &odd, false), Kind::Ours, "offers no profile `odd`; it offers ");
    over(&folder);
    obtained(&fulfil(&folder, &short, false));
    let first = current(&folder);
    assert_eq!((first.life.not_after - first.life.not_before + 1) / 3600, 160);
    // The CA's own window, and the moment in it that was chosen, once.
    let advice = consult(&short).unwrap();
    let at = advice.at.unwrap();
    assert!((first.life.not_before..first.life.not_after).contains(&at), "{advice:?}");
    assert_eq!(consult(&short), Some(advice));
    assert!(matches!(decide(&folder, &short), Decision::Good { until, .. } if until == at.min(first.life.pressing())));
    // A renewal says what it replaces.
    // Pebble finds no certificate whose serial number begins with a zero byte in DER (one in some hundreds), and is then asked
    // without: so there is a second renewal, of another one.
    let replaced = (0..3).any(|_| {
        obtained(&fulfil(&folder, &short, true));
        ca.words().contains("is a replacement of")
    });
    assert!(replaced, "{}", ca.words());
    // Another profile is another certificate.
    assert!(matches!(decide(&folder, &plain), Decision::Order { why, .. } if why == "another profile is wanted"));
}

#[test]
fn what_was_revoked_is_due() {
    let Some(folder) = trusting("what_was_revoked_is_due") else { return };
    let ca = Ca::start(&folder, &Like::default());
    let wanted = wanted(&folder, vec![Source::new(&ca.directory())]);
    obtained(&fulfil(&folder, &wanted, false));
    let first = current(&folder);
    let revoke = |certificate: &Public| {
        let store = PublicStore::open(&folder.join("state")).unwrap();
        fulfil::revoke(&store, &wanted, certificate, Reason::Superseded, &AtomicBool::new(false))
    };
    revoke(&first).unwrap();
    let pem = folder.join("first.pem");
    std::fs::write(&pem, &first.chain).unwrap();
    let serial = Command::new("openssl").args(["x509", "-noout", "-serial", "-in"]).arg(&pem).output().unwrap();
    let serial = String::from_utf8(serial.stdout).unwrap().trim().replace("serial=", "").to_lowercase();
    let status = ca.get(&format!("/cert-status-by-serial/{serial}")).unwrap();
    assert!(status.contains("\"Revoked\"") && status.contains('4'), "{status}");
    // Once more is the same.
    revoke(&current(&folder)).unwrap();
    assert!(matches!(decide(&folder, &wanted), Decision::Order { why, .. } if why == "it was revoked"));
    obtained(&fulfil(&folder, &wanted, false));
    assert!(matches!(decide(&folder, &wanted), Decision::Good { .. }));
}

#[test]
fn an_interrupt_ends_an_order_at_once_and_loses_nothing() {
    let Some(folder) = trusting("an_interrupt_ends_an_order_at_once_and_loses_nothing") else { return };
    let slow = [("PEBBLE_VA_NOSLEEP", "0"), ("PEBBLE_VA_SLEEPTIME", "60"), ("PEBBLE_VA_ALWAYS_VALID", "0")];
    let ca = Ca::start(&folder, &Like { env: &slow, ..Like::default() });
    let wanted = wanted(&folder, vec![Source::new(&ca.directory())]);
    let stop = AtomicBool::new(false);
    let began = Instant::now();
    let fate = std::thread::scope(|scope| {
        scope.spawn(|| {
            while ca.orders() == 0 && began.elapsed() < Duration::from_secs(20) {
                std::thread::sleep(Duration::from_millis(20));
            }
            stop.store(true, Ordering::Relaxed);
        });
        fulfil::fulfil(&PublicStore::open(&folder.join("state")).unwrap(), &wanted, false, &stop, now()).unwrap()
    });
    failed(&fate, Kind::Stopped, "interrupted");
    // Long before the CA has looked, and nobody has to wait because of it.
    assert!(began.elapsed() < Duration::from_secs(30));
    assert!(matches!(decide(&folder, &wanted), Decision::Order { .. }));
    let journal = std::fs::read_to_string(folder.join(format!("state/acme/sites/{SITE}/order.json"))).unwrap();
    assert!(journal.contains("https://localhost:"), "the order's place is not kept");
}
