//! A decision over several hosts is held against them once more before anything is done: with what was changed meanwhile it is
//! refused, on hosts too on which it does nothing. What it says of restarts and of the controller's memory comes true with it.

use std::collections::{BTreeMap, BTreeSet};

use infra::base::diagnostic::Diagnostic;
use infra::base::net::HostName;
use infra::fleet::event::{HostOutcome, Outcome};
use infra::fleet::memory;
use infra::fleet::survey::Prepared;
use infra::host::lock::{self, Locked};
use infra::host::transport::Hold;
use infra::inventory::site::Site;
use infra::plan::decision::{Decided, Memory};
use infra::plan::plan::Action;
use infra::plan::state::{Access, File, Follow, Observed, ObservedFleet, Part, Phase, UnitWanted};
use infra::service::claims::Claims;
use infra::service::inquiry::Inquiry;
use infra::service::{Context, Service, Services};
use time::OffsetDateTime;

use super::decision::{World, name};
use super::file;

const LEADS: &str = "/srv/leads";
const LAG: &str = "/srv/lag";
const SEEN: Part<bool> = Part::steady("careful");
const LAGS: Part<String> = Part::passing("careful");

/// One host has the folder of who leads, and the controller remembers which; how far the others are behind passes.
struct Careful;

impl Service for Careful {
    fn name(&self) -> &'static str {
        "careful"
    }

    fn inquiry(&self) -> Option<Inquiry> {
        let script = || format!("[ ! -d \"$ROOT{LEADS}\" ] || echo leads; cat \"$ROOT{LAG}\" 2>/dev/null");
        let read = |answer: &str, seen: &mut Observed| {
            SEEN.put(&answer.contains("leads"), seen);
            LAGS.put(&answer.trim().to_owned(), seen);
        };
        Some(Inquiry { script, read, ..Inquiry::NOTHING })
    }

    fn want(&self, _: &Context<'_>, _: &mut Claims) -> Result<(), Diagnostic> {
        Ok(())
    }

    fn needs(&self, site: &Site, _: &BTreeSet<HostName>) -> BTreeSet<HostName> {
        site.hosts.keys().cloned().collect()
    }

    fn decide(&self, _: &Site, observed: &ObservedFleet, memory: &Memory) -> Result<Decided, Diagnostic> {
        let mut decided = Decided::default();
        let leads = observed.iter().find(|(_, seen)| SEEN.of(seen) == Some(true)).map(|(host, _)| host);
        let behind: Vec<String> = observed.values().filter_map(|seen| LAGS.of(seen)).collect();
        decided.notes.push(format!("behind: {}", behind.join(", ")));
        let remembered: String = memory.of("careful").map_err(|error| Diagnostic::error(error.to_string()))?;
        let leader =
            leads.or_else(|| observed.keys().find(|host| host.as_str() == remembered)).or(observed.keys().next());
        let Some(leader) = leader else { return Ok(decided) };
        if leads.is_none() {
            let access = Access::root(0o700);
            decided.act(leader, Phase::Primary, Action::MakeFolder { path: LEADS.into(), access, exists: false });
        }
        decided.remember("careful", &leader.to_string()).map_err(|error| Diagnostic::error(error.to_string()))?;
        Ok(decided)
    }
}

const SERVICES: Services = Services(&[&Careful]);

fn planned(world: &World, selected: &[&str]) -> Prepared {
    world.planned(SERVICES, selected).unwrap_or_else(|e| panic!("{e:?}")).0
}

fn lead(world: &World, host: &str) {
    fs_err::create_dir_all(world.machines[&name(host)].path(&format!("root{LEADS}"))).unwrap();
}

fn remembered(world: &World) -> String {
    memory::kept(&world.site, SERVICES, OffsetDateTime::UNIX_EPOCH).unwrap().of("careful").unwrap()
}

#[track_caller]
fn refused(outcome: &Outcome, words: &str) {
    assert!(outcome.refused.len() == 1 && outcome.refused[0].contains(words), "{outcome:?}");
    assert!(outcome.refused[0].ends_with("nothing was done"), "{outcome:?}");
    assert_eq!(infra::cli::exit::of(outcome), infra::cli::exit::FAILED);
    assert_eq!(outcome.count(|host| *host == HostOutcome::Changed), 0, "{outcome:?}");
}

#[test]
fn what_was_overtaken_on_a_host_that_is_only_needed_is_refused() {
    for selected in [["a"].as_slice(), &["a", "b"], &["a", "b", "c"]] {
        let world = World::new();
        let prepared = planned(&world, selected);
        // Another controller has let c lead meanwhile.
        lead(&world, "c");
        let outcome = world.executed(prepared);
        refused(&outcome, "`careful` would decide otherwise about a now than was shown");
        assert_eq!((world.leaders(), remembered(&world)), (vec!["c"], String::new()));
        let state = |host: &str| match &outcome.hosts[&name(host)] {
            HostOutcome::NotReached { state } => state.clone(),
            other => format!("{other:?}"),
        };
        assert_eq!(state("a"), "nothing was changed on it; still to do: primary");
    }
}

#[test]
fn what_changes_by_itself_or_for_no_decision_overtakes_nothing() {
    let world = World::new();
    let prepared = planned(&world, &["a", "b"]);
    fs_err::create_dir_all(world.machines[&name("c")].path("root/srv")).unwrap();
    world.machines[&name("c")].write(&format!("root{LAG}"), "7 s\n");
    let outcome = world.executed(prepared);
    assert_eq!((outcome.refused.as_slice(), world.leaders()), ([].as_slice(), vec!["a"]), "{outcome:?}");
    assert_eq!(outcome.hosts.keys().map(HostName::as_str).collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(remembered(&world), "a");
}

fn hold(world: &World, host: &str) -> Box<dyn Hold> {
    let mut transport = world.machines[&name(host)].transport();
    match lock::take(transport.as_mut(), "other@there", "20261122T000001").unwrap() {
        Locked::Ours(hold) => hold,
        Locked::Held(by) => panic!("{by}"),
    }
}

#[test]
fn a_needed_host_that_another_run_holds_stops_all() {
    let world = World::new();
    let prepared = planned(&world, &["a"]);
    let others = hold(&world, "c");
    let outcome = world.executed(prepared);
    refused(
        &outcome,
        "c has to stay as it is while this is done, and cannot be held so: another run works on this host",
    );
    assert!(world.leaders().is_empty());
    // The same where it is selected, and nothing is done on it.
    let outcome = world.executed(planned(&world, &["a", "b", "c"]));
    let HostOutcome::Failed(failure) = &outcome.hosts[&name("c")] else { panic!("{outcome:?}") };
    assert_eq!((failure.what.as_str(), world.leaders().len()), ("the host lock", 0));
    drop(others);
    world.executed(planned(&world, &["a"]));
    assert_eq!(world.leaders(), ["a"]);
}

/// Of two runs that have a host each and need both, the earlier one gets them.
#[test]
fn the_later_run_gives_way() {
    let world = World::new();
    let take = |host: &str, run: &str| {
        let mut transport = world.machines[&name(host)].transport();
        lock::take(transport.as_mut(), "other@there", run).unwrap()
    };
    let (earlier, later) = ("20261123T000001-zzzzzz", "20261123T000002-aaaaaa");
    let (Locked::Ours(_a), Locked::Ours(b)) = (take("a", earlier), take("b", later)) else { panic!() };
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| take("b", earlier));
        let Locked::Held(by) = take("a", later) else { panic!("the later one got what the earlier one has") };
        assert!(by.contains(&format!("run {earlier}")), "{by}");
        drop(b);
        assert!(matches!(waits.join().unwrap(), Locked::Ours(_)));
    });
    // Nobody waits for long.
    let Locked::Ours(_b) = take("b", later) else { panic!() };
    assert!(matches!(take("b", earlier), Locked::Held(_)));
}

#[test]
fn what_the_controller_remembers_is_kept_with_what_is_done() {
    let world = World::new();
    // Planned and not executed, or executed in part: nothing is remembered.
    planned(&world, &["a", "b", "c"]);
    world.executed(planned(&world, &["b"]));
    assert_eq!((remembered(&world), world.leaders().len()), (String::new(), 0));
    // Another one leads already: that is learned, and no host is changed.
    lead(&world, "c");
    let prepared = planned(&world, &["b"]);
    assert!(prepared.plan.is_empty() && !prepared.news.is_empty());
    let outcome = world.executed(prepared);
    assert_eq!((remembered(&world).as_str(), outcome.refused.len()), ("c", 0), "{outcome:?}");
    // From then on nothing depends on it: no other host is held.
    let prepared = planned(&world, &["b"]);
    assert!(prepared.news.is_empty() && prepared.decisions.is_empty() && prepared.beside.sessions.is_empty());
    // Another run on this controller has remembered something else since this was planned.
    fs_err::remove_dir(world.machines[&name("c")].path(&format!("root{LEADS}"))).unwrap();
    let prepared = planned(&world, &["a", "b", "c"]);
    assert_eq!(prepared.plan.changed().map(HostName::as_str).collect::<Vec<_>>(), ["c"]);
    memory::keep(&world.site, &BTreeMap::from([("careful", "b".into())])).unwrap();
    refused(&world.executed(prepared), "`careful` would decide otherwise about b, c now");
    assert!(world.leaders().is_empty());
}

const UNIT: &str = "demo.service";

/// A server on each host, whose restart nobody has to confirm on b and c.
struct Served(&'static str);

impl Service for Served {
    fn name(&self) -> &'static str {
        "served"
    }

    fn writer_units(&self, _: &Site) -> BTreeSet<String> {
        BTreeSet::from([UNIT.to_owned()])
    }

    fn want(&self, _: &Context<'_>, out: &mut Claims) -> Result<(), Diagnostic> {
        out.unit(UNIT, UnitWanted { phase: Phase::Primary })?;
        let then = BTreeMap::from([(UNIT.to_owned(), Follow::Confirm)]);
        out.file("/etc/demo/main.conf", File { phase: Phase::Primary, then, ..file(self.0, 0o644) })
    }

    fn needs(&self, site: &Site, _: &BTreeSet<HostName>) -> BTreeSet<HostName> {
        site.hosts.keys().cloned().collect()
    }

    fn decide(&self, _: &Site, _: &ObservedFleet, _: &Memory) -> Result<Decided, Diagnostic> {
        let units = || BTreeSet::from([UNIT.to_owned()]);
        let confirms = ["b", "c"].map(|host| (name(host), units())).into();
        Ok(Decided { confirms, ..Decided::default() })
    }
}

const ONE: Services = Services(&[&Served("one\n")]);
const TWO: Services = Services(&[&Served("two\n")]);
const ALL: [&str; 3] = ["a", "b", "c"];

fn restarts(world: &World) -> Vec<&str> {
    let log = |host: &str| world.machines[&name(host)].read("units/log").unwrap_or_default();
    ALL.into_iter().filter(|host| log(host).contains(&format!("restart {UNIT}"))).collect()
}

#[test]
fn what_a_decision_confirms_restarts_and_the_rest_waits_for_a_word() {
    let mut world = World::new();
    world.executed(world.planned(ONE, &ALL).unwrap_or_else(|e| panic!("{e:?}")).0);
    assert_eq!(restarts(&world), Vec::<&str>::new());
    let (prepared, _) = world.planned(TWO, &ALL).unwrap_or_else(|e| panic!("{e:?}"));
    assert_eq!(prepared.decisions.len(), 1, "the restarts depend on it");
    let outcome = world.executed(prepared);
    assert_eq!((restarts(&world), outcome.refused.len()), (vec!["b", "c"], 0), "{outcome:?}");
    let waits = |world: &World| {
        let (prepared, _) = world.planned(TWO, &ALL).unwrap_or_else(|e| panic!("{e:?}"));
        let waits = prepared.plan.hosts.iter().filter(|(_, plan)| plan.waits.contains(UNIT));
        waits.map(|(host, _)| host.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(waits(&world), ["a"]);
    world.confirmed = TWO.writer_units(&world.site);
    let (prepared, _) = world.planned(TWO, &ALL).unwrap_or_else(|e| panic!("{e:?}"));
    assert!(prepared.decisions.is_empty(), "what a person confirms depends on nothing else");
    world.executed(prepared);
    assert_eq!((restarts(&world), waits(&world).len()), (vec!["a", "b", "c"], 0));
}

#[test]
fn what_a_person_confirms_restarts_after_all_others_and_only_if_they_came_through() {
    for (fails, order, restarted) in [(None, "b c a", "a b c"), (Some("b"), "b c", "b c")] {
        let mut world = World::new();
        world.executed(world.planned(ONE, &ALL).unwrap_or_else(|e| panic!("{e:?}")).0);
        world.confirmed = BTreeSet::from([UNIT.to_owned()]);
        if let Some(host) = fails {
            world.machines[&name(host)].write(&format!("units/fail-restart-{UNIT}"), "");
        }
        let (prepared, _) = world.planned(TWO, &ALL).unwrap_or_else(|e| panic!("{e:?}"));
        let (outcome, turns) = world.executed_within(prepared, 1);
        assert_eq!(turns.join(" "), order, "{outcome:?}");
        assert_eq!(restarts(&world).join(" "), restarted);
        if fails.is_some() {
            let HostOutcome::NotReached { state } = &outcome.hosts[&name("a")] else { panic!("{outcome:?}") };
            assert_eq!(state, "nothing was changed on it; still to do: primary");
        }
    }
}
