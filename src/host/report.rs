//! What a script tells: takes stdout as NUL-separated pairs, gives them by key, and words fit for a person's terminal.

/// Longest answer of a service that is shown, in lines.
const LINES: usize = 20;

/// Pairs of key and value, in order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Pairs(Vec<(String, String)>);

impl Pairs {
    /// The last value of `key`.
    pub fn last(&self, key: &str) -> Option<&str> {
        self.0.iter().rev().find(|(k, _)| k == key).map(|(_, value)| value.as_str())
    }

    /// All values of `key`.
    pub fn all<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(k, _)| k == key).map(|(_, value)| value.as_str())
    }
}

/// Reads pairs; what follows the last whole pair is dropped.
pub fn pairs(stdout: &[u8]) -> Pairs {
    let text = String::from_utf8_lossy(stdout);
    let parts: Vec<&str> = text.split('\0').collect();
    Pairs(parts.as_chunks::<2>().0.iter().map(|[key, value]| ((*key).to_owned(), (*value).to_owned())).collect())
}

/// A service's words for a terminal: control characters removed, empty lines dropped, the last lines kept.
pub fn words(text: &str) -> Vec<String> {
    let clean = |line: &str| line.chars().filter(|c| !c.is_control()).collect::<String>().trim_end().to_owned();
    let lines: Vec<String> = text.lines().map(clean).filter(|line| !line.is_empty()).collect();
    lines[lines.len().saturating_sub(LINES)..].to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_and_words() {
        let told = pairs(b"failed\0nginx -t\0words\0a\0advice\0x\0advice\0y\0half");
        assert_eq!(told.last("failed"), Some("nginx -t"));
        assert_eq!(told.all("advice").collect::<Vec<_>>(), ["x", "y"]);
        assert_eq!(told.last("half"), None);
        assert_eq!(words("a\u{1b}[31mb\r\n\n c\n"), ["a[31mb", " c"]);
    }
}
