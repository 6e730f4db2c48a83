//! The way to a host: takes an address, or a jump host, gives a connected socket.

use std::io::Read;
use std::net::{TcpStream, ToSocketAddrs};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};
use rustix::net::sockopt;

use super::process::wait;
use super::ssh_config::Effective;
use super::transport::TransportError;
use super::wrap::words;

/// The socket of a connection.
#[derive(Debug)]
pub(crate) enum Link {
    Tcp(TcpStream),
    Child(Proxy),
}

impl AsFd for Link {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(s) => s.as_fd(),
            Self::Child(p) => p.socket.as_fd(),
        }
    }
}

impl AsRawFd for Link {
    fn as_raw_fd(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }
}

impl Link {
    /// Ends the connection in both directions, so that nothing waits for an answer any more.
    pub(crate) fn shut(&self) {
        let _ = match self {
            Self::Tcp(s) => s.shutdown(std::net::Shutdown::Both),
            Self::Child(p) => p.socket.shutdown(std::net::Shutdown::Both),
        };
    }

    /// What the jump's command said, when it is the cause; ends it.
    pub(crate) fn complaint(&self) -> Option<String> {
        match self {
            Self::Tcp(_) => None,
            Self::Child(proxy) => proxy.complaint(),
        }
    }
}

/// A child whose stdin and stdout are the connection.
#[derive(Debug)]
pub(crate) struct Proxy {
    socket: UnixStream,
    child: Mutex<Child>,
}

impl Proxy {
    fn lock(&self) -> MutexGuard<'_, Child> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn complaint(&self) -> Option<String> {
        let mut child = self.lock();
        let mut stderr = child.stderr.take()?;
        let _ = self.socket.shutdown(std::net::Shutdown::Both);
        let _ = rustix::io::ioctl_fionbio(&stderr, true);
        // A command that failed says why and ends; one that hangs says nothing and is ended after a moment.
        let deadline = Instant::now() + Duration::from_secs(1);
        let (mut said, mut buffer) = (Vec::new(), [0; 4096]);
        loop {
            match stderr.read(&mut buffer) {
                Ok(0) => break,
                Ok(n) if said.len() < 65536 => said.extend_from_slice(buffer.get(..n).unwrap_or_default()),
                Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    if left.is_zero() || wait(&mut [PollFd::new(&stderr, PollFlags::IN)], left).is_err() {
                        break;
                    }
                }
                Ok(_) | Err(_) => break,
            }
        }
        end(&mut child);
        let said = words(&said);
        (!said.is_empty()).then_some(said)
    }
}

fn end(child: &mut Child) {
    if matches!(child.try_wait(), Ok(None))
        && let Some(group) = i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw)
    {
        let _ = rustix::process::kill_process_group(group, rustix::process::Signal::TERM);
    }
    let _ = child.kill();
    let _ = child.wait();
}

impl Drop for Proxy {
    fn drop(&mut self) {
        end(&mut self.lock());
    }
}

/// Opens the way to a host. `config` is the file for `ssh -F`, `bound` the longest that TCP may take.
///
/// # Errors
/// [`TransportError`]: `Resolve`, `Unreachable`, `Setup`.
pub(crate) fn open(to: &Effective, config: Option<&Path>, bound: Duration) -> Result<Link, TransportError> {
    if let Some(command) = &to.proxy_command {
        let mut shell = Command::new("sh");
        shell.arg("-c").arg(format!("exec {command}"));
        return proxy(shell, "the `ProxyCommand`");
    }
    if let Some(jump) = &to.proxy_jump {
        return proxy(jump_command(to, jump, config)?, "`ssh`, which the jump needs,");
    }
    tcp(&to.hostname, to.port, bound).map(Link::Tcp)
}

fn jump_command(to: &Effective, jump: &str, config: Option<&Path>) -> Result<Command, TransportError> {
    let (before, last) = jump.rsplit_once(',').map_or((None, jump), |(before, last)| (Some(before), last));
    let last = last.strip_prefix("ssh://").unwrap_or(last).trim_end_matches('/');
    let (user, place) = last.rsplit_once('@').map_or((None, last), |(user, place)| (Some(user), place));
    let (host, port) = match place.strip_prefix('[').and_then(|p| p.split_once(']')) {
        Some((host, rest)) => (host, rest.strip_prefix(':')),
        None => match place.rsplit_once(':') {
            Some((host, port)) if !host.contains(':') => (host, Some(port)),
            _ => (place, None),
        },
    };
    if host.is_empty() || host.starts_with('-') || port.is_some_and(|p| p.parse::<u16>().is_err()) {
        return Err(TransportError::Setup(format!("`{jump}` is not a jump host: write `[user@]host[:port]`")));
    }
    let mut ssh = Command::new("ssh");
    if let Some(config) = config {
        ssh.arg("-F").arg(config);
    }
    // Many of these run at once and none owns the terminal, so nothing may be asked; a dead way must be noticed.
    for option in ["BatchMode=yes", "ConnectTimeout=10", "ServerAliveInterval=15", "ServerAliveCountMax=3"] {
        ssh.args(["-o", option]);
    }
    if let Some(before) = before {
        ssh.args(["-J", before]);
    }
    if let Some(user) = user {
        ssh.args(["-l", user]);
    }
    if let Some(port) = port {
        ssh.args(["-p", port]);
    }
    let target = if to.hostname.contains(':') { format!("[{}]", to.hostname) } else { to.hostname.clone() };
    ssh.arg("-W").arg(format!("{target}:{}", to.port)).arg("--").arg(host);
    Ok(ssh)
}

fn proxy(mut command: Command, what: &str) -> Result<Link, TransportError> {
    let failed = |e: std::io::Error| TransportError::Setup(format!("cannot start {what}: {e}"));
    let (ours, theirs) = UnixStream::pair().map_err(failed)?;
    let theirs = OwnedFd::from(theirs);
    let child = command
        .stdin(Stdio::from(theirs.try_clone().map_err(failed)?))
        .stdout(Stdio::from(theirs))
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()
        .map_err(failed)?;
    Ok(Link::Child(Proxy { socket: ours, child: Mutex::new(child) }))
}

fn tcp(host: &str, port: u16, bound: Duration) -> Result<TcpStream, TransportError> {
    let resolve = |reason: String| TransportError::Resolve { name: host.to_owned(), reason };
    let addresses: Vec<_> = (host, port).to_socket_addrs().map_err(|e| resolve(e.to_string()))?.collect();
    if addresses.is_empty() {
        return Err(resolve("it has no address".to_owned()));
    }
    let mut reasons = Vec::new();
    for address in &addresses {
        match TcpStream::connect_timeout(address, bound) {
            Ok(stream) => {
                tune(&stream).map_err(|e| TransportError::Setup(format!("cannot set TCP options: {e}")))?;
                return Ok(stream);
            }
            Err(e) => {
                let reason = match e.kind() {
                    std::io::ErrorKind::TimedOut => format!("no answer within {} s", bound.as_secs()),
                    std::io::ErrorKind::ConnectionRefused => "connection refused: nothing listens there".to_owned(),
                    _ => e.to_string(),
                };
                reasons.push(if addresses.len() > 1 { format!("{}: {reason}", address.ip()) } else { reason });
            }
        }
    }
    Err(TransportError::Unreachable { address: place(host, port), reason: reasons.join("; ") })
}

/// `HOST:PORT`, with brackets round an IPv6 address.
pub(crate) fn place(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// No delay (each exec is a question that waits for its answer), and a peer that vanished is noticed within a minute also
/// while nothing is asked.
fn tune(stream: &TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, Duration::from_secs(15))?;
    sockopt::set_tcp_keepintvl(stream, Duration::from_secs(10))?;
    sockopt::set_tcp_keepcnt(stream, 4)?;
    // A network's own trouble must not hide a failure of options that only make it quicker to notice.
    let _ = sockopt::set_tcp_user_timeout(stream, 60_000);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::target::Target;

    #[test]
    fn a_jump_becomes_an_argv() {
        let to = Effective::parse("hostname fd00::1\nport 2222\n", &Target::new("x"), Path::new("/h"));
        let command = jump_command(&to, "a@b:1,ssh://ops@[fd00::9]:23", None).unwrap();
        let argv: Vec<_> = command.get_args().map(|a| a.to_string_lossy().into_owned()).collect();
        assert_eq!(argv[8..], ["-J", "a@b:1", "-l", "ops", "-p", "23", "-W", "[fd00::1]:2222", "--", "fd00::9"]);
        for bad in ["", "-oProxyCommand=x", "a:b", "u@"] {
            assert!(jump_command(&to, bad, None).is_err(), "{bad}");
        }
    }
}
