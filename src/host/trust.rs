//! What a person reads when a host's key does not let us connect, and the one way in which a key is added: takes a
//! verdict, gives the text with the next step; takes a fingerprint, writes the line.

use std::fmt;
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use super::host_key::{HostKey, plain_word};
use super::known_hosts::{KnownHosts, Place, Verdict, name_of, without};
use super::process::{Conversation, Ended};
use super::transport::TransportError;
use super::wrap::{find, words};
use crate::base::fsx;

/// What to do where no file keeps the keys of hosts.
pub const A_BOOK: &str = "set `UserKnownHostsFile` to a file of yours, in ~/.ssh/config or in the file that `ssh: { config: … }` of \
                          the inventory names";

impl KnownHosts {
    /// Why a verdict does not let us connect, with the next step; nothing for [`Verdict::Trusted`].
    ///
    /// `alias` is what the person calls the host, `name` the one that known_hosts is searched for.
    pub fn refusal(&self, alias: &str, name: &str, port: u16, key: &HostKey, verdict: &Verdict) -> Option<String> {
        let (kind, print, shown) = (key.kind(), key.fingerprint(), name_of(name, port));
        Some(match verdict {
            Verdict::Trusted => return None,
            Verdict::Revoked { place } => format!(
                "the host key of `{alias}` is revoked\n  it presented {kind} {print} for `{shown}`\n  \
                 marked `@revoked` in {place}\n  do not connect: whoever holds this key may not be `{alias}`; give the host a \
                 new key, then `infra trust {alias}`"
            ),
            Verdict::Changed { place, known } => format!(
                "the host key of `{alias}` has changed: someone may be between you and the host, or it was reinstalled\n  \
                 it presented {kind} {print} for `{shown}`\n  known is       {kind} {known}, from {place}\n  if you know why \
                 it changed, compare the new fingerprint on the host (`ssh-keygen -lf /etc/ssh/ssh_host_{}_key.pub`), then \
                 `infra trust {alias} --fingerprint {print}` puts it in the old one's place",
                short_kind(kind)
            ),
            Verdict::Unknown { other_types, authorities, elsewhere } => {
                use fmt::Write as _;
                let mut text = format!(
                    "the host key of `{alias}` is not known\n  it presented {kind} {print} for `{shown}`\n  searched: {}",
                    if self.files.is_empty() {
                        "no known_hosts file exists".to_owned()
                    } else {
                        self.files.iter().map(|f| f.display().to_string()).collect::<Vec<_>>().join(", ")
                    }
                );
                for (place, other) in other_types.iter().take(3) {
                    let _ = write!(text, "\n  another key of this host, of type {other}, is known from {place}");
                }
                for place in elsewhere.iter().take(3) {
                    let _ = write!(text, "\n  the same key is known under another name from {place}");
                }
                for place in authorities.iter().take(3) {
                    let _ = write!(
                        text,
                        "\n  {place} trusts a `@cert-authority` for it, but certificates of hosts are not supported: the \
                         plain key must be known"
                    );
                }
                let _ = write!(
                    text,
                    "\n  compare the fingerprint on the host (`ssh-keygen -lf /etc/ssh/ssh_host_{}_key.pub`), then `infra \
                     trust {alias} --fingerprint {print}`",
                    short_kind(kind)
                );
                text
            }
        })
    }
}

/// The part of `/etc/ssh/ssh_host_*_key` that a type's key is kept under.
fn short_kind(kind: &str) -> &str {
    match kind {
        "ssh-rsa" => "rsa",
        k if k.starts_with("ecdsa-") => "ecdsa",
        _ => "ed25519",
    }
}

/// Whether `RevokedHostKeys` has a key. The file is a list of public keys, or a binary list that `ssh-keygen -Q` reads.
///
/// # Errors
/// [`TransportError::Setup`] when it cannot be told: then the host is not connected to, as `ssh` itself would do.
pub(crate) fn revoked_by(file: &Path, key: &HostKey) -> Result<bool, TransportError> {
    let failed = |words: String| {
        TransportError::Setup(format!(
            "cannot check the host's key against `RevokedHostKeys {}`: {words}",
            file.display()
        ))
    };
    let bytes = fsx::read_bounded(file, fsx::SSH_BYTES).map_err(|e| failed(e.to_string()))?;
    if !bytes.starts_with(b"SSHKRL\n\0") {
        let text = String::from_utf8_lossy(&bytes);
        let shown = key.to_string();
        let Some((_, base64)) = shown.split_once(' ') else { return Ok(false) };
        return Ok(text.lines().any(|l| !l.starts_with('#') && l.split_ascii_whitespace().any(|w| w == base64)));
    }
    let mut line = tempfile::NamedTempFile::new().map_err(|e| failed(e.to_string()))?;
    writeln!(line, "{key}").map_err(|e| failed(e.to_string()))?;
    let mut command = Command::new("ssh-keygen");
    command.arg("-Q").arg("-f").arg(file).arg(line.path());
    let mut child = Conversation::start(&mut command).map_err(|e| failed(format!("`ssh-keygen`: {e}")))?;
    match child.until(&[], true, Instant::now() + Duration::from_secs(10), |_| false) {
        Ok(Ended::Exit(0)) => Ok(false),
        Ok(Ended::Exit(_)) if find(&child.stdout, b"REVOKED").is_some() => Ok(true),
        Ok(_) => Err(failed(words(&child.stderr))),
        Err(e) => Err(failed(e.to_string())),
    }
}

/// Why a key was not added.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// The fingerprint that the person gave is another one.
    #[error("the host presents {presented}, not {given}: nothing was written")]
    Mismatch {
        /// What the host presents.
        presented: String,
        /// What the person gave.
        given: String,
    },
    /// The file says that nobody may trust this key.
    #[error("the key {fingerprint} is marked `@revoked` in {place}: nothing was written")]
    Revoked {
        /// The key.
        fingerprint: String,
        /// The line.
        place: Place,
    },
    /// The file system's words.
    #[error("cannot change the known keys: {0}")]
    Io(#[from] io::Error),
}

/// Writes the line of a host's key to a known_hosts file, only when `fingerprint` is that of `key`, in place of other keys of
/// its type for that name; all else stays, other names of the same line among it. The file is replaced as a whole and keeps its
/// mode; a symbolic link is followed.
///
/// # Errors
/// [`TrustError`].
pub fn trust(file: &Path, host: &str, port: u16, key: &HostKey, fingerprint: &str) -> Result<(), TrustError> {
    let given = fingerprint.trim().trim_end_matches('=');
    let given = if given.starts_with("SHA256:") { given.to_owned() } else { format!("SHA256:{given}") };
    if given != key.fingerprint() {
        return Err(TrustError::Mismatch { presented: key.fingerprint(), given });
    }
    let name = name_of(host, port);
    if !plain_word(&name) || name.contains([',', '*', '?', '!', '|', '#']) || name.starts_with('@') {
        return Err(io::Error::other(format!("`{}` cannot be written as a host's name", name.escape_default())).into());
    }
    edit(file, |text| {
        let known = String::from_utf8_lossy(text);
        let known = KnownHosts::parse([(file, &*known)]);
        let verdict = known.lookup(host, port, key);
        if let Verdict::Revoked { place } = verdict {
            return Err(TrustError::Revoked { fingerprint: key.fingerprint(), place });
        }
        let mut text = without(text, &name, key);
        if verdict != Verdict::Trusted {
            if text.last().is_some_and(|b| *b != b'\n') {
                text.push(b'\n');
            }
            text.extend_from_slice(format!("{name} {key}\n").as_bytes());
        }
        Ok(text)
    })
}

/// Takes other keys of `key`'s type for a host out of a known_hosts file.
///
/// # Errors
/// [`TrustError::Io`].
pub fn forget(file: &Path, host: &str, port: u16, key: &HostKey) -> Result<(), TrustError> {
    edit(file, |text| Ok(without(text, &name_of(host, port), key)))
}

/// Replaces a file by what `change` makes of it, where that is something else.
fn edit(file: &Path, change: impl FnOnce(&[u8]) -> Result<Vec<u8>, TrustError>) -> Result<(), TrustError> {
    let file = &match fs_err::canonicalize(file) {
        Ok(real) => real,
        Err(e) if e.kind() == io::ErrorKind::NotFound => file.to_owned(),
        Err(e) => return Err(e.into()),
    };
    let (old, mode) = match fsx::read_bounded(file, fsx::SSH_BYTES) {
        Ok(text) => (text, fs_err::metadata(file)?.mode() & 0o7777),
        Err(e) if e.kind() == io::ErrorKind::NotFound => (Vec::new(), 0o600),
        Err(e) => return Err(e.into()),
    };
    let new = change(&old)?;
    if new == old {
        return Ok(());
    }
    if let Some(dir) = file.parent().filter(|d| !d.as_os_str().is_empty() && !d.exists()) {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    }
    Ok(fsx::write_atomic(file, &new, mode)?)
}
