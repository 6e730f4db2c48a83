//! A public CA that misbehaves in every way that we know of: whatever it does, the load balancers go on with the certificate
//! that they have, nothing is asked before its time, no order is made twice, and the run after it is mended ends right.
//!
//! The cases of ACME that are hostile, and where each is tested with real parts:
//! - killed after newAccount, newOrder, finalize, before the installation, between two load balancers; a load balancer that was
//!   built anew: `lab/acme.rs`
//! - rate limits, a CA that is down in four ways, a storm of refused nonces, invalid authorizations, `replaces` refused, the CA's
//!   advice, a wrong clock on the controller, chains and leaves that do not fit, a CA that has forgotten us: here; nonces, what is
//!   proved already, a second CA, a forgotten order and profiles also without machines: `acme.rs`
//! - two controllers, a holder that dies, load balancers that are gone before and at the installation, full disks, a new worker that
//!   does not start: `lab/mishaps.rs`
//! - the internal authority near its end, and its replacement: `lab/tls.rs`, `pki/tests.rs`; lifetimes that shrink: `service/certificates/schedule.rs`
//!
//! Not testable here:
//! - a load balancer whose clock is behind: all of a lab's machines have one kernel and so one clock, since namespaces know none for
//!   `CLOCK_REALTIME` (`time_namespaces`(7))
//! - a read-only file system is met as a full disk is, by the same write before the order; root, as whom all runs in a lab, is not
//!   stopped by permissions
#![expect(clippy::unwrap_used, reason = "a test")]

#[path = "../common/bench.rs"]
mod bench;
#[path = "../common/checks.rs"]
mod checks;
#[path = "../common/strange.rs"]
mod strange;
#[path = "../common/world.rs"]
mod world;

use std::time::{Duration, Instant};

use checks::Check;
use serde_json::json;
use world::{BLOG, SITE, World};

#[test]
fn whatever_the_ca_does_the_old_certificate_is_served_and_the_next_run_ends_right() {
    let world = World::up("t-hostile-ca");
    let all: [Check<World>; 10] = [
        ("rate limits", limits),
        ("a CA that is down", outages),
        ("the pauses after failures", pauses),
        ("clocks", clocks),
        ("refused nonces", nonces),
        ("wrong chains", chains),
        ("one bad site of two", one_bad_site),
        ("advice", advice),
        ("a CA that has forgotten us", forgotten),
        ("nothing secret was told", World::nothing_secret_was_told),
    ];
    checks::run(&world, &all, World::mend);
}

/// Row «rate limited»: by account (429) and by address (503 with a page): the time that was told is kept, also over runs.
fn limits(world: &World) {
    let page = "<html><body>Service busy; retry later.</body></html>";
    for (what, answer) in [
        (
            "429",
            json!({ "on": "newOrder", "status": 429, "problem": "rateLimited", "headers": { "Retry-After": "7200" },
            "detail": "too many certificates (5) already issued for this exact set of identifiers" }),
        ),
        ("503", json!({ "on": "*", "status": 503, "html": page, "headers": { "Retry-After": "7200" } })),
    ] {
        let (leaf, orders) = (world.leaf(), world.ca.orders());
        world.ca.does(&json!({ "answer": answer }));
        let before = World::now();
        let said = world.force(7);
        assert!(said.err.contains(if what == "429" { "too many certificates" } else { "503" }), "{}", said.err);
        let until = world.record()["wait_until"].as_i64().unwrap();
        assert!((before + 7200..=World::now() + 7200).contains(&until), "{what}: {}", until - before);
        // The CA is well again, and is left in peace all the same: by force, and where the certificate is due.
        world.ca.does(&json!({}));
        let asked = world.ca.requests().len();
        assert!(world.force(7).err.contains("waits until"), "{what}");
        world.due(SITE);
        assert!(world.renew(7).err.contains("waits until"), "{what}");
        assert_eq!(
            (world.ca.requests().len(), world.leaf(), world.ca.orders()),
            (asked, leaf.clone(), orders),
            "{what}"
        );
        world.infra(&["cert", "status"], 1);
        // Its time comes.
        world.over();
        world.renew(6);
        assert_eq!(world.ca.orders(), orders + 1, "{what}");
        assert_ne!(world.leaf(), leaf);
        assert!(world.record().is_null());
    }
    world.infra(&["cert", "status"], 0);
}

/// Row «CA down»: refused, a TLS error, a page of HTML, no answer at all.
fn outages(world: &World) {
    let leaf = world.leaf();
    let orders = world.ca.orders();
    let html = json!({ "answer": { "on": "*", "status": 500, "html": "<html>oops</html>" } });
    for (control, words) in [
        (html, "500"),
        (json!({ "foreign": true }), "certificate"),
        (json!({ "hang": "directory" }), "no answer within"),
        (json!(null), "onnect"),
    ] {
        if control.is_null() {
            world.ca.stop();
        } else {
            world.ca.does(&control);
        }
        let (began, before) = (Instant::now(), World::now());
        let said = world.force(7);
        assert!(said.err.contains(words), "{control}: {}", said.err);
        assert!(began.elapsed() < Duration::from_secs(90), "{control}");
        let until = world.record()["wait_until"].as_i64().unwrap();
        assert!((before + 60..=World::now() + 60).contains(&until), "{control}: {}", until - before);
        world.over();
        // What is left of life decides whether somebody should look.
        if words == "500" {
            world.pressing(SITE, || drop(world.renew(1)));
        }
        world.forget_failures();
        world.ca.does(&json!({}));
    }
    world.ca.again();
    assert_eq!((world.leaf(), world.ca.orders()), (leaf.clone(), orders));
    world.force(6);
    assert_ne!(world.leaf(), leaf);
}

/// The pauses grow, are kept over runs, and end with the first success.
fn pauses(world: &World) {
    world.ca.stop();
    for pause in [60, 600, 6000, 86_400, 86_400] {
        let before = World::now();
        world.force(7);
        let until = world.record()["wait_until"].as_i64().unwrap();
        assert!((before + pause..=World::now() + pause).contains(&until), "{pause}: {}", until - before);
        world.over();
    }
    world.ca.again();
    world.force(6);
    assert!(world.record().is_null());
}

/// Row «clock skew on the controller»: what the CA's clock says of ours.
fn clocks(world: &World) {
    let (leaf, orders) = (world.leaf(), world.ca.orders());
    for (ahead, words) in [(7200, "behind"), (-7200, "ahead of")] {
        world.ca.does(&json!({ "clock": ahead }));
        let said = world.force(1);
        assert!(said.err.contains("clock") && said.err.contains(words), "{}", said.err);
        assert_eq!((world.leaf(), world.ca.orders()), (leaf.clone(), orders));
        world.forget_failures();
    }
    world.ca.does(&json!({ "clock": 600 }));
    let said = world.force(6);
    assert!(
        said.err.contains("clock is 10 minutes behind") || said.err.contains("clock is 9 minutes behind"),
        "{said:?}"
    );
    world.ca.does(&json!({}));
    assert_eq!(world.ca.orders(), orders + 1);
}

/// Row «badNonce storm»: each step is tried again, and no order is made twice.
fn nonces(world: &World) {
    world.ca.does(&json!({ "nonces": 40 }));
    let orders = world.ca.orders();
    world.force(6);
    assert_eq!(world.ca.orders(), orders + 1);
    let refused = world.ca.requests().iter().filter(|r| r["done"] == "problem").count();
    assert!(refused > 0);
    world.ca.does(&json!({}));
}

/// Rows «certificate for other names / staging issuer / key mismatch / notAfter older than present» and «stored chain with
/// blank lines, CRLF, missing intermediate». One that was issued before the one in use cannot be made here, as nobody would
/// vouch for it; the store refuses it (`pki/public_store.rs`).
fn chains(world: &World) {
    let leaf = world.leaf();
    let files = world.files();
    let names = json!([SITE, "www.shop.example.com"]);
    for (chain, words) in [
        (json!({ "how": "alone" }), "no intermediate"),
        (json!({ "how": "signed", "names": names, "other_key": true }), "another key"),
        (json!({ "how": "signed", "names": [SITE, "evil.example.com"] }), "evil.example.com"),
        (json!({ "how": "signed", "names": names, "issuer": "(STAGING) Wannabe Watercress R11" }), "staging"),
        // All is right about it but that no client trusts who signed it.
        (json!({ "how": "signed", "names": names }), "no authority that this machine trusts vouches for it"),
    ] {
        world.ca.does(&json!({ "chain": chain }));
        let said = world.force(1);
        assert!(said.err.contains(words), "{chain}: {}", said.err);
        // No load balancer was touched.
        assert_eq!((world.leaf(), world.files()), (leaf.clone(), files.clone()), "{chain}");
        world.forget_failures();
        world.ca.does(&json!({}));
    }
    world.infra(&["diff"], 0);
    world.force(6);
    let after = world.leaf();
    assert_ne!(after, leaf);
    world.ca.does(&json!({ "chain": { "how": "windows" } }));
    world.force(6);
    world.ca.does(&json!({}));
    assert_ne!(world.leaf(), after);
    let pem = world.bench.sh("lb1", "cat /etc/haproxy/sites/*").expect(0).out;
    assert!(!pem.contains('\r') && !pem.contains("\n\n"), "{pem}");
}

/// Row «authz invalid»: port 80 of one load balancer cannot be reached from the internet. The other site gets its certificate.
fn one_bad_site(world: &World) {
    let (shop, blog, orders) = (world.leaf(), world.leaf_of(BLOG), world.ca.orders());
    // The CA asks any address of a name: here each name has those of one load balancer.
    let dns = world.dns(&[
        ("203.0.113.11 www.", "203.0.113.12 www."),
        ("2001:db8:113::11 www.", "2001:db8:113::12 www."),
        ("203.0.113.12 shop.", "203.0.113.11 shop."),
        ("2001:db8:113::12 shop.", "2001:db8:113::11 shop."),
        ("203.0.113.12 blog.", "203.0.113.11 blog."),
        ("2001:db8:113::12 blog.", "2001:db8:113::11 blog."),
    ]);
    let filter = "nft -f - <<'E'
table inet closed { chain c { type filter hook output priority 0;
  ip daddr 203.0.113.12 tcp dport 80 reject with tcp reset
  ip6 daddr 2001:db8:113::12 tcp dport 80 reject with tcp reset
}
}
E";
    world.bench.sh("outside", filter).expect(0);
    let said = world.infra(&["cert", "renew", "--force", SITE, "--force", BLOG], 1);
    assert!(said.err.contains("www.shop.example.com") && said.err.contains("refused"), "{}", said.err);
    assert_eq!(world.leaf(), shop);
    assert_ne!(world.leaf_of(BLOG), blog, "the other site waits for the bad one: {}", said.err);
    assert_eq!(world.ca.orders(), orders + 2);
    // Not more often than the CA allows: the next run waits.
    assert!(world.force(7).err.contains("waits until"));
    assert_eq!(world.ca.orders(), orders + 2);
    world.bench.sh("outside", "nft delete table inet closed").expect(0);
    world.put_dns(&dns);
    world.forget_failures();
    world.force(6);
    assert_ne!(world.leaf(), shop);
}

/// Advice about the renewal (RFC 9773) is followed where it makes sense, and is only advice. Row «`replaces` refused».
fn advice(world: &World) {
    let orders = world.ca.orders();
    let day = 86_400;
    // A window in the future postpones nothing now, and is remembered with a moment in it.
    world.ca.does(&json!({ "advice": { "start": 20 * day, "end": 30 * day, "headers": { "Retry-After": "21600" }, "url": "https://ca.example/why" } }));
    world.forget_advice();
    let said = world.renew(0);
    assert!(said.err.contains("suggests"), "{}", said.err);
    let kept = world.kept("advice.json");
    let at = kept["at"].as_i64().unwrap() - World::now();
    assert!((20 * day - 60..=30 * day).contains(&at), "{kept}");
    // The CA is not asked before its time, and the moment stays.
    let asked = world.ca.requests().len();
    world.renew(0);
    assert_eq!((world.ca.requests().len(), world.kept("advice.json")), (asked, kept));
    // Nonsense and failures: the lifetime alone decides.
    for bad in [
        json!({ "start": -day, "end": -2 * day, "headers": { "Retry-After": "21600" } }),
        json!({ "status": 404, "start": 0, "end": 0 }),
        json!({ "status": 503, "start": 0, "end": 0, "headers": { "Retry-After": "100000000" } }),
    ] {
        world.ca.does(&json!({ "advice": bad }));
        world.forget_advice();
        world.renew(0);
        let kept = world.kept("advice.json");
        assert!(kept["at"].is_null(), "{bad}: {kept}");
        let again = kept["ask_after"].as_i64().unwrap() - World::now();
        assert!((30..=day).contains(&again), "{bad}: {again}");
    }
    world.ca.does(&json!({ "advice": { "start": -day, "end": day }, "hang": "renewalInfo" }));
    world.forget_advice();
    world.renew(0);
    assert!(world.kept("advice.json")["at"].is_null());
    assert_eq!(world.ca.orders(), orders);
    // A window that is over: now. Without a `Retry-After`, which the library takes for an error; and with a CA that has replaced
    // the certificate already, or has not.
    for (replaced, refusals) in [(false, 0), (true, 1)] {
        let (leaf, orders) = (world.leaf(), world.ca.orders());
        let before = refused(world);
        world.ca.does(&json!({ "advice": { "start": -2 * day, "end": -day }, "replaced": replaced }));
        world.forget_advice_of(SITE);
        let said = world.renew(6);
        assert!(said.err.contains("suggests"), "{}", said.err);
        assert_eq!((world.ca.orders(), refused(world) - before), (orders + 1, refusals));
        assert_ne!(world.leaf(), leaf);
    }
    world.ca.does(&json!({}));
    world.forget_advice();
}

/// How many orders were refused for what they replace.
fn refused(world: &World) -> usize {
    world.ca.requests().iter().filter(|r| r["kind"] == "newOrder" && r["status"] == 409).count()
}

/// Row «account deactivated or forgotten by the CA»: with an order under way and without.
fn forgotten(world: &World) {
    let key = std::fs::read(world.state("acme/account.key")).unwrap();
    for under_way in [true, false] {
        let leaf = world.leaf();
        if under_way {
            world.dying_at("newOrder");
        }
        let orders = world.ca.orders();
        world.trust(&world.ca.forgets());
        world.force(6);
        assert_ne!(world.leaf(), leaf);
        assert_eq!(world.ca.orders(), orders + 1);
        assert_eq!(std::fs::read(world.state("acme/account.key")).unwrap(), key);
        // The same key, the same answers: nothing to push.
        world.infra(&["diff"], 0);
    }
}
