//! The narrow waist: Desired, Observed, and the Plan between them.

pub mod diff;
#[cfg(test)]
mod laws;
pub mod manifest;
#[expect(clippy::module_inception, reason = "the stage and its one verb")]
pub mod plan;
pub mod ruleset;
pub mod state;
