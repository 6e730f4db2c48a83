//! Convincing the CA: over HTTP, where the load balancers answer all the time and for every token, or by TXT records that a
//! hook sets and removes.

use std::collections::BTreeSet;
use std::time::Duration;

use instant_acme::{
    AuthorizationStatus, ChallengeStatus, ChallengeType, Error, Identifier, Order, OrderStatus, RetryPolicy,
};

use super::failure::{Failure, Kind, is, patiently};
use super::{Conversation, PATIENCE};
use crate::base::visible;
use crate::inventory::site::Challenge;
use crate::pki::dns;
use crate::pki::hook::{self, Verb};
use crate::pki::public_store::PublicStore;
use crate::service::certificates::wanted::Wanted;

/// How long records may take to reach every name server of the zone.
const SPREAD: Duration = Duration::from_mins(5);

impl Conversation<'_> {
    /// Lets the CA look at our answers and waits until it has.
    pub(super) async fn prove(&self, order: &mut Order) -> Result<(), Failure> {
        let kind = if self.wanted.by_dns() { ChallengeType::Dns01 } else { ChallengeType::Http01 };
        if let Challenge::Dns01 { hook } = &self.wanted.challenge {
            self.present(order, hook).await?;
        }
        let mut told = BTreeSet::new();
        patiently(async || tell(order, &kind, &mut told).await).await.map_err(|e| self.failure(&e))?;
        self.crash_point("challenge");
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
        self.store.clear_journal(&self.wanted.site)?;
        let why = match (words.is_empty(), failure) {
            (true, Some(failure)) => failure.why,
            (true, None) => "the CA does not say why it refuses".to_owned(),
            (false, _) => words.join("; "),
        };
        Err(Failure::of(Kind::Refused, why))
    }

    /// Has a TXT record set for each name (RFC 8555 §8.4), and waits until all name servers of the zone give all of them. A
    /// name and its wildcard share one place.
    async fn present(&self, order: &mut Order, argv: &[String]) -> Result<(), Failure> {
        let records = patiently(async || records(order).await).await.map_err(|e| self.failure(&e))?;
        // On disk before they are anywhere else, so that whoever comes next can remove them.
        self.store.put_presented(&self.wanted.site, &records)?;
        for (name, value) in &records {
            hook::run(argv, &self.wanted.folder, Verb::Present, (name, value), self.stop).map_err(Failure::ours)?;
        }
        self.crash_point("present");
        dns::spread(&records, SPREAD).await.map_err(Failure::ours)
    }
}

/// Has the hook remove what it set. What it cannot remove stays remembered.
pub(in crate::pki) fn cleanup(store: &PublicStore, wanted: &Wanted) -> Result<(), String> {
    let presented = store.presented(&wanted.site).map_err(|e| e.to_string())?;
    let Challenge::Dns01 { hook } = &wanted.challenge else { return Ok(()) };
    if presented.is_empty() {
        return Ok(());
    }
    let never = std::sync::atomic::AtomicBool::new(false);
    let (mut left, mut words) = (Vec::new(), Vec::new());
    for (name, value) in presented {
        if let Err(why) = hook::run(hook, &wanted.folder, Verb::Cleanup, (&name, &value), &never) {
            left.push((name, value));
            words.push(why);
        }
    }
    store.put_presented(&wanted.site, &left).map_err(|e| e.to_string())?;
    if words.is_empty() { Ok(()) } else { Err(words.join("; ")) }
}

/// The records that the open authorizations of an order ask for.
async fn records(order: &mut Order) -> Result<Vec<(String, String)>, Error> {
    let mut records = Vec::new();
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let mut authorization = authorization?;
        if authorization.status != AuthorizationStatus::Pending {
            continue;
        }
        let bare = match authorization.identifier().identifier {
            Identifier::Dns(name) => name.clone(),
            _ => return Err(Error::Other("an address cannot be proved by dns-01".into())),
        };
        let Some(challenge) = authorization.challenge(ChallengeType::Dns01) else {
            return Err(Error::Other(format!("the CA offers no dns-01 for {bare}").into()));
        };
        records.push((format!("_acme-challenge.{bare}"), challenge.key_authorization().dns_value()));
    }
    Ok(records)
}

/// Tells the CA, once for each name, that it may look.
async fn tell(order: &mut Order, kind: &ChallengeType, told: &mut BTreeSet<String>) -> Result<(), Error> {
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let mut authorization = authorization?;
        let name = authorization.identifier().to_string();
        if authorization.status != AuthorizationStatus::Pending || told.contains(&name) {
            continue;
        }
        let Some(mut challenge) = authorization.challenge(kind.clone()) else {
            let way = if *kind == ChallengeType::Dns01 { "dns-01" } else { "http-01" };
            return Err(Error::Other(format!("the CA offers no {way} for {name}").into()));
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
            let errors = state.challenges.iter().filter_map(|c| Some((&c.token, c.error.as_ref()?)));
            // A CA quotes the URL that it asked for; its token is nobody's business.
            words.extend(
                errors.map(|(token, e)| format!("{name}: {}", visible::sentence(&e.to_string().replace(token, "…")))),
            );
        }
    }
    words
}
