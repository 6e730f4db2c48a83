//! Text that many hosts have: takes it once, gives it to each of them without another copy.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::base::secret::OPEN;

/// A text. A copy of it is the same text, not another one of the same words.
#[derive(Clone)]
pub struct Text(Arc<Held>);

struct Held {
    words: Box<str>,
    marked: bool,
    lines: usize,
}

impl Text {
    /// Whether the mark of a material stands in it: found out once, however many hosts have the text.
    pub fn is_marked(&self) -> bool {
        self.0.marked
    }

    /// How many lines it has, found out once too.
    pub fn height(&self) -> usize {
        self.0.lines
    }
}

impl Default for Text {
    fn default() -> Self {
        Self::from("")
    }
}

impl<T: Into<Box<str>>> From<T> for Text {
    fn from(words: T) -> Self {
        let words = words.into();
        Self(Arc::new(Held { marked: words.contains(OPEN), lines: words.lines().count(), words }))
    }
}

impl Deref for Text {
    type Target = str;
    fn deref(&self) -> &str {
        &self.0.words
    }
}

impl AsRef<[u8]> for Text {
    fn as_ref(&self) -> &[u8] {
        self.0.words.as_bytes()
    }
}

impl PartialEq for Text {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.0.words == other.0.words
    }
}

impl Eq for Text {}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&**self, f)
    }
}

impl Serialize for Text {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self)
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::secret::sentinel;

    #[test]
    fn a_text_knows_whether_a_material_stands_in_it() {
        let (plain, marked) = (Text::from("listen 80;"), Text::from(format!("password {}", sentinel("db/app"))));
        assert_eq!((plain.is_marked(), marked.is_marked()), (false, true));
        assert_eq!((plain.height(), Text::from("a\nb\n").height(), Text::default().height()), (1, 2, 0));
        assert_eq!((plain.clone(), plain.clone() == marked), (Text::from("listen 80;".to_owned()), false));
    }
}
