//! Host keys by OpenSSH's known_hosts files: takes their texts, gives a verdict on a key that a host presented.
//!
//! libssh2's own check ignores `@revoked` and patterns, so this follows sshd(8) «SSH_KNOWN_HOSTS FILE FORMAT» instead:
//! hashed names, `*` and `?`, `!`, `[host]:port`, both markers. Nothing is ever written except by [`super::trust::trust()`].

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use data_encoding::BASE64;
use ring::hmac;

use super::once::Once;

use crate::base::fsx;

pub use super::host_key::HostKey;

/// A line of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The file.
    pub file: PathBuf,
    /// The line, from 1; 0 for the file as a whole.
    pub line: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}", self.file.display()),
            line => write!(f, "{}:{line}", self.file.display()),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Marker {
    None,
    Revoked,
    Authority,
}

#[derive(Debug, Clone)]
enum Names {
    Patterns(String),
    Hashed { salt: Vec<u8>, digest: Vec<u8> },
}

impl Names {
    fn parse(text: &str) -> Option<Self> {
        let Some(hashed) = text.strip_prefix("|1|") else {
            // `|2|` and so on would be a format of the future: not a name.
            return (!text.starts_with('|')).then(|| Self::Patterns(text.to_ascii_lowercase()));
        };
        let (salt, digest) = hashed.split_once('|')?;
        let (salt, digest) = (BASE64.decode(salt.as_bytes()).ok()?, BASE64.decode(digest.as_bytes()).ok()?);
        (digest.len() == 20).then_some(Self::Hashed { salt, digest })
    }

    /// Takes a lower-case name: `host` or `[host]:port`.
    fn matches(&self, name: &str) -> bool {
        match self {
            Self::Hashed { salt, digest } => {
                let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, salt);
                hmac::sign(&key, name.as_bytes()).as_ref() == digest.as_slice()
            }
            Self::Patterns(list) => {
                let mut found = false;
                for pattern in list.split(',') {
                    match pattern.strip_prefix('!') {
                        Some(not) if wildcard(not.as_bytes(), name.as_bytes()) => return false,
                        Some(_) => {}
                        None => found = found || wildcard(pattern.as_bytes(), name.as_bytes()),
                    }
                }
                found
            }
        }
    }
}

/// `*` and `?` as in `ssh_config(5)` PATTERNS, in time of at most the product of both lengths.
pub(crate) fn wildcard(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while let Some(byte) = text.get(t) {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p + 1, t));
                p += 1;
            }
            Some(c) if *c == b'?' || c == byte => {
                p += 1;
                t += 1;
            }
            _ => match star {
                Some((after, from)) => {
                    star = Some((after, from + 1));
                    p = after;
                    t = from + 1;
                }
                None => return false,
            },
        }
    }
    pattern.get(p..).unwrap_or_default().iter().all(|b| *b == b'*')
}

#[derive(Debug, Clone)]
struct Line {
    place: Place,
    marker: Marker,
    names: Names,
    key: HostKey,
}

impl Line {
    /// Whether it is what a new key of a host takes the place of: another key of its type, for that name.
    fn gives_way(&self, name: &str, key: &HostKey) -> bool {
        self.marker == Marker::None && self.key != *key && self.key.kind() == key.kind() && self.names.matches(name)
    }
}

/// A line with another key of the same type for a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Other {
    /// That line.
    pub place: Place,
    /// Its key's fingerprint.
    pub fingerprint: String,
    /// Other names and patterns that the line has the key for; none of a hashed one.
    pub names: Vec<String>,
}

/// What the files say about a key of a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// A line has exactly this key for this host.
    Trusted,
    /// No line has a key of this type for this host.
    Unknown {
        /// Lines that have keys of other types for it.
        other_types: Vec<(Place, String)>,
        /// `@cert-authority` lines for it, which cannot be used: a host's certificate is not asked for.
        authorities: Vec<Place>,
        /// Lines of other hosts that have exactly this key.
        elsewhere: Vec<Place>,
    },
    /// A line has another key of the same type for this host.
    Changed {
        /// That line.
        place: Place,
        /// Its key's fingerprint.
        known: String,
    },
    /// A `@revoked` line has exactly this key.
    Revoked {
        /// That line.
        place: Place,
    },
}

/// The lines of all known_hosts files.
#[derive(Debug, Clone, Default)]
pub struct KnownHosts {
    lines: Vec<Line>,
    pub(super) files: Vec<PathBuf>,
}

/// Files of host keys, read once in a run.
#[derive(Debug, Default)]
pub struct Books(Once<Vec<PathBuf>, Result<Arc<KnownHosts>, String>>);

impl Books {
    /// What these files hold, as they were when they were asked for first.
    ///
    /// # Errors
    /// A file that exists and cannot be read, with its path.
    pub fn read(&self, files: &[PathBuf]) -> Result<Arc<KnownHosts>, String> {
        self.0.get(files.to_vec(), || KnownHosts::read(files).map(Arc::new).map_err(|e| e.to_string()))
    }
}

/// The name under which known_hosts has a host: with the port only where that is not 22.
pub fn name_of(host: &str, port: u16) -> String {
    let host = host.to_ascii_lowercase();
    if port == 22 { host } else { format!("[{host}]:{port}") }
}

impl KnownHosts {
    /// Takes files with their texts, the user's first. What is no key line is left out, as OpenSSH does.
    pub fn parse<'a>(files: impl IntoIterator<Item = (&'a Path, &'a str)>) -> Self {
        let mut known = Self::default();
        for (file, text) in files {
            known.files.push(file.to_owned());
            for (number, line) in text.lines().enumerate() {
                known.lines.extend(parse_line(line, || Place { file: file.to_owned(), line: number + 1 }));
            }
        }
        known
    }

    /// Whether no line of them reads.
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// Reads the files that exist.
    ///
    /// # Errors
    /// A file that exists and cannot be read, with its path.
    pub fn read(files: &[PathBuf]) -> io::Result<Self> {
        let mut texts = Vec::new();
        for file in files {
            // How `ssh` is often told to know nothing.
            if file == Path::new("/dev/null") {
                texts.push((file.as_path(), String::new()));
                continue;
            }
            match fsx::read_bounded(file, fsx::SSH_BYTES) {
                Ok(bytes) => texts.push((file.as_path(), String::from_utf8_lossy(&bytes).into_owned())),
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => return Err(e),
            }
        }
        Ok(Self::parse(texts.iter().map(|(file, text)| (*file, text.as_str()))))
    }

    /// What the files hold for `host` at `port`. A hashed name costs a digest a line, so each line is looked at once.
    pub fn about(&self, host: &str, port: u16) -> About<'_> {
        let (full, plain) = (name_of(host, port), host.to_ascii_lowercase());
        let (mut own, mut by_plain) = (Vec::new(), Vec::new());
        for line in &self.lines {
            if line.names.matches(&full) {
                own.push(line);
            } else if plain != full && line.names.matches(&plain) {
                by_plain.push(line);
            }
        }
        About { known: self, own, by_plain }
    }

    /// What the files say about `key` when `host` presents it at `port`.
    pub fn lookup(&self, host: &str, port: u16, key: &HostKey) -> Verdict {
        self.about(host, port).verdict(key)
    }

    /// The lines that a new key of a host takes the place of.
    pub fn others(&self, host: &str, port: u16, key: &HostKey) -> Vec<Other> {
        let name = name_of(host, port);
        let of = |line: &Line| {
            let names = match &line.names {
                Names::Hashed { .. } => Vec::new(),
                Names::Patterns(list) => list.split(',').filter(|n| *n != name).map(ToOwned::to_owned).collect(),
            };
            Other { place: line.place.clone(), fingerprint: line.key.fingerprint(), names }
        };
        self.lines.iter().filter(|line| line.gives_way(&name, key)).map(of).collect()
    }
}

/// The lines that are for one host.
#[derive(Debug)]
pub struct About<'a> {
    known: &'a KnownHosts,
    /// By its name with the port.
    own: Vec<&'a Line>,
    /// By its name alone, where the port is an unusual one.
    by_plain: Vec<&'a Line>,
}

impl About<'_> {
    /// What the files say about `key` when the host presents it.
    ///
    /// As in OpenSSH a matching `@revoked` line comes first, then any line with the same key, then one of the same type with
    /// another key; and a host at an unusual port may also be known by its name alone, which can trust but not contradict.
    pub fn verdict(&self, key: &HostKey) -> Verdict {
        let of = |marker| self.own.iter().chain(&self.by_plain).filter(move |l| l.marker == marker);
        if let Some(line) = of(Marker::Revoked).find(|l| l.key == *key) {
            return Verdict::Revoked { place: line.place.clone() };
        }
        if of(Marker::None).any(|l| l.key == *key) {
            return Verdict::Trusted;
        }
        let here = || self.own.iter().filter(|l| l.marker == Marker::None);
        if let Some(line) = here().find(|l| l.key.kind() == key.kind()) {
            return Verdict::Changed { place: line.place.clone(), known: line.key.fingerprint() };
        }
        let same = |line: &&Line| line.marker == Marker::None && line.key == *key;
        Verdict::Unknown {
            other_types: here().map(|l| (l.place.clone(), l.key.kind().to_owned())).collect(),
            authorities: of(Marker::Authority).map(|l| l.place.clone()).collect(),
            elsewhere: self.known.lines.iter().filter(same).map(|l| l.place.clone()).collect(),
        }
    }

    /// The types of the keys that are known for the host, in the files' order: these are asked for first, so that a host with
    /// several keys shows the one that can be compared.
    pub fn key_types(&self) -> Vec<String> {
        let plain = |lines: &[&Line]| -> Vec<String> {
            let mut types: Vec<String> = Vec::new();
            for line in lines.iter().filter(|l| l.marker == Marker::None) {
                if !types.iter().any(|t| t == line.key.kind()) {
                    types.push(line.key.kind().to_owned());
                }
            }
            types
        };
        let own = plain(&self.own);
        if own.is_empty() { plain(&self.by_plain) } else { own }
    }
}

/// The text of a file without other keys of `key`'s type for `name`. Other names of such a line keep it, and where a pattern of it
/// stands for the name too, the name is taken out of it by `!`.
pub(super) fn without(text: &[u8], name: &str, key: &HostKey) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    for raw in text.split_inclusive(|b| *b == b'\n') {
        let line = parse_line(&String::from_utf8_lossy(raw), || Place { file: PathBuf::new(), line: 0 });
        let Some(line) = line.filter(|line| line.gives_way(name, key)) else {
            out.extend_from_slice(raw);
            continue;
        };
        if matches!(line.names, Names::Hashed { .. }) {
            continue;
        }
        let start = raw.trim_ascii_start();
        let (names, rest) = start.split_at(start.iter().position(u8::is_ascii_whitespace).unwrap_or(start.len()));
        let names = String::from_utf8_lossy(names);
        let mut left: Vec<&str> = names.split(',').filter(|n| !n.eq_ignore_ascii_case(name)).collect();
        if left.iter().all(|n| n.starts_with('!') || n.is_empty()) {
            continue;
        }
        let not = format!("!{name}");
        if Names::Patterns(left.join(",").to_ascii_lowercase()).matches(name) {
            left.insert(0, &not);
        }
        out.extend_from_slice(left.join(",").as_bytes());
        out.extend_from_slice(rest);
    }
    out
}

fn parse_line(line: &str, place: impl FnOnce() -> Place) -> Option<Line> {
    let line = line.trim();
    if line.is_empty() || line.starts_with('#') {
        return None;
    }
    let mut words = line.split_ascii_whitespace();
    let mut names = words.next()?;
    let marker = match names {
        "@revoked" => Marker::Revoked,
        "@cert-authority" => Marker::Authority,
        other if other.starts_with('@') => return None,
        _ => Marker::None,
    };
    if marker != Marker::None {
        names = words.next()?;
    }
    let (names, kind, key) = (Names::parse(names)?, words.next()?, HostKey::parse(words.next()?)?);
    // The type is written twice, and a line where both differ is damaged (sshkey_read of OpenSSH).
    (key.kind() == kind).then(|| Line { place: place(), marker, names, key })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(kind: &str, last: u8) -> HostKey {
        let mut blob = u32::try_from(kind.len()).unwrap().to_be_bytes().to_vec();
        blob.extend_from_slice(kind.as_bytes());
        blob.push(last);
        HostKey::new(blob)
    }

    fn look(text: &str, host: &str, port: u16, key: &HostKey) -> Verdict {
        KnownHosts::parse([(Path::new("kh"), text)]).lookup(host, port, key)
    }

    fn at(line: usize) -> Place {
        Place { file: "kh".into(), line }
    }

    #[test]
    fn the_same_key_is_trusted_and_another_of_its_type_is_a_change() {
        let (one, two) = (key("ssh-ed25519", 1), key("ssh-ed25519", 2));
        assert_eq!(look(&format!("web1 {one} comment"), "WEB1", 22, &one), Verdict::Trusted);
        let changed = Verdict::Changed { place: at(2), known: one.fingerprint() };
        assert_eq!(look(&format!("# c\nweb1 {one}"), "web1", 22, &two), changed);
        assert_eq!(look(&format!("web1 {one}\nweb1 {two}"), "web1", 22, &two), Verdict::Trusted);
        let rsa = key("ssh-rsa", 1);
        let Verdict::Unknown { other_types, .. } = look(&format!("web1 {one}"), "web1", 22, &rsa) else { panic!() };
        assert_eq!(other_types, [(at(1), "ssh-ed25519".to_owned())]);
    }

    #[test]
    fn a_revoked_key_is_refused_wherever_else_it_stands() {
        let one = key("ssh-ed25519", 1);
        let text = format!("web1 {one}\n@revoked *  {one}");
        assert_eq!(look(&text, "web1", 22, &one), Verdict::Revoked { place: at(2) });
        assert_eq!(look(&text, "web1", 2222, &one), Verdict::Revoked { place: at(2) });
        assert_eq!(look(&format!("@revoked web2 {one}\nweb1 {one}"), "web1", 22, &one), Verdict::Trusted);
    }

    #[test]
    fn an_unusual_port_has_its_own_name_and_may_be_known_by_the_plain_one() {
        let (one, two) = (key("ssh-ed25519", 1), key("ssh-ed25519", 2));
        assert_eq!(look(&format!("web1 {one}"), "web1", 2222, &one), Verdict::Trusted);
        assert!(matches!(look(&format!("web1 {one}"), "web1", 2222, &two), Verdict::Unknown { .. }));
        assert!(matches!(look(&format!("[web1]:2222 {one}"), "web1", 22, &one), Verdict::Unknown { .. }));
        assert!(matches!(look(&format!("[web1]:2222 {one}"), "web1", 2222, &two), Verdict::Changed { .. }));
    }

    #[test]
    fn a_new_key_takes_the_place_of_the_old_one_of_its_type_for_its_name_alone() {
        let (old, new) = (key("ssh-ed25519", 1), key("ssh-ed25519", 2));
        let rsa = key("ssh-rsa", 1);
        // HMAC-SHA1 of `web1` under the salt of `web2`'s line would not match: both are hashed by ssh-keygen's rule.
        let hashed = |name: &str| {
            let salt = [7; 20];
            let hmac = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &salt), name.as_bytes());
            format!("|1|{}|{}", BASE64.encode(&salt), BASE64.encode(hmac.as_ref()))
        };
        for (port, before, after) in [
            (22, format!("web1 {old}\n"), String::new()),
            (22, format!("# c\n\nweb1 {old} comment\nweb2 {old}"), format!("# c\n\nweb2 {old}")),
            (22, format!("WEB1,10.0.0.1 {old} c c\n"), format!("10.0.0.1 {old} c c\n")),
            (22, format!("web1 {rsa}\n"), format!("web1 {rsa}\n")),
            (22, format!("web1 {new}\n"), format!("web1 {new}\n")),
            (
                22,
                format!("{} {old}\n{} {old}\n", hashed("web1"), hashed("web2")),
                format!("{} {old}\n", hashed("web2")),
            ),
            (22, format!("web*,db {old}\n"), format!("!web1,web*,db {old}\n")),
            (22, format!("!web1,web* {old}\n"), format!("!web1,web* {old}\n")),
            (22, format!("web1,!web3 {old}\n"), String::new()),
            (22, format!("[web1]:2222 {old}\n"), format!("[web1]:2222 {old}\n")),
            (2222, format!("[web1]:2222 {old}\nweb1 {old}\n"), format!("web1 {old}\n")),
            (22, format!("@cert-authority web1 {old}\n"), format!("@cert-authority web1 {old}\n")),
            (22, format!("@revoked web1 {old}\n"), format!("@revoked web1 {old}\n")),
            (22, format!("  web1\t{old}\r\nnonsense\n"), "nonsense\n".to_owned()),
        ] {
            let name = name_of("web1", port);
            let left = String::from_utf8(without(before.as_bytes(), &name, &new)).unwrap();
            assert_eq!(left, after, "{before}");
            let known = |text: &str| KnownHosts::parse([(Path::new("kh"), text)]).others("web1", port, &new);
            assert_eq!(known(&before).is_empty(), before == after, "{before}");
            assert!(
                known(&left).is_empty() && !matches!(look(&left, "web1", port, &new), Verdict::Changed { .. }),
                "{left}"
            );
        }
        assert_eq!(without(b"web1 \xff\xfe\n", "web1", &new), b"web1 \xff\xfe\n");
    }

    #[test]
    fn an_authority_is_named_and_not_used() {
        let one = key("ssh-ed25519", 1);
        let Verdict::Unknown { authorities, .. } = look(&format!("@cert-authority * {one}"), "web1", 22, &one) else {
            panic!()
        };
        assert_eq!(authorities, [at(1)]);
    }

    #[test]
    fn damaged_lines_are_left_out() {
        let one = key("ssh-ed25519", 1);
        let base64 = one.to_string();
        let base64 = base64.split(' ').nth(1).unwrap();
        for bad in [
            "web1",
            "web1 ssh-ed25519",
            "@revoked",
            "@what web1 ssh-ed25519 AAAA",
            "|1|x|y ssh-ed25519 AAAA",
            "web1 ssh-ed25519 !!!!",
            &format!("web1 ssh-rsa {base64}"),
            &format!("|2|web1 ssh-ed25519 {base64}"),
            "\0",
        ] {
            assert_eq!(KnownHosts::parse([(Path::new("kh"), bad)]).lines.len(), 0, "{bad}");
        }
    }

    #[test]
    fn wildcards_do_not_take_for_ever() {
        let text = "a".repeat(10_000);
        let pattern = "*a".repeat(500) + "b";
        assert!(!wildcard(pattern.as_bytes(), text.as_bytes()));
        assert!(wildcard(b"10.0.*.?", b"10.0.1.9") && wildcard(b"", b"") && !wildcard(b"?", b""));
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics_or_hides_a_line(
            text in "(([@|*?!,\\[\\]:a-c1 \n=]|@revoked |ssh-rsa |AAAAB3NzaC1yc2EA|\\PC){0,20}\n){0,5}",
            host in "[a-c1:.*]{0,6}",
            port in 0..3_u16,
        ) {
            let own = key("ssh-rsa", 0);
            let known = KnownHosts::parse([(Path::new("kh"), text.as_str())]);
            let verdict = known.lookup(&host, port + 21, &own);
            proptest::prop_assert_eq!(
                known.refusal(&host, &host, port, &own, &verdict).is_none(),
                verdict == Verdict::Trusted
            );
            let more = format!("{text}\nweb1 {own}\n");
            let verdict = look(&more, "web1", 22, &own);
            let ok = matches!(verdict, Verdict::Trusted | Verdict::Revoked { .. });
            proptest::prop_assert!(ok, "{:?}", verdict);
        }
    }
}
