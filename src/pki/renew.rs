//! When a public certificate is asked for: takes what is in use, what is wanted, what went wrong before, and the clock; gives a
//! decision with its reason. Pure, and computed from the leaf: no lifetime is a constant.

use serde::{Deserialize, Serialize};
use time::{Duration, OffsetDateTime};

/// Below this lifetime half of it is kept in reserve, not a third (Let's Encrypt's `shortlived` lives for 160 hours).
const SHORT: Duration = Duration::days(10);
/// What follows the first, second, third and every further failure in a row.
const BACKOFF: [Duration; 4] = [Duration::minutes(1), Duration::minutes(10), Duration::minutes(100), Duration::days(1)];

/// The dates of a leaf, seconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Life {
    /// `notBefore`.
    pub not_before: i64,
    /// `notAfter`.
    pub not_after: i64,
}

impl Life {
    /// From when on it should be renewed by its length alone: a third is left, or half where it is short.
    pub fn due(self) -> i64 {
        let life = self.not_after - self.not_before;
        self.not_after - if life < SHORT.whole_seconds() { life / 2 } else { life / 3 }
    }

    /// Whether less than a sixth is left, which is when a person should look.
    pub fn is_pressing(self, now: i64) -> bool {
        now >= self.not_after - (self.not_after - self.not_before) / 6
    }
}

/// What is in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held<'a> {
    /// Its names, the main one first.
    pub names: &'a [String],
    /// The directory that it came from.
    pub directory: &'a str,
    /// Its dates.
    pub life: Life,
}

/// What is remembered of earlier tries; kept over runs.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Record {
    /// Failures in a row.
    pub failures: u32,
    /// The last one, a sentence.
    pub last: Option<String>,
    /// Nothing is asked of the CA before this, seconds since 1970.
    pub wait_until: Option<i64>,
    /// The names and directory that these were about: others are not held back.
    pub about: Option<(Vec<String>, String)>,
}

impl Record {
    /// After a failure: the CA's own time where it gave one, else ever longer pauses.
    #[must_use]
    pub fn failed(&self, about: (Vec<String>, String), why: String, retry_after: Option<i64>, now: i64) -> Self {
        let before = if self.about.as_ref() == Some(&about) { self.failures } else { 0 };
        let step = BACKOFF.get(before as usize).or(BACKOFF.last()).copied().unwrap_or(Duration::DAY);
        let pause = now + step.whole_seconds();
        let wait_until = Some(retry_after.map_or(pause, |at| at.max(now)));
        Self { failures: before.saturating_add(1), last: Some(why), wait_until, about: Some(about) }
    }
}

/// What is to be done about a certificate now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Nothing before this time.
    Good {
        /// Seconds since 1970.
        until: i64,
    },
    /// It is ordered, because of this.
    Order {
        /// `there is none yet`, `28 of 90 days are left`.
        why: String,
    },
    /// It would be ordered, but not before this time.
    Deferred {
        /// Seconds since 1970.
        until: i64,
        /// What went wrong the last time.
        why: String,
    },
}

/// Decides about the certificate for `names` from `directory`.
pub fn decide(
    names: &[String],
    directory: &str,
    held: Option<Held<'_>>,
    record: &Record,
    now: OffsetDateTime,
) -> Decision {
    let now = now.unix_timestamp();
    let why = match held {
        None => "there is none yet".to_owned(),
        Some(held) if !same_names(held.names, names) => "the names have changed".to_owned(),
        Some(held) if held.directory != directory => "it is from another issuer".to_owned(),
        Some(held) if now >= held.life.not_after => "it has ended".to_owned(),
        Some(held) if now >= held.life.due() => {
            let days = |seconds: i64| seconds / Duration::DAY.whole_seconds();
            let (left, all) = (days(held.life.not_after - now), days(held.life.not_after - held.life.not_before));
            format!("{left} of {all} days are left")
        }
        Some(held) => return Decision::Good { until: held.life.due() },
    };
    let same = record.about.as_ref().is_some_and(|(n, d)| same_names(n, names) && d == directory);
    match record.wait_until {
        Some(until) if same && now < until => {
            Decision::Deferred { until, why: record.last.clone().unwrap_or_default() }
        }
        _ => Decision::Order { why },
    }
}

fn same_names(a: &[String], b: &[String]) -> bool {
    let sorted = |names: &[String]| {
        let mut names = names.to_vec();
        names.sort_unstable();
        names
    };
    sorted(a) == sorted(b)
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    const NOW: OffsetDateTime = datetime!(2026-11-23 12:00 UTC);
    const DAY: i64 = 86_400;
    const LE: &str = "https://ca.example/directory";

    fn names() -> Vec<String> {
        vec!["a.example.com".into(), "b.example.com".into()]
    }

    fn life(days_old: i64, days: i64) -> Life {
        let not_before = NOW.unix_timestamp() - days_old * DAY;
        Life { not_before, not_after: not_before + days * DAY }
    }

    fn about(life: Life, record: &Record) -> Decision {
        decide(&names(), LE, Some(Held { names: &names(), directory: LE, life }), record, NOW)
    }

    #[test]
    fn a_third_of_life_or_half_of_a_short_one_is_kept() {
        for (old, days, due) in [(59, 90, false), (60, 90, true), (29, 45, false), (30, 45, true), (42, 64, false)] {
            let decision = about(life(old, days), &Record::default());
            assert_eq!(matches!(decision, Decision::Order { .. }), due, "{old} of {days}: {decision:?}");
        }
        // `shortlived`: 160 hours.
        let short = |hours: i64| {
            let not_before = NOW.unix_timestamp() - hours * 3600;
            about(Life { not_before, not_after: not_before + 160 * 3600 }, &Record::default())
        };
        assert!(matches!(short(79), Decision::Good { .. }));
        assert!(matches!(short(80), Decision::Order { .. }));
        assert_eq!(about(life(60, 90), &Record::default()), Decision::Order { why: "30 of 90 days are left".into() });
    }

    #[test]
    fn other_names_another_issuer_or_the_end_make_it_due() {
        let record = Record::default();
        assert_eq!(decide(&names(), LE, None, &record, NOW), Decision::Order { why: "there is none yet".into() });
        let held = |names, directory| Held { names, directory, life: life(1, 90) };
        let (mut turned, other) = (names(), [names(), vec!["c.example.com".into()]].concat());
        turned.reverse();
        assert!(matches!(decide(&names(), LE, Some(held(&turned, LE)), &record, NOW), Decision::Good { .. }));
        for held in [held(&other, LE), held(&turned, "https://other.example/")] {
            assert!(matches!(decide(&names(), LE, Some(held), &record, NOW), Decision::Order { .. }));
        }
        assert_eq!(about(life(91, 90), &record), Decision::Order { why: "it has ended".into() });
    }

    #[test]
    fn failures_wait_ever_longer_and_the_ca_has_the_last_word() {
        let now = NOW.unix_timestamp();
        let mut record = Record::default();
        let mut pauses = Vec::new();
        for _ in 0..6 {
            record = record.failed((names(), LE.into()), "no".into(), None, now);
            pauses.push(record.wait_until.unwrap() - now);
        }
        assert_eq!(pauses, [60, 600, 6000, DAY, DAY, DAY]);
        assert_eq!(record.failures, 6);
        let told = record.failed((names(), LE.into()), "limit".into(), Some(now + 151_200), now);
        assert_eq!(told.wait_until, Some(now + 151_200));
        let decision = about(life(80, 90), &told);
        assert_eq!(decision, Decision::Deferred { until: now + 151_200, why: "limit".into() });
        // What is not due is not told of, and what was changed is not held back.
        assert!(matches!(about(life(1, 90), &told), Decision::Good { .. }));
        let other = decide(&["new.example.com".into()], LE, None, &told, NOW);
        assert!(matches!(other, Decision::Order { .. }));
        let again = told.failed((vec!["new.example.com".into()], LE.into()), "no".into(), None, now);
        assert_eq!((again.failures, again.wait_until), (1, Some(now + 60)));
    }

    #[test]
    fn the_pause_ends() {
        let now = NOW.unix_timestamp();
        let record = Record::default().failed((names(), LE.into()), "no".into(), None, now - 60);
        assert!(matches!(about(life(80, 90), &record), Decision::Order { .. }));
        assert!(life(80, 90).is_pressing(now) && !life(70, 90).is_pressing(now));
    }
}
