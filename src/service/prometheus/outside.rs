//! A Prometheus outside of the inventory (`monitoring.from`): takes the site and its materials, gives the files that are copied to it,
//! the jobs that scrape the hosts and the certificate that the hosts let in.

use serde::Serialize;

use crate::base::diagnostic::Diagnostic;
use crate::base::material::{CertificateId, Material, Purpose};
use crate::base::materials::Materials;
use crate::base::secret::sentinel;
use crate::inventory::site::Site;
use crate::service::prometheus::targets::{Target, from_outside};
use crate::service::render::Templates;

/// The jobs.
pub const JOBS: &str = "infra-scrape.yml";
/// Beside it, the folder of its certificate.
const FOLDER: &str = "infra-scrape";

/// A file for the other Prometheus. It may hold a key, and is not shown by `{:?}` for that.
pub struct Handed {
    /// Below the folder that is copied.
    pub path: String,
    /// What stands in it.
    pub text: String,
    /// Who may read it.
    pub mode: u32,
}

#[derive(Serialize)]
struct Model<'a> {
    name: &'a str,
    folder: &'static str,
    targets: Vec<Target<'a>>,
}

/// The files, the private key among them, and a line about the certificate; nothing where nobody watches from outside.
///
/// # Errors
/// What cannot be rendered, or a certificate that was not made.
pub fn files(site: &Site, materials: &Materials, templates: &Templates) -> Result<(Vec<Handed>, String), Diagnostic> {
    let Some(watcher) = site.outside_watcher() else { return Ok((Vec::new(), String::new())) };
    let model = Model { name: site.name.as_str(), folder: FOLDER, targets: from_outside(site) };
    let jobs = Handed { path: JOBS.into(), text: templates.render("prometheus/scrape.yml", &model)?, mode: 0o644 };
    let share = materials.share(&watcher);
    let id = CertificateId::Hop { host: watcher.clone(), purpose: Purpose::Client };
    let shown = Material::Certificate(id.clone());
    let about = materials.about(&shown).unwrap_or_default().to_owned();
    let mut files = vec![jobs];
    for (name, material, mode) in [
        ("ca.crt", Material::HopAuthorities, 0o644),
        ("client.crt", shown, 0o644),
        ("client.key", Material::Key(id), 0o600),
    ] {
        let text = share.materialize(&sentinel(&material)).map_err(|e| Diagnostic::error(e.to_string()))?;
        files.push(Handed { path: format!("{FOLDER}/{name}"), text, mode });
    }
    Ok((files, about))
}
