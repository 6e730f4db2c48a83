//! What a host says: takes its words, gives them fit for a person's terminal.

use crate::base::visible;

/// A service's words for a terminal and for what is kept of a run: lines that are bounded in number and length, what hides as
/// escapes. Takes text that is redacted already.
pub fn words(text: &str) -> Vec<String> {
    visible::lines(text)
}

/// A service's words as a part of a sentence of ours.
pub fn phrase(text: &str) -> String {
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    visible::line(&visible::short(&lines.join("; "), 400)).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_phrases() {
        assert_eq!(words("a\u{1b}[31mb\r\n\n c\n"), ["a\\u{1b}[31mb", " c"]);
        assert_eq!(phrase("sh: \u{9b}2J\r\n\n no\n"), "sh: \\u{9b}2J; no");
        assert!(phrase(&"x".repeat(1 << 20)).len() < 450);
    }
}
