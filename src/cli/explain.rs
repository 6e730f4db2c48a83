//! `explain`: what infra keeps on a host, and which line of a template and which values of the inventory have made a line of it. Asks no
//! host.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use time::OffsetDateTime;

use super::global::Inventory;
use super::stop::{Done, Stop};
use super::{exit, stages};
use crate::base::diagnostic::did_you_mean;
use crate::base::net::HostName;
use crate::fleet::explain::{self, TemplateLine, Texts};
use crate::fleet::history::LastSeen;
use crate::fleet::meaning::Ground;
use crate::fleet::memory;
use crate::inventory::site::Site;
use crate::inventory::vary::{Leaf, Written};
use crate::material;
use crate::pki::known;
use crate::plan::decision::Memory;
use crate::plan::state::{DesiredHost, Facts};
use crate::report::text::count;
use crate::report::{Reporter, origin};
use crate::service::render::Templates;
use crate::service::{self, Services, trace};

/// So many places are explained at once.
const MOST: usize = 20;

/// So long values are tried; a usual inventory takes less than a second.
const PATIENCE: Duration = Duration::from_secs(20);

/// `explain`.
#[derive(Debug, Clone, clap::Args)]
pub struct Explain {
    /// A host of the inventory
    pub host: HostName,
    /// A file or the end of its path, with `:LINE` for one line; or a unit, a package, a setting; without it all that is kept there
    #[arg(value_name = "FILE[:LINE]|WORD")]
    pub what: Option<String>,
    /// The inventory
    #[command(flatten)]
    pub inventory: Inventory,
}

impl Explain {
    /// The word and the inventory: a lone word that is a file here, with a name as inventories have, is the inventory.
    fn words(&self) -> (Option<&str>, PathBuf) {
        let word = self.what.as_deref();
        let is_here = |word: &&str| {
            let path = Path::new(word);
            path.extension().is_some_and(|end| end == "yml" || end == "yaml") && path.is_file()
        };
        match word.filter(is_here) {
            Some(inventory) => (None, inventory.into()),
            None => (word, self.inventory.inventory.clone()),
        }
    }
}

pub(super) fn run(explain: &Explain, services: Services, reporter: &Reporter) -> Done {
    let (word, inventory) = explain.words();
    let (site, _) = stages::loaded(&inventory)?;
    let host = stages::host(&site, &explain.host)?;
    let templates = stages::templates(services, &site, reporter)?;
    let (marked, trace) = templates.traced()?;
    let view = View::of(&site, &marked)?;
    let desired = view.desire(&site, &host.name)?;
    let texts = Texts::of(&desired, &trace);
    let Some(word) = word else {
        reporter.kept(&host.name, &origin::kept(&desired, &texts))?;
        return Ok(exit::DONE);
    };
    let known = known::known(&site, &site.state, OffsetDateTime::now_utc())?.certificates;
    let ground = Ground { site: &site, host, desired: &desired, certificates: &known };
    let mut meant: Vec<(String, Option<usize>)> =
        ground.certificates(word).into_iter().map(|path| (path, None)).collect();
    let is_other = |(name, _): &(String, Option<usize>)| meant.iter().all(|(one, _)| one != name);
    let others: Vec<_> = explain::meant(&texts.texts, word).into_iter().filter(is_other).collect();
    meant.extend(others);
    if meant.is_empty() {
        // A line is named behind a colon.
        let (file, line) = word.rsplit_once(':').map_or((word, None), |(file, line)| (file, Some(line)));
        let mut help: Vec<String> = match line {
            Some(line) if texts.texts.keys().any(|name| name.ends_with(file)) => {
                vec![format!("`{line}` is no line of it: write FILE:LINE with a number from 1 on")]
            }
            _ => did_you_mean(file, texts.texts.keys().map(String::as_str)).into_iter().collect(),
        };
        help.push(format!("`infra explain {}` lists all that infra keeps there", host.name));
        return Err(Stop::Refused(format!("infra keeps nothing called `{word}` on {}", host.name), help));
    }
    let wanted: BTreeMap<String, String> =
        texts.texts.iter().filter(|(name, _)| meant.iter().any(|(one, _)| one == *name)).map(own).collect();
    let written = Written::read(&inventory)?;
    // In a large fleet most values are other hosts' own.
    let near = |leaf: &Leaf| {
        let owner = leaf.key.strip_prefix("hosts.").and_then(|rest| rest.split(['.', '[']).next());
        owner.is_none_or(|owner| owner == host.name.as_str())
    };
    let unmarked = View::of(&site, &templates)?;
    let desire = |site: &Site| {
        let changed = unmarked.desire(site, &host.name).ok()?;
        let all = Texts::of(&changed, &trace::Trace::default()).texts;
        Some(all.into_iter().filter(|(name, _)| wanted.contains_key(name)).collect())
    };
    let causes = explain::causes(&written, &wanted, near, PATIENCE, desire);
    let origin = |line: &trace::Line| {
        Some(TemplateLine {
            file: templates.path(&line.template)?.display().to_string(),
            line: line.number,
            text: templates.line(&line.template, line.number)?.to_owned(),
        })
    };
    let lines: Vec<_> = meant
        .iter()
        .take(MOST)
        .flat_map(|(name, line)| {
            let about = |name: &str, text: &str, at: usize| ground.words(name, text, at);
            explain::lines((&host.name, &desired), (&texts, &causes, &about), (name, *line), origin).collect::<Vec<_>>()
        })
        .collect();
    if lines.is_empty() {
        let (name, line) = meant.first().cloned().unwrap_or_default();
        let number = texts.texts.get(&name).map_or(0, |text| text.lines().count());
        let message = format!("{name} on {} has no line {}", host.name, line.map_or(1, |line| line + 1));
        return Err(Stop::Refused(message, vec![format!("it has {}", count(number, "line"))]));
    }
    let whole = matches!(meant.as_slice(), [(_, None)]);
    reporter.explained(&lines, whole)?;
    if meant.len() > MOST {
        reporter.note(&format!("and {} more: name the file and the line", count(meant.len() - MOST, "place")));
    }
    if causes.untried > 0 {
        let number = count(causes.untried, "value");
        reporter.note(&format!(
            "{number} of the inventory could not be tried in {} s, so there may be more",
            PATIENCE.as_secs()
        ));
    }
    Ok(exit::DONE)
}

fn own((name, text): (&String, &String)) -> (String, String) {
    (name.clone(), text.clone())
}

/// The names of what is kept on a host; nothing where that cannot be known.
pub(super) fn names(site: &Site, host: &HostName, services: Services) -> Option<Vec<String>> {
    let templates = Templates::load(services, Some(&site.folder)).ok()?;
    let desired = View::of(site, &templates).ok()?.desire(site, host).ok()?;
    let texts = Texts::of(&desired, &trace::Trace::default()).texts;
    Some(texts.into_keys().chain(desired.units.into_keys()).collect())
}

/// What hosts are made from, beside the inventory.
pub(super) struct View<'t> {
    templates: &'t Templates,
    facts: BTreeMap<HostName, Facts>,
    memory: Memory,
}

impl<'t> View<'t> {
    fn of(site: &Site, templates: &'t Templates) -> Result<Self, Stop> {
        Self::with(site, templates, LastSeen::of(&site.state).facts())
    }

    /// With these facts of the hosts.
    pub(super) fn with(site: &Site, templates: &'t Templates, facts: BTreeMap<HostName, Facts>) -> Result<Self, Stop> {
        let memory = memory::kept(site, templates.services(), OffsetDateTime::now_utc())?;
        Ok(Self { templates, facts, memory })
    }

    pub(super) fn desire(&self, site: &Site, host: &HostName) -> Result<DesiredHost, Stop> {
        let host = stages::host(site, host)?;
        let materials = material::placeholders(site, self.templates.services())?;
        Ok(service::desire_one(site, host, (&self.facts, &self.memory), &materials, self.templates)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inventory::site::Role;
    use crate::service::ALL;

    const FULL: &str = "inventories/full.yml";

    #[test]
    fn every_line_of_every_file_has_a_line_of_its_template() {
        let (site, _) = stages::loaded(Path::new(FULL)).unwrap_or_else(|_| panic!("{FULL} loads"));
        let templates = Templates::load(ALL, None).unwrap();
        let (marked, trace) = templates.traced().unwrap();
        let (plain, marked) = (View::of(&site, &templates), View::of(&site, &marked));
        let (Ok(plain), Ok(marked)) = (plain, marked) else { panic!("the memory reads") };
        let mut lines = 0;
        for host in site.hosts.keys() {
            let (Ok(before), Ok(after)) = (plain.desire(&site, host), marked.desire(&site, host)) else {
                panic!("{host} renders")
            };
            let texts = Texts::of(&after, &trace);
            assert_eq!(Texts::of(&before, &trace).texts, texts.texts, "{host}: marks change nothing");
            for (path, file) in before.files.iter().filter(|(_, file)| file.body.origin.is_some()) {
                for (at, origin) in texts.origins[path].iter().enumerate() {
                    let line = origin.as_ref().and_then(|line| templates.line(&line.template, line.number));
                    assert!(line.is_some(), "{host} {path}:{} of {:?}", at + 1, file.body.origin);
                    lines += 1;
                }
            }
        }
        assert!(lines > 4000, "{lines}");
    }

    /// What a template does not say has words of its own: certificates, rules, units.
    #[test]
    fn every_certificate_rule_and_unit_is_told_in_words() {
        let (site, _) = stages::loaded(Path::new(FULL)).unwrap_or_else(|_| panic!("{FULL} loads"));
        let templates = Templates::load(ALL, None).unwrap();
        let Ok(view) = View::of(&site, &templates) else { panic!("the memory reads") };
        let (mut certificates, mut rules) = (0, 0);
        for host in site.hosts.values() {
            let Ok(desired) = view.desire(&site, &host.name) else { panic!("{} renders", host.name) };
            let ground = Ground { site: &site, host, desired: &desired, certificates: &[] };
            let texts = Texts::of(&desired, &trace::Trace::default()).texts;
            for (name, text) in &texts {
                for (at, line) in text.lines().enumerate() {
                    let words = ground.words(name, text, at).join("\n");
                    let place = format!("{} {name}:{} {line}: {words}", host.name, at + 1);
                    if line.contains(".crt›") && line.contains("‹pki/") {
                        assert!(
                            words.contains("the certificate that ") || words.contains("the internal authority"),
                            "{place}"
                        );
                        certificates += 1;
                    }
                    if line.contains("accept comment") && line.contains(" -> ") {
                        assert!(words.contains("the flow "), "{place}");
                        rules += 1;
                    }
                    if name == explain::UNITS {
                        assert!(words.contains("full.yml:"), "{place}");
                    }
                }
            }
            if host.has(Role::Lb) {
                let files = ground.certificates("shop.example.com");
                assert_eq!(files, ["/etc/haproxy/sites/shop.example.com.pem"]);
                let words = ground.words(&files[0], &texts[&files[0]], 0);
                assert!(
                    words[0].starts_with("the certificate that visitors of shop.example.com are shown; not signed yet"),
                    "{words:?}"
                );
                assert!(
                    words[0].contains("because of ") && words[1].starts_with("the private key of the certificate"),
                    "{words:?}"
                );
            }
        }
        assert!(certificates > 20 && rules > 40, "{certificates} {rules}");
    }

    #[test]
    fn a_line_changes_with_the_values_that_stand_in_it() {
        let (site, _) = stages::loaded(Path::new(FULL)).unwrap_or_else(|_| panic!("{FULL} loads"));
        let (templates, written) = (Templates::load(ALL, None).unwrap(), Written::read(Path::new(FULL)).unwrap());
        let Ok(view) = View::of(&site, &templates) else { panic!("the memory reads") };
        for (host, file, needle, key) in [
            (
                "web1",
                "conf.d/shop-web-8443-programs.conf",
                "upstream infra_web_8443_app_8080",
                "sites.shop.example.com.app.port",
            ),
            ("web1", "conf.d/shop-web-8443.conf", "listen 10.0.2.11:8443", "hosts.web1.address[]"),
            ("web1", "/etc/infra/firewall.nft", "\"lb -> web\"", "hosts.lb1.address[]"),
            ("db1", "98-infra.cnf", "server_id", "name"),
        ] {
            let host: HostName = host.parse().unwrap();
            let texts = |site: &Site| {
                let all = Texts::of(&view.desire(site, &host).ok()?, &trace::Trace::default()).texts;
                Some(all.into_iter().filter(|(name, _)| name.ends_with(file)).collect::<BTreeMap<_, _>>())
            };
            let all = texts(&site).unwrap();
            let causes = explain::causes(&written, &all, |_| true, PATIENCE, texts);
            assert_eq!(causes.untried, 0);
            let (name, text) = all.first_key_value().unwrap();
            let at =
                text.lines().position(|line| line.contains(needle)).unwrap_or_else(|| panic!("{needle} in {text}"));
            let (values, _) = causes.of(name, at, text.lines().count());
            let keys: Vec<&str> = values.iter().map(|leaf| leaf.key.as_str()).collect();
            assert!(keys.contains(&key), "{file} {needle}: {keys:?}");
            // The schema of the database has the name of the infrastructure, and no part in this.
            assert!(!keys.iter().any(|key| key.starts_with("database.schemas")), "{file} {needle}: {keys:?}");
        }
    }
}
