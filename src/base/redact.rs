//! Takes known secrets out of text that comes back from somewhere: any stretch of sixteen bytes of one, however the text was
//! broken into lines, quoted or encoded; gives the text with `‹name›` in its place.
//!
//! The text is looked at in several forms, each with a map back to where its bytes stood: as it is, with escapes (JSON, URL,
//! C, syslog, HTML, quoted-printable, colours) undone, without what stands between the pieces of a broken secret, as the last words of its lines, and
//! with what may be base64, hex or decimal bytes decoded. All forms are searched for the same sixteen-byte windows in one pass each, so the
//! time is linear in the text and does not depend on how many secrets there are.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::hash::{BuildHasherDefault, Hasher};

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use form::{Form, Place, between};

mod form;

/// So many bytes of a secret in a row are taken out; a shorter secret is taken out as a whole.
const WINDOW: usize = 16;
/// What is shorter than this is found in ordinary words, and is no secret.
const SHORTEST: usize = 4;
/// How often escapes are undone: JSON in JSON, a URL in JSON.
const LEVELS: usize = 3;

/// Whose a window is.
#[derive(Debug, Clone, Copy)]
struct Who {
    /// Place in [`Redactor::names`].
    name: usize,
    /// Several secrets hold it: keys of a kind begin alike. It says that this is a secret, not which.
    shared: bool,
}

/// A stretch of the text that is not shown.
#[derive(Debug, Clone, Copy)]
struct Span {
    start: usize,
    end: usize,
    who: Who,
}

impl Span {
    fn new((start, end): Place, who: Who) -> Self {
        let wide = |at: u32| usize::try_from(at).unwrap_or(usize::MAX);
        Self { start: wide(start), end: wide(end), who }
    }
}

/// Multiplies and folds: the windows come from secrets and are no means to slow us down.
#[derive(Default)]
struct Fold(u64);

impl Hasher for Fold {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u128(u128::from(*byte));
        }
    }

    fn write_u128(&mut self, window: u128) {
        let mixed = (window ^ (window >> 64) ^ u128::from(self.0)) & u128::from(u64::MAX);
        let product = mixed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let folded = (product ^ (product >> 64)) & u128::from(u64::MAX);
        self.0 = u64::try_from(folded).unwrap_or_default();
    }
}

/// A secret that is shorter than a window: its place in [`Redactor::names`], and its bytes.
type Whole = (usize, Vec<u8>);

/// Knows secrets by their windows.
#[derive(Default)]
pub struct Redactor {
    names: Vec<String>,
    /// Digests of all that was learnt.
    known: BTreeSet<[u8; 32]>,
    windows: HashMap<u128, Who, BuildHasherDefault<Fold>>,
    /// Whole secrets that are shorter than a window, by their first [`SHORTEST`] bytes.
    short: HashMap<u32, Vec<Whole>, BuildHasherDefault<Fold>>,
}

impl fmt::Debug for Redactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Redactor({} secrets)", self.names.len())
    }
}

impl Redactor {
    /// Takes more secrets, by name and value, and what is public beside them: a stretch that stands in public text too
    /// (a public key is a part of both the private one and its certificate) does not count.
    pub fn add<'a>(
        &mut self,
        secrets: impl IntoIterator<Item = (&'a str, &'a str)>,
        public: impl IntoIterator<Item = &'a str>,
    ) {
        for (name, value) in secrets {
            // Learnt before, by an earlier part of the same run.
            if !self.known.insert(Sha256::digest(format!("{name}\0{value}")).into()) {
                continue;
            }
            let place = self.names.len();
            self.names.push(name.to_owned());
            for form in forms(value) {
                self.learn(place, &form);
            }
        }
        for text in public {
            if !self.known.insert(Sha256::digest(text).into()) {
                continue;
            }
            for form in forms(text) {
                windows(&form, |_, window| {
                    self.windows.remove(&window);
                });
            }
        }
    }

    fn learn(&mut self, place: usize, form: &[u8]) {
        if form.len() < WINDOW {
            if let Some(key) = form.first_chunk::<SHORTEST>() {
                let those = self.short.entry(u32::from_be_bytes(*key)).or_default();
                if !those.iter().any(|(_, known)| known == form) {
                    those.push((place, form.to_vec()));
                }
            }
            return;
        }
        windows(form, |_, window| {
            // Sixteen times the same byte is padding.
            if window != u128::from_be_bytes([window.to_be_bytes()[0]; WINDOW]) {
                let who = self.windows.entry(window).or_insert(Who { name: place, shared: false });
                who.shared |= who.name != place;
            }
        });
    }

    /// The text with every stretch of a secret replaced by the secret's name.
    pub fn redact<'t>(&self, text: &'t str) -> Cow<'t, str> {
        let spans = self.spans(text);
        if spans.is_empty() { Cow::Borrowed(text) } else { Cow::Owned(self.cut(text, 0, &spans)) }
    }

    /// As [`Redactor::redact`] for lines that belong together: what is broken over several of them is found, and each stays a
    /// line.
    pub fn redact_lines(&self, lines: &[&str]) -> Vec<String> {
        let spans = self.spans(&lines.join("\n"));
        let mut at = 0;
        let each = lines.iter().map(|line| {
            let start = at;
            at += line.len() + 1;
            self.cut(line, start, &spans)
        });
        each.collect()
    }

    /// As [`Redactor::redact`] for all texts of a value, those of a list as lines that belong together.
    pub fn redact_value(&self, value: &mut Value) {
        match value {
            Value::String(text) => {
                if let Cow::Owned(clean) = self.redact(text) {
                    *text = clean;
                }
            }
            Value::Array(items) => {
                let lines: Option<Vec<&str>> = items.iter().map(Value::as_str).collect();
                match lines {
                    Some(lines) => *items = self.redact_lines(&lines).into_iter().map(Value::String).collect(),
                    None => items.iter_mut().for_each(|item| self.redact_value(item)),
                }
            }
            Value::Object(fields) => fields.values_mut().for_each(|field| self.redact_value(field)),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    /// As [`Redactor::redact_value`] for anything that is told or kept as JSON.
    ///
    /// # Errors
    /// Where a value does not survive JSON; it is then not fit to be told.
    pub fn redacted<T: Serialize + DeserializeOwned>(&self, value: &T) -> Result<T, serde_json::Error> {
        let mut json = serde_json::to_value(value)?;
        self.redact_value(&mut json);
        serde_json::from_value(json)
    }

    /// `text`, which stands at `offset` of what `spans` are about, without them.
    fn cut(&self, text: &str, offset: usize, spans: &[Span]) -> String {
        let mut out = String::with_capacity(text.len());
        let mut done = 0;
        for span in spans {
            let start = floor(text, span.start.saturating_sub(offset)).max(done);
            let end = ceil(text, span.end.saturating_sub(offset));
            if start >= end {
                continue;
            }
            out.push_str(text.get(done..start).unwrap_or_default());
            let name = self.names.get(span.who.name).filter(|_| !span.who.shared).map_or("a secret", String::as_str);
            out.push_str(&format!("‹{name}›"));
            done = end;
        }
        out.push_str(text.get(done..).unwrap_or_default());
        out
    }

    /// What is not shown of `text`, in order, without overlaps.
    fn spans(&self, text: &str) -> Vec<Span> {
        let mut spans = Vec::new();
        if (self.windows.is_empty() && self.short.is_empty()) || text.len() < SHORTEST {
            return spans;
        }
        if u32::try_from(text.len()).is_err() {
            // Nobody reads four gigabytes; what is not looked at is not shown.
            return vec![Span { start: 0, end: text.len(), who: Who { name: usize::MAX, shared: true } }];
        }
        let mut form = Form::of(text);
        for level in 0..LEVELS {
            self.scan(&form, true, &mut spans);
            let joined = form.joined();
            self.scan(&joined, false, &mut spans);
            self.scan(&form.last_words(), false, &mut spans);
            for decoded in joined.base64().chain(form.hex()).chain([form.decimal()]) {
                self.scan(&decoded, true, &mut spans);
                self.scan(&decoded.joined(), false, &mut spans);
            }
            let next = form.unescaped();
            if level + 1 == LEVELS || next.bytes.len() == form.bytes.len() {
                break;
            }
            form = next;
        }
        merged(text, spans)
    }

    /// Looks for windows, and for short secrets where `whole` says so: without line breaks words that have nothing to do with
    /// each other would make one.
    fn scan(&self, form: &Form, whole: bool, spans: &mut Vec<Span>) {
        let mut cover = |from: usize, to: usize, who: Who| {
            for place in form.at.get(from..to).unwrap_or_default() {
                push(spans, Span::new(*place, who));
            }
        };
        let mut covered = 0;
        windows(&form.bytes, |start, window| {
            if let Some(who) = self.windows.get(&window) {
                cover(start.max(covered), start + WINDOW, *who);
                covered = start + WINDOW;
            }
        });
        if !whole || self.short.is_empty() {
            return;
        }
        for (start, key) in form.bytes.windows(SHORTEST).enumerate() {
            let Some(key) = key.first_chunk::<SHORTEST>() else { continue };
            for (name, secret) in self.short.get(&u32::from_be_bytes(*key)).into_iter().flatten() {
                let end = start + secret.len();
                if form.bytes.get(start..end) == Some(secret) {
                    cover(start, end, Who { name: *name, shared: false });
                }
            }
        }
    }
}

/// Extends the last span, or begins another.
fn push(spans: &mut Vec<Span>, next: Span) {
    match spans.last_mut() {
        Some(last) if last.start <= next.start && next.start <= last.end && alike(last.who, next.who) => {
            last.end = last.end.max(next.end);
            if last.who.shared {
                last.who = next.who;
            }
        }
        _ => spans.push(next),
    }
}

fn alike(a: Who, b: Who) -> bool {
    a.shared || b.shared || a.name == b.name
}

/// In order, without overlaps; pieces of one secret with nothing but line breaks or quotes between them are one, and the
/// lines that begin and end a PEM block go with what stands between them.
fn merged(text: &str, mut spans: Vec<Span>) -> Vec<Span> {
    spans.sort_by_key(|span| (span.start, span.end));
    let mut out: Vec<Span> = Vec::new();
    for mut span in spans {
        let Some(last) = out.last_mut() else {
            out.push(span);
            continue;
        };
        let gap = text.as_bytes().get(last.end..span.start).unwrap_or_default();
        if (alike(last.who, span.who) && nothing(gap)) || span.end <= last.end {
            last.end = last.end.max(span.end);
            if last.who.shared {
                last.who = span.who;
            }
        } else {
            span.start = span.start.max(last.end);
            out.push(span);
        }
    }
    let mut from = 0;
    for at in 0..out.len() {
        let until = out.get(at + 1).map_or(text.len(), |next| next.start);
        if let Some(span) = out.get_mut(at) {
            armour(text, from, until, span);
            from = span.end;
        }
    }
    out
}

/// Takes in the lines `-----BEGIN …-----` before and `-----END …-----` after a span, within `from..until`.
fn armour(text: &str, from: usize, until: usize, span: &mut Span) {
    const LONGEST: usize = 64;
    let loose = |c: char| c.is_whitespace() || "\\nr\"',".contains(c);
    let near = text.get(from..span.start).map(|before| before.trim_end_matches(loose));
    if let Some(before) = near.filter(|before| before.ends_with("-----"))
        && let Some(begin) = before.rfind("-----BEGIN ").filter(|begin| before.len() - begin <= LONGEST)
    {
        span.start = from + begin;
    }
    let Some(rest) = text.get(span.end..until) else { return };
    let after = rest.trim_start_matches(loose);
    if let Some(line) = after.strip_prefix("-----END ")
        && let Some(end) = line.find("-----").filter(|end| *end <= LONGEST)
    {
        span.end += rest.len() - after.len() + "-----END ".len() + end + "-----".len();
    }
}

/// Whether nothing but breaks, quotes and their escapes stands there.
fn nothing(gap: &[u8]) -> bool {
    let mut rest = gap;
    while let [first, tail @ ..] = rest {
        rest = match (first, tail) {
            (b'\\', [b'n' | b'r' | b't', after @ ..]) | (b'%', [b'0', b'a' | b'A' | b'd' | b'D', after @ ..]) => after,
            (byte, after) if between(*byte) => after,
            _ => return false,
        };
    }
    true
}

fn floor(text: &str, mut at: usize) -> usize {
    at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

fn ceil(text: &str, mut at: usize) -> usize {
    at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at += 1;
    }
    at
}

/// All windows of `bytes` with where they begin.
fn windows(bytes: &[u8], mut each: impl FnMut(usize, u128)) {
    let mut window = 0_u128;
    for (at, byte) in bytes.iter().enumerate() {
        window = window << 8 | u128::from(*byte);
        if at + 1 >= WINDOW {
            each(at + 1 - WINDOW, window);
        }
    }
}

/// The forms in which a secret is known: for PEM what its blocks hold, as text and decoded; else the text as it is, and as
/// the forms of a text that repeats it would have it.
fn forms(value: &str) -> Vec<Vec<u8>> {
    let value = value.trim();
    if value.contains("-----BEGIN ") {
        let mut forms = Vec::new();
        for block in value.split("-----BEGIN ").skip(1) {
            let body = block.split_once("-----").map_or(block, |(_, rest)| rest);
            let body = Form::of(body.split("-----").next().unwrap_or_default()).joined();
            forms.extend(body.base64().next().map(|der| der.bytes));
            forms.push(body.bytes);
        }
        return forms;
    }
    let mut form = Form::of(value);
    let mut forms = vec![form.bytes.clone()];
    for _ in 0..LEVELS {
        forms.push(form.joined().bytes);
        form = form.unescaped();
    }
    forms.retain({
        let mut seen = BTreeSet::new();
        move |form| form.len() >= SHORTEST && seen.insert(form.clone())
    });
    forms
}

#[cfg(test)]
mod tests;
