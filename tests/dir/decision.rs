//! A service that decides over all hosts at once, by the real scripts: twice is nothing, and with a selection the others are looked
//! at, told, and left as they are.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, mpsc};

use infra::base::diagnostic::Diagnostic;
use infra::base::materials::Materials;
use infra::base::net::HostName;
use infra::fleet::event::{Event, HostOutcome, Outcome};
use infra::fleet::memory;
use infra::fleet::survey::{self, Connector, Prepared, Sources};
use infra::fleet::transaction::{self, Options};
use infra::fleet::wave::Waves;
use infra::host::transport::{Hold, Output, Script, Transport, TransportError};
use infra::inventory::load::load_text;
use infra::inventory::site::{Host, Site};
use infra::plan::decision::{Decided, Memory};
use infra::plan::plan::Action;
use infra::plan::state::{Access, Facts, File, Observed, ObservedFleet, Part, Phase, Version};
use infra::service::claims::Claims;
use infra::service::inquiry::Inquiry;
use infra::service::product::Product;
use infra::service::render::Templates;
use infra::service::{Context, Service, Services};
use time::OffsetDateTime;

use super::{Machine, file, packages};

const LEADS: &str = "/srv/leads";
const SEEN: Part<String> = Part::steady("leader");

/// One host has the folder of who leads: the one that has it already, else the first that answers.
struct Leader;

impl Service for Leader {
    fn name(&self) -> &'static str {
        "leader"
    }

    fn inquiry(&self) -> Option<Inquiry> {
        let script = || format!("[ ! -d \"$ROOT{LEADS}\" ] || echo leads");
        let read = |answer: &str, seen: &mut Observed| SEEN.put(&answer.to_owned(), seen);
        Some(Inquiry { script, read, ..Inquiry::NOTHING })
    }

    fn want(&self, _: &Context<'_>, _: &mut Claims) -> Result<(), Diagnostic> {
        Ok(())
    }

    fn needs(&self, site: &Site, _: &BTreeSet<HostName>) -> BTreeSet<HostName> {
        site.hosts.keys().cloned().collect()
    }

    fn decide(&self, _: &Site, observed: &ObservedFleet, _: &Memory) -> Result<Decided, Diagnostic> {
        let mut decided = Decided::default();
        let leads = |seen: &Observed| SEEN.of(seen).is_some_and(|answer| answer.contains("leads"));
        if let Some(first) = observed.keys().next().filter(|_| !observed.values().any(leads)) {
            let access = Access::root(0o700);
            decided.act(first, Phase::Primary, Action::MakeFolder { path: LEADS.into(), access, exists: false });
        }
        Ok(decided)
    }
}

/// Decides about a host whether it was seen or not.
struct Blind;

impl Service for Blind {
    fn name(&self) -> &'static str {
        "blind"
    }

    fn want(&self, _: &Context<'_>, _: &mut Claims) -> Result<(), Diagnostic> {
        Ok(())
    }

    fn decide(&self, _: &Site, _: &ObservedFleet, _: &Memory) -> Result<Decided, Diagnostic> {
        let mut decided = Decided::default();
        let (path, access) = (LEADS.to_owned(), Access::root(0o700));
        decided.act(&name("c"), Phase::Primary, Action::MakeFolder { path, access, exists: false });
        Ok(decided)
    }
}

const DEMO: Product = Product { name: "demo", packages: &["demo"], shipped: [Version(2, 0, 0); 6] };

/// Has a package of another version than it says, and perhaps its repository.
struct Versioned {
    repository: bool,
}

impl Service for Versioned {
    fn name(&self) -> &'static str {
        "versioned"
    }

    fn products(&self) -> &'static [Product] {
        &[DEMO]
    }

    fn want(&self, _: &Context<'_>, out: &mut Claims) -> Result<(), Diagnostic> {
        if self.repository {
            let sources = file("URIs: https://packages.example.com\n", 0o644);
            let sources = File { phase: Phase::Packages, then: BTreeMap::new(), ..sources };
            out.file("/etc/apt/sources.list.d/demo.sources", sources)?;
        }
        out.package("demo")
    }
}

pub(super) struct World {
    pub(super) site: Site,
    pub(super) machines: BTreeMap<HostName, Machine>,
    /// A host that does not answer.
    away: Option<HostName>,
    /// Units whose restart a person has confirmed.
    pub(super) confirmed: BTreeSet<String>,
    /// What was done on each host: `login`, and the title of each script.
    pub(super) work: Arc<Mutex<BTreeMap<HostName, Vec<String>>>>,
    _state: tempfile::TempDir,
}

/// A connection whose scripts are written down.
struct Counted {
    host: HostName,
    work: Arc<Mutex<BTreeMap<HostName, Vec<String>>>>,
    transport: Box<dyn Transport>,
}

impl Counted {
    fn count(&self, what: &str) {
        self.work.lock().unwrap().entry(self.host.clone()).or_default().push(what.to_owned());
    }
}

impl Transport for Counted {
    fn run_told(
        &mut self,
        script: &Script,
        stdin: &[u8],
        told: &mut dyn FnMut(&[u8]),
    ) -> Result<Output, TransportError> {
        self.count(&script.title);
        self.transport.run_told(script, stdin, told)
    }

    fn hold(&mut self, script: &Script) -> Result<(String, Box<dyn Hold>), TransportError> {
        self.count(&script.title);
        self.transport.hold(script)
    }
}

impl Connector for World {
    fn connect(&self, host: &Host) -> Result<Box<dyn Transport>, TransportError> {
        if self.away.as_ref() == Some(&host.name) {
            return Err(TransportError::Lost("no route".into()));
        }
        let transport = self.machines[&host.name].transport();
        let counted = Counted { host: host.name.clone(), work: Arc::clone(&self.work), transport };
        counted.count("login");
        Ok(Box::new(counted))
    }
}

pub(super) fn name(text: &str) -> HostName {
    text.parse().unwrap()
}

impl World {
    pub(super) fn new() -> Self {
        let text = "name: shop
hosts:
  a: { address: 10.0.1.11, roles: [lb] }
  b: { address: 10.0.1.12, roles: [web] }
  c: { address: 10.0.1.13, roles: [web] }
firewall: { manage_from: [10.0.0.0/24] }
sites: { a.example.com: { static: { root: /srv/x, prefix: / } } }
certificates: { issuer: internal }
";
        let state = tempfile::tempdir().unwrap();
        let site = load_text(text, Path::new("inventory.yml")).unwrap_or_else(|e| panic!("{e:?}")).0;
        let site = Site { state: state.path().join("state"), ..site };
        let machines = site.hosts.keys().map(|host| (host.clone(), Machine::new())).collect();
        Self { site, machines, away: None, confirmed: BTreeSet::new(), work: Arc::default(), _state: state }
    }

    /// What is planned for these hosts, and the notes on the way there.
    pub(super) fn planned(
        &self,
        services: Services,
        selected: &[&str],
    ) -> Result<(Prepared, Vec<String>), Vec<Diagnostic>> {
        self.planned_by(services, selected, &BTreeMap::new())
    }

    /// The same by what was known of the hosts before.
    fn planned_by(
        &self,
        services: Services,
        selected: &[&str],
        guess: &BTreeMap<HostName, Facts>,
    ) -> Result<(Prepared, Vec<String>), Vec<Diagnostic>> {
        let (events, told) = mpsc::channel();
        let templates = Templates::load(services, None).unwrap();
        let (materials, confirmed) = (Materials::default(), self.confirmed.clone());
        let memory = memory::kept(&self.site, services, OffsetDateTime::UNIX_EPOCH).unwrap();
        let sources = Sources {
            site: &self.site,
            materials: &materials,
            templates: &templates,
            memory: &memory,
            confirmed: &confirmed,
            adopt: None,
        };
        let selected = selected.iter().map(|host| name(host)).collect();
        let prepared = survey::prepare(&selected, sources, guess, self, 4, &events)?;
        drop(events);
        let notes = told.iter().filter_map(|event| match event {
            Event::Note { text, .. } => Some(text),
            _ => None,
        });
        Ok((prepared, notes.collect()))
    }

    pub(super) fn executed(&self, prepared: Prepared) -> Outcome {
        self.executed_within(prepared, 0).0
    }

    /// What became of it where so many hosts may fail, and the hosts in the order of their turns in `Primary`.
    pub(super) fn executed_within(&self, prepared: Prepared, max_failed: usize) -> (Outcome, Vec<String>) {
        self.executed_by(prepared, max_failed, &Waves::default())
    }

    /// The same in waves.
    pub(super) fn executed_by(&self, prepared: Prepared, max_failed: usize, waves: &Waves) -> (Outcome, Vec<String>) {
        let options = Options {
            parallel: 4,
            waves: waves.clone(),
            max_failed,
            settle: false,
            plan: None,
            drain: None,
            run: "20261123T000000".into(),
            who: "tester@here".into(),
            restores: None,
        };
        let (events, told) = mpsc::channel();
        let (materials, stop) = (Materials::default(), AtomicBool::new(false));
        let outcome = transaction::execute(&self.site, prepared, &materials, self, &options, &stop, &events);
        drop(events);
        let turns = told.iter().filter_map(|event| match event {
            Event::HostBegin { phase: Phase::Primary, host } => Some(host.to_string()),
            _ => None,
        });
        (outcome, turns.collect())
    }

    pub(super) fn leaders(&self) -> Vec<&str> {
        let leads = self.machines.iter().filter(|(_, machine)| machine.path(&format!("root{LEADS}")).is_dir());
        leads.map(|(host, _)| host.as_str()).collect()
    }
}

const SERVICES: Services = Services(&[&Leader]);

#[test]
fn what_is_decided_is_done_once() {
    let world = World::new();
    let (prepared, notes) = world.planned(SERVICES, &["a", "b", "c"]).unwrap_or_else(|e| panic!("{e:?}"));
    assert_eq!(notes, Vec::<String>::new());
    assert_eq!(prepared.plan.changed().map(HostName::as_str).collect::<Vec<_>>(), ["a"]);
    let outcome = world.executed(prepared);
    let changed = |outcome: &HostOutcome| *outcome == HostOutcome::Changed;
    assert_eq!(outcome.count(changed), 1, "{outcome:?}");
    assert_eq!(world.leaders(), ["a"]);
    let (again, _) = world.planned(SERVICES, &["a", "b", "c"]).unwrap_or_else(|e| panic!("{e:?}"));
    assert!(again.plan.is_empty(), "{:?}", again.plan);
}

#[test]
fn with_a_selection_the_others_are_looked_at_and_left_as_they_are() {
    let world = World::new();
    let (prepared, notes) = world.planned(SERVICES, &["b"]).unwrap_or_else(|e| panic!("{e:?}"));
    let looked = "a and c are looked at too, as `leader` decides over all its hosts at once; nothing is changed there";
    let left = "a: what is decided for it is left out, as it is not selected";
    assert_eq!(notes, [looked, left]);
    assert_eq!(prepared.plan.hosts.keys().map(HostName::as_str).collect::<Vec<_>>(), ["b"]);
    assert!(prepared.plan.is_empty());
    assert_eq!(prepared.survey.sessions.keys().map(HostName::as_str).collect::<Vec<_>>(), ["b"]);
    // What the others are counts: the first leads, so that nobody else does.
    fs_err::create_dir_all(world.machines[&name("c")].path(&format!("root{LEADS}"))).unwrap();
    let (prepared, notes) = world.planned(SERVICES, &["a", "b"]).unwrap_or_else(|e| panic!("{e:?}"));
    assert_eq!((prepared.plan.is_empty(), notes.len()), (true, 1), "{notes:?}");
    assert!(notes[0].starts_with("c is looked at too, as `leader`"), "{notes:?}");
}

/// The one that leads is down: who decides without it would make a second leader. The same where the service did not say that it
/// needs that host, and would act on it.
#[test]
fn without_a_host_that_it_needs_nothing_is_decided() {
    let mut world = World::new();
    fs_err::create_dir_all(world.machines[&name("c")].path(&format!("root{LEADS}"))).unwrap();
    world.away = Some(name("c"));
    for (services, who, selected, unreachable) in [
        (SERVICES, "leader", ["a", "b"].as_slice(), 0),
        (SERVICES, "leader", &["a", "b", "c"], 1),
        (Services(&[&Blind]), "blind", &["a", "c"], 1),
    ] {
        let (prepared, _) = world.planned(services, selected).unwrap_or_else(|e| panic!("{e:?}"));
        assert!(prepared.plan.is_empty(), "{:?}", prepared.plan);
        let start = format!("`{who}` decides over all its hosts at once, and decided nothing: c cannot be reached: ");
        assert!(prepared.undecided.len() == 1 && prepared.undecided[0].starts_with(&start), "{:?}", prepared.undecided);
        assert_eq!(prepared.survey.unreachable.len(), unreachable);
    }
}

#[test]
fn nothing_is_decided_about_a_host_that_was_not_looked_at() {
    let world = World::new();
    let Err(errors) = world.planned(Services(&[&Blind]), &["a"]) else { panic!("decided") };
    let messages: Vec<&str> = errors.iter().map(|error| error.message.as_str()).collect();
    assert_eq!(messages, ["`blind` decides about c, which was not looked at"]);
}

#[test]
fn what_stands_after_another_version_came_is_told() {
    let cases = [
        (Services(&[&Versioned { repository: false }]), "its configuration is as before"),
        (
            Services(&[&Versioned { repository: true }]),
            "its packages and their repositories are as planned, nothing else was changed",
        ),
    ];
    for (services, state) in cases {
        let mut world = World::new();
        world.machines.insert(name("a"), packages::machine());
        let (prepared, _) = world.planned(services, &["a"]).unwrap_or_else(|e| panic!("{e:?}"));
        let outcome = world.executed(prepared);
        let HostOutcome::Failed(failure) = &outcome.hosts[&name("a")] else { panic!("{outcome:?}") };
        assert!(failure.words[0].starts_with("the plan was made for demo 2.0"), "{failure:?}");
        assert_eq!((failure.phase, failure.state.as_str()), (Phase::Packages, state));
    }
}

/// A file that says what is known of the host; what it cannot say is an error of one host.
struct Telling {
    fails: bool,
}

impl Service for Telling {
    fn name(&self) -> &'static str {
        "telling"
    }

    fn want(&self, context: &Context<'_>, out: &mut Claims) -> Result<(), Diagnostic> {
        if self.fails && context.host.name.as_str() == "c" {
            return Err(Diagnostic::error("c cannot be rendered"));
        }
        let path = if context.facts.memory == 64 { "/etc/demo/small" } else { "/etc/demo/facts" };
        out.file(
            path,
            File { service: "telling", then: BTreeMap::new(), ..file(&format!("{:?}\n", context.facts), 0o644) },
        )
    }
}

#[test]
fn hosts_of_which_something_else_is_known_by_now_are_rendered_anew() {
    const TELLING: Services = Services(&[&Telling { fails: false }]);
    let world = World::new();
    let planned = |guess: &BTreeMap<HostName, Facts>| {
        world.work.lock().unwrap().clear();
        let prepared = world.planned_by(TELLING, &["a", "b"], guess).unwrap_or_else(|e| panic!("{e:?}")).0;
        let work = world.work.lock().unwrap();
        (prepared, [name("a"), name("b")].map(|host| work[&host].iter().filter(|did| *did == "observe").count()))
    };
    let (first, _) = planned(&BTreeMap::new());
    let known = first.survey.facts();
    let small = Facts { memory: 64, ..known[&name("b")].clone() };
    let wrong = [(name("a"), known[&name("a")].clone()), (name("b"), small.clone()), (name("c"), small)].into();
    // Where nothing has changed, and where one host and one that is not asked were taken for others.
    for (guess, asked) in [(known.clone(), [1, 1]), (wrong, [1, 2])] {
        let (again, times) = planned(&guess);
        assert_eq!((&again.desired, times), (&first.desired, asked));
        assert_eq!(again.survey.facts(), known);
    }
}

#[test]
fn what_cannot_be_rendered_is_told_first_and_no_host_is_asked_anything() {
    const FAILING: Services = Services(&[&Telling { fails: true }]);
    let mut world = World::new();
    world.away = Some(name("a"));
    let errors = world.planned(FAILING, &["a", "b", "c"]).map(drop).unwrap_err();
    assert_eq!(errors.iter().map(|e| e.message.as_str()).collect::<Vec<_>>(), ["c cannot be rendered"]);
    let work = world.work.lock().unwrap();
    assert!(work.values().flatten().all(|did| did == "login"), "{work:?}");
}
