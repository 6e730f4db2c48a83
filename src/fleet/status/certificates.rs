//! Certificates in the status: takes what the state knows of them, which of them stand on which host, and which running daemons have
//! loaded, gives when each ends, and what is wrong.

use std::collections::BTreeMap;

use super::{CertificateView, Wanted};
use crate::base::material::CertificateId;
use crate::base::net::{DnsName, HostName};
use crate::pki::known::Known;
use crate::plan::said::{Finding, Shown};
use crate::service::certificates::schedule::Decision;
use crate::service::status::Seen;

/// Where the state knows one, that is when it ends; else what a daemon shows is.
pub(super) fn judge(
    seen: &Seen<'_>,
    wanted: &BTreeMap<HostName, Wanted>,
    known: &BTreeMap<&CertificateId, &Known>,
    shown: &[Shown],
    findings: &mut Vec<Finding>,
) -> Vec<CertificateView> {
    let mut all: BTreeMap<(HostName, Option<DnsName>), i64> = BTreeMap::new();
    let mut used: BTreeMap<&CertificateId, &Known> = BTreeMap::new();
    // Of a host that was never set up, that is said, and nothing more.
    let set_up = |host: &HostName| seen.observed.get(host).is_some_and(|observed| !observed.manifest.is_empty());
    let held = wanted.iter().filter(|(host, _)| set_up(host));
    for (host, id) in held.flat_map(|(host, wanted)| wanted.certificates.iter().map(move |id| (host, id))) {
        let Some((id, known)) = known.get_key_value(id) else { continue };
        used.insert(id, known);
        if let Some(life) = known.life {
            let end = all.entry((host.clone(), id.site().cloned())).or_insert(life.not_after);
            *end = (*end).min(life.not_after);
        }
    }
    for one in shown {
        if let Some(end) = one.not_after {
            all.entry((one.host.clone(), one.site.clone())).or_insert(end);
        }
        let ours = one.site.clone().and_then(|site| known.get(&CertificateId::Site(site)).copied());
        findings.extend(ours.and_then(|ours| another(one, ours)));
    }
    findings.extend(used.into_values().filter_map(|known| renewal(known, seen.now)));
    let each = all.into_iter().map(|((host, site), not_after)| CertificateView { host, site, not_after });
    let each: Vec<CertificateView> = each.collect();
    for one in each.iter().filter(|one| one.not_after <= seen.now) {
        let whose = one
            .site
            .as_ref()
            .map_or_else(|| "its own certificate".to_owned(), |site| format!("the certificate of {site}"));
        findings.push(Finding {
            host: Some(one.host.clone()),
            what: format!("{whose} has ended"),
            help: "`infra cert renew` replaces it, but for one that was bought".to_owned(),
            minor: false,
        });
    }
    each
}

/// A daemon that has loaded another certificate of a site than the one in use.
fn another(shown: &Shown, ours: &Known) -> Option<Finding> {
    let site = shown.site.as_ref()?;
    let life = ours.life?;
    let what = match shown.not_after {
        Some(end) if end == life.not_after => return None,
        Some(_) => format!("shows another certificate of {site} than the one in use"),
        None => format!("has not loaded the certificate of {site}"),
    };
    let help = "`infra apply` brings it; `infra cert status` looks at every place".to_owned();
    Some(Finding { host: Some(shown.host.clone()), what, help, minor: false })
}

/// A certificate that is due.
fn renewal(known: &Known, now: i64) -> Option<Finding> {
    let (host, whose) = match &known.id {
        CertificateId::Site(name) => (None, format!("the certificate of {name}")),
        CertificateId::Hop { host, .. } => (Some(host.clone()), "its own certificate".to_owned()),
    };
    if known.life.is_none() {
        let (what, help) = (format!("{whose} is not there yet"), "`infra apply` makes or orders it".to_owned());
        return Some(Finding { host, what, help, minor: false });
    }
    if matches!(known.next, Decision::Good { .. }) {
        return None;
    }
    let failing = known.is_failing(now);
    if let (Some(file), Decision::Order { why, .. }) = (&known.by_hand, &known.next) {
        let help =
            format!("it was bought, and infra does not renew it: put its successor into {file}, and run `infra apply`");
        return Some(Finding { host, what: format!("{whose} is to be replaced: {why}"), help, minor: !failing });
    }
    let what = match &known.last_failure {
        Some(why) if failing => format!("{whose} is due, and could not be renewed: {why}"),
        _ => format!("{whose} is due"),
    };
    Some(Finding { host, what, help: "`infra cert renew` renews it".to_owned(), minor: !failing })
}
