//! Where lines come from, for a person: takes explained lines and what is kept on a host, gives a list.

use std::fmt::Write as _;

use schemars::JsonSchema;
use serde::Serialize;

use super::text::{Paint, clean};
use crate::base::net::HostName;
use crate::fleet::explain::{Explained, PACKAGES, Texts, UNITS, Value};
use crate::fleet::meaning::SAID;
use crate::plan::state::DesiredHost;

/// So many values are shown of one line, and so many beside it.
const SHOWN: usize = 6;
const PLACES: usize = 3;

/// Something that infra keeps on a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Kept {
    /// `file`, `unit`, `package`, or `rule` of the firewall.
    pub kind: &'static str,
    /// A path, a name, a rule.
    pub name: String,
    /// What wants it: a service, or the flow behind a rule.
    pub by: String,
    /// The template that a file is rendered from.
    pub template: Option<String>,
    /// What follows when a file changes: `reload nginx.service`.
    pub then: Vec<String>,
}

/// All that is kept on a host.
pub fn kept(desired: &DesiredHost, texts: &Texts) -> Vec<Kept> {
    let mut all = Vec::new();
    for (path, file) in &desired.files {
        let then = file.then.iter().map(|(unit, follow)| format!("{follow} {unit}")).collect();
        let (by, template) = (file.service.to_owned(), file.body.origin.clone());
        all.push(Kept { kind: "file", name: path.clone(), by, template, then });
    }
    let own = texts.texts.keys().filter(|name| ![PACKAGES, UNITS].contains(&name.as_str()));
    for path in own.filter(|path| !desired.files.contains_key(*path)) {
        let by = "firewall".to_owned();
        all.push(Kept { kind: "file", name: path.clone(), by, template: None, then: Vec::new() });
    }
    for unit in desired.units.keys() {
        let followed = desired.files.iter().filter(|(_, file)| file.then.contains_key(unit));
        let mut by: Vec<&str> = followed.map(|(_, file)| file.service).collect();
        by.dedup();
        let (by, name) = (by.join(", "), unit.clone());
        all.push(Kept { kind: "unit", name, by, template: None, then: Vec::new() });
    }
    for package in &desired.packages {
        let (by, name) = (String::new(), package.clone());
        all.push(Kept { kind: "package", name, by, template: None, then: Vec::new() });
    }
    for rule in desired.firewall.iter().flat_map(|set| &set.rules) {
        let text = rule.to_string();
        let name = text.split(" # ").next().unwrap_or_default().to_owned();
        all.push(Kept { kind: "rule", name, by: rule.flow.clone(), template: None, then: Vec::new() });
    }
    all
}

/// A list of what is kept, by kind.
pub(super) fn draw_kept(host: &HostName, kept: &[Kept], paint: Paint) -> String {
    let mut out = String::new();
    for (kind, title) in [("file", "files"), ("unit", "units"), ("package", "packages"), ("rule", "firewall rules")] {
        let some: Vec<&Kept> = kept.iter().filter(|one| one.kind == kind).collect();
        if some.is_empty() {
            continue;
        }
        let _ = writeln!(out, "{}", paint.strong(&format!("{host}, {title}")));
        for one in some {
            let by = if one.by.is_empty() { String::new() } else { format!("  {}", clean(&one.by)) };
            let from = one.template.as_ref().map_or(String::new(), |path| format!(", {}", clean(path)));
            let then = if one.then.is_empty() { String::new() } else { format!(", then {}", one.then.join(", ")) };
            let _ = writeln!(out, "  {}{}", clean(&one.name), paint.faint(&format!("{by}{from}{then}")));
        }
    }
    out
}

/// The lines of the inventory: `9,17`, and with the file where it is another than `main`.
fn places(values: &[Value], main: &str) -> String {
    let mut places: Vec<String> = Vec::new();
    for value in values {
        let place =
            if value.place.file == main { value.place.line.to_string() } else { clean(&value.place.to_string()) };
        if !places.contains(&place) {
            places.push(place);
        }
    }
    let more = places.len() > PLACES;
    places.truncate(PLACES);
    places.join(",") + if more { ",…" } else { "" }
}

/// The lines of one file side by side with where they come from, or each in full.
pub(super) fn draw(lines: &[Explained], whole: bool, paint: Paint) -> String {
    let mut out = String::new();
    if whole {
        let mut files = lines.iter().flat_map(|one| &one.inventory).map(|value| value.place.file.as_str());
        let main = files.next().unwrap_or_default();
        let rows: Vec<(String, String, String)> = lines
            .iter()
            .map(|one| {
                let template = one.template.as_ref().map_or_else(|| "infra".to_owned(), |line| line.line.to_string());
                let values = if one.whole { String::new() } else { places(&one.inventory, main) };
                (one.line.to_string(), template, values)
            })
            .collect();
        let width =
            |of: fn(&(String, String, String)) -> &String| rows.iter().map(|row| of(row).len()).max().unwrap_or(0);
        let (a, b, c) = (width(|r| &r.0), width(|r| &r.1).max(8), width(|r| &r.2).max(9));
        if let Some(first) = lines.first() {
            let by = first.service.as_ref().map_or(String::new(), |by| format!(", by the service {by}"));
            let from = lines.iter().find_map(|line| line.template.as_ref());
            let from = from.map_or(String::new(), |line| format!(", from {}", clean(&line.file)));
            let _ = writeln!(out, "{} {}{by}{from}", first.host, paint.strong(&clean(&first.file)));
            // What the lines of a text say of themselves stands beside them.
            let spoken = |about: &&String| !about.starts_with(SAID);
            let mut told: Vec<&String> = Vec::new();
            for about in lines.iter().flat_map(|line| &line.about).filter(spoken) {
                if !told.contains(&about) {
                    told.push(about);
                    let _ = writeln!(out, "{}", clean(about));
                }
            }
            if let Some(value) = lines.iter().find(|line| line.whole).and_then(|line| line.inventory.first()) {
                let _ = writeln!(out, "it is there because of {}: {}", value.place, clean(&value.text));
            }
            if !main.is_empty() {
                let _ = writeln!(
                    out,
                    "each line with that of the template, and those of {} that it changes with",
                    clean(main)
                );
            }
            let _ = writeln!(out, "{}", paint.faint(&format!("{:>a$}  {:<b$}  {:<c$}", "", "template", "inventory")));
        }
        for (one, (number, template, values)) in lines.iter().zip(&rows) {
            let head = format!("{number:>a$}  {template:<b$}  {values:<c$}");
            let _ = writeln!(out, "{}  {}", paint.faint(&head), clean(&one.text));
        }
        return out;
    }
    for one in lines {
        let _ = writeln!(out, "{} {}", one.host, paint.strong(&format!("{}:{}", clean(&one.file), one.line)));
        let _ = writeln!(out, "    {}", clean(one.text.trim()));
        for about in &one.about {
            let _ = writeln!(out, "  {}", clean(about));
        }
        match &one.template {
            Some(line) => {
                let _ = writeln!(out, "  template   {}:{}", clean(&line.file), line.line);
                let _ = writeln!(out, "    {}", clean(line.text.trim()));
            }
            None => {
                let _ = writeln!(out, "  template   none: infra makes this text by itself");
            }
        }
        if one.inventory.is_empty() {
            let _ = writeln!(out, "  inventory  no value changes this line");
        } else if one.whole {
            let _ = writeln!(out, "  inventory  no value changes this line alone; these decide whether it is there");
        } else {
            let _ = writeln!(out, "  inventory  this line changes with");
        }
        for value in one.inventory.iter().take(SHOWN) {
            let _ = writeln!(
                out,
                "    {}  {}",
                paint.hint(&format!("{} {}", value.place, clean(&value.key))),
                clean(&value.text)
            );
        }
        if one.inventory.len() > SHOWN {
            let _ = writeln!(out, "    and {} more", one.inventory.len() - SHOWN);
        }
    }
    out
}
