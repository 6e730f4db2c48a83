//! What is wrong with something a person wrote: takes severity, message, place and help, draws them as rustc does.

use std::fmt;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

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
    /// The work goes on.
    Warning,
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
    /// The few words under the underline.
    pub label: Option<String>,
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

    /// A warning without a place yet.
    pub fn warning(message: impl Into<String>) -> Self {
        Self::new(Severity::Warning, message)
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
        self.label = Some(label.into());
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
}

/// `did you mean …` for an unknown word, if one of `known` is near (Jaro-Winkler above 0.8, the best one).
pub fn did_you_mean<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let near = known.into_iter().map(|k| (strsim::jaro_winkler(word, k), k)).filter(|(score, _)| *score > 0.8);
    let (_, best) = near.max_by(|a, b| a.0.total_cmp(&b.0))?;
    Some(format!("did you mean `{best}`?"))
}
