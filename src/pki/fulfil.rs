//! One certificate from decision to use: takes the store and what is wanted, gives what became of it. What goes wrong is
//! remembered, so that the next run does not ask the CA again before its time.

use std::sync::atomic::AtomicBool;

use time::OffsetDateTime;

use crate::base::crash::crash_at;
use crate::inventory::site::{Challenge, Site};
use crate::pki::acme::{self, Failure, Kind, Obtained, Reason};
use crate::pki::guard;
use crate::pki::hook;
use crate::pki::internal_store::Error;
use crate::pki::public::{Expected, Public};
use crate::pki::public_store::PublicStore;
use crate::service::certificates::Remembered;
use crate::service::certificates::schedule::{self, Advice, Decision, Held, Past, Record};
use crate::service::certificates::wanted::{LETS_ENCRYPT, LETS_ENCRYPT_STAGING, Source, Wanted};

/// No certificate of Let's Encrypt lives longer, seconds (letsencrypt.org, «Profiles»: 90 days).
const LONGEST_OF_LETS_ENCRYPT: i64 = 100 * 86_400;

/// What became of a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// There was nothing to do before this time, seconds since 1970.
    Good {
        /// Seconds since 1970.
        until: i64,
    },
    /// It waits for its time.
    Deferred {
        /// Seconds since 1970.
        until: i64,
        /// What went wrong the last time.
        why: String,
    },
    /// It was obtained and is in use from now on.
    Obtained {
        /// A line about it.
        about: String,
        /// What a person should know all the same.
        notes: Vec<String>,
    },
    /// The order failed; whatever was in use stays.
    Failed {
        /// Why.
        failure: Failure,
        /// It is not tried again before this, seconds since 1970.
        until: i64,
        /// Whether a person should look now: there is no certificate, or less than a sixth of its life is left.
        pressing: bool,
    },
}

/// What is to be done about `wanted` now.
///
/// # Errors
/// [`Error`] of the store.
pub fn decide(store: &PublicStore, wanted: &Wanted, now: OffsetDateTime) -> Result<Decision, Error> {
    Ok(schedule::decide(wanted, &past(store, wanted, now)?, now.unix_timestamp()))
}

/// What is remembered of the certificate that is wanted.
///
/// # Errors
/// [`Error`] of the store.
pub fn past(store: &PublicStore, wanted: &Wanted, now: OffsetDateTime) -> Result<Past, Error> {
    let records = (0..wanted.sources.len()).map(|rank| store.record(&wanted.site, rank));
    let current = store.current(&wanted.site)?;
    // Its authority may be gone from the roots: clients refuse it then, whatever its dates say.
    let untrusted = |current: &Public, held: Held| Held { untrusted: current.clone().vouched(now).is_err(), ..held };
    Ok(Past {
        held: current.as_ref().and_then(|current| Some(untrusted(current, current.held()?))),
        records: records.collect::<Result<_, _>>()?,
        advice: store.advice(&wanted.site)?,
    })
}

/// What decides about the orders of a site: what is remembered of each certificate, and what proves them now. Nothing is read or
/// made where our own authority signs.
///
/// # Errors
/// [`Error`] of the store.
pub fn remembered(site: &Site) -> Result<Remembered, Error> {
    let wanted = Wanted::all(site);
    let mut remembered = Remembered::default();
    if wanted.is_empty() {
        return Ok(remembered);
    }
    // However the person names the inventory, the folder in which the hook runs is the same.
    let folder = fs_err::canonicalize(&site.folder).unwrap_or_else(|_| site.folder.clone());
    if let Challenge::Dns01 { hook } = &site.certificates.challenge {
        remembered.programs = hook::programs(hook, &folder);
    }
    remembered.folder = folder.display().to_string();
    let store = PublicStore::open(&site.state)?;
    let now = OffsetDateTime::now_utc();
    for wanted in wanted {
        remembered.sites.insert(wanted.site.clone(), past(&store, &wanted, now)?);
    }
    Ok(remembered)
}

/// Asks the CA when it would have the certificate in use renewed, unless it was asked lately; keeps the answer, and also that
/// there was none.
///
/// # Errors
/// [`Error`] of the store. What the CA does not say is no error.
pub fn consult(store: &PublicStore, wanted: &Wanted, stop: &AtomicBool, now: OffsetDateTime) -> Result<(), Error> {
    let Some(current) = store.current(&wanted.site)? else { return Ok(()) };
    let Some(directory) = current.directory.as_deref() else { return Ok(()) };
    let before = store.advice(&wanted.site)?;
    let seconds = now.unix_timestamp();
    if before.as_ref().is_some_and(|b| b.leaf == current.sha256 && seconds < b.ask_after) {
        return Ok(());
    }
    let Some(leaf) = current.leaf() else { return Ok(()) };
    let answer = match acme::advise(directory, &leaf, stop) {
        Ok(Some(answer)) => Ok(answer),
        Ok(None) => Err(None),
        Err(failure) if failure.kind == Kind::Stopped => return Ok(()),
        Err(failure) => Err(failure.retry_after.map(|at| at - now)),
    };
    let mut dice = [0_u8; 8];
    // Without chance it is the window's beginning.
    let _ = getrandom::fill(&mut dice);
    let (window, explanation, pause) = match answer {
        Ok(answer) => (Some(answer.window), answer.explanation, answer.retry_after),
        Err(pause) => (None, None, pause),
    };
    let dice = u64::from_le_bytes(dice);
    let advice = Advice::after(before.as_ref(), &current.sha256, window, explanation, pause, seconds, dice);
    store.put_advice(&wanted.site, &advice)
}

/// Decides and orders what is due; `force` orders also what is not due, but never before a time that an earlier failure set. Whoever
/// calls this keeps other controllers out, by the lock on the first load balancer.
///
/// # Errors
/// [`Error`] of the store. A CA's refusal is a [`Fate`].
pub fn fulfil(
    store: &PublicStore,
    wanted: &Wanted,
    force: bool,
    stop: &AtomicBool,
    now: OffsetDateTime,
) -> Result<Fate, Error> {
    let seconds = now.unix_timestamp();
    let decide_first = if force { schedule::forced } else { schedule::decide };
    let mut from = match decide_first(wanted, &past(store, wanted, now)?, seconds) {
        Decision::Order { from, .. } => from,
        Decision::Good { until, .. } => return Ok(Fate::Good { until }),
        Decision::Deferred { until, why } => return Ok(Fate::Deferred { until, why }),
    };
    loop {
        let Some(source) = wanted.sources.get(from) else { return Ok(Fate::Good { until: seconds }) };
        let fate = attempt(store, wanted, (from, source), stop, seconds)?;
        // A first issuer that fails again after days of failures is no reason to wait another day for the second.
        match (&fate, decide(store, wanted, now)?) {
            (Fate::Failed { failure, .. }, Decision::Order { from: next, .. })
                if next > from && failure.kind != Kind::Stopped =>
            {
                from = next;
            }
            _ => return Ok(fate),
        }
    }
}

/// Takes a certificate that a load balancer holds (its file: leaf, intermediates, key) into use, where it is a CA's, for what is
/// wanted, and issued later than ours: another controller has renewed it, or our state was lost. One that is due already is still
/// better than an older one, or than none. Gives a line about it.
///
/// # Errors
/// [`Error`] of the store. A file that is no better than what we have is no error.
pub fn adopt(store: &PublicStore, wanted: &Wanted, file: &str, now: OffsetDateTime) -> Result<Option<String>, Error> {
    let Some(source) = wanted.sources.first() else { return Ok(None) };
    let (names, profile) = (wanted.names.as_slice(), wanted.profile_at(source));
    let expected = Expected { names, directory: &source.directory, profile };
    let found = Public::from_file(expected, file, now).and_then(|found| found.vouched(now));
    let Ok(found) = found else { return Ok(None) };
    if is_of_another(&found, now) {
        return Ok(None);
    }
    let ours = store.current(&wanted.site)?;
    let later = ours.is_none_or(|ours| ours.sha256 != found.sha256 && ours.life.not_before < found.life.not_before);
    if !later {
        return Ok(None);
    }
    store.put_current(&wanted.site, &found)?;
    Ok(Some(found.about()))
}

/// Keeps what a load balancer holds (its file: leaf, intermediates, key) for a site that has no certificate of its own yet, where that
/// serves its visitors better than what would stand in: it was bought, or an internal authority signed it. Gives a line about it where
/// it was not kept before.
///
/// # Errors
/// [`Error`] of the store. A file that is no better is no error.
pub fn keep(store: &PublicStore, wanted: &Wanted, file: &str, now: OffsetDateTime) -> Result<Option<String>, Error> {
    let Some(found) = Public::kept(&wanted.site, file, now) else { return Ok(None) };
    let about = found.about();
    Ok(store.keep(&wanted.site, &wanted.names, &found, now)?.then_some(about))
}

/// Whether a certificate that a load balancer holds is not of the directory that is asked now, as far as that can be seen: our own
/// authority signed it, a person bought it, or it is from before a move to a staging. What is taken for the directory's own would be
/// kept until it is due.
fn is_of_another(found: &Public, now: OffsetDateTime) -> bool {
    let ours = found.issuer().is_some_and(|name| name.starts_with("infra ") && name.contains(" sites "));
    let staging = found.directory.as_deref() == Some(LETS_ENCRYPT_STAGING);
    let bought = found.directory.as_deref() == Some(LETS_ENCRYPT)
        && found.life.not_after - found.life.not_before > LONGEST_OF_LETS_ENCRYPT;
    ours || bought || (staging && guard::vouched(&found.ders(), now).is_ok())
}

/// Has a certificate's CA take it back. Where it is the one in use, it counts as due from then on.
///
/// # Errors
/// [`Failure`].
pub fn revoke(
    store: &PublicStore,
    wanted: &Wanted,
    certificate: &Public,
    reason: Reason,
    stop: &AtomicBool,
) -> Result<(), Failure> {
    let known = |directory: &str| wanted.sources.iter().find(|source| source.directory == directory).cloned();
    let (Some(directory), Some(leaf)) = (certificate.directory.as_deref(), certificate.leaf()) else {
        return Err(Failure::ours("no CA has signed this certificate"));
    };
    let source = known(directory).unwrap_or_else(|| Source::new(directory));
    // What is offered now is no matter for what was issued then.
    let wanted = Wanted { profile: None, contact: None, ..wanted.clone() };
    acme::revoke(store, &wanted, &source, &leaf, reason, stop)?;
    if let Some(current) = store.current(&wanted.site)?.filter(|current| current.sha256 == certificate.sha256) {
        store.put_current(&wanted.site, &Public { revoked: true, ..current })?;
    }
    Ok(())
}

fn attempt(
    store: &PublicStore,
    wanted: &Wanted,
    (rank, source): (usize, &Source),
    stop: &AtomicBool,
    now: i64,
) -> Result<Fate, Error> {
    let site = &wanted.site;
    let obtained = rehearsed(store, wanted, source, stop).and_then(|()| acme::order(store, wanted, source, stop));
    let obtained = obtained.and_then(|new| {
        crash_at("store");
        store.put_current(site, &new.certificate)?;
        Ok(new)
    });
    match obtained {
        Ok(Obtained { certificate, notes }) => {
            store.clear_journal(site)?;
            for rank in 0..wanted.sources.len() {
                store.put_record(site, rank, &Record::default())?;
            }
            crash_at("install");
            Ok(Fate::Obtained { about: certificate.about(), notes })
        }
        Err(failure) => {
            // A try may have taken minutes; the pause begins when it has ended.
            let now = OffsetDateTime::now_utc().unix_timestamp().max(now);
            let mut until = now;
            if failure.kind != Kind::Stopped {
                let about = (wanted.names.clone(), source.directory.clone());
                let retry = failure.retry_after.map(OffsetDateTime::unix_timestamp);
                let record = store.record(site, rank)?.failed(about, failure.why.clone(), retry, now);
                store.put_record(site, rank, &record)?;
                until = record.wait_until.unwrap_or(now);
            }
            let pressing = store.current(site)?.is_none_or(|current| current.life.pressing() <= now);
            Ok(Fate::Failed { failure, until, pressing })
        }
    }
}

/// A site's very first order goes to the staging first, where failures cost nothing: Let's Encrypt allows few an hour. That
/// the staging itself is down, or busy, is no reason to wait.
fn rehearsed(store: &PublicStore, wanted: &Wanted, source: &Source, stop: &AtomicBool) -> Result<(), Failure> {
    let new = store.current(&wanted.site)?.is_none() && store.journal(&wanted.site)?.is_none();
    if !new || source.directory != LETS_ENCRYPT {
        return Ok(());
    }
    match rehearse(store, wanted, stop) {
        // A CAA record may name our account, and that at the staging is another one (RFC 8657 §3). What CAA says of the CA
        // itself was looked at before.
        Err(failure) if failure.kind == Kind::Refused && failure.why.to_ascii_lowercase().contains("caa") => Ok(()),
        Err(failure) if matches!(failure.kind, Kind::Refused | Kind::Ours | Kind::Stopped) => Err(Failure {
            why: format!("{} (said by the staging directory, which was asked first)", failure.why),
            ..failure
        }),
        _ => Ok(()),
    }
}

/// Orders from Let's Encrypt's staging to see that it works; nothing that comes back is used or remembered.
///
/// # Errors
/// [`Failure`].
pub fn rehearse(store: &PublicStore, wanted: &Wanted, stop: &AtomicBool) -> Result<String, Failure> {
    // A journal of its own, so that an order under way is not lost.
    let site = format!("{}{}", acme::REHEARSAL, wanted.site);
    let source = Source::new(LETS_ENCRYPT_STAGING);
    let rehearsal = Wanted { site, contact: None, sources: vec![source.clone()], ..wanted.clone() };
    let new = acme::order(store, &rehearsal, &source, stop)?;
    store.clear_journal(&rehearsal.site)?;
    Ok(new.certificate.about())
}
