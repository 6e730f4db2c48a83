//! The command line: takes the words of a shell, gives typed verbs. clap refuses what is wrong with exit code 2.

use clap::{Parser, Subcommand};

use super::accept::Accept;
use super::alerts::Alerts;
use super::apply::Apply;
use super::away::{Drain, Undrain};
use super::cert::Cert;
use super::completions::Completions;
use super::db::Db;
use super::diff::Diff;
use super::docs::Docs;
use super::drift::Drift;
use super::exec::Exec;
use super::exit;
use super::explain::Explain;
use super::firewall::Firewall;
use super::global::{Global, Inventory};
use super::history::History;
use super::init::Init;
use super::lab::Lab;
use super::man::Man;
use super::render::Render;
use super::retire::{Destroy, Retire};
use super::rollback::Rollback;
use super::schema::Schema;
use super::ssh::Ssh;
use super::status::Status;
use super::trust::Trust;

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

/// The verbs.
#[derive(Debug, Clone, Subcommand)]
pub enum Verb {
    /// Write a first inventory, from flags, answers, an inventory of Ansible or ~/.ssh/config
    Init(Box<Init>),
    /// Check everything that can be known without touching a host: inventory, templates, configurations, firewall
    Check(Inventory),
    /// Write every file of every host as it would be pushed, with secrets as names
    Render(Render),
    /// Show the plan against the live hosts; exits 0 with nothing to do, 3 with changes
    Diff(Diff),
    /// Show what differs on the hosts from what was last applied; exits 0 with nothing, 3 with drift
    Drift(Drift),
    /// Take what was changed by hand in a file of a host into a template of your own
    Accept(Accept),
    /// Make the same plan, ask once, and execute it
    Apply(Apply),
    /// Certificates: what the hosts show, renewal, and the records for the zone
    #[command(subcommand)]
    Cert(Cert),
    /// The database: who writes, who follows, and every change of that
    #[command(subcommand)]
    Db(Db),
    /// The firewall: who may talk to whom, as derived, why, and as measured on the hosts
    #[command(subcommand)]
    Firewall(Firewall),
    /// Write what Prometheus or Sumo Logic is to alert about, with tested cases
    Alerts(Alerts),
    /// Show the fleet on one screen; exits 0 all is well, 1 something is wrong, 4 a host does not answer
    Status(Status),
    /// Show what infra keeps on a host, and which template and which inventory lines made a line of it
    Explain(Explain),
    /// Take a web or app host out of traffic, and wait until nobody uses it
    Drain(Drain),
    /// Bring a host back that was drained, and wait until it gets requests
    Undrain(Undrain),
    /// Have a host leave: out of traffic, flows, trust and replication, then its services stop; its data stay
    Retire(Retire),
    /// Leave all hosts: services stop, firewalls open, infra's files go; no data are touched
    Destroy(Destroy),
    /// Run a command of your own on hosts, with equal answers shown once
    Exec(Exec),
    /// Open a shell on a host by your own `ssh`, as the inventory says
    Ssh(Ssh),
    /// Take a past run back: files, rules and units become what they were before it, as a plan like any other
    Rollback(Rollback),
    /// Show past runs: who ran what, when, and what became of each host
    History(History),
    /// Accept a host's SSH key after its fingerprint was compared, or those of all hosts
    Trust(Trust),
    /// Run a twin of the inventory on this machine: real Debian hosts in an isolated network (needs root)
    #[command(subcommand)]
    Lab(Lab),
    /// Print what a key of the inventory is for, or list all keys
    Docs(Docs),
    /// Print the JSON Schema of the lines of `--json`, of the inventory, or of a plan
    Schema(Schema),
    /// A completion script for a shell, on stdout
    Completions(Completions),
    /// The manual page on stdout, or all pages into a folder
    Man(Man),
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
            "infra init",
            "infra init --name shop --lb 203.0.113.10 --web 10.0.2.11,10.0.2.12 --app 10.0.3.11 --db 10.0.4.11 --domain shop.example.com",
            "infra init --single 192.0.2.10 --domain a.example.com --manage-from 10.0.0.0/24 --contact ops@example.com x.yml",
            "infra init --from-ansible hosts.ini --map webservers=web --map dbs=db",
            "infra init --from-ssh-config --map www*=web",
            "infra init --from-ssh-config=ssh.conf x.yml",
            "infra check",
            "infra check x.yml --json",
            "infra --limit web1,role:db,!db2 diff x.yml --out plan --limit failed",
            "infra diff --out plan --valid 30m",
            "infra apply --plan p --yes --wave 25% --max-failed 2 --skip-unreachable --force",
            "infra apply --wave 1,25%,100% --pause 30 --on-failure wave x.yml",
            "infra render x.yml --to out",
            "infra firewall explain lb web 8443/tcp x.yml",
            "infra firewall matrix",
            "infra alerts x.yml --format sumologic --to out",
            "infra alerts --to out",
            "infra trust web1 --fingerprint SHA256:n4bQgYhMfWWaL+qgxVrQFaO/TxsrC4Is0V1sFbDwCgg",
            "infra trust --all",
            "infra trust --all x.yml --known keys --limit role:web",
            "infra trust --all --console web1=a.log,web2=b.log",
            "infra drift",
            "infra accept web1 nginx.conf x.yml --yes",
            "infra drift x.yml --limit role:web --json",
            "infra explain web1",
            "infra explain web1 /etc/nginx/nginx.conf:3 x.yml --json",
            "infra explain db1 server_id",
            "infra apply --drain",
            "infra apply --drain=300 --wave 2 x.yml",
            "infra drain web1",
            "infra drain app1 x.yml --timeout 5 --force --why disk --json",
            "infra undrain app1 --timeout 5 x.yml",
            "infra retire app2 --firewall closed --yes",
            "infra retire web1 x.yml --unreachable",
            "infra destroy x.yml --name shop --skip-unreachable",
            "infra exec -- uptime",
            "infra exec x.yml --limit role:web --sudo --timeout 5 --json -- ls -l --json",
            "infra ssh web1",
            "infra ssh web1 x.yml -- uptime",
            "infra rollback",
            "infra rollback 20261123T184501-k7q2xm x.yml --dry-run",
            "infra rollback 20261123T184501 --yes --limit role:web --overwrite-drift",
            "infra history",
            "infra history 20261123T184501-k7q2xm x.yml --json",
            "infra history x.yml --last 3 --local",
            "infra lab up x.yml --release trixie --name twin --install",
            "infra lab exec web1 -- sh -c true",
            "infra lab exec -- infra apply",
            "infra lab exec outside --name twin -- curl https://shop.example.com/",
            "infra lab down",
            "infra cert status --json",
            "infra cert renew x.yml --force shop.example.com",
            "infra cert renew --dry-run",
            "infra cert records x.yml --json",
            "infra db status x.yml --json",
            "infra schema events",
            "infra schema inventory",
            "infra docs",
            "infra docs database.max_lag",
            "infra status x.yml --watch --prometheus infra.prom --html s.html --limit role:lb",
            "infra status --watch 2 --json",
            "infra db rotate shop",
            "infra db rotate infra_repl x.yml --yes",
            "infra db rotate --all x.yml",
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
            "infra init --lb 10.0.0.300",
            "infra init --lb 127.0.0.1",
            "infra init --single 10.0.0.1 --lb 10.0.0.2",
            "infra init --domain shop",
            "infra init --manage-from 10.0.0.1/24",
            "infra init --map web",
            "infra render x.yml",
            "infra apply --wave 0",
            "infra diff --out plan --valid 0s",
            "infra diff --out plan --valid 31d",
            "infra apply --plan p --restart haproxy",
            "infra apply --wave 101%",
            "infra apply --pause 5",
            "infra apply --on-failure some",
            "infra schema",
            "infra alerts x.yml",
            "infra alerts x.yml --to out --format nagios",
            "infra status --watch 0",
            "infra status --watch x.yml",
            "infra check --parallel 0",
            "infra check --parallel 1001",
            "infra check --limit role:wbe",
            "infra check --limit WEB1",
            "infra firewall explain lb web 0",
            "infra trust",
            "infra trust --all --fingerprint SHA256:n4bQgYhMfWWaL+qgxVrQFaO/TxsrC4Is0V1sFbDwCgg",
            "infra trust web1 --known keys",
            "infra exec",
            "infra exec --timeout 0 -- true",
            "infra ssh",
            "infra trust web1 --fingerprint MD5:00",
            "infra lab exec web1",
            "infra lab up --release bullseye",
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
