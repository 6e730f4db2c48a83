//! `completions`: takes a shell, gives its completion script on stdout.

use super::exit;
use super::stop::Done;
use crate::report::Reporter;

/// `completions`.
#[derive(Debug, Clone, clap::Args)]
pub struct Completions {
    /// Which shell
    #[arg(value_enum)]
    pub shell: clap_complete::Shell,
}

pub(super) fn run(completions: &Completions, mut command: clap::Command, reporter: &Reporter) -> Done {
    let mut script = Vec::new();
    clap_complete::generate(completions.shell, &mut command, "infra", &mut script);
    reporter.data(&String::from_utf8_lossy(&script))?;
    Ok(exit::DONE)
}
