//! A new account that is bound to one that the CA knows already (RFC 8555 §7.3.4): takes our key and the CA's, gives the
//! account's URL.
//!
//! The client library makes such accounts only with a key of its own, which nobody has on disk when the request goes out, and
//! which would not be the one whose thumbprint the load balancers answer with. So this request is made here.

use data_encoding::{BASE64, BASE64_NOPAD, BASE64URL, BASE64URL_NOPAD};
use instant_acme::{BodyWrapper, Error, HttpClient as _, Problem};
use ring::hmac;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use serde_json::{Value, json};

use crate::pki::account_key::AccountKey;
use crate::pki::guard::Guard;

/// The CA's side of a binding.
pub(super) struct Bound<'a> {
    /// The key's name.
    pub(super) kid: &'a str,
    /// The key's bytes.
    pub(super) mac: Vec<u8>,
}

/// The bytes of a MAC key as CAs print it: base64url, padded or not; some print base64.
///
/// # Errors
/// A sentence without the key.
pub(super) fn mac(text: &str) -> Result<Vec<u8>, String> {
    let encodings = [BASE64URL_NOPAD, BASE64URL, BASE64_NOPAD, BASE64];
    let read = encodings.iter().find_map(|encoding| encoding.decode(text.as_bytes()).ok());
    read.filter(|key| !key.is_empty()).ok_or_else(|| "the key of `eab` is not base64url text".to_owned())
}

/// Makes the account, or finds the one that our key has already.
pub(super) async fn register(
    guard: &Guard,
    directory: &str,
    key: &AccountKey,
    bound: &Bound<'_>,
    contact: Option<&str>,
) -> Result<String, Error> {
    let (_, body) = guard.get(directory).await?;
    let urls: Value = serde_json::from_slice(&body)?;
    let url = |name: &str| urls.get(name).and_then(Value::as_str).ok_or(Error::Str("the directory lacks a URL"));
    let (new_nonce, new_account) = (url("newNonce")?, url("newAccount")?);
    let nonce = guard.request(http::Request::head(new_nonce).body(BodyWrapper::default())?).await?;
    let nonce = nonce.parts.headers.get("replay-nonce").and_then(|v| v.to_str().ok());
    let nonce = nonce.ok_or(Error::Str("no nonce"))?;
    let jwk: Value = serde_json::from_str(&key.jwk())?;

    let protected = encode(&json!({ "alg": "HS256", "kid": bound.kid, "url": new_account }));
    let payload = encode(&jwk);
    let mac = hmac::Key::new(hmac::HMAC_SHA256, &bound.mac);
    let signature = BASE64URL_NOPAD.encode(hmac::sign(&mac, format!("{protected}.{payload}").as_bytes()).as_ref());
    let binding = json!({ "protected": protected, "payload": payload, "signature": signature });

    let contact: Vec<String> = contact.map(|c| format!("mailto:{c}")).into_iter().collect();
    let protected = encode(&json!({ "alg": "ES256", "jwk": jwk, "nonce": nonce, "url": new_account }));
    let payload =
        encode(&json!({ "termsOfServiceAgreed": true, "contact": contact, "externalAccountBinding": binding }));
    let random = SystemRandom::new();
    let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &key.der(), &random);
    let pair = pair.map_err(|_| Error::KeyRejected)?;
    let signature = pair.sign(&random, format!("{protected}.{payload}").as_bytes()).map_err(|_| Error::Crypto)?;
    let signature = BASE64URL_NOPAD.encode(signature.as_ref());
    let body = json!({ "protected": protected, "payload": payload, "signature": signature }).to_string();

    let request = http::Request::post(new_account).header(http::header::CONTENT_TYPE, "application/jose+json");
    let mut answer = guard.request(request.body(BodyWrapper::from(body.into_bytes()))?).await?;
    if !answer.parts.status.is_success() {
        let words = answer.body.into_bytes().await.map_err(Error::Other)?;
        return Err(Error::Api(serde_json::from_slice::<Problem>(&words)?));
    }
    let place = answer.parts.headers.get(http::header::LOCATION).and_then(|v| v.to_str().ok());
    place.map(ToOwned::to_owned).ok_or(Error::Str("no URL of the account"))
}

fn encode(value: &Value) -> String {
    BASE64URL_NOPAD.encode(value.to_string().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mac_key_is_read_as_cas_print_it() {
        let bytes = [0xfb, 0xef, 0xff, 0x01, 0x02];
        for encoding in [BASE64URL_NOPAD, BASE64URL, BASE64_NOPAD, BASE64] {
            assert_eq!(mac(&encoding.encode(&bytes)), Ok(bytes.to_vec()));
        }
        for bad in ["", "not a key!", "a"] {
            assert_eq!(mac(bad), Err("the key of `eab` is not base64url text".to_owned()));
        }
    }
}
