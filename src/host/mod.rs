//! One host: how it is reached, what it says about itself, and how a plan is carried out on it.

mod channel;
mod commit;
pub mod dir;
pub mod drain;
pub mod execute;
pub mod gate;
mod handshake;
pub mod host_key;
pub mod jump;
pub mod known_hosts;
pub mod lock;
mod login;
pub mod observe;
mod process;
pub mod report;
mod session;
pub mod ssh;
pub mod ssh_config;
pub mod target;
pub mod transport;
pub mod trust;
pub mod wire;
mod wrap;
