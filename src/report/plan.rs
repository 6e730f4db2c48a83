//! The plan as a person reads it: takes the plan and its site, gives the table of phases and hosts, then every change, hosts
//! with the same change once; as parts, for whoever sets them, and as one text.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use super::change;
use super::text::{Paint, clean, count, names, natural, replace_alone};
use crate::base::net::HostName;
use crate::inventory::site::{Role, Site};
use crate::plan::behind::{Behind, Half};
use crate::plan::plan::{HostPlan, Plan};
use crate::plan::state::Phase;
use crate::plan::step::StepKind;
use crate::service::Services;

/// How it is drawn.
#[derive(Debug, Clone, Copy)]
pub struct View {
    /// Columns of the terminal.
    pub width: usize,
    /// Whether the text of new files is shown.
    pub verbose: bool,
    /// Colour.
    pub paint: Paint,
    /// Who says what happens in a phase.
    pub services: Services,
}

/// Columns before the hosts' own.
const PHASE: usize = 13;

/// What a plan comes to, part by part.
pub(super) struct Parts {
    /// How many hosts change, in one line.
    pub(super) head: String,
    /// Phases down, hosts across; none where nothing is to do on any host.
    pub(super) table: Option<Table>,
    /// The changes.
    pub(super) groups: Vec<Group>,
    /// Flows that open on one end alone, a sentence each.
    pub(super) halves: Vec<String>,
    /// Whether `-v` shows more than this.
    pub(super) more: bool,
}

/// Phases down, and hosts or roles across.
pub(super) struct Table {
    /// What stands across, where that is not hosts.
    pub(super) title: Option<&'static str>,
    /// Above the cells.
    pub(super) heads: Vec<String>,
    /// A phase, what changes in it for each head, and what it is about.
    pub(super) rows: Vec<(Phase, Vec<String>, &'static str)>,
    /// What has no column.
    pub(super) rest: Option<String>,
}

/// Hosts that change in the same way.
pub(super) struct Group {
    /// Their names.
    pub(super) hosts: String,
    /// How far the change is the same; may be empty.
    pub(super) note: String,
    /// The changes, as lines.
    pub(super) lines: Vec<String>,
}

/// The parts of a plan. `view.width` decides how wide the table may be.
pub(super) fn parts(site: &Site, plan: &Plan, view: View) -> Parts {
    let hosts = ordered(site, plan);
    let half = |(why, half): (&Behind, &Half)| {
        let others: Vec<&HostName> = half.others.iter().collect();
        let flows = half.flows.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
        let (names, which) = (names(&others), why.of(others.len()));
        clean(&format!("! half a change: {flows} opens on one end alone; the other end is on {names}, which {which}"))
    };
    let hidden = |h: &HostPlan| change::lines(h, true, Paint::default()) != change::lines(h, false, Paint::default());
    Parts {
        head: head(site, plan),
        table: (!plan.leaves_hosts()).then(|| table(site, plan, &hosts, view)),
        groups: groups(site, plan, &hosts, view),
        halves: plan.halves.iter().map(half).collect(),
        more: !view.verbose && plan.hosts.values().any(hidden),
    }
}

/// The whole plan, with a line end.
pub fn draw(site: &Site, plan: &Plan, view: View) -> String {
    let Parts { head, table, groups, halves, more } = parts(site, plan, view);
    let mut out = view.paint.strong(&head) + "\n";
    if let Some(table) = table {
        out.push('\n');
        out.push_str(&table.text(view.paint));
    }
    for Group { hosts, note, lines } in groups {
        let _ = writeln!(out, "\n{}{note}\n{}", view.paint.strong(&hosts), lines.join("\n"));
    }
    for half in halves {
        let _ = writeln!(out, "\n{}", view.paint.warn(&half));
    }
    if more {
        let _ =
            writeln!(out, "\n{}", view.paint.faint("-v shows the text of new files, and all partners of the flows"));
    }
    out
}

fn head(site: &Site, plan: &Plan) -> String {
    let all = count(plan.hosts.len(), "host");
    let changed = plan.changed().count();
    let mut steps: BTreeMap<StepKind, usize> = BTreeMap::new();
    plan.steps.iter().for_each(|step| *steps.entry(step.kind).or_default() += 1);
    let mut head = if plan.leaves_hosts() && steps.is_empty() {
        format!("plan for {}: {all}, nothing to do", site.name)
    } else {
        format!("plan for {}: {all}, {changed} to change, {} unchanged", site.name, plan.hosts.len() - changed)
    };
    for (kind, number) in steps {
        let _ = write!(head, ", {}", kind.to_do(number));
    }
    let drifted: Vec<&HostName> = plan.hosts.iter().filter(|(_, h)| !h.drift.is_empty()).map(|(n, _)| n).collect();
    if !drifted.is_empty() {
        let _ = write!(head, ", drift on {}", names(&drifted));
    }
    head
}

/// From the internet inwards, and by number.
fn ordered<'a>(site: &Site, plan: &'a Plan) -> Vec<&'a HostName> {
    let mut hosts: Vec<&HostName> = plan.hosts.keys().collect();
    hosts.sort_by_cached_key(|name| (roles(site, name), natural(name.as_str())));
    hosts
}

fn roles(site: &Site, name: &HostName) -> BTreeSet<Role> {
    site.hosts.get(name).map(|h| h.roles.clone()).unwrap_or_default()
}

fn weight(plan: &Plan, host: &HostName, phase: Phase) -> usize {
    let actions = plan.hosts.get(host).and_then(|h| h.phases.get(&phase));
    actions.map_or(0, |a| change::weight(a))
}

/// Whether what is to be closed stays open for others.
fn is_put_off(plan: &Plan, host: &HostName, phase: Phase) -> bool {
    phase == Phase::Narrow && plan.hosts.get(host).is_some_and(|host| !host.kept_for.is_empty())
}

/// Phases down, hosts across; by role where the hosts are too many for the width.
fn table(site: &Site, plan: &Plan, hosts: &[&HostName], view: View) -> Table {
    let about = plan.phases().iter().map(|p| view.services.about(*p).chars().count()).max().unwrap_or(0);
    let fits =
        |hosts: &[&HostName]| PHASE + hosts.iter().map(|h| column(h.as_str())).sum::<usize>() + 1 + about <= view.width;
    if fits(hosts) {
        return by_host(plan, hosts, view);
    }
    let changed: BTreeSet<&HostName> = plan.changed().collect();
    let changed: Vec<&HostName> = hosts.iter().copied().filter(|h| changed.contains(h)).collect();
    if fits(&changed) {
        let rest = count(hosts.len() - changed.len(), "host");
        return Table { rest: Some(format!("and {rest} with nothing to do")), ..by_host(plan, &changed, view) };
    }
    by_role(site, plan, hosts, view)
}

fn column(name: &str) -> usize {
    name.chars().count().max(4) + 2
}

fn by_host(plan: &Plan, hosts: &[&HostName], view: View) -> Table {
    let heads: Vec<String> = hosts.iter().map(ToString::to_string).collect();
    rows(plan, heads, view, |phase| {
        let cell = |host: &&HostName| match weight(plan, host, phase) {
            0 => "·".to_owned(),
            _ if is_put_off(plan, host, phase) => "later".to_owned(),
            n => format!("~ {n}"),
        };
        hosts.iter().map(cell).collect()
    })
}

/// A column for each set of roles; a cell says how many of its hosts change.
fn by_role(site: &Site, plan: &Plan, hosts: &[&HostName], view: View) -> Table {
    let mut groups: BTreeMap<BTreeSet<Role>, Vec<&HostName>> = BTreeMap::new();
    for host in hosts {
        groups.entry(roles(site, host)).or_default().push(host);
    }
    let heads: Vec<String> = groups
        .iter()
        .map(|(roles, hosts)| {
            let roles: Vec<&str> = roles.iter().map(|r| r.as_str()).collect();
            format!("{} ({})", roles.join("+"), hosts.len())
        })
        .collect();
    let table = rows(plan, heads, view, |phase| {
        let cell = |hosts: &Vec<&HostName>| match hosts.iter().filter(|h| weight(plan, h, phase) > 0).count() {
            0 => "·".to_owned(),
            n if n == hosts.len() => "~ all".to_owned(),
            n => format!("~ {n}"),
        };
        groups.values().map(cell).collect()
    });
    Table { title: Some("hosts that change, by role"), ..table }
}

fn rows(plan: &Plan, heads: Vec<String>, view: View, cells: impl Fn(Phase) -> Vec<String>) -> Table {
    let rows = plan.phases().into_iter().map(|phase| (phase, cells(phase), view.services.about(phase))).collect();
    Table { title: None, heads, rows, rest: None }
}

impl Table {
    fn text(&self, paint: Paint) -> String {
        let pad = |words: &[String]| -> String {
            let cells = words.iter().zip(&self.heads);
            let cells = cells.map(|(word, head)| format!("{word:<width$}", width = column(head)));
            cells.collect::<Vec<_>>().concat()
        };
        let mut out = self.title.map(|title| format!("  {title}\n")).unwrap_or_default();
        out.push_str(format!("{:PHASE$}{}", "", pad(&self.heads)).trim_end());
        out.push('\n');
        for (phase, cells, about) in &self.rows {
            let line = format!("  {phase:<11}{} {about}", pad(cells));
            out.push_str(&paint_cells(line.trim_end(), paint));
            out.push('\n');
        }
        if let Some(rest) = &self.rest {
            let _ = writeln!(out, "  {}", paint.faint(rest));
        }
        out
    }
}

fn paint_cells(line: &str, paint: Paint) -> String {
    if paint.on { line.replace('~', &paint.warn("~")).replace('·', &paint.faint("·")) } else { line.to_owned() }
}

/// The sets of hosts that change in the same way.
fn groups(site: &Site, plan: &Plan, hosts: &[&HostName], view: View) -> Vec<Group> {
    struct Alike<'a> {
        hosts: Vec<&'a HostName>,
        lines: Vec<String>,
        identical: bool,
    }
    let mut groups: Vec<Alike<'_>> = Vec::new();
    let mut place: BTreeMap<String, usize> = BTreeMap::new();
    for host in hosts {
        let Some(changes) = plan.hosts.get(*host).filter(|h| !h.is_empty() || !h.waits.is_empty()) else {
            continue;
        };
        let lines = change::lines(changes, view.verbose, view.paint);
        let key = anonymous(site, host, &lines.join("\n"));
        if let Some(group) = place.get(&key).and_then(|&at| groups.get_mut(at)) {
            group.identical &= group.lines == lines;
            group.hosts.push(host);
        } else {
            place.insert(key, groups.len());
            groups.push(Alike { hosts: vec![host], lines, identical: true });
        }
    }
    let set = |group: Alike<'_>| {
        let list = names(&group.hosts);
        let many = if list.contains('[') { format!("{}, ", count(group.hosts.len(), "host")) } else { String::new() };
        let note = match (group.hosts.len(), group.identical) {
            (1, _) => String::new(),
            (_, true) => format!(" ({many}the same change)"),
            (_, false) => {
                let first = group.hosts.first().map(ToString::to_string).unwrap_or_default();
                format!(" ({many}the same change, shown for {first}; each with its own name and addresses)")
            }
        };
        Group { hosts: list, note, lines: group.lines }
    };
    groups.into_iter().map(set).collect()
}

/// The text with the host's own name and addresses taken out, so that hosts which differ in nothing else compare equal.
fn anonymous(site: &Site, name: &HostName, text: &str) -> String {
    let mut text = replace_alone(text, name.as_str(), "\u{1}name", |c| c.is_ascii_alphanumeric() || c == '-');
    let Some(host) = site.hosts.get(name) else { return text };
    for (at, address) in host.addresses.iter().chain(&host.public).enumerate() {
        let glues = if address.is_ipv4() {
            |c: char| c.is_ascii_alphanumeric() || c == '.'
        } else {
            |c: char| c.is_ascii_alphanumeric() || c == ':'
        };
        text = replace_alone(&text, &address.to_string(), &format!("\u{1}{at}"), glues);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::step::Step;
    use crate::report::sample;
    use crate::service::ALL;

    fn view(width: usize) -> View {
        View { width, verbose: false, paint: Paint::default(), services: ALL }
    }

    #[test]
    fn three_hosts_from_nothing() {
        let (site, plan) = sample::first_apply();
        insta::assert_snapshot!(draw(&site, &plan, view(110)));
        insta::assert_snapshot!("three_hosts_verbose", draw(&site, &plan, View { verbose: true, ..view(110) }));
    }

    #[test]
    fn the_port_of_eight_hosts_moves() {
        let (site, plan) = sample::port_move();
        insta::assert_snapshot!(draw(&site, &plan, view(110)));
    }

    #[test]
    fn drift_secrets_and_removal() {
        let (site, plan) = sample::drift();
        insta::assert_snapshot!(draw(&site, &plan, view(110)));
    }

    #[test]
    fn forty_hosts_are_counted_by_role() {
        let (site, plan) = sample::many(40);
        insta::assert_snapshot!(draw(&site, &plan, view(110)));
    }

    #[test]
    fn a_thousand_hosts_fit_a_screen() {
        let (site, plan) = sample::many(1000);
        let text = draw(&site, &plan, view(80));
        assert!(text.lines().count() < 40, "{text}");
        assert!(text.lines().all(|line| line.chars().count() <= 110), "{text}");
    }

    #[test]
    fn few_of_many_have_columns_of_their_own() {
        let (site, mut plan) = sample::many(40);
        for (name, host) in &mut plan.hosts {
            if name.as_str() != "web7" {
                *host = HostPlan::default();
            }
        }
        insta::assert_snapshot!(draw(&site, &plan, view(80)));
    }

    #[test]
    fn nothing_to_do() {
        let (site, mut plan) = sample::port_move();
        plan.hosts.values_mut().for_each(|h| *h = HostPlan::default());
        assert_eq!(draw(&site, &plan, view(80)), "plan for shop: 8 hosts, nothing to do\n");
    }

    #[test]
    fn an_order_is_something_to_do() {
        let (site, mut plan) = sample::port_move();
        plan.hosts.values_mut().for_each(|h| *h = HostPlan::default());
        let (subject, title, lines) = ("shop.example.com".to_owned(), "it is ordered".to_owned(), Vec::new());
        plan.steps.push(Step { kind: StepKind::Order, subject, title, lines, deed: serde_json::Value::Null });
        let head = "plan for shop: 8 hosts, 0 to change, 8 unchanged, 1 certificate to order\n";
        assert_eq!(draw(&site, &plan, view(80)), head);
    }

    #[test]
    fn colour_adds_nothing_but_colour() {
        let (site, plan) = sample::drift();
        let colour = draw(&site, &plan, View { paint: Paint { on: true }, ..view(110) });
        assert_eq!(anstream::adapter::strip_str(&colour).to_string(), draw(&site, &plan, view(110)));
    }
}
