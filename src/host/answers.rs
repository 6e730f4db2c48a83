//! What a host asks besides keys: takes the ways that it takes, asks the person for a password or for answers to the host's own
//! questions, gives what came of it.

use ssh2::KeyboardInteractivePrompt;

use super::attempt::{Attempt, Login};
use super::target::{Ask, Prompt};
use super::wrap::greeting;
use crate::base::secret::Secret;

/// How many ways a host may want one after the other.
const WAYS: usize = 4;
/// How long a person may take over an answer, milliseconds: as long as sshd waits (`LoginGraceTime`).
const ANSWERING: u32 = 120_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Questions,
    Password,
}

impl Way {
    fn name(self) -> &'static str {
        match self {
            Self::Questions => "keyboard-interactive",
            Self::Password => "password",
        }
    }
}

/// Goes on with what the host wants, until it lets us in or wants what we do not have.
pub(super) fn give(login: &Login<'_>, mut wanted: Vec<String>, tried: &mut Vec<String>) -> Attempt {
    let ways = login.to.ways;
    let mut ours: Vec<(usize, Way)> = Vec::new();
    ours.extend(ways.questions.map(|rank| (rank, Way::Questions)));
    ours.extend(ways.password.map(|rank| (rank, Way::Password)));
    ours.sort_by_key(|(rank, _)| *rank);
    for _ in 0..WAYS {
        let Some(at) = ours.iter().position(|(_, way)| wanted.iter().any(|one| one == way.name())) else { break };
        let (_, way) = ours.remove(at);
        let Some(prompt) = login.options.prompt.as_deref().filter(|_| ways.asks) else {
            tried.push(format!("no {}: there is no terminal to ask for it", way.name()));
            break;
        };
        match answered(login, prompt, way) {
            Attempt::In => return Attempt::In,
            Attempt::More(rest) => {
                tried.push(format!("the {}: accepted, but the host wants {} besides", way.name(), rest.join(" or ")));
                wanted = rest;
            }
            // It asked for nothing: another way may.
            Attempt::No(why) if why.is_empty() => {}
            Attempt::No(why) => {
                tried.push(format!("the {}: {why}", way.name()));
                break;
            }
            Attempt::Gone(why) => {
                tried.push(format!("the {}: {why}", way.name()));
                return Attempt::Gone(why);
            }
        }
    }
    if tried.iter().any(|one| one.contains("accepted")) || !wanted.iter().any(|one| one == "publickey") {
        tried.push(format!("the host takes {} now", wanted.join(", ")));
    }
    Attempt::No(String::new())
}

fn answered(login: &Login<'_>, prompt: &dyn Prompt, way: Way) -> Attempt {
    for again in 0..login.to.ways.tries.max(1) {
        let mut asker = Asker { login, prompt, again: again > 0, asked: false, missing: false };
        let user = login.to.user.as_str();
        let usual = login.session.timeout();
        let result = match way {
            Way::Password => match asker.password() {
                Some(secret) => login.session.userauth_password(user, secret.reveal()),
                None if asker.again => return Attempt::No("refused".to_owned()),
                None => return Attempt::No("none was given".to_owned()),
            },
            Way::Questions => {
                login.session.set_timeout(usual.max(ANSWERING));
                login.session.userauth_keyboard_interactive(user, &mut asker)
            }
        };
        login.session.set_timeout(usual);
        let (was_asked, missing) = (asker.asked, asker.missing);
        let Err(error) = result else { return Attempt::In };
        match login.trouble(&error, "") {
            Attempt::Gone(_) => return Attempt::Gone("the host hung up".to_owned()),
            // An accepted answer that does not suffice looks like a wrong one; the ways that are left tell them apart.
            _ => match login.wanted() {
                None if login.session.authenticated() => return Attempt::In,
                None => return Attempt::Gone("the host hung up".to_owned()),
                Some(rest) if !rest.iter().any(|one| one == way.name()) => return Attempt::More(rest),
                Some(_) => {}
            },
        }
        if missing {
            return Attempt::No(if again > 0 { "refused" } else { "no answer was given" }.to_owned());
        }
        if !was_asked {
            return Attempt::No(String::new());
        }
    }
    Attempt::No("refused".to_owned())
}

/// Puts a host's questions to the person.
struct Asker<'a> {
    login: &'a Login<'a>,
    prompt: &'a dyn Prompt,
    again: bool,
    /// Whether anything was asked.
    asked: bool,
    /// Whether an answer was missing.
    missing: bool,
}

impl Asker<'_> {
    fn password(&mut self) -> Option<Secret> {
        self.asked = true;
        let user = &self.login.to.user;
        self.prompt.answer(&Ask::Password { user, host: self.login.host, again: self.again })
    }
}

impl KeyboardInteractivePrompt for Asker<'_> {
    fn prompt(&mut self, _: &str, instructions: &str, prompts: &[ssh2::Prompt<'_>]) -> Vec<String> {
        let mut answers = Vec::with_capacity(prompts.len());
        for prompt in prompts {
            let text = greeting([instructions, "\n", &prompt.text].concat().as_bytes());
            let is_password = !prompt.echo && prompt.text.to_lowercase().contains("password");
            self.asked = true;
            let secret = if self.missing {
                None
            } else if is_password && prompts.len() == 1 {
                self.password()
            } else {
                let user = &self.login.to.user;
                self.prompt.answer(&Ask::Question { user, host: self.login.host, text: &text })
            };
            self.missing |= secret.is_none();
            answers.push(secret.map(|secret| secret.reveal().to_owned()).unwrap_or_default());
        }
        answers
    }
}
