//! What a change looks like to a person: takes old and new text, gives the lines of a unified diff.

use similar::TextDiff;

/// Lines of context around a change.
const CONTEXT: usize = 1;

/// The unified diff of two texts without the file header; each line begins with ` `, `+`, `-` or `@@`. Control characters
/// of the old text, which is a host's, are shown as `·`.
pub fn unified(old: &str, new: &str) -> Vec<String> {
    let old: String = old.chars().map(|c| if c.is_control() && c != '\n' && c != '\t' { '·' } else { c }).collect();
    let diff = TextDiff::from_lines(old.as_str(), new);
    let text = diff.unified_diff().context_radius(CONTEXT).to_string();
    text.lines().filter(|line| !line.starts_with("\\ No newline")).map(ToOwned::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_line_is_shown_with_its_neighbours() {
        assert_eq!(unified("a\nb\nc\nd\n", "a\nb\nX\nd\n"), ["@@ -2,3 +2,3 @@", " b", "-c", "+X", " d"]);
        assert!(unified("a\n", "a\n").is_empty());
        assert_eq!(unified("a\u{1b}[2J\n", "")[1], "-a·[2J");
    }
}
