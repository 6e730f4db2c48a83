//! Many checks of one lab: takes a table of names and functions, runs all of them, tells the result and the time of each, and fails
//! at the end with the names of those that failed. Used by `tests/lab/*.rs` as `#[path = "../common/checks.rs"] mod checks;`.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::allow_attributes,
    missing_docs,
    reason = "each test crate uses its own part"
)]

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

/// A name, and what is checked.
pub type Check<T> = (&'static str, fn(&T));

/// Runs `checks` in their order, also those after one that failed: before them `mend` makes of the world what they begin with.
/// `INFRA_LAB_CHECK=word,word` runs only those whose names have one of the words.
///
/// # Panics
/// At the end, with the names of all checks that failed.
#[track_caller]
pub fn run<T>(world: &T, checks: &[Check<T>], mend: fn(&T)) {
    let only = std::env::var("INFRA_LAB_CHECK").unwrap_or_default();
    let chosen = |name: &str| only.split(',').any(|word| name.contains(word));
    let mut failed = Vec::new();
    for (name, check) in checks.iter().filter(|(name, _)| chosen(name)) {
        let began = Instant::now();
        let result = caught(|| check(world));
        let took = began.elapsed().as_secs_f64();
        match &result {
            Ok(()) => eprintln!("check {name}: ok {took:.1} s"),
            Err(why) => eprintln!("check {name}: FAILED after {took:.1} s: {}", why.lines().next().unwrap_or_default()),
        }
        if result.is_err() {
            failed.push(*name);
            if let Err(why) = caught(|| mend(world)) {
                eprintln!("after {name} the world could not be mended: {why}");
            }
        }
    }
    assert!(failed.is_empty(), "{} of {} checks failed: {failed:#?}", failed.len(), checks.len());
}

/// Nothing has to be mended: the checks do not build on one another.
pub fn independent<T>(_: &T) {}

fn caught(work: impl FnOnce()) -> Result<(), String> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|panic| words(&*panic))
}

/// What a panic says.
fn words(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|&s| s.to_owned())).unwrap_or_default()
}
