//! What a plan brings of certificates: takes the plan, says whether it brings nothing else, to which hosts which sites' go, and which
//! of those do not have theirs afterwards. Pure.

use std::collections::{BTreeMap, BTreeSet};

use crate::base::material::Material;
use crate::base::net::HostName;
use crate::base::secret::{held, sentinel};
use crate::fleet::adopt;
use crate::fleet::event::{HostOutcome, Outcome};
use crate::fleet::survey::Away;
use crate::inventory::site::{Role, Site};
use crate::plan::plan::{Action, HostPlan, Plan};

/// Hosts that lack certificates: of which sites, where that is known, and why.
pub type Pending = BTreeMap<HostName, (BTreeSet<String>, String)>;

/// What a plan brings.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Brought {
    /// The sites whose certificates are written, by host that changes.
    pub sites: BTreeMap<HostName, BTreeSet<String>>,
    /// Whether any certificate of our own authorities is among them.
    pub ours: bool,
}

impl Brought {
    /// What `plan` brings.
    ///
    /// # Errors
    /// A host on which it does more than that.
    pub fn of(site: &Site, plan: &Plan) -> Result<Self, HostName> {
        let mut brought = Self::default();
        for (host, plan) in plan.hosts.iter().filter(|(_, plan)| !plan.is_empty()) {
            if !actions(plan).all(is_certificate) {
                return Err(host.clone());
            }
            let written = adopt::written(site, plan).into_keys().map(ToString::to_string);
            brought.sites.insert(host.clone(), written.collect());
            brought.ours |= actions(plan).any(|action| is_ours(site, action));
        }
        Ok(brought)
    }

    /// The hosts that do not have theirs after a run: those that were away, which lack the `fresh` ones, and those that did not
    /// get through.
    pub fn pending(self, away: Away, fresh: &BTreeSet<String>, outcome: &Outcome) -> Pending {
        let away = away.into_iter().map(|(host, why)| (host, (fresh.clone(), why)));
        let through =
            |host: &HostName| matches!(outcome.hosts.get(host), Some(HostOutcome::Changed | HostOutcome::Unchanged));
        let failed = self.sites.into_iter().filter(|(host, _)| !through(host));
        away.chain(failed.map(|(host, sites)| (host, (sites, "was not brought to it, see above".to_owned())))).collect()
    }
}

/// Enters what is pending into an outcome: a load balancer that is away is one that does not have all that it should.
pub fn count(site: &Site, pending: &Pending, outcome: &mut Outcome) {
    for (host, (_, why)) in pending {
        let shows = site.hosts.get(host).is_some_and(|host| host.has(Role::Lb));
        match outcome.hosts.get(host) {
            None | Some(HostOutcome::Unreachable { .. }) if shows => {
                outcome.hosts.insert(host.clone(), HostOutcome::NotReached { state: why.clone() });
            }
            None => {
                outcome.hosts.insert(host.clone(), HostOutcome::Unreachable { reason: why.clone() });
            }
            Some(_) => {}
        }
    }
}

fn actions(plan: &HostPlan) -> impl Iterator<Item = &Action> {
    plan.phases.values().flatten()
}

/// Whether an action brings a certificate of our own authorities.
fn is_ours(site: &Site, action: &Action) -> bool {
    let Action::Write { file, .. } = action else { return false };
    let ours = |name| site.sites.get(name).is_none_or(|web| site.signs(web));
    held(&file.body.text).iter().any(|material| material.site().is_none_or(ours))
}

/// Whether an action only brings certificates: a file made of nothing but those, and what follows.
fn is_certificate(action: &Action) -> bool {
    match action {
        Action::Write { file, .. } => {
            let materials = held(&file.body.text);
            materials.iter().all(Material::is_issued)
                && materials.iter().map(sentinel).collect::<String>() == *file.body.text
        }
        Action::Follow { .. } | Action::Adopt { .. } => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::inventory::load::load_text;
    use crate::plan::plan::Change;
    use crate::plan::state::{Access, Body, Digest, File, Phase};
    use crate::service::certificates::site_pem;

    const INVENTORY: &str = "name: shop
hosts:
  lb1: { address: 10.0.1.11, roles: [lb], public: 203.0.113.11 }
  lb2: { address: 10.0.1.12, roles: [lb], public: 203.0.113.12 }
  web1: { address: 10.0.2.11, roles: [web] }
firewall: { manage_from: [10.0.0.0/24] }
sites:
  a.example.com: { static: { root: /srv, prefix: / } }
certificates: { issuer: letsencrypt, contact: ops@example.com }
";

    fn site() -> Site {
        load_text(INVENTORY, Path::new("inventory.yml")).unwrap().0
    }

    fn name(text: &str) -> HostName {
        text.parse().unwrap()
    }

    /// A plan that writes one file of `text` on one host.
    fn writes(host: &str, path: &str, text: &str) -> Plan {
        let file = File {
            service: "t",
            phase: Phase::Edge,
            access: Access::root(0o600),
            body: Body { text: text.to_owned().into(), digest: Digest::of(b""), origin: None },
            then: BTreeMap::new(),
            about: None,
        };
        let write = Action::Write { path: path.to_owned(), file, change: Change::Content, old: None, stood: None };
        let plan = HostPlan { phases: BTreeMap::from([(Phase::Edge, vec![write])]), ..HostPlan::default() };
        Plan { hosts: BTreeMap::from([(name(host), plan), (name("lb2"), HostPlan::default())]), ..Plan::default() }
    }

    #[test]
    fn a_plan_brings_certificates_and_nothing_else() {
        let pem = site_pem(&"a.example.com".parse().unwrap());
        let (public, own) = (sentinel("site/a.example.com.crt"), sentinel("pki/web1/server.crt"));
        let brought = Brought::of(&site(), &writes("lb1", &pem, &public)).unwrap();
        let sites = BTreeMap::from([(name("lb1"), BTreeSet::from(["a.example.com".to_owned()]))]);
        assert_eq!(brought, Brought { sites, ours: false });
        let ours = Brought::of(&site(), &writes("web1", "/etc/nginx/tls/server.crt", &own)).unwrap();
        assert!(ours.ours && ours.sites[&name("web1")].is_empty());
        let more = writes("web1", "/etc/nginx/nginx.conf", &format!("listen 80;\n{own}"));
        assert_eq!(Brought::of(&site(), &more), Err(name("web1")));
    }

    #[test]
    fn whoever_lacks_a_certificate_is_named_and_a_load_balancer_counts_as_not_reached() {
        let site = site();
        let pem = site_pem(&"a.example.com".parse().unwrap());
        let brought = Brought::of(&site, &writes("lb1", &pem, &sentinel("site/a.example.com.crt"))).unwrap();
        let gone = |host| (name(host), "cannot be reached: no route".to_owned());
        let reason = || HostOutcome::Unreachable { reason: "no route".into() };
        let mut outcome = Outcome::default();
        outcome.hosts.extend([(name("lb1"), HostOutcome::Changed), (name("lb2"), reason()), (name("web1"), reason())]);
        let fresh = BTreeSet::from(["a.example.com".to_owned()]);
        let away: Away = [gone("lb2"), gone("web1")].into();
        let pending = brought.clone().pending(away, &fresh, &outcome);
        assert_eq!(pending.keys().map(HostName::as_str).collect::<Vec<_>>(), ["lb2", "web1"]);
        count(&site, &pending, &mut outcome);
        assert!(matches!(outcome.hosts[&name("lb2")], HostOutcome::NotReached { .. }));
        assert_eq!(outcome.hosts[&name("web1")], reason());
        // One that did not get through keeps its own reason.
        let failed = HostOutcome::NotReached { state: "old".into() };
        let mut outcome = Outcome { hosts: [(name("lb1"), failed.clone())].into(), ..Outcome::default() };
        let pending = brought.pending(Away::new(), &fresh, &outcome);
        assert_eq!(pending[&name("lb1")], (fresh, "was not brought to it, see above".to_owned()));
        count(&site, &pending, &mut outcome);
        assert_eq!(outcome.hosts[&name("lb1")], failed);
    }
}
