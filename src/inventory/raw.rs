//! An inventory as the person wrote it: a tree of maps, lists and scalars in which every part knows its place. Nothing is
//! judged here, so that `resolve` can see, and name, everything that is wrong with it at once.

use std::sync::Arc;

use crate::base::diagnostic::{Source, Span};
use crate::inventory::site::Place;

/// Where a part of the tree stands.
#[derive(Debug, Clone)]
pub(crate) struct Mark {
    /// The text.
    pub(crate) source: Arc<Source>,
    /// First byte.
    pub(crate) start: usize,
    /// One after the last byte.
    pub(crate) end: usize,
    /// Line of the first byte, from 1; kept, because counting lines anew for each host is quadratic.
    pub(crate) line: usize,
}

impl Mark {
    /// For a diagnostic: at most to the end of the first line, so that a section is shown by its head.
    pub(crate) fn span(&self) -> Span {
        let text = self.source.text.get(self.start..self.end).unwrap_or("");
        let shown = text.lines().next().unwrap_or("").trim_end().len();
        Span { source: Arc::clone(&self.source), range: self.start..self.start + shown }
    }

    /// For «from which line does this come».
    pub(crate) fn place(&self) -> Place {
        Place { file: self.source.path.display().to_string(), line: self.line }
    }
}

/// A value and its place.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) mark: Mark,
    pub(crate) value: Value,
}

/// What a node can be. YAML's own types of scalars are not told apart but for null: who reads a field knows its type.
#[derive(Debug, Clone)]
pub(crate) enum Value {
    /// Nothing after the colon, `~` or `null`.
    Null,
    /// What cannot be used and was reported: readers say nothing more about it.
    Broken,
    /// Text; `plain` when it has no quotes.
    Scalar { text: String, plain: bool },
    /// `[a, b]` or lines that begin with `-`.
    List(Vec<Node>),
    /// `{a: b}` or lines of `a: b`. No key twice.
    Map(Vec<Entry>),
}

/// A key, its place, its value.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) key: Key,
    pub(crate) value: Node,
}

/// A key of a map.
#[derive(Debug, Clone)]
pub(crate) struct Key {
    pub(crate) text: String,
    pub(crate) mark: Mark,
}

impl Node {
    /// For a diagnostic.
    pub(crate) fn span(&self) -> Span {
        self.mark.span()
    }

    /// The kind in a person's words: «found a list».
    pub(crate) fn kind(&self) -> &'static str {
        match self.value {
            Value::Null | Value::Broken => "nothing",
            Value::Scalar { .. } => "text",
            Value::List(_) => "a list",
            Value::Map(_) => "a map",
        }
    }

    /// Whether it was reported already.
    pub(crate) fn is_broken(&self) -> bool {
        matches!(self.value, Value::Broken)
    }

    /// Whether it says that there is nothing: `null`, `~`, `[]` or `{}`, but not what ends behind the colon, which is a mistake more
    /// often.
    pub(crate) fn is_nothing(&self) -> bool {
        match &self.value {
            Value::Null => self.mark.end > self.mark.start,
            Value::List(items) => items.is_empty(),
            Value::Map(entries) => entries.is_empty(),
            Value::Broken | Value::Scalar { .. } => false,
        }
    }

    /// The entries of a map; none for all else.
    pub(crate) fn into_entries(self) -> Vec<Entry> {
        if let Value::Map(entries) = self.value { entries } else { Vec::new() }
    }

    /// The text of a scalar.
    pub(crate) fn text(&self) -> Option<&str> {
        if let Value::Scalar { text, .. } = &self.value { Some(text) } else { None }
    }

    /// The entries of a map; none for all else.
    pub(crate) fn entries(&self) -> &[Entry] {
        if let Value::Map(entries) = &self.value { entries } else { &[] }
    }

    /// A value of a map.
    pub(crate) fn get(&self, key: &str) -> Option<&Entry> {
        self.entries().iter().find(|entry| entry.key.text == key)
    }
}

impl Entry {
    /// The items of a list, or the one value as a list of one, each with what a missing key of it is missed at.
    pub(crate) fn each(&self) -> Vec<(&Node, &Mark)> {
        match &self.value.value {
            Value::List(items) => items.iter().map(|item| (item, &item.mark)).collect(),
            _ => vec![(&self.value, &self.key.mark)],
        }
    }
}
