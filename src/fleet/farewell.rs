//! Hosts that infra leaves: takes the site with these hosts alone, asks them, and plans that nothing of infra's is left on them. No
//! material is made or read for it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::mpsc::Sender;

use crate::base::net::HostName;
use crate::fleet::event::Event;
use crate::fleet::moved::Others;
use crate::fleet::survey::{self, Beside, Connector, Prepared};
use crate::inventory::site::Site;
use crate::plan::decision::{Decided, Memory};
use crate::plan::plan;
use crate::plan::state::{Desired, DesiredHost, Observed, ObservedFleet};
use crate::service::Services;
use crate::service::drained::Mark;
use crate::service::farewell::{self, Rules};

/// Asks all hosts of `site`, and plans.
pub fn prepare(
    (site, whole): (&Site, &Site),
    services: Services,
    (connector, parallel): (&dyn Connector, usize),
    (rules, mark): (Rules, Option<&Mark>),
    events: &Sender<Event>,
) -> Prepared {
    let mut survey = survey::ask(services, site.hosts.values(), (&Desired::new(), None), connector, parallel, events);
    survey.refused = refused(site, &survey.observed);
    survey.observed.retain(|host, _| !survey.refused.contains_key(host));
    let left = |(name, seen): (&HostName, &Observed)| {
        Some((name.clone(), farewell::desired(whole, site.hosts.get(name)?, seen, rules, mark)))
    };
    let desired: Desired = survey.observed.iter().filter_map(left).collect();
    let plan = plan::plan(&desired, &survey.observed);
    Prepared {
        desired,
        survey,
        decided: Decided::default(),
        decisions: Vec::new(),
        beside: Beside::default(),
        others: Others::default(),
        undecided: Vec::new(),
        plan,
        memory: Memory::default(),
        news: BTreeMap::new(),
        confirmed: BTreeSet::new(),
        services,
        whole: true,
    }
}

/// Why hosts cannot be left. That one was retired keeps nobody from leaving it; all other reasons hold for it too.
fn refused(site: &Site, observed: &ObservedFleet) -> BTreeMap<HostName, String> {
    let of_another = |seen: &Observed| {
        let owner = seen.owner.as_ref().filter(|owner| **owner != site.name)?;
        Some(format!("it belongs to the infrastructure `{owner}`, and this inventory is `{}`", site.name))
    };
    let nothing = DesiredHost::default();
    let why = |seen: &Observed| survey::barred(&nothing, seen).or_else(|| of_another(seen));
    observed.iter().filter_map(|(host, seen)| Some((host.clone(), why(seen)?))).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::inventory::load::load_text;
    use crate::plan::state::Facts;
    use crate::service::{ALL, drained};

    #[test]
    fn a_retired_host_is_left_unless_something_else_stands_against_it() {
        let text = "name: shop
hosts: { one: { address: 10.0.1.11, roles: [lb, web], allow_mixed_roles: a test } }
firewall: { manage_from: [10.0.0.0/24] }
sites: { a.example.com: { static: { root: /srv/a, prefix: / } } }
certificates: { issuer: internal }
";
        let site = load_text(text, Path::new("inventory.yml")).unwrap_or_else(|e| panic!("{e:?}")).0;
        let inquiry = ALL.0.iter().find(|service| service.name() == drained::NAME).unwrap().inquiry().unwrap();
        let why = |change: &dyn Fn(&mut Observed)| {
            let mut seen = Observed::bare(Facts::of_release("debian", "12"));
            (inquiry.read)("retired\n1795435200\nops@desk\n\n", &mut seen);
            assert!(drained::left(&seen).is_some());
            change(&mut seen);
            refused(&site, &[("one".parse().unwrap(), seen)].into()).into_values().collect::<Vec<_>>().concat()
        };
        assert_eq!(why(&|_| {}), "");
        assert_eq!(why(&|seen| seen.refusal = Some("systemd does not run on it".into())), "systemd does not run on it");
        assert!(why(&|seen| seen.firewall.rivals.push("ufw is active".into())).contains("ufw"));
        assert!(
            why(&|seen| seen.owner = Some("other".parse().unwrap())).contains("belongs to the infrastructure `other`")
        );
    }
}
