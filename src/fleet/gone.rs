//! A host that has left the inventory: takes its name and the addresses that it had, the other hosts as they are and what is to be
//! done on them; gives who still trusts it, and by what, until that is done.

use std::collections::BTreeMap;
use std::net::IpAddr;

use schemars::JsonSchema;
use serde::Serialize;

use crate::base::net::HostName;
use crate::base::secret;
use crate::fleet::explain::lines_with;
use crate::inventory::site::{Party, Site};
use crate::plan::plan::{Action, HostPlan, Plan};
use crate::plan::ruleset::{Direction, Rule};
use crate::plan::state::{Observed, ObservedFleet};
use crate::service::firewall::flows::{self, Flow};

/// A host that was asked once and is not in the inventory any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Gone {
    /// Its name.
    pub host: HostName,
    /// The addresses that it had, as far as they are known.
    pub addresses: Vec<IpAddr>,
    /// Until when its certificate of the internal authority holds, seconds since 1970.
    pub certificate_until: Option<i64>,
    /// By which hosts it is still trusted, and by what: rules, files, steps.
    pub trusted_by: BTreeMap<HostName, Vec<String>>,
}

impl Gone {
    /// A host by what is remembered of it, before any other one was asked.
    pub fn remembered(host: &HostName, addresses: &[IpAddr], certificate_until: Option<i64>) -> Self {
        let (host, addresses) = (host.clone(), addresses.to_vec());
        Self { host, addresses, certificate_until, trusted_by: BTreeMap::new() }
    }

    /// Who trusts it, by what the other hosts are and what `plan` takes away on them.
    #[must_use]
    pub fn trusted(mut self, site: &Site, observed: &ObservedFleet, plan: &Plan) -> Self {
        let mut words = vec![site.internal_name(&self.host)];
        words.extend(self.addresses.iter().map(ToString::to_string));
        let by = |(name, plan): (&HostName, &HostPlan)| {
            let mut by = observed.get(name).map(|seen| self.rules(seen, plan)).unwrap_or_default();
            by.extend(plan.phases.values().flatten().filter_map(|action| self.named_by(action, &words)));
            by.dedup();
            (!by.is_empty()).then(|| (name.clone(), by))
        };
        self.trusted_by = plan.hosts.iter().filter_map(by).collect();
        self
    }

    /// The rules of a host that name its address, and that the plan takes away.
    fn rules(&self, seen: &Observed, plan: &HostPlan) -> Vec<String> {
        let goes = |rule: &&Rule| {
            let names = |rule: &Rule| {
                rule.peers.iter().any(|net| self.addresses.iter().any(|at| net.is_one() && net.contains(*at)))
            };
            let stays = |action: &Action| match action {
                Action::Firewall { to, .. } => to.rules.iter().any(|other| names(other) && other.flow == rule.flow),
                _ => false,
            };
            let last = plan.phases.values().flatten().rfind(|action| matches!(action, Action::Firewall { .. }));
            names(rule) && last.is_some_and(|action| !stays(action))
        };
        let loaded = seen.firewall.loaded.iter().flat_map(|set| &set.rules).filter(goes);
        let word = |rule: &Rule| {
            let way = if rule.direction == Direction::In { "from" } else { "to" };
            let port = rule.port.map(|port| format!("{port}/")).unwrap_or_default();
            format!("its firewall: `{}`, {port}{} {way} it", rule.flow, rule.proto)
        };
        loaded.map(word).collect()
    }

    /// What an action changes that names it: a file whose old text does and whose new one does not, a step about it.
    fn named_by(&self, action: &Action, words: &[String]) -> Option<String> {
        let names = |text: &str| words.iter().any(|word| !lines_with(text, word).is_empty());
        match action {
            Action::Write { path, file, old: Some(old), .. } => {
                (names(old) && !names(&secret::display(&file.body.text))).then(|| path.clone())
            }
            Action::Perform { task, .. } if !lines_with(&task.title, self.host.as_str()).is_empty() => {
                Some(format!("until this is done: {}", task.title))
            }
            _ => None,
        }
    }

    /// The flows of the inventory that name its address still.
    pub fn flows(&self, site: &Site) -> Vec<Flow> {
        let is = |party: &Party| match party {
            Party::Net(net) => self.addresses.iter().any(|at| net.is_one() && net.contains(*at)),
            _ => false,
        };
        flows::derive(site).into_iter().filter(|flow| is(&flow.from) || is(&flow.to)).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::inventory::load::load_text;
    use crate::plan::plan;
    use crate::plan::state::{DesiredHost, Facts};
    use crate::report::sample;
    use crate::service::firewall::rules;

    const INVENTORY: &str = "name: shop
hosts:
  lb1: { address: 10.0.1.11, roles: [lb] }
  web1: { address: 10.0.2.11, roles: [web] }
  web2: { address: 10.0.2.12, roles: [web] }
firewall:
  manage_from: [10.0.0.0/8]
  allow: [{ to: lb, port: 9000, from: [10.0.2.12], why: checks }]
sites: { a.example.com: { static: { root: /srv/a, prefix: / } } }
certificates: { issuer: internal }
";

    #[test]
    fn who_trusts_a_host_that_left_is_named_by_what_the_plan_takes_away() {
        let load = |text: &str| load_text(text, Path::new("inventory.yml")).unwrap_or_else(|e| panic!("{e:?}")).0;
        let (before, after) =
            (load(INVENTORY), load(&INVENTORY.replace("  web2: { address: 10.0.2.12, roles: [web] }\n", "")));
        let (lb1, web2) = (sample::name("lb1"), sample::name("web2"));
        let facts = Facts::of_release("debian", "12");
        let mut seen = Observed::bare(facts.clone());
        let set = |site: &Site| rules::host_ruleset(site, &site.hosts[&lb1], &facts, &flows::derive(site));
        seen.firewall.loaded = Some(set(&before));
        (seen.firewall.intact, seen.firewall.boot_current) = (true, true);
        let desired = DesiredHost { firewall: Some(set(&after)), ..Default::default() };
        let observed: ObservedFleet = [(lb1.clone(), seen)].into();
        let plan = plan::plan(&[(lb1.clone(), desired)].into(), &observed);
        let gone = Gone::remembered(&web2, &before.hosts[&web2].addresses, None);
        let told = gone.clone().trusted(&after, &observed, &plan).trusted_by;
        // What the inventory itself still lets in is no remnant, and is named by its line.
        assert_eq!(told, [(lb1, vec!["its firewall: `lb -> web`, 8443/tcp to it".to_owned()])].into());
        let flows = gone.flows(&after);
        assert_eq!(flows.len(), 1);
        assert_eq!(flows[0].place.as_ref().map(|place| place.line), Some(7));
        // One without known addresses is found by its name.
        let unknown = Gone::remembered(&web2, &[], None);
        assert!(unknown.trusted(&after, &observed, &plan).trusted_by.is_empty());
        let words = ["web2.shop.infra.internal".to_owned()];
        let (_, sampled) = sample::port_move();
        let mut write =
            sampled.hosts.values().flat_map(|host| host.phases.values().flatten()).find_map(|action| match action {
                Action::Write { old: Some(_), .. } => Some(action.clone()),
                _ => None,
            });
        let Some(Action::Write { old, path, .. }) = &mut write else { panic!("a file that changes") };
        *old = Some("server web2 10.0.2.12:8443 verifyhost web2.shop.infra.internal\n".into());
        let path = path.clone();
        assert_eq!(gone.named_by(write.as_ref().unwrap(), &words), Some(path));
    }
}
