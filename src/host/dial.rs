//! TCP to a host: takes the name or address, and where the connection is to come from, gives a connected socket.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, connect, socket_with, sockopt};

use super::descriptors::patiently;
use super::process::wait;
use super::ssh_config::Effective;
use super::transport::TransportError;

/// Connects to the first address that answers within `bound`; gives how long its answer took too, which is a round trip.
///
/// # Errors
/// [`TransportError`]: `Resolve`, `Unreachable`, `Setup`.
pub(super) fn dial(to: &Effective, bound: Duration) -> Result<(TcpStream, Duration), TransportError> {
    let (host, port) = (to.hostname.as_str(), to.port);
    let resolve = |reason: String| TransportError::Resolve { name: host.to_owned(), reason };
    let mut addresses: Vec<_> = (host, port).to_socket_addrs().map_err(|e| resolve(e.to_string()))?.collect();
    if let Some(family) = to.family {
        addresses.retain(|address| address.is_ipv4() == (family == 4));
        if addresses.is_empty() {
            return Err(resolve(format!("it has no IPv{family} address, and `AddressFamily` allows no other")));
        }
    }
    if addresses.is_empty() {
        return Err(resolve("it has no address".to_owned()));
    }
    let sources = match &to.bind_address {
        None => None,
        Some(name) => {
            let found = (name.as_str(), 0).to_socket_addrs();
            let found =
                found.map_err(|e| TransportError::Setup(format!("`BindAddress {name}` has no address: {e}")))?;
            Some((name, found.map(|source| source.ip()).collect::<Vec<_>>()))
        }
    };
    let mut reasons = Vec::new();
    for address in &addresses {
        let began = Instant::now();
        let connected = match &sources {
            None => patiently(|| TcpStream::connect_timeout(address, bound)),
            Some((name, sources)) => match sources.iter().find(|source| source.is_ipv4() == address.is_ipv4()) {
                Some(source) => patiently(|| from(*source, *address, bound))
                    .map_err(|e| io::Error::new(e.kind(), format!("from `BindAddress {name}`: {e}"))),
                None => Err(io::Error::other(format!("`BindAddress {name}` has no address of its family"))),
            },
        };
        match connected {
            Ok(stream) => {
                let trip = began.elapsed();
                tune(&stream).map_err(|e| TransportError::Setup(format!("cannot set TCP options: {e}")))?;
                return Ok((stream, trip));
            }
            Err(e) => {
                let reason = match e.kind() {
                    io::ErrorKind::TimedOut => format!("no answer within {} s", bound.as_secs()),
                    io::ErrorKind::ConnectionRefused => "connection refused: nothing listens there".to_owned(),
                    _ => e.to_string(),
                };
                reasons.push(if addresses.len() > 1 { format!("{}: {reason}", address.ip()) } else { reason });
            }
        }
    }
    Err(TransportError::Unreachable { address: place(host, port), reason: reasons.join("; ") })
}

/// As `TcpStream::connect_timeout`, from an address of ours.
fn from(source: IpAddr, to: SocketAddr, bound: Duration) -> io::Result<TcpStream> {
    let family = if to.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None)?;
    bind(&socket, &SocketAddr::new(source, 0))?;
    match connect(&socket, &to) {
        Ok(()) => {}
        Err(rustix::io::Errno::INPROGRESS) => {
            let mut fds = [PollFd::new(&socket, PollFlags::OUT)];
            wait(&mut fds, bound)?;
            if fds.iter().all(|fd| fd.revents().is_empty()) {
                return Err(io::ErrorKind::TimedOut.into());
            }
            sockopt::socket_error(&socket)??;
        }
        Err(e) => return Err(e.into()),
    }
    let stream = TcpStream::from(socket);
    stream.set_nonblocking(false)?;
    Ok(stream)
}

/// No delay (each exec is a question that waits for its answer), and a peer that vanished is noticed within a minute also
/// while nothing is asked.
pub(super) fn tune(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, Duration::from_secs(15))?;
    sockopt::set_tcp_keepintvl(stream, Duration::from_secs(10))?;
    sockopt::set_tcp_keepcnt(stream, 4)?;
    // A network's own trouble must not hide a failure of options that only make it quicker to notice.
    let _ = sockopt::set_tcp_user_timeout(stream, 60_000);
    Ok(())
}

/// `HOST:PORT`, with brackets round an IPv6 address.
pub(crate) fn place(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}
