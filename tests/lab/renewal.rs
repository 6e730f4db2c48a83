//! A certificate is renewed while people read: 200 requests a second from outside, over both versions of HTTP, over new
//! connections and kept ones, to both load balancers and over both families, or as many as the machine can do. Every one is
//! answered, and around every reload every client is.
#![expect(clippy::print_stdout, reason = "a test")]

#[path = "../common/bench.rs"]
mod bench;
#[path = "../common/campaign.rs"]
mod campaign;
#[path = "../common/load.rs"]
mod load;

use std::net::IpAddr;
use std::time::{Duration, Instant};

use bench::Bench;
use campaign::amount;
use infra::lab::Release;
use load::{Count, Load, Order};

const SITE: &str = "shop.example.com";
const PAGE: &str = "the shop\n";
/// Requests a second that are sent, where the machine can do as many.
const RATE: u32 = 200;

/// Two load balancers and one web host behind them.
const INVENTORY: &str = "name: shop
ssh: { user: ops, become: sudo }
hosts:
  lb1:  { address: [10.0.1.11, \"fd00:0:0:1::11\"], roles: [lb], public: [203.0.113.11, \"2001:db8:113::11\"] }
  lb2:  { address: [10.0.1.12, \"fd00:0:0:1::12\"], roles: [lb], public: [203.0.113.12, \"2001:db8:113::12\"] }
  web1: { address: [10.0.2.11, \"fd00:0:0:2::11\"], roles: [web] }
firewall: { manage_from: [10.0.0.0/24, \"fd00::/64\"] }
sites:
  shop.example.com: { aliases: [www.shop.example.com], static: { root: /srv/shop/public, prefix: / } }
certificates: { issuer: letsencrypt, contact: ops@example.com }
";

fn order(bench: &Bench) -> Order {
    let public: Vec<IpAddr> = bench.site().hosts.values().flat_map(|host| host.public.clone()).collect();
    assert_eq!(public.len(), 4);
    let roots = bench.lab().dir().join("outside/roots.pem");
    Order { addresses: public, name: SITE, roots, body: PAGE, rate: RATE, distance: Duration::from_millis(25) }
}

/// Waits until every client has had `more` further answers that `which` counts.
fn flows(load: &Load, more: usize, which: impl Fn(&Count) -> usize) {
    let before = load.counts();
    let met = |load: &Load| load.counts().iter().all(|(client, now)| which(now) >= which(&before[client]) + more);
    let deadline = Instant::now() + Duration::from_secs(60);
    while !met(load) {
        assert!(Instant::now() < deadline, "no {more} answers more to every client within 60 s: {:#?}", load.counts());
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// The SHA-256 of the leaf in use, as `cert status` tells it after it has seen it everywhere.
fn leaf(bench: &Bench) -> String {
    let said = bench.infra(&["cert", "status", "--json"]).expect(0);
    let line = said.out.lines().find(|l| l.contains("\"certificate\"")).unwrap();
    let event: serde_json::Value = serde_json::from_str(line).unwrap();
    event["sha256"].as_str().unwrap().to_owned()
}

#[test]
fn a_renewal_under_load_loses_no_request_on_bookworm() {
    renewal("t-renewal-12", Release::Bookworm);
}

#[test]
fn a_renewal_under_load_loses_no_request_on_trixie() {
    renewal("t-renewal-13", Release::Trixie);
}

fn renewal(lab: &str, release: Release) {
    let bench = Bench::up(lab, INVENTORY, release);
    bench.sh("web1", &format!("mkdir -p /srv/shop/public && printf '{PAGE}' >/srv/shop/public/index.html")).expect(0);
    bench.apply().expect(0);
    let old = leaf(&bench);

    let load = Load::start(bench.lab(), order(&bench));
    flows(&load, 10, |count| count.good.get(&old).copied().unwrap_or(0));
    bench.infra(&["cert", "renew", "--force", SITE]).expect(6);
    let new = leaf(&bench);
    assert_ne!(new, old);
    // Kept connections too come to show the new one: none stays with a worker of before.
    flows(&load, 10, |count| count.good.get(&new).copied().unwrap_or(0));
    // The reload of a whole apply is the same one; several in a row meet more connections at every stage of their life.
    let (began, least) = (Instant::now(), Duration::from_secs(amount("SECONDS", 0).into()));
    let mut rounds = 0;
    while rounds < 5 || began.elapsed() < least {
        rounds += 1;
        for lb in ["lb1", "lb2"] {
            bench.sh(lb, "systemctl reload haproxy").expect(0);
        }
        flows(&load, 5, Count::answered);
    }
    let (counts, lasted) = load.stop();

    let sum = |which: fn(&Count) -> usize| counts.values().map(which).sum::<usize>();
    let (sent, answered) = (sum(|c| c.sent), sum(Count::answered));
    println!("{rounds} further reloads of each load balancer");
    println!("{sent} requests in {:.1} s, {answered} answered, {} lost", lasted.as_secs_f64(), sum(|c| c.lost.len()));
    for ((kind, address), count) in &counts {
        let by_leaf = [&old, &new].map(|leaf| count.good.get(leaf).copied().unwrap_or(0));
        println!(
            "  {kind:?} {address}: {} sent, {by_leaf:?} answered, {} unsent, {} refused, {} lost",
            count.sent,
            count.unsent,
            count.refused,
            count.lost.len()
        );
    }
    for (client, count) in &counts {
        assert!(count.lost.is_empty(), "{client:?}: {:#?}", count.lost);
        assert_eq!(count.answered(), count.sent, "{client:?}");
        assert_eq!(count.good.keys().filter(|leaf| **leaf != old && **leaf != new).count(), 0, "{client:?}");
    }
}
