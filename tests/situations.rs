//! Situations that people of this trade have reported elsewhere, and which tests hold what infra promises in them. Each stands for a
//! kind; whoever meets another of the kind adds it to the test that is named here.
#![expect(clippy::unwrap_used, reason = "a test")]

use std::collections::BTreeSet;
use std::path::Path;

/// A number, the situation, and where it is held: a file, and a function of it.
type Situation = (u32, &'static str, &'static [(&'static str, &'static str)]);

const SITUATIONS: [Situation; 23] = [
    (
        1,
        "one end of a flow moves without the other, by a selection, an absence or a failure",
        &[
            ("tests/lab/move.rs", "one_host_moves_alone"),
            ("tests/lab/move.rs", "one_host_is_away"),
            ("tests/lab/move.rs", "one_host_after_another"),
            ("src/plan/laws/moves.rs", "no_close_before_every_user_has_moved"),
            ("src/plan/laws/moves.rs", "what_limited_runs_have_moved_they_close_too"),
        ],
    ),
    (
        2,
        "inner hosts are reached through a host that only the ssh configuration names",
        &[
            ("tests/lab/belonging.rs", "behind_a_host"),
            ("tests/firewall_flows.rs", "a_way_that_only_the_hosts_have_seen_is_open_on_both_ends"),
        ],
    ),
    (
        3,
        "a host forwards for others",
        &[
            ("tests/firewall_netns.rs", "a_gateway_lets_through_what_is_named_with_nftables"),
            ("tests/firewall_netns.rs", "a_gateway_lets_through_what_is_named_with_iptables"),
            ("tests/lab/firewall.rs", "forwarded"),
            ("src/fleet/proof/forwarded.rs", "only_an_answer_by_way_of_the_gateway_proves_it"),
        ],
    ),
    (
        4,
        "SSH comes through a tunnel that ends on the host",
        &[
            ("tests/firewall_netns.rs", "a_tunnel_that_no_flow_lets_in_confirms_nothing_with_nftables"),
            ("tests/firewall_netns.rs", "a_tunnel_that_no_flow_lets_in_confirms_nothing_with_iptables"),
        ],
    ),
    (
        5,
        "rules of others refuse what ours accept",
        &[
            ("tests/lab/firewall.rs", "rivals"),
            ("tests/lab/firewall.rs", "refused_beside"),
            ("tests/firewall_netns.rs", "rivals_are_named"),
        ],
    ),
    (
        6,
        "sshd gives no session for the step that loads rules",
        &[
            ("tests/sshd.rs", "a_server_that_takes_few_sessions_is_named"),
            ("tests/lab/firewall.rs", "few_sessions"),
            ("tests/firewall_netns.rs", "the_scripts_say_what_they_saw_with_nftables"),
        ],
    ),
    (7, "sshd is entered at another port than the inventory says", &[("tests/lab/belonging.rs", "another_door")]),
    (
        8,
        "apt is held by another process, or asks questions",
        &[("tests/dir/packages.rs", "who_holds_the_lock_is_waited_for_and_told_once"), ("tests/lab/trial.rs", "busy")],
    ),
    (9, "a host belongs to another infrastructure", &[("tests/lab/belonging.rs", "of_another")]),
    (
        10,
        "a folder of settings is a symbolic link",
        &[
            ("tests/lab/links.rs", "on_the_way"),
            ("tests/lab/database.rs", "linked"),
            ("tests/dir/links.rs", "a_folder_on_the_way_that_is_none_of_roots_own_is_refused_by_name"),
        ],
    ),
    (
        11,
        "a host says something in place of a shell",
        &[
            ("tests/sshd.rs", "what_a_host_says_instead_of_a_shell_is_told"),
            ("tests/sshd.rs", "what_a_host_says_before_a_login_is_told"),
            ("tests/sshd.rs", "what_a_server_says_in_place_of_a_greeting_is_told"),
        ],
    ),
    (
        12,
        "ssh has settings of its own: second factors, certificates, ways, time-outs",
        &[
            ("tests/sshd.rs", "a_key_that_does_not_suffice_is_followed_by_a_password"),
            ("tests/sshd.rs", "a_one_time_code_is_asked_for_after_the_key"),
            ("tests/sshd.rs", "a_certificate_beside_a_key_is_offered_first"),
            ("tests/sshd.rs", "the_way_of_a_connection_is_as_the_configuration_says"),
            ("tests/sshd.rs", "a_setting_that_does_not_hold_is_named"),
            ("tests/sshd.rs", "a_slow_login_is_named"),
        ],
    ),
    (
        13,
        "another release of Ubuntu; an advice that is followed; the unit of the firewall is emptied",
        &[
            ("tests/lab/releases.rs", "three_tiers_on_ubuntu"),
            ("src/host/seen.rs", "a_release_that_is_too_old_is_refused_with_the_reason"),
            ("tests/diagnostics.rs", "what_is_advised_is_taken"),
            ("tests/names.rs", "a_number_and_its_word_are_written_by_one_function"),
            ("tests/firewall_netns.rs", "a_drop_in_of_the_unit_is_drift"),
        ],
    ),
    (
        14,
        "the rules close what a host's own settings ask; protocols without ports",
        &[
            ("src/service/firewall/beside.rs", "what_the_settings_ask_and_the_rules_close_is_told"),
            ("tests/firewall_netns.rs", "protocols_without_ports_pass_where_a_flow_names_them_with_nftables"),
            ("tests/firewall_netns.rs", "protocols_without_ports_pass_where_a_flow_names_them_with_iptables"),
        ],
    ),
    (
        15,
        "the first firewall closes what runs there",
        &[
            ("src/service/firewall/exposure.rs", "what_is_closed_is_told_and_nothing_else"),
            ("src/service/firewall/exposure.rs", "an_advice_that_is_followed_keeps_it_open"),
            ("src/service/firewall/exposure.rs", "whatever_a_host_answers_its_advice_passes_the_check"),
        ],
    ),
    (
        16,
        "the distribution's Rust is older",
        &[
            ("tests/toolchain.rs", "no_dependency_needs_a_newer_rust_than_we_say"),
            ("tests/toolchain.rs", "who_builds_it_is_told_which_rust"),
            ("tests/campaign", "lowest_rust"),
        ],
    ),
    (17, "the lab runs in a chroot", &[("src/lab/mod.rs", "a_host_is_entered_by_its_own_root")]),
    (
        18,
        "the first words that everybody meets: unknown keys, wrong passwords, an order alone to do",
        &[
            ("tests/lab/belonging.rs", "keys_that_nobody_knows"),
            ("src/report/passwords.rs", "a_wrong_answer_is_asked_for_again_once_for_all_and_with_a_word"),
            ("src/report/plan.rs", "an_order_is_something_to_do"),
        ],
    ),
    (
        19,
        "warnings: each once, and silenced on purpose",
        &[
            ("tests/diagnostics.rs", "each_odd_inventory_has_its_exact_warnings"),
            ("tests/diagnostics.rs", "each_warning_can_be_silenced"),
        ],
    ),
    (
        20,
        "a port is taken, a program does not answer, a terminal is narrow, a link stands in a folder",
        &[
            ("tests/lab/apply.rs", "ports_are_taken"),
            ("src/fleet/readiness.rs", "answers_are_read_and_judged"),
            ("src/report/progress.rs", "no_line_is_wider_than_a_narrow_terminal"),
        ],
    ),
    (21, "a host leaves the inventory, and comes back", &[("tests/lab/belonging.rs", "one_that_left")]),
    (
        22,
        "what generators and careful writers write; secrets in a wrong shape or place",
        &[
            ("tests/diagnostics.rs", "each_bad_inventory_has_one_mistake_and_its_exact_message"),
            ("tests/diagnostics.rs", "good_inventories_have_nothing_said_about_them"),
            ("tests/diagnostics.rs", "no_message_shows_a_secret"),
            ("src/inventory/mask.rs", "secrets_are_hidden_in_whatever_form_they_stand"),
        ],
    ),
    (
        23,
        "merge keys and keys of one's own",
        &[
            ("src/inventory/parse.rs", "what_is_merged_stands_behind_what_is_written"),
            ("tests/diagnostics.rs", "what_is_advised_is_taken"),
        ],
    ),
];

#[test]
fn each_situation_is_held_by_tests_that_are_there() {
    let mut numbers = BTreeSet::new();
    for (number, situation, tests) in SITUATIONS {
        assert!(numbers.insert(number) && !tests.is_empty(), "{number}: {situation}");
        for (file, test) in tests {
            let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap();
            let is_there = [format!("fn {test}("), format!("{test}() {{")].iter().any(|words| text.contains(words));
            assert!(is_there, "{number}, {situation}: {file} has no `{test}`");
        }
    }
    assert_eq!(numbers, (1..=23).collect());
}
