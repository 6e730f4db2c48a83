//! Host keys for a person: takes what hosts show and what is known of that, gives one table.

use std::fmt::Write as _;

use schemars::JsonSchema;
use serde::Serialize;

use super::text::{Paint, clean};
use crate::base::net::HostName;

/// What is known of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Known {
    /// It is in the files of host keys.
    Trusted,
    /// It is not.
    Unknown,
    /// It is not, and what it was compared with has it.
    Confirmed,
    /// Another key of its type is known, or what it was compared with has another one.
    Changed,
    /// It is marked as revoked.
    Revoked,
}

/// A key that a host shows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct KeyLine<'a> {
    /// The host.
    pub host: &'a HostName,
    /// The key's type.
    pub kind: String,
    /// `SHA256:…`, as `ssh-keygen -lf` prints it.
    pub fingerprint: String,
    /// What is known of it.
    pub known: Known,
    /// More about that, where there is more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub about: Option<String>,
}

/// One key a line.
pub(super) fn draw(keys: &[KeyLine<'_>], paint: Paint) -> String {
    let wide = |of: fn(&KeyLine<'_>) -> usize| keys.iter().map(of).max().unwrap_or_default();
    let (host, kind) = (wide(|key| key.host.as_str().len()), wide(|key| key.kind.len()));
    let mut out = String::new();
    for key in keys {
        let about = key.about.as_ref().map(|about| format!(": {}", clean(about))).unwrap_or_default();
        let word = match key.known {
            Known::Trusted => paint.faint("known already"),
            Known::Unknown => paint.warn("not known"),
            Known::Confirmed => paint.good("as compared"),
            Known::Changed => paint.bad("changed"),
            Known::Revoked => paint.bad("revoked"),
        };
        let _ = writeln!(out, "  {:host$}  {:kind$}  {}  {word}{about}", key.host, key.kind, key.fingerprint);
    }
    out
}
