//! What a script on a host tells: makes the script of a question, takes its stdout, gives pairs of key and value. The one format
//! in which a host answers; `scripts/wire.sh` writes it.

use crate::host::transport::Script;
use crate::service::WAYS;

/// sh functions by which a script tells pairs.
pub const WIRE: &str = include_str!("scripts/wire.sh");

/// The pair behind which nothing comes.
const END: &str = "end";

/// A script that changes nothing: `text` tells pairs and does not exit, so that half an answer is known by [`Pairs::is_whole`].
pub fn question(title: &str, text: &str) -> Script {
    Script::new(title, format!("LC_ALL=C\nexport LC_ALL\n{WAYS}\n{WIRE}\n{text}\nemit {END} ''\n"))
}

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
        self.iter().filter(move |(k, _)| *k == key).map(|(_, value)| value)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value.as_str()))
    }

    /// Whether the answer to a [`question`] came to its end.
    pub fn is_whole(&self) -> bool {
        self.0.last().is_some_and(|(key, _)| key == END)
    }
}

/// Reads pairs; what follows the last whole pair is dropped.
pub fn pairs(stdout: &[u8]) -> Pairs {
    let text = String::from_utf8_lossy(stdout);
    // What the last NUL does not end is no part.
    let parts: Vec<&str> = text.rsplit_once('\0').map_or(Vec::new(), |(ended, _)| ended.split('\0').collect());
    Pairs(parts.as_chunks::<2>().0.iter().map(|[key, value]| ((*key).to_owned(), (*value).to_owned())).collect())
}

/// Pairs as they come, while a script is under way.
#[derive(Debug, Default)]
pub struct Live {
    /// So many bytes of the answer were given already.
    given: usize,
}

impl Live {
    /// The whole pairs of an answer that has grown since the last look.
    pub fn pairs(&mut self, answer: &[u8]) -> Pairs {
        let new = answer.get(self.given..).unwrap_or_default();
        let ends: Vec<usize> = new.iter().enumerate().filter(|(_, byte)| **byte == 0).map(|(at, _)| at + 1).collect();
        let Some([_, end]) = ends.as_chunks::<2>().0.last() else { return Pairs::default() };
        self.given += end;
        pairs(new.get(..*end).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::host::dir::DirTransport;
    use crate::host::transport::Transport as _;

    #[test]
    fn half_a_pair_is_dropped() {
        let told = pairs(b"failed\0nginx -t\0words\0a\0advice\0x\0advice\0y\0half");
        assert_eq!(told.last("failed"), Some("nginx -t"));
        assert_eq!(told.all("advice").collect::<Vec<_>>(), ["x", "y"]);
        assert_eq!((told.last("half"), told.is_whole()), (None, false));
    }

    #[test]
    fn each_pair_is_given_once_while_an_answer_grows() {
        let whole = b"note\0a\0progress\0one: 4 %\0words\0b";
        for step in 1..=whole.len() {
            let mut live = Live::default();
            let ends = (0..whole.len()).step_by(step).chain([whole.len()]);
            let seen: Vec<_> = ends.map(|end| live.pairs(&whole[..end])).collect();
            let seen: Vec<_> = seen.iter().flat_map(Pairs::iter).collect();
            assert_eq!(seen, [("note", "a"), ("progress", "one: 4 %")], "{step}");
        }
    }

    #[test]
    fn what_a_script_tells_comes_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let told = |text: &str| pairs(&DirTransport::new(dir.path()).run(&question("t", text), b"").unwrap().stdout);
        let all = told(
            "emit a \"it's %s \\\\ two\nlines\"\npour b printf 'x\\0y\\n\\n'\nhear sh -c 'echo no; exit 3' || emit \"$?\" \"$heard\"",
        );
        let pairs: Vec<_> = all.iter().collect();
        assert_eq!(pairs, [("a", "it's %s \\ two\nlines"), ("b", "xy\n\n"), ("3", "no"), ("end", "")]);
        assert!(all.is_whole());
        for cut in ["exit 0", "emit end x; emit a b; exit", "printf 'end\\0'; exit", "if"] {
            assert!(!told(cut).is_whole(), "{cut}");
        }
    }

    #[test]
    fn what_runs_when_the_time_is_over_has_a_status_all_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let text = "trap late=1 TERM\nhear timeout 20 sh -c 'echo half; sleep 15'\nemit \"$?\" \"$heard $late\"";
        let script = question("t", text).within(Duration::from_secs(1)).grace(Duration::from_secs(9));
        let told = pairs(&DirTransport::new(dir.path()).run(&script, b"").unwrap().stdout);
        assert_eq!(told.iter().next(), Some(("143", "half 1")));
    }
}
