//! The look before packages and first rules come to hosts: takes a plan and the open connections, gives what stands in the way there,
//! what is only to be told, and what the first firewall of each host closes. One exec on each such host, on no other.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use schemars::JsonSchema;
use serde::Serialize;

use crate::base::diagnostic::Diagnostic;
use crate::base::net::HostName;
use crate::base::sh::quote;
use crate::base::warning::Warning;
use crate::fleet::run;
use crate::fleet::survey::Prepared;
use crate::host::report;
use crate::host::transport::Script;
use crate::host::wire::{self, Pairs};
use crate::inventory::site::Site;
use crate::plan::plan::{Action, HostPlan};
use crate::plan::state::Look;
use crate::service::firewall::exposure::{self, Answer, Closed};

/// How long one look may take on a host, seconds.
const PATIENCE: u64 = 15;

/// What was seen before packages and first rules came.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ahead {
    /// What is told, and stops nothing, by host.
    pub advice: BTreeMap<String, BTreeSet<HostName>>,
    /// What first rules close, and where.
    pub closed: BTreeMap<Closed, BTreeSet<HostName>>,
    /// Why that is not all of it, and where.
    pub gaps: BTreeMap<String, BTreeSet<HostName>>,
}

/// What the first rules of some hosts close, for a person and for programs. No word of an inventory silences it: it is asked for by the
/// hosts' names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Closes {
    /// The hosts.
    pub hosts: BTreeSet<HostName>,
    /// A sentence.
    pub what: String,
    /// The entries of `firewall.allow` that keep it open.
    pub keep: Vec<String>,
}

/// What one host is asked.
struct Question<'a> {
    looks: &'a [Look],
    first_rules: bool,
}

/// Looks at the hosts to which `prepared` brings packages or their first rules. Those where something stands in the way are taken out of the
/// plan, and are left alone for that reason.
pub fn look(prepared: &mut Prepared, parallel: usize) -> Ahead {
    let (mut ahead, mut refused) = (Ahead::default(), BTreeMap::new());
    let (desired, observed) = (&prepared.desired, &prepared.survey.observed);
    let question = |host: &HostName| {
        let actions = || prepared.plan.hosts.get(host).into_iter().flat_map(actions);
        let loads = actions().any(|action| matches!(action, Action::Firewall { .. }));
        let first_rules = loads && observed.get(host).is_some_and(|seen| seen.firewall.loaded.is_none());
        let comes = first_rules || actions().any(|action| matches!(action, Action::Install { .. }));
        comes.then(|| Question { looks: desired.get(host).map_or(&[][..], |host| &host.looks), first_rules })
    };
    let sessions = prepared.survey.sessions.iter_mut();
    let work: Vec<_> = sessions.filter_map(|(host, session)| Some((host, session, question(host)?))).collect();
    let answers = run::each(work, parallel, |(host, session, question)| {
        let output = session.run(&script(&question), b"");
        session.rest();
        (host.clone(), question, output)
    });
    for (host, question, output) in answers {
        let told = output.map(|output| wire::pairs(&output.stdout)).map_err(|error| error.to_string());
        let told =
            told.and_then(|told| if told.is_whole() { Ok(told) } else { Err("it did not come to its end".into()) });
        match told {
            Ok(told) => {
                let stops = said(&host, &question, &told, &mut ahead);
                if !stops.is_empty() {
                    refused.insert(host.clone(), stops.into_iter().collect::<Vec<_>>().join("; "));
                }
                let rules = desired.get(&host).and_then(|wanted| wanted.firewall.as_ref());
                if let (true, Some(rules)) = (question.first_rules, rules) {
                    let Answer { sockets, gaps } = exposure::read(told.last("sockets").unwrap_or_default());
                    for gap in gaps {
                        ahead.gaps.entry(gap).or_default().insert(host.clone());
                    }
                    for one in exposure::closed(rules, &sockets) {
                        ahead.closed.entry(one).or_default().insert(host.clone());
                    }
                }
            }
            Err(why) => {
                refused.insert(
                    host,
                    format!("the look before packages and first rules come failed: {}", report::phrase(&why)),
                );
            }
        }
    }
    for hosts in ahead.closed.values_mut() {
        hosts.retain(|host| !refused.contains_key(host));
    }
    ahead.closed.retain(|_, hosts| !hosts.is_empty());
    prepared.plan.hosts.retain(|host, _| !refused.contains_key(host));
    prepared.survey.refused.extend(refused);
    ahead
}

fn actions(plan: &HostPlan) -> impl Iterator<Item = &Action> {
    plan.phases.values().flatten()
}

fn script(question: &Question<'_>) -> Script {
    let mut text = String::new();
    if question.first_rules {
        text.push_str(&format!("emit sockets \"$(\n{}\n)\"\n", exposure::SCRIPT));
    }
    for (number, look) in question.looks.iter().enumerate() {
        let command = quote(&look.command);
        text.push_str(&format!("hear timeout -k 2 {PATIENCE} sh -c {command} || emit look \"{number} $heard\"\n"));
    }
    let looks = u64::try_from(question.looks.len()).unwrap_or(0);
    wire::question("look before packages come", &text).within(Duration::from_secs(30 + (PATIENCE + 2) * looks))
}

/// What stands in the way on a host; what does not goes to the advice.
fn said(host: &HostName, question: &Question<'_>, told: &Pairs, ahead: &mut Ahead) -> BTreeSet<String> {
    let mut stops = BTreeSet::new();
    for answer in told.all("look") {
        let (number, words) = answer.split_once(' ').unwrap_or((answer, ""));
        let Some(look) = number.parse::<usize>().ok().and_then(|number| question.looks.get(number)) else { continue };
        let words = report::phrase(words);
        if look.binding {
            stops.insert(words);
        } else {
            ahead.advice.entry(words).or_default().insert(host.clone());
        }
    }
    stops
}

impl Ahead {
    /// The hosts whose first rules close something that is in use.
    pub fn closing(&self) -> BTreeSet<&HostName> {
        self.closed.values().flatten().collect()
    }

    /// What stops nothing.
    pub fn warnings(&self) -> Vec<Diagnostic> {
        let advice = self.advice.iter();
        let told =
            advice.map(|(text, hosts)| Diagnostic::warning(Warning::NotThereYet, format!("{}: {text}", names(hosts))));
        told.collect()
    }

    /// What first rules close, each thing once; and where that is not all known.
    pub fn closes(&self, site: &Site) -> Vec<Closes> {
        let closed = self.closed.iter().map(|(closed, hosts)| Closes {
            hosts: hosts.clone(),
            what: format!(
                "the first firewall of {} closes what is in use: {}",
                names(hosts),
                report::phrase(&closed.words())
            ),
            keep: closed.allow(site, hosts),
        });
        let gaps = self.gaps.iter().map(|(gap, hosts)| Closes {
            hosts: hosts.clone(),
            what: format!("what the first firewall of {} closes is not all known: {gap}", names(hosts)),
            keep: Vec::new(),
        });
        closed.chain(gaps).collect()
    }
}

fn names(hosts: &BTreeSet<HostName>) -> String {
    let more = hosts.len().saturating_sub(6);
    let names: Vec<&str> = hosts.iter().take(6).map(HostName::as_str).collect();
    let rest = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}{rest}", names.join(", "))
}
