//! The blocks of an ssh configuration: takes its files, gives the patterns of each `Host` line, so that hosts of the same blocks
//! are asked about once, and one is found by its address where its name has no block. What they hold is `ssh`'s to read.

use std::path::{Path, PathBuf};

use super::tokens::{home, tilde};
use crate::base::fsx;
use crate::host::known_hosts::wildcard;

/// How deep files may include others, as for `ssh`.
const DEPTH: usize = 16;
/// Most files that are read.
const FILES: usize = 256;

/// The patterns of one `Host` line.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Block {
    patterns: Vec<String>,
    place: String,
}

impl Block {
    fn holds(&self, name: &str) -> bool {
        let fits = |pattern: &str| wildcard(pattern.as_bytes(), name.as_bytes());
        let refused = self.patterns.iter().filter_map(|pattern| pattern.strip_prefix('!')).any(fits);
        !refused && self.patterns.iter().any(|pattern| !pattern.starts_with('!') && fits(pattern))
    }

    /// Whether it is for some hosts, and not for all.
    fn chooses(&self) -> bool {
        self.patterns.iter().all(|pattern| !pattern.trim_matches('*').is_empty())
    }
}

/// All `Host` lines.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Blocks {
    all: Vec<Block>,
    /// Whether each host has to be asked about by itself: there are `Match` blocks, or files that could not be read.
    each: bool,
    /// How many files were read.
    files: usize,
}

impl Blocks {
    /// Reads files, each with the folder that its relative `Include` lines begin at.
    pub(super) fn read(files: &[(PathBuf, PathBuf)]) -> Self {
        let mut blocks = Self::default();
        for (file, folder) in files {
            blocks.file(file, folder, DEPTH);
        }
        blocks
    }

    fn file(&mut self, file: &Path, folder: &Path, depth: usize) {
        self.files += 1;
        let text = match fsx::read_text(file, fsx::SSH_BYTES) {
            Ok(text) if depth > 0 && self.files <= FILES => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return,
            Ok(_) | Err(_) => {
                self.each = true;
                return;
            }
        };
        for (number, line) in text.lines().enumerate() {
            let mut words = words(line).into_iter();
            match words.next().unwrap_or_default().to_ascii_lowercase().as_str() {
                "host" => {
                    let place = format!("{}:{}", file.display(), number + 1);
                    self.all.push(Block { patterns: words.collect(), place });
                }
                "match" => self.each |= !words.next().is_some_and(|word| word.eq_ignore_ascii_case("all")),
                "include" => words.for_each(|path| self.include(&path, folder, depth.saturating_sub(1))),
                _ => {}
            }
        }
    }

    fn include(&mut self, path: &str, folder: &Path, depth: usize) {
        let path = folder.join(tilde(path, &home()));
        let odd = |text: &str| text.contains(['*', '?', '[', '$', '%']);
        let (Some(parent), Some(name)) = (path.parent(), path.file_name().and_then(|name| name.to_str())) else {
            self.each = true;
            return;
        };
        if odd(&parent.to_string_lossy()) || name.contains(['[', '$', '%']) {
            self.each = true;
        } else if odd(name) {
            let Ok(entries) = fs_err::read_dir(parent) else { return };
            let names = entries.filter_map(|entry| Some(entry.ok()?.file_name()));
            let mut names: Vec<_> = names.filter_map(|name| name.into_string().ok()).collect();
            names.retain(|entry| !entry.starts_with('.') && wildcard(name.as_bytes(), entry.as_bytes()));
            names.sort();
            for entry in &names {
                self.file(&parent.join(entry), folder, depth);
            }
        } else {
            self.file(&path, folder, depth);
        }
    }

    /// Which blocks are a host's; nothing where that does not say all.
    pub(super) fn of(&self, name: &str) -> Option<Vec<usize>> {
        let own = self.all.iter().enumerate().filter(|(_, block)| block.holds(name)).map(|(at, _)| at);
        (!self.each).then(|| own.collect())
    }

    /// Where the first block is that chooses this host.
    pub(super) fn chosen(&self, name: &str) -> Option<&str> {
        self.all.iter().find(|block| block.chooses() && block.holds(name)).map(|block| block.place.as_str())
    }

    /// The same for what is another way to call a host, where the block is not for the host's name too.
    pub(super) fn chosen_beside(&self, way: &str, name: &str) -> Option<&str> {
        let only = |block: &&Block| block.chooses() && block.holds(way) && !block.holds(name);
        self.all.iter().find(only).map(|block| block.place.as_str())
    }
}

/// The words of a line: a keyword ends at a space or at `=`, and `"` keeps a word together.
fn words(line: &str) -> Vec<String> {
    let line = line.trim();
    let end = line.find(|c: char| c.is_ascii_whitespace() || c == '=').unwrap_or(line.len());
    let (keyword, rest) = line.split_at(end);
    let rest = rest.trim_start_matches(|c: char| c.is_ascii_whitespace() || c == '=');
    if keyword.is_empty() || keyword.starts_with('#') {
        return Vec::new();
    }
    let (mut words, mut word, mut quoted) = (vec![keyword.to_owned()], String::new(), false);
    for c in rest.chars() {
        match c {
            '"' => quoted = !quoted,
            '#' if word.is_empty() && !quoted => break,
            c if c.is_ascii_whitespace() && !quoted => {
                if !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
            }
            c => word.push(c),
        }
    }
    if !word.is_empty() {
        words.push(word);
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, more: &[(&str, &str)]) -> Blocks {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in more {
            fs_err::create_dir_all(dir.path().join("more")).unwrap();
            fs_err::write(dir.path().join("more").join(name), text).unwrap();
        }
        fs_err::write(dir.path().join("config"), text).unwrap();
        Blocks::read(&[(dir.path().join("config"), dir.path().to_owned())])
    }

    #[test]
    fn hosts_of_the_same_blocks_are_known_by_them() {
        let blocks = read(
            "User ops\nHost web* !web9\n User a\nhost=\"db1\" db2 # the databases\nInclude more/*.conf\nHost *\nMatch all\n",
            &[("a.conf", "Host app?\n"), ("b.txt", "Host web1\n")],
        );
        assert_eq!(blocks.of("web1"), blocks.of("web2"));
        assert_eq!(blocks.of("db1"), blocks.of("db2"));
        assert_ne!(blocks.of("web1"), blocks.of("web9"));
        assert_ne!(blocks.of("app1"), blocks.of("other"));
        assert!(blocks.chosen("app1").is_some() && blocks.chosen("web9").is_none(), "{blocks:?}");
    }

    #[test]
    fn what_is_not_read_whole_is_asked_for_each_host() {
        for text in
            ["Match host 10.0.*\n", "match=exec true", "Include /*/config\n", "Include more/[ab]\n", "Include config\n"]
        {
            assert_eq!(read(text, &[]).of("web1"), None, "{text}");
        }
        assert_eq!(read("Include more/none\nInclude more/*\nMatch all\n", &[]).of("web1"), Some(Vec::new()));
    }

    #[test]
    fn a_block_of_addresses_chooses_them() {
        let blocks = read("Host *\n User x\nHost 10.0.* 192.0.2.?\n", &[]);
        assert!(blocks.chosen("10.0.1.11").unwrap().ends_with("config:3"));
        assert_eq!((blocks.chosen("10.1.1.1"), blocks.chosen("web1")), (None, None));
    }
}
