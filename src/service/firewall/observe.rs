//! The firewall as it is: gives the part of the observing script that asks, and reads its answer.

use std::collections::BTreeMap;

use crate::inventory::site::Backend;
use crate::plan::ruleset::Ruleset;
use crate::plan::state::{Asks, Digest, Observed, ObservedFirewall, ObservedUnit, Shut};
use crate::service::inquiry::{Inquiry, Look};

use super::flows::APT_UID;
use super::script::{boot_files, live_command};
use super::{APT, GUEST_FORWARDING};

/// What the firewall asks of every host.
pub const INQUIRY: Inquiry = Inquiry {
    records: &[
        "var/lib/infra/firewall.rules",
        "var/lib/infra/firewall.live",
        "var/lib/infra/firewall.boot",
        "run/infra/firewall.armed",
    ],
    units: &[
        "firewalld.service",
        "ufw.service",
        "shorewall.service",
        "shorewall6.service",
        "foomuuri.service",
        "nftables.service",
        "netfilter-persistent.service",
        "docker.service",
        "infra-firewall.service",
    ],
    packages: &["docker.io"],
    digests: &[
        "/etc/infra/firewall.nft",
        "/etc/infra/firewall.v4",
        "/etc/infra/firewall.v6",
        "/etc/infra/firewall.sh",
        "/etc/systemd/system/infra-firewall.service",
    ],
    looks,
    script,
    read,
    ..Inquiry::NOTHING
};

fn script() -> String {
    include_str!("../../../templates/firewall/observe.sh").replace("LIVE_IPTABLES", live_command(Backend::Iptables))
}

/// What stands in files: our own records, and those of others, where a link of theirs to a file is read as their daemons read it.
fn looks() -> Vec<Look> {
    let look = |files: &str, tell: &str| Look { files: files.to_owned(), tell: tell.to_owned() };
    vec![
        look("var/lib/infra/firewall.rules", r#"tell("rule " $0)"#),
        look("var/lib/infra/firewall.live", r#"if (FNR == 1) tell("was live " $0)"#),
        look("var/lib/infra/firewall.boot", r#"tell("was boot " $0)"#),
        look("run/infra/firewall.armed", r#"if (FNR == 1) tell("armed")"#),
        // ufw's unit is active even where ufw is switched off.
        look("etc/ufw/ufw.conf", r#"if (/^[ \t]*ENABLED=yes/) tell("ufw on")"#),
        look("etc/nftables.conf", r#"if (/^[ \t]*flush ruleset/) tell("flushes /etc/nftables.conf")"#),
        // Who fetches packages has a number of its own where the user was made before it got a fixed one.
        look("etc/passwd", r#"if (/^_apt:/ && !apts++) { split($0, field, ":"); tell("apt " field[3]) }"#),
        // Who forwards: the switch of a family, or of one of its interfaces.
        look(
            "/proc/sys/net/ipv4/ip_forward /proc/sys/net/ipv6/conf/all/forwarding /proc/sys/net/ipv[46]/conf/*/forwarding",
            r#"if ($1 == 1 && FILENAME !~ /\/(default|lo)\// && !forwards++) { tell("forwards " substr(FILENAME, 11)) }"#,
        ),
        // Whom the host asks for names, packages and time, without what may be secret in an address.
        look(
            "run/systemd/resolve/resolv.conf etc/resolv.conf",
            r#"if (!resolver) resolver = FILENAME
if (FILENAME == resolver && $1 == "nameserver") { text = $2; sub(/%.*/, "", text); tell("asks udp 53 " text " its name server") }"#,
        ),
        look(
            "etc/apt/apt.conf etc/apt/apt.conf.d/*",
            r#"if (match($0, /^[^#\/]*[Pp]roxy[^"]*"[a-z]*:\/\//)) {
	text = substr($0, RSTART + RLENGTH)
	sub(/["\/].*/, "", text)
	sub(/.*@/, "", text)
	if (match(text, /:[0-9]+$/)) tell("asks tcp " substr(text, RSTART + 1) " " substr(text, 1, RSTART - 1) " the proxy of apt")
}"#,
        ),
        look(
            "etc/chrony/chrony.conf etc/chrony/conf.d/*.conf etc/chrony/sources.d/*.sources",
            r#"if (/^[ \t]*(server|pool|peer)[ \t]/) {
	port = 123
	for (i = 3; i < NF; i++) if ($i == "port") port = $(i + 1)
	tell("asks udp " port " " $2 " its time server")
	nts = 0; port = 4460
	for (i = 3; i <= NF; i++) { if ($i == "nts") nts = 1; if ($i == "ntsport") port = $(i + 1) }
	if (nts) tell("asks tcp " port " " $2 " its time server (NTS)")
}"#,
        ),
    ]
}

/// What is live of our own, as [`live_command`] prints it, in a listing of all that nft has. `None` where not all of it is there.
fn own_tables(ruleset: &str) -> Option<String> {
    let cut = |text: &str, begin: &str, end: &str| {
        let from = text.find(begin)? + begin.len();
        // The line end of the beginning may be that of the end too.
        let to = from - 1 + text.get(from - 1..)?.find(end)? + end.len();
        Some(format!("{}{}", begin.trim_start_matches('\n'), text.get(from..to)?))
    };
    let text = format!("\n{ruleset}\n");
    // Sets with elements are told by another listing.
    let all = text.split_once("\nall\n").map_or(text.clone(), |(_, all)| format!("\n{all}"));
    let table = cut(&all, "\ntable inet infra {\n", "\n}\n")?;
    let block = cut(&text, "\ntable inet infra_block {\n", "\n}\n")?;
    let chain = cut(&block, "\n\tchain pre {\n", "\n\t}\n")?;
    Some(format!("{table}table inet infra_block {{\n{chain}}}\n"))
}

/// A line that says nothing known is passed over, a record that does not read counts as none.
fn read(answer: &str, observed: &mut Observed) {
    let mut firewall = ObservedFirewall::default();
    let mut rules = String::new();
    let (mut ufw, mut flushes, mut guest) = (false, false, observed.packages.contains_key("docker.io"));
    let (mut rivals, mut warnings, mut drops) = (Vec::new(), Vec::new(), Vec::new());
    let (mut live, mut was_live, mut more, mut was_boot) = (None, None, Vec::new(), Vec::new());
    let mut digests = BTreeMap::new();
    let answer = format!("\n{answer}");
    let (answer, ruleset) = answer.split_once("\nruleset\n").unwrap_or((&answer, ""));
    for line in answer.lines() {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        match word {
            "rule" => {
                rules.push_str(rest.trim_end());
                rules.push('\n');
            }
            "live" => live = rest.split(' ').next().map(str::to_owned),
            "boot" => more.push(rest.to_owned()),
            "was" => match rest.split_once(' ') {
                Some(("live", digest)) => was_live = Some(digest.trim()),
                Some(("boot", text)) => was_boot.push(text.to_owned()),
                _ => {}
            },
            "sum" => digests.extend(rest.split_once(' ').map(|(digest, path)| (path, digest))),
            "armed" => firewall.pending = true,
            "guest" => guest = true,
            "apt" => observed.facts.features.extend(apt(rest)),
            "ufw" => ufw = true,
            "flushes" => flushes = true,
            "legacy" => {
                let tool = rest.strip_suffix("-save").unwrap_or(rest);
                rivals.push(format!(
                    "rules of the legacy iptables drop beside infra's: look with `{rest}`, then `{tool} -P INPUT ACCEPT`, `{tool} -P OUTPUT ACCEPT` and `{tool} -F`"
                ));
            }
            "drops" => drops.extend(rest.split_once(' ')),
            "shuts" => firewall.shut.extend(shut(rest)),
            "forwards" => firewall.forwards = Some(rest.to_owned()),
            "asks" => {
                let more = asks(rest).filter(|one| !firewall.asks.contains(one));
                firewall.asks.extend(more);
            }
            _ => {}
        }
    }
    let unit = |name: &str| observed.units.get(&format!("{name}.service"));
    let is = |name: &str, holds: fn(&ObservedUnit) -> bool| unit(name).is_some_and(holds);
    let active = |name: &str| is(name, |unit| unit.active == "active");
    let enabled = |name: &str| is(name, |unit| unit.enabled == "enabled");
    // Its unit is active even where it is switched off.
    let ufw = ufw && (active("ufw") || unit("ufw").is_none());
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
    guest |= active("docker");
    if let Some(backend) = rules.lines().find_map(|line| match line.strip_prefix("backend ")? {
        "nftables" => Some(Backend::Nftables),
        "iptables" => Some(Backend::Iptables),
        _ => None,
    }) {
        if backend == Backend::Nftables {
            live = own_tables(ruleset).map(|text| Digest::of(text.as_bytes()).to_string());
        }
        firewall.intact = was_live.is_some() && live.as_deref() == was_live;
        let now =
            boot_files(backend).iter().map(|file| Some(format!("{}  {file}", digests.get(&*format!("/etc/{file}"))?)));
        let now: Option<Vec<String>> = now.chain(more.into_iter().map(Some)).collect();
        firewall.boot_current = now.is_some_and(|now| now == was_boot);
    }
    firewall.boot_current &= unit("infra-firewall").is_none() || enabled("infra-firewall");
    firewall.loaded = (!rules.is_empty()).then(|| Ruleset::from_text(&rules).ok()).flatten();
    rivals.dedup();
    observed.firewall = ObservedFirewall { rivals, warnings, ..firewall };
    if guest {
        GUEST_FORWARDING.note(&mut observed.facts);
    }
}

/// The feature that says which number who fetches packages has, where that is another than everywhere.
fn apt(uid: &str) -> Option<String> {
    uid.parse::<u32>().ok().filter(|uid| *uid != APT_UID).map(|uid| format!("{APT}{uid}"))
}

/// `HOOK PROTO PORTS TABLE`: the ports of a rule, one or more with commas and ranges.
fn shut(words: &str) -> Vec<Shut> {
    let words: Vec<&str> = words.splitn(4, ' ').collect();
    let [hook, proto, numbers, table] = words[..] else { return Vec::new() };
    let Ok(proto) = proto.parse() else { return Vec::new() };
    let ranges = numbers.split(',').filter_map(|range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        Some((first.parse().ok()?, last.parse().ok()?))
    });
    ranges.map(|ports| Shut { hook: hook.to_owned(), table: table.to_owned(), proto, ports }).collect()
}

/// `PROTO PORT NAME WHAT`.
fn asks(words: &str) -> Option<Asks> {
    let mut parts = words.splitn(4, ' ');
    let (proto, port, of, what) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let of = of.trim_matches(['[', ']']).to_owned();
    Some(Asks { proto: proto.parse().ok()?, port: port.parse().ok()?, of, what: what.to_owned() })
}

/// A base chain of someone else, before or behind ours, that ends in a refusal.
fn foreign(hook: &str, table: &str) -> String {
    let (chain, tool) = (hook.to_uppercase(), if table == "ip6 filter" { "ip6tables" } else { "iptables" });
    let way = match table {
        "ip filter" | "ip6 filter" => {
            format!(
                "see it by `{tool} -S {chain}`, then `{tool} -P {chain} ACCEPT`, and `{tool} -D` with the rule that refuses"
            )
        }
        _ => format!("`nft delete table {table}`"),
    };
    format!(
        "the table `{table}` refuses at the {hook} hook all that its own rules do not accept, even where infra's rules accept it: \
         take it out where it is loaded from, and {way}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::platform;

    /// What an intact host says of iptables.
    fn intact() -> String {
        let mut answer = "rule backend iptables\nwas live aa\nlive aa  -\n".to_owned();
        for file in boot_files(Backend::Iptables) {
            answer.push_str(&format!("sum bb /etc/{file}\nwas boot bb  {file}\n"));
        }
        answer
    }

    /// What is read of `answer` where these units, `NAME ACTIVE ENABLED`, were told too.
    fn read_with(units: &[&str], answer: &str) -> Observed {
        let mut observed = Observed::bare(platform::oldest());
        for unit in units {
            let [name, active, enabled] = unit.split(' ').collect::<Vec<_>>()[..] else { panic!("{unit}") };
            let unit = ObservedUnit { active: active.into(), enabled: enabled.into(), load: "loaded".into() };
            observed.units.insert(format!("{name}.service"), unit);
        }
        read(answer, &mut observed);
        observed
    }

    fn rivals(units: &[&str], answer: &str) -> Vec<String> {
        read_with(units, answer).firewall.rivals
    }

    #[test]
    fn an_answer_reads() {
        let observed = read_with(
            &["ufw active enabled", "docker active enabled", "infra-firewall inactive enabled"],
            &(intact()
                + "rule block 203.0.113.0/24\nrule in tcp 22 peers 10.0.0.0/24 uids - # manage_from -> all\n\
             ufw on\ndrops input ip filter\ndrops input inet x\nlegacy iptables-legacy-save\n"),
        );
        let firewall = &observed.firewall;
        let loaded = firewall.loaded.as_ref().unwrap();
        assert_eq!((loaded.backend, loaded.rules.len(), loaded.block.len()), (Backend::Iptables, 1, 1));
        assert!(firewall.intact && firewall.boot_current && !firewall.pending);
        assert!(GUEST_FORWARDING.of(&observed.facts));
        assert_eq!(firewall.rivals.len(), 3, "{:?}", firewall.rivals);
        assert!(read_with(&[], "armed\n").firewall.pending);
    }

    #[test]
    fn who_fetches_packages_may_have_a_number_of_its_own() {
        for (answer, uid, noted) in [("", 42, 0), ("apt 42\n", 42, 0), ("apt 103\n", 103, 1), ("apt x\n", 42, 0)] {
            let facts = read_with(&[], answer).facts;
            assert_eq!((crate::service::firewall::apt_uid(&facts), facts.features.len()), (uid, noted), "{answer}");
        }
    }

    #[test]
    fn an_installed_ufw_that_is_off_is_no_rival() {
        let observed = read_with(&["ufw active enabled", "nftables inactive disabled"], "flushes x\n");
        assert_eq!(observed.firewall, ObservedFirewall::default());
    }

    #[test]
    fn each_rival_is_named_with_the_way_out() {
        let rivals = rivals(
            &["firewalld active enabled"],
            "drops input inet firewalld\ndrops output ip6 filter\ndrops input inet mine\n",
        );
        assert_eq!(rivals.len(), 3, "firewalld's own table is not told twice: {rivals:?}");
        assert!(rivals[0].ends_with("`systemctl disable --now firewalld`"), "{rivals:?}");
        assert!(rivals[1].contains("`ip6tables -P OUTPUT ACCEPT`"), "{rivals:?}");
        assert!(rivals[2].ends_with("`nft delete table inet mine`"), "{rivals:?}");
    }

    #[test]
    fn what_only_may_disturb_is_a_warning() {
        let answer = "flushes /etc/nftables.conf\n";
        let firewall = read_with(&["nftables active enabled"], answer).firewall;
        assert_eq!((firewall.rivals.len(), firewall.warnings.len()), (0, 1));
        assert_eq!(read_with(&["nftables active masked"], answer).firewall, ObservedFirewall::default());
    }

    #[test]
    fn a_unit_that_is_not_enabled_will_not_load_the_boot_file() {
        assert!(!read_with(&["infra-firewall inactive disabled"], &intact()).firewall.boot_current);
        assert!(read_with(&[], &intact()).firewall.boot_current);
    }

    #[test]
    fn what_was_changed_live_or_at_boot_is_seen() {
        for (from, to, live, boot) in [
            ("live aa  -", "live ab  -", false, true),
            ("was live aa\n", "", false, true),
            ("sum bb /etc/infra/firewall.v6\n", "", true, false),
            ("was boot bb  infra/firewall.sh\n", "", true, false),
            (
                "rule backend iptables\n",
                "rule backend iptables\nboot etc/systemd/system/infra-firewall.service.d/x.conf\n",
                true,
                false,
            ),
            ("rule backend iptables", "rule backend nftables", false, false),
        ] {
            let firewall = read_with(&[], &intact().replace(from, to)).firewall;
            assert_eq!((firewall.intact, firewall.boot_current), (live, boot), "{from}");
        }
    }

    #[test]
    fn our_own_tables_are_found_among_all_others() {
        let ours = "table inet infra {\n\tchain input {\n\t\taccept\n\t}\n}\n";
        let chain = "\tchain pre {\n\t\tiif \"lo\" accept\n\t}\n";
        let block = format!("table inet infra_block {{\n\tset banned4 {{\n\t\ttype ipv4_addr\n\t}}\n\n{chain}}}\n");
        let other = "table inet infrared {\n\tchain pre {\n\t\tdrop\n\t}\n}\n";
        let expected = format!("{ours}table inet infra_block {{\n{chain}}}\n");
        for text in [format!("{ours}{block}"), format!("{block}{other}{ours}"), format!("{other}{ours}{other}{block}")]
        {
            assert_eq!(own_tables(text.trim_end()).as_deref(), Some(&*expected), "{text}");
            let digest = Digest::of(expected.as_bytes());
            let answer = format!("rule backend nftables\nwas live {digest}\nruleset\n{text}");
            assert!(read_with(&[], &answer).firewall.intact);
            assert!(!read_with(&[], &answer.replace("accept", "drop")).firewall.intact);
        }
        assert_eq!(own_tables(&format!("{other}{ours}")), None);
        // Where a set of ours has elements, all of the table is told once more with them.
        let all = ours.replace("{\n\tchain", "{\n\tset a {\n\t\telements = { 1 }\n\t}\n\tchain");
        let expected = format!("{all}table inet infra_block {{\n{chain}}}\n");
        let text = format!("{}{block}all\n{all}", all.replace("\t\telements = { 1 }\n", ""));
        assert_eq!(own_tables(&text).as_deref(), Some(&*expected));
    }

    #[test]
    fn whatever_forwards_for_others_is_noted() {
        let guest = |observed: &Observed| GUEST_FORWARDING.of(&observed.facts);
        assert!(!guest(&read_with(&["docker inactive enabled"], "")));
        assert!(guest(&read_with(&[], "guest virbr0\n")));
        let mut observed = Observed::bare(platform::oldest());
        observed.packages.insert("docker.io".into(), "20.10".into());
        read("", &mut observed);
        assert!(guest(&observed));
    }

    #[test]
    fn a_record_that_does_not_read_is_none() {
        assert_eq!(read_with(&[], "rule backend nftables\nrule garbage\n").firewall.loaded, None);
        assert_eq!(read_with(&[], "\0\n\nunit\nunit a\ndrops\n"), Observed::bare(platform::oldest()));
    }
}
