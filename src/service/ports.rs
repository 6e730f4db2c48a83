//! Ports that a daemon is about to listen on: takes its rendered configuration, gives the check that nobody else has them.
//!
//! No daemon's own check binds. A new `HAProxy` that cannot bind one of its sockets has taken connections from those that it
//! shares with the old one by then, and resets them (its management guide, «Stopping and restarting»).

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use crate::plan::state::{Check, Look};
use crate::service::claims::Claims;

/// sh text: each of `wanted` that a process outside of `unit` listens on is told with that process. An address of ss(8) is
/// `*` where it is of both families.
const LOOK: &str = r#"ss -Hltnp | awk -v wanted="$wanted" -v unit="$unit" '
function host(s) { sub(/:[^:]*$/, "", s); sub(/%.*/, "", s); return s }
function port(s) { sub(/.*:/, "", s); return s }
function every(s) { return s == "*" || s == "0.0.0.0" || s == "[::]" }
function meet(a, b) {
	if (a == b || a == "*") return 1
	return (every(a) || every(b)) && index(a, "[") == index(b, "[")
}
function of_unit(pid, line, ours) {
	while ((getline line <("/proc/" pid "/cgroup")) > 0) if (line ~ "/" unit "$") ours = 1
	close("/proc/" pid "/cgroup")
	return ours
}
BEGIN { count = split(wanted, sockets, " ") }
{
	who = "the kernel itself"
	for (rest = $6; match(rest, /\("[^"]*",pid=[0-9]+/); rest = substr(rest, RSTART + RLENGTH)) {
		split(substr(rest, RSTART + 2, RLENGTH - 2), holder, /",pid=/)
		if (of_unit(holder[2])) next
		who = holder[1] " (pid " holder[2] ")"
	}
	for (i = 1; i <= count; i++) if (port($4) == port(sockets[i]) && meet(host($4), host(sockets[i]))) {
		print sockets[i] " is taken: " who " listens on " $4 "; stop it, or let it listen elsewhere"
		taken = 1
	}
}
END { exit taken }'"#;

/// Adds the check for the sockets that follow `keyword` in `text`, if there are any: `bind` of `HAProxy`, `listen` of nginx.
pub(crate) fn check(unit: &str, keyword: &str, text: &str, out: &mut Claims) {
    let sockets: Vec<String> = sockets(keyword, text).iter().map(ToString::to_string).collect();
    if !sockets.is_empty() {
        let command = format!("wanted='{}'\nunit='{unit}'\n{LOOK}", sockets.join(" "));
        // What has the port now would have it then too: that is told before anything is installed for nothing.
        out.look(Look { command: command.clone(), binding: true });
        out.check(Check { title: "free ports".into(), command });
    }
}

/// What reads as an address and a port, or as a port alone; no other kind of socket can be taken by another.
fn sockets(keyword: &str, text: &str) -> BTreeSet<SocketAddr> {
    let words = text.lines().filter_map(|line| {
        // Most lines are about something else.
        let rest = line.trim_start().strip_prefix(keyword)?;
        rest.starts_with(char::is_whitespace).then(|| rest.split_whitespace().next())?
    });
    words.flat_map(|word| word.trim_end_matches(';').split(',')).filter_map(socket).collect()
}

fn socket(word: &str) -> Option<SocketAddr> {
    let (host, port) = word.rsplit_once(':').unwrap_or(("", word));
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let any = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
    let address = if host.is_empty() || host == "*" { any } else { host.parse().ok()? };
    Some(SocketAddr::new(address, port.parse().ok().filter(|port| *port > 0)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_are_read_as_the_daemons_read_them() {
        let read = |keyword, text| sockets(keyword, text).iter().map(ToString::to_string).collect::<Vec<_>>();
        let haproxy = "frontend a\n    bind :80\n    bind :::443 v6only ssl crt x\n  bind 127.0.0.1:8405,10.0.0.1:81\n\
                       # bind :1\n bind unix@/run/x.sock\n    http-request set-header a bind :2\n";
        assert_eq!(read("bind", haproxy), ["0.0.0.0:80", "10.0.0.1:81", "127.0.0.1:8405", "[::]:443"]);
        let nginx = "    listen 10.0.2.11:8443 ssl;\n listen [fd00::2]:8443 ssl default_server;\n listen 80;\n listen *:81;\n\
                     listen unix:/run/x;\n listen localhost:82;\n";
        assert_eq!(read("listen", nginx), ["0.0.0.0:80", "0.0.0.0:81", "10.0.2.11:8443", "[fd00::2]:8443"]);
    }
}
