//! `h2spec`, a suite of somebody else's for HTTP/2 (RFC 9113, RFC 7541), against the edge as it is rendered. `tests/run` builds it where
//! there is Go; without it the test lists itself as not run.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a test")]

mod common;

use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::Path;

use common::tiers::Tiers;
use common::twin::text;

/// What is otherwise, by the suite's numbers, with the reason.
const KNOWN: [(&str, &str); 1] = [(
    "http2/4.2 Sends a large size HEADERS frame that exceeds the SETTINGS_MAX_FRAME_SIZE",
    "the suite's frame of 20 KB is below what the edge announces, 64 KB: a head of 32 KB is promised, and has to fit into a buffer",
)];

#[test]
fn an_independent_suite_finds_nothing_new() {
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tests/bin/h2spec");
    if !program.exists() {
        if let Some(list) = std::env::var_os("INFRA_TESTS_SKIPPED") {
            let mut list = std::fs::File::options().append(true).create(true).open(list).unwrap();
            writeln!(list, "h2spec: it is not there; tests/run builds it where there is Go").unwrap();
        }
        return;
    }
    let state = tempfile::tempdir().unwrap();
    let site = common::three_tier(&state.path().join("state"));
    let tiers = Tiers::start(site, |_, _| ());
    // It asks for the host that it is given, and the edge knows names alone.
    let folder = tiers.twin.shared();
    std::fs::write(folder.join("hosts"), "10.0.1.11 docs.example.org\n").unwrap();
    let (hosts, report) = (folder.join("hosts"), folder.join("report.xml"));
    let script = format!(
        "unshare --mount sh -c 'mount --bind {} /etc/hosts && exec {} -h docs.example.org -p 443 -t -k -o 5 -j {}'",
        hosts.display(),
        program.display(),
        report.display()
    );
    let out = text(&tiers.twin.outside(&script));
    println!("{}", out.lines().last().unwrap_or_default());
    let report = std::fs::read_to_string(&report).unwrap_or_else(|e| panic!("{e}: {out}"));
    let (mut section, mut ran, mut failed) = (String::new(), 0, BTreeSet::new());
    for part in report.split('<') {
        let attribute = |name: &str| {
            let (_, rest) = part.split_once(&format!(" {name}=\""))?;
            Some(rest.split('"').next()?.to_owned())
        };
        if part.starts_with("testcase ") {
            ran += 1;
            section =
                format!("{} {}", attribute("package").unwrap_or_default(), attribute("classname").unwrap_or_default());
        } else if part.starts_with("failure") || part.starts_with("error") {
            failed.insert(section.clone());
        }
    }
    assert!(ran > 100, "{ran} cases: {out}");
    let known: BTreeSet<String> = KNOWN.iter().map(|(number, _)| (*number).to_owned()).collect();
    let new: Vec<_> = failed.iter().filter(|case| !known.iter().any(|known| case.starts_with(known))).collect();
    assert!(new.is_empty(), "{new:#?}\n{out}");
}
