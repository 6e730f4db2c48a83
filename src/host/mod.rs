//! One host: how it is reached, what it says about itself, and how a plan is carried out on it.

pub mod execute;
pub mod lock;
pub mod probe;
pub mod report;
pub mod transport;
