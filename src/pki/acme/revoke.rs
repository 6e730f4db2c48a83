//! Taking a certificate back (RFC 8555 §7.6): takes the leaf and a reason, gives the CA's consent.

use std::sync::atomic::AtomicBool;

use instant_acme::{RevocationReason, RevocationRequest};
use rustls::pki_types::CertificateDer;

use super::failure::{Failure, is, patiently};
use super::{Conversation, WHOLE, blocking};
use crate::pki::guard::Seen;
use crate::pki::public_store::PublicStore;
use crate::service::certificates::wanted::{Source, Wanted};

/// Why a certificate is taken back; those of RFC 5280 §5.3.1 that public CAs take from a subscriber.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// No reason is given.
    Unspecified,
    /// Somebody else has the key.
    KeyCompromise,
    /// Another certificate stands in its place.
    Superseded,
    /// The site does not exist any more.
    CessationOfOperation,
}

impl Reason {
    fn code(self) -> RevocationReason {
        match self {
            Self::Unspecified => RevocationReason::Unspecified,
            Self::KeyCompromise => RevocationReason::KeyCompromise,
            Self::Superseded => RevocationReason::Superseded,
            Self::CessationOfOperation => RevocationReason::CessationOfOperation,
        }
    }
}

/// Revokes a leaf (DER) at the directory that it came from, by the account that ordered it. One that is revoked already is
/// no error.
///
/// # Errors
/// [`Failure`].
pub fn revoke(
    store: &PublicStore,
    wanted: &Wanted,
    source: &Source,
    leaf: &[u8],
    reason: Reason,
    stop: &AtomicBool,
) -> Result<(), Failure> {
    let seen = Seen::default();
    let conversation = Conversation { store, wanted, source, seen: &seen, stop };
    let certificate = CertificateDer::from(leaf);
    let what = async {
        let account = conversation.account().await?;
        let request = || RevocationRequest { certificate: &certificate, reason: Some(reason.code()) };
        match patiently(async || account.revoke(&request()).await).await {
            Err(instant_acme::Error::Api(problem)) if is(&problem, "alreadyRevoked") => Ok(()),
            other => other.map_err(|e| conversation.failure(&e)),
        }
    };
    blocking(what, WHOLE, &seen, stop)
}
