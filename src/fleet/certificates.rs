//! Certificates as they are against what they should be: takes what our state knows and what the hosts show, gives each
//! certificate with every place where it was looked for, and a verdict. Pure.

use std::collections::{BTreeMap, BTreeSet};

use crate::base::material::CertificateId;
use crate::base::net::HostName;
use crate::fleet::served::{Leaf, Place, Served};
use crate::pki::known::{Known, Overview, Root};

/// One place where a certificate was looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sight {
    /// The host.
    pub host: HostName,
    /// Where on it.
    pub place: Place,
    /// What was there.
    pub leaf: Option<Leaf>,
    /// What is wrong with that, a half sentence after the place: `shows another one`. `None` where it is right.
    pub wrong: Option<String>,
}

/// A certificate with its places.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judged {
    /// What our state knows.
    pub known: Known,
    /// Whether its renewal goes wrong.
    pub failing: bool,
    /// By host and place.
    pub sights: Vec<Sight>,
}

impl Judged {
    /// Whether it is shown wherever it should be, and its renewal does not go wrong.
    pub fn good(&self) -> bool {
        !self.failing && self.sights.iter().all(|sight| sight.wrong.is_none())
    }
}

/// All certificates of a site.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct View {
    /// The clock that all was judged by, seconds since 1970.
    pub now: i64,
    /// The internal authorities.
    pub roots: Vec<Root>,
    /// Where a rotation of the hop authority stands.
    pub rotation: Option<String>,
    /// Those of sites.
    pub sites: Vec<Judged>,
    /// What the hosts show each other.
    pub hops: Vec<Judged>,
    /// Hosts that were not asked, and why.
    pub unasked: BTreeMap<HostName, String>,
    /// Hosts that answered.
    pub asked: BTreeSet<HostName>,
    /// Whether the state folder holds any certificate.
    pub state: bool,
}

impl View {
    /// Whether nothing is wrong.
    pub fn good(&self) -> bool {
        self.unasked.is_empty() && self.roots.iter().all(|r| self.now < r.not_after) && self.all().all(Judged::good)
    }

    /// Every certificate.
    pub fn all(&self) -> impl Iterator<Item = &Judged> {
        self.sites.iter().chain(&self.hops)
    }
}

/// Brings together what is known and what was seen. A hop certificate that no host uses is left out.
pub fn judge(overview: Overview, answers: BTreeMap<HostName, Served>, now: i64) -> View {
    let (roots, rotation, state) = (overview.roots, overview.rotation, overview.state);
    let mut view = View { now, roots, rotation, state, ..View::default() };
    let mut sights: BTreeMap<CertificateId, Vec<Sight>> = BTreeMap::new();
    let expected: BTreeMap<&CertificateId, &Known> =
        overview.certificates.iter().map(|known| (&known.id, known)).collect();
    for (host, answer) in answers {
        let seen = match answer {
            Ok(seen) => seen,
            Err(why) => {
                view.unasked.insert(host, why);
                continue;
            }
        };
        for (spot, leaf) in seen {
            let ours = expected.get(&spot.id).copied();
            let wrong = wrong(&spot.place, ours, leaf.as_ref());
            let sight = Sight { host: host.clone(), place: spot.place, leaf, wrong };
            sights.entry(spot.id).or_default().push(sight);
        }
        view.asked.insert(host);
    }
    for known in overview.certificates {
        let sights = sights.remove(&known.id).unwrap_or_default();
        let of_site = known.id.site().is_some();
        let judged = Judged { failing: known.is_failing(now), known, sights };
        if of_site {
            view.sites.push(judged);
        } else if !judged.sights.is_empty() {
            view.hops.push(judged);
        }
    }
    view
}

fn wrong(place: &Place, ours: Option<&Known>, leaf: Option<&Leaf>) -> Option<String> {
    let (verb, nothing) = match place {
        Place::Port { .. } => ("shows", "no handshake"),
        Place::File(_) => ("holds", "is not there, or holds no certificate"),
    };
    let Some(leaf) = leaf else { return Some(nothing.to_owned()) };
    let is = |sha256: &Option<String>| sha256.as_ref() == Some(&leaf.sha256);
    match ours {
        Some(ours) if is(&ours.sha256) => None,
        Some(ours) if is(&ours.placeholder) => {
            Some(format!("{verb} the placeholder that stands in until there is a certificate"))
        }
        Some(Known { sha256: Some(_), .. }) => Some(format!("{verb} another certificate, until {}", leaf.not_after)),
        _ => Some(format!("{verb} a certificate that our state does not know, until {}", leaf.not_after)),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::fleet::served::Spot;
    use crate::service::certificates::schedule::{Decision, Life};

    pub(crate) const NOW: i64 = 1_795_435_200;
    const DAY: i64 = 86_400;

    /// `sha256` is the material's own name.
    pub(crate) fn known(material: &str, names: &[&str]) -> Known {
        Known {
            id: material.parse().unwrap(),
            names: names.iter().map(|name| (*name).to_owned()).collect(),
            issuer: Some("infra shop hops 2026-11-23".to_owned()),
            life: Some(Life { not_before: NOW - DAY, not_after: NOW + 59 * DAY }),
            sha256: Some(material.to_owned()),
            placeholder: None,
            next: Decision::Good { until: NOW + 39 * DAY, why: "a third of its life is left then".to_owned() },
            failures: 0,
            last_failure: None,
            by_hand: None,
        }
    }

    pub(crate) fn file(material: &str, shows: Option<&str>) -> (Spot, Option<Leaf>) {
        let place = Place::File(format!("/etc/{material}.crt"));
        (Spot { id: material.parse().unwrap(), place }, shows.map(leaf))
    }

    pub(crate) fn port(material: &str, sni: &str, shows: Option<&str>) -> (Spot, Option<Leaf>) {
        let place = Place::Port { socket: "127.0.0.1:443".parse().unwrap(), sni: Some(sni.to_owned()) };
        (Spot { id: material.parse().unwrap(), place }, shows.map(leaf))
    }

    fn leaf(sha256: &str) -> Leaf {
        Leaf { sha256: sha256.to_owned(), not_after: "Jan 22 11:00:00 2027 GMT".to_owned() }
    }

    fn view(known: Vec<Known>, answers: Vec<(&str, Served)>) -> View {
        let overview = Overview { certificates: known, state: true, ..Overview::default() };
        judge(overview, answers.into_iter().map(|(host, answer)| (host.parse().unwrap(), answer)).collect(), NOW)
    }

    #[test]
    fn what_is_seen_is_held_against_what_is_known() {
        let server = || vec![known("pki/web1/server", &["web1.shop.infra.internal"])];
        let wrongs = |seen: Option<&str>, known: Vec<Known>| {
            let view = view(known, vec![("web1", Ok(vec![file("pki/web1/server", seen)]))]);
            let wrong = view.hops[0].sights[0].wrong.clone();
            assert_eq!(view.good(), wrong.is_none());
            wrong
        };
        assert_eq!(wrongs(Some("pki/web1/server"), server()), None);
        let another = "holds another certificate, until Jan 22 11:00:00 2027 GMT";
        assert_eq!(wrongs(Some("else"), server()).as_deref(), Some(another));
        assert_eq!(wrongs(None, server()).as_deref(), Some("is not there, or holds no certificate"));
        let mut none = server();
        none[0].sha256 = None;
        none[0].placeholder = Some("stand-in".into());
        assert_eq!(
            wrongs(Some("stand-in"), none.clone()).as_deref(),
            Some("holds the placeholder that stands in until there is a certificate")
        );
        assert!(wrongs(Some("else"), none).unwrap().starts_with("holds a certificate that our state does not know"));
    }

    #[test]
    fn a_host_that_cannot_be_asked_is_no_good_and_what_is_unused_is_left_out() {
        let all = vec![known("site/a.example.com", &["a.example.com"]), known("pki/lb1/server", &["lb1"])];
        let good = view(
            all.clone(),
            vec![("lb1", Ok(vec![port("site/a.example.com", "a.example.com", Some("site/a.example.com"))]))],
        );
        assert!(good.good());
        assert_eq!((good.sites.len(), good.hops.len()), (1, 0));
        let down = view(all, vec![("lb1", Err("no route".into()))]);
        assert!(!down.good());
        assert_eq!(down.unasked.len(), 1);
    }

    #[test]
    fn due_is_bad_only_where_the_renewal_goes_wrong() {
        let due = |days_left: i64, failures: u32| {
            let mut known = known("site/a.example.com", &["a.example.com"]);
            known.life = Some(Life { not_before: NOW - (60 - days_left) * DAY, not_after: NOW + days_left * DAY });
            known.next = Decision::Order { why: "because".into(), from: 0 };
            known.failures = failures;
            view(vec![known], Vec::new()).good()
        };
        assert!(due(19, 0));
        assert!(!due(19, 1));
        assert!(!due(9, 0), "less than a sixth is left");
    }
}
