//! Who we are to a host: takes a session whose host key was accepted, offers the agent's keys and then the key files, gives
//! a logged-in session or the list of what was tried.
//!
//! With a configured identity only that key is offered, from the agent or from its file: sshd counts every refused key
//! against `MaxAuthTries` (6 by default) and then hangs up.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use data_encoding::BASE64;
use ssh2::{ErrorCode, Session};

use super::known_hosts::HostKey;
use super::ssh_config::{AgentAt, Effective, home};
use super::target::{Ask, Options};
use super::transport::TransportError;
use crate::base::{fsx, visible};

const TIMEOUT: i32 = -9;
const FILE: i32 = -16;
const KEYFILE: i32 = -48;
/// Codes of libssh2 that mean «this key, no»; everything else about a key is trouble of ours.
const REFUSED: [i32; 2] = [-18, -19];
/// Codes of libssh2 that mean that the connection is gone.
const GONE: [i32; 4] = [-7, -13, -43, -45];
/// How long an agent may take to list its keys.
const AGENT_PATIENCE: Duration = Duration::from_secs(5);
/// Most bytes of a file of a key.
const KEY_BYTES: u64 = 256 << 10;
/// How often a wrong passphrase may be corrected.
const TRIES: usize = 3;

/// What one key came to.
enum Attempt {
    In,
    No(String),
    Gone(String),
}

/// Logs in.
///
/// # Errors
/// [`TransportError::Auth`] with what was tried.
pub(crate) fn login(session: &Session, to: &Effective, options: &Options, address: &str) -> Result<(), TransportError> {
    let mut tried = Vec::new();
    let failed = |tried| Err(TransportError::Auth { user: to.user.clone(), address: address.to_owned(), tried });
    let keys: Vec<KeyFile> = to.identity_files.iter().map(|path| KeyFile::read(path)).collect();
    for key in keys.iter().filter(|_| to.identities_only) {
        if let Some(trouble) = &key.trouble {
            tried.push(trouble.clone());
        }
    }
    match agent_keys(&to.agent) {
        Err(trouble) => tried.push(trouble),
        Ok(None) => {}
        Ok(Some((socket, held))) => {
            let configured = |k: &HostKey| keys.iter().any(|file| file.public.as_ref() == Some(k));
            let mut offered: Vec<&(HostKey, String)> = held.iter().filter(|(k, _)| configured(k)).collect();
            if !to.identities_only {
                offered.extend(held.iter().filter(|(k, _)| !configured(k)));
            }
            for (key, comment) in offered {
                let name = format!("the agent's key {} ({})", key.fingerprint(), clean(comment));
                match with_agent(session, &to.user, &socket, key) {
                    Attempt::In => return Ok(()),
                    Attempt::No(why) => tried.push(format!("{name}: {why}")),
                    Attempt::Gone(why) => {
                        tried.push(format!("{name}: {why}"));
                        return failed(tried);
                    }
                }
            }
        }
    }
    for key in &keys {
        let Some(private) = &key.private else { continue };
        let name = format!("the key file {}", key.path.display());
        match with_file(session, &to.user, key, private, options) {
            Attempt::In => return Ok(()),
            Attempt::No(why) => tried.push(format!("{name}: {why}")),
            Attempt::Gone(why) => {
                tried.push(format!("{name}: {why}"));
                return failed(tried);
            }
        }
    }
    if tried.is_empty() {
        let files: Vec<String> = to.identity_files.iter().map(|f| f.display().to_string()).collect();
        tried.push(format!(
            "nothing, for there is no agent (`SSH_AUTH_SOCK`) with a key and no key file ({}); give one as `ssh.identity`",
            files.join(", ")
        ));
    }
    failed(tried)
}

fn clean(text: &str) -> String {
    visible::line(&visible::short(text, 80)).into_owned()
}

fn classify(error: &ssh2::Error, tries: &str) -> Attempt {
    // libssh2 gives a dead connection the code of a refused key; only its words tell them apart.
    let gone = error.message().starts_with("Waiting for");
    match error.code() {
        ErrorCode::Session(-19) if error.message().starts_with("Callback") => {
            Attempt::No("the agent did not sign".to_owned())
        }
        ErrorCode::Session(code) if !gone && REFUSED.contains(&code) => Attempt::No("refused".to_owned()),
        ErrorCode::Session(code) if gone || GONE.contains(&code) => Attempt::Gone(format!(
            "the host hung up{tries}; if it counts refused keys (`MaxAuthTries`), name the right one as `ssh.identity`"
        )),
        ErrorCode::Session(TIMEOUT) => Attempt::Gone("no answer in time".to_owned()),
        ErrorCode::Session(FILE | KEYFILE) => Attempt::No("it cannot be used as a private key".to_owned()),
        _ => Attempt::No(error.message().to_lowercase()),
    }
}

fn with_agent(session: &Session, user: &str, socket: &Path, key: &HostKey) -> Attempt {
    let sign = || -> Result<(), ssh2::Error> {
        let mut agent = session.agent()?;
        agent.set_identity_path(socket)?;
        agent.connect()?;
        agent.list_identities()?;
        for identity in agent.identities()? {
            if identity.blob() == key.blob() {
                return agent.userauth(user, &identity);
            }
        }
        Ok(())
    };
    match sign() {
        Ok(()) if session.authenticated() => Attempt::In,
        Ok(()) => Attempt::No("the agent does not have it any more".to_owned()),
        Err(e) => classify(&e, " after the keys before"),
    }
}

fn with_file(session: &Session, user: &str, key: &KeyFile, private: &str, options: &Options) -> Attempt {
    let attempt = |passphrase: Option<&str>| session.userauth_pubkey_memory(user, None, private, passphrase);
    if !key.encrypted {
        return match attempt(None) {
            Ok(()) => Attempt::In,
            Err(e) => classify(&e, ""),
        };
    }
    let Some(prompt) = &options.prompt else {
        return Attempt::No(
            "it is encrypted and there is no terminal to ask for the passphrase; add it to an agent with `ssh-add`"
                .to_owned(),
        );
    };
    for again in 0..TRIES {
        let Some(passphrase) = prompt.answer(&Ask::Passphrase { file: &key.path, again: again > 0 }) else {
            return Attempt::No("it is encrypted and no passphrase was given".to_owned());
        };
        match attempt(Some(passphrase.reveal())) {
            Ok(()) => return Attempt::In,
            Err(e) => match classify(&e, "") {
                Attempt::No(_) if !matches!(e.code(), ErrorCode::Session(c) if REFUSED.contains(&c)) => {}
                other => return other,
            },
        }
    }
    Attempt::No("the passphrase is wrong".to_owned())
}

/// A key file as found on disk.
struct KeyFile {
    path: PathBuf,
    public: Option<HostKey>,
    private: Option<String>,
    encrypted: bool,
    trouble: Option<String>,
}

impl KeyFile {
    /// Reads what can be known without a passphrase; a file that does not exist is an empty answer with its trouble.
    fn read(path: &Path) -> Self {
        let mut key = Self { path: path.to_owned(), public: None, private: None, encrypted: false, trouble: None };
        let mut public_path = path.as_os_str().to_owned();
        public_path.push(".pub");
        let read_public = |p: &Path| fsx::read_text(p, KEY_BYTES).ok().and_then(|text| public_line(&text));
        match fsx::read_text(path, KEY_BYTES) {
            Ok(text) => {
                // `IdentityFile key.pub` is how ssh_config(5) names a key that only the agent holds.
                key.public = public_line(&text);
                if key.public.is_none() {
                    let (encrypted, public) = inspect(&text);
                    key.encrypted = encrypted;
                    key.public = public.or_else(|| read_public(Path::new(&public_path)));
                    key.private = Some(text);
                }
            }
            Err(e) => {
                key.public = read_public(Path::new(&public_path));
                if key.public.is_none() {
                    key.trouble = Some(match e.kind() {
                        std::io::ErrorKind::NotFound | std::io::ErrorKind::PermissionDenied => {
                            format!("the key file {}: {}", path.display(), reason(&e))
                        }
                        _ => format!("the key file {e}"),
                    });
                }
            }
        }
        key
    }
}

fn reason(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::NotFound => "it does not exist".to_owned(),
        std::io::ErrorKind::PermissionDenied => "it may not be read".to_owned(),
        _ => error.to_string(),
    }
}

fn public_line(text: &str) -> Option<HostKey> {
    let mut words = text.trim().split_ascii_whitespace();
    let (kind, key) = (words.next()?, words.next()?);
    let key = HostKey::new(BASE64.decode(key.as_bytes()).ok()?);
    (key.kind() == kind).then_some(key)
}

/// Whether a private key is encrypted, and its public half where the format shows it (PROTOCOL.key of OpenSSH).
fn inspect(text: &str) -> (bool, Option<HostKey>) {
    let Some((_, body)) = text.split_once("-----BEGIN OPENSSH PRIVATE KEY-----") else {
        return (text.contains("ENCRYPTED"), None);
    };
    let base64: String =
        body.split("-----END").next().unwrap_or_default().chars().filter(|c| !c.is_ascii_whitespace()).collect();
    let bytes = BASE64.decode(base64.as_bytes()).unwrap_or_default();
    let Some(rest) = bytes.strip_prefix(b"openssh-key-v1\0") else { return (false, None) };
    let Some((cipher, rest)) = string(rest) else { return (false, None) };
    let public = (|| {
        let (_kdf, rest) = string(rest)?;
        let (_options, rest) = string(rest)?;
        let (public, _) = string(rest.get(4..)?)?;
        Some(HostKey::new(public))
    })();
    (cipher != b"none", public)
}

/// A string of RFC 4251 §5 and what follows it.
fn string(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    rest.split_at_checked(u32::from_be_bytes(*length) as usize)
}

/// The agent's socket and keys with their comments; nothing when there is no agent. Asked by ourselves first, with a
/// time-out, since libssh2 would wait for a silent agent for ever.
#[expect(clippy::type_complexity, reason = "used once, right above")]
fn agent_keys(agent: &AgentAt) -> Result<Option<(PathBuf, Vec<(HostKey, String)>)>, String> {
    let socket = match agent {
        AgentAt::Nowhere => return Ok(None),
        AgentAt::Socket(path) => path.clone(),
        AgentAt::Environment => match std::env::var_os("SSH_AUTH_SOCK").filter(|p| !p.is_empty()) {
            Some(path) => PathBuf::from(path),
            None => return Ok(None),
        },
    };
    let socket = socket.strip_prefix("~").map(|rest| home().join(rest)).unwrap_or(socket);
    let name = format!("the agent at {}", socket.display());
    let list = || -> std::io::Result<Vec<(HostKey, String)>> {
        let mut stream = UnixStream::connect(&socket)?;
        stream.set_read_timeout(Some(AGENT_PATIENCE))?;
        stream.set_write_timeout(Some(AGENT_PATIENCE))?;
        // SSH_AGENTC_REQUEST_IDENTITIES (11), answered by SSH_AGENT_IDENTITIES_ANSWER (12): draft-ietf-sshm-ssh-agent §3.5.
        stream.write_all(&[0, 0, 0, 1, 11])?;
        let mut length = [0; 4];
        stream.read_exact(&mut length)?;
        let length = u32::from_be_bytes(length) as usize;
        if length > 4 << 20 {
            return Err(std::io::Error::other("its answer is too long"));
        }
        let mut answer = vec![0; length];
        stream.read_exact(&mut answer)?;
        let Some(mut rest) = answer.strip_prefix(&[12]).and_then(|r| r.get(4..)) else {
            return Err(std::io::Error::other("it is locked or refuses to list its keys"));
        };
        let mut keys = Vec::new();
        while let Some((blob, (comment, after))) = string(rest).and_then(|(blob, r)| Some((blob, string(r)?))) {
            keys.push((HostKey::new(blob), String::from_utf8_lossy(comment).into_owned()));
            rest = after;
        }
        Ok(keys)
    };
    match list() {
        Ok(keys) => Ok(Some((socket, keys))),
        Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => {
            Err(format!("{name}: no answer within {} s", AGENT_PATIENCE.as_secs()))
        }
        Err(e) => Err(format!("{name}: {}", reason(&e))),
    }
}
