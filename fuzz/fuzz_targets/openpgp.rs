//! Any bytes as a key file: takes bytes, reads keys, and fails on a panic or where what was read reads as something else again.
#![no_main]

use infra::base::openpgp;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|file: &[u8]| {
    let Ok(keys) = openpgp::read(file) else { return };
    assert_eq!(openpgp::read(keys.armoured.as_bytes()).as_ref(), Ok(&keys));
});
