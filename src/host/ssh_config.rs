//! How `ssh` itself would reach a host: takes a host as a person writes it, asks `ssh -G` (which knows `Match`, `Include` and
//! tokens), gives the effective settings. What the inventory says wins; without `ssh` the inventory's fields are all there is.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use super::process::{Conversation, Ended};
use super::target::{Config, Target};
use super::transport::TransportError;
use super::wrap::words;

/// How long `ssh -G` may take; a `Match exec` in the person's configuration may run anything.
const PATIENCE: Duration = Duration::from_secs(10);

/// Which ssh-agent is asked.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum AgentAt {
    /// The one of `SSH_AUTH_SOCK`.
    #[default]
    Environment,
    /// The one at this socket.
    Socket(PathBuf),
    /// None.
    Nowhere,
}

/// The settings that hold for one connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Effective {
    /// What is connected to.
    pub hostname: String,
    /// The TCP port.
    pub port: u16,
    /// Who logs in.
    pub user: String,
    /// Private keys, in order, `~` and tokens expanded; not all need exist.
    pub identity_files: Vec<PathBuf>,
    /// Whether only those may be offered, also from the agent.
    pub identities_only: bool,
    /// Which agent.
    pub agent: AgentAt,
    /// `[user@]host[:port]`, several with commas.
    pub proxy_jump: Option<String>,
    /// A command whose stdin and stdout are the connection, `%h` and so on expanded.
    pub proxy_command: Option<String>,
    /// The person's own files of host keys.
    pub user_known_hosts_files: Vec<PathBuf>,
    /// The machine's files of host keys.
    pub global_known_hosts_files: Vec<PathBuf>,
    /// A file of revoked keys, in one of the two forms that `ssh-keygen -Q` reads.
    pub revoked_host_keys: Option<PathBuf>,
    /// The name under which the host's key is known, where that is not `hostname`.
    pub host_key_alias: Option<String>,
    /// The bound of a TCP connection.
    pub connect_timeout: Option<Duration>,
}

impl Effective {
    /// Asks `ssh -G`, then lets the target's own fields win.
    ///
    /// # Errors
    /// [`TransportError::Setup`] when `ssh` refuses its configuration, or hangs.
    pub fn of(target: &Target, config: &Config) -> Result<Self, TransportError> {
        let home = home();
        let text = match config {
            Config::None => None,
            Config::Default => ask(target, None)?,
            Config::File(file) => ask(target, Some(file))?,
        };
        let mut effective = Self::parse(text.as_deref().unwrap_or_default(), target, &home);
        if let Some(address) = &target.address {
            effective.hostname.clone_from(address);
        }
        if let Some(port) = target.port {
            effective.port = port;
        }
        if let Some(user) = &target.user {
            effective.user.clone_from(user);
        }
        if let Some(file) = &target.identity {
            let file = tilde(&file.to_string_lossy(), &home);
            effective.identity_files = vec![PathBuf::from(file)];
            effective.identities_only = true;
        }
        if let Some(jump) = &target.jump {
            effective.proxy_jump = (jump != "none").then(|| jump.clone());
            effective.proxy_command = None;
        }
        Ok(effective)
    }

    /// Takes what `ssh -G` prints (or nothing) for a target.
    pub fn parse(text: &str, target: &Target, home: &Path) -> Self {
        let all = |key: &str| -> Vec<&str> {
            let lines = text.lines().filter_map(|l| l.trim().split_once(' '));
            lines.filter(|(k, _)| k.eq_ignore_ascii_case(key)).map(|(_, v)| v.trim()).collect()
        };
        let one = |key: &str| all(key).first().copied().filter(|v| !v.eq_ignore_ascii_case("none"));
        let local_user = std::env::var("USER").or_else(|_| std::env::var("LOGNAME")).ok();
        let mut effective = Self {
            hostname: one("hostname").unwrap_or(&target.host).to_owned(),
            port: one("port").and_then(|p| p.parse().ok()).unwrap_or(22),
            user: one("user").map(ToOwned::to_owned).or(local_user).unwrap_or_else(|| "root".to_owned()),
            identity_files: Vec::new(),
            identities_only: one("identitiesonly") == Some("yes"),
            agent: AgentAt::Environment,
            proxy_jump: one("proxyjump").map(ToOwned::to_owned),
            proxy_command: None,
            user_known_hosts_files: Vec::new(),
            global_known_hosts_files: Vec::new(),
            revoked_host_keys: None,
            host_key_alias: one("hostkeyalias").map(ToOwned::to_owned),
            connect_timeout: one("connecttimeout").and_then(|s| s.parse().ok()).map(Duration::from_secs),
        };
        let expand = |text: &str, e: &Self| PathBuf::from(tilde(&tokens(text, target, e, home), home));
        let files = |key: &str, usual: &[&str], e: &Self| -> Vec<PathBuf> {
            let given = all(key);
            let words: Vec<&str> = if given.is_empty() {
                usual.to_vec()
            } else {
                given.iter().flat_map(|l| l.split_ascii_whitespace()).filter(|w| *w != "none").collect()
            };
            words.into_iter().map(|w| expand(w, e)).collect()
        };
        let identities = all("identityfile");
        effective.identity_files = if identities.is_empty() {
            ["~/.ssh/id_ed25519", "~/.ssh/id_ecdsa", "~/.ssh/id_rsa"].iter().map(|f| expand(f, &effective)).collect()
        } else {
            identities.into_iter().filter(|f| *f != "none").map(|f| expand(f, &effective)).collect()
        };
        effective.user_known_hosts_files =
            files("userknownhostsfile", &["~/.ssh/known_hosts", "~/.ssh/known_hosts2"], &effective);
        effective.global_known_hosts_files =
            files("globalknownhostsfile", &["/etc/ssh/ssh_known_hosts", "/etc/ssh/ssh_known_hosts2"], &effective);
        effective.revoked_host_keys = one("revokedhostkeys").map(|f| expand(f, &effective));
        effective.proxy_command = one("proxycommand").map(|c| tokens(c, target, &effective, home));
        effective.agent = match all("identityagent").first().copied() {
            None | Some("SSH_AUTH_SOCK") => AgentAt::Environment,
            Some("none") => AgentAt::Nowhere,
            Some(path) => match path.strip_prefix('$') {
                Some(name) => {
                    let name = name.trim_start_matches('{').trim_end_matches('}');
                    std::env::var_os(name).map_or(AgentAt::Nowhere, |p| AgentAt::Socket(p.into()))
                }
                None => AgentAt::Socket(expand(path, &effective)),
            },
        };
        effective
    }

    /// The name and the port that known_hosts is searched for (`HostKeyAlias` stands without a port, `ssh_config(5)`).
    pub fn key_name(&self) -> (&str, u16) {
        self.host_key_alias.as_deref().map_or((self.hostname.as_str(), self.port), |alias| (alias, 22))
    }

    /// All files of host keys, the person's first.
    pub fn known_hosts_files(&self) -> Vec<PathBuf> {
        self.user_known_hosts_files.iter().chain(&self.global_known_hosts_files).cloned().collect()
    }
}

/// The folder that `~` stands for.
pub(crate) fn home() -> PathBuf {
    std::env::home_dir().unwrap_or_else(|| PathBuf::from("/"))
}

fn tilde(path: &str, home: &Path) -> String {
    match path.strip_prefix("~/") {
        Some(rest) => home.join(rest).to_string_lossy().into_owned(),
        None => path.to_owned(),
    }
}

/// The tokens of `ssh_config(5)` that make sense here; an unknown one is left as it stands.
fn tokens(text: &str, target: &Target, effective: &Effective, home: &Path) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        match chars.next() {
            Some('h') => out.push_str(target.address.as_deref().unwrap_or(&effective.hostname)),
            Some('n') => out.push_str(&target.host),
            Some('p') => out.push_str(&target.port.unwrap_or(effective.port).to_string()),
            Some('r') => out.push_str(target.user.as_deref().unwrap_or(&effective.user)),
            Some('k') => out.push_str(effective.host_key_alias.as_deref().unwrap_or(&target.host)),
            Some('d') => out.push_str(&home.to_string_lossy()),
            Some('u') => out.push_str(&std::env::var("USER").unwrap_or_default()),
            Some('%') | None => out.push('%'),
            Some(other) => out.extend(['%', other]),
        }
    }
    out
}

/// The words of `ssh -G`; nothing when there is no `ssh`.
fn ask(target: &Target, file: Option<&Path>) -> Result<Option<String>, TransportError> {
    let mut command = Command::new("ssh");
    command.arg("-G");
    if let Some(file) = file {
        command.arg("-F").arg(file);
    }
    if let Some(user) = &target.user {
        command.arg("-l").arg(user);
    }
    if let Some(port) = target.port {
        command.arg("-p").arg(port.to_string());
    }
    command.arg("--").arg(&target.host);
    let setup = |words: String| TransportError::Setup(format!("`ssh -G {}` failed: {words}", target.host));
    let mut child = match Conversation::start(&mut command) {
        Ok(child) => child,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(setup(e.to_string())),
    };
    match child.until(&[], true, Instant::now() + PATIENCE, |_| false) {
        Ok(Ended::Exit(0)) => Ok(Some(String::from_utf8_lossy(&child.stdout).into_owned())),
        Ok(Ended::Exit(_)) => Err(setup(words(&child.stderr))),
        Ok(Ended::TooMuch) => Err(setup("it prints without end (a `Match exec`?)".to_owned())),
        Ok(_) => Err(setup(format!("no answer within {} s (a slow `Match exec`?)", PATIENCE.as_secs()))),
        Err(e) => Err(setup(e.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_ssh_become_settings() {
        let text = "user ops\nhostname 10.0.0.1\nport 2222\nidentitiesonly yes\nidentityfile ~/.ssh/%h_%r\nproxyjump none\n\
                    userknownhostsfile /a ~/b\nglobalknownhostsfile none\nidentityagent none\nconnecttimeout 3\n\
                    proxycommand nc %h %p 100%%\nhostkeyalias web\n";
        let e = Effective::parse(text, &Target::new("web1"), Path::new("/home/me"));
        assert_eq!((e.hostname.as_str(), e.port, e.user.as_str()), ("10.0.0.1", 2222, "ops"));
        assert_eq!(e.identity_files, [PathBuf::from("/home/me/.ssh/10.0.0.1_ops")]);
        assert_eq!(e.user_known_hosts_files, [PathBuf::from("/a"), PathBuf::from("/home/me/b")]);
        assert_eq!(e.global_known_hosts_files, Vec::<PathBuf>::new());
        assert_eq!(e.proxy_command.as_deref(), Some("nc 10.0.0.1 2222 100%"));
        assert_eq!((e.proxy_jump.as_deref(), &e.agent), (None, &AgentAt::Nowhere));
        assert_eq!(e.key_name(), ("web", 22));
        assert_eq!(e.connect_timeout, Some(Duration::from_secs(3)));
    }

    #[test]
    fn without_ssh_the_target_is_enough() {
        let mut target = Target::new("10.0.0.9");
        target.identity = Some("/keys/ops".into());
        let e = Effective::of(&target, &Config::None).unwrap();
        assert_eq!((e.hostname.as_str(), e.port, e.identities_only), ("10.0.0.9", 22, true));
        assert_eq!(e.identity_files, [PathBuf::from("/keys/ops")]);
    }

    #[test]
    fn a_real_ssh_is_asked_and_the_inventory_wins() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("config");
        fs_err::write(&file, "Host web*\n HostName 192.0.2.7\n Port 2200\n User conf\n ProxyJump a@b:3\n").unwrap();
        let mut target = Target::new("web1");
        let e = Effective::of(&target, &Config::File(file.clone())).unwrap();
        assert_eq!((e.hostname.as_str(), e.port, e.user.as_str()), ("192.0.2.7", 2200, "conf"));
        assert_eq!(e.proxy_jump.as_deref(), Some("a@b:3"));
        target.port = Some(22);
        target.user = Some("ops".into());
        target.address = Some("192.0.2.8".into());
        target.jump = Some("none".into());
        let e = Effective::of(&target, &Config::File(file.clone())).unwrap();
        assert_eq!((e.hostname.as_str(), e.port, e.user.as_str()), ("192.0.2.8", 22, "ops"));
        assert_eq!(e.proxy_jump, None);
        fs_err::write(&file, "Nonsense yes\n").unwrap();
        let error = Effective::of(&target, &Config::File(file)).unwrap_err();
        assert!(error.to_string().contains("nonsense"), "{error}");
    }
}
