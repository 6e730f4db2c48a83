//! How each site answers at the edge: takes what the inventory says, gives it as the template of `HAProxy`'s configuration reads it, and
//! the sites' pages as files.

use serde::Serialize;

use super::config;
use crate::base::diagnostic::Diagnostic;
use crate::base::net::DnsName;
use crate::inventory::site::{BodyLimit, Manner, Media, Page, Site, Timeouts, WebSite};
use crate::plan::state::{Access, Folder, Phase};
use crate::service::Context;
use crate::service::certificates::site_pem;
use crate::service::claims::Claims;

/// The folder of the sites' pages.
const PAGES: &str = "/etc/haproxy/pages";
/// The load balancers are two steps outside of the app hosts.
const STEPS: u32 = 2;
/// The statuses that `HAProxy` itself answers with where no web host does.
const OWN: [u16; 4] = [500, 502, 503, 504];
/// The end of a group's name, which no name of a site has: labels do not begin with `_` (RFC 1123 section 2.1).
pub(super) const ONCE: &str = "._once";
/// What `HAProxy` keeps free in a buffer for lines that it adds, by default: what infra itself adds fits.
const USUAL_ROOM: usize = 1024;

/// A site as the template knows it.
#[derive(Serialize)]
pub(super) struct SiteModel<'a> {
    pub(super) name: &'a DnsName,
    pub(super) pem: String,
    /// Its name as a part of a name in the configuration: without the star of a wildcard.
    word: String,
    /// The servers for it: `web`, or a backend with its pages.
    backend: String,
    hsts: HstsModel,
    redirects: Vec<Redirect<'a>>,
    /// Where they are not the usual ones.
    timeouts: Option<Seconds>,
    /// Bytes, where a larger body has a page of the site.
    body: Option<u64>,
    headers: Vec<HeaderModel<'a>>,
    pages: Vec<PageModel>,
    maintenance: Option<Closed>,
}

#[derive(Serialize)]
struct HstsModel {
    max_age: u64,
    include_subdomains: bool,
    preload: bool,
}

#[derive(Serialize)]
struct Redirect<'a> {
    from: &'a DnsName,
    to: &'a DnsName,
}

/// How long the edge waits.
#[derive(Serialize)]
struct Seconds {
    response: u64,
    idle: u64,
}

#[derive(Serialize)]
struct HeaderModel<'a> {
    name: String,
    /// Quoted; `None` takes it out.
    value: Option<String>,
    #[serde(skip)]
    plain: &'a str,
}

#[derive(Serialize, Clone)]
struct PageModel {
    status: u16,
    media: &'static str,
    file: String,
    /// Whether `HAProxy` answers with this status itself.
    own: bool,
}

/// A site under maintenance.
#[derive(Serialize)]
struct Closed {
    media: &'static str,
    /// `None`: a sentence of ours.
    file: Option<String>,
    retry_after: u64,
    allow: Vec<String>,
}

/// The servers of the web hosts, as one group: that of all sites, or that of a site with pages.
#[derive(Serialize)]
pub(super) struct Backend {
    name: String,
    /// None in that of all sites, whose servers are checked for all.
    pages: Vec<PageModel>,
}

/// What holds for a site that says nothing.
#[derive(Serialize)]
pub(super) struct Usual {
    response: u64,
    idle: u64,
    /// How long the tiers inside wait for a program.
    app: u64,
    web: u64,
}

impl Usual {
    pub(super) fn new() -> Self {
        let timeouts = Timeouts::default();
        let edge = seconds(timeouts);
        Self {
            response: edge.response,
            idle: edge.idle,
            app: timeouts.response.as_secs(),
            web: timeouts.outside(1).response.as_secs(),
        }
    }
}

impl<'a> SiteModel<'a> {
    pub(super) fn new(site: &'a WebSite) -> Self {
        let Manner { timeouts, body, hsts, redirects, headers, maintenance, .. } = &site.manner;
        let word = site.name.to_word();
        let pages: Vec<PageModel> = pages(site)
            .map(|(status, page)| {
                let file = file(&word, &status.to_string(), page);
                PageModel { status, media: page.media.name(), file, own: OWN.contains(&status) }
            })
            .collect();
        let backend = if pages.is_empty() { "web".to_owned() } else { format!("web.{word}") };
        let maintenance = maintenance.as_ref().map(|closed| {
            let own = closed.page.as_ref().map(|page| (file(&word, "maintenance", page), page));
            let shown = own.or_else(|| site.manner.pages.get(&503).map(|page| (file(&word, "503", page), page)));
            Closed {
                media: shown.as_ref().map_or(Media::Text, |(_, page)| page.media).name(),
                file: shown.map(|(file, _)| file),
                retry_after: closed.retry_after.as_secs(),
                allow: closed.allow.iter().map(ToString::to_string).collect(),
            }
        });
        Self {
            name: &site.name,
            pem: site_pem(&site.name),
            backend,
            hsts: HstsModel {
                max_age: hsts.max_age,
                include_subdomains: hsts.include_subdomains,
                preload: hsts.preload,
            },
            redirects: redirects.iter().map(|(from, to)| Redirect { from, to }).collect(),
            timeouts: (*timeouts != Timeouts::default()).then(|| seconds(*timeouts)),
            body: site.manner.pages.contains_key(&413).then(|| bytes(*body)),
            headers: headers
                .iter()
                .map(|(name, value)| HeaderModel {
                    name: quoted(name, false),
                    value: value.as_ref().map(|value| quoted(value, true)),
                    plain: value.as_deref().unwrap_or_default(),
                })
                .collect(),
            pages,
            maintenance,
            word,
        }
    }
}

/// The group of all sites, and one for each site with pages: errors of `HAProxy` itself have one page in a group.
pub(super) fn backends(sites: &[SiteModel<'_>]) -> Vec<Backend> {
    let all = Backend { name: "web".to_owned(), pages: Vec::new() };
    let own = sites.iter().filter(|site| !site.pages.is_empty());
    std::iter::once(all)
        .chain(own.map(|site| Backend { name: site.backend.clone(), pages: site.pages.clone() }))
        .collect()
}

/// What must be kept free in a buffer for the sites' own headers, where that is more than by default.
pub(super) fn room(sites: &[SiteModel<'_>]) -> Option<usize> {
    let of = |site: &SiteModel<'_>| site.headers.iter().map(|h| h.name.len() + h.plain.len() + 4).sum::<usize>();
    sites.iter().map(of).max().filter(|room| *room > 0).map(|room| USUAL_ROOM + room)
}

/// Adds the pages of all sites as files.
pub(super) fn files(context: &Context<'_>, out: &mut Claims) -> Result<(), Diagnostic> {
    let all = context.site.sites.values().flat_map(|site| {
        let word = site.name.to_word();
        let closed = site.manner.maintenance.iter().filter_map(|closed| closed.page.as_ref());
        let errors = pages(site).map(|(status, page)| (status.to_string(), page));
        errors
            .chain(closed.map(|page| ("maintenance".to_owned(), page)))
            .map(move |(what, page)| (file(&word, &what, page), page))
    });
    for (number, (path, page)) in all.enumerate() {
        if number == 0 {
            out.folder(PAGES, Folder { phase: Phase::Edge, access: Access::root(0o755) })?;
        }
        config(&path, context.body(page.text.clone())?, out)?;
    }
    Ok(())
}

/// The sites that are closed for all but some.
pub(super) fn closed(site: &Site) -> impl Iterator<Item = &DnsName> {
    site.sites.values().filter(|site| site.manner.maintenance.is_some()).map(|site| &site.name)
}

fn pages(site: &WebSite) -> impl Iterator<Item = (u16, &Page)> {
    site.manner.pages.iter().map(|(status, page)| (*status, page))
}

fn file(word: &str, what: &str, page: &Page) -> String {
    format!("{PAGES}/{word}-{what}.{}", page.media.ending())
}

fn seconds(timeouts: Timeouts) -> Seconds {
    let edge = timeouts.outside(STEPS);
    Seconds { response: edge.response.as_secs(), idle: edge.idle.as_secs() }
}

/// What `HAProxy` counts with: a signed number of 64 bits.
fn bytes(limit: BodyLimit) -> u64 {
    match limit {
        BodyLimit::Bytes(bytes) => bytes,
        BodyLimit::Unlimited => i64::MAX.cast_unsigned(),
    }
}

/// A word of the configuration (configuration manual, 2.2), in which nothing is `HAProxy`'s own; `format`: and nothing of a log
/// format's (8.2.6) either.
fn quoted(text: &str, format: bool) -> String {
    let text = if format { text.replace('%', "%%") } else { text.to_owned() };
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if !text.is_empty() && text.chars().all(plain) { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_a_value_is_read_as_anything_else() {
        for (text, written) in [
            ("nosniff", "nosniff"),
            ("default-src 'self'", r"'default-src '\''self'\'''"),
            ("100%", "'100%%'"),
            ("%[src] \"$HOME\" \\ # {a}", "'%%[src] \"$HOME\" \\ # {a}'"),
            ("'", r"''\'''"),
        ] {
            assert_eq!(quoted(text, true), written);
        }
        assert_eq!(quoted("X-100%", false), "'X-100%'");
    }
}
