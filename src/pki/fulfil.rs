//! One certificate from decision to use: takes the vault and what is wanted, gives what became of it. What goes wrong is
//! remembered, so that the next run does not ask the CA again before its time.

use time::OffsetDateTime;

use crate::base::crash::crash_at;
use crate::pki::acme::{self, Failure, Wanted};
use crate::pki::renew::{self, Decision, Record};
use crate::pki::store::Error;
use crate::pki::vault::{Public, Vault};

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
    /// It was obtained and is in use from now on: a line about it.
    Obtained(String),
    /// The order failed; whatever was in use stays.
    Failed {
        /// Why.
        failure: Failure,
        /// It is not tried again before this, seconds since 1970.
        until: i64,
    },
}

/// What is to be done about `wanted` now.
///
/// # Errors
/// [`Error`] of the store.
pub fn decide(vault: &Vault, wanted: &Wanted<'_>, now: OffsetDateTime) -> Result<Decision, Error> {
    let current = vault.current(wanted.site)?;
    let record = vault.record(wanted.site)?;
    let held = current.as_ref().and_then(Public::held);
    Ok(renew::decide(wanted.names, wanted.directory, held, &record, now))
}

/// Decides under the vault's lock and orders what is due; `force` orders also what is not due, but never before a time that
/// an earlier failure set.
///
/// # Errors
/// [`Error`] of the store. A CA's refusal is a [`Fate`].
pub fn fulfil(vault: &Vault, wanted: &Wanted<'_>, force: bool, now: OffsetDateTime) -> Result<Fate, Error> {
    let seconds = now.unix_timestamp();
    let record = vault.record(wanted.site)?;
    match decide(vault, wanted, now)? {
        Decision::Order { .. } => {}
        Decision::Good { .. } if force && record.wait_until.is_none_or(|until| until <= seconds) => {}
        Decision::Good { until } => return Ok(Fate::Good { until }),
        Decision::Deferred { until, why } => return Ok(Fate::Deferred { until, why }),
    }
    let obtained = acme::order(vault, wanted).and_then(|new| {
        crash_at("store");
        vault.put_current(wanted.site, &new)?;
        Ok(new)
    });
    match obtained {
        Ok(new) => {
            vault.clear_journal(wanted.site)?;
            vault.put_record(wanted.site, &Record::default())?;
            crash_at("install");
            Ok(Fate::Obtained(new.about()))
        }
        Err(failure) => {
            let about = (wanted.names.to_vec(), wanted.directory.to_owned());
            let retry = failure.retry_after.map(OffsetDateTime::unix_timestamp);
            let record = record.failed(about, failure.why.clone(), retry, seconds);
            vault.put_record(wanted.site, &record)?;
            Ok(Fate::Failed { failure, until: record.wait_until.unwrap_or(seconds) })
        }
    }
}

/// Orders from another directory to see that it works; nothing that comes back is used or remembered.
///
/// # Errors
/// [`Failure`].
pub fn rehearse(vault: &Vault, wanted: &Wanted<'_>) -> Result<String, Failure> {
    // A journal of its own, so that an order under way is not lost.
    let site = format!("rehearsal.{}", wanted.site);
    let rehearsal = Wanted { site: &site, contact: None, ..*wanted };
    let new = acme::order(vault, &rehearsal)?;
    vault.clear_journal(&site)?;
    Ok(new.about())
}
