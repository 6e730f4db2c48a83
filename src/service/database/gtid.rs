//! Which transactions a server has: takes what a server tells of itself, in the form of its engine, gives positions and sets that can be
//! compared, and what one has that another lacks. The parsers are total: a server may send anything.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::inventory::site::Engine;

/// The transactions of a server, as its engine tells them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Gtid {
    /// `MariaDB`'s.
    Mariadb(Streams),
    /// `MySQL`'s.
    Mysql(Sets),
}

impl Gtid {
    /// Reads what a server of `engine` tells. `None`: it is not in that form.
    pub fn parse(engine: Engine, text: &str) -> Option<Self> {
        match engine {
            Engine::Mariadb => Streams::parse(text).map(Self::Mariadb),
            Engine::Mysql => Sets::parse(text).map(Self::Mysql),
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        match self {
            Self::Mariadb(streams) => streams.0.is_empty(),
            Self::Mysql(sets) => sets.0.is_empty(),
        }
    }

    /// Whether a server that has these has got as far as `other`. Of two engines neither has.
    pub fn reaches(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Mariadb(a), Self::Mariadb(b)) => a.reaches(b),
            (Self::Mysql(a), Self::Mysql(b)) => b.minus(a).0.is_empty(),
            _ => false,
        }
    }

    /// These and `other`; of positions the further one in each domain.
    #[must_use]
    pub fn and(&self, other: &Self) -> Self {
        match (self, other) {
            (Self::Mariadb(a), Self::Mariadb(b)) => Self::Mariadb(a.and(b)),
            (Self::Mysql(a), Self::Mysql(b)) => Self::Mysql(a.and(b)),
            _ => self.clone(),
        }
    }

    /// These without what one server has written: `MariaDB` knows it by its number, `MySQL` by its UUID.
    #[must_use]
    pub fn without(&self, server_id: u32, uuid: Option<&str>) -> Self {
        match self {
            Self::Mariadb(streams) => Self::Mariadb(streams.without(server_id)),
            Self::Mysql(sets) => Self::Mysql(uuid.map_or_else(|| sets.clone(), |uuid| sets.without(uuid))),
        }
    }

    /// What of these `other` lacks. Of two engines that is all.
    #[must_use]
    pub fn beyond(&self, other: &Self) -> Self {
        match (self, other) {
            (Self::Mariadb(a), Self::Mariadb(b)) => Self::Mariadb(a.beyond(b)),
            (Self::Mysql(a), Self::Mysql(b)) => Self::Mysql(a.minus(b)),
            _ => self.clone(),
        }
    }

    /// These, which `writer` lacks, without what is only older than its memory: a server that began as a copy does not know the servers that
    /// wrote before that. `reached` is how far the server of these has come. `MySQL`'s sets are copied whole.
    #[must_use]
    pub fn since_known(&self, writer: &Self, reached: &Self) -> Self {
        match (self, writer, reached) {
            (Self::Mariadb(a), Self::Mariadb(writer), Self::Mariadb(reached)) => {
                Self::Mariadb(a.since_known(writer, reached))
            }
            _ => self.clone(),
        }
    }
}

impl fmt::Display for Gtid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mariadb(streams) => streams.fmt(f),
            Self::Mysql(sets) => sets.fmt(f),
        }
    }
}

/// `MariaDB`: of each domain and server the last sequence number, as in `1-101-7,1-102-9`. A position (`gtid_current_pos`) has one server
/// a domain, a state (`gtid_binlog_state`) all that ever wrote. In one domain the numbers of all servers are one row.
///
/// <https://mariadb.com/docs/server/ha-and-performance/standard-replication/gtid>
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Streams(BTreeMap<(u32, u32), u64>);

impl Streams {
    /// Reads `DOMAIN-SERVER-NUMBER,…`.
    pub fn parse(text: &str) -> Option<Self> {
        let mut streams = BTreeMap::new();
        for word in words(text) {
            let (domain, rest) = word.split_once('-')?;
            let (server, number) = rest.split_once('-')?;
            let last = streams.entry((domain.parse().ok()?, server.parse().ok()?)).or_insert(0);
            *last = number.parse::<u64>().ok()?.max(*last);
        }
        Some(Self(streams))
    }

    /// The last number in a domain.
    fn last(&self, domain: u32) -> Option<u64> {
        self.0.range((domain, 0)..=(domain, u32::MAX)).map(|(_, number)| *number).max()
    }

    /// Whether it is as far as `other` in each domain that `other` has.
    fn reaches(&self, other: &Self) -> bool {
        other.0.keys().all(|(domain, _)| self.last(*domain) >= other.last(*domain))
    }

    fn and(&self, other: &Self) -> Self {
        let theirs = |domain| other.last(domain) > self.last(domain);
        let ours = self.0.iter().filter(|((domain, _), _)| !theirs(*domain));
        let both = ours.chain(other.0.iter().filter(|((domain, _), _)| theirs(*domain)));
        Self(both.map(|(stream, number)| (*stream, *number)).collect())
    }

    /// The streams in which it is further than `other`.
    fn beyond(&self, other: &Self) -> Self {
        let further =
            |(stream, number): &(&(u32, u32), &u64)| other.0.get(*stream).is_none_or(|theirs| theirs < *number);
        Self(self.0.iter().filter(further).map(|(stream, number)| (*stream, *number)).collect())
    }

    /// Without the streams of servers that `writer` does not know, where `reached` has gone past them by a stream that it knows: in strict
    /// mode a server that has something of its own takes nothing after that.
    fn since_known(&self, writer: &Self, reached: &Self) -> Self {
        let past = |domain: u32, number: u64| {
            let mut at = reached.0.range((domain, 0)..=(domain, u32::MAX));
            at.any(|(stream, last)| *last > number && writer.0.contains_key(stream))
        };
        let stays = |((domain, server), number): &(&(u32, u32), &u64)| {
            writer.0.contains_key(&(*domain, *server)) || !past(*domain, **number)
        };
        Self(self.0.iter().filter(stays).map(|(stream, number)| (*stream, *number)).collect())
    }

    fn without(&self, id: u32) -> Self {
        Self(
            self.0.iter().filter(|((_, server), _)| *server != id).map(|(stream, number)| (*stream, *number)).collect(),
        )
    }
}

impl fmt::Display for Streams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let each = self.0.iter().map(|((domain, server), number)| format!("{domain}-{server}-{number}"));
        f.write_str(&each.collect::<Vec<_>>().join(","))
    }
}

/// `MySQL`: of each source the intervals of numbers, as in `3E11FA47-…:1-5:7,…`; a source may have tags (`UUID:tag:1-5`).
///
/// <https://dev.mysql.com/doc/refman/9.7/en/replication-gtids-concepts.html>
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Sets(BTreeMap<String, Vec<(u64, u64)>>);

impl Sets {
    /// Reads `UUID[:TAG]:INTERVAL…,…`.
    pub fn parse(text: &str) -> Option<Self> {
        let mut sets: BTreeMap<String, Vec<(u64, u64)>> = BTreeMap::new();
        for word in words(text) {
            let mut parts = word.split(':').map(str::trim);
            let uuid = parts.next()?.to_ascii_lowercase();
            let dashes = [8, 13, 18, 23];
            let is_uuid = uuid.len() == 36
                && uuid.bytes().enumerate().all(|(at, byte)| match byte {
                    b'-' => dashes.contains(&at),
                    _ => byte.is_ascii_hexdigit() && !dashes.contains(&at),
                });
            if !is_uuid {
                return None;
            }
            let (mut source, mut empty) = (uuid.clone(), true);
            for part in parts {
                if part.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') {
                    if !part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
                        return None;
                    }
                    source = format!("{uuid}:{}", part.to_ascii_lowercase());
                    continue;
                }
                let (from, to) = part.split_once('-').unwrap_or((part, part));
                let (from, to): (u64, u64) = (from.trim().parse().ok()?, to.trim().parse().ok()?);
                if from == 0 {
                    return None;
                }
                empty = false;
                if from <= to {
                    sets.entry(source.clone()).or_default().push((from, to));
                }
            }
            if empty {
                return None;
            }
        }
        for intervals in sets.values_mut() {
            *intervals = joined(std::mem::take(intervals));
        }
        Some(Self(sets))
    }

    fn and(&self, other: &Self) -> Self {
        let mut both = self.clone();
        for (source, intervals) in &other.0 {
            let ours = both.0.entry(source.clone()).or_default();
            *ours = joined(ours.iter().chain(intervals).copied().collect());
        }
        both
    }

    /// What `other` lacks.
    fn minus(&self, other: &Self) -> Self {
        let none = Vec::new();
        let each = self.0.iter().map(|(source, intervals)| {
            let theirs = other.0.get(source).unwrap_or(&none);
            (source.clone(), intervals.iter().flat_map(|interval| cut(*interval, theirs)).collect::<Vec<_>>())
        });
        Self(each.filter(|(_, intervals)| !intervals.is_empty()).collect())
    }

    fn without(&self, uuid: &str) -> Self {
        let others = |source: &String| source.get(..36).is_none_or(|its| !its.eq_ignore_ascii_case(uuid));
        Self(
            self.0
                .iter()
                .filter(|(source, _)| others(source))
                .map(|(source, all)| (source.clone(), all.clone()))
                .collect(),
        )
    }

    /// How many transactions these are.
    pub fn count(&self) -> u64 {
        self.0.values().flatten().fold(0, |sum, (from, to)| sum.saturating_add((to - from).saturating_add(1)))
    }
}

impl fmt::Display for Sets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let interval = |(from, to): &(u64, u64)| if from == to { format!(":{from}") } else { format!(":{from}-{to}") };
        let each =
            self.0.iter().map(|(source, all)| all.iter().fold(source.clone(), |text, one| text + &interval(one)));
        f.write_str(&each.collect::<Vec<_>>().join(","))
    }
}

/// The parts between commas; white space and line ends count for nothing.
fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|word| !word.is_empty())
}

/// Intervals in order, those that touch as one.
fn joined(mut intervals: Vec<(u64, u64)>) -> Vec<(u64, u64)> {
    intervals.sort_unstable();
    let mut all: Vec<(u64, u64)> = Vec::with_capacity(intervals.len());
    for (from, to) in intervals {
        match all.last_mut() {
            Some((_, end)) if from <= end.saturating_add(1) => *end = to.max(*end),
            _ => all.push((from, to)),
        }
    }
    all
}

/// What is left of an interval without `others`, which are in order and apart.
fn cut((mut from, to): (u64, u64), others: &[(u64, u64)]) -> Vec<(u64, u64)> {
    let mut left = Vec::new();
    for (start, end) in others {
        if *end < from || *start > to {
            continue;
        }
        if *start > from {
            left.push((from, start - 1));
        }
        if *end >= to {
            return left;
        }
        from = end + 1;
    }
    left.push((from, to));
    left
}

impl TryFrom<String> for Streams {
    type Error = &'static str;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text).ok_or("is no position by GTID")
    }
}

impl TryFrom<String> for Sets {
    type Error = &'static str;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text).ok_or("is no set of GTIDs")
    }
}

impl From<Streams> for String {
    fn from(streams: Streams) -> Self {
        streams.to_string()
    }
}

impl From<Sets> for String {
    fn from(sets: Sets) -> Self {
        sets.to_string()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use proptest::prelude::*;

    const A: &str = "3e11fa47-71ca-11e1-9e33-c80aa9429562";
    const B: &str = "726757ad-4455-11e8-ae04-0242ac110002";

    fn mariadb(text: &str) -> Gtid {
        Gtid::parse(Engine::Mariadb, text).unwrap_or_else(|| panic!("{text}"))
    }

    fn mysql(text: &str) -> Gtid {
        Gtid::parse(Engine::Mysql, text).unwrap_or_else(|| panic!("{text}"))
    }

    #[test]
    fn positions_of_mariadb_are_compared_by_domain() {
        for (a, b, reaches) in [
            ("1-101-7", "1-101-7", true),
            ("1-102-9", "1-101-7", true),
            ("1-101-6", "1-101-7", false),
            ("1-101-9", "0-5-1,1-101-7", false),
            ("0-5-1,1-101-9", "1-101-7", true),
            ("", "1-101-7", false),
            ("1-101-7", "", true),
        ] {
            assert_eq!(mariadb(a).reaches(&mariadb(b)), reaches, "{a} reaches {b}");
        }
        let (replica, writer) = (mariadb("1-101-7,1-102-8"), mariadb("1-101-9"));
        assert_eq!(replica.beyond(&writer).to_string(), "1-102-8");
        assert!(writer.beyond(&mariadb("1-101-9,1-7-1")).is_empty());
    }

    #[test]
    fn sets_of_mysql_are_compared_by_source() {
        let (replica, writer) = (mysql(&format!("{A}:1-5:8,\n{B}:1")), mysql(&format!("{}:1-10", A.to_uppercase())));
        assert_eq!(replica.beyond(&writer).to_string(), format!("{B}:1"));
        assert_eq!(writer.beyond(&replica).to_string(), format!("{A}:6-7:9-10"));
        assert!(!replica.reaches(&writer) && writer.reaches(&mysql(&format!("{A}:2:4"))));
        let tagged = mysql(&format!("{A}:1-3:Blue:1:4-5"));
        assert_eq!(tagged.to_string(), format!("{A}:1-3,{A}:blue:1:4-5"));
        assert!(!writer.reaches(&tagged), "a tag is a source of its own");
        assert!(!writer.reaches(&mariadb("1-1-1")) && !writer.beyond(&mariadb("")).is_empty(), "two engines");
    }

    #[test]
    fn what_is_in_no_form_is_no_position() {
        for text in ["x", "1-2", "1-2-3-4", "-1-2-3", "1-2-99999999999999999999", "99999999999-1-1"] {
            assert_eq!(Streams::parse(text), None, "{text}");
        }
        for text in [A, "x:1", &format!("{A}:0-3"), &format!("{A}:1-x"), &format!("{A}:"), &format!("{A}:a b:1")] {
            assert_eq!(Sets::parse(text), None, "{text}");
        }
    }

    /// The numbers of one source as a set of numbers, which is what intervals stand for.
    fn numbers(set: &Sets) -> BTreeSet<u64> {
        set.0.get(A).into_iter().flatten().flat_map(|(from, to)| *from..=*to).collect()
    }

    fn set(intervals: &[(u64, u64)]) -> Sets {
        let words: Vec<String> = intervals.iter().map(|(from, more)| format!("{A}:{from}-{}", from + more)).collect();
        Sets::parse(&words.join(",")).unwrap()
    }

    proptest! {
        #[test]
        fn anything_is_taken(text in any::<String>(), almost in "[-0-9a-f:, ]{0,90}") {
            for text in [text, almost, format!("{A}:1-5")] {
                for engine in [Engine::Mariadb, Engine::Mysql] {
                    if let Some(gtid) = Gtid::parse(engine, &text) {
                        prop_assert_eq!(Gtid::parse(engine, &gtid.to_string()), Some(gtid.clone()));
                        prop_assert!(gtid.reaches(&gtid) && gtid.beyond(&gtid).is_empty());
                        let kept = serde_json::to_string(&gtid).unwrap();
                        prop_assert_eq!(serde_json::from_str::<Gtid>(&kept).unwrap(), gtid);
                    }
                }
            }
        }

        #[test]
        fn intervals_are_sets(a in prop::collection::vec((1_u64..60, 0_u64..9), 0..9), b in prop::collection::vec((1_u64..60, 0_u64..9), 0..9)) {
            let (a, b) = (set(&a), set(&b));
            let (all, theirs) = (numbers(&a), numbers(&b));
            let left: BTreeSet<u64> = all.difference(&theirs).copied().collect();
            prop_assert_eq!(numbers(&a.minus(&b)), left.clone());
            prop_assert_eq!(a.minus(&b).count(), left.len() as u64);
            prop_assert_eq!(a.minus(&b).0.is_empty(), all.is_subset(&theirs));
            prop_assert_eq!(numbers(&a.and(&b)), all.union(&theirs).copied().collect::<BTreeSet<_>>());
        }

        #[test]
        fn who_has_nothing_beyond_is_reached(a in prop::collection::btree_map((0_u32..3, 0_u32..3), 1_u64..9, 0..6), b in prop::collection::btree_map((0_u32..3, 0_u32..3), 1_u64..9, 0..6)) {
            let (a, b) = (Streams(a), Streams(b));
            if b.beyond(&a).0.is_empty() {
                prop_assert!(a.reaches(&b), "{} {}", a, b);
            }
            let both = a.and(&b);
            prop_assert!(both.reaches(&a) && both.reaches(&b));
            prop_assert!([&a, &b].iter().any(|one| one.last(0) == both.last(0)));
        }
    }
}
