//! What is kept of the authorities: takes the state folder, gives its content under a lock and writes it back atomically.
//!
//! `STATE/pki/authorities.json` must be backed up: a new authority means that every host is changed. `leaves.json` may be
//! lost: leaves are made anew.

use std::collections::BTreeMap;
use std::fs::{File, TryLockError};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::OFlags;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::base::fsx::{STATE_BYTES, private_dir, read_bounded, write_atomic};
use crate::base::material::CertificateId;
use crate::base::net::HostName;
use crate::pki::internal_ca::{Authority, Leaf, Problem};

/// The shape of such files.
const VERSION: u32 = 1;
/// How long we wait for another process that is at work in the store.
const PATIENCE: Duration = Duration::from_secs(20);

/// What keeps the internal authorities from working.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The state folder cannot be used.
    #[error("cannot use the state folder: {0}")]
    Io(#[from] io::Error),
    /// Another process is at work in the store.
    #[error("another `infra` is at work with this state: `{0}` is locked")]
    Busy(PathBuf),
    /// A file does not hold what we wrote.
    #[error("`{path}` is damaged: {why}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What does not fit.
        why: String,
    },
    /// Leaves without the authorities that signed them.
    #[error("`{0}` is missing, but certificates signed by its authorities are in use")]
    Lost(PathBuf),
    /// The authorities are another inventory's: what they sign is not believed under this one's name.
    #[error("`{path}` holds the authorities of `{found}`, and this inventory is `{name}`")]
    Foreign {
        /// The file.
        path: PathBuf,
        /// Whose they are.
        found: String,
        /// Ours.
        name: HostName,
    },
    /// A certificate cannot be made.
    #[error(transparent)]
    Problem(#[from] Problem),
    /// A rotation was asked for while one goes on.
    #[error("a rotation of the internal authority is under way")]
    Rotating,
}

impl Error {
    /// What to do next.
    pub fn help(&self) -> Option<String> {
        Some(match self {
            Self::Io(_) | Self::Problem(_) => return None,
            Self::Foreign { found, name, .. } => format!(
                "write `name: {found}` to go on with that infrastructure; a new one, `{name}`, needs a folder of its own (`state: {name}-state`), \
                 and takes hosts over with `--adopt {found}`"
            ),
            Self::Busy(_) => "wait until that run has ended, then run this again".into(),
            Self::Damaged { path, .. } if path.ends_with("leaves.json") => {
                format!(
                    "restore the file from a backup, or remove `{}`: its certificates are then made anew",
                    path.display()
                )
            }
            Self::Damaged { path, .. } if path.ends_with("passwords.json") => format!(
                "restore it from a backup, or remove `{}`: other passwords are then made, and the next plan shows what changes",
                path.display()
            ),
            Self::Damaged { path, .. } if path.parent().is_some_and(|folder| folder.ends_with("services")) => format!(
                "restore it from a backup, or remove `{}`: what it says is learned from the hosts again",
                path.display()
            ),
            Self::Damaged { .. } => {
                "restore the file from a backup; a new authority is never made in place of one that exists".into()
            }
            Self::Lost(path) => format!(
                "restore the file from a backup; to begin with new authorities, which changes every host, remove `{}` too",
                path.with_file_name("leaves.json").display()
            ),
            Self::Rotating => {
                "each successful apply to all hosts is one step of the rotation, which takes three".into()
            }
        })
    }
}

/// A step of a rotation that is not the resting state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Step {
    /// Hosts learn to trust the new authority; the old one still signs.
    Trust,
    /// The new authority signs all leaves; both are trusted.
    Leaves,
}

/// A rotation under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rotation {
    /// Where it stands.
    pub step: Step,
    /// Whether all hosts have what this step asks for.
    pub deployed: bool,
}

/// The hop authorities.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hops {
    /// All that hosts trust; one, or two in a rotation, the old one first.
    pub trusted: Vec<Authority>,
    /// Which of them signs, by id.
    pub signing: String,
    /// The rotation under way, if any.
    pub rotation: Option<Rotation>,
}

/// All authorities.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Authorities {
    /// `None` before the first use.
    pub hops: Option<Hops>,
    /// Signers of public names, oldest first; the first one that permits a name signs it.
    pub sites: Vec<Authority>,
}

/// All leaves.
pub type Leaves = BTreeMap<CertificateId, Leaf>;

#[derive(Serialize, Deserialize)]
struct Versioned<T> {
    version: u32,
    content: T,
}

/// Makes a folder of the state where it is missing, and waits for its lock, which holds until the file is dropped.
pub(crate) fn lock(folder: &Path) -> Result<File, Error> {
    private_dir(folder)?;
    let path = folder.join("lock");
    let named = |e: io::Error| Error::Io(io::Error::new(e.kind(), format!("{}: {e}", path.display())));
    // A pipe or a link in its place would be waited for, or lead elsewhere.
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
    let mut options = File::options();
    let lock = options.create(true).truncate(false).write(true).mode(0o600).custom_flags(flags);
    let lock = lock.open(&path).map_err(named)?;
    let deadline = Instant::now() + PATIENCE;
    loop {
        match lock.try_lock() {
            Ok(()) => return Ok(lock),
            Err(TryLockError::Error(error)) => return Err(named(error)),
            Err(TryLockError::WouldBlock) if Instant::now() >= deadline => return Err(Error::Busy(path)),
            Err(TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}

/// The folder, locked until it is dropped.
#[derive(Debug)]
pub struct InternalStore {
    folder: PathBuf,
    _lock: File,
}

impl InternalStore {
    /// Opens `STATE/pki`, making it where it is missing, and waits for the lock.
    ///
    /// # Errors
    /// [`Error::Io`], or [`Error::Busy`] after 20 seconds.
    pub fn open(state: &Path) -> Result<Self, Error> {
        let folder = state.join("pki");
        let lock = lock(&folder)?;
        Ok(Self { folder, _lock: lock })
    }

    /// Opens `STATE/pki` where it is there already: who only looks makes nothing.
    ///
    /// # Errors
    /// As for [`InternalStore::open`].
    pub fn existing(state: &Path) -> Result<Option<Self>, Error> {
        if state.join("pki").is_dir() { Self::open(state).map(Some) } else { Ok(None) }
    }

    /// The file of the authorities.
    pub fn authorities_path(&self) -> PathBuf {
        self.folder.join("authorities.json")
    }

    fn leaves_path(&self) -> PathBuf {
        self.folder.join("leaves.json")
    }

    /// The authorities, or none where nothing was made yet.
    ///
    /// # Errors
    /// [`Error::Damaged`], [`Error::Lost`].
    pub fn authorities(&self) -> Result<Authorities, Error> {
        match load(&self.authorities_path())? {
            Some(authorities) => Ok(authorities),
            None if self.leaves_path().exists() => Err(Error::Lost(self.authorities_path())),
            None => Ok(Authorities::default()),
        }
    }

    /// The leaves; each of them is as it was made.
    ///
    /// # Errors
    /// [`Error::Damaged`].
    pub fn leaves(&self) -> Result<Leaves, Error> {
        let path = self.leaves_path();
        let leaves: Leaves = load(&path)?.unwrap_or_default();
        match leaves.iter().find(|(_, leaf)| !leaf.is_intact()) {
            Some((name, _)) => Err(Error::Damaged { path, why: format!("`{name}` is not as it was written") }),
            None => Ok(leaves),
        }
    }

    /// Keeps the authorities, and their certificates beside them as PEM for people (`curl --cacert`).
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn put_authorities(&self, authorities: &Authorities) -> Result<(), Error> {
        save(&self.authorities_path(), authorities)?;
        let hops: String = authorities.hops.iter().flat_map(|h| &h.trusted).map(|a| a.certificate.as_str()).collect();
        write_atomic(&self.folder.join("ca.crt"), hops.as_bytes(), 0o600)?;
        let sites: String = authorities.sites.iter().map(|a| a.certificate.as_str()).collect();
        write_atomic(&self.folder.join("sites-ca.crt"), sites.as_bytes(), 0o600)?;
        Ok(())
    }

    /// Keeps the leaves.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn put_leaves(&self, leaves: &Leaves) -> Result<(), Error> {
        save(&self.leaves_path(), leaves)
    }
}

/// What a file of the state holds, if it is there.
pub(crate) fn load<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, Error> {
    let bytes = match read_bounded(path, STATE_BYTES) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    // serde's own words may quote what it read, and that may be a key: the place is enough.
    let damaged = |why: String| Error::Damaged { path: path.to_owned(), why };
    let file: Versioned<T> = serde_json::from_slice(&bytes)
        .map_err(|e| damaged(format!("cannot be read at line {} column {}", e.line(), e.column())))?;
    if file.version != VERSION {
        return Err(damaged(format!("it is of version {}, this `infra` reads version {VERSION}", file.version)));
    }
    Ok(Some(file.content))
}

/// Writes it back.
pub(crate) fn save<T: Serialize>(path: &Path, content: &T) -> Result<(), Error> {
    let mut bytes = serde_json::to_vec_pretty(&Versioned { version: VERSION, content }).map_err(io::Error::from)?;
    bytes.push(b'\n');
    Ok(write_atomic(path, &bytes, 0o600)?)
}
