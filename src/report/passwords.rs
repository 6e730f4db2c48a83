//! Passwords for many hosts: takes who asks, gives what a person typed, asked once for all hosts that were named with the question.
//! What was typed for some hosts is never sent to another.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::text::names;
use crate::base::net::HostName;
use crate::base::secret::Secret;
use crate::host::ssh::{Ask, Prompt};

/// Puts a question and gives the answer, where there is one.
pub type Question = dyn Fn(&str) -> Option<Secret> + Send + Sync;

/// Who is asked, for which hosts.
pub struct Passwords {
    /// The hosts that the verb goes to and that need sudo, in order, each with its user where the inventory names one.
    hosts: Vec<(HostName, Option<String>)>,
    ask: Box<Question>,
    /// Whose sudo refused a password, by user and host, while they wait for another one.
    refused: Mutex<BTreeSet<(String, String)>>,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    passphrases: BTreeMap<PathBuf, Secret>,
    given: Vec<Given>,
    /// Which of them a user's sudo on a host had last.
    had: BTreeMap<(String, String), usize>,
}

/// An answer, or that there was none, and the hosts that were named with its question.
struct Given {
    user: String,
    hosts: BTreeSet<String>,
    secret: Option<Secret>,
}

impl fmt::Debug for Passwords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Passwords").field("hosts", &self.hosts).finish_non_exhaustive()
    }
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

fn copy(secret: &Secret) -> Secret {
    Secret::new(secret.name(), secret.reveal())
}

impl Passwords {
    /// Takes the hosts that the verb goes to and that need sudo, in the order in which they shall be named, each with its user
    /// where the inventory says so; and who puts questions.
    pub fn new(hosts: Vec<(HostName, Option<String>)>, ask: Box<Question>) -> Self {
        Self { hosts, ask, refused: Mutex::default(), known: Mutex::default() }
    }

    /// All hosts on which `user` may be asked for a password, `host` among them.
    fn group(&self, user: &str, host: &str) -> BTreeSet<String> {
        let of_user = self.hosts.iter().filter(|(_, theirs)| theirs.as_deref().is_none_or(|theirs| theirs == user));
        of_user.map(|(name, _)| name.to_string()).chain([host.to_owned()]).collect()
    }

    fn sudo(&self, user: &str, host: &str, again: bool) -> Option<Secret> {
        let who = (user.to_owned(), host.to_owned());
        if again {
            // Before the lock: who asks meanwhile is named with the question.
            lock(&self.refused).insert(who.clone());
        }
        let mut known = lock(&self.known);
        let newest = known.given.iter().rposition(|given| given.user == user && given.hosts.contains(host));
        let had = known.had.get(&who).copied();
        let at = match newest {
            Some(at) if !again || had.is_some_and(|had| at > had) => at,
            _ => {
                let hosts = if again { self.waiting(user) } else { self.group(user, host) };
                let secret = (self.ask)(&self.question(user, &hosts, again));
                let secret = secret.map(|typed| Secret::new(format!("sudo/{user}"), typed.reveal()));
                known.given.push(Given { user: user.to_owned(), hosts, secret });
                known.given.len() - 1
            }
        };
        lock(&self.refused).remove(&who);
        known.had.insert(who, at);
        known.given.get(at).and_then(|given| given.secret.as_ref()).map(copy)
    }

    /// The hosts that refused what they had.
    fn waiting(&self, user: &str) -> BTreeSet<String> {
        lock(&self.refused).iter().filter(|(theirs, _)| theirs == user).map(|(_, host)| host.clone()).collect()
    }

    fn question(&self, user: &str, hosts: &BTreeSet<String>, again: bool) -> String {
        let mut named: Vec<HostName> = hosts.iter().filter_map(|host| host.parse().ok()).collect();
        named.sort_by_key(|name| self.hosts.iter().position(|(known, _)| known == name));
        let list = names(&named.iter().collect::<Vec<_>>());
        let first = if again { "sudo refuses it; " } else { "" };
        let all = if hosts.len() > 1 { " (one for all; it is sent to those of them that ask)" } else { "" };
        format!("{first}sudo password of {user} on {list}{all}: ")
    }
}

impl Prompt for Passwords {
    fn answer(&self, ask: &Ask<'_>) -> Option<Secret> {
        match ask {
            Ask::Sudo { user, host, again } => self.sudo(user, host, *again),
            Ask::Passphrase { file, again } => {
                let mut known = lock(&self.known);
                if let Some(secret) = known.passphrases.get(*file).filter(|_| !again) {
                    return Some(copy(secret));
                }
                let typed = (self.ask)(&format!("passphrase of {}: ", file.display()))?;
                known.passphrases.insert(file.to_path_buf(), copy(&typed));
                Some(typed)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    /// Passwords for hosts, some with a user of their own; answers are given in turn, questions are kept.
    fn asked(hosts: &[(&str, Option<&str>)], answers: &[&'static str]) -> (Passwords, Arc<Mutex<Vec<String>>>) {
        let hosts = hosts.iter().map(|(name, user)| (name.parse().unwrap(), user.map(ToOwned::to_owned))).collect();
        let answers = Mutex::new(answers.iter().rev().copied().collect::<Vec<_>>());
        let questions = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&questions);
        let ask = move |question: &str| {
            lock(&kept).push(question.to_owned());
            lock(&answers).pop().filter(|a| !a.is_empty()).map(|a| Secret::new("typed", a))
        };
        (Passwords::new(hosts, Box::new(ask)), questions)
    }

    fn sudo(passwords: &Passwords, user: &str, host: &str, again: bool) -> Option<String> {
        passwords.answer(&Ask::Sudo { user, host, again }).map(|s| s.reveal().to_owned())
    }

    #[test]
    fn what_was_typed_goes_to_the_hosts_that_were_named() {
        let hosts = [("lb1", Some("ops")), ("web1", None), ("web2", None), ("db1", Some("dba"))];
        let (passwords, questions) = asked(&hosts, &["one", "two", "three"]);
        for host in ["web1", "lb1", "web2"] {
            assert_eq!(sudo(&passwords, "ops", host, false).as_deref(), Some("one"), "{host}");
        }
        // Another user's host, and one that the verb was not known to go to, are asked for by themselves.
        assert_eq!(sudo(&passwords, "dba", "db1", false).as_deref(), Some("two"));
        assert_eq!(sudo(&passwords, "ops", "stranger", false).as_deref(), Some("three"));
        assert_eq!(sudo(&passwords, "ops", "stranger", false).as_deref(), Some("three"));
        let questions = lock(&questions);
        let all = " (one for all; it is sent to those of them that ask): ";
        assert_eq!(questions[0], format!("sudo password of ops on lb1, web1, web2{all}"));
        for (question, host) in questions.iter().zip(["lb1", "db1", "stranger"]) {
            assert!(question.contains(host), "{question}");
        }
        assert_eq!(questions.len(), 3);
    }

    #[test]
    fn a_second_answer_is_for_those_that_refused_the_first() {
        let (passwords, questions) = asked(&[("a", None), ("b", None), ("c", None)], &["typo", "right", "other"]);
        for host in ["a", "b", "c"] {
            assert_eq!(sudo(&passwords, "ops", host, false).as_deref(), Some("typo"));
        }
        // Two have refused before anyone could answer.
        lock(&passwords.refused).insert(("ops".into(), "b".into()));
        assert_eq!(sudo(&passwords, "ops", "a", true).as_deref(), Some("right"));
        assert_eq!(sudo(&passwords, "ops", "b", true).as_deref(), Some("right"));
        // The third was not named with that answer.
        assert_eq!(sudo(&passwords, "ops", "c", true).as_deref(), Some("other"));
        assert_eq!(sudo(&passwords, "ops", "a", false).as_deref(), Some("right"));
        let questions = lock(&questions);
        assert!(questions[1].starts_with("sudo refuses it; sudo password of ops on a, b ("), "{questions:?}");
        assert_eq!(questions[2], "sudo refuses it; sudo password of ops on c: ");
    }

    #[test]
    fn no_answer_is_an_answer_for_all_that_were_named() {
        let (passwords, questions) = asked(&[("a", None), ("b", None)], &[""]);
        assert_eq!(sudo(&passwords, "ops", "a", false), None);
        assert_eq!(sudo(&passwords, "ops", "b", false), None);
        assert_eq!(lock(&questions).len(), 1);
    }
}
