//! Passwords for many hosts: takes who asks, gives what a person typed, asked once for all hosts that were named with the question.
//! What was typed for some hosts is never sent to another.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use super::text::names;
use crate::base::net::HostName;
use crate::base::secret::Secret;
use crate::host::ssh::{Ask, Prompt};

/// Most answers for one subject and host.
const ANSWERS: usize = 3;

/// Puts a question and gives the answer, where there is one.
pub type Question = dyn Fn(&str) -> Option<Secret> + Send + Sync;

/// A host that the verb goes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Which.
    pub host: HostName,
    /// Who logs in, where the inventory names one.
    pub user: Option<String>,
    /// Whether sudo is needed there.
    pub sudo: bool,
}

/// Who is asked, for which hosts.
pub struct Passwords {
    /// In the order in which they shall be named.
    hosts: Vec<Member>,
    ask: Box<Question>,
    known: Mutex<Known>,
}

/// What a person is asked for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Subject {
    /// The passphrase of a key, which is sent to nobody.
    Key(PathBuf),
    /// A user's password for a login.
    Login(String),
    /// A user's password for sudo.
    Sudo(String),
}

/// What was typed so far.
#[derive(Default)]
struct Known {
    given: Vec<Given>,
    /// Which of them a host had last.
    had: BTreeMap<(Subject, String), usize>,
}

/// An answer, or that there was none, and the hosts that were named with its question.
struct Given {
    subject: Subject,
    hosts: BTreeSet<String>,
    secret: Option<Secret>,
}

impl fmt::Debug for Passwords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Passwords").field("hosts", &self.hosts).finish_non_exhaustive()
    }
}

impl Passwords {
    /// Takes the hosts that the verb goes to, in the order in which they shall be named, and who puts questions.
    pub fn new(hosts: Vec<Member>, ask: Box<Question>) -> Self {
        Self { hosts, ask, known: Mutex::default() }
    }

    /// The answer for `host`. One that a host has refused is asked for again once, for all hosts that were named with it: who had
    /// the same takes the new one.
    fn about(&self, subject: Subject, host: &str, again: bool) -> Option<Secret> {
        let who = (subject.clone(), host.to_owned());
        // Who comes while a person is asked waits for the answer.
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let is_for = |given: &Given| given.subject == subject && given.hosts.contains(host);
        let newest = known.given.iter().rposition(is_for);
        let had = known.had.get(&who).copied();
        let at = match newest {
            Some(at) if !again || had.is_some_and(|had| at > had) => at,
            _ if known.given.iter().filter(|given| is_for(given)).count() >= ANSWERS => return None,
            _ => {
                let hosts = newest.and_then(|at| known.given.get(at)).map(|given| given.hosts.clone());
                let hosts = hosts.unwrap_or_else(|| self.group(&subject, host));
                let secret = (self.ask)(&self.question(&subject, &hosts, again.then_some(host)));
                let name = match &subject {
                    Subject::Key(_) => "a passphrase".to_owned(),
                    Subject::Login(user) => format!("login/{user}"),
                    Subject::Sudo(user) => format!("sudo/{user}"),
                };
                let secret = secret.map(|typed| Secret::new(name, typed.reveal()));
                known.given.push(Given { subject, hosts, secret });
                known.given.len() - 1
            }
        };
        known.had.insert(who, at);
        let secret = known.given.get(at)?.secret.as_ref()?;
        Some(Secret::new(secret.name(), secret.reveal()))
    }

    /// All hosts for which the same may be asked, `host` among them.
    fn group(&self, subject: &Subject, host: &str) -> BTreeSet<String> {
        let same = |member: &&Member| {
            let theirs = |user: &str| member.user.as_deref().is_none_or(|theirs| theirs == user);
            match subject {
                Subject::Key(_) => true,
                Subject::Login(user) => theirs(user),
                Subject::Sudo(user) => member.sudo && theirs(user),
            }
        };
        let named = self.hosts.iter().filter(same).map(|member| member.host.to_string());
        named.chain([host.to_owned()]).collect()
    }

    /// What a person reads; `refused` is the host that did not take the answer before.
    fn question(&self, subject: &Subject, hosts: &BTreeSet<String>, refused: Option<&str>) -> String {
        let mut named: Vec<HostName> = hosts.iter().filter_map(|host| host.parse().ok()).collect();
        named.sort_by_key(|name| self.hosts.iter().position(|member| member.host == *name));
        let list = names(&named.iter().collect::<Vec<_>>());
        let all = if hosts.len() > 1 { " (one for all; it is sent to those of them that ask)" } else { "" };
        let (what, wrong) = match subject {
            Subject::Key(file) => {
                let file = file.display();
                (format!("passphrase of {file}: "), format!("that does not open {file}; "))
            }
            Subject::Login(user) => (
                format!("password of {user} on {list}{all}: "),
                format!("{} refuses it; ", refused.unwrap_or_default()),
            ),
            Subject::Sudo(user) => (
                format!("sudo password of {user} on {list}{all}: "),
                format!("sudo on {} refuses it; ", refused.unwrap_or_default()),
            ),
        };
        if refused.is_some() { wrong + &what } else { what }
    }
}

impl Prompt for Passwords {
    fn answer(&self, ask: &Ask<'_>) -> Option<Secret> {
        match ask {
            Ask::Sudo { user, host, again } => self.about(Subject::Sudo((*user).to_owned()), host, *again),
            Ask::Password { user, host, again } => self.about(Subject::Login((*user).to_owned()), host, *again),
            Ask::Passphrase { file, host, again } => self.about(Subject::Key(file.to_path_buf()), host, *again),
            // It may hold once, so it is asked for each login; in turn, as there is one terminal.
            Ask::Question { user, host, text } => {
                let _turn = self.known.lock().unwrap_or_else(PoisonError::into_inner);
                (self.ask)(&format!("{user} on {host} is asked: {text} "))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use super::*;

    /// Passwords for hosts, some with a user of their own; answers are given in turn, questions are kept.
    fn asked(hosts: &[(&str, Option<&str>)], answers: &[&'static str]) -> (Passwords, Arc<Mutex<Vec<String>>>) {
        let member = |(name, user): &(&str, Option<&str>)| Member {
            host: name.parse().unwrap(),
            user: user.map(ToOwned::to_owned),
            sudo: true,
        };
        let answers = Mutex::new(answers.iter().rev().copied().collect::<Vec<_>>());
        let questions = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&questions);
        let ask = move |question: &str| {
            kept.lock().unwrap().push(question.to_owned());
            answers.lock().unwrap().pop().filter(|a| !a.is_empty()).map(|a| Secret::new("typed", a))
        };
        (Passwords::new(hosts.iter().map(member).collect(), Box::new(ask)), questions)
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
        let questions = questions.lock().unwrap();
        let all = " (one for all; it is sent to those of them that ask): ";
        assert_eq!(questions[0], format!("sudo password of ops on lb1, web1, web2{all}"));
        for (question, host) in questions.iter().zip(["lb1", "db1", "stranger"]) {
            assert!(question.contains(host), "{question}");
        }
        assert_eq!(questions.len(), 3);
    }

    #[test]
    fn a_wrong_answer_is_asked_for_again_once_for_all_and_with_a_word() {
        let (passwords, questions) = asked(&[("a", None), ("b", None), ("c", None)], &["typo", "right", "other"]);
        for host in ["a", "b", "c"] {
            assert_eq!(sudo(&passwords, "ops", host, false).as_deref(), Some("typo"));
        }
        for host in ["b", "c"] {
            assert_eq!(sudo(&passwords, "ops", host, true).as_deref(), Some("right"), "{host}");
        }
        assert_eq!(sudo(&passwords, "ops", "a", true).as_deref(), Some("right"));
        let questions = questions.lock().unwrap();
        assert_eq!(questions.len(), 2, "{questions:?}");
        assert!(questions[1].starts_with("sudo on b refuses it; sudo password of ops on a, b, c ("), "{questions:?}");
    }

    #[test]
    fn after_some_wrong_answers_nobody_is_asked_any_more() {
        let (passwords, questions) = asked(&[("a", None), ("b", None), ("c", None)], &["x", "y", "z", "never"]);
        let file = Path::new("/keys/ops");
        for host in ["a", "b", "c"] {
            let mut again = false;
            while passwords.answer(&Ask::Passphrase { file, host, again }).is_some() {
                again = true;
            }
        }
        let questions = questions.lock().unwrap();
        assert_eq!(questions.len(), 3, "{questions:?}");
        assert_eq!(questions[0], "passphrase of /keys/ops: ");
        assert_eq!(questions[1], "that does not open /keys/ops; passphrase of /keys/ops: ");
    }

    #[test]
    fn a_password_for_a_login_is_none_for_sudo_and_a_code_is_asked_each_time() {
        let (passwords, questions) = asked(&[("a", None), ("b", None)], &["login", "root", "123", "456"]);
        let (user, host, again) = ("ops", "a", false);
        let login = passwords.answer(&Ask::Password { user, host, again }).unwrap();
        assert_eq!((login.reveal(), sudo(&passwords, user, host, again).as_deref()), ("login", Some("root")));
        for code in ["123", "456"] {
            let text = "Verification code:";
            assert_eq!(passwords.answer(&Ask::Question { user, host, text }).unwrap().reveal(), code);
        }
        let questions = questions.lock().unwrap();
        assert!(questions[0].starts_with("password of ops on a, b (") && questions[2].contains("Verification code:"));
    }

    #[test]
    fn no_answer_is_an_answer_for_all_that_were_named() {
        let (passwords, questions) = asked(&[("a", None), ("b", None)], &[""]);
        assert_eq!(sudo(&passwords, "ops", "a", false), None);
        assert_eq!(sudo(&passwords, "ops", "b", false), None);
        assert_eq!(questions.lock().unwrap().len(), 1);
    }
}
