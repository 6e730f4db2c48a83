//! The image of a bare host and the packages that hosts may install: takes a release, gives a tree and a flat apt
//! repository, built once by mmdebstrap and kept under a digest of the recipe.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use sha2::{Digest, Sha256};

use super::spec::{REPOSITORY_NAME, Release};
use super::{Error, Progress, command, sources};
use crate::base::fsx;

/// What a bare host has besides Debian's minimal set: what any fresh cloud host has.
const BASE: [&str; 8] =
    ["systemd", "systemd-sysv", "dbus", "openssh-server", "sudo", "iproute2", "ca-certificates", "perl-base"];

/// The same by release: the smallest set of Ubuntu has no apt in it.
fn base(release: Release) -> Vec<&'static str> {
    BASE.into_iter().chain(release.is_ubuntu().then_some("apt")).collect()
}

/// What hosts may install from the lab's repository, with all that it depends on. (`nginx-light` exists in trixie too.)
const PACKAGES: [&str; 23] = [
    "haproxy",
    "nginx",
    "nginx-light",
    "libnginx-mod-http-brotli-filter",
    "libnginx-mod-http-brotli-static",
    "nftables",
    "iptables",
    "socat",
    "curl",
    "openssl",
    "ca-certificates",
    "netcat-openbsd",
    "mariadb-server",
    "mariadb-backup",
    "conntrack",
    "prometheus",
    "prometheus-node-exporter",
    "prometheus-mysqld-exporter",
    "prometheus-nginx-exporter",
    "prometheus-blackbox-exporter",
    "prometheus-alertmanager",
    "syslog-ng-core",
    "syslog-ng-mod-http",
];

/// Those of a release: in sid `MySQL` takes the place of `MariaDB`, as one excludes the other.
fn packages(release: Release) -> Vec<&'static str> {
    match release {
        Release::Bookworm | Release::Noble | Release::Trixie | Release::Resolute => PACKAGES.to_vec(),
        // Its nginx has no modules of Brotli.
        Release::Jammy => PACKAGES.into_iter().filter(|name| !name.contains("brotli")).collect(),
        Release::Sid => {
            PACKAGES.into_iter().filter(|name| !name.starts_with("mariadb")).chain(["mysql-server"]).collect()
        }
    }
}

const HOOK: &str = include_str!("image.sh");

/// A finished image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// The root file system of a bare host; never written to.
    pub tree: PathBuf,
    /// A flat apt repository (`deb [trusted=yes] http://…/ ./`).
    pub repository: PathBuf,
}

impl Image {
    fn at(dir: &Path) -> Self {
        Self { tree: dir.join("tree"), repository: dir.join("repository") }
    }
}

/// The folder's name: what goes into the image decides it, where it came from does not.
fn digest(release: Release) -> String {
    let recipe =
        format!("{release}\n{}\n{}\n{REPOSITORY_NAME}\n{HOOK}", base(release).join(" "), packages(release).join(" "));
    let hex = command::hex(Sha256::digest(recipe).as_slice(), 8);
    format!("{release}-{hex}")
}

/// The image of `release` under `images`, built if it is not there. Two that want it at once build it once.
///
/// # Errors
/// [`Error::Command`] with mmdebstrap's last words; [`Error::Io`].
pub fn ensure(images: &Path, release: Release, progress: Progress<'_>) -> Result<Image, Error> {
    let finished = images.join(digest(release));
    if finished.is_dir() {
        return Ok(Image::at(&finished));
    }
    fsx::private_dir(images)?;
    let lock = fs_err::File::open(images)?;
    if lock.file().try_lock().is_err() {
        progress("waiting for another image that is being built");
        lock.file().lock()?;
    }
    if finished.is_dir() {
        return Ok(Image::at(&finished));
    }
    // We hold the lock: what is half-built here was left by one that died.
    for entry in fs_err::read_dir(images)? {
        let path = entry?.path();
        if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(".building-")) {
            fs_err::remove_dir_all(path)?;
        }
    }
    let started = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
    let building = images.join(format!(".building-{started}"));
    fsx::private_dir(&building)?;
    let built = build(&building, release, progress);
    if built.is_err() {
        // The first error is the one to tell; what cannot be removed now is removed by the next build.
        let _ = fs_err::remove_dir_all(&building);
    }
    built?;
    fs_err::rename(&building, &finished)?;
    Ok(Image::at(&finished))
}

fn build(dir: &Path, release: Release, progress: Progress<'_>) -> Result<(), Error> {
    progress(&format!("building the image of {release} (once; about half a minute)"));
    let image = Image::at(dir);
    let scratch = dir.join("scratch");
    fs_err::create_dir(&scratch)?;
    let sources = sources::of_this_machine(release, &scratch.join("lists"))?;
    let (hook, options) = (scratch.join("image.sh"), scratch.join("apt.conf"));
    fs_err::write(&hook, HOOK)?;
    fs_err::write(&options, sources.options.join("\n") + "\n")?;
    // mmdebstrap runs a hook by a shell with the tree as its argument.
    let words = [hook.as_path(), image.repository.as_path()].map(|path| path.to_string_lossy().into_owned());
    let [hook, repository] = words.map(|word| shlex::try_quote(&word).map(std::borrow::Cow::into_owned));
    let unfit = |_| Error::Spec(format!("the folder `{}` has a name that no shell takes", dir.display()));
    let (hook, repository) = (hook.map_err(unfit)?, repository.map_err(unfit)?);
    let mut mmdebstrap = Command::new("mmdebstrap");
    mmdebstrap
        .args(["--mode=root", "--variant=minbase", "--format=directory"])
        .arg(format!("--include={}", base(release).join(",")))
        .arg(format!("--aptopt={}", options.display()))
        .arg(format!(
            "--customize-hook=sh {hook} \"$1\" {repository} {REPOSITORY_NAME} {}",
            packages(release).join(" ")
        ))
        .args(sources.keyrings.iter().map(|key| format!("--keyring={key}")))
        .args(release.is_ubuntu().then_some("--components=main,universe"))
        .arg(release.suite())
        .arg(&image.tree)
        .args(&sources.lines);
    follow(&mut mmdebstrap, progress)?;
    progress("making the package repository");
    index(&image.repository)?;
    fs_err::remove_dir_all(&scratch)?;
    Ok(())
}

/// Runs mmdebstrap and passes on its `I:` lines; keeps the last others for the error.
fn follow(mmdebstrap: &mut Command, progress: Progress<'_>) -> Result<(), Error> {
    let failed = |reason: String| Error::Command { what: "build the image".to_owned(), reason };
    mmdebstrap.env("PATH", command::search_path()).env("LC_ALL", "C.UTF-8");
    mmdebstrap.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = mmdebstrap.spawn().map_err(|e| failed(format!("`mmdebstrap`: {e}")))?;
    let mut words = String::new();
    if let Some(stderr) = child.stderr.take() {
        for line in BufReader::new(stderr).split(b'\n') {
            let line = String::from_utf8_lossy(&line?).trim_end().to_owned();
            match line.strip_prefix("I: ") {
                Some(step) if step.starts_with("running --customize-hook") => {
                    progress("fetching packages for the hosts");
                }
                Some(step) => progress(step),
                None => words = words + &line + "\n",
            }
        }
    }
    let status = child.wait()?;
    if status.success() {
        return Ok(());
    }
    Err(failed(format!("`mmdebstrap` ended with {status}: {}", command::last_lines(&words, 8))))
}

/// Packages, Packages.gz and Release of a flat repository (sources.list(5), «exact path»).
fn index(repository: &Path) -> Result<(), Error> {
    let ftparchive = |what: &str| {
        let mut apt = Command::new("apt-ftparchive");
        command::run("index the packages", apt.current_dir(repository).args([what, "."]))
    };
    fs_err::write(repository.join("Packages"), ftparchive("packages")?)?;
    command::run("index the packages", Command::new("gzip").arg("-9nk").arg(repository.join("Packages")))?;
    fs_err::write(repository.join("Release"), ftparchive("release")?)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_release_has_its_own_image() {
        assert_ne!(digest(Release::Bookworm), digest(Release::Trixie));
        assert!(digest(Release::Trixie).starts_with("trixie-"));
    }
}
