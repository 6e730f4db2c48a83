//! What is kept of public certificates: takes the state folder, gives the account key, each site's certificate, the order
//! under way and what went wrong before, under a lock; writes each back atomically.
//!
//! `STATE/acme/account.key` must be backed up: the load balancers answer challenges with its thumbprint. The rest may be
//! lost at the price of new orders, of which a CA allows few (five a week for the same names, at Let's Encrypt).

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::base::fsx::{STATE_BYTES, private_dir, read_bounded, read_text, write_atomic};
use crate::pki::account_key::AccountKey;
use crate::pki::internal_ca::{self, Key, Problem};
use crate::pki::internal_store::{self, Error};
use crate::pki::public::Public;
use crate::service::certificates::schedule::{Advice, Record};

/// An order under way. It is on disk before the request that it is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Journal {
    /// Whom it was sent to.
    pub(crate) directory: String,
    /// What for.
    pub(crate) names: Vec<String>,
    /// The profile that was asked for.
    #[serde(default)]
    pub(crate) profile: Option<String>,
    /// Where it is, from when the CA has told.
    pub(crate) url: Option<String>,
    /// The key that the certificate will have.
    pub(crate) key: Key,
}

/// More than a chain, its key and what is written about them take, bytes.
const RESERVE: usize = 16 * 1024;

/// An account as its CA knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownAccount {
    /// Its URL; what `accounturi` of a CAA record names (RFC 8657 §3).
    pub url: String,
    /// The mail address that the CA was told.
    pub contact: Option<String>,
}

/// `STATE/acme`, locked until it is dropped.
#[derive(Debug)]
pub struct PublicStore {
    folder: PathBuf,
    _lock: File,
}

impl PublicStore {
    /// Opens the folder, making it where it is missing, and waits for its lock.
    ///
    /// # Errors
    /// [`Error::Io`], or [`Error::Busy`] after 20 seconds.
    pub fn open(state: &Path) -> Result<Self, Error> {
        let folder = state.join("acme");
        let lock = internal_store::lock(&folder)?;
        Ok(Self { folder, _lock: lock })
    }

    /// Opens the folder where it is there already: who only looks makes nothing.
    ///
    /// # Errors
    /// As for [`PublicStore::open`].
    pub fn existing(state: &Path) -> Result<Option<Self>, Error> {
        if state.join("acme").is_dir() { Self::open(state).map(Some) } else { Ok(None) }
    }

    /// The account key, made where there is none. One key for every directory, so that all have one thumbprint.
    ///
    /// # Errors
    /// [`Error::Damaged`]: a key is never replaced by another one.
    pub(crate) fn account_key(&self) -> Result<AccountKey, Error> {
        let path = self.folder.join("account.key");
        let text = match read_text(&path, STATE_BYTES) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let (key, text) = AccountKey::generate().map_err(Problem::from)?;
                write_atomic(&path, text.as_bytes(), 0o600)?;
                return Ok(key);
            }
            Err(error) => return Err(error.into()),
        };
        AccountKey::parse(&text).map_err(|why| Error::Damaged { path, why: why.to_owned() })
    }

    fn path(&self, site: &str, what: &str) -> PathBuf {
        self.folder.join("sites").join(site.replace('*', "_")).join(what)
    }

    fn put<T: Serialize>(&self, site: &str, what: &str, value: &T) -> Result<(), Error> {
        let path = self.path(site, what);
        if let Some(folder) = path.parent() {
            private_dir(folder)?;
        }
        let mut bytes = serde_json::to_vec_pretty(value).map_err(io::Error::from)?;
        bytes.push(b'\n');
        Ok(write_atomic(&path, &bytes, 0o600)?)
    }

    fn take(&self, site: &str, what: &str) -> Result<(), Error> {
        match fs_err::remove_file(self.path(site, what)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// The certificate in use, a CA's.
    ///
    /// # Errors
    /// [`Error::Damaged`].
    pub fn current(&self, site: &str) -> Result<Option<Public>, Error> {
        load(&self.path(site, "current.json"))
    }

    /// Puts a certificate into use. It never replaces one for the same, from the same directory, that was issued later. Which of
    /// two ends later says nothing: CAs shorten their lifetimes.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub(crate) fn put_current(&self, site: &str, new: &Public) -> Result<(), Error> {
        if let Some(old) = self.current(site)?
            && old.names == new.names
            && old.directory == new.directory
            && old.profile == new.profile
            && old.life.not_before > new.life.not_before
        {
            return Err(Problem::Damaged(format!(
                "the certificate of {site} was issued on {}, before the one in use",
                internal_ca::date(new.life.not_before)
            ))
            .into());
        }
        self.put(site, "current.json", new)?;
        // What stood in until now is of no more use, and holds a key.
        self.take(site, "kept.json")
    }

    /// What the load balancers showed for a site before its certificate was ordered: bought, or by an internal authority.
    ///
    /// # Errors
    /// [`Error::Damaged`].
    pub(crate) fn kept(&self, site: &str) -> Result<Option<Public>, Error> {
        load(&self.path(site, "kept.json"))
    }

    /// Keeps what a load balancer shows for a site that has no certificate of its own yet, where nothing better stands in. Gives
    /// whether it is shown from now on, and was not before.
    ///
    /// # Errors
    /// [`Error::Damaged`], [`Error::Io`].
    pub(crate) fn keep(
        &self,
        site: &str,
        names: &[String],
        shown: &Public,
        now: OffsetDateTime,
    ) -> Result<bool, Error> {
        let others = self.others(site)?;
        let kept = self.kept(site)?;
        let known = |other: &Public| other.sha256 == shown.sha256;
        // One that its CA took back, or that was thrown away with its site's own, must not come back by this way.
        if self.current(site)?.is_some() || others.iter().chain(&kept).any(known) {
            return Ok(false);
        }
        let all = others.into_iter().chain(kept).chain([shown.clone()]);
        let best = best(all, names, now).is_some_and(|best| best == *shown);
        if best {
            self.put(site, "kept.json", shown)?;
        }
        Ok(best)
    }

    /// What a load balancer shows: the certificate in use, or what stands in until there is one. Where there is nothing, a placeholder
    /// is made here so that `HAProxy` starts.
    ///
    /// # Errors
    /// [`Error::Damaged`], [`Error::Problem`].
    pub fn shown(&self, site: &str, names: &[String], now: OffsetDateTime) -> Result<Public, Error> {
        if let Some(current) = self.current(site)? {
            return Ok(current);
        }
        match self.stand_in(site, names, now)? {
            Some(old)
                if old.directory.is_some() || (old.names == names && old.life.not_after > now.unix_timestamp()) =>
            {
                Ok(old)
            }
            _ => {
                let new = Public::placeholder(names, now)?;
                self.put(site, "placeholder.json", &new)?;
                Ok(new)
            }
        }
    }

    /// What stands in for a site's first certificate: what it showed before it was to be ordered, or that of another site, of now or of
    /// before, which is for some of its names, so that a name that moves from site to site shows its visitors what it did; else the
    /// placeholder, where one was made.
    ///
    /// # Errors
    /// [`Error::Damaged`].
    pub fn stand_in(&self, site: &str, names: &[String], now: OffsetDateTime) -> Result<Option<Public>, Error> {
        let all = self.others(site)?.into_iter().chain(self.kept(site)?);
        let best = best(all, names, now);
        if best.is_some() { Ok(best) } else { load(&self.path(site, "placeholder.json")) }
    }

    /// The certificates in use of all sites but one, also of those that the inventory does not have any more. One that is damaged is
    /// no matter to others.
    pub(crate) fn others(&self, site: &str) -> Result<Vec<Public>, Error> {
        let folders = match fs_err::read_dir(self.folder.join("sites")) {
            Ok(folders) => folders,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error.into()),
        };
        let own = self.path(site, "current.json");
        let mut others = Vec::new();
        for folder in folders {
            let path = folder?.path().join("current.json");
            if path != own {
                others.extend(load::<Public>(&path).ok().flatten());
            }
        }
        Ok(others)
    }

    /// The order under way, if it is for the same.
    ///
    /// # Errors
    /// [`Error::Damaged`].
    pub(crate) fn journal(&self, site: &str) -> Result<Option<Journal>, Error> {
        load(&self.path(site, "order.json"))
    }

    pub(crate) fn put_journal(&self, site: &str, journal: &Journal) -> Result<(), Error> {
        self.put(site, "order.json", journal)
    }

    pub(crate) fn clear_journal(&self, site: &str) -> Result<(), Error> {
        self.take(site, "order.json")
    }

    /// The TXT records that a hook was told to set and not yet to remove: name and value.
    pub(crate) fn presented(&self, site: &str) -> Result<Vec<(String, String)>, Error> {
        Ok(load(&self.path(site, "presented.json"))?.unwrap_or_default())
    }

    pub(crate) fn put_presented(&self, site: &str, records: &[(String, String)]) -> Result<(), Error> {
        if records.is_empty() { self.take(site, "presented.json") } else { self.put(site, "presented.json", &records) }
    }

    /// Writes as much as a certificate will need, and takes it away again: a full disk is told before a CA is asked.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub(crate) fn reserve(&self, site: &str) -> Result<(), Error> {
        let path = self.path(site, "reserve");
        if let Some(folder) = path.parent() {
            private_dir(folder)?;
        }
        write_atomic(&path, &[b'0'; RESERVE], 0o600)?;
        self.take(site, "reserve")
    }

    /// Our account at a directory, where one was made.
    ///
    /// # Errors
    /// [`Error::Damaged`].
    pub fn account(&self, directory: &str) -> Result<Option<KnownAccount>, Error> {
        Ok(self.accounts()?.remove(directory))
    }

    pub(crate) fn put_account(&self, directory: &str, account: Option<KnownAccount>) -> Result<(), Error> {
        let mut accounts = self.accounts()?;
        match account {
            Some(account) => accounts.insert(directory.to_owned(), account),
            None => accounts.remove(directory),
        };
        let bytes = serde_json::to_vec_pretty(&accounts).map_err(io::Error::from)?;
        Ok(write_atomic(&self.folder.join("accounts.json"), &bytes, 0o600)?)
    }

    fn accounts(&self) -> Result<BTreeMap<String, KnownAccount>, Error> {
        Ok(load(&self.folder.join("accounts.json"))?.unwrap_or_default())
    }

    /// What went wrong before, at the first issuer (0) or the one after it.
    ///
    /// # Errors
    /// [`Error::Damaged`].
    pub fn record(&self, site: &str, rank: usize) -> Result<Record, Error> {
        Ok(load(&self.path(site, &record_file(rank)))?.unwrap_or_default())
    }

    pub(crate) fn put_record(&self, site: &str, rank: usize, record: &Record) -> Result<(), Error> {
        if *record == Record::default() {
            self.take(site, &record_file(rank))
        } else {
            self.put(site, &record_file(rank), record)
        }
    }

    /// What the CA advised about the renewal of the certificate in use.
    ///
    /// # Errors
    /// [`Error::Damaged`].
    pub fn advice(&self, site: &str) -> Result<Option<Advice>, Error> {
        load(&self.path(site, "advice.json"))
    }

    pub(crate) fn put_advice(&self, site: &str, advice: &Advice) -> Result<(), Error> {
        self.put(site, "advice.json", advice)
    }
}

/// Which of these serves visitors of these names best; none where none is for any of them, or all that are have ended.
fn best(all: impl Iterator<Item = Public>, names: &[String], now: OffsetDateTime) -> Option<Public> {
    // The main name counts most, as it is what links lead to.
    let worth = |one: &Public| {
        let main = names.first().is_some_and(|name| one.is_for(name));
        (main, names.iter().filter(|name| one.is_for(name)).count(), one.life.not_after, one.sha256.clone())
    };
    all.filter(|one| !one.revoked && one.life.not_after > now.unix_timestamp())
        .filter(|one| worth(one).1 > 0)
        .max_by_key(worth)
}

fn record_file(rank: usize) -> String {
    if rank == 0 { "record.json".to_owned() } else { format!("record-{}.json", rank + 1) }
}

fn load<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, Error> {
    let bytes = match read_bounded(path, STATE_BYTES) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    // serde's own words may quote what it read, and that may be a key: the place is enough.
    let why = |e: serde_json::Error| format!("cannot be read at line {} column {}", e.line(), e.column());
    serde_json::from_slice(&bytes).map(Some).map_err(|e| Error::Damaged { path: path.to_owned(), why: why(e) })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use time::macros::datetime;

    use super::*;
    use crate::pki::public;
    use crate::pki::sample::{expected, from_ca, names};

    const NOW: OffsetDateTime = datetime!(2026-11-23 12:00 UTC);

    #[test]
    fn the_account_key_stays() {
        let dir = tempfile::tempdir().unwrap();
        let first = PublicStore::open(dir.path()).unwrap().account_key().unwrap().thumbprint();
        assert_eq!(PublicStore::open(dir.path()).unwrap().account_key().unwrap().thumbprint(), first);
        assert_eq!(first.len(), 43);
        fs_err::write(dir.path().join("acme/account.key"), "broken").unwrap();
        assert!(matches!(PublicStore::open(dir.path()).unwrap().account_key(), Err(Error::Damaged { .. })));
    }

    #[test]
    fn a_placeholder_is_made_once_and_gives_way() {
        let dir = tempfile::tempdir().unwrap();
        let store = PublicStore::open(dir.path()).unwrap();
        let placeholder = store.shown("a.example.com", &names(), NOW).unwrap();
        assert_eq!(placeholder.held(), None);
        assert_eq!(store.shown("a.example.com", &names(), NOW).unwrap(), placeholder);
        let real = from_ca(expected(&names()), 90, NOW);
        store.put_current("a.example.com", &real).unwrap();
        assert_eq!(store.shown("a.example.com", &names(), NOW).unwrap(), real);
        let mut older = real.clone();
        older.life.not_before -= 1;
        assert!(store.put_current("a.example.com", &older).unwrap_err().to_string().contains("before the one in use"));
        // Another profile may be shorter.
        older.profile = Some("shortlived".into());
        store.put_current("a.example.com", &older).unwrap();
        assert_eq!(store.current("a.example.com").unwrap(), Some(older));
    }

    /// A site is renamed, its name and an alias change places, an alias becomes a site of its own, a name leaves a wildcard.
    #[test]
    fn a_name_that_moves_shows_what_it_did() {
        let dir = tempfile::tempdir().unwrap();
        let store = PublicStore::open(dir.path()).unwrap();
        let all = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let mut kept = BTreeMap::new();
        for (site, names, days) in [
            ("a.example.com", &["a.example.com", "b.example.com"][..], 60),
            ("b.example.org", &["b.example.org", "b.example.com"], 90),
            ("*.example.net", &["*.example.net", "example.net"], 90),
            ("over.example.com", &["over.example.com"], 1),
        ] {
            let real = from_ca(expected(&all(names)), days, NOW);
            store.put_current(site, &real).unwrap();
            kept.insert(site, real);
        }
        let back = Public { revoked: true, ..from_ca(expected(&all(&["back.example.com"])), 90, NOW) };
        store.put_current("back.example.com", &back).unwrap();
        fs_err::create_dir_all(dir.path().join("acme/sites/broken.example.com")).unwrap();
        fs_err::write(dir.path().join("acme/sites/broken.example.com/current.json"), "{").unwrap();
        let now = NOW + time::Duration::days(2);
        for (site, names, shows) in [
            ("new.example.com", &["new.example.com", "a.example.com", "b.example.com"][..], Some("a.example.com")),
            ("b.example.com", &["b.example.com", "a.example.com"], Some("a.example.com")),
            ("b.example.com", &["b.example.com"], Some("b.example.org")),
            ("b.example.com", &["b.example.com", "b.example.org"], Some("b.example.org")),
            ("shop.example.net", &["shop.example.net"], Some("*.example.net")),
            ("a.shop.example.net", &["a.shop.example.net"], None),
            ("other.example.com", &["other.example.com", "over.example.com", "back.example.com"], None),
            ("broken.example.org", &["broken.example.org", "broken.example.com"], None),
            // Its own stays its own.
            ("a.example.com", &["a.example.com", "b.example.org"], Some("a.example.com")),
        ] {
            let names = all(names);
            let shown = store.shown(site, &names, now).unwrap();
            assert_eq!(shown.directory.as_ref().map(|_| &shown), shows.map(|shows| &kept[shows]), "{site} {names:?}");
            assert_eq!(store.shown(site, &names, now).unwrap(), shown, "{site}: twice is nothing");
            assert_eq!(
                store.current(site).unwrap().is_some(),
                kept.contains_key(site),
                "{site}: it is still to be ordered"
            );
        }
    }

    /// A certificate that was bought, by a company's authority, or our own: it is to be ordered from now on, and the load balancers have
    /// the only copy of it with its key.
    #[test]
    fn what_was_shown_before_stays_until_the_order() {
        let all = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let of = |names: &[&str], days| from_ca(expected(&all(names)), days, NOW);
        let (a, b, both) = (&["a.example.com"][..], &["b.example.com"][..], &["a.example.com", "b.example.com"][..]);
        let leaf =
            |whole: &Public| whole.chain.split_inclusive("-----END CERTIFICATE-----\n").next().unwrap().to_owned();
        let (bought, ended, other) = (of(both, 300), of(a, 1), of(a, 90));
        let now = NOW + time::Duration::days(2);
        let placeholder = Public::placeholder(&all(a), NOW).unwrap();
        for (what, file, stays) in [
            ("with its intermediate", public::file(&bought), true),
            ("the leaf alone", format!("{}{}", leaf(&bought), bought.key.reveal()), true),
            ("for an alias alone", public::file(&of(b, 90)), true),
            ("of a wildcard", public::file(&of(&["*.example.com"], 90)), true),
            ("ended", public::file(&ended), false),
            ("for other names", public::file(&of(&["a.example.org"], 90)), false),
            ("with another key", format!("{}{}", bought.chain, other.key.reveal()), false),
            ("without a key", bought.chain.clone(), false),
            ("with two keys", format!("{}{}", public::file(&bought), other.key.reveal()), false),
            ("damaged", public::file(&bought).chars().take(900).collect(), false),
            ("nothing", String::new(), false),
            ("a placeholder", public::file(&placeholder), false),
        ] {
            let dir = tempfile::tempdir().unwrap();
            let store = PublicStore::open(dir.path()).unwrap();
            let keep = |file: &str| {
                Public::kept("a.example.com", file, now)
                    .is_some_and(|found| store.keep("a.example.com", &all(both), &found, now).unwrap())
            };
            assert_eq!(keep(&file), stays, "{what}");
            assert!(!keep(&file), "{what}: twice is nothing");
            let shown = store.shown("a.example.com", &all(both), now).unwrap();
            assert_eq!(public::file(&shown) == file, stays, "{what}: it is the same to the byte, or a placeholder");
            assert_eq!(shown.directory.is_some(), stays, "{what}");
            assert!(store.current("a.example.com").unwrap().is_none(), "{what}: it is still to be ordered");
            assert!(!shown.about().contains("placeholder") || !stays, "{}", shown.about());
            // It ends, or the order is done: neither it nor its key is kept.
            let late = store.shown("a.example.com", &all(both), now + time::Duration::days(400)).unwrap();
            assert_eq!(late.directory, None, "{what}");
            let real = of(both, 90);
            store.put_current("a.example.com", &real).unwrap();
            assert_eq!(store.shown("a.example.com", &all(both), now).unwrap(), real, "{what}");
            assert!(!keep(&file) && store.kept("a.example.com").unwrap().is_none(), "{what}");
        }
    }

    /// Of two load balancers that show different ones, and of other sites' that are for its names too, the one that serves best.
    #[test]
    fn what_is_kept_is_the_best_that_there_is() {
        let dir = tempfile::tempdir().unwrap();
        let store = PublicStore::open(dir.path()).unwrap();
        let all = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let names = all(&["a.example.com", "b.example.com"]);
        let of = |names: &[&str], days| public::file(&from_ca(expected(&all(names)), days, NOW));
        let moved = from_ca(expected(&all(&["c.example.com", "a.example.com"])), 60, NOW);
        let back = Public { revoked: true, ..from_ca(expected(&names), 90, NOW) };
        store.put_current("c.example.com", &moved).unwrap();
        store.put_current("d.example.com", &back).unwrap();
        for (file, stays) in [
            (of(&["b.example.com"], 90), false),
            (public::file(&moved), false),
            // Its CA took it back.
            (public::file(&back), false),
            (of(&["a.example.com", "b.example.com"], 30), true),
            (of(&["a.example.com"], 300), false),
            (of(&["a.example.com", "b.example.com"], 40), true),
        ] {
            let found = Public::kept("a.example.com", &file, NOW).unwrap();
            assert_eq!(store.keep("a.example.com", &names, &found, NOW).unwrap(), stays, "{}", found.about());
            assert_eq!(store.kept("a.example.com").unwrap() == Some(found), stays);
        }
    }

    #[test]
    fn what_is_remembered_of_accounts_records_and_hooks_comes_back_and_goes() {
        let dir = tempfile::tempdir().unwrap();
        let store = PublicStore::open(dir.path()).unwrap();
        let account = KnownAccount { url: "https://ca/acct/1".into(), contact: None };
        store.put_account("https://ca/dir", Some(account.clone())).unwrap();
        assert_eq!(store.account("https://ca/dir").unwrap(), Some(account));
        store.put_account("https://ca/dir", None).unwrap();
        assert_eq!(store.account("https://ca/dir").unwrap(), None);
        let about = (names(), "https://ca/dir".to_owned());
        let record = Record::default().failed(about, "no".into(), None, 0);
        store.put_record("a.example.com", 1, &record).unwrap();
        assert_eq!(store.record("a.example.com", 0).unwrap(), Record::default());
        assert_eq!(store.record("a.example.com", 1).unwrap(), record);
        let records = [("_acme-challenge.a.example.com".to_owned(), "value".to_owned())];
        store.put_presented("a.example.com", &records).unwrap();
        assert_eq!(store.presented("a.example.com").unwrap(), records);
        store.put_presented("a.example.com", &[]).unwrap();
        store.reserve("a.example.com").unwrap();
        let left: Vec<_> = fs_err::read_dir(dir.path().join("acme/sites/a.example.com")).unwrap().collect();
        assert_eq!(left.len(), 1, "{left:?}");
    }

    #[test]
    fn all_is_private() {
        let dir = tempfile::tempdir().unwrap();
        let store = PublicStore::open(dir.path()).unwrap();
        store.account_key().unwrap();
        store.shown("*.example.com", &["*.example.com".into()], NOW).unwrap();
        let mode = |path: &str| fs_err::metadata(dir.path().join(path)).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode("acme"), mode("acme/account.key")), (0o700, 0o600));
        assert_eq!(mode("acme/sites/_.example.com/placeholder.json"), 0o600);
        assert_eq!(mode("acme/sites/_.example.com"), 0o700);
    }
}
