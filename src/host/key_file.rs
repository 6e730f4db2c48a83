//! A key to log in with, as found on disk: takes the path of its file, gives what can be known of it without a passphrase, and the
//! certificates that are its own.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use data_encoding::BASE64;

use super::host_key::{HostKey, string};
use crate::base::fsx;

/// Most bytes of a file of a key.
const KEY_BYTES: u64 = 256 << 10;
/// How the type of each certificate of OpenSSH ends (PROTOCOL.certkeys).
const CERTIFICATE: &str = "-cert-v01@openssh.com";

/// A certificate of OpenSSH for a key.
pub(super) struct Certificate {
    /// Where it was found.
    pub(super) path: PathBuf,
    /// Its line: type and base64.
    pub(super) line: String,
    /// What goes over the wire.
    pub(super) blob: HostKey,
}

impl Certificate {
    fn read(path: &Path) -> Option<Self> {
        let text = fsx::read_text(path, KEY_BYTES).ok()?;
        let blob = public_line(&text).filter(|key| key.kind().ends_with(CERTIFICATE))?;
        Some(Self { path: path.to_owned(), line: text.lines().next().unwrap_or_default().to_owned(), blob })
    }

    /// Whether it certifies `key`: behind its type and a nonce stand the fields of the key itself (PROTOCOL.certkeys).
    fn is_of(&self, key: &HostKey) -> bool {
        let fields = || {
            let (_, rest) = string(self.blob.blob())?;
            let (_nonce, rest) = string(rest)?;
            let (kind, own) = string(key.blob())?;
            let same = self.blob.kind().strip_suffix(CERTIFICATE)?.as_bytes()
                == kind.strip_suffix(b"@openssh.com").unwrap_or(kind);
            Some(same && rest.starts_with(own))
        };
        fields().unwrap_or_default()
    }
}

/// A key file as found on disk.
pub(super) struct KeyFile {
    pub(super) path: PathBuf,
    pub(super) public: Option<HostKey>,
    pub(super) private: Option<String>,
    pub(super) encrypted: bool,
    pub(super) trouble: Option<String>,
    /// Why its private half is left where it is, as `ssh` leaves it; a sentence.
    pub(super) unprotected: Option<String>,
    /// Certificates of this key, each with the line of its file.
    pub(super) certificates: Vec<Certificate>,
}

impl KeyFile {
    /// Reads what can be known without a passphrase; a file that does not exist is an empty answer with its trouble.
    ///
    /// Of `others`, the certificates that a configuration names, it has those that certify it.
    pub(super) fn read(path: &Path, others: &[PathBuf]) -> Self {
        let mut key = Self {
            path: path.to_owned(),
            public: None,
            private: None,
            encrypted: false,
            trouble: None,
            unprotected: None,
            certificates: Vec::new(),
        };
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
                    match unprotected(path) {
                        None => key.private = Some(text),
                        why => key.unprotected = why,
                    }
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
        let stem = path.to_string_lossy();
        let beside = PathBuf::from(format!("{}-cert.pub", stem.strip_suffix(".pub").unwrap_or(&stem)));
        let own = |certificate: &Certificate| match &key.public {
            Some(public) => certificate.is_of(public),
            None => certificate.path == beside,
        };
        let mut files = vec![&beside];
        files.extend(others.iter().filter(|file| **file != beside));
        key.certificates = files.into_iter().filter_map(|file| Certificate::read(file)).filter(own).collect();
        key
    }
}

/// Why a private key is not used, by the rule of `ssh`: others may read what is our own (`sshkey_perm_ok` of OpenSSH). The mode of what
/// belongs to somebody else is theirs to decide.
fn unprotected(path: &Path) -> Option<String> {
    let about = fs_err::metadata(path).ok()?;
    let (mode, ours) = (about.mode() & 0o7777, about.uid() == rustix::process::getuid().as_raw());
    (ours && mode & 0o077 != 0).then(|| {
        let file = path.display();
        format!("the private key {file} is not used, as for `ssh`: its mode is {mode:04o}, so others may read it; `chmod 600 {file}`")
    })
}

/// Why a file of a key was not read.
pub(super) fn reason(error: &std::io::Error) -> String {
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

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_certificate_belongs_to_its_key() {
        let dir = tempfile::tempdir().unwrap();
        let run = |args: &[&str]| {
            assert!(
                Command::new("ssh-keygen").arg("-q").args(args).current_dir(dir.path()).status().unwrap().success()
            );
        };
        run(&["-t", "ed25519", "-N", "", "-f", "ca"]);
        let mut all = Vec::new();
        for kind in ["ed25519", "rsa", "ecdsa"] {
            run(&["-t", kind, "-N", "", "-f", kind]);
            run(&["-s", "ca", "-I", "x", "-n", "ops", &format!("{kind}.pub")]);
            // Beside another key it is not taken for that one's.
            let aside = dir.path().join(format!("{kind}.certificate"));
            fs_err::rename(dir.path().join(format!("{kind}-cert.pub")), &aside).unwrap();
            all.push(aside);
        }
        for (at, kind) in ["ed25519", "rsa", "ecdsa"].iter().enumerate() {
            for file in [(*kind).to_owned(), format!("{kind}.pub")] {
                let key = KeyFile::read(&dir.path().join(file), &all);
                let own: Vec<&PathBuf> = key.certificates.iter().map(|certificate| &certificate.path).collect();
                assert_eq!(own, [&all[at]], "{kind}");
            }
        }
        fs_err::copy(&all[0], dir.path().join("ed25519-cert.pub")).unwrap();
        fs_err::copy(&all[0], dir.path().join("rsa-cert.pub")).unwrap();
        assert_eq!(KeyFile::read(&dir.path().join("ed25519.pub"), &[]).certificates.len(), 1);
        assert_eq!(KeyFile::read(&dir.path().join("rsa"), &[]).certificates.len(), 0);
    }
}
