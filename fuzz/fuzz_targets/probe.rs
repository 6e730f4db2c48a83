//! What a host may answer: any bytes, no panic.
#![no_main]

use infra::host::{probe, report};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|answer: &[u8]| {
    let _ = probe::parse(answer);
    let _ = report::pairs(answer);
});
