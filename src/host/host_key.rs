//! A host's public key: takes the bytes of the wire or the base64 of a key line, gives its type and its fingerprint.

use std::fmt;

use data_encoding::{BASE64, BASE64_NOPAD};
use ring::digest;

/// A public key as SSH sends it (RFC 4253 §6.6): its type's name first.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct HostKey(Vec<u8>);

impl HostKey {
    /// Takes the wire form.
    pub fn new(blob: impl Into<Vec<u8>>) -> Self {
        Self(blob.into())
    }

    /// Takes the base64 of a key line.
    pub(crate) fn parse(text: &str) -> Option<Self> {
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

    /// How long an RSA key is (RFC 4253 §6.6); nothing for another type.
    pub fn rsa_bits(&self) -> Option<usize> {
        let (_kind, rest) = string(&self.0)?;
        let (_exponent, rest) = string(rest)?;
        let (number, _) = string(rest)?;
        let number = number.get(number.iter().position(|byte| *byte != 0)?..)?;
        let first = number.first()?;
        (self.kind() == "ssh-rsa").then(|| number.len() * 8 - first.leading_zeros() as usize)
    }

    /// `SHA256:…`, as `ssh-keygen -lf` prints it.
    pub fn fingerprint(&self) -> String {
        format!("SHA256:{}", BASE64_NOPAD.encode(digest::digest(&digest::SHA256, &self.0).as_ref()))
    }
}

/// A string of RFC 4251 §5 and what follows it.
pub(super) fn string(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    rest.split_at_checked(u32::from_be_bytes(*length) as usize)
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

/// Whether a text may stand as one word of a line.
pub(crate) fn plain_word(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_graphic())
}
