//! Orders of certificates as steps of a plan: takes the site, what is remembered and the clock, gives each order that is due in
//! full, and what waits for its time. Pure.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::base::diagnostic::Diagnostic;
use crate::base::words::count;
use crate::inventory::site::{Certificates, Challenge, Site};
use crate::plan::decision::Decided;
use crate::plan::step::{Step, StepKind, Waiting};
use crate::service::certificates::schedule::{self, Decision, Past};
use crate::service::certificates::wanted::{Source, Wanted};

/// What decides about orders.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Remembered {
    /// Of each site's certificate.
    pub sites: BTreeMap<String, Past>,
    /// The folder in which a hook runs, whatever the inventory is called by.
    pub folder: String,
    /// What the hook's argv names on this machine, by path: the digest of what the file holds.
    pub programs: BTreeMap<String, String>,
}

impl Remembered {
    /// Of one site's certificate; nothing where there never was any.
    pub fn of(&self, site: &str) -> &Past {
        const NOTHING: &Past = &Past { held: None, records: Vec::new(), advice: None };
        self.sites.get(site).unwrap_or(NOTHING)
    }
}

/// What is ordered now, and what waits; what is in `force` is ordered though it is not due.
///
/// # Errors
/// When an order cannot be written down, which no order is known for.
pub fn decide(site: &Site, remembered: &Remembered, force: &BTreeSet<String>, now: i64) -> Result<Decided, Diagnostic> {
    let mut decided = Decided::default();
    for wanted in Wanted::all(site) {
        let past = remembered.of(&wanted.site);
        let decision =
            if force.contains(&wanted.site) { schedule::forced } else { schedule::decide }(&wanted, past, now);
        match decision {
            Decision::Good { .. } => {}
            Decision::Order { why, from } => {
                let step = Order::new(site, wanted, from, remembered).step(&why);
                decided
                    .steps
                    .push(step.map_err(|error| Diagnostic::error(format!("an order cannot be told: {error}")))?);
            }
            Decision::Deferred { until, why } => {
                decided.waiting.push(Waiting { kind: StepKind::Order, subject: wanted.site, until, why });
            }
        }
    }
    Ok(decided)
}

/// An order as it will be carried out: what is shown, and what a saved plan covers. All of it is serialized, nothing is left out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Order {
    /// Names, issuers, challenge, hook, contact, profile.
    #[serde(flatten)]
    wanted: Wanted,
    /// Which of the issuers is asked first.
    from: usize,
    /// What the hook's argv names on this machine, by path: the digest of what the file holds.
    programs: BTreeMap<String, String>,
    /// Whether the new certificate goes into the running load balancer.
    hot_swap: bool,
    /// Whether DNS is asked first.
    check_dns: bool,
}

impl Order {
    fn new(site: &Site, wanted: Wanted, from: usize, remembered: &Remembered) -> Self {
        let Certificates { hot_swap, check_dns, .. } = site.certificates;
        let wanted = Wanted { folder: remembered.folder.as_str().into(), ..wanted };
        Self { wanted, from, programs: remembered.programs.clone(), hot_swap, check_dns }
    }

    /// It as a step, because of `why`.
    fn step(&self, why: &str) -> serde_json::Result<Step> {
        let (kind, subject) = (StepKind::Order, self.wanted.site.clone());
        let issuer = self.wanted.sources.get(self.from).map_or("", Source::host);
        let title = format!("{} is {} from {issuer}: {why}", kind.object(&subject), kind.done());
        Ok(Step { kind, subject, title, lines: self.lines(), deed: serde_json::to_value(self)? })
    }

    /// The order in full, a line each, indented.
    fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        let mut line = |what: &str, text: &str| lines.push(format!("  {what:<10} {text}"));
        line("names", &self.wanted.names.join(", "));
        for (rank, source) in self.wanted.sources.iter().enumerate() {
            let account =
                source.binding.as_ref().map_or_else(String::new, |(kid, _)| format!(", external account {kid}"));
            let what = if rank == self.from { "issuer" } else { "else" };
            let after = match source.after.whole_days() {
                0 => String::new(),
                days => format!(", after {} of failures of the first issuer", count(days, "day")),
            };
            line(what, &format!("{}{account}{after}", source.directory));
        }
        line("contact", self.wanted.contact.as_deref().unwrap_or("none"));
        if let Some(profile) = &self.wanted.profile {
            line("profile", profile);
        }
        match &self.wanted.challenge {
            Challenge::Http01 => line("proof", "http-01, answered by the load balancers"),
            Challenge::Dns01 { hook } => {
                let words: Vec<_> = hook.iter().map(|word| shlex::try_quote(word).unwrap_or_default()).collect();
                let folder = self.wanted.folder.display();
                line("proof", &format!("dns-01, by this machine in {folder}: {}", words.join(" ")));
                for (path, digest) in &self.programs {
                    line("", &format!("{path}, sha256 {}", digest.get(..16).unwrap_or(digest)));
                }
            }
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::inventory::load::load_text;
    use crate::plan::decision::Memory;
    use crate::plan::state::ObservedFleet;
    use crate::service::Service as _;
    use crate::service::certificates::NAME;
    use crate::service::certificates::schedule::{Held, Life, Record};
    use crate::service::edge_certificates::EdgeCertificates;

    const DAY: i64 = 86_400;
    const NOW: i64 = 20_000 * DAY;

    fn site(certificates: &str) -> Site {
        let text = format!(
            "name: shop
hosts:
  lb1: {{ address: 10.0.1.11, roles: [lb], public: 203.0.113.11 }}
  web1: {{ address: 10.0.2.11, roles: [web] }}
firewall: {{ manage_from: [10.0.0.0/24] }}
sites:
  a.example.com: {{ static: {{ root: /srv, prefix: / }} }}
  b.example.com: {{ static: {{ root: /srv, prefix: / }} }}
certificates: {{ {certificates} }}
"
        );
        load_text(&text, Path::new("inventory.yml")).unwrap().0
    }

    fn decided(site: &Site, remembered: &Remembered) -> Decided {
        let mut memory = Memory::at(NOW);
        memory.put(NAME, remembered).unwrap();
        EdgeCertificates.decide(site, &ObservedFleet::new(), &memory).unwrap()
    }

    /// What is remembered once a step was carried out.
    fn carried_out(site: &Site, step: &Step) -> Past {
        let wanted = Wanted::all(site).into_iter().find(|wanted| wanted.site == step.subject).unwrap();
        let held = Held {
            directory: wanted.sources[0].directory.clone(),
            profile: None,
            key: wanted.key,
            names: wanted.names,
            life: Life { not_before: NOW, not_after: NOW + 90 * DAY },
            leaf: "ab".into(),
            revoked: false,
            untrusted: false,
        };
        Past { held: Some(held), ..Past::default() }
    }

    #[test]
    fn what_is_due_is_ordered_once() {
        let site = site("issuer: letsencrypt, contact: ops@example.com");
        let mut remembered = Remembered::default();
        let first = decided(&site, &remembered);
        let titles: Vec<&str> = first.steps.iter().map(|step| step.title.as_str()).collect();
        let of = |name| {
            format!(
                "the certificate of {name} is ordered from acme-v02.api.letsencrypt.org: there is no certificate yet"
            )
        };
        assert_eq!(titles, [of("a.example.com"), of("b.example.com")]);
        assert!(first.hosts.is_empty() && first.waiting.is_empty());
        for step in &first.steps {
            remembered.sites.insert(step.subject.clone(), carried_out(&site, step));
        }
        assert_eq!(decided(&site, &remembered), Decided::default(), "twice is nothing");
        let again = decide(&site, &remembered, &BTreeSet::from(["b.example.com".to_owned()]), NOW).unwrap();
        assert_eq!(again.steps.iter().map(|step| step.subject.as_str()).collect::<Vec<_>>(), ["b.example.com"]);
    }

    #[test]
    fn what_failed_waits_and_what_is_our_own_is_not_ordered() {
        let ours = site("issuer: internal");
        assert_eq!(decided(&ours, &Remembered::default()), Decided::default());
        let site = site("issuer: letsencrypt, contact: ops@example.com");
        let wanted = Wanted::all(&site).remove(0);
        let about = (wanted.names, wanted.sources[0].directory.clone());
        let record = Record::default().failed(about, "no".into(), None, NOW);
        let past = Past { records: vec![record], ..Past::default() };
        let remembered = Remembered { sites: BTreeMap::from([(wanted.site.clone(), past)]), ..Remembered::default() };
        let decided = decided(&site, &remembered);
        assert_eq!(decided.steps.len(), 1);
        let waiting = Waiting { kind: StepKind::Order, subject: wanted.site, until: NOW + 60, why: "no".into() };
        assert_eq!(decided.waiting, [waiting]);
    }

    #[test]
    fn what_does_not_read_is_told() {
        let mut memory = Memory::at(NOW);
        memory.put(NAME, &7).unwrap();
        let error = EdgeCertificates.decide(&site("issuer: internal"), &ObservedFleet::new(), &memory).unwrap_err();
        assert!(error.message.starts_with("what is remembered of the certificates cannot be read"), "{error:?}");
    }
}
