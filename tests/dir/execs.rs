//! What is done over SSH on a host that changes: how often somebody logs in there, and what each script is for. Time goes by their
//! number, so one more has to be wanted.

use infra::base::diagnostic::Diagnostic;
use infra::fleet::event::HostOutcome;
use infra::inventory::site::Role;
use infra::plan::state::Drain;
use infra::service::claims::Claims;
use infra::service::firewall::Firewall;
use infra::service::{Context, Service, Services};

use super::decision::{World, name};
use super::passages;
use super::*;

/// A page on each load balancer, whose server may have workers that outlive a reload.
struct Pages {
    text: &'static str,
}

impl Service for Pages {
    fn name(&self) -> &'static str {
        "pages"
    }

    fn want(&self, context: &Context<'_>, out: &mut Claims) -> Result<(), Diagnostic> {
        if !context.host.roles.contains(&Role::Lb) {
            return Ok(());
        }
        let page = File { service: "pages", then: BTreeMap::new(), ..file(self.text, 0o644) };
        out.file("/etc/demo/page.conf", page)?;
        out.drain(Drain { service: "pages", command: "pages-left".into() });
        Ok(())
    }
}

const BEFORE: Services = Services(&[&Firewall, &Pages { text: "one\n" }]);
const AFTER: Services = Services(&[&Firewall, &Pages { text: "two\n" }]);
const ALL: [&str; 3] = ["a", "b", "c"];

/// A first state; then the port of the web hosts is another. `left` is what tells of workers of before.
fn world(left: &str) -> World {
    let mut world = passages::world();
    for machine in world.machines.values() {
        machine.executable("bin/pages-left", &format!("#!/bin/sh\ncd '{}'\n{left}\n", machine.path("units").display()));
    }
    let (prepared, _) = world.planned(BEFORE, &ALL).unwrap_or_else(|e| panic!("{e:?}"));
    world.executed(prepared);
    for machine in world.machines.values() {
        let _ = fs_err::remove_file(machine.path("units/asked"));
    }
    world.site.ports.web = 8444_u64.try_into().unwrap();
    world.work.lock().unwrap().clear();
    world
}

/// It moves, and the load balancer, which comes to it, has another file too. What was done there.
fn moved(left: &str) -> Vec<String> {
    let world = world(left);
    let (prepared, _) = world.planned(AFTER, &ALL).unwrap_or_else(|e| panic!("{e:?}"));
    let outcome = world.executed(prepared);
    assert_eq!(outcome.count(|host| *host == HostOutcome::Changed), 3, "{outcome:?}");
    let work = world.work.lock().unwrap().remove(&name("a")).unwrap();
    let (again, _) = world.planned(AFTER, &ALL).unwrap_or_else(|e| panic!("{e:?}"));
    assert!(again.plan.is_empty(), "{:?}", again.plan);
    work
}

const MOVE: [&str; 10] = [
    "login",
    "observe",
    // And what the host is then.
    "take the host lock",
    "stage",
    // Nobody is locked out by what is only opened: no timer, and no login.
    "widen: load rules",
    // And whether workers of before are left.
    "web",
    "narrow: load rules",
    "login",
    "narrow: confirm rules",
    // What the rules of both ends let through.
    "connect to others",
];

#[test]
fn a_port_moves_in_eight_execs_and_two_logins() {
    assert_eq!(moved("true"), MOVE);
}

#[test]
fn workers_that_are_left_are_asked_for_again() {
    let mut work = moved("[ -e asked ] || { : >asked; echo 1 former worker of pages; false; }");
    let asked = work.iter().position(|title| title == "ask for former workers");
    let asked = asked.unwrap_or_else(|| panic!("nobody asked: {work:?}"));
    assert_eq!(work.get(asked - 1).map(String::as_str), Some("web"));
    work.remove(asked);
    assert_eq!(work, MOVE);
}

/// The live rules are not those that were recorded: nothing is taken for granted, and the load is armed.
#[test]
fn rules_that_are_not_as_recorded_are_loaded_with_a_timer() {
    let world = world("true");
    let (prepared, _) = world.planned(AFTER, &ALL).unwrap_or_else(|e| panic!("{e:?}"));
    // Between the look and the load, without a change of what is looked at.
    let machine = &world.machines[&name("b")];
    machine.executable("bin/sha256sum", &format!(
        "#!/bin/sh\nread=$(cat; echo .)\nif [ $# = 0 ] && [ \"$read\" = \"$(cat '{}'; echo .)\" ]; then echo 'another  -'; else printf %s \"${{read%.}}\" | /usr/bin/sha256sum \"$@\"; fi\n",
        machine.path("root/etc/infra/firewall.nft").display()
    ));
    world.work.lock().unwrap().clear();
    let outcome = world.executed(prepared);
    assert_eq!(outcome.count(|host| *host == HostOutcome::Changed), 3, "{outcome:?}");
    let work = world.work.lock().unwrap();
    let titles =
        |host: &str| work[&name(host)].iter().filter(|title| title.starts_with("widen")).cloned().collect::<Vec<_>>();
    assert_eq!(titles("b"), ["widen: load rules", "widen: load rules", "widen: confirm rules"]);
    assert_eq!(titles("c"), ["widen: load rules"]);
}
