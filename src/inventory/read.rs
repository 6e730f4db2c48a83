//! Typed reading of the tree: takes a node, gives a value or `None`, and collects what is wrong, so that one mistake does
//! not hide the next.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use crate::base::diagnostic::{Diagnostic, did_you_mean};
use crate::base::net::{Invalid, Port};
use crate::inventory::harmless;
use crate::inventory::raw::{Entry, Mark, Node, Value};
use crate::inventory::site::SecretRef;

/// Everything found so far.
#[derive(Debug, Default)]
pub(crate) struct Problems(pub(crate) Vec<Diagnostic>, Hints);

/// How many words were compared in order to find the one that was meant.
#[derive(Debug, Default)]
struct Hints(usize);

/// After so many comparisons no more is guessed: thousands of wrong names among thousands of right ones would take minutes, and
/// the first hundred mistakes are shown.
const COMPARED: usize = 200_000;

/// A map whose keys were checked.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fields<'a> {
    /// The map.
    pub(crate) node: &'a Node,
    /// What a missing key is missed at.
    head: &'a Mark,
    /// Its keys.
    known: &'static [&'static str],
}

impl<'a> Fields<'a> {
    /// The entry of a key that may be left out, which it is too where its value says that there is nothing.
    pub(crate) fn get(&self, key: &str) -> Option<&'a Entry> {
        self.written(key).filter(|entry| !entry.value.is_nothing())
    }

    /// The entry of a key for which an empty list or map is not the same as none; one without a value was reported by
    /// [`Problems::fields`].
    pub(crate) fn written(&self, key: &str) -> Option<&'a Entry> {
        self.node.get(key).filter(|entry| !matches!(entry.value.value, Value::Null))
    }

    /// Whether a key is left out, and not misspelled: only then it is worth a word of its own.
    pub(crate) fn lacks(&self, key: &str) -> bool {
        self.node.get(key).is_none_or(|entry| entry.value.is_nothing()) && !self.misspells(key)
    }

    fn misspells(&self, key: &str) -> bool {
        let hint = Some(format!("did you mean `{key}`?"));
        let mut unknown = self.node.entries().iter().map(|e| e.key.text.as_str()).filter(|k| !self.known.contains(k));
        unknown.any(|word| did_you_mean(word, self.known.iter().copied()) == hint)
    }

    /// The value of a key, as [`Fields::get`].
    pub(crate) fn value(&self, key: &str) -> Option<&'a Node> {
        self.get(key).map(|entry| &entry.value)
    }
}

/// `~/` as the home folder, as a shell does it.
pub(crate) fn expand(text: &str) -> PathBuf {
    match (text.strip_prefix("~/"), std::env::home_dir()) {
        (Some(rest), Some(home)) => home.join(rest),
        _ => text.into(),
    }
}

/// `a, b or c`, each in backticks.
pub(crate) fn any_of(words: &[&str]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| format!("`{word}`")).collect();
    match quoted.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, rest)) => format!("{} or {last}", rest.join(", ")),
        None => String::new(),
    }
}

/// Whole seconds, minutes or hours: `30s`, `2m`, `1h`.
pub(crate) fn duration(text: &str) -> Option<Duration> {
    let units = [('s', 1), ('m', 60), ('h', 3600)];
    let unit = units.into_iter().find_map(|(unit, seconds)| Some((text.strip_suffix(unit)?, seconds)));
    let (number, seconds) = unit.filter(|(number, _)| number.bytes().all(|b| b.is_ascii_digit()))?;
    number.parse::<u64>().ok()?.checked_mul(seconds).map(Duration::from_secs)
}

/// As the inventory writes it.
pub(crate) fn shown(time: Duration) -> String {
    match time.as_secs() {
        seconds if seconds > 3600 && seconds % 3600 == 0 => format!("{}h", seconds / 3600),
        seconds if seconds > 0 && seconds % 60 == 0 => format!("{}m", seconds / 60),
        seconds => format!("{seconds}s"),
    }
}

impl Problems {
    /// Adds one.
    pub(crate) fn push(&mut self, diagnostic: Diagnostic) {
        self.0.push(diagnostic);
    }

    /// `did you mean …`, as long as not too much was guessed. Takes the words that there are, and how many they are.
    pub(crate) fn near<'a>(
        &mut self,
        word: &str,
        count: usize,
        known: impl IntoIterator<Item = &'a str>,
    ) -> Option<String> {
        self.1.0 = self.1.0.saturating_add(count);
        if self.1.0 > COMPARED { None } else { did_you_mean(word, known) }
    }

    /// Whether the work ends here.
    pub(crate) fn has_errors(&self) -> bool {
        self.0.iter().any(Diagnostic::is_error)
    }

    /// A map with known keys: anything else, and a known key without a value, is reported.
    pub(crate) fn fields<'a>(
        &mut self,
        entry: &'a Entry,
        what: &str,
        known: &'static [&'static str],
    ) -> Option<Fields<'a>> {
        self.fields_of(&entry.value, &entry.key.mark, what, known)
    }

    /// The same for a map without a key of its own; `head` is where a missing key is reported.
    pub(crate) fn fields_of<'a>(
        &mut self,
        node: &'a Node,
        head: &'a Mark,
        what: &str,
        known: &'static [&'static str],
    ) -> Option<Fields<'a>> {
        if matches!(node.value, Value::Broken) {
            return None;
        }
        let Value::Map(entries) = &node.value else {
            self.push(
                Diagnostic::error(format!("{what} must be a map, found {}", node.kind()))
                    .at(&node.span())
                    .help(format!("its keys are {}", any_of(known).replace(" or ", " and "))),
            );
            return None;
        };
        for entry in entries {
            let key = entry.key.text.as_str();
            if !known.contains(&key) {
                let diagnostic = Diagnostic::error(format!("unknown key `{key}` in {what}")).at(&entry.key.mark.span());
                // One that is there already cannot be meant.
                let (there, free): (Vec<&str>, Vec<&str>) = known.iter().partition(|known| node.get(known).is_some());
                self.push(match (did_you_mean(key, free), did_you_mean(key, there)) {
                    (Some(hint), _) => diagnostic.help(hint),
                    (None, Some(hint)) => {
                        let known = hint.split('`').nth(1).unwrap_or_default();
                        diagnostic.help(format!("`{known}` stands here already: remove one of the two"))
                    }
                    (None, None) => diagnostic.help(format!("its keys are {}", any_of(known).replace(" or ", " and "))),
                });
            } else if matches!(entry.value.value, Value::Null) && !entry.value.is_nothing() {
                self.push(
                    Diagnostic::error(format!("`{key}` has no value"))
                        .at(&entry.key.mark.span())
                        .help("write its value behind the colon, or its keys two spaces deeper; or remove the key"),
                );
            }
        }
        Some(Fields { node, head, known })
    }

    /// A key that must be there.
    pub(crate) fn require<'a>(&mut self, fields: Fields<'a>, what: &str, key: &str, help: &str) -> Option<&'a Entry> {
        let written = fields.written(key);
        if written.is_none() && fields.lacks(key) {
            self.push(Diagnostic::error(format!("{what} has no `{key}`")).at(&fields.head.span()).help(help));
        }
        written
    }

    /// The entries of a map whose keys are names; `None` and a report when it is something else or empty.
    pub(crate) fn named<'a>(&mut self, entry: &'a Entry, help: &str) -> Option<&'a [Entry]> {
        let key = &entry.key.text;
        match &entry.value.value {
            Value::Map(entries) if !entries.is_empty() => return Some(entries),
            Value::Broken => {}
            Value::Map(_) => {
                self.push(Diagnostic::error(format!("`{key}` is empty")).at(&entry.value.span()).help(help));
            }
            _ => self.push(
                Diagnostic::error(format!("`{key}` must be a map, found {}", entry.value.kind()))
                    .at(&entry.value.span())
                    .help(help),
            ),
        }
        None
    }

    /// Text. A number counts as text.
    pub(crate) fn text<'a>(&mut self, node: &'a Node, key: &str) -> Option<&'a str> {
        let (message, help) = match &node.value {
            Value::Broken => return None,
            Value::Scalar { text, .. } if text.trim().is_empty() => {
                (format!("`{key}` is empty"), "write a text, or remove the key")
            }
            Value::Scalar { text, .. } => match text.chars().find(|c| c.is_control()) {
                None => return Some(text),
                Some(c) => {
                    (format!("`{key}` has the control character `{}`", c.escape_default()), "write one line of text")
                }
            },
            _ => {
                (format!("`{key}` must be text, found {}", node.kind()), "write one text, without brackets and dashes")
            }
        };
        self.push(Diagnostic::error(message).at(&node.span()).help(help));
        None
    }

    /// A whole number, decimal.
    pub(crate) fn number(&mut self, node: &Node, key: &str) -> Option<u64> {
        let found = match &node.value {
            Value::Scalar { text, .. } => {
                let decimal = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
                if decimal(text) && (text == "0" || !text.starts_with('0')) {
                    if let Ok(number) = text.parse() {
                        return Some(number);
                    }
                    self.push(
                        Diagnostic::error(format!("`{key}` is out of range"))
                            .at(&node.span())
                            .help("write a smaller number"),
                    );
                    return None;
                }
                let digits = text.strip_prefix('-').or(text.strip_suffix(".0")).unwrap_or(text);
                if decimal(digits) {
                    let why = match text.as_bytes() {
                        [b'-', ..] => "is a negative number",
                        [.., b'.', b'0'] => "is not a whole number",
                        _ => "begins with a zero",
                    };
                    let digits = digits.trim_start_matches('0');
                    // What is a port, a number of days or of seconds.
                    let help = match digits.parse::<u16>() {
                        Ok(number) if number > 0 => format!("write `{number}`"),
                        _ => "write decimal digits alone".to_owned(),
                    };
                    self.push(Diagnostic::error(format!("`{key}` {why}: `{text}`")).at(&node.span()).help(help));
                    return None;
                }
                "text"
            }
            Value::Broken => return None,
            _ => node.kind(),
        };
        self.push(
            Diagnostic::error(format!("`{key}` must be a number, found {found}"))
                .at(&node.span())
                .help("write decimal digits alone"),
        );
        None
    }

    /// Whole seconds or minutes within `limits`; `why` says what the upper one is for.
    pub(crate) fn duration(
        &mut self,
        node: &Node,
        key: &str,
        limits: RangeInclusive<Duration>,
        why: &str,
    ) -> Option<Duration> {
        let text = self.text(node, key)?;
        let (least, most) = (shown(*limits.start()), shown(*limits.end()));
        let help = match duration(text) {
            Some(time) if limits.contains(&time) => return Some(time),
            Some(time) if time > *limits.end() => format!("write `{most}` at most{why}"),
            Some(_) => format!("write `{least}` at least"),
            None if duration(&format!("{text}s")).is_some_and(|time| limits.contains(&time)) => {
                let minutes = duration(&format!("{text}m")).filter(|time| limits.contains(time));
                let minutes = minutes.map_or(String::new(), |_| format!(", or `{text}m` for minutes"));
                format!("write `{text}s` for seconds{minutes}")
            }
            None => format!("write seconds or minutes, from `{least}` to `{most}`{why}"),
        };
        self.push(Diagnostic::error(format!("`{key}` cannot be `{text}`")).at(&node.span()).help(help));
        None
    }

    /// A port.
    pub(crate) fn port(&mut self, node: &Node, key: &str) -> Option<Port> {
        let number = self.number(node, key)?;
        self.checked(Port::try_from(number), &number.to_string(), node)
    }

    /// A list, not empty.
    pub(crate) fn list<'a>(&mut self, node: &'a Node, key: &str, example: &str) -> Option<&'a [Node]> {
        match &node.value {
            Value::List(items) if !items.is_empty() => return Some(items),
            Value::Broken => {}
            Value::List(_) => {
                self.push(
                    Diagnostic::error(format!("`{key}` is empty"))
                        .at(&node.span())
                        .help(format!("write `{key}: {example}`")),
                );
            }
            _ => self.push(
                Diagnostic::error(format!("`{key}` must be a list, found {}", node.kind()))
                    .at(&node.span())
                    .help(format!("write `{key}: {example}`")),
            ),
        }
        None
    }

    /// A list, or one item as a list of one. Items are not checked; an empty list is.
    pub(crate) fn some<'a>(&mut self, node: &'a Node, key: &str, example: &str) -> Option<Vec<&'a Node>> {
        match &node.value {
            Value::Scalar { .. } => Some(vec![node]),
            _ => Some(self.list(node, key, example)?.iter().collect()),
        }
    }

    /// What a newtype makes of a text.
    pub(crate) fn parse<T: FromStr<Err = Invalid>>(&mut self, node: &Node, key: &str) -> Option<T> {
        let text = self.text(node, key)?;
        self.checked(text.parse(), text, node)
    }

    /// A newtype's verdict as a diagnostic.
    pub(crate) fn checked<T>(&mut self, result: Result<T, Invalid>, text: &str, node: &Node) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(invalid) => {
                self.invalid(&invalid, text, &node.mark);
                None
            }
        }
    }

    /// Reports a newtype's verdict about `text`.
    pub(crate) fn invalid(&mut self, invalid: &Invalid, text: &str, mark: &Mark) {
        let diagnostic = Diagnostic::error(format!("`{text}` {invalid}")).at(&mark.span());
        self.push(match &invalid.help {
            Some(help) => diagnostic.help(help.clone()),
            None => diagnostic.help("write another name"),
        });
    }

    /// One of some words.
    pub(crate) fn word<T: Copy>(&mut self, node: &Node, key: &str, words: &[(&str, T)]) -> Option<T> {
        let text = self.text(node, key)?;
        if let Some((_, value)) = words.iter().find(|(word, _)| *word == text) {
            return Some(*value);
        }
        let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        let diagnostic = Diagnostic::error(format!("`{key}` cannot be `{text}`")).at(&node.span());
        self.push(match did_you_mean(&text.to_lowercase(), known.iter().copied()) {
            Some(hint) => diagnostic.help(hint),
            None => diagnostic.help(format!("write {}", any_of(&known))),
        });
        None
    }

    /// An argv: a list of texts, the first a program.
    pub(crate) fn argv(&mut self, node: &Node, key: &str, example: &str) -> Option<Vec<String>> {
        let items = self.list(node, key, example)?;
        let mut argv = Vec::with_capacity(items.len());
        for item in items {
            match &item.value {
                // An argument may be empty; the program's name may not.
                Value::Scalar { text, .. } if !argv.is_empty() && !text.contains('\0') => argv.push(text.clone()),
                _ => argv.push(self.text(item, key)?.to_owned()),
            }
        }
        Some(argv)
    }

    /// A reference to a secret. What stands in the place of one is never quoted.
    pub(crate) fn secret(&mut self, node: &Node, key: &str) -> Option<SecretRef> {
        const WAYS: &str = "`{ env: VARIABLE }`, `{ file: path }` or `{ command: [program, argument] }`";
        if let Value::Scalar { .. } = node.value {
            self.push(
                Diagnostic::error(format!("`{key}` is a secret and must not stand in the inventory"))
                    .at(&node.span())
                    .label("the value is not shown")
                    .help(format!("write where the secret is kept: {WAYS}"))
                    .help("change a secret that has stood in version control, or in a file that others can read"),
            );
            return None;
        }
        let what = format!("`{key}`");
        let fields = self.fields_of(node, &node.mark, &what, &["env", "file", "command"])?;
        let given: BTreeSet<&str> =
            ["env", "file", "command"].into_iter().filter(|k| fields.get(k).is_some()).collect();
        let written = fields.node.entries().iter().filter(|entry| !entry.value.is_nothing()).count();
        if given.len() != 1 || written != 1 {
            if written == given.len() {
                self.push(
                    Diagnostic::error(format!("`{key}` must name exactly one place of its value"))
                        .at(&node.span())
                        .help(format!("write one of {WAYS}")),
                );
            }
            return None;
        }
        if let Some(env) = fields.value("env") {
            let Some(name) = env.text().filter(|text| harmless::is_variable(text)) else {
                self.push(Diagnostic::error("`env` must be the name of an environment variable").at(&env.span()).help(
                    "write its name, such as `DB_PASSWORD`, without a `$`; the value is read from the environment",
                ));
                return None;
            };
            return Some(SecretRef::Env(name.to_owned()));
        }
        if let Some(file) = fields.value("file") {
            if file.text().is_some_and(|text| text.contains("://")) {
                self.push(
                    Diagnostic::error("`file` must be a path, found a URL")
                        .at(&file.span())
                        .help("write the path of the file that holds the secret"),
                );
                return None;
            }
            return Some(SecretRef::File(expand(self.text(file, "file")?)));
        }
        Some(SecretRef::Command(self.argv(fields.value("command")?, "command", "[pass, show, shop/db]")?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_whole_seconds_or_minutes() {
        for (text, seconds) in [("0s", 0), ("30s", 30), ("2m", 120), ("300s", 300), ("07s", 7), ("1h", 3600)] {
            assert_eq!(duration(text), Some(Duration::from_secs(seconds)), "{text}");
        }
        for text in
            ["", "s", "30", "30 s", "1.5m", "-1s", "+1s", "1d", "m5", "99999999999999999999s", "999999999999999999m"]
        {
            assert_eq!(duration(text), None, "{text}");
        }
        for (seconds, text) in
            [(0, "0s"), (59, "59s"), (60, "1m"), (90, "90s"), (300, "5m"), (3600, "60m"), (86_400, "24h")]
        {
            assert_eq!(shown(Duration::from_secs(seconds)), text);
        }
    }
}
