//! The public certificate authority of the twin's world: Pebble in `outside`, under the host names of Let's Encrypt. Takes the
//! spec and a folder, gives running programs and the roots that the twin trusts.

use std::ffi::OsStr;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use time::OffsetDateTime;

use super::spec::{Outside, Spec};
use super::{Error, command, net};
use crate::base::fsx;
use crate::pki::internal_ca::{Authority, Permitted, Purpose, Wish};

/// The names under which the twin's DNS answers for it: those of Let's Encrypt and of its staging.
pub(super) const NAMES: [&str; 2] = ["acme-v02.api.letsencrypt.org", "acme-staging-v02.api.letsencrypt.org"];
/// Pebble's own ports; on 443 stands the directory alone, at Let's Encrypt's path, and names URLs of the first.
const PORT: u16 = 14000;
const MANAGEMENT: u16 = 15000;
/// What its certificates live, seconds.
const LIFE: u32 = 90 * 86_400;

/// What the controller and `outside` trust (PEM): the lab's authority, which signs Pebble's own name, and Pebble's root.
pub(super) fn roots(dir: &Path) -> PathBuf {
    dir.join("outside/roots.pem")
}

/// Where it listens.
fn address(outside: &Outside) -> Result<IpAddr, Error> {
    outside.services.first().copied().ok_or_else(|| failed(&"`outside` has no address"))
}

fn failed(reason: &impl ToString) -> Error {
    Error::Command { what: "start the twin's certificate authority".to_owned(), reason: reason.to_string() }
}

fn socket(address: IpAddr, port: u16) -> String {
    std::net::SocketAddr::new(address, port).to_string()
}

/// Starts it, where it does not run, and gives the root of the certificates that it issues (PEM). Another start means
/// another root, and that all accounts and orders are forgotten.
pub(super) fn start(spec: &Spec, outside: &Outside, dir: &Path) -> Result<String, Error> {
    let here = dir.join("outside/authority");
    let namespace = net::namespace(&spec.name, "outside");
    let address = address(outside)?;
    let config = here.join("pebble.json");
    let inside = net::pids(&namespace);
    let runs = command::processes().iter().any(|p| inside.contains(&p.pid) && p.has(&config.to_string_lossy()));
    if !runs {
        fsx::private_dir(&here)?;
        write(&here, &config, address)?;
        launch(&namespace, outside, &here, &config, address)?;
    }
    let deadline = Instant::now() + Duration::from_secs(20);
    let root = command::wait_for(deadline, Duration::from_millis(100), || {
        let fetch = |port: u16, path: &str| {
            let mut curl = Command::new("nsenter");
            curl.arg(format!("--net={}", net::file(&namespace).display()));
            curl.args(["curl", "-q", "-sSf", "-m", "5", "--noproxy", "*", "--cacert"]).arg(here.join("ca.crt"));
            let at = if address.is_ipv6() { format!("[{address}]") } else { address.to_string() };
            curl.args(["--resolve", &format!("{}:{port}:{at}", NAMES[0])]);
            command::run("ask Pebble", curl.arg(format!("https://{}:{port}{path}", NAMES[0]))).ok()
        };
        fetch(443, "/directory")?;
        fetch(PORT, "/dir")?;
        fetch(MANAGEMENT, "/roots/0")
    });
    let root = root.ok_or_else(|| {
        let log = |name: &str| std::fs::read_to_string(here.join(name)).unwrap_or_default();
        failed(&command::last_lines(&(log("pebble.log") + &log("directory.log")), 4))
    })?;
    let own = fs_err::read_to_string(here.join("ca.crt"))?;
    fsx::write_atomic(&roots(dir), (own + &root).as_bytes(), 0o644)?;
    Ok(root)
}

/// Certificate, configuration and the directory's document.
fn write(here: &Path, config: &Path, address: IpAddr) -> Result<(), Error> {
    let now = OffsetDateTime::now_utc();
    let permitted = Permitted { domains: vec!["letsencrypt.org".to_owned()], networks: vec![] };
    let authority = Authority::new("infra lab", permitted, now).map_err(|e| failed(&e))?;
    let names = NAMES.map(ToOwned::to_owned).to_vec();
    let wish = Wish { names, addresses: vec![], purpose: Purpose::Server };
    let leaf = authority.signer().and_then(|signer| signer.issue(&wish, now)).map_err(|e| failed(&e))?;
    let put = |name: &str, text: &str| fsx::write_atomic(&here.join(name), text.as_bytes(), 0o600);
    put("ca.crt", &authority.certificate)?;
    put("server.crt", &leaf.certificate)?;
    put("server.key", leaf.key.reveal())?;
    let pebble = serde_json::json!({ "pebble": {
        "listenAddress": socket(address, PORT),
        "managementListenAddress": socket(address, MANAGEMENT),
        "certificate": here.join("server.crt"),
        "privateKey": here.join("server.key"),
        "httpPort": 80,
        "tlsPort": 443,
        "ocspResponderURL": "",
        "externalAccountBindingRequired": false,
        "certificateValidityPeriod": LIFE,
    }});
    fsx::write_atomic(config, pebble.to_string().as_bytes(), 0o600)?;
    let url = |path: &str| format!("https://{}:{PORT}{path}", NAMES[0]);
    let directory = serde_json::json!({
        "newNonce": url("/nonce-plz"),
        "newAccount": url("/sign-me-up"),
        "newOrder": url("/order-plz"),
        "revokeCert": url("/revoke-cert"),
        "keyChange": url("/rollover-account-key"),
        "meta": { "termsOfService": "data:text/plain,for the lab alone" },
    });
    let site = here.join("www");
    fs_err::create_dir_all(&site)?;
    Ok(fsx::write_atomic(&site.join("directory"), directory.to_string().as_bytes(), 0o644)?)
}

fn launch(namespace: &str, outside: &Outside, here: &Path, config: &Path, address: IpAddr) -> Result<(), Error> {
    let enter = format!("--net={}", net::file(namespace).display());
    let dns = outside.services.first().map_or_else(String::new, |a| socket(*a, 53));
    let config = config.to_string_lossy();
    // No pauses; every order proves every name; now and then a nonce is refused, as in life.
    let pebble = [
        "nsenter",
        &enter,
        "env",
        "PEBBLE_VA_NOSLEEP=1",
        "PEBBLE_AUTHZREUSE=0",
        "PEBBLE_WFE_NONCEREJECT=5",
        "pebble",
        "-config",
        &config,
        "-dnsserver",
        &dns,
    ];
    command::detach("start Pebble", &here.join("pebble.log"), &pebble.map(OsStr::new))?;
    let folder = here.to_string_lossy();
    // Pebble's own path cannot be chosen.
    let serve =
        "cd \"$1/www\" && exec openssl s_server -accept \"$2\" -cert ../server.crt -key ../server.key -WWW -quiet";
    let at = socket(address, 443);
    let directory = ["nsenter", &enter, "sh", "-c", serve, "sh", &folder, &at];
    command::detach("serve the directory", &here.join("directory.log"), &directory.map(OsStr::new))
}

/// What makes a host trust the root `$1`; runs on the host.
pub(super) const TRUST: &str =
    "file=/usr/local/share/ca-certificates/lab.crt; [ \"$(cat $file 2>/dev/null)\" = \"$1\" ] && exit 0
printf '%s\\n' \"$1\" >$file && update-ca-certificates --fresh >/dev/null 2>&1";
