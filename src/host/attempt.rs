//! One way to log in: takes a session, tells which ways its host takes, and what libssh2 makes of an answer.

use std::time::Duration;

use ssh2::{ErrorCode, Session};

use super::options::Options;
use super::ssh_config::Effective;
use crate::base::visible;

const TIMEOUT: i32 = -9;
const FILE: i32 = -16;
const KEYFILE: i32 = -48;
/// Codes of libssh2 that mean «this key, no»; everything else about a key is trouble of ours.
pub(super) const REFUSED: [i32; 2] = [-18, -19];
/// Codes of libssh2 that mean that the connection is gone.
const GONE: [i32; 4] = [-7, -13, -43, -45];

/// What one way to log in came to.
#[derive(Debug)]
pub(super) enum Attempt {
    In,
    /// It was taken, and the host wants one of these besides.
    More(Vec<String>),
    No(String),
    Gone(String),
}

/// A login under way.
pub(super) struct Login<'a> {
    pub(super) session: &'a Session,
    pub(super) to: &'a Effective,
    pub(super) options: &'a Options,
    /// What the person calls the host.
    pub(super) host: &'a str,
    pub(super) bound: Duration,
}

/// A host's or an agent's word, fit for a person.
pub(super) fn clean(text: &str) -> String {
    visible::line(&visible::short(text, 80)).into_owned()
}

impl Login<'_> {
    /// The ways that the host takes now; nothing where it does not say.
    pub(super) fn wanted(&self) -> Option<Vec<String>> {
        let ways = self.session.auth_methods(&self.to.user).ok()?;
        Some(ways.split(',').map(clean).collect())
    }

    /// What libssh2 makes of an answer that did not let us in; `tries` is what came before.
    pub(super) fn trouble(&self, error: &ssh2::Error, tries: &str) -> Attempt {
        // libssh2 gives a dead connection the code of a refused key; only its words tell them apart.
        let gone = error.message().starts_with("Waiting for");
        match error.code() {
            ErrorCode::Session(-19) if error.message().starts_with("Callback") => {
                Attempt::No("the agent did not sign".to_owned())
            }
            ErrorCode::Session(code) if !gone && REFUSED.contains(&code) => Attempt::No("refused".to_owned()),
            ErrorCode::Session(code) if gone || GONE.contains(&code) => Attempt::Gone(format!(
                "the host hung up{tries}; if it counts refused keys (`MaxAuthTries`), name the right one as `ssh.identity`"
            )),
            ErrorCode::Session(TIMEOUT) => Attempt::Gone(format!(
                "no answer within {} s; a host may look up our name with name servers that are dead (`UseDNS`): a longer \
                 `ConnectTimeout` in the ssh configuration waits longer",
                self.bound.as_secs()
            )),
            ErrorCode::Session(FILE | KEYFILE) => Attempt::No("it cannot be used as a private key".to_owned()),
            _ => Attempt::No(error.message().to_lowercase()),
        }
    }
}
