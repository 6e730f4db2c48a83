//! A program that is dead or unwell is taken out of use, and back in by itself: real daemons on a private bridge, in front of
//! `common/program.py`, under load of `common/steady.py`.
#![expect(clippy::unwrap_used, reason = "a test")]

mod common;

use std::time::{Duration, Instant};

use common::tiers::Tiers;
use common::twin::{Twin, text, wait};
use serde_json::Value;

const PROGRAM: &str = include_str!("common/program.py");
const STEADY: &str = include_str!("common/steady.py");
const APPS: [&str; 2] = ["app1", "app2"];

/// Starts the program on a port; it has said that it listens when this returns.
fn run(twin: &Twin, app: &str, port: u16, address: &str) {
    twin.put(app, "/run/program.py", PROGRAM);
    twin.put(app, "/run/who", app);
    let start = format!("setsid -f python3 /run/program.py {port} {address} >/run/program.log 2>&1 </dev/null");
    assert!(twin.run(app, &start).status.success());
    let listens = format!("ss -Hltn 'sport = :{port}' | grep -q .");
    let up = wait(Duration::from_secs(30), || twin.run(app, &listens).status.success().then_some(()));
    assert!(up.is_some(), "{app}: {}", text(&twin.run(app, "cat /run/program.log")));
}

fn start(change: impl FnOnce(&mut infra::inventory::site::Site), more: &[u16]) -> (Tiers, tempfile::TempDir) {
    let state = tempfile::tempdir().unwrap();
    let mut site = common::three_tier(&state.path().join("state"));
    change(&mut site);
    let tiers = Tiers::start(site, |twin, app| {
        for port in [8080].iter().chain(more) {
            run(twin, app, *port, "127.0.0.1");
        }
    });
    for app in APPS {
        sees(&tiers, app, "program-8080", "UP");
    }
    // Each has its whole share.
    let cold = "echo 'show stat' | socat -t 5 - UNIX-CONNECT:/run/infra/programs/admin.sock | \
                awk -F, '$1 ~ /^program-/ && $2 ~ /^app/ && $19 < 100 { cold = 1 } END { exit cold }'";
    for web in ["web1", "web2"] {
        assert!(wait(Duration::from_secs(20), || tiers.twin.run(web, cold).status.success().then_some(())).is_some());
    }
    (tiers, state)
}

/// Waits until both web hosts see a program on a host so, and gives how long that took.
fn sees(tiers: &Tiers, app: &str, program: &str, state: &str) -> Duration {
    let began = Instant::now();
    let stat = "echo 'show stat' | socat -t 5 - UNIX-CONNECT:/run/infra/programs/admin.sock";
    for web in ["web1", "web2"] {
        let script = format!(
            "{stat} | awk -F, '$1 == \"{program}\" && $2 == \"{app}\" {{ print $18, $37 }}' | grep -E '^{state} [^ ]'"
        );
        let seen = wait(Duration::from_secs(20), || tiers.twin.run(web, &script).status.success().then_some(()));
        assert!(seen.is_some(), "{web} does not see {program} on {app} {state}: {}", text(&tiers.twin.run(web, stat)));
    }
    began.elapsed()
}

fn on(tiers: &Tiers, app: &str, script: &str) {
    let out = tiers.twin.run(app, script);
    assert!(out.status.success(), "{app}: {script}: {}", text(&out));
}

fn signal(tiers: &Tiers, app: &str, signal: &str) {
    on(tiers, app, &format!("pkill -{signal} -f '/run/program.py 8080'"));
    if signal == "TERM" {
        on(tiers, app, "while pgrep -f '/run/program.py 8080' >/dev/null; do sleep 0.01; done");
    }
}

/// What comes back of a steady load, while `then` is done.
fn load(tiers: &Tiers, rate: u32, seconds: u32, bytes: usize, then: impl FnOnce()) -> Value {
    let folder = tiers.twin.shared();
    let ca = tiers.sites_ca();
    std::fs::write(folder.join("steady.py"), STEADY).unwrap();
    let command = format!(
        "python3 {}/steady.py 10.0.1.11 shop.example.com {} {rate} {seconds} {bytes} /host",
        folder.display(),
        ca.display()
    );
    std::thread::scope(|scope| {
        let asked = scope.spawn(|| text(&tiers.twin.outside(&command)));
        then();
        let said = asked.join().unwrap();
        serde_json::from_str(said.trim()).unwrap_or_else(|error| panic!("{error}: {said}"))
    })
}

fn number(value: &Value, path: &str) -> u64 {
    value.pointer(path).and_then(Value::as_u64).unwrap_or(0)
}

/// That nothing but 200 came back.
fn all_good(said: &Value, what: &str) {
    let codes = said["codes"].as_object().unwrap();
    assert!(codes.keys().all(|code| code.ends_with(" 200")) && codes.len() == 2, "{what}: {said}");
}

fn why(tiers: &Tiers) -> String {
    let read = "grep -v '\"status\":200' /var/log/nginx/access.log | tail -n 5";
    ["web1", "web2", "app1", "app2"].iter().map(|host| text(&tiers.twin.run(host, read))).collect()
}

#[test]
fn a_program_that_stops_loses_no_request() {
    let (tiers, _state) = start(|_| (), &[]);
    // A long connection to one of the hosts, as an event stream is.
    std::thread::scope(|scope| {
        scope.spawn(|| tiers.edge("-N -m 40 -o /dev/null https://shop.example.com/events"));
        for (round, bytes) in [(0, 100), (1, 5_000_000)] {
            let (rate, seconds) = if bytes > 1000 { (6, 5) } else { (60, 5) };
            let app = APPS[round];
            let said = load(&tiers, rate, seconds, bytes, || {
                std::thread::sleep(Duration::from_secs(1));
                signal(&tiers, app, "TERM");
            });
            assert!(said["codes"].get("GET 200").is_some(), "{said}");
            all_good(&said, &format!("{app} stopped: {}", why(&tiers)));
            assert_eq!(number(&said, &format!("/last/{app}")), 0, "{said}");
            run(&tiers.twin, app, 8080, "127.0.0.1");
            sees(&tiers, app, "program-8080", "UP");
        }
        for app in APPS {
            on(&tiers, app, "touch /run/go");
        }
    });
    // Frozen: what it has in its hands waits for it, the next go elsewhere.
    let said = load(&tiers, 20, 8, 100, || {
        std::thread::sleep(Duration::from_secs(1));
        signal(&tiers, "app1", "STOP");
        std::thread::sleep(Duration::from_secs(6));
        signal(&tiers, "app1", "CONT");
    });
    all_good(&said, &why(&tiers));
    // One that ends without an answer is asked of another host once, where that is safe.
    let asked = |method: &str| {
        tiers.edge(&format!("-X {method} -o /dev/null -w '%{{http_code}}' https://shop.example.com/close"))
    };
    assert_eq!((asked("GET"), asked("POST")), ("502".into(), "502".into()));
    let count = |method: &str| {
        APPS.iter()
            .map(|app| {
                let grep = format!(
                    "grep -c '\"method\":\"{method}\",\"path\":\"/close\",\"status\":569' /var/log/nginx/access.log"
                );
                text(&tiers.twin.run(app, &grep)).trim().parse::<u32>().unwrap()
            })
            .sum::<u32>()
    };
    assert_eq!((count("GET"), count("POST")), (2, 1));
    // A web host of an older infra, which passes on what it is told, is told what HTTP has for it.
    let name = tiers.site.role_name(infra::inventory::site::Role::App);
    let told = |path: &str, more: &str| {
        let ask = format!(
            "curl -q -s -m 5 --noproxy '*' -o /dev/null -w '%{{http_code}}' --cacert /etc/nginx/tls/ca.crt --cert /etc/nginx/tls/client.crt \
             --key /etc/nginx/tls/client.key --resolve {name}:9443:10.0.3.11 -H 'Host: shop.example.com' {more} https://{name}:9443{path}"
        );
        text(&tiers.twin.run("web1", &ask))
    };
    let next = "-H 'X-Infra-Next: yes'";
    assert_eq!((told("/close", ""), told("/close", next)), ("502".into(), "569".into()));
    assert_eq!((told("/host", ""), told("/host", next)), ("200".into(), "200".into()));
    signal(&tiers, "app1", "TERM");
    assert_eq!((told("/host", ""), told("/host", next)), ("502".into(), "568".into()));
    // Nor do visitors see any of it, or ask for it themselves.
    let shown = tiers.edge(&format!("-i {next} https://shop.example.com/close"));
    assert!(shown.starts_with("HTTP/2 502") && !shown.to_lowercase().contains("x-infra"), "{shown}");
}

#[test]
fn a_program_that_says_that_it_is_unwell_gets_nothing() {
    let (tiers, _state) = start(
        |site| {
            // Another program on the same hosts, whose health knows only the name of its own site.
            let docs = site.sites.get_mut(&"docs.example.org".parse().unwrap()).unwrap();
            docs.files.clear();
            docs.programs.push(common::program("/", 8090));
        },
        &[8090],
    );
    sees(&tiers, "app1", "program-8090", "UP");
    let shares = |seconds: u32| load(&tiers, 40, seconds, 100, || ());
    on(&tiers, "app1", "touch /run/unwell && sleep 3");
    let said = shares(2);
    all_good(&said, "unwell");
    assert_eq!((number(&said, "/by/app1"), number(&said, "/by/app2") > 0), (0, true), "{said}");
    // It is given more and more: little at first, as much as the other in the end. Each web host is watched from before it is well.
    let weights = "n=0; while [ $n -lt 600 ]; do n=$((n + 1))
w=$(echo 'show stat' | socat -t 5 - UNIX-CONNECT:/run/infra/programs/admin.sock | awk -F, '$1 == \"program-8080\" && $2 == \"app1\" && $18 ~ /^UP/ { print $19 }')
[ -z \"$w\" ] || echo $w; [ \"$w\" != 100 ] || break; sleep 0.05; done";
    let seen: Vec<String> = std::thread::scope(|scope| {
        let watched = ["web1", "web2"].map(|web| scope.spawn(|| text(&tiers.twin.run(web, weights))));
        on(&tiers, "app1", "rm /run/unwell");
        watched.map(|one| one.join().unwrap()).into()
    });
    for told in seen {
        let weights: Vec<u32> = told.lines().map(|line| line.parse().unwrap()).collect();
        assert!(weights.is_sorted() && weights.first() < Some(&50) && weights.last() == Some(&100), "{weights:?}");
    }
    let later = shares(2);
    assert!(number(&later, "/by/app1") * 3 > number(&later, "/by/app2"), "{later}");
    // By the name that it is asked for.
    on(&tiers, "app1", "printf shop.example.com >/run/host");
    sees(&tiers, "app1", "program-8090", "DOWN");
    sees(&tiers, "app1", "program-8080", "UP");
    on(&tiers, "app1", "rm /run/host");
    sees(&tiers, "app1", "program-8090", "UP");
    // The other program of a host is no part of it.
    signal(&tiers, "app1", "TERM");
    sees(&tiers, "app1", "program-8080", "DOWN");
    let stat =
        "echo 'show stat' | socat -t 5 - UNIX-CONNECT:/run/infra/programs/admin.sock | grep '^program-8090,app1,'";
    assert!(text(&tiers.twin.run("web1", stat)).contains(",UP,"), "{}", text(&tiers.twin.run("web1", stat)));
    // On loopback of IPv6 alone.
    run(&tiers.twin, "app1", 8080, "::1");
    sees(&tiers, "app1", "program-8080", "UP");
    for app in APPS {
        on(&tiers, app, "touch /run/unwell");
        sees(&tiers, app, "program-8080", "DOWN");
    }
    // All unwell: all are used, and what they say themselves comes through.
    let said = shares(2);
    all_good(&said, "all unwell");
    assert!(number(&said, "/by/app1") > 0 && number(&said, "/by/app2") > 0, "{said}");
    let busy = tiers.edge("-w ' %{http_code}' https://shop.example.com/busy");
    assert!(busy.contains("of its own") && busy.ends_with(" 503"), "{busy}");
    for app in APPS {
        on(&tiers, app, "rm /run/unwell");
        sees(&tiers, app, "program-8080", "UP");
    }
    // A new program on one host after the other loses nothing.
    let said = load(&tiers, 100, 22, 1000, || {
        for app in APPS {
            on(&tiers, app, "touch /run/unwell && sleep 4");
            signal(&tiers, app, "TERM");
            on(&tiers, app, "rm /run/unwell");
            run(&tiers.twin, app, 8080, "127.0.0.1");
            sees(&tiers, app, "program-8080", "UP");
            std::thread::sleep(Duration::from_secs(3));
        }
    });
    all_good(&said, &why(&tiers));
    // Without the one who asks, the app hosts' own addresses lead there.
    for web in ["web1", "web2"] {
        on(&tiers, web, "kill \"$(cat /run/infra/programs/pid)\"");
    }
    all_good(&shares(2), &why(&tiers));
}

#[test]
fn a_visitor_stays_with_an_app_host_while_its_program_is_well() {
    let (tiers, _state) =
        start(|site| site.sites.get_mut(&"shop.example.com".parse().unwrap()).unwrap().sticky = true, &[]);
    let asked = |cookie: &str| {
        let answer = tiers.edge(&format!("-i -H 'Cookie: {cookie}' https://shop.example.com/host"));
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{answer}"));
        let set = head.lines().find_map(|line| line.strip_prefix("set-cookie: ")).map(str::to_owned);
        (body.trim().to_owned(), set)
    };
    // Whoever comes without one, or with one that nobody gave, gets one; it tells nothing, and no script reads it.
    let mut words = std::collections::BTreeMap::new();
    for cookie in
        ["a=b", "infra_to_8080=", "infra_to_8080=app1", "infra_to_8080=0123456789abcdef", "c=1; d=2"].repeat(4)
    {
        let (app, set) = asked(cookie);
        let set = set.unwrap_or_else(|| panic!("{cookie}: no cookie"));
        let (word, rest) = set.split_once("; ").unwrap();
        assert_eq!(rest, "Path=/; Secure; HttpOnly; SameSite=Lax", "{set}");
        assert!(!set.contains("app") && !set.contains("10.0."), "{set}");
        assert_eq!(words.entry(app).or_insert_with(|| word.to_owned()), word);
    }
    assert_eq!(words.len(), 2, "{words:?}");
    let stays = |app: &str| {
        for _ in 0..12 {
            assert_eq!(asked(&format!("x=y; {}", words[app])), (app.to_owned(), None));
        }
    };
    for app in APPS {
        stays(app);
    }
    // Gone, whoever was there is led to the other one, and stays with that; a body is not lost on the way.
    signal(&tiers, "app1", "TERM");
    let send = format!("-X POST --data-binary abc -H 'Cookie: {}' https://shop.example.com/host", words["app1"]);
    assert!(tiers.edge(&send).starts_with("app2"), "{}", why(&tiers));
    sees(&tiers, "app1", "program-8080", "DOWN");
    let (app, set) = asked(&words["app1"]);
    assert_eq!((app.as_str(), set.is_some_and(|set| set.starts_with(&words["app2"]))), ("app2", true));
    stays("app2");
    // The other site's visitors go where they like.
    assert!(!tiers.edge("-i https://docs.example.org/").contains("set-cookie"));
}

/// What a reload remembers of the programs is remembered at the port that they have now, as the unit's own command says.
#[test]
fn a_reload_remembers_no_port_of_before() {
    let unit = include_str!("../templates/programs/programs.service");
    let command = unit.lines().find_map(|line| line.strip_prefix("ExecReload=-/bin/sh -c '")?.strip_suffix('\''));
    // As systemd unquotes it (systemd.service(5), «Command lines»).
    let command = command.unwrap().replace("$$", "$").replace("\\\\", "\\");
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let servers = "    server app1 10.0.3.11:9447 check-sni app1.x verifyhost app1.x\n    server app2 [fd00::12]:9447 check-sni app2.x \
                   verifyhost app2.x\nfrontend f\n    bind unix@/run/1-app1.sock mode 660\nbackend to-app1\n    server app1 10.0.3.11:9447\n";
    std::fs::write(at("programs.cfg"), format!("backend program-8080\n{servers}")).unwrap();
    let state = |port: u16| {
        format!(
            "1\n# be_id be_name srv_id\n2 program-8080 1 app1 10.0.3.11 2 0 100 100 478 15 3 3 6 0 0 0 - {port} - 1 0 - - 0\n\
             2 program-8080 2 app2 fd00::12 0 0 100 100 21 8 2 0 6 0 0 0 - {port} - 1 0 - - 0\n\n"
        )
    };
    std::fs::write(at("said"), state(9443)).unwrap();
    let said = format!("cat '{}'", at("said").display());
    let command = command
        .replace("socat -t 5 - UNIX-CONNECT:/run/infra/programs/admin.sock", &said)
        .replace("/etc/infra/programs", &folder.path().display().to_string())
        .replace("/run/infra/programs", &folder.path().display().to_string());
    let out = std::process::Command::new("sh").args(["-c", &command]).output().unwrap();
    assert!(out.status.success(), "{command}: {}", String::from_utf8_lossy(&out.stderr));
    assert_eq!(std::fs::read_to_string(at("state")).unwrap(), state(9447));
}
