//! Holds what `--json` prints to the schema that `infra schema events` prints: takes the lines, panics with the first that is none
//! of its events, or has a field that stands in no entry.
#![allow(unreachable_pub, clippy::unwrap_used, clippy::allow_attributes, missing_docs, reason = "test crates share it")]

use std::collections::BTreeSet;
use std::sync::LazyLock;

use serde_json::{Value, json};

static EVENTS: LazyLock<jsonschema::Validator> = LazyLock::new(|| {
    let mut schema = infra::report::line::schema();
    // Programs must bear with fields that come later; here each must be in the table.
    for event in schema["oneOf"].as_array_mut().unwrap() {
        event["unevaluatedProperties"] = json!(false);
    }
    jsonschema::validator_for(&schema).unwrap()
});

/// Gives the events by name.
#[track_caller]
pub fn hold(out: &str) -> BTreeSet<String> {
    let mut seen = BTreeSet::new();
    for line in out.lines() {
        let event: Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("no JSON: {e}: {line}"));
        if let Some(why) = EVENTS.iter_errors(&event).next() {
            panic!("not in the schema: {why}, in\n{line}");
        }
        seen.insert(event["event"].as_str().unwrap().to_owned());
    }
    seen
}
