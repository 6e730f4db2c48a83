//! `lab …`: a twin of the inventory on this machine.

use std::ffi::OsString;
use std::path::Path;
use std::time::Instant;

use super::args::{Global, Lab as Verb, LabDemo, LabExec, LabImage, LabName, LabUp, Release};
use super::{Done, Stop, exit, stages};
use crate::inventory::site::{Role, Site};
use crate::lab::{self, Lab, Spec, Target, requirements};
use crate::report::Reporter;
use crate::report::text::count;

/// The demonstration's inventory, so that the binary alone is enough.
const DEMO: &str = include_str!("../../inventories/three-tier.yml");

pub(super) fn run(verb: &Verb, _: &Global, reporter: &Reporter) -> Done {
    match verb {
        Verb::Up(up) => start(up, reporter),
        Verb::Exec(exec) => execute(exec),
        Verb::SshConfig(name) => {
            reporter.data(&open(name)?.ssh_config())?;
            Ok(exit::DONE)
        }
        Verb::Status(name) => status(name, reporter),
        Verb::Down(name) => {
            let name = name.name.as_str();
            let was = lab::down(name).map_err(failed)?;
            reporter.note(&if was {
                format!("lab {name} is down, nothing of it is left")
            } else {
                format!("there is no lab {name}")
            });
            Ok(exit::DONE)
        }
        Verb::Demo(demo) => show(demo, reporter),
    }
}

/// A lab's errors are sentences with their way out.
fn failed(error: lab::Error) -> Stop {
    Stop::Failed(error.into())
}

fn open(name: &LabName) -> Result<Lab, Stop> {
    Lab::open(name.name.as_str()).map_err(failed)
}

fn up(site: &Site, image: &LabImage, reporter: &Reporter) -> Result<Lab, Stop> {
    if image.install {
        requirements::install(&|line| reporter.note(line)).map_err(failed)?;
    }
    let release = match image.release {
        Release::Bookworm => lab::Release::Bookworm,
        Release::Trixie => lab::Release::Trixie,
    };
    let spec = Spec::of_site(site, image.lab.name.as_str(), release);
    Lab::up(&spec, &|line| reporter.note(line)).map_err(failed)
}

fn start(verb: &LabUp, reporter: &Reporter) -> Done {
    let site = stages::site(&verb.inventory.inventory, reporter)?;
    let began = Instant::now();
    let lab = up(&site, &verb.image, reporter)?;
    let (name, hosts) = (lab.name(), count(site.hosts.len(), "host"));
    let state = if lab.was_up() { "was up already" } else { "is up" };
    reporter.note(&format!("lab {name} {state}: {hosts}, {:.1} s", began.elapsed().as_secs_f64()));
    reporter.note(&format!(
        "  infra lab exec --name {name} controller -- infra apply {}",
        verb.inventory.inventory.display()
    ));
    Ok(exit::DONE)
}

/// The command's own exit code is ours.
fn execute(exec: &LabExec) -> Done {
    let target = Target::from(exec.host.as_str());
    let status = open(&exec.lab)?.exec(&target, &exec.command).map_err(failed)?;
    Ok(code(status))
}

fn code(status: std::process::ExitStatus) -> u8 {
    use std::os::unix::process::ExitStatusExt;
    let number = status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(1);
    u8::try_from(number).unwrap_or(exit::FAILED)
}

fn status(name: &LabName, reporter: &Reporter) -> Done {
    let lab = open(name)?;
    for host in lab.status() {
        let addresses: Vec<String> = host.addresses.iter().map(ToString::to_string).collect();
        reporter.data(&format!("{:<12} {:<10} {}\n", host.name, format!("{:?}", host.power).to_lowercase(), addresses.join(" ")))?;
    }
    Ok(exit::DONE)
}

/// The whole main job on this machine: up, apply, a page from the internet's side, the matrix as measured, apply again.
fn show(demo: &LabDemo, reporter: &Reporter) -> Done {
    let folder = lab::root().join("demo").join(demo.image.lab.name.as_str());
    fs_err::create_dir_all(&folder)?;
    let inventory = folder.join("inventory.yml");
    crate::base::fsx::write_atomic(&inventory, DEMO.as_bytes(), 0o644)?;
    let site = stages::site(&inventory, reporter)?;
    let lab = up(&site, &demo.image, reporter)?;
    // A lab whose hosts are new knows nothing of an earlier demonstration's certificates, nor they of it: both start anew.
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
    let ca = site.state.join("sites-ca.crt");
    trusted(&site, &ca)?;
    for path in ["/", "/static/"] {
        let url = format!("https://{name}{path}");
        let argv = ["curl", "-sS", "--fail-with-body", "--max-time", "10", "--cacert"].map(OsString::from);
        let argv = argv.into_iter().chain([ca.clone().into(), OsString::from(&url)]).collect();
        step(&lab, reporter, &format!("curl {url}"), &Target::Outside, argv)?;
    }
    step(&lab, reporter, "infra firewall matrix inventory.yml", &Target::Controller, infra(&["firewall", "matrix"]))?;
    step(&lab, reporter, "infra firewall verify inventory.yml", &Target::Controller, infra(&["firewall", "verify"]))?;
    step(&lab, reporter, "infra apply inventory.yml --yes", &Target::Controller, infra(&["apply", "--yes"]))?;
    let (lab, inventory) = (lab.name(), inventory.display());
    reporter.note(&format!(
        "\nlook around:\n  infra lab exec --name {lab} lb1 -- bash\n  infra lab exec --name {lab} outside -- curl --cacert {} https://{name}/\n  \
         infra lab exec --name {lab} controller -- infra diff {inventory}\nthe inventory is {inventory}; when you are done:\n  infra lab down --name {lab}",
        ca.display()
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
    let status = lab.exec(target, argv).map_err(failed)?;
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
            let output = lab.output(&Target::Host(host.name.to_string()), ["sh", "-c", &script]).map_err(failed)?;
            if !output.status.success() {
                return Err(Stop::Failed(anyhow::anyhow!("cannot write {} on {}", files.root, host.name)));
            }
        }
    }
    Ok(())
}

/// The authority of the public names, for a client on the internet's side to trust.
fn trusted(site: &Site, to: &Path) -> Result<(), Stop> {
    let issued =
        crate::pki::ensure(site, &site.state, time::OffsetDateTime::now_utc()).map_err(|e| Stop::Failed(e.into()))?;
    let text = issued.materials.public("pki/sites-ca.crt").unwrap_or_default();
    Ok(crate::base::fsx::write_atomic(to, text.as_bytes(), 0o644)?)
}
