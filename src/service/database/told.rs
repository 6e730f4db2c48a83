//! The databases in `infra status`: takes what was seen of the fleet, gives what [`View`] makes of it in a few words a host, its
//! troubles, and figures.

use super::kept::Kept;
use super::preflight::milliseconds;
use super::status::{HostView, Part, View};
use crate::base::words::count;
use crate::inventory::site::{Database, Role};
use crate::plan::said::{Passes, Said, Shown};
use crate::service::status::Seen;

/// What the db hosts tell. Where only some of them were asked, nothing is told of the group as a whole.
pub(super) fn tell(seen: &Seen<'_>, database: &Database) -> Said {
    let mut said = Said::default();
    let all = seen.asked(seen.site.with_role(Role::Db).map(|host| &host.name));
    let kept = Kept::of(seen.memory).unwrap_or_default();
    let view = View::of(seen.site, database, seen.observed, seen.away, &kept, seen.now);
    for trouble in view.troubles {
        // That a host is away is told of every host, whatever its roles.
        let told = trouble.host.as_ref().map_or(all, |host| seen.observed.contains_key(host));
        if told {
            said.find(trouble.host.as_ref(), trouble.minor, trouble.what, trouble.help);
        }
    }
    let mut sessions = 0;
    for host in view.hosts.iter().filter(|host| seen.observed.contains_key(&host.host)) {
        said.word(&host.host, words(host));
        sessions += host.sessions.unwrap_or(0);
        figures(host, &mut said);
        let not_after = host.tls_days.map(|days| seen.now + days * 86_400);
        said.certificates.extend(not_after.map(|end| Shown {
            host: host.host.clone(),
            site: None,
            not_after: Some(end),
        }));
    }
    if view.hosts.iter().any(|host| host.sessions.is_some()) {
        let words = count(sessions, "session");
        said.passes.push(Passes { from: Some(Role::App), to: Role::Db, words });
    }
    said
}

fn words(host: &HostView) -> String {
    match (host.part, host.lag_ms) {
        (Part::Replica, Some(ms)) => format!("replica, {} behind", milliseconds(ms)),
        (Part::Writer, _) => match (host.semi_sync, host.semi_sync_clients) {
            (Some(true), Some(clients)) => format!("writer, confirmed by {clients}"),
            _ => "writer".to_owned(),
        },
        (part, _) => part.as_str().to_owned(),
    }
}

#[expect(clippy::cast_precision_loss, reason = "figures of that size have no such precision anyway")]
fn figures(host: &HostView, said: &mut Said) {
    let mut add = |name, help, value: Option<f64>| {
        if let Some(value) = value {
            said.figure(&host.host, name, help, value);
        }
    };
    let yes = |is: bool| Some(f64::from(u8::from(is)));
    add("database_up", "Whether the database server answers.", yes(!matches!(host.part, Part::Down | Part::Away)));
    add("database_writer", "Whether the host is the one that writes.", yes(host.part == Part::Writer));
    add("database_fenced", "Whether the server takes no writes.", host.fenced.and_then(yes));
    add(
        "replication_lag_seconds",
        "Seconds since the last heartbeat of the writer that has come to the replica.",
        host.lag_ms.map(|ms| ms as f64 / 1000.0),
    );
    let runs = |thread: &String| yes(thread == "Yes");
    let (receiving, applying) = (host.receiving.as_ref(), host.applying.as_ref());
    add("replication_receiving", "Whether the replica receives.", receiving.and_then(runs));
    add("replication_applying", "Whether the replica applies.", applying.and_then(runs));
    add("database_semi_sync", "Whether commits wait for a replica.", host.semi_sync.and_then(yes));
    add("database_sessions", "Sessions of users.", host.sessions.map(|number| number as f64));
}
