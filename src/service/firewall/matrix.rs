//! The flows as a table, from rows to columns: takes flows, gives cells of ports, and the table as plain text.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use schemars::JsonSchema;
use serde::Serialize;

use crate::base::net::Port;
use crate::base::proto::Proto;
use crate::base::visible;
use crate::inventory::site::{Party, Place, Role, Site};

use super::flows::{Flow, Kind};

/// One port in a cell.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
pub struct Entry {
    /// Destination port; none where the protocol has none, and where all of them are meant.
    pub port: Option<Port>,
    /// The protocol.
    pub proto: Proto,
    /// The gateway, of what is forwarded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub through: Option<String>,
    /// Only for processes of these users; empty means any.
    pub uids: BTreeSet<u32>,
    /// Why, by kind.
    pub kind: Kind,
    /// Why, in words.
    pub why: String,
    /// The inventory line that asks for it.
    pub place: Option<Place>,
}

impl Entry {
    /// `443`, `53/udp`, `vrrp`, `80*` where only some users may, `443 through gw1`.
    fn word(&self) -> String {
        let door = match self.port {
            Some(port) if self.proto == Proto::Tcp => port.to_string(),
            port => self.proto.at(port),
        };
        let users = if self.uids.is_empty() { "" } else { "*" };
        let through = self.through.as_ref().map(|host| format!(" through {host}")).unwrap_or_default();
        format!("{door}{users}{through}")
    }
}

/// One row: who opens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Row {
    /// `internet`, `manage_from`, a role, a host or a network.
    pub from: String,
    /// By column; a column without ports is absent.
    pub to: BTreeMap<String, Vec<Entry>>,
}

/// Who may talk to whom.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Matrix {
    /// The columns in order: roles, hosts and networks of `firewall.allow`, the internet.
    pub columns: Vec<String>,
    /// The rows in order: internet, `manage_from`, roles, hosts, networks.
    pub rows: Vec<Row>,
}

/// The order of endpoints in rows and columns.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum End {
    First(&'static str),
    Role(Role),
    Host(String),
    Net(String),
    Last(&'static str),
}

impl End {
    fn name(&self) -> String {
        match self {
            Self::First(text) | Self::Last(text) => (*text).into(),
            Self::Role(role) => role.to_string(),
            Self::Host(text) | Self::Net(text) => text.clone(),
        }
    }
}

/// The table of all flows. `all` is spread over the roles.
pub fn matrix(site: &Site, flows: &[Flow]) -> Matrix {
    let roles: Vec<Role> = Role::ALL.into_iter().filter(|r| site.with_role(*r).next().is_some()).collect();
    let ends = |party: &Party, internet: End| match party {
        Party::All => roles.iter().map(|r| End::Role(*r)).collect(),
        Party::Role(role) => vec![End::Role(*role)],
        Party::Host(name) => vec![End::Host(name.to_string())],
        Party::Net(net) => vec![End::Net(net.to_string())],
        Party::Internet => vec![internet],
    };
    let mut columns: BTreeSet<End> = roles.iter().map(|r| End::Role(*r)).collect();
    let mut rows: BTreeMap<End, BTreeMap<End, BTreeSet<Entry>>> = BTreeMap::new();
    for flow in flows {
        let from = match (flow.kind, &flow.from) {
            (Kind::Manage, Party::Net(_)) => vec![End::First("manage_from")],
            (_, party) => ends(party, End::First("internet")),
        };
        for row in from {
            for column in ends(&flow.to, End::Last("internet")) {
                columns.insert(column.clone());
                rows.entry(row.clone()).or_default().entry(column).or_default().insert(Entry {
                    port: flow.port,
                    proto: flow.proto,
                    through: flow.through.as_ref().map(ToString::to_string),
                    uids: flow.uids.clone(),
                    kind: flow.kind,
                    why: flow.why.clone(),
                    place: flow.place.clone(),
                });
            }
        }
    }
    Matrix {
        columns: columns.iter().map(End::name).collect(),
        rows: rows
            .into_iter()
            .map(|(from, to)| Row {
                from: from.name(),
                to: to.into_iter().map(|(column, cell)| (column.name(), cell.into_iter().collect())).collect(),
            })
            .collect(),
    }
}

impl Matrix {
    /// The table as text of at most `width` columns; where that is too narrow, a list with a line a cell.
    pub fn to_table(&self, width: usize) -> String {
        let cell = |row: &Row, column: &String| -> Vec<String> {
            let mut words: Vec<String> = Vec::new();
            for word in row.to.get(column).into_iter().flatten().map(Entry::word) {
                if !words.contains(&word) {
                    words.push(word);
                }
            }
            words
        };
        let head = "from / to";
        let first = self.rows.iter().map(|r| r.from.len()).chain([head.len()]).max().unwrap_or(0);
        let least = |column: &String| {
            let longest = self.rows.iter().flat_map(|r| cell(r, column)).map(|w| w.len() + 1).max();
            longest.unwrap_or(1).max(column.len())
        };
        let full = |column: &String| {
            self.rows.iter().map(|r| cell(r, column).join(", ").len()).max().unwrap_or(1).max(column.len())
        };
        let mut widths: Vec<usize> = self.columns.iter().map(full).collect();
        let total = |widths: &[usize]| first + widths.iter().map(|w| w + 2).sum::<usize>();
        while total(&widths) > width {
            // The widest column that can still give way does.
            let giving = widths.iter_mut().zip(&self.columns).filter(|(w, c)| **w > least(c)).max_by_key(|(w, _)| **w);
            match giving {
                Some((widest, _)) => *widest -= 1,
                None => return self.to_list(cell, width),
            }
        }
        let mut text = String::new();
        let mut line = |cells: Vec<(String, usize)>| {
            let joined: Vec<String> = cells.into_iter().map(|(text, width)| format!("{text:width$}")).collect();
            text.push_str(joined.join("  ").trim_end());
            text.push('\n');
        };
        let mut header = vec![(head.to_owned(), first)];
        header.extend(self.columns.iter().cloned().zip(widths.iter().copied()));
        line(header);
        for row in &self.rows {
            let cells: Vec<Vec<String>> =
                self.columns.iter().zip(&widths).map(|(column, width)| wrap(&cell(row, column), *width)).collect();
            let height = cells.iter().map(Vec::len).max().unwrap_or(1).max(1);
            for at in 0..height {
                let mut parts = vec![(if at == 0 { row.from.clone() } else { String::new() }, first)];
                for (lines, width) in cells.iter().zip(&widths) {
                    let empty = if at == 0 { "-" } else { "" };
                    parts.push((lines.get(at).cloned().unwrap_or_else(|| empty.into()), *width));
                }
                line(parts);
            }
        }
        self.with_notes(text, width)
    }

    fn to_list(&self, cell: impl Fn(&Row, &String) -> Vec<String>, width: usize) -> String {
        let mut text = String::new();
        for row in &self.rows {
            for column in self.columns.iter().filter(|c| row.to.contains_key(*c)) {
                let _ = writeln!(text, "{} -> {column}: {}", row.from, cell(row, column).join(", "));
            }
        }
        self.with_notes(text, width)
    }

    /// What the signs of the table mean, and why each flow is open that the roles do not imply.
    fn with_notes(&self, mut text: String, width: usize) -> String {
        let users: BTreeSet<u32> =
            self.rows.iter().flat_map(|r| r.to.values().flatten()).flat_map(|e| e.uids.clone()).collect();
        if !users.is_empty() {
            let users: Vec<String> = users.iter().map(ToString::to_string).collect();
            let _ = writeln!(text, "* only processes of the users {}", users.join(", "));
        }
        let mut reasons: BTreeMap<(&str, String, &str), Vec<&str>> = BTreeMap::new();
        for row in &self.rows {
            for (column, cell) in &row.to {
                for entry in cell.iter().filter(|entry| matches!(entry.kind, Kind::Allow | Kind::Forward)) {
                    reasons.entry((column, entry.word(), &entry.why)).or_default().push(&row.from);
                }
            }
        }
        for ((to, word, why), from) in reasons {
            let words = format!("{} -> {to} {word}: {}", from.join(", "), visible::line(why));
            let words: Vec<String> = words.split(' ').map(str::to_owned).collect();
            let mut lines = joined(&words, " ", width.saturating_sub(2)).into_iter();
            let first = lines.next().unwrap_or_default();
            let _ = writeln!(text, "{first}");
            for line in lines {
                let _ = writeln!(text, "  {line}");
            }
        }
        text
    }
}

/// Joins words by `, ` into lines of at most `width`.
fn wrap(words: &[String], width: usize) -> Vec<String> {
    joined(words, ", ", width)
}

/// Joins words by a sign and a space into lines of at most `width`.
fn joined(words: &[String], by: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for (at, word) in words.iter().enumerate() {
        let word = if at + 1 < words.len() { format!("{word}{}", by.trim_end()) } else { word.clone() };
        match lines.last_mut() {
            Some(last) if last.len() + 1 + word.len() <= width => {
                last.push(' ');
                last.push_str(&word);
            }
            _ => lines.push(word),
        }
    }
    lines
}
