//! `completions`: takes a shell, gives its completion script on stdout.

use clap::CommandFactory;

use super::args::{Args, Completions};
use super::{Done, exit};
use crate::report::Reporter;

pub(super) fn run(completions: &Completions, reporter: &Reporter) -> Done {
    let mut script = Vec::new();
    clap_complete::generate(completions.shell, &mut Args::command(), "infra", &mut script);
    reporter.data(&String::from_utf8_lossy(&script))?;
    Ok(exit::DONE)
}
