//! From a path to a [`Site`]: reads the file and what it includes within the limits, has them parsed and resolved, and
//! gives every diagnostic at once, secrets masked.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::base::diagnostic::{Diagnostic, Source, Span, gathered};
use crate::base::fsx;
use crate::base::net::HostName;
use crate::inventory::raw::{Entry, Mark, Node, Value};
use crate::inventory::read::Problems;
use crate::inventory::site::Site;
use crate::inventory::{mask, parse, resolve};

/// The inventory where none is named.
pub const DEFAULT: &str = "./inventory.yml";
/// The environment variable that names another.
pub const VARIABLE: &str = "INFRA_INVENTORY";

/// Largest file, in bytes. A thousand hosts need some 100 KiB.
const MAX_BYTES: u64 = 10 * 1024 * 1024;
/// Most files of one inventory.
const MAX_FILES: usize = 1000;

/// Loads an inventory.
///
/// # Errors
/// Everything that is wrong with it, errors and warnings, sorted by place.
pub fn load(path: &Path) -> Result<(Site, Vec<Diagnostic>), Vec<Diagnostic>> {
    let mut files = Files::default();
    let root = read(path, "inventory").map(|source| files.add(source, path));
    match root {
        Ok(root) => finish(files, root, path),
        Err(diagnostic) => Err(vec![*diagnostic]),
    }
}

/// Loads an inventory as it will be without one of its hosts: what still names that host is an error, as it will be then.
///
/// # Errors
/// As [`load`].
pub fn load_without(path: &Path, host: &HostName) -> Result<(Site, Vec<Diagnostic>), Vec<Diagnostic>> {
    let mut files = Files::default();
    let root = match read(path, "inventory").map(|source| files.add(source, path)) {
        Ok(root) => root,
        Err(diagnostic) => return Err(vec![*diagnostic]),
    };
    let root = root.map(|mut root| {
        if let Value::Map(entries) = &mut root.value
            && let Some(hosts) = entries.iter_mut().find(|entry| entry.key.text == "hosts")
            && let Value::Map(hosts) = &mut hosts.value.value
        {
            hosts.retain(|entry| entry.key.text != host.as_str());
        }
        root
    });
    finish(files, root, path)
}

/// Loads an inventory from its text, as if it stood at `path`; what it includes is read from there.
///
/// # Errors
/// As [`load`].
pub fn load_text(text: &str, path: &Path) -> Result<(Site, Vec<Diagnostic>), Vec<Diagnostic>> {
    let mut files = Files::default();
    match decode(text.as_bytes().to_vec(), path, "inventory") {
        Ok(source) => {
            let root = files.add(source, path);
            finish(files, root, path)
        }
        Err(diagnostic) => Err(vec![*diagnostic]),
    }
}

/// The tree of an inventory with all that it includes, and the places in it that may be secrets; nothing of it is judged but its grammar.
pub(super) fn tree(path: &Path) -> Result<(Node, Vec<Span>), Vec<Diagnostic>> {
    let mut files = Files::default();
    let source = read(path, "inventory").map_err(|diagnostic| vec![*diagnostic])?;
    match files.add(source, path) {
        Some(root) if !files.problems.has_errors() => Ok((root, files.secrets)),
        root => finish(files, root, path).map_or_else(Err, |_| Err(Vec::new())),
    }
}

fn finish(mut files: Files, root: Option<Node>, path: &Path) -> Result<(Site, Vec<Diagnostic>), Vec<Diagnostic>> {
    let site = root.and_then(|root| resolve::resolve(&root, path, &mut files.problems));
    let failed = files.problems.has_errors();
    let mut diagnostics = files.problems.0;
    mask::apply(&mut diagnostics, &files.secrets);
    diagnostics.sort_by(|a, b| key(a, path).cmp(&key(b, path)));
    let diagnostics = gathered(diagnostics);
    match site {
        Some(site) if !failed => Ok((site, diagnostics)),
        _ => Err(diagnostics),
    }
}

/// The inventory itself first, then its includes by path; inside of a file by place; what has no place before all.
fn key<'a>(diagnostic: &'a Diagnostic, main: &Path) -> Option<(bool, &'a Path, usize, usize)> {
    let span = diagnostic.span.as_ref()?;
    Some((span.source.path != main, &span.source.path, span.range.start, span.range.end))
}

/// The files read so far.
#[derive(Default)]
struct Files {
    problems: Problems,
    secrets: Vec<Span>,
    /// By canonical path, with the place of the include.
    seen: BTreeMap<PathBuf, Option<Mark>>,
}

impl Files {
    /// Parses a file and merges what it includes into it.
    fn add(&mut self, source: Source, path: &Path) -> Option<Node> {
        let folder = fsx::folder(path);
        let fence = std::fs::canonicalize(folder).unwrap_or_else(|_| folder.to_owned());
        if let Ok(real) = std::fs::canonicalize(path) {
            self.seen.insert(real, None);
        }
        let source = Arc::new(source);
        let mut root = self.parse(&source, true)?;
        // Includes of includes join the end of the queue.
        let mut queue = self.includes(&mut root, folder);
        let mut next = 0;
        while let Some((mark, name, from)) = queue.get(next).cloned() {
            next += 1;
            if self.seen.len() >= MAX_FILES {
                self.problems.push(
                    Diagnostic::error(format!("the inventory includes more than {MAX_FILES} files"))
                        .at(&mark.span())
                        .help("join some of the files"),
                );
                break;
            }
            let Some((source, path)) = self.open(&mark, &name, &from, &fence) else { continue };
            let Some(mut part) = self.parse(&Arc::new(source), false) else { continue };
            let folder = path.parent().unwrap_or(Path::new("."));
            queue.extend(self.includes(&mut part, folder));
            merge(&mut root, part, &mut self.problems);
        }
        Some(root)
    }

    /// The tree of a file; it must be a map.
    fn parse(&mut self, source: &Arc<Source>, main: bool) -> Option<Node> {
        let parsed = parse::parse(source);
        self.secrets.extend(parsed.secrets);
        let broken = parsed.diagnostics.iter().any(Diagnostic::is_error);
        self.problems.0.extend(parsed.diagnostics);
        let start = Span { source: Arc::clone(source), range: 0..0 };
        match parsed.root {
            Some(mut root) if matches!(root.value, Value::Map(_)) => {
                self.own(&mut root);
                return Some(root);
            }
            Some(root) if root.is_broken() => {}
            Some(root) if !matches!(root.value, Value::Null) => {
                if let Some(text) = root.text() {
                    // A file of one text is no inventory; it may be a key that was named by mistake.
                    let whole = Span { source: Arc::clone(source), range: root.mark.start..root.mark.end };
                    if !text.is_empty() {
                        self.secrets.push(whole);
                    }
                }
                self.problems.push(
                    Diagnostic::error(format!("an inventory is a map, found {}", root.kind()))
                        .at(&root.span())
                        .help("begin with `name: …` and `hosts:`, without a leading `-`"),
                );
            }
            _ if broken => {}
            _ => self.problems.push(
                Diagnostic::error(if main { "the inventory is empty" } else { "the included file is empty" })
                    .at(&start)
                    .help("begin with `name: …` and `hosts:`; inventories/reference.yml of the source shows every key"),
            ),
        }
        None
    }

    /// Takes a person's own keys out of a file's map: what stands under `x-…` is there to be named by aliases.
    fn own(&mut self, root: &mut Node) {
        let Value::Map(entries) = &mut root.value else { return };
        entries.retain(|entry| {
            let key = entry.key.text.as_str();
            if let Some(rest) = ["x_", "X-", "X_", "x."].iter().find_map(|start| key.strip_prefix(start)) {
                self.problems.push(
                    Diagnostic::error(format!("unknown key `{key}` in the inventory"))
                        .at(&entry.key.mark.span())
                        .help(format!("a key of your own begins with `x-`: did you mean `x-{rest}`?")),
                );
                return false;
            }
            !key.starts_with("x-")
        });
    }

    /// Takes the `include` key out of a file's map.
    fn includes(&mut self, root: &mut Node, folder: &Path) -> Vec<(Mark, String, PathBuf)> {
        let Value::Map(entries) = &mut root.value else { return Vec::new() };
        let Some(index) = entries.iter().position(|entry| entry.key.text == "include") else { return Vec::new() };
        let entry = entries.remove(index);
        if entry.value.is_nothing() {
            return Vec::new();
        }
        if matches!(entry.value.value, Value::Null) {
            self.problems.push(
                Diagnostic::error("`include` has no value")
                    .at(&entry.key.mark.span())
                    .help("write `include: [hosts.yml]`"),
            );
            return Vec::new();
        }
        let Some(items) = self.problems.some(&entry.value, "include", "[hosts.yml]") else { return Vec::new() };
        let mut out = Vec::new();
        for item in items {
            if let Some(name) = self.problems.text(item, "include") {
                out.push((item.mark.clone(), name.to_owned(), folder.to_owned()));
            }
        }
        out
    }

    /// Reads an included file, if it lies in the inventory's folder.
    fn open(&mut self, mark: &Mark, name: &str, folder: &Path, fence: &Path) -> Option<(Source, PathBuf)> {
        let span = mark.span();
        let path = folder.join(name);
        let real = match std::fs::canonicalize(&path) {
            Ok(real) => real,
            Err(error) => {
                let diagnostic = Diagnostic::error(format!("cannot include `{name}`: {}", words(&error))).at(&span);
                self.problems.push(diagnostic.help("the path is relative to the file that includes it"));
                return None;
            }
        };
        if !real.is_file() {
            let diagnostic = Diagnostic::error(format!("cannot include `{name}`: it is not a file")).at(&span);
            self.problems.push(diagnostic.help("name each file that is to be included"));
            return None;
        }
        if !real.starts_with(fence) {
            self.problems.push(
                Diagnostic::error(format!("`{name}` lies outside of the inventory's folder"))
                    .at(&span)
                    .help("an inventory includes only files beside or below it: move the file there"),
            );
            return None;
        }
        if let Some(first) = self.seen.get(&real) {
            let diagnostic = Diagnostic::error(format!("`{name}` is included twice")).at(&span).help("remove one");
            self.problems.push(match first {
                Some(first) => diagnostic.related(&first.span(), "first included here"),
                None => diagnostic.label("this is the inventory itself"),
            });
            return None;
        }
        self.seen.insert(real, Some(mark.clone()));
        match read(&path, "included file") {
            Ok(source) => Some((source, path)),
            Err(diagnostic) => {
                let place = if diagnostic.span.is_none() { diagnostic.at(&span) } else { *diagnostic };
                self.problems.push(place);
                None
            }
        }
    }
}

/// Merges an included map into the first one. `hosts` and `sites` may be spread over files; nothing may be given twice.
fn merge(root: &mut Node, part: Node, problems: &mut Problems) {
    let (Value::Map(entries), Value::Map(more)) = (&mut root.value, part.value) else { return };
    for entry in more {
        let Some(index) = entries.iter().position(|known| known.key.text == entry.key.text) else {
            entries.push(entry);
            continue;
        };
        let Some(known) = entries.get_mut(index) else { continue };
        let parent = known.key.text.clone();
        match (&mut known.value.value, entry.value.value) {
            (Value::Map(inner), Value::Map(added)) if matches!(parent.as_str(), "hosts" | "sites") => {
                let mut seen: BTreeMap<String, Mark> =
                    inner.iter().map(|e| (e.key.text.clone(), e.key.mark.clone())).collect();
                for Entry { key, value } in added {
                    if let Some(first) = seen.get(&key.text) {
                        problems.push(parse::twice(&key, first, Some(&parent)));
                    } else {
                        seen.insert(key.text.clone(), key.mark.clone());
                        inner.push(Entry { key, value });
                    }
                }
            }
            _ => problems.push(parse::twice(&entry.key, &known.key.mark, None)),
        }
    }
}

/// The cause of a file error in a person's words.
fn words(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::NotFound => "there is no such file".into(),
        std::io::ErrorKind::PermissionDenied => "permission denied".into(),
        std::io::ErrorKind::IsADirectory => "it is a folder".into(),
        _ => error.to_string(),
    }
}

/// Reads a file; `what` names it in messages.
fn read(path: &Path, what: &str) -> Result<Source, Box<Diagnostic>> {
    let shown = path.display();
    let fail = |error: &std::io::Error| {
        let diagnostic = Diagnostic::error(format!("cannot read the {what} `{shown}`: {}", words(error)));
        let diagnostic = diagnostic.help(format!(
            "pass its path, or set `{VARIABLE}`; without either it is `{DEFAULT}`; `infra init` writes a first one"
        ));
        let word = shown.to_string();
        // Whoever names a host there has another tool's habits.
        let meant = if error.kind() != std::io::ErrorKind::NotFound || word.contains(['.', '/']) {
            None
        } else if word.bytes().all(|byte| byte.is_ascii_digit()) {
            Some(format!("a number is joined to its option where that can stand alone: `--drain={word}`"))
        } else {
            Some(format!("hosts are chosen by `--limit {word}`"))
        };
        Box::new(match meant {
            Some(meant) => diagnostic.help(meant),
            None => diagnostic,
        })
    };
    let meta = std::fs::metadata(path).map_err(|error| fail(&error))?;
    if meta.is_dir() {
        let inside = path.join("inventory.yml");
        let diagnostic = Diagnostic::error(format!("the {what} `{shown}` is a folder"));
        return Err(Box::new(if inside.is_file() {
            diagnostic.help(format!("did you mean `{}`?", inside.display()))
        } else {
            diagnostic.help("pass the path of a file")
        }));
    }
    let bytes = match fsx::read_named(path, MAX_BYTES) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::FileTooLarge => return Err(Box::new(too_large(path, what))),
        Err(error) => return Err(fail(&error)),
    };
    decode(bytes, path, what)
}

fn too_large(path: &Path, what: &str) -> Diagnostic {
    let shown = path.display();
    Diagnostic::error(format!("the {what} `{shown}` is larger than {} MiB", MAX_BYTES / 1024 / 1024))
        .help("pass the inventory's path; a thousand hosts need a hundredth of that")
}

/// From bytes to text: the size, the encoding, a byte order mark, NUL.
fn decode(mut bytes: Vec<u8>, path: &Path, what: &str) -> Result<Source, Box<Diagnostic>> {
    let shown = path.display();
    if bytes.len() as u64 > MAX_BYTES {
        return Err(Box::new(too_large(path, what)));
    }
    if bytes.starts_with(&[0xFF, 0xFE]) || bytes.starts_with(&[0xFE, 0xFF]) {
        return Err(Box::new(
            Diagnostic::error(format!("the {what} `{shown}` is UTF-16"))
                .help(format!("save it as UTF-8: `iconv -f UTF-16 -t UTF-8 {shown}`")),
        ));
    }
    if bytes.starts_with(&[0xEF, 0xBB, 0xBF]) {
        bytes.drain(..3);
    }
    let (text, bad) = match String::from_utf8(bytes) {
        Ok(text) => (text, None),
        Err(error) => {
            let at = error.utf8_error().valid_up_to();
            let byte = error.as_bytes().get(at).copied().unwrap_or_default();
            (String::from_utf8_lossy(error.as_bytes()).into_owned(), Some((at, byte)))
        }
    };
    let nul = text.find('\0');
    let source = Source { path: path.to_owned(), text };
    let (at, message, help) = match (bad, nul) {
        (Some((at, byte)), _) => (at, format!("the byte 0x{byte:02X} is not UTF-8"), "save the file as UTF-8"),
        (None, Some(at)) => (at, "a NUL byte".to_owned(), "this is not a text file, or it is damaged"),
        (None, None) => return Ok(source),
    };
    let width = source.text.get(at..).and_then(|rest| rest.chars().next()).map_or(0, char::len_utf8);
    let span = Span { source: Arc::new(source), range: at..at + width };
    let mut diagnostics = [Diagnostic::error(message).at(&span).help(help)];
    let secrets = mask::guess(&span.source, span.line());
    mask::apply(&mut diagnostics, &secrets);
    let [diagnostic] = diagnostics;
    Err(Box::new(diagnostic))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::diagnostic::draw;
    use crate::inventory::site::{Become, Challenge, Issuer, Role};

    const SMALL: &str = "name: shop\nfirewall: { manage_from: 10.0.0.0/24 }\n";

    fn site(rest: &str) -> Site {
        match load_text(&format!("{SMALL}{rest}"), Path::new("some/where.yml")) {
            Ok((site, _)) => site,
            Err(diagnostics) => panic!("{}", draw(&diagnostics, false)),
        }
    }

    #[test]
    fn what_is_not_said_has_its_default() {
        let site = site(
            "hosts: { a: { address: 10.0.1.1, roles: [lb, web, app], allow_mixed_roles: one } }\n\
             sites: { x.example.com: { app: { port: 8080 } }, y.example.com: { static: { root: /srv/y/ } } }\n",
        );
        assert_eq!((site.ports.web.get(), site.ports.app.get()), (8443, 9443));
        assert_eq!(site.certificates.issuer, Issuer::Internal);
        assert_eq!(site.certificates.challenge, Challenge::Http01);
        assert_eq!((site.state, site.folder), (PathBuf::from("some/state"), PathBuf::from("some")));
        let sites: Vec<_> = site.sites.values().collect();
        assert_eq!((sites[0].manner.hsts.max_age, sites[0].place.line), (300, 4));
        assert_eq!(sites[0].programs.first().map(|one| one.health.as_str()), Some("/"));
        let files = sites[1].files.first().unwrap();
        assert_eq!((files.root.as_str(), files.prefix.as_str()), ("/srv/y", "/"));
    }

    #[test]
    fn a_hosts_ssh_is_laid_over_the_common_one_key_by_key() {
        let site = site(
            "ssh: { user: ops, port: 2222, jump: gate, identity: ~/.ssh/key }\nhosts:\n  \
             a: { address: 10.0.1.1, roles: db, ssh: { user: root, become: none, address: a.example.com } }\n  \
             b: { address: 10.0.1.2, roles: db }\n",
        );
        let hosts: Vec<_> = site.hosts.values().collect();
        let (a, b) = (&hosts[0].ssh, &hosts[1].ssh);
        assert_eq!(
            (a.user.as_deref(), a.r#become, a.port.map(u16::from)),
            (Some("root"), Some(Become::None), Some(2222))
        );
        assert_eq!((a.jump.as_deref(), a.address.as_deref()), (Some("gate"), Some("a.example.com")));
        assert_eq!((b.user.as_deref(), b.r#become, b.address.as_deref()), (Some("ops"), None, None));
        assert!(a.identity.as_ref().unwrap().is_absolute() || std::env::home_dir().is_none());
        assert!(hosts[0].has(Role::Db));
    }

    #[test]
    fn what_is_wrong_is_said_in_the_order_of_the_file() {
        let text =
            "hosts: { a: { address: x, roles: [db] } }\nname: Shop\nfirewall: { manage_from: 10.0.0.1/8 }\nzz: 1\n";
        let diagnostics = load_text(text, Path::new("a.yml")).unwrap_err();
        let lines: Vec<_> = diagnostics.iter().filter_map(|d| d.span.as_ref().map(Span::line)).collect();
        assert_eq!(lines, [1, 1, 2, 3, 4]);
        assert_eq!(diagnostics.len(), 5);
    }
}
