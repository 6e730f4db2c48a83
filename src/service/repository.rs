//! A repository of packages beside the distribution's own: takes where it is, its keys by fingerprint and what comes from it, gives
//! the files by which apt knows it, all of [`Phase::Packages`], so that they stand before apt is asked.
//!
//! The key is for this repository alone (`Signed-By`), and a pin lets nothing in but the named packages: whoever holds the
//! repository cannot bring a package of the distribution to a host (sources.list(5), `apt_preferences`(5)).

use std::collections::{BTreeMap, BTreeSet};

use crate::base::diagnostic::Diagnostic;
use crate::base::openpgp::{self, Fingerprint};
use crate::plan::state::{Access, File, Folder, Phase};
use crate::service::Context;
use crate::service::claims::Claims;

/// Where apt's keys stand that are for one repository alone.
const KEYRINGS: &str = "/etc/apt/keyrings";

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repository {
    /// The service that wants it; the files are named after it, so it has small letters, digits and `-` only.
    pub service: &'static str,
    /// `https://packages.example.com/debian`.
    pub uri: String,
    /// `bookworm`, `stable`; that of a flat repository ends in `/`.
    pub suite: String,
    /// `main`; none for a flat repository.
    pub components: Vec<String>,
    /// The public keys that may sign it, armoured or binary.
    pub key: Vec<u8>,
    /// The fingerprints of just these keys.
    pub fingerprints: BTreeSet<Fingerprint>,
    /// What comes from it, and nothing else does.
    pub packages: Vec<String>,
    /// `Origin` of its Release file, by which it is known where its host serves other repositories too; `None`: by its host.
    pub origin: Option<String>,
}

impl Repository {
    /// Adds its files and its packages to what is wanted of a host.
    ///
    /// # Errors
    /// A key file that does not read or holds other keys than the fingerprints say, and what apt could not read.
    pub fn want(&self, context: &Context<'_>, out: &mut Claims) -> Result<(), Diagnostic> {
        let [keyring, sources, pins] = self.files()?;
        let access = Access::root(0o755);
        out.folder(KEYRINGS, Folder { phase: Phase::Packages, access })?;
        for (path, text, about) in [keyring, sources, pins] {
            let (phase, access) = (Phase::Packages, Access::root(0o644));
            let body = context.body(text)?;
            let file = File { service: self.service, phase, access, body, then: BTreeMap::new(), about };
            out.file(&path, file)?;
        }
        self.packages.iter().try_for_each(|package| out.package(package))
    }

    /// The keys, the source and the pins: path, text, and a line for a person where the text says nothing.
    fn files(&self) -> Result<[(String, String, Option<String>); 3], Diagnostic> {
        let refuse = |why: String| Diagnostic::error(format!("the package repository of {}: {why}", self.service));
        let host = self.host().ok_or_else(|| refuse(format!("`{}` is not an address of http or https", self.uri)))?;
        let words = self.components.iter().chain(&self.packages).chain([&self.suite]);
        if let Some(word) = words.into_iter().find(|word| !is_word(word)) {
            return Err(refuse(format!("`{}` is not a word that apt takes", word.escape_debug())));
        }
        if self.components.is_empty() != self.suite.ends_with('/') {
            let why = "a suite that ends in `/` has no components, and any other suite has at least one";
            return Err(refuse(format!("`{}`: {why}", self.suite)));
        }
        let pin = match &self.origin {
            Some(origin) if origin.is_empty() || origin.contains([',', '"']) || origin.contains(char::is_control) => {
                return Err(refuse(format!("`{}` is not an origin that apt takes", origin.escape_debug())));
            }
            Some(origin) => format!("release o={origin}"),
            None => format!("origin \"{host}\""),
        };
        let keys = openpgp::read(&self.key).map_err(|e| refuse(format!("its key file {e}")))?;
        if keys.fingerprints != self.fingerprints {
            let list = |all: &BTreeSet<Fingerprint>| all.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            let why = format!(
                "its key file holds {}, and the fingerprints that were given are {}",
                list(&keys.fingerprints),
                list(&self.fingerprints)
            );
            return Err(refuse(why).help(
                "compare them with what the maker says in another place than the one that the key came from; nothing was changed",
            ));
        }
        let (name, uri, suite) = (self.service, &self.uri, &self.suite);
        let keyring = format!("{KEYRINGS}/infra-{name}.asc");
        let mut source = format!("# Made by infra.\nTypes: deb\nURIs: {uri}\nSuites: {suite}\nSigned-By: {keyring}\n");
        if !self.components.is_empty() {
            source.push_str(&format!("Components: {}\n", self.components.join(" ")));
        }
        let pins = format!(
            "# Made by infra: nothing but the named packages comes from there.\nPackage: *\nPin: {pin}\nPin-Priority: -1\n\n\
             Package: {}\nPin: {pin}\nPin-Priority: 700\n",
            self.packages.join(" ")
        );
        let fingerprints = self.fingerprints.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        Ok([
            (keyring, keys.armoured, Some(format!("keys that may sign {uri}: {fingerprints}"))),
            (format!("/etc/apt/sources.list.d/infra-{name}.sources"), source, None),
            (format!("/etc/apt/preferences.d/infra-{name}"), pins, None),
        ])
    }

    /// The name of the URI's host, as apt knows it.
    fn host(&self) -> Option<&str> {
        let rest = self.uri.strip_prefix("https://").or_else(|| self.uri.strip_prefix("http://"))?;
        let place = rest.split('/').next()?;
        let host = match place.strip_prefix('[') {
            Some(six) => six.split(']').next()?,
            None => place.split(':').next()?,
        };
        let plain = |c: char| c.is_ascii_graphic() && !matches!(c, '"' | '@' | '\\');
        (!host.is_empty() && self.uri.chars().all(plain)).then_some(host)
    }
}

/// What stands unquoted in a line of apt's.
fn is_word(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.+~:/".contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn repository() -> Repository {
        let key = vec![0xc6, 6, 4, 0, 0, 0, 0, 0x16];
        Repository {
            service: "demo",
            uri: "https://packages.example.com:8443/debian".into(),
            suite: "bookworm".into(),
            components: vec!["main".into()],
            fingerprints: openpgp::read(&key).unwrap().fingerprints,
            key,
            packages: vec!["demo".into(), "demo-tools".into()],
            origin: None,
        }
    }

    #[test]
    fn apt_knows_it_by_three_files() {
        let [keyring, sources, pins] = repository().files().unwrap();
        assert_eq!(keyring.0, "/etc/apt/keyrings/infra-demo.asc");
        assert!(keyring.1.starts_with("-----BEGIN PGP PUBLIC KEY BLOCK-----\n\n"), "{}", keyring.1);
        assert_eq!(
            (sources.0.as_str(), sources.1.as_str()),
            (
                "/etc/apt/sources.list.d/infra-demo.sources",
                "# Made by infra.\nTypes: deb\nURIs: https://packages.example.com:8443/debian\nSuites: bookworm\n\
                 Signed-By: /etc/apt/keyrings/infra-demo.asc\nComponents: main\n"
            )
        );
        assert_eq!(
            (pins.0.as_str(), pins.1.as_str()),
            (
                "/etc/apt/preferences.d/infra-demo",
                "# Made by infra: nothing but the named packages comes from there.\nPackage: *\n\
                 Pin: origin \"packages.example.com\"\nPin-Priority: -1\n\nPackage: demo demo-tools\n\
                 Pin: origin \"packages.example.com\"\nPin-Priority: 700\n"
            )
        );
        // A mirror that serves the distribution too is told apart by what the repository calls itself.
        let mirrored = Repository { origin: Some("Demo Ltd".into()), ..repository() };
        assert_eq!(mirrored.files().unwrap()[2].1.matches("Pin: release o=Demo Ltd\n").count(), 2);
        let flat = Repository { suite: "./".into(), components: Vec::new(), ..repository() };
        assert!(!flat.files().unwrap()[1].1.contains("Components"));
    }

    #[test]
    fn what_apt_must_not_be_given_is_refused() {
        let other: Fingerprint = "CB186C4F0609A697E4D52DFA6C722B0C1F1E27C1".parse().unwrap();
        let mut two = repository().fingerprints;
        two.insert(other.clone());
        let cases: [(&str, Repository); 11] = [
            ("fingerprints that were given are CB18", Repository { fingerprints: [other].into(), ..repository() }),
            ("fingerprints that were given are", Repository { fingerprints: two, ..repository() }),
            ("fingerprints that were given are", Repository { fingerprints: BTreeSet::new(), ..repository() }),
            ("its key file is cut off", Repository { key: b"<html>".to_vec(), ..repository() }),
            ("is not an address", Repository { uri: "ftp://packages.example.com".into(), ..repository() }),
            ("is not an address", Repository { uri: "https://".into(), ..repository() }),
            ("is not an address", Repository { uri: "https://x y\nTrusted: yes".into(), ..repository() }),
            ("is not a word", Repository { suite: "a\nTrusted: yes".into(), ..repository() }),
            ("is not a word", Repository { packages: vec!["*".into()], ..repository() }),
            ("has no components", Repository { components: Vec::new(), ..repository() }),
            ("is not an origin", Repository { origin: Some("a, n=b".into()), ..repository() }),
        ];
        for (why, repository) in cases {
            let error = repository.files().unwrap_err().message;
            assert!(error.contains(why), "{error}: {why}");
        }
    }
}
