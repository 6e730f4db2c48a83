//! What a file holds, as text in which materials are named and not shown, and the digest of the bytes that it becomes.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::base::text::Text;

/// SHA-256 in lower-case hex.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub struct Digest(pub String);

impl Digest {
    /// Of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        use std::fmt::Write as _;
        let mut hex = String::with_capacity(64);
        for byte in Sha256::digest(bytes) {
            let _ = write!(hex, "{byte:02x}");
        }
        Self(hex)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// What a file holds: text with sentinels for its materials, and the digest of the bytes that it becomes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Body {
    /// Rendered text; secrets and certificates are sentinels.
    pub text: Text,
    /// Of the materialized bytes.
    pub digest: Digest,
    /// The template that it was rendered from, as a person finds it; `None` where infra makes the text itself. No deed depends
    /// on it, so it is in no digest of a plan. Which line of it has made a line is told by `service::trace`.
    #[serde(skip)]
    pub origin: Option<String>,
}
