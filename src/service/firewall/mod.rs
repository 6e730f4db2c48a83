//! stub
pub mod script;
