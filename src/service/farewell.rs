//! What a host is to be when infra leaves it: takes the host and what it is, gives a state with nothing of infra's in it, so that the
//! plan removes what the manifest has and stops what only that has started. Packages stay, and so do data, which no manifest has.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::time::Duration;

use crate::base::net::Invalid;
use crate::base::sh::quote;
use crate::base::visible;
use crate::inventory::site::{Host, Site};
use crate::plan::state::{Body, DesiredHost, Digest, Observed, Phase};
use crate::plan::task::Task;
use crate::service::away;
use crate::service::drained::{self, Mark, NAME};
use crate::service::firewall::flows::{self, Kind};
use crate::service::firewall::{rules, script};

/// What becomes of the rules of a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rules {
    /// Those of infra are removed.
    Open,
    /// Only SSH gets in, from where people manage the hosts, and nothing gets out.
    Closed,
}

impl FromStr for Rules {
    type Err = Invalid;
    fn from_str(text: &str) -> Result<Self, Invalid> {
        match text {
            "open" => Ok(Self::Open),
            "closed" => Ok(Self::Closed),
            _ => Err(Invalid::new("is neither `open` nor `closed`")),
        }
    }
}

/// The file that says that a host was retired. Whoever has its line in an inventory still is told so.
const RETIRED: &str = "/var/lib/infra/retired";

/// What `host` is to be. With a mark, it says from then on that it was retired.
pub fn desired(site: &Site, host: &Host, seen: &Observed, rules: Rules, mark: Option<&Mark>) -> DesiredHost {
    let mut desired = DesiredHost::default();
    let mut add = |name: &str, title: &str, script: String, fact: String| {
        let input = Body { text: "".into(), digest: Digest::of(b""), origin: None };
        let (title, limit, name) = (title.to_owned(), Duration::from_mins(2), format!("{NAME}/{name}"));
        let makes = BTreeMap::from([(name.clone(), fact)]);
        let task = Task { service: NAME, phase: Phase::Narrow, title, script, input, limit, undo: None, makes };
        desired.tasks.insert(name, task);
    };
    // In the order of their names.
    if let Some(mark) = drained::mark(seen) {
        add("drained", "forget that it was drained", away::GONE.to_owned(), format!("not drained {mark}"));
    }
    if let Some(mark) = mark.filter(|_| drained::retired(seen).is_none()) {
        let lines =
            [mark.since.to_string(), visible::line(&mark.by).into_owned(), visible::line(&mark.why).into_owned()];
        let script = format!(
            "umask 077\nprintf '%s\\n' {} >{RETIRED}.new && sync {RETIRED}.new && mv -fT {RETIRED}.new {RETIRED} && sync /var/lib/infra",
            lines.map(|line| quote(&line)).join(" ")
        );
        add("retired", "remember that it was retired", script, format!("retired {mark}"));
    }
    match rules {
        Rules::Open if seen.firewall.loaded.is_some() => {
            let title = "open the firewall: the rules of infra are removed, also for the next boot";
            // Rules are there, so whatever an earlier farewell has made true holds no more.
            let before = seen.made.get(&format!("{NAME}/rules")).map(String::as_str);
            let fact = if before == Some("opened") { "opened again" } else { "opened" };
            add("rules", title, script::unload_script(), fact.to_owned());
        }
        Rules::Open => {}
        Rules::Closed => {
            let mut flows = flows::derive(site);
            flows.retain(|flow| flow.kind == Kind::Manage);
            desired.firewall = Some(rules::host_ruleset(site, host, &seen.facts, &flows));
        }
    }
    desired
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::inventory::load::load_text;
    use crate::plan::plan::{self, Action};
    use crate::plan::ruleset::Direction;
    use crate::plan::state::{Facts, Follow, Recorded};

    const INVENTORY: &str = "name: shop
hosts:
  lb1: { address: 10.0.1.11, roles: [lb] }
  web1: { address: 10.0.2.11, roles: [web] }
firewall: { manage_from: [10.0.0.0/24] }
sites: { a.example.com: { static: { root: /srv/a, prefix: / } } }
certificates: { issuer: internal }
";

    #[test]
    fn what_the_manifest_has_goes_and_what_it_started_stops() {
        let site = load_text(INVENTORY, Path::new("inventory.yml")).unwrap_or_else(|e| panic!("{e:?}")).0;
        let host = &site.hosts[&"web1".parse().unwrap()];
        let mut seen = Observed::bare(Facts::of_release("debian", "12"));
        let then = BTreeMap::from([("nginx.service".to_owned(), Follow::Reload)]);
        seen.manifest.insert("/etc/nginx/nginx.conf".into(), Recorded { digest: Digest::of(b""), then });
        let flows = flows::derive(&site);
        let live = rules::host_ruleset(&site, host, &seen.facts, &flows);
        (seen.firewall.loaded, seen.firewall.intact, seen.firewall.boot_current) = (Some(live), true, true);
        let mark = Mark { since: 7, by: "ops@desk".into(), why: String::new() };
        let told = |rules| {
            let plan = plan::host(&desired(&site, host, &seen, rules, Some(&mark)), &seen);
            assert_eq!(plan.phases.keys().collect::<Vec<_>>(), [&Phase::Narrow]);
            let tell = |action: &Action| match action {
                Action::Remove { path, .. } => format!("- {path}"),
                Action::Follow { unit, follow, .. } => format!("{follow} {unit}"),
                Action::Perform { name, .. } => name.clone(),
                Action::Firewall { to, .. } => {
                    let ways = to.rules.iter().map(|rule| match rule.direction {
                        Direction::In => format!("in {}", rule.flow),
                        _ => format!("other {}", rule.flow),
                    });
                    ways.collect::<Vec<_>>().join(", ")
                }
                other => format!("{other:?}"),
            };
            plan.phases[&Phase::Narrow].iter().map(tell).collect::<Vec<_>>()
        };
        let gone = ["- /etc/nginx/nginx.conf", "stop nginx.service", "away/retired"];
        assert_eq!(told(Rules::Open), [&gone[..], &["away/rules"]].concat());
        assert_eq!(told(Rules::Closed), [&gone[..], &["in manage_from -> all"]].concat());
        // Who was drained is not drained when it is taken in again.
        drained::read("drained\n7\nops@desk\n\n", &mut seen);
        let plan = plan::host(&desired(&site, host, &seen, Rules::Open, None), &seen);
        assert!(
            plan.phases[&Phase::Narrow]
                .iter()
                .any(|a| matches!(a, Action::Perform { name, .. } if name == "away/drained"))
        );
        // Twice is nothing.
        let after = Observed::bare(Facts::of_release("debian", "12"));
        assert!(plan::host(&desired(&site, host, &after, Rules::Open, None), &after).is_empty());
    }
}
