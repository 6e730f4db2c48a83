//! What a person does by hand, for a person: takes what a command said on each host, gives the text with equal answers as one.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::text::{Paint, clean, names, natural};
use crate::base::net::HostName;
use crate::fleet::exec::End;

/// Said once by whatever lets a person change a host by hand.
pub const DRIFT: &str = "what is changed by hand on a host shows as drift in the next `infra diff`";

/// Hosts with the same answer, by what it is; those that come first by their names first.
pub fn alike(ends: &BTreeMap<HostName, End>) -> Vec<(Vec<&HostName>, &End)> {
    let mut groups: BTreeMap<&End, Vec<&HostName>> = BTreeMap::new();
    for (host, end) in ends {
        groups.entry(end).or_default().push(host);
    }
    let mut groups: Vec<_> = groups.into_iter().map(|(end, hosts)| (hosts, end)).collect();
    for (hosts, _) in &mut groups {
        hosts.sort_by_cached_key(|host| natural(host.as_str()));
    }
    groups.sort_by_cached_key(|(hosts, _)| hosts.first().map(|host| natural(host.as_str())));
    groups
}

/// Every answer once, with its hosts before it.
pub(super) fn draw(ends: &BTreeMap<HostName, End>, paint: Paint) -> String {
    let mut out = String::new();
    for (hosts, end) in alike(ends) {
        let hosts = paint.strong(&names(&hosts));
        let _ = match end {
            End::Ended { code: 0, .. } => writeln!(out, "{hosts}: {}", paint.good("done")),
            End::Ended { code, .. } => writeln!(out, "{hosts}: {}", paint.bad(&format!("exit code {code}"))),
            End::Failed { why } => writeln!(out, "{hosts}: {}: {}", paint.bad("failed"), clean(why)),
            End::Unreachable { why } => writeln!(out, "{hosts}: {}: {}", paint.bad("not reached"), clean(why)),
        };
        if let End::Ended { stdout, stderr, .. } = end {
            for line in stdout.lines() {
                let _ = writeln!(out, "  {}", clean(line));
            }
            for line in stderr.lines() {
                let _ = writeln!(out, "  {} {}", paint.warn("stderr:"), clean(line));
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_answers_are_shown_once() {
        let ended = |code, stdout: &str| End::Ended {
            code,
            stdout: stdout.to_owned(),
            stderr: if code > 0 { "oh\n" } else { "" }.to_owned(),
        };
        let ends = [
            ("web10", ended(0, "6.1\n")),
            ("web2", ended(0, "6.1\n")),
            ("app1", ended(3, "")),
            ("db1", End::Unreachable { why: "no route".to_owned() }),
        ];
        let ends = ends.map(|(host, end)| (host.parse().unwrap(), end)).into();
        assert_eq!(
            draw(&ends, Paint { on: false }),
            "app1: exit code 3\n  stderr: oh\ndb1: not reached: no route\nweb2, web10: done\n  6.1\n"
        );
    }
}
