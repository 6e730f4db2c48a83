//! The settings that servers of certain versions have: takes an engine and a version, gives the names, as such a server told them
//! itself (`--verbose --help`). Data, a file a version; other versions are not known by heart.

use std::collections::{BTreeMap, BTreeSet};

use crate::inventory::site::Engine;

/// The names of one version, one a line, with ` live` where `SET GLOBAL` takes it.
struct Told {
    engine: Engine,
    version: (u16, u16),
    names: &'static str,
}

/// All that are known by heart.
const TOLD: [Told; 3] = [
    Told { engine: Engine::Mariadb, version: (10, 11), names: include_str!("names/mariadb-10.11.txt") },
    Told { engine: Engine::Mariadb, version: (11, 8), names: include_str!("names/mariadb-11.8.txt") },
    Told { engine: Engine::Mysql, version: (9, 7), names: include_str!("names/mysql-9.7.txt") },
];

impl Told {
    fn lines(&self) -> impl Iterator<Item = (&'static str, bool)> + use<> {
        self.names.lines().map(|line| line.split_once(' ').map_or((line, false), |(name, _)| (name, true)))
    }
}

/// The names that a server of exactly this version has, and whether it takes a value while it runs. `None` where none was asked.
pub fn of(engine: Engine, version: (u16, u16)) -> Option<BTreeMap<&'static str, bool>> {
    TOLD.iter().find(|told| told.engine == engine && told.version == version).map(|told| told.lines().collect())
}

/// The names of all versions of an engine that the supported systems have, where all of these are known by heart, with the versions
/// as a person says them.
pub(crate) fn anywhere(engine: Engine) -> Option<(BTreeSet<&'static str>, &'static str)> {
    match engine {
        Engine::Mariadb => {
            let told = TOLD.iter().filter(|told| told.engine == engine);
            Some((told.flat_map(Told::lines).map(|(name, _)| name).collect(), "MariaDB 10.11 and 11.8"))
        }
        // Those of 8.0 and 8.4 were never asked.
        Engine::Mysql => None,
    }
}
