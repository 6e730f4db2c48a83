//! The status as one page for a browser: takes the [`View`], gives HTML that needs nothing else, neither a script nor another file.
//! All that a host or an inventory says is escaped by the template engine, and shown without what hides or reorders text.

use serde::Serialize;

use super::picture::{self, Picture, class};
use super::{deliveries, grouped, left, moment, number, ordered, ordered_sites, shares, state, summary};
use crate::base::visible;
use crate::fleet::status::{HostView, SiteView, View};
use crate::inventory::site::Site;
use crate::report::html;
use crate::report::text::bytes;

const PAGE: &str = include_str!("../../../templates/status/page.html");
/// Longer words of a host are cut: a page stays readable whatever a host says.
const MOST: usize = 400;

#[derive(Serialize)]
struct Model {
    name: String,
    moment: String,
    summary: String,
    class: &'static str,
    rate: String,
    picture: Picture,
    troubles: Vec<Trouble>,
    notes: Vec<Trouble>,
    sites: Vec<Row>,
    hosts: Vec<Row>,
}

#[derive(Serialize)]
struct Trouble {
    hosts: String,
    what: String,
    help: String,
}

/// A site or a host: its name, how it is marked, and its cells with what they are.
#[derive(Serialize)]
struct Row {
    name: String,
    class: &'static str,
    cells: Vec<Cell>,
}

#[derive(Serialize)]
struct Cell {
    what: &'static str,
    text: String,
}

fn cells<const N: usize>(all: [(&'static str, String); N]) -> Vec<Cell> {
    // What is empty would be a title without anything behind it.
    all.into_iter().filter(|(_, text)| !text.is_empty()).map(|(what, text)| Cell { what, text }).collect()
}

/// The whole page.
///
/// # Errors
/// Where the template does not fit the model, which is a mistake of this program.
pub fn draw(site: &Site, view: &View) -> Result<String, tera::Error> {
    html::fill(PAGE, &model(site, view))
}

fn model(site: &Site, view: &View) -> Model {
    let rates: Vec<f64> = view.sites.values().filter_map(|site| site.per_second).collect();
    Model {
        name: site.name.to_string(),
        moment: moment(view.now),
        summary: summary(view),
        class: if view.is_well() { "good" } else { "bad" },
        rate: if rates.is_empty() { String::new() } else { format!("{} requests/s", number(rates.iter().sum())) },
        picture: picture::draw(site, view),
        troubles: troubles(view, false),
        notes: troubles(view, true),
        sites: ordered_sites(view).into_iter().map(|site| site_row(site, view.now)).collect(),
        hosts: ordered(view).into_iter().map(|host| host_row(host, view.now)).collect(),
    }
}

fn said(text: &str) -> String {
    visible::line(&visible::short(text, MOST)).into_owned()
}

fn troubles(view: &View, minor: bool) -> Vec<Trouble> {
    let each = grouped(view, minor).into_iter();
    each.map(|(hosts, what, help)| Trouble { hosts, what: said(&what), help: said(&help) }).collect()
}

fn site_row(site: &SiteView, now: i64) -> Row {
    let class = |at: usize| site.per_second.map_or_else(|| "-".to_owned(), |_| number(site.classes[at]));
    let wrong = site.errors.is_some_and(|errors| errors >= 0.05);
    Row {
        name: said(&site.site.to_string()),
        class: if wrong { "bad" } else { "good" },
        cells: cells([
            ("requests/s", site.per_second.map_or_else(|| "-".to_owned(), number)),
            ("2xx", class(1)),
            ("3xx", class(2)),
            ("4xx", class(3)),
            ("5xx", class(4)),
            ("errors", site.errors.map_or_else(|| "-".to_owned(), |share| format!("{:.1} %", share * 100.0))),
            ("certificate", left(site.certificate_until, now)),
            ("by", said(&shares(site))),
        ]),
    }
}

fn host_row(host: &HostView, now: i64) -> Row {
    let roles: Vec<&str> = host.roles.iter().map(|role| role.as_str()).collect();
    let runs = host.units.iter().filter(|unit| unit.good).count();
    let mut all = cells([("roles", roles.join(", ")), ("is", state(host))]);
    if host.away.is_none() {
        all.extend(cells([
            ("units", format!("{runs} of {}", host.units.len())),
            ("drift", host.drift.len().to_string()),
            ("owed", host.owed.len().to_string()),
            ("certificate", left(host.certificates_until, now)),
            ("free", host.free.map_or_else(|| "-".to_owned(), bytes)),
            ("does", said(&host.words.join(", "))),
        ]));
        if !host.deliveries.is_empty() {
            all.extend(cells([("sent", said(&deliveries(host, now)))]));
        }
    }
    Row { name: host.host.to_string(), class: class(host), cells: all }
}
