//! The command line: takes the words of a shell, gives typed verbs. clap refuses what is wrong with exit code 2.

use std::num::{NonZeroU16, NonZeroUsize};
use std::path::PathBuf;
use std::str::FromStr;

use clap::{Parser, Subcommand};

use super::exit;
use super::limit::Term;
use crate::base::net::{DnsName, HostName, Invalid, Port, Proto};
use crate::fleet::run::Wave;
use crate::lab::Release;

/// From one inventory file, a secured and monitored web infrastructure, over SSH.
#[derive(Debug, Clone, Parser)]
#[command(name = "infra", version, after_help = exit::HELP, max_term_width = 110, propagate_version = true)]
#[command(arg_required_else_help = false, subcommand_required = true)]
pub struct Args {
    /// What holds for every verb.
    #[command(flatten)]
    pub global: Global,
    /// The verb.
    #[command(subcommand)]
    pub verb: Verb,
}

/// Options of every verb.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Everywhere")]
pub struct Global {
    /// Only these hosts: names, role:ROLE, `failed` (what the last run left undone); a leading `!` takes out
    #[arg(long, global = true, value_delimiter = ',', value_name = "HOST|role:ROLE|!…|failed")]
    pub limit: Vec<Term>,
    /// Hosts worked on at the same time
    #[arg(long, global = true, value_name = "N", default_value = "32", value_parser = parallel)]
    pub parallel: NonZeroUsize,
    /// One JSON event a line on stdout
    #[arg(long, global = true)]
    pub json: bool,
    /// Colour; `auto` heeds `NO_COLOR` and whether a terminal listens
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    pub color: clap::ColorChoice,
    /// Tell more: the text of new files, all partners of flows, each host's steps
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
}

/// The inventory argument.
#[derive(Debug, Clone, clap::Args)]
pub struct Inventory {
    /// The inventory file
    #[arg(value_name = "INVENTORY", env = "INFRA_INVENTORY", default_value = "inventory.yml", hide_env_values = true)]
    pub inventory: PathBuf,
}

/// The verbs.
#[derive(Debug, Clone, Subcommand)]
pub enum Verb {
    /// Everything that can be known without touching a host: inventory, templates, configurations, firewall
    Check(Inventory),
    /// Every file of every host as it would be pushed, secrets as names
    Render(Render),
    /// The plan against the live hosts; exits 0 with nothing to do, 3 with changes
    Diff(Diff),
    /// The same plan, confirmed once, executed
    Apply(Apply),
    /// Every certificate: what the hosts show, renewal, and what belongs into the zone
    #[command(subcommand)]
    Cert(Cert),
    /// Who may talk to whom: as derived, why, and as measured on the hosts
    #[command(subcommand)]
    Firewall(Firewall),
    /// Accept a host's SSH key after its fingerprint was compared
    Trust(Trust),
    /// A twin of the inventory on this machine: real Debian hosts in an isolated network (needs root)
    #[command(subcommand)]
    Lab(Lab),
    /// A completion script for a shell, on stdout
    Completions(Completions),
    /// The manual page on stdout, or all pages into a folder
    Man(Man),
}

/// `render`.
#[derive(Debug, Clone, clap::Args)]
pub struct Render {
    /// The inventory
    #[command(flatten)]
    pub inventory: Inventory,
    /// The folder to write to: `DIR/HOST/etc/…`; made if it is not there
    #[arg(long, value_name = "DIR")]
    pub to: PathBuf,
}

/// `diff`.
#[derive(Debug, Clone, clap::Args)]
pub struct Diff {
    /// The inventory
    #[command(flatten)]
    pub inventory: Inventory,
    /// Also keep the plan in a file, for `apply --plan`
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}

/// `apply`.
#[derive(Debug, Clone, clap::Args)]
pub struct Apply {
    /// The inventory
    #[command(flatten)]
    pub inventory: Inventory,
    /// Execute exactly this plan of `diff --out`, or refuse if a host has moved since
    #[arg(long, value_name = "FILE")]
    pub plan: Option<PathBuf>,
    /// Do not ask
    #[arg(short, long)]
    pub yes: bool,
    /// Hosts of a phase that change at the same time, as a number or a share
    #[arg(long, value_name = "N|P%")]
    pub wave: Option<Wave>,
    /// Go on until more than N hosts have failed; unreachable hosts count
    #[arg(long, value_name = "N", default_value = "0")]
    pub max_failed: usize,
    /// Leave out hosts that cannot be reached, instead of stopping before anything is planned
    #[arg(long)]
    pub skip_unreachable: bool,
    /// Go on where `check` would stop for our own way in
    #[arg(long)]
    pub force: bool,
}

/// `cert …`.
#[derive(Debug, Clone, Subcommand)]
pub enum Cert {
    /// Every certificate as the hosts show it; exits 1 if one is not shown, or is due and fails
    Status(Inventory),
    /// Make or order what is due and install it; exits 0 with nothing due, 6 renewed, 7 deferred, 1 failed
    Renew(CertRenew),
    /// CAA and TLSA records for the sites' zones, as lines of a zone file
    Records(Inventory),
    /// Replace a site's certificate by a new one with a new key, then have its CA take the old one back
    Revoke(CertRevoke),
}

/// `cert revoke`.
#[derive(Debug, Clone, clap::Args)]
pub struct CertRevoke {
    /// The site
    #[arg(value_name = "SITE")]
    pub site: DnsName,
    /// The inventory
    #[command(flatten)]
    pub inventory: Inventory,
    /// What the CA is told
    #[arg(long, value_enum, default_value = "unspecified")]
    pub reason: Reason,
    /// Revoke first, whether a new certificate can be had or not: clients that look will refuse the site until then
    #[arg(long)]
    pub now: bool,
    /// Do not ask
    #[arg(long, short)]
    pub yes: bool,
}

/// Why a certificate is taken back (RFC 5280 section 5.3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Reason {
    /// None is given
    Unspecified,
    /// Somebody else has the key
    KeyCompromise,
    /// Another certificate stands in its place
    Superseded,
    /// The site is no more
    CessationOfOperation,
}

/// `cert renew`.
#[derive(Debug, Clone, clap::Args)]
pub struct CertRenew {
    /// The inventory
    #[command(flatten)]
    pub inventory: Inventory,
    /// Renew this site's certificate though it is not due; not before the time that a failure has set
    #[arg(long, value_name = "SITE")]
    pub force: Vec<DnsName>,
    /// Tell what would be done; order from Let's Encrypt's staging to try it, and use nothing of it
    #[arg(long, conflicts_with = "force")]
    pub dry_run: bool,
}

/// `firewall …`.
#[derive(Debug, Clone, Subcommand)]
pub enum Firewall {
    /// The declared flows as a table, sources down, destinations across
    Matrix(Inventory),
    /// Whether FROM may open PORT on TO: by which flow, from which inventory line, by which rule
    Explain(Explain),
    /// Measure every pair of hosts and compare with what is declared
    Verify(Inventory),
}

/// `firewall explain`.
#[derive(Debug, Clone, clap::Args)]
pub struct Explain {
    /// A host, a role, an address, or `internet`
    pub from: String,
    /// A host or a role
    pub to: String,
    /// A port, `443` or `53/udp`
    pub port: PortProto,
    /// The inventory
    #[command(flatten)]
    pub inventory: Inventory,
}

/// `trust`.
#[derive(Debug, Clone, clap::Args)]
pub struct Trust {
    /// A host of the inventory
    pub host: HostName,
    /// The inventory
    #[command(flatten)]
    pub inventory: Inventory,
    /// Accept only a key with this fingerprint, as `ssh-keygen -lf` prints it; without it you are asked
    #[arg(long, value_name = "SHA256:…")]
    pub fingerprint: Option<Fingerprint>,
}

/// `lab …`.
#[derive(Debug, Clone, Subcommand)]
pub enum Lab {
    /// Boot a host for each one of the inventory, with its own addresses
    Up(LabUp),
    /// Run a command on a host, on `outside` (the internet) or on the `controller`
    Exec(LabExec),
    /// An ssh configuration that reaches the lab's hosts, on stdout
    SshConfig(LabName),
    /// What runs
    Status(LabName),
    /// Stop it and remove all that it left
    Down(LabName),
    /// Bring a lab up, apply the three-tier inventory to it, fetch a page, and show what stands
    Demo(LabDemo),
}

/// Which lab.
#[derive(Debug, Clone, clap::Args)]
pub struct LabName {
    /// The lab's name, where several stand side by side; else the inventory's, or the one that is up
    #[arg(long, value_name = "NAME")]
    pub name: Option<HostName>,
}

/// What a lab is made of.
#[derive(Debug, Clone, clap::Args)]
pub struct LabImage {
    /// The lab's name
    #[command(flatten)]
    pub lab: LabName,
    /// Debian release of the hosts
    #[arg(long, value_name = "bookworm|trixie", default_value = "bookworm")]
    pub release: Release,
    /// Install the packages that the lab needs on this machine, with apt
    #[arg(long)]
    pub install: bool,
}

/// `lab up`.
#[derive(Debug, Clone, clap::Args)]
pub struct LabUp {
    /// The inventory
    #[command(flatten)]
    pub inventory: Inventory,
    /// Name, release, packages
    #[command(flatten)]
    pub image: LabImage,
}

/// `lab exec`.
#[derive(Debug, Clone, clap::Args)]
pub struct LabExec {
    /// Which lab
    #[command(flatten)]
    pub lab: LabName,
    /// A host of the inventory, `outside` or `controller`
    #[arg(value_name = "HOST|controller|outside", default_value = "controller")]
    pub host: HostName,
    /// The command, after `--`
    #[arg(last = true, required = true, value_name = "CMD")]
    pub command: Vec<std::ffi::OsString>,
}

/// `lab demo`.
#[derive(Debug, Clone, clap::Args)]
pub struct LabDemo {
    /// Name, release, packages
    #[command(flatten)]
    pub image: LabImage,
}

/// `completions`.
#[derive(Debug, Clone, clap::Args)]
pub struct Completions {
    /// Which shell
    #[arg(value_enum)]
    pub shell: clap_complete::Shell,
}

/// `man`.
#[derive(Debug, Clone, clap::Args)]
pub struct Man {
    /// Write a page for each verb into this folder
    #[arg(long, value_name = "DIR")]
    pub to: Option<PathBuf>,
}

/// A port with its protocol; TCP where nothing is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PortProto {
    /// The port.
    pub port: Port,
    /// TCP or UDP.
    pub proto: Proto,
}

impl FromStr for PortProto {
    type Err = Invalid;
    fn from_str(text: &str) -> Result<Self, Invalid> {
        let (port, proto) = match text.split_once('/') {
            None | Some((_, "tcp")) => (text.trim_end_matches("/tcp"), Proto::Tcp),
            Some((port, "udp")) => (port, Proto::Udp),
            Some(_) => return Err(Invalid::new("write the protocol as `/tcp` or `/udp`")),
        };
        Ok(Self { port: port.parse()?, proto })
    }
}

/// `SHA256:` and 43 characters of base64 without padding, as `ssh-keygen -lf` prints it (ssh-keygen(1)).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fingerprint(String);

impl Fingerprint {
    /// The text as it was checked, with `SHA256:`.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Fingerprint {
    type Err = Invalid;
    fn from_str(text: &str) -> Result<Self, Invalid> {
        let hash = text.strip_prefix("SHA256:").unwrap_or_default().trim_end_matches('=');
        let base64 = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '/');
        if hash.len() == 43 && hash.chars().all(base64) {
            Ok(Self(format!("SHA256:{hash}")))
        } else {
            Err(Invalid::new("write `SHA256:` and 43 characters, as `ssh-keygen -lf FILE.pub` prints it"))
        }
    }
}

/// At most 1,000 threads: each one holds a connection and a small stack.
fn parallel(text: &str) -> Result<NonZeroUsize, String> {
    let number: Option<NonZeroU16> = text.parse().ok().filter(|n: &NonZeroU16| n.get() <= 1000);
    number.map(Into::into).ok_or_else(|| "write a number from 1 to 1000".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn parse(line: &str) -> Result<Args, clap::Error> {
        Args::try_parse_from(line.split_whitespace())
    }

    #[test]
    fn the_definition_holds_together() {
        Args::command().debug_assert();
    }

    #[test]
    fn lines_that_read() {
        for line in [
            "infra check",
            "infra check x.yml --json",
            "infra --limit web1,role:db,!db2 diff x.yml --out plan --limit failed",
            "infra apply --plan p --yes --wave 25% --max-failed 2 --skip-unreachable --force",
            "infra render x.yml --to out",
            "infra firewall explain lb web 8443/tcp x.yml",
            "infra firewall matrix",
            "infra trust web1 --fingerprint SHA256:n4bQgYhMfWWaL+qgxVrQFaO/TxsrC4Is0V1sFbDwCgg",
            "infra lab up x.yml --release trixie --name twin --install",
            "infra lab exec web1 -- sh -c true",
            "infra lab exec -- infra apply",
            "infra lab exec outside --name twin -- curl https://shop.example.com/",
            "infra lab down",
            "infra cert status --json",
            "infra cert renew x.yml --force shop.example.com",
            "infra cert renew --dry-run",
            "infra cert records x.yml --json",
            "infra completions bash",
            "infra man --to pages",
        ] {
            parse(line).unwrap_or_else(|e| panic!("{line}: {e}"));
        }
    }

    #[test]
    fn lines_that_do_not_read() {
        for line in [
            "infra",
            "infra chek",
            "infra render x.yml",
            "infra apply --wave 0",
            "infra apply --wave 101%",
            "infra check --parallel 0",
            "infra check --parallel 1001",
            "infra check --limit role:wbe",
            "infra check --limit WEB1",
            "infra firewall explain lb web 0",
            "infra trust web1 --fingerprint MD5:00",
            "infra lab exec web1",
            "infra lab up --release sid",
        ] {
            assert_eq!(parse(line).expect_err(line).exit_code(), i32::from(exit::INPUT), "{line}");
        }
    }

    #[test]
    fn exec_takes_what_follows_the_dashes() {
        let Verb::Lab(Lab::Exec(exec)) = parse("infra lab exec -- ls --json").unwrap().verb else { panic!() };
        assert_eq!(exec.host.as_str(), "controller");
        assert_eq!(exec.command, ["ls", "--json"]);
    }
}
