//! `HAProxy` as it runs: takes the answer of its admin socket, gives requests by site and status class, servers that it takes for down,
//! and the certificates that it has loaded.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::NAME;
use super::manner::closed;
use crate::base::net::{DnsName, HostName};
use crate::inventory::site::{Role, Site};
use crate::plan::said::{Classes, Lately, Passes, Said, Shown, Traffic};
use crate::plan::state::{Observed, Part};
use crate::service::certificates::{clock, site_pem};
use crate::service::drained;
use crate::service::room::Taken;
use crate::service::status::{Gauge, Seen};

/// What was read.
const READ: Part<Readings> = Part::passing(NAME);

/// One call of the socket for the counters, one for the certificates. The time is that of the kernel's clock, which nobody sets.
pub(super) const GAUGE: Gauge = Gauge { script, read };

fn script() -> String {
    r#"[ -S run/haproxy/admin.sock ] || exit 0
say() { socat -T 5 -t 5 - UNIX-CONNECT:run/haproxy/admin.sock 2>/dev/null; }
counters() {
	[ -r proc/uptime ] && read -r now rest <proc/uptime && echo "at $now"
	echo 'show info;show table per_site;show stat -1 4 -1' | say | grep -E '^(Pid|Uptime_sec|Start_time_sec|Maxconn|CurrConns): |^# table: per_site|^0x|^web(\.[^,]*)?,'
}
[ "$twice" = yes ] && counters && sleep 1
counters
{
	echo prompt
	for pem in etc/haproxy/sites/*.pem; do [ -e "$pem" ] && echo "show ssl cert /$pem"; done
	echo quit
} | say | grep -E '^(> )?(Filename|notAfter): '"#
        .to_owned()
}

/// All that was read at one look.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
struct Readings {
    /// A second before the last, where it was read twice.
    first: Option<Reading>,
    last: Reading,
    /// Servers that it takes for something else than up, with its words.
    down: BTreeMap<String, String>,
    /// Certificates that it has loaded, by file: when they end, seconds since 1970.
    certificates: BTreeMap<String, i64>,
}

/// Its counters at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
struct Reading {
    /// Of the kernel's clock, milliseconds.
    at: u64,
    /// The worker that serves: its number, and when it began.
    worker: (u64, u64),
    /// So many seconds it serves.
    up: u64,
    /// Whether it counts by site: one that was set up by an older infra does not.
    counts: bool,
    /// By site: all requests, and the answers.
    sites: BTreeMap<String, (u64, Classes)>,
    /// Requests to the servers.
    passed: u64,
    /// Connections of clients, and how many there may be; 0 where it does not say.
    #[serde(default)]
    clients: (u64, u64),
}

fn read(answer: &str, observed: &mut Observed) {
    let mut all: Vec<Reading> = Vec::new();
    let (mut down, mut certificates, mut file) = (BTreeMap::new(), BTreeMap::new(), None);
    for line in answer.lines() {
        let line = line.strip_prefix("> ").unwrap_or(line);
        if let Some(now) = line.strip_prefix("at ") {
            all.push(Reading { at: milliseconds(now).unwrap_or(0), ..Reading::default() });
            down.clear();
        } else if let Some(name) = line.strip_prefix("Filename: ") {
            file = Some(name.trim().to_owned());
        } else if let Some(end) = line.strip_prefix("notAfter: ") {
            certificates.extend(file.take().zip(clock(end)));
        } else if let Some(reading) = all.last_mut() {
            counter(line, reading, &mut down);
        }
    }
    let Some(last) = all.pop() else { return };
    READ.put(&Readings { first: all.pop(), last, down, certificates }, observed);
}

/// `12345.67` seconds.
fn milliseconds(text: &str) -> Option<u64> {
    let (whole, part) = text.trim().split_once('.')?;
    let hundredths = if part.len() == 2 { part.parse::<u64>().ok()? } else { return None };
    whole.parse::<u64>().ok()?.checked_mul(1000)?.checked_add(hundredths * 10)
}

/// A line of its answer: a key of the table, a server, or a word about the process.
fn counter(line: &str, reading: &mut Reading, down: &mut BTreeMap<String, String>) {
    if line.starts_with("# table: per_site") {
        reading.counts = true;
    } else if line.starts_with("0x") {
        let fields: BTreeMap<&str, &str> = line.split(' ').filter_map(|field| field.split_once('=')).collect();
        let number = |name: &str| fields.get(name).and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
        if let Some(site) = fields.get("key") {
            let answers = ["gpc0", "gpc1", "gpc2", "gpc3", "gpc4"].map(number);
            reading.sites.insert((*site).to_owned(), (number("http_req_cnt"), answers));
        }
    } else if let Some((backend, server)) = line.split_once(',').filter(|(name, _)| is_web(name)) {
        // The columns are those of its management guide, section 9.1, of which new ones come at the end.
        let fields: Vec<&str> = server.split(',').collect();
        let field = |at: usize| fields.get(at - 1).copied().unwrap_or("");
        reading.passed = reading.passed.saturating_add(field(7).parse().unwrap_or(0));
        let (state, check) = (field(17), field(36));
        // Those of a site follow the checks of that of all sites.
        if backend == "web" && !state.starts_with("UP") && state != "no check" {
            down.insert(field(1).to_owned(), format!("{state} {check}").trim().to_owned());
        }
    } else if let Some((name, Ok(number))) = line.split_once(": ").map(|(name, text)| (name, text.trim().parse())) {
        match name {
            "Pid" => reading.worker.0 = number,
            "Start_time_sec" => reading.worker.1 = number,
            "Uptime_sec" => reading.up = number,
            "CurrConns" => reading.clients.0 = number,
            "Maxconn" => reading.clients.1 = number,
            _ => {}
        }
    }
}

/// Whether a backend is that of the web hosts, of all sites or of one.
fn is_web(backend: &str) -> bool {
    backend.strip_prefix("web").is_some_and(|site| site.is_empty() || site.starts_with('.'))
}

/// What was counted before `last`: by a read of the same worker, or since that worker began, whose counters began with it.
struct Before {
    milliseconds: u64,
    reading: Reading,
}

impl Before {
    fn of(last: &Reading, earlier: Option<&Reading>) -> Option<Self> {
        match earlier.filter(|earlier| earlier.worker == last.worker && earlier.at < last.at) {
            Some(earlier) => Some(Self { milliseconds: last.at - earlier.at, reading: earlier.clone() }),
            None if last.up > 0 => {
                Some(Self { milliseconds: last.up.saturating_mul(1000), reading: Reading::default() })
            }
            None => None,
        }
    }

    fn lately(&self, site: &str, (requests, answers): (u64, Classes)) -> Lately {
        let (old, old_answers) = self.reading.sites.get(site).copied().unwrap_or_default();
        let mut since = answers;
        for (new, old) in since.iter_mut().zip(old_answers) {
            *new = new.saturating_sub(old);
        }
        Lately { milliseconds: self.milliseconds, requests: requests.saturating_sub(old), answers: since }
    }
}

/// What the load balancers tell.
pub(super) fn tell(seen: &Seen<'_>) -> Said {
    let mut said = Said::default();
    let (mut edge, mut inner) = (Vec::new(), Vec::new());
    for host in seen.site.with_role(Role::Lb) {
        let Some(readings) = seen.observed.get(&host.name).and_then(|observed| READ.of(observed)) else { continue };
        let earlier = seen.before(&host.name, &READ).map(|readings| readings.last);
        let before = Before::of(&readings.last, readings.first.as_ref().or(earlier.as_ref()));
        let mut rate = before.as_ref().filter(|_| readings.last.counts).map(|_| 0.0);
        for site in seen.site.sites.keys().filter(|_| readings.last.counts) {
            let (requests, answers) = readings.last.sites.get(site.as_str()).copied().unwrap_or_default();
            let lately = before.as_ref().map(|before| before.lately(site.as_str(), (requests, answers)));
            if let (Some(rate), Some(lately)) = (&mut rate, &lately) {
                *rate += per_second(lately.requests, lately.milliseconds);
            }
            let site = site.clone();
            said.traffic.push(Traffic { host: host.name.clone(), site, requests, answers, lately });
        }
        if let Some(rate) = rate {
            said.word(&host.name, format!("{rate:.1} requests/s"));
            edge.push(rate);
        }
        if let Some(before) = &before {
            let count = readings.last.passed.saturating_sub(before.reading.passed);
            inner.push(per_second(count, before.milliseconds));
        }
        certificates(&host.name, &readings, seen.site, &mut said);
        clients(&host.name, readings.last.clients, &mut said);
        // A host that is drained says so itself.
        let drained: BTreeSet<&str> = seen
            .observed
            .iter()
            .filter(|(_, seen)| drained::mark(seen).is_some())
            .map(|(host, _)| host.as_str())
            .collect();
        for (server, words) in readings.down.iter().filter(|(server, _)| !drained.contains(server.as_str())) {
            let help = format!(
                "`infra apply` looks at what {server} needs; it takes requests again by itself when it answers"
            );
            said.find(Some(&host.name), false, format!("sends nothing to {server}, which it sees as {words}"), help);
        }
    }
    for name in closed(seen.site) {
        let what = format!("{name} is under maintenance: visitors get 503");
        said.find(None, true, what, "take `maintenance` out of the inventory, and run `infra apply`, to open it again");
    }
    let mut passes = |from, to, rates: &[f64]| {
        if !rates.is_empty() {
            let words = format!("{:.1} requests/s", rates.iter().sum::<f64>());
            said.passes.push(Passes { from, to, words });
        }
    };
    passes(None, Role::Lb, &edge);
    passes(Some(Role::Lb), Role::Web, &inner);
    said
}

#[expect(clippy::cast_precision_loss, reason = "a figure to look at")]
fn per_second(count: u64, milliseconds: u64) -> f64 {
    count as f64 * 1000.0 / milliseconds.max(1) as f64
}

/// How much of the room for clients is taken, where that is nearly all.
fn clients(host: &HostName, (are, most): (u64, u64), said: &mut Said) {
    if most == 0 {
        return;
    }
    #[expect(clippy::cast_precision_loss, reason = "a figure to look at")]
    let mut figure = |name, help, number: u64| said.figure(host, name, help, number as f64);
    figure("edge_clients", "Connections of clients to the load balancer.", are);
    figure("edge_clients_most", "As many connections of clients as the load balancer takes.", most);
    let help = "whoever comes beyond that waits: another load balancer, more memory, or more files for a process (`fs.nr_open`, or \
                the limit of a container) make room";
    Taken { are, most }.find(host, ("", "connections"), help, said);
}

fn certificates(host: &HostName, readings: &Readings, site: &Site, said: &mut Said) {
    let each = site.sites.keys().map(|name: &DnsName| Shown {
        host: host.clone(),
        site: Some(name.clone()),
        not_after: readings.certificates.get(&site_pem(name)).copied(),
    });
    said.certificates.extend(each);
}

#[cfg(test)]
mod tests;
