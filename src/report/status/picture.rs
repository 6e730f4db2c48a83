//! The fleet as a drawing: takes the [`View`] and the declared flows, gives tiers with their hosts and the hops between them, as
//! coordinates of an SVG that is as wide as a phone. Pure.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::{ordered, state};
use crate::base::visible;
use crate::fleet::status::{HostView, View, days};
use crate::inventory::site::{Party, Role, Site};
use crate::service::firewall::flows::{self, Kind};

/// Its width.
const WIDTH: usize = 380;
/// What is left free at the left and at the right; hops that pass a tier by run there.
const MARGIN: usize = 20;
/// Between two tiers, where the words of a hop stand.
const GAP: usize = 64;
/// How much more, for the words of each hop that passes other tiers by.
const LABEL: usize = 36;
/// The line above the hosts of a tier.
const TITLE: usize = 24;
/// A host with its name, and one without.
const NAMED: (usize, usize) = (106, 26);
const DOT: (usize, usize) = (14, 14);
/// Up to this many hosts of a tier have their names in the drawing.
const NAMES: usize = 9;
/// Days before the end of a certificate from which on its hop is marked.
const SOON: i64 = 14;

/// The drawing.
#[derive(Debug, Serialize)]
pub(super) struct Picture {
    width: usize,
    height: usize,
    tiers: Vec<Tier>,
    hops: Vec<Hop>,
}

/// All hosts of a role, or the internet.
#[derive(Debug, Serialize)]
struct Tier {
    name: String,
    x: usize,
    y: usize,
    width: usize,
    height: usize,
    hosts: Vec<Spot>,
}

/// A host.
#[derive(Debug, Serialize)]
struct Spot {
    x: usize,
    y: usize,
    width: usize,
    height: usize,
    /// `away`, `bad`, `note`, `good`.
    class: &'static str,
    /// What fits; empty where nothing does.
    label: String,
    /// In full.
    title: String,
}

/// Connections from one tier to another.
#[derive(Debug, Serialize)]
struct Hop {
    /// `d` of a path, and of the head of its arrow.
    path: String,
    head: String,
    /// Where its words stand.
    x: usize,
    y: usize,
    /// `8443/tcp, 24.0 requests/s`.
    words: String,
    /// `TLS, for 59 days`.
    tls: String,
    /// `bad`, `note`, `good`.
    class: &'static str,
}

/// How a host is marked.
pub(super) fn class(host: &HostView) -> &'static str {
    match (&host.away, host.troubles, host.notes) {
        (Some(_), ..) => "away",
        (None, 1.., _) => "bad",
        (None, 0, 1..) => "note",
        (None, 0, 0) => "good",
    }
}

pub(super) fn draw(site: &Site, view: &View) -> Picture {
    let roles: Vec<Role> =
        Role::ALL.into_iter().filter(|role| view.hosts.values().any(|host| host.roles.contains(role))).collect();
    let all: Vec<Option<Role>> = std::iter::once(None).chain(roles.into_iter().map(Some)).collect();
    let place = |role: Option<Role>| all.iter().position(|other| *other == role);
    // From where to where by which ports, and whether it passes other tiers by.
    let ways = ways(site).into_iter().filter_map(|((from, to), ports)| {
        let (above, below) = (place(from)?, place(Some(to))?);
        Some((from, to, ports, below != above + 1))
    });
    let ways: Vec<_> = ways.collect();
    let mut y = 4;
    let (mut tiers, mut hops) = (Vec::new(), Vec::new());
    // The row of each tier: where it begins and ends.
    let mut rows: BTreeMap<Option<Role>, (usize, usize)> = BTreeMap::new();
    for role in all.iter().copied() {
        let by = ways.iter().filter(|(_, to, _, by)| Some(*to) == role && *by).count();
        y += by * LABEL;
        let tier = tier(view, role, y);
        rows.insert(role, (tier.y, tier.y + tier.height));
        y = tier.y + tier.height + GAP;
        tiers.push(tier);
    }
    for role in all.iter().copied() {
        let mut label = 0;
        for (from, to, ports, by) in ways.iter().filter(|(_, to, ..)| Some(*to) == role) {
            let (Some(above), Some(below)) = (rows.get(from), rows.get(&Some(*to))) else { continue };
            label += usize::from(*by);
            let label = by.then(|| below.0.saturating_sub(6 + label * LABEL));
            hops.push(hop(view, (*from, *to), ports, (above.1, below.0), label));
        }
    }
    Picture { width: WIDTH, height: y - GAP + 4, tiers, hops }
}

fn tier(view: &View, role: Option<Role>, y: usize) -> Tier {
    let (x, width) = (MARGIN, WIDTH - 2 * MARGIN);
    let Some(role) = role else {
        return Tier { name: "internet".to_owned(), x, y, width, height: TITLE + 6, hosts: Vec::new() };
    };
    let members: Vec<&HostView> = ordered(view).into_iter().filter(|host| host.roles.contains(&role)).collect();
    let named = members.len() <= NAMES;
    let (size, space) = if named { (NAMED, 6) } else { (DOT, 4) };
    let row = ((width - 8) / (size.0 + space)).max(1);
    let hosts = members.iter().enumerate().map(|(at, host)| Spot {
        x: x + 8 + at % row * (size.0 + space),
        y: y + TITLE + at / row * (size.1 + space),
        width: size.0,
        height: size.1,
        class: class(host),
        label: if named { visible::line(&short(host.host.as_str(), 14)).into_owned() } else { String::new() },
        title: format!("{}: {}", host.host, state(host)),
    });
    let hosts: Vec<Spot> = hosts.collect();
    let height = TITLE + members.len().div_ceil(row) * (size.1 + space) + 4;
    let name = format!("{role} · {}", crate::report::text::count(members.len(), "host"));
    Tier { name, x, y, width, height, hosts }
}

/// At most `most` characters.
fn short(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    text.chars().take(most.saturating_sub(1)).chain(['…']).collect()
}

/// Which tier connects to which, by the declared flows, with the ports.
fn ways(site: &Site) -> BTreeMap<(Option<Role>, Role), BTreeSet<u16>> {
    let mut ways: BTreeMap<(Option<Role>, Role), BTreeSet<u16>> = BTreeMap::new();
    for flow in flows::derive(site) {
        let from = match flow.from {
            Party::Internet => None,
            Party::Role(role) => Some(role),
            _ => continue,
        };
        let Party::Role(to) = flow.to else { continue };
        if matches!(flow.kind, Kind::Edge | Kind::Tier | Kind::Database) && from != Some(to) {
            ways.entry((from, to)).or_default().extend(flow.port.map(u16::from));
        }
    }
    ways
}

fn hop(
    view: &View,
    (from, to): (Option<Role>, Role),
    ports: &BTreeSet<u16>,
    (top, bottom): (usize, usize),
    by: Option<usize>,
) -> Hop {
    let mut words: Vec<String> = vec![ports.iter().map(u16::to_string).collect::<Vec<_>>().join(", ")];
    if let (Some(from), Some(_)) = (from, by) {
        words.insert(0, format!("{from} to {to}"));
    }
    words.extend(view.passes.iter().filter(|pass| pass.from == from && pass.to == to).map(|pass| pass.words.clone()));
    let (tls, class) = tls(view, to);
    // Far enough to the left that the words beside it end before the right margin.
    let middle = MARGIN + 40;
    let x = middle + 12;
    // Straight down, or past the tiers between them at the right.
    let (path, head, y) = match by {
        None => {
            let end = bottom.saturating_sub(1);
            (format!("M{middle} {top} V{}", end.saturating_sub(6)), format!("M{middle} {end} l-5 -9 h10 z"), top + 26)
        }
        Some(label) => {
            let (side, edge) = (WIDTH - MARGIN / 2, WIDTH - MARGIN);
            let (start, end) = (top.saturating_sub(10), bottom + 10);
            let path = format!("M{edge} {start} H{side} V{end} H{}", edge + 6);
            (path, format!("M{edge} {end} l9 -5 v10 z"), label)
        }
    };
    // So much of it fits beside the line.
    let words = short(&visible::line(&words.join(" · ")), 36);
    Hop { path, head, x, y, words, tls, class }
}

/// What is known of the certificates that `to` shows.
fn tls(view: &View, to: Role) -> (String, &'static str) {
    let hosts = || view.hosts.values().filter(|host| host.roles.contains(&to) && host.away.is_none());
    let shown = |host: &HostView| {
        let own =
            view.certificates.iter().filter(|one| one.host == host.host && one.site.is_some() == (to == Role::Lb));
        own.map(|one| one.not_after).min()
    };
    if hosts().next().is_none() {
        return ("TLS: nobody there answers".to_owned(), "bad");
    }
    let without = hosts().filter(|host| shown(host).is_none()).count();
    let Some(first) = hosts().filter_map(shown).min() else {
        return ("TLS: no certificate is known".to_owned(), "bad");
    };
    let left = days(first, view.now);
    match (left, without) {
        (..0, _) => ("TLS: a certificate has ended".to_owned(), "bad"),
        (_, 1..) => (format!("TLS: {without} without a known certificate"), "note"),
        (..SOON, _) => (format!("TLS, a certificate ends in {left} d"), "note"),
        _ => (format!("TLS, for {left} d at least"), "good"),
    }
}
