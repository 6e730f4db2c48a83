//! All hosts together: who is asked, in which order they change, and what became of each.

pub mod adopt;
pub mod beforehand;
pub mod certificates;
pub mod connect;
pub mod decision;
pub mod drain;
pub mod event;
pub mod exec;
pub mod history;
pub mod identity;
pub mod inquire;
pub mod installation;
pub mod journals;
pub mod measure;
mod member;
pub mod memory;
pub mod orders;
pub mod preflight;
pub mod readiness;
pub mod run;
pub mod saved;
pub mod served;
pub mod status;
pub mod survey;
pub mod transaction;
pub mod trust;
pub mod way_in;
