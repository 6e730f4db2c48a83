//! Small parts of what a person reads: takes names, counts and words of hosts, gives text that is safe, short and aligned.

use std::fmt::Write as _;

use anstyle::{AnsiColor, Style};

use crate::base::net::HostName;
use crate::base::visible;
pub use crate::base::words::count;

/// Colour, or none. Everything must be understandable without it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Paint {
    /// Whether escape sequences are written.
    pub on: bool,
}

impl Paint {
    /// Green: added, done.
    pub fn good(self, text: &str) -> String {
        self.with(AnsiColor::Green.on_default(), text)
    }

    /// Red: removed, failed.
    pub fn bad(self, text: &str) -> String {
        self.with(AnsiColor::Red.on_default(), text)
    }

    /// Yellow: changed, drift, warnings.
    pub fn warn(self, text: &str) -> String {
        self.with(AnsiColor::Yellow.on_default(), text)
    }

    /// Cyan: places and commands to type.
    pub fn hint(self, text: &str) -> String {
        self.with(AnsiColor::Cyan.on_default(), text)
    }

    /// Bold: hosts, headings.
    pub fn strong(self, text: &str) -> String {
        self.with(Style::new().bold(), text)
    }

    /// Dim: what may be passed over.
    pub fn faint(self, text: &str) -> String {
        self.with(Style::new().dimmed(), text)
    }

    fn with(self, style: Style, text: &str) -> String {
        if self.on && !text.is_empty() { format!("{style}{text}{style:#}") } else { text.to_owned() }
    }
}

/// One line without anything that moves a cursor, hides or reorders text: such characters are escapes; tabs stay.
pub fn clean(line: &str) -> String {
    visible::line(line).into_owned()
}

/// Seconds as a person says them: `0.4 s`, `12 s`, `3 min 20 s`.
pub fn seconds(seconds: f64) -> String {
    if seconds < 9.95 {
        return format!("{:.1} s", seconds.max(0.0));
    }
    let whole = std::time::Duration::from_secs_f64(seconds.clamp(0.0, 1e9)).as_secs_f64().round();
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 1e9, rounded")]
    let whole = whole as u64;
    if whole < 120 { format!("{whole} s") } else { format!("{} min {} s", whole / 60, whole % 60) }
}

/// Columns of a screen.
pub const SCREEN: usize = 80;

/// A line broken at spaces and commas, with `indent` before each part.
pub fn folded(line: &str, indent: usize) -> String {
    let own = line.chars().take_while(|c| *c == ' ').count();
    let margin = " ".repeat(indent + own);
    let mut out = String::new();
    let mut text = margin.clone();
    for word in line.trim_start().split_inclusive([' ', ',']) {
        if text.chars().count() + word.trim_end().chars().count() > SCREEN && text.trim() != "" {
            let _ = writeln!(out, "{}", text.trim_end());
            text = format!("{margin}  ");
        }
        text.push_str(word);
    }
    let _ = writeln!(out, "{}", text.trim_end());
    out
}

/// Bytes as a person says them: `1.3 GB`.
pub fn bytes(number: u64) -> String {
    crate::service::database::preflight::bytes(number)
}

/// A name's stem and the number at its end: `web12` is `("web", Some(12), "12")`.
fn split(name: &str) -> (&str, Option<u64>, &str) {
    let stem = name.trim_end_matches(|c: char| c.is_ascii_digit());
    let digits = name.get(stem.len()..).unwrap_or("");
    (stem, digits.parse().ok(), digits)
}

/// The key by which `web2` stands before `web10`.
pub fn natural(name: &str) -> (String, u64, String) {
    let (stem, number, digits) = split(name);
    (stem.to_owned(), number.unwrap_or(0), digits.to_owned())
}

/// Up to this many hosts are written out.
const WRITTEN_OUT: usize = 6;

/// All names, none left out: `web1, web2`; many of them in ranges, `web[1-400], app7`. Expects them in the order in which
/// they shall stand.
pub fn names(hosts: &[&HostName]) -> String {
    if hosts.len() <= WRITTEN_OUT {
        return hosts.iter().map(|h| h.as_str()).collect::<Vec<_>>().join(", ");
    }
    // A stem, the digits of its first and last number, and that number.
    let mut ranges: Vec<(&str, &str, &str, Option<u64>)> = Vec::new();
    for host in hosts {
        let (stem, number, digits) = split(host.as_str());
        match ranges.last_mut() {
            Some((s, first, last, Some(n)))
                if *s == stem
                    && number == n.checked_add(1)
                    && (first.len() == digits.len() || !first.starts_with('0')) =>
            {
                *last = digits;
                *n += 1;
            }
            _ => ranges.push((stem, digits, digits, number)),
        }
    }
    let parts = ranges.into_iter().map(|(stem, first, last, _)| {
        if first == last { format!("{stem}{first}") } else { format!("{stem}[{first}-{last}]") }
    });
    parts.collect::<Vec<_>>().join(", ")
}

/// `text` with `token` replaced where it stands alone, i.e. not beside a character that `glues`.
pub fn replace_alone(text: &str, token: &str, with: &str, glues: fn(char) -> bool) -> String {
    if token.is_empty() || !text.contains(token) {
        return text.to_owned();
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    let mut before: Option<char> = None;
    while let Some((head, tail)) = rest.split_once(token) {
        let left = head.chars().next_back().or(before);
        let alone = !left.is_some_and(glues) && !tail.chars().next().is_some_and(glues);
        out.push_str(head);
        out.push_str(if alone { with } else { token });
        before = token.chars().next_back();
        rest = tail;
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(names_of: &[&str]) -> String {
        let hosts: Vec<HostName> = names_of.iter().map(|n| n.parse().unwrap()).collect();
        names(&hosts.iter().collect::<Vec<_>>())
    }

    #[test]
    fn many_names_are_ranges_and_none_is_lost() {
        assert_eq!(named(&["web1", "web2"]), "web1, web2");
        assert_eq!(
            named(&["lb1", "web1", "web2", "web3", "web5", "db", "x9", "x10"]),
            "lb1, web[1-3], web5, db, x[9-10]"
        );
        assert_eq!(named(&["w01", "w02", "w03", "w4", "w5", "w6", "w7"]), "w[01-03], w[4-7]");
    }

    #[test]
    fn what_hosts_say_cannot_move_the_cursor() {
        assert_eq!(clean("a\u{1b}[2Jb\r\u{202e}c\td"), "a\\u{1b}[2Jb\\r\\u{202e}c\td");
    }

    #[test]
    fn times() {
        assert_eq!(seconds(0.04), "0.0 s");
        assert_eq!(seconds(1.14), "1.1 s");
        assert_eq!(seconds(59.6), "60 s");
        assert_eq!(seconds(200.0), "3 min 20 s");
        assert_eq!(seconds(-1.0), "0.0 s");
    }

    #[test]
    fn a_token_is_replaced_where_it_stands_alone() {
        let glues = |c: char| c.is_ascii_alphanumeric() || c == '.';
        assert_eq!(replace_alone("10.0.2.1 10.0.2.11 10.0.2.1:80", "10.0.2.1", "@", glues), "@ 10.0.2.11 @:80");
        assert_eq!(replace_alone("aa", "a", "@", glues), "aa");
    }
}
