//! The lab itself: real hosts boot, are reached, reboot, lose their power, crash, and leave nothing. Needs root and the
//! packages of `infra::lab::requirements`; without them the tests fail and say so.

use std::error::Error;
use std::net::IpAddr;
use std::process::{Command, Stdio};

use infra::lab::{self, Lab, Power, Release, Spec, SpecHost, Target, image};

type Done = Result<(), Box<dyn Error>>;

/// Takes the lab down whatever the test comes to.
struct Guard(&'static str);

impl Drop for Guard {
    fn drop(&mut self) {
        if let Err(error) = lab::down(self.0) {
            assert!(std::thread::panicking(), "{error}");
        }
    }
}

fn host(name: &str, addresses: &[&str], public: &[&str]) -> Result<SpecHost, Box<dyn Error>> {
    let parse = |list: &[&str]| list.iter().map(|a| a.parse()).collect::<Result<Vec<IpAddr>, _>>();
    Ok(SpecHost { name: name.to_owned(), addresses: parse(addresses)?, public: parse(public)?, ..SpecHost::default() })
}

/// Two tiers and a program, in both families.
fn spec(name: &str) -> Result<Spec, Box<dyn Error>> {
    Ok(Spec {
        name: name.to_owned(),
        hosts: vec![
            host("lb1", &["10.0.1.11"], &["203.0.113.11"])?,
            host("web1", &["10.0.2.11", "fd00:2::11"], &[])?,
            host("app1", &["10.0.3.11"], &[])?,
        ],
        names: [("shop.example.com".to_owned(), vec!["203.0.113.11".parse()?])].into(),
        controller: vec!["10.0.0.1".parse()?, "fd00::1".parse()?],
        user: "ops".to_owned(),
        apps: [("app1".to_owned(), vec![8080])].into(),
        ..Spec::default()
    })
}

fn quiet(_: &str) {}

/// What a shell line prints at `target`; it must succeed.
fn sh(lab: &Lab, target: &str, line: &str) -> Result<String, Box<dyn Error>> {
    let output = lab.output(&Target::from(target), ["sh", "-c", line])?;
    let stdout = String::from_utf8(output.stdout)?.trim().to_owned();
    if output.status.success() {
        return Ok(stdout);
    }
    Err(format!("{target}: {line}: {stdout} {}", String::from_utf8_lossy(&output.stderr)).into())
}

#[test]
fn six_hosts_are_up_in_half_a_minute() -> Done {
    const NAME: &str = "t-lab-six";
    let mut spec = spec(NAME)?;
    for n in 1..=3 {
        spec.hosts.push(host(&format!("db{n}"), &[&format!("10.0.4.1{n}")], &[])?);
    }
    image::ensure(&lab::root().join("images"), Release::Bookworm, &quiet)?;
    let _guard = Guard(NAME);
    let lab = Lab::up(&spec, &quiet)?;
    assert!(lab.status().iter().all(|h| h.power == Power::Up));
    assert!(!lab.was_up());
    assert!(Lab::up(&spec, &quiet)?.was_up());
    Ok(())
}

#[test]
fn hosts_are_reached_and_install_packages_and_nothing_leaves_the_lab() -> Done {
    const NAME: &str = "t-lab-reach";
    let _guard = Guard(NAME);
    let lab = Lab::up(&spec(NAME)?, &quiet)?;
    assert_eq!(sh(&lab, "controller", "ssh web1 'hostname; id -un; sudo -n id -u'")?, "web1\nops\n0");
    assert_eq!(sh(&lab, "controller", "ssh fd00:2::11 hostname")?, "web1");
    for address in ["10.0.1.11", "203.0.113.11", "10.0.2.11", "10.0.3.11"] {
        let line = format!("bash -c 'exec 3<>/dev/tcp/{address}/22 && head -c 4 <&3'");
        for from in ["lb1", "web1", "app1", "controller"] {
            assert_eq!(sh(&lab, from, &line)?, "SSH-", "{from} to {address}");
        }
    }
    let config = lab.dir().join("ssh_config");
    let mut ssh = Command::new("ssh");
    let output = ssh.arg("-F").arg(config).args(["web1", "hostname"]).stdin(Stdio::null()).output()?;
    assert_eq!(String::from_utf8(output.stdout)?, "web1\n");

    assert_eq!(sh(&lab, "web1", "getent hosts shop.example.com")?, "203.0.113.11    shop.example.com");
    assert!(sh(&lab, "web1", "getent hosts www.example.org").is_err());
    assert!(sh(&lab, "outside", "getent hosts www.example.org").is_err());
    assert!(sh(&lab, "outside", "timeout 2 busybox nc 198.51.100.77 80 </dev/null").is_err());

    sh(&lab, "web1", "(apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qqy install haproxy) 2>&1")?;
    assert_eq!(sh(&lab, "web1", "systemctl is-active haproxy")?, "active");

    assert_eq!(sh(&lab, "app1", &get("/healthz", ""))?, "ok");
    let answer = sh(&lab, "app1", &get("/x?y", "Host: shop\\r\\nX-Forwarded-For: 192.0.2.9\\r\\n"))?;
    let entered = nobody_else_enters(&lab)?;
    assert_eq!(entered, "");
    assert!(
        answer.starts_with("host: app1\nmethod: GET\npath: /x?y\nhost: shop\nx-forwarded-for: 192.0.2.9"),
        "{answer}"
    );
    Ok(())
}

/// What another user of this machine could do with the lab's files: nothing is what it should give.
fn nobody_else_enters(lab: &Lab) -> Result<String, Box<dyn Error>> {
    let find = |what: &str| -> Result<String, Box<dyn Error>> {
        let root = lab::root().display().to_string();
        let output = Command::new("find").args([&root, "-type", "f", "-perm", "-4000", "-path", what]).output()?;
        Ok(String::from_utf8(output.stdout)?)
    };
    // One of the image and one that somebody has put on a host.
    sh(lab, "app1", "cp /usr/bin/id /usr/local/bin/as-root && chmod 4755 /usr/local/bin/as-root")?;
    let (of_image, of_host) = (find("*/images/*")?, find("*/hosts/app1/*/as-root")?);
    assert!(of_image.contains("/bin/su") && of_host.lines().count() == 1, "{of_image}{of_host}");
    let key = lab.key().display().to_string();
    let mut entered = String::new();
    for file in of_image.lines().chain(of_host.lines()).chain([key.as_str()]) {
        let mut above = std::path::Path::new(file).ancestors().take_while(|dir| dir.starts_with(lab::root()));
        let script = "for path; do ! [ -e \"$path\" ] || [ \"$path\" = \"$ROOT\" ] || echo \"$path\"; done; \"$1\" -u 2>/dev/null; cat \"$1\" 2>/dev/null; ls \"$ROOT\" 2>/dev/null";
        let mut nobody = Command::new("setpriv");
        nobody.args(["--reuid=65534", "--regid=65534", "--clear-groups", "sh", "-c", script, "sh"]);
        nobody.args(above.by_ref()).env("ROOT", lab::root());
        entered += &String::from_utf8_lossy(&nobody.output()?.stdout);
    }
    // Nor by way of a process of its own number: there the program runs, but as who has called it.
    let program = Command::new("pgrep").args(["-u", "65534", "-f", "/usr/local/lib/lab/app.pl 8080"]).output()?;
    let mut tried = 0;
    for pid in String::from_utf8(program.stdout)?.split_whitespace() {
        let file = format!("/proc/{pid}/root/usr/local/bin/as-root");
        if !std::path::Path::new(&file).exists() {
            continue;
        }
        let nobody = ["--reuid=65534", "--regid=65534", "--clear-groups", &file, "-u"];
        let output = Command::new("setpriv").args(nobody).output()?;
        tried += 1;
        if String::from_utf8(output.stdout)?.trim() == "0" {
            entered += &file;
        }
    }
    assert!(tried > 0, "the lab's program runs");
    // And the lab's ordinary user has a number that nobody has here.
    let number = sh(lab, "web1", "id -u ops")?;
    let here = std::fs::read_to_string("/etc/passwd")?;
    assert!(here.lines().all(|line| line.split(':').nth(2) != Some(number.as_str())), "{number}");
    Ok(entered)
}

/// A shell line that prints the body of a page of the lab's program with nothing but bash.
fn get(path: &str, headers: &str) -> String {
    format!(
        "bash -c 'exec 3<>/dev/tcp/127.0.0.1/8080; printf \"GET {path} HTTP/1.0\\r\\n{headers}\\r\\n\" >&3; \
         sed \"1,/^.$/d\" <&3'"
    )
}

#[test]
fn a_reboot_clears_the_kernel_and_a_power_cut_silences_the_host() -> Done {
    const NAME: &str = "t-lab-boot";
    let _guard = Guard(NAME);
    let lab = Lab::up(&spec(NAME)?, &quiet)?;
    sh(
        &lab,
        "web1",
        "(apt-get -qq update && apt-get -qqy install nftables) 2>&1 && nft add table inet x && touch /kept",
    )?;
    let boot = "cat /proc/sys/kernel/random/boot_id";
    let before = sh(&lab, "web1", boot)?;
    lab.reboot("web1")?;
    assert_ne!(sh(&lab, "web1", boot)?, before);
    assert_eq!(sh(&lab, "web1", "nft list ruleset; ls /kept")?, "/kept");

    lab.kill("web1")?;
    assert_eq!(lab.status().iter().find(|h| h.name == "web1").map(|h| h.power), Some(Power::Off));
    assert!(matches!(lab.output(&Target::from("web1"), ["true"]), Err(lab::Error::Off(_))));
    assert!(sh(&lab, "lb1", "timeout 2 bash -c 'exec 3<>/dev/tcp/10.0.2.11/22'").is_err());
    lab.start("web1")?;
    assert_eq!(sh(&lab, "controller", "ssh web1 ls /kept")?, "/kept");
    assert!(matches!(lab.kill("nobody"), Err(lab::Error::NoHost { .. })));
    Ok(())
}

#[test]
fn another_spec_changes_only_what_is_another() -> Done {
    const NAME: &str = "t-lab-change";
    let _guard = Guard(NAME);
    let mut spec = spec(NAME)?;
    let lab = Lab::up(&spec, &quiet)?;
    let boot = "cat /proc/sys/kernel/random/boot_id";
    let before = sh(&lab, "lb1", boot)?;
    spec.hosts.retain(|h| h.name != "web1");
    spec.hosts.push(host("web2", &["fd00:2::12", "10.0.2.12"], &[])?);
    spec.names.insert("*.example.org".to_owned(), vec!["203.0.113.11".parse()?]);
    spec.avoid = vec!["192.0.2.0/24".parse()?];
    let lab = Lab::up(&spec, &quiet)?;
    assert_eq!(sh(&lab, "lb1", boot)?, before);
    assert_eq!(sh(&lab, "controller", "ssh web2 hostname")?, "web2");
    assert_eq!(sh(&lab, "lb1", "getent hosts a.example.org")?, "203.0.113.11    a.example.org");
    assert!(!lab.dir().join("hosts/web1").exists());
    Ok(())
}

/// What is left of a lab, of any kind, looked for without the lab's own eyes.
fn traces(name: &str) -> Result<Vec<String>, Box<dyn Error>> {
    let own = format!("il-{name}.");
    let mut found = Vec::new();
    for dir in ["/run/netns", "/etc/netns", "/run/systemd/nspawn", "/run/systemd/nspawn/locks"] {
        let Ok(entries) = std::fs::read_dir(dir) else { continue };
        let names = entries.flatten().map(|e| e.path().display().to_string());
        found.extend(names.filter(|n| n.contains(&own)));
    }
    for part in ["labs", "demo"] {
        let dir = lab::root().join(part).join(name);
        found.extend(dir.exists().then(|| dir.display().to_string()));
    }
    let inside = format!("labs/{name}/");
    let mounts = std::fs::read_to_string("/proc/self/mountinfo")?;
    found.extend(mounts.lines().filter(|l| l.contains(&own) || l.contains(&inside)).map(ToOwned::to_owned));
    for entry in std::fs::read_dir("/proc")?.flatten() {
        let argv = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let argv = String::from_utf8_lossy(&argv).replace('\0', " ");
        if argv.contains(&own) || argv.contains(&inside) {
            found.push(argv);
        }
    }
    // Every hierarchy of either version, whatever it is called.
    let group = format!("*/infra-lab/{name}");
    let output = Command::new("find").args(["/sys/fs/cgroup", "-type", "d", "-path", &group]).output()?;
    found.extend(String::from_utf8(output.stdout)?.lines().map(ToOwned::to_owned));
    Ok(found)
}

#[test]
fn two_labs_stand_side_by_side_one_survives_its_crash_and_neither_leaves_anything() -> Done {
    const ONE: &str = "t-lab-one";
    const TWO: &str = "t-lab-two";
    let (_one, _two) = (Guard(ONE), Guard(TWO));
    let two = Lab::up(&spec(TWO)?, &quiet)?;
    let one = Lab::up(&spec(ONE)?, &quiet)?;
    sh(&two, "web1", "touch /mine")?;
    assert!(sh(&one, "web1", "ls /mine").is_err());

    // A crash: all that the first lab runs dies at once, with no time to tidy up.
    let members = ["lb1", "web1", "app1", "outside", "controller"];
    let mut pids = String::new();
    for line in [format!("pgrep -f 'labs/{ONE}/supervise.sh'"), format!("pgrep -f 'machine=il-{ONE}\\.'")] {
        pids += &String::from_utf8(Command::new("sh").args(["-c", &line]).output()?.stdout)?;
    }
    for member in members {
        let output = Command::new("ip").args(["netns", "pids", &one.namespace(member)]).output()?;
        pids += &String::from_utf8(output.stdout)?;
    }
    Command::new("kill").arg("-9").args(pids.split_whitespace()).stderr(Stdio::null()).status()?;

    assert!(!lab::traces(ONE)?.is_empty() && !traces(ONE)?.is_empty(), "what a crash leaves is seen");
    let again = Lab::up(&spec(ONE)?, &quiet)?;
    assert!(!again.was_up());
    assert_eq!(sh(&again, "controller", "ssh web1 hostname")?, "web1");
    assert!(lab::list()?.iter().any(|n| n == ONE));
    again.down()?;
    assert_eq!(traces(ONE)?, Vec::<String>::new());
    assert_eq!(sh(&two, "controller", "ssh web1 ls /mine")?, "/mine");
    // As a person does it, after a demonstration.
    let demo = lab::root().join("demo").join(TWO);
    std::fs::create_dir_all(&demo)?;
    std::fs::copy("inventories/full.yml", demo.join("inventory.yml"))?;
    let output = Command::new(env!("CARGO_BIN_EXE_infra")).args(["lab", "down", "--name", TWO]).output()?;
    let said = String::from_utf8(output.stderr)?;
    assert!(output.status.success() && said.contains("is down, nothing of it is left"), "{said}");
    assert_eq!(traces(TWO)?, Vec::<String>::new());
    assert_eq!(lab::traces(TWO)?, Vec::<String>::new());
    assert!(!lab::down(ONE)?);
    assert!(matches!(Lab::open(ONE), Err(lab::Error::NotUp(_))));
    Ok(())
}
