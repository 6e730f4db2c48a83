//! What is wrong with something a person wrote: takes severity, message, place and help, draws them as rustc does.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use annotate_snippets::{AnnotationKind, Group, Level, Origin, Renderer, Snippet, normalize_untrusted_str};

use crate::base::warning::Warning;
use crate::base::{visible, words};

/// A text and where it came from; shared by all places in it.
#[derive(Debug, PartialEq, Eq)]
pub struct Source {
    /// The file, as the person named it.
    pub path: PathBuf,
    /// Its whole text.
    pub text: String,
}

/// A place in a [`Source`]: what a diagnostic underlines. Bytes, half open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// The text it lies in.
    pub source: Arc<Source>,
    /// Byte range in that text.
    pub range: Range<usize>,
}

impl Span {
    /// Line of the first byte, from 1.
    pub fn line(&self) -> usize {
        self.before().matches('\n').count() + 1
    }

    /// Column of the first byte in characters, from 1.
    pub fn column(&self) -> usize {
        self.before().rsplit('\n').next().unwrap_or("").chars().count() + 1
    }

    fn before(&self) -> &str {
        self.source.text.get(..self.range.start).unwrap_or(&self.source.text)
    }
}

impl fmt::Display for Span {
    /// `path:line:column`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.source.path.display(), self.line(), self.column())
    }
}

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Nothing is done until it is mended.
    Error,
    /// The work goes on; the word is what silences it.
    Warning(Warning),
}

/// One thing that is wrong, with its place and the way out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// Error or warning.
    pub severity: Severity,
    /// What is wrong: lower case, names in backticks, no full stop.
    pub message: String,
    /// What is underlined, if there is a place.
    pub span: Option<Span>,
    /// The few words under the underline. Boxed: a smaller diagnostic passes as the error of a `Result`.
    pub label: Option<Box<str>>,
    /// Other places that explain it, with their words (`first given here`).
    pub related: Vec<(Span, String)>,
    /// What to do, imperative.
    pub help: Vec<String>,
}

impl Diagnostic {
    /// An error without a place yet.
    pub fn error(message: impl Into<String>) -> Self {
        Self::new(Severity::Error, message)
    }

    /// A warning without a place yet. All of the same kind are told as one ([`gathered`]).
    pub fn warning(kind: Warning, message: impl Into<String>) -> Self {
        Self::new(Severity::Warning(kind), message)
    }

    fn new(severity: Severity, message: impl Into<String>) -> Self {
        Self { severity, message: message.into(), span: None, label: None, related: Vec::new(), help: Vec::new() }
    }

    /// Sets the place.
    #[must_use]
    pub fn at(mut self, span: &Span) -> Self {
        self.span = Some(span.clone());
        self
    }

    /// Sets the words under the underline.
    #[must_use]
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.label = Some(label.into().into_boxed_str());
        self
    }

    /// Adds another place with its words.
    #[must_use]
    pub fn related(mut self, span: &Span, label: impl Into<String>) -> Self {
        self.related.push((span.clone(), label.into()));
        self
    }

    /// Adds a help line.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help.push(help.into());
        self
    }

    /// Whether it stops the work.
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }

    /// What it warns of, if it is no error.
    pub fn kind(&self) -> Option<Warning> {
        match self.severity {
            Severity::Error => None,
            Severity::Warning(kind) => Some(kind),
        }
    }

    /// All help lines: what to do, and of a warning how it is silenced.
    pub fn helps(&self) -> impl Iterator<Item = Cow<'_, str>> {
        let silencing = self.kind().map(|kind| Cow::Owned(kind.silencing()));
        self.help.iter().map(|help| Cow::Borrowed(help.as_str())).chain(silencing)
    }
}

/// `did you mean …` for an unknown word, if one of `known` is near: one letter wrong, missing, too many or swapped, or
/// Jaro-Winkler above 0.8; the nearest one.
pub fn did_you_mean<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let near = known.into_iter().filter_map(|k| {
        let score = strsim::jaro_winkler(word, k);
        // Short words with two letters swapped are far apart for Jaro-Winkler.
        let slip = word.len() > 2 && word.len().abs_diff(k.len()) < 2 && strsim::osa_distance(word, k) == 1;
        (slip || score > 0.8).then_some((slip, score, k))
    });
    let (_, _, best) = near.max_by(|a, b| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)))?;
    Some(format!("did you mean `{best}`?"))
}

/// So many places of one kind of warning are shown.
const PLACES: usize = 8;

/// Each kind of warning once: the first one, with the places of the others. Errors stay as they are.
pub fn gathered(diagnostics: Vec<Diagnostic>) -> Vec<Diagnostic> {
    let mut out: Vec<Diagnostic> = Vec::new();
    let mut first: BTreeMap<Warning, (usize, usize)> = BTreeMap::new();
    for diagnostic in diagnostics {
        let known = diagnostic.kind().zip(diagnostic.span.as_ref()).and_then(|(kind, _)| first.get_mut(&kind));
        let Some((index, more)) = known else {
            if let Some(kind) = diagnostic.kind() {
                first.entry(kind).or_insert((out.len(), 0));
            }
            out.push(diagnostic);
            continue;
        };
        *more += 1;
        if let (Some(first), Some(span), true) = (out.get_mut(*index), diagnostic.span, *more < PLACES) {
            first.related.push((span, diagnostic.message));
        }
    }
    for (index, more) in first.into_values().filter(|(_, more)| *more >= PLACES) {
        if let Some(first) = out.get_mut(index) {
            first.message.push_str(&format!(" (and {} more like it)", more + 1 - PLACES));
        }
    }
    out
}

/// So many diagnostics are shown; of a file with thousands of mistakes nobody reads more at once.
const SHOWN: usize = 100;

/// The diagnostics that are shown, sorted by place (what has no place comes first): the first hundred, errors before warnings
/// where there are more.
pub fn shown(diagnostics: &[Diagnostic]) -> Vec<&Diagnostic> {
    // Files in the order in which they are first named: the loader names the inventory before its includes.
    let mut files: HashMap<&Path, usize> = HashMap::new();
    for span in diagnostics.iter().filter_map(|d| d.span.as_ref()) {
        let next = files.len();
        files.entry(&span.source.path).or_insert(next);
    }
    let place =
        |d: &&Diagnostic| d.span.as_ref().map(|s| (files.get(&*s.source.path).copied(), s.range.start, s.range.end));
    let mut all: Vec<&Diagnostic> = diagnostics.iter().collect();
    if all.len() > SHOWN {
        all.sort_by_key(|d| (d.severity, place(d)));
        all.truncate(SHOWN);
    }
    all.sort_by_key(place);
    all
}

/// Draws diagnostics as rustc does, those of [`shown`], and a line that counts all of them. Empty for none.
pub fn draw(diagnostics: &[Diagnostic], colour: bool) -> String {
    if diagnostics.is_empty() {
        return String::new();
    }
    let sorted = shown(diagnostics);
    let mut lines: HashMap<*const Source, Vec<usize>> = HashMap::new();
    for span in sorted.iter().flat_map(|d| d.span.iter().chain(d.related.iter().map(|(span, _)| span))) {
        lines.entry(Arc::as_ptr(&span.source)).or_insert_with(|| line_starts(&span.source.text));
    }
    let left_out = diagnostics.len() - sorted.len();
    let renderer = if colour { Renderer::styled() } else { Renderer::plain() };
    let mut out = String::new();
    for diagnostic in sorted {
        out.push_str(&draw_one(diagnostic, &lines, &renderer));
        out.push_str("\n\n");
    }
    let errors = diagnostics.iter().filter(|d| d.is_error()).count();
    out.push_str(&count(errors, diagnostics.len() - errors));
    if left_out > 0 {
        out.push_str(&format!("; the first {SHOWN} are shown"));
    }
    out.push('\n');
    out
}

/// «2 errors, 1 warning»; what there is none of is left out.
pub fn count(errors: usize, warnings: usize) -> String {
    match (errors, warnings) {
        (0, n) => words::count(n, "warning"),
        (n, 0) => words::count(n, "error"),
        (e, w) => format!("{}, {}", words::count(e, "error"), words::count(w, "warning")),
    }
}

fn line_starts(text: &str) -> Vec<usize> {
    std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect()
}

fn draw_one(diagnostic: &Diagnostic, lines: &HashMap<*const Source, Vec<usize>>, renderer: &Renderer) -> String {
    let level = match diagnostic.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning(_) => Level::WARNING,
    };
    let mut group = Group::with_title(level.primary_title(words(&diagnostic.message)));
    // The places of one text are drawn in one snippet; the first snippet is that of the diagnostic's own place.
    let mut sources: Vec<(&Arc<Source>, Vec<Shown<'_>>)> = Vec::new();
    let own = diagnostic.span.iter().map(|span| (AnnotationKind::Primary, span, diagnostic.label.as_deref()));
    let others = diagnostic.related.iter().map(|(span, label)| (AnnotationKind::Context, span, Some(label.as_str())));
    for (kind, span, label) in own.chain(others) {
        // Far apart they are drawn as two, for what lies between is read each time.
        let near = |(source, shown): &&mut (&Arc<Source>, Vec<Shown<'_>>)| {
            let start = shown.first().map_or(0, |(_, first, _)| first.range.start);
            Arc::ptr_eq(source, &span.source) && start.abs_diff(span.range.start) < WINDOW
        };
        match sources.iter_mut().find(near) {
            Some((_, shown)) => shown.push((kind, span, label)),
            None => sources.push((&span.source, vec![(kind, span, label)])),
        }
    }
    for (source, shown) in &sources {
        let starts = lines.get(&Arc::as_ptr(source)).map(Vec::as_slice).unwrap_or_default();
        group = snippet(group, source, starts, shown);
    }
    for help in diagnostic.helps() {
        group = group.element(Level::HELP.message(words(&help)));
    }
    let drawn = renderer.render(&[group]);
    // A snippet whose place is told by itself has an empty line for it too.
    let says = |line: &&str| anstream::adapter::strip_str(line).to_string().trim() != ":::";
    if drawn.contains(":::") { drawn.split('\n').filter(says).collect::<Vec<_>>().join("\n") } else { drawn }
}

/// A message that may quote others: bounded, what hides as escapes.
fn words(text: &str) -> String {
    normalize_untrusted_str(&visible::text(&visible::short(text, visible::LINE)))
}

/// A source's text with what hides as escapes; line ends of both kinds stay.
fn escaped(text: &str) -> Cow<'_, str> {
    if !text.contains(|c| visible::hides(c) && c != '\n') {
        return Cow::Borrowed(text);
    }
    let lines = text.split('\n').map(|line| match line.strip_suffix('\r') {
        Some(line) => visible::line(line).into_owned() + "\r",
        None => visible::line(line).into_owned(),
    });
    Cow::Owned(lines.collect::<Vec<_>>().join("\n"))
}

/// A place, what it is to the diagnostic, and the words under it.
type Shown<'a> = (AnnotationKind, &'a Span, Option<&'a str>);

/// The last boundary of a character at `at` or before it.
fn boundary(text: &str, at: usize) -> usize {
    (0..=at.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0)
}

/// Bytes on each side of a place that are drawn at most, and between two places in one snippet.
const WINDOW: usize = 2048;

/// Adds the lines that are shown, and of a very long line a part: the whole text would be read anew for each diagnostic.
fn snippet<'a>(group: Group<'a>, source: &'a Source, starts: &[usize], shown: &[Shown<'a>]) -> Group<'a> {
    let text = source.text.as_str();
    let from = shown.iter().map(|(_, span, _)| span.range.start).min().unwrap_or(0).min(text.len());
    let end_of = |span: &Span| span.range.end.min(span.range.start.saturating_add(WINDOW));
    let to = shown.iter().map(|(_, span, _)| end_of(span)).max().unwrap_or(0).clamp(from, text.len());
    let first = starts.partition_point(|start| *start <= from).max(1);
    let line = starts.get(first - 1).copied().unwrap_or(0);
    let last = starts.partition_point(|start| *start <= to);
    let end = starts.get(last).map_or(text.len(), |next| next.saturating_sub(1)).max(to);
    let begin = boundary(text, line.max(from.saturating_sub(WINDOW)));
    let end = boundary(text, end.min(to.saturating_add(WINDOW)));
    let cut = text.get(begin..end).unwrap_or("").trim_end_matches('\r');
    let drawn = escaped(cut);
    let odd = matches!(drawn, Cow::Owned(_));
    let moved = |at: usize| if odd { escaped(cut.get(..at).unwrap_or(cut)).len() } else { at };
    let mut spans: Vec<(AnnotationKind, Range<usize>, Option<&str>)> = Vec::new();
    for (kind, span, label) in shown {
        let start = boundary(cut, span.range.start.saturating_sub(begin).min(cut.len()));
        let stop = boundary(cut, end_of(span).saturating_sub(begin).clamp(start, cut.len())).max(start);
        spans.push((*kind, moved(start)..moved(stop), *label));
    }
    let mut snippet = Snippet::source(drawn).line_start(first);
    let path = visible::line(&source.path.to_string_lossy()).into_owned();
    let mut group = group;
    // The number of the column is that of the file, not that of what is drawn of it.
    if begin == line && !odd {
        snippet = snippet.path(path);
    } else {
        let place = shown.first().map_or(from, |(_, span, _)| span.range.start);
        let column = text.get(line..place).unwrap_or("").chars().count() + 1;
        group = group.element(Origin::path(path).line(first).char_column(column));
    }
    for (kind, span, label) in spans {
        let annotation = kind.span(span);
        snippet = snippet.annotation(match label {
            Some(label) => annotation.label(words(label)),
            None => annotation,
        });
    }
    group.element(snippet)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(text: &str, part: &str) -> Span {
        let start = text.find(part).unwrap();
        Span { source: Arc::new(Source { path: "a.yml".into(), text: text.into() }), range: start..start + part.len() }
    }

    #[test]
    fn a_place_is_counted_in_lines_and_characters() {
        let span = span("a\nb\u{00e9}c: wrong\n", "wrong");
        assert_eq!(span.to_string(), "a.yml:2:6");
    }

    #[test]
    fn drawn_as_rustc_does_in_the_order_of_the_file() {
        let text = "one: 1\ntwo: 2\n";
        let (one, two) = (span(text, "one"), span(text, "two"));
        let two = Span { source: Arc::clone(&one.source), ..two };
        let late = Diagnostic::warning(Warning::NoSite, "`two` is odd")
            .at(&two)
            .label("here")
            .related(&one, "after this")
            .help("remove it");
        let early = Diagnostic::error("`one` is\u{1b}[31m wrong").at(&one);
        let expected = "\
error: `one` is\\u{1b}[31m wrong
 --> a.yml:1:1
  |
1 | one: 1
  | ^^^

warning: `two` is odd
 --> a.yml:2:1
  |
1 | one: 1
  | --- after this
2 | two: 2
  | ^^^ here
  |
  = help: remove it
  = help: if it is meant, add `no-site: \"the reason\"` to `silence`

1 error, 1 warning
";
        assert_eq!(draw(&[late, early.clone()], false), expected);
        assert_eq!(draw(&[], true), "");
        assert!(draw(&[early], true).contains("\u{1b}["));
        assert_eq!((count(2, 0), count(0, 2)), ("2 errors".into(), "2 warnings".into()));
    }

    #[test]
    fn a_kind_of_warning_is_told_once_with_all_its_places() {
        let place = span("one: 1\n", "one");
        let odd = |n: usize| Diagnostic::warning(Warning::NoHealth, format!("odd {n}")).at(&place);
        let wrong = Diagnostic::error("wrong").at(&place);
        let other = Diagnostic::warning(Warning::NoSite, "other").at(&place);
        let all = gathered(vec![odd(1), wrong.clone(), odd(2), other.clone(), wrong.clone()]);
        assert_eq!(all.len(), 4, "{all:#?}");
        assert_eq!(
            (&all[0].related, &all[1..]),
            (&vec![(place.clone(), "odd 2".to_owned())], &[wrong.clone(), other, wrong][..])
        );
        let many = gathered((0..30).map(odd).collect());
        assert_eq!((many.len(), many[0].related.len()), (1, PLACES - 1));
        assert_eq!(many[0].message, "odd 0 (and 22 more like it)");
    }

    #[test]
    fn of_a_very_long_line_a_part_is_drawn() {
        let text = format!("a: [{}wrong, {}]\n", "\u{fc}, ".repeat(20_000), "x, ".repeat(20_000));
        let drawn = draw(&[Diagnostic::error("odd").at(&span(&text, "wrong"))], false);
        assert!(drawn.contains(" a.yml:1:60005") && drawn.contains("^^^^^"), "{drawn}");
        assert!(drawn.len() < 2000, "{}", drawn.len());
    }

    #[test]
    fn what_hides_in_a_source_is_drawn_as_an_escape_with_the_place_under_it() {
        for odd in ["\u{202e}", "\u{9b}2J", "\u{200f}", "\u{2066}", "\u{1b}[8m", "\u{61c}", "\u{200b}"] {
            let text = format!("name: {odd}\r\nkey: \"a{odd}b\" wrong{odd} # {odd}\r\n");
            let place = span(&text, &format!("wrong{odd}"));
            let drawn = draw(&[Diagnostic::error(format!("odd {odd}")).at(&place).label(odd).help(odd)], false);
            assert!(!drawn.contains(|c| visible::hides(c) && c != '\n'), "{drawn:?}");
            let column = 5 + 3 + odd.chars().count() + 2 + 1;
            assert!(drawn.contains(&format!("a.yml:2:{column}\n")), "{drawn}");
            let line = drawn.lines().find(|l| l.contains("key:")).unwrap();
            let marks = drawn.lines().find(|l| l.contains('^')).unwrap();
            let escape = visible::line(odd);
            assert_eq!(line.find("wrong"), marks.find('^'), "{drawn}");
            assert_eq!(marks.matches('^').count(), 5 + escape.len(), "{drawn}");
        }
    }

    #[test]
    fn of_thousands_the_first_hundred_are_shown_and_all_are_counted() {
        let text = "x\n".repeat(5000);
        let source = Arc::new(Source { path: "a.yml".into(), text });
        let at = |n: usize| Span { source: Arc::clone(&source), range: 2 * n..2 * n + 1 };
        let mut all: Vec<_> =
            (0..5000).rev().map(|n| Diagnostic::warning(Warning::NoSite, format!("odd {n}")).at(&at(n))).collect();
        let drawn = draw(&all, false);
        assert_eq!(drawn.matches("warning: ").count(), 100);
        assert!(drawn.contains("odd 99\n") && !drawn.contains("odd 100\n"), "{drawn}");
        assert!(drawn.ends_with("5000 warnings; the first 100 are shown\n"), "{drawn}");
        // An error is never behind the warnings.
        all.push(Diagnostic::error("wrong").at(&at(4999)));
        let drawn = draw(&all, false);
        assert!(drawn.contains("error: wrong") && drawn.ends_with("1 error, 5000 warnings; the first 100 are shown\n"));
        assert_eq!(shown(&all).len(), 100);
    }

    #[test]
    fn a_long_place_and_long_words_are_cut() {
        let text = format!("a: {}\n", "x".repeat(5_000_000));
        let place = span(&text, &"x".repeat(5_000_000));
        let drawn = draw(&[Diagnostic::error("y".repeat(5_000_000)).at(&place).help("z".repeat(5_000_000))], false);
        assert!(drawn.len() < 20_000 && drawn.contains("more characters)"), "{}", drawn.len());
    }

    #[test]
    fn places_far_apart_are_drawn_apart() {
        let text = format!("one: 1\n{}two: 2\n", "# x\n".repeat(20_000));
        let (one, two) = (span(&text, "one"), span(&text, "two"));
        let one = Span { source: Arc::clone(&two.source), ..one };
        let drawn = draw(&[Diagnostic::error("twice").at(&two).related(&one, "first")], false);
        assert!(drawn.contains(" --> a.yml:20002:1") && drawn.contains("::: a.yml:1:1"), "{drawn}");
    }

    #[test]
    fn the_nearest_word_is_meant() {
        let meant = |word| did_you_mean(word, ["web", "app", "db", "aliases", "address"]);
        assert_eq!(meant("wbe").as_deref(), Some("did you mean `web`?"));
        assert_eq!(meant("adress").as_deref(), Some("did you mean `address`?"));
        assert_eq!(meant("zebra"), None);
    }
}
