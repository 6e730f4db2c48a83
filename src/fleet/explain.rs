//! Why a line stands where it does: takes a host as it should be, and an inventory that can be changed value by value, gives for each line
//! the line of the template that has made it and the values that it changes with. Nothing is asked of a host.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use schemars::JsonSchema;
use serde::Serialize;
use similar::{ChangeTag, TextDiff};

use crate::base::net::HostName;
use crate::base::secret;
use crate::inventory::site::{Place, Site};
use crate::inventory::vary::{Leaf, Written};
use crate::plan::state::DesiredHost;
use crate::service::firewall::{self, Older};
use crate::service::trace::{Line, Trace};

/// What is kept on a host beside files, as a text of lines each: by what it is called.
pub const PACKAGES: &str = "packages";
/// Units that are enabled and running.
pub const UNITS: &str = "units";

/// Where the loaded rules are kept, which infra writes by itself.
const RULES: &str = "/etc/infra";

/// What a host should hold, by path or by what it is called.
#[derive(Debug, Clone, Default)]
pub struct Texts {
    /// The texts, secrets as names.
    pub texts: BTreeMap<String, String>,
    /// The lines of templates that have made the lines of a text.
    pub origins: BTreeMap<String, Vec<Option<Line>>>,
}

impl Texts {
    /// Of a host that was rendered by templates with marks, which `trace` reads.
    pub fn of(host: &DesiredHost, trace: &Trace) -> Self {
        let mut all = Self::default();
        for (path, file) in &host.files {
            let (text, origins) = trace.read(&secret::display(&file.body.text));
            all.texts.insert(path.clone(), text);
            all.origins.insert(path.clone(), origins);
        }
        for (file, text) in host.firewall.iter().flat_map(|set| firewall::files(set, Older::GoesOn)) {
            all.texts.insert(format!("{RULES}/{file}"), text);
        }
        let lines = |names: &mut dyn Iterator<Item = &String>| names.flat_map(|name| [name.as_str(), "\n"]).collect();
        all.texts.insert(PACKAGES.to_owned(), lines(&mut host.packages.iter()));
        all.texts.insert(UNITS.to_owned(), lines(&mut host.units.keys()));
        all
    }
}

/// A value, and the lines of one text that change with it, from 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cause {
    /// The value.
    pub leaf: Leaf,
    /// The lines.
    pub lines: BTreeSet<usize>,
}

/// A line of a template as a person finds it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct TemplateLine {
    /// `built-in templates/NAME`, or the file that shadows it.
    pub file: String,
    /// From 1.
    pub line: usize,
    /// What it says.
    pub text: String,
}

/// A value of the inventory as a person finds it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Value {
    /// Where it stands in the tree, as `ports.web`.
    pub key: String,
    /// Its file and line.
    pub place: Place,
    /// That line, with `***` for what may be a secret.
    pub text: String,
}

/// One line of what a host should hold, explained.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Explained {
    /// The host.
    pub host: HostName,
    /// A path, or `packages`, or `units`.
    pub file: String,
    /// From 1.
    pub line: usize,
    /// The line.
    pub text: String,
    /// What it is for, each a sentence: of a certificate who signed it, for which names and until when.
    pub about: Vec<String>,
    /// The service that wants the file.
    pub service: Option<String>,
    /// The template's line; none where infra makes the text by itself.
    pub template: Option<TemplateLine>,
    /// The values that the line changes with.
    pub inventory: Vec<Value>,
    /// Whether these stand for the whole file, and no value for this line of it.
    pub whole: bool,
}

/// What is known of the causes of some texts.
#[derive(Debug, Clone, Default)]
pub struct Causes {
    /// By text; those first that change least.
    pub by_text: BTreeMap<String, Vec<Cause>>,
    /// How many values were not tried, because time was up.
    pub untried: usize,
}

/// Changes each value of the inventory once, and sees which lines of `texts` change. `desire` gives the same host by another site, or
/// nothing where that cannot be. Values that `first` is true of are tried first; after `patience` no more is tried.
pub fn causes(
    written: &Written,
    texts: &BTreeMap<String, String>,
    first: impl Fn(&Leaf) -> bool,
    patience: Duration,
    desire: impl Fn(&Site) -> Option<BTreeMap<String, String>>,
) -> Causes {
    let began = Instant::now();
    let mut leaves = written.leaves();
    leaves.sort_by_key(|leaf| !first(leaf));
    let mut out = Causes::default();
    // Those that cannot be changed alone, and the lines that have their word.
    let mut guesses: Vec<(&String, Cause)> = Vec::new();
    for leaf in leaves {
        if began.elapsed() > patience {
            out.untried += 1;
            continue;
        }
        let changed = written.variants(&leaf).find_map(|site| desire(&site));
        for (name, text) in texts {
            let lines = match &changed {
                Some(changed) => changed_lines(text, changed.get(name).map_or("", String::as_str)),
                // What cannot be changed alone is found by its word, where that is no part of a longer name or path.
                None => lines_where(text, &leaf.word, ".-/"),
            };
            if lines.is_empty() {
                continue;
            }
            let cause = Cause { leaf: leaf.clone(), lines };
            if changed.is_some() {
                out.by_text.entry(name.clone()).or_default().push(cause);
            } else {
                guesses.push((name, cause));
            }
        }
    }
    // Where the word is seen to come from another value that says the same, it does not come from this one.
    for (name, guess) in &mut guesses {
        let causes = out.by_text.get(*name).map_or(&[][..], Vec::as_slice);
        let same = causes.iter().filter(|cause| cause.leaf.word == guess.leaf.word);
        let seen: BTreeSet<usize> = same.flat_map(|cause| &cause.lines).copied().collect();
        guess.lines.retain(|line| !seen.contains(line));
    }
    for (name, guess) in guesses.into_iter().filter(|(_, guess)| !guess.lines.is_empty()) {
        out.by_text.entry(name.clone()).or_default().push(guess);
    }
    for causes in out.by_text.values_mut() {
        causes.sort_by_key(|cause| cause.lines.len());
    }
    out
}

impl Causes {
    /// What makes this line of a text what it is: values that change a part of the text; and whether there are only such that take
    /// the whole text away.
    pub fn of(&self, text: &str, line: usize, all: usize) -> (Vec<&Leaf>, bool) {
        let causes = self.by_text.get(text).map_or(&[][..], Vec::as_slice);
        let here: Vec<&Cause> = causes.iter().filter(|cause| cause.lines.contains(&line)).collect();
        let parts: Vec<&Leaf> = here.iter().filter(|cause| cause.lines.len() < all).map(|cause| &cause.leaf).collect();
        if parts.is_empty() { (here.iter().map(|cause| &cause.leaf).collect(), true) } else { (parts, false) }
    }
}

/// The lines of `before` that are not in `after`, or not there.
fn changed_lines(before: &str, after: &str) -> BTreeSet<usize> {
    if before == after {
        return BTreeSet::new();
    }
    let diff = TextDiff::from_lines(before, after);
    let gone = diff.iter_all_changes().filter(|change| change.tag() == ChangeTag::Delete);
    gone.filter_map(|change| change.old_index()).collect()
}

/// The lines that have a word, as a word.
pub(super) fn lines_with(text: &str, word: &str) -> BTreeSet<usize> {
    lines_where(text, word, "")
}

/// The same, where a word goes on behind one of `joints` too.
fn lines_where(text: &str, word: &str, joints: &str) -> BTreeSet<usize> {
    if word.chars().count() < 2 {
        return BTreeSet::new();
    }
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    let goes_on = |beside: &mut dyn Iterator<Item = char>| match beside.next() {
        Some(c) if joints.contains(c) => beside.next().is_some_and(is_part),
        next => next.is_some_and(is_part),
    };
    let holds = |line: &str| {
        line.match_indices(word).any(|(at, _)| {
            let (before, after) = (line.get(..at).unwrap_or_default(), line.get(at + word.len()..).unwrap_or_default());
            !goes_on(&mut before.chars().rev()) && !goes_on(&mut after.chars())
        })
    };
    text.lines().enumerate().filter(|(_, line)| holds(line)).map(|(number, _)| number).collect()
}

/// The lines that are meant by a word: a file's by its path, or the end of it, with or without `:LINE`; a package, a unit; a setting by
/// its name; at last each line that has the word. By text and lines from 0, none for all of a text.
pub fn meant(texts: &BTreeMap<String, String>, word: &str) -> Vec<(String, Option<usize>)> {
    let (path, line) = match word.rsplit_once(':').map(|(path, line)| (path, line.parse::<usize>())) {
        Some((path, Ok(line))) if line > 0 => (path, Some(line - 1)),
        _ => (word, None),
    };
    let end = format!("/{}", path.trim_start_matches('/'));
    let named: Vec<&String> = texts.keys().filter(|name| *name == path).collect();
    let named = if named.is_empty() { texts.keys().filter(|name| name.ends_with(&end)).collect() } else { named };
    if !named.is_empty() {
        return named.into_iter().map(|name| (name.clone(), line)).collect();
    }
    let lines = |is: &dyn Fn(&str) -> bool| -> Vec<(String, Option<usize>)> {
        let each =
            texts.iter().flat_map(|(name, text)| text.lines().enumerate().map(move |(at, line)| (name, at, line)));
        each.filter(|(_, _, line)| is(line)).map(|(name, at, _)| (name.clone(), Some(at))).collect()
    };
    let plain = |word: &str| word.to_lowercase().replace('-', "_");
    let setting = |line: &str| {
        let line = line.trim_start_matches([' ', '\t', '"', '-']);
        line.split(|c: char| c.is_whitespace() || "=:\"".contains(c))
            .next()
            .is_some_and(|first| plain(first) == plain(word))
    };
    let settings = lines(&setting);
    if settings.is_empty() { lines(&|line| !lines_with(line, word).is_empty()) } else { settings }
}

/// What a line is for, by what its text is called, the text, and the line from 0.
pub type About<'a> = dyn Fn(&str, &str, usize) -> Vec<String> + 'a;

/// Explains lines of a text of `host`; `about` says what a line of a text is for, `origin` gives a template's path, and a line of it.
pub fn lines<'a>(
    (host, desired): (&'a HostName, &'a DesiredHost),
    (texts, causes, about): (&'a Texts, &'a Causes, &'a About<'a>),
    (name, lines): (&'a str, Option<usize>),
    origin: impl Fn(&Line) -> Option<TemplateLine> + 'a,
) -> impl Iterator<Item = Explained> + 'a {
    let all = texts.texts.get(name).map_or("", String::as_str);
    let number = all.lines().count();
    let service = desired.files.get(name).map(|file| file.service.to_owned());
    let chosen = all.lines().enumerate().filter(move |(at, _)| lines.is_none_or(|line| line == *at));
    chosen.map(move |(at, text)| {
        let (values, whole) = causes.of(name, at, number);
        let value = |leaf: &Leaf| Value { key: leaf.key.clone(), place: leaf.place.clone(), text: leaf.line.clone() };
        let template = texts.origins.get(name).and_then(|origins| origins.get(at)?.as_ref());
        Explained {
            host: host.clone(),
            file: name.to_owned(),
            line: at + 1,
            text: text.to_owned(),
            about: about(name, all, at),
            service: service.clone(),
            template: template.and_then(&origin),
            inventory: values.into_iter().map(value).collect(),
            whole,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_found_where_it_stands_alone() {
        let text = "web1 x\nweb10\n\"web1.internal\"\nmyweb1\n";
        assert_eq!(lines_with(text, "web1"), BTreeSet::from([0, 2]));
        assert_eq!(lines_with(text, ""), BTreeSet::new());
        let text = "shop.example.com\n/etc/shop-web\nlog/shop\n`shop`.*\nto shop.\n-shop\n";
        assert_eq!(lines_with(text, "shop").len(), 6);
        assert_eq!(lines_where(text, "shop", ".-/"), BTreeSet::from([3, 4, 5]));
        assert_eq!(lines_with("é\u{301} xy", "xy"), BTreeSet::from([0]));
    }

    #[test]
    fn a_word_means_a_file_or_a_setting_or_a_line() {
        let texts: BTreeMap<String, String> = [
            ("/etc/a/x.cnf", "[mysqld]\nserver-id = 7\nlog = x\n"),
            ("/etc/b/x.conf", "  listen 1;\n# listen to server_id\n"),
            (UNITS, "nginx.service\n"),
        ]
        .map(|(name, text)| (name.to_owned(), text.to_owned()))
        .into();
        for (word, found) in [
            ("/etc/a/x.cnf", &[("/etc/a/x.cnf", None)][..]),
            ("x.cnf:2", &[("/etc/a/x.cnf", Some(1))]),
            ("server_id", &[("/etc/a/x.cnf", Some(1))]),
            ("listen", &[("/etc/b/x.conf", Some(0))]),
            ("nginx.service", &[(UNITS, Some(0))]),
            ("to", &[("/etc/b/x.conf", Some(1))]),
            ("nothing", &[]),
            ("cnf", &[]),
        ] {
            let expected: Vec<_> = found.iter().map(|(name, line)| ((*name).to_owned(), *line)).collect();
            assert_eq!(meant(&texts, word), expected, "{word}");
        }
    }

    #[test]
    fn changed_lines_are_those_of_before() {
        assert_eq!(changed_lines("a\nb\nc\n", "a\nx\nc\nd\n"), BTreeSet::from([1]));
        assert_eq!(changed_lines("a\nb\n", ""), BTreeSet::from([0, 1]));
    }
}
