//! Which Rust builds this: what `Cargo.toml` says is what the README and `tests/run` say, and no dependency asks for a newer one; how C is
//! compiled for a release, and how the licences of its parts are told.
#![expect(clippy::unwrap_used, reason = "a test")]

use std::process::Command;

use serde_json::Value;

/// `1.91` and `1.91.0` are the same version.
fn version(text: &str) -> Vec<u32> {
    let mut parts: Vec<u32> = text.split('.').map(|part| part.parse().unwrap()).collect();
    parts.resize(3, 0);
    parts
}

#[test]
fn no_dependency_needs_a_newer_rust_than_we_say() {
    let mut metadata = Command::new(env!("CARGO"));
    metadata
        .args(["metadata", "--format-version", "1", "--locked", "--filter-platform", "x86_64-unknown-linux-gnu"])
        .current_dir(env!("CARGO_MANIFEST_DIR"));
    let output = metadata.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let ours = version(env!("CARGO_PKG_RUST_VERSION"));
    let packages = metadata["packages"].as_array().unwrap();
    assert!(packages.len() > 100, "{} packages", packages.len());
    let newer =
        packages.iter().filter(|package| package["rust_version"].as_str().is_some_and(|its| version(its) > ours));
    let newer: Vec<String> = newer.map(|package| format!("{} {}", package["name"], package["rust_version"])).collect();
    assert!(newer.is_empty(), "these need a newer Rust than {ours:?}: {newer:?}");
}

#[test]
fn the_campaign_of_the_lowest_rust_takes_what_the_manifest_says() {
    let line = include_str!("campaign").lines().find(|line| line.starts_with("lowest-rust ")).unwrap();
    let minor: u32 = line.split('|').nth(2).unwrap().trim().parse().unwrap();
    assert_eq!(version(env!("CARGO_PKG_RUST_VERSION")), [1, minor, 0]);
    assert!(line.contains(&format!("Rust {}, ", env!("CARGO_PKG_RUST_VERSION"))), "{line}");
}

#[test]
fn who_builds_it_is_told_which_rust() {
    let words = format!("Rust {} or newer", env!("CARGO_PKG_RUST_VERSION"));
    for (file, text) in [("README.md", include_str!("../README.md")), ("tests/run", include_str!("run"))] {
        assert!(text.contains(&words), "{file} does not say `{words}`");
        assert!(text.contains("sh.rustup.rs"), "{file} does not say how it is got");
    }
    // The cargo of Debian 12 (1.65) stops at the first word that it does not know, before it comes to which Rust is needed.
    assert!(!include_str!("../Cargo.toml").contains("\ndebug = \""), "a word that cargo 1.65 cannot read");
}

#[test]
fn a_release_is_compiled_without_the_folder_that_it_is_built_in() {
    let dir = tempfile::tempdir().unwrap();
    // Its name says for which system it compiles.
    let cc = dir.path().join("x86_64-linux-musl-cc");
    std::fs::copy(concat!(env!("CARGO_MANIFEST_DIR"), "/release/cc"), &cc).unwrap();
    let mut command = Command::new("sh");
    command.arg(&cc).args([
        "--target=x86_64-unknown-linux-musl",
        "-O2",
        "-DDIR=\"/home/me/infra/target/x/install/lib\"",
        "a.c",
    ]);
    // In the place of zig, what prints its words.
    command.envs([("INFRA_ZIG", "/bin/echo"), ("INFRA_FROM", "/home/me/infra"), ("INFRA_CRATES", "/home/me/.cargo")]);
    let output = command.output().unwrap();
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "cc -target x86_64-linux-musl -g0 -Wno-builtin-macro-redefined -D__DATE__=\"Jan  1 1970\" -D__TIME__=\"00:00:00\" \
         -ffile-prefix-map=/home/me/infra=/infra -ffile-prefix-map=/home/me/.cargo=/crates \
         -O2 -DDIR=\"/infra/lib\" a.c\n"
    );
}

/// `release/copyright` over what its tools would tell of one crate, and the licence of a library in C, or none.
fn copyright(of_c: Option<&str>, words: &[&str]) -> std::process::Output {
    let dir = tempfile::tempdir().unwrap();
    let write = |file: &str, text: &str| {
        let path = dir.path().join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    let c =
        [("openssl-src", "openssl/LICENSE.txt"), ("libssh2-sys", "libssh2/COPYING"), ("libz-sys", "src/zlib/LICENSE")];
    for (name, file) in c {
        if let Some(text) = of_c {
            write(&format!("{name}/{file}"), text);
        }
    }
    let packages = c.map(|(name, _)| {
        serde_json::json!({ "name": name, "version": "1.2.3", "manifest_path": dir.path().join(name).join("Cargo.toml") })
    });
    write("metadata.json", &serde_json::json!({ "packages": packages }).to_string());
    let used = serde_json::json!([{ "crate": { "name": "small", "version": "0.1.0", "authors": ["Ann"], "repository": null } }]);
    let licences = ["Apache-2.0", "MIT"]
        .map(|id| serde_json::json!({ "id": id, "text": format!("Words of {id}\n\nand more"), "used_by": used }));
    write("about.json", &serde_json::json!({ "licenses": licences }).to_string());
    for file in ["rust/share/doc/rust/licenses/Apache-2.0.txt", "rust/share/doc/rust/licenses/Unicode-3.0.txt"] {
        write(file, "of Rust");
    }
    for file in ["zig/libc/musl/COPYRIGHT", "zig/libunwind/LICENSE.TXT"] {
        write(file, "Copyright © 2005 Rich\nof zig");
    }
    let mut command = Command::new("python3");
    command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/release/copyright")).args(words);
    command.args(["about.json", "metadata.json", "rust", "zig"]).current_dir(dir.path()).output().unwrap()
}

#[test]
fn whose_work_a_release_carries_is_told_with_every_licence() {
    let output = copyright(Some("Copyright (C) 2004 Sara\nof C"), &[]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    // The text stands once for each licence, indented and without an empty line, as the form wants it.
    for part in [
        "Files:\n crates/small-0.1.0/*\nCopyright:\n the authors of small: Ann\nLicense: MIT-2\n",
        "\nLicense: MIT-2\n Words of MIT\n .\n and more\n",
        "Files:\n crates/libssh2-sys-1.2.3/libssh2/*\nCopyright:\n Copyright (C) 2004 Sara\nLicense: BSD-3-Clause\n",
        "Files:\n musl/*\nCopyright:\n Copyright © 2005 Rich\n",
        "\nLicense: Apache-2.0\n                               Apache License\n",
    ] {
        assert!(text.contains(part), "{part:?} is not in\n{text}");
    }
    let debian = copyright(Some("of C"), &["--debian"]);
    let debian = String::from_utf8_lossy(&debian.stdout).into_owned();
    assert!(debian.contains("is in /usr/share/common-licenses/Apache-2.0.\n"), "{debian}");
    assert!(!debian.contains(" Apache License\n") && debian.contains("\nLicense: Apache-2.0-2\n Words of"), "{debian}");
    // A library whose licence is not where it was ends the release.
    assert!(!copyright(None, &[]).status.success());
}
