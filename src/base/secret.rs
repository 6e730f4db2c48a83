//! Values that must not leave their place: takes bytes and a name, shows the name only.
//!
//! Rendered text never holds a secret's value. It holds a sentinel, `\u{E000}name\u{E001}` (private-use characters that no
//! daemon's configuration contains), until the moment a body is written to a host or hashed for comparison.

use std::collections::BTreeMap;
use std::fmt;

use secrecy::{ExposeSecret, SecretString};

const OPEN: char = '\u{E000}';
const CLOSE: char = '\u{E001}';

/// A value with a name. No `Display`, `Serialize`, `Clone` or `PartialEq`: what shows it must say [`Secret::reveal`].
pub struct Secret {
    name: String,
    value: SecretString,
}

impl Secret {
    /// Takes the name it is known by (`pki/web1/server.key`) and its text.
    pub fn new(name: impl Into<String>, value: impl Into<String>) -> Self {
        Self { name: name.into(), value: SecretString::from(value.into()) }
    }

    /// The name, fit for a person's eyes.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The value itself. Called where a body is written to a host or hashed, where a password is sent, and nowhere else.
    pub fn reveal(&self) -> &str {
        self.value.expose_secret()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret({})", self.name)
    }
}

/// What stands in a rendered text for material that is filled in late.
pub fn sentinel(name: &str) -> String {
    format!("{OPEN}{name}{CLOSE}")
}

/// Text as a person may see it: each sentinel as `‹name›`.
pub fn display(text: &str) -> String {
    text.replace(OPEN, "‹").replace(CLOSE, "›")
}

/// A name that a rendered text asks for and the store does not have.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("no value is known for `{0}`")]
pub struct Missing(pub String);

/// Everything that stands behind sentinels: secret (keys, passwords) or public (certificates).
#[derive(Debug, Default)]
pub struct Materials {
    secret: BTreeMap<String, Secret>,
    public: BTreeMap<String, String>,
    about: BTreeMap<String, String>,
}

impl Materials {
    /// Adds a secret under its own name.
    pub fn add_secret(&mut self, secret: Secret) {
        self.secret.insert(secret.name().to_owned(), secret);
    }

    /// Adds text that may be seen (a certificate), under a name.
    pub fn add_public(&mut self, name: impl Into<String>, text: impl Into<String>) {
        self.public.insert(name.into(), text.into());
    }

    /// Says in one line what `name` is, for a person: `web1.shop.infra.internal, 60 days, until 2027-01-22`.
    pub fn describe(&mut self, name: impl Into<String>, line: impl Into<String>) {
        self.about.insert(name.into(), line.into());
    }

    /// The line that [`Materials::describe`] gave.
    pub fn about(&self, name: &str) -> Option<&str> {
        self.about.get(name).map(String::as_str)
    }

    /// The public text of `name`, if there is one.
    pub fn public(&self, name: &str) -> Option<&str> {
        self.public.get(name).map(String::as_str)
    }

    /// Whether `name` is a secret.
    pub fn is_secret(&self, name: &str) -> bool {
        self.secret.contains_key(name)
    }

    /// The bytes that go to a host: every sentinel replaced by its value.
    ///
    /// # Errors
    /// [`Missing`] names a sentinel without a value.
    pub fn materialize(&self, text: &str) -> Result<String, Missing> {
        replace(text, |name| {
            let secret = self.secret.get(name).map(Secret::reveal);
            secret.or_else(|| self.public(name)).map(ToOwned::to_owned)
        })
    }

    /// Every known secret value found in `text` is replaced by `‹name›`; for words that come back from a host.
    pub fn redact(&self, text: &str) -> String {
        let mut out = text.to_owned();
        for (name, secret) in &self.secret {
            let value = secret.reveal().trim();
            if value.len() >= 4 && out.contains(value) {
                out = out.replace(value, &display(&sentinel(name)));
            }
        }
        out
    }
}

fn replace(text: &str, value: impl Fn(&str) -> Option<String>) -> Result<String, Missing> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, tail)) = rest.split_once(OPEN) {
        let (name, after) = tail.split_once(CLOSE).ok_or_else(|| Missing(tail.chars().take(40).collect()))?;
        out.push_str(before);
        out.push_str(&value(name).ok_or_else(|| Missing(name.to_owned()))?);
        rest = after;
    }
    out.push_str(rest);
    Ok(out)
}

/// The names of all sentinels of `text`, in order, with repetitions.
pub fn names(text: &str) -> Vec<&str> {
    text.split(OPEN).skip(1).filter_map(|tail| tail.split_once(CLOSE).map(|(name, _)| name)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_shown_by_name() {
        let mut materials = Materials::default();
        materials.add_secret(Secret::new("db/app", "hunter22"));
        materials.add_public("crt", "CERT");
        let text = format!("password {}\n{}", sentinel("db/app"), sentinel("crt"));
        assert_eq!(display(&text), "password ‹db/app›\n‹crt›");
        assert_eq!(names(&text), ["db/app", "crt"]);
        assert_eq!(materials.materialize(&text).unwrap(), "password hunter22\nCERT");
        assert_eq!(materials.redact("denied for hunter22"), "denied for ‹db/app›");
        assert!(!format!("{materials:?}").contains("hunter22"));
        assert_eq!(materials.materialize(&sentinel("x")).unwrap_err(), Missing("x".into()));
    }
}
