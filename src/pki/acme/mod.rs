//! Orders at a public CA (RFC 8555): takes the vault, names and a directory, gives a checked certificate, or a failure with its
//! kind. The only async code; its runtime lives and ends in here.
//!
//! A crash at any point costs nothing but time: the account key and the certificate's key are on disk before the request that
//! needs them, the order's URL from when the CA has told it, and the next call goes on from there.

use std::collections::BTreeSet;
use std::error::Error as _;
use std::time::Duration;

use instant_acme::{
    Account, AuthorizationStatus, ChallengeStatus, ChallengeType, Error, Identifier, Key, NewOrder, Order, OrderStatus,
    RetryPolicy,
};
use rcgen::{CertificateParams, DistinguishedName, KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use time::OffsetDateTime;

use crate::base::crash::crash_at;
use crate::pki::guard::{Guard, Last, Seen};
use crate::pki::internal_ca;
use crate::pki::store;
use crate::pki::vault::{AccountKey, Journal, Public, Vault};

/// Let's Encrypt's directory.
pub const LETS_ENCRYPT: &str = "https://acme-v02.api.letsencrypt.org/directory";
/// That of its staging.
pub const LETS_ENCRYPT_STAGING: &str = "https://acme-staging-v02.api.letsencrypt.org/directory";

/// How long one order may take in all.
const WHOLE: Duration = Duration::from_mins(5);
/// How long the CA may look at our answers, and then at the finished order.
const PATIENCE: Duration = Duration::from_secs(90);
/// How often a step is tried whose nonce the CA does not take. The library's own three are not enough in a storm.
const NONCES: usize = 12;
/// What our clock may be off by, seconds.
const SKEW: i64 = 3600;

/// What is asked for.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// Under what the order is journalled: the site's name.
    pub site: &'a str,
    /// The names, the main one first.
    pub names: &'a [String],
    /// The URL of the CA's directory.
    pub directory: &'a str,
    /// Where the CA may write to.
    pub contact: Option<&'a str>,
}

/// Whose turn it is after a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The CA allows no more for now.
    Limited,
    /// The CA does not answer as it should.
    Outage,
    /// The CA refuses what was asked for.
    Refused,
    /// Something here does not fit: the clock, the disk, what came back.
    Ours,
}

/// Why there is no certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Whose turn it is.
    pub kind: Kind,
    /// A sentence.
    pub why: String,
    /// Not before then, says the CA.
    pub retry_after: Option<OffsetDateTime>,
}

impl Failure {
    fn ours(why: impl Into<String>) -> Self {
        Self { kind: Kind::Ours, why: why.into(), retry_after: None }
    }
}

impl From<store::Error> for Failure {
    fn from(error: store::Error) -> Self {
        Self::ours(error.to_string())
    }
}

/// Orders a certificate, or goes on with the order that an earlier call began. The certificate is checked, not yet in use.
///
/// # Errors
/// [`Failure`].
pub fn order(vault: &Vault, wanted: &Wanted<'_>) -> Result<Public, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| Failure::ours(format!("no runtime for the ACME client: {e}")))?;
    let seen = Seen::default();
    let whole = async { tokio::time::timeout(WHOLE, Conversation { vault, wanted, seen: &seen }.hold()).await };
    let result = runtime.block_on(whole);
    // A look-up of a name may hang on a thread of its own.
    runtime.shutdown_timeout(Duration::from_secs(1));
    result.unwrap_or_else(|_| {
        let why = format!("the CA was not done within {} minutes", WHOLE.as_secs() / 60);
        Err(Failure { kind: Kind::Outage, why, retry_after: seen.last().retry_after })
    })
}

struct Conversation<'a> {
    vault: &'a Vault,
    wanted: &'a Wanted<'a>,
    seen: &'a Seen,
}

impl Conversation<'_> {
    async fn hold(&self) -> Result<Public, Failure> {
        let account_key = self.vault.account_key()?;
        let account = self.account(&account_key).await?;
        crash_at("newAccount");
        self.clock()?;
        let (journal, mut order) = self.resume_or_begin(&account).await?;
        crash_at("newOrder");
        if order.state().status == OrderStatus::Pending {
            self.prove(&mut order).await?;
        }
        let key = KeyPair::from_pem(journal.key.reveal())
            .map_err(|_| Failure::ours("the key of the order under way cannot be read"))?;
        if order.state().status == OrderStatus::Ready {
            let csr = request(self.wanted.names, &key).map_err(|e| Failure::ours(e.to_string()))?;
            patiently(async || order.finalize_csr(&csr).await).await.map_err(|e| self.failure(&e))?;
        }
        crash_at("finalize");
        let policy = RetryPolicy::new().timeout(PATIENCE);
        let pem = match patiently(async || order.poll_certificate(&policy).await).await {
            Ok(pem) => pem,
            Err(error) => {
                if order.state().status == OrderStatus::Invalid {
                    self.vault.clear_journal(self.wanted.site)?;
                }
                return Err(self.failure(&error));
            }
        };
        let Wanted { names, directory, .. } = *self.wanted;
        let found = Public::from_ca(names, directory, &pem, &journal.key, OffsetDateTime::now_utc());
        found.map(|found| Public { order: journal.url, ..found }).map_err(|why| {
            // What cannot be used now cannot be used later either.
            let dropped = self.vault.clear_journal(self.wanted.site);
            Failure::ours(
                dropped.map_or_else(|e| e.to_string(), |()| format!("what the CA gave cannot be used: {why}")),
            )
        })
    }

    /// The account of our key: the CA makes it where it is not there (RFC 8555 §7.3.1).
    async fn account(&self, key: &AccountKey) -> Result<Account, Failure> {
        let directory = self.wanted.directory;
        let ask = async || {
            let der = PrivatePkcs8KeyDer::from(key.der());
            let signer = Key::from_pkcs8_der(der.clone_key())?;
            let guard = Guard::new(self.seen.clone()).map_err(|why| Error::Other(why.into()))?;
            let builder = Account::builder_with_http(Box::new(guard));
            builder.create_from_key((signer, PrivateKeyDer::from(der)), directory.to_owned()).await
        };
        let (account, _) = patiently(ask).await.map_err(|e| self.failure(&e))?;
        if account.key_thumbprint() != key.thumbprint() {
            return Err(Failure::ours("the load balancers answer with the thumbprint of another key"));
        }
        if let Some(contact) = self.wanted.contact
            && self.vault.contact(directory)?.as_deref() != Some(contact)
        {
            // Whether the CA can write is no reason to go without a certificate; the next order tells it again.
            let mail = format!("mailto:{contact}");
            if patiently(async || account.update_contacts(&[&mail]).await).await.is_ok() {
                self.vault.put_contact(directory, contact)?;
            }
        }
        Ok(account)
    }

    /// A clock that is wrong by hours makes certificates that are not valid yet, or no longer.
    fn clock(&self) -> Result<(), Failure> {
        match self.seen.last().skew {
            Some(skew) if skew.abs() > SKEW => {
                let (minutes, way) = (skew.abs() / 60, if skew > 0 { "behind" } else { "ahead of" });
                Err(Failure::ours(format!("this machine's clock is {minutes} minutes {way} the CA's; set it right")))
            }
            _ => Ok(()),
        }
    }

    async fn resume_or_begin(&self, account: &Account) -> Result<(Journal, Order), Failure> {
        let Wanted { site, names, directory, .. } = *self.wanted;
        let done = self.vault.current(site)?.and_then(|current| current.order);
        let kept = self.vault.journal(site)?;
        let kept = kept.filter(|j| j.directory == directory && j.names == names && (j.url.is_none() || j.url != done));
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
                    if failure.kind != Kind::Refused {
                        return Err(failure);
                    }
                }
            }
            self.vault.clear_journal(site)?;
        }
        let key = match kept.filter(|j| j.url.is_none()) {
            Some(begun) => begun.key,
            None => internal_ca::Key::of(
                &KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(|e| Failure::ours(e.to_string()))?,
            ),
        };
        let mut journal = Journal { directory: directory.to_owned(), names: names.to_vec(), url: None, key };
        // Also shows that the disk takes what will have to be kept.
        self.vault.put_journal(site, &journal)?;
        let identifiers: Vec<Identifier> = names.iter().cloned().map(Identifier::Dns).collect();
        let new = NewOrder::new(&identifiers);
        let order = patiently(async || account.new_order(&new).await).await.map_err(|e| self.failure(&e))?;
        journal.url = Some(order.url().to_owned());
        self.vault.put_journal(site, &journal)?;
        Ok((journal, order))
    }

    /// Lets the CA look at our answers and waits until it has.
    async fn prove(&self, order: &mut Order) -> Result<(), Failure> {
        let mut told = BTreeSet::new();
        patiently(async || tell(order, &mut told).await).await.map_err(|e| self.failure(&e))?;
        crash_at("challenge");
        let policy = RetryPolicy::new().timeout(PATIENCE);
        let error = match patiently(async || order.poll_ready(&policy).await).await {
            Ok(OrderStatus::Ready) => return Ok(()),
            Ok(_) => None,
            Err(error) => Some(error),
        };
        let failure = error.map(|e| self.failure(&e));
        if let Some(failure) = failure.as_ref().filter(|f| f.kind != Kind::Refused) {
            return Err(failure.clone());
        }
        let words = objections(order).await;
        self.vault.clear_journal(self.wanted.site)?;
        let why = match (words.is_empty(), failure) {
            (true, Some(failure)) => failure.why,
            (true, None) => "the CA does not say why it refuses".to_owned(),
            (false, _) => words.join("; "),
        };
        Err(Failure { kind: Kind::Refused, why, retry_after: None })
    }

    fn failure(&self, error: &Error) -> Failure {
        classify(error, &self.seen.last())
    }
}

/// Tells the CA, once for each name, that our load balancers answer. They do so all the time and for every token.
async fn tell(order: &mut Order, told: &mut BTreeSet<String>) -> Result<(), Error> {
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let mut authorization = authorization?;
        let name = authorization.identifier().to_string();
        if authorization.status != AuthorizationStatus::Pending || told.contains(&name) {
            continue;
        }
        let Some(mut challenge) = authorization.challenge(ChallengeType::Http01) else {
            return Err(Error::Other(format!("the CA offers no http-01 for {name}").into()));
        };
        if challenge.status == ChallengeStatus::Pending {
            match challenge.set_ready().await {
                // A run that died has told it already, and the CA looks.
                Err(Error::Api(problem)) if is(&problem, "malformed") => {}
                other => other?,
            }
        }
        told.insert(name);
    }
    Ok(())
}

/// What the CA has against each name, in its own words.
async fn objections(order: &mut Order) -> Vec<String> {
    let mut words = Vec::new();
    let mut authorizations = order.authorizations();
    while let Some(Ok(mut authorization)) = authorizations.next().await {
        let name = authorization.identifier().to_string();
        if let Ok(state) = patiently(async || authorization.refresh().await.map(|_| ())).await.map(|()| &*authorization)
        {
            let errors = state.challenges.iter().filter_map(|c| c.error.as_ref());
            words.extend(errors.map(|e| format!("{name}: {}", clean(&e.to_string()))));
        }
    }
    words
}

/// Tries a step again whose nonce was not taken.
async fn patiently<T>(mut step: impl AsyncFnMut() -> Result<T, Error>) -> Result<T, Error> {
    for _ in 1..NONCES {
        match step().await {
            Err(Error::Api(problem)) if is(&problem, "badNonce") => {}
            other => return other,
        }
    }
    step().await
}

fn is(problem: &instant_acme::Problem, kind: &str) -> bool {
    problem.r#type.as_deref().and_then(|t| t.strip_prefix("urn:ietf:params:acme:error:")) == Some(kind)
}

fn request(names: &[String], key: &KeyPair) -> Result<Vec<u8>, rcgen::Error> {
    let mut params = CertificateParams::new(names.to_vec())?;
    params.distinguished_name = DistinguishedName::new();
    Ok(params.serialize_request(key)?.der().to_vec())
}

/// Whose turn it is, by what was said and by the status and header that the library does not keep.
fn classify(error: &Error, last: &Last) -> Failure {
    let retry_after = last.retry_after;
    let (kind, why) = match error {
        Error::Api(problem) if is(problem, "rateLimited") || last.status == 429 => (Kind::Limited, problem.to_string()),
        Error::Api(problem) if is(problem, "serverInternal") || last.status >= 500 => {
            (Kind::Outage, problem.to_string())
        }
        Error::Api(problem) => (Kind::Refused, problem.to_string()),
        Error::Json(_) if last.status == 429 => (Kind::Limited, "the CA answered 429 (too many requests)".to_owned()),
        Error::Json(_) if !(200..300).contains(&last.status) => {
            (Kind::Outage, format!("the CA answered {} and no ACME", last.status))
        }
        Error::Json(_) => (Kind::Refused, "what answers is no ACME server".to_owned()),
        Error::Timeout(_) => (Kind::Outage, "the CA is still at work on the order".to_owned()),
        Error::Other(_) | Error::Hyper(_) | Error::Http(_) => (Kind::Outage, causes(error)),
        _ if last.status >= 500 => (Kind::Outage, format!("the CA answered {} and no ACME", last.status)),
        other => (Kind::Refused, causes(other)),
    };
    let retry_after = retry_after.filter(|_| matches!(kind, Kind::Limited | Kind::Outage));
    Failure { kind, why: clean(&why), retry_after }
}

/// An error with what is behind it, each once.
fn causes(error: &Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let words = cause.to_string();
        if !text.contains(&words) {
            text = format!("{text}: {words}");
        }
        source = cause.source();
    }
    text
}

/// One line without control characters, of a bounded length: a CA is a stranger.
fn clean(text: &str) -> String {
    let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(600).collect();
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests;
