//! A private key that a person gave: takes its PEM, holds it against a public key, gives it in our shape. Nothing of it is in an error.

use rustls::crypto::ring::sign::any_supported_type;
use rustls::pki_types::PrivateKeyDer;

use crate::base::chain;

/// The one private key in `pem`, where it belongs to `public` (`SubjectPublicKeyInfo`, DER).
///
/// # Errors
/// What is wrong with it, after its name.
pub fn of(pem: &str, public: &[u8]) -> Result<String, String> {
    let blocks = chain::blocks(pem).ok_or_else(|| "is damaged: its text breaks off".to_owned())?;
    let keys: Vec<_> = blocks.iter().filter(|(label, _)| label.ends_with("PRIVATE KEY")).collect();
    let [(label, der)] = keys.as_slice() else {
        return Err(match keys.len() {
            0 => "is no private key in PEM".to_owned(),
            number => format!("holds {number} private keys, not one"),
        });
    };
    // RFC 1421 headers stand for the same in the older formats.
    if label == "ENCRYPTED PRIVATE KEY" || pem.contains("ENCRYPTED") {
        return Err(
            "is encrypted with a passphrase, which HAProxy cannot ask for: keep it without, in a place for secrets"
                .to_owned(),
        );
    }
    let read = match label.as_str() {
        "PRIVATE KEY" => PrivateKeyDer::Pkcs8(der.clone().into()),
        "RSA PRIVATE KEY" => PrivateKeyDer::Pkcs1(der.clone().into()),
        "EC PRIVATE KEY" => PrivateKeyDer::Sec1(der.clone().into()),
        _ => return Err("is a private key in a format that HAProxy does not read".to_owned()),
    };
    let signing = any_supported_type(&read)
        .map_err(|_| "cannot be read: RSA of 2048 to 4096 bits, ECDSA P-256 and P-384 are taken".to_owned())?;
    if signing.public_key().is_none_or(|own| own.as_ref() != public) {
        return Err("is not the key of the certificate".to_owned());
    }
    Ok(chain::pem_block(label, der))
}

#[cfg(test)]
mod tests {
    use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PublicKeyData as _};

    use super::*;

    /// The same key in the format of `openssl ecparam`, by openssl(1) itself.
    fn traditional(pem: &str) -> String {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("key");
        std::fs::write(&file, pem).unwrap();
        let out = std::process::Command::new("openssl").args(["ec", "-in"]).arg(&file).output().unwrap();
        String::from_utf8(out.stdout).unwrap()
    }

    #[test]
    fn a_key_is_held_against_its_certificate() {
        for kind in [&PKCS_ECDSA_P256_SHA256, &PKCS_ECDSA_P384_SHA384] {
            let pair = KeyPair::generate_for(kind).unwrap();
            let (pem, public) = (pair.serialize_pem(), pair.subject_public_key_info());
            for text in [pem.clone(), traditional(&pem), format!("comment\r\n{pem}\n")] {
                assert!(of(&text, &public).unwrap().contains("PRIVATE KEY"), "{text}");
            }
            let other = KeyPair::generate_for(kind).unwrap().subject_public_key_info();
            let why = of(&pem, &other).unwrap_err();
            assert_eq!(why, "is not the key of the certificate");
        }
    }

    #[test]
    fn what_is_no_key_is_told_and_nothing_of_it_shown() {
        let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let pem = pair.serialize_pem();
        let middle: String = pem.lines().nth(1).unwrap().chars().take(40).collect();
        for (text, words) in [
            ("hunter2".to_owned(), "is no private key in PEM"),
            (format!("{pem}{pem}"), "holds 2 private keys"),
            (pem.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY"), "is encrypted"),
            (pem.replace("PRIVATE KEY", "OPENSSH PRIVATE KEY"), "in a format"),
            (pem.replace("PRIVATE KEY", "RSA PRIVATE KEY"), "cannot be read"),
            (pem.chars().take(100).collect(), "is damaged"),
        ] {
            let why = of(&text, &pair.subject_public_key_info()).unwrap_err();
            assert!(why.contains(words) && !why.contains(&middle) && !why.contains("hunter2"), "{words}: {why}");
        }
    }
}
