//! What name servers say about public names: takes names, gives addresses, CAA records, and whether TXT records have reached
//! every server of their zone. Asks those of /etc/resolv.conf, and the zone's own where caches would mislead.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr as _;
use std::time::{Duration, Instant};

use bytes::Bytes;
use domain::base::iana::Rcode;
use domain::base::{Message, Name, ParsedName, Rtype};
use domain::rdata::{A, Aaaa, Ns, Txt, caa::Caa};
use domain::resolv::StubResolver;
use domain::resolv::stub::conf::{ResolvConf, ServerConf, Transport};

/// How long one question may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often servers are asked whether a record has come.
const PAUSE: Duration = Duration::from_secs(1);
/// A name server's port.
const PORT: u16 = 53;

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Trouble {
    /// The name does not exist.
    #[error("there is no such name")]
    NoSuchName,
    /// Nobody could say.
    #[error("it could not be asked for: {0}")]
    Unanswered(String),
}

/// One CAA record (RFC 8659 §4.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authorization {
    /// Whether a CA that does not know the tag must refuse.
    pub critical: bool,
    /// `issue`, `issuewild`, `iodef`, …, in lower case.
    pub tag: String,
    /// Its value.
    pub value: String,
}

/// Asks with a runtime of its own.
///
/// # Errors
/// Those of `what`, or [`Trouble::Unanswered`].
pub fn blocking<T>(what: impl Future<Output = Result<T, Trouble>>) -> Result<T, Trouble> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|e| Trouble::Unanswered(e.to_string()))?;
    let result = runtime.block_on(what);
    runtime.shutdown_timeout(Duration::from_secs(1));
    result
}

/// All IPv4 and IPv6 addresses of a name, through aliases.
///
/// # Errors
/// [`Trouble`]; a name that exists and has no address gives an empty set.
pub async fn addresses(name: &str) -> Result<BTreeSet<IpAddr>, Trouble> {
    let resolver = resolver(None);
    let mut found = BTreeSet::new();
    let answer = ask(&resolver, name, Rtype::A).await?;
    found.extend(records::<A>(&answer).into_iter().map(|a| IpAddr::V4(a.addr())));
    let answer = ask(&resolver, name, Rtype::AAAA).await?;
    found.extend(records::<Aaaa>(&answer).into_iter().map(|a| IpAddr::V6(a.addr())));
    Ok(found)
}

/// The CAA records that hold for a name, and where they stand: its own, or those of the nearest name above it that has any
/// (RFC 8659 §3).
///
/// # Errors
/// [`Trouble::Unanswered`].
pub async fn authorizations(name: &str) -> Result<Option<(String, Vec<Authorization>)>, Trouble> {
    let resolver = resolver(None);
    let mut at = name.trim_start_matches("*.");
    loop {
        match ask(&resolver, at, Rtype::CAA).await {
            Ok(answer) => {
                let found: Vec<Authorization> = records::<Caa<Bytes>>(&answer).iter().map(authorization).collect();
                if !found.is_empty() {
                    return Ok(Some((at.to_owned(), found)));
                }
            }
            Err(Trouble::NoSuchName) => {}
            Err(trouble) => return Err(trouble),
        }
        match at.split_once('.') {
            Some((_, above)) => at = above,
            None => return Ok(None),
        }
    }
}

fn authorization(record: &Caa<Bytes>) -> Authorization {
    // RFC 8659 §4.1: bit 0, the highest.
    let critical = record.flags().bits() & 0x80 != 0;
    let tag = record.tag().to_string().trim_matches('"').to_ascii_lowercase();
    Authorization { critical, tag, value: String::from_utf8_lossy(record.value()).into_owned() }
}

/// Waits until every authoritative name server of each record's zone gives it: name and value of TXT records. A CA may ask
/// any of them.
///
/// # Errors
/// A sentence that names the record and the server that does not have it in time.
pub async fn spread(wanted: &[(String, String)], within: Duration) -> Result<(), String> {
    let deadline = Instant::now() + within;
    let mut zones: BTreeMap<&str, BTreeSet<(String, IpAddr)>> = BTreeMap::new();
    for (name, _) in wanted {
        if !zones.contains_key(name.as_str()) {
            let servers = servers(name).await.map_err(|why| format!("the name servers of {name}: {why}"))?;
            zones.insert(name, servers);
        }
    }
    for (name, value) in wanted {
        for (server, address) in zones.get(name.as_str()).into_iter().flatten() {
            let resolver = resolver(Some(*address));
            loop {
                let said = ask(&resolver, name, Rtype::TXT).await;
                let has = |answer: &Response| {
                    records::<Txt<Bytes>>(answer).iter().any(|txt| txt.text::<Vec<u8>>() == value.as_bytes())
                };
                if said.as_ref().is_ok_and(has) {
                    break;
                }
                if Instant::now() + PAUSE >= deadline {
                    let said = said.map_or_else(|e| format!("; {e}"), |_| String::new());
                    let seconds = within.as_secs();
                    return Err(format!(
                        "the name server {server} ({address}) does not have the TXT record of {name} after {seconds} s{said}"
                    ));
                }
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
    Ok(())
}

/// The authoritative servers of the zone that a name is in, by name and address; never none.
async fn servers(name: &str) -> Result<BTreeSet<(String, IpAddr)>, Trouble> {
    let resolver = resolver(None);
    let mut at = name;
    let found = loop {
        match ask(&resolver, at, Rtype::NS).await {
            Ok(answer) => {
                let found = records::<Ns<ParsedName<Bytes>>>(&answer);
                if !found.is_empty() {
                    break found;
                }
            }
            Err(Trouble::NoSuchName) => {}
            Err(trouble) => return Err(trouble),
        }
        match at.split_once('.') {
            Some((_, above)) => at = above,
            None => return Err(Trouble::Unanswered("no zone above it names its servers".to_owned())),
        }
    };
    let mut servers = BTreeSet::new();
    for server in found.iter().map(|ns| ns.nsdname().to_string()) {
        servers.extend(addresses(&server).await?.into_iter().map(|address| (server.clone(), address)));
    }
    // A machine that has no IPv6 asks no server over it.
    let reachable: BTreeSet<_> = servers.iter().filter(|(_, address)| reaches(*address)).cloned().collect();
    if reachable.is_empty() {
        Err(Trouble::Unanswered("no server of the zone can be reached".to_owned()))
    } else {
        Ok(reachable)
    }
}

/// Whether there is a way to an address; no packet is sent.
fn reaches(address: IpAddr) -> bool {
    let any: IpAddr = if address.is_ipv4() { [0; 4].into() } else { [0; 16].into() };
    std::net::UdpSocket::bind((any, 0)).and_then(|socket| socket.connect((address, PORT))).is_ok()
}

type Response = Message<Bytes>;

/// One that asks the machine's own servers, or one server and no other.
fn resolver(server: Option<IpAddr>) -> StubResolver {
    let mut conf = match server {
        None => ResolvConf::default(),
        Some(address) => {
            let mut conf = ResolvConf::new();
            conf.servers.push(ServerConf::new(SocketAddr::new(address, PORT), Transport::UdpTcp));
            conf.finalize();
            conf
        }
    };
    conf.options.timeout = PATIENCE;
    StubResolver::from_conf(conf)
}

async fn ask(resolver: &StubResolver, name: &str, kind: Rtype) -> Result<Response, Trouble> {
    let unanswered = |why: String| Trouble::Unanswered(format!("{kind} of {name}: {why}"));
    let question = Name::<Vec<u8>>::from_str(name).map_err(|e| unanswered(e.to_string()))?;
    let answer = resolver.query((question, kind)).await.map_err(|e| unanswered(e.to_string()))?.into_message();
    match answer.header().rcode() {
        Rcode::NOERROR => Ok(answer),
        Rcode::NXDOMAIN => Err(Trouble::NoSuchName),
        other => Err(unanswered(format!("the name server says {other}"))),
    }
}

/// Those of the answer's records that are of a kind; what cannot be read is left out.
fn records<'a, Data>(answer: &'a Response) -> Vec<Data>
where
    Data: domain::base::rdata::ParseRecordData<'a, Bytes>,
{
    let Ok(section) = answer.answer() else { return Vec::new() };
    section.limit_to_in::<Data>().filter_map(Result::ok).map(domain::base::Record::into_data).collect()
}
