//! The `console` blocks of the README and of `docs/`, run as they stand there. What needs a lab stands in `text` blocks, and is held
//! by `tests/lab`.

use std::path::Path;

#[test]
fn what_is_shown_is_what_is_printed() {
    trycmd::TestCases::new().case("README.md").case("docs/*.md");
}

/// The target of each link in a text of Markdown, without what stands behind `#`.
fn links(text: &str) -> impl Iterator<Item = &str> {
    text.split("](").skip(1).filter_map(|rest| rest.split([')', '#']).next()).filter(|link| !link.contains("://"))
}

#[test]
fn every_link_leads_to_a_file_and_every_page_is_led_to() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut pages: Vec<_> = std::fs::read_dir(root.join("docs")).unwrap().map(|entry| entry.unwrap().path()).collect();
    pages.push(root.join("README.md"));
    let mut led = Vec::new();
    for page in &pages {
        let text = std::fs::read_to_string(page).unwrap();
        for link in links(&text).filter(|link| !link.is_empty()) {
            let target = page.parent().unwrap().join(link);
            assert!(target.exists(), "{} links to {link}", page.display());
            led.push(target.canonicalize().unwrap());
        }
    }
    for page in pages.iter().filter(|page| !page.ends_with("README.md")) {
        assert!(led.contains(&page.canonicalize().unwrap()), "nothing links to {}", page.display());
    }
}
