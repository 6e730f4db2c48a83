//! All hosts together: who is asked, in which order they change, and what became of each.

pub mod event;
