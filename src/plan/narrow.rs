//! What may be closed: takes what the hosts of a run are to close and what is known of the other hosts, says which of them may still
//! use it. Pure.
//!
//! One rule for all flows, listeners and trust: what a host closes in `Narrow` is closed only when every host of the fleet that
//! uses it has been seen at the new end. Who was not seen there is behind: it is not a part of the run, does not answer, has
//! failed on its way, or has workers of before a reload.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use crate::base::net::HostName;
use crate::plan::behind::Behind;
use crate::plan::plan::{Action, HostPlan, Plan};
use crate::plan::state::{Desired, DesiredHost, Phase};

mod ends;

use ends::{Ends, closes};

/// Of each host of the fleet, the addresses from which it comes and at which it is reached.
pub type Addresses = BTreeMap<HostName, Vec<IpAddr>>;

/// What one host is to close.
#[derive(Debug, Clone, Copy)]
pub struct Closing<'a> {
    /// The host.
    pub host: &'a HostName,
    /// Its actions of `Narrow`.
    pub actions: &'a [Action],
    /// What it should be.
    pub desired: &'a DesiredHost,
}

/// Those on whose account something stays open: one set for all hosts that wait for the same.
pub type Users<'a> = Arc<BTreeSet<&'a HostName>>;

/// Whom each host has to wait for before it closes anything; a host that is not named may close all. `behind` are the hosts that
/// were not seen at the new end. A host that keeps a listener of before open for one of them keeps that listener's own ways on
/// open by that, on other hosts too.
pub fn kept<'a>(
    closing: &[Closing<'a>],
    fleet: &Addresses,
    behind: &BTreeSet<&'a HostName>,
) -> BTreeMap<&'a HostName, Users<'a>> {
    let mut kept: BTreeMap<&HostName, Users<'a>> = BTreeMap::new();
    if behind.is_empty() {
        return kept;
    }
    let all = ends::of(closing, fleet);
    // On whose account a host serves as before.
    let mut as_before: BTreeMap<&HostName, Users<'a>> =
        behind.iter().map(|host| (*host, Arc::new(BTreeSet::from([*host])))).collect();
    let mut before: Vec<Users<'a>> = all.iter().map(|_| Users::default()).collect();
    loop {
        let mut changed = Vec::new();
        for ((ends, hosts), before) in all.iter().zip(&mut before) {
            let served = Served::at(ends, &as_before, fleet, before);
            for host in hosts {
                let users = served.users(host, behind.contains(host), ends);
                let same = |known: &Users<'a>| Arc::ptr_eq(known, &users) || *known == users;
                if !users.is_empty() && !kept.get(*host).is_some_and(same) {
                    changed.push((*host, users, ends.listeners && !behind.contains(host)));
                }
            }
        }
        if changed.is_empty() {
            return kept;
        }
        for (host, users, listens) in changed {
            if listens {
                as_before.insert(host, Arc::clone(&users));
            }
            kept.insert(host, users);
        }
    }
}

/// Who may use the old ends that some hosts have alike, and on whose account.
struct Served<'a> {
    by: BTreeMap<&'a HostName, Users<'a>>,
    all: Users<'a>,
    /// How many of them are so on the same account.
    alike: HashMap<*const BTreeSet<&'a HostName>, usize>,
}

impl<'a> Served<'a> {
    /// `before` is what [`Served::all`] was, and stays it where nothing has changed.
    fn at(
        ends: &Ends,
        as_before: &BTreeMap<&'a HostName, Users<'a>>,
        fleet: &Addresses,
        before: &mut Users<'a>,
    ) -> Self {
        let uses = |user: &HostName| ends.are_used_from(fleet.get(user).map_or(&[], Vec::as_slice));
        let by: BTreeMap<&HostName, Users<'a>> =
            as_before.iter().filter(|(user, _)| uses(user)).map(|(user, why)| (*user, Arc::clone(why))).collect();
        let mut alike = HashMap::new();
        for why in by.values() {
            *alike.entry(Arc::as_ptr(why)).or_default() += 1;
        }
        let all = union(by.values());
        if all != **before {
            *before = Arc::new(all);
        }
        Self { by, all: Arc::clone(before), alike }
    }

    /// Those for whom `host` waits. What it keeps itself is no reason to keep it, but where it is behind itself.
    fn users(&self, host: &'a HostName, is_behind: bool, ends: &Ends) -> Users<'a> {
        let own = self.by.get(host);
        let is_needed = own.is_some_and(|why| self.alike.get(&Arc::as_ptr(why)) == Some(&1));
        if !is_behind && !is_needed {
            return Arc::clone(&self.all);
        }
        let mut users = union(self.by.iter().filter(|(user, _)| **user != host).map(|(_, why)| why));
        if is_behind && ends.are_used_by_their_host() {
            users.insert(host);
        }
        Arc::new(users)
    }
}

fn union<'u, 'a: 'u>(all: impl Iterator<Item = &'u Users<'a>>) -> BTreeSet<&'a HostName> {
    let mut known = HashSet::new();
    all.filter(|users| known.insert(Arc::as_ptr(users))).flat_map(|users| users.iter().copied()).collect()
}

/// Whether a host is at the new end of all that moves, as its own plan tells: nothing is left to do there but what closes. It may have
/// an old listener still, which serves those who come to it as before: that is what [`kept`] follows.
pub fn has_moved(plan: &HostPlan) -> bool {
    plan.waits.is_empty() && plan.phases.iter().all(|(phase, actions)| actions.is_empty() || *phase == Phase::Narrow)
}

/// What hosts that have moved and have no part in a plan are to close themselves, by what they should be.
pub type Unclosed = BTreeMap<HostName, (DesiredHost, Vec<Action>)>;

/// What those are to close. A host keeps open what they lead on to, for whoever still comes to them.
pub fn unclosed(unclosed: &Unclosed) -> impl Iterator<Item = Closing<'_>> {
    unclosed.iter().map(|(host, (desired, actions))| Closing { host, actions, desired })
}

/// Enters into a plan which hosts keep open what they would close, and for whom.
pub fn keep(
    plan: &mut Plan,
    desired: &Desired,
    moved: &Unclosed,
    fleet: &Addresses,
    behind: &BTreeMap<HostName, Behind>,
) {
    let own = plan.hosts.iter().filter_map(|(host, plan)| {
        let (actions, desired) = (plan.phases.get(&Phase::Narrow)?, desired.get(host)?);
        Some(Closing { host, actions, desired })
    });
    let closing: Vec<Closing<'_>> = own.chain(unclosed(moved)).collect();
    let (mut told, mut kept_for) = (HashMap::new(), BTreeMap::new());
    for (host, users) in kept(&closing, fleet, &behind.keys().collect()) {
        let with_why = || {
            let why = users.iter().filter_map(|user| Some(((*user).clone(), *behind.get(*user)?)));
            Arc::new(why.collect::<BTreeMap<_, _>>())
        };
        // The sets live on until all of them are told, so that none has the place of another.
        let (_, why) = told.entry(Arc::as_ptr(&users)).or_insert_with(|| (Arc::clone(&users), with_why()));
        kept_for.insert(host.clone(), Arc::clone(why));
    }
    for (host, plan) in &mut plan.hosts {
        plan.kept_for = kept_for.remove(host).unwrap_or_default();
    }
}

/// What an action of `Narrow` closes, for a person; nothing for one that only follows.
pub fn told(action: &Action) -> Vec<String> {
    match action {
        Action::Firewall { to, removed, .. } => {
            let closed = removed.iter().filter_map(|rule| closes(rule, to));
            closed.map(|rule| format!("{} {}", rule.flow, rule.proto.at(rule.port))).collect()
        }
        Action::Remove { path, .. } => vec![path.clone()],
        Action::Perform { task, .. } => vec![task.title.clone()],
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests;
