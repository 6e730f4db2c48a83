//! All hosts together: who is asked, in which order they change, and what became of each.

pub mod adopt;
pub mod certificates;
pub mod connect;
pub mod event;
pub mod history;
pub mod preflight;
pub mod run;
pub mod served;
pub mod survey;
pub mod transaction;
pub mod verify;
