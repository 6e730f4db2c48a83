//! Runs that are taken back on real hosts, while clients ask on: each host is byte for byte what it was, and so it is when that is
//! taken back too.

use super::{Bench, Poll, THREE_TIER, has, nothing_to_do, same_picture, served, shadow_comment};

/// As [`super::picture`], whatever the order in which the tables were loaded.
fn picture(bench: &Bench) -> Vec<String> {
    let sorted = |text: String| {
        let mut lines: Vec<&str> = text.lines().collect();
        lines.sort_unstable();
        lines.join("\n")
    };
    super::picture(bench).into_iter().map(sorted).collect()
}

/// The command in the last line of an apply.
fn undo(out: &str) -> Vec<&str> {
    let (_, command) = out.trim_end().rsplit_once(" · undo: infra ").unwrap_or_else(|| panic!("no way back in\n{out}"));
    command.split(' ').collect()
}

/// A port moves, a flow opens, a template and a header change: taken back, brought again, and taken back.
pub(crate) fn to_and_fro(bench: &Bench) {
    let before = picture(bench);
    bench.edit("\nfirewall:\n", "\nports: { web: 8444, app: 9443 }\n\nfirewall:\n");
    bench.edit(
        "fd00::/64\"]\n",
        "fd00::/64\"]\n  allow:\n    - { to: web, port: 9000, from: [198.51.100.7], why: status checks of the CDN }\n",
    );
    bench.edit("app: { port: 8080, health: /healthz }", "app: { port: 8080, health: /healthz }\n    hsts: 600");
    shadow_comment(bench, "app");
    let poll = Poll::start(bench);
    let said = bench.apply().expect(0);
    let after = picture(bench);
    let mut words = undo(&said.out);
    let dry = bench.infra(&[&words[..], &["--dry-run"]].concat()).expect(3);
    has(&dry.out, &["widen", "narrow", "- lb -> web 8444/tcp", "+ lb -> web 8443/tcp", "# changed"]);
    same_picture(&after, &picture(bench));
    words.push("--yes");
    let said = bench.infra(&words).expect(0);
    has(&said.err, &["the inventory may still want what was taken back"]);
    same_picture(&before, &picture(bench));
    // It is a run like others: without a name, the last one is meant.
    let said = bench.infra(&["rollback", "--yes"]).expect(0);
    same_picture(&after, &picture(bench));
    nothing_to_do(bench);
    let words = [&undo(&said.out)[..], &["--yes"]].concat();
    bench.infra(&words).expect(0);
    poll.every_answer_good();
    same_picture(&before, &picture(bench));
    has(&bench.infra(&["history", "--last", "3"]).expect(0).out, &["infra rollback"]);
    super::unchange(bench);
    nothing_to_do(bench);
}

/// A site goes with its certificate and comes back from the hosts' own copies; what cannot be exact is refused.
pub(crate) fn a_site(bench: &Bench) {
    let site = "sites:\n  b.example.com:\n    static: { root: /srv/b, prefix: / }\n";
    bench.edit("sites:\n", site);
    bench.apply().expect(0);
    let with_it = picture(bench);
    bench.edit(site, "sites:\n");
    let said = bench.apply().expect(0);
    let gone = picture(bench);
    // Somebody changes a file by hand: that is named, and nothing is done.
    bench.sh("web1", "cp -a /etc/nginx/nginx.conf /root/kept && echo '# by hand' >>/etc/nginx/nginx.conf").expect(0);
    let words = [&undo(&said.out)[..], &["--yes"]].concat();
    let refused = bench.infra(&words).expect(2);
    has(&refused.err, &["web1: /etc/nginx/nginx.conf was changed by someone else", "--overwrite-drift"]);
    bench.sh("web1", "mv /root/kept /etc/nginx/nginx.conf").expect(0);
    same_picture(&gone, &picture(bench));
    let poll = Poll::start(bench);
    bench.infra(&words).expect(0);
    same_picture(&with_it, &picture(bench));
    bench.infra(&["rollback", "--yes"]).expect(0);
    poll.every_answer_good();
    same_picture(&gone, &picture(bench));
    served(bench);
    fs_err::write(bench.inventory(), THREE_TIER.as_str()).unwrap();
    bench.apply().expect(0);
    nothing_to_do(bench);
}

/// An apply that fails in the middle takes back all that it did, on every host.
pub(crate) fn of_a_failed_apply(bench: &Bench) {
    let thief = "systemd-run -q --collect --unit=thief socat TCP-LISTEN:9999,fork,bind=127.0.0.1 /dev/null && mkdir -p /srv/more
        printf 'server {\\n  listen 127.0.0.1:9999;\\n  return 204;\\n}\\n' >/srv/more/x.conf";
    bench.sh("web1", thief).expect(0);
    super::shadow(bench, "web/web.conf", "map $ssl_server_name", "include /srv/more/*.conf;\nmap $ssl_server_name");
    shadow_comment(bench, "app");
    // nginx may restart where it was put back.
    let files = || {
        let kept =
            |text: &String| text.lines().filter(|line| !line.starts_with("MainPID")).collect::<Vec<_>>().join("\n");
        picture(bench).iter().map(kept).collect::<Vec<_>>()
    };
    let before = files();
    let said = bench.infra(&["apply", "--yes", "--on-failure", "all"]).expect(1);
    has(&said.err, &["failed on web1 in web", "as `--on-failure` says"]);
    // What has just been taken back cannot be taken back once more.
    assert!(!said.out.trim_end().lines().next_back().unwrap_or_default().contains("undo"), "{}", said.out);
    same_picture(&before, &files());
    served(bench);
    bench.sh("web1", "systemctl stop thief; rm -r /srv/more").expect(0);
    super::unchange(bench);
    nothing_to_do(bench);
}
