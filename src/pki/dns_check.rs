//! What a CA would find if it looked now: takes names and what name servers say about them, gives what stands in the way of an
//! order. Nothing is sent to the CA but, at most, a question for its directory.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::atomic::AtomicBool;

use crate::base::net::HostName;
use crate::base::visible;
use crate::inventory::site::{Role, Site};
use crate::pki::acme;
use crate::pki::dns::{self, Authorization, Trouble};
use crate::service::certificates::wanted::{Source, Wanted};

/// How many names are asked for at one time.
const AT_ONCE: usize = 16;
/// The tags that a CA knows (RFC 8659 §4.2 to §4.4, RFC 9495); a critical one that it does not know forbids.
const KNOWN: [&str; 4] = ["issue", "issuewild", "iodef", "issuemail"];

/// How much a finding weighs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Weight {
    /// A person should know.
    Warning,
    /// Nothing is ordered.
    Refusal,
}

/// Something that was seen before an order.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// Whether it stops the order.
    pub weight: Weight,
    /// Which host or name, and what was seen.
    pub what: String,
    /// What to do about it.
    pub todo: String,
}

impl Finding {
    /// What stops an order.
    pub fn refusal(what: impl Into<String>, todo: impl Into<String>) -> Self {
        Self { weight: Weight::Refusal, what: what.into(), todo: todo.into() }
    }

    /// What does not.
    pub fn warning(what: impl Into<String>, todo: impl Into<String>) -> Self {
        Self { weight: Weight::Warning, what: what.into(), todo: todo.into() }
    }
}

/// The addresses at which the internet sees each load balancer: those called public, else its own.
pub fn edge(site: &Site) -> BTreeMap<IpAddr, HostName> {
    let lbs = site.with_role(Role::Lb);
    let seen = lbs.flat_map(|host| {
        let addresses = if host.public.is_empty() { &host.addresses } else { &host.public };
        addresses.iter().map(|address| (*address, host.name.clone()))
    });
    seen.collect()
}

/// What name servers said about one name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lookup {
    /// All addresses of it; `None` where they were not asked for.
    pub addresses: Option<Result<BTreeSet<IpAddr>, Trouble>>,
    /// The CAA records that hold for it, and where they stand.
    pub authorizations: Result<Option<(String, Vec<Authorization>)>, Trouble>,
}

/// By name, without those that are addresses.
pub type Lookups = BTreeMap<String, Lookup>;

/// Asks about all names; the value says whether it matters where one leads.
pub fn ask(names: &BTreeMap<String, bool>) -> Lookups {
    let names: Vec<(&String, &bool)> = names.iter().filter(|(name, _)| name.parse::<IpAddr>().is_err()).collect();
    let mut answers = Lookups::new();
    for some in names.chunks(AT_ONCE) {
        let asked = dns::blocking(async {
            let mut set = tokio::task::JoinSet::new();
            for (name, leads) in some.iter().map(|(name, leads)| ((*name).clone(), **leads)) {
                set.spawn(async move {
                    let addresses = if leads { Some(dns::addresses(&name).await) } else { None };
                    let authorizations = dns::authorizations(&name).await;
                    (name, Lookup { addresses, authorizations })
                });
            }
            Ok(set.join_all().await)
        });
        match asked {
            Ok(asked) => answers.extend(asked),
            Err(trouble) => answers.extend(some.iter().map(|(name, _)| {
                let answer = Lookup { addresses: Some(Err(trouble.clone())), authorizations: Err(trouble.clone()) };
                ((*name).clone(), answer)
            })),
        }
    }
    answers
}

/// Whether each name leads to load balancers alone: a CA may ask at any address of a name (RFC 8555 §8.3). Not asked of
/// wildcards, which are proved by DNS.
pub fn addresses(names: &[String], answers: &Lookups, edge: &BTreeMap<IpAddr, HostName>) -> Vec<Finding> {
    let ours: Vec<String> = edge.keys().map(ToString::to_string).collect();
    let lead =
        format!("let the name lead to the load balancers ({}), or take it out of the inventory", ours.join(", "));
    let mut findings = Vec::new();
    for name in names.iter().filter(|name| !name.starts_with("*.")) {
        match answers.get(name).and_then(|answer| answer.addresses.as_ref()) {
            None => {}
            Some(Err(Trouble::Unanswered(why))) => findings.push(Finding::warning(
                format!("{name}: whether it leads to the load balancers is not known: {why}"),
                "look at the name servers of this machine (/etc/resolv.conf)",
            )),
            Some(Err(Trouble::NoSuchName)) => {
                findings.push(Finding::refusal(format!("{name}: there is no such name"), lead.clone()));
            }
            Some(Ok(found)) if found.is_empty() => {
                findings.push(Finding::refusal(format!("{name} has no address"), lead.clone()));
            }
            Some(Ok(found)) => findings.extend(found.iter().filter(|a| !edge.contains_key(a)).map(|address| {
                let record = if address.is_ipv4() { "A" } else { "AAAA" };
                Finding::refusal(
                    format!("{name} has the {record} record {address}, which is not a load balancer's public address"),
                    "a CA may ask there: take the record out of the zone, or write the address as `public` of its load \
                         balancer; where a CDN or another balancer stands before them, `check_dns: false`",
                )
            })),
        }
    }
    findings
}

/// Whether every name is known to lead past a host; `false` where that is not known.
pub fn lead_past(names: &[String], answers: &Lookups, edge: &BTreeMap<IpAddr, HostName>, host: &HostName) -> bool {
    names.iter().all(|name| {
        let known = match name.parse::<IpAddr>() {
            Ok(address) => Some(BTreeSet::from([address])),
            Err(_) => answers.get(name).and_then(|answer| answer.addresses.clone()?.ok()),
        };
        known.is_some_and(|found| !found.is_empty() && found.iter().all(|a| edge.get(a) != Some(host)))
    })
}

/// Who asks for a certificate, as CAA records see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asker<'a> {
    /// The domains under which the CA is named.
    pub identities: &'a [String],
    /// `http-01` or `dns-01`.
    pub method: &'a str,
    /// The URL of our account at the CA, where it is known.
    pub account: Option<&'a str>,
}

/// Whether the CAA records of each name let the CA issue.
pub fn authorizations(names: &[String], answers: &Lookups, asker: &Asker<'_>) -> Vec<Finding> {
    let Some(identity) = asker.identities.first() else { return Vec::new() };
    let mut findings = Vec::new();
    for name in names {
        match answers.get(name).map(|answer| &answer.authorizations) {
            None | Some(Ok(None)) => {}
            Some(Err(trouble)) => findings.push(Finding::warning(
                format!("{name}: whether its CAA records let {identity} issue is not known: {trouble}"),
                "look at the name servers of this machine (/etc/resolv.conf)",
            )),
            Some(Ok(Some((at, records)))) => {
                if let Err(why) = permits(name.starts_with("*."), records, asker) {
                    findings.push(Finding::refusal(
                        format!("{name}: the CAA records of {at} do not let {identity} issue: {why}"),
                        format!("write `{at}. CAA 0 issue \"{identity}\"` into the zone, or take out the record that forbids it"),
                    ));
                }
            }
        }
    }
    findings
}

/// RFC 8659 §4 and RFC 8657 for the records that hold for a name.
///
/// # Errors
/// Why they forbid.
pub fn permits(wildcard: bool, records: &[Authorization], asker: &Asker<'_>) -> Result<(), String> {
    if let Some(strange) = records.iter().find(|r| r.critical && !KNOWN.contains(&r.tag.as_str())) {
        return Err(format!("`{}` is critical, but is not a tag that a CA must know", shown(&strange.tag)));
    }
    let of = |tag: &str| records.iter().filter(|r| r.tag == tag).collect::<Vec<_>>();
    // RFC 8659 §4.3: where there is any `issuewild`, `issue` says nothing about wildcards.
    let mut relevant = if wildcard { of("issuewild") } else { Vec::new() };
    if relevant.is_empty() {
        relevant = of("issue");
    }
    if relevant.is_empty() {
        return Ok(());
    }
    let mut why = None;
    for (domain, parameters) in relevant.iter().filter_map(|record| read(&record.value)) {
        if !asker.identities.iter().any(|ours| ours.eq_ignore_ascii_case(domain)) {
            continue;
        }
        match held(&parameters, asker) {
            Ok(()) => return Ok(()),
            Err(not) => why = Some(not),
        }
    }
    Err(why.unwrap_or_else(|| {
        let values: Vec<String> = relevant.iter().map(|record| format!("\"{}\"", shown(&record.value))).collect();
        format!("they name {}", values.join(", "))
    }))
}

/// The parameters of a record that names the CA: RFC 8657 §3 and §4. Others are the CA's own.
fn held(parameters: &[(&str, &str)], asker: &Asker<'_>) -> Result<(), String> {
    let of = |tag: &str| parameters.iter().filter(|(t, _)| *t == tag).map(|(_, value)| *value).collect::<Vec<_>>();
    for methods in of("validationmethods") {
        if !methods.split(',').any(|method| method.trim() == asker.method) {
            return Err(format!("only by {}, and `challenge` is {}", shown(methods), asker.method));
        }
    }
    match (of("accounturi").as_slice(), asker.account) {
        ([], _) | ([_], None) => Ok(()),
        ([only], Some(ours)) if *only == ours => Ok(()),
        ([only], Some(ours)) => Err(format!("only to the account {}, and ours is {ours}", shown(only))),
        _ => Err("they name several accounts in one record, which matches no account".to_owned()),
    }
}

/// `letsencrypt.org; validationmethods=dns-01` (RFC 8659 §4.2); `None` for what names no CA, or is not written like that.
fn read(value: &str) -> Option<(&str, Vec<(&str, &str)>)> {
    let mut parts = value.split(';').map(str::trim);
    let domain = parts.next()?.trim_end_matches('.');
    let parameters = parts.filter(|part| !part.is_empty()).map(|part| {
        let (tag, value) = part.split_once('=')?;
        Some((tag.trim(), value.trim()))
    });
    let parameters = parameters.collect::<Option<Vec<_>>>()?;
    (!domain.is_empty()).then_some((domain, parameters))
}

/// A stranger's text, fit for a terminal.
fn shown(text: &str) -> String {
    visible::sentence(text).chars().take(120).collect()
}

/// The CAs' domains by directory, asked for once.
#[derive(Debug, Default)]
pub struct Identities(BTreeMap<String, Result<Vec<String>, String>>);

impl Identities {
    /// Those of a source.
    ///
    /// # Errors
    /// Why they are not known.
    pub fn of(&mut self, source: &Source, stop: &AtomicBool) -> Result<&[String], &str> {
        let known = self.0.entry(source.directory.clone());
        let known = known.or_insert_with_key(|directory| acme::identities(directory, stop).map_err(|e| e.why));
        known.as_deref().map_err(String::as_str)
    }
}

/// Everything that name servers say against an order for `wanted` from `source`. Where `check_dns` is off, nothing of it stops
/// the order: this machine may see other name servers than the CA does.
pub fn judge(
    wanted: &Wanted,
    source: &Source,
    (answers, edge): (&Lookups, &BTreeMap<IpAddr, HostName>),
    identities: Result<&[String], &str>,
    account: Option<&str>,
    check_dns: bool,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    if check_dns && !wanted.by_dns() {
        findings.extend(addresses(&wanted.names, answers, edge));
    }
    let method = if wanted.by_dns() { "dns-01" } else { "http-01" };
    match identities {
        Ok(identities) => {
            let mut about = authorizations(&wanted.names, answers, &Asker { identities, method, account });
            if !check_dns {
                for finding in &mut about {
                    finding.weight = Weight::Warning;
                }
            }
            findings.extend(about);
        }
        Err(why) => findings.push(Finding::warning(
            format!("how CAA records name {} is not known: {why}", source.host()),
            "the order is tried all the same",
        )),
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(ToString::to_string).collect()
    }

    fn edges() -> BTreeMap<IpAddr, HostName> {
        [("203.0.113.11", "lb1"), ("2001:db8::11", "lb1"), ("203.0.113.12", "lb2")]
            .map(|(address, host)| (address.parse().unwrap(), host.parse().unwrap()))
            .into()
    }

    fn answered(name: &str, found: Result<&[&str], Trouble>) -> Lookups {
        let addresses = found.map(|list| list.iter().map(|a| a.parse().unwrap()).collect());
        [(name.to_owned(), Lookup { addresses: Some(addresses), authorizations: Ok(None) })].into()
    }

    type Found = Result<&'static [&'static str], Trouble>;
    type Expected = Option<(Weight, &'static str)>;

    #[test]
    fn every_address_must_be_a_load_balancers() {
        let silent = || Err(Trouble::Unanswered("A of a.example.com: time-out".into()));
        let cases: [(Found, Expected); 6] = [
            (Ok(&["203.0.113.11", "2001:db8::11"]), None),
            (Ok(&["203.0.113.11", "2001:db8::99"]), Some((Weight::Refusal, "AAAA record 2001:db8::99"))),
            (Ok(&["198.51.100.7"]), Some((Weight::Refusal, "A record 198.51.100.7"))),
            (Ok(&[]), Some((Weight::Refusal, "a.example.com has no address"))),
            (Err(Trouble::NoSuchName), Some((Weight::Refusal, "there is no such name"))),
            (silent(), Some((Weight::Warning, "time-out"))),
        ];
        for (found, expected) in cases {
            let told = addresses(&names(&["a.example.com"]), &answered("a.example.com", found.clone()), &edges());
            match expected {
                None => assert_eq!(told, [], "{found:?}"),
                Some((weight, what)) => {
                    assert_eq!(told.len(), 1, "{found:?}: {told:?}");
                    assert!(told[0].weight == weight && told[0].what.contains(what), "{told:?}");
                }
            }
        }
        // Neither wildcards nor addresses are looked up.
        let wild = answered("*.example.com", Err(Trouble::NoSuchName));
        assert_eq!(addresses(&names(&["*.example.com", "203.0.113.11"]), &wild, &edges()), []);
        assert!(ask(&["203.0.113.11", "2001:db8::1"].map(|a| (a.to_owned(), true)).into()).is_empty());
    }

    #[test]
    fn a_host_is_past_when_no_name_leads_to_it() {
        let past = |list: &[&str], found, host: &str| {
            lead_past(&names(list), &answered("a.example.com", found), &edges(), &host.parse().unwrap())
        };
        assert!(past(&["a.example.com"], Ok(&["203.0.113.11"]), "lb2"));
        assert!(!past(&["a.example.com"], Ok(&["203.0.113.11"]), "lb1"));
        assert!(!past(&["a.example.com"], Ok(&[]), "lb2"));
        assert!(!past(&["a.example.com"], Err(Trouble::Unanswered("x".into())), "lb2"));
        assert!(!past(&["a.example.com", "203.0.113.12"], Ok(&["203.0.113.11"]), "lb2"));
        assert!(!past(&["b.example.com"], Ok(&["203.0.113.11"]), "lb2"));
    }

    #[test]
    fn caa_records_are_judged_as_a_ca_does() {
        const OURS: &str = "https://ca/acct/1";
        let ours = ["letsencrypt.org".to_owned()];
        let record = |text: &str| {
            let (tag, value) = text.split_once(' ').unwrap();
            let critical = tag.ends_with('!');
            Authorization { critical, tag: tag.trim_end_matches('!').to_owned(), value: value.to_owned() }
        };
        // Records; for a name, for a wildcard: a part of the reason, or nothing where they permit.
        let table: [(&[&str], &str, &str); 22] = [
            (&["iodef mailto:ops@example.com"], "", ""),
            (&["issue letsencrypt.org"], "", ""),
            (&["issue LetsEncrypt.org."], "", ""),
            (&["issue  letsencrypt.org ; "], "", ""),
            (&["issue other.example"], "\"other.example\"", "\"other.example\""),
            (&["issue other.example", "issue letsencrypt.org"], "", ""),
            (&["issue ;"], "they name \";\"", "they name"),
            (&["issue "], "they name \"\"", "they name"),
            (&["issue letsencrypt.org", "issuewild ;"], "", "they name \";\""),
            (&["issue ;", "issuewild letsencrypt.org"], "they name", ""),
            (&["issuewild other.example"], "", "\"other.example\""),
            (&["issuewild other.example", "issue letsencrypt.org"], "", "\"other.example\""),
            (&["issue letsencrypt.org", "tbs! x"], "`tbs` is critical", "`tbs` is critical"),
            (&["issue letsencrypt.org", "tbs x"], "", ""),
            (&["issue! letsencrypt.org", "iodef! mailto:a@b"], "", ""),
            (&["issue letsencrypt.org; validationmethods=dns-01"], "only by dns-01", "only by dns-01"),
            (&["issue letsencrypt.org; validationmethods=dns-01, http-01"], "", ""),
            (&["issue letsencrypt.org; accounturi=https://ca/acct/1"], "", ""),
            (&["issue letsencrypt.org; accounturi=https://ca/acct/2"], "ours is https://ca/acct/1", "ours is"),
            (&["issue letsencrypt.org; accounturi=a; accounturi=https://ca/acct/1"], "several accounts", "several"),
            (&["issue letsencrypt.org; accounturi=a", "issue letsencrypt.org; their=own"], "", ""),
            (&["issue letsencrypt.org; broken"], "they name", "they name"),
        ];
        for (records, name, wildcard) in table {
            let records: Vec<Authorization> = records.iter().map(|text| record(text)).collect();
            let asker = Asker { identities: &ours, method: "http-01", account: Some(OURS) };
            for (wild, expected) in [(false, name), (true, wildcard)] {
                let said = permits(wild, &records, &asker);
                let fits = match &said {
                    Ok(()) => expected.is_empty(),
                    Err(why) => !expected.is_empty() && why.contains(expected),
                };
                assert!(fits, "{records:?}, wildcard {wild}: {said:?}");
            }
        }
        // An account that we do not know yet is no other one.
        let unknown = Asker { identities: &ours, method: "http-01", account: None };
        let bound = [record("issue letsencrypt.org; accounturi=https://ca/acct/2")];
        assert_eq!(permits(false, &bound, &unknown), Ok(()));
        assert!(permits(false, &[record("issue \u{1b}[2Jevil")], &unknown).is_err_and(|why| !why.contains('\u{1b}')));
    }

    #[test]
    fn what_is_not_known_is_a_warning_and_check_dns_leaves_out_the_rest() {
        let source = Source::new("https://ca.example/directory");
        let wanted = Wanted {
            site: "a.example.com".into(),
            names: names(&["a.example.com", "b.example.com"]),
            contact: None,
            profile: None,
            key: crate::inventory::site::KeyKind::default(),
            challenge: crate::inventory::site::Challenge::Http01,
            sources: vec![source.clone()],
            folder: ".".into(),
        };
        let forbidden = vec![Authorization { critical: false, tag: "issue".into(), value: ";".into() }];
        let addresses = Some(Ok(BTreeSet::from(["198.51.100.7".parse().unwrap()])));
        let authorizations = Ok(Some(("example.com".to_owned(), forbidden)));
        let answer = Lookup { addresses, authorizations };
        let answers: Lookups = wanted.names.iter().map(|name| (name.clone(), answer.clone())).collect();
        let (edges, identities) = (edges(), names(&["ca.example"]));
        let weights = |identities: Result<&[String], &str>, check_dns| -> Vec<Weight> {
            let told = judge(&wanted, &source, (&answers, &edges), identities, None, check_dns);
            told.iter().map(|finding| finding.weight).collect()
        };
        let n = wanted.names.len();
        assert_eq!(weights(Ok(&identities), true), vec![Weight::Refusal; 2 * n]);
        assert_eq!(weights(Ok(&identities), false), vec![Weight::Warning; n]);
        assert_eq!(weights(Ok(&[]), false), []);
        assert_eq!(weights(Err("it is silent"), false), [Weight::Warning]);
    }
}
