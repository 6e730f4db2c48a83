//! The `console` blocks of the README and of `docs/`, run as they stand there. What needs a lab stands in `text` blocks, and is held
//! by `tests/lab`.

use std::path::{Path, PathBuf};

#[test]
fn what_is_shown_is_what_is_printed() {
    trycmd::TestCases::new().case("README.md").case("docs/*.md");
}

/// The README and the pages of `docs/`.
fn pages() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let docs = std::fs::read_dir(root.join("docs")).unwrap().map(|entry| entry.unwrap().path());
    let mut pages: Vec<_> = docs.filter(|path| path.extension().is_some_and(|ending| ending == "md")).collect();
    pages.push(root.join("README.md"));
    pages
}

/// The target of each picture that is written as HTML, for its size.
fn pictures(text: &str) -> impl Iterator<Item = &str> {
    text.split("<img src=\"").skip(1).filter_map(|rest| rest.split('"').next())
}

/// The target of each link in a text of Markdown, without what stands behind `#`.
fn links(text: &str) -> impl Iterator<Item = &str> {
    text.split("](").skip(1).filter_map(|rest| rest.split([')', '#']).next()).filter(|link| !link.contains("://"))
}

#[test]
fn every_link_leads_to_a_file_and_every_page_is_led_to() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let pages = pages();
    let mut led = Vec::new();
    for page in &pages {
        let text = std::fs::read_to_string(page).unwrap();
        for link in links(&text).chain(pictures(&text)).filter(|link| !link.is_empty()) {
            let target = page.parent().unwrap().join(link);
            assert!(target.exists(), "{} links to {link}", page.display());
            led.push(target.canonicalize().unwrap());
        }
    }
    let drawn = std::fs::read_dir(root.join("docs/pictures")).unwrap().map(|entry| entry.unwrap().path());
    let drawn = drawn.filter(|file| file.extension().is_some_and(|ending| ending == "svg" || ending == "png"));
    for page in pages.into_iter().filter(|page| !page.ends_with("README.md")).chain(drawn) {
        assert!(led.contains(&page.canonicalize().unwrap()), "nothing links to {}", page.display());
    }
}

/// The commands in a text of Markdown: lines of blocks behind a prompt, which are whole, and what stands between backticks, which may
/// name a verb without its arguments.
fn commands(text: &str) -> Vec<(String, bool)> {
    let mut found = Vec::new();
    for (number, part) in text.split("```").enumerate() {
        let whole = number % 2 == 1;
        let lines: Vec<String> = if whole {
            let behind =
                |line: &str| ["$ ", "# ", "controller$ "].iter().find_map(|p| line.strip_prefix(p)).map(String::from);
            part.lines().filter_map(behind).collect()
        } else {
            part.split('`').skip(1).step_by(2).map(|span| span.replace('\n', " ")).collect()
        };
        let one = |line: &String| {
            line.split(" && ").flat_map(|part| part.split(" || ")).map(String::from).collect::<Vec<_>>()
        };
        found.extend(lines.iter().flat_map(one).filter(|line| line.starts_with("infra ")).map(|line| (line, whole)));
    }
    found
}

/// The words of a command as they could be typed: placeholders have values, of alternatives the first is taken, and what may be left out
/// is there.
fn typed(command: &str) -> Vec<String> {
    const VALUES: [(&str, &str); 7] = [
        ("R", "key-compromise"),
        ("PORT", "443"),
        ("RUN", "20261127T184501"),
        ("S", "5"),
        ("SHELL", "bash"),
        ("HOST", "web1"),
        ("SITE", "shop.example.com"),
    ];
    let words = shlex::split(command).unwrap_or_else(|| panic!("{command}"));
    let plain = |word: &String| {
        let word = word.replace("[HOST=]", "").replace(['[', ']'], "");
        let first = word.split("\\|").next().and_then(|word| word.split('|').next()).unwrap_or_default();
        VALUES.iter().find(|(name, _)| *name == first).map_or(first, |(_, value)| value).to_owned()
    };
    words.iter().take_while(|word| !["#", ">", "|", "…", "·"].contains(&word.as_str())).map(plain).collect()
}

#[test]
fn every_command_in_the_pages_can_be_typed() {
    use clap::Parser as _;
    use clap::error::ErrorKind::{DisplayHelp, DisplayHelpOnMissingArgumentOrSubcommand, MissingRequiredArgument};
    let (mut wrong, mut read) = (Vec::new(), 0);
    for page in pages() {
        for (command, whole) in commands(&std::fs::read_to_string(&page).unwrap()) {
            read += 1;
            let Err(error) = infra::cli::args::Args::try_parse_from(typed(&command)) else { continue };
            let named = [DisplayHelpOnMissingArgumentOrSubcommand, MissingRequiredArgument].contains(&error.kind());
            if error.kind() != DisplayHelp && (whole || !named) {
                wrong.push(format!("{}: {command}: {error}", page.display()));
            }
        }
    }
    assert!(read > 150, "{read}");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
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
    // The units of systemd, each behind its path.
    let units = text.split("```text\n").nth(1).unwrap().split("```").next().unwrap();
    let units: Vec<(&str, &str)> =
        units.split("# /etc/systemd/system/").skip(1).map(|unit| unit.split_once('\n').unwrap()).collect();
    let [(service, runs), (timer, when)] = units[..] else { panic!("{units:?}") };
    assert_eq!(service.strip_suffix(".service"), timer.strip_suffix(".timer"));
    let values = |unit: &str, key: &str| -> Vec<String> {
        unit.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix('=')).map(ToOwned::to_owned).collect()
    };
    let commands = values(runs, "ExecStart");
    assert_eq!(commands.len(), 2, "{runs}");
    for command in commands {
        let words: Vec<&str> = command.split(' ').collect();
        infra::cli::args::Args::try_parse_from(&words).unwrap_or_else(|error| panic!("{command}: {error}"));
    }
    // Certificates that were renewed are no failure of the unit; drift is one.
    assert_eq!(values(runs, "SuccessExitStatus"), [infra::cli::exit::RENEWED.to_string()]);
    assert_eq!(
        (values(when, "OnCalendar").len(), values(when, "WantedBy").as_slice()),
        (1, &["timers.target".to_owned()][..])
    );
}
