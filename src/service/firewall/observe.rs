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
    let (mut rivals, mut warnings, mut drops) = (Vec::new(), Vec::new(), Vec::new());
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
            "legacy" => {
                let tool = rest.strip_suffix("-save").unwrap_or(rest);
                rivals.push(format!(
                    "rules of the legacy iptables drop beside infra's: look with `{rest}`, then `{tool} -P INPUT ACCEPT`, `{tool} -P OUTPUT ACCEPT` and `{tool} -F`"
                ));
            }
            "drops" => drops.extend(rest.split_once(' ')),
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
    let ufw = ufw && (active("ufw") || !units.contains_key("ufw"));
    for unit in ["firewalld", "shorewall", "shorewall6", "foomuuri"] {
        if active(unit) {
            rivals.push(format!("{unit} is active and keeps rules of its own: `systemctl disable --now {unit}`"));
        }
    }
    if ufw {
        rivals.push("ufw is active and keeps rules of its own: `ufw disable`".into());
    }
    for (hook, table) in drops {
        let own = |owner, words: &[&str]| owner && words.contains(&table);
        if own(ufw, &["ip filter", "ip6 filter"]) || own(active("firewalld"), &["inet firewalld"]) {
            continue;
        }
        rivals.push(foreign(hook, table));
    }
    // Ours is loaded after it at boot, so only a restart by hand undoes ours. Stopping it flushes too, hence no `--now`.
    if flushes && enabled("nftables") {
        warnings.push(
            "nftables.service is enabled and /etc/nftables.conf has `flush ruleset`: a restart of it removes infra's rules \
             until the next boot or apply; `systemctl mask nftables` prevents it"
                .into(),
        );
    }
    if enabled("netfilter-persistent") {
        warnings.push(
            "netfilter-persistent is enabled and loads rules of its own at boot: `systemctl disable netfilter-persistent`, \
             unless another program needs them"
                .into(),
        );
    }
    answer.guest_forwarding |= active("docker");
    if let Some((_, enabled)) = units.get("infra-firewall") {
        answer.firewall.boot_current &= *enabled == "enabled";
    }
    answer.firewall.loaded = (!rules.is_empty()).then(|| Ruleset::from_text(&rules).ok()).flatten();
    answer.firewall.rivals = rivals;
    answer.firewall.warnings = warnings;
    answer
}

/// A base chain of someone else, before or behind ours, that ends in a drop.
fn foreign(hook: &str, table: &str) -> String {
    let (chain, tool) = (hook.to_uppercase(), if table == "ip6 filter" { "ip6tables" } else { "iptables" });
    let way = match table {
        "ip filter" | "ip6 filter" => format!("`{tool} -P {chain} ACCEPT`"),
        _ => format!("`nft delete table {table}`"),
    };
    format!(
        "the table `{table}` drops at the {hook} hook what no rule of its own accepts, whatever infra's accept: \
         take it out where it is loaded from, and {way}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_reads() {
        let answer = parse_observed(
            "rule backend iptables\nrule block 203.0.113.0/24\nrule in tcp 22 peers 10.0.0.0/24 uids - # manage_from -> all\n\
             intact\nboot\nunit ufw.service active enabled\nufw on\nunit docker.service active enabled\n\
             unit infra-firewall.service inactive enabled\ndrops input ip filter\ndrops input inet x\nlegacy iptables-legacy-save\n",
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
    fn each_rival_is_named_with_the_way_out() {
        let answer = parse_observed(
            "unit firewalld.service active enabled\ndrops input inet firewalld\ndrops output ip6 filter\ndrops input inet mine\n",
        );
        let rivals = answer.firewall.rivals;
        assert_eq!(rivals.len(), 3, "firewalld's own table is not told twice: {rivals:?}");
        assert!(rivals[0].ends_with("`systemctl disable --now firewalld`"), "{rivals:?}");
        assert!(rivals[1].ends_with("`ip6tables -P OUTPUT ACCEPT`"), "{rivals:?}");
        assert!(rivals[2].ends_with("`nft delete table inet mine`"), "{rivals:?}");
    }

    #[test]
    fn what_only_may_disturb_is_a_warning() {
        let answer = parse_observed("unit nftables.service active enabled\nflushes /etc/nftables.conf\n");
        assert_eq!((answer.firewall.rivals.len(), answer.firewall.warnings.len()), (0, 1));
        let masked = parse_observed("unit nftables.service active masked\nflushes /etc/nftables.conf\n");
        assert_eq!(masked, Answer::default());
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
