//! When a public certificate is asked for, and whom: takes what is in use, what is wanted, what went wrong before, what the CA
//! advised, and the clock; gives a decision with its reason. Pure, and computed from the leaf: no lifetime is a constant.

use serde::{Deserialize, Serialize};
use time::Duration;

use crate::inventory::site::KeyKind;
use crate::service::certificates::wanted::Wanted;

/// Below this lifetime half of it is kept in reserve, not a third (Let's Encrypt's `shortlived` lives for 160 hours).
const SHORT: Duration = Duration::days(10);
/// What follows the first, second, third and every further failure in a row.
const BACKOFF: [Duration; 4] = [Duration::minutes(1), Duration::minutes(10), Duration::minutes(100), Duration::days(1)];
/// How often a CA may want to be asked for its advice, whatever it says.
const ADVICE_PAUSE: (Duration, Duration) = (Duration::minutes(1), Duration::days(1));

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

    /// From when on less than a sixth is left, which is when a person should look.
    pub fn pressing(self) -> i64 {
        self.not_after - (self.not_after - self.not_before) / 6
    }
}

/// What a CA advises about the renewal of a leaf (RFC 9773). It never makes us wait past [`Life::pressing`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Advice {
    /// The leaf that it is about, SHA-256.
    pub leaf: String,
    /// When to renew, a moment of the CA's window chosen once; `None` where the CA gave no usable window.
    pub at: Option<i64>,
    /// Where the CA explains itself.
    pub explanation: Option<String>,
    /// The CA is not asked again before this, seconds since 1970.
    pub ask_after: i64,
}

/// The window that a CA suggests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Seconds since 1970.
    pub start: i64,
    /// Seconds since 1970.
    pub end: i64,
}

impl Advice {
    /// After an answer, or after none (`window` is `None`): a moment by `dice`, kept as long as the window holds it.
    pub fn after(
        before: Option<&Self>,
        leaf: &str,
        window: Option<Window>,
        explanation: Option<String>,
        pause: Option<Duration>,
        now: i64,
        dice: u64,
    ) -> Self {
        let kept = before.filter(|b| b.leaf == leaf).and_then(|b| b.at);
        let at = window.filter(|w| w.start < w.end).map(|w| match kept {
            Some(at) if (w.start..=w.end).contains(&at) => at,
            _ => w.start + i64::try_from(dice % w.end.abs_diff(w.start)).unwrap_or(0),
        });
        let (shortest, longest) = ADVICE_PAUSE;
        // RFC 9773 §4.3: six hours where nothing is said.
        let pause = pause.unwrap_or(Duration::hours(6)).clamp(shortest, longest);
        Self { leaf: leaf.to_owned(), at, explanation, ask_after: now + pause.whole_seconds() }
    }
}

/// What is in use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// Its names, the main one first.
    pub names: Vec<String>,
    /// The directory that it came from.
    pub directory: String,
    /// The profile that was asked for.
    pub profile: Option<String>,
    /// The kind of its key.
    #[serde(default)]
    pub key: KeyKind,
    /// Its dates.
    pub life: Life,
    /// SHA-256 of the leaf.
    pub leaf: String,
    /// Whether its CA was told to take it back.
    pub revoked: bool,
    /// Whether it is Let's Encrypt's, and no authority that this machine trusts vouches for it any more.
    #[serde(default)]
    pub untrusted: bool,
}

impl Held {
    /// From when on it should be renewed, and by whose word.
    fn due(&self, advice: Option<&Advice>) -> (i64, Option<String>) {
        let Some((advice, at)) = advice.filter(|a| a.leaf == self.leaf).and_then(|a| Some((a, a.at?))) else {
            return (self.life.due(), None);
        };
        let why = advice.explanation.as_ref().map_or_else(String::new, |url| format!(" ({url})"));
        (at.min(self.life.pressing()), Some(format!("the CA suggests it{why}")))
    }
}

/// What is remembered of earlier tries at one CA; kept over runs.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Record {
    /// Failures in a row.
    pub failures: u32,
    /// When the first of them was, seconds since 1970.
    #[serde(default)]
    pub since: Option<i64>,
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
        let same = self.about.as_ref() == Some(&about);
        let before = if same { self.failures } else { 0 };
        let step = BACKOFF.get(before as usize).or(BACKOFF.last()).copied().unwrap_or(Duration::DAY);
        let pause = now + step.whole_seconds();
        let wait_until = Some(retry_after.map_or(pause, |at| at.max(now)));
        let since = self.since.filter(|_| same).or(Some(now));
        Self { failures: before.saturating_add(1), since, last: Some(why), wait_until, about: Some(about) }
    }

    fn is_about(&self, names: &[String], directory: &str) -> bool {
        self.about.as_ref().is_some_and(|(n, d)| same_names(n, names) && d == directory)
    }
}

/// What is to be done about a certificate now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Nothing before this time.
    Good {
        /// Seconds since 1970.
        until: i64,
        /// Whose word that is: `a third of its life is left then`.
        why: String,
    },
    /// It is ordered, because of this.
    Order {
        /// `there is no certificate yet`, `28 of 90 days are left`.
        why: String,
        /// From which of the sources.
        from: usize,
    },
    /// It would be ordered, but not before this time.
    Deferred {
        /// Seconds since 1970.
        until: i64,
        /// What went wrong the last time.
        why: String,
    },
}

/// All that is remembered of one site's certificate.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Past {
    /// What is in use, if a CA gave it.
    pub held: Option<Held>,
    /// What is remembered of each source, in their order.
    pub records: Vec<Record>,
    /// What its CA advised.
    pub advice: Option<Advice>,
}

/// Decides about a certificate at `now`, seconds since 1970.
pub fn decide(wanted: &Wanted, past: &Past, now: i64) -> Decision {
    match reason(wanted, past.held.as_ref(), past.advice.as_ref(), now) {
        Ok(why) => choose(wanted, &past.records, why, now),
        Err((until, why)) => Decision::Good { until, why },
    }
}

/// As [`decide`], where a person wants it anew though it is not due. Also then it waits for the time that an earlier failure set.
pub fn forced(wanted: &Wanted, past: &Past, now: i64) -> Decision {
    match decide(wanted, past, now) {
        Decision::Good { .. } => match past.records.first().and_then(|record| Some((record, record.wait_until?))) {
            Some((record, until)) if now < until => {
                Decision::Deferred { until, why: record.last.clone().unwrap_or_default() }
            }
            _ => Decision::Order { why: "it was asked for".to_owned(), from: 0 },
        },
        due => due,
    }
}

/// Why it is due, or until when it is not and by whose word.
fn reason(wanted: &Wanted, held: Option<&Held>, advice: Option<&Advice>, now: i64) -> Result<String, (i64, String)> {
    let Some(held) = held else { return Ok("there is no certificate yet".to_owned()) };
    let source = wanted.sources.iter().find(|source| source.directory == held.directory);
    let Some(source) = source else { return Ok("it is from another issuer".to_owned()) };
    if !same_names(&held.names, &wanted.names) {
        return Ok("the names have changed".to_owned());
    }
    if held.profile.as_deref() != wanted.profile_at(source) {
        return Ok("another profile is wanted".to_owned());
    }
    if held.key != wanted.key {
        return Ok("another kind of key is wanted".to_owned());
    }
    if held.revoked {
        return Ok("it was revoked".to_owned());
    }
    if now >= held.life.not_after {
        return Ok("it has ended".to_owned());
    }
    if held.untrusted {
        return Ok("no authority that this machine trusts vouches for it any more".to_owned());
    }
    let (due, suggested) = held.due(advice);
    if now < due {
        let part = if held.life.not_after - held.life.not_before < SHORT.whole_seconds() { "half" } else { "a third" };
        return Err((due, suggested.unwrap_or_else(|| format!("{part} of its life is left then"))));
    }
    let days = |seconds: i64| seconds / Duration::DAY.whole_seconds();
    let (left, all) = (days(held.life.not_after - now), days(held.life.not_after - held.life.not_before));
    Ok(suggested.unwrap_or_else(|| format!("{left} of {all} days are left")))
}

/// The first source that may be asked now.
fn choose(wanted: &Wanted, records: &[Record], why: String, now: i64) -> Decision {
    let mut deferred: Option<(i64, String)> = None;
    let mut failing_since: Option<i64> = None;
    for (from, source) in wanted.sources.iter().enumerate() {
        let record = records.get(from).filter(|r| r.is_about(&wanted.names, &source.directory));
        if from > 0 && failing_since.is_none_or(|since| now < since + source.after.whole_seconds()) {
            break;
        }
        let Some((record, until)) = record.and_then(|r| Some((r, r.wait_until.filter(|until| now < *until)?))) else {
            return Decision::Order { why, from };
        };
        failing_since = record.since;
        if deferred.as_ref().is_none_or(|(soonest, _)| until < *soonest) {
            deferred = Some((until, record.last.clone().unwrap_or_default()));
        }
    }
    let (until, why) = deferred.unwrap_or_else(|| (now, "no issuer is named".to_owned()));
    Decision::Deferred { until, why }
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
    use time::OffsetDateTime;
    use time::macros::datetime;

    use super::*;
    use crate::inventory::site::Challenge;
    use crate::service::certificates::wanted::Source;

    const NOW: OffsetDateTime = datetime!(2026-11-23 12:00 UTC);
    const DAY: i64 = 86_400;
    const LE: &str = "https://ca.example/directory";

    fn names() -> Vec<String> {
        vec!["a.example.com".into(), "b.example.com".into()]
    }

    fn wanted() -> Wanted {
        Wanted {
            site: "a.example.com".into(),
            names: names(),
            contact: None,
            profile: None,
            key: KeyKind::default(),
            challenge: Challenge::Http01,
            sources: vec![Source::new(LE)],
            folder: ".".into(),
        }
    }

    fn life(days_old: i64, days: i64) -> Life {
        let not_before = NOW.unix_timestamp() - days_old * DAY;
        Life { not_before, not_after: not_before + days * DAY }
    }

    fn held(names: &[String], life: Life) -> Held {
        Held {
            names: names.to_vec(),
            directory: LE.into(),
            profile: None,
            key: KeyKind::default(),
            life,
            leaf: "ab".into(),
            revoked: false,
            untrusted: false,
        }
    }

    fn decide(
        wanted: &Wanted,
        held: Option<Held>,
        records: &[Record],
        advice: Option<&Advice>,
        now: OffsetDateTime,
    ) -> Decision {
        let past = Past { held, records: records.to_vec(), advice: advice.cloned() };
        super::decide(wanted, &past, now.unix_timestamp())
    }

    fn about(life: Life, record: &Record) -> Decision {
        decide(&wanted(), Some(held(&names(), life)), std::slice::from_ref(record), None, NOW)
    }

    fn order(why: &str) -> Decision {
        Decision::Order { why: why.into(), from: 0 }
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
        assert_eq!(about(life(60, 90), &Record::default()), order("30 of 90 days are left"));
    }

    #[test]
    fn other_names_another_issuer_another_profile_a_revocation_or_the_end_make_it_due() {
        let now = |wanted: &Wanted, held| decide(wanted, held, &[], None, NOW);
        assert_eq!(now(&wanted(), None), order("there is no certificate yet"));
        let (mut turned, other) = (names(), [names(), vec!["c.example.com".into()]].concat());
        turned.reverse();
        let young = life(1, 90);
        assert!(matches!(now(&wanted(), Some(held(&turned, young))), Decision::Good { .. }));
        assert_eq!(now(&wanted(), Some(held(&other, young))), order("the names have changed"));
        let moved = Held { directory: "https://other.example/".into(), ..held(&turned, young) };
        assert_eq!(now(&wanted(), Some(moved)), order("it is from another issuer"));
        let short = Wanted { profile: Some("shortlived".into()), ..wanted() };
        assert_eq!(now(&short, Some(held(&turned, young))), order("another profile is wanted"));
        let short_held = Held { profile: Some("shortlived".into()), ..held(&turned, young) };
        assert!(matches!(now(&short, Some(short_held)), Decision::Good { .. }));
        let for_old_clients = Wanted { key: KeyKind::Rsa2048, ..wanted() };
        assert_eq!(now(&for_old_clients, Some(held(&turned, young))), order("another kind of key is wanted"));
        let rsa = Held { key: KeyKind::Rsa2048, ..held(&turned, young) };
        assert!(matches!(now(&for_old_clients, Some(rsa.clone())), Decision::Good { .. }));
        assert_eq!(now(&wanted(), Some(rsa)), order("another kind of key is wanted"));
        let orphan = Held { untrusted: true, ..held(&turned, young) };
        let why = "no authority that this machine trusts vouches for it any more";
        assert_eq!(now(&wanted(), Some(orphan)), order(why));
        let taken_back = Held { revoked: true, ..held(&turned, young) };
        assert_eq!(now(&wanted(), Some(taken_back)), order("it was revoked"));
        assert_eq!(about(life(91, 90), &Record::default()), order("it has ended"));
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
        assert_eq!((record.failures, record.since), (6, Some(now)));
        let told = record.failed((names(), LE.into()), "limit".into(), Some(now + 151_200), now);
        assert_eq!(told.wait_until, Some(now + 151_200));
        let decision = about(life(80, 90), &told);
        assert_eq!(decision, Decision::Deferred { until: now + 151_200, why: "limit".into() });
        // What is not due is not told of, and what was changed is not held back.
        assert!(matches!(about(life(1, 90), &told), Decision::Good { .. }));
        let other = Wanted { names: vec!["new.example.com".into()], ..wanted() };
        assert!(matches!(decide(&other, None, std::slice::from_ref(&told), None, NOW), Decision::Order { .. }));
        let again = told.failed((vec!["new.example.com".into()], LE.into()), "no".into(), None, now);
        assert_eq!((again.failures, again.wait_until), (1, Some(now + 60)));
    }

    #[test]
    fn what_a_person_wants_anew_waits_only_for_what_a_failure_has_set() {
        let now = NOW.unix_timestamp();
        let forced = |record: Record, life| {
            let past = Past { held: Some(held(&names(), life)), records: vec![record], advice: None };
            forced(&wanted(), &past, now)
        };
        assert_eq!(forced(Record::default(), life(1, 90)), order("it was asked for"));
        let failed = Record::default().failed((names(), LE.into()), "no".into(), None, now);
        assert_eq!(forced(failed.clone(), life(1, 90)), Decision::Deferred { until: now + 60, why: "no".into() });
        assert_eq!(forced(failed.clone(), life(80, 90)), Decision::Deferred { until: now + 60, why: "no".into() });
        assert_eq!(forced(Record { wait_until: Some(now), ..failed }, life(1, 90)), order("it was asked for"));
        assert_eq!(forced(Record::default(), life(60, 90)), order("30 of 90 days are left"));
    }

    #[test]
    fn the_pause_ends() {
        let now = NOW.unix_timestamp();
        let record = Record::default().failed((names(), LE.into()), "no".into(), None, now - 60);
        assert!(matches!(about(life(80, 90), &record), Decision::Order { .. }));
        assert!(life(80, 90).pressing() <= now && now < life(70, 90).pressing());
    }

    #[test]
    fn a_second_issuer_is_asked_after_days_of_failures() {
        const SECOND: &str = "https://second.example/directory";
        let now = NOW.unix_timestamp();
        let mut wanted = wanted();
        wanted.sources.push(Source { after: Duration::days(3), ..Source::new(SECOND) });
        let failing = |since: i64, wait: i64, directory: &str| Record {
            failures: 5,
            since: Some(since),
            last: Some(format!("no, says {directory}")),
            wait_until: Some(now + wait),
            about: Some((names(), directory.into())),
        };
        let decide = |held: Option<Held>, records: &[Record]| decide(&wanted, held, records, None, NOW);
        let from = |from| Decision::Order { why: "there is no certificate yet".into(), from };
        assert_eq!(decide(None, &[]), from(0));
        // Not yet; then the second; then neither; the first again when its pause is over.
        let young = failing(now - 2 * DAY, 60, LE);
        let waits = Decision::Deferred { until: now + 60, why: format!("no, says {LE}") };
        assert_eq!(decide(None, std::slice::from_ref(&young)), waits);
        let old = failing(now - 3 * DAY, 60, LE);
        assert_eq!(decide(None, std::slice::from_ref(&old)), from(1));
        let both = [old.clone(), failing(now, 30, SECOND)];
        assert_eq!(decide(None, &both), Decision::Deferred { until: now + 30, why: format!("no, says {SECOND}") });
        assert_eq!(decide(None, &[failing(now - 3 * DAY, 0, LE)]), from(0));
        // What the second gave is good until it is due.
        let names = names();
        let theirs = Held { directory: SECOND.into(), ..held(&names, life(1, 90)) };
        assert!(matches!(decide(Some(theirs), &[old]), Decision::Good { .. }));
    }

    #[test]
    fn advice_is_kept_bounded_and_only_advice() {
        let now = NOW.unix_timestamp();
        let window = |start: i64, end: i64| Some(Window { start: now + start * DAY, end: now + end * DAY });
        let ask = |before: Option<&Advice>, window, dice| Advice::after(before, "ab", window, None, None, now, dice);
        let names = names();
        let advised = |advice: &Advice, life| decide(&wanted(), Some(held(&names, life)), &[], Some(advice), NOW);
        // A window that is past means now; one ahead means its moment, and the moment stays.
        let past = ask(None, window(-3, -1), 7);
        assert_eq!(advised(&past, life(10, 90)), order("the CA suggests it"));
        let ahead = ask(None, window(1, 3), 1000);
        assert_eq!(ahead.at, Some(now + DAY + 1000));
        assert_eq!(ask(Some(&ahead), window(1, 2), 99).at, ahead.at);
        assert_ne!(ask(Some(&ahead), window(2, 3), 99).at, ahead.at);
        assert!(matches!(advised(&ahead, life(80, 90)), Decision::Order { .. }), "later than a sixth before the end");
        assert!(matches!(advised(&ahead, life(65, 90)), Decision::Good { until, .. } if until == now + DAY + 1000));
        // Nothing usable, or about another leaf: the lifetime decides.
        let plain = Decision::Good { until: life(10, 90).due(), why: "a third of its life is left then".into() };
        for useless in [ask(None, window(3, 1), 7), ask(None, window(1, 1), 7), ask(None, None, 7)] {
            assert_eq!(advised(&useless, life(10, 90)), plain);
        }
        let other = Advice { leaf: "cd".into(), ..past };
        assert_eq!(advised(&other, life(10, 90)), plain);
        // How soon it is asked again.
        let pause = |pause| Advice::after(None, "ab", None, None, pause, now, 0).ask_after - now;
        assert_eq!(pause(None), 6 * 3600);
        assert_eq!(pause(Some(Duration::SECOND)), 60);
        assert_eq!(pause(Some(Duration::days(30))), DAY);
        // Extremes that a broken server may say.
        let endless = Some(Window { start: i64::MIN / 2, end: i64::MAX / 2 });
        assert!(ask(None, endless, u64::MAX).at.is_some());
    }
}
