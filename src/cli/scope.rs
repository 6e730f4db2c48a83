//! Which verbs are about hosts that a person chooses: takes a verb, refuses `--limit` with one that would not heed it.

use super::args::Verb;
use super::cert::Cert;
use super::firewall::Firewall;
use super::global::Global;
use super::stop::Stop;

/// Refuses `--limit` where the verb is about other hosts than those, or about none.
pub(super) fn admit(verb: &Verb, global: &Global) -> Result<(), Stop> {
    match whole(verb) {
        Some((name, why)) if !global.limit.is_empty() => {
            Err(Stop::Refused(format!("`--limit` cannot be given with `{name}`: {why}"), Vec::new()))
        }
        _ => Ok(()),
    }
}

/// Its name, and why it is not about chosen hosts; nothing where it is.
fn whole(verb: &Verb) -> Option<(&'static str, &'static str)> {
    const NAMED: &str = "it is about the host that it names";
    const NONE: &str = "it is about no host";
    Some(match verb {
        Verb::Render(_)
        | Verb::Diff(_)
        | Verb::Drift(_)
        | Verb::Apply(_)
        | Verb::Status(_)
        | Verb::Exec(_)
        | Verb::Rollback(_)
        | Verb::History(_)
        | Verb::Cert(Cert::Status(_))
        | Verb::Firewall(Firewall::Verify(_)) => return None,
        Verb::Trust(trust) if trust.all => return None,
        Verb::Trust(_) => ("trust", "it is about the host that it names; `trust --all` takes it"),
        Verb::Check(_) => ("check", "an inventory is checked as a whole"),
        Verb::Cert(Cert::Renew(_)) => ("cert renew", "all load balancers get what is renewed"),
        Verb::Cert(Cert::Revoke(_)) => ("cert revoke", "all load balancers get another certificate"),
        Verb::Cert(Cert::Records(_)) => ("cert records", NONE),
        Verb::Db(_) => ("db", "the hosts of the database are looked at together"),
        Verb::Firewall(Firewall::Matrix(_)) => {
            ("firewall matrix", "it is about all hosts; `firewall explain FROM TO PORT` tells of two")
        }
        Verb::Firewall(Firewall::Explain(_)) => ("firewall explain", "it is about the two ends that it names"),
        Verb::Accept(_) => ("accept", NAMED),
        Verb::Explain(_) => ("explain", NAMED),
        Verb::Drain(_) => ("drain", NAMED),
        Verb::Undrain(_) => ("undrain", NAMED),
        Verb::Ssh(_) => ("ssh", NAMED),
        Verb::Retire(_) => ("retire", "a host leaves all others"),
        Verb::Destroy(_) => ("destroy", "the whole infrastructure goes"),
        Verb::Lab(_) => ("lab", "a lab has all hosts of its inventory"),
        Verb::Alerts(_) => ("alerts", "alerts are for all hosts"),
        Verb::Init(_) => ("init", "it writes an inventory, and goes to no host"),
        Verb::Docs(_) => ("docs", NONE),
        Verb::Schema(_) => ("schema", NONE),
        Verb::Completions(_) => ("completions", NONE),
        Verb::Man(_) => ("man", NONE),
    })
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::args::Args;

    #[test]
    fn a_limit_holds_or_is_refused() {
        let takes = |line: &str| {
            let args = Args::try_parse_from(format!("infra {line} --limit web1").split_whitespace());
            let args = args.unwrap_or_else(|error| panic!("{line}: {error}"));
            admit(&args.verb, &args.global).is_ok()
        };
        for line in
            ["apply", "diff", "drift", "status", "render --to x", "rollback", "history", "trust --all", "cert status"]
        {
            assert!(takes(line), "{line}");
        }
        for line in [
            "drain web1",
            "undrain web1",
            "ssh web1",
            "explain web1",
            "accept web1 x",
            "init",
            "trust web1",
            "check",
            "db status",
            "docs",
            "destroy",
        ] {
            assert!(!takes(line), "{line}");
        }
    }
}
