//! What the hosts show: takes where each certificate should be seen, looks there on the host itself by one script, gives the
//! leaf that was seen at each place. A listener is asked by a handshake, a file by its first certificate.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};

use schemars::JsonSchema;
use serde::Serialize;

use crate::base::material::{CertificateId, Material, Purpose};
use crate::base::net::HostName;
use crate::base::secret::held;
use crate::base::sh::quote;
use crate::fleet::run;
use crate::fleet::survey::Connector;
use crate::host::transport::Script;
use crate::host::wire::{self, Pairs};
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
    /// Which should be there.
    pub id: CertificateId,
    /// Where.
    pub place: Place,
}

/// A leaf that was shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Leaf {
    /// Of its DER, lower-case hex.
    pub sha256: String,
    /// As openssl(1) writes it.
    pub not_after: String,
}

/// What was seen on a host at each place, nothing where there was no handshake or no certificate; or why it was not asked.
pub type Served = Result<Vec<(Spot, Option<Leaf>)>, String>;

/// Where `host` has certificates: the files that are made of them, and the listeners that show them.
pub fn spots(site: &Site, host: &Host, desired: &DesiredHost) -> Vec<Spot> {
    let mut spots = Vec::new();
    let mut port = |id: CertificateId, socket: SocketAddr, sni: Option<String>| {
        spots.push(Spot { id, place: Place::Port { socket, sni } });
    };
    if host.has(Role::Lb) {
        let v4 = host.addresses.iter().chain(&host.public).any(IpAddr::is_ipv4);
        let loopback = if v4 { IpAddr::from([127, 0, 0, 1]) } else { std::net::Ipv6Addr::LOCALHOST.into() };
        let socket = SocketAddr::new(loopback, 443);
        for web in site.sites.values() {
            let id = CertificateId::Site(web.name.clone());
            for name in web.names() {
                // A wildcard's certificate stands for any name below it.
                port(id.clone(), socket, Some(name.example()));
            }
            // Who asks for an address sends no name, whichever it is.
            if !web.addresses.is_empty() {
                port(id, socket, None);
            }
        }
    }
    let own = CertificateId::Hop { host: host.name.clone(), purpose: Purpose::Server };
    for (role, number) in [(Role::Web, site.ports.web), (Role::App, site.ports.app)] {
        for address in host.addresses.iter().filter(|_| host.has(role)) {
            port(own.clone(), SocketAddr::new(*address, number.get()), Some(site.internal_name(&host.name)));
        }
    }
    for (path, file) in &desired.files {
        let certificate = held(&file.body.text).into_iter().find_map(|material| match material {
            Material::Certificate(id) => Some(id),
            _ => None,
        });
        spots.extend(certificate.map(|id| Spot { id, place: Place::File(path.clone()) }));
    }
    spots
}

/// Looks at all places of each host, one exec a host.
pub fn look(
    site: &Site,
    spots: BTreeMap<HostName, Vec<Spot>>,
    connector: &dyn Connector,
    parallel: usize,
) -> BTreeMap<HostName, Served> {
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

fn ask(host: &Host, spots: Vec<Spot>, connector: &dyn Connector) -> Served {
    if spots.is_empty() {
        return Ok(Vec::new());
    }
    let mut transport = connector.connect(host).map_err(|e| e.to_string())?;
    let output = transport.run(&question(&spots), b"").map_err(|e| e.to_string())?;
    let told = wire::pairs(&output.stdout);
    if !told.is_whole() {
        return Err("its answer ends in the middle".to_owned());
    }
    let seen = parse(spots.len(), &told);
    Ok(spots.into_iter().zip(seen).collect())
}

/// A listener that lets one handshake hang is not asked for the other names: each would take as long.
const FUNCTIONS: &str = r#"leaf() {
	openssl x509 -noout -fingerprint -sha256 -enddate 2>/dev/null
}
# file NUMBER PATH
file() { real_way "$2" && plain "$ROOT$2" && emit "$1" "$(leaf <"$ROOT$2")"; }
# shake NUMBER SOCKET OPTION…
shake() {
	number=$1 socket=$2
	shift 2
	case " $hangs " in *" $socket "*) return ;; esac
	seen=$(timeout 5 openssl s_client -connect "$socket" "$@" </dev/null 2>/dev/null)
	[ $? != 124 ] || hangs="$hangs $socket"
	emit "$number" "$(printf '%s\n' "$seen" | leaf)"
}
hangs=
"#;

fn question(spots: &[Spot]) -> Script {
    let mut text = FUNCTIONS.to_owned();
    for (number, spot) in spots.iter().enumerate() {
        text.push_str(&match &spot.place {
            Place::Port { socket, sni: Some(name) } => {
                format!("shake {number} '{socket}' -servername {}\n", quote(name))
            }
            Place::Port { socket, sni: None } => format!("shake {number} '{socket}' -noservername\n"),
            Place::File(path) => format!("file {number} {}\n", quote(path)),
        });
    }
    wire::question("look at the certificates", &text)
}

/// The answers to [`question`] by number.
fn parse(places: usize, told: &Pairs) -> Vec<Option<Leaf>> {
    let leaf = |number: usize| {
        let part = told.last(&number.to_string())?;
        let field = |start: &str| {
            let line = part.lines().find(|l| l.to_ascii_lowercase().starts_with(start))?;
            line.split_once('=').map(|(_, value)| value.to_owned())
        };
        let sha256 = field("sha256 fingerprint=")?.replace(':', "").to_ascii_lowercase();
        Some(Leaf { sha256, not_after: field("notafter=")? })
    };
    (0..places).map(leaf).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_by_number() {
        let text = "0\0sha256 Fingerprint=AB:01\nnotAfter=Feb 21 12:00:00 2027 GMT\x001\0\x007\0notAfter=x\0z\0\0";
        let leaf = Leaf { sha256: "ab01".into(), not_after: "Feb 21 12:00:00 2027 GMT".into() };
        assert_eq!(parse(3, &wire::pairs(text.as_bytes())), [Some(leaf), None, None]);
        assert_eq!(parse(1, &wire::pairs(b"sh: openssl: not found")), [None]);
    }

    #[test]
    fn each_place_is_asked_in_its_way() {
        let port = |sni: Option<&str>| Place::Port {
            socket: "[fd00::1]:8443".parse().unwrap(),
            sni: sni.map(ToOwned::to_owned),
        };
        let places =
            [port(Some("web1.shop.infra.internal")), port(None), Place::File("/etc/nginx/tls/client.crt".into())];
        let spots = places.map(|place| Spot { id: "pki/web1/server".parse().unwrap(), place });
        let text = question(&spots).text;
        for line in [
            "shake 0 '[fd00::1]:8443' -servername 'web1.shop.infra.internal'",
            "shake 1 '[fd00::1]:8443' -noservername",
            "file 2 '/etc/nginx/tls/client.crt'",
        ] {
            assert!(text.contains(line), "{text}");
        }
    }
}
