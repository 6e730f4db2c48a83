//! The main job: bare hosts to a page through three tiers, twice is nothing, measured flows.
#[path = "../common/bench.rs"]
mod bench;

use bench::Bench;

#[test]
fn bare_hosts_to_a_page_and_twice_is_nothing() {
    let bench = Bench::applied("t-demo");
    let (status, body) = bench.page("https://shop.example.com/");
    assert_eq!(status, 200, "{body}");
    assert!(body.contains("x-forwarded-proto: https"), "{body}");
    let said = bench.apply().expect(0);
    assert!(said.out.contains("nothing to do"), "{}", said.out);
    bench.infra(&["diff"]).expect(0);
    let said = bench.infra(&["firewall", "verify"]).expect(0);
    assert!(said.out.contains("exactly what is declared"), "{}", said.out);
}
