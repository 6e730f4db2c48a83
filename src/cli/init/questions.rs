//! What `init` asks a person: takes a question and how its answer reads, asks again where it does not read, and remembers what was not
//! said where nobody can be asked.

use crate::cli::stop::Stop;
use crate::report::{Reporter, prompt};

/// Who asks.
pub(super) struct Questions<'r> {
    reporter: &'r Reporter,
    can: bool,
    missing: Vec<String>,
}

impl<'r> Questions<'r> {
    /// Asks where a person sits at the terminal.
    pub(super) fn new(reporter: &'r Reporter) -> Self {
        Self { reporter, can: !reporter.is_json() && prompt::possible(), missing: Vec::new() }
    }

    /// Whether anybody can be asked.
    pub(super) fn can(&self) -> bool {
        self.can
    }

    /// Whether something was not said, and nobody could be asked for it.
    pub(super) fn lacks(&self) -> bool {
        !self.missing.is_empty()
    }

    /// All that was not said.
    pub(super) fn missing(&self) -> Stop {
        let help = self.missing.iter().map(|flag| format!("add `{flag}`")).collect();
        Stop::Refused("not all is said that an inventory needs, and nobody can be asked for it here".to_owned(), help)
    }

    /// Whether the person says yes; another word than yes and no is asked about again.
    pub(super) fn yes(&self, question: &str) -> Result<bool, Stop> {
        self.ask(question, Some("no"), |text| match text.to_ascii_lowercase().as_str() {
            "y" | "yes" => Ok(true),
            "n" | "no" => Ok(false),
            _ => Err(format!("`{text}` is neither yes nor no")),
        })
    }

    /// What was given, or the answer; where nobody can be asked the usual one, else `flag` is missing.
    pub(super) fn needed<T>(
        &mut self,
        given: Option<T>,
        flag: &str,
        question: &str,
        usual: Option<&str>,
        read: impl Fn(&str) -> Result<T, String>,
    ) -> Result<Option<T>, Stop> {
        if given.is_some() {
            return Ok(given);
        }
        if self.can {
            return self.ask(question, usual, read).map(Some);
        }
        let found = usual.and_then(|usual| read(usual).ok());
        if found.is_none() {
            self.missing.push(flag.to_owned());
        }
        Ok(found)
    }

    /// The same, for what has a usual answer.
    pub(super) fn usual<T>(
        &mut self,
        given: Option<T>,
        question: &str,
        usual: Option<String>,
        read: impl Fn(&str) -> Result<T, String>,
    ) -> Result<Option<T>, Stop> {
        if given.is_some() {
            return Ok(given);
        }
        if self.can {
            self.ask(question, usual.as_deref(), read).map(Some)
        } else {
            Ok(usual.and_then(|usual| read(&usual).ok()))
        }
    }

    /// Asks until the answer reads.
    pub(super) fn ask<T>(
        &self,
        question: &str,
        usual: Option<&str>,
        read: impl Fn(&str) -> Result<T, String>,
    ) -> Result<T, Stop> {
        loop {
            let answer = prompt::answer(question, usual.filter(|usual| !usual.is_empty()));
            let Some(answer) = answer.map_err(|error| Stop::Failed(error.into()))? else {
                return Err(Stop::Refused("nobody answers any more: nothing was written".to_owned(), Vec::new()));
            };
            match read(&answer) {
                Ok(value) => return Ok(value),
                Err(why) => self.reporter.note(&format!("{why}; once more, please")),
            }
        }
    }
}
