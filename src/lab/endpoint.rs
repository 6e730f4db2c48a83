//! The monitoring service of the twin's world: takes the spec and a folder, runs in `outside` what stands for the HTTP source under the
//! inventory's host name, over TLS, and beside it the package repository of the agent's maker. Gives what was posted.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde::Deserialize;
use time::OffsetDateTime;

use super::agent::Maker;
use super::spec::{Endpoint, Outside, Spec};
use super::{Error, Lab, command, net};
use crate::base::fsx;
use crate::inventory::reveal::reveal;
use crate::inventory::site::{KeyKind, Site};
use crate::pki::internal_ca::{Authority, Permitted, Purpose, Wish};

const PROGRAM: &str = include_str!("endpoint.py");
/// The host of a source whose URL this machine is not told.
const USUAL: &str = "endpoint1.collection.sumologic.com";

/// That of an inventory whose agents post to an HTTP source.
pub(super) fn of_site(site: &Site) -> Option<Endpoint> {
    let monitoring = site.monitoring.as_ref().filter(|monitoring| monitoring.is_by_telegraf())?;
    let url = monitoring.source.as_ref().and_then(|source| reveal("source", source, &site.folder).ok());
    let source = url.as_ref().and_then(|url| split(url.reveal())).map_or(USUAL.to_owned(), |(host, _)| host);
    let packages = monitoring.repository.as_ref().and_then(|from| split(&from.url));
    Some(Endpoint { source, packages })
}

/// The names of its hosts.
fn hosts(endpoint: &Endpoint) -> Vec<String> {
    let packages = endpoint.packages.iter().map(|(host, _)| host.clone()).filter(|host| *host != endpoint.source);
    std::iter::once(endpoint.source.clone()).chain(packages).collect()
}

/// The host and the path of an https URL.
fn split(url: &str) -> Option<(String, String)> {
    let (host, path) = url.strip_prefix("https://")?.split_once('/').unwrap_or_default();
    (!host.is_empty()).then(|| (host.to_ascii_lowercase(), path.to_owned()))
}

/// Names and addresses for the DNS of the twin.
pub(super) fn names(spec: &Spec, outside: &Outside) -> Vec<(String, Vec<IpAddr>)> {
    let names = spec.endpoint.iter().flat_map(hosts);
    names.map(|name| (name, outside.endpoint.clone())).collect()
}

fn folder(dir: &Path) -> PathBuf {
    dir.join("outside/endpoint")
}

/// Starts it where it does not run as wanted, and gives the authority by which it is trusted (PEM).
pub(super) fn start(
    spec: &Spec,
    outside: &Outside,
    dir: &Path,
    maker: Option<&Maker>,
) -> Result<Option<String>, Error> {
    let Some(endpoint) = &spec.endpoint else { return Ok(None) };
    let folder = folder(dir);
    fsx::private_dir(&folder)?;
    let namespace = net::namespace(&spec.name, "outside");
    let program = folder.join("endpoint.py");
    let inside = net::pids(&namespace);
    let running =
        command::processes().into_iter().filter(|p| inside.contains(&p.pid) && p.has(&program.to_string_lossy()));
    let running: Vec<u32> = running.map(|p| p.pid).collect();
    let wanted = format!("{endpoint:?} {:?} {maker:?}", outside.endpoint);
    let same = std::fs::read_to_string(folder.join("wanted")).is_ok_and(|before| before == wanted);
    if !same || running.is_empty() {
        command::kill(&running);
        let deadline = Instant::now() + Duration::from_secs(10);
        let ended = || net::pids(&namespace).iter().all(|pid| !running.contains(pid)).then_some(());
        command::wait_for(deadline, Duration::from_millis(20), ended);
        if !same {
            certify(endpoint, &folder)?;
        }
        fs_err::write(&program, PROGRAM)?;
        let enter = format!("--net={}", net::file(&namespace).display());
        let listen = outside.endpoint.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
        let mut argv: Vec<&OsStr> = ["nsenter", &enter, "python3"].map(OsStr::new).into();
        argv.extend([program.as_os_str(), folder.as_os_str(), OsStr::new(&listen)]);
        if let (Some((_, path)), Some(maker)) = (&endpoint.packages, maker) {
            argv.extend([maker.repository.as_os_str(), OsStr::new(path)]);
        }
        command::detach("start what stands for the monitoring service", &folder.join("log"), &argv)?;
        let takes = |address: &IpAddr| {
            let mut nc = Command::new("nsenter");
            nc.args([enter.as_str(), "busybox", "nc", "-w", "2", &address.to_string(), "443"]);
            command::run("connect", &mut nc).is_ok()
        };
        let deadline = Instant::now() + Duration::from_secs(20);
        let all = || outside.endpoint.iter().all(takes).then_some(());
        if command::wait_for(deadline, Duration::from_millis(100), all).is_none() {
            let log = std::fs::read_to_string(folder.join("log")).unwrap_or_default();
            return Err(Error::Timeout { host: "outside".to_owned(), seconds: 20, last: command::last_lines(&log, 4) });
        }
        fs_err::write(folder.join("wanted"), wanted)?;
    }
    Ok(Some(fs_err::read_to_string(folder.join("ca.crt"))?))
}

/// The certificate of its names, and one of the same names that nobody trusts.
fn certify(endpoint: &Endpoint, folder: &Path) -> Result<(), Error> {
    let failed = |reason: &dyn std::fmt::Display| Error::Command {
        what: "certify what stands for the monitoring service".to_owned(),
        reason: reason.to_string(),
    };
    let now = OffsetDateTime::now_utc();
    let names = hosts(endpoint);
    let permitted = Permitted { domains: names.clone(), networks: vec![] };
    let wish = Wish { names, addresses: vec![], purpose: Purpose::Server, key: KeyKind::default() };
    let put = |name: &str, text: &str| fsx::write_atomic(&folder.join(name), text.as_bytes(), 0o600);
    for (name, ca) in [("server", "ca.crt"), ("stranger", "stranger-ca.crt")] {
        let authority = Authority::new("infra lab monitoring", permitted.clone(), now).map_err(|e| failed(&e))?;
        let leaf = authority.signer().and_then(|signer| signer.issue(&wish, now)).map_err(|e| failed(&e))?;
        put(ca, &authority.certificate)?;
        put(&format!("{name}.crt"), &leaf.certificate)?;
        put(&format!("{name}.key"), leaf.key.reveal())?;
    }
    Ok(())
}

/// One post of an agent.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Post {
    /// When, seconds since 1970.
    pub at: f64,
    /// What was answered.
    pub status: u16,
    /// Whose it says it is: the host's name in the inventory.
    pub host: String,
    /// The source category.
    pub category: String,
    /// Of what kind it is: `text/plain` of log lines.
    #[serde(rename = "type")]
    pub kind: String,
    /// Lines.
    pub body: String,
}

impl Post {
    /// Whether it was accepted.
    pub fn is_accepted(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// Whether these are measures, and not lines of a log.
    pub fn is_measures(&self) -> bool {
        self.kind.contains("prometheus")
    }
}

impl Lab {
    /// What agents have posted so far, oldest first; nothing in a lab without a monitoring service.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn received(&self) -> Result<Vec<Post>, Error> {
        let path = folder(self.dir()).join("received.jsonl");
        if !path.exists() {
            return Ok(Vec::new());
        }
        let lines = BufReader::new(fs_err::File::open(path)?).lines();
        // A line that is being written is not whole yet.
        let posts = lines.map(|line| Ok(serde_json::from_str(&line?).ok()));
        posts.filter_map(Result::transpose).collect()
    }

    /// What the monitoring service answers from now on: a status such as `503`; `hang`: nothing ever; `away`: it
    /// breaks connections; `stranger`: it shows a certificate that nobody trusts; `None`: it accepts.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn answer(&self, answer: Option<&str>) -> Result<(), Error> {
        let path = folder(self.dir()).join("answer");
        match answer {
            Some(text) => fs_err::write(path, text)?,
            None if path.exists() => fs_err::remove_file(path)?,
            None => {}
        }
        Ok(())
    }
}
