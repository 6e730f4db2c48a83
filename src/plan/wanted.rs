//! What a host was wanted to be, as it is kept there with each run: takes the desired state of a host, gives a record without any
//! secret; takes such a record and what is known today, gives the desired state of then for a way back. Pure.
//!
//! Configuration comes back as it was. What stands behind its names does not: certificates, keys and passwords are those of today,
//! because an older certificate would end sooner, and a database does not know an older password any more.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::base::materials::Share;
use crate::base::secret::{self, sentinel};
use crate::base::text::Text;
use crate::plan::ruleset::Ruleset;
use crate::plan::state::{
    Access, Body, Check, DesiredHost, Digest, Drain, File, Folder, Follow, Phase, Probe, Recorded, UnitWanted,
};

/// Changes when the record does.
const FORM: u32 = 1;
/// Begins the name of a copy that a host keeps itself, before the digest of its bytes.
const KEPT: &str = "kept/";
/// Follows it where the copy is of a certificate, a key or a password alone, which does not go back.
const MATERIAL: &str = "material/";

/// What a host was wanted to be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wanted {
    form: u32,
    files: BTreeMap<String, WantedFile>,
    folders: BTreeMap<String, Folder>,
    units: BTreeMap<String, UnitWanted>,
    swaps: BTreeMap<String, String>,
    setters: BTreeMap<String, String>,
    words: BTreeMap<String, String>,
    checks: Vec<Check>,
    probes: Vec<Probe>,
    /// Service and command.
    drains: Vec<(String, String)>,
    firewall: Option<Ruleset>,
}

/// A file of it; its text has names in place of secrets and certificates.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct WantedFile {
    service: String,
    phase: Phase,
    access: Access,
    text: Text,
    digest: Digest,
    then: BTreeMap<String, Follow>,
    about: Option<String>,
}

/// A text that stands for a copy which the host keeps itself.
fn kept(digest: &Digest, is_material: bool) -> String {
    sentinel(format!("{KEPT}{}{digest}", if is_material { MATERIAL } else { "" }))
}

/// The digest of the copy that a text stands for, where it stands for one that the host keeps itself.
pub fn kept_copy(text: &str) -> Option<Digest> {
    let names = secret::names(text);
    let [name] = names.as_slice() else { return None };
    let digest = name.strip_prefix(KEPT)?;
    let digest = digest.strip_prefix(MATERIAL).unwrap_or(digest);
    let is_digest = digest.len() == 64 && digest.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_digest.then(|| Digest(digest.to_owned()))
}

impl Wanted {
    /// The record of a host. Packages are not in it, as none is ever taken back; nor tasks, as data is not.
    pub fn of(host: &DesiredHost) -> Self {
        let file = |file: &File| WantedFile {
            service: file.service.to_owned(),
            phase: file.phase,
            access: file.access.clone(),
            text: file.body.text.clone(),
            digest: file.body.digest.clone(),
            then: file.then.clone(),
            about: file.about.clone(),
        };
        Self {
            form: FORM,
            files: host.files.iter().map(|(path, it)| (path.clone(), file(it))).collect(),
            folders: host.folders.clone(),
            units: host.units.clone(),
            swaps: host.swaps.clone(),
            setters: host.setters.clone(),
            words: host.words.clone(),
            checks: host.checks.clone(),
            probes: host.probes.clone(),
            drains: host.drains.iter().map(|drain| (drain.service.to_owned(), drain.command.clone())).collect(),
            firewall: host.firewall.clone(),
        }
    }

    /// As it is kept.
    ///
    /// # Errors
    /// Where JSON cannot hold it.
    pub fn to_text(&self) -> serde_json::Result<String> {
        serde_json::to_string(self)
    }

    /// Reads [`Wanted::to_text`] back; nothing where it has another form.
    pub fn from_text(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok().filter(|wanted: &Self| wanted.form == FORM)
    }

    /// Whether a host with this manifest and these rules is what this record says: every file of it is there as it was wanted. Gives
    /// what is there besides, because it could not be closed when that run ended, or because a later run failed. A file with names
    /// in it may have had other values behind them since.
    pub fn holds(&self, manifest: &BTreeMap<String, Recorded>, rules: Option<&Ruleset>) -> Option<Vec<String>> {
        let same = |(path, file): (&String, &WantedFile)| {
            manifest.get(path).is_some_and(|known| known.digest == file.digest || !secret::names(&file.text).is_empty())
        };
        let none = Ruleset::default();
        let (open, wanted) = (rules.unwrap_or(&none), self.firewall.as_ref().unwrap_or(&none));
        let rules_hold = wanted.rules.is_subset(&open.rules)
            && (self.firewall.is_none() || (wanted.backend, &wanted.block) == (open.backend, &open.block));
        // What a host was that infra had left is not known.
        let says_nothing = self.files.is_empty();
        if says_nothing || !self.files.iter().all(same) || !rules_hold {
            return None;
        }
        let paths = manifest.keys().filter(|path| !self.files.contains_key(*path)).cloned();
        let flows = open.rules.difference(&wanted.rules).filter(|rule| !rule.is_passage());
        Some(paths.chain(flows.map(|rule| format!("{} {}", rule.flow, rule.proto.at(rule.port)))).collect())
    }

    /// The same with the host's own bytes behind all names: what was renewed since and was not brought to the host is none of it.
    #[must_use]
    pub fn as_put(mut self, manifest: &BTreeMap<String, Recorded>) -> Self {
        for (path, file) in self.files.iter_mut().filter(|(_, file)| !secret::names(&file.text).is_empty()) {
            if let Some(known) = manifest.get(path) {
                file.text = kept(&known.digest, true).into();
                file.digest = known.digest.clone();
            }
        }
        self
    }

    /// The desired state of then, with the materials of today. `manifest` is what stands on the host now. What nobody knows any more
    /// comes from the copies that the host keeps, and a certificate that is there stays as it is.
    pub fn restored(
        self,
        share: Share<'_>,
        manifest: &BTreeMap<String, Recorded>,
        services: &[&'static str],
    ) -> DesiredHost {
        let service = |name: &str| services.iter().copied().find(|known| *known == name).unwrap_or("former");
        let files = self.files.into_iter().map(|(path, file)| {
            let WantedFile { service: of, phase, access, text, digest, then, about } = file;
            let drafted = if kept_copy(&text).is_some() { None } else { share.draft(&text).ok() };
            let (text, digest) = if let Some(bytes) = drafted {
                (text, Digest::of(bytes.as_bytes()))
            } else {
                let material = match kept_copy(&text) {
                    Some(_) => text.contains(&format!("{KEPT}{MATERIAL}")),
                    None => is_material(&text),
                };
                let now = manifest.get(&path).filter(|_| material).map(|known| known.digest.clone());
                let digest = now.unwrap_or(digest);
                (kept(&digest, material).into(), digest)
            };
            let body = Body { text, digest, origin: None };
            (path, File { service: service(&of), phase, access, body, then, about })
        });
        DesiredHost {
            files: files.collect(),
            folders: self.folders,
            units: self.units,
            swaps: self.swaps,
            setters: self.setters,
            words: self.words,
            checks: self.checks,
            probes: self.probes,
            drains: self.drains.into_iter().map(|(of, command)| Drain { service: service(&of), command }).collect(),
            firewall: self.firewall,
            ..DesiredHost::default()
        }
    }
}

/// Whether a text holds nothing but materials: a certificate, a key.
fn is_material(text: &str) -> bool {
    let mut rest = text;
    while let Some((before, tail)) = rest.split_once(secret::OPEN) {
        let Some((_, after)) = tail.split_once(secret::CLOSE) else { return false };
        if !before.trim().is_empty() {
            return false;
        }
        rest = after;
    }
    rest.trim().is_empty() && !text.trim().is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::materials::{Materials, Owner};
    use crate::base::net::HostName;

    fn file(text: &str, bytes: &str) -> File {
        File {
            service: "demo",
            phase: Phase::Web,
            access: Access::root(0o600),
            body: Body { text: text.into(), digest: Digest::of(bytes.as_bytes()), origin: None },
            then: BTreeMap::new(),
            about: None,
        }
    }

    fn host(files: &[(&str, &str, &str)]) -> DesiredHost {
        let files = files.iter().map(|(path, text, bytes)| ((*path).to_owned(), file(text, bytes))).collect();
        DesiredHost { files, ..DesiredHost::default() }
    }

    fn manifest(of: &[(&str, &str)]) -> BTreeMap<String, Recorded> {
        let recorded = |bytes: &str| Recorded { digest: Digest::of(bytes.as_bytes()), then: BTreeMap::new() };
        of.iter().map(|(path, bytes)| ((*path).to_owned(), recorded(bytes))).collect()
    }

    #[test]
    fn a_record_reads_back_and_another_form_does_not() {
        let wanted = Wanted::of(&host(&[("/a", "x\n", "x\n")]));
        let text = wanted.to_text().unwrap();
        assert_eq!(Wanted::from_text(&text), Some(wanted));
        assert_eq!(Wanted::from_text(&text.replace("\"form\":1", "\"form\":2")), None);
        assert_eq!(Wanted::from_text("{}"), None);
    }

    #[test]
    fn what_a_host_was_is_compared_by_its_configuration() {
        let key = sentinel("db/app");
        let wanted = Wanted::of(&host(&[("/a", "x\n", "x\n"), ("/key", &key, "old")]));
        assert_eq!(wanted.holds(&manifest(&[("/a", "x\n"), ("/key", "new")]), None), Some(vec![]));
        assert_eq!(wanted.holds(&manifest(&[("/a", "y\n"), ("/key", "old")]), None), None);
        assert_eq!(wanted.holds(&manifest(&[("/a", "x\n")]), None), None);
        let more = manifest(&[("/a", "x\n"), ("/key", "old"), ("/left", "z")]);
        assert_eq!(wanted.holds(&more, None), Some(vec!["/left".to_owned()]));
    }

    #[test]
    fn secrets_are_those_of_today_and_what_nobody_knows_is_the_hosts_own_copy() {
        let name: HostName = "web1".parse().unwrap();
        let mut materials = Materials::default();
        materials.add_secret("db/app".parse().unwrap(), "of-today", Owner::All);
        let (known, gone) = (format!("p={}\n", sentinel("db/app")), sentinel("site/old.example.com.crt"));
        let half = format!("p={}\n", sentinel("db/gone"));
        let wanted =
            Wanted::of(&host(&[("/known", &known, "p=of-old\n"), ("/cert", &gone, "old"), ("/half", &half, "h")]));
        let share = materials.share(&name);
        let back = |manifest: &BTreeMap<String, Recorded>| wanted.clone().restored(share, manifest, &["demo"]).files;
        let files = back(&manifest(&[]));
        assert_eq!(files["/known"].body.digest, Digest::of(b"p=of-today\n"));
        assert_eq!((&*files["/known"].body.text, files["/known"].service), (known.as_str(), "demo"));
        for (path, bytes) in [("/cert", "old"), ("/half", "h")] {
            assert_eq!(kept_copy(&files[path].body.text), Some(Digest::of(bytes.as_bytes())), "{path}");
            assert!(share.is_secret(&files[path].body.text));
        }
        // A certificate that is there is never replaced by one of before; what has configuration in it is.
        let files = back(&manifest(&[("/cert", "newer"), ("/half", "newer")]));
        assert_eq!(files["/cert"].body.digest, Digest::of(b"newer"));
        assert_eq!(files["/half"].body.digest, Digest::of(b"h"));
        assert_eq!(kept_copy(&known), None);
    }
}
