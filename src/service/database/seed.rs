//! Seeding: takes who gives and who gets, gives the tasks by which a host becomes a replica with a copy of another's data. The copy goes
//! from host to host over a TLS channel of its own, which both ends verify; the controller sees how far it is, and nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::NAME;
use super::engine::Flavor;
use super::group::{Group, Member, Standing};
use crate::base::diagnostic::Diagnostic;
use crate::base::net::{HostName, Port};
use crate::base::sh::quote;
use crate::inventory::site::{Database, Engine, Host, Site};
use crate::plan::decision::{Decided, Passage};
use crate::plan::plan::Action;
use crate::plan::state::{Body, Digest, ObservedFleet, Phase};
use crate::plan::task::Task;
use crate::service::nginx::reach;

/// The port at which a donor gives its copy, while it does.
pub const PORT: u16 = 4444;

/// How long a replica may take to catch up with what was written while it was seeded.
const CATCH_UP: Duration = Duration::from_hours(1);
/// What a seed takes beside the copy: checks, the preparation, three starts of a server.
const AROUND: Duration = Duration::from_mins(30);
/// Bytes that a server needs beside the files of its tables.
const BESIDE: u64 = 300_000_000;
/// Bytes per second of a copy that is given up as too slow.
const SLOWEST: u64 = 5_000_000;
/// How long a copy of data of unknown size may take.
const UNKNOWN: Duration = Duration::from_hours(24);
/// How old the last heartbeat of a replica may be that gives its data.
const FRESH: Duration = Duration::from_secs(5);

/// Who is seeded from whom.
#[derive(Debug, Clone, Copy)]
pub struct Seeding<'a> {
    /// Whose data are copied: a replica that is caught up, or the writer.
    pub donor: &'a Host,
    /// Who is followed afterwards.
    pub writer: &'a Host,
    /// Who gets the copy.
    pub recipients: &'a [&'a Host],
    /// The bytes of the donor's data, where they are known.
    pub size: Option<u64>,
    /// Whether a person has agreed that the data of the recipients are lost.
    pub wipe: bool,
}

/// `name() { cat … }`: a function of sh that prints `text`.
fn printer(name: &str, text: &str) -> String {
    format!("{name}() {{\n\tcat <<'INFRA_SEED_END'\n{text}\nINFRA_SEED_END\n}}\n")
}

/// Lines that set variables of sh.
fn variables<const N: usize>(all: [(&str, &str); N]) -> String {
    all.map(|(name, value)| format!("{name}={}\n", quote(value))).concat()
}

/// Has `recipients` get copies, each from the host that does best without being asked for anything else: a replica that is caught up,
/// else the writer. `wipe` is a person's word that what they hold is given up.
///
/// # Errors
/// Where nobody has the same version, which a copy of files needs.
pub(super) fn decide(
    site: &Site,
    database: &Database,
    group: &Group<'_>,
    (writer, recipients): (&Member<'_>, &[&Member<'_>]),
    wipe: bool,
) -> Result<Decided, Diagnostic> {
    let mut by_donor: BTreeMap<&HostName, Vec<&Host>> = BTreeMap::new();
    for recipient in recipients {
        let donor = donor(database, group, writer, recipient)?;
        room(donor, recipient)?;
        by_donor.entry(&donor.host.name).or_default().push(recipient.host);
    }
    let mut decided = Decided::default();
    for (donor, recipients) in by_donor {
        let Some(donor) = group.members.get(donor) else { continue };
        let seeding = Seeding {
            donor: donor.host,
            writer: writer.host,
            recipients: &recipients,
            size: donor.server().map(|_| donor.now.size),
            wipe,
        };
        decided.join(actions(site, Flavor::of(database, donor.facts), &seeding)?);
    }
    Ok(decided)
}

/// Refuses a copy that has no room beside what is there, where both are known. `room` of `seed-lib.sh` looks once more, on the host.
fn room(donor: &Member<'_>, recipient: &Member<'_>) -> Result<(), Diagnostic> {
    let (size, free) = (donor.now.size, recipient.now.free);
    let needed = size.saturating_add(size / 10).saturating_add(BESIDE);
    if free == 0 || size == 0 || free >= needed {
        return Ok(());
    }
    let (name, from) = (&recipient.host.name, &donor.host.name);
    let message = format!(
        "{name} has {} free, and a copy of the data of {from} needs {} beside what is there",
        amount(free),
        amount(needed)
    );
    Err(Diagnostic::error(message).help(format!("make room in /var/lib/mysql on {name}, or give it a larger disk")))
}

/// Whose data `recipient` gets.
fn donor<'g, 'a>(
    database: &Database,
    group: &'g Group<'a>,
    writer: &'g Member<'a>,
    recipient: &Member<'a>,
) -> Result<&'g Member<'a>, Diagnostic> {
    let version = recipient.version(database);
    let fits = |member: &&Member<'a>| member.version(database) == version && member.host.name != recipient.host.name;
    let replicas = group.members.values().filter(|member| {
        let runs = member.now.threads.iter().all(|threads| threads.io == "Yes" && threads.sql == "Yes");
        let fresh = member.now.heartbeat_ms.is_none_or(|age| age < FRESH.as_millis().try_into().unwrap_or(i64::MAX));
        let follows = group.standing(member, writer) == Standing::Follows;
        follows && runs && fresh && member.can_be_followed() && member.error().is_none()
    });
    replicas.chain([writer]).find(fits).ok_or_else(|| {
        let (name, its) = (&writer.host.name, writer.version(database));
        Diagnostic::error(format!(
            "{} has version {version} and {name} has {its}: a copy of files needs the same version on both",
            recipient.host.name
        ))
        .help(format!("bring both to the newer version, {name} last, then run this again"))
    })
}

/// What `infra db seed HOST` does: the host gets a copy, whatever it holds where a person gives that up.
///
/// # Errors
/// Where nobody writes, where it is the writer itself or follows it well, and where it holds data that nobody has given up.
pub fn on_command(site: &Site, observed: &ObservedFleet, host: &HostName, wipe: bool) -> Result<Decided, Diagnostic> {
    let database = site.database.as_ref().ok_or_else(|| Diagnostic::error("the inventory has no database"))?;
    let group = Group::of(site, observed);
    let (writer, member) = both(&group, host)?;
    match group.standing(member, writer) {
        _ if member.is_fresh() => {}
        _ if wipe => {}
        Standing::Follows if member.error().is_none() => {
            return Err(Diagnostic::error(format!(
                "{host} follows {} and needs no copy of its data",
                writer.host.name
            ))
            .help(format!("`infra db seed {host} --wipe` replaces what it has all the same")));
        }
        _ => {
            let lost = loses(&group, writer, member).join("; ");
            return Err(Diagnostic::error(format!("{host} holds data, which are not replaced: {lost}"))
                .help(format!("`infra db seed {host} --wipe` gives them up, after the host's name was typed")));
        }
    }
    if let Some(table) = writer.seen.unsafe_tables.first() {
        return Err(Diagnostic::error(format!(
            "{} has tables that a copy of a running server may not have whole, such as {table}",
            writer.host.name
        ))
        .help("`ALTER TABLE … ENGINE = InnoDB`, then run this again"));
    }
    decide(site, database, &group, (writer, &[member]), wipe && !member.is_fresh())
}

/// What is lost where the data of `host` are replaced, a sentence each; nothing where it holds none.
///
/// # Errors
/// As for [`on_command`].
pub fn destroys(site: &Site, observed: &ObservedFleet, host: &HostName) -> Result<Vec<String>, Diagnostic> {
    let group = Group::of(site, observed);
    let (writer, member) = both(&group, host)?;
    Ok(if member.is_fresh() { Vec::new() } else { loses(&group, writer, member) })
}

fn both<'g, 'a>(group: &'g Group<'a>, host: &HostName) -> Result<(&'g Member<'a>, &'g Member<'a>), Diagnostic> {
    let writer = group.writer().filter(|writer| writer.server().is_some()).ok_or_else(|| {
        Diagnostic::error("no writer answers, whose data could be copied")
            .help("`infra apply` makes the first one; if the writer is dead, `infra db failover HOST` makes another")
    })?;
    let member = group.members.get(host).ok_or_else(|| Diagnostic::error(format!("{host} was not looked at")))?;
    if writer.host.name == *host {
        let epoch = group.written.as_ref().map_or(0, |written| written.epoch);
        return Err(Diagnostic::error(format!("{host} is the writer, by epoch {epoch}: its data are not replaced"))
            .help("`infra db switchover OTHER` makes another host the writer first"));
    }
    Ok((writer, member))
}

fn loses(group: &Group<'_>, writer: &Member<'_>, member: &Member<'_>) -> Vec<String> {
    let mut lost = Vec::new();
    let schemas: Vec<&str> = member.seen.schemas.iter().map(String::as_str).collect();
    if !schemas.is_empty() {
        let size = member.server().map(|_| format!(", {} in all", amount(member.now.size))).unwrap_or_default();
        lost.push(format!("schemas: {}{size}", schemas.join(", ")));
    }
    match (member.server(), group.errant(member, writer)) {
        (Some(_), Some(errant)) if errant.is_empty() => {
            lost.push(format!("{} has all of its transactions", writer.host.name));
        }
        (Some(_), Some(errant)) => {
            lost.push(format!("transactions that {} does not have: {errant}", writer.host.name));
        }
        (Some(_), None) => lost.push("it does not tell which transactions it has that nobody else has".to_owned()),
        (None, _) => lost.push("its server does not answer: nobody knows what it has that nobody else has".to_owned()),
    }
    lost
}

/// `3.1 GB`, `120 MB`.
fn amount(bytes: u64) -> String {
    match bytes / 1_000_000 {
        mega @ 1000.. => format!("{}.{} GB", mega / 1000, mega % 1000 / 100),
        mega => format!("{mega} MB"),
    }
}

/// The tasks of one donor and those who get its copy: the donor is made ready among the writer's steps, the copies come among those of
/// the replicas, and the way between them is open as long as the run lasts.
///
/// # Errors
/// Where two of them have no address of the same family.
pub fn actions(site: &Site, flavor: Flavor, seeding: &Seeding<'_>) -> Result<Decided, Diagnostic> {
    let copy = seeding.size.map_or(UNKNOWN, |size| Duration::from_secs(size / SLOWEST));
    let limit = AROUND + copy + 2 * CATCH_UP;
    let mut decided = Decided::default();
    if flavor.engine == Engine::Mariadb {
        let task = donor_task(site, flavor, seeding, limit)?;
        decided.act(&seeding.donor.name, task.phase, Action::Perform { name: format!("{NAME}/donor"), task });
    }
    for host in seeding.recipients {
        let task = recipient_task(site, flavor, seeding, host, limit)?;
        decided.act(&host.name, task.phase, Action::Perform { name: format!("{NAME}/seed"), task });
        // The other engine clones over the port that is open anyway.
        if let Ok(port) = Port::try_from(u64::from(PORT))
            && flavor.engine == Engine::Mariadb
        {
            let (from, to) = (host.name.clone(), seeding.donor.name.clone());
            decided.passages.push(Passage { from, to, port, why: format!("{} is seeded", host.name) });
        }
    }
    Ok(decided)
}

/// The address of `to` for `from`.
fn address(from: &Host, to: &Host) -> Result<String, Diagnostic> {
    let address = reach(from, to).ok_or_else(|| {
        Diagnostic::error(format!("{} and {} have no address of the same family", from.name, to.name))
    })?;
    Ok(address.to_string())
}

/// The list of donors that the plugin takes knows addresses of IPv4 and names (`MySQL` reference manual, «`clone_valid_donor_list`»).
fn no_ipv6(host: &Host, donor: &Host) -> Diagnostic {
    let (host, donor) = (&host.name, &donor.name);
    Diagnostic::error(format!(
        "{host} cannot get a copy of the data of {donor}: MySQL's clone plugin takes no IPv6 address, and they share no other"
    ))
    .help(format!("give both an IPv4 address in the inventory: `hosts: {{ {host}: {{ address: [10.…, fd00:…] }} }}`"))
}

fn task(phase: Phase, title: String, script: String, limit: Duration, fact: (&str, String)) -> Task {
    let input = Body { text: "".into(), digest: Digest::of(b""), origin: None };
    let makes = BTreeMap::from([(format!("{NAME}/{}", fact.0), fact.1)]);
    Task { service: NAME, phase, title, script, input, limit, undo: None, makes }
}

/// The donor listens; it does so until all have their copy, or nobody asks for it any more.
fn donor_task(site: &Site, flavor: Flavor, seeding: &Seeding<'_>, limit: Duration) -> Result<Task, Diagnostic> {
    let names: Vec<&str> = seeding.recipients.iter().map(|host| host.name.as_str()).collect();
    let allowed: Vec<String> = seeding.recipients.iter().map(|host| site.internal_name(&host.name)).collect();
    // All of them reach it by the same family: every two hosts of the group share one.
    let families = seeding.recipients.iter().map(|host| address(host, seeding.donor));
    let address = families.collect::<Result<BTreeSet<_>, _>>()?.into_iter().next().unwrap_or_default();
    let seconds = limit.as_secs().to_string();
    let allowed = allowed.join(" ");
    let head =
        variables([("folder", "/run/infra/seed"), ("allowed", &allowed), ("address", &address), ("seconds", &seconds)])
            + flavor.dialect();
    let serve = format!("{head}\n{}", include_str!("scripts/seed-serve-mariadb.sh"));
    let script = format!("{head}\n{}{}", printer("serve_text", &serve), include_str!("scripts/seed-donor-mariadb.sh"));
    let title = format!("give a copy of the data to {}", names.join(", "));
    let fact = ("donor", names.join(","));
    Ok(Task {
        undo: Some("systemctl stop infra-seed.service 2>/dev/null || :".to_owned()),
        ..task(Phase::Primary, title, script, Duration::from_mins(3), fact)
    })
}

/// The recipient gets the copy, is tried on it, and follows the writer.
fn recipient_task(
    site: &Site,
    flavor: Flavor,
    seeding: &Seeding<'_>,
    host: &Host,
    limit: Duration,
) -> Result<Task, Diagnostic> {
    let (donor, writer) = (seeding.donor, seeding.writer);
    let (donor_address, writer_address) = (address(host, donor)?, address(host, writer)?);
    if flavor.engine == Engine::Mysql && donor_address.contains(':') {
        return Err(no_ipv6(host, donor));
    }
    let donor_name = site.internal_name(&donor.name);
    let patience = CATCH_UP.as_secs().to_string();
    let head = variables([
        ("unit", flavor.unit()),
        ("host", host.name.as_str()),
        ("donor", &donor_name),
        ("donor_address", &donor_address),
        ("writer_address", &writer_address),
        ("wipe", if seeding.wipe { "1" } else { "" }),
        ("patience", &patience),
    ]);
    let back = include_str!("scripts/seed-back.sh");
    let boot = format!("{head}{back}\n{}", include_str!("scripts/seed-boot.sh"));
    let own = match flavor.engine {
        Engine::Mariadb => include_str!("scripts/seed-recipient-mariadb.sh"),
        Engine::Mysql => include_str!("scripts/seed-recipient-mysql.sh"),
    };
    let start = format!("{head}{}\n{back}\n", flavor.dialect());
    let lib = include_str!("scripts/seed-lib.sh");
    let script = format!("{start}{}{lib}\n{own}", printer("back_text", &boot));
    let title = if seeding.wipe {
        format!("replace the data by a copy of those of {}, and follow {}", donor.name, writer.name)
    } else {
        format!("get a copy of the data of {}, and follow {}", donor.name, writer.name)
    };
    Ok(Task {
        undo: Some(format!("{start}{}", include_str!("scripts/seed-undo.sh"))),
        ..task(Phase::Replica, title, script, limit, ("seed", donor.name.to_string()))
    })
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::path::Path;
    use std::process::{Command, Stdio};

    use super::*;
    use crate::inventory::load::load_text;
    use crate::plan::state::Version;

    /// Each host has one address, of `network`.
    fn seeding_by(
        flavor: Flavor,
        network: &str,
        recipients: &[&str],
        size: Option<u64>,
        wipe: bool,
    ) -> Result<Decided, Diagnostic> {
        let text = format!(
            "name: shop
hosts:
  db1: {{ address: '{network}11', roles: [db] }}
  db2: {{ address: '{network}12', roles: [db] }}
  db3: {{ address: '{network}13', roles: [db] }}
firewall: {{ manage_from: ['{network}0/120'] }}
database: {{ engine: {}, primary: db1, schemas: [shop] }}
",
            if flavor.engine == Engine::Mysql { "mysql" } else { "mariadb" }
        );
        let text = if network.contains(':') { text } else { text.replace("/120", "/24") };
        let shop = load_text(&text, Path::new("inventory.yml")).unwrap_or_else(|e| panic!("{e:?}")).0;
        let host = |name: &str| &shop.hosts[&name.parse::<HostName>().unwrap()];
        let recipients: Vec<&Host> = recipients.iter().map(|name| host(name)).collect();
        let (donor, writer) = (host("db1"), host("db3"));
        actions(&shop, flavor, &Seeding { donor, writer, recipients: &recipients, size, wipe })
    }

    const MARIADB: Flavor = Flavor { engine: Engine::Mariadb, version: Version(10, 11, 19) };
    const MYSQL: Flavor = Flavor { engine: Engine::Mysql, version: Version(9, 7, 4) };

    fn seeding_in(network: &str, recipients: &[&str], size: Option<u64>, wipe: bool) -> Decided {
        seeding_by(MARIADB, network, recipients, size, wipe).unwrap()
    }

    fn seeding(recipients: &[&str], size: Option<u64>, wipe: bool) -> Decided {
        seeding_in("10.0.4.", recipients, size, wipe)
    }

    fn task_of(decided: &Decided, host: &str, phase: Phase) -> Task {
        match &decided.hosts[&host.parse().unwrap()][&phase][..] {
            [Action::Perform { task, .. }] => task.clone(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_donor_is_ready_before_anyone_asks() {
        let decided = seeding(&["db2"], Some(50_000_000_000), false);
        let (gives, gets) = (task_of(&decided, "db1", Phase::Primary), task_of(&decided, "db2", Phase::Replica));
        assert_eq!(gives.title, "give a copy of the data to db2");
        assert_eq!(gets.title, "get a copy of the data of db1, and follow db3");
        assert!(gives.script.contains("allowed='db2.shop.infra.internal'\naddress='10.0.4.11'\n"));
        assert!(gets.script.contains("donor_address='10.0.4.11'\nwriter_address='10.0.4.13'\nwipe=''\n"));
        let unknown = task_of(&seeding(&["db2"], None, false), "db2", Phase::Replica);
        assert!(gets.limit > Duration::from_secs(10_000) && gets.limit < unknown.limit);
        assert_eq!(gets.makes["database/seed"], "db1");
    }

    #[test]
    fn a_persons_word_is_told() {
        let gets = task_of(&seeding_in("fd00:4::", &["db2"], None, true), "db2", Phase::Replica);
        assert!(gets.script.contains("donor_address='fd00:4::11'\n") && gets.script.contains("wipe='1'\n"));
        assert_eq!(gets.title, "replace the data by a copy of those of db1, and follow db3");
    }

    #[test]
    fn a_clone_needs_no_donor_that_listens_and_an_address_that_its_plugin_takes() {
        let decided = seeding_by(MYSQL, "10.0.4.", &["db2"], None, false).unwrap();
        assert!(decided.passages.is_empty() && decided.hosts.len() == 1);
        assert!(task_of(&decided, "db2", Phase::Replica).script.contains("CLONE INSTANCE FROM 'infra_repl'@"));
        let error = seeding_by(MYSQL, "fd00:4::", &["db2"], None, false).unwrap_err();
        assert!(
            error.message.starts_with("db2 cannot get a copy of the data of db1: MySQL's clone plugin"),
            "{error:?}"
        );
    }

    #[test]
    fn every_script_is_sh_and_holds_no_secret() {
        let both = [MARIADB, MYSQL].map(|flavor| seeding_by(flavor, "10.0.4.", &["db2", "db3"], None, false).unwrap());
        let tasks: Vec<Task> = both
            .iter()
            .flat_map(|decided| decided.hosts.values())
            .flat_map(|phases| phases.values().flatten())
            .filter_map(|action| match action {
                Action::Perform { task, .. } => Some(task.clone()),
                _ => None,
            })
            .collect();
        assert_eq!(tasks.len(), 5);
        for script in tasks.iter().flat_map(|task| [Some(&task.script), task.undo.as_ref()]).flatten() {
            assert!(crate::base::secret::names(script).is_empty());
            let mut sh = Command::new("sh").arg("-n").stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
            sh.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
            let output = sh.wait_with_output().unwrap();
            assert!(output.status.success(), "{}\n{script}", String::from_utf8_lossy(&output.stderr));
        }
    }
}
