//! The narrow waist: Desired, Observed, and the Plan between them.

pub mod action;
pub mod behind;
pub mod body;
pub mod decision;
pub mod diff;
pub mod facts;
pub mod half;
#[cfg(test)]
pub(crate) mod laws;
pub mod made;
pub mod manifest;
pub mod narrow;
pub mod phase;
#[expect(clippy::module_inception, reason = "the stage and its one verb")]
pub mod plan;
pub mod ruleset;
pub mod said;
pub mod state;
pub mod step;
pub mod task;
pub mod wanted;
pub mod way;
