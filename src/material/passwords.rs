//! The passwords that infra makes and keeps: takes the state folder, gives them; makes, replaces and forgets them under a lock, by
//! an atomic write.
//!
//! `STATE/passwords.json` must be backed up. Where it is lost, or where another clone of the inventory keeps a state of its own,
//! the next `apply` makes other passwords, and its plan shows each file that changes by them. How a daemon that knows another
//! password takes the new one, its service decides.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::path::{Path, PathBuf};

use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize, Serializer};

use crate::base::material::SecretId;
use crate::base::net::{HostName, Invalid};
use crate::material::error::Error;
use crate::pki::internal_store::{load, lock, save};

/// Characters of a password. Of 62 each, that is 190 bits.
const LENGTH: usize = 32;
/// None of them means anything to sh, SQL, YAML, a URL or an INI file.
const ALPHABET: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";

/// A text as [`Text::make`] makes it. Shown as nothing.
#[derive(Debug, Clone, Deserialize)]
#[serde(try_from = "String")]
struct Text(SecretString);

impl Text {
    /// From the system's random numbers, each character as likely as any other.
    fn make() -> Result<Self, Error> {
        let (mut text, mut chance) = (String::with_capacity(LENGTH), [0_u8; 4 * LENGTH]);
        while text.len() < LENGTH {
            getrandom::fill(&mut chance).map_err(|e| Error::Random(e.to_string()))?;
            // The alphabet has fewer than 64: what lies beyond it is left out, not folded back.
            let drawn = chance.iter().filter_map(|byte| ALPHABET.get(usize::from(byte & 63)));
            text.extend(drawn.take(LENGTH - text.len()).copied().map(char::from));
        }
        Ok(Self(text.into()))
    }
}

impl TryFrom<String> for Text {
    type Error = Invalid;
    fn try_from(text: String) -> Result<Self, Invalid> {
        if text.len() == LENGTH && text.bytes().all(|byte| ALPHABET.contains(&byte)) {
            return Ok(Self(text.into()));
        }
        Err(Invalid::new("is not a password that infra has made"))
    }
}

impl Serialize for Text {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0.expose_secret())
    }
}

/// A password that was made.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Password {
    value: Text,
    /// What it was before, while not all who use it have the new one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    previous: Option<Text>,
}

impl Password {
    /// The value itself, for a material alone.
    pub fn reveal(&self) -> &str {
        self.value.0.expose_secret()
    }

    /// The value of before, while a rotation goes on.
    pub fn reveal_previous(&self) -> Option<&str> {
        self.previous.as_ref().map(|text| text.0.expose_secret())
    }
}

/// All passwords of a site.
pub type Passwords = BTreeMap<SecretId, Password>;

/// The file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    /// The inventory's name: passwords of one infrastructure open nothing in another.
    site: HostName,
    passwords: Passwords,
}

fn path(state: &Path) -> PathBuf {
    state.join("passwords.json")
}

/// All that were made. Nothing is made by this, and no lock is waited for: the file is whole at any moment.
///
/// # Errors
/// [`Error::Store`] where the file is damaged, [`Error::Foreign`] where it is another inventory's.
pub fn read(state: &Path, site: &HostName) -> Result<Passwords, Error> {
    let path = path(state);
    match load::<Kept>(&path)? {
        None => Ok(Passwords::new()),
        Some(kept) if kept.site == *site => Ok(kept.passwords),
        Some(Kept { site: found, .. }) => Err(Error::Foreign { path, found, site: site.clone() }),
    }
}

/// Makes those of `ids` that are missing, each once whoever asks, and gives all.
///
/// # Errors
/// As for [`read`]; [`Error::Random`].
pub fn make(state: &Path, site: &HostName, ids: impl IntoIterator<Item = SecretId>) -> Result<Passwords, Error> {
    change(state, site, |passwords| {
        for id in ids {
            if let Entry::Vacant(place) = passwords.entry(id) {
                place.insert(Password { value: Text::make()?, previous: None });
            }
        }
        Ok(())
    })
}

/// Makes a new value beside the old one, which is `previous` until [`settle`]. A password whose rotation goes on stays as it is.
///
/// # Errors
/// As for [`make`].
pub fn rotate(state: &Path, site: &HostName, id: &SecretId) -> Result<Passwords, Error> {
    change(state, site, |passwords| {
        if let Some(password) = passwords.get_mut(id).filter(|password| password.previous.is_none()) {
            let old = std::mem::replace(&mut password.value, Text::make()?);
            password.previous = Some(old);
        }
        Ok(())
    })
}

/// Ends a rotation: the value of before is forgotten. To be called when all who use the password have the new one.
///
/// # Errors
/// As for [`read`].
pub fn settle(state: &Path, site: &HostName, id: &SecretId) -> Result<Passwords, Error> {
    change(state, site, |passwords| {
        if let Some(password) = passwords.get_mut(id) {
            password.previous = None;
        }
        Ok(())
    })
}

fn change(
    state: &Path,
    site: &HostName,
    with: impl FnOnce(&mut Passwords) -> Result<(), Error>,
) -> Result<Passwords, Error> {
    let _lock = lock(state)?;
    let mut passwords = read(state, site)?;
    with(&mut passwords)?;
    let kept = Kept { site: site.clone(), passwords };
    save(&path(state), &kept)?;
    Ok(kept.passwords)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn site() -> HostName {
        "shop".parse().unwrap()
    }

    fn id(name: &str) -> SecretId {
        SecretId::new("trial", name).unwrap()
    }

    fn one(passwords: &Passwords, name: &str) -> (String, Option<String>) {
        let password = &passwords[&id(name)];
        (password.reveal().to_owned(), password.reveal_previous().map(ToOwned::to_owned))
    }

    #[test]
    fn each_is_made_once_whoever_asks_first() {
        let state = tempfile::tempdir().unwrap();
        assert!(read(state.path(), &site()).unwrap().is_empty());
        assert_eq!(fs_err::read_dir(state.path()).unwrap().count(), 0, "reading makes nothing");
        let values: BTreeSet<String> = std::thread::scope(|scope| {
            let all = (0..4).map(|_| scope.spawn(|| make(state.path(), &site(), [id("a")]).unwrap()));
            all.collect::<Vec<_>>().into_iter().map(|made| one(&made.join().unwrap(), "a").0).collect()
        });
        assert_eq!(values.len(), 1);
        let more = make(state.path(), &site(), [id("a"), id("b")]).unwrap();
        assert!(values.contains(&one(&more, "a").0) && one(&more, "b").0 != one(&more, "a").0);
        assert_eq!(one(&read(state.path(), &site()).unwrap(), "b"), one(&more, "b"));
        let about = fs_err::metadata(path(state.path())).unwrap();
        assert_eq!(about.permissions().mode() & 0o777, 0o600);
        assert!(!format!("{more:?}").contains(&one(&more, "a").0));
    }

    #[test]
    fn every_character_of_the_alphabet_is_drawn_about_as_often() {
        let mut seen = BTreeMap::<char, usize>::new();
        for _ in 0..620 {
            let text = Text::make().unwrap();
            assert_eq!(text.0.expose_secret().len(), LENGTH);
            text.0.expose_secret().chars().for_each(|c| *seen.entry(c).or_default() += 1);
        }
        // 320 of each are expected, with a deviation of 18: one that is off by ten times that is not drawn by chance.
        assert!(seen.len() == ALPHABET.len() && seen.values().all(|n| (140..500).contains(n)), "{seen:?}");
    }

    #[test]
    fn a_rotation_keeps_the_old_value_until_it_is_over() {
        let (state, site) = (tempfile::tempdir().unwrap(), site());
        let (old, _) = one(&make(state.path(), &site, [id("a")]).unwrap(), "a");
        let (new, previous) = one(&rotate(state.path(), &site, &id("a")).unwrap(), "a");
        assert!(new != old && previous.as_ref() == Some(&old));
        // Who comes late finds the rotation under way.
        assert_eq!(one(&rotate(state.path(), &site, &id("a")).unwrap(), "a"), (new.clone(), Some(old)));
        assert_eq!(one(&settle(state.path(), &site, &id("a")).unwrap(), "a"), (new.clone(), None));
        assert_eq!(one(&read(state.path(), &site).unwrap(), "a"), (new, None));
        assert_eq!(rotate(state.path(), &site, &id("b")).unwrap().len(), 1, "what was never made is not rotated");
    }

    #[test]
    fn what_is_damaged_or_anothers_is_refused_and_stays_as_it_is() {
        type Damage = fn(&str, &str) -> String;
        let cases: [(&str, Damage, &str); 7] = [
            ("half", |text, _| text[..text.len() / 2].to_owned(), "cannot be read at line"),
            ("nothing", |_, _| String::new(), "cannot be read at line"),
            ("another version", |text, _| text.replace("\"version\": 1", "\"version\": 7"), "it is of version 7"),
            ("a shorter value", |text, value| text.replace(value, &value[1..]), "cannot be read at line"),
            ("a value by hand", |text, value| text.replace(value, "x'; DROP TABLE"), "cannot be read at line"),
            ("a name", |text, _| text.replace("trial/a", "pki/a"), "cannot be read at line"),
            ("another site", |text, _| text.replace("shop", "blog"), "holds the passwords of `blog`, not of `shop`"),
        ];
        for (what, damage, words) in cases {
            let (state, site) = (tempfile::tempdir().unwrap(), site());
            let (value, _) = one(&make(state.path(), &site, [id("a")]).unwrap(), "a");
            let file = path(state.path());
            let text = fs_err::read_to_string(&file).unwrap();
            let damaged = damage(&text, &value);
            assert_ne!(text, damaged, "{what}");
            fs_err::write(&file, &damaged).unwrap();
            for error in [read(state.path(), &site), make(state.path(), &site, [id("a")])].map(Result::unwrap_err) {
                let said = format!("{error} {error:?} {}", error.help().unwrap());
                assert!(said.contains(words) && said.contains("passwords.json"), "{what}: {said}");
                assert!(!said.contains(&value[1..]) && !said.contains("DROP"), "{what}: {said}");
            }
            assert_eq!(fs_err::read_to_string(&file).unwrap(), damaged, "{what}");
        }
    }
}
