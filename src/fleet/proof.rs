//! The declared flows as a run proves them: takes its hosts, connects to what their rules let in, from this machine and from other hosts,
//! and gives what is refused, by whom, and what nobody could see.
//!
//! The rules of a host say what infra lets in. Whether it gets in is said by a packet alone, as others may refuse it beside them, by
//! whatever conditions, and also where those were loaded after ours. Refused is what the host itself has seen refused; what does not
//! arrive there, or where nobody listens, is not proven, and is said.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use crate::base::net::{HostName, Port};
use crate::fleet::event::Failure;
use crate::fleet::member::Member;
use crate::fleet::run;
use crate::host::reach::{self, PATIENCE};
use crate::host::report;
use crate::host::transport::Transport;
use crate::host::wire;
use crate::inventory::site::{Host, Role, Site};
use crate::plan::plan::Action;
use crate::plan::ruleset::Ruleset;
use crate::plan::state::{ObservedFleet, Phase};
use crate::service::firewall::attempts::{Reach, attempt_script_as, parse_reaches};
use crate::service::firewall::entries::{self, Entry};
use crate::service::firewall::trace::Traced;

mod forwarded;

/// A user whom no rule names.
const ORDINARY: u32 = 65534;
/// Who may ask the internet for packages, at the ports of the web.
const ROOT: u32 = 0;

/// What connected from here, by host.
pub(super) type Open = BTreeMap<HostName, BTreeSet<Entry>>;

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Proof {
    /// What is refused, by the host at which it is.
    pub(super) refused: BTreeMap<HostName, Failure>,
    /// What was not seen, each a sentence.
    pub(super) unproven: Vec<String>,
}

/// What is known of one entry that did not connect.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Verdict {
    /// It connected in the end.
    Through,
    /// Nobody is there to take it.
    Unheard,
    /// The host has seen it refused.
    Refused(String),
    /// It did not come to the host.
    Astray(String),
}

/// The addresses of a host that this machine may try by itself. Behind a jump host, inside addresses may be those of others here.
pub(super) fn here(site: &Site, host: &Host) -> Vec<IpAddr> {
    let direct = host.ssh.jump.is_none() && host.ssh.address.is_none() && !site.through.contains_key(&host.name);
    let inside = if direct { host.addresses.as_slice() } else { &[] };
    host.public.iter().chain(inside).copied().collect()
}

impl Member<'_> {
    fn takes_part(&self) -> bool {
        self.outcome.is_none() && !self.plan.is_empty()
    }

    fn loads_rules(&self) -> bool {
        self.plan.phases.values().flatten().any(|action| matches!(action, Action::Firewall { .. }))
    }

    /// What this machine may try of it.
    fn entries(&self) -> BTreeSet<Entry> {
        let rules = self.desired.firewall.as_ref();
        rules.map_or_else(BTreeSet::new, |set| entries::entries(set, &self.executor.here, reach::local_address))
    }

    /// What comes of connections that another one of the fleet makes from here.
    fn tries(&mut self, uid: u32, targets: &[(IpAddr, Port)]) -> BTreeMap<(IpAddr, Port), Reach> {
        tries(self.executor.transport.as_mut(), uid, targets)
    }

    fn traced<'e>(
        &mut self,
        entries: impl IntoIterator<Item = &'e Entry>,
        from: impl Fn(IpAddr) -> Vec<IpAddr>,
        again: impl FnMut(),
    ) -> Result<Traced, String> {
        let told = reach::traced(self.executor.transport.as_mut(), &reach::watched(entries, from), again);
        told.map_err(|error| report::phrase(&error.to_string()))
    }
}

fn tries(transport: &mut dyn Transport, uid: u32, targets: &[(IpAddr, Port)]) -> BTreeMap<(IpAddr, Port), Reach> {
    let text = format!("emit reached \"$(\n{})\"", attempt_script_as(uid, targets, PATIENCE));
    let script = wire::question("connect to others", &text).within(Duration::from_secs(60)).up_to(1 << 20);
    // A host that does not answer has tried nothing.
    let told = transport.run(&script, b"").map(|output| wire::pairs(&output.stdout)).unwrap_or_default();
    parse_reaches(told.last("reached").unwrap_or_default())
}

/// What connects from here before the run changes anything.
pub(super) fn before(members: &mut [Member<'_>], parallel: usize) -> Open {
    let those = members.iter_mut().filter(|member| member.takes_part()).collect();
    let open = run::each(those, parallel, |member: &mut Member<'_>| (member.name(), reach::open(&member.entries())));
    open.into_iter().filter(|(_, entries)| !entries.is_empty()).collect()
}

/// What the rules of the hosts let in, tried.
pub(super) fn after(
    site: &Site,
    members: &mut [Member<'_>],
    observed: &ObservedFleet,
    before: &Open,
    parallel: usize,
) -> Proof {
    let mut seen = Seen::default();
    let astray = from_here(site, members, observed, before, parallel, &mut seen);
    for (host, entries) in astray {
        from_another(site, members, &host, entries, &mut seen);
    }
    if members.iter().any(Member::loads_rules) {
        between(site, members, parallel, &mut seen);
    }
    let gateways = members.iter().enumerate().filter(|(_, member)| member.takes_part() && member.loads_rules());
    for gateway in gateways.map(|(at, _)| at).collect::<Vec<_>>() {
        let name = members.get(gateway).map(Member::name);
        let forwards = name.and_then(|name| observed.get(&name)).is_some_and(|seen| seen.firewall.forwards.is_some());
        forwarded::prove(site, members, gateway, forwards, &mut seen);
    }
    seen.proof()
}

#[derive(Default)]
struct Seen {
    /// By host, flow, and the sentence that says who refuses it.
    refused: BTreeMap<HostName, BTreeSet<(String, String)>>,
    /// By flow and reason.
    unproven: BTreeMap<(String, String), BTreeSet<HostName>>,
}

impl Seen {
    fn refuse(&mut self, host: &HostName, entry: &Entry, from: &str, why: &str) {
        let why = format!("a connection from {from} to {} does not get in: {}", entry.address, report::phrase(why));
        self.refused.entry(host.clone()).or_default().insert((entry.words(), why));
    }

    fn miss(&mut self, host: &HostName, flow: String, why: String) {
        self.unproven.entry((flow, why)).or_default().insert(host.clone());
    }

    fn proof(self) -> Proof {
        let refused = self.refused.into_iter().map(|(host, flows)| {
            let what: BTreeSet<String> = flows.iter().map(|(flow, _)| format!("`{flow}`")).collect();
            let words = flows.into_iter().map(|(flow, why)| format!("`{flow}`: {why}")).collect();
            let failure = Failure {
                phase: Phase::Verify,
                what: what.into_iter().collect::<Vec<_>>().join(", "),
                words,
                put_back: None,
                state: "it has the new configuration, and infra's own rules accept this".into(),
            };
            (host, failure)
        });
        let unproven = self.unproven.into_iter().map(|((flow, why), hosts)| {
            let hosts: Vec<&str> = hosts.iter().map(HostName::as_str).collect();
            format!("`{flow}` is not proven on {}: {why}", hosts.join(", "))
        });
        Proof { refused: refused.collect(), unproven: unproven.collect() }
    }
}

/// What is known where an entry did not connect: `open`, whether it did before the run; `near`, whether the same address lets SSH in
/// from the same place.
fn judge(entry: &Entry, told: &Traced, answer: Reach, open: bool, near: impl FnOnce() -> bool) -> Verdict {
    if answer == Reach::Open {
        return Verdict::Through;
    }
    // What a rule refuses may have been on its way to another address of the host, where somebody listens.
    let heard = told.heard(entry.address, entry.port);
    if let Some(refusal) = told.refused.get(&entry.port).filter(|_| heard || told.listens.contains_key(&entry.port)) {
        return Verdict::Refused(refusal.to_string());
    }
    if !heard {
        return Verdict::Unheard;
    }
    match &told.arrived {
        Some(arrived) if arrived.contains(&entry.port) => Verdict::Refused(
            "it arrives and is not answered, so something refuses it that is no table of nftables: rules of the legacy iptables, or \
             a program in the kernel"
                .into(),
        ),
        _ if open => Verdict::Refused("it connected before this run, and now nothing of it arrives".into()),
        None if answer == Reach::Refused || near() => {
            Verdict::Refused("something beside infra's rules refuses it".into())
        }
        _ => Verdict::Astray("nothing of a connection from here arrives at the host".into()),
    }
}

/// Tries all from this machine. Gives what did not arrive from here and may be tried from elsewhere: where anybody is let in.
fn from_here(
    site: &Site,
    members: &mut [Member<'_>],
    observed: &ObservedFleet,
    before: &Open,
    parallel: usize,
    seen: &mut Seen,
) -> BTreeMap<HostName, BTreeSet<Entry>> {
    let those = members.iter_mut().filter(|member| member.takes_part()).collect();
    let answers = run::each(those, parallel, |member: &mut Member<'_>| {
        let (name, all) = (member.name(), member.entries());
        let shut = reach::shut(&all);
        if shut.is_empty() {
            return (name, all, Ok(Vec::new()));
        }
        let source = observed.get(&name).and_then(|seen| seen.controller).map(|source| source.to_canonical());
        let from = |to: IpAddr| {
            let ours = source.filter(|from| from.is_ipv4() == to.is_ipv4());
            ours.into_iter().chain(reach::local_address(to)).collect()
        };
        let mut answers: BTreeMap<Entry, Reach> = BTreeMap::new();
        let again = || {
            for entry in &shut {
                let answer = reach::connect(entry.address, entry.port);
                let best = answers.entry(entry.clone()).or_insert(answer);
                *best = answer.min(*best);
            }
        };
        let told = member.traced(&shut, from, again);
        let port = site.hosts.get(&name).and_then(|host| host.ssh.port);
        let verdicts = told.map(|told| {
            let judged = shut.iter().map(|entry| {
                let was_open = before.get(&name).is_some_and(|open| open.contains(entry));
                let answer = answers.get(entry).copied().unwrap_or(Reach::Drop);
                let near = || {
                    port.or_else(|| Port::try_from(22).ok())
                        .is_some_and(|ssh| reach::connect(entry.address, ssh) == Reach::Open)
                };
                (entry.clone(), judge(entry, &told, answer, was_open, near))
            });
            judged.collect::<Vec<_>>()
        });
        (name, all, verdicts)
    });
    let mut astray: BTreeMap<HostName, BTreeSet<Entry>> = BTreeMap::new();
    for (name, all, verdicts) in answers {
        let verdicts = match verdicts {
            Ok(verdicts) => verdicts,
            Err(why) => {
                seen.miss(&name, "what is let in".into(), format!("the host could not say what becomes of it: {why}"));
                continue;
            }
        };
        let not_through: BTreeSet<&Entry> =
            verdicts.iter().filter(|(_, verdict)| *verdict != Verdict::Through).map(|(entry, _)| entry).collect();
        for (entry, verdict) in &verdicts {
            let elsewhere = || all.iter().any(|other| other.port == entry.port && !not_through.contains(other));
            match verdict {
                Verdict::Through => {}
                Verdict::Refused(why) => seen.refuse(&name, entry, "this machine", why),
                Verdict::Unheard => seen.miss(&name, entry.words(), "nobody listens there".into()),
                // Before a NAT, what stands behind it was seen.
                Verdict::Astray(_) if elsewhere() => {}
                Verdict::Astray(why) if !entry.open => seen.miss(&name, entry.words(), why.clone()),
                Verdict::Astray(_) => {
                    astray.entry(name.clone()).or_default().insert(entry.clone());
                }
            }
        }
    }
    // What lets anybody in, at hosts that this machine cannot try at all.
    for member in members.iter().filter(|member| member.takes_part()) {
        let (Some(set), Some(host)) = (&member.desired.firewall, site.hosts.get(member.host)) else { continue };
        let anybody = |address: IpAddr| {
            Some(if address.is_ipv4() { [192, 0, 2, 1].into() } else { [0x2001, 0xdb8, 0, 0, 0, 0, 0, 1].into() })
        };
        let tried: BTreeSet<Port> = member.entries().iter().map(|entry| entry.port).collect();
        let rest = entries::entries(set, &host.addresses, anybody);
        let rest: BTreeSet<Entry> =
            rest.into_iter().filter(|entry| entry.open && !tried.contains(&entry.port)).collect();
        if !rest.is_empty() {
            astray.entry(member.name()).or_default().extend(rest);
        }
    }
    astray
}

/// Tries from another host what does not come from here. Hosts let root and nobody else ask the internet, at the ports of the web.
fn from_another(site: &Site, members: &mut [Member<'_>], host: &HostName, entries: BTreeSet<Entry>, seen: &mut Seen) {
    let Some(at) = members.iter().position(|member| member.host == host) else { return };
    let role = |member: &Member<'_>| site.hosts.get(member.host).is_some_and(|host| host.has(Role::Lb));
    let others = members.iter().enumerate().filter(|(place, other)| *place != at && other.outcome.is_none());
    let other = others.max_by_key(|(_, other)| role(other)).map(|(place, _)| place);
    let (web, rest): (BTreeSet<Entry>, BTreeSet<Entry>) =
        entries.into_iter().partition(|entry| other.is_some() && [Port::HTTP, Port::HTTPS].contains(&entry.port));
    for entry in rest {
        seen.miss(host, entry.words(), "it is not reached from here, and no other host may try it".into());
    }
    let Some(other) = other.filter(|_| !web.is_empty()) else { return };
    let Ok([target, source]) = members.get_disjoint_mut([at, other]) else { return };
    let from = site.hosts.get(source.host).map(|host| host.addresses.clone()).unwrap_or_default();
    let web = web.into_iter().filter(|entry| from.iter().any(|from| from.is_ipv4() == entry.address.is_ipv4()));
    try_from(source, &from, target, ROOT, &web.collect(), seen, true);
}

/// Tries from `source`, whose addresses are `from`, what `target` is to let in. What is not proven is told where nobody else has to tell
/// it, as `tells` says.
fn try_from(
    source: &mut Member<'_>,
    from: &[IpAddr],
    target: &mut Member<'_>,
    uid: u32,
    entries: &BTreeSet<Entry>,
    seen: &mut Seen,
    tells: bool,
) {
    let targets = |entries: &BTreeSet<Entry>| entries.iter().map(|e| (e.address, e.port)).collect::<Vec<_>>();
    let answers = source.tries(uid, &targets(entries));
    let is_open = |answers: &BTreeMap<(IpAddr, Port), Reach>, entry: &Entry| {
        answers.get(&(entry.address, entry.port)) == Some(&Reach::Open)
    };
    let shut: BTreeSet<Entry> = entries.iter().filter(|entry| !is_open(&answers, entry)).cloned().collect();
    if shut.is_empty() {
        return;
    }
    let family = |to: IpAddr| from.iter().copied().filter(|from| from.is_ipv4() == to.is_ipv4()).collect();
    let mut answers: BTreeMap<(IpAddr, Port), Reach> = BTreeMap::new();
    let told = target.traced(&shut, family, || {
        for (target, answer) in source.tries(uid, &targets(&shut)) {
            let best = answers.entry(target).or_insert(answer);
            *best = answer.min(*best);
        }
    });
    let (name, by) = (target.name(), source.name());
    let Ok(told) = told else { return };
    for entry in &shut {
        let answer = answers.get(&(entry.address, entry.port)).copied().unwrap_or(Reach::Drop);
        match judge(entry, &told, answer, false, || false) {
            Verdict::Through => {}
            Verdict::Refused(why) => seen.refuse(&name, entry, by.as_str(), &why),
            // The probes of the services tell what does not run.
            Verdict::Unheard if !tells => {}
            Verdict::Unheard => seen.miss(&name, entry.words(), "nobody listens there".into()),
            Verdict::Astray(_) => {
                seen.miss(
                    &name,
                    entry.words(),
                    format!("nothing of a connection from {by} to {} arrives", entry.address),
                );
            }
        }
    }
}

/// Tries the flows between hosts of which one has changed.
fn between(site: &Site, members: &mut [Member<'_>], parallel: usize, seen: &mut Seen) {
    let usable = |member: &&Member<'_>| member.outcome.is_none();
    let changed: BTreeSet<HostName> = members.iter().filter(|m| m.takes_part()).map(Member::name).collect();
    let fleet: BTreeMap<HostName, (&Ruleset, &[IpAddr])> = members
        .iter()
        .filter(usable)
        .filter_map(|member| {
            let host = site.hosts.get(member.host)?;
            Some((member.name(), (member.desired.firewall.as_ref()?, host.addresses.as_slice())))
        })
        .collect();
    let mut pairs = entries::between(&fleet);
    for (from, to) in &mut pairs {
        to.retain(|to, _| changed.contains(from) || changed.contains(to));
    }
    let sources: Vec<&mut Member<'_>> =
        members.iter_mut().filter(|m| pairs.get(m.host).is_some_and(|to| !to.is_empty())).collect();
    let answers = run::each(sources, parallel, |source| {
        let all: BTreeSet<(IpAddr, Port)> = pairs
            .get(source.host)
            .into_iter()
            .flat_map(BTreeMap::values)
            .flatten()
            .map(|e| (e.address, e.port))
            .collect();
        (source.name(), source.tries(ORDINARY, &all.into_iter().collect::<Vec<_>>()))
    });
    let places: BTreeMap<HostName, usize> =
        members.iter().enumerate().map(|(at, member)| (member.name(), at)).collect();
    for (from, answers) in answers {
        for (to, entries) in pairs.remove(&from).into_iter().flatten() {
            let shut: BTreeSet<Entry> = entries
                .into_iter()
                .filter(|entry| answers.get(&(entry.address, entry.port)) != Some(&Reach::Open))
                .collect();
            let (Some(source), Some(target), false) = (places.get(&from), places.get(&to), shut.is_empty()) else {
                continue;
            };
            let Ok([source, target]) = members.get_disjoint_mut([*source, *target]) else { continue };
            let addresses = site.hosts.get(&from).map(|host| host.addresses.clone()).unwrap_or_default();
            try_from(source, &addresses, target, ORDINARY, &shut, seen, false);
        }
    }
}
