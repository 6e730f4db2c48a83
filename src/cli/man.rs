//! `man`: gives the manual page on stdout, or one for each verb in a folder.

use std::path::PathBuf;

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

pub(super) fn run(man: &Man, mut command: clap::Command, reporter: &Reporter) -> Done {
    if let Some(dir) = &man.to {
        fs_err::create_dir_all(dir)?;
        clap_mangen::generate_to(command, dir)
            .with_context(|| format!("cannot write the manual pages to `{}`", dir.display()))?;
        reporter.note(&format!("manual pages written, read them by `man -l {}`", dir.join("infra.1").display()));
        return Ok(exit::DONE);
    }
    command.build();
    let mut page = Vec::new();
    clap_mangen::Man::new(command).render(&mut page)?;
    reporter.raw(&String::from_utf8_lossy(&page))?;
    Ok(exit::DONE)
}
