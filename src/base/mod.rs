//! What every stage leans on and what leans on nothing: newtypes, secrets, diagnostics, atomic files.

pub mod crash;
pub mod diagnostic;
pub mod fsx;
pub mod net;
pub mod secret;
