//! What stands in the way on a host: takes what it should be and what it is, gives a sentence for each thing through which, or
//! over which, nothing can be put there safely, and for each unit that cannot be started. Pure.
//!
//! Nothing of ours goes through a link that we did not make. A link, a FIFO, a socket or a device at a *file's* place is replaced
//! by the file, and shown; a link at a *folder's* place, or a folder where others may put links, is refused by name.

use std::collections::BTreeSet;

use crate::plan::state::{DesiredHost, Observed, Other};

/// Folders of our own on every host, whatever is wanted of it.
const OWN: [&str; 8] = [
    "/var/lib/infra/runs",
    "/var/lib/infra/owed",
    "/var/lib/infra/made",
    "/run/infra",
    "/run/infra/held",
    "/run/infra/untold",
    "/etc/infra",
    "/etc/systemd/system",
];
/// Where our own records stand, in folders of our own.
const RECORDS: [&str; 2] = ["/var/lib/infra/", "/run/infra/"];

/// Everything in the way, a sentence each; nothing where all is well.
pub fn blocked(desired: &DesiredHost, observed: &Observed) -> Vec<String> {
    let mut words = Vec::new();
    let files: BTreeSet<&str> = desired.files.keys().chain(observed.manifest.keys()).map(String::as_str).collect();
    let mut folders: BTreeSet<&str> = OWN.iter().flat_map(|own| above(own).chain([*own])).collect();
    for path in &files {
        folders.extend(above(path));
    }
    for path in desired.folders.keys() {
        folders.extend(above(path).chain([path.as_str()]));
    }
    for path in folders {
        if let Some(file) = observed.files.get(path) {
            words.push(match &file.other {
                Some(other @ Other::Link(_)) => format!(
                    "`{path}` is {other}, and infra follows no link to a folder: put a real folder in its place (a bind mount \
                     brings the same files there)"
                ),
                Some(other) => format!("`{path}` is {other}, where a folder is needed: move it away"),
                None => format!("`{path}` is a file, where a folder is needed: move it away"),
            });
            continue;
        }
        // What has a wanted access is given it before anything is put there.
        let Some(access) = observed.folders.get(path).filter(|_| !desired.folders.contains_key(path)) else { continue };
        if access.owner != "root" || access.mode & 0o022 != 0 {
            words.push(format!(
                "`{path}` can be changed by others than root ({}:{} {:04o}), who could lead infra's files elsewhere: `chown root {path} && \
                 chmod go-w {path}`",
                access.owner, access.group, access.mode
            ));
        }
    }
    for path in files.iter().filter(|path| observed.folders.contains_key(**path)) {
        words.push(format!("`{path}` is a folder, where infra's file stands or comes: move it away"));
    }
    for (path, file) in &observed.files {
        let record = is_record(path) && !files.contains(path.as_str());
        if let Some(other) = file.other.as_ref().filter(|_| record) {
            words.push(record_is(path, &other.to_string()));
        }
    }
    // A file of ours takes the place of the link that masks a unit of ours.
    for unit in desired.units.keys().filter(|unit| !desired.files.contains_key(&format!("/etc/systemd/system/{unit}")))
    {
        if let Some(unmask) = unmask(unit, observed) {
            words.push(format!("{unit} is masked, so nothing can start it: `{unmask}`"));
        }
    }
    for path in observed.folders.keys().filter(|path| is_record(path) && !files.contains(path.as_str())) {
        words.push(record_is(path, "a folder"));
    }
    words.sort();
    words.dedup();
    words
}

/// The command that ends the mask of a unit; nothing where it is not masked.
pub fn unmask(unit: &str, observed: &Observed) -> Option<String> {
    let seen = observed.units.get(unit).filter(|seen| seen.load == "masked")?;
    // A mask that only lasts until the next boot is in another folder, where systemctl(1) does not look by itself.
    let option = if seen.enabled == "masked-runtime" { "--runtime " } else { "" };
    Some(format!("systemctl unmask {option}{unit}"))
}

fn is_record(path: &str) -> bool {
    RECORDS.iter().any(|own| path.starts_with(own)) && !OWN.contains(&path)
}

fn record_is(path: &str, what: &str) -> String {
    format!("`{path}` is {what}, where infra keeps a record of its own: find out who put it there, and move it away")
}

/// Whether a folder is one in which we keep our own records.
pub fn is_own(path: &str) -> bool {
    RECORDS.iter().any(|own| path.starts_with(own) || path == own.trim_end_matches('/'))
}

/// The folders above a path, without `/`.
fn above(path: &str) -> impl Iterator<Item = &str> {
    path.match_indices('/').skip(1).map(|(end, _)| &path[..end])
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::plan::state::{Access, Body, Digest, File, Folder, ObservedFile, ObservedUnit, Phase, UnitWanted};

    fn stands(other: Option<Other>) -> ObservedFile {
        ObservedFile { digest: None, other, access: Access::root(0o777), text: None }
    }

    #[test]
    fn what_is_in_the_way_is_named_and_nothing_else() {
        let mut desired = DesiredHost::default();
        let folder = Folder { phase: Phase::Edge, access: Access::root(0o700) };
        desired.folders.insert("/etc/haproxy/tls".into(), folder);
        let root = Access::root(0o755);
        let group = Access { group: "adm".into(), ..Access::root(0o775) };
        let link = Some(Other::Link("/srv".into()));
        let table: [(&str, Result<&Access, ObservedFile>, Option<&str>); 12] = [
            ("/etc", Ok(&root), None),
            ("/etc/haproxy", Ok(&root), None),
            ("/etc/haproxy", Ok(&group), Some("`/etc/haproxy` can be changed by others than root (root:adm 0775)")),
            ("/etc/haproxy", Err(stands(link.clone())), Some("`/etc/haproxy` is a link to /srv, and infra follows")),
            // Its access is set before anything is put there; what it is cannot be.
            ("/etc/haproxy/tls", Ok(&group), None),
            ("/etc/haproxy/tls", Err(stands(None)), Some("`/etc/haproxy/tls` is a file, where a folder")),
            ("/var/lib", Err(stands(link.clone())), Some("`/var/lib` is a link to /srv")),
            (
                "/var/lib/infra/owed",
                Err(stands(Some(Other::Fifo))),
                Some("`/var/lib/infra/owed` is a FIFO, where a folder"),
            ),
            (
                "/var/lib/infra/manifest",
                Err(stands(Some(Other::Socket))),
                Some("`/var/lib/infra/manifest` is a socket, where infra keeps"),
            ),
            ("/var/lib/infra/lock", Ok(&root), Some("`/var/lib/infra/lock` is a folder, where infra keeps")),
            ("/run/infra", Err(stands(link.clone())), Some("`/run/infra` is a link to /srv")),
            ("/srv/other", Err(stands(link)), None),
        ];
        for (path, what, named) in table {
            let mut observed = crate::plan::laws::bare();
            match what {
                Ok(access) => observed.folders = BTreeMap::from([(path.to_owned(), access.clone())]),
                Err(file) => observed.files = BTreeMap::from([(path.to_owned(), file)]),
            }
            let words = blocked(&desired, &observed);
            match named {
                None => assert!(words.is_empty(), "{path}: {words:?}"),
                Some(start) => assert!(words.len() == 1 && words[0].starts_with(start), "{path}: {words:?}"),
            }
        }
    }

    #[test]
    fn a_masked_unit_that_is_to_run_is_named() {
        let masked = ObservedUnit { load: "masked".into(), enabled: "masked".into(), ..ObservedUnit::default() };
        let until_boot = ObservedUnit { enabled: "masked-runtime".into(), ..masked.clone() };
        let loaded = ObservedUnit { load: "loaded".into(), enabled: "disabled".into(), ..ObservedUnit::default() };
        let ours = File {
            service: "demo",
            phase: Phase::Web,
            access: Access::root(0o644),
            body: Body { text: "".into(), digest: Digest::of(b""), origin: None },
            then: BTreeMap::new(),
            about: None,
        };
        for (seen, wanted, file, named) in [
            (&masked, true, false, true),
            (&until_boot, true, false, true),
            (&masked, false, false, false),
            (&masked, true, true, false),
            (&loaded, true, false, false),
        ] {
            let (mut desired, mut observed) = (DesiredHost::default(), crate::plan::laws::bare());
            observed.units.insert("demo.service".into(), seen.clone());
            if wanted {
                desired.units.insert("demo.service".into(), UnitWanted { phase: Phase::Web });
            }
            if file {
                desired.files.insert("/etc/systemd/system/demo.service".into(), ours.clone());
            }
            let words = blocked(&desired, &observed);
            let option = if seen.enabled == "masked-runtime" { "--runtime " } else { "" };
            let expected =
                format!("demo.service is masked, so nothing can start it: `systemctl unmask {option}demo.service`");
            assert_eq!(words, named.then_some(expected).into_iter().collect::<Vec<_>>(), "{seen:?} {wanted} {file}");
        }
    }
}
