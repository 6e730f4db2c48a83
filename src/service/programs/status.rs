//! The programs as web hosts see them: takes the answer of the admin socket, gives those that are not well.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{NAME, SOCKETS};
use crate::base::net::HostName;
use crate::inventory::site::{AppProgram, Role};
use crate::plan::said::Said;
use crate::plan::state::{Observed, Part};
use crate::service::drained;
use crate::service::room::Taken;
use crate::service::status::{Gauge, Seen};

/// What was read.
const READ: Part<Readings> = Part::passing(NAME);

/// One call of the socket.
pub(super) const GAUGE: Gauge = Gauge { script, read };

fn script() -> String {
    let socket = SOCKETS.trim_start_matches('/');
    format!(
        "[ -S {socket}/admin.sock ] || exit 0\n\
         echo asked\n\
         echo 'show info;show stat -1 4 -1' | socat -T 5 -t 5 - UNIX-CONNECT:{socket}/admin.sock 2>/dev/null |
         \tgrep -E '^program-|^(Maxconn|CurrConns): '"
    )
}

/// What leads a web host to the programs, at one look.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
struct Readings {
    unwell: Vec<Unwell>,
    /// Connections of nginx, and how many there may be; 0 where it does not say.
    led: (u64, u64),
}

/// A program on a host that is not well.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Unwell {
    /// Of the program.
    port: u16,
    /// The app host.
    host: String,
    /// For so long, seconds.
    seconds: u64,
    /// Its words.
    words: String,
}

fn read(answer: &str, observed: &mut Observed) {
    // A host that leads to no program has no socket, and nothing to tell.
    if answer.is_empty() {
        return;
    }
    let number = |name: &str| answer.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok()).unwrap_or(0);
    let led = (number("CurrConns:"), number("Maxconn:"));
    READ.put(&Readings { unwell: answer.lines().filter_map(line).collect(), led }, observed);
}

/// A server's line; the columns are those of `HAProxy`'s management guide, section 9.1.
fn line(line: &str) -> Option<Unwell> {
    let fields: Vec<&str> = line.split(',').collect();
    let field = |at: usize| fields.get(at).copied().unwrap_or("");
    let port = field(0).strip_prefix("program-")?.split('_').next()?.parse().ok()?;
    if field(1).is_empty() || !field(17).starts_with("DOWN") {
        return None;
    }
    let words = match (field(36).trim_start_matches("* "), field(37)) {
        (check, "568") if check.starts_with("L7") => "it takes no connection".to_owned(),
        (check, "569") if check.starts_with("L7") => "it ends the connection without an answer".to_owned(),
        (check, code) if check.starts_with("L7STS") => format!("it answers {code}, where 200 says that it is well"),
        (check, _) if check.starts_with("L7TOUT") => "it does not answer in time".to_owned(),
        (check, code) => format!("the app host is not reached: {check} {code}").trim_end().to_owned(),
    };
    Some(Unwell { port, host: field(1).to_owned(), seconds: field(23).parse().unwrap_or(0), words })
}

/// What the web hosts tell: each program that one of them takes no requests to, once.
pub(super) fn tell(seen: &Seen<'_>) -> Said {
    let mut said = Said::default();
    let mut all: BTreeMap<(String, u16), (Unwell, usize)> = BTreeMap::new();
    let mut asked = 0;
    for web in seen.site.with_role(Role::Web) {
        let Some(readings) = seen.observed.get(&web.name).and_then(|observed| READ.of(observed)) else { continue };
        asked += 1;
        let (are, most) = readings.led;
        let help = "whoever comes beyond that waits: another web host, more memory, or more files for a process (`fs.nr_open`, or the \
                    limit of a container) make room";
        Taken { are, most }.find(&web.name, ("what leads to the programs ", "connections"), help, &mut said);
        for one in readings.unwell {
            let entry = all.entry((one.host.clone(), one.port)).or_insert_with(|| (one.clone(), 0));
            entry.1 += 1;
            if one.seconds > entry.0.seconds {
                entry.0 = one;
            }
        }
    }
    for ((host, port), (unwell, count)) in all {
        let Ok(name) = host.parse::<HostName>() else { continue };
        // A host that is drained says so itself.
        if seen.observed.get(&name).is_some_and(|observed| drained::mark(observed).is_some()) {
            continue;
        }
        let is_on = |one: &AppProgram| one.hosts.is_empty() || one.hosts.contains(&name);
        let sites: Vec<String> = seen
            .site
            .sites
            .values()
            .filter(|web| web.programs.iter().any(|one| one.port.get() == port && is_on(one)))
            .map(|web| web.name.to_string())
            .collect();
        let by = if count == asked {
            "gets no requests".to_owned()
        } else {
            format!("gets none from {count} of {asked} web hosts")
        };
        said.find(
            Some(&name),
            false,
            format!(
                "the program of {} on port {port} is unwell since {} and {by}: {}",
                sites.join(", "),
                duration(unwell.seconds),
                unwell.words
            ),
            "start it or mend it; it gets requests again by itself when it answers 200 on its health path",
        );
    }
    said
}

fn duration(seconds: u64) -> String {
    match seconds {
        0..=119 => format!("{seconds} s"),
        120..=7199 => format!("{} min", seconds / 60),
        _ => format!("{} h", seconds / 3600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_is_down_is_told_with_what_it_answers() {
        let of = |state: &str, seconds: u32, check: &str, code: &str| {
            format!(
                "program-8080,app1,0,0,0,0,,0,0,0,,0,,0,0,0,0,{state},100,1,0,4,1,{seconds},3,,1,7,1,,0,,2,0,,0,{check},{code},1,0,0"
            )
        };
        for (text, expected) in [
            (of("UP", 5, "L7OK", "200"), None),
            (of("UP 1/2", 5, "* L7STS", "503"), None),
            (of("DOWN", 65, "L7STS", "503"), Some("it answers 503, where 200 says that it is well")),
            (of("DOWN 1/2", 65, "* L7STS", "568"), Some("it takes no connection")),
            (of("DOWN", 65, "L7STS", "569"), Some("it ends the connection without an answer")),
            (of("DOWN", 65, "L7TOUT", ""), Some("it does not answer in time")),
            (of("DOWN", 65, "L4CON", ""), Some("the app host is not reached: L4CON")),
            (of("DOWN", 65, "L6RSP", ""), Some("the app host is not reached: L6RSP")),
            (String::new(), None),
            ("program-,app1,DOWN".into(), None),
        ] {
            let seen = line(&text);
            assert_eq!(seen.as_ref().map(|unwell| unwell.words.as_str()), expected, "{text}");
            if let Some(unwell) = seen {
                assert_eq!((unwell.port, unwell.host.as_str(), unwell.seconds), (8080, "app1", 65));
            }
        }
        let told = |answer: &str| {
            let inventory = "name: shop
hosts:
  lb1: { address: 10.0.1.11, roles: [lb] }
  web1: { address: 10.0.1.12, roles: [web] }
  app1: { address: 10.0.1.13, roles: [app] }
firewall: { manage_from: [10.0.0.0/24] }
sites: { a.example.com: { app: { port: 8080, health: /healthz } } }
certificates: { issuer: internal }
";
            let said = crate::service::status::tests::told(inventory, GAUGE, &[("web1", answer)], tell);
            said.findings.into_iter().map(|finding| finding.what).collect::<Vec<_>>()
        };
        assert_eq!(told("asked\nMaxconn: 8000\nCurrConns: 7199\n"), Vec::<String>::new());
        let full = "what leads to the programs has 7200 of the 8000 connections that it has room for";
        assert_eq!(told("asked\nMaxconn: 8000\nCurrConns: 7200\n"), [full]);
        assert_eq!(told(&format!("asked\n{}\n", of("DOWN", 65, "L7STS", "503"))).len(), 1);
        assert_eq!([119, 120, 7200].map(duration), ["119 s", "2 min", "2 h"]);
    }
}
