//! A host over SSH: takes a [`Target`] and [`Options`], gives a [`Transport`] that is root there.
//!
//! One connection a host, one exec a script. The script and its input travel on stdin ([`super::wrap`]); sudo's password too.

use std::collections::BTreeMap;
use std::fmt;
use std::os::fd::{AsRawFd, RawFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use ssh2::{Channel, DisconnectCode, ErrorCode, MethodType, Session};

use super::channel::{Exchange, Step, Stop};
use super::jump::{self, Gate, Link, place};
use super::known_hosts::{HostKey, KnownHosts};
use super::login::login;
use super::ssh_config::Effective;
use super::transport::{Hold, Output, Script, Transport, TransportError};
use super::wrap::{Answer, Place, SUDO_PROMPT, Wrap, words};
use crate::base::secret::Secret;

/// The longest that opening a channel may take.
const OPENING: Duration = Duration::from_secs(20);
/// The longest that closing one may take; what does not answer by then is left alone.
const CLOSING: Duration = Duration::from_secs(3);
/// How often a wrong sudo password may be corrected.
const TRIES: usize = 3;
/// The types of host keys that we compare. Certificates are left out on purpose: libssh2 would ask for them first, and a
/// host that has one would then show a key that no known_hosts line has.
const PLAIN_TYPES: [&str; 5] =
    ["ssh-ed25519", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521", "ssh-rsa"];

/// How one becomes root after logging in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Become {
    /// The user is root.
    #[default]
    Direct,
    /// By sudo, with a password where it asks for one.
    Sudo,
}

/// Whom to reach. What is none is decided by `ssh`'s configuration.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Target {
    /// What a person would write after `ssh`: what `Host` lines match, and what errors call the host.
    pub host: String,
    /// What is connected to.
    pub address: Option<String>,
    /// The TCP port.
    pub port: Option<u16>,
    /// Who logs in.
    pub user: Option<String>,
    /// The only key to offer: a private key's file, or its `.pub` when an agent holds it.
    pub identity: Option<PathBuf>,
    /// `[user@]host[:port]`, several with commas; `none` for no jump whatever the configuration says.
    pub jump: Option<String>,
    /// How one becomes root there.
    pub become_root: Become,
}

impl Target {
    /// Takes the host; everything else is left to `ssh`'s configuration.
    pub fn new(host: impl Into<String>) -> Self {
        Self { host: host.into(), ..Self::default() }
    }
}

/// Which configuration of `ssh` is read.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Config {
    /// The person's and the machine's.
    #[default]
    Default,
    /// This file alone.
    File(PathBuf),
    /// None.
    None,
}

/// What a person is asked.
#[derive(Debug, PartialEq, Eq)]
pub enum Ask<'a> {
    /// The passphrase of a key file.
    Passphrase {
        /// The file.
        file: &'a Path,
        /// Whether the answer before was wrong.
        again: bool,
    },
    /// The password for sudo.
    Sudo {
        /// Whose.
        user: &'a str,
        /// Where.
        host: &'a str,
        /// Whether the answer before was wrong.
        again: bool,
    },
}

/// Who answers. Many connections ask at the same time: an answer for all hosts is kept by the implementation.
pub trait Prompt: Send + Sync {
    /// The answer, or nothing when there is none; may block on a person.
    fn answer(&self, ask: &Ask<'_>) -> Option<Secret>;
}

/// What holds for all connections of a run.
#[derive(Clone)]
pub struct Options {
    /// Which configuration of `ssh` is read.
    pub config: Config,
    /// The files of host keys, instead of those that the configuration names.
    pub known_hosts: Option<Vec<PathBuf>>,
    /// Who is asked for passphrases and passwords; nobody where there is no terminal.
    pub prompt: Option<Arc<dyn Prompt>>,
    /// Bounds simultaneous handshakes; shared by all connections.
    pub gate: Arc<Gate>,
    /// The longest for TCP, per address.
    pub connect_timeout: Duration,
    /// The longest for SSH's key exchange.
    pub handshake_timeout: Duration,
    /// The longest for the answer about one key.
    pub auth_timeout: Duration,
    /// How often a failed connection is tried again; host keys and refused logins never are.
    pub retries: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            config: Config::Default,
            known_hosts: None,
            prompt: None,
            gate: Arc::default(),
            connect_timeout: Duration::from_secs(10),
            handshake_timeout: Duration::from_secs(20),
            auth_timeout: Duration::from_secs(20),
            retries: 2,
        }
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("config", &self.config)
            .field("known_hosts", &self.known_hosts)
            .finish_non_exhaustive()
    }
}

/// The descriptor that the session keeps; one and the same socket as the transport's.
struct Shared(Arc<Link>);

impl AsRawFd for Shared {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

enum Sudo {
    NotNeeded,
    Silent,
    Password(Secret),
}

struct Inner {
    session: Session,
    link: Arc<Link>,
    /// `HOST:PORT`.
    address: String,
    user: String,
    host: String,
    sudo: Sudo,
    prompt: Option<Arc<dyn Prompt>>,
    wrap: Wrap,
    held: BTreeMap<u64, Channel>,
    next: u64,
    broken: Option<String>,
}

/// A connection to one host. Dropping it ends everything that still runs on it.
pub struct SshTransport {
    inner: Arc<Mutex<Inner>>,
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
        let (session, link, key) = handshake(to, options, &known.key_types_for(name, port))?;
        let verdict = known.lookup(name, port, &key);
        if let Some(refusal) = known.refusal(&target.host, name, port, &key, &verdict) {
            link.shut();
            return Err(TransportError::HostKey(refusal));
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
        let inner = Inner {
            session,
            link,
            address,
            user: to.user.clone(),
            host: target.host.clone(),
            sudo: if target.become_root == Become::Sudo { Sudo::Silent } else { Sudo::NotNeeded },
            prompt: options.prompt.clone(),
            wrap: Wrap::new(),
            held: BTreeMap::new(),
            next: 0,
            broken: None,
        };
        Ok(Self { inner: Arc::new(Mutex::new(inner)), key })
    }
}

/// All plain keys that a host presents, for `infra trust`: nothing is checked, nobody logs in.
///
/// # Errors
/// [`TransportError`] when the host presents none.
pub fn presented_keys(target: &Target, options: &Options) -> Result<(Effective, Vec<HostKey>), TransportError> {
    let to = Effective::of(target, &options.config)?;
    let _pass = options.gate.enter(to.proxy_jump.as_deref());
    let (mut keys, mut error) = (Vec::new(), None);
    for kind in PLAIN_TYPES {
        match exchange_keys(&to, options, &[kind.to_owned()], false) {
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

fn handshake(
    to: &Effective,
    options: &Options,
    known: &[String],
) -> Result<(Session, Arc<Link>, HostKey), TransportError> {
    exchange_keys(to, options, known, true)
}

/// The key exchange; offers the types of `first`, and then all others when `others`.
fn exchange_keys(
    to: &Effective,
    options: &Options,
    first: &[String],
    others: bool,
) -> Result<(Session, Arc<Link>, HostKey), TransportError> {
    let address = place(&to.hostname, to.port);
    let config = match &options.config {
        Config::File(file) => Some(file.as_path()),
        _ => None,
    };
    let bound = to.connect_timeout.unwrap_or(options.connect_timeout).min(options.connect_timeout);
    let link = Arc::new(jump::open(to, config, bound)?);
    let setup = |e: ssh2::Error| TransportError::Setup(format!("libssh2: {}", e.message()));
    let mut session = Session::new().map_err(setup)?;
    let mut types: Vec<&str> = first.iter().map(String::as_str).filter(|t| PLAIN_TYPES.contains(t)).collect();
    if others {
        types.extend(PLAIN_TYPES.iter().filter(|t| !first.iter().any(|f| f == *t)));
    }
    let methods: Vec<&str> =
        types.into_iter().map(|t| if t == "ssh-rsa" { "rsa-sha2-512,rsa-sha2-256" } else { t }).collect();
    session.method_pref(MethodType::HostKey, &methods.join(",")).map_err(setup)?;
    session.set_timeout(millis(options.handshake_timeout));
    session.set_tcp_stream(Shared(Arc::clone(&link)));
    if let Err(e) = session.handshake() {
        link.shut();
        return Err(handshake_error(&e, &link, address, options.handshake_timeout));
    }
    let key = session.host_key().map(|(blob, _)| HostKey::new(blob));
    let key = key.ok_or_else(|| TransportError::Setup(format!("{address} presented no host key")))?;
    Ok((session, link, key))
}

fn handshake_error(error: &ssh2::Error, link: &Link, address: String, bound: Duration) -> TransportError {
    if let Some(complaint) = link.complaint() {
        return TransportError::Unreachable { address, reason: format!("the jump says: {complaint}") };
    }
    let reason = match error.code() {
        ErrorCode::Session(-9) => {
            format!("it accepts connections and sends no SSH greeting, or no keys, within {} s", bound.as_secs())
        }
        ErrorCode::Session(-2 | -7 | -13 | -43) => {
            "it closed the connection before the keys were exchanged (too many at once, `MaxStartups`? not an SSH server?)"
                .to_owned()
        }
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

fn millis(time: Duration) -> u32 {
    // 0 would mean no bound at all.
    u32::try_from(time.as_millis()).unwrap_or(u32::MAX).max(1)
}

/// How one attempt at a script went.
enum Run {
    Done(Output),
    Line(String, Channel),
    PasswordNeeded,
    PasswordWrong,
}

impl Inner {
    fn lost(&mut self, what: &str) -> TransportError {
        let complaint = self.link.complaint().map(|c| format!(" ({c})")).unwrap_or_default();
        let words = format!("{}: {what}{complaint}", self.address);
        self.link.shut();
        self.broken = Some(words.clone());
        TransportError::Lost(words)
    }

    fn open(&mut self, command: &str) -> Result<Channel, TransportError> {
        if let Some(words) = &self.broken {
            return Err(TransportError::Lost(words.clone()));
        }
        self.session.set_blocking(true);
        self.session.set_timeout(millis(OPENING));
        let opened = self.session.channel_session().and_then(|mut channel| channel.exec(command).map(|()| channel));
        match opened {
            Ok(channel) => Ok(channel),
            Err(e) => match e.code() {
                ErrorCode::Session(-21 | -22) => Err(TransportError::Setup(format!(
                    "{} refuses to run commands for `{}`: {}",
                    self.address,
                    self.user,
                    e.message().to_lowercase()
                ))),
                _ => Err(self.lost(&plain(e.message()))),
            },
        }
    }

    /// Closes a channel and waits for the other side, bounded; a session that does not answer is given up.
    fn close(&mut self, mut channel: Channel, bound: Duration) {
        if self.broken.is_none() {
            self.session.set_blocking(true);
            self.session.set_timeout(millis(bound));
            if channel.close().is_err() {
                self.lost("it did not answer when a channel was closed");
            }
        }
        drop(channel);
    }

    fn release(&mut self, id: u64) {
        let Some(mut channel) = self.held.remove(&id) else { return };
        if self.broken.is_none() {
            // At the end of its stdin the script ends by itself, and what it held is free when this returns.
            self.session.set_blocking(true);
            self.session.set_timeout(millis(CLOSING));
            let _ = channel.send_eof().and_then(|()| channel.wait_eof());
        }
        self.close(channel, CLOSING);
    }

    fn once(&mut self, script: &Script, stdin: Option<&[u8]>) -> Result<Run, TransportError> {
        let deadline = Instant::now() + script.timeout;
        let prefix = match self.sudo {
            Sudo::NotNeeded => String::new(),
            Sudo::Silent => "env LC_ALL=C sudo -n -- ".to_owned(),
            Sudo::Password(_) => format!("env LC_ALL=C sudo -S -p {SUDO_PROMPT} -- "),
        };
        let mut channel = self.open(&self.wrap.command(&prefix))?;
        self.session.set_blocking(false);
        let head = self.wrap.head(script, &Place::default());
        let password = match &self.sudo {
            Sudo::Password(secret) => Some(format!("{}\n", secret.reveal())),
            _ => None,
        };
        let mut pieces: Vec<&[u8]> = Vec::with_capacity(3);
        pieces.extend(password.as_deref().map(str::as_bytes));
        pieces.push(&head);
        pieces.extend(stdin);
        let wrap = &self.wrap;
        let step = |out: &[u8], err: &[u8]| {
            if stdin.is_none() && first_line(wrap, out).is_some() {
                return Step::Stop;
            }
            if password.is_none() || wrap.start(out).is_some() {
                return Step::Send;
            }
            // sudo asks again: the password was wrong, and nothing else may be sent, or it would be taken for another one.
            let asked = String::from_utf8_lossy(err).matches(SUDO_PROMPT).count();
            if asked > 1 { Step::Stop } else { Step::First }
        };
        let mut exchange = Exchange::new(&self.session, &self.link, &mut channel);
        let stop = exchange.until(&pieces, stdin.is_some(), deadline, step);
        let stuck = exchange.stuck();
        let (stdout, stderr) = (std::mem::take(&mut exchange.stdout), std::mem::take(&mut exchange.stderr));
        let stop = stop.map_err(|e| self.lost(&plain(&e.to_string())))?;
        match stop {
            Stop::Late => {
                if stuck {
                    self.lost("a script that took too long was cut off");
                }
                self.close(channel, Duration::from_secs(1));
                Err(TransportError::Timeout { title: script.title.clone(), after: script.timeout })
            }
            Stop::Enough => match first_line(&self.wrap, &stdout) {
                Some(line) => Ok(Run::Line(line, channel)),
                None => {
                    self.close(channel, CLOSING);
                    Ok(Run::PasswordWrong)
                }
            },
            Stop::Closed => {
                self.session.set_blocking(true);
                self.session.set_timeout(millis(CLOSING));
                let signal = channel.exit_signal().ok().and_then(|s| s.exit_signal);
                let status = signal.map_or_else(|| channel.exit_status().unwrap_or(-1), |s| 128 + signal_number(&s));
                self.close(channel, CLOSING);
                let answer = self.wrap.answer(stdout, stderr);
                self.judge(script, stdin.is_none(), answer, status)
            }
        }
    }

    /// What a closed channel means.
    fn judge(&mut self, script: &Script, held: bool, answer: Answer, status: i32) -> Result<Run, TransportError> {
        let said = words(&answer.output.stderr);
        if !answer.started {
            if matches!(self.sudo, Sudo::NotNeeded) {
                return Err(TransportError::Setup(format!(
                    "{} runs no `sh` for `{}` (status {status}): {said}",
                    self.address, self.user
                )));
            }
            let lower = said.to_lowercase();
            if lower.contains("incorrect password") || lower.contains("incorrect authentication") {
                return Ok(Run::PasswordWrong);
            }
            if matches!(self.sudo, Sudo::Silent) && (lower.contains("required") && !lower.contains("tty")) {
                return Ok(Run::PasswordNeeded);
            }
            let reason = if said.is_empty() { format!("sudo ended with status {status}") } else { said };
            return Err(TransportError::Become { address: self.address.clone(), reason });
        }
        if held {
            return Err(TransportError::Setup(format!("`{}` ended with status {status}: {said}", script.title)));
        }
        match answer.ended {
            Some(_) => Ok(Run::Done(answer.output)),
            // Someone killed the shell itself.
            None if status > 0 => Ok(Run::Done(Output { status, ..answer.output })),
            None => Err(self.lost(&format!("`{}` was cut off", script.title))),
        }
    }

    fn script(&mut self, script: &Script, stdin: Option<&[u8]>) -> Result<Run, TransportError> {
        let refused = |address: &str, reason: &str| {
            Err(TransportError::Become { address: address.to_owned(), reason: reason.to_owned() })
        };
        for tries in 0.. {
            let again = match self.once(script, stdin)? {
                Run::PasswordNeeded => false,
                Run::PasswordWrong if tries < TRIES => true,
                Run::PasswordWrong => {
                    self.sudo = Sudo::Silent;
                    return refused(&self.address, "sudo refuses the password");
                }
                done => return Ok(done),
            };
            let asked =
                self.prompt.as_ref().map(|p| p.answer(&Ask::Sudo { user: &self.user, host: &self.host, again }));
            match asked {
                Some(Some(secret)) if !secret.reveal().contains(['\n', '\0']) => self.sudo = Sudo::Password(secret),
                Some(Some(_)) => return refused(&self.address, "the password has a line break"),
                Some(None) => return refused(&self.address, "sudo asks for a password and none was given"),
                None => {
                    return refused(
                        &self.address,
                        "sudo asks for a password and there is no terminal to ask for it; allow the user `NOPASSWD: ALL`, or \
                         log in as root",
                    );
                }
            }
        }
        refused(&self.address, "sudo refuses the password")
    }
}

/// The first line of a held script's stdout.
fn first_line(wrap: &Wrap, stdout: &[u8]) -> Option<String> {
    let rest = stdout.get(wrap.start(stdout)?..)?;
    let line = rest.split_inclusive(|b| *b == b'\n').next()?.strip_suffix(b"\n")?;
    Some(String::from_utf8_lossy(line).into_owned())
}

/// libssh2's words for a dead connection say little to a person.
fn plain(message: &str) -> String {
    match message {
        "transport read" | "Failure while draining incoming flow" | "Unable to send channel data" => {
            "the host or the network closed the connection".to_owned()
        }
        other => other.to_lowercase(),
    }
}

/// The number of a signal as RFC 4254 §6.10 names it, on Linux.
fn signal_number(name: &str) -> i32 {
    match name {
        "HUP" => 1,
        "INT" => 2,
        "QUIT" => 3,
        "ILL" => 4,
        "ABRT" => 6,
        "FPE" => 8,
        "KILL" => 9,
        "USR1" => 10,
        "SEGV" => 11,
        "USR2" => 12,
        "PIPE" => 13,
        "ALRM" => 14,
        _ => 15,
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        for (_, channel) in std::mem::take(&mut self.held) {
            self.close(channel, Duration::from_secs(1));
        }
        if self.broken.is_none() {
            self.session.set_blocking(true);
            self.session.set_timeout(500);
            let _ = self.session.disconnect(Some(DisconnectCode::ByApplication), "done", None);
        }
        // libssh2 waits for the peer when it frees a session; with the socket shut it does not.
        self.link.shut();
    }
}

struct SshHold {
    inner: Weak<Mutex<Inner>>,
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
            inner.lock().unwrap_or_else(PoisonError::into_inner).release(self.id);
        }
    }
}

impl Transport for SshTransport {
    fn run(&mut self, script: &Script, stdin: &[u8]) -> Result<Output, TransportError> {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        match inner.script(script, Some(stdin))? {
            Run::Done(output) => Ok(output),
            _ => Err(TransportError::Setup(format!("`{}` was not run", script.title))),
        }
    }

    fn hold(&mut self, script: &Script) -> Result<(String, Box<dyn Hold>), TransportError> {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        match inner.script(script, None)? {
            Run::Line(line, channel) => {
                inner.next += 1;
                let id = inner.next;
                inner.held.insert(id, channel);
                Ok((line, Box::new(SshHold { inner: Arc::downgrade(&self.inner), id })))
            }
            _ => Err(TransportError::Setup(format!("`{}` was not run", script.title))),
        }
    }
}
