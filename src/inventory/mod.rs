//! From the inventory file to a [`Site`](site::Site) that is valid by construction.

pub mod site;
