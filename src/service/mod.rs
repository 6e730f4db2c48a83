//! What each service wants on a host, as data: takes a [`Context`], adds to a [`DesiredHost`]. A service runs nothing.

use std::collections::BTreeMap;

use crate::base::diagnostic::Diagnostic;
use crate::base::net::HostName;
use crate::base::secret::Materials;
use crate::inventory::site::{Host, Site};
use crate::plan::state::{Body, Desired, DesiredHost, Digest, Facts};

pub mod app;
pub mod base_system;
pub mod certificates;
pub mod firewall;
pub mod haproxy;
mod nginx;
pub mod platform;
mod ports;
pub mod recovery;
pub mod render;
pub mod web;

/// What a service may look at while it decides.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    /// The whole infrastructure.
    pub site: &'a Site,
    /// The host in question.
    pub host: &'a Host,
    /// What is known about the host's system.
    pub facts: &'a Facts,
    /// Certificates, keys and passwords by name.
    pub materials: &'a Materials,
    /// The templates, embedded or shadowed.
    pub templates: &'a render::Templates,
    /// The fleet's flows, derived once.
    pub flows: &'a [firewall::flows::Flow],
}

impl Context<'_> {
    /// Renders `template` with `model` and gives the body with the digest of its materialized bytes.
    ///
    /// # Errors
    /// A diagnostic with the template's place, or the material that is missing.
    pub fn render(&self, template: &str, model: &impl serde::Serialize) -> Result<Body, Diagnostic> {
        self.body(self.templates.render(template, model)?)
    }

    /// A body from text that may hold sentinels.
    ///
    /// # Errors
    /// A diagnostic that names the missing material.
    pub fn body(&self, text: String) -> Result<Body, Diagnostic> {
        let bytes = self.materials.materialize(&text).map_err(|e| Diagnostic::error(e.to_string()))?;
        Ok(Body { text, digest: Digest::of(bytes.as_bytes()) })
    }
}

/// One service.
pub trait Service: Sync {
    /// Its name, as drift, errors and the table show it.
    fn name(&self) -> &'static str;

    /// Adds what it wants on `context.host` to `out`; nothing where the host has none of its roles.
    ///
    /// # Errors
    /// What cannot be rendered.
    fn want(&self, context: &Context<'_>, out: &mut DesiredHost) -> Result<(), Diagnostic>;
}

/// All services, in apply order: what others lean on comes first.
pub const ALL: &[&dyn Service] = &[
    &base_system::BaseSystem,
    &firewall::Firewall,
    &recovery::Recovery,
    &app::App,
    &web::Web,
    &certificates::Certificates,
    &haproxy::Haproxy,
];

/// Below so many hosts for each thread, another thread costs more than it gives.
const HOSTS_PER_THREAD: usize = 32;

/// The whole fleet as it should be. A host without facts is taken for the oldest supported release.
///
/// # Errors
/// Everything that cannot be rendered, for all hosts in one go.
pub fn desire(
    site: &Site,
    facts: &BTreeMap<HostName, Facts>,
    materials: &Materials,
    templates: &render::Templates,
) -> Result<Desired, Vec<Diagnostic>> {
    desire_each(site, facts, materials, templates, |_, desired| desired)
}

/// As [`desire`], but keeps of each host only what `keep` makes of it: a thousand hosts' texts need not be held at once.
///
/// # Errors
/// As for [`desire`].
pub fn desire_each<T: Send>(
    site: &Site,
    facts: &BTreeMap<HostName, Facts>,
    materials: &Materials,
    templates: &render::Templates,
    keep: impl Fn(&Host, DesiredHost) -> T + Sync,
) -> Result<BTreeMap<HostName, T>, Vec<Diagnostic>> {
    let (oldest, flows) = (platform::oldest(), firewall::flows::derive(site));
    let one = |host: &Host| {
        let facts = facts.get(&host.name).unwrap_or(&oldest);
        let context = Context { site, host, facts, materials, templates, flows: &flows };
        let mut out = DesiredHost::default();
        let errors = ALL.iter().filter_map(|service| service.want(&context, &mut out).err()).collect::<Vec<_>>();
        (host.name.clone(), if errors.is_empty() { Ok(keep(host, out)) } else { Err(errors) })
    };
    let hosts: Vec<&Host> = site.hosts.values().collect();
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
