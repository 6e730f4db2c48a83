//! Where Debian's or Ubuntu's packages come from on this machine: takes apt's own view of its configuration, gives `deb` lines for the
//! wanted suite, apt's options for fetching, and the keyrings. Only the distribution's archives are taken, never a vendor's.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use super::Error;
use super::command;
use super::spec::Release;

/// What mmdebstrap is told.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Sources {
    /// One-line-style sources (sources.list(5)).
    pub(super) lines: Vec<String>,
    /// Options of apt.conf(5): proxies, certificates, dates.
    pub(super) options: Vec<String>,
    /// Key files or folders.
    pub(super) keyrings: Vec<String>,
}

/// A source as `apt-get indextargets` tells it: one stanza for each index file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Target {
    uri: String,
    release: String,
    component: String,
    label: String,
    entry: String,
}

/// Asks apt. Its lists are read where they are; when there are none yet, they are fetched into `scratch`, so that the
/// machine's own stay as they are.
pub(super) fn of_this_machine(release: Release, scratch: &Path) -> Result<Sources, Error> {
    let indextargets = |extra: &[String]| {
        let mut apt = Command::new("apt-get");
        apt.arg("indextargets").args(extra).arg("Created-By: Packages");
        Ok::<_, Error>(parse(&command::run("ask apt for its sources", &mut apt)?))
    };
    let mut targets = indextargets(&[])?;
    if !targets.iter().any(|target| target.is_debian() || target.is_ubuntu()) {
        fs_err::create_dir_all(scratch.join("partial"))?;
        let lists = ["-o".to_owned(), format!("Dir::State::Lists={}", scratch.display())];
        let mut update = Command::new("apt-get");
        update.args(&lists).args(["-o", "APT::Sandbox::User=root", "-o", "APT::Update::Post-Invoke-Success::=true"]);
        // A vendor's source that fails is none of our business; Debian's that fails shows below.
        let _ = command::run("fetch the package lists", update.arg("update"));
        targets = indextargets(&lists)?;
    }
    let config = command::run("ask apt for its configuration", Command::new("apt-config").arg("dump"))?;
    let own = if release.is_ubuntu() { "ubuntu" } else { "debian" };
    let own = format!("/usr/share/keyrings/{own}-archive-keyring.gpg");
    let mut keyrings: BTreeSet<String> = [own.as_str(), "/etc/apt/trusted.gpg.d"]
        .into_iter()
        .filter(|path| Path::new(path).exists())
        .map(ToOwned::to_owned)
        .collect();
    for entry in targets.iter().filter(|t| t.is_of(release)).map(|t| t.entry.as_str()).collect::<BTreeSet<_>>() {
        let file = entry.rsplit_once(':').map_or(entry, |(file, _line)| file);
        let text = std::fs::read_to_string(file).unwrap_or_default();
        keyrings.extend(signed_by(&text).filter(|path| Path::new(path).exists()));
    }
    Ok(Sources {
        lines: lines(release, &targets),
        options: options(release, &config),
        keyrings: keyrings.into_iter().collect(),
    })
}

impl Target {
    fn is_debian(&self) -> bool {
        self.label == "Debian" || self.is_security()
    }

    fn is_ubuntu(&self) -> bool {
        self.label == "Ubuntu"
    }

    /// Whether it is an archive of the distribution that a release is of.
    fn is_of(&self, release: Release) -> bool {
        if release.is_ubuntu() { self.is_ubuntu() } else { self.is_debian() }
    }

    fn is_security(&self) -> bool {
        self.label == "Debian-Security"
    }
}

fn parse(text: &str) -> Vec<Target> {
    let stanzas = text.split("\n\n").map(|stanza| {
        let field = |name: &str| {
            let line = stanza.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(':'));
            line.unwrap_or_default().trim().to_owned()
        };
        Target {
            uri: field("Repo-URI"),
            release: field("Release"),
            component: field("Component"),
            label: field("Label"),
            entry: field("Sourcesentry"),
        }
    });
    stanzas.filter(|t| !t.uri.is_empty()).collect()
}

/// The machine's mirrors with the wanted suite. What the machine takes for its own suite (updates, security) is taken here
/// too; for another suite all three, where the mirror of each kind is known.
fn lines(release: Release, targets: &[Target]) -> Vec<String> {
    let suite = release.suite();
    let suites = [suite.to_owned(), format!("{suite}-updates"), format!("{suite}-security")];
    let parts: &[&str] = if release.is_ubuntu() { &["main", "universe"] } else { &["main"] };
    let of = |t: &&Target| t.is_of(release) && parts.contains(&t.component.as_str());
    let main: Vec<&Target> = targets.iter().filter(of).collect();
    let mut lines = BTreeSet::new();
    if main.iter().any(|t| t.release == suite) {
        lines.extend(
            main.iter()
                .filter(|t| suites.contains(&t.release))
                .map(|t| format!("deb {} {} {}", t.uri, t.release, t.component)),
        );
    } else {
        // Where the machine knows no mirror of the distribution there is no line, and mmdebstrap takes its own (mmdebstrap(1)).
        let Some(archive) = main.iter().find(|t| !t.is_security()).map(|t| &t.uri) else { return Vec::new() };
        if release.is_ubuntu() {
            return suites.iter().map(|suite| format!("deb {archive} {suite} {}", parts.join(" "))).collect();
        }
        lines.insert(format!("deb {archive} {suite} main"));
        // Of what is not released there are no updates.
        let security = main.iter().find(|t| t.is_security()).filter(|_| release != Release::Sid);
        if let Some(security) = security {
            lines.insert(format!("deb {archive} {suite}-updates main"));
            lines.insert(format!("deb {} {suite}-security main", security.uri));
        }
    }
    lines.into_iter().collect()
}

/// `Acquire::` options of `apt-config dump`, and where credentials for mirrors are. On a mirror that stands still, sid's Release file is
/// too old after some days, which those of releases never are (apt.conf(5)).
fn options(release: Release, dump: &str) -> Vec<String> {
    let skip = ["Acquire::Changelogs", "Acquire::IndexTargets", "Acquire::CompressionTypes", "Acquire::Languages"];
    let kept = dump.lines().filter(|l| l.starts_with("Acquire::") && !skip.iter().any(|s| l.starts_with(s)));
    // A line with an empty value only opens a group.
    let kept = kept.filter(|l| !l.ends_with(" \"\";")).map(ToOwned::to_owned);
    let credentials = ["Dir::Etc::netrc \"/etc/apt/auth.conf\";", "Dir::Etc::netrcparts \"/etc/apt/auth.conf.d\";"];
    let old = (release == Release::Sid).then(|| "Acquire::Check-Valid-Until \"false\";".to_owned());
    kept.chain(credentials.map(ToOwned::to_owned)).chain(old).collect()
}

/// Paths of `Signed-By: /path` (deb822) and of `[signed-by=/path]`.
fn signed_by(text: &str) -> impl Iterator<Item = String> {
    let paths = text.lines().filter(|l| !l.trim_start().starts_with('#')).filter_map(|line| {
        let lower = line.to_ascii_lowercase();
        let after = lower.find("signed-by").and_then(|at| line.get(at + "signed-by".len()..))?;
        let after = after.trim_start_matches([':', '=', ' ', '\t']);
        let path = after.split([' ', ']', ',']).next()?;
        path.starts_with('/').then(|| path.to_owned())
    });
    paths.collect::<Vec<_>>().into_iter()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(uri: &str, release: &str, label: &str) -> String {
        format!(
            "MetaKey: main/binary-amd64/Packages\nLabel: {label}\nComponent: main\nRelease: {release}\nRepo-URI: {uri}\n\
             Sourcesentry: /etc/apt/sources.list.d/debian.sources:1\n\n"
        )
    }

    fn machine() -> Vec<Target> {
        let text = target("http://mirror/debian/", "bookworm", "Debian")
            + &target("http://mirror/debian/", "bookworm-updates", "Debian")
            + &target("http://mirror/sec/", "bookworm-security", "Debian-Security")
            + &target("http://mariadb/debian/", "bookworm", "MariaDB");
        parse(&text)
    }

    #[test]
    fn the_machines_mirrors_are_used_and_no_vendors() {
        let expected = [
            "deb http://mirror/debian/ bookworm main",
            "deb http://mirror/debian/ bookworm-updates main",
            "deb http://mirror/sec/ bookworm-security main",
        ];
        assert_eq!(lines(Release::Bookworm, &machine()), expected);
        let trixie: Vec<String> = expected.iter().map(|l| l.replace("bookworm", "trixie")).collect();
        assert_eq!(lines(Release::Trixie, &machine()), trixie);
        assert_eq!(lines(Release::Sid, &machine()), ["deb http://mirror/debian/ sid main"]);
    }

    #[test]
    fn a_machine_of_another_family_leaves_the_mirror_to_mmdebstrap() {
        let ubuntu = parse(&target("http://archive.ubuntu/", "noble", "Ubuntu"));
        assert!(lines(Release::Bookworm, &ubuntu).is_empty());
        assert!(lines(Release::Bookworm, &[]).is_empty());
        assert!(lines(Release::Resolute, &machine()).is_empty());
        assert_eq!(lines(Release::Noble, &ubuntu), ["deb http://archive.ubuntu/ noble main"]);
        assert_eq!(lines(Release::Resolute, &ubuntu)[0], "deb http://archive.ubuntu/ resolute main universe");
    }

    #[test]
    fn options_and_keys_are_carried_over() {
        let dump = "Acquire \"\";\nAcquire::http \"\";\nAcquire::http::Proxy \"http://p:3128\";\nDir \"/\";\n\
                    Acquire::Changelogs::URI \"\";\n";
        assert_eq!(options(Release::Bookworm, dump)[0], "Acquire::http::Proxy \"http://p:3128\";");
        assert_eq!(options(Release::Bookworm, dump).len(), 3);
        assert_eq!(options(Release::Sid, dump).last().unwrap(), "Acquire::Check-Valid-Until \"false\";");
        let keys =
            "Signed-By: /usr/a.gpg\n# Signed-By: /no\ndeb [arch=amd64 signed-by=/usr/b.gpg] http://x y z\nSigned-By:\n";
        assert_eq!(signed_by(keys).collect::<Vec<_>>(), ["/usr/a.gpg", "/usr/b.gpg"]);
    }
}
