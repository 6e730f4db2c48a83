//! The binary as a shell sees it: exit codes, where its words go, and what it does where nobody listens.

use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

fn infra(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_infra"));
    command.args(args).env_remove("INFRA_INVENTORY").env("NO_COLOR", "1").stdin(Stdio::null());
    command
}

fn output(args: &[&str]) -> Output {
    infra(args).output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[test]
fn a_wrong_command_line_exits_2_and_says_what_is_near() {
    let out = output(&["aply"]);
    assert_eq!(out.status.code(), Some(2));
    assert_eq!(text(&out.stdout), "");
    assert!(text(&out.stderr).contains("apply"), "{}", text(&out.stderr));
    assert_eq!(output(&[]).status.code(), Some(2));
}

#[test]
fn help_names_the_exit_codes() {
    let out = output(&["--help"]);
    assert_eq!(out.status.code(), Some(0));
    for line in ["2    the input is wrong", "5    an armed change was not confirmed", "130  interrupted"] {
        assert!(text(&out.stdout).contains(line), "{line}");
    }
}

#[test]
fn every_shell_has_a_completion_and_every_verb_a_page() {
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let out = output(&["completions", shell]);
        assert!(out.status.success() && text(&out.stdout).contains("INFRA_COMPLETE"), "{shell}");
    }
    assert!(text(&output(&["man"]).stdout).contains(".TH infra 1"));
    let dir = tempfile::tempdir().unwrap();
    let pages = dir.path().join("pages");
    assert!(output(&["man", "--to", pages.to_str().unwrap()]).status.success());
    for (page, heading) in [
        ("infra.1", ".SH EXIT STATUS\n"),
        ("infra-apply.1", ".SH EXAMPLES\n"),
        ("infra-firewall-explain.1", ".SH EXAMPLES\n"),
        ("infra-lab-up.1", ".SH EXAMPLES\n"),
    ] {
        let text = std::fs::read_to_string(pages.join(page)).unwrap();
        assert!(text.contains(heading) && !text.contains("EXTRA"), "{page}");
    }
}

/// An interactive bash ends words at `:` and `=`, and replaces no more than what stands behind these.
#[test]
fn bash_completes_whole_words() {
    let script = "PATH=$1:$PATH; source <(infra completions bash) 2>/dev/null; COMP_WORDBREAKS=$3; COMP_TYPE=9\n\
                  COMP_LINE=$2; COMP_POINT=${#2}; shift 3; COMP_WORDS=(\"$@\"); COMP_CWORD=$(($# - 1))\n\
                  _infra_whole_words infra; printf '%s\\n' \"${COMPREPLY[@]}\" | LC_ALL=C sort | tr '\\n' ' '";
    let folder = Path::new(env!("CARGO_BIN_EXE_infra")).parent().unwrap().to_str().unwrap();
    let (usual, no_colon) = (" \t\n\"'><=;|&(:", " \t\n\"'><=;|&(");
    let here = tempfile::tempdir().unwrap();
    std::fs::write(here.path().join("my inventory.yml"), "").unwrap();
    for (line, breaks, given, words) in [
        ("infra exec --limit role:w", usual, &["infra", "exec", "--limit", "role", ":", "w"][..], "web "),
        ("infra exec --limit role:", usual, &["infra", "exec", "--limit", "role", ":"], "app db lb web "),
        ("infra exec --limit=we", usual, &["infra", "exec", "--limit", "=", "we"], "web1 web2 "),
        ("infra exec --limit we", usual, &["infra", "exec", "--limit", "we"], "web1 web2 "),
        ("infra exec --limit lb1,role:a", usual, &["infra", "exec", "--limit", "lb1,role", ":", "a"], "app "),
        ("infra exec --limit=role:w", usual, &["infra", "exec", "--limit", "=", "role", ":", "w"], "web "),
        ("infra exec --limit=role:w", no_colon, &["infra", "exec", "--limit", "=", "role:w"], "role:web "),
        ("infra drain --why \"a disk\" we", usual, &["infra", "drain", "--why", "\"a disk\"", "we"], "web1 web2 "),
        ("infra check my", usual, &["infra", "check", "my"], "my\\ inventory.yml "),
        ("infra  expl", usual, &["infra", "expl"], "explain "),
    ] {
        let mut bash = Command::new("bash");
        bash.args(["--norc", "-c", script, "bash", folder, line, breaks]).args(given).current_dir(here.path());
        bash.env("INFRA_INVENTORY", concat!(env!("CARGO_MANIFEST_DIR"), "/inventories/full.yml"));
        assert_eq!(text(&bash.output().unwrap().stdout), words, "{line} {breaks:?}");
    }
}

/// What bash is told for the last of these words, as its registration asks.
fn completed(words: &str) -> String {
    completed_in(concat!(env!("CARGO_MANIFEST_DIR"), "/inventories/full.yml"), words)
}

fn completed_in(inventory: &str, words: &str) -> String {
    let words: Vec<&str> = words.split(' ').collect();
    let mut infra = infra(&[&["--"], words.as_slice()].concat());
    infra.env("INFRA_COMPLETE", "bash").env("_CLAP_COMPLETE_INDEX", (words.len() - 1).to_string());
    infra.env("_CLAP_COMPLETE_COMP_TYPE", "9").env("_CLAP_COMPLETE_SPACE", "true").env("_CLAP_IFS", "\n");
    infra.env("INFRA_INVENTORY", inventory);
    text(&infra.output().unwrap().stdout).to_owned()
}

#[test]
fn words_are_completed_from_the_inventory() {
    for (words, expected) in [
        ("infra app", "apply"),
        ("infra ssh w", "web1\nweb2"),
        ("infra explain db", "db1\ndb2"),
        ("infra explain lb1 /etc/haproxy/h", "/etc/haproxy/haproxy.cfg"),
        ("infra exec --limit role:d", "role:db"),
        ("infra exec --limit web1,!lb", "web1,!lb1\nweb1,!lb2"),
        ("infra cert revoke sh", "shop.example.com"),
        ("infra cert renew --force sh", "shop.example.com"),
        ("infra db switchover ", "db1\ndb2"),
        ("infra db seed ", "db1\ndb2"),
        ("infra db rejoin db1 --yes-wipe ", "db1\ndb2"),
        ("infra db failover w", ""),
        ("infra drain ", "app1\napp2\nweb1\nweb2"),
        ("infra undrain l", ""),
        ("infra lab exec o", "outside"),
        ("infra lab up --release n", "noble"),
        ("infra init --issuer letsencrypt-", "letsencrypt-staging"),
        ("infra retire app1 --firewall ", "open\nclosed"),
        ("infra apply --restart maria", "mariadb.service"),
        ("infra docs database.max", "database.max_lag"),
        ("infra firewall explain inter", "internet"),
        ("infra ssh nobody", ""),
    ] {
        let got = completed(words);
        assert!(got.trim_end().starts_with(expected), "{words}: {got:?}");
        assert_eq!(got.is_empty(), expected.is_empty(), "{words}: {got:?}");
    }
}

#[test]
fn files_that_may_be_accepted_are_completed() {
    let (_folder, inventory) = inventory("");
    let got = completed_in(&inventory, "infra accept web1 /etc/nginx/n");
    assert_eq!(got.trim_end(), "/etc/nginx/nginx.conf");
    let all = completed_in(&inventory, "infra accept web1 ");
    assert!(all.lines().count() > 3 && !all.lines().any(|word| word == "nginx.service"), "units are no files: {all}");
}

#[test]
fn runs_are_completed_from_the_state() {
    let (folder, inventory) = inventory("");
    for run in ["20261122T101500", "20261123T184501"] {
        let outcome = infra::fleet::event::Outcome { run: run.to_owned(), ..Default::default() };
        infra::fleet::history::save_outcome(&folder.path().join("state"), &outcome).unwrap();
    }
    for verb in ["rollback", "history"] {
        let got = completed_in(&inventory, &format!("infra {verb} 202611"));
        assert!(got.contains("20261122T101500") && got.contains("20261123T184501"), "{verb}: {got:?}");
        assert_eq!(completed_in(&inventory, &format!("infra {verb} 20261123")).trim_end(), "20261123T184501");
    }
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let mut child = infra(&["completions", "bash"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let mut words = String::new();
    child.stderr.take().unwrap().read_to_string(&mut words).unwrap();
    assert_eq!((child.wait().unwrap().code(), words.as_str()), (Some(0), ""));
}

#[test]
fn output_that_cannot_be_written_is_an_error() {
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let out = infra(&["completions", "bash"]).stdout(full).output().unwrap();
    assert_eq!(out.status.code(), Some(1));
    assert!(text(&out.stderr).starts_with("error: "), "{}", text(&out.stderr));
}

#[test]
fn a_good_inventory_is_checked_rendered_and_explained() {
    let inventory = concat!(env!("CARGO_MANIFEST_DIR"), "/inventories/three-tier.yml");
    let out = output(&["check", inventory]);
    assert_eq!(out.status.code(), Some(0), "{}", text(&out.stderr));
    assert!(text(&out.stdout).starts_with("shop: 6 hosts"), "{}", text(&out.stdout));

    let dir = tempfile::tempdir().unwrap();
    let to = dir.path().join("out");
    assert_eq!(output(&["render", inventory, "--to", to.to_str().unwrap(), "--limit", "lb1"]).status.code(), Some(0));
    assert!(to.join("lb1/etc/haproxy/haproxy.cfg").exists());
    assert!(!to.join("web1").exists());

    let out = output(&["firewall", "explain", "lb1", "web1", "8443", inventory]);
    assert!(text(&out.stdout).starts_with("lb1 -> web1 8443/tcp: allowed\n"), "{}", text(&out.stdout));
}

#[test]
fn json_is_one_event_a_line() {
    let inventory = concat!(env!("CARGO_MANIFEST_DIR"), "/inventories/three-tier.yml");
    for args in [["--json", "check", inventory], ["--json", "check", "no-such-file.yml"]] {
        let out = output(&args);
        let events: Vec<serde_json::Value> =
            text(&out.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert!(!events.is_empty() && events.iter().all(|e| e["event"].is_string()), "{args:?}: {events:?}");
        assert_eq!(text(&out.stderr), "", "{args:?}");
    }
}

#[test]
fn a_selection_that_matches_nothing_exits_2_and_touches_nothing() {
    let inventory = concat!(env!("CARGO_MANIFEST_DIR"), "/inventories/three-tier.yml");
    let out = output(&["diff", inventory, "--limit", "wbe1"]);
    assert_eq!(out.status.code(), Some(2));
    assert!(text(&out.stderr).contains("`--limit` names the host `wbe1`"), "{}", text(&out.stderr));
    assert_eq!(text(&out.stdout), "");
}

/// An inventory of one load balancer, one web and one app host, with `more` lines, in a folder of its own.
fn inventory(more: &str) -> (tempfile::TempDir, String) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("inventory.yml");
    let text = "name: shop\ncertificates: { issuer: internal }\nfirewall: { manage_from: 10.0.0.0/24 }\nsites: { shop.example.com: { app: { port: 8080 } } }\n\
                hosts:\n  lb1: { address: 10.0.1.1, roles: lb }\n  web1: { address: 10.0.1.2, roles: web }\n  \
                app1: { address: 10.0.1.3, roles: app }\n";
    std::fs::write(&path, format!("{text}{more}")).unwrap();
    let path = path.to_str().unwrap().to_owned();
    (dir, path)
}

#[test]
fn a_password_file_that_is_not_there_is_told() {
    let (dir, path) = inventory(
        "  db1: { address: 10.0.1.4, roles: db }\n  db2: { address: 10.0.1.5, roles: db }\ndatabase:\n  engine: mariadb\n  primary: db1\n  \
         schemas: shop\n  users: { shop: { schema: shop, from: app, password: { file: shop.password } } }\n",
    );
    let words = "`database/user-shop` is in `shop.password`, which is not there";
    let out = output(&["check", &path]);
    assert_eq!(out.status.code(), Some(0), "{}", text(&out.stderr));
    assert!(text(&out.stderr).contains(words), "{}", text(&out.stderr));
    std::fs::write(dir.path().join("shop.password"), "x\n").unwrap();
    let out = output(&["check", &path]);
    assert!(out.status.success() && !text(&out.stderr).contains("is not there"), "{}", text(&out.stderr));
}

#[test]
fn templates_beside_a_strangers_inventory_end() {
    let open = "{% for a in range(end=100000) %}";
    let components = (0..40)
        .map(|n| format!("{{% component c{n}() %}}{{{{ <c{0}/> }}}}{{{{ <c{0}/> }}}}{{% endcomponent c{n} %}}", n + 1))
        .collect::<Vec<_>>()
        .concat();
    for (what, text) in [
        ("a loop that prints nothing", format!("{}{}", open.repeat(4), "{% endfor %}".repeat(4))),
        (
            "a text that doubles",
            format!("{{% set s = 'xxxxxxxx' %}}{}{{{{ s | length }}}}", "{% set s = s ~ s %}".repeat(60)),
        ),
        (
            "a text that doubles in a loop",
            format!("{{% set_global s = 'xxxxxxxx' %}}{open}{{% set_global s = s ~ s %}}{{% endfor %}}"),
        ),
        (
            "a text that squares",
            format!("{{% set s = 'xxxxxxxxxx' %}}{}", "{% set s = s | replace(from='x', to=s) %}".repeat(9)),
        ),
        (
            "lists of lists",
            "{% set l = [a for a in range(end=100000)] %}{% set m = [l | join(sep='xxxxxxxx') for b in l] %}"
                .to_owned(),
        ),
        ("components", format!("{components}{{% component c40() %}}{{% endcomponent c40 %}}{{{{ <c0/> }}}}")),
    ] {
        let (dir, path) = inventory("");
        let folder = dir.path().join("templates/haproxy");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("haproxy.cfg"), text).unwrap();
        let began = Instant::now();
        let out = output(&["check", &path]);
        let said = text_of(&out.stderr);
        assert_eq!(out.status.code(), Some(2), "{what}: {said}");
        assert!(said.contains("template `haproxy/haproxy.cfg`"), "{what}: {said}");
        assert!(began.elapsed() < Duration::from_secs(40), "{what}: {:?}", began.elapsed());
    }
}

fn text_of(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn files_that_have_no_end_are_refused_by_name() {
    let (dir, path) = inventory("");
    let fifo = dir.path().join("pipe");
    assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    let fifo = fifo.to_str().unwrap();
    let big = dir.path().join("big");
    std::fs::File::create(&big).unwrap().set_len(1 << 40).unwrap();
    let big = big.to_str().unwrap();
    for (args, words) in [
        (["apply", "--yes", "--plan", "/dev/zero", &path], "it is a device"),
        (["apply", "--yes", "--plan", big, &path], "it is larger than 64 MiB"),
        (["apply", "--yes", "--plan", fifo, &path], "is not a plan that can be executed"),
        (["apply", "--yes", "--plan", "/", &path], "it is a folder"),
        (["check", "/dev/zero", "--color", "never", "-v"], "it is a device"),
        (["check", big, "--color", "never", "-v"], "is larger than 10 MiB"),
        (["check", fifo, "--color", "never", "-v"], "is empty"),
    ] {
        let began = Instant::now();
        let out = output(&args);
        let said = text_of(&out.stderr);
        assert_eq!(out.status.code(), Some(2), "{args:?}: {said}");
        assert!(said.contains(words) && said.len() < 2000, "{args:?}: {said}");
        assert!(began.elapsed() < Duration::from_secs(10), "{args:?}");
    }
    // A pipe with something in it is an inventory as any other.
    let shell = format!("cat '{path}' | '{}' check /dev/stdin", env!("CARGO_BIN_EXE_infra"));
    let out = Command::new("sh").args(["-c", &shell]).output().unwrap();
    assert_eq!(out.status.code(), Some(0), "{}", text_of(&out.stderr));
}

#[test]
fn a_state_folder_of_others_is_refused_by_name() {
    let (dir, path) = inventory("");
    let state = dir.path().join("state");
    std::fs::create_dir(&state).unwrap();
    let owned = |uid: u32| std::os::unix::fs::chown(&state, Some(uid), None).unwrap();
    let mode = |mode: u32| std::fs::set_permissions(&state, std::fs::Permissions::from_mode(mode)).unwrap();
    for (bits, uid, words) in [
        (0o700, 0, None),
        (0o755, 0, None),
        (0o770, 0, Some("may be written by other users (mode 0770)")),
        (0o702, 0, Some("may be written by other users")),
        (0o1777, 0, Some("may be written by other users")),
        (0o700, 12345, Some("belongs to another user (number 12345)")),
    ] {
        mode(bits);
        owned(uid);
        // A good one is not tried with the verbs that go out to hosts.
        for verb in if words.is_some() { ["check", "diff", "apply"].as_slice() } else { &["check"] } {
            let out = output(&[verb, &path]);
            let said = text_of(&out.stderr);
            match words {
                Some(words) => {
                    assert_eq!(out.status.code(), Some(2), "{verb} {bits:o}: {said}");
                    assert!(
                        said.contains(words) && said.contains(state.to_str().unwrap()) && said.contains("ch"),
                        "{said}"
                    );
                    assert!(std::fs::read_dir(&state).unwrap().next().is_none(), "{verb}");
                }
                None => assert_eq!(out.status.code(), Some(0), "{said}"),
            }
        }
    }
}

#[test]
fn what_hides_in_an_inventory_is_shown_as_an_escape() {
    let hides = |c: char| infra::base::visible::hides(c) && c != '\n';
    for odd in [
        '\u{80}', '\u{9b}', '\u{200e}', '\u{200f}', '\u{202a}', '\u{202e}', '\u{2066}', '\u{2069}', '\u{61c}',
        '\u{200b}',
    ] {
        let (_dir, path) = inventory(&format!(
            "  \"a{odd}\": {{ address: \"b{odd}\", roles: \"c{odd}\" }}\n\"k{odd}\": 1 # {odd}\nstate: \"{odd}\"\n"
        ));
        let number = format!("{:x}", u32::from(odd));
        let named = format!("no-such-{odd}.yml");
        for args in [
            vec!["check", &path],
            vec!["check", &path, "--color", "always"],
            vec!["check", &path, "--json"],
            vec!["check", &named],
            vec!["check", &named, "--json"],
        ] {
            let out = output(&args);
            assert_eq!(out.status.code(), Some(2), "{args:?}");
            let said = text_of(&out.stderr) + &text_of(&out.stdout);
            assert!(said.contains(&number), "{args:?}: {said:?}");
            let coloured = args.contains(&"always");
            assert!(!said.contains(|c| hides(c) && !(coloured && c == '\u{1b}')), "{args:?}: {said:?}");
        }
    }
}

#[test]
fn of_thousands_of_mistakes_the_first_hundred_are_shown() {
    let hosts = (0..3000)
        .map(|n| format!("  h{n}: {{ adress: 10.2.{}.{}, roles: [app] }}\n", n / 250, n % 250))
        .collect::<Vec<_>>()
        .concat();
    let (_dir, path) = inventory(&hosts);
    let out = output(&["check", &path]);
    let said = text_of(&out.stderr);
    assert_eq!((out.status.code(), said.matches("error: unknown key `adress`").count()), (Some(2), 100));
    assert!(said.ends_with("3000 errors, 2 warnings; the first 100 are shown\n"), "{}", &said[said.len() - 200..]);
    let out = output(&["check", &path, "--json"]);
    let lines: Vec<serde_json::Value> =
        text(&out.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 101);
    assert_eq!((&lines[100]["event"], &lines[100]["errors"]), (&"diagnostics".into(), &3000.into()));
    assert!(Path::new(&path).exists());
}

/// Nothing listens on port 1: what concerns hosts that are not selected is known before any host answers.
#[test]
fn what_a_selection_leaves_out_is_told() {
    let hosts = "hosts:
  lb1: { address: 192.0.2.10, ssh: { address: 127.0.0.1 }, roles: [lb] }
  web1: { address: 192.0.2.11, ssh: { address: 127.0.0.1 }, roles: [web] }
";
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("inventory.yml");
    let rest = "ssh: { user: root, port: 1 }
firewall: { manage_from: [198.51.100.0/24] }
sites: { shop.example.com: { static: { root: /srv/shop, prefix: / } } }
certificates: { issuer: letsencrypt, contact: ops@example.com }
";
    std::fs::write(&path, format!("name: shop\n{hosts}{rest}")).unwrap();
    let diff = |words: &[&str]| {
        let out = infra(words).args(["diff", path.to_str().unwrap()]).current_dir(folder.path()).output().unwrap();
        (out.status.code(), text_of(&out.stderr))
    };
    let left = "the certificate of shop.example.com is not ordered in this run: not all load balancers are selected";
    let (code, said) = diff(&["--limit", "web1"]);
    assert!(code == Some(4) && said.contains(left) && !said.contains("then: "), "{code:?}: {said}");
    let (code, said) = diff(&[]);
    // Nobody answered, so there is no plan, and no order in it.
    assert!(
        code == Some(4) && !said.contains(left) && said.contains("so there is no plan: lb1, web1"),
        "{code:?}: {said}"
    );
    let restart = |limit| {
        let words = ["diff", "--limit", limit, "--restart", "haproxy", path.to_str().unwrap()];
        let out = infra(&words).current_dir(folder.path()).output().unwrap();
        (out.status.code(), text_of(&out.stderr))
    };
    let (code, said) = restart("web1");
    assert!(
        code == Some(2) && said.contains("`--restart haproxy.service` names a unit that infra keeps on none"),
        "{said}"
    );
    let (code, said) = restart("lb1");
    assert!(code == Some(4) && said.contains("`--restart haproxy.service` changes nothing: "), "{said}");
}

/// Nothing listens on port 1: a password that cannot be one is refused before any host is asked, and is not shown.
#[test]
fn a_wrong_password_file_is_told_before_any_host_is_asked() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("inventory.yml");
    let inventory = "name: shop
hosts:
  db1: { address: 192.0.2.10, ssh: { address: 127.0.0.1 }, roles: [db] }
  db2: { address: 192.0.2.11, ssh: { address: 127.0.0.1 }, roles: [db] }
ssh: { user: root, port: 1 }
firewall: { manage_from: [198.51.100.0/24] }
certificates: { issuer: internal }
database:
  engine: mariadb
  primary: db1
  schemas: [shop]
  users: { shop: { schema: shop, from: db, password: { file: shop.password } } }
";
    std::fs::write(&path, inventory).unwrap();
    let diff = |content: Option<&[u8]>| {
        if let Some(content) = content {
            std::fs::write(folder.path().join("shop.password"), content).unwrap();
        }
        let out = infra(&["diff", path.to_str().unwrap()]).current_dir(folder.path()).output().unwrap();
        (out.status.code(), text_of(&out.stderr))
    };
    for (content, words) in [
        (None, "/shop.password`, which cannot be read: No such file"),
        (Some(&b"\n"[..]), "`database/user-shop` is empty"),
        (Some(b"s3cr3t\nand another line\n"), "`database/user-shop` has a line break"),
        (Some(b"s3cr3t\xff"), "it is not UTF-8 text"),
    ] {
        let (code, said) = diff(content);
        assert!(code == Some(2) && said.contains(words) && !said.contains("s3cr3t"), "{words}: {code:?}: {said}");
    }
    let (code, said) = diff(Some(b"s3cr3t-and-long-enough\n"));
    assert!(code == Some(4) && !said.contains("s3cr3t"), "{code:?}: {said}");
}

/// Words that are no person's mistake alone: a folder of other things as the state, runs that do not read, a `--limit` that means nothing.
#[test]
fn what_would_go_wrong_unsaid_is_told() {
    let (folder, path) = inventory("");
    let at = |name: &str| folder.path().join(name);
    std::fs::create_dir_all(at("machine/ssh")).unwrap();
    std::os::unix::fs::symlink("machine", at("state")).unwrap();
    for words in [&["check"][..], &["diff"], &["apply", "--yes"], &["history", "--local"]] {
        let out = infra(words).arg(&path).output().unwrap();
        assert_eq!(out.status.code(), Some(2), "{words:?}");
        assert!(text(&out.stderr).contains("is a folder of other things (ssh)"), "{words:?}: {}", text(&out.stderr));
    }
    assert_eq!(std::fs::read_dir(at("machine")).unwrap().count(), 1, "nothing is written there");
    std::fs::remove_file(at("state")).unwrap();
    std::fs::create_dir_all(at("state/runs")).unwrap();
    let last = |words: &[&str]| {
        let out = infra(words).arg(&path).output().unwrap();
        (out.status.code(), text_of(&out.stderr))
    };
    let (code, said) = last(&["diff", "--limit", "failed"]);
    assert!(code == Some(2) && said.contains("state/runs` tells of none"), "{said}");
    std::fs::write(at("state/runs/20261122T101500.json"), "{bad").unwrap();
    let (code, said) = last(&["diff", "--limit", "failed"]);
    assert!(code == Some(2) && said.contains("20261122T101500.json` does not read"), "{said}");
    let (code, said) = last(&["history", "--local"]);
    assert!(code == Some(0) && said.contains("20261122T101500.json` does not read"), "{said}");
    let (code, said) = last(&["drain", "--limit", "app1", "web1"]);
    assert!(code == Some(2) && said.contains("`--limit` cannot be given with `drain`"), "{said}");
}
