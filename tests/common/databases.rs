//! What the tests of databases in a lab begin with: the bench and its checks, and how a server of MariaDB is asked as root on its host.
//! Used by `tests/lab/*.rs` as `#[path = "../common/databases.rs"] mod databases;`.
#![allow(
    dead_code,
    unused_imports,
    unreachable_pub,
    clippy::allow_attributes,
    missing_docs,
    reason = "each test crate uses its own part"
)]

#[path = "bench.rs"]
pub mod bench;
#[path = "campaign.rs"]
pub mod campaign;
#[path = "checks.rs"]
pub mod checks;

pub use bench::{Bench, Said, wait};
pub use campaign::amount;
pub use checks::Check;
pub use infra::lab::Release;

/// What statements give on a host, as root there.
#[track_caller]
pub fn sql(bench: &Bench, host: &str, statements: &str) -> String {
    bench.sh(host, &format!("mariadb -NB <<'END'\n{statements}\nEND")).expect(0).out
}

/// What one statement gives, without the end of its line.
#[track_caller]
pub fn ask(bench: &Bench, host: &str, statement: &str) -> String {
    sql(bench, host, statement).trim().to_owned()
}

/// Nothing is planned, and no account is told to have been changed.
#[track_caller]
pub fn nothing_to_do(bench: &Bench) {
    let said = bench.infra(&["diff"]).expect(0);
    assert!(said.out.contains("nothing to do") && !said.err.contains("no longer as infra"), "{}{}", said.out, said.err);
}
