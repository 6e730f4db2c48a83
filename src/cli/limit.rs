//! Which hosts are meant: takes the terms of `--limit`, gives the hosts of a site that they select.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use crate::base::diagnostic::{Diagnostic, did_you_mean};
use crate::base::net::{HostName, Invalid};
use crate::inventory::site::{Role, Site};

/// What one term means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Which {
    /// One host.
    Host(HostName),
    /// All hosts of a role.
    Role(Role),
    /// What the last run left undone.
    Failed,
}

/// A term of `--limit`: `web1`, `role:web`, `failed`, or one of them taken out (`!web1`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Term {
    /// Taken out, not in.
    pub not: bool,
    /// Of what.
    pub which: Which,
}

impl Term {
    /// Reads one term.
    ///
    /// # Errors
    /// What is wrong, as a whole sentence.
    pub fn read(text: &str) -> Result<Self, Invalid> {
        let text = text.trim();
        let (not, word) = text.strip_prefix('!').map_or((false, text), |rest| (true, rest));
        let which = match word.split_once(':') {
            Some(("role", word)) => Which::Role(role(word)?),
            Some((kind, _)) => {
                return Err(Invalid::new(format!("`{kind}:` is not a kind of selection")).help("write `role:ROLE`"));
            }
            None if word == "failed" => Which::Failed,
            None => Which::Host(word.parse().map_err(|e: Invalid| Invalid::new(format!("a host's name {e}")))?),
        };
        Ok(Self { not, which })
    }

    /// Whether the last run has to be known.
    pub fn asks_for_last_run(&self) -> bool {
        self.which == Which::Failed
    }
}

impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.not { "!" } else { "" })?;
        match &self.which {
            Which::Host(name) => name.fmt(f),
            Which::Role(role) => write!(f, "role:{role}"),
            Which::Failed => f.write_str("failed"),
        }
    }
}

impl FromStr for Term {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        Self::read(text).map_err(|invalid| match &invalid.help {
            Some(help) => format!("{invalid}; {help}"),
            None => invalid.to_string(),
        })
    }
}

/// A role by its word, with a suggestion where it is none.
fn role(text: &str) -> Result<Role, Invalid> {
    let words = Role::ALL.map(Role::as_str);
    Role::ALL.into_iter().find(|r| r.as_str() == text).ok_or_else(|| {
        let invalid = Invalid::new(format!("`{text}` is not a role; the roles are {}", words.join(", ")));
        match did_you_mean(text, words) {
            Some(help) => invalid.help(help),
            None => invalid,
        }
    })
}

/// The terms of a command line: the union of those that take in (all hosts where there is none), without those taken out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Limit(pub Vec<Term>);

impl Limit {
    /// The selected hosts. `last_failed` is what the last run left undone; empty where there was none or it left nothing.
    ///
    /// # Errors
    /// An unknown host, a term that matches nothing, or a selection that is empty in the end.
    pub fn select(&self, site: &Site, last_failed: &BTreeSet<HostName>) -> Result<BTreeSet<HostName>, Diagnostic> {
        let mut taken: BTreeSet<HostName> = BTreeSet::new();
        let mut left_out: BTreeSet<HostName> = BTreeSet::new();
        if self.0.iter().all(|term| term.not) {
            taken.extend(site.hosts.keys().cloned());
        }
        for term in &self.0 {
            let hosts = matched(&term.which, site, last_failed)?;
            if term.not { left_out.extend(hosts) } else { taken.extend(hosts) }
        }
        let selected: BTreeSet<HostName> = taken.difference(&left_out).cloned().collect();
        if selected.is_empty() {
            let words: Vec<String> = self.0.iter().map(ToString::to_string).collect();
            return Err(Diagnostic::error(format!("`--limit {}` selects no host", words.join(",")))
                .help("take fewer hosts out, or add more"));
        }
        Ok(selected)
    }
}

fn matched(which: &Which, site: &Site, last_failed: &BTreeSet<HostName>) -> Result<BTreeSet<HostName>, Diagnostic> {
    match which {
        Which::Host(name) if site.hosts.contains_key(name) => Ok(BTreeSet::from([name.clone()])),
        Which::Host(name) => {
            let error =
                Diagnostic::error(format!("`--limit` names the host `{name}`, which `{}` does not have", site.name));
            let known = || site.hosts.keys().map(HostName::as_str);
            let is_role = Role::ALL.iter().any(|r| r.as_str() == name.as_str());
            Err(if is_role {
                error.help(format!("write `role:{name}` for all hosts of that role"))
            } else if let Some(near) = did_you_mean(name.as_str(), known()) {
                error.help(near)
            } else {
                let some: Vec<&str> = known().take(8).collect();
                let rest = if site.hosts.len() > some.len() { ", …" } else { "" };
                error.help(format!("the hosts are {}{rest}", some.join(", ")))
            })
        }
        Which::Role(role) => {
            let hosts: BTreeSet<HostName> = site.with_role(*role).map(|h| h.name.clone()).collect();
            if !hosts.is_empty() {
                return Ok(hosts);
            }
            let roles: BTreeSet<Role> = site.hosts.values().flat_map(|h| h.roles.iter().copied()).collect();
            let roles: Vec<&str> = roles.into_iter().map(Role::as_str).collect();
            Err(Diagnostic::error(format!("`--limit role:{role}` matches no host of `{}`", site.name))
                .help(format!("its hosts have the roles {}", roles.join(", "))))
        }
        Which::Failed => {
            let hosts: BTreeSet<HostName> =
                last_failed.iter().filter(|h| site.hosts.contains_key(*h)).cloned().collect();
            if hosts.is_empty() {
                return Err(Diagnostic::error("`--limit failed` matches no host: the last run left nothing undone")
                    .help("leave `--limit` out to work on all hosts"));
            }
            Ok(hosts)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;

    fn select(terms: &[&str], failed: &[&str]) -> Result<Vec<String>, Diagnostic> {
        let limit = Limit(terms.iter().map(|t| Term::read(t).unwrap()).collect());
        let failed = failed.iter().map(|h| h.parse().unwrap()).collect();
        let hosts = limit.select(&sample::site(&[("lb", 2), ("web", 2), ("app", 1)]), &failed)?;
        Ok(hosts.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn terms_take_in_and_out() {
        assert_eq!(select(&[], &[]).unwrap().len(), 5);
        assert_eq!(select(&["web1", "role:lb"], &[]).unwrap(), ["lb1", "lb2", "web1"]);
        assert_eq!(select(&["!role:lb", "!web2"], &[]).unwrap(), ["app1", "web1"]);
        assert_eq!(select(&["role:lb", "!lb2"], &[]).unwrap(), ["lb1"]);
        assert_eq!(select(&["failed"], &["web2", "gone"]).unwrap(), ["web2"]);
        assert_eq!(select(&["!failed", "role:web"], &["web2"]).unwrap(), ["web1"]);
    }

    #[test]
    fn a_selection_of_nothing_is_an_error_with_a_way_out() {
        let error = |terms: &[&str]| {
            let error = select(terms, &[]).unwrap_err();
            format!("{}; {}", error.message, error.help.join("; "))
        };
        assert_eq!(
            error(&["wbe1"]),
            "`--limit` names the host `wbe1`, which `shop` does not have; did you mean `web1`?"
        );
        assert_eq!(
            error(&["web"]),
            "`--limit` names the host `web`, which `shop` does not have; write `role:web` for all hosts of that role"
        );
        assert_eq!(
            error(&["x"]),
            "`--limit` names the host `x`, which `shop` does not have; the hosts are app1, lb1, lb2, web1, web2"
        );
        assert_eq!(
            error(&["role:db"]),
            "`--limit role:db` matches no host of `shop`; its hosts have the roles lb, web, app"
        );
        assert!(error(&["failed"]).starts_with("`--limit failed` matches no host"));
        assert!(error(&["web1", "!role:web"]).starts_with("`--limit web1,!role:web` selects no host"));
    }

    #[test]
    fn terms_that_do_not_read() {
        assert_eq!(
            "role:webs".parse::<Term>().unwrap_err(),
            "`webs` is not a role; the roles are lb, web, app, db, monitor; did you mean `web`?"
        );
        assert!("site:x".parse::<Term>().unwrap_err().starts_with("`site:` is not a kind"));
        assert!("".parse::<Term>().is_err());
    }
}
