//! `silence:`: takes the map of warnings that are meant, gives each with its reason.

use std::collections::BTreeMap;

use crate::base::diagnostic::Diagnostic;
use crate::base::warning::Warning;
use crate::inventory::read::{Fields, Problems, any_of};

/// Reads the section; what is wrong in it silences nothing.
pub(super) fn silence(root: Fields<'_>, problems: &mut Problems) -> BTreeMap<Warning, String> {
    let mut out = BTreeMap::new();
    let Some(section) = root.get("silence") else { return out };
    let help = "write the word of a warning, and why it is meant: `single-host: \"one machine until the launch\"`";
    for entry in problems.named(section, help).unwrap_or_default() {
        let word = entry.key.text.as_str();
        let Ok(warning) = word.parse::<Warning>() else {
            let all: Vec<&str> = Warning::ALL.iter().map(|warning| warning.word()).collect();
            let hint = problems.near(word, all.len(), all.iter().copied());
            let diagnostic = Diagnostic::error(format!("no warning has the word `{word}`")).at(&entry.key.mark.span());
            problems.push(diagnostic.help(hint.unwrap_or_else(|| format!("write {}", any_of(&all)))));
            continue;
        };
        if let Some(reason) = problems.text(&entry.value, word) {
            out.insert(warning, reason.to_owned());
        }
    }
    out
}
