//! Paths of URLs: takes texts of a site, gives prefixes, each of which is of one thing alone, and reports what no request could reach.

use crate::base::diagnostic::Diagnostic;
use crate::inventory::raw::{Mark, Node};
use crate::inventory::read::Problems;

/// Where the tiers answer themselves: probes of `infra`, and proofs for certificate authorities (RFC 8555 section 8.3).
const OWN: [&str; 2] = ["/.well-known/infra/", "/.well-known/acme-challenge/"];

/// The words for yes and no.
pub(super) const BOOL: [(&str, bool); 2] = [("true", true), ("false", false)];

/// The prefixes of one site, each with its place and whether it is a program's.
#[derive(Default)]
pub(super) struct Paths<'a>(Vec<Taken<'a>>);

struct Taken<'a> {
    path: String,
    is_program: bool,
    mark: &'a Mark,
}

impl<'a> Paths<'a> {
    /// Whether a program has this one.
    pub(super) fn has_program(&self, path: &str) -> bool {
        self.0.iter().any(|taken| taken.is_program && taken.path == path)
    }

    /// Takes a prefix for a program or for files; reports one that is taken, or that is ours.
    pub(super) fn take(&mut self, path: &str, mark: &'a Mark, is_program: bool, problems: &mut Problems) -> bool {
        let before = problems.0.len();
        if let Some(own) = OWN.iter().find(|own| path.starts_with(**own)) {
            problems.push(
                Diagnostic::error(format!("the path `{path}` lies in `{own}`, where infra itself answers"))
                    .at(&mark.span())
                    .help("write another path"),
            );
        }
        if let Some(first) = self.0.iter().find(|taken| taken.path == path) {
            let what = if first.is_program { "a program" } else { "static files" };
            problems.push(
                Diagnostic::error(format!("the path `{path}` leads to {what} of this site already"))
                    .at(&mark.span())
                    .related(&first.mark.span(), "first given here")
                    .help("give each a path of its own; the longest that fits a request wins"),
            );
        }
        self.0.push(Taken { path: path.to_owned(), is_program, mark });
        problems.0.len() == before
    }
}

/// A prefix: begins and ends with `/`. `usual` is the word of an example.
pub(super) fn prefix(node: &Node, key: &str, usual: &str, problems: &mut Problems) -> Option<String> {
    let text = problems.text(node, key)?;
    if !text.starts_with('/') || !text.ends_with('/') {
        let bare = text.trim_matches('/');
        let plain = |c: char| c.is_ascii_alphanumeric() || "/._~-".contains(c);
        let dots = |bare: &str| bare.split('/').any(|part| matches!(part, "" | "." | ".."));
        let bare = if bare.chars().all(plain) && !dots(bare) { bare } else { usual };
        problems.push(
            Diagnostic::error(format!("the {key} `{text}` must begin and end with `/`"))
                .at(&node.span())
                .help(format!("write `/{bare}/`")),
        );
        return None;
    }
    if text.contains('%') {
        problems.push(Diagnostic::error(format!("the {key} `{text}` has the character `%`")).at(&node.span()).help(
            "use letters, digits, `/`, `.`, `-`, `_` and `~`: requests are compared when their escapes are resolved",
        ));
        return None;
    }
    url_path(node, key, "", problems)
}

/// A path of a URL (RFC 3986 section 3.3) without anything that a configuration file reads as its own.
pub(super) fn url_path(node: &Node, key: &str, more: &str, problems: &mut Problems) -> Option<String> {
    let text = problems.text(node, key)?;
    let mut fail = |message: String, help: &str| {
        problems.push(Diagnostic::error(message).at(&node.span()).help(help));
        None
    };
    if !text.starts_with('/') {
        return fail(format!("`{key}` is not a path: `{text}`"), "begin it with `/`, without scheme and host");
    }
    if let Some(c) = text.chars().find(|c| !(c.is_ascii_alphanumeric() || "/._~-%+".contains(*c) || more.contains(*c)))
    {
        return fail(
            format!("`{key}` has the character `{}`", c.escape_default()),
            "use letters, digits, `/`, `.`, `-`, `_` and `~`",
        );
    }
    if text.contains("//") || text.split('/').any(|part| part == ".." || part == ".") {
        return fail(
            format!("`{key}` has a part that is empty, `.` or `..`: `{text}`"),
            "write the path without `.`, `..` and double `/`",
        );
    }
    Some(text.to_owned())
}
