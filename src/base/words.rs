//! Grammar: takes a number and a word, gives both as a person says them.

use std::fmt::Display;

/// `1 host`, `6 hosts`, `0 hosts`. The one place that knows when a word has an `s`; of several words the last one has it.
pub fn count<N: Copy + PartialEq + Display + From<u8>>(number: N, noun: &str) -> String {
    if number == N::from(1) { format!("1 {noun}") } else { format!("{number} {noun}s") }
}

/// `a, b, c and 4 more`: of names in a line, the first `most`.
pub fn first<T: Display>(names: &[T], most: usize) -> String {
    let shown = names.iter().take(most).map(ToString::to_string).collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(most) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_has_no_s() {
        assert_eq!([0, 1, 2].map(|n| count(n, "host")), ["0 hosts", "1 host", "2 hosts"]);
        assert_eq!(
            [0, 2, 3, 5].map(|n| first(&["a", "b", "c", "d", "e"][..n], 3)),
            ["", "a, b", "a, b, c", "a, b, c and 2 more"]
        );
        assert_eq!((count(1_i64, "more line"), count(-1_i64, "day")), ("1 more line".into(), "-1 days".into()));
    }
}
