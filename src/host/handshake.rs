//! The first half of a connection: takes effective settings, gives an SSH session with keys exchanged and the key that
//! the host presented. Nothing is trusted yet.

use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::Duration;

use ssh2::{ErrorCode, MethodType, Session};

use super::dial::place;
use super::jump::{self, Link, first_words};
use super::known_hosts::HostKey;
use super::options::Options;
use super::ssh_config::{Bounds, Effective};
use super::target::{Config, Target};
use super::transport::{TransportError, saying};

/// The types of host keys that we compare. Certificates are left out on purpose: libssh2 would ask for them first, and a
/// host that has one would then show a key that no known_hosts line has.
const PLAIN_TYPES: [&str; 5] =
    ["ssh-ed25519", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521", "ssh-rsa"];

/// The descriptor that the session keeps; one and the same socket as the transport's.
struct Shared(Arc<Link>);

impl AsRawFd for Shared {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// All plain keys that a host presents, for `infra trust`: nothing is checked, nobody logs in.
///
/// # Errors
/// [`TransportError`] when the host presents none.
pub fn presented_keys(target: &Target, options: &Options) -> Result<(Effective, Vec<HostKey>), TransportError> {
    let to = Effective::of(target, &options.config, &options.asked)?;
    let bounds = options.bounds.unwrap_or(to.bounds);
    let _pass = options.gate.enter(to.proxy_jump.as_deref(), to.proxy_command.is_some());
    let (mut keys, mut error) = (Vec::new(), None);
    for kind in PLAIN_TYPES {
        match exchange_keys(&to, options, bounds, &[kind.to_owned()], false) {
            Ok((_, link, key)) => {
                link.shut();
                keys.push(key);
            }
            // The host has no key of this type.
            Err(TransportError::Setup(reason)) => error = error.or(Some(TransportError::Setup(reason))),
            Err(e) => return Err(e),
        }
    }
    match error {
        Some(error) if keys.is_empty() => Err(error),
        _ => Ok((to, keys)),
    }
}

/// The key exchange; offers the types of `first`, and then all others when `others`.
pub(crate) fn exchange_keys(
    to: &Effective,
    options: &Options,
    bounds: Bounds,
    first: &[String],
    others: bool,
) -> Result<(Session, Arc<Link>, HostKey), TransportError> {
    let address = place(&to.hostname, to.port);
    let config = match &options.config {
        Config::File(file) => Some(file.as_path()),
        _ => None,
    };
    let link = Arc::new(jump::open(to, config, bounds.connect)?);
    let setup = |e: ssh2::Error| TransportError::Setup(format!("libssh2: {}", e.message()));
    let mut session = Session::new().map_err(setup)?;
    let mut types: Vec<&str> = first.iter().map(String::as_str).filter(|t| PLAIN_TYPES.contains(t)).collect();
    if others {
        types.extend(PLAIN_TYPES.iter().filter(|t| !first.iter().any(|f| f == *t)));
    }
    // As a person has chosen: names of signatures and of certificates beside those of keys.
    if let Some(chosen) = &to.algorithms.host_keys {
        let is = |kind: &str| {
            chosen.split(',').any(|one| one == kind || (kind == "ssh-rsa" && one.starts_with("rsa-sha2-")))
        };
        types.retain(|kind| is(kind));
    }
    let methods: Vec<&str> =
        types.into_iter().map(|t| if t == "ssh-rsa" { "rsa-sha2-512,rsa-sha2-256" } else { t }).collect();
    session.method_pref(MethodType::HostKey, &methods.join(",")).map_err(setup)?;
    for (what, option, kinds) in [
        (&to.algorithms.kex, "KexAlgorithms", &[MethodType::Kex][..]),
        (&to.algorithms.ciphers, "Ciphers", &[MethodType::CryptCs, MethodType::CryptSc]),
        (&to.algorithms.macs, "MACs", &[MethodType::MacCs, MethodType::MacSc]),
    ] {
        let Some(chosen) = what else { continue };
        for kind in kinds {
            session.method_pref(*kind, chosen).map_err(|_| {
                TransportError::Setup(format!("of the ssh configuration's `{option} {chosen}` infra has none"))
            })?;
        }
    }
    session.set_timeout(millis(bounds.handshake));
    session.set_tcp_stream(Shared(Arc::clone(&link)));
    let watch = Watch::begin(&link, bounds.handshake);
    let done = session.handshake();
    let late = watch.is_some_and(Watch::end);
    if let Err(e) = done {
        link.shut();
        return Err(if late {
            TransportError::Unreachable { address, reason: endless(bounds.handshake) }
        } else {
            let listen = || first_words(to, config, bounds.connect);
            handshake_error(&e, &link, address, bounds.handshake, listen)
        });
    }
    let key = session.host_key().map(|(blob, _)| HostKey::new(blob));
    let key = key.ok_or_else(|| TransportError::Setup(format!("{address} presented no host key")))?;
    Ok((session, link, key))
}

/// Ends a connection when its time is over. libssh2's own time-out counts silence alone, so a peer that goes on sending could keep
/// us for ever.
struct Watch {
    /// Dropped at the end of what is watched.
    end: mpsc::Sender<()>,
    /// Gives whether the time was over before.
    thread: JoinHandle<bool>,
}

impl Watch {
    /// Nothing where no thread can be had: then libssh2's time-out has to do.
    fn begin(link: &Arc<Link>, bound: Duration) -> Option<Self> {
        let (end, ended) = mpsc::channel::<()>();
        let link = Arc::clone(link);
        // A little more than libssh2's own, whose words are better.
        let bound = bound + bound / 10;
        let watch = move || {
            let late = matches!(ended.recv_timeout(bound), Err(RecvTimeoutError::Timeout));
            if late {
                link.shut();
            }
            late
        };
        let thread = std::thread::Builder::new().name("handshake".into()).stack_size(64 << 10).spawn(watch).ok()?;
        Some(Self { end, thread })
    }

    /// Whether the connection was ended.
    fn end(self) -> bool {
        drop(self.end);
        self.thread.join().unwrap_or(false)
    }
}

fn endless(bound: Duration) -> String {
    format!(
        "it goes on sending and has not agreed on keys after {} s: it is not an SSH server, or a broken one",
        bound.as_secs()
    )
}

fn handshake_error(
    error: &ssh2::Error,
    link: &Link,
    address: String,
    bound: Duration,
    listen: impl FnOnce() -> String,
) -> TransportError {
    if let Some(complaint) = link.complaint() {
        return TransportError::Unreachable { address, reason: format!("the jump says: {complaint}") };
    }
    let reason = match error.code() {
        ErrorCode::Session(-9) => {
            format!(
                "it accepts connections and sends no SSH greeting, or no keys, within {} s{}",
                bound.as_secs(),
                saying(&listen())
            )
        }
        ErrorCode::Session(-2 | -7 | -13 | -43) => format!(
            "it closed the connection before the keys were exchanged (too many at once, `MaxStartups`? not an SSH server?){}",
            saying(&listen())
        ),
        ErrorCode::Session(-5 | -8 | -33 | -51) => {
            return TransportError::Setup(format!(
                "cannot agree on keys and ciphers with {address}: {}",
                error.message().to_lowercase()
            ));
        }
        _ => error.message().to_lowercase(),
    };
    TransportError::Unreachable { address, reason }
}

/// A bound as libssh2 takes it.
pub(crate) fn millis(time: Duration) -> u32 {
    // 0 would mean no bound at all.
    u32::try_from(time.as_millis()).unwrap_or(u32::MAX).max(1)
}
