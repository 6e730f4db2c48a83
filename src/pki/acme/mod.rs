//! Orders at a public CA (RFC 8555): takes the store, what is wanted and whom to ask, gives a checked certificate, or a failure
//! with its kind. The only async code; its runtime lives and ends in here.
//!
//! A crash at any point costs nothing but time: the account key and the certificate's key are on disk before the request that
//! needs them, the order's URL from when the CA has told it, and the next call goes on from there.

use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use instant_acme::{CertificateIdentifier, Error, Identifier, NewOrder, Order, OrderStatus, RetryPolicy};
use rcgen::{CertificateParams, DistinguishedName, KeyPair};
use rustls::pki_types::CertificateDer;
use time::OffsetDateTime;

use crate::base::crash::crash_at;
use crate::base::words::count;
use crate::pki::guard::Seen;
use crate::pki::public::{Expected, Public};
use crate::pki::public_store::{Journal, PublicStore};
use crate::pki::{internal_ca, key};
use crate::service::certificates::wanted::{Source, Wanted};

mod account;
mod advice;
mod binding;
mod challenge;
mod failure;
mod identities;
mod revoke;

pub use advice::{Suggestion, advise};
pub use failure::{Failure, Kind};
pub use identities::identities;
pub use revoke::{Reason, revoke};

pub(in crate::pki) use challenge::cleanup;
use failure::{classify, patiently};

/// How long one order may take in all.
const WHOLE: Duration = Duration::from_mins(5);
/// As much again for records to reach all name servers.
const WHOLE_BY_DNS: Duration = Duration::from_mins(15);
/// How long the CA may look at our answers, and then at the finished order.
const PATIENCE: Duration = Duration::from_secs(90);
/// How what a rehearsal keeps is named.
pub(in crate::pki) const REHEARSAL: &str = "rehearsal.";
/// What our clock may be off by, seconds: refused, and told.
const SKEW: (i64, i64) = (3600, 300);

/// What an order gave.
#[derive(Debug)]
pub struct Obtained {
    /// Checked, not yet in use.
    pub certificate: Public,
    /// What a person should know all the same.
    pub notes: Vec<String>,
}

/// Orders a certificate, or goes on with the order that an earlier call began.
///
/// # Errors
/// [`Failure`].
pub fn order(store: &PublicStore, wanted: &Wanted, source: &Source, stop: &AtomicBool) -> Result<Obtained, Failure> {
    let seen = Seen::default();
    // What a run that died has left in the zone.
    let mut notes: Vec<String> = cleanup(store, wanted).err().into_iter().collect();
    let conversation = Conversation { store, wanted, source, seen: &seen, stop };
    let whole = if wanted.by_dns() { WHOLE_BY_DNS } else { WHOLE };
    let result = blocking(conversation.hold(), whole, &seen, stop);
    // However it ended: by success, refusal, time-out or a person.
    let left = cleanup(store, wanted).err();
    notes.extend(left.filter(|why| !notes.contains(why)));
    notes.extend(conversation.clock().ok().flatten());
    match result {
        Ok(certificate) => Ok(Obtained { certificate, notes }),
        Err(failure) if notes.is_empty() => Err(failure),
        Err(failure) => Err(Failure { why: format!("{}; {}", failure.why, notes.join("; ")), ..failure }),
    }
}

/// Runs a conversation to its end, to its time, or until a person stops it.
fn blocking<T>(
    what: impl Future<Output = Result<T, Failure>>,
    whole: Duration,
    seen: &Seen,
    stop: &AtomicBool,
) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| Failure::ours(format!("no runtime for the ACME client: {e}")))?;
    let deadline = Instant::now() + whole;
    let result = runtime.block_on(async {
        let mut what = pin!(what);
        loop {
            match tokio::time::timeout(Duration::from_millis(100), what.as_mut()).await {
                Ok(done) => return done,
                Err(_) if stop.load(Ordering::Relaxed) => {
                    return Err(Failure::of(Kind::Stopped, "interrupted; the next run goes on with the order"));
                }
                Err(_) if Instant::now() >= deadline => {
                    let why = format!("the CA was not done within {}", count(whole.as_secs() / 60, "minute"));
                    return Err(Failure { kind: Kind::Outage, why, retry_after: seen.last().retry_after });
                }
                Err(_) => {}
            }
        }
    });
    // A look-up of a name may hang on a thread of its own.
    runtime.shutdown_timeout(Duration::from_secs(1));
    result
}

struct Conversation<'a> {
    store: &'a PublicStore,
    wanted: &'a Wanted,
    source: &'a Source,
    seen: &'a Seen,
    stop: &'a AtomicBool,
}

impl Conversation<'_> {
    async fn hold(&self) -> Result<Public, Failure> {
        let site = &self.wanted.site;
        let account = self.account().await?;
        self.crash_point("newAccount");
        self.clock()?;
        let (journal, mut order) = self.resume_or_begin(&account).await?;
        self.crash_point("newOrder");
        if order.state().status == OrderStatus::Pending {
            self.prove(&mut order).await?;
        }
        let key = KeyPair::from_pem(journal.key.reveal())
            .map_err(|_| Failure::ours("the key of the order under way cannot be read"))?;
        if order.state().status == OrderStatus::Ready {
            let csr = request(&self.wanted.names, &key).map_err(|e| Failure::ours(e.to_string()))?;
            patiently(async || order.finalize_csr(&csr).await).await.map_err(|e| self.failure(&e))?;
        }
        self.crash_point("finalize");
        let policy = RetryPolicy::new().timeout(PATIENCE);
        let pem = match patiently(async || order.poll_certificate(&policy).await).await {
            Ok(pem) => pem,
            Err(error) => {
                if order.state().status == OrderStatus::Invalid {
                    self.store.clear_journal(site)?;
                }
                return Err(self.failure(&error));
            }
        };
        let now = OffsetDateTime::now_utc();
        let found = Public::from_ca(self.expected(), &pem, &journal.key, now).and_then(|found| found.vouched(now));
        found.map(|found| Public { order: journal.url, ..found }).map_err(|why| {
            // What cannot be used now cannot be used later either.
            let dropped = self.store.clear_journal(site);
            Failure::ours(
                dropped.map_or_else(|e| e.to_string(), |()| format!("what the CA gave cannot be used: {why}")),
            )
        })
    }

    fn expected(&self) -> Expected<'_> {
        let profile = self.wanted.profile_at(self.source);
        Expected { names: &self.wanted.names, directory: &self.source.directory, profile }
    }

    /// A clock that is wrong by hours makes certificates that are not valid yet, or no longer; by minutes, a word about it.
    fn clock(&self) -> Result<Option<String>, Failure> {
        let (refused, told) = SKEW;
        let Some(skew) = self.seen.last().skew.filter(|skew| skew.abs() > told) else { return Ok(None) };
        let (minutes, way) = (skew.abs() / 60, if skew > 0 { "behind" } else { "ahead of" });
        let why = format!("this machine's clock is {} {way} the CA's; set it right", count(minutes, "minute"));
        if skew.abs() > refused { Err(Failure::ours(why)) } else { Ok(Some(why)) }
    }

    async fn resume_or_begin(&self, account: &instant_acme::Account) -> Result<(Journal, Order), Failure> {
        let (site, names, directory) = (&self.wanted.site, &self.wanted.names, &self.source.directory);
        let profile = self.wanted.profile_at(self.source);
        let current = self.store.current(site)?;
        let done = current.as_ref().and_then(|current| current.order.clone());
        let kept = self.store.journal(site)?;
        let kept = kept.filter(|j| {
            j.directory == *directory
                && j.names == *names
                && j.profile.as_deref() == profile
                && key::kind(j.key.reveal()) == self.wanted.key
                && (j.url.is_none() || j.url != done)
        });
        if let Some((journal, url)) = kept.as_ref().and_then(|j| Some((j, j.url.clone()?))) {
            match patiently(async || account.order(url.clone()).await).await {
                // One that is invalid, too old, or of a CA that has forgotten us is worth nothing any more.
                Ok(mut order) => {
                    if order.state().status != OrderStatus::Invalid {
                        return Ok((journal.clone(), order));
                    }
                }
                Err(error) => {
                    let failure = self.failure(&error);
                    // Not every CA has words for what it does not know.
                    let gone = matches!(self.seen.last().status, 404 | 410);
                    if failure.kind != Kind::Refused && !gone {
                        return Err(failure);
                    }
                }
            }
            self.store.clear_journal(site)?;
        }
        let key = match kept.filter(|j| j.url.is_none()) {
            Some(begun) => begun.key,
            None => internal_ca::Key::of(&key::generate(self.wanted.key).map_err(|e| Failure::ours(e.to_string()))?),
        };
        let profile = profile.map(ToOwned::to_owned);
        let mut journal = Journal { directory: directory.clone(), names: names.clone(), profile, url: None, key };
        // Shows that the disk takes what will have to be kept, before anything is asked for.
        self.store.reserve(site)?;
        self.store.put_journal(site, &journal)?;
        let replaced = current.filter(|c| c.directory.as_ref() == Some(directory)).and_then(|c| c.leaf());
        let order = self.new_order(account, replaced).await?;
        journal.url = Some(order.url().to_owned());
        self.store.put_journal(site, &journal)?;
        Ok((journal, order))
    }

    /// Tells the CA what the order replaces, where it knows of that (RFC 9773 §5): such renewals do not count against its
    /// limits. Where it does not take that, the order is made without.
    async fn new_order(&self, account: &instant_acme::Account, replaced: Option<Vec<u8>>) -> Result<Order, Failure> {
        let identifiers: Vec<Identifier> = self.wanted.names.iter().map(|name| identifier(name)).collect();
        let plain = || {
            let new = NewOrder::new(&identifiers);
            match self.wanted.profile_at(self.source) {
                Some(profile) => new.profile(profile),
                None => new,
            }
        };
        let replaced = replaced.map(CertificateDer::from);
        if let Some(id) = replaced.as_ref().and_then(|leaf| CertificateIdentifier::try_from(leaf).ok()) {
            match patiently(async || account.new_order(&plain().replaces(id.clone())).await).await {
                Ok(order) => return Ok(order),
                // The CA knows nothing of it; or it did not repeat it, which the library takes for an error.
                Err(Error::Unsupported(_)) => {}
                Err(Error::Other(why)) if why.to_string().starts_with("replaces") => {}
                // Whatever it has against it, be it its own mistake: it may have none without.
                Err(Error::Api(_)) if self.seen.last().status != 429 => {}
                Err(error) => return Err(self.failure(&error)),
            }
        }
        patiently(async || account.new_order(&plain()).await).await.map_err(|e| self.failure(&e))
    }

    /// Where a test may end the process; a rehearsal has places of its own.
    fn crash_point(&self, place: &str) {
        let rehearsal = if self.wanted.site.starts_with(REHEARSAL) { REHEARSAL } else { "" };
        crash_at(&format!("{rehearsal}{place}"));
    }

    fn failure(&self, error: &Error) -> Failure {
        classify(error, &self.seen.last())
    }
}

/// A name, or an address (RFC 8738).
fn identifier(name: &str) -> Identifier {
    name.parse().map_or_else(|_| Identifier::Dns(name.to_owned()), Identifier::Ip)
}

fn request(names: &[String], key: &KeyPair) -> Result<Vec<u8>, rcgen::Error> {
    let mut params = CertificateParams::new(names.to_vec())?;
    params.distinguished_name = DistinguishedName::new();
    Ok(params.serialize_request(key)?.der().to_vec())
}

#[cfg(test)]
mod tests;
