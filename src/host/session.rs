//! Scripts over a logged-in SSH session: takes a script and its input, gives its answer, or a channel that goes on
//! (a held script). Knows sudo's ways, and when a session can't be used any more.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ssh2::{BlockDirections, Channel, DisconnectCode, ErrorCode, Session};

use super::channel::{Exchange, Step, Stop};
use super::handshake::millis;
use super::jump::Link;
use super::options::Options;
use super::sudo;
use super::target::{Ask, Become, Prompt, Target};
use super::transport::{ASIDE, Output, Script, TransportError, saying};
use super::wrap::{Place, SUDO_PROMPT, Seek, Unwrapped, Wrap, words};
use crate::base::secret::Secret;

/// How long a refused session is asked for again, and how often.
const FREED: Duration = Duration::from_secs(2);
const AGAIN: Duration = Duration::from_millis(20);
/// The longest that opening a channel may take.
const OPENING: Duration = Duration::from_secs(20);
/// The longest that closing one may take; what does not answer by then is left alone.
const CLOSING: Duration = Duration::from_secs(3);
/// How often a wrong sudo password may be corrected.
const TRIES: usize = 3;
enum Sudo {
    NotNeeded,
    /// It says what it says in the host's own language.
    Silent,
    /// The same in words that are known here, which costs the host one more exec.
    English,
    Password(Secret),
}

pub(crate) struct Connection {
    session: Session,
    link: Arc<Link>,
    /// `HOST:PORT`.
    address: String,
    user: String,
    host: String,
    sudo: Sudo,
    prompt: Option<Arc<dyn Prompt>>,
    wrap: Wrap,
    held: BTreeMap<u64, Channel>,
    next: u64,
    broken: Option<TransportError>,
}

/// How one attempt at a script went.
pub(crate) enum Run {
    Done(Output),
    Line(String, Channel),
    /// sudo does not let us, in whatever language.
    Unclear,
    PasswordNeeded,
    PasswordWrong,
}

impl Connection {
    /// Takes a logged-in session.
    pub(crate) fn new(
        session: Session,
        link: Arc<Link>,
        address: String,
        user: String,
        target: &Target,
        options: &Options,
    ) -> Self {
        Self {
            session,
            link,
            address,
            user,
            host: target.host.clone(),
            sudo: if target.become_root == Become::Sudo { Sudo::Silent } else { Sudo::NotNeeded },
            prompt: options.prompt.clone(),
            wrap: Wrap::new(),
            held: BTreeMap::new(),
            next: 0,
            broken: None,
        }
    }

    /// Keeps the channel of a held script; gives what [`Self::release`] takes.
    pub(crate) fn keep(&mut self, channel: Channel) -> u64 {
        self.next += 1;
        self.held.insert(self.next, channel);
        self.next
    }

    fn lost(&mut self, what: &str) -> TransportError {
        let complaint = self.link.complaint().map(|c| format!(" ({c})")).unwrap_or_default();
        self.give_up(TransportError::Lost(format!("{}: {what}{complaint}", self.address)))
    }

    /// Ends the connection; every further question to this host has the same answer.
    fn give_up(&mut self, why: TransportError) -> TransportError {
        self.link.shut();
        self.broken = Some(why.clone());
        why
    }

    fn open(&mut self, command: &str) -> Result<Channel, TransportError> {
        if let Some(why) = &self.broken {
            return Err(why.clone());
        }
        self.session.set_blocking(true);
        self.session.set_timeout(millis(OPENING));
        let began = Instant::now();
        let opened = loop {
            let opened = self.session.channel_session().and_then(|mut channel| channel.exec(command).map(|()| channel));
            match opened {
                // sshd counts a session that is over until it has seen its last process end.
                Err(e) if e.code() == ErrorCode::Session(-21) && began.elapsed() < FREED => std::thread::sleep(AGAIN),
                opened => break opened,
            }
        };
        match opened {
            Ok(channel) => Ok(channel),
            Err(e) => match e.code() {
                // sshd_config(5), `MaxSessions`: how many there may be at once over one connection.
                ErrorCode::Session(-21) if !self.held.is_empty() => Err(TransportError::Setup(format!(
                    "the sshd of {} takes no further session over one connection, and infra needs two at once: one holds the \
                     host's lock while the other works. Set `MaxSessions` in its sshd_config to 2 or more, or take it out",
                    self.address,
                ))),
                ErrorCode::Session(-21 | -22) => Err(TransportError::Setup(format!(
                    "{} refuses to run commands for `{}`: {}",
                    self.address,
                    self.user,
                    e.message().to_lowercase()
                ))),
                _ => Err(self.lost(&plain(e.message()))),
            },
        }
    }

    /// Closes a channel and waits for the other side, bounded; a session that does not answer is given up.
    fn close(&mut self, mut channel: Channel) {
        if self.broken.is_none() {
            self.session.set_blocking(true);
            self.session.set_timeout(millis(CLOSING));
            if channel.close().is_err() {
                self.lost("it did not answer when a channel was closed");
            }
        }
        drop(channel);
    }

    /// Says that a channel is over and does not wait: sshd answers only when the command has ended. The session keeps what
    /// is left of the channel.
    fn abandon(&mut self, mut channel: Channel) {
        if self.broken.is_none() {
            self.session.set_blocking(false);
            let sent = match channel.close() {
                Ok(()) => true,
                Err(e) if e.code() == ErrorCode::Session(-37) => {
                    matches!(self.session.block_directions(), BlockDirections::None | BlockDirections::Inbound)
                }
                Err(_) => false,
            };
            if !sent {
                self.lost("a channel could not be closed");
            }
        }
        drop(channel);
    }

    /// Ends a held script.
    pub(crate) fn release(&mut self, id: u64) {
        let Some(mut channel) = self.held.remove(&id) else { return };
        if self.broken.is_none() {
            // At the end of its stdin the script ends by itself, and what it held is free when this returns.
            self.session.set_blocking(true);
            self.session.set_timeout(millis(CLOSING));
            let _ = channel.send_eof().and_then(|()| channel.wait_eof());
        }
        self.close(channel);
    }

    fn once(
        &mut self,
        script: &Script,
        stdin: Option<&[u8]>,
        told: &mut dyn FnMut(&[u8]),
    ) -> Result<Run, TransportError> {
        // What is held has no end to wait for, only its first line.
        let patience = if stdin.is_some() { script.patience() } else { script.timeout };
        let began = Instant::now();
        let deadline = began + patience;
        let prefix = match self.sudo {
            Sudo::NotNeeded => String::new(),
            Sudo::Silent => "sudo -n -- ".to_owned(),
            Sudo::English => "env LC_ALL=C sudo -n -- ".to_owned(),
            Sudo::Password(_) => format!("env LC_ALL=C sudo -S -p {SUDO_PROMPT} -- "),
        };
        let mut channel = self.open(&self.wrap.command(&prefix, script, stdin.is_none()))?;
        self.session.set_blocking(false);
        let head = self.wrap.head(script, &Place::default());
        let password = match &self.sudo {
            Sudo::Password(secret) => Some(format!("{}\n", secret.reveal())),
            _ => None,
        };
        let mut pieces: Vec<&[u8]> = Vec::with_capacity(3);
        pieces.extend(password.as_deref().map(str::as_bytes));
        pieces.push(&head);
        pieces.extend(stdin);
        let wrap = &self.wrap;
        // Each chunk that comes is looked at once, however many there are.
        let (mut started, mut line, mut prompts) = (wrap.seek(), Seek::new(b"\n"), Seek::new(SUDO_PROMPT.as_bytes()));
        let mut asked = 0;
        let step = |out: &[u8], err: &[u8]| {
            let start = started.after(out);
            start.and_then(|at| out.get(at..)).into_iter().for_each(&mut *told);
            if let Some(at) = start
                && stdin.is_none()
                && line.after_in(out, at).is_some()
            {
                return Step::Stop;
            }
            if password.is_none() || start.is_some() {
                return Step::Send;
            }
            // sudo asks again: the password was wrong, and nothing else may be sent, or it would be taken for another one.
            while prompts.next(err).is_some() {
                asked += 1;
            }
            if asked > 1 { Step::Stop } else { Step::First }
        };
        let bounds = (script.answer.saturating_add(ASIDE), ASIDE);
        let mut exchange = Exchange::new(&self.session, &self.link, &mut channel, bounds);
        let ended = exchange.until(&pieces, stdin.is_some(), deadline, step);
        let stuck = exchange.stuck();
        let (stdout, stderr) = (std::mem::take(&mut exchange.stdout), std::mem::take(&mut exchange.stderr));
        // Once the script has begun, what is printed is its own.
        let before =
            if self.wrap.start(&stdout).is_none() { self.wrap.before(&stdout, &stderr) } else { String::new() };
        let ended = ended.map_err(|e| self.lost(&format!("{}{}", plain(&e.to_string()), saying(&before))))?;
        match ended {
            // What still comes can't be told from the answer to the next question: the host is let go.
            Stop::TooMuch => Err(self.give_up(TransportError::TooMuch {
                address: self.address.clone(),
                title: script.title.clone(),
                limit: if stderr.len() > ASIDE { ASIDE } else { script.answer },
                said: before,
            })),
            Stop::Late => {
                if stuck {
                    self.lost("a script that took too long was cut off");
                }
                self.abandon(channel);
                Err(TransportError::Timeout { title: script.title.clone(), after: patience, said: before })
            }
            Stop::Enough => {
                if let Some(line) = first_line(&self.wrap, &stdout) {
                    return Ok(Run::Line(line, channel));
                }
                self.abandon(channel);
                Ok(Run::PasswordWrong)
            }
            Stop::Closed => {
                self.session.set_blocking(true);
                self.session.set_timeout(millis(CLOSING));
                let signal = channel.exit_signal().ok().and_then(|s| s.exit_signal);
                let status = signal.map_or_else(|| channel.exit_status().unwrap_or(-1), |s| 128 + signal_number(&s));
                self.close(channel);
                let answer = self.wrap.answer(stdout, stderr);
                self.judge(script, stdin.is_none(), answer, status, began)
            }
        }
    }

    /// What a closed channel means.
    fn judge(
        &mut self,
        script: &Script,
        held: bool,
        answer: Unwrapped,
        status: i32,
        began: Instant,
    ) -> Result<Run, TransportError> {
        let said = words(&answer.output.stderr);
        if !answer.started {
            let lower = said.to_lowercase();
            let said = answer.before;
            if matches!(self.sudo, Sudo::NotNeeded) {
                let end = if said.is_empty() { "; it says nothing".to_owned() } else { saying(&said) };
                return Err(TransportError::Setup(format!(
                    "{} runs no `sh` for `{}` (status {status}){end}",
                    self.address, self.user
                )));
            }
            if matches!(self.sudo, Sudo::Silent) {
                return Ok(Run::Unclear);
            }
            if lower.contains("incorrect password") || lower.contains("incorrect authentication") {
                return Ok(Run::PasswordWrong);
            }
            if matches!(self.sudo, Sudo::English) && sudo::asks(&lower) {
                return Ok(Run::PasswordNeeded);
            }
            let reason = if said.is_empty() { format!("sudo ended with status {status}") } else { said };
            let reason = match sudo::way_out(&lower, &self.user) {
                Some(way) => format!("{reason}; {way}"),
                None => reason,
            };
            return Err(TransportError::Become { address: self.address.clone(), reason });
        }
        if held {
            return Err(TransportError::Setup(format!(
                "`{}` ended with status {status}: {said}{}",
                script.title,
                if said.is_empty() { saying(&answer.before) } else { String::new() }
            )));
        }
        if answer.late(status, script, began) {
            return Err(TransportError::Ended { title: script.title.clone(), after: script.timeout });
        }
        match answer.ended {
            Some(_) => Ok(Run::Done(answer.output)),
            // Someone killed the shell itself.
            None if status > 0 => Ok(Run::Done(Output { status, ..answer.output })),
            None => Err(self.lost(&format!("`{}` was cut off", script.title))),
        }
    }

    /// Runs a script with `stdin`, or holds it where there is none; asks for sudo's password when sudo does. `told` gets all of
    /// stdout so far whenever more of it has come.
    pub(crate) fn script(
        &mut self,
        script: &Script,
        stdin: Option<&[u8]>,
        told: &mut dyn FnMut(&[u8]),
    ) -> Result<Run, TransportError> {
        let refused = |address: &str, reason: &str| {
            Err(TransportError::Become { address: address.to_owned(), reason: reason.to_owned() })
        };
        for tries in 0.. {
            let again = match self.once(script, stdin, told)? {
                Run::Unclear => {
                    self.sudo = Sudo::English;
                    continue;
                }
                Run::PasswordNeeded => false,
                Run::PasswordWrong if tries <= TRIES => true,
                Run::PasswordWrong => {
                    self.sudo = Sudo::Silent;
                    return refused(&self.address, "sudo refuses the password");
                }
                done => return Ok(done),
            };
            let asked =
                self.prompt.as_ref().map(|p| p.answer(&Ask::Sudo { user: &self.user, host: &self.host, again }));
            match asked {
                Some(Some(secret)) if !secret.reveal().contains(['\n', '\0']) => self.sudo = Sudo::Password(secret),
                Some(Some(_)) => return refused(&self.address, "the password has a line break"),
                Some(None) if again => return refused(&self.address, "sudo refuses the password"),
                Some(None) => return refused(&self.address, "sudo asks for a password, but none was given"),
                None => {
                    return refused(
                        &self.address,
                        "sudo asks for a password and there is no terminal to ask for it; allow the user `NOPASSWD: ALL`, or \
                         log in as root",
                    );
                }
            }
        }
        refused(&self.address, "sudo refuses the password")
    }
}

/// The first line of a held script's stdout.
fn first_line(wrap: &Wrap, stdout: &[u8]) -> Option<String> {
    let rest = stdout.get(wrap.start(stdout)?..)?;
    let line = rest.split_inclusive(|b| *b == b'\n').next()?.strip_suffix(b"\n")?;
    Some(String::from_utf8_lossy(line).into_owned())
}

/// libssh2's words for a dead connection say little to a person.
fn plain(message: &str) -> String {
    match message {
        "transport read" | "Failure while draining incoming flow" | "Unable to send channel data" => {
            "the host or the network closed the connection".to_owned()
        }
        other => other.to_lowercase(),
    }
}

/// The number of a signal as RFC 4254 §6.10 names it, on Linux.
fn signal_number(name: &str) -> i32 {
    match name {
        "HUP" => 1,
        "INT" => 2,
        "QUIT" => 3,
        "ILL" => 4,
        "ABRT" => 6,
        "FPE" => 8,
        "KILL" => 9,
        "USR1" => 10,
        "SEGV" => 11,
        "USR2" => 12,
        "PIPE" => 13,
        "ALRM" => 14,
        _ => 15,
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if self.broken.is_none() {
            self.session.set_blocking(true);
            self.session.set_timeout(500);
            let _ = self.session.disconnect(Some(DisconnectCode::ByApplication), "done", None);
        }
        // libssh2 waits for the peer when it frees channels and a session; with the socket shut it does not. The server then
        // closes the stdin of what was held.
        self.link.shut();
    }
}
