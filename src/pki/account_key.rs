//! The key of the ACME account: takes its text, gives the key and its thumbprint, which every load balancer answers with.

use data_encoding::BASE64URL_NOPAD;
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256};
use sha2::{Digest as _, Sha256};

/// The account's private key, P-256. Shown as nothing.
pub(crate) struct AccountKey {
    pair: KeyPair,
}

impl AccountKey {
    /// A new one, and its text (PKCS #8, PEM).
    pub(crate) fn generate() -> Result<(Self, String), rcgen::Error> {
        let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let text = pair.serialize_pem();
        Ok((Self { pair }, text))
    }

    /// The key of such a text.
    ///
    /// # Errors
    /// A sentence, without the text.
    pub(crate) fn parse(text: &str) -> Result<Self, &'static str> {
        let pair = KeyPair::from_pem(text).map_err(|_| "it is not a private key")?;
        if pair.algorithm() != &PKCS_ECDSA_P256_SHA256 {
            return Err("it is not a P-256 key");
        }
        Ok(Self { pair })
    }

    /// PKCS #8, DER.
    pub(crate) fn der(&self) -> Vec<u8> {
        self.pair.serialize_der()
    }

    /// The public key (RFC 7517, RFC 7518 §6.2.1), its members in the order of RFC 7638 §3.
    pub(crate) fn jwk(&self) -> String {
        let point = self.pair.public_key_raw();
        // An uncompressed point: 4, x, y (SEC 1 §2.3.3).
        let (x, y) = (point.get(1..33).unwrap_or_default(), point.get(33..65).unwrap_or_default());
        let [x, y] = [x, y].map(|part| BASE64URL_NOPAD.encode(part));
        format!(r#"{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}"#)
    }

    /// RFC 7638: what every answer to http-01 ends with (RFC 8555 §8.1).
    pub(crate) fn thumbprint(&self) -> String {
        BASE64URL_NOPAD.encode(&Sha256::digest(self.jwk()))
    }
}
