//! A plan as a comment of a pull request: takes the text that a person reads, gives Markdown with the table open and the changes folded,
//! never longer than such a comment may be.

use crate::base::words::count;

/// Most characters of a comment (GitHub allows 65,536, GitLab more).
const MOST: usize = 65_000;
/// What the frame around the changes and the last words may take.
const FRAME: usize = 600;

/// The whole document, with a line end.
pub(super) fn document(text: &str) -> String {
    let mut blocks = text.split("\n\n");
    let head = blocks.next().unwrap_or_default().trim();
    let rest: Vec<&str> = blocks.collect();
    // The table is the one block that is indented and has no host before it.
    let (table, changes) = match rest.split_first() {
        Some((table, changes)) if table.starts_with(' ') => (Some(*table), changes),
        _ => (None, rest.as_slice()),
    };
    let fence = fence(text);
    let mut out = format!("**{}**\n", head.replace(['*', '`', '<', '\n'], " "));
    let room = MOST.saturating_sub(FRAME);
    if let Some(table) = table {
        out.push_str(&folded(table, "text", &fence, room / 2).0);
    }
    if changes.is_empty() {
        return out;
    }
    let used = out.chars().count();
    let changes = changes.join("\n\n");
    let changes: Vec<&str> = changes.lines().map(outdented).collect();
    let (body, left) = folded(&changes.join("\n"), "diff", &fence, room.saturating_sub(used));
    out.push_str(&format!("\n<details><summary>All changes</summary>\n{body}\n</details>\n"));
    if left > 0 {
        out.push_str(&format!("\n{} left out: `infra diff` shows them.\n", count(left, "more line")));
    }
    out
}

/// A line of what differs without its indentation: colours are given to a sign at the begin of a line alone.
fn outdented(line: &str) -> &str {
    line.strip_prefix("    ").filter(|rest| rest.starts_with(['+', '-', '@', ' '])).unwrap_or(line)
}

/// A fence that nothing in the text ends.
fn fence(text: &str) -> String {
    let longest = text.split(|c| c != '`').map(str::len).max().unwrap_or_default();
    "`".repeat(longest.max(2) + 1)
}

/// Text in a fence, cut at a line where it has more than `room` characters; and how many lines were cut off.
fn folded(text: &str, kind: &str, fence: &str, room: usize) -> (String, usize) {
    let (mut kept, mut used, mut left) = (String::new(), fence.len() * 2 + 20, 0);
    for line in text.trim_end().lines() {
        used += line.chars().count() + 1;
        if used > room {
            left += 1;
        } else {
            kept.push_str(line);
            kept.push('\n');
        }
    }
    (format!("\n{fence}{kind}\n{kept}{fence}\n"), left)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_open_and_the_changes_are_folded() {
        let text = "plan for shop: 2 hosts, 1 to change, 1 unchanged\n\n        lb1  web1\n  web   ·    ~ 1\n\nweb1\n  ~ /etc/x\n    @@ -1 +1 @@\n     same\n    -a ```` b\n    +c\n    60 days\n";
        assert_eq!(
            document(text),
            "**plan for shop: 2 hosts, 1 to change, 1 unchanged**\n\n`````text\n        lb1  web1\n  web   ·    ~ 1\n`````\n\n\
             <details><summary>All changes</summary>\n\n`````diff\nweb1\n  ~ /etc/x\n@@ -1 +1 @@\n same\n-a ```` b\n+c\n    60 days\n`````\n\n</details>\n"
        );
        assert_eq!(document("plan for shop: 1 host, nothing to do\n"), "**plan for shop: 1 host, nothing to do**\n");
    }

    #[test]
    fn a_comment_is_never_too_long() {
        let lines =
            |length: usize| format!("web1\n{}", format!("  {}\n", "ä".repeat(length)).repeat(200_000 / (length + 3)));
        let wide = format!("head\n\n  {}\n\n{}", "x".repeat(70_000), lines(40));
        for text in [format!("head\n\n{}", lines(10)), format!("head\n\n  a table\n\n{}", lines(3000)), wide] {
            let document = document(&text);
            assert!(document.chars().count() <= MOST, "{}", document.chars().count());
            assert!(document.ends_with("left out: `infra diff` shows them.\n"), "{}", &document[document.len() - 80..]);
            assert_eq!(document.matches("\n```").count() % 2, 0);
        }
    }
}
