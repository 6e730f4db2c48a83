//! What a host of the group that does not write needs: takes how it stands beside the writer and what is remembered of it, gives one
//! word for it with the reason, as a person is told it. Pure. What is somebody's data is never touched.

use crate::service::database::group::{Group, Member, Standing};
use crate::service::database::gtid::Gtid;
use crate::service::database::kept::Kept;

/// What a host that does not write needs.
pub(super) enum Due {
    /// It is as it should be.
    Nothing,
    /// It is pointed at the writer: what it has, and the title.
    Follow(&'static str, String),
    /// Nothing but a fence; why is told.
    Fence(String),
    /// It gets a copy of the writer's data.
    Seed,
}

impl Due {
    /// What the host of `member`, which is `standing` beside the writer of its group, needs; `begins`: the writer has nothing yet either.
    pub(super) fn of<'a>(
        (group, kept, schemas): (&Group<'a>, &Kept, &[String]),
        (member, writer): (&Member<'a>, &Member<'a>),
        standing: &Standing,
        begins: bool,
    ) -> Self {
        let (name, to) = (&member.host.name, &writer.host.name);
        let wipe = format!("`infra db seed {name} --wipe` replaces what is there by a copy of {to}'s data");
        let errant = group.errant(member, writer).filter(|gtid| !gtid.is_empty());
        let error = member.error().map(|(number, words)| format!("error {number}, {words}"));
        match standing {
            Standing::Fresh if begins || can_begin(writer, schemas) => {
                Self::Follow("nothing", format!("follow {to} from its first transaction on"))
            }
            Standing::Fresh => Self::Seed,
            // Told before.
            Standing::Silent(_) => Self::Nothing,
            Standing::Foreign => {
                Self::Fence(format!("{name} holds data and follows nobody, so they are left alone: {wipe}"))
            }
            _ if kept.closed.contains(name) => {
                Self::Fence(format!("{name} was given up by a failover: `infra db rejoin {name}` takes it in again"))
            }
            _ if errant.is_some() => {
                let errant = errant.map(|gtid| gtid.to_string()).unwrap_or_default();
                Self::Fence(format!(
                    "{name} has transactions that {to} lacks ({errant}): `infra db rejoin {name}` shows them and takes it in again"
                ))
            }
            Standing::Elsewhere(address) if group.at(address).is_none() => {
                Self::Fence(format!("{name} follows {address}, which is no db host of the inventory: {wipe}"))
            }
            Standing::Follows => {
                let source = member.source().is_some_and(|source| source.started);
                match (member.server(), source, error) {
                    (Some(server), true, _) if server.read_only && !server.semi_sync => Self::Nothing,
                    (_, true, _) => Self::Follow("replica", format!("fence it again; it follows {to}")),
                    (_, false, None) => Self::Follow("replica", format!("follow {to} again")),
                    (_, false, Some(error)) => Self::Fence(format!(
                        "{name} has stopped to follow {to} ({error}): mend it and `START SLAVE`, or {wipe}"
                    )),
                }
            }
            _ if !group.can_go_on(member, writer) => {
                Self::Fence(format!("{name} needs transactions that stand in no binary log of {to} any more: {wipe}"))
            }
            Standing::FollowsOtherwise if member.source().is_some_and(|source| !source.by_gtid) => Self::Follow(
                "position",
                format!("follow {to} by GTID over verified TLS, no longer by file and position"),
            ),
            Standing::FollowsOtherwise => Self::Follow("replica", format!("follow {to} over verified TLS")),
            Standing::Elsewhere(address) => Self::Follow("replica", format!("follow {to}, no longer {address}")),
            Standing::Former => Self::Follow("writer", format!("follow {to}, which writes now")),
        }
    }
}

/// Whether a replica that has nothing can begin with the writer's first binary log.
fn can_begin(writer: &Member<'_>, schemas: &[String]) -> bool {
    let known = writer.seen.schemas.iter().all(|schema| schemas.contains(schema));
    let whole = writer.now.purged.as_ref().is_some_and(Gtid::is_empty);
    known && whole && writer.server().is_some_and(|server| !server.has_tables)
}
