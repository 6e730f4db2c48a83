//! What this machine reaches by itself, without SSH: takes addresses and ports, gives what came of a TCP connection to each.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use crate::base::net::Port;
use crate::host::descriptors::patiently;
use crate::host::transport::{Transport, TransportError};
use crate::host::wire;
use crate::service::firewall::attempts::Reach;
use crate::service::firewall::entries::Entry;
use crate::service::firewall::trace::{self, Traced, Watched};

/// How long silence is listened to.
pub const PATIENCE: Duration = Duration::from_secs(1);
/// How often is asked again what has not connected: a packet may be lost, and a daemon may be about to take its place.
const TIMES: usize = 3;
/// How long a host looks at what becomes of connections, seconds.
const LOOK: u64 = 4;
/// Connections at a time, for one host. Whoever works on many hosts has so many descriptors for each of them.
pub const TOGETHER: usize = 5;

/// The source address that the kernel would choose; no packet is sent.
pub fn local_address(to: IpAddr) -> Option<IpAddr> {
    let any: IpAddr = if to.is_ipv4() { [0, 0, 0, 0].into() } else { [0u16; 8].into() };
    let socket = patiently(|| UdpSocket::bind((any, 0))).ok()?;
    socket.connect((to, 9)).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

/// What comes of a connection, which is ended at once.
pub fn connect(address: IpAddr, port: Port) -> Reach {
    match patiently(|| TcpStream::connect_timeout(&SocketAddr::new(address, port.get()), PATIENCE)) {
        Ok(_) => Reach::Open,
        Err(e) => match e.kind() {
            std::io::ErrorKind::ConnectionRefused => Reach::Refused,
            std::io::ErrorKind::TimedOut => Reach::Drop,
            _ => Reach::Unreachable,
        },
    }
}

/// Those of `entries` that connect from here, asked once and all at a time.
pub fn open(entries: &BTreeSet<Entry>) -> BTreeSet<Entry> {
    let entries: Vec<&Entry> = entries.iter().collect();
    let mut open = BTreeSet::new();
    for some in entries.chunks(TOGETHER) {
        let answers = std::thread::scope(|scope| {
            let asked: Vec<_> =
                some.iter().map(|entry| (*entry, scope.spawn(|| connect(entry.address, entry.port)))).collect();
            // A thread that ended badly has reached nothing.
            asked.into_iter().map(|(entry, asked)| (entry, asked.join())).collect::<Vec<_>>()
        });
        open.extend(answers.into_iter().filter(|(_, reach)| matches!(reach, Ok(Reach::Open))).map(|(e, _)| e.clone()));
    }
    open
}

/// Those of `entries` that do not connect from here, though they were asked several times.
pub fn shut(entries: &BTreeSet<Entry>) -> BTreeSet<Entry> {
    let mut left = entries.clone();
    for round in 0..TIMES {
        if left.is_empty() {
            break;
        }
        if round > 0 {
            std::thread::sleep(Duration::from_millis(300));
        }
        let open = open(&left);
        left.retain(|entry| !open.contains(entry));
    }
    left
}

/// What the host says that becomes of connections, which `again` makes over and over meanwhile.
///
/// # Errors
/// What the transport says, or that the answer does not read.
pub fn traced(
    transport: &mut dyn Transport,
    watched: &Watched,
    mut again: impl FnMut(),
) -> Result<Traced, TransportError> {
    let script = wire::question("trace", &trace::script(watched, LOOK)).within(Duration::from_secs(30)).up_to(1 << 20);
    let output = std::thread::scope(|scope| {
        let asked = scope.spawn(|| transport.run(&script, b""));
        while !asked.is_finished() {
            again();
            std::thread::sleep(Duration::from_millis(200));
        }
        asked.join().map_err(|_| TransportError::Setup("the look at connections broke off".into()))
    })??;
    let told = wire::pairs(&output.stdout);
    if !told.is_whole() {
        return Err(TransportError::Setup(format!("the look at connections ended with {}", output.status)));
    }
    let word = |name| told.last(name).unwrap_or_default();
    Ok(Traced::read(word("listens"), word("own"), told.last("traced")))
}

/// What is to be watched for connections from these addresses.
pub fn watched<'a>(entries: impl IntoIterator<Item = &'a Entry>, from: impl Fn(IpAddr) -> Vec<IpAddr>) -> Watched {
    let mut watched = Watched::new();
    for entry in entries {
        watched.entry(entry.port).or_default().extend(from(entry.address));
    }
    watched
}
