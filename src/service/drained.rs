//! What a host says of itself where a person has taken it out of traffic: takes its answer, gives who did it, when and what for.

use std::fmt;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::macros::format_description;

use crate::base::visible;
use crate::plan::state::{Observed, Part};

/// The service that takes hosts out of traffic.
pub const NAME: &str = "away";
/// What the files say.
const READ: Part<Marks> = Part::steady(NAME);

/// Who has taken a host out of traffic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// Seconds since 1970.
    pub since: i64,
    /// `ops@workstation`.
    pub by: String,
    /// What for; empty where nothing was said.
    pub why: String,
}

impl Mark {
    /// As its file says it, with a line for each of the three.
    pub fn of_file(text: &str) -> Self {
        let mut lines = text.lines().map(|line| visible::line(line.strip_prefix(' ').unwrap_or(line)).into_owned());
        let mut next = || lines.next().unwrap_or_default();
        let since = next().trim().parse().unwrap_or(0);
        let (by, why) = (next(), next());
        let by = if by.is_empty() { "somebody".to_owned() } else { by };
        Self { since, by, why }
    }
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let format = format_description!("[year]-[month]-[day] [hour]:[minute] UTC");
        let since = OffsetDateTime::from_unix_timestamp(self.since).ok().and_then(|at| at.format(format).ok());
        write!(f, "since {} by {}", since.unwrap_or_else(|| "some time".to_owned()), self.by)?;
        if self.why.is_empty() { Ok(()) } else { write!(f, " ({})", self.why) }
    }
}

/// Both files.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
struct Marks {
    drained: Option<Mark>,
    retired: Option<Mark>,
}

/// Whether a host is out of traffic, and by whom.
pub fn mark(observed: &Observed) -> Option<Mark> {
    READ.of(observed)?.drained
}

/// Whether a host was retired, and by whom.
pub fn retired(observed: &Observed) -> Option<Mark> {
    READ.of(observed)?.retired
}

/// Why a host that was retired is left alone by all but its farewell.
pub fn left(observed: &Observed) -> Option<String> {
    let mark = retired(observed)?;
    Some(format!(
        "it was retired {mark}: take it out of the inventory, or, to take it in again, remove /var/lib/infra/retired on it, and retired/ in the state of the controller that retired it"
    ))
}

/// Reads both files, each behind a line with its name. A file that somebody has put there by hand counts as well: its host is out of
/// traffic by it.
pub(super) fn read(answer: &str, observed: &mut Observed) {
    let mut marks = Marks::default();
    // The lines of a file begin with a space, so none of them is taken for the word before the other's.
    let (drained, retired) = match answer.strip_prefix("retired\n") {
        Some(rest) => ("", rest),
        None => answer.split_once("\nretired\n").unwrap_or((answer, "")),
    };
    marks.drained = drained.strip_prefix("drained\n").map(Mark::of_file);
    marks.retired = (!retired.is_empty()).then(|| Mark::of_file(retired));
    if marks != Marks::default() {
        READ.put(&marks, observed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::state::Facts;

    #[test]
    fn what_a_host_says_of_itself_reads_back() {
        let mut observed = Observed::bare(Facts::of_release("debian", "12"));
        read("", &mut observed);
        assert_eq!(mark(&observed), None);
        for (answer, expected) in [
            ("drained\n1795435200\nops@desk\na new disk\n", "since 2026-11-23 12:00 UTC by ops@desk (a new disk)"),
            ("drained\n1795435200\nops@desk\n", "since 2026-11-23 12:00 UTC by ops@desk"),
            ("drained\nby hand\n", "since 1970-01-01 00:00 UTC by somebody"),
        ] {
            read(answer, &mut observed);
            assert_eq!(mark(&observed).unwrap().to_string(), expected);
        }
        assert_eq!((retired(&observed), left(&observed)), (None, None));
        read("drained\n7\na\n\nretired\n1795435200\nops@desk\n\n", &mut observed);
        assert_eq!(mark(&observed).map(|mark| mark.since), Some(7));
        assert_eq!(retired(&observed).map(|mark| mark.by), Some("ops@desk".to_owned()));
        assert!(
            left(&observed).unwrap().starts_with("it was retired since 2026-11-23 12:00 UTC by ops@desk: take it out")
        );
    }
}
