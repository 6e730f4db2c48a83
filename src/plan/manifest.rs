//! The manifest of a host: path and digest of everything that we put there, as a text that is read by the next run.
//!
//! A line: `DIGEST UNIT=reload,UNIT=restart PATH`, `-` where no unit follows; sorted by path. The first line says whose host it is:
//! `owner NAME /var/lib/infra/manifest`, by the inventory's name; a manifest of before has none.

use std::collections::BTreeMap;

use crate::base::net::{HostName, Invalid};
use crate::base::sh::{AbsolutePath, UnitName};
use crate::plan::state::{Digest, Recorded};

/// How the line of the owner begins; no digest does.
const OWNER: &str = "owner";
/// What is owned: every line has a path.
const OWNED: &str = "/var/lib/infra/manifest";

/// All lines.
pub fn to_text(owner: Option<&HostName>, manifest: &BTreeMap<String, Recorded>) -> String {
    let mut text = owner.map(|name| format!("{OWNER} {name} {OWNED}\n")).unwrap_or_default();
    for (path, recorded) in manifest {
        let units: Vec<String> = recorded.then.iter().map(|(unit, follow)| format!("{unit}={follow}")).collect();
        let units = if units.is_empty() { "-".to_owned() } else { units.join(",") };
        text.push_str(&format!("{} {units} {path}\n", recorded.digest));
    }
    text
}

/// Reads [`to_text`] back.
///
/// # Errors
/// The first line that does not read.
pub fn from_text(text: &str) -> Result<(Option<HostName>, BTreeMap<String, Recorded>), Invalid> {
    let (mut owner, mut manifest) = (None, BTreeMap::new());
    for line in text.lines().filter(|line| !line.is_empty()) {
        let fields: Vec<&str> = line.splitn(3, ' ').collect();
        let [digest, units, path] = fields[..] else {
            return Err(Invalid::new("has a line without three fields"));
        };
        if digest == OWNER {
            owner = Some(units.parse().map_err(|e| Invalid::new(format!("has an owner whose name {e}")))?);
            continue;
        }
        // A script expands them, so what a host says is looked at as what we wrote was.
        path.parse::<AbsolutePath>().map_err(|e| Invalid::new(format!("has a path that {e}")))?;
        let mut then = BTreeMap::new();
        for entry in units.split(',').filter(|_| units != "-") {
            let (unit, follow) = entry.split_once('=').ok_or_else(|| Invalid::new("has a unit without `=`"))?;
            unit.parse::<UnitName>().map_err(|e| Invalid::new(format!("has a unit that {e}")))?;
            then.insert(unit.to_owned(), follow.parse()?);
        }
        manifest.insert(path.to_owned(), Recorded { digest: Digest(digest.to_owned()), then });
    }
    Ok((owner, manifest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::state::Follow;

    #[test]
    fn the_text_reads_back() {
        let recorded = |then: &[(&str, Follow)]| Recorded {
            digest: Digest::of(b"x"),
            then: then.iter().map(|(unit, follow)| ((*unit).to_owned(), *follow)).collect(),
        };
        let manifest = BTreeMap::from([
            ("/etc/a".to_owned(), recorded(&[])),
            ("/etc/b".to_owned(), recorded(&[("nginx.service", Follow::Reload), ("x.service", Follow::Restart)])),
        ]);
        for owner in [None, Some("shop".parse().unwrap())] {
            assert_eq!(from_text(&to_text(owner.as_ref(), &manifest)).unwrap(), (owner, manifest.clone()));
        }
        let digest = Digest::of(b"x");
        for (bad, why) in [
            ("a b".to_owned(), "without three fields"),
            (format!("owner $(id) {OWNED}"), "has an owner whose name"),
            (format!("{digest} - /etc/*"), "has a path that has the character `*`"),
            (format!("{digest} - /etc/../x"), "has a path that has a part"),
            (format!("{digest} - etc"), "has a path that is not an absolute path"),
            (format!("{digest} $(id).service=reload /etc/a"), "has a unit that has the character `$`"),
        ] {
            let error = from_text(&bad).unwrap_err().to_string();
            assert!(error.contains(why), "{bad}: {error}");
        }
    }
}
