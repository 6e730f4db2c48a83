//! `auth:` of a site: takes one path or a list of them, gives where name and password are asked for, and of whom.

use super::paths::prefix;
use crate::base::diagnostic::Diagnostic;
use crate::inventory::raw::{Entry, Mark, Node};
use crate::inventory::read::Problems;
use crate::inventory::site::Auth;

/// A realm is shown in a small window.
const LONGEST: usize = 64;

/// Reads the paths; those that are wrong are left out. `what` is the site in words.
pub(super) fn auth(entry: &Entry, what: &str, site: &str, problems: &mut Problems) -> Vec<Auth> {
    let what = format!("`auth` of {what}");
    let (mut out, mut known): (Vec<Auth>, Vec<(String, &Mark)>) = Default::default();
    for (node, head) in entry.each() {
        let Some(fields) = problems.fields_of(node, head, &what, &["path", "users", "realm"]) else { continue };
        let help = "write `path: /admin/`, or `path: /` for all of the site";
        let path = problems.require(fields, &what, "path", help);
        let path = path.and_then(|entry| {
            let path = prefix(&entry.value, "path", "admin", problems)?;
            if let Some((_, first)) = known.iter().find(|(known, _)| *known == path) {
                problems.push(
                    Diagnostic::error(format!("the path `{path}` has users already"))
                        .at(&entry.value.span())
                        .related(&first.span(), "first given here")
                        .help("name all its users in one place"),
                );
                return None;
            }
            known.push((path.clone(), &entry.value.mark));
            Some(path)
        });
        let help = "write `users: { file: users.htpasswd }`, lines `NAME:HASH` as `htpasswd -B` writes them";
        let users = problems.require(fields, &what, "users", help);
        let users = users.and_then(|entry| problems.secret(&entry.value, "users"));
        let realm = fields.value("realm").map_or(Some(site.to_owned()), |node| realm(node, problems));
        if let (Some(path), Some(users), Some(realm)) = (path, users, realm) {
            out.push(Auth { path, users, realm });
        }
    }
    out
}

/// It stands in a header, in quotes (RFC 9110 section 11.5).
fn realm(node: &Node, problems: &mut Problems) -> Option<String> {
    let text = problems.text(node, "realm")?;
    let plain = |c: char| (c.is_ascii_graphic() || c == ' ') && !"\"\\$".contains(c);
    if text.len() <= LONGEST && text.chars().all(plain) && text != "off" {
        return Some(text.to_owned());
    }
    problems.push(
        Diagnostic::error("`realm` cannot be this text")
            .at(&node.span())
            .help(format!("write at most {LONGEST} letters, digits and spaces, such as `Members of the shop`")),
    );
    None
}
