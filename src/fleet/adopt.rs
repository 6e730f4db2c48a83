//! Certificates that load balancers hold and this controller does not: takes open connections and sites, reads their live files,
//! and takes what another controller has renewed, or what a lost state folder has forgotten, into use.

use std::collections::{BTreeMap, BTreeSet};

use time::OffsetDateTime;

use crate::base::net::{DnsName, HostName};
use crate::base::secret::Secret;
use crate::base::sh::quote;
use crate::fleet::run;
use crate::fleet::survey::{Prepared, Survey};
use crate::host::transport::{Transport, TransportError};
use crate::host::wire;
use crate::inventory::site::Site;
use crate::pki::fulfil;
use crate::pki::internal_store;
use crate::pki::public_store::PublicStore;
use crate::plan::plan::{Action, Change, HostPlan, Plan};
use crate::service::certificates::site_pem;
use crate::service::certificates::wanted::Wanted;

/// More than any chain with its key takes, bytes.
const LONGEST: usize = 256 * 1024;

/// Why live certificates could not be compared with ours; nothing may be written then.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A load balancer did not give them.
    #[error("{host}: the certificates on it could not be looked at, and are not replaced unseen: {why}")]
    Unread {
        /// Which.
        host: HostName,
        /// Why.
        why: TransportError,
    },
    /// The state folder.
    #[error(transparent)]
    Store(#[from] internal_store::Error),
}

/// Which sites' files are to be looked at, by load balancer.
pub type Places = BTreeMap<HostName, BTreeSet<DnsName>>;

/// The sites whose file a host's plan writes.
pub fn written<'a>(site: &'a Site, plan: &HostPlan) -> BTreeMap<&'a DnsName, Change> {
    let actions = plan.phases.values().flatten();
    let writes = actions.filter_map(|action| match action {
        Action::Write { path, change, .. } => Some((site.sites.keys().find(|name| site_pem(name) == *path)?, *change)),
        _ => None,
    });
    writes.collect()
}

/// The files of public certificates that a plan would replace by others.
pub fn replaced(site: &Site, plan: &Plan) -> Places {
    let mut places = Places::new();
    let ordered = |name: &DnsName| site.sites.get(name).is_some_and(|web| site.orders(web));
    for (host, plan) in &plan.hosts {
        let stands = |change: Change| !matches!(change, Change::New | Change::Access);
        let sites: BTreeSet<DnsName> = written(site, plan)
            .into_iter()
            .filter(|(name, change)| stands(*change) && ordered(name))
            .map(|(name, _)| name.clone())
            .collect();
        if !sites.is_empty() {
            places.insert(host.clone(), sites);
        }
    }
    places
}

/// Looks at the files that `prepared` would replace, and takes into use what is newer than ours. Gives a line about each; where
/// there is any, the plan no longer holds.
///
/// # Errors
/// [`Error`].
pub fn before_writing(
    site: &Site,
    prepared: &mut Prepared,
    parallel: usize,
) -> Result<BTreeMap<String, String>, Error> {
    let places = replaced(site, &prepared.plan);
    if places.is_empty() {
        return Ok(BTreeMap::new());
    }
    take(site, &mut prepared.survey, &places, parallel)
}

/// Looks at these files, and takes into use what is newer than ours: a line about each, by site.
///
/// # Errors
/// [`Error`].
pub fn take(
    site: &Site,
    survey: &mut Survey,
    places: &Places,
    parallel: usize,
) -> Result<BTreeMap<String, String>, Error> {
    let work: Vec<_> =
        survey.sessions.iter_mut().filter_map(|(host, session)| Some((host, session, places.get(host)?))).collect();
    let read = run::each(work, parallel, |(host, session, sites)| {
        let files = read(session.as_mut(), sites);
        (host.clone(), files)
    });
    let mut told = BTreeMap::new();
    let store = PublicStore::open(&site.state)?;
    let now = OffsetDateTime::now_utc();
    for (host, files) in read {
        let files = files.map_err(|why| Error::Unread { host: host.clone(), why })?;
        for (name, file) in files {
            let Some(web) = site.sites.get(&name).filter(|web| site.orders(web)) else { continue };
            let wanted = Wanted::of(site, web);
            if let Some(about) = fulfil::adopt(&store, &wanted, file.reveal(), now)? {
                told.insert(
                    name.to_string(),
                    format!("{host} holds a newer certificate, which is in use now: {about}"),
                );
            } else if let Some(about) = fulfil::keep(&store, &wanted, file.reveal(), now)? {
                told.insert(name.to_string(), format!("what {host} shows stays until one was ordered: {about}"));
            }
        }
    }
    Ok(told)
}

/// One exec. What comes back holds keys: it goes nowhere but into a [`Secret`].
fn read(session: &mut dyn Transport, sites: &BTreeSet<DnsName>) -> Result<Vec<(DnsName, Secret)>, TransportError> {
    // What a link points to is not infra's certificate, whatever it holds; a FIFO has no end.
    let mut text = format!(
        "give() {{ real_way \"$2\" && plain \"$ROOT$2\" && pour \"$1\" head -c {LONGEST} \"$ROOT$2\" 2>/dev/null; }}\n"
    );
    for name in sites {
        text.push_str(&format!("give {} {}\n", quote(name.as_str()), quote(&site_pem(name))));
    }
    let output = session.run(&wire::question("look at the certificates", &text), b"")?;
    let told = wire::pairs(&output.stdout);
    // An answer that was cut short must not pass for files that are not there.
    if !told.is_whole() {
        return Err(TransportError::Lost("it did not give all of its certificates".to_owned()));
    }
    let files = sites.iter().filter_map(|name| {
        // What is not text is no certificate.
        let text =
            told.last(name.as_str()).filter(|text| !text.is_empty() && !text.contains(char::REPLACEMENT_CHARACTER))?;
        Some((name.clone(), Secret::new(site_pem(name), text)))
    });
    Ok(files.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::dir::DirTransport;
    use crate::plan::state::{Access, Body, Digest, File, Phase};

    fn name(text: &str) -> DnsName {
        text.parse().unwrap()
    }

    #[test]
    fn files_are_read_whole_and_missing_ones_left_out() {
        let dir = tempfile::tempdir().unwrap();
        let at = |site: &str| dir.path().join(site_pem(&name(site)).trim_start_matches('/'));
        std::fs::create_dir_all(at("a.example.com").parent().unwrap()).unwrap();
        std::fs::write(at("a.example.com"), "one\ntwo\n").unwrap();
        std::fs::write(at("*.example.com"), [0xff, 0xfe]).unwrap();
        std::fs::write(at("c.example.com"), "three").unwrap();
        // What others have there is not read through, and nobody waits for it.
        std::os::unix::fs::symlink(at("a.example.com"), at("d.example.com")).unwrap();
        assert!(std::process::Command::new("mkfifo").arg(at("e.example.com")).status().unwrap().success());
        let sites = ["*", "a", "b", "c", "d", "e"].map(|label| name(&format!("{label}.example.com"))).into();
        let files = read(&mut DirTransport::new(dir.path()), &sites).unwrap();
        let files: Vec<(&str, &str)> = files.iter().map(|(name, file)| (name.as_str(), file.reveal())).collect();
        assert_eq!(files, [("a.example.com", "one\ntwo\n"), ("c.example.com", "three")]);
        // Nor is anything in a folder that is a link.
        let folder = at("a.example.com").parent().unwrap().to_owned();
        std::fs::rename(&folder, dir.path().join("elsewhere")).unwrap();
        std::os::unix::fs::symlink(dir.path().join("elsewhere"), &folder).unwrap();
        assert_eq!(read(&mut DirTransport::new(dir.path()), &sites).unwrap().len(), 0);
    }

    #[test]
    fn only_public_files_that_stand_there_are_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("inventory.yml");
        let text = "name: shop
hosts:
  lb1: { address: [10.0.1.11], roles: [lb] }
  web1: { address: [10.0.2.11], roles: [web] }
firewall: { manage_from: [10.0.0.0/24] }
sites:
  a.example.com: { static: { root: /srv/shop, prefix: / } }
certificates: { issuer: letsencrypt, contact: ops@example.com }
";
        std::fs::write(&path, text).unwrap();
        let mut site = crate::inventory::load::load(&path).unwrap().0;
        let plan = |path: String, change| {
            let body = Body { text: "".into(), digest: Digest::of(b""), origin: None };
            let file = File {
                service: "certificates",
                phase: Phase::Edge,
                access: Access::root(0o600),
                body,
                then: BTreeMap::new(),
                about: None,
            };
            let write = Action::Write { path, file, change, old: None, stood: None };
            let host = HostPlan { phases: BTreeMap::from([(Phase::Edge, vec![write])]), ..HostPlan::default() };
            Plan { hosts: BTreeMap::from([("lb1".parse().unwrap(), host)]), ..Plan::default() }
        };
        let pem = site_pem(&name("a.example.com"));
        for (path, change, count) in [
            (pem.clone(), Change::Content, 1),
            (pem.clone(), Change::Drift, 1),
            (pem.clone(), Change::Foreign, 1),
            (pem.clone(), Change::New, 0),
            (pem.clone(), Change::Access, 0),
            ("/etc/haproxy/haproxy.cfg".to_owned(), Change::Content, 0),
        ] {
            assert_eq!(replaced(&site, &plan(path, change)).len(), count, "{change:?}");
        }
        site.certificates.issuer = crate::inventory::site::Issuer::Internal;
        assert!(replaced(&site, &plan(pem, Change::Content)).is_empty());
    }
}
