//! A host over SSH: takes a [`Target`] and [`Options`], gives a [`Transport`] that is root there.
//!
//! One connection a host, one exec a script. The script and its input travel on stdin (`wrap.rs`); sudo's password too.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use ssh2::MethodType;

use super::dial::place;
pub use super::handshake::presented_keys;
use super::handshake::{exchange_keys, millis};
use super::known_hosts::{HostKey, Place, Verdict};
use super::login::login;
pub use super::options::Options;
use super::session::{Connection, Run};
pub use super::ssh_config::Bounds;
use super::ssh_config::Effective;
pub use super::target::{Ask, Become, Config, Prompt, Target};
use super::transport::{Hold, Output, Script, Transport, TransportError};
use super::trust::{A_BOOK, revoked_by};

/// A connection to one host. Dropping it ends everything that still runs on it.
pub struct SshTransport {
    inner: Arc<Mutex<Connection>>,
    key: HostKey,
    agreed: String,
    trip: Option<Duration>,
    files: usize,
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
        let to = Effective::of(target, &options.config, &options.asked)?;
        for text in &to.notes {
            options.note(text);
        }
        let bounds = options.bounds.unwrap_or(to.bounds);
        let started = Instant::now();
        let mut pauses = [250, 1000].into_iter().cycle().map(Duration::from_millis).take(options.retries as usize);
        loop {
            match Self::attempt(target, &to, options, bounds) {
                Err(e @ (TransportError::Unreachable { .. } | TransportError::Lost(_)))
                    if started.elapsed() < bounds.connect / 2 =>
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

    /// What was agreed on with the host: key exchange, signature of its key, cipher.
    pub fn agreed(&self) -> &str {
        &self.agreed
    }

    /// The round trip to the host, where we reach it ourselves.
    pub fn trip(&self) -> Option<Duration> {
        self.trip
    }

    /// How many descriptors it keeps.
    pub fn files(&self) -> usize {
        self.files
    }

    fn attempt(target: &Target, to: &Effective, options: &Options, bounds: Bounds) -> Result<Self, TransportError> {
        let files = options.known_hosts.clone().unwrap_or_else(|| to.known_hosts_files());
        let known = options.books.read(&files);
        let known = known.map_err(|e| TransportError::Setup(format!("cannot read host keys: {e}")))?;
        let (name, port) = to.key_name();
        let about = known.about(name, port);
        let pass = options.gate.enter(to.proxy_jump.as_deref(), to.proxy_command.is_some());
        let (session, link, key) = exchange_keys(to, options, bounds, &about.key_types(), true)?;
        let verdict = about.verdict(&key);
        if let Some(mut refusal) = known.refusal(&target.host, name, port, &key, &verdict) {
            link.shut();
            // A key that is accepted must have a place to be kept.
            if let (Verdict::Unknown { .. }, None, Err(why)) = (&verdict, &options.known_hosts, to.book()) {
                refusal.push_str(&format!("\n  before that, {A_BOOK}: {why}"));
            }
            return Err(TransportError::HostKey(refusal));
        }
        if key.rsa_bits().is_some_and(|bits| bits < to.least_rsa_bits) {
            link.shut();
            return Err(TransportError::HostKey(format!(
                "the host key of `{}` has {} bits, and `RequiredRSASize` of the ssh configuration asks for {}",
                target.host,
                key.rsa_bits().unwrap_or_default(),
                to.least_rsa_bits
            )));
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
        session.set_timeout(millis(bounds.login));
        let logged_in = login(&session, to, options, (&target.host, &address), bounds.login);
        drop(pass);
        if let Err(e) = logged_in {
            link.shut();
            return Err(e);
        }
        session.set_keepalive(true, 15);
        let agreed = [MethodType::Kex, MethodType::HostKey, MethodType::CryptCs];
        let agreed: Vec<&str> = agreed.into_iter().filter_map(|kind| session.methods(kind)).collect();
        let agreed = agreed.join(", ");
        let (trip, files) = (link.trip(), link.files());
        let inner = Connection::new(session, link, address, to.user.clone(), target, options);
        Ok(Self { inner: Arc::new(Mutex::new(inner)), key, agreed, trip, files })
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
