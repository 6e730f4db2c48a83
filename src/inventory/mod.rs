//! From the inventory file to a [`Site`](site::Site) that is valid by construction.

pub mod alerts;
pub mod bought;
mod content;
pub mod draft;
mod harmless;
mod issuer;
pub mod load;
mod manner;
pub mod manual;
mod mask;
mod origin;
pub mod owner;
mod parse;
mod raw;
mod read;
mod resolve;
pub mod reveal;
pub mod site;
pub mod variables;
pub mod vary;

pub(crate) use read::duration;
