//! The public certificate authorities of the twin's world: for each ACME directory that the inventory may ask a Pebble in `outside`,
//! under the directory's own URL. Takes the spec and a folder, gives running programs and the roots that the twin trusts.

use std::ffi::OsStr;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use time::OffsetDateTime;

use super::directory::{Directory, Place};
use super::spec::{Outside, Spec};
use super::{Error, command, net};
use crate::base::fsx;
use crate::inventory::reveal::reveal;
use crate::inventory::site::KeyKind;
use crate::pki::internal_ca::{Authority, Permitted, Purpose, Wish};
use crate::service::certificates::wanted::LETS_ENCRYPT_STAGING;

/// Pebble's own ports; on the directory's stands its document alone, which names URLs of the first.
const PORT: u16 = 14000;
const MANAGEMENT: u16 = 15000;
/// What its certificates live, seconds.
const LIFE: u32 = 90 * 86_400;
/// What they live in any other profile (`shortlived`), seconds.
const SHORT_LIFE: u32 = 160 * 3600;
/// Names another program than this machine's `pebble`: newer ones know of profiles and of advice about renewals.
const PROGRAM: &str = "INFRA_LAB_PEBBLE";

/// What the controller and `outside` trust (PEM): the authorities of the directories' own names, and Pebble's roots.
pub(super) fn roots(dir: &Path) -> PathBuf {
    dir.join("outside/roots.pem")
}

fn failed(reason: &impl ToString) -> Error {
    Error::Command { what: "start the twin's certificate authority".to_owned(), reason: reason.to_string() }
}

/// One of them, where it is.
struct Server<'a> {
    directory: &'a Directory,
    place: Place,
    address: IpAddr,
    /// Its own folder; that of the first one is `outside/authority`.
    folder: PathBuf,
}

/// Starts those that do not run, and gives the roots of the certificates that they issue (PEM). Another start means
/// another root, and that all accounts and orders are forgotten. A staging's root is not among them, as in life.
pub(super) fn start(spec: &Spec, outside: &Outside, dir: &Path) -> Result<Vec<String>, Error> {
    if spec.authorities.is_empty() {
        return Ok(Vec::new());
    }
    let namespace = net::namespace(&spec.name, "outside");
    let mut servers = Vec::new();
    for (n, (directory, address)) in spec.authorities.iter().zip(&outside.authorities).enumerate() {
        let name = if n == 0 { "authority".to_owned() } else { format!("authority-{}", n + 1) };
        let folder = dir.join("outside").join(name);
        servers.push(Server { directory, place: directory.place()?, address: *address, folder });
    }
    let (inside, all) = (net::pids(&namespace), command::processes());
    for server in &servers {
        let (config, wanted) = (server.config(), server.configuration()?);
        let own = format!("{}/", server.folder.display());
        let of_it = |p: &&command::Process| inside.contains(&p.pid) && p.argv.iter().any(|a| a.starts_with(&own));
        let running: Vec<&command::Process> = all.iter().filter(of_it).collect();
        let same = std::fs::read_to_string(&config).is_ok_and(|old| old == wanted);
        if same && running.iter().any(|p| p.has(&config.to_string_lossy())) {
            continue;
        }
        // Of one that is to be another, or has died, nothing may hold the ports.
        let pids: Vec<u32> = running.iter().map(|p| p.pid).collect();
        command::kill(&pids);
        let deadline = Instant::now() + Duration::from_secs(10);
        let ended = || net::pids(&namespace).iter().all(|pid| !pids.contains(pid)).then_some(());
        command::wait_for(deadline, Duration::from_millis(20), ended);
        fsx::private_dir(&server.folder)?;
        server.certify()?;
        fsx::write_atomic(&config, wanted.as_bytes(), 0o600)?;
        server.launch(&namespace, outside, &config)?;
    }
    let (mut issuing, mut own) = (Vec::new(), String::new());
    for server in &servers {
        let root = server.root(&namespace)?;
        if server.directory.url != LETS_ENCRYPT_STAGING {
            issuing.push(root);
        }
        own.push_str(&fs_err::read_to_string(server.folder.join("ca.crt"))?);
    }
    fsx::write_atomic(&roots(dir), (own + &issuing.concat()).as_bytes(), 0o644)?;
    Ok(issuing)
}

impl Server<'_> {
    fn config(&self) -> PathBuf {
        self.folder.join("pebble.json")
    }

    fn socket(&self, port: u16) -> String {
        std::net::SocketAddr::new(self.address, port).to_string()
    }

    /// Waits until it answers, and gives the root of what it issues.
    fn root(&self, namespace: &str) -> Result<String, Error> {
        let deadline = Instant::now() + Duration::from_secs(20);
        let root = command::wait_for(deadline, Duration::from_millis(100), || {
            let fetch = |port: u16, path: &str| {
                let mut curl = Command::new("nsenter");
                curl.arg(format!("--net={}", net::file(namespace).display()));
                curl.args(["curl", "-q", "-sSf", "-m", "5", "--noproxy", "*", "--cacert"]);
                curl.arg(self.folder.join("ca.crt"));
                let at = if self.address.is_ipv6() { format!("[{}]", self.address) } else { self.address.to_string() };
                let host = &self.place.host;
                curl.args(["--resolve", &format!("{host}:{port}:{at}")]);
                command::run("ask Pebble", curl.arg(format!("https://{host}:{port}/{path}"))).ok()
            };
            // Its own document, which says all that this version knows, stands at the directory's path too.
            let document = self.folder.join("www").join(&self.place.path);
            fs_err::create_dir_all(document.parent()?).ok()?;
            fsx::write_atomic(&document, fetch(PORT, "dir")?.as_bytes(), 0o644).ok()?;
            fetch(self.place.port, &self.place.path)?;
            fetch(MANAGEMENT, "roots/0")
        });
        root.ok_or_else(|| {
            let log = |name: &str| std::fs::read_to_string(self.folder.join(name)).unwrap_or_default();
            failed(&command::last_lines(&(log("pebble.log") + &log("directory.log")), 4))
        })
    }

    /// The certificate of its name.
    fn certify(&self) -> Result<(), Error> {
        let now = OffsetDateTime::now_utc();
        let host = &self.place.host;
        let permitted = Permitted { domains: vec![host.clone()], networks: vec![] };
        let authority = Authority::new(&format!("infra lab {host}"), permitted, now).map_err(|e| failed(&e))?;
        let wish =
            Wish { names: vec![host.clone()], addresses: vec![], purpose: Purpose::Server, key: KeyKind::default() };
        let leaf = authority.signer().and_then(|signer| signer.issue(&wish, now)).map_err(|e| failed(&e))?;
        let put = |name: &str, text: &str| fsx::write_atomic(&self.folder.join(name), text.as_bytes(), 0o600);
        put("ca.crt", &authority.certificate)?;
        put("server.crt", &leaf.certificate)?;
        Ok(put("server.key", leaf.key.reveal())?)
    }

    /// What it is told.
    fn configuration(&self) -> Result<String, Error> {
        let mut pebble = serde_json::json!({
            "listenAddress": self.socket(PORT),
            "managementListenAddress": self.socket(MANAGEMENT),
            "certificate": self.folder.join("server.crt"),
            "privateKey": self.folder.join("server.key"),
            "httpPort": 80,
            "tlsPort": 443,
            "ocspResponderURL": "",
            "externalAccountBindingRequired": self.directory.eab.is_some(),
            "certificateValidityPeriod": LIFE,
        });
        if let Some((kid, key)) = &self.directory.eab {
            let key = reveal("eab", key, &self.folder).map_err(|why| failed(&why))?;
            pebble["externalAccountMACKeys"] = serde_json::json!({ kid: key.reveal() });
        }
        if std::env::var_os(PROGRAM).is_some() {
            // One that is asked for no profile gives any that it has: so no more of them than are asked for.
            let mut profiles = serde_json::json!({ "default": { "description": "the usual", "validityPeriod": LIFE } });
            if let Some(name) = &self.directory.profile {
                profiles[name] = serde_json::json!({ "description": "as asked for", "validityPeriod": SHORT_LIFE });
            }
            pebble["profiles"] = profiles;
        }
        // Pebble itself takes no notice of the URL: it is there so that another one is another configuration.
        Ok(serde_json::json!({ "pebble": pebble, "directory": self.directory.url }).to_string())
    }

    fn launch(&self, namespace: &str, outside: &Outside, config: &Path) -> Result<(), Error> {
        let enter = format!("--net={}", net::file(namespace).display());
        let dns = outside.services.first().map(|a| std::net::SocketAddr::new(*a, 53).to_string()).unwrap_or_default();
        let program = std::env::var_os(PROGRAM).unwrap_or_else(|| "pebble".into());
        let (program, config) = (program.to_string_lossy(), config.to_string_lossy());
        // No pauses; every order proves every name; now and then a nonce is refused, as in life.
        let pebble = [
            "nsenter",
            &enter,
            "env",
            "PEBBLE_VA_NOSLEEP=1",
            "PEBBLE_AUTHZREUSE=0",
            "PEBBLE_WFE_NONCEREJECT=5",
            &program,
            "-config",
            &config,
            "-dnsserver",
            &dns,
        ];
        command::detach("start Pebble", &self.folder.join("pebble.log"), &pebble.map(OsStr::new))?;
        let folder = self.folder.to_string_lossy();
        // Pebble's own path cannot be chosen.
        let serve = "mkdir -p \"$1/www\" && cd \"$1/www\" && exec openssl s_server -accept \"$2\" -cert \"$1/server.crt\" \
                     -key \"$1/server.key\" -WWW -quiet";
        let at = self.socket(self.place.port);
        let directory = ["nsenter", &enter, "sh", "-c", serve, "sh", &folder, &at];
        command::detach("serve the directory", &self.folder.join("directory.log"), &directory.map(OsStr::new))
    }
}

/// What makes a host trust the roots `$1`, `$2`, …, each in a file of its own; runs on the host.
pub(super) const TRUST: &str = "cd /usr/local/share/ca-certificates || exit 1
same=yes n=0
for root; do
    n=$((n + 1))
    [ \"$(cat lab-$n.crt 2>/dev/null)\" = \"$root\" ] && continue
    printf '%s\\n' \"$root\" >lab-$n.crt && same=no
done
[ $same = yes ] || update-ca-certificates --fresh >/dev/null 2>&1";
