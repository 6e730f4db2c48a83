//! The three tiers as they are rendered, running for real on a private bridge: takes a site and the user's program, gives ways to
//! ask them from outside.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::allow_attributes,
    missing_docs,
    reason = "each test crate uses its own part"
)]

use std::path::{Path, PathBuf};
use std::time::Duration;

use infra::base::material::Material;
use infra::base::materials::Materials;
use infra::inventory::site::Site;
use infra::plan::decision::Memory;
use infra::plan::state::{Desired, Facts};
use infra::service::{ALL, desire, platform, render::Templates};
use time::OffsetDateTime;

use crate::common::twin::{Twin, text, wait};

pub struct Tiers {
    pub site: Site,
    pub desired: Desired,
    pub materials: Materials,
    pub twin: Twin,
}

impl Tiers {
    /// All of `site` runs, with the user's program that `program` starts on each app host.
    pub fn start(site: Site, program: impl Fn(&Twin, &str)) -> Self {
        Self::start_with(site, |facts| facts, program)
    }

    /// The same on hosts of which more is known than their release.
    pub fn start_with(site: Site, facts: impl Fn(Facts) -> Facts, program: impl Fn(&Twin, &str)) -> Self {
        Self::start_on(site, None, facts, program)
    }

    /// The same with the daemons of another release, whose `/usr` is in these layers (`lowerdir` of an overlay); the user's program is
    /// this machine's.
    pub fn start_on(
        site: Site,
        layers: Option<&Path>,
        facts: impl Fn(Facts) -> Facts,
        program: impl Fn(&Twin, &str),
    ) -> Self {
        let hosts = site.hosts.keys().cloned().collect();
        let (mut revealed, now) = (infra::material::Revealed::new(), OffsetDateTime::now_utc());
        let materials = infra::material::gather(&site, ALL, &hosts, &mut revealed, now).unwrap().materials;
        let facts = site.hosts.keys().map(|h| (h.clone(), facts(platform::oldest()))).collect();
        let templates = Templates::load(ALL, None).unwrap();
        let desired = desire(&site, (&facts, &Memory::default()), &materials, &templates).unwrap();
        let twin = Twin::new(&site, &desired, &materials);
        for app in ["app1", "app2"] {
            program(&twin, app);
        }
        for web in ["web1", "web2"] {
            twin.put(web, "/srv/shop/public/x.txt", "static file\n");
            twin.put(web, "/srv/shop/public/.env", "PASSWORD\n");
            twin.put(web, "/srv/docs/index.html", "the docs\n");
        }
        for host in ["app1", "app2", "web1", "web2", "lb1", "lb2"] {
            if let Some(layers) = layers {
                let out = twin.run(host, &format!("mount -t overlay -o lowerdir={} none /usr", layers.display()));
                assert!(out.status.success(), "{host}: {}", text(&out));
            }
            twin.start(host, &desired[&host.parse().unwrap()]);
        }
        let tiers = Self { site, desired, materials, twin };
        tiers.through("200");
        tiers
    }

    /// What the load balancer gets from a site through all tiers, once it is `code`.
    pub fn through(&self, code: &str) {
        let ask = "curl -q -s -m 5 -o /dev/null -w '%{http_code}' -k \
                   --resolve shop.example.com:443:127.0.0.1 https://shop.example.com/.well-known/infra/health";
        let mut last = String::new();
        let seen = wait(Duration::from_secs(30), || {
            last = text(&self.twin.run("lb1", ask));
            (last == code).then_some(())
        });
        assert!(seen.is_some(), "answered {last}, not {code}");
    }

    /// The authority of the sites' names as a file; clients that run meanwhile find it whole at any moment.
    pub fn sites_ca(&self) -> PathBuf {
        let path = self.twin.shared().join("sites-ca.crt");
        let authority = self.materials.public(&Material::SiteAuthorities).unwrap();
        infra::base::fsx::write_atomic(&path, authority.as_bytes(), 0o644).unwrap();
        path
    }

    /// curl from outside to the load balancer's address.
    pub fn edge(&self, args: &str) -> String {
        let ca = self.sites_ca();
        let names = ["shop.example.com", "www.shop.example.com", "docs.example.org", "a.docs.example.org"];
        let resolve = names.map(|n| format!("--resolve {n}:443:10.0.1.11 --resolve {n}:80:10.0.1.11")).join(" ");
        text(&self.twin.outside(&format!("curl -q -s -m 5 --noproxy '*' --cacert {} {resolve} {args}", ca.display())))
    }

    /// Bytes over TLS to the load balancer, as they are, each followed by a wait until its text is in what has come back (or for
    /// 8 s); gives all of that.
    pub fn raw(&self, alpn: &str, parts: &[(&[u8], &str)]) -> String {
        let folder = self.twin.shared();
        let answer = folder.join("answer");
        std::fs::write(&answer, "").unwrap();
        let mut send = String::new();
        for (number, (bytes, until)) in parts.iter().enumerate() {
            std::fs::write(folder.join(format!("part{number}")), bytes).unwrap();
            send += &format!(
                "cat part{number}; for i in $(seq 80); do grep -aqF '{until}' answer && break; sleep 0.1; done; "
            );
        }
        self.twin.outside(&format!(
            "cd {}\n{{ {send} }} | openssl s_client -quiet -no_ign_eof -connect 10.0.1.11:443 \
             -servername shop.example.com -alpn {alpn} >answer 2>/dev/null",
            folder.display()
        ));
        String::from_utf8_lossy(&std::fs::read(answer).unwrap()).into_owned()
    }
}
