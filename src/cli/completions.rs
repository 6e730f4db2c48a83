//! `completions`: takes a shell, gives what has that shell ask `infra` itself for completions, on stdout.

use std::io::{Error, ErrorKind};

use clap_complete::env::Shells;

use super::exit;
use super::stop::Done;
use crate::report::Reporter;

/// The environment variable by which a shell asks.
pub(super) const VARIABLE: &str = "INFRA_COMPLETE";

/// What bash needs beside: its words end at `:` and `=`.
const WHOLE_WORDS: &str = include_str!("completions.bash");

/// `completions`.
#[derive(Debug, Clone, clap::Args)]
pub struct Completions {
    /// Which shell
    #[arg(value_enum)]
    pub shell: clap_complete::Shell,
}

pub(super) fn run(completions: &Completions, reporter: &Reporter) -> Done {
    let shells = Shells::builtins();
    let name = completions.shell.to_string();
    let shell = shells.completer(&name).ok_or_else(|| Error::new(ErrorKind::Unsupported, name.clone()))?;
    let mut script = Vec::new();
    shell.write_registration(VARIABLE, "infra", "infra", "infra", &mut script)?;
    if completions.shell == clap_complete::Shell::Bash {
        script.extend_from_slice(WHOLE_WORDS.as_bytes());
    }
    reporter.raw(&String::from_utf8_lossy(&script))?;
    Ok(exit::DONE)
}
