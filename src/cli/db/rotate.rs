//! `db rotate`: another password, without a moment in which a program cannot log in: both passwords hold on all databases, then all who
//! use it have the new one, then the old one ends. Where it was stopped in between, the same command goes on.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use super::database;
use crate::base::material::SecretId;
use crate::base::net::HostName;
use crate::cli::global::Global;
use crate::cli::stop::{Done, Stop};
use crate::cli::work::Work;
use crate::cli::{exit, stages};
use crate::fleet::event::Outcome;
use crate::fleet::run::Wave;
use crate::fleet::transaction::Options;
use crate::fleet::wave::Waves;
use crate::inventory::site::{Database, Site};
use crate::material::passwords;
use crate::report::{Reporter, prompt};
use crate::service::Services;
use crate::service::agent::database_reader;
use crate::service::database::NAME;
use crate::service::database::accounts::{ADMIN, AGENT, MONITOR, REPLICATION};
use crate::service::database::credentials::brings;

/// `db rotate`.
#[derive(Debug, Clone, clap::Args)]
pub struct Rotate {
    /// A user of the inventory, or `infra_repl`, `infra_admin`, `infra_agent` or `infra_monitor`
    #[arg(value_name = "USER", required_unless_present = "all")]
    pub user: Option<String>,
    /// The inventory
    #[arg(value_name = "INVENTORY", env = "INFRA_INVENTORY", default_value = "inventory.yml", hide_env_values = true)]
    pub inventory: PathBuf,
    /// All passwords that infra has made for the database
    #[arg(long)]
    pub all: bool,
    /// Do not ask for confirmation
    #[arg(short, long)]
    pub yes: bool,
}

/// A password that is replaced.
struct Turn {
    /// The account's name.
    user: String,
    id: SecretId,
    /// Who uses it.
    hosts: BTreeSet<HostName>,
    /// The unit that takes it.
    unit: Option<String>,
}

pub(super) fn run(rotate: &Rotate, global: &Global, services: Services, reporter: &Reporter) -> Done {
    // With `--all` there is no name, and the one word is the inventory.
    let (user, path) = match (&rotate.user, rotate.all) {
        (Some(path), true) => (None, PathBuf::from(path)),
        (user, _) => (user.as_deref(), rotate.inventory.clone()),
    };
    let site = stages::site(&path, reporter)?;
    let turns = turns(&site, database(&site)?, user, reporter)?;
    let hosts: BTreeSet<HostName> = turns.iter().flat_map(|turn| turn.hosts.iter().cloned()).collect();
    let dbs: BTreeSet<HostName> = super::group(&site);
    let what = user.unwrap_or("--all");
    let again = format!("infra db rotate {what} {}", path.display());
    let mut work = Work::new(&site, &hosts, again.clone(), global, services, reporter)?;
    // One host after the other: programs restart for it.
    work.options = Options { waves: Waves { sizes: vec![Wave::ONE], ..Waves::default() }, ..work.options };
    let secrets: BTreeSet<String> = turns.iter().map(|turn| turn.id.to_string()).collect();
    let units: BTreeSet<String> = turns.iter().filter_map(|turn| turn.unit.clone()).collect();
    let about = |action: &_| brings(action, &secrets, &units);

    let known = passwords::read(&site.state, &site.name)?;
    if let Some(turn) = turns.iter().find(|turn| !known.contains_key(&turn.id)) {
        return Err(apply_first(&format!("{} has no password yet", turn.user)));
    }
    let goes_on = turns.iter().all(|turn| known.get(&turn.id).is_some_and(|known| known.reveal_previous().is_some()));
    let behind = if goes_on { BTreeSet::new() } else { work.pending(&hosts, about)? };
    if !behind.is_subset(&dbs) {
        let names: Vec<String> = behind.iter().map(ToString::to_string).collect();
        let do_not = if names.len() == 1 { "does" } else { "do" };
        return Err(apply_first(&format!("{} {do_not} not have the present password yet", names.join(", "))));
    }
    if !rotate.yes && !ask(&turns)? {
        reporter.note("nothing was changed");
        return Ok(exit::DECLINED);
    }
    work.interrupt.watch(exit::INTERRUPTED.into())?;
    // All programs have the present password. A run that was stopped after the last of them took it owes the databases the end of
    // the one before.
    let owed = if behind.is_empty() { None } else { Some(work.part(&dbs, "owed", about)?) };
    if let Some(unfinished) = owed.as_ref().filter(|owed| exit::of(owed) != exit::DONE) {
        return work.end(unfinished.clone(), exit::of);
    }
    for turn in &turns {
        passwords::rotate(&site.state, &site.name, &turn.id)?;
    }
    let brought = work.part(&hosts, "both", about);
    let outcome = match brought {
        Ok(outcome) if exit::of(&outcome) == exit::DONE => outcome,
        unfinished => {
            let help = format!("`{again}` goes on with it");
            reporter.error("both passwords are known, and the old one still holds everywhere", &[], &[help])?;
            return work.end(unfinished?, exit::of);
        }
    };
    for turn in &turns {
        passwords::settle(&site.state, &site.name, &turn.id)?;
    }
    // From here on any `infra apply` ends it too.
    let ended: Outcome = work.part(&dbs, "new", about)?;
    let outcome = match owed {
        Some(owed) => owed.then(outcome),
        None => outcome,
    };
    work.end(outcome.then(ended), exit::of)
}

/// Tells of rotations that were stopped: until they are gone on with, the old password holds beside the new one.
pub(super) fn remind(site: &Site, reporter: &Reporter) -> Result<(), Stop> {
    for (id, _) in passwords::read(&site.state, &site.name)?.iter().filter(|(_, p)| p.reveal_previous().is_some()) {
        let id = id.to_string();
        let Some(secret) = id.strip_prefix(NAME).and_then(|rest| rest.strip_prefix('/')) else { continue };
        let own = OWN.iter().find(|(_, its)| *its == secret).map(|(user, _)| *user);
        let Some(user) = own.or_else(|| secret.strip_prefix("user-")) else { continue };
        reporter.note(&format!(
            "{user} has two passwords, as giving it another one was stopped: `infra db rotate {user}` goes on with it"
        ));
    }
    Ok(())
}

/// infra's own accounts, and what their passwords are called.
const OWN: [(&str, &str); 4] = [(REPLICATION, "replication"), (ADMIN, "admin"), (AGENT, "agent"), (MONITOR, "monitor")];

/// The passwords that are meant. Those that the inventory gives are not infra's to make.
fn turns(site: &Site, database: &Database, user: Option<&str>, reporter: &Reporter) -> Result<Vec<Turn>, Stop> {
    let dbs: BTreeSet<HostName> = super::group(site);
    let is_there = |(user, _): &(&str, &str)| *user != MONITOR || site.is_watched();
    let reader = |user: &str| database_reader(site).filter(|_| user == MONITOR).map(ToOwned::to_owned);
    let mut all: BTreeMap<&str, (String, BTreeSet<HostName>, Option<String>)> = OWN
        .into_iter()
        .filter(is_there)
        .map(|(user, secret)| (user, (secret.to_owned(), dbs.clone(), reader(user))))
        .collect();
    for (name, user) in database.users.iter().filter(|(_, user)| user.password.is_none()) {
        let from = site.with_role(user.from).map(|host| host.name.clone());
        let unit = user.reload.as_ref().map(ToString::to_string);
        all.insert(name, (format!("user-{name}"), from.chain(dbs.iter().cloned()).collect(), unit));
    }
    let given = |name: &str| database.users.get(name).is_some_and(|user| user.password.is_some());
    match user {
        None => {
            for name in database.users.keys().filter(|name| given(name)) {
                reporter.note(&format!("{name} keeps its password: the inventory says where that is kept"));
            }
        }
        Some(name) if given(name) => {
            return Err(Stop::Refused(
                format!("the inventory says where the password of {name} is kept: infra cannot make another one"),
                vec!["change it there; `infra apply` then brings it to the databases and to the programs".to_owned()],
            ));
        }
        Some(name) if !all.contains_key(name) => {
            let names: Vec<&str> = all.into_keys().collect();
            return Err(Stop::Refused(
                format!("the database has no user `{name}`"),
                vec![format!("users with a password of infra's: {}", names.join(", "))],
            ));
        }
        Some(name) => all.retain(|other, _| *other == name),
    }
    let turn = |(user, (secret, hosts, unit)): (&str, (String, _, _))| {
        let id = SecretId::new(NAME, &secret).map_err(|error| Stop::Failed(anyhow::anyhow!("{user} {error}")))?;
        Ok(Turn { user: user.to_owned(), id, hosts, unit })
    };
    all.into_iter().map(turn).collect()
}

fn apply_first(why: &str) -> Stop {
    Stop::Refused(why.to_owned(), vec!["`infra apply` comes first".to_owned()])
}

fn ask(turns: &[Turn]) -> Result<bool, Stop> {
    let users: Vec<&str> = turns.iter().map(|turn| turn.user.as_str()).collect();
    let units: BTreeSet<&str> = turns.iter().filter_map(|turn| turn.unit.as_deref()).collect();
    let units: Vec<&str> = units.into_iter().collect();
    let restarts =
        if units.is_empty() { String::new() } else { format!(" ({} is reloaded or restarted)", units.join(", ")) };
    prompt::confirm(&format!("give {} another password{restarts}?", users.join(", ")))
        .map_err(|error| Stop::Refused(error.to_string(), vec!["add `--yes` to go on without being asked".to_owned()]))
}
