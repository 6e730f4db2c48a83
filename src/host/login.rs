//! Who we are to a host: takes a session whose host key was accepted, offers the agent's keys and then the key files, answers what
//! the host asks besides, gives a logged-in session or the list of what was tried.
//!
//! With a configured identity only that key is offered, from the agent or from its file: sshd counts every refused key
//! against `MaxAuthTries` (6 by default) and then hangs up.

use std::path::Path;
use std::time::Duration;

use ssh2::{ErrorCode, Session};

use super::agent::agent_keys;
use super::answers;
use super::attempt::{Attempt, Login, REFUSED, clean};
use super::key_file::{Certificate, KeyFile};
use super::known_hosts::HostKey;
use super::options::Options;
use super::ssh_config::Effective;
use super::target::Ask;
use super::transport::TransportError;
use super::wrap::greeting;

/// How often a wrong passphrase may be corrected.
const TRIES: usize = 3;

/// Logs in to `host` at `address`; each answer of it may take as long as `bound`.
///
/// # Errors
/// [`TransportError::Auth`] with what was tried.
pub(crate) fn login(
    session: &Session,
    to: &Effective,
    options: &Options,
    (host, address): (&str, &str),
    bound: Duration,
) -> Result<(), TransportError> {
    let login = Login { session, to, options, host, bound };
    let mut tried = Vec::new();
    let keys = if to.ways.keys { login.keys(&mut tried) } else { Attempt::No(String::new()) };
    let done = match keys {
        Attempt::No(_) => match login.wanted() {
            Some(wanted) => answers::give(&login, wanted, &mut tried),
            None if session.authenticated() => Attempt::In,
            None => Attempt::No(String::new()),
        },
        Attempt::More(wanted) => answers::give(&login, wanted, &mut tried),
        done => done,
    };
    if matches!(done, Attempt::In) {
        return Ok(());
    }
    if tried.is_empty() {
        let files: Vec<String> = to.identity_files.iter().map(|f| f.display().to_string()).collect();
        tried.push(format!(
            "nothing, for there is no agent (`SSH_AUTH_SOCK`) with a key and no key file ({}); give one as `ssh.identity`",
            files.join(", ")
        ));
    }
    // Only the question for the ways reads what the host has said meanwhile.
    if matches!(done, Attempt::Gone(_)) {
        login.wanted();
    }
    let said = session.userauth_banner().ok().flatten().map(|text| greeting(text.as_bytes())).unwrap_or_default();
    Err(TransportError::Auth { user: to.user.clone(), address: address.to_owned(), tried, said })
}

impl Login<'_> {
    /// Offers all keys.
    fn keys(&self, tried: &mut Vec<String>) -> Attempt {
        let keys: Vec<KeyFile> =
            self.to.identity_files.iter().map(|path| KeyFile::read(path, &self.to.certificate_files)).collect();
        tried.extend(keys.iter().filter(|_| self.to.identities_only).filter_map(|key| key.trouble.clone()));
        match agent_keys(&self.to.agent) {
            Err(trouble) => tried.push(trouble),
            Ok(None) => {}
            Ok(Some((socket, held))) => {
                let own = |k: &HostKey| {
                    let is = |file: &KeyFile| {
                        file.public.as_ref() == Some(k)
                            || file.certificates.iter().any(|certificate| certificate.blob == *k)
                    };
                    keys.iter().any(is)
                };
                let mut offered: Vec<&(HostKey, String)> = held.iter().filter(|(k, _)| own(k)).collect();
                if !self.to.identities_only {
                    offered.extend(held.iter().filter(|(k, _)| !own(k)));
                }
                for (key, comment) in offered {
                    let name = format!("the agent's key {} ({})", key.fingerprint(), clean(comment));
                    if let Some(done) = told(self.with_agent(&socket, key), &name, tried) {
                        return done;
                    }
                }
            }
        }
        for key in &keys {
            let Some(private) = &key.private else {
                if let Some(why) = &key.unprotected {
                    tried.push(why.clone());
                    self.options.note(why);
                }
                continue;
            };
            for certificate in key.certificates.iter().map(Some).chain([None]) {
                let name = match certificate {
                    Some(certificate) => format!("the certificate {}", certificate.path.display()),
                    None => format!("the key file {}", key.path.display()),
                };
                if let Some(done) = told(self.with_file(key, certificate, private), &name, tried) {
                    return done;
                }
            }
        }
        Attempt::No(String::new())
    }

    /// What libssh2 makes of an answer. It knows a key that was accepted and does not suffice (RFC 4252 §5.1) only as a signature
    /// that was not taken; the ways that are left tell them apart.
    fn classify(&self, error: &ssh2::Error, tries: &str) -> Attempt {
        if error.code() == ErrorCode::Session(-19)
            && error.message().starts_with("Invalid signature")
            && let Some(wanted) = self.wanted()
            && !wanted.iter().any(|way| way == "publickey")
        {
            return Attempt::More(wanted);
        }
        self.trouble(error, tries)
    }

    fn with_agent(&self, socket: &Path, key: &HostKey) -> Attempt {
        // libssh2 has the agent sign for it with SHA-1, which no host takes any more.
        if key.kind().starts_with("ssh-rsa-cert-") {
            return Attempt::No(
                "an RSA certificate cannot be used from an agent: name its key file as `ssh.identity`".to_owned(),
            );
        }
        let sign = || -> Result<(), ssh2::Error> {
            let mut agent = self.session.agent()?;
            agent.set_identity_path(socket)?;
            agent.connect()?;
            agent.list_identities()?;
            for identity in agent.identities()? {
                if identity.blob() == key.blob() {
                    return agent.userauth(&self.to.user, &identity);
                }
            }
            Ok(())
        };
        match sign() {
            Ok(()) if self.session.authenticated() => Attempt::In,
            Ok(()) => Attempt::No("the agent does not have it any more".to_owned()),
            Err(e) => self.classify(&e, " after the keys before"),
        }
    }

    fn with_file(&self, key: &KeyFile, certificate: Option<&Certificate>, private: &str) -> Attempt {
        let public = certificate.map(|certificate| certificate.line.as_str());
        let attempt =
            |passphrase: Option<&str>| self.session.userauth_pubkey_memory(&self.to.user, public, private, passphrase);
        if !key.encrypted {
            return match attempt(None) {
                Ok(()) => Attempt::In,
                Err(e) => self.classify(&e, ""),
            };
        }
        let Some(prompt) = self.options.prompt.as_ref().filter(|_| self.to.ways.asks) else {
            return Attempt::No(
                "it is encrypted and there is no terminal to ask for the passphrase; add it to an agent with `ssh-add`"
                    .to_owned(),
            );
        };
        for again in 0..TRIES {
            let ask = Ask::Passphrase { file: &key.path, host: self.host, again: again > 0 };
            let Some(passphrase) = prompt.answer(&ask) else {
                return Attempt::No(
                    if again > 0 { "the passphrase is wrong" } else { "it is encrypted and no passphrase was given" }
                        .to_owned(),
                );
            };
            match attempt(Some(passphrase.reveal())) {
                Ok(()) => return Attempt::In,
                Err(e) => match self.classify(&e, "") {
                    Attempt::No(_) if !matches!(e.code(), ErrorCode::Session(c) if REFUSED.contains(&c)) => {}
                    other => return other,
                },
            }
        }
        Attempt::No("the passphrase is wrong".to_owned())
    }
}

/// Notes what did not let us in; gives what ends the offering.
fn told(attempt: Attempt, name: &str, tried: &mut Vec<String>) -> Option<Attempt> {
    match &attempt {
        Attempt::In => return Some(attempt),
        Attempt::No(why) => tried.push(format!("{name}: {why}")),
        Attempt::More(wanted) => {
            tried.push(format!("{name}: accepted, but the host wants {} besides", wanted.join(" or ")));
            return Some(attempt);
        }
        Attempt::Gone(why) => {
            tried.push(format!("{name}: {why}"));
            return Some(attempt);
        }
    }
    None
}
