//! Every key that a site can have, through the daemons of newer releases: their programs come out of the packages of the lab's images,
//! and take the place of this machine's in the hosts of `common/twin.rs`.
#![expect(clippy::unwrap_used, reason = "a test")]

#[path = "../common/mod.rs"]
mod common;

use std::io::Write as _;
use std::path::Path;

use infra::lab::{Error, Release, image, private_root};
use infra::plan::state::Facts;

/// What the tiers run, by the beginnings of their packages' names, and what that leans on.
const PROGRAMS: [&str; 5] = ["haproxy", "nginx", "socat", "curl", "openssl"];

#[test]
fn every_key_on_debian_13() {
    every_key(Release::Trixie, &Facts::of_release("debian", "13"));
}

#[test]
fn every_key_on_the_next_debian() {
    every_key(Release::Sid, &Facts::of_release("debian", "forky"));
}

fn every_key(release: Release, facts: &Facts) {
    let image = match image::ensure(&private_root().unwrap().join("images"), release, &|_| ()) {
        Ok(image) => image,
        // The next Debian is not always whole; the others are.
        Err(Error::Command { what, reason }) if release == Release::Sid && what == "build the image" => {
            let line =
                format!("every_key_on_the_next_debian: the image cannot be built: {}", reason.replace('\n', " "));
            eprintln!("{line}");
            if let Some(list) = std::env::var_os("INFRA_TESTS_SKIPPED") {
                let mut list = std::fs::File::options().append(true).create(true).open(list).unwrap();
                writeln!(list, "{line}").unwrap();
            }
            return;
        }
        Err(error) => panic!("{error}"),
    };
    let folder = tempfile::tempdir().unwrap();
    let tree = folder.path();
    for package in std::fs::read_dir(&image.repository).unwrap() {
        let path = package.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let library = name.starts_with("lib") && !name.starts_with("libmariadb") && !name.contains("perl");
        if path.extension().is_some_and(|ending| ending == "deb")
            && (library || PROGRAMS.iter().any(|program| name.starts_with(program)))
        {
            unpacked(&path, tree);
        }
    }
    let layers = format!("{}:{}", tree.join("usr").display(), image.tree.join("usr").display());
    common::keys::every_key(Some(Path::new(&layers)), facts);
}

fn unpacked(package: &Path, tree: &Path) {
    let out = std::process::Command::new("dpkg-deb").arg("-x").arg(package).arg(tree).output().unwrap();
    assert!(out.status.success(), "{}: {}", package.display(), String::from_utf8_lossy(&out.stderr));
}
