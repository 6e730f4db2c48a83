//! The narrow waist: Desired, Observed, and the Plan between them.

pub mod ruleset;
pub mod state;
