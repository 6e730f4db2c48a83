//! A certificate that was bought, or that a company's own CA gave; a part of [`WebSite`](super::site::WebSite).

use std::path::PathBuf;

use super::origin::SecretRef;
use crate::base::chain::Chain;
use crate::base::diagnostic::Span;

/// It as the inventory names it, its file read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bought {
    /// The file, as the inventory has it.
    pub file: PathBuf,
    /// What is in the file. It was right for the site when it was read.
    pub chain: Chain,
    /// Its private key.
    pub key: SecretRef,
    /// Where that is named.
    pub key_span: Span,
    /// The authorities that a client must trust, PEM: those of `ca`, or the top of the chain where none is named.
    pub trust: String,
    /// Whether `ca` names them.
    pub is_by_ca: bool,
    /// Where the file is named.
    pub span: Span,
}

impl Bought {
    /// `by `Example CA`, until 2027-11-23, sha256 0123456789abcdef`.
    pub fn about(&self) -> String {
        let end = time::OffsetDateTime::from_unix_timestamp(self.chain.not_after);
        let end = end.map_or_else(|_| "?".to_owned(), |end| end.date().to_string());
        let digest = self.chain.sha256.get(..16).unwrap_or_default();
        format!("bought, by {}, until {end}, sha256 {digest}", self.chain.issuer)
    }
}
