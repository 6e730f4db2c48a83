//! What cannot be changed (a file system that may only be read, an immutable file, one that is full) is found before any host changes:
//! the copies that the daemons check do not show it.

use std::process::Command;

use super::*;

/// Prepares a root, and undoes that however the test ends.
struct Prepared<'a> {
    root: PathBuf,
    undo: &'a str,
}

impl Prepared<'_> {
    fn sh(&self, script: &str) -> bool {
        let status = Command::new("sh").args(["-euc", script]).current_dir(&self.root).status().unwrap();
        status.success()
    }
}

impl Drop for Prepared<'_> {
    fn drop(&mut self) {
        self.sh(self.undo);
    }
}

/// What is done below the root, how that is undone, the path that is named, and a part of the words.
const CASES: [(&str, &str, &str, &str); 7] = [
    (
        "chattr +i etc/demo/main.conf",
        "chattr -i etc/demo/main.conf",
        "/etc/demo/main.conf",
        "`chattr -ia /etc/demo/main.conf`",
    ),
    ("chattr +a etc/demo/main.conf", "chattr -a etc/demo/main.conf", "/etc/demo/main.conf", "Operation not permitted"),
    ("chattr +i etc/demo", "chattr -i etc/demo", "/etc/demo", "`lsattr -d /etc/demo`"),
    ("chattr +i etc/demo/private", "chattr -i etc/demo/private", "/etc/demo/private", "immutable"),
    ("chattr +i var/lib/infra/manifest", "chattr -i var/lib/infra/manifest", "/var/lib/infra/manifest", "immutable"),
    (
        "mount --bind etc/demo etc/demo && mount -o remount,bind,ro etc/demo",
        "umount -l etc/demo",
        "/etc/demo",
        "may only be read: `findmnt -T /etc/demo`",
    ),
    (
        "mount -t tmpfs -o size=64k,mode=755 tmpfs etc/demo && head -c 61440 /dev/zero >etc/demo/theirs",
        "umount -l etc/demo",
        "/etc/demo",
        "No space left on device",
    ),
];

#[test]
fn what_cannot_be_changed_is_found_before_anything_changes() {
    let machine = Machine::new();
    machine.apply(&desired("one\n"), &materials()).unwrap();
    let mut wanted = desired("two\n");
    wanted.files.insert("/etc/demo/private/more".to_owned(), file("more\n", 0o600));
    for (script, undo, path, words) in CASES {
        let prepared = Prepared { root: machine.path("root"), undo };
        assert!(prepared.sh(script), "{script}");
        let (phase, error) = machine.apply(&wanted, &materials()).unwrap_err();
        assert_eq!((phase, error.now, error.what.as_str()), (Phase::Stage, Now::AsBefore, path), "{script}: {error:?}");
        assert!(error.words.join("\n").contains(words), "{script}: {error:?}");
        drop(prepared);
        assert_eq!(machine.read("root/etc/demo/main.conf").as_deref(), Some("one\n"), "{script}");
        assert_eq!(machine.read("root/etc/demo/private/more"), None, "{script}");
    }
    machine.apply(&wanted, &materials()).unwrap();
    assert_eq!(machine.read("root/etc/demo/main.conf").as_deref(), Some("two\n"));
    assert!(!machine.path("root/etc/demo/.infra-room").exists());
}

/// A folder that is there and a mount of its own needs nothing of the one above it, and no more room than its files take.
#[test]
fn what_holds_a_folder_that_is_there_may_be_as_it_likes() {
    let machine = Machine::new();
    let wanted = desired("one\n");
    machine.apply(&wanted, &materials()).unwrap();
    let prepared = Prepared { root: machine.path("root"), undo: "umount -l etc/demo/private etc/demo" };
    assert!(prepared.sh(
        "mount --bind etc/demo etc/demo && mount -t tmpfs -o size=32k,mode=755 tmpfs etc/demo/private && mount -o remount,bind,ro etc/demo"
    ));
    machine.apply(&wanted, &materials()).unwrap();
    let mode = std::fs::metadata(machine.path("root/etc/demo/private")).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o700);
    assert_eq!(machine.read("root/etc/demo/private/key").as_deref(), Some("key s3cr3t-marked\n"));
}

/// What is tried for room is a new file: a link that stands there is not followed.
#[test]
fn no_link_leads_the_search_for_room_elsewhere() {
    let machine = Machine::new();
    machine.apply(&desired("one\n"), &materials()).unwrap();
    let prepared = Prepared { root: machine.path("root"), undo: "umount -l etc/demo" };
    assert!(prepared.sh(
        "echo theirs >victim; mount -t tmpfs -o mode=755 tmpfs etc/demo && ln -s ../../victim etc/demo/.infra-room"
    ));
    machine.apply(&desired("two\n"), &materials()).unwrap();
    assert_eq!(machine.read("root/victim").as_deref(), Some("theirs\n"));
    assert!(!prepared.sh("ls etc/demo/.infra-room 2>/dev/null"));
}
