//! How a site answers: what the inventory may say of it beside its names, files and programs, each with what holds where nothing is
//! said; a part of [`WebSite`](super::site::WebSite).

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use crate::base::net::{Cidr, DnsName};

/// Each part has what is right for most as its default.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Manner {
    /// How long the tiers wait.
    pub timeouts: Timeouts,
    /// The largest body of a request.
    pub body: BodyLimit,
    /// `Strict-Transport-Security`.
    pub hsts: Hsts,
    /// Names of the site that lead to another name of it: `www.shop.example.com` to `shop.example.com`, say.
    pub redirects: BTreeMap<DnsName, DnsName>,
    /// Lines of its answers' heads, by their names as they were written: the value, or `None` for one that is taken out.
    pub headers: BTreeMap<String, Option<String>>,
    /// What visitors are shown where a tier fails, by status.
    pub pages: BTreeMap<u16, Page>,
    /// What visitors are told while the site is closed.
    pub maintenance: Option<Maintenance>,
    /// The kind of key that its certificate has.
    pub key: KeyKind,
    /// By what texts are compressed, where they are.
    pub compression: Compression,
}

/// By what a site's texts are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// What every browser takes.
    #[default]
    Gzip,
    /// Brotli (RFC 7932) for whoever takes it, a fifth shorter; gzip for the others.
    Brotli,
}

/// How long the tiers wait for a site's program, of which the innermost gives up first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// For an answer to begin, and between its parts.
    pub response: Duration,
    /// While a websocket, or a stream of events, is silent.
    pub idle: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self { response: Duration::from_mins(1), idle: Duration::from_hours(1) }
    }
}

impl Timeouts {
    /// How much longer each tier waits than the one inside of it.
    const STAGGER: Duration = Duration::from_secs(5);

    /// Those of a tier so many steps outside of the app hosts.
    #[must_use]
    pub fn outside(self, steps: u32) -> Self {
        let more = Self::STAGGER * steps;
        Self { response: self.response + more, idle: self.idle + more }
    }
}

/// The largest body of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyLimit {
    /// So many bytes.
    Bytes(u64),
    /// None.
    Unlimited,
}

impl Default for BodyLimit {
    fn default() -> Self {
        Self::Bytes(100 << 20)
    }
}

impl BodyLimit {
    /// A web host keeps bodies up to this on its disk until they are whole; what may be larger flows through it.
    pub const KEPT: u64 = 1 << 30;

    /// Whether bodies flow through a web host as they come.
    #[must_use]
    pub fn flows(self) -> bool {
        match self {
            Self::Bytes(bytes) => bytes > Self::KEPT,
            Self::Unlimited => true,
        }
    }
}

/// `Strict-Transport-Security` (RFC 6797).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hsts {
    /// Seconds.
    pub max_age: u64,
    /// Whether it holds for all names below the site's too.
    pub include_subdomains: bool,
    /// Whether browsers may have it built in (hstspreload.org).
    pub preload: bool,
}

impl Default for Hsts {
    /// HSTS starts short: a mistake is over after five minutes.
    fn default() -> Self {
        Self { max_age: 300, include_subdomains: false, preload: false }
    }
}

/// A page as it was read from the controller's folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// Its type, by the ending of its file.
    pub media: Media,
    /// All of it.
    pub text: String,
}

/// What a page is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Media {
    /// `.html`, `.htm`
    Html,
    /// `.json`
    Json,
    /// `.txt`
    Text,
}

impl Media {
    /// The ending of its file's name.
    #[must_use]
    pub fn ending(self) -> &'static str {
        match self {
            Self::Html => "html",
            Self::Json => "json",
            Self::Text => "txt",
        }
    }

    /// As `Content-Type` has it; JSON has no charset (RFC 8259 section 11).
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Html => "text/html; charset=utf-8",
            Self::Json => "application/json",
            Self::Text => "text/plain; charset=utf-8",
        }
    }
}

/// A site that is closed: 503 for everybody else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Maintenance {
    /// Its page; `None`: that of 503, or a sentence of ours.
    pub page: Option<Page>,
    /// When to come again (RFC 9110 section 10.2.3).
    pub retry_after: Duration,
    /// Networks for which it is open.
    pub allow: Vec<Cidr>,
}

/// The kind of a certificate's key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub enum KeyKind {
    /// What all current clients know.
    #[default]
    #[serde(rename = "ecdsa-p256")]
    EcdsaP256,
    /// For old clients.
    #[serde(rename = "rsa-2048")]
    Rsa2048,
}

impl KeyKind {
    /// As the inventory spells it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::EcdsaP256 => "ecdsa-p256",
            Self::Rsa2048 => "rsa-2048",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_inner_tier_gives_up_before_an_outer_one() {
        let timeouts = Timeouts::default();
        let all = [0, 1, 2].map(|steps| timeouts.outside(steps));
        assert!(all.windows(2).all(|pair| pair[0].response < pair[1].response && pair[0].idle < pair[1].idle));
    }
}
