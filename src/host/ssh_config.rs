//! How `ssh` itself would reach a host: takes a host as a person writes it, asks `ssh -G` (which knows `Match`, `Include` and
//! tokens), gives the effective settings. What the inventory says wins; without `ssh` the inventory's fields are all there is.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::target::{Config, Target};
use super::transport::TransportError;

mod account;
mod ask;
mod blocks;
pub mod options;
mod settings;
mod tokens;

pub use ask::Asked;
use blocks::Blocks;
use settings::Settings;
pub(crate) use tokens::home;
use tokens::{Names, tilde};

/// The longest for TCP to one address, where no `ConnectTimeout` says so.
const CONNECTING: Duration = Duration::from_secs(10);
/// The longest for SSH's key exchange, where no `ConnectTimeout` says so.
const HANDSHAKE: Duration = Duration::from_secs(20);
/// The longest for the answer about one key or password. A host that looks up our name with name servers that are dead takes
/// its time with the first one (`UseDNS`); sshd itself gives up after two minutes (`LoginGraceTime`).
const LOGIN: Duration = Duration::from_secs(60);

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
    /// A certificate to offer beside those that stand beside their keys (`KEY-cert.pub`).
    pub certificate_files: Vec<PathBuf>,
    /// In which ways one may log in.
    pub ways: Ways,
    /// Whether `proxy_command` hands over a connected socket instead of being the connection.
    pub proxy_hands_over: bool,
    /// The address that the connection comes from.
    pub bind_address: Option<String>,
    /// The only family of addresses to connect to: 4 or 6.
    pub family: Option<u8>,
    /// Algorithms that a person has chosen, as lists with commas.
    pub algorithms: Algorithms,
    /// The shortest RSA key of a host, bits.
    pub least_rsa_bits: usize,
    /// The bounds of each part of a connection.
    pub bounds: Bounds,
    /// What a person should know about settings that do not hold, each a sentence.
    pub notes: Vec<String>,
}

/// In which ways one may log in, and who may be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ways {
    /// With keys.
    pub keys: bool,
    /// By answers to the host's questions; of its rank among the ways, the first is 0.
    pub questions: Option<usize>,
    /// With a password; of its rank.
    pub password: Option<usize>,
    /// Whether a person may be asked anything.
    pub asks: bool,
    /// How often a wrong answer may be corrected.
    pub tries: usize,
}

impl Ways {
    fn of(settings: &Settings) -> Self {
        let preferred = settings.one("preferredauthentications");
        let rank = |way: &str, usual: usize| match preferred {
            Some(list) => list.split(',').position(|one| one.trim() == way),
            None => Some(usual),
        };
        let is = |option: &str| settings.is(option, true);
        Self {
            keys: is("pubkeyauthentication") && rank("publickey", 0).is_some(),
            questions: rank("keyboard-interactive", 1).filter(|_| is("kbdinteractiveauthentication")),
            password: rank("password", 2).filter(|_| is("passwordauthentication")),
            asks: !settings.is("batchmode", false),
            tries: settings.one("numberofpasswordprompts").and_then(|n| n.parse().ok()).unwrap_or(3),
        }
    }
}

/// Algorithms that a person has chosen; nothing where they are what `ssh` takes by itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Algorithms {
    /// Of the key exchange.
    pub kex: Option<String>,
    /// Ciphers.
    pub ciphers: Option<String>,
    /// Message authentication codes.
    pub macs: Option<String>,
    /// Of the host's key.
    pub host_keys: Option<String>,
}

/// How long each part of a connection may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// TCP, per address.
    pub connect: Duration,
    /// The key exchange.
    pub handshake: Duration,
    /// The answer about one key or password.
    pub login: Duration,
}

impl Bounds {
    /// By the person's `ConnectTimeout`, in seconds. As for `ssh` it holds until the keys are exchanged; an answer to a login may
    /// take longer.
    fn of(timeout: Option<Duration>) -> Self {
        Self {
            connect: timeout.unwrap_or(CONNECTING),
            handshake: timeout.unwrap_or(HANDSHAKE),
            login: timeout.unwrap_or(LOGIN).max(LOGIN),
        }
    }
}

/// The names of hosts that have a block in a configuration, its own or that of [`Config::Default`], in files that it includes too:
/// those without wildcards. Hosts that only `Match` blocks are for have none.
pub fn names(config: &Config) -> BTreeSet<String> {
    Blocks::of(config).names().map(ToOwned::to_owned).collect()
}

impl Effective {
    /// Asks `ssh -G`, then lets the target's own fields win.
    ///
    /// # Errors
    /// [`TransportError::Setup`] when `ssh` refuses its configuration, or hangs.
    pub fn of(target: &Target, config: &Config, asked: &Asked) -> Result<Self, TransportError> {
        let home = home();
        let answer = asked.about(target, config)?;
        let none = Settings::default();
        let (settings, usual) = answer.settings.as_ref().map_or((&none, &none), |own| match asked.usual() {
            usual if *usual == none => (own, own),
            usual => (own, usual),
        });
        let mut effective = Self::parse(settings, usual, target, &answer.called, &home);
        effective.notes.extend(answer.notes);
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

    /// How the configuration calls a target: by its name, or by its address where only that has a block.
    ///
    /// # Errors
    /// As for [`Effective::of`].
    pub fn called(target: &Target, config: &Config, asked: &Asked) -> Result<String, TransportError> {
        Ok(asked.about(target, config)?.called)
    }

    /// Takes what `ssh -G` prints (or nothing) for a target that is `called` so, and what it prints of an empty configuration.
    fn parse(settings: &Settings, usual: &Settings, target: &Target, called: &str, home: &Path) -> Self {
        let one = |key: &str| settings.one(key);
        let number = |key: &str| one(key).and_then(|n| n.parse().ok());
        let local_user = Some(account::own().name.clone()).filter(|name| !name.is_empty());
        let mut effective = Self {
            hostname: one("hostname").unwrap_or(called).to_owned(),
            port: one("port").and_then(|p| p.parse().ok()).unwrap_or(22),
            user: one("user").map(ToOwned::to_owned).or(local_user).unwrap_or_else(|| "root".to_owned()),
            identity_files: Vec::new(),
            identities_only: settings.is("identitiesonly", false),
            agent: AgentAt::Environment,
            proxy_jump: one("proxyjump").map(ToOwned::to_owned),
            proxy_command: None,
            user_known_hosts_files: Vec::new(),
            global_known_hosts_files: Vec::new(),
            revoked_host_keys: None,
            host_key_alias: one("hostkeyalias").map(ToOwned::to_owned),
            certificate_files: Vec::new(),
            ways: Ways::of(settings),
            proxy_hands_over: settings.is("proxyusefdpass", false),
            bind_address: one("bindaddress").map(ToOwned::to_owned),
            family: match one("addressfamily") {
                Some("inet") => Some(4),
                Some("inet6") => Some(6),
                _ => None,
            },
            algorithms: Algorithms {
                kex: settings.unlike(usual, "kexalgorithms"),
                ciphers: settings.unlike(usual, "ciphers"),
                macs: settings.unlike(usual, "macs"),
                host_keys: settings.unlike(usual, "hostkeyalgorithms"),
            },
            least_rsa_bits: settings.unlike(usual, "requiredrsasize").and_then(|n| n.parse().ok()).unwrap_or(0),
            bounds: Bounds::of(number("connecttimeout").map(Duration::from_secs)),
            notes: options::named(settings, usual),
        };
        let names = Names { called, target, home };
        let file = |text: &str, e: &Self| names.file(text, e);
        let files = |key: &str, usual: &[&str], e: &Self| -> Vec<PathBuf> {
            let given = settings.all(key);
            let words: Vec<&str> = if given.is_empty() {
                usual.to_vec()
            } else {
                given.iter().flat_map(|l| l.split_ascii_whitespace()).filter(|w| *w != "none").collect()
            };
            words.into_iter().map(|w| file(w, e)).collect()
        };
        let each = |key: &str, e: &Self| -> Vec<PathBuf> {
            settings.all(key).iter().filter(|f| *f != "none").map(|f| file(f, e)).collect()
        };
        effective.identity_files = if settings.all("identityfile").is_empty() {
            ["~/.ssh/id_ed25519", "~/.ssh/id_ecdsa", "~/.ssh/id_rsa"].iter().map(|f| file(f, &effective)).collect()
        } else {
            each("identityfile", &effective)
        };
        effective.certificate_files = each("certificatefile", &effective);
        effective.user_known_hosts_files =
            files("userknownhostsfile", &["~/.ssh/known_hosts", "~/.ssh/known_hosts2"], &effective);
        effective.global_known_hosts_files =
            files("globalknownhostsfile", &["/etc/ssh/ssh_known_hosts", "/etc/ssh/ssh_known_hosts2"], &effective);
        effective.revoked_host_keys = one("revokedhostkeys").map(|f| file(f, &effective));
        effective.proxy_command = one("proxycommand").map(|c| names.expanded(c, &effective));
        effective.agent = match settings.all("identityagent").first().map(String::as_str) {
            None | Some("SSH_AUTH_SOCK") => AgentAt::Environment,
            Some("none") => AgentAt::Nowhere,
            Some(path) => match path.strip_prefix('$').filter(|name| !name.contains('/')) {
                Some(name) => {
                    let name = name.trim_start_matches('{').trim_end_matches('}');
                    std::env::var_os(name).map_or(AgentAt::Nowhere, |p| AgentAt::Socket(p.into()))
                }
                None => AgentAt::Socket(file(path, &effective)),
            },
        };
        effective
    }

    /// The name and the port that known_hosts is searched for (`HostKeyAlias` stands without a port, `ssh_config(5)`).
    pub fn key_name(&self) -> (&str, u16) {
        self.host_key_alias.as_deref().map_or((self.hostname.as_str(), self.port), |alias| (alias, 22))
    }

    /// The person's own file of host keys, where a new key is kept: that of the machine holds for all its users.
    ///
    /// # Errors
    /// Why there is none, a sentence.
    pub fn book(&self) -> Result<&Path, String> {
        let Some(file) = self.user_known_hosts_files.first() else {
            return Err("you have no file of host keys: `UserKnownHostsFile` of the ssh configuration is `none`".into());
        };
        if fs_err::metadata(file).is_ok_and(|about| !about.is_file()) {
            let file = file.display();
            return Err(format!(
                "your file of host keys, `{file}`, keeps none: `UserKnownHostsFile` names no plain file"
            ));
        }
        Ok(file)
    }

    /// All files of host keys, the person's first.
    pub fn known_hosts_files(&self) -> Vec<PathBuf> {
        self.user_known_hosts_files.iter().chain(&self.global_known_hosts_files).cloned().collect()
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
        let (set, none) = (Settings::of(text), Settings::default());
        let e = Effective::parse(&set, &none, &Target::new("web1"), "web1", Path::new("/home/me"));
        assert_eq!((e.hostname.as_str(), e.port, e.user.as_str()), ("10.0.0.1", 2222, "ops"));
        assert_eq!(e.identity_files, [PathBuf::from("/home/me/.ssh/10.0.0.1_ops")]);
        assert_eq!(e.user_known_hosts_files, [PathBuf::from("/a"), PathBuf::from("/home/me/b")]);
        assert_eq!(e.global_known_hosts_files, Vec::<PathBuf>::new());
        assert_eq!(e.proxy_command.as_deref(), Some("nc 10.0.0.1 2222 100%"));
        assert_eq!((e.proxy_jump.as_deref(), &e.agent), (None, &AgentAt::Nowhere));
        assert_eq!(e.key_name(), ("web", 22));
        let [three, minute] = [3, 60].map(Duration::from_secs);
        assert_eq!(e.bounds, Bounds { connect: three, handshake: three, login: minute });
        assert!(e.ways.keys && e.ways.asks && e.ways.tries == 3, "{:?}", e.ways);
    }

    #[test]
    fn without_ssh_the_target_is_enough() {
        let mut target = Target::new("10.0.0.9");
        target.identity = Some("/keys/ops".into());
        let e = Effective::of(&target, &Config::None, &Asked::default()).unwrap();
        assert_eq!((e.hostname.as_str(), e.port, e.identities_only), ("10.0.0.9", 22, true));
        assert_eq!(e.identity_files, [PathBuf::from("/keys/ops")]);
    }

    #[test]
    fn a_real_ssh_is_asked_and_the_inventory_wins() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("config");
        fs_err::write(&file, "Host web*\n HostName 192.0.2.7\n Port 2200\n User conf\n ProxyJump a@b:3\n").unwrap();
        let mut target = Target::new("web1");
        let e = Effective::of(&target, &Config::File(file.clone()), &Asked::default()).unwrap();
        assert_eq!((e.hostname.as_str(), e.port, e.user.as_str()), ("192.0.2.7", 2200, "conf"));
        assert_eq!(e.proxy_jump.as_deref(), Some("a@b:3"));
        target.port = Some(22);
        target.user = Some("ops".into());
        target.address = Some("192.0.2.8".into());
        target.jump = Some("none".into());
        let e = Effective::of(&target, &Config::File(file.clone()), &Asked::default()).unwrap();
        assert_eq!((e.hostname.as_str(), e.port, e.user.as_str()), ("192.0.2.8", 22, "ops"));
        assert_eq!(e.proxy_jump, None);
        fs_err::write(&file, "Nonsense yes\n").unwrap();
        let error = Effective::of(&target, &Config::File(file), &Asked::default()).unwrap_err();
        assert!(error.to_string().contains("nonsense"), "{error}");
    }

    /// The settings that `text` as a configuration gives to hosts at addresses, and how often `ssh` was asked.
    fn effective(text: &str, hosts: &[(&str, &str)]) -> Vec<Effective> {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("config");
        fs_err::write(&file, text).unwrap();
        let asked = Asked::default();
        let of = |(name, address): &(&str, &str)| {
            let target = Target { address: Some((*address).to_owned()), ..Target::new(*name) };
            Effective::of(&target, &Config::File(file.clone()), &asked).unwrap()
        };
        hosts.iter().map(of).collect()
    }

    #[test]
    fn a_host_goes_by_its_address_where_its_name_has_no_block() {
        let hosts = [("web1", "10.0.1.1"), ("web2", "10.0.1.2"), ("db1", "10.0.4.1"), ("far", "192.0.2.1")];
        let all = effective("Host 10.0.*\n User net\nHost db*\n User data\nHost *\n User rest\n", &hosts);
        let users: Vec<&str> = all.iter().map(|e| e.user.as_str()).collect();
        assert_eq!(users, ["net", "net", "data", "rest"]);
        // Two blocks for one host are said, with both places.
        assert!(all[2].notes[0].contains("config:1") && all[2].notes[0].contains("config:3"), "{:?}", all[2].notes);
        assert!(all[0].notes.is_empty() && all[3].notes.is_empty());
        let addresses: Vec<&str> = all.iter().map(|e| e.hostname.as_str()).collect();
        assert_eq!(addresses, ["10.0.1.1", "10.0.1.2", "10.0.4.1", "192.0.2.1"]);
        let matched = effective("Match host 10.0.1.*\n User net\nMatch originalhost db1\n User data\n", &hosts);
        assert_eq!(
            (matched[0].user.as_str(), matched[1].user.as_str(), matched[2].user.as_str()),
            ("net", "net", "data")
        );
    }

    #[test]
    fn hosts_of_the_same_blocks_have_their_own_names() {
        let hosts = [("web1", "10.0.1.1"), ("web2", "10.0.1.2"), ("web3", "10.0.1.3")];
        for text in [
            "Host web*\n IdentityFile /keys/%n_%h\n ProxyCommand nc %h %p\n",
            "Host web*\n IdentityFile /keys/%n_%h\n ProxyCommand nc %h %p\n HostName %h.example.com\n",
        ] {
            for (e, (name, address)) in effective(text, &hosts).iter().zip(hosts) {
                assert_eq!(e.identity_files, [PathBuf::from(format!("/keys/{name}_{address}"))]);
                assert_eq!(e.proxy_command.as_deref(), Some(&*format!("nc {address} 22")));
            }
        }
    }

    #[test]
    fn what_ssh_has_put_together_for_one_host_is_no_other_hosts() {
        let hosts = [("web1", "10.0.1.1"), ("web2", "10.0.1.2")];
        for shared in ["UserKnownHostsFile /kh/%C /kh/h%h%p", "IdentityAgent /agent/%C"] {
            let text = format!("Host web1\n Port 2201\nHost web2\n Port 2202\nHost *\n {shared}\n");
            let all = effective(&text, &hosts);
            assert_ne!(
                (all[0].known_hosts_files(), &all[0].agent),
                (all[1].known_hosts_files(), &all[1].agent),
                "{shared}"
            );
            if shared.starts_with("User") {
                assert!(all[1].known_hosts_files().contains(&PathBuf::from("/kh/h10.0.1.22202")), "{all:?}");
            }
        }
    }

    #[test]
    fn a_block_for_each_host_gives_what_ssh_says_of_it() {
        let text = "Host web1\n HostName 10.0.1.1\n Port 2201\nHost web1 10.0.1.1\n User a\nHost web2\n HostName 10.0.1.2\n Port 2202\n User b\n\
                    Host web3\n HostName 10.0.1.3\n Port 2203\n HostKeyAlias three\nHost *\n User c\n Port 22\n IdentityFile /keys/%h_%p\n";
        let dir = tempfile::tempdir().unwrap();
        let config = Config::File(dir.path().join("config"));
        fs_err::write(dir.path().join("config"), text).unwrap();
        let (together, hosts) = (Asked::default(), ["web1", "web2", "web3", "web4", "10.0.1.1"]);
        for host in hosts.into_iter().chain(hosts) {
            let of = |asked: &Asked| Effective::of(&Target::new(host), &config, asked).unwrap();
            assert_eq!(of(&together), of(&Asked::default()), "{host}");
        }
    }

    #[test]
    fn algorithms_hold_where_a_person_has_chosen_them() {
        let chosen = effective(
            "KexAlgorithms curve25519-sha256\nCiphers aes256-ctr\nRequiredRSASize 3072\n",
            &[("a", "10.0.0.1")],
        );
        let algorithms = &chosen[0].algorithms;
        assert_eq!(algorithms.kex.as_deref(), Some("curve25519-sha256"));
        assert_eq!((algorithms.macs.as_deref(), chosen[0].least_rsa_bits), (None, 3072));
        let ways = |text: &str| effective(text, &[("a", "10.0.0.1")])[0].ways;
        let only = ways("PreferredAuthentications password,publickey\nBatchMode yes\nNumberOfPasswordPrompts 1\n");
        assert_eq!(only, Ways { keys: true, questions: None, password: Some(0), asks: false, tries: 1 });
        assert_eq!(ways("PasswordAuthentication no\nPubkeyAuthentication no\n").password, None);
    }
}
