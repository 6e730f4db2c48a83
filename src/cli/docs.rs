//! `docs`: what the inventory's keys are for, out of the one reference.

use std::io;

use super::exit;
use super::stop::Done;
use crate::inventory::manual::{Entry, Found, Manual};
use crate::report::Reporter;
use crate::report::line::Line;

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
        list(manual.paths(), reporter)?;
        return Ok(exit::DONE);
    };
    match manual.find(word)? {
        Found::One(Entry { path, text }) if reporter.is_json() => {
            reporter.line(&Line::Key { path: &path, text: Some(&text) })?;
        }
        Found::One(entry) => {
            reporter.note(&entry.path);
            reporter.data(&entry.text)?;
        }
        Found::Several(paths) => {
            reporter.note(&format!("several keys are called `{word}`: say which"));
            list(paths.iter().map(String::as_str), reporter)?;
        }
    }
    Ok(exit::DONE)
}

fn list<'p>(mut paths: impl Iterator<Item = &'p str>, reporter: &Reporter) -> io::Result<()> {
    if reporter.is_json() {
        return paths.try_for_each(|path| reporter.line(&Line::Key { path, text: None }));
    }
    reporter.data(&(paths.collect::<Vec<_>>().join("\n") + "\n"))
}
