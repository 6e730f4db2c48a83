//! A host over SSH: takes a [`Target`] and [`Options`], gives a [`Transport`] that is root there.
//!
//! One connection a host, one exec a script. The script and its input travel on stdin (`wrap.rs`); sudo's password too.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

pub use super::handshake::presented_keys;
use super::handshake::{exchange_keys, millis};
use super::jump::place;
use super::known_hosts::{HostKey, KnownHosts, Place, Verdict};
use super::login::login;
use super::session::{Connection, Run};
use super::ssh_config::Effective;
pub use super::target::{Ask, Become, Config, Options, Prompt, Target};
use super::transport::{Hold, Output, Script, Transport, TransportError};
use super::trust::revoked_by;

/// A connection to one host. Dropping it ends everything that still runs on it.
pub struct SshTransport {
    inner: Arc<Mutex<Connection>>,
    key: HostKey,
}

impl fmt::Debug for SshTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SshTransport").field("key", &self.key).finish_non_exhaustive()
    }
}

impl SshTransport {
    /// Connects, checks the host's key, logs in. Becoming root is seen to work by the first script.
    ///
    /// # Errors
    /// [`TransportError`]; only `Unreachable` and `Lost` were tried again, and only while that is quick.
    pub fn connect(target: &Target, options: &Options) -> Result<Self, TransportError> {
        let to = Effective::of(target, &options.config)?;
        let started = Instant::now();
        let mut pauses = [250, 1000].into_iter().cycle().map(Duration::from_millis).take(options.retries as usize);
        loop {
            match Self::attempt(target, &to, options) {
                Err(e @ (TransportError::Unreachable { .. } | TransportError::Lost(_)))
                    if started.elapsed() < options.connect_timeout / 2 =>
                {
                    let Some(pause) = pauses.next() else { return Err(e) };
                    std::thread::sleep(pause);
                }
                other => return other,
            }
        }
    }

    /// The key that the host presented, which known_hosts has.
    pub fn host_key(&self) -> &HostKey {
        &self.key
    }

    fn attempt(target: &Target, to: &Effective, options: &Options) -> Result<Self, TransportError> {
        let files = options.known_hosts.clone().unwrap_or_else(|| to.known_hosts_files());
        let known =
            KnownHosts::read(&files).map_err(|e| TransportError::Setup(format!("cannot read host keys: {e}")))?;
        let (name, port) = to.key_name();
        let pass = options.gate.enter(to.proxy_jump.as_deref());
        let (session, link, key) = exchange_keys(to, options, &known.key_types_for(name, port), true)?;
        let verdict = known.lookup(name, port, &key);
        if let Some(refusal) = known.refusal(&target.host, name, port, &key, &verdict) {
            link.shut();
            return Err(TransportError::HostKey(refusal));
        }
        if let Some(file) = &to.revoked_host_keys
            && revoked_by(file, &key)?
        {
            link.shut();
            let place = Place { file: file.clone(), line: 0 };
            let refusal = known.refusal(&target.host, name, port, &key, &Verdict::Revoked { place });
            return Err(TransportError::HostKey(refusal.unwrap_or_default()));
        }
        let address = place(&to.hostname, to.port);
        session.set_timeout(millis(options.auth_timeout));
        let logged_in = login(&session, to, options, &address);
        drop(pass);
        if let Err(e) = logged_in {
            link.shut();
            return Err(e);
        }
        session.set_keepalive(true, 15);
        let inner = Connection::new(session, link, address, to.user.clone(), target, options);
        Ok(Self { inner: Arc::new(Mutex::new(inner)), key })
    }
}

/// A panic in another thread leaves nothing behind that a next script would not notice.
fn locked(inner: &Mutex<Connection>) -> MutexGuard<'_, Connection> {
    inner.lock().unwrap_or_else(PoisonError::into_inner)
}

struct SshHold {
    inner: Weak<Mutex<Connection>>,
    id: u64,
}

impl fmt::Debug for SshHold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SshHold({})", self.id)
    }
}

impl Hold for SshHold {}

impl Drop for SshHold {
    fn drop(&mut self) {
        if let Some(inner) = self.inner.upgrade() {
            locked(&inner).release(self.id);
        }
    }
}

impl Transport for SshTransport {
    fn run_told(
        &mut self,
        script: &Script,
        stdin: &[u8],
        told: &mut dyn FnMut(&[u8]),
    ) -> Result<Output, TransportError> {
        let mut inner = locked(&self.inner);
        match inner.script(script, Some(stdin), told)? {
            Run::Done(output) => Ok(output),
            _ => Err(TransportError::Setup(format!("`{}` was not run", script.title))),
        }
    }

    fn hold(&mut self, script: &Script) -> Result<(String, Box<dyn Hold>), TransportError> {
        let mut inner = locked(&self.inner);
        match inner.script(script, None, &mut |_| ())? {
            Run::Line(line, channel) => {
                let id = inner.keep(channel);
                Ok((line, Box::new(SshHold { inner: Arc::downgrade(&self.inner), id })))
            }
            _ => Err(TransportError::Setup(format!("`{}` was not run", script.title))),
        }
    }
}
