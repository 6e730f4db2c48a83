//! The two engines and what differs between them beside settings and statements: takes the site and a host's facts, gives the engine
//! with its version, its packages, unit, folders and client.

use std::collections::BTreeMap;

use super::NAME;
use crate::base::diagnostic::Diagnostic;
use crate::inventory::site::{Database, Engine};
use crate::plan::state::{Access, Body, Digest, Facts, File, Phase, Version};
use crate::service::claims::Claims;
use crate::service::product::Product;

/// `MariaDB`'s server.
pub(crate) const MARIADB: Product = Product {
    name: "mariadb",
    packages: &["mariadb-server"],
    shipped: [
        Version(10, 11, 19),
        Version(10, 6, 23),
        Version(10, 11, 14),
        Version(11, 8, 9),
        Version(11, 8, 6),
        Version(11, 8, 9),
    ],
};

/// `MySQL`'s server. Debian has it before a release only; elsewhere it comes from its maker, whose long-term version that is.
pub(crate) const MYSQL: Product = Product {
    name: "mysql",
    packages: &["mysql-server"],
    shipped: [
        Version(8, 4, 0),
        Version(8, 0, 46),
        Version(8, 0, 36),
        Version(8, 4, 0),
        Version(8, 4, 13),
        Version(9, 7, 4),
    ],
};

/// An engine in the version that a host has, or would get.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flavor {
    /// Which of the two.
    pub engine: Engine,
    /// Its version.
    pub version: Version,
}

impl Flavor {
    /// Of a host of these facts.
    pub fn of(database: &Database, facts: &Facts) -> Self {
        let version = match database.engine {
            Engine::Mariadb => MARIADB.of(facts),
            Engine::Mysql => MYSQL.of(facts),
        };
        Self { engine: database.engine, version }
    }

    /// The unit of the server.
    pub fn unit(self) -> &'static str {
        unit(self.engine)
    }

    /// The packages of the server and of what seeds a replica; `socat` also looks after a writer that is taken for dead.
    pub fn packages(self) -> &'static [&'static str] {
        match self.engine {
            Engine::Mariadb => &["mariadb-server", "mariadb-backup", "socat"],
            Engine::Mysql => &["mysql-server", "socat"],
        }
    }

    /// The path of an option file of ours, `98-infra.cnf` say, in the folder that the server reads last. It reads a folder by name, and
    /// Debian's own file of `MySQL` is `mysqld.cnf`, with an address to listen on: ours come after it.
    pub fn option_file(self, name: &str) -> String {
        match self.engine {
            Engine::Mariadb => format!("/etc/mysql/mariadb.conf.d/{name}"),
            Engine::Mysql => format!("/etc/mysql/mysql.conf.d/zz-{name}"),
        }
    }

    /// As a person calls it.
    pub fn title(self) -> &'static str {
        match self.engine {
            Engine::Mariadb => "MariaDB",
            Engine::Mysql => "MySQL",
        }
    }

    /// A server that does not start says why in its log of errors, which is a file: its last lines go to the journal too, where who
    /// started it looks.
    pub(super) fn tell_failures(self, out: &mut Claims) -> Result<(), Diagnostic> {
        let text = "# written by infra; changes made here are seen as drift and replaced\n[Service]\n\
                    ExecStopPost=-/bin/sh -c '[ \"$SERVICE_RESULT\" = success ] || tail -n 12 /var/log/mysql/error.log'\n";
        let body = Body { text: text.to_owned().into(), digest: Digest::of(text.as_bytes()), origin: None };
        let (phase, access, then) = (Phase::Primary, Access::root(0o644), BTreeMap::new());
        let file = File { service: NAME, phase, access, body, then, about: None };
        out.file(&format!("/etc/systemd/system/{}.d/infra.conf", self.unit()), file)
    }

    /// The functions of sh by which every script speaks to this engine.
    pub fn dialect(self) -> &'static str {
        dialect(self.engine)
    }
}

/// The dialect of an engine, in whatever version.
pub fn dialect(engine: Engine) -> &'static str {
    match engine {
        Engine::Mariadb => concat!(include_str!("scripts/common.sh"), include_str!("scripts/mariadb.sh")),
        Engine::Mysql => concat!(include_str!("scripts/common.sh"), include_str!("scripts/mysql.sh")),
    }
}

/// The unit of an engine's server, in whatever version.
pub fn unit(engine: Engine) -> &'static str {
    match engine {
        Engine::Mariadb => "mariadb.service",
        Engine::Mysql => "mysql.service",
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// The functions that a text of sh defines.
    fn functions(text: &str) -> BTreeSet<&str> {
        text.lines().filter_map(|line| line.split_once("() {")).map(|(name, _)| name).collect()
    }

    #[test]
    fn a_script_uses_what_both_engines_have() {
        let [mariadb, mysql] =
            [Engine::Mariadb, Engine::Mysql].map(|engine| Flavor { engine, version: Version(0, 0, 0) }.dialect());
        let both: BTreeSet<&str> = functions(mariadb).intersection(&functions(mysql)).copied().collect();
        assert!(both.len() > 20, "{both:?}");
        for (name, text) in [
            ("primary.sh", include_str!("scripts/primary.sh")),
            ("replica.sh", include_str!("scripts/replica.sh")),
            ("promote.sh", include_str!("scripts/promote.sh")),
            ("switchover.sh", include_str!("scripts/switchover.sh")),
        ] {
            let words = text.split(|c: char| !c.is_ascii_lowercase() && c != '_').filter(|word| word.ends_with("_sql"));
            let own = functions(include_str!("scripts/promote.sh"));
            let missing: BTreeSet<&str> = words.filter(|word| !both.contains(word) && !own.contains(word)).collect();
            assert!(missing.is_empty(), "{name} uses {missing:?}");
        }
    }
}
