//! `render`: every file of every host as it would be pushed, secrets as names.

use std::path::{Path, PathBuf};

use super::global::{Global, Inventory};
use super::stop::{Done, Stop};
use super::{exit, stages};
use crate::base::fsx;
use crate::base::secret;
use crate::report::Reporter;
use crate::report::text::count;
use crate::service::Services;
use crate::service::firewall::{self, Older};

/// `render`.
#[derive(Debug, Clone, clap::Args)]
pub struct Render {
    /// The inventory
    #[command(flatten)]
    pub inventory: Inventory,
    /// The folder to write to: `DIR/HOST/etc/…`; infra makes it where it does not exist
    #[arg(long, value_name = "DIR")]
    pub to: PathBuf,
}

pub(super) fn run(render: &Render, global: &Global, services: Services, reporter: &Reporter) -> Done {
    let site = stages::site(&render.inventory.inventory, reporter)?;
    let hosts = stages::selected(&site, global)?;
    let templates = stages::templates(services, &site, reporter)?;
    let desired = stages::offline(&site, &templates, reporter, |_, desired| desired)?;
    if render.to.is_file() {
        let message = format!("`{}` is a file, not a folder", render.to.display());
        return Err(Stop::Refused(message, vec!["name a folder; infra makes it where it does not exist".into()]));
    }
    let mut written = 0;
    for (name, host) in desired.iter().filter(|(name, _)| hosts.contains(*name)) {
        let root = render.to.join(name.as_str());
        for (path, file) in &host.files {
            write(&root, path, &secret::display(&file.body.text), file.access.mode)?;
            written += 1;
        }
        for (file, text) in host.firewall.iter().flat_map(|set| firewall::files(set, Older::GoesOn)) {
            write(&root, &format!("/etc/infra/{file}"), &text, 0o600)?;
            written += 1;
        }
    }
    reporter.note(&format!(
        "{} of {} written to {}",
        count(written, "file"),
        count(hosts.len(), "host"),
        render.to.display()
    ));
    Ok(exit::DONE)
}

fn write(root: &Path, path: &str, text: &str, mode: u32) -> Result<(), Stop> {
    let to = root.join(path.trim_start_matches('/'));
    if let Some(folder) = to.parent() {
        fs_err::create_dir_all(folder)?;
    }
    Ok(fsx::write_atomic(&to, text.as_bytes(), mode)?)
}
