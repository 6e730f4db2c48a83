//! Text of others on our screen: takes what a host, a daemon or an inventory says, gives the same with nothing in it that moves a
//! cursor, hides or reorders text, and of a bounded length. What is hidden is shown as an escape, `\u{202e}`.

use std::borrow::Cow;

use crate::base::words::count;

/// Most characters of one line that are shown.
pub const LINE: usize = 2000;
/// Most lines of one message that are shown.
pub const LINES: usize = 40;

/// Whether a character does something to a terminal or to the text around it instead of being seen: control characters of both
/// sets but the tab, the marks of direction (UAX #9 section 2), the separators that only some programs take for line ends, and what
/// has no width (by which two names that look the same differ).
pub fn hides(c: char) -> bool {
    (c.is_control() && c != '\t')
        || matches!(
            c,
            '\u{ad}'
                | '\u{61c}'
                | '\u{180e}'
                | '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{feff}'
                | '\u{fff9}'..='\u{fffb}'
                | '\u{e0000}'..='\u{e007f}'
        )
}

/// `text` with each character that [`hides`] as an escape; line ends too, so that what comes out is one line.
pub fn line(text: &str) -> Cow<'_, str> {
    escaped(text, hides)
}

/// `text` with each character that [`hides`] as an escape, but line ends stay.
pub fn text(text: &str) -> Cow<'_, str> {
    escaped(text, |c| hides(c) && c != '\n')
}

fn escaped(text: &str, odd: impl Fn(char) -> bool) -> Cow<'_, str> {
    if !text.contains(&odd) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if odd(c) { out.extend(c.escape_default()) } else { out.push(c) }
    }
    Cow::Owned(out)
}

/// The last guard of what goes to a terminal: line ends and our own colours (SGR sequences) pass, all else that [`hides`] is an
/// escape.
pub fn printed(text: &str) -> Cow<'_, str> {
    if !text.contains(|c| hides(c) && c != '\n') {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let length = if c == '\u{1b}' { colour(rest) } else { 0 };
        let (head, tail) = rest.split_at(if length > 0 { length } else { c.len_utf8() });
        if length > 0 || c == '\n' || !hides(c) {
            out.push_str(head);
        } else {
            out.extend(c.escape_default());
        }
        rest = tail;
    }
    Cow::Owned(out)
}

/// The length of the SGR sequence that `text` begins with (ECMA-48 section 8.3.117), or 0.
fn colour(text: &str) -> usize {
    let Some(parameters) = text.strip_prefix("\u{1b}[") else { return 0 };
    let length = parameters.bytes().take_while(|b| b.is_ascii_digit() || matches!(b, b';' | b':')).count();
    if parameters.as_bytes().get(length) == Some(&b'm') { length + 3 } else { 0 }
}

/// A JSON text with the same characters as escapes of JSON: it reads as before. Takes JSON, where such a character can only stand
/// in a string.
pub fn json(text: &str) -> Cow<'_, str> {
    let odd = |c: char| hides(c) && c != '\n' && c != '\r';
    if !text.contains(odd) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if odd(c) {
            for unit in c.encode_utf16(&mut [0; 2]) {
                out.push_str(&format!("\\u{unit:04x}"));
            }
        } else {
            out.push(c);
        }
    }
    Cow::Owned(out)
}

/// The first `most` characters; where there are more, how many.
pub fn short(text: &str, most: usize) -> Cow<'_, str> {
    // Bytes are never fewer than characters, so most texts are not counted.
    if text.len() <= most {
        return Cow::Borrowed(text);
    }
    match text.char_indices().nth(most) {
        None => Cow::Borrowed(text),
        Some((at, _)) => {
            let (head, rest) = text.split_at(at);
            let more = rest.chars().count();
            Cow::Owned(format!("{head}… ({})", count(more, "more character")))
        }
    }
}

/// A message as lines for a person: each line bounded and without what [`hides`], empty ones dropped. Of a message that is longer
/// than [`LINES`] the first and the last ones are kept, and between them stands how many there were.
pub fn lines(message: &str) -> Vec<String> {
    let full = message.lines().map(str::trim_end).filter(|line| !line.is_empty());
    let all: Vec<&str> = full.collect();
    let shown = |text: &&str| line(&short(text, LINE)).into_owned();
    if all.len() <= LINES {
        return all.iter().map(shown).collect();
    }
    // A daemon says what is wrong at the end more often than at the beginning.
    let (head, tail) = (LINES / 4, LINES - LINES / 4 - 1);
    let first = all.iter().take(head).map(shown);
    let last = all.iter().skip(all.len() - tail).map(shown);
    first.chain([format!("… ({})", count(all.len() - head - tail, "more line"))]).chain(last).collect()
}

/// One line without what hides, of a bounded length: a stranger's words, such as a CA's or a hook's provider's.
pub fn sentence(text: &str) -> String {
    // Line ends and tabs are space; a bounded part is enough to find 600 characters in.
    let some: String = text.chars().take(6000).map(|c| if c.is_ascii_control() { ' ' } else { c }).collect();
    let words = some.split_whitespace().collect::<Vec<_>>().join(" ");
    line(&words.chars().take(600).collect::<String>()).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_hides_is_an_escape_everywhere() {
        let odd = "\0\u{7}\u{1b}\u{7f}\u{80}\u{9b}\u{9f}\u{61c}\u{200b}\u{200e}\u{200f}\u{2028}\u{202a}\u{202e}\u{2066}\u{2069}\u{feff}";
        for c in odd.chars() {
            let text_of = format!("a{c}b\tü");
            let shown = line(&text_of);
            assert!(!shown.contains(hides) && shown.starts_with("a\\u{") && shown.ends_with("b\tü"), "{shown}");
            assert_eq!((text(&text_of), printed(&text_of)), (shown.clone(), shown));
            let value = serde_json::Value::from(text_of.as_str());
            let written = json(&value.to_string()).into_owned();
            assert!(!written.contains(hides), "{written}");
            assert_eq!(serde_json::from_str::<serde_json::Value>(&written).unwrap(), value);
        }
        assert_eq!(line("a\u{202e}b\r\nc"), "a\\u{202e}b\\r\\nc");
        assert_eq!(text("a\nb\u{9b}"), "a\nb\\u{9b}");
        assert_eq!(json("\"\u{e0001}\""), "\"\\udb40\\udc01\"");
    }

    #[test]
    fn only_colours_pass() {
        assert_eq!(printed("\u{1b}[1;31mred\u{1b}[0m\n"), "\u{1b}[1;31mred\u{1b}[0m\n");
        for (bad, shown) in [
            ("\u{1b}[2J", "\\u{1b}[2J"),
            ("\u{1b}]0;x\u{7}", "\\u{1b}]0;x\\u{7}"),
            ("\u{1b}", "\\u{1b}"),
            ("\u{1b}[1;", "\\u{1b}[1;"),
            ("\u{9b}31m", "\\u{9b}31m"),
        ] {
            assert_eq!(printed(bad), shown);
        }
    }

    #[test]
    fn what_is_long_is_cut_and_counted() {
        assert_eq!(short("äöü", 3), "äöü");
        assert_eq!(short("äöüß", 3), "äöü… (1 more character)");
        let long = "x".repeat(5_000_000);
        assert_eq!(lines(&long), [format!("{}… (4998000 more characters)", "x".repeat(LINE))]);
        let many = (0..100_000).map(|n| format!("line {n}\n\n")).collect::<Vec<_>>().concat();
        let shown = lines(&many);
        assert_eq!(shown.len(), LINES);
        assert_eq!((shown[0].as_str(), shown[LINES - 1].as_str()), ("line 0", "line 99999"));
        assert_eq!(shown[LINES / 4], format!("… ({} more lines)", 100_000 - LINES + 1));
    }
}
