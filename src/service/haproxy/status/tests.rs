use super::*;
use crate::inventory::load::load_text;
use crate::plan::decision::Memory;
use crate::plan::state::{Facts, ObservedFleet};
use crate::service::status::Earlier;

/// What HAProxy 2.6 of bookworm says, as far as the lines are kept.
fn answer(at: &str, pid: u64, requests: u64, errors: u64) -> String {
    format!(
        "at {at}\nPid: {pid}\nUptime_sec: 18\nStart_time_sec: 1795707880\n\
         # table: per_site, type: string, size:1024, used:1\n0x55777ffe84b8: key=a.example.com use=0 exp=0 http_req_cnt={requests} gpc0=0 gpc1={} gpc2=0 gpc3=0 gpc4={errors}\n\
         web,web1,0,0,0,1,,{requests},332,364,,0,,1,0,3,0,UP,1,1,0,3,1,0,0,,1,4,1,,4,,2,1,,1,L7OK,200,\n\
         web,web2,0,0,0,1,,0,252,651,,0,,3,0,9,0,DOWN,1,1,0,,,18,,,1,4,2,,3,,2,0,,2,L4CON,,\n",
        requests - errors
    )
}

const LOADED: &str = "> Filename: /etc/haproxy/sites/a.example.com.pem\nnotAfter: Dec 26 15:45:54 2026 GMT\n";

fn tell_of(answers: &str, before: Option<&str>) -> Said {
    let text = "name: shop
hosts:
  lb1: { address: 10.0.1.11, roles: [lb] }
  web1: { address: 10.0.1.12, roles: [web] }
firewall: { manage_from: [10.0.0.0/24] }
sites: { a.example.com: { static: { root: /srv/x, prefix: / } } }
certificates: { issuer: internal }
";
    let site = load_text(text, std::path::Path::new("inventory.yml")).unwrap_or_else(|e| panic!("{e:?}")).0;
    let seen = |text: &str| {
        let mut observed = Observed::bare(Facts::of_release("debian", "12"));
        read(text, &mut observed);
        observed
    };
    let name: HostName = "lb1".parse().unwrap();
    let observed = ObservedFleet::from([(name.clone(), seen(answers))]);
    let earlier: Earlier = before.map(|text| (name, seen(text).passing)).into_iter().collect();
    let (away, memory) = (BTreeMap::new(), Memory::at(0));
    tell(&Seen { site: &site, observed: &observed, away: &away, earlier: &earlier, memory: &memory, now: 0 })
}

fn lately(said: &Said) -> Option<Lately> {
    said.traffic[0].lately
}

#[test]
fn a_rate_is_of_two_reads_of_the_same_worker() {
    let (first, last) = (answer("100.00", 7, 40, 0), answer("101.25", 7, 90, 10));
    let twice = tell_of(&format!("{first}{last}{LOADED}"), None);
    let counted = Some(Lately { milliseconds: 1250, requests: 50, answers: [0, 40, 0, 0, 10] });
    assert_eq!(lately(&twice), counted);
    assert_eq!((twice.traffic[0].requests, twice.traffic[0].answers), (90, [0, 80, 0, 0, 10]));
    assert_eq!(twice.words[&"lb1".parse::<HostName>().unwrap()], ["40.0 requests/s"]);
    assert_eq!(twice.passes.len(), 2);
    // From what was remembered.
    assert_eq!(lately(&tell_of(&last, Some(&first))), counted);
    // Another worker's counters began with it; a kernel's clock that went back is another boot's.
    let whole = Some(Lately { milliseconds: 18_000, requests: 90, answers: [0, 80, 0, 0, 10] });
    assert_eq!(lately(&tell_of(&last, Some(&answer("100.00", 6, 40, 0)))), whole);
    assert_eq!(lately(&tell_of(&last, Some(&answer("900.00", 7, 40, 0)))), whole);
    let young = answer("101.25", 7, 90, 10).replace("Uptime_sec: 18", "Uptime_sec: 0");
    assert_eq!(lately(&tell_of(&young, None)), None);
}

#[test]
fn a_load_balancer_that_does_not_count_tells_no_rate() {
    let old = answer("1.00", 7, 1, 0).replace("# table", "? table");
    let said = tell_of(&old, None);
    assert!(said.traffic.is_empty() && said.words.is_empty(), "{said:?}");
    assert_eq!(said.passes.len(), 1, "it counts what goes to its servers all the same");
}

#[test]
fn servers_that_are_down_and_certificates_are_told() {
    let said = tell_of(&format!("{}{LOADED}", answer("1.00", 7, 1, 0)), None);
    let down: Vec<&str> = said.findings.iter().map(|finding| finding.what.as_str()).collect();
    assert_eq!(down, ["sends nothing to web2, which it sees as DOWN L4CON"]);
    assert_eq!(said.certificates[0].not_after, clock("Dec 26 15:45:54 2026 GMT"));
    assert!(said.certificates[0].not_after.is_some());
    let none = tell_of(&answer("1.00", 7, 1, 0), None);
    assert_eq!(none.certificates[0].not_after, None);
}

#[test]
fn a_site_that_is_closed_is_told() {
    let inventory = "name: shop
hosts:
  lb1: { address: 10.0.1.11, roles: [lb] }
  web1: { address: 10.0.1.12, roles: [web] }
firewall: { manage_from: [10.0.0.0/24] }
sites:
  a.example.com: { static: { root: /srv/x, prefix: / }, maintenance: true }
  b.example.com: { static: { root: /srv/y, prefix: / }, maintenance: { retry_after: 30m } }
  c.example.com: { static: { root: /srv/z, prefix: / }, maintenance: false }
certificates: { issuer: internal }
";
    let said = crate::service::status::tests::told(inventory, GAUGE, &[], tell);
    let closed: Vec<&str> = said.findings.iter().map(|finding| finding.what.as_str()).collect();
    let words = ["a.example.com", "b.example.com"].map(|name| format!("{name} is under maintenance: visitors get 503"));
    assert_eq!(closed, words);
    assert!(said.findings.iter().all(|finding| finding.minor));
}

#[test]
fn room_that_is_nearly_taken_is_told() {
    for (are, most, told) in [(89, 100, false), (90, 100, true), (100, 100, true), (5, 0, false)] {
        let said = tell_of(&answer(&format!("1.00\nCurrConns: {are}\nMaxconn: {most}"), 7, 1, 0), None);
        let words = format!("has {are} of the {most} connections that it has room for");
        let finding = said.findings.iter().find(|finding| finding.what == words);
        assert_eq!((finding.is_some(), finding.is_some_and(|one| one.minor)), (told, told && are < most), "{words}");
    }
}

#[test]
fn any_answer_reads() {
    for text in
        ["", "at x\n", "at 1.5\n0x\nweb,\n", "0x1: key= http_req_cnt=-1\n", "at 9.99\nweb,a,1\nPid: x\n> notAfter: y\n"]
    {
        let said = tell_of(text, None);
        assert!(said.figures.is_empty(), "{text}");
    }
    assert_eq!(tell_of("nothing of it\n", None), Said::default());
}

proptest::proptest! {
    #[test]
    fn no_answer_panics(text in "(at |0x1: |key=|gpc1=|http_req_cnt=|web,|Pid: |Uptime_sec: |Filename: |notAfter: |[0-9]{0,20}|[ a-z.,\n]{0,6}){0,30}") {
        let _ = tell_of(&text, Some(&text));
    }
}
