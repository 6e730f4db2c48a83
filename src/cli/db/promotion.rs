//! What `db switchover` and `db failover` share: takes their arguments, has another host made the writer, and tells what came of it.

use super::{Look, carry_out, consent};
use crate::base::diagnostic::Diagnostic;
use crate::base::net::HostName;
use crate::cli::exit;
use crate::cli::global::Inventory;
use crate::cli::stages;
use crate::cli::stop::{Done, Stop};
use crate::cli::work::Work;
use crate::inventory::site::Site;
use crate::plan::decision::{Decided, Memory};
use crate::plan::state::ObservedFleet;
use crate::report::Reporter;

/// The arguments of a verb that makes another host the writer.
#[derive(Debug, Clone, clap::Args)]
pub struct Promotion {
    /// The host that shall write
    #[arg(value_name = "HOST")]
    pub host: HostName,
    /// The inventory
    #[command(flatten)]
    pub inventory: Inventory,
    /// Show what is found and the plan, and change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Do not ask for confirmation
    #[arg(short, long)]
    pub yes: bool,
}

impl Promotion {
    /// The inventory that is named; refused where it has no database, or where the host is not of its group.
    pub(super) fn site(&self, reporter: &Reporter) -> Result<Site, Stop> {
        let site = stages::site(&self.inventory.inventory, reporter)?;
        super::database(&site)?;
        super::of_group(&site, &self.host)?;
        Ok(site)
    }

    /// How a person would go on with it.
    pub(super) fn command(&self, verb: &str) -> String {
        format!("infra db {verb} {} {}", self.host, self.inventory.inventory.display())
    }

    /// Carries out what `decide` gives, which makes the host the writer, once `question` is agreed to. What came of it is remembered,
    /// with `given_up`, the writer of before that gets no traffic from then on, which is brought to the proxies, and told. Gives the
    /// exit code.
    pub(super) fn carry_out(
        &self,
        look: &Look<'_>,
        work: &mut Work<'_>,
        (question, given_up): (&str, Option<&HostName>),
        decide: impl Fn(&Site, &ObservedFleet, &Memory) -> Result<Decided, Diagnostic> + Send + Sync + 'static,
    ) -> Done {
        let code = carry_out(work, consent(self.dry_run, self.yes, question), decide)?;
        if code == exit::DONE
            && let Some(change) = look.change_of(&self.host, given_up)?
        {
            look.reporter.writer_changed(&self.host, &change)?;
            if let Some(old) = given_up {
                look.reporter.note(&format!("{old} stays fenced, and gets no traffic, until `infra db rejoin {old}`"));
                return look.bring_places(work);
            }
        }
        Ok(code)
    }
}
