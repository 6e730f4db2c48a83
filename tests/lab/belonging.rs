//! To whom hosts belong and how they are reached: inner hosts behind a load balancer that only the ssh configuration names, a host
//! that leaves the inventory and comes back, and hosts of another infrastructure.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a test")]

#[path = "../common/bench.rs"]
mod bench;

use std::time::Instant;

use bench::Bench;
use infra::lab::Release;

/// web2 alone is reached directly.
const INVENTORY: &str = "name: shop
ssh: { user: ops, become: sudo }
hosts:
  lb1:  { address: 10.0.1.11, roles: [lb], public: 203.0.113.11 }
  web1: { address: 10.0.2.11, roles: [web] }
  web2: { address: 10.0.2.12, roles: [web] }
  app1: { address: 10.0.3.11, roles: [app] }
firewall: { manage_from: [10.0.0.0/24] }
sites:
  shop.example.com: { app: { port: 8080, health: / } }
certificates: { issuer: internal }
";

#[test]
fn hosts_behind_a_host_hosts_that_left_and_hosts_of_others() {
    let began = Instant::now();
    let config = "old=$(cat /etc/ssh/ssh_config) && printf 'Host web1 app1\\n  ProxyJump lb1\\n%s\\n' \"$old\" >/etc/ssh/ssh_config";
    let up = |name: &str| {
        let bench = Bench::up(name, INVENTORY, Release::Bookworm);
        // Nothing but the way to lb1 and web2 is open from the controller.
        bench.sh("controller", config).expect(0);
        bench
    };
    another_door(&up("t-door"));
    let bench = up("t-belonging");
    behind_a_host(&bench);
    keys_that_nobody_knows(&bench);
    by_hand(&bench);
    past_runs(&bench);
    one_that_left(&bench);
    of_another(&bench);
    println!("{} s", began.elapsed().as_secs());
}

/// Entered at another port than the rules would open: it is refused before anything is changed, however it comes about.
fn another_door(bench: &Bench) {
    let find = "sed -n 's/.*UserKnownHostsFile \"\\(.*\\)\"/\\1/p' /etc/ssh/ssh_config | head -n 1";
    let known = bench.sh("controller", find).expect(0).out.trim().to_owned();
    let real = std::fs::read_to_string(&known).unwrap();
    let web2 = real.lines().filter(|line| line.split([',', ' ']).next() == Some("web2"));
    let more = web2.map(|line| format!("[web2]:2222,[10.0.2.12]:2222 {}\n", line.split_once(' ').unwrap().1));
    std::fs::write(&known, real.clone() + &more.collect::<String>()).unwrap();
    let config = bench.sh("controller", "cat /etc/ssh/ssh_config").expect(0).out;
    bench
        .sh(
            "controller",
            "old=$(cat /etc/ssh/ssh_config) && printf 'Host web2\\n  Port 2222\\n%s\\n' \"$old\" >/etc/ssh/ssh_config",
        )
        .expect(0);
    let refused = |words: [&str; 2]| {
        for command in [&["diff"][..], &["apply", "--yes"]] {
            let said = bench.infra(command);
            let all = words.iter().all(|words| said.err.contains(words));
            assert!(said.code != 0 && all, "{words:?}: {}{}", said.out, said.err);
        }
        bench.on_each(&["lb1", "web1", "web2", "app1"], "! test -e /etc/infra");
    };
    bench.sh("web2", "sed -i '1i Port 22\\nPort 2222' /etc/ssh/sshd_config && systemctl restart ssh").expect(0);
    refused([
        "web2 is entered by SSH at port 2222, and its rules open SSH at 22",
        "write `ssh: { port: 2222 }` into the inventory too",
    ]);
    // A translation on the way, and the inventory says what is dialled.
    bench.sh("web2", "sed -i '/^Port /d' /etc/ssh/sshd_config && systemctl restart ssh").expect(0);
    let translate = "table ip door { chain out { type nat hook output priority -100; ip daddr 10.0.2.12 tcp dport 2222 dnat to 10.0.2.12:22; }; }";
    bench.sh("controller", &format!("nft '{translate}'")).expect(0);
    let (plain, ported) =
        ("address: 10.0.2.12, roles: [web] }", "address: 10.0.2.12, roles: [web], ssh: { port: 2222 } }");
    bench.edit(plain, ported);
    refused([
        "web2 is entered by SSH at port 22, and its rules open SSH at 2222",
        "something translates the port on the way",
    ]);
    bench.edit(ported, plain);
    bench.sh("controller", "nft delete table ip door").expect(0);
    std::fs::write(&known, real).unwrap();
    bench.sh("controller", &format!("cat >/etc/ssh/ssh_config <<'END'\n{config}END")).expect(0);
}

fn behind_a_host(bench: &Bench) {
    let said = bench.apply().expect(0);
    println!("{}{}", said.out, said.err);
    assert!(said.err.contains("app1, web1 are reached through lb1"), "{}", said.err);
    // Each look is by new connections, through the rules of lb1 and of the host behind it.
    assert!(bench.apply().expect(0).out.contains("nothing to do"));
    let matrix = bench.infra(&["firewall", "matrix", "--json"]).expect(0).out;
    assert_eq!(matrix.matches("management through lb1").count(), 2, "{matrix}");
    assert!(bench.infra(&["firewall", "verify"]).expect(0).out.contains("exactly what is declared"));
}

/// The keys of all hosts, two of them behind another one, compared with a file and with a console.
fn keys_that_nobody_knows(bench: &Bench) {
    let find = "sed -n 's/.*UserKnownHostsFile \"\\(.*\\)\"/\\1/p' /etc/ssh/ssh_config | head -n 1";
    let real = std::fs::read_to_string(bench.sh("controller", find).expect(0).out.trim()).unwrap();
    let file = |name: &str| bench.dir.path().join(name);
    let own = format!("UserKnownHostsFile \"{}\"", file("known").display());
    let config = format!("old=$(cat /etc/ssh/ssh_config) && printf '%s\\n%s\\n' '{own}' \"$old\" >/etc/ssh/ssh_config");
    bench.sh("controller", &config).expect(0);
    let said = bench.infra(&["trust", "--all"]).expect(2);
    assert_eq!(said.out.matches("not known").count(), 2, "{}{}", said.out, said.err);
    assert!(said.err.contains("--known FILE") && !file("known").exists(), "{}", said.err);
    // Somebody has put another host's keys in the place of web2's.
    let keys = |host: &str| -> Vec<String> {
        let lines = real.lines().filter(|line| line.split([',', ' ']).next() == Some(host));
        lines.map(|line| line.split_once(' ').unwrap().1.to_owned()).collect()
    };
    let mut wrong = real.clone();
    for (web2, lb1) in keys("web2").iter().zip(keys("lb1")) {
        wrong = wrong.replace(web2, &lb1);
    }
    std::fs::write(file("scan"), &wrong).unwrap();
    let said = bench.infra(&["trust", "--all", "--known", "scan"]).expect(1);
    println!("{}{}", said.out, said.err);
    assert_eq!(said.out.matches("as compared").count(), 3, "{}{}", said.out, said.err);
    assert!(said.out.lines().any(|line| line.contains("web2") && line.contains("changed")), "{}", said.out);
    assert!(!std::fs::read_to_string(file("known")).unwrap().contains("10.0.2.12"));
    let console = |host: &str| {
        let keys = keys(host).join(" root@x\r\nec2: ");
        let text = format!("-----BEGIN SSH HOST KEY KEYS-----\r\nec2: {keys}\r\n-----END SSH HOST KEY KEYS-----\r\n");
        std::fs::write(file("console.log"), text).unwrap();
    };
    console("lb1");
    bench.infra(&["trust", "--all", "--console", "web2=console.log"]).expect(1);
    console("web2");
    bench.infra(&["trust", "--all", "--console", "web1=console.log"]).expect(1);
    let said = bench.infra(&["trust", "--all", "--json", "--console", "web2=console.log"]).expect(0);
    assert!(said.out.contains("\"confirmed\""), "{}", said.out);
    let said = bench.infra(&["trust", "--all", "inventory.yml"]).expect(0);
    assert!(said.err.contains("4 hosts known already, 0 accepted"), "{}", said.err);
    assert!(bench.infra(&["diff"]).expect(0).out.contains("nothing to do"));
}

/// Commands of a person's own.
fn by_hand(bench: &Bench) {
    let said = bench.infra(&["exec", "--sudo", "--", "id -u"]).expect(0);
    assert_eq!(said.out, "app1, lb1, web1, web2: done\n  0\n");
    assert_eq!(said.err.matches("shows as drift").count(), 1, "{}", said.err);
    let said =
        bench.infra(&["exec", "--limit", "role:web", "--", "sh", "-c", "cat; id -un; echo \"a  b\" >&2"]).expect(0);
    assert_eq!(said.out, "web1, web2: done\n  ops\n  stderr: a  b\n");
    let said = bench.infra(&["exec", "--json", "--limit", "lb1,web1", "--", "test \"$(hostname)\" = lb1"]).expect(1);
    assert!(said.out.contains("[\"lb1\"]") && said.out.contains("\"code\":1"), "{}", said.out);
    for (command, words) in [("sleep 30", "took longer than 2 s"), ("yes", "more than 1 MiB")] {
        let said = bench.infra(&["exec", "--limit", "lb1", "--timeout", "2", "--", command]).expect(1);
        assert!(said.out.contains(words), "{command}: {}", said.out);
    }
    // By way of lb1, as the configuration of ssh says.
    let said = bench.infra(&["ssh", "web1", "--", "id -un; hostname; exit 7"]).expect(7);
    assert!(said.out == "ops\nweb1\n" && said.err.contains("shows as drift"), "{}{}", said.out, said.err);
    assert!(bench.infra(&["ssh", "web3"]).expect(2).err.contains("did you mean `web"));
    assert!(bench.infra(&["ssh", "web1", "uptime"]).expect(2).err.contains("infra ssh web1 -- uptime"));
}

/// What was run is told by the hosts too.
fn past_runs(bench: &Bench) {
    let (runs, kept) = (bench.dir.path().join("state/runs"), bench.dir.path().join("state/kept"));
    let said = bench.infra(&["history"]).expect(0);
    println!("{}", said.out);
    assert!(
        said.out.contains("  infra apply --yes\n") && said.out.contains("app1, lb1, web1, web2: changed\n"),
        "{}",
        said.out
    );
    std::fs::rename(&runs, &kept).unwrap();
    assert!(bench.infra(&["history", "--local"]).expect(0).out.contains("no host was asked"));
    let said = bench.infra(&["history", "inventory.yml"]).expect(0);
    println!("{}", said.out);
    assert!(said.out.contains(" UTC by ") && said.out.contains("  infra apply --yes\n"), "{}", said.out);
    assert!(said.out.contains("phases done"), "{}", said.out);
    let run = said.out.split_whitespace().next().unwrap();
    let said = bench.infra(&["history", run.split('-').next().unwrap()]).expect(0);
    assert!(
        said.out.contains("app1, journal:") && said.out.contains("only the hosts tell of this run"),
        "{}",
        said.out
    );
    bench.infra(&["history", run, "--json"]).expect(0);
    bench.infra(&["history", "20200101T000000"]).expect(2);
    std::fs::rename(&kept, &runs).unwrap();
    // The plan itself is the controller's to tell.
    let said = bench.infra(&["history", run]).expect(0);
    assert!(said.out.contains("  plan ") && said.out.contains("  the plan:\n    plan for "), "{}", said.out);
}

fn one_that_left(bench: &Bench) {
    let certificates = || bench.sh("web2", "sha256sum /etc/nginx/tls/*").expect(0).out;
    let before = certificates();
    let line = "  web2: { address: 10.0.2.12, roles: [web] }\n";
    bench.edit(line, "");
    let words = "web2 is not in the inventory any more: it stays as infra left it";
    assert!(bench.infra(&["diff"]).expect(3).err.contains(words));
    let comment = bench.infra(&["diff", "--markdown"]).expect(3).out;
    assert!(comment.starts_with("**plan for shop: 3 hosts") && comment.contains("<details>"), "{comment}");
    let said = bench.apply().expect(0);
    assert!(said.err.contains(words), "{}", said.err);
    assert!(!said.out.contains("/etc/nginx/tls/"), "{}", said.out);
    assert!(!bench.infra(&["diff"]).expect(0).err.contains("web2"));
    bench.edit("  app1:", &format!("{line}  app1:"));
    bench.apply().expect(0);
    assert_eq!(certificates(), before);
}

fn of_another(bench: &Bench) {
    let manifests = || bench.on_each(&["lb1", "web1", "app1"], "cat /var/lib/infra/manifest");
    let before = manifests();
    assert!(before.iter().all(|text| text.starts_with("owner shop /var/lib/infra/manifest\n")), "{before:?}");
    // Others, with ports of their own, on the same hosts.
    let text = std::fs::read_to_string(bench.inventory()).unwrap();
    let text = text.replace("name: shop\n", "name: blog\nports: { web: 8445, app: 9445 }\nstate: blog-state\n");
    std::fs::write(bench.dir.path().join("blog.yml"), text).unwrap();
    for (words, code) in [
        (&["diff", "blog.yml"][..], 1),
        (&["apply", "blog.yml", "--yes"], 2),
        (&["apply", "blog.yml", "--yes", "--adopt", "other"], 2),
    ] {
        let said = bench.infra(words).expect(code);
        let refused = "web1 is left alone: it belongs to the infrastructure `shop`, and this inventory is `blog`";
        assert!(said.err.contains(refused) && said.err.contains("`--adopt shop`"), "{}", said.err);
        assert!(!said.out.contains("/etc/"), "{}", said.out);
    }
    assert_eq!(manifests(), before);
    let said = bench.infra(&["apply", "blog.yml", "--yes", "--adopt", "shop"]).expect(0);
    println!("{}{}", said.out, said.err);
    assert!(manifests().iter().all(|text| text.starts_with("owner blog ") && !text.contains("shop-web")));
    assert!(bench.infra(&["diff", "blog.yml"]).expect(0).out.contains("nothing to do"));
    let said = bench.infra(&["diff"]).expect(1);
    assert!(said.err.contains("it belongs to the infrastructure `blog`"), "{}", said.err);
}
