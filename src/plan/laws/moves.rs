//! The fifth law, held against made-up fleets of three tiers whose ports move and whose hosts leave, in runs in which some hosts are
//! left out, away, or fail: nothing closes before every user has moved, and the next whole run closes all that was kept, as limited runs
//! of one host after another do.

use std::net::IpAddr;

use super::*;
use crate::plan::behind::Behind;
use crate::plan::narrow::{self, Addresses, Closing, Unclosed};

const LBS: [&str; 2] = ["lb1", "lb2"];
const WEBS: [&str; 2] = ["web1", "web2"];
const APPS: [&str; 2] = ["app1", "app2"];

fn name(text: &str) -> HostName {
    text.parse().unwrap()
}

fn address(host: &str) -> IpAddr {
    let (tier, number) = host.split_at(host.len() - 1);
    let net = ["lb", "web", "app"].iter().position(|one| *one == tier).unwrap() + 1;
    format!("10.0.{net}.1{number}").parse().unwrap()
}

/// What the inventory says: the ports of two tiers, and who belongs to them.
#[derive(Debug, Clone)]
struct Config {
    web: u64,
    app: u64,
    webs: Vec<&'static str>,
    apps: Vec<&'static str>,
}

impl Config {
    fn hosts(&self) -> impl Iterator<Item = &'static str> + '_ {
        LBS.into_iter().chain(self.webs.iter().copied()).chain(self.apps.iter().copied())
    }

    /// A host's one file: where it stands, when it is written, and where it leads, a port and hosts.
    fn file(&self, host: &str) -> (String, Phase, String) {
        let to = |port: u64, hosts: &[&str]| format!("{port} {}\n", hosts.join(" "));
        match host.trim_end_matches(char::is_numeric) {
            "lb" => ("/etc/lb".into(), Phase::Edge, to(self.web, &self.webs)),
            "web" => (format!("/etc/web-{}", self.web), Phase::Web, to(self.app, &self.apps)),
            _ => (format!("/etc/app-{}", self.app), Phase::App, to(1, &[])),
        }
    }

    fn desired(&self, host: &str) -> DesiredHost {
        let (path, phase, text) = self.file(host);
        let then = BTreeMap::from([("x.service".to_owned(), Follow::Reload)]);
        let body = Body { digest: Digest::of(text.as_bytes()), text: text.into(), origin: None };
        let file = File { service: "t", phase, access: Access::root(0o644), body, then, about: None };
        let mut rules = BTreeSet::new();
        for (port, from, to, flow) in [
            (self.web, &LBS[..], &self.webs[..], "lb -> web"),
            (self.app, &self.webs[..], &self.apps[..], "web -> app"),
        ] {
            let mut add = |direction, peers: &[&str]| {
                let peers = peers.iter().map(|peer| address(peer).into()).collect();
                let port = Some(port.try_into().unwrap());
                rules.insert(Rule {
                    direction,
                    proto: Proto::Tcp,
                    port,
                    peers,
                    beyond: BTreeSet::new().into(),
                    uids: BTreeSet::new(),
                    flow: flow.into(),
                });
            };
            if from.contains(&host) {
                add(Direction::Out, to);
            }
            if to.contains(&host) {
                add(Direction::In, from);
            }
        }
        DesiredHost {
            files: BTreeMap::from([(path, file)]),
            units: BTreeMap::from([("x.service".to_owned(), UnitWanted { phase })]),
            firewall: Some(Ruleset { rules, ..Ruleset::default() }),
            ..DesiredHost::default()
        }
    }
}

/// What becomes of a host in a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Good,
    Is(Behind),
    /// It fails in this phase, which is put back.
    In(Phase),
}

/// A use of one host by another: who, whom, at which port, and by which file of the user.
type Use = (HostName, HostName, u64, String, Digest);

/// All that files lead to, where it is let out, let in, and listened to.
fn uses(state: &ObservedFleet, texts: &BTreeMap<Digest, String>) -> BTreeSet<Use> {
    let mut uses = BTreeSet::new();
    for (user, seen) in state {
        for (path, file) in &seen.files {
            let digest = file.digest.clone().unwrap();
            let mut words = texts[&digest].split_whitespace();
            let port: u64 = words.next().unwrap().parse().unwrap();
            for to in words {
                if works(state, user.as_str(), to, port) {
                    uses.insert((user.clone(), name(to), port, path.clone(), digest.clone()));
                }
            }
        }
    }
    uses
}

fn works(state: &ObservedFleet, from: &str, to: &str, port: u64) -> bool {
    let lets = |host: &str, direction: Direction, other: &str| {
        let rules = state[&name(host)].firewall.loaded.as_ref().unwrap();
        let peer = address(other).into();
        rules.rules.iter().any(|rule| {
            rule.direction == direction
                && rule.port.is_some_and(|own| u64::from(own.get()) == port)
                && rule.peers.contains(&peer)
        })
    };
    let tier = to.trim_end_matches(char::is_numeric);
    lets(from, Direction::Out, to)
        && lets(to, Direction::In, from)
        && state[&name(to)].files.contains_key(&format!("/etc/{tier}-{port}"))
}

/// A run, as the transaction makes it where failures are tolerated.
fn run(state: &mut ObservedFleet, config: &Config, fates: &BTreeMap<&str, Fate>) {
    let hosts: Vec<&str> = config.hosts().collect();
    let desired: BTreeMap<HostName, DesiredHost> =
        hosts.iter().map(|host| (name(host), config.desired(host))).collect();
    let fleet: Addresses = hosts.iter().map(|host| (name(host), vec![address(host)])).collect();
    let fate = |host: &HostName| fates[host.as_str()];
    let part = state.iter().filter(|(host, _)| desired.contains_key(*host) && !matches!(fate(host), Fate::Is(_)));
    let plan = plan(&desired, &part.map(|(host, seen)| (host.clone(), seen.clone())).collect());
    // Who is not selected is looked at, and counts where it has moved before.
    let others = desired.iter().filter(|(name, _)| fate(name) == Fate::Is(Behind::LeftOut));
    let others = others.map(|(name, wanted)| (name.clone(), (wanted.clone(), host(wanted, &state[name]))));
    let moved: Unclosed = others
        .filter(|(_, (_, plan))| narrow::has_moved(plan))
        .map(|(name, (wanted, mut plan))| (name, (wanted, plan.phases.remove(&Phase::Narrow).unwrap_or_default())))
        .collect();
    let behind: BTreeSet<&HostName> =
        desired.keys().filter(|host| fate(host) != Fate::Good && !moved.contains_key(*host)).collect();
    for (host, plan) in &plan.hosts {
        let end = if let Fate::In(phase) = fate(host) { phase } else { Phase::Narrow };
        let phases = plan.phases.range(..end).map(|(phase, actions)| (*phase, actions.clone())).collect();
        let now = after(&HostPlan { phases, ..HostPlan::default() }, state[host].clone());
        state.insert(host.clone(), now);
    }
    let narrows = plan.hosts.iter().filter(|(host, _)| fate(host) == Fate::Good);
    let closing: Vec<Closing<'_>> = narrows
        .filter_map(|(host, plan)| {
            Some(Closing { host, actions: plan.phases.get(&Phase::Narrow)?, desired: &desired[host] })
        })
        .chain(narrow::unclosed(&moved))
        .collect();
    let kept = narrow::kept(&closing, &fleet, &behind);
    for one in closing.iter().filter(|one| fate(one.host) == Fate::Good && !kept.contains_key(one.host)) {
        let phases = BTreeMap::from([(Phase::Narrow, one.actions.to_vec())]);
        let now = after(&HostPlan { phases, ..HostPlan::default() }, state[one.host].clone());
        state.insert(one.host.clone(), now);
    }
}

fn fate() -> impl Strategy<Value = Fate> {
    let phases = vec![Phase::Widen, Phase::App, Phase::Web, Phase::Edge];
    prop_oneof![
        4 => Just(Fate::Good),
        1 => Just(Fate::Is(Behind::LeftOut)),
        1 => Just(Fate::Is(Behind::Away)),
        1 => prop::sample::select(phases).prop_map(Fate::In),
    ]
}

prop_compose! {
    fn config()(web in 8443u64..8446, app in 9443u64..9446, webs in prop::sample::subsequence(WEBS.to_vec(), 1..=2),
                apps in prop::sample::subsequence(APPS.to_vec(), 1..=2)) -> Config {
        Config { web, app, webs, apps }
    }
}

prop_compose! {
    fn fates()(fates in prop::collection::vec(fate(), 6)) -> BTreeMap<&'static str, Fate> {
        LBS.into_iter().chain(WEBS).chain(APPS).zip(fates).collect()
    }
}

proptest! {
    #[test]
    fn what_limited_runs_have_moved_they_close_too(
        first in config(), next in config(), earlier in fates(), order in Just([LBS, WEBS, APPS].concat()).prop_shuffle(),
    ) {
        let first = Config { webs: WEBS.to_vec(), apps: APPS.to_vec(), ..first };
        let good: BTreeMap<&str, Fate> = first.hosts().map(|host| (host, Fate::Good)).collect();
        let mut state: ObservedFleet = first.hosts().map(|host| (name(host), bare())).collect();
        run(&mut state, &first, &good);
        run(&mut state, &next, &earlier);
        // In whatever order, one host after another: all have moved after the first round, and each tier closes one round after the one
        // that leads to it.
        let hosts: BTreeSet<&str> = next.hosts().collect();
        for _ in 0..4 {
            for one in order.iter().filter(|host| hosts.contains(*host)) {
                let alone = good.keys().map(|host| {
                    (*host, if host == one { Fate::Good } else { Fate::Is(Behind::LeftOut) })
                });
                run(&mut state, &next, &alone.collect());
            }
        }
        let desired: BTreeMap<HostName, DesiredHost> = next.hosts().map(|host| (name(host), next.desired(host))).collect();
        let rest = plan(&desired, &state);
        prop_assert!(rest.is_empty(), "{rest:?}");
    }

    #[test]
    fn no_close_before_every_user_has_moved(
        first in config(), runs in prop::collection::vec((config(), fates()), 1..4),
    ) {
        let first = Config { webs: WEBS.to_vec(), apps: APPS.to_vec(), ..first };
        let all: Vec<&Config> = runs.iter().map(|(config, _)| config).chain([&first]).collect();
        let texts = all.iter().flat_map(|config| LBS.into_iter().chain(WEBS).chain(APPS).map(|host| config.file(host).2));
        let texts: BTreeMap<Digest, String> = texts.map(|text| (Digest::of(text.as_bytes()), text)).collect();
        let good: BTreeMap<&str, Fate> = LBS.into_iter().chain(WEBS).chain(APPS).map(|host| (host, Fate::Good)).collect();
        let mut state: ObservedFleet = first.hosts().map(|host| (name(host), bare())).collect();
        run(&mut state, &first, &good);
        for (config, fates) in &runs {
            let before = uses(&state, &texts);
            let was = state.clone();
            run(&mut state, config, fates);
            let now = uses(&state, &texts);
            // A load balancer that was not seen to move is served as it was, through all tiers.
            let behind = LBS.into_iter().filter(|lb| fates[lb] != Fate::Good).map(name);
            let mut served: BTreeSet<HostName> = behind.collect();
            for _ in 0..2 {
                let next: Vec<HostName> = before.iter().filter(|(user, ..)| served.contains(user)).map(|(_, to, ..)| to.clone()).collect();
                served.extend(next);
            }
            for one in before.iter().filter(|(user, _, _, path, digest)| {
                let unchanged = state[user].files.get(path).is_some_and(|file| file.digest.as_ref() == Some(digest));
                served.contains(user) && unchanged
            }) {
                prop_assert!(now.contains(one), "{one:?} was cut by {config:?} with {fates:?}, before: {was:?}");
            }
        }
        // A whole run leads everybody to the new ends and closes all that was kept for others.
        let config = &runs.last().unwrap().0;
        run(&mut state, config, &good);
        let desired: BTreeMap<HostName, DesiredHost> = config.hosts().map(|host| (name(host), config.desired(host))).collect();
        let rest = plan(&desired, &state);
        prop_assert!(rest.is_empty(), "{rest:?}");
    }
}
