//! One kind of agent after the other, in the lab of `monitoring.rs`: what the one before has left is gone, and nothing is doubled. Sumo
//! Logic's collector cannot be had; a small program in a package like the maker's stands for it.

use std::time::Duration;

use super::bench::{Said, wait, write};
use super::{HOSTS, World};

const COLLECTOR: &str = include_str!("../common/collector.sh");
/// A logger that excludes syslog-ng's package as Debian's does, with a rule that sends lines to somebody else.
const LOGGER: &str = "cd $(mktemp -d) && mkdir -p t/DEBIAN t/etc/rsyslog.d && printf 'Package: rsyslog\\nVersion: 8.2302.0-1\\n\
     Architecture: all\\nProvides: system-log-daemon\\nConflicts: system-log-daemon\\nMaintainer: lab <lab@example.com>\\n\
     Description: stands for rsyslog\\n' >t/DEBIAN/control && echo 'module(load=\"imjournal\")' >t/etc/rsyslog.conf && \
     echo '*.* @@logs.example.com:514' >t/etc/rsyslog.d/50-remote.conf && dpkg-deb --root-owner-group --build t r.deb >/dev/null && \
     dpkg -i r.deb >/dev/null";
const TOKEN: &str = "U1VNT2xhYi1ub3QtYS1yZWFsLXRva2VuLTQ3MTE0NzEx";

/// A host on which rsyslog sends lines elsewhere is named, and the file that does; nothing is removed.
pub(crate) fn logger(world: &World) {
    world.bench.sh("app1", &format!("{LOGGER} && dpkg-query -W rsyslog")).expect(0);
    let said = world.apply().expect(2);
    let what = "on app1 rsyslog is installed, and Debian's syslog-ng cannot stand beside it; it sends lines to somebody else \
                (/etc/rsyslog.d/50-remote.conf)";
    assert!(said.err.contains(what), "{}", said.err);
    world.bench.sh("app1", "dpkg-query -W rsyslog && dpkg --purge rsyslog").expect(0);
}

/// The account that measures the databases gets another password, and measures on.
pub(crate) fn rotated(world: &World) {
    let digest = "sha256sum /etc/infra/monitoring/database.env";
    let before = world.bench.sh("db1", digest).expect(0).out;
    World::keeps(world.bench.infra(&["db", "rotate", "infra_monitor", "--yes"])).expect(0);
    assert_ne!(world.bench.sh("db1", digest).expect(0).out, before);
    let fresh = "systemctl restart telegraf && for n in $(seq 300); do [ -s /run/infra-telegraf/database ] && exit 0; sleep 0.1; done; exit 1";
    world.bench.on_each(&["db1", "db2"], fresh);
    let said = world.apply().expect(0);
    assert!(said.out.contains("nothing to do") || said.out.contains("0 hosts changed"), "{}", said.out);
}

fn keeps(said: Said) -> Said {
    assert!(!said.out.contains(TOKEN) && !said.err.contains(TOKEN), "the token is told");
    World::keeps(said)
}

pub(crate) fn collector(world: &World) {
    let bench = &world.bench;
    bench.on_each(&HOSTS, COLLECTOR);
    let text = std::fs::read_to_string(bench.inventory()).unwrap();
    let lines = text.lines().filter(|line| !line.contains("repository:") && !line.contains("  source:"));
    let text = lines.collect::<Vec<_>>().join("\n") + "\n";
    let with = |token: &str| {
        let agent = format!("  agent: otelcol-sumo\n  token: {token}\n");
        std::fs::write(bench.inventory(), text.replace("  agent: telegraf\n", &agent)).unwrap();
    };
    let runs = "systemctl is-active telegraf syslog-ng";
    with("{ env: NO_SUCH_VARIABLE_OF_THE_LAB }");
    let said = keeps(bench.apply()).expect(2);
    assert!(said.err.contains("NO_SUCH_VARIABLE_OF_THE_LAB"), "{}", said.err);
    let file = world.own.path().join("token");
    with(&format!("{{ file: {} }}", file.display()));
    for (token, says) in
        [("https://x.example.com/y", "is an address"), ("su123456789012", "is shorter"), ("", "is empty")]
    {
        std::fs::write(&file, token).unwrap();
        let said = keeps(bench.apply()).expect(2);
        assert!(said.err.contains("`monitoring/token`") && said.err.contains(says), "{}", said.err);
    }
    std::fs::write(&file, format!("{TOKEN}\n")).unwrap();
    // A collector that is managed from elsewhere would read nothing of what is written.
    bench.sh("web1", "touch /etc/otelcol-sumo/sumologic-remote.yaml").expect(0);
    let said = keeps(bench.apply());
    assert!(
        said.code != 0 && (said.out.clone() + &said.err).contains("managed from Sumo Logic"),
        "{}{}",
        said.out,
        said.err
    );
    bench.on_each(&HOSTS, runs);
    bench.sh("web1", "rm /etc/otelcol-sumo/sumologic-remote.yaml").expect(0);
    // What the collector itself refuses changes nothing anywhere.
    let own = bench.dir.path().join("templates/monitoring/otelcol-base.yaml");
    let good = include_str!("../../templates/monitoring/otelcol-base.yaml");
    write(&own, &good.replace("value: journal,", "value: \"${env:SUMOLOGIC_INSTALLATION_TOKEN}${NONE}\","));
    assert!(keeps(bench.infra(&["check"])).expect(2).err.contains("begins no `${env:NAME}`"));
    std::fs::remove_file(&own).unwrap();
    bench.on_each(&HOSTS, runs);

    let said = keeps(bench.apply()).expect(0);
    let told = said.out.clone() + &said.err;
    assert!(!told.contains("none was accepted"), "{told}");
    let look = "[ \"$(systemctl is-active otelcol-sumo)\" = active ] && [ \"$(systemctl is-enabled otelcol-sumo)\" = enabled ] &&
         [ \"$(ps -o uid= -p $(systemctl show -p MainPID --value otelcol-sumo) | tr -d ' ')\" = 60781 ] &&
         [ \"$(stat -c '%a %U:%G' /etc/otelcol-sumo/env/token.env)\" = '640 root:root' ] &&
         [ \"$(stat -c %U:%G /var/lib/otelcol-sumo/credentials)\" = otelcol-sumo:otelcol-sumo ] &&
         ! systemctl -q is-active telegraf syslog-ng && ! systemctl -q is-enabled telegraf syslog-ng 2>/dev/null &&
         [ -z \"$(ls /etc/infra/monitoring/* /etc/systemd/system/telegraf.service.d/infra.conf \
                    /etc/systemd/system/syslog-ng.service.d/infra.conf /etc/apt/*/infra-monitoring* 2>/dev/null)\" ] &&
         ! nft list ruleset | grep 60780 && nft list ruleset | grep -q 60781 &&
         dpkg-query -W telegraf syslog-ng-core >/dev/null";
    bench.on_each(&HOSTS, look);
    bench.on_each(
        &HOSTS,
        &format!(
            "found=$(grep -rlsF '{TOKEN}' /etc /var /run /tmp /usr/local /home 2>/dev/null | sort -u | grep -v '^/var/lib/infra/runs/')
             [ \"$found\" = /etc/otelcol-sumo/env/token.env ] || {{ echo \"$found\"; exit 1; }}
             ! journalctl -o cat | grep -qF '{TOKEN}' && ! ps axww -o args | grep -v grep | grep -qF '{TOKEN}'"
        ),
    );
    // Its user has the way out, and that of before has none any more.
    let out = |user: &str| {
        let ask = "curl -sk -m 5 -o /dev/null -w '%{http_code}' https://endpoint1.collection.example.com/";
        bench.sh("web1", &format!("setpriv --reuid {user} --regid {user} --clear-groups {ask}")).out
    };
    assert_eq!((out("60781").as_str(), out("60780").as_str()), ("404", "000"));
    let said = keeps(bench.apply()).expect(0);
    assert!(said.out.contains("0 hosts changed"), "{}", said.out);
    wait("the status knows of each host's deliveries", Duration::from_secs(180), || {
        let said = keeps(bench.infra(&["status", "--json"]));
        let seen = said.out.lines().filter(|line| line.contains("\"event\":\"host_status\""));
        let told = seen.filter(|line| line.contains("\"what\":\"logs\"") && !line.contains("\"at\":null")).count();
        (said.code == 0 && told == HOSTS.len()).then_some(())
    });
    // Another logger with a rule of its own stays as it is.
    bench.sh("app1", &format!("dpkg --purge syslog-ng-mod-http syslog-ng-core >/dev/null 2>&1; {LOGGER}")).expect(0);
    bench.edit("category: prod/shop/trace", "category: prod/shop/trails");
    keeps(bench.apply()).expect(0);
    bench
        .sh("app1", "grep -q trails /etc/otelcol-sumo/conf.d/40-infra-logs.yaml && cat /etc/rsyslog.d/50-remote.conf")
        .expect(0);
    bench.sh("app1", "dpkg --purge rsyslog").expect(0);
}

/// From the collector to Prometheus.
pub(crate) fn prometheus(world: &World) {
    let bench = &world.bench;
    let text = std::fs::read_to_string(bench.inventory()).unwrap();
    let head = text.split("monitoring:").next().unwrap();
    std::fs::write(bench.inventory(), format!("{head}monitoring: {{ service: prometheus, from: [198.51.100.99] }}\n"))
        .unwrap();
    keeps(bench.apply()).expect(0);
    let look = "[ -z \"$(ls /etc/otelcol-sumo/env/*.env /etc/otelcol-sumo/conf.d/*infra* \
                 /etc/systemd/system/otelcol-sumo.service.d/infra.conf 2>/dev/null)\" ] &&
                 ! systemctl -q is-active otelcol-sumo && ! systemctl -q is-enabled otelcol-sumo 2>/dev/null &&
                 systemctl -q is-active prometheus-node-exporter && ! nft list ruleset | grep -E '6078[01]' && dpkg-query -W otelcol-sumo";
    bench.on_each(&HOSTS, look);
    let said = keeps(bench.apply()).expect(0);
    assert!(said.out.contains("0 hosts changed"), "{}", said.out);
}
