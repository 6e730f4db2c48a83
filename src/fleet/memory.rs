//! What the controller remembers, for decisions and for what is wanted: takes the site, its services and the clock, gives what the
//! state folder holds, and keeps what was decided to be remembered.
//!
//! Each service has a file of its own, `STATE/services/NAME.json`. Losing one must be survivable: the truth is on the hosts.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use time::OffsetDateTime;

use crate::base::fsx;
use crate::base::net::HostName;
use crate::inventory::site::Site;
use crate::pki::fulfil;
use crate::pki::internal_store::{self, load, save};
use crate::plan::decision::Memory;
use crate::service::Services;
use crate::service::certificates::NAME as CERTIFICATES;

/// Why it cannot be read or kept.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The state folder, and what stands in it.
    #[error(transparent)]
    Store(#[from] internal_store::Error),
    /// A file is another inventory's.
    #[error("`{path}` holds what was remembered for `{found}`, not for `{site}`")]
    Foreign {
        /// The file.
        path: PathBuf,
        /// Whose it is.
        found: HostName,
        /// Ours.
        site: HostName,
    },
}

impl Error {
    /// What to do next.
    pub fn help(&self) -> Option<String> {
        match self {
            Self::Store(error) => error.help(),
            Self::Foreign { path, .. } => {
                let path = path.display();
                Some(format!("give each inventory a state folder of its own, or remove `{path}`: it is learned anew"))
            }
        }
    }
}

/// A file of what a service has decided to remember.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    /// The inventory's name: the hosts of one infrastructure mean nothing in another.
    site: HostName,
    memory: Value,
}

fn path(state: &Path, service: &str) -> PathBuf {
    state.join("services").join(format!("{service}.json"))
}

/// Reads all that services decide by.
///
/// # Errors
/// [`Error`].
pub fn read(site: &Site, services: Services, now: OffsetDateTime) -> Result<Memory, Error> {
    let mut memory = kept(site, services, now)?;
    memory.put(CERTIFICATES, &fulfil::remembered(site)?).map_err(json)?;
    Ok(memory)
}

/// Reads what services have decided to remember, and nothing of certificates.
///
/// # Errors
/// [`Error::Store`] where a file is damaged, [`Error::Foreign`] where it is another inventory's.
pub fn kept(site: &Site, services: Services, now: OffsetDateTime) -> Result<Memory, Error> {
    let mut memory = Memory::at(now.unix_timestamp());
    for service in services.0 {
        let path = path(&site.state, service.name());
        match load::<Kept>(&path)? {
            None => {}
            Some(Kept { site: found, .. }) if found != site.name => {
                return Err(Error::Foreign { path, found, site: site.name.clone() });
            }
            Some(kept) => memory.put(service.name(), &kept.memory).map_err(json)?,
        }
    }
    Ok(memory)
}

/// As `before`, at the same moment, with what services remember by now.
///
/// # Errors
/// As for [`kept`].
pub fn again(site: &Site, services: Services, before: &Memory) -> Result<Memory, Error> {
    let now = OffsetDateTime::from_unix_timestamp(before.now()).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    Ok(before.renewed(kept(site, services, now)?))
}

/// Keeps what was decided to be remembered.
///
/// # Errors
/// [`Error::Store`] where a file cannot be written.
pub fn keep(site: &Site, news: &BTreeMap<&'static str, Value>) -> Result<(), Error> {
    for (service, memory) in news {
        let path = path(&site.state, service);
        fsx::private_dir(&site.state.join("services")).map_err(internal_store::Error::Io)?;
        save(&path, &Kept { site: site.name.clone(), memory: memory.clone() })?;
    }
    Ok(())
}

fn json(error: serde_json::Error) -> Error {
    internal_store::Error::Io(error.into()).into()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::inventory::load::load_text;
    use crate::service::ALL;

    fn site(state: &Path) -> Site {
        let text = "name: shop
hosts:
  a: { address: 10.0.1.11, roles: [lb] }
  b: { address: 10.0.1.12, roles: [web] }
firewall: { manage_from: [10.0.0.0/24] }
sites: { a.example.com: { static: { root: /srv/x, prefix: / } } }
certificates: { issuer: internal }
";
        let site = load_text(text, Path::new("inventory.yml")).unwrap_or_else(|e| panic!("{e:?}")).0;
        Site { state: state.to_owned(), ..site }
    }

    fn now() -> OffsetDateTime {
        OffsetDateTime::UNIX_EPOCH
    }

    #[test]
    fn what_is_kept_is_remembered_by_its_service() {
        let state = tempfile::tempdir().unwrap();
        let site = site(state.path());
        assert_eq!(kept(&site, ALL, now()).unwrap(), Memory::at(0));
        assert_eq!(fs_err::read_dir(state.path()).unwrap().count(), 0, "reading makes nothing");
        for writer in ["a", "b"] {
            keep(&site, &BTreeMap::from([("web", serde_json::json!({ "writer": writer }))])).unwrap();
            let memory = kept(&site, ALL, now()).unwrap();
            assert_eq!(memory.of::<BTreeMap<String, String>>("web").unwrap()["writer"], writer);
            assert_eq!(memory.of::<BTreeMap<String, String>>("app").unwrap(), BTreeMap::new());
        }
        let mode = |path: PathBuf| fs_err::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(path(state.path(), "web")), mode(state.path().join("services"))), (0o600, 0o700));
    }

    #[test]
    fn what_is_damaged_or_anothers_is_refused_with_its_file_and_the_way_out() {
        type Damage = fn(&str) -> String;
        let cases: [(Damage, &str); 5] = [
            (|text| text[..text.len() / 2].to_owned(), "cannot be read at line"),
            (|_| String::new(), "cannot be read at line"),
            (|text| text.replace("\"version\": 1", "\"version\": 7"), "it is of version 7"),
            (|text| text.replace("memory", "memories"), "cannot be read at line"),
            (|text| text.replace("shop", "blog"), "was remembered for `blog`, not for `shop`"),
        ];
        for (damage, words) in cases {
            let state = tempfile::tempdir().unwrap();
            let site = site(state.path());
            keep(&site, &BTreeMap::from([("web", Value::from("text"))])).unwrap();
            let file = path(state.path(), "web");
            let text = fs_err::read_to_string(&file).unwrap();
            assert_ne!(text, damage(&text));
            fs_err::write(&file, damage(&text)).unwrap();
            let error = kept(&site, ALL, now()).unwrap_err();
            let (said, help) = (error.to_string(), error.help().unwrap());
            assert!(said.contains(words) && said.contains("services/web.json"), "{said}");
            assert!(help.contains("services/web.json") && help.contains("learned"), "{help}");
        }
    }
}
