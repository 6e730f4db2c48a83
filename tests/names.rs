//! The core knows no daemon by its name: what is said about one stands with its service.
#![expect(clippy::unwrap_used, reason = "a test")]

use std::path::{Path, PathBuf};

/// The stages that carry out what any service wants.
const CORE: [&str; 4] = ["plan", "host", "fleet", "report"];

/// Daemons, ours and those that may stand beside them. Nftables and iptables are none: they are tools of the kernel's firewall,
/// which an inventory names as its `backend`.
const DAEMONS: [&str; 20] = [
    "haproxy",
    "nginx",
    "mysql",
    "mariadb",
    "galera",
    "postgres",
    "redis",
    "memcached",
    "otelcol",
    "opentelemetry",
    "prometheus",
    "docker",
    "podman",
    "libvirt",
    "ufw",
    "firewalld",
    "shorewall",
    "foomuuri",
    "netfilter-persistent",
    "apache",
];

fn files(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default().to_owned();
        match ending.as_str() {
            _ if path.is_dir() => files(&path, found),
            "rs" | "sh" | "awk" | "pl" => found.push(path),
            _ => {}
        }
    }
}

/// The lines of a file that do something, with their numbers. A comment may give a daemon as an example, and so may a test.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let end =
        ["", "pub(crate) "].map(|seen| text.find(&format!("\n#[cfg(test)]\n{seen}mod tests")).unwrap_or(text.len()));
    let text = &text[..end[0].min(end[1])];
    let said = |line: &&str| !["//", "#"].iter().any(|mark| line.trim_start().starts_with(mark));
    text.lines().enumerate().filter(move |(_, line)| said(line)).map(|(at, line)| (at + 1, line))
}

/// Whether a file is a test as a whole: the file of its folder declares it under `#[cfg(test)]`.
fn is_test(path: &Path) -> bool {
    let folder = path.parent().unwrap();
    let above = [folder.join("mod.rs"), folder.with_extension("rs")];
    let text = above.iter().find_map(|path| std::fs::read_to_string(path).ok()).unwrap_or_default();
    let declared = format!("mod {};", path.file_stem().unwrap().to_str().unwrap());
    let lines: Vec<&str> = text.lines().collect();
    lines.windows(2).any(|pair| pair[0] == "#[cfg(test)]" && pair[1].ends_with(&declared))
}

#[test]
fn the_core_names_no_daemon() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    for stage in CORE {
        files(&src.join(stage), &mut found);
    }
    assert!(found.len() > 50, "the sources were not found");
    let mut wrong = Vec::new();
    for path in found.iter().filter(|path| !is_test(path)) {
        let text = std::fs::read_to_string(path).unwrap();
        for (number, line) in code(&text) {
            let low = line.to_lowercase();
            if DAEMONS.iter().any(|daemon| low.contains(daemon)) {
                wrong.push(format!("{}:{number}: {}", path.strip_prefix(&src).unwrap().display(), line.trim()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_reader_of_code_reads() {
    let text = "//! Of nginx.\nuse a;\n    // b\n# c\nd # e\n#[cfg(test)]\nmod tests {}\n";
    assert_eq!(code(text).collect::<Vec<_>>(), [(2, "use a;"), (5, "d # e")]);
}

/// Words that are counted in messages. One of them is no «1 hosts»: `base::words::count` writes both the number and the word.
const COUNTED: [&str; 13] = [
    "hosts", "files", "flows", "errors", "warnings", "accounts", "sessions", "minutes", "hours", "days", "lines",
    "replicas", "services",
];

#[test]
fn a_number_and_its_word_are_written_by_one_function() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    files(&src, &mut found);
    let mut wrong = Vec::new();
    for path in found.iter().filter(|path| !is_test(path)) {
        let text = std::fs::read_to_string(path).unwrap();
        for (number, line) in code(&text) {
            // «12 of 90 days» is a share, and such a whole is never one; nor is a limit of the program's own.
            let counts = |word: &&str| {
                line.match_indices(&format!("}} {word}")).any(|(at, _)| {
                    let (before, number) = line[..at].rsplit_once('{').unwrap_or_default();
                    !before.ends_with(" of ") && !number.starts_with(|c: char| c.is_uppercase())
                })
            };
            if COUNTED.iter().any(counts) {
                wrong.push(format!("{}:{number}: {}", path.strip_prefix(&src).unwrap().display(), line.trim()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
