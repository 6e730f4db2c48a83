//! What happens to a renewal when machines fail around it: two controllers, a holder that dies, load balancers that are gone
//! before or in the middle of it, full disks, and a `HAProxy` that does not start again. The CA is well all the time.
#![expect(clippy::unwrap_used, reason = "a test")]

#[path = "../common/bench.rs"]
mod bench;
#[path = "../common/checks.rs"]
mod checks;
#[path = "../common/strange.rs"]
mod strange;
#[path = "../common/world.rs"]
mod world;

use std::process::{Child, Output, Stdio};
use std::time::Duration;

use bench::{Bench, Said, wait};
use checks::Check;
use serde_json::json;
use world::{LBS, SITE, World};

#[test]
fn whatever_machine_fails_no_order_is_lost_and_the_next_run_ends_right() {
    let world = World::up("t-hostile-hosts");
    let all: [Check<World>; 9] = [
        ("two controllers at once", two_at_once),
        ("a holder that dies", the_holder_dies),
        ("a link that breaks without a word", the_link_breaks),
        ("a load balancer that is down before", down_before),
        ("a load balancer that is gone at install", down_at_install),
        ("a full disk on the controller", controller_full),
        ("a full disk on a load balancer", lb_full),
        ("a new worker that does not start", no_new_worker),
        ("nothing secret was told", World::nothing_secret_was_told),
    ];
    checks::run(&world, &all, World::mend);
}

fn spawn(bench: &Bench, words: &[&str]) -> Child {
    bench.infra_command(words).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

fn words(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// Row «two controllers»: two processes over one state, and both see that it is due.
fn two_at_once(world: &World) {
    let (leaf, orders) = (world.leaf(), world.ca.orders());
    world.due(SITE);
    let runs = [(); 2].map(|()| spawn(&world.bench, &["cert", "renew"]));
    let outputs = runs.map(|run| run.wait_with_output().unwrap());
    let codes = outputs.each_ref().map(|output| output.status.code().unwrap());
    let told = outputs.each_ref().map(words);
    assert_eq!(world.ca.orders(), orders + 1, "{told:#?}");
    assert!(codes.contains(&6), "{codes:?} {told:#?}");
    // The other one finds nothing left to do, or is told who holds the lock.
    let other = usize::from(codes[0] == 6);
    assert!(codes[other] == 0 || codes[other] == 2 && told[other].contains("another"), "{codes:?} {told:#?}");
    assert_ne!(world.leaf(), leaf);
    world.renew(0);
    assert_eq!(world.ca.orders(), orders + 1);
}

/// The controller goes, and no packet of its connections tells the host so, as when a laptop is closed: the host notices by itself
/// that nobody is there, and the lock is free long before TCP gives the connection up (`tcp_retries2`: some 15 minutes).
fn the_link_breaks(world: &World) {
    let orders = world.ca.orders();
    world.due(SITE);
    let waiting = world.ca.waiting();
    world.ca.does(&json!({ "hang": "newOrder" }));
    let mut holder = spawn(&world.bench, &["cert", "renew", "--force", SITE]);
    wait("the order hangs", Duration::from_secs(30), || (world.ca.waiting() > waiting).then_some(()));
    // Only the connections of that run: by both ends, as the next ones to another host may get a port of these.
    let cut = "ends=$(ss -4Htn state established '( dport = :22 )' | sed -n 's/.*:\\([0-9]*\\)  *\\([0-9.]*\\):22 *$/\\2 . \\1/p' | paste -sd ,)
        [ -n \"$ends\" ] || exit 1
        nft \"table inet cut {
            chain out { type filter hook output priority 0; ip daddr . tcp sport { $ends } tcp dport 22 drop; }
            chain in { type filter hook input priority 0; ip saddr . tcp dport { $ends } tcp sport 22 drop; }
        }\"";
    world.bench.sh("controller", cut).expect(0);
    holder.kill().unwrap();
    holder.wait().unwrap();
    world.ca.does(&json!({}));
    let said = world.infra(&["cert", "renew", "--force", SITE], 2);
    assert!(said.err.contains("another run works on the load balancers"), "{}", said.err);
    wait("the lock is free", Duration::from_secs(180), || {
        let said = world.bench.infra(&["cert", "renew", "--force", SITE]);
        match said.code {
            2 if said.err.contains("another run works on the load balancers") => None,
            6 => Some(()),
            _ => panic!("{said:?}"),
        }
    });
    assert_eq!(world.ca.orders(), orders + 1);
    world.bench.sh("controller", "nft delete table inet cut").expect(0);
}

/// Rows «two controllers» and «holder dies»: one hangs in the middle of its order; the other, with a state of its own, is told
/// who works there; a `kill -9` frees the lock at once.
fn the_holder_dies(world: &World) {
    let (leaf, orders) = (world.leaf(), world.ca.orders());
    world.due(SITE);
    let clone = world.clone_of();
    let waiting = world.ca.waiting();
    world.ca.does(&json!({ "hang": "newOrder" }));
    let mut holder = spawn(&world.bench, &["cert", "renew", "--force", SITE]);
    wait("the order hangs", Duration::from_secs(30), || (world.ca.waiting() > waiting).then_some(()));
    let said = world.elsewhere(&clone, &["cert", "renew", "--force", SITE]).expect(2);
    assert!(said.err.contains("another run works on the load balancers"), "{}", said.err);
    holder.kill().unwrap();
    holder.wait().unwrap();
    world.ca.does(&json!({}));
    world.force(6);
    let new = world.leaf();
    assert_ne!(new, leaf);
    assert_eq!(world.ca.orders(), orders + 1);
    // For the other one it is due; what the load balancers hold by now is newer, and is taken over.
    let said = world.elsewhere(&clone, &["cert", "renew"]);
    assert!(matches!(said.code, 0 | 6), "{said:?}");
    assert_eq!((world.ca.orders(), world.leaf()), (orders + 1, new), "{said:?}");
    world.elsewhere(&clone, &["diff"]).expect(0);
}

/// Row «one LB unreachable before the order»: the CA might ask it, so nothing is ordered.
fn down_before(world: &World) {
    let orders = world.ca.orders();
    let before = world.leaf();
    world.bench.lab().kill("lb2").unwrap();
    let said = world.force(4);
    assert!(said.err.contains("lb2 cannot be reached"), "{}", said.err);
    assert_eq!(world.ca.orders(), orders);
    assert_eq!(world.leaf_at(LBS[0].1, SITE), before);
    world.bench.lab().start("lb2").unwrap();
    wait("lb2 serves again", Duration::from_secs(20), || (world.leaf_at(LBS[1].1, SITE) == before).then_some(()));
    world.force(6);
    assert_ne!(world.leaf(), before);
    assert_eq!(world.ca.orders(), orders + 1);
}

/// Row «one LB unreachable at install»: the other has the new one, the run has not succeeded, and the next one brings it to
/// the rest without an order.
fn down_at_install(world: &World) {
    let (leaf, orders) = (world.leaf(), world.ca.orders());
    let waiting = world.ca.waiting();
    world.ca.does(&json!({ "hold": "certificate" }));
    let run = spawn(&world.bench, &["cert", "renew", "--force", SITE]);
    wait("the certificate is asked for", Duration::from_secs(30), || (world.ca.waiting() > waiting).then_some(()));
    let cut = "nft 'add table inet cut; add chain inet cut c { type filter hook input priority -300; }; \
               add rule inet cut c tcp dport 22 reject with tcp reset'";
    world.bench.sh("lb2", cut).expect(0);
    world.ca.does(&json!({}));
    let output = run.wait_with_output().unwrap();
    let told = words(&output);
    assert!(matches!(output.status.code(), Some(1 | 4)), "{:?}: {told}", output.status.code());
    assert!(told.contains("lb2"), "{told}");
    let [one, two] = LBS.map(|(_, address)| world.leaf_at(address, SITE));
    assert!(one != leaf && two == leaf, "{one} {two}: {told}");
    world.infra(&["cert", "status"], 1);
    world.bench.sh("lb2", "nft delete table inet cut").expect(0);
    world.renew(0);
    assert_eq!(world.leaf(), one);
    assert_eq!(world.ca.orders(), orders + 1);
    world.infra(&["cert", "status"], 0);
}

/// Row «disk full», on the controller: told before anything is asked for.
fn controller_full(world: &World) {
    let (leaf, orders) = (world.leaf(), world.ca.orders());
    let vault = world.state("acme");
    let folder = vault.display();
    let small = format!(
        "cp -a '{folder}' '{folder}.kept' && mount -t tmpfs -o size=64k,mode=0700 full '{folder}' && \
         cp -a '{folder}.kept/.' '{folder}' && {{ head -c 70000 /dev/zero >'{folder}/filler' 2>/dev/null; true; }}"
    );
    // In this machine's own mounts: the controller is but a network.
    let run = |script: &str| std::process::Command::new("sh").args(["-c", script]).status().unwrap().success();
    assert!(run(&small));
    let said = world.bench.infra(&["cert", "renew", "--force", SITE]);
    assert!(run(&format!("umount '{folder}' && rm -r '{folder}.kept'")));
    assert!(said.code != 0 && said.code != 6, "{said:?}");
    assert!(said.err.to_lowercase().contains("no space"), "{said:?}");
    assert_eq!((world.leaf(), world.ca.orders()), (leaf.clone(), orders));
    world.force(6);
    assert_ne!(world.leaf(), leaf);
    assert_eq!(world.ca.orders(), orders + 1);
}

/// Row «disk full», on a load balancer: refused before the order, or found when the file is brought; the old one is whole.
fn lb_full(world: &World) {
    let (leaf, orders) = (world.leaf(), world.ca.orders());
    let small = "cd /etc/haproxy && cp -a sites /root/kept && mount -t tmpfs -o size=32k,mode=0700 full sites && \
                 cp -a /root/kept/. sites && { head -c 40000 /dev/zero >sites/.filler 2>/dev/null; true; }";
    let sum = "cat /etc/haproxy/sites/*.pem | sha256sum";
    let before = world.bench.sh("lb2", sum).expect(0).out;
    world.bench.sh("lb2", small).expect(0);
    let said = world.bench.infra(&["cert", "renew", "--force", SITE]);
    assert!(said.code != 0 && said.code != 6, "{said:?}");
    let text = (said.out + &said.err).to_lowercase();
    assert!(text.contains("no space") && text.contains("lb2"), "{text}");
    assert_eq!(world.bench.sh("lb2", sum).expect(0).out, before, "{text}");
    assert_eq!(world.leaf_at(LBS[1].1, SITE), leaf);
    let ordered = world.ca.orders();
    world.bench.sh("lb2", "rm /etc/haproxy/sites/.filler").expect(0);
    let said = world.bench.infra(&["cert", "renew"]);
    assert!(matches!(said.code, 0 | 6), "{said:?}");
    if ordered == orders {
        world.force(6);
    }
    assert_ne!(world.leaf(), leaf);
    assert_eq!(world.ca.orders(), orders + 1, "{text}");
    // The mount goes while nothing is open in it; what lies below is what was there before.
    world.bench.sh("lb2", "cd / && umount /etc/haproxy/sites && rm -r /root/kept").expect(0);
    world.renew(0);
    world.leaf();
    world.infra(&["diff"], 0);
}

/// Row «new worker does not start»: the configuration is right, the machine does not let it run. The old worker goes on.
fn no_new_worker(world: &World) {
    // HAProxy as it is by default: it does not start with fewer files than `maxconn` needs. The lab's hosts have room for these.
    let own = include_str!("../../templates/haproxy/haproxy.cfg");
    let strict = own.replace("    no strict-limits\n", "").replace("{{ maxconn }}", "4000");
    assert!(strict.contains("    maxconn 4000\n"));
    let shadow = world.bench.dir.path().join("templates/haproxy/haproxy.cfg");
    std::fs::create_dir_all(shadow.parent().unwrap()).unwrap();
    std::fs::write(&shadow, strict).unwrap();
    world.infra(&["apply", "--yes"], 0);
    let (leaf, orders) = (world.leaf(), world.ca.orders());
    // Fewer than that, for the master and all that it starts; `haproxy -c` does not see it.
    let script = "prlimit --pid $(systemctl show -p MainPID --value haproxy) --nofile=1000:1000";
    world.bench.sh("lb1", script).expect(0);
    let said = world.infra(&["cert", "renew", "--force", SITE], 1);
    assert!((said.out + &said.err).contains("lb1"));
    assert_eq!(world.leaf(), leaf, "lb1 goes on, lb2 was not touched");
    // A limit that was lowered is lowered for good; systemd's own is the unit's.
    world.bench.sh("lb1", "systemctl restart haproxy").expect(0);
    let said: Said = world.renew(0);
    assert_ne!(world.leaf(), leaf, "{said:?}");
    assert_eq!(world.ca.orders(), orders + 1);
    std::fs::remove_file(&shadow).unwrap();
    world.infra(&["apply", "--yes"], 0);
    world.infra(&["cert", "status"], 0);
}
