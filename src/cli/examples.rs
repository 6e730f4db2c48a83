//! Examples of every verb, for `--help` and the manual pages: takes the definition of the command line, gives it with those lines that
//! begin with a verb's own words under that verb.

use clap::Command;

/// Each line is a whole command, and belongs to the verb whose words it begins with.
pub(super) const LINES: &str = "\
infra init --domain shop.example.com --lb 203.0.113.10 --web 10.0.2.11,10.0.2.12 --app 10.0.3.11 --db 10.0.4.11
infra init --single 192.0.2.10 --domain shop.example.com --manage-from 198.51.100.0/24
infra init --domain shop.example.com --from-ansible hosts.ini --map webservers=web,dbservers=db
infra check
infra check inventory.yml --json
infra render --to out
infra render inventory.yml --to out --limit lb1
infra diff
infra diff inventory.yml --markdown
infra diff inventory.yml --html
infra diff inventory.yml --out plan --limit role:web
infra drift
infra drift inventory.yml --limit role:web
infra accept web1 /etc/nginx/nginx.conf
infra accept lb1 haproxy.cfg inventory.yml --dry-run
infra apply inventory.yml
infra apply --plan plan --yes
infra cert status
infra cert status inventory.yml --json
infra cert renew
infra cert renew inventory.yml --force shop.example.com
infra cert records
infra cert records inventory.yml --json
infra cert revoke shop.example.com
infra cert revoke shop.example.com inventory.yml --now
infra db status
infra db status inventory.yml --json
infra db switchover db2 --dry-run
infra db switchover db2 inventory.yml
infra db failover db2 --dry-run
infra db failover db2 inventory.yml
infra db rejoin db1 --show
infra db rejoin db1 inventory.yml
infra db seed db3
infra db seed db3 inventory.yml --wipe
infra db rotate shop
infra db rotate --all inventory.yml
infra firewall matrix
infra firewall matrix inventory.yml --json
infra firewall explain web app 9443
infra firewall explain internet lb1 443 inventory.yml
infra firewall verify
infra firewall verify inventory.yml --limit role:db
infra alerts --to alerts
infra alerts inventory.yml --to alerts --format sumologic
infra status --watch
infra status inventory.yml --html status.html --limit role:lb
infra explain web1
infra explain db1 server_id inventory.yml
infra drain app1
infra drain web2 inventory.yml --timeout 300 --why 'a new disk'
infra undrain app1
infra undrain web2 inventory.yml --timeout 120
infra retire app2 --firewall closed
infra retire web2 inventory.yml --unreachable
infra destroy
infra destroy inventory.yml --name shop
infra exec --limit role:web -- uptime
infra exec inventory.yml --sudo -- 'journalctl -u nginx | tail -n 3'
infra ssh web1
infra ssh db1 inventory.yml -- df -h
infra rollback --dry-run
infra rollback 20261123T184501 inventory.yml
infra history --last 5
infra history 20261123T184501 inventory.yml
infra trust --all
infra trust --all inventory.yml --console web1=web1.log
infra trust web1 --fingerprint SHA256:n4bQgYhMfWWaL+qgxVrQFaO/TxsrC4Is0V1sFbDwCgg
infra lab up inventory.yml
infra lab up inventory.yml --release trixie --install
infra lab exec web1 -- systemctl status nginx
infra lab exec outside -- curl https://shop.example.com/
infra lab received
infra lab received --name shop
infra lab ssh-config
infra lab ssh-config --name shop
infra lab status
infra lab status --name shop
infra lab down
infra lab down --name shop
infra lab demo
infra lab demo --install
infra docs database.max_lag
infra docs hosts.web1.ssh
infra schema events
infra schema inventory
infra schema plan
infra completions bash
infra completions zsh
infra man
infra man --to pages
";

/// The examples of a verb, by its words.
fn of(path: &str) -> Vec<&'static str> {
    let own = |line: &&str| line.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with(' '));
    LINES.lines().filter(own).collect()
}

/// The command line with the examples of each verb.
pub(super) fn onto(command: Command) -> Command {
    below(command, "infra")
}

fn below(mut command: Command, path: &str) -> Command {
    let names: Vec<String> = command.get_subcommands().map(|below| below.get_name().to_owned()).collect();
    for name in &names {
        command = command.mut_subcommand(name, |verb| below(verb, &format!("{path} {name}")));
    }
    let lines = of(path);
    if !names.is_empty() || lines.is_empty() {
        return command;
    }
    let text: Vec<String> = lines.iter().map(|line| format!("\n  {line}")).collect();
    command.after_help(format!("Examples:{}", text.concat()))
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory as _, Parser as _};

    use super::*;
    use crate::cli::args::Args;

    /// The words of every verb that has no verbs below it.
    fn verbs(command: &Command, path: &str, all: &mut Vec<String>) {
        if command.get_subcommands().next().is_none() {
            all.push(path.to_owned());
        }
        for verb in command.get_subcommands().filter(|verb| verb.get_name() != "help") {
            verbs(verb, &format!("{path} {}", verb.get_name()), all);
        }
    }

    #[test]
    fn every_verb_has_two_examples_and_all_of_them_read() {
        let mut all = Vec::new();
        verbs(&Args::command(), "infra", &mut all);
        assert!(all.len() > 20, "{all:?}");
        for verb in &all {
            assert!(of(verb).len() >= 2, "`{verb}` has too few examples");
        }
        for line in LINES.lines() {
            let words = shlex::split(line).unwrap();
            Args::try_parse_from(&words).unwrap_or_else(|e| panic!("{line}: {e}"));
            assert!(all.iter().any(|verb| of(verb).contains(&line)), "{line}");
        }
    }

    #[test]
    fn help_shows_them() {
        let mut command = onto(Args::command());
        let help = command.find_subcommand_mut("diff").unwrap().render_long_help().to_string();
        assert!(help.contains("Examples:\n  infra diff\n"), "{help}");
    }
}
