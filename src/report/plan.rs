//! The plan as a person reads it: takes the plan and its site, gives the table of phases and hosts, then every change, hosts
//! with the same change once.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use super::change;
use super::text::{Paint, clean, count, names, natural, replace_alone};
use crate::base::net::HostName;
use crate::inventory::site::{Role, Site};
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

/// The whole plan, with a line end.
pub fn draw(site: &Site, plan: &Plan, view: View) -> String {
    let mut out = head(site, plan, view);
    let hosts = ordered(site, plan);
    if !plan.leaves_hosts() {
        out.push('\n');
        out.push_str(&table(site, plan, &hosts, view));
    }
    for group in groups(site, plan, &hosts, view) {
        out.push('\n');
        out.push_str(&group);
    }
    for (why, half) in &plan.halves {
        let others: Vec<&HostName> = half.others.iter().collect();
        let flows = half.flows.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
        let line = format!(
            "! half a change: {flows} opens on one end alone; the other end is on {}, which {}",
            names(&others),
            why.of(others.len())
        );
        let _ = writeln!(out, "\n{}", view.paint.warn(&clean(&line)));
    }
    let hidden = |h: &HostPlan| change::lines(h, true, Paint::default()) != change::lines(h, false, Paint::default());
    if !view.verbose && plan.hosts.values().any(hidden) {
        let _ =
            writeln!(out, "\n{}", view.paint.faint("-v shows the text of new files, and all partners of the flows"));
    }
    out
}

fn head(site: &Site, plan: &Plan, view: View) -> String {
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
    format!("{}\n", view.paint.strong(&head))
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
fn table(site: &Site, plan: &Plan, hosts: &[&HostName], view: View) -> String {
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
        return by_host(plan, &changed, view)
            + &format!("  {}\n", view.paint.faint(&format!("and {rest} with nothing to do")));
    }
    by_role(site, plan, hosts, view)
}

fn column(name: &str) -> usize {
    name.chars().count().max(4) + 2
}

fn by_host(plan: &Plan, hosts: &[&HostName], view: View) -> String {
    let heads: Vec<String> = hosts.iter().map(ToString::to_string).collect();
    rows(plan, &heads, view, |phase| {
        let cell = |host: &&HostName| match weight(plan, host, phase) {
            0 => "·".to_owned(),
            _ if is_put_off(plan, host, phase) => "later".to_owned(),
            n => format!("~ {n}"),
        };
        hosts.iter().map(cell).collect()
    })
}

/// A column for each set of roles; a cell says how many of its hosts change.
fn by_role(site: &Site, plan: &Plan, hosts: &[&HostName], view: View) -> String {
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
    let table = rows(plan, &heads, view, |phase| {
        let cell = |hosts: &Vec<&HostName>| match hosts.iter().filter(|h| weight(plan, h, phase) > 0).count() {
            0 => "·".to_owned(),
            n if n == hosts.len() => "~ all".to_owned(),
            n => format!("~ {n}"),
        };
        groups.values().map(cell).collect()
    });
    format!("  hosts that change, by role\n{table}")
}

fn rows(plan: &Plan, heads: &[String], view: View, cells: impl Fn(Phase) -> Vec<String>) -> String {
    let pad = |words: &[String]| -> String {
        let cells = words.iter().zip(heads).map(|(word, head)| format!("{word:<width$}", width = column(head)));
        cells.collect::<Vec<_>>().concat()
    };
    let mut out = format!("{:PHASE$}{}", "", pad(heads)).trim_end().to_owned() + "\n";
    for phase in plan.phases() {
        let line = format!("  {phase:<11}{} {}", pad(&cells(phase)), view.services.about(phase));
        out.push_str(&paint_cells(line.trim_end(), view.paint));
        out.push('\n');
    }
    out
}

fn paint_cells(line: &str, paint: Paint) -> String {
    if paint.on { line.replace('~', &paint.warn("~")).replace('·', &paint.faint("·")) } else { line.to_owned() }
}

/// A block of text for each set of hosts that change in the same way.
fn groups(site: &Site, plan: &Plan, hosts: &[&HostName], view: View) -> Vec<String> {
    struct Group<'a> {
        hosts: Vec<&'a HostName>,
        lines: Vec<String>,
        identical: bool,
    }
    let mut groups: Vec<Group<'_>> = Vec::new();
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
            groups.push(Group { hosts: vec![host], lines, identical: true });
        }
    }
    let draw = |group: Group<'_>| {
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
        format!("{}{note}\n{}\n", view.paint.strong(&list), group.lines.join("\n"))
    };
    groups.into_iter().map(draw).collect()
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
