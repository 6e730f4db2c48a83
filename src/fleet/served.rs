//! What the hosts show: takes where each certificate should be seen, looks there on the host itself by one script, gives the
//! leaf that was seen at each place. A listener is asked by a handshake, a file by its first certificate.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};

use serde::Serialize;

use crate::base::net::HostName;
use crate::base::secret::names;
use crate::fleet::run;
use crate::fleet::survey::Connector;
use crate::host::transport::Script;
use crate::inventory::site::{Host, Role, Site};
use crate::plan::state::DesiredHost;

/// Where a certificate is to be seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A listener.
    Port {
        /// Of the host itself, so that neither NAT nor a name server stands between.
        socket: SocketAddr,
        /// The name that is asked for; without one nothing is (RFC 6066 section 3: an address is no server name).
        sni: Option<String>,
    },
    /// A file: its first certificate.
    File(String),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Port { socket, sni: Some(name) } => write!(f, "{name} at {socket}"),
            Self::Port { socket, sni: None } => write!(f, "without a name at {socket}"),
            Self::File(path) => f.write_str(path),
        }
    }
}

/// A certificate at its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spot {
    /// The material that should be there, without its ending: `pki/web1/server`.
    pub material: String,
    /// Where.
    pub place: Place,
}

/// A leaf that was shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Leaf {
    /// Of its DER, lower-case hex.
    pub sha256: String,
    /// As openssl(1) writes it.
    pub not_after: String,
}

/// What was seen on a host at each place, nothing where there was no handshake or no certificate; or why it was not asked.
pub type Answer = Result<Vec<(Spot, Option<Leaf>)>, String>;

/// Where `host` has certificates: the files that are made of them, and the listeners that show them.
pub fn spots(site: &Site, host: &Host, desired: &DesiredHost) -> Vec<Spot> {
    let mut spots = Vec::new();
    let mut port = |material: String, socket: SocketAddr, sni: Option<String>| {
        spots.push(Spot { material, place: Place::Port { socket, sni } });
    };
    if host.has(Role::Lb) {
        let v4 = host.addresses.iter().chain(&host.public).any(IpAddr::is_ipv4);
        let loopback = if v4 { IpAddr::from([127, 0, 0, 1]) } else { std::net::Ipv6Addr::LOCALHOST.into() };
        let socket = SocketAddr::new(loopback, 443);
        for web in site.sites.values() {
            let material = format!("site/{}", web.name);
            for name in web.names() {
                // A wildcard's certificate stands for any name below it.
                port(material.clone(), socket, Some(name.as_str().replace('*', "infra-probe")));
            }
            // Who asks for an address sends no name, whichever it is.
            if !web.addresses.is_empty() {
                port(material, socket, None);
            }
        }
    }
    let own = format!("pki/{}/server", host.name);
    for (role, number) in [(Role::Web, site.ports.web), (Role::App, site.ports.app)] {
        for address in host.addresses.iter().filter(|_| host.has(role)) {
            port(own.clone(), SocketAddr::new(*address, number.get()), Some(site.internal_name(&host.name)));
        }
    }
    for (path, file) in &desired.files {
        let leaf = names(&file.body.text).into_iter().find_map(|name| name.strip_suffix(".crt"));
        // `pki/ca` is no leaf.
        if let Some(material) = leaf.filter(|m| m.starts_with("site/") || m.matches('/').count() == 2) {
            spots.push(Spot { material: material.to_owned(), place: Place::File(path.clone()) });
        }
    }
    spots
}

/// Looks at all places of each host, one exec a host.
pub fn look(
    site: &Site,
    spots: BTreeMap<HostName, Vec<Spot>>,
    connector: &dyn Connector,
    parallel: usize,
) -> BTreeMap<HostName, Answer> {
    let hosts: Vec<(HostName, Vec<Spot>)> = spots.into_iter().collect();
    let answers = run::each(hosts, parallel, |(name, spots)| {
        let answer = match site.hosts.get(&name) {
            Some(host) => ask(host, spots, connector),
            None => Err("it is not in the inventory".to_owned()),
        };
        (name, answer)
    });
    answers.into_iter().collect()
}

fn ask(host: &Host, spots: Vec<Spot>, connector: &dyn Connector) -> Answer {
    if spots.is_empty() {
        return Ok(Vec::new());
    }
    let mut transport = connector.connect(host).map_err(|e| e.to_string())?;
    let script = Script::new("look at the certificates", script(&spots));
    let output = transport.run(&script, b"").map_err(|e| e.to_string())?;
    let seen = parse(spots.len(), &String::from_utf8_lossy(&output.stdout));
    Ok(spots.into_iter().zip(seen).collect())
}

/// A listener that lets one handshake hang is not asked for the other names: each would take as long.
const FUNCTIONS: &str = r#"leaf() {
	openssl x509 -noout -fingerprint -sha256 -enddate 2>/dev/null
}
shake() {
	socket=$1
	shift
	case " $hangs " in *" $socket "*) return ;; esac
	seen=$(timeout 5 openssl s_client -connect "$socket" "$@" </dev/null 2>/dev/null)
	[ $? != 124 ] || hangs="$hangs $socket"
	printf '%s\n' "$seen" | leaf
}
hangs=
"#;

fn script(spots: &[Spot]) -> String {
    let mut text = FUNCTIONS.to_owned();
    for (number, spot) in spots.iter().enumerate() {
        text.push_str(&format!("echo '@ {number}'\n"));
        text.push_str(&match &spot.place {
            Place::Port { socket, sni: Some(name) } => format!("shake '{socket}' -servername '{name}'\n"),
            Place::Port { socket, sni: None } => format!("shake '{socket}' -noservername\n"),
            Place::File(path) => format!("[ ! -f '{path}' ] || leaf <'{path}'\n"),
        });
    }
    text + "exit 0\n"
}

/// The answers of [`script`] by number.
fn parse(places: usize, text: &str) -> Vec<Option<Leaf>> {
    let mut seen = vec![None; places];
    for part in text.split("@ ").skip(1) {
        let number = part.lines().next().and_then(|line| line.parse::<usize>().ok());
        let Some(slot) = number.and_then(|number| seen.get_mut(number)) else { continue };
        let field = |start: &str| {
            let line = part.lines().find(|l| l.to_ascii_lowercase().starts_with(start))?;
            line.split_once('=').map(|(_, value)| value.to_owned())
        };
        if let (Some(print), Some(not_after)) = (field("sha256 fingerprint="), field("notafter=")) {
            *slot = Some(Leaf { sha256: print.replace(':', "").to_ascii_lowercase(), not_after });
        }
    }
    seen
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_by_number() {
        let text = "@ 0\nsha256 Fingerprint=AB:01\nnotAfter=Feb 21 12:00:00 2027 GMT\n@ 1\n@ 7\nnotAfter=x\n@ z\n";
        let leaf = Leaf { sha256: "ab01".into(), not_after: "Feb 21 12:00:00 2027 GMT".into() };
        assert_eq!(parse(3, text), [Some(leaf), None, None]);
        assert_eq!(parse(1, "sh: openssl: not found"), [None]);
    }

    #[test]
    fn each_place_is_asked_in_its_way() {
        let port = |sni: Option<&str>| Place::Port {
            socket: "[fd00::1]:8443".parse().unwrap(),
            sni: sni.map(ToOwned::to_owned),
        };
        let places =
            [port(Some("web1.shop.infra.internal")), port(None), Place::File("/etc/nginx/tls/client.crt".into())];
        let spots = places.map(|place| Spot { material: "pki/web1/server".into(), place });
        let text = script(&spots);
        for line in [
            "shake '[fd00::1]:8443' -servername 'web1.shop.infra.internal'",
            "shake '[fd00::1]:8443' -noservername",
            "leaf <'/etc/nginx/tls/client.crt'",
        ] {
            assert!(text.contains(line), "{text}");
        }
    }
}
