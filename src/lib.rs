//! From one inventory file, a secured and monitored web infrastructure, over SSH.
//!
//! ```text
//! inventory.yml ─load→ Raw ─resolve→ Site ─services→ Desired ┐
//!                                                            ├─plan→ Plan ─execute→ Outcome ─report→ person, JSON
//! hosts ──────────one observation each───────────→ Observed ┘
//! ```
//! Each arrow is a function from value to value and data flows forward only. A file imports only from the modules to
//! the left of its own in [`STAGES`] (`tests/layers.rs` holds it to that).

pub mod base;
pub mod cli;
pub mod fleet;
pub mod host;
pub mod inventory;
pub mod lab;
pub mod material;
pub mod pki;
pub mod plan;
pub mod report;
pub mod service;

/// The stages, left to right. A file under one of them may import from those before it, and from its own.
pub const STAGES: [&str; 11] =
    ["base", "inventory", "plan", "service", "pki", "material", "host", "fleet", "lab", "report", "cli"];
