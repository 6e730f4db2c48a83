//! The fleet as a person reads it on one screen of 80 columns: takes the [`View`], gives the hosts, what is wrong first, the sites with
//! their requests per second, and every trouble with its way out.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use time::OffsetDateTime;
use time::macros::format_description;

use super::text::{Paint, SCREEN, bytes, clean, count, folded, names, natural};
use crate::base::net::HostName;
use crate::fleet::status::{HostView, SiteView, View, days};
use crate::inventory::site::Site;

pub mod figures;
pub mod lines;
pub mod page;
mod picture;

/// Up to this many hosts each has a line of its own.
const HOSTS: usize = 24;
/// Most lines of hosts in trouble, and of troubles.
const LINES: usize = 40;
/// Most sites with a line of their own.
const SITES: usize = 20;

/// The whole screen, with a line end.
pub fn draw(site: &Site, view: &View, paint: Paint) -> String {
    let mut out = head(site, view).lines().fold(String::new(), |out, line| format!("{out}{}\n", paint.strong(line)));
    out.push_str(&hosts(view, paint));
    out.push_str(&sites(view, paint));
    out.push_str(&findings(view, paint));
    out
}

/// The hosts in the order in which a person wants to see them: the worst first, then by role and name.
pub fn ordered(view: &View) -> Vec<&HostView> {
    let mut hosts: Vec<&HostView> = view.hosts.values().collect();
    hosts.sort_by_cached_key(|host| {
        (rank(host), std::cmp::Reverse(host.troubles), host.roles.clone(), natural(host.host.as_str()))
    });
    hosts
}

/// 0 is the worst.
fn rank(host: &HostView) -> u8 {
    match host {
        HostView { away: Some(_), .. } => 0,
        HostView { troubles: 1.., .. } => 1,
        HostView { notes: 1.., .. } => 2,
        _ => 3,
    }
}

/// A host in one word or two.
pub fn state(host: &HostView) -> String {
    match rank(host) {
        0 => "away".to_owned(),
        1 => format!("{} wrong", host.troubles),
        _ => "well".to_owned(),
    }
}

/// The sites, those with the most errors and requests first.
pub fn ordered_sites(view: &View) -> Vec<&SiteView> {
    let mut sites: Vec<&SiteView> = view.sites.values().collect();
    let key = |site: &SiteView| (site.classes[4], site.per_second.unwrap_or(0.0));
    sites.sort_by(|a, b| key(b).0.total_cmp(&key(a).0).then(key(b).1.total_cmp(&key(a).1)).then(a.site.cmp(&b.site)));
    sites
}

/// `2026-11-26 16:02:11 UTC`.
pub fn moment(seconds: i64) -> String {
    let format = format_description!("[year]-[month]-[day] [hour]:[minute]:[second] UTC");
    OffsetDateTime::from_unix_timestamp(seconds).ok().and_then(|at| at.format(format).ok()).unwrap_or_default()
}

/// What is said of the whole: `6 hosts, 1 away, 2 with something wrong`.
pub fn summary(view: &View) -> String {
    let number = |of: u8| view.hosts.values().filter(|host| rank(host) == of).count();
    let (away, wrong) = (number(0), number(1));
    let mut parts = vec![count(view.hosts.len(), "host")];
    if away > 0 {
        parts.push(format!("{away} away"));
    }
    if wrong > 0 {
        parts.push(format!("{wrong} with something wrong"));
    }
    let fleet = view.findings.iter().filter(|finding| finding.host.is_none() && !finding.minor).count();
    if fleet > 0 {
        parts.push(format!("{fleet} wrong with the fleet"));
    }
    if parts.len() == 1 {
        parts.push("all well".to_owned());
    }
    parts.join(", ")
}

fn head(site: &Site, view: &View) -> String {
    let rates: Vec<f64> = view.sites.values().filter_map(|site| site.per_second).collect();
    let rate = if rates.is_empty() { String::new() } else { format!(" · {} requests/s", number(rates.iter().sum())) };
    let (whole, when) = (format!("{}: {}{rate}", site.name, summary(view)), moment(view.now));
    let fits = whole.chars().count() + 3 + when.chars().count() <= SCREEN;
    if fits { format!("{whole} · {when}") } else { format!("{}  {when}", folded(&whole, 0)) }
}

/// `0`, `3.2`, `127`.
pub fn number(value: f64) -> String {
    if value <= 0.0 {
        "0".to_owned()
    } else if value < 99.95 {
        format!("{value:.1}")
    } else {
        format!("{value:.0}")
    }
}

/// `59 d`, or `-`.
pub fn left(until: Option<i64>, now: i64) -> String {
    until.map_or_else(|| "-".to_owned(), |end| format!("{} d", days(end, now)))
}

/// How long ago something of a host was last accepted by the monitoring service, `8 s`: of what has something waiting, the longest;
/// `-` where that was not seen.
fn sent(host: &HostView, now: i64) -> String {
    let newest = host.deliveries.iter().map(|one| one.at).max();
    let waits = host.deliveries.iter().filter(|one| one.waiting > 0).map(|one| one.at).min();
    waits.or(newest).flatten().map_or_else(|| "-".to_owned(), |at| ago(now.saturating_sub(at)))
}

/// The same of each: `measures 8 s ago, logs 3 min ago`.
pub fn deliveries(host: &HostView, now: i64) -> String {
    let each = host.deliveries.iter().map(|one| match one.at {
        Some(at) => format!("{} {} ago", one.what, ago(now.saturating_sub(at))),
        None => format!("no {} yet", one.what),
    });
    each.collect::<Vec<_>>().join(", ")
}

/// `8 s`, `12 min`, `3 h`, `4 d`.
fn ago(seconds: i64) -> String {
    match seconds.max(0) {
        seconds @ ..120 => format!("{seconds} s"),
        seconds @ ..7_200 => format!("{} min", seconds / 60),
        seconds @ ..172_800 => format!("{} h", seconds / 3_600),
        seconds => format!("{} d", seconds / 86_400),
    }
}

/// `sends`: whether there is a monitoring service to which hosts send.
fn row(host: &HostView, now: i64, sends: bool) -> Vec<String> {
    let some = |number: usize| if number == 0 { "-".to_owned() } else { number.to_string() };
    let roles: Vec<&str> = host.roles.iter().map(|role| role.as_str()).collect();
    let runs = host.units.iter().filter(|unit| unit.good).count();
    let units = if host.units.is_empty() { "-".to_owned() } else { format!("{runs}/{}", host.units.len()) };
    let mut row = vec![
        host.host.to_string(),
        roles.join(","),
        state(host),
        units,
        some(host.drift.len()),
        some(host.owed.len()),
        left(host.certificates_until, now),
        host.free.map_or_else(|| "-".to_owned(), bytes),
    ];
    row.extend(sends.then(|| sent(host, now)));
    row.push(clean(&host.words.join(", ")));
    row
}

/// Rows in columns as wide as their widest cell. The last column comes below where it would not fit.
fn table(rows: &[Vec<String>], paint: Paint, bad: &dyn Fn(usize) -> bool) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut out = String::new();
    for (index, row) in rows.iter().enumerate() {
        let Some((last, cells)) = row.split_last() else { continue };
        let cells: Vec<String> = cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        let line = format!("  {}", cells.join("  "));
        let fits = line.chars().count() + 2 + last.chars().count() <= SCREEN;
        let line = if fits { format!("{line}  {last}") } else { line };
        let line = line.trim_end();
        let painted = match index {
            0 => paint.faint(line),
            _ if bad(index - 1) => paint.bad(line),
            _ => line.to_owned(),
        };
        let _ = writeln!(out, "{painted}");
        if !fits {
            out.push_str(&folded(last, 6));
        }
    }
    out
}

fn hosts(view: &View, paint: Paint) -> String {
    let all = ordered(view);
    let (shown, grouped): (Vec<&HostView>, Vec<&HostView>) =
        all.into_iter().partition(|host| view.hosts.len() <= HOSTS || rank(host) < 2);
    let mut out = String::new();
    if !shown.is_empty() {
        let sends = view.hosts.values().any(|host| !host.deliveries.is_empty());
        let heads = ["host", "roles", "is", "units", "drift", "owed", "cert", "free"].into_iter();
        let heads = heads.chain(sends.then_some("sent")).chain([""]);
        let mut rows = vec![heads.map(str::to_owned).collect()];
        rows.extend(shown.iter().take(LINES).map(|host| row(host, view.now, sends)));
        let _ = write!(out, "\n{}", table(&rows, paint, &|index| shown.get(index).is_some_and(|host| rank(host) < 2)));
        if shown.len() > LINES {
            let _ = writeln!(out, "  and {} more, not well either", shown.len() - LINES);
        }
    }
    if !grouped.is_empty() {
        out.push('\n');
        out.push_str(&groups(&grouped, view.now));
    }
    out
}

/// Hosts that are well, those of the same roles in one line.
fn groups(hosts: &[&HostView], now: i64) -> String {
    let mut groups: BTreeMap<Vec<&str>, Vec<&HostView>> = BTreeMap::new();
    for host in hosts {
        groups.entry(host.roles.iter().map(|role| role.as_str()).collect()).or_default().push(host);
    }
    let mut out = String::new();
    for (roles, members) in groups {
        let those: Vec<&HostName> = members.iter().map(|host| &host.host).collect();
        let units: usize = members.iter().map(|host| host.units.len()).sum();
        let first = members.iter().filter_map(|host| host.certificates_until).min();
        let least = members.iter().filter_map(|host| host.free).min().unwrap_or(0);
        let line = format!(
            "{} of {} well: {}; {} run, the first certificate ends in {}, the least free disk is {}",
            count(members.len(), "host"),
            roles.join(","),
            names(&those),
            count(units, "unit"),
            left(first, now),
            bytes(least)
        );
        out.push_str(&folded(&line, 2));
    }
    out
}

fn sites(view: &View, paint: Paint) -> String {
    if view.sites.is_empty() {
        return String::new();
    }
    let all = ordered_sites(view);
    let mut rows =
        vec![["site", "req/s", "2xx", "3xx", "4xx", "5xx", "errors", "cert", ""].map(str::to_owned).to_vec()];
    for site in all.iter().take(SITES) {
        let class = |at: usize| site.per_second.map_or_else(|| "-".to_owned(), |_| number(site.classes[at]));
        let errors = site.errors.map_or_else(|| "-".to_owned(), |share| format!("{:.1} %", share * 100.0));
        rows.push(vec![
            site.site.to_string(),
            site.per_second.map_or_else(|| "-".to_owned(), number),
            class(1),
            class(2),
            class(3),
            class(4),
            errors,
            left(site.certificate_until, view.now),
            shares(site),
        ]);
    }
    let wrong = |index: usize| all.get(index).is_some_and(|site| site.errors.is_some_and(|errors| errors >= 0.05));
    let mut out = format!("\n{}", table(&rows, paint, &wrong));
    if all.len() > SITES {
        let rest: f64 = all.iter().skip(SITES).filter_map(|site| site.per_second).sum();
        let more = count(all.len() - SITES, "more site");
        let _ = writeln!(out, "  and {more}, {} requests/s together", number(rest));
    }
    out
}

/// `lb1 12.0, lb2 0 over 1.0 s`.
pub fn shares(site: &SiteView) -> String {
    let known: Vec<_> = site.hosts.iter().filter(|share| share.seconds > 0.0).collect();
    let each: Vec<String> = known.iter().map(|share| format!("{} {}", share.host, number(share.per_second))).collect();
    match known.iter().map(|share| share.seconds).reduce(f64::max) {
        Some(longest) => format!("{} over {}", each.join(", "), super::text::seconds(longest)),
        None => String::new(),
    }
}

/// Troubles, each once with all of its hosts.
pub fn grouped(view: &View, minor: bool) -> Vec<(String, String, String)> {
    let mut order: Vec<(&str, &str)> = Vec::new();
    let mut hosts: BTreeMap<(&str, &str), Vec<&HostName>> = BTreeMap::new();
    let away = view.hosts.values().filter(|host| !minor && host.away.is_some());
    let away = away.filter_map(|host| Some((&host.host, host.away.as_deref()?)));
    let away: Vec<(Option<&HostName>, &str, &str)> =
        away.map(|(host, why)| (Some(host), why, "see to the host and to the way to it")).collect();
    let others = view.findings.iter().filter(|finding| finding.minor == minor);
    let others = others.map(|one| (one.host.as_ref(), one.what.as_str(), one.help.as_str()));
    for (host, what, help) in away.into_iter().chain(others) {
        if !hosts.contains_key(&(what, help)) {
            order.push((what, help));
        }
        hosts.entry((what, help)).or_default().extend(host);
    }
    let each = order.into_iter().map(|key| {
        let mut those = hosts.remove(&key).unwrap_or_default();
        those.sort_by_cached_key(|host| natural(host.as_str()));
        (names(&those), key.0.to_owned(), key.1.to_owned())
    });
    each.collect()
}

fn findings(view: &View, paint: Paint) -> String {
    let mut out = String::new();
    for (minor, title) in [(false, "not as it should be"), (true, "worth knowing")] {
        let those = grouped(view, minor);
        if those.is_empty() {
            continue;
        }
        let title = if minor { paint.warn(title) } else { paint.bad(title) };
        let _ = writeln!(out, "\n{title}");
        for (hosts, what, help) in those.iter().take(LINES) {
            let place = if hosts.is_empty() { String::new() } else { format!("{hosts}: ") };
            out.push_str(&folded(&clean(&format!("{place}{what}")), 2));
            out.push_str(&folded(&clean(help), 6));
        }
        if those.len() > LINES {
            let _ = writeln!(out, "  and {} more: `infra status --json` has them all", those.len() - LINES);
        }
    }
    out
}

#[cfg(test)]
pub(crate) mod tests;
