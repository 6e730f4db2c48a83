//! Inventories in, messages out: every file of `inventories/bad/` has one mistake, and beside it, in `NAME.stderr`, exactly
//! what is said about it. `UPDATE_EXPECTED=1` writes the messages anew.
#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use infra::base::diagnostic::{Diagnostic, draw};
use infra::base::warning::Warning;
use infra::inventory::load::{load, load_text};

fn files(folder: &str) -> Vec<PathBuf> {
    let mut out: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "yml"))
        .collect();
    out.sort();
    out
}

/// Compares the drawing with the file beside the inventory; gives what is to be said when they differ.
fn differs(path: &Path, diagnostics: &[Diagnostic]) -> Option<String> {
    let (found, beside) = (draw(diagnostics, false), path.with_extension("stderr"));
    if std::env::var_os("UPDATE_EXPECTED").is_some() {
        std::fs::write(&beside, &found).unwrap();
    }
    let expected = std::fs::read_to_string(&beside).unwrap_or_default();
    (found != expected).then(|| format!("{}\n--- expected\n{expected}\n--- found\n{found}", path.display()))
}

#[test]
fn each_bad_inventory_has_one_mistake_and_its_exact_message() {
    let mut wrong = Vec::new();
    let files = files("inventories/bad");
    assert!(files.len() >= 40, "{} files", files.len());
    for path in &files {
        match load(path) {
            Ok(_) => wrong.push(format!("{} has no error", path.display())),
            Err(diagnostics) => {
                if diagnostics.len() != 1 {
                    wrong.push(format!("{} has {}:\n{}", path.display(), diagnostics.len(), draw(&diagnostics, false)));
                }
                wrong.extend(differs(path, &diagnostics));
                // A file that could not be read as text at all has no line to show.
                if diagnostics.iter().any(|d| d.span.is_none()) && !path.ends_with("utf16.yml") {
                    wrong.push(format!("{} has no place", path.display()));
                }
                if diagnostics.iter().any(|d| d.help.is_empty()) {
                    wrong.push(format!("{} has no help", path.display()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

#[test]
fn each_odd_inventory_has_its_exact_warnings() {
    let mut wrong = Vec::new();
    for path in files("tests/inventory/warn") {
        match load(&path) {
            Ok((_, warnings)) if warnings.is_empty() => wrong.push(format!("{} has no warning", path.display())),
            Ok((_, warnings)) => wrong.extend(differs(&path, &warnings)),
            Err(diagnostics) => wrong.push(draw(&diagnostics, false)),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

/// Each warning names its word, and is not told where `silence` has it.
#[test]
fn each_warning_can_be_silenced() {
    for path in files("tests/inventory/warn") {
        let (_, warnings) = load(&path).unwrap();
        let words: BTreeSet<&str> = warnings.iter().filter_map(Diagnostic::kind).map(Warning::word).collect();
        assert_eq!(words.len(), warnings.len(), "{}: one of a kind is told twice", path.display());
        let silence = words.iter().map(|word| format!("  {word}: a test\n")).collect::<Vec<_>>().concat();
        let text = format!("{}silence:\n{silence}", std::fs::read_to_string(&path).unwrap());
        assert_eq!(draw(&load_text(&text, &path).unwrap().1, false), "", "{}", path.display());
    }
}

/// The text with each of the words that a help line proposes in the place of the diagnostic.
fn followed(diagnostic: &Diagnostic, help: &str) -> Vec<String> {
    let Some(span) = &diagnostic.span else { return Vec::new() };
    // As it is shown: the places lie where comments are hidden already.
    let text = span.source.text.as_str();
    let whole = |part: &str| format!("{}{part}{}", &text[..span.range.start], &text[span.range.end..]);
    help.split('`').skip(1).step_by(2).map(whole).collect()
}

/// Whether a help line says what to write in the underlined place. What is to be added elsewhere has a colon.
fn replaces(help: &str) -> bool {
    let proposes = help.starts_with("write `") || help.starts_with("did you mean `");
    proposes && !help.split('`').nth(1).is_some_and(|word| word.contains([':', '{', '*']))
}

/// Every help text that proposes a word passes when it is followed.
#[test]
fn what_is_advised_is_taken() {
    let mut cases: Vec<(String, PathBuf)> = Vec::new();
    for path in files("inventories/bad") {
        if let Ok(text) = std::fs::read_to_string(&path) {
            cases.push((text, path));
        }
    }
    // Each word of a good inventory by what people write instead, and by itself without its last letter.
    let odd = [
        "Front_1",
        "FRONT",
        "Shop_1.Example.com",
        "my shop",
        "shop.example.com.",
        "-22",
        "08",
        "10.0.0.1/24",
        "900",
        "Mariadb",
        "lb",
    ];
    let text = std::fs::read_to_string("tests/inventory/small.yml").unwrap();
    for (from, to) in words(&text) {
        let with = |word: &str| (format!("{}{word}{}", &text[..from], &text[to..]), PathBuf::from("small.yml"));
        cases.extend(odd.map(with));
        cases.push(with(&text[from..to - 1]));
    }
    let (mut wrong, mut seen) = (Vec::new(), 0);
    for (text, path) in cases {
        let Err(diagnostics) = load_text(&text, &path) else { continue };
        let [diagnostic] = &diagnostics[..] else { continue };
        for help in diagnostic.help.iter().filter(|help| replaces(help)) {
            seen += 1;
            if !followed(diagnostic, help).iter().any(|text| load_text(text, &path).is_ok()) {
                wrong.push(format!("{}\n{}", path.display(), draw(&diagnostics, false)));
            }
        }
    }
    assert!(seen > 50, "{seen} advices were followed");
    assert!(wrong.is_empty(), "{} of {seen}:\n{}", wrong.len(), wrong.join("\n\n"));
}

/// The words of an inventory in flow style, keys and values.
fn words(text: &str) -> Vec<(usize, usize)> {
    let mut out = Vec::new();
    let mut from = None;
    for (at, c) in text.char_indices() {
        let ends = c.is_whitespace() || "{}[],".contains(c) || (c == ':' && text[at + 1..].starts_with([' ', '\n']));
        match from {
            None if !ends => from = Some(at),
            Some(begin) if ends => {
                out.push((begin, at));
                from = None;
            }
            _ => {}
        }
    }
    out
}

#[test]
fn all_mistakes_are_shown_in_one_go() {
    let path = Path::new("tests/inventory/five.yml");
    let diagnostics = load(path).unwrap_err();
    assert_eq!(differs(path, &diagnostics), None);
    let messages: Vec<&str> = diagnostics.iter().map(|d| d.message.as_str()).collect();
    let expected = [
        "unknown key `nmae` in the inventory",
        "`10.0.1.11` is used by `lb1` and by `web1`",
        "host `web1` is given twice",
        "unknown key `prot` in host `app1`",
        "`10.0.0.1/24` has host bits set",
        "`80800` is out of range",
    ];
    for message in expected {
        assert!(messages.contains(&message), "`{message}` is not among {messages:#?}");
    }
    assert_eq!(messages.len(), expected.len());
}

#[test]
fn good_inventories_have_nothing_said_about_them() {
    let names = [
        "inventories/reference.yml",
        "inventories/single.yml",
        "inventories/three-tier.yml",
        "inventories/full.yml",
        "tests/inventory/whole.yml",
        "tests/inventory/careful.yml",
    ];
    for name in names {
        match load(Path::new(name)) {
            Ok((_, warnings)) => assert_eq!(draw(&warnings, false), "", "{name}"),
            Err(diagnostics) => panic!("{}", draw(&diagnostics, false)),
        }
    }
}

/// Whatever is wrong around it, a secret that was written into the file is not shown.
#[test]
fn no_message_shows_a_secret() {
    for folder in ["inventories/bad", "tests/inventory/warn"] {
        for path in files(folder) {
            let shown = match load(&path) {
                Ok((_, warnings)) => draw(&warnings, false),
                Err(diagnostics) => draw(&diagnostics, false) + &format!("{diagnostics:?}"),
            };
            for secret in ["hunter2", "battery", "c2VjcmV0", "ZaVnC4"] {
                assert!(!shown.contains(secret), "{}: {shown}", path.display());
            }
        }
    }
}

/// Bytes changed at random, from a fixed seed, must give diagnostics or a site, in bounded time, and drawings of them.
#[test]
fn no_damaged_inventory_panics() {
    const CASES: usize = 2000;
    let seeds: Vec<Vec<u8>> = ["inventories/reference.yml", "inventories/three-tier.yml", "tests/inventory/five.yml"]
        .iter()
        .map(|path| std::fs::read(path).unwrap())
        .chain(files("inventories/bad").iter().map(|path| std::fs::read(path).unwrap()))
        .filter(|bytes| bytes.len() < 8192)
        .collect();
    let mut state = 0x2545_F491_4F6C_DD1D_u64;
    let mut random = move |below: usize| {
        // xorshift64*, Vigna 2016: the test needs variety, not secrecy.
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        usize::try_from(state.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33).unwrap() % below.max(1)
    };
    let pieces: [&[u8]; 24] = [
        b"[",
        b"]",
        b"{",
        b"}",
        b":",
        b": ",
        b"- ",
        b"\n",
        b"\t",
        b"\"",
        b"'",
        b"&a ",
        b"*a",
        b"!",
        b"|",
        b">",
        b"\0",
        b"\xFF",
        b"\xC3\xA9",
        b"#",
        b"---\n",
        b"~",
        b"99999999999999999999",
        b"\r\n",
    ];
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("inventory.yml");
    for _ in 0..CASES {
        let mut bytes = seeds[random(seeds.len())].clone();
        for _ in 0..=random(6) {
            let (at, piece) = (random(bytes.len() + 1), pieces[random(pieces.len())]);
            match random(4) {
                0 => drop(bytes.splice(at..at, piece.iter().copied())),
                1 => bytes.truncate(at.max(1)),
                2 => {
                    let end = (at + random(40)).min(bytes.len());
                    drop(bytes.drain(at..end));
                }
                _ => {
                    if let Some(byte) = bytes.get_mut(at) {
                        *byte = u8::try_from(random(256)).unwrap();
                    }
                }
            }
        }
        std::fs::write(&path, &bytes).unwrap();
        let diagnostics = match load(&path) {
            Ok((_, warnings)) => warnings,
            Err(diagnostics) => {
                assert!(diagnostics.iter().any(Diagnostic::is_error), "refused without an error: {bytes:?}");
                diagnostics
            }
        };
        draw(&diagnostics, true);
    }
}

/// What an inventory of a thousand hosts costs is held by reading it within a generous bound; `benches/` has the figures.
#[test]
fn a_thousand_hosts_are_no_effort() {
    let host = |i: usize| {
        let (role, a, b) = (["lb", "web", "app", "web"][i % 4], i / 250, i % 250);
        format!("  h{i}: {{ address: [10.1.{a}.{b}, \"fd00::{a}:{b:x}\"], roles: [{role}] }}\n")
    };
    let mut text = String::from("name: big\nhosts:\n");
    text.extend((0..1000).map(host));
    text += "firewall: { manage_from: [10.0.0.0/24] }\ncertificates: { issuer: internal }\n";
    text += "sites: { shop.example.com: { app: { port: 8080, health: /up } } }\n";
    let (site, warnings) = load_text(&text, Path::new("big.yml")).unwrap();
    assert_eq!((site.hosts.len(), warnings.len()), (1000, 0));
    assert_eq!(site.hosts.values().map(|host| host.place.line).max(), Some(1002));
}

#[test]
fn what_is_no_file_is_told() {
    let told = |path: &Path| draw(&load(path).unwrap_err(), false).replace(&path.display().to_string(), "PATH");
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(
        told(&folder.path().join("none.yml")),
        "error: cannot read the inventory `PATH`: there is no such file\n |\n = help: pass its path, or set \
         `INFRA_INVENTORY`; without either it is `./inventory.yml`; `infra init` writes a first one\n\n1 error\n"
    );
    for (word, help) in [("web1", "hosts are chosen by `--limit web1`"), ("20", "`--drain=20`")] {
        assert!(draw(&load(Path::new(word)).unwrap_err(), false).contains(help), "{word}");
    }
    assert!(told(folder.path()).contains("is a folder"));
    let big = folder.path().join("big.yml");
    std::fs::write(&big, vec![b'#'; 10 * 1024 * 1024 + 1]).unwrap();
    assert!(told(&big).contains("larger than 10 MiB"));
    let bom = folder.path().join("bom.yml");
    let text = std::fs::read_to_string("inventories/single.yml").unwrap();
    std::fs::write(&bom, format!("\u{FEFF}{text}")).unwrap();
    assert!(load(&bom).is_ok());
    let crlf = folder.path().join("crlf.yml");
    std::fs::write(&crlf, text.replace('\n', "\r\n")).unwrap();
    assert!(load(&crlf).is_ok());
}

#[test]
fn an_inventory_may_be_spread_over_files_of_its_folder() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    std::fs::create_dir(folder.path().join("part")).unwrap();
    write("inventory.yml", "name: shop\ninclude: [part/hosts.yml]\nhosts:\n  lb1: { address: 10.0.1.1, roles: lb }\n");
    write("part/hosts.yml", "include: sites.yml\nhosts:\n  web1: { address: 10.0.1.2, roles: web }\n");
    write(
        "part/sites.yml",
        "sites: { shop.example.com: { static: { root: /srv/shop } } }\nfirewall: { manage_from: 10.0.0.0/24 }\n\
         certificates: { issuer: internal }\n",
    );
    let (site, warnings) = load(&folder.path().join("inventory.yml")).unwrap();
    assert_eq!(draw(&warnings, false), "");
    let places: Vec<String> = site.hosts.values().map(|host| host.place.to_string()).collect();
    assert!(places[0].ends_with("inventory.yml:4") && places[1].ends_with("part/hosts.yml:3"), "{places:?}");
    // A link out of the folder is a way out of it.
    std::os::unix::fs::symlink("/etc/hostname", folder.path().join("part/sites2.yml")).unwrap();
    write("part/hosts.yml", "include: [sites.yml, sites2.yml]\nhosts:\n  web1: { address: 10.0.1.2, roles: web }\n");
    let shown = draw(&load(&folder.path().join("inventory.yml")).unwrap_err(), false);
    assert!(shown.contains("outside of the inventory's folder"), "{shown}");
}

/// Much that is wrong, all of it on one line. Work that grows with its square would run into the test runner's time-out.
#[test]
fn many_mistakes_on_one_line_are_all_drawn() {
    let mut text = String::from("name: big\nfirewall: { manage_from: 10.0.0.0/8 }\nhosts: {");
    text.extend((0..2000).map(|i| format!("h{i}: {{ adress: 10.1.1.1, roles: [wbe], password: hunter2 }}, ")));
    text += "}\n";
    let diagnostics = load_text(&text, Path::new("big.yml")).unwrap_err();
    let drawn = draw(&diagnostics, false);
    assert_eq!(diagnostics.len(), 6000);
    assert!(drawn.ends_with("6000 errors; the first 100 are shown\n") && !drawn.contains("hunter2"));
}

#[test]
fn a_long_block_list_is_no_effort() {
    let mut text = String::from(
        "name: big\nhosts: { a: { address: 10.1.1.1, roles: db } }\nfirewall:\n  manage_from: 10.0.0.0/8\n",
    );
    text += "  block:\n";
    text.extend((0..50_000).map(|i| format!("    - 20.{}.{}.{}\n", i >> 16, (i >> 8) & 255, i & 255)));
    let (site, _) = load_text(&text, Path::new("big.yml")).unwrap();
    assert_eq!(site.firewall.block.len(), 50_000);
}
