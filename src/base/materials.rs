//! What stands behind sentinels: takes each material with its value and its owner, gives a host what it may have, and no other way
//! to a value.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::OnceLock;

use crate::base::hidden::Hidden;
use crate::base::material::Material;
use crate::base::net::HostName;
use crate::base::secret::{CLOSE, OPEN, Secret, names, parts};

/// Who may be given a material.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Owner {
    /// It reaches no host: known only so that it is never shown.
    #[default]
    Nobody,
    /// These hosts alone.
    Hosts(BTreeSet<HostName>),
    /// Every host of the inventory.
    All,
}

impl Owner {
    /// One host.
    pub fn host(name: &HostName) -> Self {
        Self::Hosts(BTreeSet::from([name.clone()]))
    }

    /// Whether `host` is one of them.
    pub fn has(&self, host: &HostName) -> bool {
        match self {
            Self::Nobody => false,
            Self::Hosts(hosts) => hosts.contains(host),
            Self::All => true,
        }
    }
}

impl fmt::Display for Owner {
    /// `lb1, lb2 alone`, after «is for».
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 6;
        match self {
            Self::Nobody => f.write_str("no host"),
            Self::All => f.write_str("all hosts"),
            Self::Hosts(hosts) if hosts.is_empty() => f.write_str("no host"),
            Self::Hosts(hosts) => {
                let names: Vec<&str> = hosts.iter().take(SHOWN).map(HostName::as_str).collect();
                let more = hosts.len() - names.len();
                let rest = if more > 0 { format!(" and {more} more") } else { String::new() };
                write!(f, "{}{rest} alone", names.join(", "))
            }
        }
    }
}

/// Why a material is not given.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
pub enum Denied {
    /// A name that a text asks for and the store does not have.
    #[error("no value is known for `{0}`")]
    Missing(String),
    /// A secret that is made by the run that needs it first, and is not made yet.
    #[error("`{0}` is not made yet")]
    Unmade(Material),
    /// Its value has a character that cannot be written where the text asks for it.
    #[error("`{0}` has a line break or another control character, which a password cannot have here")]
    Unfit(String),
    /// It belongs to others.
    #[error("`{name}` is for {owner}, and {host} may not have it")]
    NotYours {
        /// The material.
        name: String,
        /// Whose it is, in words.
        owner: String,
        /// Who asked.
        host: HostName,
    },
}

/// What stands behind a sentinel.
#[derive(Debug)]
enum Value {
    Secret(Secret),
    Public(String),
    /// A secret that is not made yet: a text in its place, which no host is given.
    Unmade(String),
}

/// Everything that stands behind sentinels: secret (keys, passwords) or public (certificates), each with its owner.
#[derive(Debug, Default)]
pub struct Materials {
    all: BTreeMap<Material, (Value, Owner)>,
    about: BTreeMap<Material, String>,
    hidden: OnceLock<Hidden>,
}

impl Materials {
    /// Adds a secret.
    pub fn add_secret(&mut self, material: Material, value: impl Into<String>, owner: Owner) {
        let secret = Secret::new(material.to_string(), value);
        self.add(material, Value::Secret(secret), owner);
    }

    /// Adds text that may be seen (a certificate).
    pub fn add_public(&mut self, material: Material, text: impl Into<String>, owner: Owner) {
        self.add(material, Value::Public(text.into()), owner);
    }

    /// Adds a secret that the run makes which needs it first. Until then it is planned with a text in its place.
    pub fn add_unmade(&mut self, material: Material, owner: Owner) {
        let place = format!("(secret {material})");
        self.add(material, Value::Unmade(place), owner);
    }

    fn add(&mut self, material: Material, value: Value, owner: Owner) {
        self.hidden.take();
        self.all.insert(material, (value, owner));
    }

    /// Says in one line what `material` is, for a person: `web1.shop.infra.internal, 60 days, until 2027-01-22`.
    pub fn describe(&mut self, material: Material, line: impl Into<String>) {
        self.about.insert(material, line.into());
    }

    /// The line that [`Materials::describe`] gave.
    pub fn about(&self, material: &Material) -> Option<&str> {
        self.about.get(material).map(String::as_str)
    }

    /// Whether `material` is a secret.
    pub fn is_secret(&self, material: &Material) -> bool {
        matches!(self.all.get(material), Some((Value::Secret(_) | Value::Unmade(_), _)))
    }

    /// Whether `material` is a secret that is not made yet.
    pub fn is_unmade(&self, material: &Material) -> bool {
        matches!(self.all.get(material), Some((Value::Unmade(_), _)))
    }

    /// The public text of `material`, if there is one.
    pub fn public(&self, material: &Material) -> Option<&str> {
        match self.all.get(material) {
            Some((Value::Public(text), _)) => Some(text),
            _ => None,
        }
    }

    /// What `host` may have of them. There is no other way to the values of secrets.
    pub fn share<'a>(&'a self, host: &'a HostName) -> Share<'a> {
        Share { materials: self, host }
    }

    /// Every stretch of a known secret that is found in `text` is replaced by `‹name›`; for words that come back from a host.
    pub fn redact(&self, text: &str) -> String {
        self.hidden().text(text)
    }

    /// What takes these secrets out of text.
    pub fn hidden(&self) -> &Hidden {
        self.hidden.get_or_init(|| {
            let hidden = Hidden::default();
            self.teach(&hidden);
            hidden
        })
    }

    /// Lets those who tell know these secrets, and takes out of words what they know besides.
    pub fn hide_with(&mut self, hidden: &Hidden) {
        self.teach(hidden);
        self.hidden = OnceLock::from(hidden.clone());
    }

    fn teach(&self, hidden: &Hidden) {
        let values = || self.all.values().map(|(value, _)| value);
        let secrets = values().filter_map(|value| if let Value::Secret(secret) = value { Some(secret) } else { None });
        let public =
            values().filter_map(|value| if let Value::Public(text) = value { Some(text.as_str()) } else { None });
        hidden.add(secrets, public);
    }
}

/// The materials as one host may have them.
#[derive(Debug, Clone, Copy)]
pub struct Share<'a> {
    materials: &'a Materials,
    host: &'a HostName,
}

impl<'a> Share<'a> {
    /// Whether the host may have the material of this spelling.
    ///
    /// # Errors
    /// [`Denied`] says why not.
    pub fn may(&self, name: &str) -> Result<(), Denied> {
        self.value(name).map(|_| ())
    }

    fn value(&self, name: &str) -> Result<(Material, &'a Value), Denied> {
        let missing = || Denied::Missing(name.to_owned());
        let material: Material = name.parse().map_err(|_| missing())?;
        let (value, owner) = self.materials.all.get(&material).ok_or_else(missing)?;
        if owner.has(self.host) {
            return Ok((material, value));
        }
        Err(Denied::NotYours { name: name.to_owned(), owner: owner.to_string(), host: self.host.clone() })
    }

    /// The line that [`Materials::describe`] gave.
    pub fn about(&self, material: &Material) -> Option<&'a str> {
        self.materials.about(material)
    }

    /// The public text of `material`, if there is one that the host may have.
    pub fn public(&self, material: &Material) -> Option<&'a str> {
        let (_, owner) = self.materials.all.get(material)?;
        self.materials.public(material).filter(|_| owner.has(self.host))
    }

    /// Whether a text with sentinels holds a secret; what nobody knows counts as one.
    pub fn is_secret(&self, text: &str) -> bool {
        let public = |name: &&str| name.parse().is_ok_and(|material| self.materials.public(&material).is_some());
        !names(text).iter().all(public)
    }

    /// The bytes that go to the host: every sentinel replaced by its value.
    ///
    /// # Errors
    /// [`Denied`] names a sentinel without a value, or of a material that is not the host's.
    pub fn materialize(&self, text: &str) -> Result<String, Denied> {
        replace(text, |name| match self.value(name)? {
            (_, Value::Secret(secret)) => Ok(secret.reveal()),
            (_, Value::Public(text)) => Ok(text),
            (material, Value::Unmade(_)) => Err(Denied::Unmade(material)),
        })
    }

    /// As [`Share::materialize`], with texts in place of the secrets that are not made yet: for digests of what is planned.
    ///
    /// # Errors
    /// As for [`Share::materialize`], but for [`Denied::Unmade`].
    pub fn draft(&self, text: &str) -> Result<String, Denied> {
        replace(text, |name| match self.value(name)?.1 {
            Value::Secret(secret) => Ok(secret.reveal()),
            Value::Public(text) | Value::Unmade(text) => Ok(text),
        })
    }
}

fn replace<'v>(text: &str, value: impl Fn(&str) -> Result<&'v str, Denied>) -> Result<String, Denied> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, tail)) = rest.split_once(OPEN) {
        let (held, after) = tail.split_once(CLOSE).ok_or_else(|| Denied::Missing(tail.chars().take(40).collect()))?;
        let (name, form) = parts(held);
        out.push_str(before);
        out.push_str(&form.write(value(name)?).ok_or_else(|| Denied::Unfit(name.to_owned()))?);
        rest = after;
    }
    out.push_str(rest);
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::secret::{Form, sentinel, sentinel_as};

    fn name(text: &str) -> HostName {
        text.parse().unwrap()
    }

    fn material(text: &str) -> Material {
        text.parse().unwrap()
    }

    #[test]
    fn a_secret_stands_behind_its_name() {
        let mut materials = Materials::default();
        materials.add_secret(material("db/app"), "hunter22", Owner::All);
        materials.add_public(material("pki/ca.crt"), "CERT", Owner::All);
        let text = format!("password {}\n{}", sentinel("db/app"), sentinel(Material::HopAuthorities));
        let host = name("web1");
        let share = materials.share(&host);
        assert_eq!(share.materialize(&text).unwrap(), "password hunter22\nCERT");
        assert_eq!(materials.redact("denied for hunter22"), "denied for ‹db/app›");
        assert!(!format!("{materials:?}").contains("hunter22"));
        for unknown in ["x", "db/x"] {
            assert_eq!(share.materialize(&sentinel(unknown)).unwrap_err(), Denied::Missing(unknown.into()));
            assert!(share.is_secret(&sentinel(unknown)));
        }
        assert!(share.is_secret(&text) && !share.is_secret(&sentinel("pki/ca.crt")));
    }

    #[test]
    fn a_secret_is_written_in_the_form_that_is_asked_for() {
        let mut materials = Materials::default();
        materials.add_secret(material("db/app"), "it's \"x\"", Owner::All);
        materials.add_secret(material("db/two"), "a\nb", Owner::All);
        let host = name("web1");
        let share = materials.share(&host);
        let text = format!("x'{}' P={}", sentinel_as("db/app", Form::Hex), sentinel_as("db/app", Form::Shell));
        assert!(share.is_secret(&text));
        assert_eq!(share.materialize(&text).unwrap(), r#"x'6974277320227822' P="it's \"x\"""#);
        assert_eq!(share.draft(&sentinel_as("db/two", Form::Shell)).unwrap_err(), Denied::Unfit("db/two".into()));
    }

    #[test]
    fn a_secret_that_is_not_made_is_planned_and_never_given() {
        let mut materials = Materials::default();
        let (host, text) = (name("web1"), sentinel("db/app"));
        materials.add_unmade(material("db/app"), Owner::host(&host));
        assert!(materials.is_secret(&material("db/app")) && materials.is_unmade(&material("db/app")));
        let share = materials.share(&host);
        assert!(share.is_secret(&text));
        assert_eq!(share.draft(&text).unwrap(), "(secret db/app)");
        assert_eq!(share.materialize(&text).unwrap_err(), Denied::Unmade(material("db/app")));
        assert!(matches!(materials.share(&name("web2")).draft(&text), Err(Denied::NotYours { .. })));
    }

    #[test]
    fn all_who_tell_know_the_same() {
        let hidden = Hidden::default();
        let [mut first, mut second] = [Materials::default(), Materials::default()];
        first.add_secret(material("db/app"), "a password of old", Owner::All);
        first.hide_with(&hidden);
        second.add_secret(material("db/app"), "a password that is new", Owner::All);
        second.hide_with(&hidden);
        for words in ["a password of old", "a password that is new"] {
            for said in [hidden.text(words), first.redact(words), second.redact(words)] {
                assert_eq!(said, "‹db/app›");
            }
        }
    }

    #[test]
    fn a_material_goes_to_its_owners_alone() {
        let mut materials = Materials::default();
        let kinds = ["one", "two", "all", "nobody", "nobody-either"];
        for (known, owner) in kinds.into_iter().zip([
            Owner::host(&name("web1")),
            Owner::Hosts(BTreeSet::from([name("lb1"), name("lb2")])),
            Owner::All,
            Owner::Nobody,
            Owner::Hosts(BTreeSet::new()),
        ]) {
            materials.add_secret(material(&format!("of/{known}")), "value", owner.clone());
            materials.add_public(material(&format!("site/{known}.example.com.crt")), "text", owner);
        }
        for (host, may) in [
            ("web1", [true, false, true, false, false]),
            ("lb2", [false, true, true, false, false]),
            ("web2", [false, false, true, false, false]),
        ] {
            let host = name(host);
            let share = materials.share(&host);
            for (known, may) in kinds.iter().zip(may) {
                let public = material(&format!("site/{known}.example.com.crt"));
                assert_eq!(share.materialize(&sentinel(format!("of/{known}"))).is_ok(), may, "{known} for {host}");
                assert_eq!(share.public(&public).is_some(), may, "{known} for {host}");
            }
        }
        let host = name("web1");
        let why = materials.share(&host).may("of/two").unwrap_err().to_string();
        assert_eq!(why, "`of/two` is for lb1, lb2 alone, and web1 may not have it");
    }
}
