//! Host keys by OpenSSH's known_hosts files: takes their texts, gives a verdict on a key that a host presented.
//!
//! libssh2's own check ignores `@revoked` and patterns, so this follows sshd(8) «SSH_KNOWN_HOSTS FILE FORMAT» instead:
//! hashed names, `*` and `?`, `!`, `[host]:port`, both markers. Nothing is ever written except by [`trust`].

use std::fmt;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use data_encoding::{BASE64, BASE64_NOPAD};
use ring::digest;
use ring::hmac;

use crate::base::fsx;

/// A public key as SSH sends it (RFC 4253 §6.6): its type's name first.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct HostKey(Vec<u8>);

impl HostKey {
    /// Takes the wire form.
    pub fn new(blob: impl Into<Vec<u8>>) -> Self {
        Self(blob.into())
    }

    /// Takes the base64 of a key line.
    fn parse(text: &str) -> Option<Self> {
        BASE64.decode(text.as_bytes()).or_else(|_| BASE64_NOPAD.decode(text.as_bytes())).ok().map(Self)
    }

    /// The wire form.
    pub fn blob(&self) -> &[u8] {
        &self.0
    }

    /// `ssh-ed25519`, `ssh-rsa` …; `unknown` when the bytes are no key.
    pub fn kind(&self) -> &str {
        let length = self.0.first_chunk::<4>().map(|n| u32::from_be_bytes(*n) as usize);
        let name = length.and_then(|n| self.0.get(4..4_usize.checked_add(n)?));
        name.and_then(|n| std::str::from_utf8(n).ok()).filter(|n| plain_word(n)).unwrap_or("unknown")
    }

    /// `SHA256:…`, as `ssh-keygen -lf` prints it.
    pub fn fingerprint(&self) -> String {
        format!("SHA256:{}", BASE64_NOPAD.encode(digest::digest(&digest::SHA256, &self.0).as_ref()))
    }
}

impl fmt::Debug for HostKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind(), self.fingerprint())
    }
}

impl fmt::Display for HostKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind(), BASE64.encode(&self.0))
    }
}

fn plain_word(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_graphic())
}

/// A line of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The file.
    pub file: PathBuf,
    /// The line, from 1.
    pub line: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file.display(), self.line)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Marker {
    None,
    Revoked,
    Authority,
}

#[derive(Debug, Clone)]
enum Names {
    Patterns(String),
    Hashed { salt: Vec<u8>, digest: Vec<u8> },
}

impl Names {
    fn parse(text: &str) -> Option<Self> {
        let Some(hashed) = text.strip_prefix("|1|") else {
            // `|2|` and so on would be a format of the future: not a name.
            return (!text.starts_with('|')).then(|| Self::Patterns(text.to_ascii_lowercase()));
        };
        let (salt, digest) = hashed.split_once('|')?;
        let (salt, digest) = (BASE64.decode(salt.as_bytes()).ok()?, BASE64.decode(digest.as_bytes()).ok()?);
        (digest.len() == 20).then_some(Self::Hashed { salt, digest })
    }

    /// Takes a lower-case name: `host` or `[host]:port`.
    fn matches(&self, name: &str) -> bool {
        match self {
            Self::Hashed { salt, digest } => {
                let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, salt);
                hmac::sign(&key, name.as_bytes()).as_ref() == digest.as_slice()
            }
            Self::Patterns(list) => {
                let mut found = false;
                for pattern in list.split(',') {
                    match pattern.strip_prefix('!') {
                        Some(not) if wildcard(not.as_bytes(), name.as_bytes()) => return false,
                        Some(_) => {}
                        None => found = found || wildcard(pattern.as_bytes(), name.as_bytes()),
                    }
                }
                found
            }
        }
    }
}

/// `*` and `?` as in ssh_config(5) PATTERNS, in time of at most the product of both lengths.
fn wildcard(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while let Some(byte) = text.get(t) {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p + 1, t));
                p += 1;
            }
            Some(c) if *c == b'?' || c == byte => {
                p += 1;
                t += 1;
            }
            _ => match star {
                Some((after, from)) => {
                    star = Some((after, from + 1));
                    p = after;
                    t = from + 1;
                }
                None => return false,
            },
        }
    }
    pattern.get(p..).unwrap_or_default().iter().all(|b| *b == b'*')
}

#[derive(Debug, Clone)]
struct Line {
    place: Place,
    marker: Marker,
    names: Names,
    key: HostKey,
}

/// What the files say about a key of a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// A line has exactly this key for this host.
    Trusted,
    /// No line has a key of this type for this host.
    Unknown {
        /// Lines that have keys of other types for it.
        other_types: Vec<(Place, String)>,
        /// `@cert-authority` lines for it, which cannot be used: a host's certificate is not asked for.
        authorities: Vec<Place>,
        /// Lines of other hosts that have exactly this key.
        elsewhere: Vec<Place>,
    },
    /// A line has another key of the same type for this host.
    Changed {
        /// That line.
        place: Place,
        /// Its key's fingerprint.
        known: String,
    },
    /// A `@revoked` line has exactly this key.
    Revoked {
        /// That line.
        place: Place,
    },
}

/// The lines of all known_hosts files.
#[derive(Debug, Clone, Default)]
pub struct KnownHosts {
    lines: Vec<Line>,
    files: Vec<PathBuf>,
}

/// The name under which known_hosts has a host: with the port only where that is not 22.
pub fn name_of(host: &str, port: u16) -> String {
    let host = host.to_ascii_lowercase();
    if port == 22 { host } else { format!("[{host}]:{port}") }
}

impl KnownHosts {
    /// Takes files with their texts, the user's first. What is no key line is left out, as OpenSSH does.
    pub fn parse<'a>(files: impl IntoIterator<Item = (&'a Path, &'a str)>) -> Self {
        let mut known = Self::default();
        for (file, text) in files {
            known.files.push(file.to_owned());
            for (number, line) in text.lines().enumerate() {
                known.lines.extend(parse_line(line, || Place { file: file.to_owned(), line: number + 1 }));
            }
        }
        known
    }

    /// Reads the files that exist.
    ///
    /// # Errors
    /// A file that exists and cannot be read, with its path.
    pub fn read(files: &[PathBuf]) -> io::Result<Self> {
        let mut texts = Vec::new();
        for file in files {
            match fs_err::read(file) {
                Ok(bytes) => texts.push((file.as_path(), String::from_utf8_lossy(&bytes).into_owned())),
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => return Err(e),
            }
        }
        Ok(Self::parse(texts.iter().map(|(file, text)| (*file, text.as_str()))))
    }

    fn named<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Line> {
        self.lines.iter().filter(move |line| line.names.matches(name))
    }

    /// What the files say about `key` when `host` presents it at `port`.
    ///
    /// As in OpenSSH a matching `@revoked` line comes first, then any line with the same key, then one of the same type with
    /// another key; and a host at an unusual port may also be known by its name alone, which can trust but not contradict.
    pub fn lookup(&self, host: &str, port: u16, key: &HostKey) -> Verdict {
        let (full, plain) = (name_of(host, port), host.to_ascii_lowercase());
        let mut names = vec![full.as_str()];
        if plain != full {
            names.push(&plain);
        }
        let of = |marker| names.iter().flat_map(|n| self.named(n)).filter(move |l: &&Line| l.marker == marker);
        if let Some(line) = of(Marker::Revoked).find(|l| l.key == *key) {
            return Verdict::Revoked { place: line.place.clone() };
        }
        if of(Marker::None).any(|l| l.key == *key) {
            return Verdict::Trusted;
        }
        let here = || self.named(&full).filter(|l| l.marker == Marker::None);
        if let Some(line) = here().find(|l| l.key.kind() == key.kind()) {
            return Verdict::Changed { place: line.place.clone(), known: line.key.fingerprint() };
        }
        Verdict::Unknown {
            other_types: here().map(|l| (l.place.clone(), l.key.kind().to_owned())).collect(),
            authorities: of(Marker::Authority).map(|l| l.place.clone()).collect(),
            elsewhere: self
                .lines
                .iter()
                .filter(|l| l.marker == Marker::None && l.key == *key)
                .map(|l| l.place.clone())
                .collect(),
        }
    }

    /// The types of the keys that are known for a host, in the files' order: these are asked for first, so that a host with
    /// several keys shows the one that can be compared.
    pub fn key_types_for(&self, host: &str, port: u16) -> Vec<String> {
        let (full, plain) = (name_of(host, port), host.to_ascii_lowercase());
        let mut lines: Vec<&Line> = self.named(&full).filter(|l| l.marker == Marker::None).collect();
        if lines.is_empty() {
            lines = self.named(&plain).filter(|l| l.marker == Marker::None).collect();
        }
        let mut types: Vec<String> = Vec::new();
        for line in lines {
            if !types.iter().any(|t| t == line.key.kind()) {
                types.push(line.key.kind().to_owned());
            }
        }
        types
    }

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
                 it changed, remove that line (`ssh-keygen -R '{shown}' -f {}`), compare the new fingerprint on the host \
                 (`ssh-keygen -lf /etc/ssh/ssh_host_{}_key.pub`), then `infra trust {alias}`",
                place.file.display(),
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

fn parse_line(line: &str, place: impl FnOnce() -> Place) -> Option<Line> {
    let line = line.trim();
    if line.is_empty() || line.starts_with('#') {
        return None;
    }
    let mut words = line.split_ascii_whitespace();
    let mut names = words.next()?;
    let marker = match names {
        "@revoked" => Marker::Revoked,
        "@cert-authority" => Marker::Authority,
        other if other.starts_with('@') => return None,
        _ => Marker::None,
    };
    if marker != Marker::None {
        names = words.next()?;
    }
    let (names, kind, key) = (Names::parse(names)?, words.next()?, HostKey::parse(words.next()?)?);
    // The type is written twice, and a line where both differ is damaged (sshkey_read of OpenSSH).
    (key.kind() == kind).then(|| Line { place: place(), marker, names, key })
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
    /// The file system's words.
    #[error("cannot add the key: {0}")]
    Io(#[from] io::Error),
}

/// Appends the line of a host's key to a known_hosts file, only when `fingerprint` is that of `key`. The file is
/// replaced as a whole and keeps its mode; a symbolic link is followed.
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
    let file = &match fs_err::canonicalize(file) {
        Ok(real) => real,
        Err(e) if e.kind() == io::ErrorKind::NotFound => file.to_owned(),
        Err(e) => return Err(e.into()),
    };
    let (mut text, mode) = match fs_err::read(file) {
        Ok(text) => (text, fs_err::metadata(file)?.mode() & 0o7777),
        Err(e) if e.kind() == io::ErrorKind::NotFound => (Vec::new(), 0o600),
        Err(e) => return Err(e.into()),
    };
    if let Some(dir) = file.parent().filter(|d| !d.as_os_str().is_empty() && !d.exists()) {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    }
    if text.last().is_some_and(|b| *b != b'\n') {
        text.push(b'\n');
    }
    text.extend_from_slice(format!("{name} {key}\n").as_bytes());
    Ok(fsx::write_atomic(file, &text, mode)?)
}
