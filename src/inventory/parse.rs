//! Takes the text of a YAML file, gives its tree, with what `<<` merges in its place. Keys given twice, aliases that go nowhere, tags
//! and a second document are collected; at a breach of YAML's grammar or of a limit the reading ends.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use serde_yaml::granit_parser::{self, ErrorKind, Event, Parser, ScalarStyle, ScanError};

use crate::base::diagnostic::{Diagnostic, Source, Span};
use crate::inventory::raw::{Entry, Key, Mark, Node, Value};
use crate::inventory::{harmless, mask};

/// Deepest nesting, aliases followed. An inventory needs 6.
const MAX_DEPTH: usize = 64;
/// Most values of one file, aliases followed: bounds the memory that any file can ask for.
const MAX_NODES: usize = 1_000_000;

/// What was read of a file.
#[derive(Debug, Default)]
pub(crate) struct Parsed {
    /// The tree; `None` for an empty file and where the reading ended early.
    pub(crate) root: Option<Node>,
    /// What is wrong.
    pub(crate) diagnostics: Vec<Diagnostic>,
    /// Values that may be secrets and are not shown.
    pub(crate) secrets: Vec<Span>,
}

/// Reads one file's text.
pub(crate) fn parse(source: &Arc<Source>) -> Parsed {
    let options = granit_parser::options! { emit_comments: false, emit_unresolved_aliases: true };
    let document = Mark { source: Arc::clone(source), start: 0, end: 0, line: 1 };
    let (out, frames, anchors) = (Parsed::default(), Vec::new(), HashMap::new());
    let mut builder = Builder { source, out, frames, anchors, nodes: 0, scalars: Vec::new(), document };
    for next in Parser::new_from_str_with_options(&source.text, options) {
        let stop = match next {
            Ok((event, span)) => builder.event(event, &span),
            Err(error) => Err(Box::new(syntax(source, &error))),
        };
        if let Err(diagnostic) = stop {
            if let Some(span) = &diagnostic.span {
                builder.out.secrets.extend(mask::guess(source, span.line()));
            }
            builder.out.diagnostics.push(*diagnostic);
            builder.out.root = None;
            break;
        }
    }
    builder.scalars.sort_by_key(|range| (range.start, range.end));
    mask::comments(source, &builder.scalars, &mut builder.out.secrets);
    builder.out
}

/// A finished node with its measures.
#[derive(Clone)]
struct Built {
    node: Node,
    /// Nodes in it.
    count: usize,
    /// Levels in it; 0 for a scalar.
    height: usize,
}

/// A list or map that is still open.
struct Frame {
    mark: Mark,
    anchor: usize,
    count: usize,
    height: usize,
    content: Content,
}

enum Content {
    List(Vec<Node>),
    Map {
        entries: Vec<Entry>,
        seen: HashMap<String, Mark>,
        merge: Option<(Mark, Vec<Node>)>,
        pending: Pending,
        broken: bool,
    },
}

/// The key that waits for its value.
enum Pending {
    /// A key comes next.
    None,
    /// The next value is this key's.
    Key(Key),
    /// The next value belongs to a key that cannot be used; it is dropped.
    Unusable,
    /// The next value is what `<<`, which stands here, merges.
    Merge(Mark),
}

struct Builder<'s> {
    source: &'s Arc<Source>,
    out: Parsed,
    frames: Vec<Frame>,
    /// `None` while the anchored node is still open.
    anchors: HashMap<usize, Option<Built>>,
    nodes: usize,
    /// The places of all texts.
    scalars: Vec<Range<usize>>,
    /// Where the document begins.
    document: Mark,
}

impl Builder<'_> {
    fn mark(&self, span: &granit_parser::Span) -> Mark {
        let range = span.byte_range().unwrap_or_default();
        Mark { source: Arc::clone(self.source), start: range.start, end: range.end, line: span.start.line() }
    }

    fn error(&mut self, diagnostic: Diagnostic) {
        self.out.diagnostics.push(diagnostic);
    }

    fn event(&mut self, event: Event<'_>, span: &granit_parser::Span) -> Result<(), Box<Diagnostic>> {
        if let Some(tag) = event.tag() {
            let mark = span.tag_span().map_or_else(|| self.mark(span), |span| self.mark(&span));
            let (place, tag) = (mark.span(), tag.original());
            if !self.is_harmless(&tag) {
                self.out.secrets.push(mask::whole(&mark));
            }
            self.error(
                Diagnostic::error(format!("the tag `{tag}` has no meaning here"))
                    .at(&place)
                    .help("remove the tag; a text that begins with `!` must stand in quotes"),
            );
        }
        let mark = self.mark(span);
        match event {
            Event::Scalar(text, style, anchor, _) => {
                let plain = style == ScalarStyle::Plain;
                let null = plain && matches!(&*text, "" | "~" | "null" | "Null" | "NULL");
                self.scalars.push(mark.start..mark.end);
                let block = matches!(style, ScalarStyle::Literal | ScalarStyle::Folded);
                // The line end that closes a block is no part of what a person means by it.
                let text = if block { text.trim_end_matches('\n').to_owned() } else { text.into_owned() };
                let value = if null { Value::Null } else { Value::Scalar { text, plain } };
                self.finish(Built { node: Node { mark, value }, count: 1, height: 0 }, anchor, false)
            }
            Event::SequenceStart(_, anchor, _) => self.open(mark, anchor, Content::List(Vec::new())),
            Event::MappingStart(_, anchor, _) => {
                let (entries, seen, merge) = (Vec::new(), HashMap::new(), None);
                self.open(mark, anchor, Content::Map { entries, seen, merge, pending: Pending::None, broken: false })
            }
            Event::SequenceEnd | Event::MappingEnd => {
                let Some(mut frame) = self.frames.pop() else { return Ok(()) };
                frame.mark.end = mark.end.max(frame.mark.start);
                let value = match frame.content {
                    Content::List(items) if !items.is_empty() && items.iter().all(Node::is_broken) => Value::Broken,
                    Content::List(items) => Value::List(items),
                    Content::Map { mut entries, mut seen, merge, broken, .. } => {
                        for entry in merge.into_iter().flat_map(|(_, maps)| maps).flat_map(Node::into_entries) {
                            if !seen.contains_key(&entry.key.text) {
                                seen.insert(entry.key.text.clone(), entry.key.mark.clone());
                                entries.push(entry);
                            }
                        }
                        if broken && entries.is_empty() { Value::Broken } else { Value::Map(entries) }
                    }
                };
                let node = Node { mark: frame.mark, value };
                self.finish(Built { node, count: frame.count + 1, height: frame.height + 1 }, frame.anchor, false)
            }
            Event::Alias(id) => {
                let built = self.anchors.get(&id).cloned().flatten();
                if built.is_none() {
                    self.error(
                        Diagnostic::error("an alias inside of the value that it stands for")
                            .at(&mark.span())
                            .help("write the value out"),
                    );
                }
                let broken = Built { node: Node { mark, value: Value::Broken }, count: 1, height: 0 };
                self.finish(built.unwrap_or(broken), 0, true)
            }
            Event::UnresolvedAlias(name) => {
                self.error(
                    Diagnostic::error(format!("no anchor `&{name}` stands before this alias"))
                        .at(&mark.span())
                        .help("a text that begins with `*` must stand in quotes"),
                );
                self.finish(Built { node: Node { mark, value: Value::Broken }, count: 1, height: 0 }, 0, false)
            }
            Event::DocumentStart(..) => {
                self.document = mark;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Refuses what stands in a second document; one that is empty is none.
    fn single(&self) -> Result<(), Box<Diagnostic>> {
        let full = |root: &Node| !matches!(root.value, Value::Null);
        if !self.frames.is_empty() || !self.out.root.as_ref().is_some_and(full) {
            return Ok(());
        }
        Err(Box::new(
            Diagnostic::error("a second document begins here").at(&self.document.span()).help(
                "keep one document in a file: remove the `---`, or move the second document to a file of its own",
            ),
        ))
    }

    fn open(&mut self, mark: Mark, anchor: usize, content: Content) -> Result<(), Box<Diagnostic>> {
        self.single()?;
        if self.frames.len() >= MAX_DEPTH {
            return Err(Box::new(too_deep(&mark)));
        }
        if anchor != 0 {
            self.anchors.insert(anchor, None);
        }
        self.frames.push(Frame { mark, anchor, count: 0, height: 0, content });
        Ok(())
    }

    /// Gives a finished node to the collection that is open.
    fn finish(&mut self, built: Built, anchor: usize, alias: bool) -> Result<(), Box<Diagnostic>> {
        self.nodes += if alias { built.count } else { 1 };
        if anchor != 0 {
            self.nodes += built.count; // the copy that aliases are made of
        }
        if self.nodes > MAX_NODES {
            return Err(Box::new(
                Diagnostic::error(format!("the file grows to more than {MAX_NODES} values"))
                    .at(&built.node.span())
                    .help("aliases of aliases multiply: write the values out"),
            ));
        }
        if self.frames.len() + built.height > MAX_DEPTH {
            return Err(Box::new(too_deep(&built.node.mark)));
        }
        if anchor != 0 {
            self.anchors.insert(anchor, Some(built.clone()));
        }
        let parent = self.parent_key();
        if alias || built.height == 0 {
            self.hide(&built.node);
        }
        let Some(frame) = self.frames.last_mut() else {
            let nothing = matches!(built.node.value, Value::Null);
            if !nothing || self.out.root.is_none() {
                self.single()?;
                self.out.root = Some(built.node);
            }
            return Ok(());
        };
        frame.count += built.count;
        frame.height = frame.height.max(built.height);
        match &mut frame.content {
            Content::List(items) => items.push(built.node),
            Content::Map { entries, seen, merge, pending, broken } => match std::mem::replace(pending, Pending::None) {
                Pending::Merge(at) => match merged(at, built.node, merge.as_ref()) {
                    Ok(maps) => *merge = Some(maps),
                    Err(diagnostic) => {
                        *broken = true;
                        self.out.diagnostics.extend(diagnostic.map(|boxed| *boxed));
                    }
                },
                Pending::None if is_merge(&built.node) => *pending = Pending::Merge(built.node.mark),
                Pending::None => match key(built.node) {
                    Ok(key) => *pending = Pending::Key(key),
                    Err(diagnostic) => {
                        *pending = Pending::Unusable;
                        *broken = true;
                        self.out.diagnostics.extend(diagnostic.map(|boxed| *boxed));
                    }
                },
                Pending::Unusable => {}
                Pending::Key(key) => {
                    if let Some(first) = seen.get(&key.text) {
                        let diagnostic = twice(&key, first, parent.as_deref());
                        self.out.diagnostics.push(diagnostic);
                    } else {
                        seen.insert(key.text.clone(), key.mark.clone());
                        entries.push(Entry { key, value: built.node });
                    }
                }
            },
        }
        Ok(())
    }

    /// The keys that lead to what comes next, whether that is an item of a list, and whether it is itself a key.
    fn path(&self) -> (Vec<&str>, bool, bool) {
        let (mut path, mut listed, mut is_key) = (Vec::new(), false, false);
        for (index, frame) in self.frames.iter().enumerate() {
            listed = matches!(frame.content, Content::List(_));
            is_key = false;
            match &frame.content {
                Content::Map { pending: Pending::Key(key), .. } => path.push(key.text.as_str()),
                Content::Map { pending: Pending::None, .. } if index + 1 == self.frames.len() => is_key = true,
                // A key that is no text leads nowhere known.
                Content::Map { pending: Pending::None | Pending::Unusable, .. } => path.push(""),
                Content::Map { pending: Pending::Merge(_), .. } | Content::List(_) => {}
            }
        }
        (path, listed, is_key)
    }

    /// Whether a text may be shown where the next one stands.
    fn is_harmless(&self, text: &str) -> bool {
        let (path, listed, is_key) = self.path();
        if is_key { harmless::key(&path, text) } else { harmless::value(&path, text, listed) }
    }

    /// Hides what of a finished value, or key, is not known to be harmless where it stands.
    fn hide(&mut self, node: &Node) {
        // A file of one text is judged as a whole, by who asked for a map.
        if self.frames.is_empty() {
            return;
        }
        let mut found = Vec::new();
        let (mut path, listed, is_key) = self.path();
        match &node.value {
            Value::Scalar { text, .. } if is_key => {
                if text != "<<" && !harmless::key(&path, text) {
                    found.push(mask::whole(&node.mark));
                }
            }
            _ if is_key => mask::all(node, &mut found),
            _ => mask::tree(&mut path, node, listed, &mut found),
        }
        self.out.secrets.extend(found);
    }

    /// The key under which the open collection stands.
    fn parent_key(&self) -> Option<String> {
        let above = self.frames.len().checked_sub(2).and_then(|index| self.frames.get(index))?;
        match &above.content {
            Content::Map { pending: Pending::Key(key), .. } => Some(key.text.clone()),
            _ => None,
        }
    }
}

fn too_deep(mark: &Mark) -> Diagnostic {
    Diagnostic::error(format!("nested deeper than {MAX_DEPTH} levels"))
        .at(&mark.span())
        .help("an inventory needs no more than six: look for a bracket that is never closed")
}

fn is_merge(node: &Node) -> bool {
    matches!(&node.value, Value::Scalar { text, plain: true } if text == "<<")
}

/// The maps that `<<` at `at` merges, the first of which wins (yaml.org/type/merge.html), or why there are none; `None` where that was
/// said before.
fn merged(
    at: Mark,
    node: Node,
    before: Option<&(Mark, Vec<Node>)>,
) -> Result<(Mark, Vec<Node>), Option<Box<Diagnostic>>> {
    const HELP: &str = "write `<<: *one` or `<<: [*one, *two]`, aliases of maps whose keys are to stand here too";
    if let Some((first, _)) = before {
        let key = Key { text: "<<".to_owned(), mark: at };
        return Err(Some(Box::new(twice(&key, first, None))));
    }
    let maps = match node.value {
        Value::Broken => return Err(None),
        Value::Map(_) => vec![node],
        Value::List(items) => items,
        _ => {
            let message = format!("`<<` merges maps, found {}", node.kind());
            return Err(Some(Box::new(Diagnostic::error(message).at(&node.span()).help(HELP))));
        }
    };
    match maps.iter().find(|map| !matches!(map.value, Value::Map(_))) {
        None => Ok((at, maps)),
        Some(other) if other.is_broken() => Err(None),
        Some(other) => {
            let message = format!("`<<` merges maps, found {}", other.kind());
            Err(Some(Box::new(Diagnostic::error(message).at(&other.span()).help(HELP))))
        }
    }
}

/// A key, or why it is none; `None` where that was said before.
fn key(node: Node) -> Result<Key, Option<Box<Diagnostic>>> {
    let (message, help) = match node.value {
        Value::Scalar { text, .. } => return Ok(Key { text, mark: node.mark }),
        Value::Broken => return Err(None),
        Value::Null => ("a value without a key", "write the key before the colon"),
        Value::List(_) | Value::Map(_) => (
            "a key must be text",
            "a text that begins with `{` or `[` must stand in quotes; `{{ … }}` is not replaced in an inventory",
        ),
    };
    Err(Some(Box::new(Diagnostic::error(message).at(&node.span()).help(help))))
}

/// The diagnostic for a key that was given before.
pub(crate) fn twice(key: &Key, first: &Mark, parent: Option<&str>) -> Diagnostic {
    let what = match parent {
        Some("hosts") => "host ",
        Some("sites") => "site ",
        Some("users") => "user ",
        _ => "",
    };
    Diagnostic::error(format!("{what}`{}` is given twice", key.text))
        .at(&key.mark.span())
        .label("given again here")
        .related(&first.span(), "first given here")
        .help("keep one of the two entries, or merge them under one key")
}

/// The parser's words for a breach of grammar, with what to do where that is known.
fn syntax(source: &Arc<Source>, error: &ScanError) -> Diagnostic {
    let mut start = error.marker().byte_offset().unwrap_or(0).min(source.text.len());
    // Of a tab behind a text that could go on, the parser tells where the text begins.
    if matches!(
        error.kind(),
        ErrorKind::TabInPlainScalar | ErrorKind::TabInIndentation | ErrorKind::TabInBlockIndentation
    ) {
        let behind = source.text.get(start..).unwrap_or("");
        let text_ends = behind.find('\n').filter(|_| !behind.starts_with('\t'));
        start += text_ends.and_then(|end| Some(end + behind.get(end..)?.find('\t')?)).unwrap_or(0);
    }
    let width =
        source.text.get(start..).and_then(|rest| rest.chars().next()).filter(|c| *c != '\n').map_or(0, char::len_utf8);
    let span = Span { source: Arc::clone(source), range: start..start + width };
    let (message, help): (String, Option<&str>) = match error.kind() {
        ErrorKind::TabNotAllowed
        | ErrorKind::TabInBlockIndentation
        | ErrorKind::TabInIndentation
        | ErrorKind::TabInPlainScalar
        | ErrorKind::TabAtBlockScalarStart => {
            ("a tab where YAML wants spaces".into(), Some("indent with spaces, two a level"))
        }
        ErrorKind::InvalidIndentation
        | ErrorKind::ExpectedBlockMappingKey
        | ErrorKind::MappingKeyNotAllowed
        | ErrorKind::InvalidBlockScalarIndent
        | ErrorKind::InvalidFlowScalarIndent
        | ErrorKind::InvalidQuotedScalarIndent
        | ErrorKind::ExpectedBlockSequenceEntry
        | ErrorKind::BlockSequenceEntryNotAllowed => (
            "the indentation does not fit".into(),
            Some("the keys of a map begin in the same column, and the values below a key stand two spaces deeper"),
        ),
        ErrorKind::MappingValueNotAllowed | ErrorKind::InvalidColonPlacement => (
            "a second `: ` in one line, or a line that is indented too deep".into(),
            Some(
                "write a space behind each colon, put a text with `: ` in quotes, and begin the keys of a map in the same column",
            ),
        ),
        ErrorKind::SimpleKeyExpected | ErrorKind::InvalidSimpleKey => {
            ("a line that is not `key: value`".into(), Some("write a colon and a space after the key"))
        }
        ErrorKind::UnclosedQuotedScalar | ErrorKind::DocumentIndicatorInQuotedScalar => {
            ("a quote that is never closed".into(), Some("close it on the same line"))
        }
        ErrorKind::UnexpectedEofFlowSequence
        | ErrorKind::UnexpectedEofFlowMapping
        | ErrorKind::UnexpectedEofImplicitFlowMapping
        | ErrorKind::UnclosedFlowCollection { .. } => {
            ("a bracket that is never closed".into(), Some("close each `[` with `]` and each `{` with `}`"))
        }
        ErrorKind::ExpectedFlowMappingSeparator => ("expected `,` or `}`".into(), None),
        ErrorKind::ExpectedFlowSequenceSeparator => ("expected `,` or `]`".into(), None),
        ErrorKind::MisplacedFlowCollectionEnd => ("a closing bracket that nothing opened".into(), None),
        ErrorKind::MismatchedFlowCollectionEnd { open, close } => (format!("`{open}` is closed by `{close}`"), None),
        ErrorKind::UnexpectedCharacter { character } => (
            format!("the character `{}` cannot begin a value", character.escape_default()),
            Some("put the value in quotes"),
        ),
        ErrorKind::BomInsideDocument => {
            ("a byte order mark (U+FEFF) inside of the text".into(), Some("remove this invisible character"))
        }
        ErrorKind::RecursionLimitExceeded => (format!("nested deeper than {MAX_DEPTH} levels"), None),
        kind => (format!("this is not YAML: {kind}"), None),
    };
    let diagnostic = Diagnostic::error(message).at(&span);
    diagnostic.help(help.unwrap_or("look at the brackets, quotes and colons of this line and of the line before"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Parsed {
        parse(&Arc::new(Source { path: "a.yml".into(), text: text.into() }))
    }

    #[test]
    fn every_part_knows_its_line() {
        let root = read("a: 1\nb:\n  - x\n  - { c: ~ }\n").root.unwrap();
        let Value::List(items) = &root.get("b").unwrap().value.value else { panic!("no list") };
        assert_eq!(items.iter().map(|item| item.mark.line).collect::<Vec<_>>(), [3, 4]);
        assert!(matches!(items[1].get("c").unwrap().value.value, Value::Null));
        assert_eq!(root.get("a").unwrap().value.text(), Some("1"));
    }

    #[test]
    fn an_alias_is_its_value() {
        let parsed = read("a: &x { b: 1 }\nc: *x\n");
        assert!(parsed.diagnostics.is_empty());
        assert_eq!(parsed.root.unwrap().get("c").unwrap().value.get("b").unwrap().value.text(), Some("1"));
    }

    #[test]
    fn what_is_merged_stands_behind_what_is_written() {
        let text = "a: &a { x: 1, y: 1 }\nb: &b { y: 2, z: 2 }\nc: { <<: [*a, *b], x: 3 }\nd: { y: 4, <<: *b }\ne: { <<: { <<: *a, x: 5 } }\n";
        let parsed = read(text);
        assert!(parsed.diagnostics.is_empty(), "{:?}", parsed.diagnostics);
        let root = parsed.root.unwrap();
        let is = |map: &str, keys: &[(&str, &str)]| {
            let map = &root.get(map).unwrap().value;
            let found: Vec<_> = map.entries().iter().map(|e| (e.key.text.as_str(), e.value.text().unwrap())).collect();
            assert_eq!(found, keys);
        };
        is("c", &[("x", "3"), ("y", "1"), ("z", "2")]);
        is("d", &[("y", "4"), ("z", "2")]);
        is("e", &[("x", "5"), ("y", "1")]);
        // What is merged is found where it was written.
        assert_eq!(root.get("c").unwrap().value.get("z").unwrap().value.mark.line, 2);
        for (text, message) in [
            ("a: &a {}\nb: { <<: *a, <<: *a }\n", "`<<` is given twice"),
            ("b: { <<: [1] }\n", "`<<` merges maps, found text"),
            ("b: &b { <<: *b }\n", "an alias inside of the value that it stands for"),
        ] {
            let found: Vec<String> = read(text).diagnostics.into_iter().map(|d| d.message).collect();
            assert_eq!(found, [message]);
        }
        assert_eq!(read("\"<<\": 1\n").root.unwrap().get("<<").unwrap().value.text(), Some("1"));
    }

    #[test]
    fn one_document_is_read_with_or_without_its_marks() {
        for text in ["---\na: 1\n", "%YAML 1.2\n---\na: 1\n...\n", "a: 1\n---\n", "---\n---\na: 1\n...\n---\n...\n"] {
            let parsed = read(text);
            assert!(parsed.diagnostics.is_empty(), "{text:?}: {:?}", parsed.diagnostics);
            assert!(parsed.root.unwrap().get("a").is_some(), "{text:?}");
        }
        for text in ["a: 1\n---\na: 2\n", "a: 1\n--- text\n", "a: 1\n---\n- 1\n"] {
            assert_eq!(read(text).diagnostics[0].message, "a second document begins here", "{text:?}");
        }
    }

    #[test]
    fn what_grows_is_bounded() {
        // Each alias adds a level that the text does not show.
        let mut chain = String::from("a0: &a0 [x]\n");
        chain.extend((1..200).map(|i| format!("a{i}: &a{i} [*a{}]\n", i - 1)));
        assert!(read(&chain).diagnostics[0].message.contains("deeper"));
        assert!(read(&"[".repeat(100_000)).root.is_none());
        assert!(read(&"- ".repeat(100_000)).root.is_none());
        assert!(read(&"? ".repeat(100_000)).root.is_none());
        // A large file without aliases is no bomb.
        let mut hosts = String::new();
        hosts.extend((0..20_000).map(|i| format!("h{i}: {{ a: [1, 2], r: [x], s: {{ u: y }} }}\n")));
        assert!(read(&hosts).diagnostics.is_empty());
    }

    #[test]
    fn the_reading_goes_on_after_a_mistake() {
        let parsed = read("a: !t 1\na: 2\n? [x]\n: 3\nb: *none\n<<: text\n");
        let messages: Vec<&str> = parsed.diagnostics.iter().map(|d| d.message.as_str()).collect();
        assert_eq!(
            messages,
            [
                "the tag `!t` has no meaning here",
                "`a` is given twice",
                "a key must be text",
                "no anchor `&none` stands before this alias",
                "`<<` merges maps, found text"
            ]
        );
        assert!(parsed.root.is_some());
    }
}
