//! The status as figures for a program that keeps them: takes the [`View`], gives the text format that collectors of metrics read from
//! files, version 0.0.4 of it. Every name begins with `infra_` and ends with its unit.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::fleet::status::View;
use crate::inventory::site::Site;

/// One name with its help, and each figure with its labels.
type Metric = (&'static str, Vec<(String, f64)>);

/// All figures, with a line end.
pub fn draw(site: &Site, view: &View) -> String {
    let mut all: BTreeMap<String, Metric> = BTreeMap::new();
    let mut add = |name: &str, help: &'static str, labels: &[(&str, &str)], value: f64| {
        let each: Vec<String> = labels.iter().map(|(label, text)| format!("{label}=\"{}\"", escaped(text))).collect();
        let metric = all.entry(format!("infra_{name}")).or_insert_with(|| (help, Vec::new()));
        metric.1.push((each.join(","), value));
    };
    let yes = |is: bool| f64::from(u8::from(is));
    add(
        "status_time_seconds",
        "When infra looked, seconds since 1970.",
        &[("site", site.name.as_str())],
        whole(view.now),
    );
    for host in view.hosts.values() {
        let name = host.host.as_str();
        let of = [("host", name)];
        for role in &host.roles {
            let labels = [("host", name), ("role", role.as_str())];
            add("host_up", "Whether the host answers and can be worked on.", &labels, yes(host.away.is_none()));
        }
        if host.away.is_some() {
            continue;
        }
        add("host_troubles", "How much is wrong with the host.", &of, size(host.troubles));
        add("drift_changes", "What was changed by someone else since the last run.", &of, size(host.drift.len()));
        add("owed_actions", "Reloads and restarts that earlier runs owe the host.", &of, size(host.owed.len()));
        if let Some(free) = host.free {
            add("disk_free_bytes", "Free bytes where packages, logs and state stand.", &of, figure(free));
        }
        for unit in &host.units {
            let labels = [("host", name), ("unit", unit.unit.as_str())];
            add("unit_active", "Whether a unit that should run does.", &labels, yes(unit.good));
        }
    }
    for host in view.hosts.values() {
        for one in &host.deliveries {
            let of = [("host", host.host.as_str()), ("what", one.what)];
            if let Some(at) = one.at {
                let help = "When some of it was last accepted by the monitoring service, seconds since 1970.";
                add("delivery_time_seconds", help, &of, whole(at));
            }
            add("delivery_waiting", "Measures or log lines that wait to be accepted.", &of, figure(one.waiting));
            let help =
                "Measures or log lines that were thrown away since the agent began, as they could not wait longer.";
            add("delivery_dropped_total", help, &of, figure(one.dropped));
        }
    }
    for one in &view.certificates {
        let (host, help) = (one.host.as_str(), "When a certificate ends, seconds since 1970.");
        let of = one.site.as_ref().map_or("", |site| site.as_str());
        add("cert_not_after_seconds", help, &[("host", host), ("site", of)], whole(one.not_after));
    }
    for site in view.sites.values() {
        for share in &site.hosts {
            let (name, host) = (site.site.as_str(), share.host.as_str());
            let help = "Requests that a load balancer has taken for a site since it was loaded.";
            add("http_requests_total", help, &[("host", host), ("site", name)], figure(share.total));
            for (class, number) in ["1xx", "2xx", "3xx", "4xx", "5xx"].into_iter().zip(share.total_answers) {
                let labels = [("host", host), ("site", name), ("status", class)];
                let help = "Answers of a site by the class of their status since its load balancer was loaded.";
                add("http_responses_total", help, &labels, figure(number));
            }
        }
    }
    for one in &view.figures {
        let labels: Vec<(&str, &str)> = one.labels.iter().map(|(label, text)| (*label, text.as_str())).collect();
        add(one.name, one.help, &labels, one.value);
    }
    let mut out = String::new();
    for (name, (help, figures)) in all {
        let kind = if name.ends_with("_total") { "counter" } else { "gauge" };
        let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
        for (labels, value) in figures {
            let _ = writeln!(out, "{name}{{{labels}}} {value}");
        }
    }
    out
}

/// A value of a label: what its format gives a meaning is escaped, and what would hide.
fn escaped(text: &str) -> String {
    crate::base::visible::line(text).replace('\\', "\\\\").replace('"', "\\\"")
}

#[expect(clippy::cast_precision_loss, reason = "the format has no other numbers")]
fn figure(number: u64) -> f64 {
    number as f64
}

#[expect(clippy::cast_precision_loss, reason = "the format has no other numbers")]
fn whole(number: i64) -> f64 {
    number as f64
}

#[expect(clippy::cast_precision_loss, reason = "the format has no other numbers")]
fn size(number: usize) -> f64 {
    number as f64
}
