//! The rendered files with real certificates through the real daemons' own checks, each host in namespaces of its own.

mod common;

use common::twin::{Twin, text};
use infra::inventory::site::Site;
use infra::service::platform;

fn accepted(site: &Site) {
    let (desired, materials) = common::built(site, &platform::oldest());
    let twin = Twin::new(site, &desired, &materials);
    let mut refused = Vec::new();
    for (host, wanted) in &desired {
        for check in &wanted.checks {
            let out = twin.run(host.as_str(), &check.command);
            let words = text(&out);
            // A warning today is an error of the next version.
            if !out.status.success() || words.contains("WARNING") || words.contains("[warn]") {
                refused.push(format!("{host}: {}: {words}", check.title));
            }
        }
    }
    assert!(refused.is_empty(), "{}", refused.join("\n"));
}

#[test]
fn three_tier() {
    let state = tempfile::tempdir().unwrap();
    accepted(&common::three_tier(state.path()));
}

#[test]
fn single() {
    let state = tempfile::tempdir().unwrap();
    accepted(&common::single(state.path()));
}

#[test]
fn what_a_daemon_refuses_is_seen() {
    let state = tempfile::tempdir().unwrap();
    let site = common::single(state.path());
    let (desired, materials) = common::built(&site, &platform::oldest());
    let twin = Twin::new(&site, &desired, &materials);
    for (path, command) in [("/etc/haproxy/haproxy.cfg", "haproxy -c"), ("/etc/nginx/nginx.conf", "nginx -t")] {
        let check = desired.values().flat_map(|h| &h.checks).find(|c| c.title == command).unwrap();
        twin.put("one", path, "nonsense\n");
        assert!(!twin.run("one", &check.command).status.success(), "{command} took nonsense");
    }
}
