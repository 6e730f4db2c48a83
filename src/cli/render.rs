//! `render`: every file of every host as it would be pushed, secrets as names.

use std::path::PathBuf;

use super::global::{Global, Inventory};
use super::stop::{Done, Stop};
use super::{exit, stages};
use crate::base::secret;
use crate::report::Reporter;
use crate::report::text::count;
use crate::service::Services;
use crate::service::firewall::{self, Older};

mod tree;

use tree::Tree;

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
    let mut tree = Tree::open(&render.to)?;
    let mut written = Vec::new();
    for (name, host) in desired.iter().filter(|(name, _)| hosts.contains(*name)) {
        for (path, file) in &host.files {
            tree.write(name.as_str(), path, &secret::display(&file.body.text), file.access.mode)?;
            written.push(format!("{name}{path}"));
        }
        for (file, text) in host.firewall.iter().flat_map(|set| firewall::files(set, Older::GoesOn)) {
            let path = format!("/etc/infra/{file}");
            tree.write(name.as_str(), &path, &text, 0o600)?;
            written.push(format!("{name}{path}"));
        }
    }
    // Of hosts that are not selected nothing is known now.
    let stays = |host: &str| desired.keys().any(|name| name.as_str() == host && !hosts.contains(name));
    let removed = tree.finish(stays)?;
    let gone = if removed > 0 { format!(", {} removed", count(removed, "earlier file")) } else { String::new() };
    let (files, of) = (count(written.len(), "file"), count(hosts.len(), "host"));
    reporter.written(&render.to, &written, &format!("{files} of {of} written to {}{gone}", render.to.display()))?;
    Ok(exit::DONE)
}
