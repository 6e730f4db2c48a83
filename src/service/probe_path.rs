//! Where a load balancer asks whether a request comes through all tiers: takes a program, gives the path, which the web and app
//! hosts answer where the request bears the mark of `infra`.

use crate::inventory::site::AppProgram;

/// Of a site as a whole.
pub(crate) const PROBE: &str = "/.well-known/infra/health";

/// Of the app hosts of `program`.
pub(crate) fn of(program: &AppProgram) -> String {
    format!("{PROBE}{}", program.path.trim_end_matches('/'))
}
