//! Sites that would lose the trust of their visitors: takes what load balancers hold and what a plan brings, gives each site that shows
//! a certificate which browsers trust, and is to show one that they do not, or of which nobody knows.

use time::OffsetDateTime;

use crate::base::diagnostic::Diagnostic;
use crate::base::net::{DnsName, HostName};
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
use crate::service::certificates::wanted::{LETS_ENCRYPT, Wanted, host, identifiers};

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

/// Hosts of directories by which a CA is tried (by their manuals): no browser has their roots.
const STAGINGS: [(&str, &str); 3] = [
    ("acme-staging-v02.api.letsencrypt.org", "Let's Encrypt's staging"),
    ("dv.acme-v02.test-api.pki.goog", "Google's staging"),
    ("api.test4.buypass.no", "Buypass' test authority"),
];

/// What is known of those who vouch for a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Standing {
    Trusted,
    /// No browser trusts them: who they are, after «is to show one».
    Untrusted(String),
    /// The same of those of whom it is not known.
    Unknown(String),
}

/// Of whoever stands behind a directory. A company's CA, and one that is new, are unknown: their URL tells nothing of who trusts them.
fn standing(directory: &str) -> Standing {
    let host = host(directory);
    if let Some((_, who)) = STAGINGS.iter().find(|(staging, _)| *staging == host) {
        Standing::Untrusted(format!("of {who}, which no browser trusts"))
    } else if directory == LETS_ENCRYPT || TRUSTED.contains(&host) {
        Standing::Trusted
    } else {
        Standing::Unknown(format!("from {host}, of which it is not known whether browsers trust it"))
    }
}

/// What each of these sites loses, as errors that its word silences; a site that is silenced is none. Where it is not known whether it
/// loses anything, a warning: the person who names the issuer is asked before anything is done, and decides.
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
        let Some(current) = store.current(web.name.as_str())?.or(store.kept(web.name.as_str())?) else { continue };
        if !is_shown(site, prepared, &web.name, &current) || !is_trusted(&current, now) {
            continue;
        }
        let message = |by: &str| {
            let until = date(current.life.not_after);
            format!("{} shows a certificate that browsers trust, until {until}, and is to show one {by}", web.name)
        };
        found.extend(match successor(site, prepared, web, now) {
            Standing::Trusted => None,
            Standing::Untrusted(by) => Some(
                Diagnostic::error(message(&by))
                    .help("to try something else, give it a site, or a copy of the inventory with a state of its own")
                    .help(Warning::TrustLost.silencing()),
            ),
            Standing::Unknown(by) => Some(
                Diagnostic::warning(Warning::TrustLost, message(&by))
                    .help("try it on a site that has no visitors yet, if you do not know who trusts that authority"),
            ),
        });
    }
    let gone = store.others("")?.into_iter().filter_map(|other| {
        let name: DnsName = other.names.first()?.parse().ok()?;
        let leaves = !site.sites.contains_key(&name) && is_shown(site, prepared, &name, &other);
        (leaves && is_trusted(&other, now)).then_some(other)
    });
    let gone: Vec<Public> = gone.collect();
    for web in site.sites.values().filter(|web| site.orders(web)) {
        let names = identifiers(web);
        let shown = store.current(web.name.as_str())?.or(store.stand_in(web.name.as_str(), &names, now)?);
        let bare = bare(&names, shown.as_ref(), &gone);
        if !bare.is_empty() {
            let verb = if bare.len() == 1 { "shows" } else { "show" };
            found.push(
                Diagnostic::warning(
                    Warning::TrustLost,
                    format!(
                        "{} {verb} a certificate that browsers trust, and will show none until {} has one for that",
                        bare.join(", "),
                        web.name
                    ),
                )
                .help("it is ordered at the end of the run; if the CA does not give it then, visitors are refused until it does"),
            );
        }
    }
    Ok(found)
}

/// The names of a site for which the certificate of one that goes is, and not the one that it will show.
fn bare<'a>(names: &'a [String], shown: Option<&Public>, gone: &[Public]) -> Vec<&'a str> {
    let lost =
        |name: &&String| !shown.is_some_and(|shown| shown.is_for(name)) && gone.iter().any(|old| old.is_for(name));
    names.iter().filter(lost).map(String::as_str).collect()
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
fn is_shown(site: &Site, prepared: &Prepared, name: &DnsName, current: &Public) -> bool {
    let (path, digest) = (site_pem(name), Digest::of(public::file(current).as_bytes()));
    let holds = |host: &HostName| {
        let observed = prepared.survey.observed.get(host)?;
        observed.files.get(&path).map(|file| file.digest.as_ref() == Some(&digest))
    };
    site.with_role(Role::Lb).any(|lb| holds(&lb.name) == Some(true))
}

/// Who vouches for what comes in its place; whoever does now, where nothing comes.
fn successor(site: &Site, prepared: &Prepared, web: &WebSite, now: OffsetDateTime) -> Standing {
    if let Some(bought) = &web.certificate {
        return match guard::vouched(bought.chain.ders(), now) {
            Ok(()) => Standing::Trusted,
            Err(_) => Standing::Untrusted(format!("by {}, whom this machine does not trust", bought.chain.issuer)),
        };
    }
    if site.signs(web) {
        return Standing::Untrusted("of the internal authority, which no browser trusts".to_owned());
    }
    let ordered = prepared.plan.steps.iter().any(|step| step.subject == web.name.as_str());
    let wanted = Wanted::of(site, web);
    let source = wanted.sources.first().filter(|_| ordered);
    source.map_or(Standing::Trusted, |source| standing(&source.directory))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pki::sample::{expected, from_ca};
    use crate::service::certificates::wanted::LETS_ENCRYPT_STAGING;

    /// Two sites become one: the name that comes in had a certificate, which is not the one that is shown.
    #[test]
    fn names_that_lose_their_certificate_are_told() {
        let names = |all: &[&str]| all.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let of = |all: &[&str]| from_ca(expected(&names(all)), 90, OffsetDateTime::now_utc());
        let (shop, blog, wild) = (of(&["a.example.com"]), of(&["b.example.com"]), of(&["*.example.org"]));
        let both = names(&["a.example.com", "b.example.com", "c.example.com"]);
        assert_eq!(bare(&both, Some(&shop), std::slice::from_ref(&blog)), ["b.example.com"]);
        assert_eq!(bare(&both, None, &[shop.clone(), blog.clone()]), ["a.example.com", "b.example.com"]);
        assert!(bare(&both, Some(&shop), std::slice::from_ref(&wild)).is_empty());
        assert!(bare(&both, Some(&of(&["*.example.com"])), &[shop, blog]).is_empty());
        assert_eq!(bare(&names(&["d.example.org"]), None, &[wild]), ["d.example.org"]);
    }

    #[test]
    fn a_directory_is_trusted_a_staging_or_not_known() {
        for directory in [
            LETS_ENCRYPT,
            "https://acme.zerossl.com/v2/DV90",
            "https://dv.acme-v02.api.pki.goog/directory",
            "https://api.buypass.com/acme/directory",
        ] {
            assert_eq!(standing(directory), Standing::Trusted, "{directory}");
        }
        for (directory, who) in [
            (LETS_ENCRYPT_STAGING, "Let's Encrypt's staging"),
            ("https://dv.acme-v02.test-api.pki.goog/directory", "Google's staging"),
            ("https://api.test4.buypass.no/acme/directory", "Buypass' test authority"),
        ] {
            assert_eq!(standing(directory), Standing::Untrusted(format!("of {who}, which no browser trusts")));
        }
        for (directory, host) in [
            ("https://ca.example.com/acme/acme/directory", "ca.example.com"),
            ("https://acme.zerossl.com.example.com/v2/DV90", "acme.zerossl.com.example.com"),
            ("https://acme-v02.api.letsencrypt.org/other", "acme-v02.api.letsencrypt.org"),
            ("https://ca.internal:9000/directory", "ca.internal:9000"),
        ] {
            let words = format!("from {host}, of which it is not known whether browsers trust it");
            assert_eq!(standing(directory), Standing::Unknown(words), "{directory}");
        }
    }
}
