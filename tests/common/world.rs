//! A small infrastructure with two sites, certificates in place and its CA in our hands; what is kept of certificates, what clients
//! see, and what was ever told. Used by `tests/lab/*.rs` beside `bench` and `strange`.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::allow_attributes,
    missing_docs,
    reason = "each test crate uses its own part"
)]

use std::cell::RefCell;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use infra::lab::Release;
use serde_json::{Value, json};

use crate::bench::{Bench, Said};
use crate::strange::Strange;

/// The edge with one host behind it and two sites.
const INVENTORY: &str = "name: shop
ssh: { user: ops, become: sudo }
hosts:
  lb1:  { address: [10.0.1.11, \"fd00:0:0:1::11\"], roles: [lb], public: [203.0.113.11, \"2001:db8:113::11\"] }
  lb2:  { address: [10.0.1.12, \"fd00:0:0:1::12\"], roles: [lb], public: [203.0.113.12, \"2001:db8:113::12\"] }
  web1: { address: [10.0.2.11, \"fd00:0:0:2::11\"], roles: [web] }
firewall: { manage_from: [10.0.0.0/24, \"fd00::/64\"] }
sites:
  shop.example.com: { aliases: [www.shop.example.com], static: { root: /srv/shop/public, prefix: / } }
  blog.example.com: { static: { root: /srv/shop/public, prefix: / } }
certificates: { issuer: letsencrypt, contact: ops@example.com }
";
pub const SITE: &str = "shop.example.com";
pub const BLOG: &str = "blog.example.com";
/// The load balancers, with what they hold towards the internet.
pub const LBS: [(&str, &str); 2] = [("lb1", "203.0.113.11"), ("lb2", "203.0.113.12")];

/// A small infrastructure with certificates in place, and its CA in our hands. Everything that `infra` says is kept.
pub struct World {
    pub ca: Strange,
    pub bench: Bench,
    /// The world's DNS as it was.
    names: String,
    said: RefCell<Vec<String>>,
}

impl World {
    pub fn up(name: &str) -> Self {
        let bench = Bench::up(name, INVENTORY, Release::Bookworm);
        bench.sh("web1", "mkdir -p /srv/shop/public && echo the shop >/srv/shop/public/index.html").expect(0);
        let names = std::fs::read_to_string(bench.lab().dir().join("outside/hosts")).unwrap();
        let world = Self { ca: Strange::start(&bench), bench, names, said: RefCell::default() };
        world.infra(&["apply", "--yes"], 0);
        assert_eq!(world.ca.orders(), 2);
        world
    }

    /// After a check that failed: the machines are on, the CA is well, nothing is in the way and no pause is kept.
    pub fn mend(&self) {
        for (lb, _) in LBS {
            let _ = self.bench.lab().start(lb);
            self.bench.sh(lb, "nft delete table inet cut; cd / && umount /etc/haproxy/sites");
        }
        self.bench.sh("controller", "nft delete table inet cut");
        self.bench.sh("outside", "nft delete table inet closed");
        self.put_dns(&self.names);
        self.ca.stop();
        self.ca.does(&json!({}));
        self.ca.again();
        self.forget_failures();
        self.bench.infra(&["cert", "renew"]);
    }

    pub fn now() -> i64 {
        time::OffsetDateTime::now_utc().unix_timestamp()
    }

    /// Runs `infra` on the controller and expects an exit code.
    #[track_caller]
    pub fn infra(&self, words: &[&str], code: i32) -> Said {
        let said = self.bench.infra(words).expect(code);
        self.said.borrow_mut().extend([said.out.clone(), said.err.clone()]);
        said
    }

    #[track_caller]
    pub fn renew(&self, code: i32) -> Said {
        self.infra(&["cert", "renew"], code)
    }

    #[track_caller]
    pub fn force(&self, code: i32) -> Said {
        self.infra(&["cert", "renew", "--force", SITE], code)
    }

    /// A forced renewal that kills itself there.
    #[track_caller]
    pub fn dying_at(&self, place: &str) {
        let mut command = self.bench.infra_command(&["cert", "renew", "--force", SITE]);
        let status = command.env("INFRA_CRASH_AT", place).stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap();
        assert_eq!(status.signal(), Some(9), "{place}");
    }

    /// Another controller: the inventory and a copy of the state in another folder.
    pub fn clone_of(&self) -> tempfile::TempDir {
        let other = tempfile::tempdir().unwrap();
        let copy =
            Command::new("cp").arg("-a").arg(self.bench.dir.path().join(".")).arg(other.path()).status().unwrap();
        assert!(copy.success());
        other
    }

    /// Runs `infra` over such a copy.
    pub fn elsewhere(&self, clone: &tempfile::TempDir, words: &[&str]) -> Said {
        let said = Said::of(&self.bench.infra_command(words).current_dir(clone.path()).output().unwrap());
        self.said.borrow_mut().extend([said.out.clone(), said.err.clone()]);
        said
    }

    pub fn state(&self, path: &str) -> PathBuf {
        self.bench.dir.path().join("state").join(path)
    }

    fn file(&self, site: &str, name: &str) -> PathBuf {
        self.state(&format!("acme/sites/{site}/{name}"))
    }

    /// What is kept of the shop; null where there is nothing.
    pub fn kept(&self, name: &str) -> Value {
        std::fs::read(self.file(SITE, name)).map_or(Value::Null, |bytes| serde_json::from_slice(&bytes).unwrap())
    }

    pub fn record(&self) -> Value {
        self.kept("record.json")
    }

    fn change(&self, site: &str, name: &str, change: impl FnOnce(&mut Value)) {
        let path = self.file(site, name);
        let mut value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        change(&mut value);
        std::fs::write(path, value.to_string()).unwrap();
    }

    /// The pause after the last failure is over.
    pub fn over(&self) {
        self.change(SITE, "record.json", |record| record["wait_until"] = 0.into());
    }

    pub fn forget_failures(&self) {
        let _ = std::fs::remove_file(self.file(SITE, "record.json"));
    }

    pub fn forget_advice_of(&self, site: &str) {
        let _ = std::fs::remove_file(self.file(site, "advice.json"));
    }

    /// What was advised is forgotten; for the blog as if it had been asked for just now.
    pub fn forget_advice(&self) {
        self.forget_advice_of(SITE);
        let current: Value = serde_json::from_slice(&std::fs::read(self.file(BLOG, "current.json")).unwrap()).unwrap();
        let advice =
            json!({ "leaf": current["sha256"], "at": null, "explanation": null, "ask_after": Self::now() + 3600 });
        std::fs::write(self.file(BLOG, "advice.json"), advice.to_string()).unwrap();
    }

    /// So much of the certificate's life is over that it should be renewed: 80 of 100 parts.
    pub fn due(&self, site: &str) {
        self.lived(site, 80);
    }

    /// So much of it is over that a person should look, for as long as `then` lasts.
    pub fn pressing(&self, site: &str, then: impl FnOnce()) {
        let before = std::fs::read(self.file(site, "current.json")).unwrap();
        self.lived(site, 90);
        then();
        std::fs::write(self.file(site, "current.json"), before).unwrap();
    }

    fn lived(&self, site: &str, percent: i64) {
        self.change(site, "current.json", |current| {
            let life = current["life"]["not_after"].as_i64().unwrap() - current["life"]["not_before"].as_i64().unwrap();
            let begin = Self::now() - life / 100 * percent;
            current["life"] = json!({ "not_before": begin, "not_after": begin + life });
        });
    }

    /// The leaf that both load balancers show for the shop and its alias, verified.
    #[track_caller]
    pub fn leaf(&self) -> String {
        let leaf = self.leaf_of(SITE);
        assert_eq!(self.leaf_of("www.shop.example.com"), leaf);
        leaf
    }

    #[track_caller]
    pub fn leaf_of(&self, name: &str) -> String {
        let [one, two] = LBS.map(|(_, address)| self.leaf_at(address, name));
        assert!(one.contains("Fingerprint="), "{name}: {one}");
        assert_eq!(one, two, "{name}");
        one
    }

    /// The leaf at one address; nothing where there is none that clients trust.
    pub fn leaf_at(&self, address: &str, name: &str) -> String {
        let script = format!(
            "openssl s_client -connect {address}:443 -servername {name} -verify_hostname {name} -verify_return_error \
             -CAfile \"$SSL_CERT_FILE\" </dev/null 2>/dev/null | openssl x509 -noout -fingerprint -sha256"
        );
        self.bench.sh("outside", &script).out
    }

    /// The certificates' files on the load balancers with their times, and when HAProxy last began.
    pub fn files(&self) -> String {
        let look = |lb: &str| {
            let script =
                "cd /etc/haproxy/sites && sha256sum * && stat -c '%n %Y %i' *; systemctl show -p ExecReload haproxy";
            self.bench.sh(lb, script).expect(0).out
        };
        LBS.map(|(lb, _)| look(lb)).concat()
    }

    /// Changes lines of the world's DNS; gives what it was.
    #[track_caller]
    pub fn dns(&self, changes: &[(&str, &str)]) -> String {
        let path = self.bench.lab().dir().join("outside/hosts");
        let before = std::fs::read_to_string(path).unwrap();
        let mut after = before.clone();
        for (from, to) in changes {
            assert!(after.contains(from), "no `{from}` in\n{after}");
            after = after.replace(from, to);
        }
        self.put_dns(&after);
        before
    }

    pub fn put_dns(&self, text: &str) {
        std::fs::write(self.bench.lab().dir().join("outside/hosts"), text).unwrap();
        let script = "for p in /proc/[0-9]*; do
            [ \"$(cat $p/comm 2>/dev/null)\" = dnsmasq ] || continue
            [ \"$(readlink $p/ns/net)\" = \"$(readlink /proc/self/ns/net)\" ] && kill -HUP ${p#/proc/}
        done; true";
        self.bench.sh("outside", script).expect(0);
    }

    /// Clients and load balancers trust another root too.
    pub fn trust(&self, root: &str) {
        let path = self.bench.lab().dir().join("outside/roots.pem");
        let all = std::fs::read_to_string(&path).unwrap() + root;
        std::fs::write(path, all).unwrap();
        let script = format!(
            "cat >\"$(mktemp -u /usr/local/share/ca-certificates/XXXXXX.crt)\" <<'E'\n{}\nE\nupdate-ca-certificates >/dev/null 2>&1",
            root.trim_end()
        );
        std::thread::scope(|scope| {
            for (lb, _) in LBS {
                let (bench, script) = (&self.bench, &script);
                scope.spawn(move || bench.sh(lb, script).expect(0));
            }
        });
    }

    /// No key, no part of one and no token stands in what was said, kept of past runs, or logged on a host; and whatever holds a
    /// key is for its owner alone.
    pub fn nothing_secret_was_told(&self) {
        let mut secrets = self.ca.tokens();
        assert!(!secrets.is_empty());
        let key = std::fs::read_to_string(self.state("acme/account.key")).unwrap();
        secrets.extend(key.lines().filter(|l| !l.starts_with("--")).map(ToOwned::to_owned));
        for site in [SITE, BLOG] {
            let current: Value =
                serde_json::from_slice(&std::fs::read(self.file(site, "current.json")).unwrap()).unwrap();
            let pem = current["key"].as_str().unwrap().to_owned();
            secrets.extend(pem.lines().filter(|l| !l.starts_with("--")).map(ToOwned::to_owned));
        }
        let plan = self.bench.dir.path().join("plan.json");
        self.infra(&["diff", "--json", "-v", "--out", plan.to_str().unwrap()], 0);
        let mut texts = self.said.borrow().clone();
        texts.extend(std::fs::read_to_string(plan));
        for entry in std::fs::read_dir(self.state("runs")).into_iter().flatten() {
            texts.extend(std::fs::read_to_string(entry.unwrap().path()));
        }
        for (lb, _) in LBS {
            // The answers to http-01 are public: HAProxy's own log may name tokens.
            texts.push(self.bench.sh(lb, "journalctl -q --no-pager -o cat | grep -v acme-challenge").out);
            texts.push(
                self.bench.sh(lb, "cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ 2>/dev/null | tr '\\0' '\\n'").out,
            );
        }
        for text in &texts {
            assert!(!text.contains("PRIVATE KEY"), "{text}");
            if let Some(secret) = secrets.iter().find(|secret| text.contains(secret.as_str())) {
                panic!("`{secret}` in {text}");
            }
        }
        let open = format!("find '{}' -type f ! -perm 0600 -o -type d ! -perm 0700", self.state("acme").display());
        assert_eq!(self.bench.sh("controller", &open).expect(0).out, "");
        for (lb, _) in LBS {
            let modes = "grep -rlZs 'PRIVATE KEY' /etc /var/lib /run /tmp | xargs -0 stat -c '%a' && \
                         stat -c %a /etc/haproxy/sites /etc/haproxy/tls | sed s/700/600/";
            let modes = self.bench.sh(lb, modes).expect(0).out;
            let odd: Vec<&str> = modes.lines().filter(|mode| *mode != "600").collect();
            assert!(odd.is_empty() && modes.lines().count() >= 5, "{lb}: {modes}");
        }
    }
}
