//! Our account at a directory: found by its key, made where the CA does not have it.

use instant_acme::{Account, Error, Key};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

use super::Conversation;
use super::binding::{self, Bound};
use super::failure::{Failure, patiently};
use crate::inventory::reveal::reveal;
use crate::pki::account_key::AccountKey;
use crate::pki::guard::Guard;
use crate::pki::public_store::KnownAccount;

impl Conversation<'_> {
    /// The account of our key.
    pub(super) async fn account(&self) -> Result<Account, Failure> {
        let key = self.store.account_key()?;
        let directory = &self.source.directory;
        let account = match &self.source.binding {
            None => self.by_key(&key).await?,
            Some((kid, reference)) => {
                let known = self.store.account(directory)?.map(|known| known.url);
                let url = if let Some(url) = known {
                    url
                } else {
                    let mac = reveal("eab", reference, &self.wanted.folder).map_err(Failure::ours)?;
                    let bound = Bound { kid, mac: binding::mac(mac.reveal()).map_err(Failure::ours)? };
                    self.bound(&key, &bound).await?
                };
                self.by_url(&key, &url).await?
            }
        };
        if account.key_thumbprint() != key.thumbprint() {
            return Err(Failure::ours("the load balancers answer with the thumbprint of another key"));
        }
        self.remember(&account).await?;
        self.offers_profile(&account)?;
        Ok(account)
    }

    /// The CA makes it where it is not there (RFC 8555 §7.3.1).
    async fn by_key(&self, key: &AccountKey) -> Result<Account, Failure> {
        let ask = async || {
            let der = PrivatePkcs8KeyDer::from(key.der());
            let signer = Key::from_pkcs8_der(der.clone_key())?;
            let builder = Account::builder_with_http(Box::new(self.guard()?));
            builder.create_from_key((signer, PrivateKeyDer::from(der)), self.source.directory.clone()).await
        };
        Ok(patiently(ask).await.map_err(|e| self.failure(&e))?.0)
    }

    async fn by_url(&self, key: &AccountKey, url: &str) -> Result<Account, Failure> {
        let ask = async || {
            let builder = Account::builder_with_http(Box::new(self.guard()?));
            let der = PrivatePkcs8KeyDer::from(key.der());
            builder.from_parts(url.to_owned(), der, self.source.directory.clone()).await
        };
        patiently(ask).await.map_err(|e| self.failure(&e))
    }

    async fn bound(&self, key: &AccountKey, bound: &Bound<'_>) -> Result<String, Failure> {
        let (directory, contact) = (&self.source.directory, self.wanted.contact.as_deref());
        let ask = async || binding::register(&self.guard()?, directory, key, bound, contact).await;
        patiently(ask).await.map_err(|e| self.failure(&e))
    }

    fn guard(&self) -> Result<Guard, Error> {
        Guard::new(self.seen.clone()).map_err(|why| Error::Other(why.into()))
    }

    /// Keeps its URL, and tells the CA the mail address where it has another.
    async fn remember(&self, account: &Account) -> Result<(), Failure> {
        let directory = &self.source.directory;
        let known = self.store.account(directory)?;
        let mut now =
            KnownAccount { url: account.id().to_owned(), contact: known.as_ref().and_then(|k| k.contact.clone()) };
        if known.as_ref().is_some_and(|known| known.url != now.url) {
            now.contact = None;
        }
        if let Some(contact) = &self.wanted.contact
            && now.contact.as_ref() != Some(contact)
        {
            // Whether the CA can write is no reason to go without a certificate; the next order tells it again.
            let mail = format!("mailto:{contact}");
            match patiently(async || account.update_contacts(&[&mail]).await).await {
                Ok(()) => now.contact = Some(contact.clone()),
                Err(Error::Api(problem)) if super::failure::is(&problem, "accountDoesNotExist") => {
                    self.store.put_account(directory, None)?;
                    return Err(Failure::ours("the CA has forgotten our account; the next try makes it anew"));
                }
                Err(_) => {}
            }
        }
        if known.as_ref() != Some(&now) {
            self.store.put_account(directory, Some(now))?;
        }
        Ok(())
    }

    fn offers_profile(&self, account: &Account) -> Result<(), Failure> {
        let Some(wanted) = self.wanted.profile_at(self.source) else { return Ok(()) };
        let offered: Vec<&str> = account.profiles().map(|profile| profile.name).collect();
        if offered.contains(&wanted) {
            return Ok(());
        }
        let host = self.source.host();
        Err(Failure::ours(match offered.as_slice() {
            [] => format!("{host} offers no profiles: take `profile` out of `certificates`"),
            some => format!("{host} offers no profile `{wanted}`; it offers {}", some.join(", ")),
        }))
    }
}
