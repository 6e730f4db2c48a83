//! `lab demo`: the main job on this machine, from nothing: a lab up, the inventory applied to it, a page from the internet's
//! side, a row in the database and on its replica, another writer while clients order, the flows as measured, an apply that finds
//! nothing to do, and what of all that has arrived at the monitoring service.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::orders::{self, Orders};
use super::received;
use super::which::LabImage;
use crate::base::fsx;
use crate::cli::stop::{Done, Stop};
use crate::cli::{exit, stages};
use crate::inventory::load;
use crate::inventory::site::{Role, Site};
use crate::lab::agent::{self, Maker};
use crate::lab::{self, Lab, Release, Spec, Target, requirements};
use crate::report::Reporter;

/// `lab demo`.
#[derive(Debug, Clone, clap::Args)]
pub struct LabDemo {
    /// Name, release, packages
    #[command(flatten)]
    pub image: LabImage,
}

/// The demonstration's inventory, so that the binary alone is enough.
const INVENTORY: &str = include_str!("../../../inventories/full.yml");
/// Its lab, where none is named.
const NAME: &str = "demo";

/// The address of the HTTP source in the demonstration, and the file beside the inventory that holds it.
const SOURCE: (&str, &str) = ("source", "https://endpoint1.collection.sumologic.com/receiver/v1/http/demonstration\n");
/// How that stands in [`INVENTORY`].
const GIVEN: &str = "  source: { env: SUMO_HTTP_SOURCE }\n";
/// How the lines begin that are the demonstration's own.
const OWN: [&str; 2] = ["  source: ", "  repository: "];

/// The same for hosts of `release`: the one that has `MySQL` does not have `MariaDB`. The lab stands for the monitoring service; where
/// its agent cannot be had, nothing is monitored.
fn inventory_of(release: Release, maker: Option<&Maker>) -> String {
    let text = match release {
        Release::Sid => INVENTORY.replace("engine: mariadb", "engine: mysql"),
        _ => INVENTORY.to_owned(),
    };
    let Some(maker) = maker else {
        return text.split_once("\nmonitoring:\n").map_or_else(|| text.clone(), |(before, _)| before.to_owned());
    };
    let (key, fingerprint) = (maker.key.display(), &maker.fingerprint);
    let [source, repository] = OWN;
    let own =
        format!("{source}{{ file: {} }}\n{repository}{{ signed_by: {key}, fingerprint: {fingerprint} }}\n", SOURCE.0);
    text.replace(GIVEN, &own)
}

/// An inventory but for what depends on the machine.
fn plain(text: &str) -> String {
    let own = |line: &str| OWN.iter().any(|begin| line.starts_with(begin));
    text.lines().filter(|line| !own(line)).fold(String::new(), |all, line| all + line + "\n")
}

/// Where the inventory of the demonstration in the lab `name` is.
fn folder(name: &str) -> PathBuf {
    lab::root().join("demo").join(name)
}

/// Removes what a demonstration in the lab `name` has put beside the lab. What a person has changed or added there is kept and given.
///
/// # Errors
/// Any error of the file system.
pub(super) fn forget(name: &str) -> io::Result<Vec<PathBuf>> {
    forget_in(&folder(name))
}

fn forget_in(folder: &Path) -> io::Result<Vec<PathBuf>> {
    if !folder.is_dir() {
        return Ok(Vec::new());
    }
    let mut kept = Vec::new();
    for entry in fs_err::read_dir(folder)? {
        let path = entry?.path();
        let maker = Maker { repository: PathBuf::new(), key: PathBuf::new(), fingerprint: String::new() };
        let any = Release::ALL.into_iter().flat_map(|release| [None, Some(&maker)].map(|m| inventory_of(release, m)));
        let any: Vec<String> = any.map(|text| plain(&text)).collect();
        let ours = fs_err::read_to_string(&path).is_ok_and(|text| {
            path.ends_with("inventory.yml") && any.contains(&plain(&text))
                || path.ends_with(SOURCE.0) && text == SOURCE.1
        });
        if ours { fs_err::remove_file(path)? } else { kept.push(path) }
    }
    kept.sort();
    if kept.is_empty() {
        fs_err::remove_dir(folder)?;
        // Only when it is no other demonstration's too.
        let _ = folder.parent().map(std::fs::remove_dir);
    }
    Ok(kept)
}

/// The whole main job on this machine.
pub(super) fn run(demo: &LabDemo, reporter: &Reporter) -> Done {
    let name = demo.image.lab.name.as_ref().map_or(NAME, |name| name.as_str());
    if demo.image.release == Release::Jammy {
        let why = "the demonstration has load balancers and web hosts, for which the daemons of `jammy` are too old";
        return Err(Stop::Refused(why.into(), vec!["leave out `--release`, or name a newer one".into()]));
    }
    lab::private_root()?;
    let folder = folder(name);
    fsx::private_dir(&folder)?;
    let inventory = folder.join("inventory.yml");
    let progress = |line: &str| reporter.note(&format!("  {line}"));
    if demo.image.install {
        let all = load::load_text(INVENTORY, &inventory).map_err(Stop::from)?.0;
        let spec = Spec::of_site(&all, name, demo.image.release);
        requirements::install(&requirements::packages(&spec), &progress)?;
    }
    let maker = agent::ensure(&progress)?;
    if maker.is_none() {
        progress("this machine has no Go to build Telegraf with: nothing is monitored in this lab");
    }
    fsx::write_atomic(&folder.join(SOURCE.0), SOURCE.1.as_bytes(), 0o600)?;
    fsx::write_atomic(&inventory, inventory_of(demo.image.release, maker.as_ref()).as_bytes(), 0o644)?;
    let site = stages::site(&inventory, reporter)?;
    let lab = Lab::up(&Spec::of_site(&site, name, demo.image.release), &progress)?;
    let here = std::env::current_exe()?;
    let infra = |words: &[&str]| {
        let mut argv: Vec<OsString> = vec![here.clone().into()];
        argv.extend(words.iter().map(OsString::from));
        argv.push(inventory.clone().into());
        step(&lab, reporter, &format!("infra {} inventory.yml", words.join(" ")), &Target::Controller, argv)
    };
    let name = site.sites.keys().next().map(ToString::to_string).unwrap_or_default();
    let url = |path: &str| format!("https://{name}{path}");
    let curl = |words: &[&str]| {
        let fixed = ["curl", "-sS", "--fail-with-body", "--max-time", "15"].into_iter();
        let argv = fixed.chain(words.iter().copied()).map(OsString::from).collect();
        step(&lab, reporter, &format!("curl {}", words.join(" ")), &Target::Outside, argv)
    };
    page(&lab, &site)?;
    client(&lab, &site, demo.image.release)?;
    infra(&["apply", "--yes"])?;
    for path in ["/", "/static/"] {
        curl(&[&url(path)])?;
    }
    curl(&["-X", "POST", &url("/orders")])?;
    curl(&[&url("/orders")])?;
    infra(&["cert", "status"])?;
    infra(&["firewall", "matrix"])?;
    infra(&["firewall", "verify"])?;
    infra(&["db", "status"])?;
    switchover(&lab, &site, reporter, &url("/orders"), infra)?;
    infra(&["apply", "--yes"])?;
    watched(&lab, &site, reporter, &url("/orders"), infra)?;
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
    Err(Stop::Failed(anyhow::anyhow!("`{shown}` ended with exit code {}", exit::of_command(status))))
}

/// Another host becomes the writer while clients order without a pause; then all that was acknowledged is looked for on both.
fn switchover(
    lab: &Lab,
    site: &Site,
    reporter: &Reporter,
    url: &str,
    infra: impl Fn(&[&str]) -> Result<(), Stop>,
) -> Result<(), Stop> {
    let dbs: Vec<String> = site.with_role(Role::Db).map(|host| host.name.to_string()).collect();
    let writer = site.database.as_ref().map(|database| database.primary.to_string()).unwrap_or_default();
    let Some(next) = dbs.iter().find(|name| **name != writer) else { return Ok(()) };
    let schema = site.database.iter().flat_map(|d| &d.schemas).next().cloned().unwrap_or_default();
    reporter.note(&format!("\noutside: clients POST {url} without a pause"));
    let orders = Orders::begin(lab, url)?;
    orders.wait(&writer, 30)?;
    infra(&["db", "switchover", next, "--yes"])?;
    orders.wait(next, 30)?;
    let (told, lasted) = orders.end()?;
    let of = |name: &String| format!("{} written to {name}", told.taken.get(name).map_or(0, BTreeSet::len));
    reporter.note(&format!(
        "\noutside: {} orders in {:.1} s, {}; {} lost; the longest took {:.2} s",
        told.answered() + told.lost.len(),
        lasted.as_secs_f64(),
        dbs.iter().map(of).collect::<Vec<_>>().join(", "),
        told.lost.len(),
        told.longest
    ));
    if let Some(words) = told.lost.first() {
        return Err(Stop::Failed(anyhow::anyhow!("an order was lost: {words}")));
    }
    for name in &dbs {
        missing(lab, name, &schema, &told)?;
    }
    reporter.note(&format!("  {}: each has every order that was acknowledged", dbs.join(", ")));
    Ok(())
}

/// The fleet under load, as it is seen from here and as it has arrived at the monitoring service: of one host of each role.
fn watched(
    lab: &Lab,
    site: &Site,
    reporter: &Reporter,
    url: &str,
    infra: impl Fn(&[&str]) -> Result<(), Stop>,
) -> Result<(), Stop> {
    reporter.note(&format!("\noutside: clients POST {url} without a pause"));
    let orders = Orders::begin(lab, url)?;
    if let Some(writer) = site.with_role(Role::Db).last() {
        orders.wait(writer.name.as_str(), 30)?;
    }
    infra(&["status"])?;
    orders.end()?;
    if lab.maker().is_none() {
        return Ok(());
    }
    for host in [Role::Lb, Role::Web, Role::App, Role::Db].into_iter().filter_map(|role| site.with_role(role).next()) {
        reporter.note(&format!("\n$ infra lab received --name {} {}", lab.name(), host.name));
        reporter.data(&received::of(lab, Some(&host.name))?)?;
    }
    Ok(())
}

/// Fails with the orders that were acknowledged and are not on a host, when it had time to get them.
fn missing(lab: &Lab, name: &str, schema: &str, told: &orders::Told) -> Result<(), Stop> {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let select = format!("$(command -v mariadb || command -v mysql) -NBe 'SELECT id FROM {schema}.orders'");
        let output = lab.output(&Target::Host(name.to_owned()), ["sh", "-c", &select])?;
        let stored = String::from_utf8_lossy(&output.stdout).into_owned();
        let missing = told.missing(&stored.lines().collect());
        if output.status.success() && missing.is_empty() {
            return Ok(());
        }
        if Instant::now() > deadline {
            let words = String::from_utf8_lossy(&output.stderr);
            return Err(Stop::Failed(anyhow::anyhow!(
                "{name} does not have the orders {}: {words}",
                missing.join(" ")
            )));
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// The client of the program on the app hosts: the user's own too.
fn client(lab: &Lab, site: &Site, release: Release) -> Result<(), Stop> {
    let package = if release == Release::Sid { "mysql-client-core" } else { "mariadb-client-core" };
    let script = format!(
        "apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends install {package}"
    );
    let install = |name: String| -> Result<(), Stop> {
        let output = lab.output(&Target::Host(name.clone()), ["sh", "-c", &script])?;
        if output.status.success() {
            return Ok(());
        }
        let words = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        Err(Stop::Failed(anyhow::anyhow!("{name} cannot install {package}: {words}")))
    };
    std::thread::scope(|scope| {
        let install = &install;
        let names = site.with_role(Role::App).map(|host| host.name.to_string());
        let all: Vec<_> = names.map(|name| scope.spawn(move || install(name))).collect();
        all.into_iter().try_for_each(|one| one.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })
}

/// The user's own content: infra serves it and does not make it.
fn page(lab: &Lab, site: &Site) -> Result<(), Stop> {
    for files in site.sites.values().flat_map(|s| &s.files) {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_demonstration_is_forgotten_but_for_what_a_person_has_written() {
        let maker = Maker { repository: "/r".into(), key: "/k".into(), fingerprint: "F".into() };
        let (sid, bare) = (inventory_of(Release::Sid, Some(&maker)), inventory_of(Release::Bookworm, None));
        assert!(sid.contains("engine: mysql") && sid.contains("signed_by: /k, fingerprint: F"), "{sid}");
        assert!(!sid.contains("SUMO_HTTP_SOURCE") && !bare.contains("monitoring"), "{bare}");
        let mine = sid.replace("shop.example.com", "mine.example.com");
        for (files, kept) in [
            (vec![("inventory.yml", &*bare)], vec![]),
            (vec![("inventory.yml", INVENTORY)], vec![]),
            (vec![("inventory.yml", &*sid), SOURCE], vec![]),
            (vec![("inventory.yml", "name: mine\n")], vec!["inventory.yml"]),
            (vec![("inventory.yml", &*mine)], vec!["inventory.yml"]),
            (vec![("inventory.yml", &*sid), ("notes", ""), ("source", "https://mine")], vec!["notes", "source"]),
        ] {
            let above = tempfile::tempdir().unwrap();
            let folder = above.path().join("demo/x");
            fs_err::create_dir_all(&folder).unwrap();
            for (name, text) in &files {
                fs_err::write(folder.join(name), text).unwrap();
            }
            let kept: Vec<PathBuf> = kept.iter().map(|name| folder.join(name)).collect();
            assert_eq!(forget_in(&folder).unwrap(), kept);
            assert_eq!(above.path().join("demo").exists(), !kept.is_empty());
            assert!(kept.iter().all(|path| path.exists()));
        }
    }
}
