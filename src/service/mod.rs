//! What each service wants on a host, as data: takes a [`Context`], adds to the [`Claims`] on a host. A service runs nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::base::diagnostic::Diagnostic;
use crate::base::materials::{Materials, Owner, Share};
use crate::base::net::HostName;
use crate::inventory::site::{Host, SecretRef, Site};
use crate::plan::decision::{Decided, Memory};
use crate::plan::said::Said;
use crate::plan::state::{Body, Desired, DesiredHost, Digest, Facts, File, ObservedFleet, Phase};
use crate::service::claims::Claims;
use crate::service::firewall::rules::Rules;
use crate::service::inquiry::Inquiry;
use crate::service::product::{Floor, Product};
use crate::service::render::Template;
use crate::service::shared::Shared;
use crate::service::status::{Gauge, Seen};

pub(crate) mod agent;
pub mod alerts;
pub mod app;
pub mod away;
pub mod base_system;
pub mod certificates;
pub mod claims;
pub mod dashboards;
pub mod database;
mod demand;
mod drain;
pub mod drained;
pub mod edge_certificates;
pub mod farewell;
pub mod firewall;
pub mod haproxy;
pub mod inquiry;
pub mod monitoring;
mod nginx;
pub mod platform;
mod ports;
mod probe_path;
pub mod product;
pub mod programs;
pub mod prometheus;
pub mod recovery;
pub mod render;
pub mod repository;
pub(crate) mod room;
pub mod shadow;
pub mod shared;
pub mod status;
pub mod trace;
pub mod web;

/// sh functions that every script has which reads or writes files on a host: nothing goes through a link that we did not make.
pub const WAYS: &str = include_str!("ways.sh");

/// What a service may look at while it decides.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    /// The whole infrastructure.
    pub site: &'a Site,
    /// The host in question.
    pub host: &'a Host,
    /// What is known about the host's system.
    pub facts: &'a Facts,
    /// What the controller remembers.
    pub memory: &'a Memory,
    /// Certificates, keys and passwords by name, those that the host may have.
    pub materials: Share<'a>,
    /// The templates, embedded or shadowed.
    pub templates: &'a render::Templates,
    /// The fleet's flows, derived once, as each host's rules.
    pub rules: &'a Rules<'a>,
    /// What was made for other hosts and is the same here.
    pub shared: &'a Shared,
}

impl Context<'_> {
    /// Renders `template` with `model` and gives the body with the digest of its materialized bytes.
    ///
    /// # Errors
    /// A diagnostic with the template's place, also where it asks for a material that is missing or another host's.
    pub fn render(&self, template: &str, model: &impl serde::Serialize) -> Result<Body, Diagnostic> {
        let body = self.body(self.templates.render_for(template, model, self.materials)?)?;
        Ok(Body { origin: self.templates.path(template).map(|path| path.display().to_string()), ..body })
    }

    /// A body from text that may hold sentinels.
    ///
    /// # Errors
    /// A diagnostic that names the material that is missing, or another host's.
    pub fn body(&self, text: String) -> Result<Body, Diagnostic> {
        let bytes = self.materials.draft(&text).map_err(|e| Diagnostic::error(e.to_string()))?;
        Ok(Body { text: text.into(), digest: Digest::of(bytes.as_bytes()), origin: None })
    }
}

/// A secret that a service needs beside its certificates: a password, a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretWanted {
    /// What the service calls it; the service's own name comes before it: `app` of `db/app`.
    pub name: String,
    /// Who may have it.
    pub owner: Owner,
    /// Where the inventory says that it is; without that, infra makes a password and keeps it.
    pub given: Option<SecretRef>,
}

/// One service.
pub trait Service: Sync {
    /// Its name, by which errors tell whose claim contradicts another's.
    fn name(&self) -> &'static str;

    /// The templates that it renders. Two services that share one name it both.
    fn templates(&self) -> &'static [Template] {
        &[]
    }

    /// The secrets that it needs.
    fn secrets(&self, _site: &Site) -> Vec<SecretWanted> {
        Vec::new()
    }

    /// Refuses the value of a secret that the inventory gives, where it cannot be what it is meant to be.
    ///
    /// # Errors
    /// What is wrong with it, after the secret's name; never a part of the value.
    fn admit_secret(&self, _name: &str, _value: &str) -> Result<(), String> {
        Ok(())
    }

    /// The products on whose versions its templates depend.
    fn products(&self) -> &'static [Product] {
        &[]
    }

    /// What the roles that it serves need of products.
    fn floors(&self) -> &'static [Floor] {
        &[]
    }

    /// What happens in a phase that is its own, for the last column of the plan's table.
    fn about(&self) -> Option<(Phase, &'static str)> {
        None
    }

    /// What it asks of every host, if anything.
    fn inquiry(&self) -> Option<Inquiry> {
        None
    }

    /// Adds what it wants on `context.host` to `out`; nothing where the host has none of its roles.
    ///
    /// # Errors
    /// What cannot be rendered, or contradicts what another service has claimed.
    fn want(&self, context: &Context<'_>, out: &mut Claims) -> Result<(), Diagnostic>;

    /// The units whose restart stops writes for everyone: those that `--restart-writer` means.
    fn writer_units(&self, _site: &Site) -> BTreeSet<String> {
        BTreeSet::new()
    }

    /// The hosts that [`Service::decide`] has to see where `selected` are to change: they are looked at too, and left as they are.
    fn needs(&self, _site: &Site, _selected: &BTreeSet<HostName>) -> BTreeSet<HostName> {
        BTreeSet::new()
    }

    /// What it decides over all hosts at once, as they are now, with what the controller remembers. Pure. What is done by it must
    /// be seen in the next observation, or remembered: twice is nothing.
    ///
    /// # Errors
    /// What cannot be decided, and why.
    fn decide(&self, _site: &Site, _observed: &ObservedFleet, _memory: &Memory) -> Result<Decided, Diagnostic> {
        Ok(Decided::default())
    }

    /// What it asks of every host for `infra status` alone, if anything.
    fn gauge(&self) -> Option<Gauge> {
        None
    }

    /// What it tells of the fleet as it is, for `infra status`. Pure: from what its inquiry and its gauge have read.
    fn status(&self, _seen: &Seen<'_>) -> Said {
        Said::default()
    }
}

/// The services that a program knows, in apply order: what others lean on comes first.
#[derive(Clone, Copy)]
pub struct Services(pub &'static [&'static dyn Service]);

impl fmt::Debug for Services {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|service| service.name())).finish()
    }
}

impl Services {
    /// The templates of all of them.
    pub fn templates(self) -> impl Iterator<Item = Template> {
        self.0.iter().flat_map(|service| service.templates()).copied()
    }

    /// The units whose restart stops writes for everyone.
    pub fn writer_units(self, site: &Site) -> BTreeSet<String> {
        self.0.iter().flat_map(|service| service.writer_units(site)).collect()
    }

    /// The hosts, of `selected` and beside them, that a service has to see before it decides, by service.
    pub fn needs(self, site: &Site, selected: &BTreeSet<HostName>) -> BTreeMap<&'static str, BTreeSet<HostName>> {
        let each = self.0.iter().map(|service| {
            let needed = service.needs(site, selected).into_iter();
            (service.name(), needed.filter(|host| site.hosts.contains_key(host)).collect::<BTreeSet<_>>())
        });
        each.filter(|(_, hosts)| !hosts.is_empty()).collect()
    }

    /// What each of them decides, one after the other. Those in `undecided` are not asked; who would act on a host of `away`, which
    /// was asked and not seen, is added to them, and acts nowhere.
    ///
    /// # Errors
    /// Everything that cannot be decided, and what [`admit`] refuses.
    pub fn decide(
        self,
        site: &Site,
        (observed, away): (&ObservedFleet, &BTreeSet<HostName>),
        memory: &Memory,
        undecided: &mut BTreeMap<&'static str, BTreeSet<HostName>>,
    ) -> Result<Vec<(&'static dyn Service, Decided)>, Vec<Diagnostic>> {
        let (mut all, mut errors) = (Vec::new(), Vec::new());
        for service in self.0.iter().filter(|service| !undecided.contains_key(service.name())).collect::<Vec<_>>() {
            match service.decide(site, observed, memory) {
                Ok(decided) => {
                    let missed =
                        decided.hosts.keys().filter(|host| away.contains(*host)).cloned().collect::<BTreeSet<_>>();
                    if !missed.is_empty() {
                        undecided.insert(service.name(), missed);
                        continue;
                    }
                    errors.extend(admit(service.name(), &decided, observed));
                    all.push((*service, decided));
                }
                Err(error) => errors.push(error),
            }
        }
        if errors.is_empty() { Ok(all) } else { Err(errors) }
    }

    /// What happens in a phase, for the last column of the plan's table.
    pub fn about(self, phase: Phase) -> &'static str {
        let own = self.0.iter().filter_map(|service| service.about()).find(|(its, _)| *its == phase);
        own.map_or(phase.about(), |(_, about)| about)
    }
}

/// What is wrong with a decision: hosts that were never asked, and actions that could not be carried out, in a phase in which nothing is
/// changed, or on something whose name a script could not expand.
pub fn admit(service: &str, decided: &Decided, observed: &ObservedFleet) -> Vec<Diagnostic> {
    let mut errors = Vec::new();
    let ends = decided.passages.iter().flat_map(|way| [&way.from, &way.to]);
    let about: BTreeSet<&HostName> = decided.hosts.keys().chain(ends).collect();
    errors.extend(about.into_iter().filter(|host| !observed.contains_key(*host)).map(|host| {
        Diagnostic::error(format!("`{service}` decides about {host}, which was not looked at"))
            .help(format!("apply to all hosts that `{service}` is about, when all of them answer"))
    }));
    let actions = decided.hosts.values().flatten();
    let actions = actions.flat_map(|(phase, actions)| actions.iter().map(|action| (*phase, action)));
    errors.extend(actions.filter_map(|(phase, action)| demand::action(service, phase, action).err()));
    errors
}

/// Those of `infra`. A new service is one line here.
pub const ALL: Services = Services(&[
    &base_system::BaseSystem,
    &firewall::Firewall,
    &recovery::Recovery,
    &database::Database,
    &app::App,
    &programs::Programs,
    &web::Web,
    &edge_certificates::EdgeCertificates,
    &haproxy::Haproxy,
    &away::Away,
    &prometheus::Prometheus,
    &monitoring::Monitoring,
]);

/// A file with a secret is never for everyone to read, whichever service or template wants it: at most its owner writes and
/// its group reads.
fn keep_secrets(out: &mut DesiredHost, materials: Share<'_>) {
    let secret = |file: &&mut File| file.body.text.is_marked() && materials.is_secret(&file.body.text);
    for file in out.files.values_mut().filter(secret) {
        file.access.mode &= 0o640;
    }
}

/// The option that confirms the restart of all that [`Service::writer_units`] names.
pub const WRITER: &str = "--restart-writer";

/// Below so many hosts for each thread, another thread costs more than it gives.
const HOSTS_PER_THREAD: usize = 32;

/// The whole fleet as the services of `templates` would have it, by what is known of the hosts and what the controller remembers. A
/// host without facts is taken for the oldest supported release.
///
/// # Errors
/// Everything that cannot be rendered, for all hosts in one go.
pub fn desire(
    site: &Site,
    known: (&BTreeMap<HostName, Facts>, &Memory),
    materials: &Materials,
    templates: &render::Templates,
) -> Result<Desired, Vec<Diagnostic>> {
    desire_each(site, known, materials, templates, |_, desired| desired)
}

/// As [`desire`], of some of the hosts.
///
/// # Errors
/// As for [`desire`].
pub fn desire_some(
    site: &Site,
    hosts: &[&Host],
    known: (&BTreeMap<HostName, Facts>, &Memory),
    materials: &Materials,
    templates: &render::Templates,
) -> Result<Desired, Vec<Diagnostic>> {
    if hosts.is_empty() {
        return Ok(Desired::new());
    }
    desire_of(hosts, site, known, materials, templates, |_, desired| desired)
}

/// As [`desire`], but keeps of each host only what `keep` makes of it: a thousand hosts' texts need not be held at once.
///
/// # Errors
/// As for [`desire`].
pub fn desire_each<T: Send>(
    site: &Site,
    known: (&BTreeMap<HostName, Facts>, &Memory),
    materials: &Materials,
    templates: &render::Templates,
    keep: impl Fn(&Host, DesiredHost) -> T + Sync,
) -> Result<BTreeMap<HostName, T>, Vec<Diagnostic>> {
    desire_of(&site.hosts.values().collect::<Vec<_>>(), site, known, materials, templates, keep)
}

fn desire_of<T: Send>(
    hosts: &[&Host],
    site: &Site,
    (facts, memory): (&BTreeMap<HostName, Facts>, &Memory),
    materials: &Materials,
    templates: &render::Templates,
    keep: impl Fn(&Host, DesiredHost) -> T + Sync,
) -> Result<BTreeMap<HostName, T>, Vec<Diagnostic>> {
    let flows = firewall::flows::derive(site);
    let (rules, shared) = (Rules::of(site, &flows), Shared::default());
    let one = |host: &Host| {
        let desired = of_host(host, site, (&rules, &shared), (facts, memory), materials, templates);
        (host.name.clone(), desired.map(|desired| keep(host, desired)))
    };
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let threads = (hosts.len() / HOSTS_PER_THREAD).clamp(1, cores);
    let work = |part: &[&Host]| part.iter().map(|host| one(host)).collect::<Vec<_>>();
    let results = std::thread::scope(|scope| {
        let parts: Vec<_> = hosts.chunks(hosts.len().div_ceil(threads).max(1)).collect();
        // The last part is this thread's own.
        let Some((own, others)) = parts.split_last() else { return Vec::new() };
        let others: Vec<_> = others.iter().map(|part| scope.spawn(|| work(part))).collect();
        let own = work(own);
        let joined =
            others.into_iter().map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        joined.chain([own]).flatten().collect()
    });
    let (mut kept, mut all) = (BTreeMap::new(), Vec::new());
    for (name, result) in results {
        match result {
            Ok(value) => {
                kept.insert(name, value);
            }
            // The same mistake in a template is a mistake of every host that it is for.
            Err(errors) => all.extend(errors.into_iter().filter(|e| !all.contains(e)).collect::<Vec<_>>()),
        }
    }
    if all.is_empty() { Ok(kept) } else { Err(all) }
}

/// One host of a fleet as the services of `templates` would have it, as [`desire`] has all.
///
/// # Errors
/// Everything that cannot be rendered.
pub fn desire_one(
    site: &Site,
    host: &Host,
    known: (&BTreeMap<HostName, Facts>, &Memory),
    materials: &Materials,
    templates: &render::Templates,
) -> Result<DesiredHost, Vec<Diagnostic>> {
    let flows = firewall::flows::derive(site);
    of_host(host, site, (&Rules::of(site, &flows), &Shared::default()), known, materials, templates)
}

fn of_host(
    host: &Host,
    site: &Site,
    (rules, shared): (&Rules<'_>, &Shared),
    (facts, memory): (&BTreeMap<HostName, Facts>, &Memory),
    materials: &Materials,
    templates: &render::Templates,
) -> Result<DesiredHost, Vec<Diagnostic>> {
    let oldest = platform::oldest();
    let facts = facts.get(&host.name).unwrap_or(&oldest);
    let materials = materials.share(&host.name);
    let context = Context { site, host, facts, memory, materials, templates, rules, shared };
    let mut claims = Claims::default();
    let want = |service: &&dyn Service| {
        claims.turn_of(service.name());
        service.want(&context, &mut claims).err()
    };
    let mut errors: Vec<Diagnostic> = templates.services().0.iter().filter_map(want).collect();
    errors.extend(claims.refused());
    if !errors.is_empty() {
        return Err(errors);
    }
    let mut out = claims.into_host().map_err(|error| vec![error])?;
    keep_secrets(&mut out, materials);
    let words = templates.services().writer_units(site).into_iter();
    out.words.extend(words.filter(|unit| out.units.contains_key(unit)).map(|unit| (unit, WRITER.to_owned())));
    Ok(out)
}
