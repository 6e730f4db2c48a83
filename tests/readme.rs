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

/// The scripts in a pipeline of YAML: what stands under `run` and `script`.
fn scripts(value: &serde_json::Value, out: &mut Vec<String>) {
    match value {
        serde_json::Value::Object(fields) => {
            for (key, value) in fields {
                match value {
                    serde_json::Value::String(line) if key == "run" => out.push(line.clone()),
                    serde_json::Value::Array(lines) if key == "script" => {
                        out.extend(lines.iter().filter_map(|line| line.as_str().map(ToOwned::to_owned)));
                    }
                    other => scripts(other, out),
                }
            }
        }
        serde_json::Value::Array(items) => items.iter().for_each(|item| scripts(item, out)),
        _ => {}
    }
}

#[test]
fn the_pipelines_read_and_so_do_their_commands() {
    use clap::Parser as _;
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/ci.md")).unwrap();
    let blocks: Vec<&str> = text.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert_eq!(blocks.len(), 2);
    for block in blocks {
        let pipeline: serde_json::Value =
            serde_yaml::from_str(block).unwrap_or_else(|error| panic!("{error}\n{block}"));
        let mut lines = Vec::new();
        scripts(&pipeline, &mut lines);
        let commands: Vec<&String> = lines.iter().filter(|line| line.starts_with("infra ")).collect();
        assert!(commands.len() > 3, "{lines:?}");
        for command in commands {
            let words = command.split([' ']).take_while(|word| !["||", ">"].contains(word));
            infra::cli::args::Args::try_parse_from(words).unwrap_or_else(|error| panic!("{command}: {error}"));
        }
    }
}
