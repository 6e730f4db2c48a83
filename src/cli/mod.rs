//! The verbs: takes the command line, gives an exit code. A verb is a list of stages; what it prints goes through the reporter.

use std::io;
use std::process::ExitCode;

use clap::Parser;

use crate::base::diagnostic::Diagnostic;
use crate::report::Reporter;

mod apply;
pub mod args;
mod cert;
mod check;
mod completions;
mod demo;
mod diff;
pub mod exit;
mod firewall;
mod lab;
pub mod limit;
mod man;
mod order;
mod preflight;
mod render;
mod revoke;
mod saved;
mod stages;
mod trust;

use args::{Args, Verb};

/// Why a verb ended before its work was done.
#[derive(Debug)]
pub enum Stop {
    /// What a person wrote is wrong (exit code 2), with places.
    Input(Vec<Diagnostic>),
    /// What a person asked for cannot be done as asked (exit code 2): a sentence, and what to do.
    Refused(String, Vec<String>),
    /// Some hosts cannot be reached, told already (exit code 4).
    Unreachable,
    /// A person ended it (exit code 130).
    Interrupted,
    /// All else (exit code 1).
    Failed(anyhow::Error),
}

impl From<anyhow::Error> for Stop {
    fn from(error: anyhow::Error) -> Self {
        Self::Failed(error)
    }
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Self::Failed(error.into())
    }
}

impl From<Diagnostic> for Stop {
    fn from(diagnostic: Diagnostic) -> Self {
        Self::Input(vec![diagnostic])
    }
}

impl From<Vec<Diagnostic>> for Stop {
    fn from(diagnostics: Vec<Diagnostic>) -> Self {
        Self::Input(diagnostics)
    }
}

impl Stop {
    /// Its exit code.
    pub fn code(&self) -> u8 {
        match self {
            Self::Input(_) | Self::Refused(..) => exit::INPUT,
            Self::Unreachable => exit::UNREACHABLE,
            Self::Interrupted => exit::INTERRUPTED,
            Self::Failed(_) => exit::FAILED,
        }
    }

    fn tell(&self, reporter: &Reporter) -> io::Result<()> {
        match self {
            Self::Input(diagnostics) => reporter.diagnostics(diagnostics),
            Self::Refused(message, help) => reporter.error(message, &[], help),
            Self::Unreachable | Self::Interrupted => Ok(()),
            Self::Failed(error) => {
                let causes: Vec<String> = error.chain().skip(1).map(ToString::to_string).collect();
                reporter.error(&error.to_string(), &causes, &[])
            }
        }
    }
}

/// What a verb gives: an exit code of [`exit`], or why it stopped.
pub type Done = Result<u8, Stop>;

/// The whole program.
pub fn main() -> ExitCode {
    // clap prints its own errors and exits with 2, which is `exit::INPUT`.
    let args = Args::parse();
    let choice = match args.global.color {
        clap::ColorChoice::Auto => anstream::ColorChoice::Auto,
        clap::ColorChoice::Always => anstream::ColorChoice::AlwaysAnsi,
        clap::ColorChoice::Never => anstream::ColorChoice::Never,
    };
    let reporter = Reporter::new(args.global.json, choice, args.global.verbose);
    let code = run(&args, &reporter).unwrap_or_else(|stop| {
        // Where stderr is closed there is nobody left to tell; the exit code says it still.
        let _ = stop.tell(&reporter);
        stop.code()
    });
    ExitCode::from(code)
}

fn run(args: &Args, reporter: &Reporter) -> Done {
    let global = &args.global;
    match &args.verb {
        Verb::Check(inventory) => check::run(inventory, global, reporter),
        Verb::Render(render) => render::run(render, global, reporter),
        Verb::Diff(diff) => diff::run(diff, global, reporter),
        Verb::Apply(apply) => apply::run(apply, global, reporter),
        Verb::Cert(cert) => cert::run(cert, global, reporter),
        Verb::Firewall(firewall) => firewall::run(firewall, global, reporter),
        Verb::Trust(trust) => trust::run(trust, global, reporter),
        Verb::Lab(lab) => lab::run(lab, global, reporter),
        Verb::Completions(completions) => completions::run(completions, reporter),
        Verb::Man(man) => man::run(man, reporter),
    }
}
