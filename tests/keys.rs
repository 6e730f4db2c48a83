//! Every key that a site can have, through the daemons of this machine; `lab/versions.rs` does the same with those of other releases.

mod common;

use infra::service::platform;

#[test]
fn every_key_does_what_it_says() {
    common::keys::every_key(None, &platform::oldest());
}
