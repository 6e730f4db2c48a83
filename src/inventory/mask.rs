//! Keeps secrets that were written into an inventory off the screen: takes places in a text, gives diagnostics whose
//! source shows `***` there.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use crate::base::diagnostic::{Diagnostic, Source, Span};
use crate::inventory::raw::{Node, Value};

/// Keys whose value is a secret.
const SECRET_KEYS: [&str; 4] = ["password", "token", "source", "key"];

/// Whether what stands under `key` may be a secret, misspelled keys included. Under `hosts`, `sites` and `users` keys are names.
pub(crate) fn is_sensitive(key: &str, parent: Option<&str>) -> bool {
    if matches!(parent, Some("hosts" | "sites" | "users")) {
        return false;
    }
    let key = key.to_ascii_lowercase();
    SECRET_KEYS.contains(&key.as_str())
        || ["pass", "secret", "token", "apikey", "api_key", "credential"].iter().any(|part| key.contains(part))
        || (key.len() > 3 && SECRET_KEYS.iter().any(|known| strsim::jaro_winkler(&key, known) > 0.85))
}

/// Masks every scalar in `node`.
pub(crate) fn all(node: &Node, out: &mut Vec<Span>) {
    match &node.value {
        Value::Null | Value::Broken => {}
        Value::Scalar { .. } => out.push(whole(node)),
        Value::List(items) => items.iter().for_each(|item| all(item, out)),
        Value::Map(entries) => entries.iter().for_each(|entry| all(&entry.value, out)),
    }
}

/// Masks the value of a secret key: all but a well-formed reference (`{env: X}`, `{file: path}`, `{command: [argv]}`).
pub(crate) fn value(node: &Node, out: &mut Vec<Span>) {
    let Value::Map(entries) = &node.value else { return all(node, out) };
    for entry in entries {
        let fine = match (entry.key.text.as_str(), &entry.value.value) {
            ("env", Value::Scalar { text, .. }) => is_variable(text),
            ("file", Value::Scalar { text, .. }) => !text.contains("://"),
            ("command", Value::List(_)) => true,
            _ => false,
        };
        if !fine {
            all(&entry.value, out);
        }
    }
}

/// Whether `text` can be the name of an environment variable (POSIX.1-2024 base definitions 8.1).
pub(crate) fn is_variable(text: &str) -> bool {
    !text.is_empty()
        && !text.starts_with(|c: char| c.is_ascii_digit())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

fn whole(node: &Node) -> Span {
    Span { source: Arc::clone(&node.mark.source), range: node.mark.start..node.mark.end.max(node.mark.start) }
}

/// Where grammar fails there is no tree: masks, on one line of the text, what follows a colon after a word that may be a secret's key,
/// and the whole line when it seems to continue such a value.
pub(crate) fn guess(source: &Arc<Source>, line: usize) -> Vec<Span> {
    let mut out = Vec::new();
    let (mut start, mut open) = (0, false);
    for (index, text) in source.text.split_inclusive('\n').enumerate() {
        let body = text.trim_end();
        let mut secret = None;
        let mut has_key = false;
        for (at, _) in body.match_indices(':') {
            has_key = true;
            let before = body.get(..at).unwrap_or("").trim_end_matches(['"', '\'', ' ']);
            let word = before.rsplit([' ', '{', ',', '"', '\'', '\t', '-']).next().unwrap_or("");
            if is_sensitive(word, None) {
                secret = Some(at + 1);
                break;
            }
        }
        let from = match secret {
            Some(at) => Some(at + body.get(at..).map_or(0, |rest| rest.len() - rest.trim_start().len())),
            None if open && !has_key => Some(body.len() - body.trim_start().len()),
            None => None,
        };
        open = from.is_some();
        if index + 1 == line {
            if let Some(from) = from.filter(|from| *from < body.len()) {
                out.push(Span { source: Arc::clone(source), range: start + from..start + body.len() });
            }
            break;
        }
        start += text.len();
    }
    out
}

/// Replaces the masked places in the sources of all diagnostics, and moves their spans along.
pub(crate) fn apply(diagnostics: &mut [Diagnostic], secrets: &[Span]) {
    let mut by_source: BTreeMap<PathBuf, Masked> = BTreeMap::new();
    for span in secrets {
        let masked = by_source.entry(span.source.path.clone()).or_insert_with(|| Masked {
            old: Arc::clone(&span.source),
            ranges: Vec::new(),
            new: None,
        });
        masked.ranges.push(span.range.clone());
    }
    for masked in by_source.values_mut() {
        masked.build();
    }
    for diagnostic in diagnostics {
        let related = diagnostic.related.iter_mut().map(|(span, _)| span);
        for span in diagnostic.span.iter_mut().chain(related) {
            if let Some(masked) = by_source.get(&span.source.path) {
                masked.move_span(span);
            }
        }
    }
}

struct Masked {
    old: Arc<Source>,
    ranges: Vec<Range<usize>>,
    new: Option<(Arc<Source>, Vec<Replaced>)>,
}

/// A range of the old text and the range that it became.
struct Replaced {
    old: Range<usize>,
    new: Range<usize>,
    /// One after the newlines that were kept behind `new`.
    tail: usize,
}

impl Masked {
    fn build(&mut self) {
        self.ranges.sort_by_key(|range| (range.start, range.end));
        let (mut text, mut at, mut replaced) = (String::new(), 0, Vec::<Replaced>::new());
        for range in &self.ranges {
            let (Some(before), Some(hidden)) = (self.old.text.get(at..range.start), self.old.text.get(range.clone()))
            else {
                continue; // lies within the one before
            };
            if hidden.is_empty() {
                continue;
            }
            text.push_str(before);
            let start = text.len();
            text.push_str("***");
            let end = text.len();
            // A block's lines stay, so that the numbers of the lines below it do.
            text.extend(std::iter::repeat_n('\n', hidden.matches('\n').count()));
            replaced.push(Replaced { old: range.clone(), new: start..end, tail: text.len() });
            at = range.end;
        }
        text.push_str(self.old.text.get(at..).unwrap_or(""));
        self.new = Some((Arc::new(Source { path: self.old.path.clone(), text }), replaced));
    }

    fn move_span(&self, span: &mut Span) {
        let Some((source, replaced)) = &self.new else { return };
        let start = moved(replaced, span.range.start, false);
        let end = moved(replaced, span.range.end, true).max(start);
        *span = Span { source: Arc::clone(source), range: start..end };
    }
}

/// Where an old offset lies now; inside of a masked range: its begin, or its end.
fn moved(replaced: &[Replaced], offset: usize, to_end: bool) -> usize {
    let index = replaced.partition_point(|r| r.old.start < offset || (!to_end && r.old.start == offset));
    let Some(last) = index.checked_sub(1).and_then(|index| replaced.get(index)) else { return offset };
    if offset < last.old.end || (to_end && offset == last.old.end) {
        if to_end { last.new.end } else { last.new.start }
    } else {
        last.tail + (offset - last.old.end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::diagnostic::draw;
    use crate::inventory::parse::parse;

    fn source(text: &str) -> Arc<Source> {
        Arc::new(Source { path: "a.yml".into(), text: text.into() })
    }

    /// What of `text` is shown when every line of it has something wrong.
    fn shown(text: &str) -> String {
        let source = source(text);
        let parsed = parse(&source);
        let mut diagnostics = parsed.diagnostics;
        let mut start = 0;
        for line in text.split_inclusive('\n') {
            let span = Span { source: Arc::clone(&source), range: start..start + line.trim_end().len() };
            diagnostics.push(Diagnostic::error("a line").at(&span));
            start += line.len();
        }
        apply(&mut diagnostics, &parsed.secrets);
        draw(&diagnostics, false)
    }

    #[test]
    fn secrets_are_hidden_in_whatever_form_they_stand() {
        for text in [
            "monitoring:\n  source: hunter2\n  service: x\n",
            "monitoring: { source: 'hunter2', service: x }\n",
            "a:\n  password: |\n    hunter2\n    hunter2\n  b: 1\n",
            "a:\n  passwrod: \"hunter2\\\n    hunter2\"\n  b: 1\n",
            "a: { token: [hunter2, { x: hunter2 }], sorce: { value: hunter2 } }\n",
            "a: { key: first-hunter2, key: second-hunter2 }\n",
            "a: { source: { env: \"https://hunter2\" } }\n",
            "x: &x hunter2\npassword: *x\n",
            "API_TOKEN: hunter2\n",
        ] {
            let shown = shown(text);
            assert!(shown.contains("***") && !shown.contains("hunter2"), "{text}\n{shown}");
        }
    }

    #[test]
    fn references_and_names_are_shown() {
        for text in ["source: { env: SUMO }\n", "password: { file: a/b }\n", "key: { command: [pass, show] }\n"] {
            assert!(!shown(text).contains("***"), "{text}");
        }
        assert!(!shown("hosts: { token: { address: 10.0.0.1 } }\n").contains("***"));
    }

    #[test]
    fn places_move_with_the_text() {
        let old = source("a: 1\npassword: |\n  x\n  y\nb: 2 # after\n");
        let after = old.text.find("b:").unwrap();
        let secret = old.text.find("  x").unwrap()..after;
        let mut diagnostics = [Diagnostic::error("e").at(&Span { source: Arc::clone(&old), range: after..after + 1 })];
        apply(&mut diagnostics, &[Span { source: Arc::clone(&old), range: secret }]);
        let span = diagnostics[0].span.clone().unwrap();
        assert_eq!((span.line(), &span.source.text[span.range.clone()]), (5, "b"));
    }

    #[test]
    fn a_line_that_does_not_parse_hides_its_secret_too() {
        for (text, line) in [
            ("a: 1\n  password: hunter2: x\n", 2),
            ("users: { shop: { password: hunter2 ] }\n", 1),
            ("password: \"hunter2\n  hunter2\n", 2),
            ("source: https://hunter2\n", 1),
        ] {
            let source = source(text);
            let start: usize = text.split_inclusive('\n').take(line - 1).map(str::len).sum();
            let place = Span { source: Arc::clone(&source), range: start..start + 1 };
            let mut diagnostics = [Diagnostic::error("e").at(&place)];
            apply(&mut diagnostics, &guess(&source, line));
            let shown = draw(&diagnostics, false);
            assert!(shown.contains("***") && !shown.contains("hunter2"), "{text}\n{shown}");
        }
    }
}
