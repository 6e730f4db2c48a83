//! What a host may answer, as a whole and to each service: any bytes, no panic.
#![no_main]

use infra::host::{seen, wire};
use infra::plan::state::Observed;
use infra::service::{ALL, platform};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|answer: &[u8]| {
    let _ = seen::parse(ALL, answer);
    let _ = wire::pairs(answer);
    for (_, inquiry) in ALL.inquiries() {
        (inquiry.read)(&String::from_utf8_lossy(answer), &mut Observed::bare(platform::oldest()));
    }
});
