//! What came of a change of the writer: takes what the new writer's host has written down about it, gives it in words. Pure and total.

use schemars::JsonSchema;
use serde::Serialize;

use crate::base::net::HostName;
use crate::inventory::site::{Role, Site};

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, JsonSchema)]
pub struct Change {
    /// The epoch that began with it.
    pub epoch: u64,
    /// For how many milliseconds writes were stopped, from the fence of the old writer to the first moment of the new one; not known
    /// of a writer that died.
    pub stopped_ms: Option<u64>,
    /// How many replicas acknowledged from the first write on.
    pub attached: u64,
    /// The position by GTID of a row that was written for a trial.
    pub position: Option<String>,
    /// Hosts on which that row was seen.
    pub follows: Vec<String>,
    /// Hosts on which it was not, and what they said.
    pub behind: Vec<(String, String)>,
    /// The last heartbeat of a writer that died, UTC, which its replica had received.
    pub heartbeat: Option<String>,
    /// Whether semi-sync was on then, as the writer said.
    pub semi_sync: Option<String>,
    /// What had been received of it, by GTID.
    pub received: Option<String>,
}

impl Change {
    /// Reads what the host has written; lines that are none of these count for nothing.
    pub fn read(site: &Site, text: &str) -> Self {
        let name = |at: &str| {
            let known = |host: &&crate::inventory::site::Host| {
                at.parse().is_ok_and(|address| host.addresses.contains(&address))
            };
            site.with_role(Role::Db).find(known).map_or_else(|| at.to_owned(), |host| host.name.to_string())
        };
        let mut change = Self::default();
        for line in text.lines() {
            let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
            match word {
                "epoch" => change.epoch = rest.parse().unwrap_or_default(),
                "stopped" => {
                    change.stopped_ms = rest.parse::<u64>().ok().and_then(|hundredths| hundredths.checked_mul(10));
                }
                "attached" => change.attached = rest.parse().unwrap_or_default(),
                "position" => change.position = Some(rest.to_owned()),
                "follows" => change.follows.push(name(rest)),
                "behind" => {
                    let (at, why) = rest.split_once(' ').unwrap_or((rest, ""));
                    change.behind.push((name(at), why.trim().to_owned()));
                }
                "heartbeat" => {
                    let (at, semi_sync) = rest.rsplit_once(' ').unwrap_or((rest, ""));
                    (change.heartbeat, change.semi_sync) = (Some(at.to_owned()), Some(semi_sync.to_owned()));
                }
                "received" => change.received = Some(rest.to_owned()),
                _ => {}
            }
        }
        change
    }

    /// What is told of it, a sentence each.
    pub fn words(&self, writer: &HostName) -> Vec<String> {
        let mut words = Vec::new();
        if let Some(ms) = self.stopped_ms {
            words.push(format!(
                "{writer} is the writer since epoch {}: writes stopped for {}.{:02} s",
                self.epoch,
                ms / 1000,
                ms % 1000 / 10
            ));
        } else {
            words.push(format!("{writer} is the writer since epoch {}", self.epoch));
        }
        if let Some(position) = &self.position {
            let seen = if self.follows.is_empty() {
                "nowhere else yet".to_owned()
            } else {
                format!("on {}", self.follows.join(", "))
            };
            words.push(format!("a row was written on {writer} at {position}, and seen {seen}"));
        }
        for (host, why) in &self.behind {
            words.push(format!(
                "{host} does not have that row yet: {}; `infra apply` makes it follow",
                if why.is_empty() { "it did not answer" } else { why }
            ));
        }
        if self.attached == 0 {
            words.push("no replica acknowledges commits yet: what is written now stands on one host until `infra apply` finds another".to_owned());
        }
        if let Some(received) = &self.received {
            words.push(self.guarantee(received));
        }
        words
    }

    /// What a failover guarantees.
    fn guarantee(&self, received: &str) -> String {
        match (&self.heartbeat, self.semi_sync.as_deref()) {
            (Some(at), Some("ON" | "1")) => format!(
                "nothing acknowledged is lost: semi-sync was on at the last heartbeat of the old writer, {at} UTC, and all that was \
                 received from it is carried out, up to {received}"
            ),
            (Some(at), Some("OFF" | "0")) => format!(
                "what the old writer acknowledged after {received} may be missing: semi-sync was off at its last heartbeat, {at} UTC, so \
                 commits waited for no replica; `infra db rejoin` of the old writer shows what it has besides"
            ),
            (Some(at), _) => format!(
                "what the old writer acknowledged after {received} may be missing: its last heartbeat, {at} UTC, does not say whether \
                 semi-sync was on; `infra db rejoin` of the old writer shows what it has besides"
            ),
            (None, _) => format!(
                "what the old writer acknowledged after {received} may be missing: no heartbeat of it says whether semi-sync was on; \
                 `infra db rejoin` of the old writer shows what it has besides"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::sample::site;
    use super::*;

    #[test]
    fn a_switchover_is_told() {
        let text = "attached 1\nepoch 3\nstopped 31\nposition 1-2-11\nfollows 10.0.4.11\nbehind 10.0.4.14 -1 2 db1\n";
        let change = Change::read(&site(), text);
        assert_eq!(change.stopped_ms, Some(310));
        assert_eq!(
            change.words(&"db2".parse().unwrap()),
            [
                "db2 is the writer since epoch 3: writes stopped for 0.31 s",
                "a row was written on db2 at 1-2-11, and seen on db1",
                "10.0.4.14 does not have that row yet: -1 2 db1; `infra apply` makes it follow",
            ]
        );
    }

    #[test]
    fn a_failover_says_what_is_guaranteed() {
        let told = |heartbeat: &str| {
            let text = format!("{heartbeat}\nreceived 1-1-7\nattached 0\nepoch 4\nposition 1-2-8\n");
            Change::read(&site(), &text).words(&"db2".parse().unwrap()).join("\n")
        };
        let lossless = "nothing acknowledged is lost: semi-sync was on at the last heartbeat of the old writer, 2026-11-26 10:27:14.81 UTC";
        assert!(told("heartbeat 2026-11-26 10:27:14.81 ON").contains(lossless));
        for heartbeat in ["heartbeat 2026-11-26 10:27:14.81 OFF", "heartbeat 2026-11-26 10:27:14.81 unknown", ""] {
            let told = told(heartbeat);
            assert!(told.contains("after 1-1-7 may be missing") && !told.contains("nothing acknowledged"), "{told}");
        }
        assert!(told("").contains("no replica acknowledges commits yet"));
    }

    proptest::proptest! {
        #[test]
        fn anything_is_read(text in proptest::prelude::any::<String>()) {
            Change::read(&site(), &text).words(&"db2".parse().unwrap());
        }
    }
}
