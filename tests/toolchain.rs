//! Which Rust builds this: what `Cargo.toml` says is what the README and `tests/run` say, and no dependency asks for a newer one; how C is
//! compiled for a release.
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
        "cc -target x86_64-linux-musl -g0 -ffile-prefix-map=/home/me/infra=/infra -ffile-prefix-map=/home/me/.cargo=/crates \
         -O2 -DDIR=\"/infra/lib\" a.c\n"
    );
}
