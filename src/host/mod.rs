//! One host: how it is reached, what it says about itself, and how a plan is carried out on it.

mod channel;
pub mod dir;
pub mod execute;
pub mod jump;
pub mod known_hosts;
pub mod lock;
mod login;
pub mod probe;
mod process;
pub mod report;
pub mod ssh;
pub mod ssh_config;
pub mod transport;
mod wrap;
