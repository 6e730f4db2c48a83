//! What the verbs' arguments share: the options of every verb and the inventory.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::num::{NonZeroU16, NonZeroUsize};
use std::path::PathBuf;

use clap::builder::{OsStringValueParser, TypedValueParser as _};

use super::limit::Term;
use super::limits;
use super::stop::Stop;
use crate::base::net::HostName;
use crate::fleet::pace;
use crate::inventory::site::Site;
use crate::service::Services;

/// Options of every verb.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Everywhere")]
pub struct Global {
    /// Only these hosts: names, role:ROLE, `failed` (what the last run left undone); a leading `!` leaves them out
    #[arg(long, global = true, value_delimiter = ',', value_name = "HOST|role:ROLE|!…|failed")]
    pub limit: Vec<Term>,
    /// Hosts worked on at the same time; by itself 32, and more where they are far
    #[arg(long, global = true, value_name = "N", value_parser = parallel)]
    pub parallel: Option<NonZeroUsize>,
    /// One JSON event a line on stdout
    #[arg(long, global = true)]
    pub json: bool,
    /// Colour; `auto` heeds `NO_COLOR` and whether the output is a terminal
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    pub color: clap::ColorChoice,
    /// Tell more: the text of new files, all partners of flows, each host's steps
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
}

impl Global {
    /// How many hosts are worked on at the same time, as far as this machine allows; more where nobody has chosen and they are far.
    pub(super) fn at_once(&self) -> usize {
        self.parallel.map_or(pace::USUAL, NonZeroUsize::get).min(limits::files().at_once())
    }

    /// The limits as a hint repeats them: ` --limit web1,role:db`.
    pub(super) fn limited(&self) -> String {
        self.without(std::iter::empty())
    }

    /// The same with some hosts left out, quoted where a shell would read a sign of it.
    pub(super) fn without<'h>(&self, hosts: impl IntoIterator<Item = &'h HostName>) -> String {
        let terms = self.limit.iter().map(ToString::to_string);
        let terms: Vec<String> = terms.chain(hosts.into_iter().map(|host| format!("!{host}"))).collect();
        match terms.join(",") {
            none if none.is_empty() => none,
            plain if !plain.contains('!') => format!(" --limit {plain}"),
            odd => format!(" --limit '{odd}'"),
        }
    }
}

/// A person's word for restarts that are theirs to decide.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Restarts {
    /// Let this unit restart now where the plan says that its restart waits for this word
    #[arg(long = "restart", value_name = "UNIT")]
    units: Vec<String>,
    /// Let the server that takes all writes restart now where the plan says so: they stop until it is back
    #[arg(long)]
    restart_writer: bool,
}

impl Restarts {
    /// Names as systemd has them: what has no kind is a service. The units of writers are those that `services` name.
    pub(super) fn units(&self, services: Services, site: &Site) -> Result<BTreeSet<String>, Stop> {
        let whole = |unit: &String| if unit.contains('.') { unit.clone() } else { format!("{unit}.service") };
        let mut units: BTreeSet<String> = self.units.iter().map(whole).collect();
        if self.restart_writer {
            let writers = services.writer_units(site);
            if writers.is_empty() {
                return Err(Stop::Refused(
                    "`--restart-writer` has nothing to restart: this inventory has no database".to_owned(),
                    vec!["another unit's restart is confirmed by `--restart UNIT`".to_owned()],
                ));
            }
            units.extend(writers);
        }
        Ok(units)
    }
}

/// The inventory argument.
#[derive(Debug, Clone, clap::Args)]
pub struct Inventory {
    /// The inventory file
    #[arg(
        value_name = "INVENTORY",
        env = "INFRA_INVENTORY",
        default_value = "inventory.yml",
        hide_env_values = true,
        value_parser = OsStringValueParser::new().try_map(file),
        value_hint = clap::ValueHint::FilePath
    )]
    pub inventory: PathBuf,
}

/// A variable that is empty in a pipeline must not choose an inventory.
fn file(word: OsString) -> Result<PathBuf, &'static str> {
    if word.is_empty() { Err("the name is empty: give a file, here or in INFRA_INVENTORY") } else { Ok(word.into()) }
}

/// At most 1,000 threads: each one holds a connection and a small stack.
fn parallel(text: &str) -> Result<NonZeroUsize, String> {
    let number: Option<NonZeroU16> = text.parse().ok().filter(|n: &NonZeroU16| n.get() <= 1000);
    number.map(Into::into).ok_or_else(|| "write a number from 1 to 1000".to_owned())
}
