//! `man`: gives the manual page on stdout, or one for each verb in a folder.

use anyhow::Context;
use clap::CommandFactory;

use super::args::{Args, Man};
use super::{Done, exit};
use crate::report::Reporter;

pub(super) fn run(man: &Man, reporter: &Reporter) -> Done {
    let mut command = Args::command();
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
    reporter.data(&String::from_utf8_lossy(&page))?;
    Ok(exit::DONE)
}
