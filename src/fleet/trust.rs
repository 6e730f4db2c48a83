//! Sites that would lose the trust of their visitors: takes what load balancers hold and what a plan brings, gives each site that shows
//! a certificate which browsers trust, and is to show one that they do not.

use time::OffsetDateTime;

use crate::base::diagnostic::Diagnostic;
use crate::base::net::HostName;
use crate::base::warning::Warning;
use crate::fleet::survey::Prepared;
use crate::inventory::site::{Role, Site, WebSite};
use crate::pki::internal_ca::date;
use crate::pki::internal_store::Error;
use crate::pki::public::Public;
use crate::pki::public_store::PublicStore;
use crate::pki::{guard, public};
use crate::plan::state::Digest;
use crate::service::certificates::site_pem;
use crate::service::certificates::wanted::{LETS_ENCRYPT, LETS_ENCRYPT_STAGING, Wanted, host};

/// Hosts of directories whose authorities browsers have (ccadb.org, «Included CA certificates», by their own manuals).
const TRUSTED: [&str; 9] = [
    "acme.zerossl.com",
    "acme.ssl.com",
    "acme.sectigo.com",
    "acme.digicert.com",
    "acme.globalsign.com",
    "api.buypass.com",
    "dv.acme-v02.api.pki.goog",
    "one.digicert.com",
    "emea.acme.atlas.globalsign.com",
];

/// What each of these sites loses, as errors that its word silences; a site that is silenced is none.
///
/// # Errors
/// [`Error`] of the store.
pub fn lost(site: &Site, prepared: &Prepared, now: OffsetDateTime) -> Result<Vec<Diagnostic>, Error> {
    if !site.tells(Warning::TrustLost) {
        return Ok(Vec::new());
    }
    let Some(store) = PublicStore::existing(&site.state)? else { return Ok(Vec::new()) };
    let mut found = Vec::new();
    for web in site.sites.values() {
        let Some(current) = store.current(web.name.as_str())? else { continue };
        if !is_shown(site, prepared, web, &current) || !is_trusted(&current, now) {
            continue;
        }
        let Some(by) = successor(site, prepared, web, now) else { continue };
        found.push(
            Diagnostic::error(format!(
                "{} shows a certificate that browsers trust, until {}, and is to show one {by}",
                web.name,
                date(current.life.not_after)
            ))
            .help("to try something else, give it a site, or a copy of the inventory with a state of its own")
            .help(Warning::TrustLost.silencing()),
        );
    }
    Ok(found)
}

/// Certificates that were bought and for which nobody vouches, as far as this machine can tell: no error, as a company's own authority
/// need not be among its roots.
pub fn doubts(site: &Site, now: OffsetDateTime) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    for web in site.sites.values() {
        let Some(bought) = web.certificate.as_ref().filter(|bought| !bought.is_by_ca) else { continue };
        if guard::vouched(bought.chain.ders(), now).is_err() {
            found.push(
                Diagnostic::warning(
                    Warning::Untrusted,
                    format!("no authority that this machine trusts vouches for the certificate of `{}`", web.name),
                )
                .at(&bought.span)
                .label(format!("it is by {}", bought.chain.issuer))
                .help("append the intermediates that are missing; of a company's own CA, name its certificate: `ca: company-ca.pem`"),
            );
        }
    }
    found
}

fn is_trusted(current: &Public, now: OffsetDateTime) -> bool {
    !current.revoked && current.directory.is_some() && guard::vouched(&current.ders(), now).is_ok()
}

/// Whether a load balancer holds it: what is in our state may be of long ago.
fn is_shown(site: &Site, prepared: &Prepared, web: &WebSite, current: &Public) -> bool {
    let (path, digest) = (site_pem(&web.name), Digest::of(public::file(current).as_bytes()));
    let holds = |host: &HostName| {
        let observed = prepared.survey.observed.get(host)?;
        observed.files.get(&path).map(|file| file.digest.as_ref() == Some(&digest))
    };
    site.with_role(Role::Lb).any(|lb| holds(&lb.name) == Some(true))
}

/// What comes in its place, after «is to show one», where browsers do not trust that, or nobody knows.
fn successor(site: &Site, prepared: &Prepared, web: &WebSite, now: OffsetDateTime) -> Option<String> {
    if let Some(bought) = &web.certificate {
        let unknown = guard::vouched(bought.chain.ders(), now).is_err();
        return unknown.then(|| format!("by {}, whom this machine does not trust", bought.chain.issuer));
    }
    if site.signs(web) {
        return Some("of the internal authority, which no browser trusts".to_owned());
    }
    let ordered = prepared.plan.steps.iter().any(|step| step.subject == web.name.as_str());
    let wanted = Wanted::of(site, web);
    let source = wanted.sources.first().filter(|_| ordered)?;
    match source.directory.as_str() {
        LETS_ENCRYPT => None,
        LETS_ENCRYPT_STAGING => Some("of Let's Encrypt's staging, which no browser trusts".to_owned()),
        directory if TRUSTED.contains(&host(directory)) => None,
        directory => Some(format!("from {}, of which it is not known whether browsers trust it", host(directory))),
    }
}
