//! What a change looks like to a person: takes old and new text, gives the lines of a unified diff.

use similar::TextDiff;

use crate::base::visible;

/// Lines of context around a change.
const CONTEXT: usize = 1;

/// The unified diff of two texts without the file header; each line begins with ` `, `+`, `-` or `@@`. What hides in the old text,
/// which is a host's, is shown as escapes.
pub fn unified(old: &str, new: &str) -> Vec<String> {
    let old = visible::text(old);
    let diff = TextDiff::from_lines(&*old, new);
    let text = diff.unified_diff().context_radius(CONTEXT).to_string();
    let lines = text.lines().filter(|line| !line.starts_with("\\ No newline"));
    // What stands on a host may be of any length; of what we write each character is shown.
    let shown = |line: &str| match line.strip_prefix('-') {
        Some(_) => visible::short(line, visible::LINE).into_owned(),
        None => line.to_owned(),
    };
    lines.map(shown).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_line_is_shown_with_its_neighbours() {
        assert_eq!(unified("a\nb\nc\nd\n", "a\nb\nX\nd\n"), ["@@ -2,3 +2,3 @@", " b", "-c", "+X", " d"]);
        assert!(unified("a\n", "a\n").is_empty());
        let long = unified(&"x".repeat(200_000), "");
        assert!(long[1].len() < 2100 && long[1].ends_with("more characters)"), "{}", long[1].len());
        assert_eq!(unified("a\u{1b}[2J\n", "")[1], "-a\\u{1b}[2J");
    }
}
