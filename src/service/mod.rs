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
    let (mut desired, mut errors) = (Desired::new(), Vec::new());
    let oldest = platform::oldest();
    for host in site.hosts.values() {
        let facts = facts.get(&host.name).unwrap_or(&oldest);
        let context = Context { site, host, facts, materials, templates };
        let mut out = DesiredHost::default();
        for service in ALL {
            if let Err(error) = service.want(&context, &mut out)
                && !errors.contains(&error)
            {
                errors.push(error);
            }
        }
        desired.insert(host.name.clone(), out);
    }
    if errors.is_empty() { Ok(desired) } else { Err(errors) }
}
