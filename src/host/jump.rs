//! The way to a host: takes an address, or a jump host, gives a connected socket.

use std::io::{IoSliceMut, Read};
use std::net::TcpStream;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

use super::descriptors::patiently;
use super::dial::{dial, place, tune};
use super::process::wait;
use super::ssh_config::Effective;
use super::transport::TransportError;
use super::wrap::{find, greeting, words};

/// How long a server's first words are waited for, and how many bytes of them are read.
const LISTENING: Duration = Duration::from_secs(2);
const LISTENED: usize = 4096;

/// The socket of a connection.
#[derive(Debug)]
pub(crate) enum Link {
    /// With how long the other side took to answer, where we have dialled it.
    Tcp(TcpStream, Option<Duration>),
    Child(Proxy),
}

impl AsFd for Link {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(s, _) => s.as_fd(),
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
            Self::Tcp(s, _) => s.shutdown(std::net::Shutdown::Both),
            Self::Child(p) => p.socket.shutdown(std::net::Shutdown::Both),
        };
    }

    /// The round trip to the other side, where it is known.
    pub(crate) fn trip(&self) -> Option<Duration> {
        match self {
            Self::Tcp(_, trip) => *trip,
            Self::Child(_) => None,
        }
    }

    /// How many descriptors it keeps.
    pub(crate) fn files(&self) -> usize {
        match self {
            Self::Tcp(..) => 1,
            Self::Child(_) => 2,
        }
    }

    /// What the jump's command said, when it is the cause; ends it.
    pub(crate) fn complaint(&self) -> Option<String> {
        match self {
            Self::Tcp(..) => None,
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
        let link = proxy(shell, "the `ProxyCommand`")?;
        return if to.proxy_hands_over { handed_over(&link, to, bound) } else { Ok(link) };
    }
    if let Some(jump) = &to.proxy_jump {
        return proxy(jump_command(to, jump, config, bound)?, "`ssh`, which the jump needs,");
    }
    dial(to, bound).map(|(stream, trip)| Link::Tcp(stream, Some(trip)))
}

/// The connected socket that a `ProxyCommand` gives as ancillary data of its stdout (`ProxyUseFdpass`); it ends then.
fn handed_over(link: &Link, to: &Effective, bound: Duration) -> Result<Link, TransportError> {
    let address = place(&to.hostname, to.port);
    let mut room = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut room);
    let mut byte = [0; 1];
    let came = wait(&mut [PollFd::new(link, PollFlags::IN)], bound).is_ok()
        && recvmsg(
            link,
            &mut [IoSliceMut::new(&mut byte)],
            &mut ancillary,
            RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC,
        )
        .is_ok();
    let socket = ancillary.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut sockets) => sockets.next(),
        _ => None,
    });
    let Some(socket) = socket.filter(|_| came) else {
        let said = link.complaint().unwrap_or_else(|| {
            format!("no socket within {} s; `ProxyUseFdpass` is set, and it has to give one", bound.as_secs())
        });
        return Err(TransportError::Unreachable { address, reason: format!("the `ProxyCommand` says: {said}") });
    };
    let stream = TcpStream::from(socket);
    // It need not be TCP.
    let _ = tune(&stream);
    stream.set_nonblocking(false).map_err(|e| TransportError::Setup(format!("the handed over socket: {e}")))?;
    Ok(Link::Tcp(stream, None))
}

/// What a server says that is no SSH greeting, or says before it: asked over a connection of its own, after one has failed.
pub(crate) fn first_words(to: &Effective, config: Option<&Path>, bound: Duration) -> String {
    let Ok(link) = open(to, config, bound) else { return String::new() };
    let _ = rustix::io::ioctl_fionbio(&link, true);
    let deadline = Instant::now() + LISTENING;
    let (mut said, mut buffer) = (Vec::new(), [0; 1024]);
    while said.len() < LISTENED && !said.windows(4).any(|four| four == b"SSH-") {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() || wait(&mut [PollFd::new(&link, PollFlags::IN)], left).is_err() {
            break;
        }
        match rustix::io::read(&link, &mut buffer) {
            Ok(0) => break,
            Ok(n) => said.extend_from_slice(buffer.get(..n).unwrap_or_default()),
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
            Err(_) => break,
        }
    }
    let end = find(&said, b"SSH-").unwrap_or(said.len());
    link.shut();
    greeting(said.get(..end).unwrap_or_default())
}

fn jump_command(to: &Effective, jump: &str, config: Option<&Path>, bound: Duration) -> Result<Command, TransportError> {
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
    for option in ["BatchMode=yes", "ServerAliveInterval=15", "ServerAliveCountMax=3"] {
        ssh.args(["-o", option]);
    }
    ssh.arg("-o").arg(format!("ConnectTimeout={}", bound.as_secs().max(1)));
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
    let (ours, theirs) = patiently(UnixStream::pair).map_err(failed)?;
    let theirs = OwnedFd::from(theirs);
    command
        .stdin(Stdio::from(patiently(|| theirs.try_clone()).map_err(failed)?))
        .stdout(Stdio::from(theirs))
        .stderr(Stdio::piped())
        .process_group(0);
    let child = patiently(|| command.spawn()).map_err(failed)?;
    Ok(Link::Child(Proxy { socket: ours, child: Mutex::new(child) }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::ssh_config::Asked;
    use crate::host::target::{Config, Target};

    #[test]
    fn a_jump_becomes_an_argv() {
        let target = Target { address: Some("fd00::1".into()), port: Some(2222), ..Target::new("x") };
        let to = Effective::of(&target, &Config::None, &Asked::default()).unwrap();
        let command = jump_command(&to, "a@b:1,ssh://ops@[fd00::9]:23", None, Duration::from_secs(7)).unwrap();
        assert!(command.get_args().any(|a| a == "ConnectTimeout=7"));
        let argv: Vec<_> = command.get_args().map(|a| a.to_string_lossy().into_owned()).collect();
        assert_eq!(argv[8..], ["-J", "a@b:1", "-l", "ops", "-p", "23", "-W", "[fd00::1]:2222", "--", "fd00::9"]);
        for bad in ["", "-oProxyCommand=x", "a:b", "u@"] {
            assert!(jump_command(&to, bad, None, Duration::from_secs(7)).is_err(), "{bad}");
        }
    }
}
