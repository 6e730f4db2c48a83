//! An inventory with one value changed: takes an inventory's file, gives its values with their places, and for each the sites that come
//! of another value there, or of none. What such a change does to a host tells what the value is for; that is seen, not guessed by names.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use ipnet::IpNet;

use crate::base::diagnostic::{Diagnostic, Span};
use crate::inventory::raw::{Entry, Mark, Node, Value};
use crate::inventory::read::Problems;
use crate::inventory::site::{Place, Site};
use crate::inventory::{load, mask, resolve};

/// Maps whose keys are names that a person has chosen, by their paths.
const NAMED: [&[&str]; 4] = [&["hosts"], &["sites"], &["database", "users"], &["monitoring", "alerts"]];

/// Words that a key takes one of, by the key. A key that is not here loses nothing but one way to change it.
const WORDS: [(&str, &[&str]); 8] = [
    ("roles", &["web", "app", "db", "lb"]),
    ("issuer", &["internal", "letsencrypt-staging", "letsencrypt"]),
    ("challenge", &["http-01", "dns-01"]),
    ("engine", &["mariadb", "mysql"]),
    ("service", &["none", "prometheus", "sumologic"]),
    ("agent", &["telegraf", "otelcol-sumo"]),
    ("backend", &["nftables", "iptables"]),
    ("from", &["app", "web"]),
];

/// An inventory as it is written.
#[derive(Debug)]
pub struct Written {
    root: Node,
    path: PathBuf,
    secrets: Vec<Span>,
}

/// A value of an inventory, or a name that a person has chosen in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leaf {
    /// Where it stands in the tree: `ports.web`, `hosts.web1.roles[0]`.
    pub key: String,
    /// Its file and line.
    pub place: Place,
    /// That line as it may be shown: what may be a secret, and comments, are hidden.
    pub line: String,
    /// What it says, where a text that has it word by word tells something. Empty for what may be a secret.
    pub word: String,
    route: Vec<usize>,
    is_name: bool,
}

impl Written {
    /// Reads the file and what it includes.
    ///
    /// # Errors
    /// What [`load::load`] would say of it.
    pub fn read(path: &Path) -> Result<Self, Vec<Diagnostic>> {
        let (root, secrets) = load::tree(path)?;
        Ok(Self { root, path: path.to_owned(), secrets })
    }

    /// All values, in the order of the tree.
    pub fn leaves(&self) -> Vec<Leaf> {
        let mut found = Vec::new();
        collect(&self.root, (&mut Vec::new(), &mut Vec::new()), &mut found);
        let mut shown: Vec<Diagnostic> = found.iter().map(|leaf| Diagnostic::error("").at(&leaf.mark.span())).collect();
        mask::apply(&mut shown, &self.secrets);
        let hidden = |mark: &Mark| {
            let inside = |span: &&Span| span.source.path == mark.source.path && span.range.start <= mark.start;
            self.secrets.iter().filter(inside).any(|span| mark.end <= span.range.end && mark.start < mark.end)
        };
        let leaf = |(found, shown): (Found, Diagnostic)| {
            let text = shown.span.map(|span| {
                let line = span.source.text.lines().nth(span.line() - 1).unwrap_or("").trim();
                line.strip_suffix("# ***").unwrap_or(line).trim_end().to_owned()
            });
            Leaf {
                place: found.mark.place(),
                line: text.unwrap_or_default(),
                word: if hidden(&found.mark) { String::new() } else { found.word },
                key: found.key,
                route: found.route,
                is_name: found.is_name,
            }
        };
        found.into_iter().zip(shown).map(leaf).collect()
    }

    /// The sites that come of other values there, those first that differ least; the last is that without it. A name has none: all that
    /// is called by it would have to change too. Lazy, for each is a whole inventory.
    pub fn variants<'w>(&'w self, leaf: &'w Leaf) -> impl Iterator<Item = Site> + 'w {
        let node = if leaf.is_name { None } else { find(&self.root, &leaf.route) };
        let text = node.and_then(Node::text);
        let mut texts = text.map(others).unwrap_or_default();
        let last = leaf.key.trim_end_matches("[]").rsplit('.').next().unwrap_or_default();
        let words = WORDS.iter().filter(|(key, _)| *key == last).flat_map(|(_, words)| words.iter().copied());
        // Where a host's name stands, another host's may.
        let hosts = self.root.get("hosts").map_or(&[][..], |hosts| hosts.value.entries());
        let is_host = text.is_some_and(|text| hosts.iter().any(|host| host.key.text == text));
        let names = hosts.iter().map(|host| host.key.text.as_str()).filter(|_| is_host);
        texts.extend(words.chain(names).filter(|word| Some(*word) != text).map(ToOwned::to_owned));
        let changes = texts.into_iter().map(Some).chain(node.map(|_| None));
        changes.filter_map(|text| {
            let mut root = self.root.clone();
            change(&mut root, &leaf.route, text)?;
            let mut problems = Problems::default();
            let site = resolve::resolve(&root, &self.path, &mut problems);
            site.filter(|_| !problems.has_errors())
        })
    }
}

/// A leaf before it can be shown.
struct Found {
    key: String,
    mark: Mark,
    word: String,
    route: Vec<usize>,
    is_name: bool,
}

fn collect<'n>(node: &'n Node, (path, route): (&mut Vec<&'n str>, &mut Vec<usize>), out: &mut Vec<Found>) {
    let key = |path: &[&str]| path.join(".").replace(".[", "[");
    match &node.value {
        Value::List(items) if !items.is_empty() => {
            for (index, item) in items.iter().enumerate() {
                path.push("[]");
                route.push(index);
                collect(item, (path, route), out);
                route.pop();
                path.pop();
            }
        }
        Value::Map(entries) if !entries.is_empty() => {
            let named = NAMED.contains(&path.as_slice());
            for (index, Entry { key: name, value }) in entries.iter().enumerate() {
                path.push(&name.text);
                route.push(index);
                if named {
                    let (key, route) = (key(path), route.clone());
                    out.push(Found { key, mark: name.mark.clone(), word: name.text.clone(), route, is_name: true });
                }
                collect(value, (path, route), out);
                route.pop();
                path.pop();
            }
        }
        _ => out.push(Found {
            key: key(path),
            mark: node.mark.clone(),
            word: node.text().unwrap_or("").to_owned(),
            route: route.clone(),
            is_name: false,
        }),
    }
}

fn find<'n>(node: &'n Node, route: &[usize]) -> Option<&'n Node> {
    let Some((first, rest)) = route.split_first() else { return Some(node) };
    match &node.value {
        Value::List(items) => find(items.get(*first)?, rest),
        Value::Map(entries) => find(&entries.get(*first)?.value, rest),
        Value::Null | Value::Broken | Value::Scalar { .. } => None,
    }
}

/// Puts `text` where `route` leads, or takes away what is there.
fn change(node: &mut Node, route: &[usize], text: Option<String>) -> Option<()> {
    let (first, rest) = route.split_first()?;
    let last = rest.is_empty();
    match &mut node.value {
        Value::List(items) if last && text.is_none() && *first < items.len() => drop(items.remove(*first)),
        Value::Map(entries) if last && text.is_none() && *first < entries.len() => drop(entries.remove(*first)),
        Value::List(items) if last => items.get_mut(*first)?.value = Value::Scalar { text: text?, plain: false },
        Value::Map(entries) if last => {
            let value = scalar(&entries.get(*first)?.value, text?);
            entries.get_mut(*first)?.value.value = value;
        }
        Value::List(items) => change(items.get_mut(*first)?, rest, text)?,
        Value::Map(entries) => change(&mut entries.get_mut(*first)?.value, rest, text)?,
        Value::Null | Value::Broken | Value::Scalar { .. } => return None,
    }
    Some(())
}

/// The text in the form of what stands there: a number in quotes is none.
fn scalar(before: &Node, text: String) -> Value {
    Value::Scalar { text, plain: matches!(before.value, Value::Scalar { plain: true, .. }) }
}

/// Texts of the same kind as `text`, as far as its form tells a kind.
fn others(text: &str) -> Vec<String> {
    let mut all = Vec::new();
    let opposite = [("true", "false"), ("yes", "no"), ("on", "off")];
    if let Some((a, b)) = opposite.into_iter().find(|(a, b)| text == *a || text == *b) {
        all.push(if text == a { b } else { a }.to_owned());
    }
    if let Ok(net) = text.parse::<IpNet>() {
        all.extend(
            net.subnets((net.prefix_len() + 1).min(net.max_prefix_len()))
                .into_iter()
                .flatten()
                .take(2)
                .map(|n| n.to_string()),
        );
    }
    if let Ok(address) = text.parse::<IpAddr>() {
        all.extend([101, 37, 3].into_iter().map(|step| moved(address, step).to_string()));
    }
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    if let Ok(number) = number.parse::<u64>() {
        let near = [number.checked_add(1), number.checked_sub(1), number.checked_mul(2), number.checked_add(7)];
        all.extend(near.into_iter().flatten().map(|number| format!("{number}{unit}")));
    }
    // Of a word, its last letter and then its first.
    let letters: Vec<(usize, char)> = text.char_indices().filter(|(_, c)| c.is_ascii_lowercase()).collect();
    for (at, c) in [letters.last(), letters.first()].into_iter().flatten() {
        let other = if *c == 'q' { 'k' } else { 'q' };
        let mut changed = text.to_owned();
        changed.replace_range(*at..at + c.len_utf8(), other.encode_utf8(&mut [0; 4]));
        all.push(changed);
    }
    let mut seen = BTreeSet::from([text.to_owned()]);
    all.retain(|other| seen.insert(other.clone()));
    all
}

/// Another address of the same family, in the same network most often.
fn moved(address: IpAddr, step: u8) -> IpAddr {
    match address {
        IpAddr::V4(v4) => {
            let [a, b, c, d] = v4.octets();
            IpAddr::from([a, b, c, d.wrapping_add(step)])
        }
        IpAddr::V6(v6) => {
            let mut octets = v6.octets();
            octets[15] = octets[15].wrapping_add(step);
            IpAddr::from(octets)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_has_its_place_and_another_value() {
        let written = Written::read(Path::new("inventories/full.yml")).unwrap();
        let leaves = written.leaves();
        let of = |key: &str| leaves.iter().find(|leaf| leaf.key == key).unwrap_or_else(|| panic!("no {key}"));
        assert!(of("hosts.web1").is_name);
        assert_eq!((of("name").line.as_str(), of("name").word.as_str()), ("name: shop", "shop"));
        let changed = written.variants(of("name")).next().unwrap();
        assert_ne!(changed.name.as_str(), "shop");
        // Nearly all can be changed alone; the rest are such as the one value that a key can have.
        let fixed: Vec<&str> = leaves
            .iter()
            .filter(|leaf| !leaf.is_name && written.variants(leaf).next().is_none())
            .map(|leaf| leaf.key.as_str())
            .collect();
        assert!(fixed.len() * 4 < leaves.len(), "{} of {}: {fixed:?}", fixed.len(), leaves.len());
    }
}
