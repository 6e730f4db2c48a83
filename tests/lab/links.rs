//! Links, FIFOs and the like on real hosts, where infra's files, its copies or its own records stand.

use super::*;

/// The shadow files with their access, and all that the links below point to.
fn targets(bench: &Bench) -> Vec<String> {
    let script = "stat -c '%n %F %a %U %G %i' /etc/shadow /srv/* 2>/dev/null; sha256sum /etc/shadow; find /srv -type f -exec sha256sum {} + | sort";
    bench.on_each(&ALL, script)
}

/// At a file's place, or at the name of our copy of it: host, what is done there, and how the plan names it.
const INSTEAD: [(&str, &str, &str); 7] = [
    (
        "web1",
        "P=/etc/nginx/nginx.conf; mkdir -p /srv/conf && mv $P /srv/conf/ && ln -s /srv/conf/nginx.conf $P",
        "a link to /srv/conf/nginx.conf",
    ),
    ("web2", "P=/etc/nginx/conf.d/shop-web-8443.conf; rm $P && ln -s /etc/shadow $P", "a link to /etc/shadow"),
    ("app1", "P=/etc/nginx/nginx.conf; rm $P && ln -s ../../srv/nowhere $P", "a link to ../../srv/nowhere"),
    ("app2", "P=/etc/nginx/conf.d/shop-app-9443.conf; ls $P && rm $P && mkfifo $P", "a FIFO"),
    (
        "lb1",
        "P=/etc/haproxy/haproxy.cfg; rm $P && ln -s /etc/shadow $P; ln -s /etc/shadow /etc/haproxy/.haproxy.cfg.infra-new",
        "a link to /etc/shadow",
    ),
    (
        "lb2",
        "P=/etc/haproxy/crt.list; rm $P && mknod $P c 1 5; ln -s /etc/shadow /var/lib/infra/.manifest.new; ln -s /etc/shadow /var/lib/infra/.unfinished.new",
        "a device",
    ),
    (
        "lb2",
        "P=/etc/infra/firewall.nft; rm $P && ln -s /etc/shadow $P; ln -s /etc/shadow $P.new; mkfifo /etc/foreign /etc/nginx-fifo",
        "",
    ),
];

pub(super) fn at_a_files_place(bench: &Bench) {
    for (host, script, _) in INSTEAD {
        bench.sh(host, script).expect(0);
    }
    let (before, theirs) = (picture(bench), targets(bench));
    let said = bench.infra(&["diff"]).expect(3);
    for (_, _, told) in INSTEAD {
        has(&said.out, &[told]);
    }
    has(&said.out, &["a file takes the link's place, /srv/conf/nginx.conf stays as it is"]);
    // A refusal: nothing has changed, behind the links neither.
    let wrong = "{% if host == \"web2\" %}proxy_pas nothing;{% endif %}\n    server_name _;";
    shadow(bench, "web/web.conf", "    server_name _;", wrong);
    let said = bench.apply().expect(1);
    has(&said.err, &["failed on web2 in stage: nginx -t", "unknown directive \"proxy_pas\"", "as before"]);
    same_picture(&before, &picture(bench));
    assert_eq!(targets(bench), theirs);
    unshadow(bench);
    // A host that fails in its phase has its links back, as links.
    bench
        .sh("web1", "systemd-run -q --collect --unit=thief socat TCP-LISTEN:9999,fork,bind=127.0.0.1 /dev/null && mkdir -p /srv/more && echo 'server { listen 127.0.0.1:9999; return 204; }' >/srv/more/x.conf")
        .expect(0);
    shadow(bench, "web/web.conf", "map $ssl_server_name", "include /srv/more/*.conf;\nmap $ssl_server_name");
    let said = bench.apply().expect(1);
    has(&said.err, &["failed on web1 in web", "put back"]);
    assert_eq!(bench.sh("web1", "readlink /etc/nginx/nginx.conf").out, "/srv/conf/nginx.conf\n");
    bench.sh("web1", "systemctl stop thief && rm -r /srv/more").expect(0);
    unshadow(bench);
    assert_eq!(targets(bench), theirs);
    bench.apply().expect(0);
    assert_eq!(targets(bench), theirs);
    let files = "stat -c %F /etc/nginx/nginx.conf /etc/nginx/conf.d/shop* /etc/haproxy/haproxy.cfg /etc/haproxy/crt.list /etc/infra/firewall.nft 2>/dev/null | sort -u";
    for host in ALL {
        assert_eq!(bench.sh(host, files).out, "regular file\n", "{host}");
    }
    nothing_to_do(bench);
    served(bench);
    bench.sh("lb2", "rm /etc/foreign /etc/nginx-fifo").expect(0);
}

/// A way that is none of root's own: host, how it comes to be, how it goes again, and what must be named.
const BLOCKED: [(&str, &str, &str, &str); 6] = [
    (
        "web1",
        "mv /etc/nginx/conf.d /srv/confd && ln -s /srv/confd /etc/nginx/conf.d",
        "rm /etc/nginx/conf.d && mv /srv/confd /etc/nginx/conf.d",
        "`/etc/nginx/conf.d` is a link to /srv/confd",
    ),
    (
        "web2",
        "mkfifo /root/m && mv /var/lib/infra/manifest /root/kept && mv /root/m /var/lib/infra/manifest",
        "mv /root/kept /var/lib/infra/manifest",
        "`/var/lib/infra/manifest` is a FIFO",
    ),
    (
        "app1",
        "mv /var/lib/infra /srv/infra && ln -s ../../srv/infra /var/lib/infra",
        "rm /var/lib/infra && mv /srv/infra /var/lib/infra",
        "`/var/lib/infra` is a link to ../../srv/infra",
    ),
    (
        "app2",
        "chown www-data /etc/nginx/conf.d",
        "chown root /etc/nginx/conf.d",
        "`/etc/nginx/conf.d` can be changed by others than root (www-data:root 0755)",
    ),
    (
        "lb1",
        "mv /etc/haproxy /srv/haproxy && ln -s /srv/haproxy /etc/haproxy",
        "rm /etc/haproxy && mv /srv/haproxy /etc/haproxy",
        "`/etc/haproxy` is a link to /srv/haproxy",
    ),
    (
        "lb2",
        "mv /etc/haproxy/haproxy.cfg /root/kept && mkdir /etc/haproxy/haproxy.cfg",
        "rmdir /etc/haproxy/haproxy.cfg && mv /root/kept /etc/haproxy/haproxy.cfg",
        "`/etc/haproxy/haproxy.cfg` is a folder",
    ),
];

pub(super) fn on_the_way(bench: &Bench) {
    change(bench);
    for (host, script, _, _) in BLOCKED {
        bench.sh(host, script).expect(0);
    }
    let (before, theirs) = (picture(bench), targets(bench));
    let said = bench.infra(&["diff"]).expect(1);
    let refused = bench.apply();
    assert_ne!(refused.code, 0, "{}", refused.out);
    for (host, _, _, named) in BLOCKED {
        let line = format!("{host} is left alone: {named}");
        has(&said.err, &[&line]);
        has(&refused.err, &[&line]);
    }
    same_picture(&before, &picture(bench));
    assert_eq!(targets(bench), theirs);
    // What a boot puts back goes through no link either.
    let boot = "cd /var/lib/infra && mkdir -p runs/19990101T000000/old/web/etc/nginx/conf.d && cd runs/19990101T000000/old && echo old >web/etc/nginx/conf.d/theirs.conf && \
                echo /etc/nginx/conf.d/theirs.conf >web.paths && : >web.absent && cp -a /var/lib/infra/manifest web.manifest && echo 19990101T000000 web >/var/lib/infra/unfinished && \
                ! /var/lib/infra/recover && test ! -e /var/lib/infra/unfinished && ! ls -A /srv/confd | grep theirs && rm -r /var/lib/infra/runs/19990101T000000";
    bench.sh("web1", boot).expect(0);
    assert_eq!(targets(bench), theirs);
    for (host, _, script, _) in BLOCKED {
        bench.sh(host, script).expect(0);
    }
    unchange(bench);
    nothing_to_do(bench);
    served(bench);
}
