//! `docs`: what the inventory's keys are for, out of the one reference.

use super::exit;
use super::stop::Done;
use crate::inventory::manual::{Found, Manual};
use crate::report::Reporter;

/// `docs`.
#[derive(Debug, Clone, clap::Args)]
pub struct Docs {
    /// A key by its path, with your own names in it, or its last part; without it all keys are listed
    #[arg(value_name = "KEY")]
    pub key: Option<String>,
}

pub(super) fn run(docs: &Docs, reporter: &Reporter) -> Done {
    let manual = Manual::read()?;
    let Some(word) = &docs.key else {
        let all: Vec<&str> = manual.paths().collect();
        reporter.data(&(all.join("\n") + "\n"))?;
        return Ok(exit::DONE);
    };
    match manual.find(word)? {
        Found::One(entry) => {
            reporter.note(&entry.path);
            reporter.data(&entry.text)?;
        }
        Found::Several(paths) => {
            reporter.note(&format!("several keys are called `{word}`: say which"));
            reporter.data(&(paths.join("\n") + "\n"))?;
        }
    }
    Ok(exit::DONE)
}
