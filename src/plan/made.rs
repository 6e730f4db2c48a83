//! Facts that tasks have made true, as a host keeps them: a file for each, named after the fact, with its value as one line.
//! Takes names and values of any kind, gives words that a file name and a line of sh can hold, and back.

/// Bytes that stand for themselves.
fn plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-_.:,=+@".contains(&byte)
}

/// A word without white space, slashes and control characters; each text has its own. It is never empty, `.` or `..`.
pub fn word(text: &str) -> String {
    let mut word = String::with_capacity(text.len() + 1);
    for byte in text.bytes() {
        if plain(byte) && !(word.is_empty() && byte == b'.') {
            word.push(char::from(byte));
        } else {
            word.push_str(&format!("%{byte:02x}"));
        }
    }
    if word.is_empty() { "%".to_owned() } else { word }
}

/// Reads [`word`] back; what it did not write is taken as well as it goes.
pub fn text(word: &str) -> String {
    let mut bytes = Vec::with_capacity(word.len());
    let mut rest = word;
    while let Some((before, after)) = rest.split_once('%') {
        bytes.extend(before.bytes());
        let byte = after.get(..2).and_then(|hex| u8::from_str_radix(hex, 16).ok());
        bytes.extend(byte);
        rest = if byte.is_some() { after.get(2..).unwrap_or_default() } else { after };
    }
    bytes.extend(rest.bytes());
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn each_text_has_a_word_that_reads_back(given in any::<String>()) {
            let word = word(&given);
            prop_assert!(!word.is_empty() && !word.starts_with('.') && !word.contains(['/', ' ', '\n', '\'', '"']), "{}", word);
            prop_assert_eq!(text(&word), given);
        }

        #[test]
        fn what_a_host_says_is_taken(given in any::<String>()) {
            let _ = text(&given);
        }
    }
}
