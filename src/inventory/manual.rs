//! The manual of the inventory's keys: takes the text of `inventories/reference.yml`, which is the only place where they are explained,
//! gives what it says of each key, and a JSON Schema for editors.

use std::collections::BTreeMap;
use std::ops::Range;

use serde_json::{Map, Value, json};

use crate::base::diagnostic::{Diagnostic, did_you_mean};

/// Every key, with comments.
pub const REFERENCE: &str = include_str!("../../inventories/reference.yml");

/// Maps whose keys are names that a person chooses, and what stands for such a name.
const NAMED: [(&str, &str); 5] = [
    ("hosts", "HOST"),
    ("sites", "SITE"),
    ("database.users", "USER"),
    ("database.settings", "SETTING"),
    ("monitoring.alerts", "ALERT"),
];

/// Sections of which the manual has every key that may be written at all times; others have keys that only some engines take.
const WHOLE: [&str; 5] = ["", "hosts.HOST", "firewall", "database", "certificates"];

/// What the manual says of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// `database.users.USER.grants`.
    pub path: String,
    /// Its comment, and the key as an example.
    pub text: String,
}

/// What a person's word means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// One key.
    One(Entry),
    /// The last part of several.
    Several(Vec<String>),
}

/// All keys by their paths.
#[derive(Debug, Clone, Default)]
pub struct Manual {
    entries: BTreeMap<String, Range<usize>>,
    example: Value,
}

/// Appends a part to a path; what stands under a map of names is called by what it is.
fn joined(path: &str, key: &str) -> String {
    let key = NAMED.iter().find(|(map, _)| *map == path).map_or(key, |(_, name)| name);
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

/// The key that a line begins with, and how far it is indented; also of a key that is commented out, as an example.
fn key(line: &str) -> Option<(usize, &str)> {
    let text = line.trim_start();
    let indent = line.len() - text.len();
    let (text, example) = text.strip_prefix("# ").map_or((text, false), |text| (text, true));
    let (key, rest) = text.split_once(':')?;
    let plain = !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c));
    let lower = key.starts_with(|c: char| c.is_ascii_alphanumeric());
    let fits = if example {
        rest.starts_with(" [") || rest.starts_with(" {")
    } else {
        rest.is_empty() || rest.starts_with(' ')
    };
    (plain && lower && fits).then_some((indent, key))
}

impl Manual {
    /// Reads the reference.
    ///
    /// # Errors
    /// A reference that is no YAML, which is a fault of the program.
    pub fn read() -> Result<Self, Diagnostic> {
        let example: Value = serde_yaml::from_str(REFERENCE)
            .map_err(|error| Diagnostic::error(format!("the reference of the inventory does not read: {error}")))?;
        let mut manual = Self { entries: BTreeMap::new(), example };
        manual.locate();
        let example = manual.example.clone();
        manual.add("", &example);
        Ok(manual)
    }

    /// Where each key that has a line of its own begins, with its comment, and ends.
    fn locate(&mut self) {
        let lines: Vec<&str> = REFERENCE.lines().collect();
        let mut stack: Vec<(usize, String)> = Vec::new();
        // Path, indentation, first line with the comment.
        let mut found: Vec<(String, usize, usize)> = Vec::new();
        let mut comment = None;
        for (number, line) in lines.iter().enumerate() {
            if let Some((indent, name)) = key(line) {
                while stack.last().is_some_and(|(other, _)| *other >= indent) {
                    stack.pop();
                }
                let path = joined(stack.last().map_or("", |(_, path)| path), name);
                found.push((path.clone(), indent, comment.take().unwrap_or(number)));
                stack.push((indent, path));
            } else if line.trim_start().starts_with('#') {
                comment = comment.or(Some(number));
            } else {
                comment = None;
            }
        }
        for (at, (path, indent, begin)) in found.iter().enumerate() {
            let next = found.iter().skip(at + 1).find(|(_, other, _)| other <= indent);
            let end = next.map_or(lines.len(), |(_, _, begin)| *begin);
            self.entries.entry(path.clone()).or_insert(*begin..end);
        }
    }

    /// Keys that stand within a line are explained by that line.
    fn add(&mut self, path: &str, value: &Value) {
        match value {
            Value::Object(fields) => {
                for (key, value) in fields {
                    let below = joined(path, key);
                    if !self.entries.contains_key(&below)
                        && let Some(range) = self.entries.get(path).cloned()
                    {
                        self.entries.insert(below.clone(), range);
                    }
                    self.add(&below, value);
                }
            }
            Value::Array(items) => items.iter().for_each(|item| self.add(path, item)),
            _ => {}
        }
    }

    /// The paths of all keys.
    pub fn paths(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    fn entry(&self, path: &str) -> Option<Entry> {
        let range = self.entries.get(path)?;
        let lines: Vec<&str> = REFERENCE.lines().skip(range.start).take(range.len()).collect();
        let text = lines.join("\n");
        Some(Entry { path: path.to_owned(), text: text.trim_end().to_owned() + "\n" })
    }

    /// What a person means: a path with their own names in it, or the end of one.
    ///
    /// # Errors
    /// No such key, with the nearest.
    pub fn find(&self, word: &str) -> Result<Found, Diagnostic> {
        let path = word.split('.').fold(String::new(), |path, part| {
            // The name of a site has dots of its own.
            let in_site = path == "sites.SITE" && !self.entries.contains_key(&joined(&path, part));
            if in_site { path } else { joined(&path, part) }
        });
        if let Some(entry) = self.entry(&path).or_else(|| self.entry(word)) {
            return Ok(Found::One(entry));
        }
        let end = format!(".{word}");
        let all: Vec<String> = self.entries.keys().filter(|path| path.ends_with(&end)).cloned().collect();
        match all.as_slice() {
            [one] => {
                self.entry(one).map(Found::One).ok_or_else(|| Diagnostic::error(format!("`{word}` is not explained")))
            }
            [] => {
                let last = self.entries.keys().filter_map(|path| path.rsplit('.').next());
                let near = did_you_mean(word, self.paths()).or_else(|| did_you_mean(word, last));
                let error = Diagnostic::error(format!("an inventory has no key `{word}`"));
                Err(error.help(near.unwrap_or_else(|| "`infra docs` lists all keys".to_owned())))
            }
            _ => Ok(Found::Several(all)),
        }
    }

    /// A JSON Schema (draft 2020-12) of inventories, for editors: it knows the keys and what they are for. What is right is `check`'s to say.
    pub fn schema(&self) -> Value {
        let mut schema = self.node("", &[&self.example]);
        if let Some(fields) = schema.as_object_mut() {
            fields.insert("$schema".to_owned(), json!("https://json-schema.org/draft/2020-12/schema"));
            fields.insert("type".to_owned(), json!("object"));
            fields.insert("title".to_owned(), json!("Inventory of infra"));
            // A person's own keys, for anchors.
            fields.insert("patternProperties".to_owned(), json!({ "^x-": {} }));
        }
        schema
    }

    fn node(&self, path: &str, values: &[&Value]) -> Value {
        let mut out = Map::new();
        if let Some(about) = self.about(path) {
            out.insert("description".to_owned(), json!(about));
        }
        let objects: Vec<&Map<String, Value>> = values.iter().filter_map(|value| value.as_object()).collect();
        let secret =
            |object: &&Map<String, Value>| object.keys().all(|key| ["env", "file", "command"].contains(&key.as_str()));
        let items: Vec<&Value> = values.iter().filter_map(|value| value.as_array()).flatten().collect();
        // No type is asked for: several keys take one value, a list of such, or nothing.
        if !objects.is_empty() && !objects.iter().all(secret) {
            let named = NAMED.iter().any(|(map, _)| *map == path);
            let mut fields: BTreeMap<&str, Vec<&Value>> = BTreeMap::new();
            for (key, value) in objects.iter().flat_map(|object| object.iter()) {
                fields.entry(if named { "" } else { key }).or_default().push(value);
            }
            if named {
                let all = fields.remove("").unwrap_or_default();
                out.insert("additionalProperties".to_owned(), self.node(&joined(path, ""), &all));
            } else {
                let mut properties: Map<String, Value> = fields
                    .iter()
                    .map(|(key, values)| ((*key).to_owned(), self.node(&joined(path, key), values)))
                    .collect();
                // Those that the manual has as commented examples.
                for below in self.entries.keys() {
                    let rest = if path.is_empty() {
                        Some(below.as_str())
                    } else {
                        below.strip_prefix(path).and_then(|rest| rest.strip_prefix('.'))
                    };
                    if let Some(key) = rest.filter(|key| !key.contains('.') && !properties.contains_key(*key)) {
                        properties.insert(key.to_owned(), self.node(below, &[]));
                    }
                }
                out.insert("properties".to_owned(), Value::Object(properties));
                if WHOLE.contains(&path) {
                    out.insert("additionalProperties".to_owned(), json!(false));
                }
            }
        }
        if items.iter().any(|item| item.is_object()) {
            out.insert("items".to_owned(), self.node(path, &items));
        }
        Value::Object(out)
    }

    /// The comment of a key without its marks.
    fn about(&self, path: &str) -> Option<String> {
        let range = self.entries.get(path)?;
        let lines: Vec<&str> = REFERENCE.lines().skip(range.start).take(range.len()).collect();
        let comments =
            lines.iter().map(|line| line.trim_start()).take_while(|line| line.starts_with('#') && key(line).is_none());
        let above = comments.map(|line| line.trim_start_matches('#').trim()).collect::<Vec<_>>().join(" ");
        let beside = || lines.first().and_then(|line| line.split_once(" # ")).map(|(_, text)| text.trim().to_owned());
        Some(above).filter(|above| !above.is_empty()).or_else(beside)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_found_by_path_and_by_end() {
        let manual = Manual::read().unwrap();
        for (word, path, words) in [
            ("database.max_lag", "database.max_lag", "Reads leave a replica"),
            ("max_lag", "database.max_lag", "  max_lag: 10s"),
            ("hosts.web9.address", "hosts.HOST.address", "What SSH connects to"),
            ("sites.a.example.net.app.port", "sites.SITE.app.port", "Your program"),
            ("sites.SITE.app", "sites.SITE.app", "Your program"),
            ("database.users.anna.grants", "database.users.USER.grants", "grants: [SELECT"),
            ("ports.web", "ports.web", "The ports of TLS"),
            ("firewall.allow.why", "firewall.allow.why", "shows in the matrix"),
            ("include", "include", "More files"),
            ("monitoring.repository", "monitoring.repository", "Where Telegraf comes from"),
            ("name", "name", "One DNS label"),
        ] {
            match manual.find(word) {
                Ok(Found::One(entry)) => {
                    assert_eq!(entry.path, path, "{word}");
                    assert!(entry.text.contains(words), "{word}: {}", entry.text);
                }
                other => panic!("{word}: {other:?}"),
            }
        }
        assert!(!matches!(manual.find("database.max_lag"), Ok(Found::One(entry)) if entry.text.contains("semi_sync")));
        assert!(matches!(manual.find("port"), Ok(Found::Several(all)) if all.len() > 2));
        for (word, near) in
            [("database.maxlag", "database.max_lag"), ("manage_form", "manage_from"), ("certificats", "certificates")]
        {
            assert_eq!(manual.find(word).unwrap_err().help, [format!("did you mean `{near}`?")], "{word}");
        }
    }

    #[test]
    fn every_path_says_something() {
        let manual = Manual::read().unwrap();
        assert!(manual.paths().count() > 60);
        for path in manual.paths() {
            assert!(manual.entry(path).is_some_and(|entry| entry.text.trim().len() > 4), "{path}");
        }
    }
}
