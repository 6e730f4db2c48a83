//! `schema`: gives the JSON Schema of what `infra` prints, on stdout.

use super::exit;
use super::stop::Done;
use crate::inventory::manual::Manual;
use crate::report::{Reporter, line};

/// `schema`.
#[derive(Debug, Clone, clap::Args)]
pub struct Schema {
    /// What to describe
    #[arg(value_enum)]
    pub of: Of,
}

/// What there is a schema of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Of {
    /// The lines of `--json`
    Events,
    /// The inventory, for an editor
    Inventory,
    /// A plan: the line `plan` of `diff --json`, and the file of `diff --out`
    Plan,
}

pub(super) fn run(schema: &Schema, reporter: &Reporter) -> Done {
    let schema = match schema.of {
        Of::Events => line::schema(),
        Of::Inventory => Manual::read()?.schema(),
        Of::Plan => line::plan_schema(),
    };
    let text = serde_json::to_string_pretty(&schema)?;
    reporter.raw(&(text + "\n"))?;
    Ok(exit::DONE)
}
