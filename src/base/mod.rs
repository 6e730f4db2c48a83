//! What every stage leans on and what leans on nothing: newtypes, secrets, diagnostics, atomic files.

pub mod chain;
pub mod crash;
pub mod diagnostic;
pub mod fsx;
pub mod hidden;
pub mod material;
pub mod materials;
pub mod net;
pub mod nets;
pub mod openpgp;
pub mod proto;
pub mod redact;
pub mod secret;
pub mod sh;
pub mod text;
pub mod visible;
pub mod warning;
pub mod words;
