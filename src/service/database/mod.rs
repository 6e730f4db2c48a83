//! The database: takes a context, adds the server on the db hosts, its configuration, certificates, accounts and tasks, and on the app
//! hosts what leads to it; decides over the whole group who is seeded from whom and who follows whom.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::base::diagnostic::Diagnostic;
use crate::base::materials::Owner;
use crate::base::net::HostName;
use crate::inventory::site::{self as inventory, Host, Role, Site};
use crate::plan::decision::{Decided, Memory};
use crate::plan::said::Said;
use crate::plan::state::{ObservedFleet, Phase, Probe, UnitWanted};
use crate::service::claims::Claims;
use crate::service::inquiry::Inquiry;
use crate::service::product::Product;
use crate::service::render::Template;
use crate::service::status::Seen;
use crate::service::{Context, SecretWanted, Service};

pub mod accounts;
pub mod answer;
pub mod change;
pub mod commands;
pub mod credentials;
pub mod decide;
pub mod engine;
pub mod failover;
pub mod group;
pub mod gtid;
pub mod kept;
mod own;
pub mod preflight;
pub mod rejoin;
#[cfg(test)]
pub(crate) mod sample;
pub mod seed;
pub mod seen;
pub mod settings;
pub mod status;
pub mod switchover;
mod tls;
mod told;
pub mod traffic;

use engine::Flavor;
use kept::Kept;

/// See the module.
pub struct Database;

/// The service's name, also that of its part of observations, of the controller's memory, and of its secrets.
pub const NAME: &str = "database";
/// The folder of certificates and credentials on the db hosts.
pub const FOLDER: &str = "/etc/mysql/infra";

/// The inventory's database.
///
/// # Errors
/// Where the inventory has none.
pub fn of(site: &Site) -> Result<&inventory::Database, Diagnostic> {
    site.database.as_ref().ok_or_else(|| Diagnostic::error(format!("{} has no database", site.file.display())))
}

const TEMPLATES: &[Template] = &[
    settings::TEMPLATE,
    answer::TEMPLATES[0],
    answer::TEMPLATES[1],
    answer::TEMPLATES[2],
    traffic::TEMPLATES[0],
    traffic::TEMPLATES[1],
    traffic::TEMPLATES[2],
    traffic::TEMPLATES[3],
    traffic::TEMPLATES[4],
    credentials::TEMPLATES[0],
    credentials::TEMPLATES[1],
    credentials::TEMPLATES[2],
];

/// A number that no other host of the site is likely to have, and that stays when hosts come and go (FNV-1a, never 0).
pub fn server_id(site: &Site, host: &HostName) -> u32 {
    let text = format!("{}/{host}", site.name);
    let hash = text.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    (hash >> 1).max(1)
}

/// Whether programs of this host use the database: it has a proxy of its own then. Those of app hosts do, and those of the hosts that a
/// user logs in from.
pub fn is_client(database: &inventory::Database, host: &Host) -> bool {
    host.has(Role::App) || database.users.values().any(|user| host.has(user.from))
}

/// All such hosts.
pub fn clients(site: &Site) -> impl Iterator<Item = &Host> {
    let database = site.database.as_ref();
    site.hosts.values().filter(move |host| database.is_some_and(|database| is_client(database, host)))
}

impl Service for Database {
    fn name(&self) -> &'static str {
        NAME
    }

    fn templates(&self) -> &'static [Template] {
        TEMPLATES
    }

    fn products(&self) -> &'static [Product] {
        &[engine::MARIADB, engine::MYSQL]
    }

    fn inquiry(&self) -> Option<Inquiry> {
        Some(seen::INQUIRY)
    }

    fn status(&self, seen: &Seen<'_>) -> Said {
        seen.site.database.as_ref().map(|database| told::tell(seen, database)).unwrap_or_default()
    }

    fn secrets(&self, site: &Site) -> Vec<SecretWanted> {
        let Some(database) = &site.database else { return Vec::new() };
        let dbs: BTreeSet<HostName> = site.with_role(Role::Db).map(|host| host.name.clone()).collect();
        let monitor = site.is_watched().then_some("monitor");
        let own = ["replication", "admin", "agent"].into_iter().chain(monitor);
        let own = own.map(|name| SecretWanted { name: name.into(), owner: Owner::Hosts(dbs.clone()), given: None });
        let users = database.users.iter().map(|(name, user)| {
            let from = site.with_role(user.from).map(|host| host.name.clone());
            let owner = Owner::Hosts(from.chain(dbs.iter().cloned()).collect());
            SecretWanted { name: format!("user-{name}"), owner, given: user.password.clone() }
        });
        own.chain(users).collect()
    }

    fn needs(&self, site: &Site, selected: &BTreeSet<HostName>) -> BTreeSet<HostName> {
        let all: BTreeSet<HostName> = site.with_role(Role::Db).map(|host| host.name.clone()).collect();
        if site.database.is_none() || all.is_disjoint(selected) { BTreeSet::new() } else { all }
    }

    fn decide(&self, site: &Site, observed: &ObservedFleet, memory: &Memory) -> Result<Decided, Diagnostic> {
        let mut decided = decide::decide(site, observed, memory)?;
        accounts::decide(site, observed, &mut decided);
        Ok(decided)
    }

    fn writer_units(&self, site: &Site) -> BTreeSet<String> {
        site.database.iter().map(|database| engine::unit(database.engine).to_owned()).collect()
    }

    fn want(&self, context: &Context<'_>, out: &mut Claims) -> Result<(), Diagnostic> {
        let (site, host) = (context.site, context.host);
        let Some(database) = &site.database else { return Ok(()) };
        if is_client(database, host) {
            traffic::want(context, &Kept::of(context.memory)?.closed, out)?;
        }
        credentials::users(context, database, out)?;
        if !host.has(Role::Db) {
            return Ok(());
        }
        let flavor = Flavor::of(database, context.facts);
        let phase = Phase::Primary;
        for package in flavor.packages() {
            out.package(package)?;
        }
        out.unit(flavor.unit(), UnitWanted { phase })?;
        tls::want(context, flavor, out)?;
        settings::want(context, database, flavor, out)?;
        flavor.tell_failures(out)?;
        credentials::own(context, flavor, out)?;
        out.task(seen::ACCOUNTS, accounts::task(context, database, flavor)?)?;
        out.probe(Probe {
            phase,
            title: "the database server answers".into(),
            command: format!("{}is_up", flavor.dialect()).into(),
            within: Duration::from_secs(60),
            advisory: false,
        });
        answer::want(context, database, flavor, out)
    }
}
