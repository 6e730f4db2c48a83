//! `pages:` and `maintenance:` of a site: takes the maps, gives pages as they were read from the controller's folder, reports what the
//! load balancer could not show.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use super::firewall::networks;
use crate::base::diagnostic::Diagnostic;
use crate::base::fsx;
use crate::base::secret::{CLOSE, OPEN};
use crate::inventory::raw::{Entry, Node, Value};
use crate::inventory::read::{Problems, any_of, expand};
use crate::inventory::site::{Maintenance, Media, Page};

/// What the tiers themselves answer with. 414, 431 and their like say what was too long, to programs rather than to people.
const STATUSES: [&str; 9] = ["403", "404", "405", "413", "429", "500", "502", "503", "504"];
/// The load balancer keeps each in memory, and has to fit it into one buffer.
const LARGEST: u64 = 32 * 1024;
/// When to come again, where nothing is said.
const RETRY_AFTER: Duration = Duration::from_mins(10);
/// A day: who plans for longer tells a date on the page.
const LONGEST: Duration = Duration::from_hours(24);

/// Reads `pages`.
pub(super) fn pages(entry: &Entry, folder: &Path, problems: &mut Problems) -> Option<BTreeMap<u16, Page>> {
    let help = "write the file of each status: `pages: { 404: pages/404.html, 503: pages/503.html }`";
    let entries = problems.named(entry, help)?;
    let mut out = BTreeMap::new();
    for Entry { key, value } in entries {
        let status = STATUSES.contains(&key.text.as_str()).then(|| key.text.parse().ok()).flatten();
        if status.is_none() {
            problems.push(
                Diagnostic::error(format!("`{}` is no status that the tiers answer with themselves", key.text))
                    .at(&key.mark.span())
                    .help(format!("write {}", any_of(&STATUSES))),
            );
        }
        let page = page(value, &key.text, folder, problems);
        out.extend(status.zip(page));
    }
    (out.len() == entries.len()).then_some(out)
}

/// Reads `maintenance`: `true`, `false`, or a map, which says `true` by being there. What is wrong in it is among the problems.
pub(super) fn maintenance(entry: &Entry, folder: &Path, problems: &mut Problems) -> Option<Maintenance> {
    if !matches!(entry.value.value, Value::Map(_)) {
        let closed = problems.word(&entry.value, "maintenance", &[("true", true), ("false", false)])?;
        return closed.then(|| Maintenance { page: None, retry_after: RETRY_AFTER, allow: Vec::new() });
    }
    let fields = problems.fields(entry, "`maintenance`", &["page", "retry_after", "allow"])?;
    let before = problems.0.len();
    let page = fields.value("page").map(|node| page(node, "page", folder, problems));
    let retry_after = fields.value("retry_after").map_or(Some(RETRY_AFTER), |node| {
        problems.duration(node, "retry_after", Duration::from_secs(1)..=LONGEST, ": tell a later time on the page")
    });
    let mut allow = Vec::new();
    if let Some(node) = fields.value("allow") {
        for (net, node) in networks(node, "allow", problems) {
            if net.net().prefix_len() == 0 {
                problems.push(
                    Diagnostic::error(format!("`{net}` in `allow` is the whole internet"))
                        .at(&node.span())
                        .help("name the networks that see the site while it is closed, or remove `maintenance`"),
                );
            }
            allow.push(net);
        }
    }
    let failed = problems.0.iter().skip(before).any(Diagnostic::is_error);
    if failed {
        return None;
    }
    Some(Maintenance { page: page.flatten(), retry_after: retry_after?, allow })
}

fn page(node: &Node, key: &str, folder: &Path, problems: &mut Problems) -> Option<Page> {
    let name = problems.text(node, key)?;
    let mut refuse = |why: String, help: &str| {
        problems.push(Diagnostic::error(why).at(&node.span()).help(help));
        None
    };
    let path = folder.join(expand(name));
    let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default().to_ascii_lowercase();
    let media = match ending.as_str() {
        "html" | "htm" => Media::Html,
        "json" => Media::Json,
        "txt" => Media::Text,
        _ => {
            return refuse(
                format!("`{name}` does not say by its ending what it is"),
                "name a file that ends with `.html`, `.txt` or `.json`",
            );
        }
    };
    let bytes = match fsx::read_named(&path, LARGEST) {
        Ok(bytes) => bytes,
        Err(e) => {
            let help =
                "write its path, relative to the inventory; a page has at most 32 KB, all that belongs to it included";
            return refuse(format!("the page `{name}` cannot be read: {e}"), help);
        }
    };
    match String::from_utf8(bytes) {
        Ok(text) if text.contains([OPEN, CLOSE, '\0']) => refuse(
            format!("the page `{name}` has a character that no text has"),
            "take U+0000, U+E000 and U+E001 out of it",
        ),
        Ok(text) if text.trim().is_empty() => {
            refuse(format!("the page `{name}` is empty"), "write what visitors shall read")
        }
        Ok(text) => Some(Page { media, text }),
        Err(_) => refuse(
            format!("the page `{name}` is not UTF-8 text"),
            "save it as UTF-8; pictures belong into it as `data:` URLs",
        ),
    }
}
