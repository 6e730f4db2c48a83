//! Any text as a known_hosts file: takes bytes, looks a host up, and fails on a panic or on a verdict that contradicts itself.
#![no_main]

use std::path::Path;

use infra::host::known_hosts::{HostKey, KnownHosts, Verdict};
use libfuzzer_sys::fuzz_target;

// The first line is the host, the second the port, the third the key's bytes; the rest is the file.
fuzz_target!(|text: &str| {
    let mut parts = text.splitn(4, '\n');
    let mut next = || parts.next().unwrap_or_default();
    let (host, port, key, file) = (next(), next().parse().unwrap_or(22), HostKey::new(next()), next());
    let known = KnownHosts::parse([(Path::new("known_hosts"), file)]);
    let verdict = known.lookup(host, port, &key);
    let refusal = known.refusal(host, host, port, &key, &verdict);
    assert_eq!(refusal.is_none(), verdict == Verdict::Trusted);

    // A line for the key itself is trusted unless the file revokes it, whatever else the file says.
    let own = HostKey::new(b"\0\0\0\x07ssh-rsa\0".as_slice());
    let more = format!("{file}\nweb1 {own}\n");
    let known = KnownHosts::parse([(Path::new("known_hosts"), more.as_str())]);
    let verdict = known.lookup("web1", 22, &own);
    assert!(matches!(verdict, Verdict::Trusted | Verdict::Revoked { .. }), "{verdict:?}");
});
