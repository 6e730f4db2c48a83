//! `man`: gives the manual page on stdout, or one for each verb in a folder.

use std::io;
use std::path::{Path, PathBuf};

use anyhow::Context;

use super::exit;
use super::stop::Done;
use crate::report::Reporter;

/// `man`.
#[derive(Debug, Clone, clap::Args)]
pub struct Man {
    /// Write a page for each verb into this folder
    #[arg(long, value_name = "DIR")]
    pub to: Option<PathBuf>,
}

pub(super) fn run(man: &Man, command: clap::Command, reporter: &Reporter) -> Done {
    let mut command = command.disable_help_subcommand(man.to.is_some());
    command.build();
    let Some(dir) = &man.to else {
        reporter.raw(&page(command)?.1)?;
        return Ok(exit::DONE);
    };
    fs_err::create_dir_all(dir)?;
    write(&command, dir).with_context(|| format!("cannot write the manual pages to `{}`", dir.display()))?;
    reporter.note(&format!("manual pages written, read them by `man -l {}`", dir.join("infra.1").display()));
    Ok(exit::DONE)
}

/// The pages of a verb and of all below it, a file each.
fn write(command: &clap::Command, dir: &Path) -> io::Result<()> {
    for verb in command.get_subcommands().filter(|verb| !verb.is_hide_set()) {
        write(verb, dir)?;
    }
    let (name, text) = page(command.clone())?;
    fs_err::write(dir.join(name), text)
}

/// The name of a page's file, and its text. What stands at the end of a `--help` has no heading of its own in the library, and gets the
/// one that man-pages(7) has for it.
fn page(command: clap::Command) -> io::Result<(String, String)> {
    let (man, mut text) = (clap_mangen::Man::new(command), Vec::new());
    man.render(&mut text)?;
    let mut text = String::from_utf8_lossy(&text).into_owned();
    for (title, heading) in [("Examples:", "EXAMPLES"), ("Exit codes:", "EXIT STATUS")] {
        text = text.replacen(&format!(".SH EXTRA\n{title}\n"), &format!(".SH {heading}\n"), 1);
    }
    Ok((man.get_filename(), text))
}
