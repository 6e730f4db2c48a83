use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::inventory::load::load_text;

/// Any number of hosts of each role, with addresses of one kind or of both.
fn drafts() -> impl Strategy<Value = Draft> {
    let name = "[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?";
    let counts = (1..4_usize, 1..4_usize, 0..3_usize, 0..3_usize, any::<bool>(), 0..3_u8);
    let words = (
        "[ -~]{1,20}",
        proptest::option::of("[a-z_][a-z0-9_-]{0,10}"),
        proptest::option::of(1..u16::MAX),
        any::<bool>(),
        proptest::option::of("~/[a-z/_]{1,10}"),
    );
    let site = ("[a-z]([a-z0-9-]{0,10}[a-z0-9])?\\.(example\\.com|de)", any::<bool>(), 1024..60000_u16);
    (name, counts, words, site).prop_map(|(name, (lb, web, app, db, alone, family), words, site)| {
        let name: HostName = name.parse().unwrap();
        let (reason, user, port, one_user, identity) = words;
        let mut taken = BTreeSet::new();
        let mut hosts = Vec::new();
        let roles = [(Role::Lb, lb), (Role::Web, web), (Role::App, app), (Role::Db, db)];
        for (role, count) in roles {
            for number in 0..if alone { count.min(1) } else { count } {
                let (role_number, number) = (role as u16 + 1, u16::try_from(number).unwrap() + 1);
                let v4 = IpAddr::from([10, 0, role_number.to_le_bytes()[0], number.to_le_bytes()[0]]);
                let v6 = IpAddr::from([0xfd00, 0, 0, 0, 0, 0, role_number, number]);
                let given = format!("{role}_{number}.example.com");
                let called = host_name(&given, role, &name, &taken).unwrap();
                taken.insert(called.clone());
                let login = Login {
                    user: user.clone().filter(|_| one_user || number == 1),
                    port: port.map(|port| port.to_string().parse().unwrap()),
                    identity: identity.clone(),
                    ..Login::default()
                };
                let addresses = match family {
                    0 => vec![v4],
                    1 => vec![v6],
                    _ => vec![v4, v6],
                };
                hosts.push(DraftHost { name: called, addresses, roles: [role].into(), reason: None, login });
            }
        }
        if alone {
            // One machine for everything.
            let roles = hosts.iter().flat_map(|host| host.roles.clone()).collect();
            hosts.truncate(1);
            hosts[0].roles = roles;
            hosts[0].reason = Some(format!("because {reason}"));
        }
        let (domain, public, app_port) = site;
        Draft {
            name,
            hosts,
            domain: domain.parse().unwrap(),
            app_port: app_port.to_string().parse().unwrap(),
            ssh_config: None,
            health: "/".to_owned(),
            manage_from: vec!["198.51.100.0/24".parse().unwrap(), "fd00:9::/64".parse().unwrap()],
            issuer: if public { "letsencrypt" } else { "internal" }.to_owned(),
            contact: public.then(|| "ops@example.com".to_owned()),
            engine: Engine::Mariadb,
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Ports that two programs of one host would both take are a matter of the answers, so they are told, not written.
    #[test]
    fn what_is_written_passes_the_check(draft in drafts()) {
        let text = draft.text();
        match load_text(&text, Path::new("inventory.yml")) {
            Ok((site, _)) => {
                prop_assert_eq!(site.hosts.len(), draft.hosts.len());
                for host in &draft.hosts {
                    let read = &site.hosts[&host.name];
                    prop_assert_eq!(&read.roles, &host.roles);
                    prop_assert_eq!(&read.addresses, &host.addresses);
                    prop_assert_eq!(&read.ssh.user, &host.login.user, "{}", text);
                    prop_assert_eq!(read.ssh.port, host.login.port);
                    prop_assert_eq!(&read.allow_mixed_roles, &host.reason);
                }
            }
            Err(errors) => {
                let ports = |d: &crate::base::diagnostic::Diagnostic| d.message.contains("port");
                prop_assert!(errors.iter().filter(|d| d.is_error()).all(ports), "{}\n{:?}", text, errors);
            }
        }
    }

    #[test]
    fn a_text_is_read_back_as_it_was(reason in "\\PC{1,40}") {
        let text = format!("name: shop\nx-a: {{ b: {} }}\n", scalar(&reason));
        let value: serde_json::Value = serde_yaml::from_str(&text).unwrap();
        prop_assert_eq!(value["x-a"]["b"].as_str(), Some(reason.as_str()), "{}", text);
    }
}

#[test]
fn hosts_are_called_by_their_first_label_and_never_alike() {
    let site: HostName = "shop".parse().unwrap();
    let mut taken = BTreeSet::new();
    let long = "x".repeat(80);
    for (given, name) in [
        ("web1.example.com", "web1"),
        ("web1.example.net", "web1-example-net"),
        ("web1.example.net", "web1-example-net1"),
        ("Web_Two", "web-two"),
        ("10.0.0.9", "web1-1"),
        ("web", "web2"),
        ("-", "web3"),
        (long.as_str(), ""),
    ] {
        let found = host_name(given, Role::Web, &site, &taken).unwrap();
        assert!(found.as_str().len() + "shop..infra.internal".len() <= 64, "{found}");
        if !name.is_empty() && given != "10.0.0.9" && given != "web" && given != "-" {
            assert_eq!(found.as_str(), name, "{given}");
        }
        assert!(taken.insert(found), "{given}");
    }
}
