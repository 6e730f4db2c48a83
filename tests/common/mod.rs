//! Sites built in code, for the tests that need no inventory.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::allow_attributes,
    missing_docs,
    reason = "each test crate uses its own part"
)]

pub mod keys;
pub mod tiers;
pub mod twin;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use infra::base::net::HostName;
use infra::inventory::site::{
    AppProgram, Backend, Certificates, FirewallPolicy, Host, KEPT, Manner, Place, Ports, Role, Site, Ssh, StaticFiles,
    WebSite,
};

pub fn host(name: &str, addresses: &[&str], roles: &[Role]) -> (HostName, Host) {
    let addresses: Vec<IpAddr> = addresses.iter().map(|a| a.parse().unwrap()).collect();
    let host = Host {
        name: name.parse().unwrap(),
        addresses,
        public: vec![],
        roles: roles.iter().copied().collect::<BTreeSet<_>>(),
        allow_mixed_roles: (roles.len() > 1).then(|| "a test".into()),
        ssh: Ssh::default(),
        place: Place::default(),
    };
    (host.name.clone(), host)
}

pub fn web_site(name: &str, aliases: &[&str], files: Option<(&str, &str)>, port: Option<u64>) -> WebSite {
    WebSite {
        name: name.parse().unwrap(),
        aliases: aliases.iter().map(|a| a.parse().unwrap()).collect(),
        addresses: Vec::new(),
        files: files.map(|(root, prefix)| folder(root, prefix)).into_iter().collect(),
        programs: port.map(|port| program("/", port)).into_iter().collect(),
        auth: Vec::new(),
        sticky: false,
        manner: Manner::default(),
        certificate: None,
        place: Place::default(),
    }
}

pub fn folder(root: &str, prefix: &str) -> StaticFiles {
    StaticFiles { root: root.into(), prefix: prefix.into(), spa: false, cache: Some(KEPT) }
}

pub fn program(path: &str, port: u64) -> AppProgram {
    AppProgram {
        path: path.into(),
        port: port.try_into().unwrap(),
        health: "/healthz".into(),
        hosts: BTreeSet::new(),
        compress: false,
        place: Place::default(),
    }
}

pub fn site(name: &str, hosts: Vec<(HostName, Host)>, sites: Vec<WebSite>, state: &Path) -> Site {
    Site {
        name: name.parse().unwrap(),
        hosts: hosts.into_iter().collect(),
        ports: Ports { web: 8443_u64.try_into().unwrap(), app: 9443_u64.try_into().unwrap() },
        drain: Duration::from_secs(30),
        edge: infra::inventory::site::Edge::default(),
        firewall: FirewallPolicy {
            backend: Backend::Nftables,
            manage_from: vec![("10.0.0.0/24".parse().unwrap(), Place::default())],
            allow: vec![],
            block: vec![],
            forward: None,
            resolvers: vec![],
        },
        sites: sites.into_iter().map(|s| (s.name.clone(), s)).collect::<BTreeMap<_, _>>(),
        certificates: Certificates::internal(),
        database: None,
        monitoring: None,
        file: PathBuf::from("inventory.yml"),
        folder: PathBuf::from("."),
        state: state.to_owned(),
        silence: BTreeMap::new(),
        through: BTreeMap::new(),
    }
}

/// Two hosts of each tier, both families, a site with all and one with static files only.
pub fn three_tier(state: &Path) -> Site {
    let hosts = vec![
        host("lb1", &["10.0.1.11", "fd00:1::11"], &[Role::Lb]),
        host("lb2", &["10.0.1.12", "fd00:1::12"], &[Role::Lb]),
        host("web1", &["10.0.2.11", "fd00:2::11"], &[Role::Web]),
        host("web2", &["10.0.2.12"], &[Role::Web]),
        host("app1", &["10.0.3.11", "fd00:3::11"], &[Role::App]),
        host("app2", &["10.0.3.12"], &[Role::App]),
    ];
    let sites = vec![
        web_site("shop.example.com", &["www.shop.example.com"], Some(("/srv/shop/public", "/static/")), Some(8080)),
        web_site("docs.example.org", &["*.docs.example.org"], Some(("/srv/docs", "/")), None),
    ];
    site("shop", hosts, sites, state)
}

/// Everything on one machine, IPv4 only; its site is asked for by address too.
pub fn single(state: &Path) -> Site {
    let hosts = vec![host("one", &["192.0.2.10"], &[Role::Lb, Role::Web, Role::App])];
    let mut tiny = web_site("tiny.example.com", &[], Some(("/srv/tiny", "/static/")), Some(3000));
    tiny.addresses = ["192.0.2.10", "2001:db8::10"].map(|a| a.parse().unwrap()).to_vec();
    site("tiny", hosts, vec![tiny], state)
}

/// Two database hosts.
pub fn databases(state: &Path) -> Site {
    let text = "name: shop
hosts:
  db1: { address: [10.0.4.11, 'fd00:4::11'], roles: [db] }
  db2: { address: [10.0.4.12, 'fd00:4::12'], roles: [db] }
firewall: { manage_from: [10.0.0.0/24] }
certificates: { issuer: internal }
database:
  engine: mariadb
  primary: db1
  schemas: [shop]
  users: { shop: { schema: shop, from: db } }
";
    let read = infra::inventory::load::load_text(text, Path::new("inventory.yml"));
    let (site, _) = read.unwrap_or_else(|errors| panic!("{errors:?}"));
    Site { state: state.to_owned(), ..site }
}

/// The three tiers, and a host that watches them.
pub fn watched(state: &Path) -> Site {
    use infra::inventory::site::{Agent, Monitoring, MonitoringService};
    let mut site = three_tier(state);
    let (name, watcher) = host("mon1", &["10.0.9.11", "fd00:9::11"], &[Role::Monitor]);
    site.hosts.insert(name, watcher);
    site.monitoring = Some(Monitoring {
        service: MonitoringService::Prometheus,
        agent: Agent::Telegraf,
        source: None,
        token: None,
        logs: vec![],
        repository: None,
        alerts: BTreeMap::new(),
        from: vec![],
        place: Place::default(),
    });
    site
}

/// The three tiers, measured by Telegraf, with two logs of the program.
pub fn shipped(state: &Path) -> Site {
    use infra::inventory::site::{Agent, LogFile, Monitoring, MonitoringService, Party, SecretRef};
    let log = |path: &str, multiline: Option<&str>| LogFile {
        path: path.into(),
        on: Party::Role(Role::App),
        category: "prod/shop/app".into(),
        multiline: multiline.map(ToOwned::to_owned),
    };
    let url = "https://endpoint1.collection.example.com/receiver/v1/http/ZaVnC4dhaV2";
    let mut site = three_tier(state);
    site.monitoring = Some(Monitoring {
        service: MonitoringService::Sumologic,
        agent: Agent::Telegraf,
        source: Some(SecretRef::Command(vec!["echo".into(), url.into()])),
        token: None,
        logs: vec![log("/var/log/shop/*.log", None), log("/var/log/shop/trace.txt", Some(r"^\d{4}-\d\d-\d\d "))],
        repository: None,
        alerts: BTreeMap::new(),
        from: vec![],
        place: Place::default(),
    });
    site
}

/// What `apply` would put on hosts of one release: real certificates, real files.
pub fn built(
    site: &Site,
    facts: &infra::plan::state::Facts,
) -> (infra::plan::state::Desired, infra::base::materials::Materials) {
    let (all, now) = (site.hosts.keys().cloned().collect(), time::OffsetDateTime::now_utc());
    let mut issued = infra::material::gather(site, infra::service::ALL, &all, &mut BTreeMap::new(), now).unwrap();
    infra::material::make(site, infra::service::ALL, &all, &mut issued.materials).unwrap();
    let templates = infra::service::render::Templates::load(infra::service::ALL, None).unwrap();
    let facts: BTreeMap<_, _> = site.hosts.keys().map(|h| (h.clone(), facts.clone())).collect();
    let desired = infra::service::desire(
        site,
        (&facts, &infra::plan::decision::Memory::default()),
        &issued.materials,
        &templates,
    )
    .unwrap();
    (desired, issued.materials)
}
