//! A program of Debian's that measures something, or asks for it: takes a context and what is its own, adds its package, its unit with a
//! start of infra's, and the probe that shows that it works.

use std::time::Duration;

use serde::Serialize;

use crate::base::diagnostic::Diagnostic;
use crate::plan::state::{Access, Follow, Probe, UnitWanted};
use crate::service::Context;
use crate::service::agent::{self, PHASE};
use crate::service::claims::Claims;

/// What is its own.
#[derive(Debug)]
pub(super) struct Program {
    /// Its package; the unit is named like it.
    pub(super) package: &'static str,
    /// The template of what its unit starts.
    pub(super) start: &'static str,
    /// What is seen when it works, as a person would say it.
    pub(super) works: String,
    /// sh text that looks for that; exit 0 = seen.
    pub(super) look: String,
    /// How long that may take, seconds.
    pub(super) within: u64,
}

/// Adds it.
///
/// # Errors
/// What cannot be rendered, or is claimed by another.
pub(super) fn exporter(
    context: &Context<'_>,
    Program { package, start, works, look, within }: Program,
    model: &impl Serialize,
    out: &mut Claims,
) -> Result<(), Diagnostic> {
    let unit = format!("{package}.service");
    out.package(package)?;
    out.unit(&unit, UnitWanted { phase: PHASE })?;
    let drop_in = format!("/etc/systemd/system/{unit}.d/infra.conf");
    agent::file(out, &drop_in, context.render(start, model)?, Access::root(0o644), &[(&unit, Follow::Restart)])?;
    let within = Duration::from_secs(within);
    out.probe(Probe { phase: PHASE, title: works, command: look.into(), within, advisory: false });
    Ok(())
}
