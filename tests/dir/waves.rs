//! Waves and the gate between them: what worked before has to work after each, or nothing more is begun.

use infra::base::diagnostic::Diagnostic;
use infra::fleet::event::HostOutcome;
use infra::fleet::run::Wave;
use infra::fleet::wave::Waves;
use infra::inventory::site::Role;
use infra::service::claims::Claims;
use infra::service::{Context, Service, Services};

use super::decision::{World, name};
use super::*;

/// A page on each web host, and what says whether it is well; beside it something that does not work yet.
struct Pages {
    text: &'static str,
}

impl Service for Pages {
    fn name(&self) -> &'static str {
        "pages"
    }

    fn want(&self, context: &Context<'_>, out: &mut Claims) -> Result<(), Diagnostic> {
        if !context.host.roles.contains(&Role::Web) {
            return Ok(());
        }
        let page = File { service: "pages", then: BTreeMap::new(), ..file(self.text, 0o644) };
        out.file("/etc/demo/page.conf", page)?;
        for (title, command) in [("the page is well", "page-is-well"), ("what comes later works", "false")] {
            let (title, command) = (title.to_owned(), command.to_owned());
            out.probe(Probe {
                phase: Phase::Verify,
                title,
                command: command.into(),
                within: Duration::ZERO,
                advisory: true,
            });
        }
        Ok(())
    }
}

const WELL: Services = Services(&[&Pages { text: "well\n" }]);
const ILL: Services = Services(&[&Pages { text: "ill\n" }]);

#[test]
fn a_wave_that_breaks_what_worked_is_the_last_one() {
    let world = World::new();
    for machine in world.machines.values() {
        let page = machine.path("root/etc/demo/page.conf");
        machine.executable("bin/page-is-well", &format!("#!/bin/sh\n! grep -q ill '{}'\n", page.display()));
    }
    let waves = Waves { sizes: vec![Wave::ONE], gate: true, ..Waves::default() };
    let planned = |services| world.planned(services, &["a", "b", "c"]).unwrap_or_else(|e| panic!("{e:?}")).0;
    let outcome = world.executed_by(planned(WELL), 0, &waves).0;
    assert_eq!(outcome.count(|host| *host == HostOutcome::Changed), 2, "{outcome:?}");
    assert!(outcome.wave.is_empty());
    // However many may fail.
    let outcome = world.executed_by(planned(ILL), 9, &waves).0;
    let HostOutcome::Failed(failure) = &outcome.hosts[&name("b")] else { panic!("{outcome:?}") };
    assert_eq!(
        (failure.phase, failure.what.as_str()),
        (Phase::Web, "what worked before this wave does not work any more")
    );
    assert!(failure.words.len() == 1 && failure.words[0].starts_with("b: the page is well"), "{failure:?}");
    assert!(matches!(outcome.hosts[&name("c")], HostOutcome::NotReached { .. }), "{outcome:?}");
    assert_eq!(outcome.wave, [name("b")].into());
    let page = |host: &str| world.machines[&name(host)].read("root/etc/demo/page.conf").unwrap();
    assert_eq!((page("b").as_str(), page("c").as_str()), ("ill\n", "well\n"));
    // Without waves nobody looks in between.
    let outcome = world.executed(planned(ILL));
    assert_eq!(outcome.count(|host| *host == HostOutcome::Changed), 1, "{outcome:?}");
}

/// Spoils what another host serves, and fails on its own one.
struct Spoils {
    mark: String,
}

impl Service for Spoils {
    fn name(&self) -> &'static str {
        "spoils"
    }

    fn want(&self, context: &Context<'_>, out: &mut Claims) -> Result<(), Diagnostic> {
        if context.host.name != name("b") {
            return Ok(());
        }
        let command = format!(": >'{}'; echo it does not come up; false", self.mark);
        let title = "what is new works".to_owned();
        out.probe(Probe { phase: Phase::Web, title, command: command.into(), within: Duration::ZERO, advisory: false });
        Ok(())
    }
}

/// Whoever is left has to be told what the wave broke on others, also where its own hosts have failed of themselves.
#[test]
fn what_a_wave_of_failed_hosts_broke_elsewhere_is_told() {
    let world = World::new();
    let mark = world.machines[&name("c")].path("spoilt").display().to_string();
    for machine in world.machines.values() {
        machine.executable("bin/page-is-well", &format!("#!/bin/sh\n[ ! -e '{mark}' ]\n"));
    }
    let waves = Waves { sizes: vec![Wave::ONE], gate: true, ..Waves::default() };
    let planned = |services| world.planned(services, &["a", "b", "c"]).unwrap_or_else(|e| panic!("{e:?}")).0;
    assert_eq!(world.executed_by(planned(WELL), 0, &waves).0.count(|host| *host == HostOutcome::Changed), 2);
    let services: &'static [&'static dyn Service] =
        Box::leak(Box::new([&Pages { text: "ill\n" } as &dyn Service, Box::leak(Box::new(Spoils { mark }))]));
    let outcome = world.executed_by(planned(Services(services)), 9, &waves).0;
    assert!(matches!(outcome.hosts[&name("b")], HostOutcome::Failed(_)), "{outcome:?}");
    assert!(matches!(outcome.hosts[&name("c")], HostOutcome::NotReached { .. }), "{outcome:?}");
    let told = "what worked before this wave does not work any more: c: the page is well";
    assert!(outcome.notes.iter().any(|note| note.starts_with(told)), "{outcome:?}");
}
