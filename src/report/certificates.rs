//! The certificates as a person reads them, and as JSON: takes the judged certificates, gives a screen. What is good is summed up,
//! what is not is named.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;
use time::OffsetDateTime;

use super::text::{Paint, clean, count, names, natural};
use crate::base::material::{CertificateId, Purpose};
use crate::base::net::HostName;
use crate::base::words::first;
use crate::fleet::certificates::{Judged, View};
use crate::fleet::served::Leaf;
use crate::inventory::site::Site;
use crate::pki::internal_ca::date;
use crate::pki::known::Known;
use crate::service::certificates::schedule::Decision;

/// Up to this many sites are shown one by one while they are good.
const SITES: usize = 12;
/// Up to this many lines of one kind of trouble are shown; the rest is counted.
const LINES: usize = 40;
/// Of names in a line so many are told.
const NAMED: usize = 4;

/// `2026-11-23 18:45 UTC`.
pub fn moment(seconds: i64) -> String {
    let at = OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    format!("{} {:02}:{:02} UTC", at.date(), at.hour(), at.minute())
}

/// When it is renewed, and why.
pub fn next(known: &Known) -> String {
    if let Some(file) = &known.by_hand {
        return match &known.next {
            Decision::Good { until, .. } => format!("bought: put its successor into {file} from {} on", moment(*until)),
            Decision::Order { why, .. } | Decision::Deferred { why, .. } => {
                format!("bought: put its successor into {file} now, as {why}")
            }
        };
    }
    match &known.next {
        Decision::Good { until, why } => format!("renewed from {}: {why}", moment(*until)),
        Decision::Order { why, .. } => format!("due: {why}"),
        Decision::Deferred { until, why } => format!("due, waits until {}: {why}", moment(*until)),
    }
}

/// The whole screen, with a line end.
pub fn draw(site: &Site, view: &View, paint: Paint) -> String {
    let mut out = format!("{}\n", paint.strong(&head(site, view)));
    if !view.roots.is_empty() {
        out.push_str("\nauthorities\n");
        out.push_str(&roots(view, paint));
    }
    if !view.sites.is_empty() {
        out.push_str("\nsites\n");
        out.push_str(&sites(view));
    }
    if !view.hops.is_empty() {
        out.push_str("\nbetween hosts\n");
        out.push_str(&hops(view));
    }
    let troubles = troubles(view);
    if !troubles.is_empty() {
        let _ = writeln!(out, "\n{}", paint.bad("not as it should be"));
        for line in troubles.iter().take(LINES) {
            let _ = writeln!(out, "  {}", clean(line));
        }
        if troubles.len() > LINES {
            let _ = writeln!(out, "  and {} more; `--json` has all", troubles.len() - LINES);
        }
    }
    out
}

fn head(site: &Site, view: &View) -> String {
    let (of_sites, of_hosts) = (count(view.sites.len(), "site"), count(view.hops.len(), "hop certificate"));
    let bad = view.all().filter(|judged| !judged.good()).count();
    let verdict = match (bad, view.unasked.len()) {
        (0, 0) if view.good() => "all are shown where they should be".to_owned(),
        (0, 0) => "an authority has ended".to_owned(),
        (0, unasked) => format!("{} not asked", count(unasked, "host")),
        (bad, 0) => format!("{bad} not as they should be"),
        (bad, unasked) => format!("{bad} not as they should be, {} not asked", count(unasked, "host")),
    };
    let verdict = if view.state { verdict } else { format!("this state folder holds no certificate yet; {verdict}") };
    format!("certificates of {}: {of_sites}, {of_hosts} on {}: {verdict}", site.name, count(view.asked.len(), "host"))
}

fn roots(view: &View, paint: Paint) -> String {
    let mut out = String::new();
    for root in &view.roots {
        let (days, end) = ((root.not_after - view.now).div_euclid(86_400), date(root.not_after));
        let when = if days < 0 { paint.bad("has ended") } else { format!("replaced from {}", date(root.due)) };
        let domains = first(&root.domains, NAMED);
        let _ = writeln!(out, "  {} signs {domains}; until {end}, {when}", root.title);
    }
    if let Some(rotation) = &view.rotation {
        let _ = writeln!(out, "  {}", paint.warn(&format!("rotation under way, {rotation}")));
    }
    out
}

fn sites(view: &View) -> String {
    let mut out = String::new();
    let (good, bad): (Vec<&Judged>, Vec<&Judged>) = view.sites.iter().partition(|judged| judged.good());
    if good.len() > SITES {
        let _ = writeln!(out, "  {}: {}", count(good.len(), "site"), range(&good, view.now));
        let due: Vec<String> = good.iter().filter(|j| j.known.is_due()).map(|j| main_name(&j.known)).collect();
        if !due.is_empty() {
            let _ = writeln!(out, "    due: {}", first(&due, NAMED));
        }
    }
    let shown = bad.into_iter().take(LINES).chain(good.iter().copied().filter(|_| good.len() <= SITES));
    for judged in shown {
        let known = &judged.known;
        let _ = writeln!(out, "  {}", first(&known.names, NAMED));
        match (&known.issuer, known.life) {
            (Some(issuer), Some(life)) => {
                let days = count(usize::try_from(known.days_left(view.now).unwrap_or(0)).unwrap_or(0), "day");
                let _ = writeln!(out, "    by {issuer}: {days} left, until {}", date(life.not_after));
            }
            _ => out.push_str("    none yet\n"),
        }
        let _ = writeln!(out, "    {}", clean(&next(known)));
        if let Some(last) = &known.last_failure {
            let times = count(known.failures as usize, "time");
            let _ = writeln!(out, "    failed {times} in a row, last: {}", clean(last));
        }
        let hosts = hosts(judged, true);
        if !hosts.is_empty() {
            let _ = writeln!(out, "    shown by {}", list(&hosts));
        }
    }
    out
}

/// Hosts with the same kinds of certificates once, with the days that are left.
fn hops(view: &View) -> String {
    let mut by_host: BTreeMap<&str, Vec<&Judged>> = BTreeMap::new();
    for judged in view.hops.iter().filter(|judged| judged.good()) {
        by_host.entry(host_of(&judged.known)).or_default().push(judged);
    }
    let mut groups: BTreeMap<(String, String), Vec<&Judged>> = BTreeMap::new();
    for all in by_host.into_values() {
        let kinds: Vec<&str> = all.iter().map(|judged| kind(&judged.known)).collect();
        let due = all.iter().find(|judged| judged.known.is_due()).map_or_else(String::new, |j| next(&j.known));
        groups.entry((kinds.join(", "), due)).or_default().extend(all);
    }
    let rows: Vec<[String; 3]> = groups
        .into_iter()
        .map(|((kinds, due), members)| {
            let hosts = members.iter().filter_map(|judged| host_of(&judged.known).parse().ok()).collect();
            let about = if due.is_empty() { range(&members, view.now) } else { due };
            [list(&hosts), kinds, about]
        })
        .collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0).min(60);
    let (first, second) = (width(0), width(1));
    rows.iter().fold(String::new(), |mut out, [hosts, kinds, about]| {
        let _ = writeln!(out, "  {hosts:<first$}  {kinds:<second$}  {about}");
        out
    })
}

/// `59 days left, renewed from 2027-01-02`; of several the span, and the first.
fn range(all: &[&Judged], now: i64) -> String {
    let days: Vec<i64> = all.iter().filter_map(|judged| judged.known.days_left(now)).collect();
    let (least, most) = (days.iter().min().copied().unwrap_or(0), days.iter().max().copied().unwrap_or(0));
    let left = if least == most {
        format!("{} left", count(least, "day"))
    } else {
        format!("{least} to {} left", count(most, "day"))
    };
    let first = all.iter().filter_map(|judged| match judged.known.next {
        Decision::Good { until, .. } => Some(until),
        _ => None,
    });
    first.min().map_or_else(|| left.clone(), |until| format!("{left}, renewed from {}", date(until)))
}

/// What is wrong, each once: the same on several hosts in one line, several places of one host in one line.
fn troubles(view: &View) -> Vec<String> {
    let mut by_host: BTreeMap<(&HostName, &str), Vec<String>> = BTreeMap::new();
    for sight in view.all().flat_map(|judged| &judged.sights) {
        if let Some(wrong) = &sight.wrong {
            by_host.entry((&sight.host, wrong)).or_default().push(sight.place.to_string());
        }
    }
    let mut grouped: BTreeMap<(String, &str), BTreeSet<HostName>> = BTreeMap::new();
    for ((host, wrong), places) in by_host {
        grouped.entry((first(&places, NAMED), wrong)).or_default().insert(host.clone());
    }
    let mut lines: Vec<String> =
        grouped.iter().map(|((places, wrong), hosts)| format!("{}: {places}: {wrong}", list(hosts))).collect();
    let failing = view.hops.iter().filter(|judged| judged.failing);
    lines.extend(
        failing.map(|j| format!("{}: the {} certificate is {}", host_of(&j.known), kind(&j.known), next(&j.known))),
    );
    lines.extend(
        view.sites.iter().filter(|j| j.failing).map(|j| format!("{}: {}", main_name(&j.known), next(&j.known))),
    );
    let mut silent: BTreeMap<&str, BTreeSet<HostName>> = BTreeMap::new();
    for (host, why) in &view.unasked {
        silent.entry(why).or_default().insert(host.clone());
    }
    lines.extend(silent.iter().map(|(why, hosts)| format!("{}: not asked: {why}", list(hosts))));
    lines
}

/// Hosts where it is right everywhere (or wrong somewhere).
fn hosts(judged: &Judged, right: bool) -> BTreeSet<HostName> {
    let wrong: BTreeSet<HostName> =
        judged.sights.iter().filter(|sight| sight.wrong.is_some()).map(|sight| sight.host.clone()).collect();
    let all = judged.sights.iter().map(|sight| sight.host.clone());
    all.filter(|host| wrong.contains(host) != right).collect()
}

fn list(hosts: &BTreeSet<HostName>) -> String {
    let mut hosts: Vec<&HostName> = hosts.iter().collect();
    hosts.sort_by_cached_key(|host| natural(host.as_str()));
    names(&hosts)
}

fn main_name(known: &Known) -> String {
    known.names.first().cloned().unwrap_or_default()
}

/// Whose it is: a host's, or a site's.
fn host_of(known: &Known) -> &str {
    match &known.id {
        CertificateId::Hop { host, .. } => host.as_str(),
        CertificateId::Site(name) => name.as_str(),
    }
}

/// `client`, `server` or `site`.
fn kind(known: &Known) -> &'static str {
    match &known.id {
        CertificateId::Hop { purpose: Purpose::Client, .. } => "client",
        CertificateId::Hop { purpose: Purpose::Server, .. } => "server",
        CertificateId::Site(_) => "site",
    }
}

/// A certificate: how it is, or what a step of its renewal came to. What is not told of it is null.
#[derive(Debug, Default, Serialize, JsonSchema)]
pub struct CertificateLine<'a> {
    /// `site`, or `client` or `server` between hosts.
    kind: &'static str,
    /// The site whose it is.
    site: Option<&'a str>,
    /// The host whose it is.
    host: Option<&'a HostName>,
    /// A step of its renewal: `order`, `deferred`, `obtained`.
    step: Option<&'a str>,
    /// What comes of the step, a sentence.
    text: Option<&'a str>,
    /// What is ordered, in full.
    order: Option<&'a Value>,
    /// Names and addresses, the main one first.
    names: Option<&'a [String]>,
    /// Who signed it.
    issuer: Option<&'a str>,
    /// Seconds since 1970.
    not_after: Option<i64>,
    /// Days until then, rounded down.
    days_left: Option<i64>,
    /// Of its DER, lower-case hex.
    sha256: Option<&'a str>,
    /// When it is renewed, and why.
    next: Option<String>,
    /// Whether it should have been renewed by now.
    due: Option<bool>,
    /// Failures of its renewal in a row.
    failures: Option<u32>,
    /// The last of them.
    last_failure: Option<&'a str>,
    /// Whether it is shown wherever it should be, and its renewal does not go wrong.
    good: Option<bool>,
    /// Every place where it was looked for.
    places: Option<Vec<PlaceView<'a>>>,
}

impl<'a> CertificateLine<'a> {
    /// What a step of the renewal of a site's certificate came to.
    pub fn step(step: &'a str, site: &'a str, text: &'a str, order: Option<&'a Value>) -> Self {
        Self { kind: "site", site: Some(site), step: Some(step), text: Some(text), order, ..Self::default() }
    }

    fn of(judged: &'a Judged, now: i64) -> Self {
        let known = &judged.known;
        let places = judged.sights.iter().map(|sight| PlaceView {
            host: &sight.host,
            place: sight.place.to_string(),
            good: sight.wrong.is_none(),
            leaf: sight.leaf.as_ref(),
            wrong: sight.wrong.as_deref(),
        });
        let (site, host) = match &known.id {
            CertificateId::Site(name) => (Some(name.as_str()), None),
            CertificateId::Hop { host, .. } => (None, Some(host)),
        };
        Self {
            kind: kind(known),
            site,
            host,
            names: Some(&known.names),
            issuer: known.issuer.as_deref(),
            not_after: known.life.map(|life| life.not_after),
            days_left: known.days_left(now),
            sha256: known.sha256.as_deref(),
            next: Some(next(known)),
            due: Some(known.is_due()),
            failures: Some(known.failures),
            last_failure: known.last_failure.as_deref(),
            good: Some(judged.good()),
            places: Some(places.collect()),
            ..Self::default()
        }
    }
}

/// One place where a certificate was looked for.
#[derive(Debug, Serialize, JsonSchema)]
struct PlaceView<'a> {
    host: &'a HostName,
    /// A listener, or a file.
    place: String,
    /// Whether the certificate is there.
    good: bool,
    /// What is there.
    leaf: Option<&'a Leaf>,
    /// What is wrong with that.
    wrong: Option<&'a str>,
}

/// An internal authority.
#[derive(Debug, Serialize, JsonSchema)]
pub struct AuthorityLine<'a> {
    /// `hops` between hosts, or `sites`.
    kind: &'static str,
    /// Its common name.
    title: &'a str,
    /// What it may sign for.
    domains: &'a [String],
    /// Seconds since 1970.
    not_after: i64,
    /// From when on it is replaced, seconds since 1970.
    due: i64,
    /// Where its replacement stands, if it is being replaced.
    rotation: Option<&'a str>,
}

/// A line for each certificate.
pub fn certificate_lines(view: &View) -> impl Iterator<Item = CertificateLine<'_>> {
    view.all().map(|judged| CertificateLine::of(judged, view.now))
}

/// A line for each authority.
pub fn authority_lines(view: &View) -> impl Iterator<Item = AuthorityLine<'_>> {
    view.roots.iter().map(|root| AuthorityLine {
        kind: if root.hops { "hops" } else { "sites" },
        title: &root.title,
        domains: &root.domains,
        not_after: root.not_after,
        due: root.due,
        rotation: view.rotation.as_deref().filter(|_| root.hops),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::certificates::judge;
    use crate::fleet::certificates::tests::{NOW, file, known, port};
    use crate::fleet::served::Served;
    use crate::pki::known::{Overview, Root};

    fn root() -> Root {
        Root {
            title: "infra shop hops 2026-11-23".into(),
            domains: vec!["shop.infra.internal".into()],
            not_after: NOW + 3650 * 86_400,
            due: NOW + 2433 * 86_400,
            hops: true,
        }
    }

    /// `bad` web hosts of `webs` hold another server certificate.
    fn view(webs: usize, bad: usize, sites: usize) -> View {
        let mut overview = Overview { roots: vec![root()], rotation: None, certificates: Vec::new(), state: true };
        let mut answers: BTreeMap<HostName, Served> = BTreeMap::new();
        let mut edge = Vec::new();
        for number in 1..=sites {
            let (material, name) = (format!("site/s{number}.example.com"), format!("s{number}.example.com"));
            overview.certificates.push(known(&material, &[&name, &format!("www.{name}")]));
            edge.push(port(&material, &name, Some(&material)));
        }
        for lb in ["lb1", "lb2"] {
            let material = format!("pki/{lb}/client");
            overview.certificates.push(known(&material, &[lb]));
            let own = file(&material, Some(&material));
            answers.insert(lb.parse().unwrap(), Ok(edge.iter().cloned().chain([own]).collect()));
        }
        for number in 1..=webs {
            let host = format!("web{number}");
            let [client, server] = ["client", "server"].map(|kind| format!("pki/{host}/{kind}"));
            overview.certificates.extend([known(&client, &[&host]), known(&server, &[&host])]);
            let shown = if number > bad { server.as_str() } else { "another" };
            let seen =
                vec![file(&client, Some(&client)), file(&server, Some(shown)), port(&server, &host, Some(&server))];
            answers.insert(host.parse().unwrap(), Ok(seen));
        }
        judge(overview, answers, NOW)
    }

    fn site() -> Site {
        crate::report::sample::site(&[])
    }

    #[test]
    fn a_small_fleet_reads_well() {
        insta::assert_snapshot!("certificates_good", draw(&site(), &view(3, 0, 1), Paint::default()));
        let mut bad = view(3, 1, 1);
        bad.rotation = Some("step 1 of 3: all hosts must learn to trust the new authority".into());
        bad.unasked.insert("app1".parse().unwrap(), "10.0.3.11:22: no route to host".into());
        insta::assert_snapshot!("certificates_bad", draw(&site(), &bad, Paint::default()));
    }

    #[test]
    fn a_large_fleet_stays_bounded() {
        let good = draw(&site(), &view(1000, 0, 300), Paint::default());
        assert!(good.lines().count() < 14, "{good}");
        assert!(good.contains("web[1-1000]"), "{good}");
        let bad = draw(&site(), &view(1000, 1000, 300), Paint::default());
        assert!(bad.lines().count() < 70, "{bad}");
    }

    #[test]
    fn lines_hold_every_certificate_and_no_key() {
        let view = view(2, 1, 1);
        let lines: Vec<Value> = certificate_lines(&view).map(|line| serde_json::to_value(line).unwrap()).collect();
        assert_eq!(lines.len(), 7);
        assert_eq!(lines.iter().filter(|line| line["good"] == false).count(), 1);
        assert_eq!(lines[0]["site"], "s1.example.com");
        assert_eq!(authority_lines(&view).count(), 1);
        assert!(!serde_json::to_string(&lines).unwrap().contains("PRIVATE"));
    }
}
