//! `infra init` as a shell sees it: what it writes passes `check`, what is there stays, and what is wrong is told with its flag or file.
#![expect(clippy::unwrap_used, reason = "a test")]

use std::path::Path;
use std::process::{Command, Stdio};

fn infra(folder: &Path, args: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_infra"));
    command.args(args).current_dir(folder).env_remove("INFRA_INVENTORY").env_remove("INFRA_STATE").env("NO_COLOR", "1");
    let out = command.env("HOME", folder).stdin(Stdio::null()).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (out.status.code().unwrap(), text(&out.stdout), text(&out.stderr))
}

const SITE: [&str; 4] = ["--domain", "shop.example.com", "--manage-from", "198.51.100.0/24"];

/// Runs `init` in a folder with these files, and `check` after it; gives the inventory and what `init` said.
fn written(files: &[(&str, &str)], args: &[&str]) -> (String, String) {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    let (code, _, said) = infra(folder.path(), &[&["init"], args, &SITE].concat());
    assert_eq!(code, 0, "{args:?}: {said}");
    let text = std::fs::read_to_string(folder.path().join("inventory.yml")).unwrap();
    let (code, _, words) = infra(folder.path(), &["check"]);
    assert_eq!(code, 0, "{words}\n{text}");
    assert!(said.contains("infra check inventory.yml") && said.contains("infra diff inventory.yml"), "{said}");
    assert!(std::fs::read_to_string(folder.path().join(".gitignore")).unwrap().contains("state/\n"));
    (text, said)
}

#[test]
fn flags_make_an_inventory_that_passes() {
    let all = ["--lb", "203.0.113.10", "--web", "10.0.2.11,10.0.2.12", "--app", "10.0.3.11", "--db", "10.0.4.11"];
    let (text, _) = written(&[], &[&all[..], &["--user", "ops", "--contact", "ops@example.com"]].concat());
    for line in [
        "name: shop ",
        "ssh: { user: ops }",
        "  lb1:  { address: 203.0.113.10, roles: [lb], public: 203.0.113.10 }",
        "  web2: { address: 10.0.2.12, roles: [web] }",
        "    app: { port: 8080, health: / }",
        "  issuer: letsencrypt\n  contact: ops@example.com",
        "  primary: db1 ",
        "    shop: { schema: shop, from: app }",
        "  manage_from: [198.51.100.0/24]",
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
    let (text, _) = written(&[], &["--single", "192.0.2.10", "--issuer", "internal", "--name", "startup"]);
    assert!(text.contains("roles: [lb, web, app]") && text.contains("allow_mixed_roles: \"one machine"), "{text}");
    assert!(text.contains("issuer: internal"), "{text}");
    // A site of files alone, in IPv6.
    let (text, _) = written(&[], &["--lb", "fd00::1", "--web", "fd00::2", "--manage-from", "fd00:9::/64"]);
    assert!(text.contains("static: { root: /srv/shop }") && text.contains("\"fd00::2\""), "{text}");
}

#[test]
fn hosts_come_from_ansible_and_from_the_ssh_configuration() {
    let ini = "[loadbalancers]\nlb[1:2].example.com ansible_port=2222\n[loadbalancers:vars]\nx=y\n[fe]\nweb1 ansible_user=root\n\
               [office]\nprinter ansible_host=10.9.9.9\n[all:vars]\nansible_user=deploy\nansible_ssh_private_key_file=~/.ssh/deploy\nansible_become_pass=geheim\n";
    let ini = ini.replace("lb[1:2].example.com", "lb1.example.com ansible_host=10.0.1.11");
    let (text, said) = written(
        &[
            ("hosts.ini", &ini),
            ("group_vars/all.yml", ""),
            ("group_vars/fe/ways.yml", "---\nansible_port: 2022\nansible_ssh_pass: geheim\nansible_user: nobody\n"),
            ("group_vars/fe/vault.yml", "$ANSIBLE_VAULT;1.1;AES256\n3361\n"),
            ("group_vars/fe/notes.txt", "geheim: ["),
            ("host_vars/web1.yml", "ansible_host: 10.0.2.11\n"),
        ],
        &["--from-ansible", "hosts.ini", "--map", "fe=web"],
    );
    for line in [
        "ssh: { identity: ~/.ssh/deploy }",
        "  lb1:  { address: 10.0.1.11, roles: [lb], ssh: { user: deploy, port: 2222 } }",
        "  web1: { address: 10.0.2.11, roles: [web], ssh: { user: root, port: 2022 } }",
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
    assert!(!text.contains("geheim") && !text.contains("10.9.9.9"), "{text}");
    for words in [
        "loadbalancers=lb",
        "1 host left out, as no group says a role: printer",
        "vault.yml is encrypted by ansible-vault",
    ] {
        assert!(said.contains(words), "{words}\n{said}");
    }
    let config = "Host *\n  User ops\nHost lb1\n  HostName 10.0.1.11\nHost web1 web2\n  Port 2222\nHost web1\n  HostName 10.0.2.11\nHost web2\n  \
                  HostName 10.0.2.12\nHost github.com\n";
    let (text, said) = written(&[("ssh.conf", config)], &["--from-ssh-config=ssh.conf"]);
    assert!(text.contains("  web2: { address: 10.0.2.12, roles: [web] }"), "{text}");
    assert!(said.contains("1 host left out, as nothing says a role: github.com"), "{said}");
    // What the file says of them goes on to hold, as the inventory names it.
    assert!(text.contains("/ssh.conf }"), "{text}");
    // As ssh reads it: files that are included, quotes, and what stands behind `#`.
    let more = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(more.path(), "Host lb1\n  HostName 10.0.1.11\n").unwrap();
    let config = format!("Include {}\nHost \"web1\" # the first\n  HostName 10.0.2.11\n", more.path().display());
    let (text, said) = written(&[("ssh.conf", &config)], &["--from-ssh-config=ssh.conf"]);
    assert!(text.contains("  lb1:  { address: 10.0.1.11") && text.contains("  web1: { address: 10.0.2.11"), "{text}");
    assert!(!said.contains("left out"), "{said}{text}");
    // What is not taken over is told.
    let ini = "[lb]\nlb1 ansible_host=10.0.1.11 ansible_ssh_common_args='-Jops@b -o ProxyCommand=x' ansible_become=no\n\
               [web]\nweb1 ansible_host=10.0.2.11\nweb2 ansible_host=10.0.2.12 ansible_connection=winrm\n";
    let (text, said) = written(&[("hosts.ini", ini)], &["--from-ansible", "hosts.ini"]);
    assert!(text.contains("jump: ops@b") && !text.contains("web2"), "{text}");
    for words in [
        "lb1: `-o ProxyCommand` of `ansible_ssh_common_args` is not taken over",
        "lb1: Ansible does not become root there",
        "1 host left out, as Ansible does not reach them by SSH: web2 (winrm)",
    ] {
        assert!(said.contains(words), "{words}\n{said}");
    }
}

#[test]
fn what_git_ignores_is_read_as_git_does() {
    for (text, out) in [
        ("state/\n", true),
        ("/state\n", true),
        ("**/state/\n", true),
        ("*\n", true),
        ("state/\n!state/\n", false),
        ("*\n!state\n", false),
        ("state/*\n!state/ca.key\n", false),
        ("!state/\nstate/\n", true),
        ("# state/\n", false),
    ] {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(".gitignore"), text).unwrap();
        let (code, _, said) =
            infra(folder.path(), &[&["init", "--lb", "10.0.1.11", "--web", "10.0.2.11"], &SITE[..]].concat());
        assert_eq!((code, said.contains("out of git already")), (0, out), "{text:?}: {said}");
    }
}

#[test]
fn nothing_is_overwritten_and_what_is_wrong_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name);
    std::fs::write(file("there.yml"), "mine").unwrap();
    std::fs::write(file(".gitignore"), "target\n").unwrap();
    std::fs::write(
        file("hosts.ini"),
        "[web]\nweb1 ansible_host=10.0.2.11\nweb2 ansible_host=nowhere.invalid\n[lb]\nlb1 ansible_host=10.0.1.1\n",
    )
    .unwrap();
    std::fs::write(file("vault.ini"), "$ANSIBLE_VAULT;1.1;AES256\n616263\n").unwrap();
    std::fs::write(file("port.ini"), "[web]\nweb1 ansible_host=10.0.2.11 ansible_port=abc\n").unwrap();
    std::fs::write(file("bad.conf"), "Host web1\n  HostName 10.0.2.11\n  Prot 2222\n").unwrap();
    std::fs::write(file("none.conf"), "Host web*\n  User ops\n").unwrap();
    let two = ["--lb", "10.0.1.11", "--web", "10.0.2.11"];
    for (args, words) in [
        (&[&two[..], &SITE, &["there.yml"]].concat()[..], "`there.yml` is there already"),
        (&[&two[..], &SITE, &["none/new.yml"]].concat(), "cannot be written"),
        (&["--lb", "10.0.1.11"], "add `--domain shop.example.com`"),
        (
            &["--lb", "10.0.1.11", "--domain", "a.example.com", "--manage-from", "10.0.0.0/24"],
            "add `--web ADDRESS`, or `--single ADDRESS`",
        ),
        (
            &[&["--lb", "10.0.1.11", "--web", "10.0.1.11"][..], &SITE].concat(),
            "`10.0.1.11` is given for `lb1` and for `web1`",
        ),
        (&[&["--lb", "10.0.1.11", "--web", "fd00::1"][..], &SITE].concat(), "only IPv4"),
        (&[&["--lb", "169.254.0.1", "--web", "10.0.2.11"][..], &SITE].concat(), "--lb <ADDRESS>"),
        (&[&two[..], &SITE, &["--issuer", "letsencypt"]].concat(), "did you mean `letsencrypt`"),
        (&[&two[..], &SITE, &["--user", "a b"]].concat(), "`--user`: `a b` is not a user name"),
        (&[&two[..], &SITE, &["--app", "10.0.3.1", "--health", "x"]].concat(), "`--health`: `health` is not a path"),
        (&[&two[..], &SITE, &["--contact", "nomail"]].concat(), "`--contact`: `nomail` is not a mail address"),
        (&[&two[..], &SITE, &["--health", "/x"]].concat(), "`--health` is about your program"),
        (&[&two[..], &SITE, &["--app-port", "81"]].concat(), "`--app-port` is about your program"),
        (&[&two[..], &SITE, &["--engine", "mysql"]].concat(), "`--engine` is about a database"),
        (
            &[&two[..], &SITE, &["--issuer", "internal", "--contact", "a@b.example"]].concat(),
            "the internal CA has none",
        ),
        (&[&["--from-ansible", "vault.ini"][..], &SITE].concat(), "is encrypted by ansible-vault"),
        (&[&["--from-ansible", "port.ini"][..], &SITE].concat(), "the host `web1` of `port.ini` has `abc` as its port"),
        (&[&["--from-ssh-config=bad.conf"][..], &SITE].concat(), "ssh does not take `bad.conf`"),
        (&[&["--from-ssh-config=none.conf"][..], &SITE].concat(), "`none.conf` has no block of a host"),
        (&[&two[..], &SITE, &["--map", "a=web"]].concat(), "`--map` says which role"),
        (&[&["--from-ansible", "hosts.ini"][..], &SITE].concat(), "the host `web2` of `hosts.ini` has no address"),
        (&[&["--from-ansible", "hosts.ini", "--map", "wbe=web"][..], &SITE].concat(), "did you mean `web`?"),
        (&[&["--from-ansible", "none.ini"][..], &SITE].concat(), "`none.ini` cannot be read"),
    ] {
        let (code, out, said) = infra(folder.path(), &[&["init"], args].concat());
        assert_eq!((code, out.as_str()), (2, ""), "{args:?}: {said}");
        assert!(said.contains(words), "{args:?}: {said}");
        assert!(!file("inventory.yml").exists(), "{args:?}");
    }
    assert_eq!(std::fs::read_to_string(file("there.yml")).unwrap(), "mine");
    let (code, _, said) = infra(folder.path(), &[&["init"], &two[..], &SITE].concat());
    assert!(code == 0 && said.contains("add `state/` to"), "{said}");
    assert_eq!(std::fs::read_to_string(file(".gitignore")).unwrap(), "target\n");
}

/// `ssh` goes by the account's home, whatever `HOME` says, and so do we.
#[test]
fn another_home_leads_to_no_other_ssh_configuration() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join(".ssh")).unwrap();
    std::fs::write(folder.path().join(".ssh/config"), "Host strange-web1\n HostName 192.0.2.1\n").unwrap();
    let (_, _, said) = infra(folder.path(), &[&["init", "--from-ssh-config"], &SITE[..]].concat());
    assert!(!said.contains("strange-web1"), "{said}");
}

/// By `script`(1), which gives a terminal: what does not read is asked again, and what is usual needs no answer.
#[test]
fn a_person_is_asked_until_the_answer_reads() {
    use std::io::Write as _;
    let folder = tempfile::tempdir().unwrap();
    let command = format!("'{}' init --manage-from 198.51.100.0/24", env!("CARGO_BIN_EXE_infra"));
    let mut script = Command::new("script");
    script
        .args(["-qec", &command, "/dev/null"])
        .current_dir(folder.path())
        .env("TERM", "xterm")
        .env_remove("INFRA_INVENTORY");
    let mut child = script.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let answers = b"shop\nshop.example.com\n\nma\xffybe\nmaybe\nn\n10.0.1.300\n203.0.113.10, 203.0.113.11\n\n10.0.2.11\n\n\nroot user\nroot\n\n";
    child.stdin.take().unwrap().write_all(answers).unwrap();
    let out = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&out.stdout).into_owned();
    assert_eq!(out.status.code(), Some(0), "{said}");
    for words in [
        "`shop` has one label only; once more",
        "`10.0.1.300` is not an IPv4",
        "at least one is needed",
        "this answer is not UTF-8 text; once more",
        "`maybe` is neither yes nor no",
        "`root user` is not a user name",
    ] {
        assert!(said.contains(words), "{words}\n{said}");
    }
    let text = std::fs::read_to_string(folder.path().join("inventory.yml")).unwrap();
    for line in [
        "name: shop ",
        "ssh: { user: root }",
        "  lb2:  { address: 203.0.113.11",
        "contact: hostmaster@shop.example.com",
        "static: {",
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
}
