//! The firewall as it is: gives the part of the probe script that asks, and reads its answer.

use std::collections::BTreeMap;

use crate::inventory::site::Backend;
use crate::plan::ruleset::Ruleset;
use crate::plan::state::ObservedFirewall;

use super::script::{boot_digests, live_command};

const OBSERVE: &str = include_str!("../../../templates/firewall/observe.sh");

/// What a host answered about its firewall.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Answer {
    /// For the plan.
    pub firewall: ObservedFirewall,
    /// Something else forwards packets here (Docker and its kind).
    pub guest_forwarding: bool,
    /// The run folder of an armed change that nobody confirmed yet.
    pub armed: Option<String>,
}

/// Units that the fragment wants to know of. Who asks systemd anyway does so for these too, and leaves the answer in `fw_units`.
pub const UNITS: [&str; 9] = [
    "firewalld.service",
    "ufw.service",
    "shorewall.service",
    "shorewall6.service",
    "foomuuri.service",
    "nftables.service",
    "netfilter-persistent.service",
    "docker.service",
    "infra-firewall.service",
];

/// Lines of sh for the probe script: read-only, some eight forks, all variables begin with `fw_`, no exit. It needs `ROOT`
/// to be set. Its stdout is what [`parse_observed`] takes.
pub fn observe_fragment() -> String {
    OBSERVE
        .replace("FW_UNITS", &UNITS.join(" "))
        .replace("LIVE_NFTABLES", live_command(Backend::Nftables))
        .replace("LIVE_IPTABLES", live_command(Backend::Iptables))
        .replace("BOOT_NFTABLES", boot_digests(Backend::Nftables))
        .replace("BOOT_IPTABLES", boot_digests(Backend::Iptables))
}

/// Reads the answer of [`observe_fragment`]. Total: a line that says nothing known is passed over, a record that does
/// not read counts as none.
pub fn parse_observed(text: &str) -> Answer {
    let mut answer = Answer::default();
    let mut rules = String::new();
    let mut units: BTreeMap<&str, (&str, &str)> = BTreeMap::new();
    let (mut ufw, mut flushes) = (false, false);
    let mut rivals = Vec::new();
    for line in text.lines() {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        match word {
            "rule" => {
                rules.push_str(rest.trim_end());
                rules.push('\n');
            }
            "intact" => answer.firewall.intact = true,
            "boot" => answer.firewall.boot_current = true,
            "armed" => answer.armed = Some(rest.to_owned()),
            "guest" => answer.guest_forwarding = true,
            "ufw" => ufw = true,
            "flushes" => flushes = true,
            "legacy" => rivals.push(format!("rules of the legacy iptables are loaded (`{rest}` shows them)")),
            "drops" => {
                if let Some((hook, table)) = rest.split_once(' ') {
                    rivals
                        .push(format!("the table `{table}` drops at the {hook} hook what no rule of its own accepts"));
                }
            }
            "unit" => {
                if let [id, active, enabled] = rest.split(' ').collect::<Vec<_>>()[..] {
                    units.insert(id.strip_suffix(".service").unwrap_or(id), (active, enabled));
                }
            }
            _ => {}
        }
    }
    let active = |unit: &str| units.get(unit).is_some_and(|(active, _)| *active == "active");
    let enabled = |unit: &str| units.get(unit).is_some_and(|(_, enabled)| *enabled == "enabled");
    for unit in ["firewalld", "shorewall", "shorewall6", "foomuuri"] {
        if active(unit) {
            rivals.push(format!("{unit} is active"));
        }
    }
    if ufw && (active("ufw") || !units.contains_key("ufw")) {
        rivals.push("ufw is active".into());
    }
    if flushes && (active("nftables") || enabled("nftables")) {
        rivals.push(
            "nftables.service is enabled and /etc/nftables.conf begins with `flush ruleset`: its restart removes all rules".into(),
        );
    }
    if active("netfilter-persistent") || enabled("netfilter-persistent") {
        rivals.push("netfilter-persistent is enabled and may load other rules at boot".into());
    }
    answer.guest_forwarding |= active("docker");
    if let Some((_, enabled)) = units.get("infra-firewall") {
        answer.firewall.boot_current &= *enabled == "enabled";
    }
    answer.firewall.loaded = (!rules.is_empty()).then(|| Ruleset::from_text(&rules).ok()).flatten();
    answer.firewall.rivals = rivals;
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_reads() {
        let answer = parse_observed(
            "rule backend iptables\nrule block 203.0.113.0/24\nrule in tcp 22 peers 10.0.0.0/24 uids - # manage_from -> all\n\
             intact\nboot\nunit ufw.service active enabled\nufw on\nunit docker.service active enabled\n\
             unit infra-firewall.service inactive enabled\ndrops input ip filter\nlegacy iptables-legacy-save\n",
        );
        let loaded = answer.firewall.loaded.unwrap();
        assert_eq!((loaded.backend, loaded.rules.len(), loaded.block.len()), (Backend::Iptables, 1, 1));
        assert!(answer.firewall.intact && answer.firewall.boot_current && answer.guest_forwarding);
        assert_eq!(answer.firewall.rivals.len(), 3, "{:?}", answer.firewall.rivals);
    }

    #[test]
    fn an_installed_ufw_that_is_off_is_no_rival() {
        let answer =
            parse_observed("unit ufw.service active enabled\nunit nftables.service inactive disabled\nflushes x\n");
        assert_eq!(answer, Answer::default());
    }

    #[test]
    fn a_unit_that_is_not_enabled_will_not_load_the_boot_file() {
        assert!(!parse_observed("boot\nunit infra-firewall.service inactive disabled\n").firewall.boot_current);
        assert!(parse_observed("boot\n").firewall.boot_current);
    }

    #[test]
    fn a_record_that_does_not_read_is_none() {
        assert_eq!(parse_observed("rule backend nftables\nrule garbage\n").firewall.loaded, None);
        assert_eq!(parse_observed("\0\n\nunit\nunit a\ndrops\n"), Answer::default());
    }
}
