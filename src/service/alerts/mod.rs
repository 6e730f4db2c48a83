//! The alerts of an infrastructure as their readers take them: Prometheus' rules, and Sumo Logic's monitors.

pub mod prometheus;
pub mod sumologic;
