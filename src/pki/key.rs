//! Keys of certificates by their kind: takes a kind, gives a new key pair; takes a key, gives its kind.

use openssl::pkey::PKey;
use openssl::rsa::Rsa;
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_RSA_SHA256};

use crate::inventory::site::KeyKind;

/// Makes a key.
///
/// # Errors
/// [`rcgen::Error`], where the system has no randomness.
pub(crate) fn generate(kind: KeyKind) -> Result<KeyPair, rcgen::Error> {
    match kind {
        KeyKind::EcdsaP256 => KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256),
        KeyKind::Rsa2048 => {
            let made = Rsa::generate(2048).and_then(PKey::from_rsa).and_then(|key| key.private_key_to_pem_pkcs8());
            let pem = made.map_err(|_| rcgen::Error::KeyGenerationUnavailable)?;
            KeyPair::from_pem(&String::from_utf8_lossy(&pem))
        }
    }
}

/// The kind of a key in PEM; what cannot be read is told where it is used.
pub(crate) fn kind(pem: &str) -> KeyKind {
    match KeyPair::from_pem(pem) {
        Ok(pair) if pair.algorithm() == &PKCS_RSA_SHA256 => KeyKind::Rsa2048,
        _ => KeyKind::EcdsaP256,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_of_the_kind_that_it_was_made_as() {
        for wanted in [KeyKind::EcdsaP256, KeyKind::Rsa2048] {
            assert_eq!(kind(&generate(wanted).unwrap().serialize_pem()), wanted);
        }
    }
}
