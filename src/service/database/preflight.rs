//! What must hold before another host becomes the writer: takes the group as it was seen, and what the host that shall write was asked
//! besides, gives findings, each with what is and what is needed. Pure; one of them that stops it is reason enough to change nothing.

use schemars::JsonSchema;
use serde::Serialize;

use super::commands;
use super::engine::Flavor;
use super::group::{Group, Member, Standing};
use crate::base::net::HostName;
use crate::inventory::site::{Database, Role, Site};

/// What a finding says about what is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// As it should be.
    Good,
    /// It may go on; a person should know.
    Warning,
    /// It would go wrong, or lose something.
    Stop,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Finding {
    /// Where.
    pub host: HostName,
    /// What was looked at.
    pub setting: String,
    /// How it is.
    pub now: String,
    /// How it has to be.
    pub needed: String,
    /// Whether it is.
    pub verdict: Verdict,
    /// What to do, where it is not.
    pub help: Option<String>,
}

/// A transaction that is open for longer is named: it would be rolled back.
const LONG_TRANSACTION: u64 = 5;
/// Who is further behind would keep the writes waiting for as long.
const LAG: i64 = 2_000;
/// Who is further behind than the old writer stays fenced at most cannot take over.
const MUCH_LAG: i64 = 10_000;
/// Free bytes in the data folder.
const FREE: u64 = 256 << 20;

/// What is found about `to` becoming the writer of the group; `answers` is what [`script`] said on it, where it was asked.
pub fn findings(site: &Site, group: &Group<'_>, to: &HostName, answers: Option<&str>) -> Vec<Finding> {
    let mut found = Found { host: to.clone(), all: Vec::new() };
    if let Some(host) = group.unseen_writer() {
        found.stop(
            "writer",
            format!("{}, which does not answer", host.name),
            "one that answers",
            group.bring_back(host),
        );
        return found.all;
    }
    let (Some(database), Some(writer)) = (&site.database, group.writer()) else {
        found.stop("writer", "nobody is named", "one", "`infra db status` shows what stands where".into());
        return found.all;
    };
    for host in site.with_role(Role::Db) {
        found.on(&host.name).member(group, host.name == *to || host.name == writer.host.name);
    }
    found.on(&writer.host.name).writer(writer);
    if let Some(new) = group.members.get(to) {
        found.on(to).new_writer(database, group, new, writer);
        for other in group.members.values().filter(|other| ![to, &writer.host.name].contains(&&other.host.name)) {
            found.on(&other.host.name).follower(database, group, other, new, writer);
        }
        let old = writer.version(database).minor();
        let found = found.on(&writer.host.name);
        let (now, needed) = (text(writer.version(database)), text(new.version(database)));
        // Replication from a newer server to an older one is not supported by either engine.
        let older = old < new.version(database).minor();
        found.check(!older, "version", now, format!("at least {needed}"), || {
            format!("it would follow a newer server: upgrade {} first", writer.host.name)
        });
    }
    if let Some(answers) = answers {
        answered(&mut found, to, &writer.host.name, answers);
    }
    found.all
}

/// Whether nothing stops it.
pub fn passes(findings: &[Finding]) -> bool {
    findings.iter().all(|finding| finding.verdict < Verdict::Stop)
}

/// What `to` is asked besides: whether the others let it in, whether they could follow it, and who holds transactions open on the
/// writer. It changes nothing.
pub fn script(site: &Site, flavor: Flavor, to: &HostName, writer: &HostName) -> String {
    let others = site.with_role(Role::Db).filter(|host| host.name != *to);
    let others = others.filter_map(|host| Some((host.name.as_str(), commands::address(site, to, &host.name)?)));
    let hosts: Vec<String> = others.map(|(name, address)| format!("{name}/{address}")).collect();
    let set = commands::assignments(&[("hosts", hosts.join(" ").as_str()), ("writer", writer.as_str())]);
    format!("{}{set}{}", flavor.dialect(), include_str!("scripts/preflight.sh"))
}

fn answered(found: &mut Found, to: &HostName, writer: &HostName, answers: &str) {
    let mut long = Vec::new();
    for line in answers.lines() {
        let fields: Vec<&str> = line.split('\t').collect();
        match fields.as_slice() {
            ["reach", host, "yes"] => found.on(to).good(&format!("lets itself in on {host}"), "yes", "yes"),
            ["reach", host, why] => {
                let help = format!("`infra apply` mends accounts, certificates and firewall; then try again on {to}");
                found.on(to).stop(&format!("lets itself in on {host}"), *why, "yes", help);
            }
            // Who is told whom to follow from elsewhere cannot keep that from its log.
            ["logs", host, shows] => found.on(to).check(
                *shows != "1",
                &format!("general log of {host}"),
                if *shows == "1" { "on" } else { "off" },
                "off",
                || format!("it would show the password of replication: `SET GLOBAL general_log = OFF` on {host}, for as long"),
            ),
            ["account", host, count] => {
                let named = format!("replication account of {host}");
                found.on(to).check(
                    *count != "0",
                    &named,
                    if *count == "0" { "none" } else { "there" },
                    "there",
                    || "`infra apply` makes it".to_owned(),
                );
            }
            ["long", seconds, who, id, rows] => {
                if let Ok(seconds) = seconds.parse::<u64>()
                    && seconds >= LONG_TRANSACTION
                {
                    long.push((seconds, format!("{who} (session {id}) for {seconds} s, {rows} rows changed")));
                }
            }
            _ => {}
        }
    }
    long.sort_by(|a, b| b.cmp(a));
    let found = found.on(writer);
    match long.first() {
        None => found.good("long transactions", "none", "none"),
        Some((_, first)) => {
            let more = if long.len() > 1 { format!("; and {} more", long.len() - 1) } else { String::new() };
            let help = "wait until it has ended: the switchover rolls it back, and its program sees its connection cut";
            found.warn("long transactions", format!("{first}{more}"), "none", help.into());
        }
    }
}

/// Findings as they come.
struct Found {
    host: HostName,
    all: Vec<Finding>,
}

impl Found {
    fn on(&mut self, host: &HostName) -> &mut Self {
        self.host = host.clone();
        self
    }

    fn add(&mut self, verdict: Verdict, setting: &str, now: impl Into<String>, needed: &str, help: Option<String>) {
        let (host, setting, now, needed) = (self.host.clone(), setting.to_owned(), now.into(), needed.to_owned());
        self.all.push(Finding { host, setting, now, needed, verdict, help });
    }

    fn good(&mut self, setting: &str, now: impl Into<String>, needed: &str) {
        self.add(Verdict::Good, setting, now, needed, None);
    }

    fn warn(&mut self, setting: &str, now: impl Into<String>, needed: &str, help: String) {
        self.add(Verdict::Warning, setting, now, needed, Some(help));
    }

    fn stop(&mut self, setting: &str, now: impl Into<String>, needed: &str, help: String) {
        self.add(Verdict::Stop, setting, now, needed, Some(help));
    }

    /// Good, or a stop.
    fn check(
        &mut self,
        good: bool,
        setting: &str,
        now: impl Into<String>,
        needed: impl Into<String>,
        help: impl FnOnce() -> String,
    ) {
        let needed = needed.into();
        if good { self.good(setting, now, &needed) } else { self.stop(setting, now, &needed, help()) }
    }

    /// Whether it answers at all. The hosts that have no part in the change may be away; they follow later.
    fn member(&mut self, group: &Group<'_>, needed: bool) {
        let host = self.host.clone();
        let down = match group.members.get(&host) {
            Some(member) if member.server().is_some() => return self.good("reached", "its server answers", "yes"),
            Some(member) => member.now.down.clone().unwrap_or_else(|| "no server is installed".to_owned()),
            None => "it does not answer".to_owned(),
        };
        if needed {
            let help = format!("see to {host}; if it is the writer and dead: `infra db failover`");
            self.stop("reached", down, "yes", help);
        } else {
            let help = format!("it follows the new writer once `infra apply` finds {host} again");
            self.warn("reached", down, "yes", help);
        }
    }

    fn writer(&mut self, writer: &Member<'_>) {
        let Some(server) = writer.server() else { return };
        self.check(!server.read_only, "takes writes", yes(!server.read_only), "yes", || {
            "`infra apply` lifts its fence, when all hosts of the group agree that it is the writer".to_owned()
        });
        if writer.now.semi_sync {
            self.good("semi-sync", "on", "on");
        } else {
            let help = "commits do not wait for a replica now, so a crash in between could lose some: `infra apply`";
            self.warn("semi-sync", "off", "on", help.to_owned());
        }
        self.good("sessions", writer.now.sessions.to_string(), "any: they are cut, and connect again");
        if !writer.now.events.is_empty() {
            let named: Vec<&str> = writer.now.events.iter().map(|event| event.name.as_str()).collect();
            let help = "they stay enabled here, where they no longer may write, and are not on the new writer: afterwards `ALTER EVENT … DISABLE ON SLAVE` here, `… ENABLE` there";
            self.warn("events", named.join(", "), "none", help.to_owned());
        }
        if !writer.now.unfenced.is_empty() {
            let help = "their sessions are cut, and could write here again all the same: take SUPER and READ ONLY ADMIN from them";
            self.warn("accounts past the fence", writer.now.unfenced.join(", "), "none", help.to_owned());
        }
    }

    fn new_writer(&mut self, database: &Database, group: &Group<'_>, new: &Member<'_>, writer: &Member<'_>) {
        let Some(server) = new.server() else { return };
        let name = &new.host.name;
        let (follows, now) = match group.standing(new, writer) {
            Standing::Follows => (true, format!("{}, by GTID over verified TLS", writer.host.name)),
            Standing::FollowsOtherwise => (false, "not by GTID over verified TLS".to_owned()),
            Standing::Elsewhere(address) => (false, address),
            Standing::Fresh => (false, "nobody, and is empty".to_owned()),
            Standing::Former | Standing::Foreign => (false, "nobody".to_owned()),
            Standing::Silent(why) => (false, why),
        };
        self.check(follows, "follows", now, writer.host.name.as_str(), || {
            format!("`infra apply` makes {name} a replica of {}", writer.host.name)
        });
        self.threads(new);
        self.check(
            server.log_bin && server.gtid,
            "binary log with GTIDs",
            yes(server.log_bin && server.gtid),
            "yes",
            || "`infra apply` configures it; a restart of this host is needed then".to_owned(),
        );
        match group.errant(new, writer) {
            Some(errant) if errant.is_empty() => self.good("errant transactions", "none", "none"),
            Some(errant) => {
                let help = format!(
                    "{name} has what {} lacks, and others could not follow: `infra db seed {name} --wipe` makes it anew",
                    writer.host.name
                );
                self.stop("errant transactions", errant.to_string(), "none", help);
            }
            None => self.stop("errant transactions", "not told", "none", format!("see `infra db status` about {name}")),
        }
        self.lag(database, new);
        self.check(new.now.free >= FREE, "free disk", bytes(new.now.free), bytes(FREE), || {
            format!("make room in /var/lib/mysql on {name}")
        });
    }

    fn threads(&mut self, member: &Member<'_>) {
        let name = &member.host.name;
        let runs = member.now.threads.first().is_some_and(|threads| threads.io == "Yes" && threads.sql == "Yes");
        let now = match (member.error(), member.now.threads.first()) {
            (Some((number, words)), _) => format!("error {number}: {words}"),
            (None, Some(threads)) => format!("receiving {}, applying {}", threads.io, threads.sql),
            (None, None) => "none".to_owned(),
        };
        self.check(runs, "threads", now, "both run", || {
            format!("`infra apply` starts them again; an error that stays: `infra db seed {name} --wipe`")
        });
    }

    fn lag(&mut self, database: &Database, new: &Member<'_>) {
        let allowed = i64::try_from(database.max_lag.as_millis()).unwrap_or(i64::MAX);
        match new.now.heartbeat_ms {
            Some(ms) if ms <= LAG => self.good("lag", milliseconds(ms), &milliseconds(LAG)),
            Some(ms) if ms <= MUCH_LAG.min(allowed.max(LAG)) => {
                let help = "writes stop for about as long; wait until it has caught up, or until the load is lower";
                self.warn("lag", milliseconds(ms), &milliseconds(LAG), help.to_owned());
            }
            Some(ms) => {
                self.stop("lag", milliseconds(ms), &milliseconds(LAG), "wait until it has caught up".to_owned());
            }
            None => {
                let help = "no heartbeat has come yet: `infra apply`, or wait a moment";
                self.warn("lag", "not known", &milliseconds(LAG), help.to_owned());
            }
        }
    }

    fn follower(
        &mut self,
        database: &Database,
        group: &Group<'_>,
        other: &Member<'_>,
        new: &Member<'_>,
        writer: &Member<'_>,
    ) {
        if other.server().is_none() || other.is_fresh() {
            return;
        }
        let version = other.version(database);
        let enough = version.minor() >= new.version(database).minor();
        self.check(enough, "version", text(version), format!("at least {}", text(new.version(database))), || {
            format!("it would follow a newer server: upgrade {} first", other.host.name)
        });
        let can = group.can_go_on(other, new);
        let now = if can { "all there" } else { "some are gone" };
        self.check(can, &format!("binary logs of {}", new.host.name), now, "all that it lacks", || {
            format!("wait until {0} has caught up, or `infra db seed {0} --wipe` afterwards", other.host.name)
        });
        if let Some(errant) = group.errant(other, writer).filter(|errant| !errant.is_empty()) {
            let help = format!("it cannot follow: `infra db seed {} --wipe` makes it anew", other.host.name);
            self.warn("errant transactions", errant.to_string(), "none", help);
        }
    }
}

fn yes(is: bool) -> &'static str {
    if is { "yes" } else { "no" }
}

fn text(version: crate::plan::state::Version) -> String {
    version.to_string()
}

/// `0.3 s`.
pub fn milliseconds(ms: i64) -> String {
    let tenths = ms.max(0) / 100;
    format!("{}.{} s", tenths / 10, tenths % 10)
}

/// `1.3 GB`.
pub fn bytes(number: u64) -> String {
    const UNITS: [(u64, &str); 4] = [(1 << 40, "TB"), (1 << 30, "GB"), (1 << 20, "MB"), (1 << 10, "kB")];
    match UNITS.into_iter().find(|(unit, _)| number >= *unit) {
        Some((unit, name)) => {
            let tenths = u128::from(number) * 10 / u128::from(unit);
            if tenths >= 100 {
                format!("{} {name}", tenths / 10)
            } else {
                format!("{}.{} {name}", tenths / 10, tenths % 10)
            }
        }
        None => format!("{number} B"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::sample::{self, edit, fleet, gtid, name, server, site};
    use super::*;
    use crate::plan::state::ObservedFleet;
    use crate::service::database::seen::Scheduled;

    fn found(fleet: &ObservedFleet, answers: &str) -> Vec<Finding> {
        let site = site();
        findings(&site, &Group::of(&site, fleet), &name("db2"), Some(answers))
    }

    const ALL_WELL: &str = "reach\tdb1\tyes\naccount\tdb1\t1\nreach\tdb3\tyes\naccount\tdb3\t1\n";

    #[test]
    fn a_group_that_is_well_passes() {
        let found = found(&fleet(), ALL_WELL);
        let bad: Vec<&Finding> = found.iter().filter(|finding| finding.verdict != Verdict::Good).collect();
        assert!(bad.is_empty() && passes(&found), "{bad:?}");
        for setting in
            ["reached", "takes writes", "semi-sync", "follows", "threads", "errant transactions", "lag", "version"]
        {
            assert!(found.iter().any(|finding| finding.setting == setting), "{setting}: {found:?}");
        }
    }

    #[test]
    fn what_is_wrong_is_found() {
        type Change = fn(&mut ObservedFleet);
        let cases: [(&str, &str, Verdict, Change); 19] = [
            ("db2", "reached", Verdict::Stop, |fleet| sample::down(fleet, "db2")),
            ("db1", "reached", Verdict::Stop, |fleet| sample::down(fleet, "db1")),
            ("db3", "reached", Verdict::Warning, |fleet| drop(fleet.remove(&name("db3")))),
            ("db1", "takes writes", Verdict::Stop, |fleet| server(fleet, "db1", |s| s.read_only = true)),
            ("db1", "semi-sync", Verdict::Warning, |fleet| edit(fleet, "db1", |_, now| now.semi_sync = false)),
            ("db1", "events", Verdict::Warning, |fleet| {
                edit(fleet, "db1", |_, now| now.events = vec![Scheduled::default()]);
            }),
            ("db1", "accounts past the fence", Verdict::Warning, |fleet| {
                edit(fleet, "db1", |_, now| now.unfenced = vec!["'ann'@'%'".into()]);
            }),
            ("db2", "follows", Verdict::Stop, |fleet| server(fleet, "db2", |s| s.sources.clear())),
            ("db2", "follows", Verdict::Stop, |fleet| {
                server(fleet, "db2", |s| s.sources = vec![sample::source("10.0.4.13")]);
            }),
            ("db2", "follows", Verdict::Stop, |fleet| {
                server(fleet, "db2", |s| s.sources.iter_mut().for_each(|one| one.by_gtid = false));
            }),
            ("db2", "threads", Verdict::Stop, |fleet| {
                edit(fleet, "db2", |_, now| now.threads.iter_mut().for_each(|one| one.sql = "No".into()));
            }),
            ("db2", "binary log with GTIDs", Verdict::Stop, |fleet| server(fleet, "db2", |s| s.log_bin = false)),
            ("db2", "errant transactions", Verdict::Stop, |fleet| {
                edit(fleet, "db2", |_, now| now.state = gtid("1-101-900,1-102-901"));
            }),
            ("db3", "errant transactions", Verdict::Warning, |fleet| {
                edit(fleet, "db3", |_, now| now.state = gtid("1-101-900,1-103-901"));
            }),
            ("db2", "lag", Verdict::Warning, |fleet| edit(fleet, "db2", |_, now| now.heartbeat_ms = Some(5_000))),
            ("db2", "lag", Verdict::Stop, |fleet| edit(fleet, "db2", |_, now| now.heartbeat_ms = Some(60_000))),
            ("db2", "free disk", Verdict::Stop, |fleet| edit(fleet, "db2", |_, now| now.free = 1000)),
            ("db1", "version", Verdict::Stop, |fleet| server(fleet, "db2", |s| s.version = "11.8.9-MariaDB".into())),
            ("db3", "binary logs of db2", Verdict::Stop, |fleet| {
                edit(fleet, "db2", |_, now| now.purged = gtid("1-101-800"));
                edit(fleet, "db3", |_, now| now.executed = gtid("1-101-700"));
            }),
        ];
        for (host, setting, verdict, change) in cases {
            let mut fleet = fleet();
            change(&mut fleet);
            let found = found(&fleet, ALL_WELL);
            let one = found.iter().find(|finding| finding.host == name(host) && finding.setting == setting);
            assert_eq!(one.map(|finding| finding.verdict), Some(verdict), "{host} {setting}: {found:?}");
            assert!(one.is_some_and(|finding| finding.help.is_some()), "{host} {setting}");
            assert_eq!(passes(&found), verdict < Verdict::Stop || found.is_empty(), "{host} {setting}");
        }
    }

    #[test]
    fn what_the_new_writer_says_counts() {
        for (answer, host, setting, verdict) in [
            ("reach\tdb1\tERROR 2026 (HY000): TLS/SSL error", "db2", "lets itself in on db1", Verdict::Stop),
            ("logs\tdb3\t1", "db2", "general log of db3", Verdict::Stop),
            ("logs\tdb3\t0", "db2", "general log of db3", Verdict::Good),
            ("account\tdb3\t0", "db2", "replication account of db3", Verdict::Stop),
            ("long\t75\tshop@10.0.3.11:40000\t812\t3000", "db1", "long transactions", Verdict::Warning),
            ("long\t2\tshop@10.0.3.11:40000\t812\t3000", "db1", "long transactions", Verdict::Good),
        ] {
            let found = found(&fleet(), &format!("{ALL_WELL}{answer}\n"));
            let those: Vec<&Finding> =
                found.iter().filter(|one| one.host == name(host) && one.setting == setting).collect();
            assert!(those.iter().any(|one| one.verdict == verdict), "{answer}: {those:?}");
        }
        let long = found(&fleet(), "long\t75\tshop@10.0.3.11:40000\t812\t3000");
        assert!(long.iter().any(|one| one.now == "shop@10.0.3.11:40000 (session 812) for 75 s, 3000 rows changed"));
    }

    #[test]
    fn amounts() {
        assert_eq!(
            [bytes(0), bytes(1023), bytes(1536), bytes(268_435_456), bytes(3_221_225_472)],
            ["0 B", "1023 B", "1.5 kB", "256 MB", "3.0 GB"]
        );
        assert_eq!([milliseconds(0), milliseconds(430), milliseconds(12_345)], ["0.0 s", "0.4 s", "12.3 s"]);
    }
}
