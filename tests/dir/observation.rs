//! What services learn of a host, by the real script: versions of what is installed or would be, and answers to questions of their
//! own, which do not disturb each other.

use std::os::unix::fs::MetadataExt;

use infra::base::diagnostic::Diagnostic;
use infra::fleet::survey;
use infra::host::observe;
use infra::plan::state::{DesiredHost, Observed, Part, Version};
use infra::service::claims::Claims;
use infra::service::inquiry::Inquiry;
use infra::service::status::Gauge;
use infra::service::{ALL, Context, Service, Services};

use super::{Machine, file};

/// What apt says on a host, with a source that is another's business.
const POLICY: &str = "#!/bin/sh
echo \"$*\" >>ASKED
case \" $* \" in *' haproxy '*) ;; *) exit 0 ;; esac
cat <<'END'
haproxy:
  Installed: (none)
  Candidate: 2:3.2.5-1~deb12u1
  Version table:
     2:3.2.5-1~deb12u1 500
        500 https://user:hunter2@repository.example/ bookworm/main amd64 Packages
     2.6.12-1+deb12u1 500
        500 http://mirror.example/debian bookworm/main amd64 Packages
END
echo 'N: Unable to locate package' >&2
";

/// The version for which the load balancer's configuration would be written.
fn haproxy(machine: &Machine, packages: &[&str]) -> Version {
    let packages = packages.iter().map(|name| (*name).to_owned()).collect();
    let seen = machine.observe(&DesiredHost { packages, ..DesiredHost::default() });
    ALL.products().find(|product| product.name == "haproxy").unwrap().of(&seen.facts)
}

#[test]
fn what_would_be_installed_is_known_before_it_is() {
    let machine = Machine::new();
    let asked = machine.path("asked");
    machine.executable("bin/apt-cache", &POLICY.replace("ASKED", &asked.display().to_string()));
    let shipped = Version(2, 6, 12);
    assert_eq!(haproxy(&machine, &["haproxy", "curl"]), Version(3, 2, 5));
    assert_eq!(
        machine.read("asked").as_deref(),
        Some("policy haproxy\n"),
        "curl is no product: nothing depends on its version"
    );
    // Nobody wants it, or apt does not know it: then it is as the release ships it.
    assert_eq!(haproxy(&machine, &["curl"]), shipped);
    machine.executable("bin/apt-cache", "#!/bin/sh\nexit 100\n");
    assert_eq!(haproxy(&machine, &["haproxy"]), shipped);
    // Where it is installed, apt is not asked: a run that finds nothing to do does not wait for it.
    machine.executable("bin/apt-cache", &format!("#!/bin/sh\necho again >>'{}'\n", asked.display()));
    machine.executable("bin/dpkg-query", "#!/bin/sh\necho 'installed haproxy 2.8.5-1ubuntu3'\n");
    assert_eq!(haproxy(&machine, &["haproxy"]), Version(2, 8, 5));
    assert_eq!(machine.read("asked").as_deref(), Some("policy haproxy\n"));
}

#[test]
fn the_number_of_who_fetches_packages_is_read_where_users_stand() {
    let machine = Machine::new();
    machine.write(
        "root/etc/passwd",
        "root:x:0:0::/root:/bin/sh\n_aptly:x:7:7::/:/bin/sh\n_apt:x:103:65534::/nonexistent:/sbin/nologin\n",
    );
    let seen = machine.observe(&DesiredHost::default());
    assert!(seen.facts.features.contains("apt_uid=103"), "{:?}", seen.facts.features);
}

#[test]
fn owners_are_told_by_name_whoever_they_are() {
    let machine = Machine::new();
    let owners = |path: &str| {
        let file = std::fs::metadata(machine.path(path)).unwrap();
        let name = |what: &str, id: u32| {
            let out = std::process::Command::new("getent").args([what, &id.to_string()]).output().unwrap();
            String::from_utf8(out.stdout).unwrap().split(':').next().unwrap().to_owned()
        };
        (name("passwd", file.uid()), name("group", file.gid()))
    };
    let mut desired = DesiredHost::default();
    // Who is not root cannot give files away, and sees those of one owner alone.
    for (name, owner, group) in [("a", None, None), ("b", Some(1), None), ("c", None, Some(1)), ("d", Some(1), Some(1))]
    {
        machine.write(&format!("root/etc/{name}"), "x");
        let _ = std::os::unix::fs::chown(machine.path(&format!("root/etc/{name}")), owner, group);
        desired.files.insert(format!("/etc/{name}"), file("x", 0o644));
    }
    let seen = machine.observe(&desired);
    for name in ["a", "b", "c", "d"] {
        let access = &seen.files[&format!("/etc/{name}")].access;
        assert_eq!((access.owner.clone(), access.group.clone()), owners(&format!("root/etc/{name}")), "{name}");
    }
}

#[test]
fn what_apt_says_of_its_sources_stays_on_the_host() {
    let machine = Machine::new();
    machine.executable("bin/apt-cache", &POLICY.replace("ASKED", "/dev/null"));
    let request =
        observe::request(ALL, &DesiredHost { packages: ["haproxy".to_owned()].into(), ..DesiredHost::default() });
    let output = machine.transport().run(&observe::script(ALL, &request), b"").unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        text.contains("Candidate: 2:3.2.5-1") && !text.contains("repository.example") && !text.contains("hunter2"),
        "{text}"
    );
}

/// A service that asks what its lines of sh say.
struct Asks(&'static str, fn() -> String, fn(&str, &mut Observed));

impl Service for Asks {
    fn name(&self) -> &'static str {
        self.0
    }

    fn inquiry(&self) -> Option<Inquiry> {
        let units = &["demo.service"];
        let records = &["var/lib/infra/asks"];
        Some(Inquiry { records, units, script: self.1, read: self.2, ..Inquiry::NOTHING })
    }

    fn want(&self, _: &Context<'_>, _: &mut Claims) -> Result<(), Diagnostic> {
        Ok(())
    }
}

const ROOT: Part<String> = Part::steady("quiet");
const NOISE: Part<String> = Part::steady("noisy");

/// The first does all that it should not, and the second still hears what it asks for.
const BOTH: Services = Services(&[
    &Asks(
        "noisy",
        || "emit() { :; }; ROOT=/nowhere; cd /; set -eu; exec 2>&1; printf 'a\\n\\nb'; exit 3".to_owned(),
        |answer, seen| NOISE.put(&answer.to_owned(), seen),
    ),
    &Asks("quiet", || "echo \"$ROOT $PWD\"".to_owned(), |answer, seen| ROOT.put(&answer.to_owned(), seen)),
]);

#[test]
fn no_service_disturbs_another() {
    let machine = Machine::new();
    machine.write("root/run/systemd/system/demo.service", "");
    machine.write("units/demo.service.active", "");
    let observe = || survey::observe(BOTH, machine.transport().as_mut(), &DesiredHost::default()).unwrap();
    let seen = observe();
    let root = machine.path("root").display().to_string();
    assert_eq!(ROOT.of(&seen), Some(format!("{root} {root}")));
    assert_eq!(NOISE.of(&seen).as_deref(), Some("a\n\nb"));
    assert_eq!(seen.units["demo.service"].active, "active", "nobody wants it, but both ask for it");
    // Where a record is not a file, nothing is asked, and the host is left alone for it.
    let record = machine.path("root/var/lib/infra/asks");
    fs_err::create_dir_all(record.parent().unwrap()).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(&record).status().unwrap().success());
    let seen = observe();
    assert_eq!((ROOT.of(&seen).as_deref(), NOISE.of(&seen).as_deref()), (Some(""), Some("")));
    let words = infra::plan::way::blocked(&DesiredHost::default(), &seen);
    assert!(words.iter().any(|word| word.contains("/var/lib/infra/asks")), "{words:?}");
}

/// A service that asks something for `infra status` alone.
struct Counts;

const COUNTED: Part<String> = Part::passing("counts");

impl Service for Counts {
    fn name(&self) -> &'static str {
        "counts"
    }

    fn gauge(&self) -> Option<Gauge> {
        Some(Gauge {
            script: || "cd /nowhere 2>/dev/null; echo \"twice $twice\"; exit 3".to_owned(),
            read: |answer, seen| COUNTED.put(&answer.to_owned(), seen),
        })
    }

    fn want(&self, _: &Context<'_>, _: &mut Claims) -> Result<(), Diagnostic> {
        Ok(())
    }
}

#[test]
fn a_gauge_is_asked_by_a_status_alone() {
    const ONE: Services = Services(&[&Counts]);
    let machine = Machine::new();
    let request = observe::request(ONE, &DesiredHost::default());
    let asked = |script| survey::answer(ONE, machine.transport().as_mut(), &script).unwrap();
    assert_eq!(COUNTED.of(&asked(observe::script(ONE, &request))), None);
    for (twice, said) in [(true, "twice yes"), (false, "twice no")] {
        let seen = asked(observe::script_with_gauges(ONE, &request, twice));
        assert_eq!(COUNTED.of(&seen).as_deref(), Some(said));
        assert_eq!(ONE.readings(&seen).keys().collect::<Vec<_>>(), ["counts"]);
    }
    // Those of infra find nothing to ask on a bare host.
    let request = observe::request(ALL, &DesiredHost::default());
    let script = observe::script_with_gauges(ALL, &request, true);
    let seen = survey::answer(ALL, machine.transport().as_mut(), &script).unwrap();
    assert!(ALL.readings(&seen).is_empty(), "{:?}", seen.passing);
}

/// The processes of a run that finds nothing to do: each costs a host about a millisecond, so one more is a decision.
#[test]
fn a_host_with_nothing_to_do_starts_few_processes() {
    let machine = Machine::new();
    let (wanted, materials) = (super::desired("one\n"), super::materials());
    machine.apply(&wanted, &materials).unwrap();
    let link = machine.path("root/etc/systemd/system/multi-user.target.wants/demo.service");
    fs_err::create_dir_all(link.parent().unwrap()).unwrap();
    std::os::unix::fs::symlink("/lib/systemd/system/demo.service", &link).unwrap();
    fs_err::create_dir_all(machine.path("root/var/lib/dpkg")).unwrap();
    machine.write("root/var/lib/dpkg/status", "Package: nginx\nStatus: install ok installed\nVersion: 1.22.1-9\n\n");
    let log = machine.path("started").display().to_string();
    let systemctl = machine.path("units/systemctl");
    fs_err::rename(machine.path("bin/systemctl"), &systemctl).unwrap();
    for name in [
        "apt-cache",
        "awk",
        "basename",
        "cat",
        "cut",
        "date",
        "dd",
        "dirname",
        "dpkg-query",
        "env",
        "find",
        "flock",
        "grep",
        "head",
        "ls",
        "mktemp",
        "nft",
        "readlink",
        "sed",
        "sha256sum",
        "sort",
        "stat",
        "systemctl",
        "tail",
        "tr",
    ] {
        let real = match name {
            "nft" => "exit 0".to_owned(),
            "systemctl" => format!("exec '{}' \"$@\"", systemctl.display()),
            name => format!("PATH=/usr/sbin:/usr/bin:/sbin:/bin exec {name} \"$@\""),
        };
        machine.executable(&format!("bin/{name}"), &format!("#!/bin/sh\necho {name} >>'{log}'\n{real}\n"));
    }
    let seen = machine.observe(&wanted);
    assert!(infra::plan::plan::host(&wanted, &seen).is_empty());
    assert_eq!(seen.packages.get("nginx").map(String::as_str), Some("1.22.1-9"));
    let mut started: Vec<String> = machine.read("started").unwrap().lines().map(str::to_owned).collect();
    started.sort_unstable();
    assert_eq!(started, ["flock", "grep", "nft", "sha256sum", "stat", "systemctl"]);
}
