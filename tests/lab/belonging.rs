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
    let bench = Bench::up("t-belonging", INVENTORY, Release::Bookworm);
    // Nothing but the way to lb1 and web2 is open from the controller.
    let config = "old=$(cat /etc/ssh/ssh_config) && printf 'Host web1 app1\\n  ProxyJump lb1\\n%s\\n' \"$old\" >/etc/ssh/ssh_config";
    bench.sh("controller", config).expect(0);
    behind_a_host(&bench);
    one_that_left(&bench);
    of_another(&bench);
    println!("{} s", began.elapsed().as_secs());
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

fn one_that_left(bench: &Bench) {
    let certificates = || bench.sh("web2", "sha256sum /etc/nginx/tls/*").expect(0).out;
    let before = certificates();
    let line = "  web2: { address: 10.0.2.12, roles: [web] }\n";
    bench.edit(line, "");
    let words = "web2 is not in the inventory any more: it stays as infra left it";
    assert!(bench.infra(&["diff"]).expect(3).err.contains(words));
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
