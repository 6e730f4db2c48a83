//! One certificate from decision to use: takes the vault and what is wanted, gives what became of it. What goes wrong is
//! remembered, so that the next run does not ask the CA again before its time.

use std::sync::atomic::AtomicBool;

use time::OffsetDateTime;

use crate::base::crash::crash_at;
use crate::pki::acme::{self, Failure, Kind, Obtained, Reason};
use crate::pki::public::{Expected, Public};
use crate::pki::renew::{self, Advice, Decision, Record};
use crate::pki::store::Error;
use crate::pki::vault::Vault;
use crate::pki::wanted::{LETS_ENCRYPT, LETS_ENCRYPT_STAGING, Source, Wanted};

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
pub fn decide(vault: &Vault, wanted: &Wanted, now: OffsetDateTime) -> Result<Decision, Error> {
    let current = vault.current(&wanted.site)?;
    let records =
        (0..wanted.sources.len()).map(|rank| vault.record(&wanted.site, rank)).collect::<Result<Vec<_>, _>>()?;
    let advice = vault.advice(&wanted.site)?;
    let held = current.as_ref().and_then(Public::held);
    Ok(renew::decide(wanted, held, &records, advice.as_ref(), now))
}

/// Asks the CA when it would have the certificate in use renewed, unless it was asked lately; keeps the answer, and also that
/// there was none.
///
/// # Errors
/// [`Error`] of the store. What the CA does not say is no error.
pub fn consult(vault: &Vault, wanted: &Wanted, stop: &AtomicBool, now: OffsetDateTime) -> Result<(), Error> {
    let Some(current) = vault.current(&wanted.site)? else { return Ok(()) };
    let Some(directory) = current.directory.as_deref() else { return Ok(()) };
    let before = vault.advice(&wanted.site)?;
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
    vault.put_advice(&wanted.site, &advice)
}

/// Decides under the vault's lock and orders what is due; `force` orders also what is not due, but never before a time that
/// an earlier failure set.
///
/// # Errors
/// [`Error`] of the store. A CA's refusal is a [`Fate`].
pub fn fulfil(
    vault: &Vault,
    wanted: &Wanted,
    force: bool,
    stop: &AtomicBool,
    now: OffsetDateTime,
) -> Result<Fate, Error> {
    let seconds = now.unix_timestamp();
    let record = vault.record(&wanted.site, 0)?;
    let mut from = match decide(vault, wanted, now)? {
        Decision::Order { from, .. } => from,
        Decision::Good { .. } if force => match record.wait_until {
            Some(until) if seconds < until => {
                return Ok(Fate::Deferred { until, why: record.last.unwrap_or_default() });
            }
            _ => 0,
        },
        Decision::Good { until, .. } => return Ok(Fate::Good { until }),
        Decision::Deferred { until, why } => return Ok(Fate::Deferred { until, why }),
    };
    loop {
        let Some(source) = wanted.sources.get(from) else { return Ok(Fate::Good { until: seconds }) };
        let fate = attempt(vault, wanted, (from, source), stop, seconds)?;
        // A first issuer that fails again after days of failures is no reason to wait another day for the second.
        match (&fate, decide(vault, wanted, now)?) {
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
pub fn adopt(vault: &Vault, wanted: &Wanted, file: &str, now: OffsetDateTime) -> Result<Option<String>, Error> {
    let Some(source) = wanted.sources.first() else { return Ok(None) };
    let (names, profile) = (wanted.names.as_slice(), wanted.profile_at(source));
    let expected = Expected { names, directory: &source.directory, profile };
    let found = Public::from_file(expected, file, now).and_then(|found| found.vouched(now));
    let Ok(found) = found else { return Ok(None) };
    let ours = vault.current(&wanted.site)?;
    let later = ours.is_none_or(|ours| ours.sha256 != found.sha256 && ours.life.not_before < found.life.not_before);
    if !later {
        return Ok(None);
    }
    vault.put_current(&wanted.site, &found)?;
    Ok(Some(found.about()))
}

/// Has a certificate's CA take it back. Where it is the one in use, it counts as due from then on.
///
/// # Errors
/// [`Failure`].
pub fn revoke(
    vault: &Vault,
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
    acme::revoke(vault, &wanted, &source, &leaf, reason, stop)?;
    if let Some(current) = vault.current(&wanted.site)?.filter(|current| current.sha256 == certificate.sha256) {
        vault.put_current(&wanted.site, &Public { revoked: true, ..current })?;
    }
    Ok(())
}

fn attempt(
    vault: &Vault,
    wanted: &Wanted,
    (rank, source): (usize, &Source),
    stop: &AtomicBool,
    now: i64,
) -> Result<Fate, Error> {
    let site = &wanted.site;
    let obtained = rehearsed(vault, wanted, source, stop).and_then(|()| acme::order(vault, wanted, source, stop));
    let obtained = obtained.and_then(|new| {
        crash_at("store");
        vault.put_current(site, &new.certificate)?;
        Ok(new)
    });
    match obtained {
        Ok(Obtained { certificate, notes }) => {
            vault.clear_journal(site)?;
            for rank in 0..wanted.sources.len() {
                vault.put_record(site, rank, &Record::default())?;
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
                let record = vault.record(site, rank)?.failed(about, failure.why.clone(), retry, now);
                vault.put_record(site, rank, &record)?;
                until = record.wait_until.unwrap_or(now);
            }
            let pressing = vault.current(site)?.is_none_or(|current| current.life.pressing() <= now);
            Ok(Fate::Failed { failure, until, pressing })
        }
    }
}

/// A site's very first order goes to the staging first, where failures cost nothing: Let's Encrypt allows few an hour. That
/// the staging itself is down, or busy, is no reason to wait.
fn rehearsed(vault: &Vault, wanted: &Wanted, source: &Source, stop: &AtomicBool) -> Result<(), Failure> {
    let new = vault.current(&wanted.site)?.is_none() && vault.journal(&wanted.site)?.is_none();
    if !new || source.directory != LETS_ENCRYPT {
        return Ok(());
    }
    match rehearse(vault, wanted, stop) {
        // A CAA record may name our account, and that at the staging is another one (RFC 8657 §3). What CAA says of the CA
        // itself was looked at before.
        Err(failure) if failure.kind == Kind::Refused && failure.why.to_ascii_lowercase().contains("caa") => Ok(()),
        Err(failure) if matches!(failure.kind, Kind::Refused | Kind::Ours | Kind::Stopped) => {
            Err(Failure { why: format!("{} (said by the staging, which was asked first)", failure.why), ..failure })
        }
        _ => Ok(()),
    }
}

/// Orders from Let's Encrypt's staging to see that it works; nothing that comes back is used or remembered.
///
/// # Errors
/// [`Failure`].
pub fn rehearse(vault: &Vault, wanted: &Wanted, stop: &AtomicBool) -> Result<String, Failure> {
    // A journal of its own, so that an order under way is not lost.
    let site = format!("{}{}", acme::REHEARSAL, wanted.site);
    let source = Source::new(LETS_ENCRYPT_STAGING);
    let rehearsal = Wanted { site, contact: None, sources: vec![source.clone()], ..wanted.clone() };
    let new = acme::order(vault, &rehearsal, &source, stop)?;
    vault.clear_journal(&rehearsal.site)?;
    Ok(new.certificate.about())
}
