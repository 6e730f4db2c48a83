//! `lab demo`: the main job on this machine, from nothing: a lab up, the inventory applied to it, a page from the internet's
//! side, the flows as measured, and a second apply that finds nothing to do.

use std::ffi::OsString;

use super::args::LabDemo;
use super::lab::code;
use super::{Done, Stop, exit, stages};
use crate::inventory::site::{Role, Site};
use crate::lab::{self, Lab, Spec, Target, requirements};
use crate::report::Reporter;

/// The demonstration's inventory, so that the binary alone is enough.
const INVENTORY: &str = include_str!("../../inventories/three-tier.yml");
/// Its lab, where none is named.
const NAME: &str = "demo";

/// The whole main job on this machine: up, apply, a page from the internet's side, the matrix as measured, apply again.
pub(super) fn run(demo: &LabDemo, reporter: &Reporter) -> Done {
    let name = demo.image.lab.name.as_ref().map_or(NAME, |name| name.as_str());
    let folder = lab::root().join("demo").join(name);
    fs_err::create_dir_all(&folder)?;
    let inventory = folder.join("inventory.yml");
    crate::base::fsx::write_atomic(&inventory, INVENTORY.as_bytes(), 0o644)?;
    let site = stages::site(&inventory, reporter)?;
    let progress = |line: &str| reporter.note(&format!("  {line}"));
    let spec = Spec::of_site(&site, name, demo.image.release);
    if demo.image.install {
        requirements::install(&requirements::packages(&spec), &progress)?;
    }
    let lab = Lab::up(&spec, &progress)?;
    let here = std::env::current_exe()?;
    let infra = |words: &[&str]| {
        let mut argv: Vec<OsString> = vec![here.clone().into()];
        argv.extend(words.iter().map(OsString::from));
        argv.push(inventory.clone().into());
        argv
    };
    page(&lab, &site)?;
    step(&lab, reporter, "infra apply inventory.yml --yes", &Target::Controller, infra(&["apply", "--yes"]))?;
    let name = site.sites.keys().next().map(ToString::to_string).unwrap_or_default();
    for path in ["/", "/static/"] {
        let url = format!("https://{name}{path}");
        let argv = ["curl", "-sS", "--fail-with-body", "--max-time", "10", &url].map(OsString::from).to_vec();
        step(&lab, reporter, &format!("curl {url}"), &Target::Outside, argv)?;
    }
    step(&lab, reporter, "infra cert status inventory.yml", &Target::Controller, infra(&["cert", "status"]))?;
    step(&lab, reporter, "infra firewall matrix inventory.yml", &Target::Controller, infra(&["firewall", "matrix"]))?;
    step(&lab, reporter, "infra firewall verify inventory.yml", &Target::Controller, infra(&["firewall", "verify"]))?;
    step(&lab, reporter, "infra apply inventory.yml --yes", &Target::Controller, infra(&["apply", "--yes"]))?;
    let (lab, inventory) = (lab.name(), inventory.display());
    reporter.note(&format!(
        "\nlook around:\n  infra lab exec --name {lab} lb1 -- bash\n  infra lab exec --name {lab} outside -- curl https://{name}/\n  \
         infra lab exec --name {lab} controller -- infra diff {inventory}\nthe inventory is {inventory}; when you are done:\n  infra lab down --name {lab}"
    ));
    Ok(exit::DONE)
}

/// Shows the command, runs it, and ends the demonstration where it fails.
fn step(lab: &Lab, reporter: &Reporter, shown: &str, target: &Target, argv: Vec<OsString>) -> Result<(), Stop> {
    let place = match target {
        Target::Host(name) => name.as_str(),
        Target::Controller => "controller",
        Target::Outside => "outside",
    };
    reporter.note(&format!("\n{place}$ {shown}"));
    let status = lab.exec(target, argv)?;
    if status.success() {
        return Ok(());
    }
    Err(Stop::Failed(anyhow::anyhow!("`{shown}` ended with exit code {}", code(status))))
}

/// The user's own content: infra serves it and does not make it.
fn page(lab: &Lab, site: &Site) -> Result<(), Stop> {
    for files in site.sites.values().filter_map(|s| s.r#static.as_ref()) {
        let script =
            format!("mkdir -p '{0}' && printf 'a static file of %s\\n' \"$(hostname)\" >'{0}/index.html'", files.root);
        for host in site.with_role(Role::Web) {
            let output = lab.output(&Target::Host(host.name.to_string()), ["sh", "-c", &script])?;
            if !output.status.success() {
                return Err(Stop::Failed(anyhow::anyhow!("cannot write {} on {}", files.root, host.name)));
            }
        }
    }
    Ok(())
}
