use super::*;
use crate::fleet::status::tests::{NOW, fleet, name, site, view};
use crate::plan::state::ObservedFleet;

/// Of many web hosts: one is away, one has a unit that failed, one a file that was changed.
fn troubled(webs: usize) -> (Site, ObservedFleet) {
    let site = site(webs);
    let mut fleet = fleet(&site);
    fleet.remove(&name("web2"));
    fleet.get_mut(&name("web3")).unwrap().units.get_mut("x.service").unwrap().active = "failed".into();
    fleet.get_mut(&name("web4")).unwrap().files.clear();
    fleet.get_mut(&name("lb1")).unwrap().held.insert("x.service".into());
    (site, fleet)
}

fn narrow(text: &str) {
    let wide = text.lines().find(|line| line.chars().count() > SCREEN);
    assert!(wide.is_none(), "{wide:?}");
}

#[test]
fn a_small_fleet_reads_well() {
    let small = site(2);
    let seen = view(&small, &fleet(&small));
    for_browsers("small", &page::draw(&small, &seen).unwrap());
    let good = draw(&small, &seen, Paint::default());
    narrow(&good);
    insta::assert_snapshot!("status_good", good);
    let (site, fleet) = troubled(4);
    let bad = draw(&site, &view(&site, &fleet), Paint::default());
    narrow(&bad);
    insta::assert_snapshot!("status_bad", bad);
}

#[test]
fn two_hundred_hosts_are_one_screen_and_the_worst_come_first() {
    let (site, fleet) = troubled(198);
    let text = draw(&site, &view(&site, &fleet), Paint::default());
    narrow(&text);
    assert!(text.lines().count() < 40, "{text}");
    let at = |word: &str| text.find(word).unwrap_or_else(|| panic!("no `{word}` in\n{text}"));
    assert!(
        at("\n  web2 ") < at("\n  web3 ") && at("\n  web3 ") < at("\n  web4 ") && at("\n  web4 ") < at("web[5-198]")
    );
    assert!(text.starts_with("shop: 200 hosts, 1 away, 2 with something wrong"), "{text}");
    // All of them are wrong in the same way.
    let every = fleet.keys().map(|host| (host.clone(), crate::fleet::status::tests::well()));
    let every: ObservedFleet = every
        .map(|(host, mut seen)| {
            seen.units.clear();
            (host, seen)
        })
        .collect();
    let text = draw(&site, &view(&site, &every), Paint::default());
    narrow(&text);
    assert!(text.lines().count() < 80, "{text}");
}

#[test]
fn figures_have_the_format_of_a_textfile() {
    let (site, fleet) = troubled(4);
    let text = figures::draw(&site, &view(&site, &fleet));
    insta::assert_snapshot!("status_figures", text);
    assert!(text.contains("infra_host_up{host=\"web2\",role=\"web\"} 0"), "{text}");
}

#[test]
fn a_label_cannot_end_its_quotes() {
    let small = site(1);
    let mut seen = view(&small, &fleet(&small));
    let odd = "a\"} 1\nevil 2\\".to_owned();
    seen.hosts.get_mut(&name("web1")).unwrap().units[0].unit = odd;
    let text = figures::draw(&small, &seen);
    assert!(text.contains(r#"unit="a\"} 1\\nevil 2\\""#), "{text}");
    assert!(!text.lines().any(|line| line.starts_with("evil")), "{text}");
}

#[test]
fn a_page_holds_the_whole_fleet_and_needs_nothing_else() {
    let (site, fleet) = troubled(198);
    let page = page::draw(&site, &view(&site, &fleet)).unwrap();
    for_browsers("large", &page);
    assert!(page.len() < 1 << 20, "{} bytes", page.len());
    for host in site.hosts.keys() {
        assert!(page.contains(&format!("{host}</strong>")), "{host}");
    }
    for word in ["<script", "javascript:", "src=", "href=", "@import", "url(http", " on"] {
        let at = page.find(word).filter(|_| word != " on" || page.contains(" onload=") || page.contains(" onclick="));
        assert!(at.is_none(), "`{word}` in the page");
    }
    for word in
        ["prefers-color-scheme: dark", "width=device-width", "web2: cannot be reached: no route to host", "<svg"]
    {
        assert!(page.contains(word), "no `{word}` in the page");
    }
    well_formed(&page);
}

#[test]
fn each_hop_between_tiers_is_drawn() {
    let text = include_str!("../../../inventories/full.yml").replace("from: app", "from: web");
    let full = crate::inventory::load::load_text(&text, std::path::Path::new("inventory.yml"));
    let full = full.unwrap_or_else(|e| panic!("{e:?}")).0;
    let mut seen = view(&full, &fleet(&full));
    seen.passes.push(crate::plan::said::Passes {
        from: Some(crate::inventory::site::Role::Web),
        to: crate::inventory::site::Role::Db,
        words: "14 sessions".to_owned(),
    });
    seen.certificates.push(crate::fleet::status::CertificateView {
        host: name("web1"),
        site: None,
        not_after: NOW + 86_400 * 9,
    });
    seen.certificates.push(crate::fleet::status::CertificateView {
        host: name("web2"),
        site: None,
        not_after: NOW + 86_400 * 60,
    });
    let page = page::draw(&full, &seen).unwrap();
    for_browsers("tiers", &page);
    // The internet to the edge, the edge to web, web to app, and past it to the databases.
    assert_eq!(page.matches("class=\"hop\"").count(), 5, "{page}");
    for word in [
        "web to db · 3306, 9306 · 14 sessions",
        "TLS, a certificate ends in 9 d",
        "TLS: no certificate is known",
        "db · 2 hosts",
    ] {
        assert!(page.contains(word), "no `{word}` in {page}");
    }
    well_formed(&page);
}

#[test]
fn what_a_host_says_is_text_in_the_page() {
    let small = site(1);
    let mut seen = view(&small, &fleet(&small));
    let evil = "</strong><script>alert('1')</script>\u{202e}\"&<img src=x>";
    let web = seen.hosts.get_mut(&name("web1")).unwrap();
    web.words = vec![evil.to_owned()];
    web.away = Some(evil.to_owned());
    seen.findings.push(crate::plan::said::Finding { host: None, what: evil.into(), help: evil.into(), minor: true });
    seen.passes.push(crate::plan::said::Passes {
        from: None,
        to: crate::inventory::site::Role::Lb,
        words: evil.into(),
    });
    let page = page::draw(&small, &seen).unwrap();
    for_browsers("hostile", &page);
    assert!(!page.contains("<script") && !page.contains("<img") && !page.contains('\u{202e}'), "{page}");
    assert!(page.contains("&lt;script&gt;"), "{page}");
    well_formed(&page);
}

/// `tests/browser` looks at the pages of these tests, which it finds in the folder that it names.
fn for_browsers(name: &str, page: &str) {
    if let Some(folder) = std::env::var_os("INFRA_PAGES") {
        fs_err::write(std::path::Path::new(&folder).join(format!("{name}.html")), page).unwrap();
    }
}

/// Every element that is opened is closed, in order.
fn well_formed(page: &str) {
    const VOID: [&str; 2] = ["meta", "!doctype"];
    let mut open: Vec<&str> = Vec::new();
    let mut rest = page;
    while let Some((_, after)) = rest.split_once('<') {
        let (tag, after) = after.split_once('>').unwrap_or_else(|| panic!("a tag does not end: {after:.80}"));
        rest = after;
        let name = tag.trim_start_matches('/').split([' ', '/']).next().unwrap();
        if tag.starts_with('/') {
            assert_eq!(open.pop(), Some(name), "{tag}");
        } else if !tag.ends_with('/') && !VOID.contains(&name) {
            open.push(name);
        }
        if name == "style" && !tag.starts_with('/') {
            rest = &rest[rest.find("</style").unwrap()..];
        }
    }
    assert!(open.is_empty(), "{open:?}");
}

#[test]
fn every_line_is_of_the_schema() {
    let (site, fleet) = troubled(4);
    let seen = view(&site, &fleet);
    let host = &seen.hosts[&name("web3")];
    let line = crate::report::line::Line::HostStatus(Box::new(lines::HostLine::of(host, &seen)));
    let value = serde_json::to_value(line).unwrap();
    assert_eq!((value["event"].as_str(), value["host"].as_str()), (Some("host_status"), Some("web3")));
    assert_eq!((value["good"].as_bool(), value["roles"][0].as_str()), (Some(false), Some("web")));
    let whole = crate::report::line::Line::Status(lines::StatusLine::of(&site, &seen, 4));
    let whole = serde_json::to_value(whole).unwrap();
    assert_eq!((whole["away"].as_u64(), whole["wrong"].as_u64(), whole["exit"].as_u64()), (Some(1), Some(2), Some(4)));
    assert_eq!(whole["now"].as_i64(), Some(NOW));
    let schema = crate::report::line::schema();
    let validator = jsonschema::validator_for(&schema).unwrap();
    for value in [value, whole] {
        assert!(validator.is_valid(&value), "{value}");
    }
}

#[test]
fn a_thousand_hosts_are_no_burden() {
    let (site, fleet) = troubled(998);
    let seen = view(&site, &fleet);
    let text = draw(&site, &seen, Paint::default());
    assert!(text.lines().count() < 40, "{text}");
    assert!(page::draw(&site, &seen).unwrap().len() < 2 << 20);
}
