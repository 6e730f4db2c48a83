//! Keeps secrets that were written into an inventory off the screen: takes places in a text, gives diagnostics whose
//! source shows `***` there.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use crate::base::diagnostic::{Diagnostic, Source, Span};
use crate::inventory::harmless::{self, is_sensitive};
use crate::inventory::raw::{Entry, Mark, Node, Value};

/// Masks every scalar in `node`, and every key.
pub(super) fn all(node: &Node, out: &mut Vec<Span>) {
    match &node.value {
        Value::Null | Value::Broken | Value::Scalar { .. } => out.push(whole(&node.mark)),
        Value::List(items) => items.iter().for_each(|item| all(item, out)),
        Value::Map(entries) => entries.iter().for_each(|entry| {
            out.push(whole(&entry.key.mark));
            all(&entry.value, out);
        }),
    }
}

/// Masks what `node`, to which `path` leads, has that is not known to be harmless there.
pub(super) fn tree<'n>(path: &mut Vec<&'n str>, node: &'n Node, listed: bool, out: &mut Vec<Span>) {
    match &node.value {
        Value::Scalar { text, .. } if harmless::value(path, text, listed) => {}
        // What was meant as a value may be an anchor, or an alias of nothing.
        Value::Null | Value::Broken if harmless::value(path, "", listed) => {}
        Value::Null | Value::Broken | Value::Scalar { .. } => out.push(whole(&node.mark)),
        Value::List(items) => items.iter().for_each(|item| tree(path, item, true, out)),
        Value::Map(entries) => {
            for Entry { key, value } in entries {
                if !harmless::key(path, &key.text) {
                    out.push(whole(&key.mark));
                }
                path.push(&key.text);
                tree(path, value, false, out);
                path.pop();
            }
        }
    }
}

/// All of a value, with the anchor and the tag before it on its line: a secret that begins with `&` or `!` is read as one.
pub(super) fn whole(mark: &Mark) -> Span {
    let mut start = mark.start;
    loop {
        let before = mark.source.text.get(..start).unwrap_or("").trim_end_matches([' ', '\t']);
        let word = before.rsplit([' ', '\t', '\n', ',', '[', '{']).next().unwrap_or("");
        if !word.starts_with(['&', '!']) {
            break;
        }
        start = before.len() - word.len();
    }
    Span { source: Arc::clone(&mark.source), range: start..mark.end.max(mark.start) }
}

/// Masks the words of all comments; `scalars` are the places of values and keys, in order, in which `#` begins none.
pub(super) fn comments(source: &Arc<Source>, scalars: &[Range<usize>], out: &mut Vec<Span>) {
    let mut start = 0;
    for line in source.text.split_inclusive('\n') {
        let inside = |at: usize| {
            let next = scalars.partition_point(|range| range.end <= at);
            scalars.get(next).is_some_and(|range| range.start <= at)
        };
        let mark = comment(line, |at| inside(start + at));
        if let Some(at) = mark {
            out.push(Span { source: Arc::clone(source), range: start + at..start + line.trim_end().len() });
        }
        start += line.len();
    }
}

/// Where the words of a comment begin, if the line has one.
fn comment(line: &str, inside: impl Fn(usize) -> bool) -> Option<usize> {
    let begins = |at: usize| {
        let before = line.get(..at).unwrap_or("");
        (before.is_empty() || before.ends_with([' ', '\t'])) && !inside(at)
    };
    let (at, _) = line.match_indices('#').find(|(at, _)| begins(*at))?;
    let words = line.get(at + 1..)?;
    let from = at + 1 + (words.len() - words.trim_start().len());
    (from < line.trim_end().len()).then_some(from)
}

/// Where grammar fails there is no tree: masks, on one line of the text, its comment, and what may be a secret by the words before it:
/// the value of a key that may hold one, whatever seems to continue such a value, and in a section that can hold secrets, or that
/// nobody knows, all that is not the value of a key that never does.
pub(super) fn guess(source: &Arc<Source>, line: usize) -> Vec<Span> {
    let mut out = Vec::new();
    let (mut start, mut open, mut section) = (0, None::<Open>, None);
    for (index, text) in source.text.split_inclusive('\n').enumerate() {
        let body = text.trim_end();
        let indent = body.len() - body.trim_start().len();
        let continued = !body.is_empty() && open.as_ref().is_some_and(|open| open.holds(indent));
        if indent == 0 && !continued && !body.starts_with(['#', '-', '{', '}', '[', ']', ' ']) {
            section = body.split_once(':').map(|(key, _)| key.trim_matches(['"', '\'', ' ']));
        }
        let found = if continued { Some(indent) } else { secret(body, section.is_some_and(harmless::is_open)) };
        if continued {
            open = open.filter(|open| open.goes_on(body));
        } else if !body.is_empty() {
            open = found.and_then(|at| Open::of(body, indent, at));
        }
        if index + 1 == line {
            let from = found.into_iter().chain(comment(body, |_| false)).min();
            if let Some(from) = from.filter(|from| *from < body.len()) {
                out.push(Span { source: Arc::clone(source), range: start + from..start + body.len() });
            }
            break;
        }
        start += text.len();
    }
    out
}

/// A value that may go on in the lines below it.
struct Open {
    /// The column of its key: what stands deeper belongs to it.
    indent: usize,
    /// The quote that is not closed yet: all belongs to it.
    quote: Option<char>,
}

impl Open {
    /// What begins at `at` of a line.
    fn of(line: &str, indent: usize, at: usize) -> Option<Self> {
        let value = line.get(at..)?;
        let quote = value.chars().next().filter(|c| matches!(c, '"' | '\''));
        let quote = quote.filter(|quote| !value.get(1..).is_some_and(|rest| rest.contains(*quote)));
        Some(Self { indent, quote })
    }

    fn holds(&self, indent: usize) -> bool {
        self.quote.is_some() || indent > self.indent
    }

    fn goes_on(&self, line: &str) -> bool {
        self.quote.is_none_or(|quote| !line.contains(quote))
    }
}

/// Where on a line that does not read a secret may begin.
fn secret(line: &str, is_open: bool) -> Option<usize> {
    let skip = |at: usize| at + line.get(at..).map_or(0, |rest| rest.len() - rest.trim_start().len());
    let mut keys = 0;
    for (at, _) in line.match_indices(':').filter(|(at, _)| !line.get(at + 1..).unwrap_or("").starts_with("//")) {
        let before = line.get(..at).unwrap_or("").trim_end_matches(['"', '\'', ' ']);
        let word = before.rsplit([' ', '{', ',', '"', '\'', '\t', '-']).next().unwrap_or("");
        let value = line.get(at + 1..).unwrap_or("").trim_start();
        // What holds more keys is looked at by these.
        let holds = value.is_empty() || value.starts_with('{');
        let harmless = is_open || holds || (harmless::is_known(word) && !value.contains("://"));
        if is_sensitive(word, None) || !harmless || (is_open && word == "users") {
            return Some(skip(at + 1));
        }
        keys += 1;
    }
    (keys == 0 && !is_open).then(|| skip(0))
}

/// Replaces the masked places in the sources of all diagnostics, and moves their spans along.
pub(super) fn apply(diagnostics: &mut [Diagnostic], secrets: &[Span]) {
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
        let places = || {
            let spans = diagnostic.span.iter().chain(diagnostic.related.iter().map(|(span, _)| span));
            spans.filter_map(|span| Some((by_source.get(&span.source.path)?, span)))
        };
        let hidden: Vec<&str> = places().flat_map(|(masked, span)| masked.beside(span)).collect();
        let open: Vec<&str> = places().filter_map(|(masked, _)| Some(masked.new.as_ref()?.0.text.as_str())).collect();
        if let Some(label) = &mut diagnostic.label {
            *label = quiet(label, &hidden, &open).into_boxed_str();
        }
        let related = diagnostic.related.iter_mut().map(|(_, label)| label);
        for words in std::iter::once(&mut diagnostic.message).chain(&mut diagnostic.help).chain(related) {
            *words = quiet(words, &hidden, &open);
        }
        let related = diagnostic.related.iter_mut().map(|(span, _)| span);
        for span in diagnostic.span.iter_mut().chain(related) {
            if let Some(masked) = by_source.get(&span.source.path) {
                masked.move_span(span);
            }
        }
    }
}

/// A message without what is hidden: all that it quotes in backticks and that is a part of it, or has it as a part and stands nowhere
/// in what is `open`, as the name of a site does.
fn quiet(words: &str, hidden: &[&str], open: &[&str]) -> String {
    let mut parts: Vec<String> = words.split('`').map(ToOwned::to_owned).collect();
    // Between the first and the second backtick, the third and the fourth.
    for part in parts.iter_mut().skip(1).step_by(2) {
        let lower = part.to_lowercase();
        let bare = lower.trim_start_matches(['*', '&', '!']);
        let tells = |secret: &&str| {
            let secret = secret.to_lowercase();
            bare == secret
                || (secret.len() > 3 && lower.contains(&secret) && !open.iter().any(|text| text.contains(&**part)))
                || (bare.len() > 3 && secret.contains(bare) && !harmless::is_ours(bare) && !is_sensitive(bare, None))
        };
        if hidden.iter().any(tells) {
            "***".clone_into(part);
        }
    }
    parts.join("`")
}

/// So many bytes around a place may be spoken of by its message: the name of what it stands in, the value behind it.
const NEAR: usize = 128;

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
        // A tag is hidden with its value, and by itself.
        self.ranges.dedup_by(|next, before| {
            let joined = next.start < before.end;
            if joined {
                before.end = before.end.max(next.end);
            }
            joined
        });
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

    /// What is hidden in a place and near it, without its quotes.
    fn beside(&self, span: &Span) -> Vec<&str> {
        let (start, end) = (span.range.start.saturating_sub(NEAR), span.range.end.saturating_add(NEAR));
        // Sorted by `build`, and none lies in another.
        let first = self.ranges.partition_point(|range| range.end < start);
        let near = self.ranges.iter().skip(first).take_while(|range| range.start <= end);
        let bare = near.filter_map(|range| self.old.text.get(range.clone()));
        bare.map(|secret| secret.trim().trim_matches(['"', '\'', '*', '&', '!']))
            .filter(|secret| !secret.is_empty())
            .collect()
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
            "database: hunter2\n",
            "database: [hunter2]\n",
            "database:\n  users: hunter2\n",
            "database: { users: [hunter2] }\n",
            "database: { users: { shop: hunter2 } }\n",
            "database: { users: { shop: { pw: hunter2, schema: shop } } }\n",
            "database: { users: { shop: { password: { hunter2: x } } } }\n",
            "database: { users: { shop: { hunter2: x } } }\n",
            "database: { users: { shop: { password: *hunter2 } } }\n",
            "database: { users: { shop: { password: &hunter2 } } }\n",
            "database: { users: { shop: { password: !hunter2 } } }\n",
            "database: { users: { shop: { password: !hunter2 \"hunter2\" } } }\n",
            "database: { users: { shop: { schema: shop, schema: x, pw: hunter2, pw: hunter2 } } }\n",
            "database:\n  users:\n    shop:\n      schema: shop # was hunter2\n",
            "monitoring: { https://hunter2: x }\n",
            "monitoring: { url: https://hunter2 }\n",
            "monitorng: { sorce: https://hunter2 }\n",
            "monitoring: { ? [hunter2] : { hunter2: [hunter2] } }\n",
            "x-mine: { any: hunter2 }\n",
            "? {hunter2: hunter2}\n: hunter2\n",
            "hosts: {} # hunter2\n",
            "- hunter2\n",
        ] {
            let shown = shown(text);
            assert!(shown.contains("***") && !shown.contains("hunter2"), "{text}\n{shown}");
        }
    }

    #[test]
    fn our_own_words_are_told_beside_what_is_hidden() {
        let hidden = ["databases-of-ours", "monitoring-x", "hunter2"];
        for (words, told) in [
            ("`database` has no `engine`", "`database` has no `engine`"),
            ("unknown key `monitoring` in `hosts`", "unknown key `monitoring` in `hosts`"),
            ("unknown value `of-ours` beside `hunter2`", "unknown value `***` beside `***`"),
            ("write `x: hunter2`, or ask for `hunter2.example.com`", "write `***`, or ask for `hunter2.example.com`"),
        ] {
            assert_eq!(quiet(words, &hidden, &["site: of-ours-and-hunter2.example.com"]), told);
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
            ("source: |\n  https://hunter2: x\n", 2),
            ("monitoring:\n  source: >\n    a: b\n    hunter2: [\n", 4),
            ("password: 'x\nhunter2: y\n", 2),
            ("database:\n  pw: hunter2: x\n", 2),
            ("database:\n  users: hunter2 ]\n", 2),
            ("monitoring:\n  url: https://hunter2 ]\n", 2),
            ("monitoring:\n  hunter2 ]\n", 2),
            ("{ \"monitoring\": { \"uri\": \"hunter2\" ] }\n", 1),
            ("hosts: ] # hunter2\n", 1),
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
