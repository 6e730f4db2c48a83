//! The blocks of an ssh configuration: takes its files, gives the patterns of each `Host` line, so that hosts of the same blocks
//! are asked about once, and one is found by its address where its name has no block. What they hold is `ssh`'s to read, but for the
//! few plain words that are another for each host, of which a configuration with a block for each host mostly consists.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use super::tokens::{home, tilde};
use crate::base::fsx;
use crate::host::known_hosts::wildcard;
use crate::host::target::Config;

/// How deep files may include others, as for `ssh`.
const DEPTH: usize = 16;
/// Most files that are read.
const FILES: usize = 256;

/// What is mostly another for each host: one value, and the first that is found holds (`ssh_config(5)`).
const OWN: [&str; 4] = ["hostname", "hostkeyalias", "port", "user"];

/// What `ssh -G` prints with its tokens replaced.
const EXPANDED: [&str; 2] = ["identityagent", "userknownhostsfile"];

/// One `Host` line and what follows it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Block {
    patterns: Vec<String>,
    place: String,
    /// Its values of [`OWN`]; nothing where it takes `ssh` to say what one is.
    own: BTreeMap<&'static str, Option<String>>,
    /// Whether it says anything else.
    more: bool,
}

impl Block {
    fn holds(&self, name: &str) -> bool {
        let fits = |pattern: &str| wildcard(pattern.as_bytes(), name.as_bytes());
        let refused = self.patterns.iter().filter_map(|pattern| pattern.strip_prefix('!')).any(fits);
        !refused && self.patterns.iter().any(|pattern| !pattern.starts_with('!') && fits(pattern))
    }

    fn new(patterns: Vec<String>, place: String) -> Self {
        Self { patterns, place, own: BTreeMap::new(), more: false }
    }

    /// Takes one more of its lines.
    fn says(&mut self, keyword: &str, mut values: impl Iterator<Item = String>) {
        let Some(own) = OWN.into_iter().find(|own| *own == keyword) else {
            self.more = true;
            return;
        };
        let value = values.next().filter(|value| values.next().is_none() && is_plain(own, value));
        self.more |= value.is_none();
        self.own.entry(own).or_insert(value);
    }

    /// Whether it is for some hosts, and not for all.
    fn chooses(&self) -> bool {
        self.patterns.iter().all(|pattern| !pattern.trim_matches('*').is_empty())
    }
}

/// Whether `ssh` takes a value of [`OWN`] as it stands.
fn is_plain(option: &str, value: &str) -> bool {
    let word = || !value.is_empty() && value.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
    match option {
        "port" => value.parse().is_ok_and(|port: u16| port > 0 && port.to_string() == value),
        "hostname" if value.contains(':') => value.parse().is_ok_and(|ip: IpAddr| ip.to_string() == value),
        // Old spellings of addresses of IPv4 (`10.1`) are made whole.
        "hostname" if value.bytes().all(|b| b.is_ascii_digit() || b == b'.') => {
            value.parse().is_ok_and(|ip: IpAddr| ip.to_string() == value)
        }
        "hostname" => word() && !value.bytes().any(|b| b.is_ascii_uppercase()),
        _ => word(),
    }
}

/// What the blocks of one host say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Said {
    /// Those that `ssh` has to be asked about.
    pub(super) blocks: Vec<usize>,
    /// What the others say of this host, where nothing before them does.
    pub(super) own: BTreeMap<&'static str, String>,
}

/// All `Host` lines.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Blocks {
    all: Vec<Block>,
    /// Whether files are included from within a block, where they hold for its hosts alone.
    nested: bool,
    /// Whether each host has to be asked about by itself: there are `Match` blocks, or files that could not be read.
    each: bool,
    /// How many files were read.
    files: usize,
}

impl Blocks {
    /// Reads those of a configuration; of [`Config::Default`] the person's and the machine's.
    pub(super) fn of(config: &Config) -> Self {
        let own = home().join(".ssh");
        let machine = Path::new("/etc/ssh");
        Self::read(&match config {
            Config::Default => vec![(own.join("config"), own), (machine.join("ssh_config"), machine.to_owned())],
            Config::File(file) => vec![(file.clone(), own)],
            Config::None => Vec::new(),
        })
    }

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
        // The lines before the first block hold for all hosts, and so does what stands behind `Match all`.
        let (mut block, mut inside) = (Block::new(vec!["*".to_owned()], file.display().to_string()), false);
        for (number, line) in text.lines().enumerate() {
            let mut words = words(line).into_iter();
            let keyword = words.next().unwrap_or_default().to_ascii_lowercase();
            let place = || format!("{}:{}", file.display(), number + 1);
            match keyword.as_str() {
                "host" => {
                    self.all.push(std::mem::replace(&mut block, Block::new(words.collect(), place())));
                    inside = true;
                }
                "match" => {
                    self.each |= !words.next().is_some_and(|word| word.eq_ignore_ascii_case("all"));
                    self.all.push(std::mem::replace(&mut block, Block::new(vec!["*".to_owned()], place())));
                }
                "include" => {
                    self.nested |= inside;
                    // What stands before it comes first.
                    let rest = Block { own: BTreeMap::new(), more: false, ..block.clone() };
                    self.all.push(std::mem::replace(&mut block, rest));
                    words.for_each(|path| self.include(&path, folder, depth.saturating_sub(1)));
                }
                "" => {}
                other => {
                    let words: Vec<String> = words.collect();
                    // `ssh -G` tells these with what they stand for on the one host, put together or as a digest.
                    let told = EXPANDED.contains(&other) && words.iter().any(|word| word.contains('%'));
                    self.each |= told;
                    block.says(other, words.into_iter());
                }
            }
        }
        self.all.push(block);
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

    /// What a host's blocks say; nothing where they do not say all.
    pub(super) fn said(&self, name: &str) -> Option<Said> {
        if self.each {
            return None;
        }
        let (mut blocks, mut values) = (Vec::new(), BTreeMap::new());
        for (at, block) in self.all.iter().enumerate().filter(|(_, block)| block.holds(name)) {
            let asked = block.more || self.nested;
            if asked {
                blocks.push(at);
            }
            for (option, value) in &block.own {
                values.entry(*option).or_insert_with(|| value.clone().filter(|_| !asked));
            }
        }
        let own = values.into_iter().filter_map(|(option, value)| Some((option, value?))).collect();
        Some(Said { blocks, own })
    }

    /// The names of hosts that have a block, in the order in which they stand there: those without wildcards.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        let patterns = self.all.iter().flat_map(|block| &block.patterns).map(String::as_str);
        patterns.filter(|name| !name.is_empty() && !name.contains(['*', '?', '!']))
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
        assert_eq!(blocks.said("web1"), blocks.said("web2"));
        assert_eq!(blocks.said("db1"), blocks.said("db2"));
        assert_ne!(blocks.said("web1"), blocks.said("web9"));
        assert_ne!(blocks.said("app1"), blocks.said("other"));
        assert!(blocks.chosen("app1").is_some() && blocks.chosen("web9").is_none(), "{blocks:?}");
    }

    #[test]
    fn what_is_not_read_whole_is_asked_for_each_host() {
        for text in
            ["Match host 10.0.*\n", "match=exec true", "Include /*/config\n", "Include more/[ab]\n", "Include config\n"]
        {
            assert_eq!(read(text, &[]).said("web1"), None, "{text}");
        }
        let said = read("Include more/none\nInclude more/*\nMatch all\n", &[]).said("web1").unwrap();
        assert_eq!((said.blocks, said.own), (Vec::new(), BTreeMap::new()));
    }

    #[test]
    fn a_block_for_each_host_is_read_here_as_far_as_it_is_plain() {
        let text = "Include more/*\nHost web1\n HostName 10.0.2.11\nHost web2\n HostName 10.0.2.12\n Port 2222\nHost web3\n HostName %h.example.com\n\
                    Host web4\n HostName 10.0.2.14\n ForwardAgent yes\nHost web*\n User last\n";
        let blocks = read(text, &[("a.conf", "Host web2\n User first\nHost *\n Compression no\n")]);
        let said = |name: &str| {
            let said = blocks.said(name).unwrap();
            let own: Vec<String> = said.own.iter().map(|(option, value)| format!("{option} {value}")).collect();
            (said.blocks.len(), own.join(", "))
        };
        assert_eq!(said("web1"), (1, "hostname 10.0.2.11, user last".to_owned()));
        assert_eq!(said("web2"), (1, "hostname 10.0.2.12, port 2222, user first".to_owned()));
        assert_eq!(said("web3"), (2, "user last".to_owned()));
        // It says something else too, and what it says of the name comes with that.
        assert_eq!(said("web4"), (2, "user last".to_owned()));
        let nested = read("Host web1\n HostName 10.0.2.11\n Include more/*\n", &[("a", "User x\n")]);
        assert_eq!(nested.said("web1").unwrap().own, BTreeMap::new());
        for (option, odd) in [
            ("hostname", "Web1"),
            ("hostname", "10.0.2.11%eth0"),
            ("hostname", "fd00:0::1"),
            ("port", "022"),
            ("user", "${USER}"),
        ] {
            assert!(!is_plain(option, odd), "{option} {odd}");
        }
        assert!(is_plain("hostname", "fd00::1") && is_plain("hostname", "web1.example.com"));
    }

    #[test]
    fn a_block_of_addresses_chooses_them() {
        let blocks = read("Host *\n User x\nHost 10.0.* 192.0.2.?\n", &[]);
        assert!(blocks.chosen("10.0.1.11").unwrap().ends_with("config:3"));
        assert_eq!((blocks.chosen("10.1.1.1"), blocks.chosen("web1")), (None, None));
    }
}
