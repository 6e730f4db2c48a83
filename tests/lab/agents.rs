//! What the agents bear, in the lab of `monitoring.rs`: every way in which the service may be away while they are killed, a buffer that
//! is full, thousands of lines a second; and what they cost at rest. Each prints its figures.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::bench::{wait, write};
use super::{HOSTS, World};

/// What the service may do instead of accepting.
const AWAY: [&str; 6] = ["away", "429", "500", "503", "hang", "stranger"];
const LOG: &str = "/var/log/shop/app.log";
const CATEGORY: &str = "prod/shop/app";

/// Lines that begin with `mark`, and how often each came, of all categories.
fn arrived(world: &World, mark: &str) -> BTreeMap<String, usize> {
    let mut all = BTreeMap::new();
    for post in world.accepted().iter().filter(|post| !post.is_measures()) {
        for line in post.body.lines().filter_map(|line| line.find(mark).map(|at| &line[at..])) {
            *all.entry(line.to_owned()).or_default() += 1;
        }
    }
    all
}

/// Waits until `many` different lines with `mark` have arrived, and says that each came once, and after how many seconds.
fn each_once(world: &World, mark: &str, many: usize) -> f64 {
    let began = Instant::now();
    wait(&format!("{many} lines of `{mark}`"), Duration::from_secs(600), || {
        std::thread::sleep(Duration::from_secs(1));
        (arrived(world, mark).len() >= many).then_some(())
    });
    let lines = arrived(world, mark);
    let twice = lines.values().filter(|times| **times != 1).count();
    assert!(
        lines.len() == many && twice == 0,
        "{} lines of `{mark}` instead of {many}, {twice} of them again",
        lines.len()
    );
    began.elapsed().as_secs_f64()
}

/// Forgets what has arrived, so that looking at it stays quick.
fn forget(world: &World) {
    let _ = std::fs::remove_file(world.bench.lab().dir().join("outside/endpoint/received.jsonl"));
}

/// For so many seconds in all nothing is accepted, in each of the ways in turn, while a program and the journal go on, and the agents
/// are killed in the middle of each.
pub(crate) fn outage(world: &World, seconds: u32) {
    forget(world);
    let lab = world.bench.lab();
    let part = Duration::from_secs(u64::from(seconds)) / u32::try_from(AWAY.len()).unwrap();
    let (mut orders, mut entries) = (0, 0);
    for way in AWAY {
        lab.answer(Some(way)).unwrap();
        let (began, mut killed) = (Instant::now(), false);
        while began.elapsed() < part || !killed {
            let script = format!(
                "mkdir -p /var/log/shop; seq -f 'order-%.0f.' {} {} >>{LOG}; seq -f 'entry-%.0f.' {} {} | logger -t shop",
                orders + 1,
                orders + 50,
                entries + 1,
                entries + 20
            );
            world.bench.sh("app1", &script).expect(0);
            (orders, entries) = (orders + 50, entries + 20);
            if !killed && began.elapsed() > part / 2 {
                world.bench.sh("app1", "systemctl kill -s KILL syslog-ng telegraf").expect(0);
                killed = true;
            }
            std::thread::sleep(Duration::from_millis(500));
        }
    }
    wait("they run", Duration::from_secs(60), || {
        (world.bench.sh("app1", "systemctl is-active syslog-ng telegraf").code == 0).then_some(())
    });
    lab.answer(None).unwrap();
    let (logs, journal) = (each_once(world, "order-", orders), each_once(world, "entry-", entries));
    eprintln!(
        "  {seconds} s without a service, the agents killed {} times: {orders} lines of a file and {entries} of the journal are there once, {:.0} s later",
        AWAY.len(),
        logs + journal
    );
    wait("measures come again", Duration::from_secs(180), || {
        let since = lab.received().unwrap();
        HOSTS
            .iter()
            .all(|host| since.iter().any(|p| p.is_measures() && p.is_accepted() && p.host == *host))
            .then_some(())
    });
}

/// With the smallest buffer that syslog-ng knows: it does not grow beyond that, and what it could not take stays in its file until then.
pub(crate) fn full(world: &World) {
    let template = include_str!("../../templates/monitoring/syslog-ng.conf");
    let small = template.replace("disk-buf-size({{ buffer }})", "disk-buf-size(1048576)");
    assert_ne!(small, template);
    let shadow = world.bench.dir.path().join("templates/monitoring/syslog-ng.conf");
    write(&shadow, &small);
    forget(world);
    let lab = world.bench.lab();
    lab.answer(Some("503")).unwrap();
    let said = world.apply().expect(0);
    assert!((said.out.clone() + &said.err).contains("none was accepted so far"), "{}\n{}", said.out, said.err);
    let many = 40_000;
    let script = format!(
        "mkdir -p /var/log/shop; seq -f 'bulk-%06.0f.{}' 1 {many} >>{LOG}",
        "abcdefghijklmnopqrstuvwxyz".repeat(4)
    );
    world.bench.sh("app1", &script).expect(0);
    let used = || -> u64 {
        let said = world.bench.sh("app1", "du -sB1 /var/lib/infra-syslog-ng | cut -f1").expect(0);
        said.out.trim().parse().unwrap()
    };
    let (mut last, mut steady) = (0, 0);
    wait("the buffer is full", Duration::from_secs(120), || {
        std::thread::sleep(Duration::from_secs(2));
        let now = used();
        steady = if now.abs_diff(last) < 1 << 16 { steady + 1 } else { 0 };
        last = now;
        (steady >= 3).then_some(())
    });
    // The lines alone are more than that.
    assert!((100_000..3_000_000).contains(&last), "{last} bytes");
    lab.answer(None).unwrap();
    let took = each_once(world, "bulk-", many);
    eprintln!(
        "  a buffer of 1 MiB a stream under {} MB of lines: {} kB on the disk, all lines there once after {took:.0} s",
        many * 117 / 1_000_000,
        last / 1000
    );
    std::fs::remove_file(shadow).unwrap();
    world.apply().expect(0);
}

/// 5,000 lines in each of so many seconds.
pub(crate) fn rush(world: &World, seconds: u32) {
    forget(world);
    let script = format!(
        "mkdir -p /var/log/shop; n=0; began=$(date +%s%N)
         while [ $n -lt {} ]; do
             seq -f 'rush-%07.0f. a line as long as those of most programs, with a number or two: 200 0.012 10.0.3.11 /orders' $((n + 1)) $((n + 500)) >>{LOG}
             n=$((n + 500))
             due=$((began / 1000000 + n / 5)) now=$(($(date +%s%N) / 1000000))
             [ $now -ge $due ] || sleep 0.$(printf %03d $((due - now)))
         done
         echo $((($(date +%s%N) - began) / 1000000))",
        5_000 * seconds
    );
    let wrote: f64 = world.bench.sh("app1", &script).expect(0).out.trim().parse().unwrap();
    let many = 5_000 * usize::try_from(seconds).unwrap();
    let took = each_once(world, "rush-", many);
    eprintln!(
        "  {many} lines in {:.1} s, {:.0} a second: all are there once, {took:.1} s after the last",
        wrote / 1000.0,
        f64::from(5_000 * seconds) / wrote * 1000.0
    );
    let posts = world.accepted();
    let hosts: BTreeSet<&str> =
        posts.iter().filter(|post| post.category == CATEGORY).map(|post| post.host.as_str()).collect();
    assert_eq!(hosts, BTreeSet::from(["app1"]));
}

/// Memory, and processor time of so many seconds, of all processes of the agents while nothing happens.
pub(crate) fn rest(world: &World, seconds: u32) {
    // Of each process of the three units: ticks of its own and of its children that ended, and its share of memory.
    let script = format!(
        "ticks() {{
             for unit in telegraf syslog-ng infra-measures; do
                 main=$(systemctl show -p MainPID --value $unit)
                 for stat in /proc/[0-9]*/stat; do
                     cat $stat 2>/dev/null | sed 's/^\\([0-9]*\\) (.*) /\\1 /' | awk -v main=$main '$1 == main || $3 == main {{ print $1, $13 + $14 + $15 + $16 }}'
                 done
             done
         }}
         first=$(ticks | awk '{{ all += $2 }} END {{ print all }}')
         sleep {seconds}
         last=$(ticks)
         echo \"$last\" | awk -v first=$first '{{ all += $2 }} END {{ print all - first }}'
         for pid in $(echo \"$last\" | cut -d' ' -f1); do awk '$1 == \"Pss:\" {{ print $2 }}' /proc/$pid/smaps_rollup; done | awk '{{ all += $1 }} END {{ print all }}'"
    );
    let seen = world.bench.on_each(&HOSTS, &script);
    for (host, said) in HOSTS.iter().zip(&seen) {
        let figures: Vec<f64> = said.split_whitespace().map(|word| word.parse().unwrap()).collect();
        let (share, memory) = (figures[0] / f64::from(seconds), figures[1] * 1024.0 / 1e6);
        eprintln!("  {host} at rest for {seconds} s: {share:.2} % of a core, {memory:.0} MB");
        assert!(memory <= 120.0, "{host}: {memory} MB");
        // Over a shorter time, one round of the loop of measures is most of it.
        assert!(seconds < 60 || share <= 1.0, "{host}: {share} % of a core");
    }
}
