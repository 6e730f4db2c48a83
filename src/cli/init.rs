//! `init`: takes flags, answers of a person, or another tool's list of hosts; writes a first inventory that passes `check`. No host is
//! touched, and no file that is there already is replaced.

use std::collections::BTreeSet;
use std::io::{self, Write as _};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use super::exit;
use super::stop::{Done, Stop};
use crate::base::diagnostic::Diagnostic;
use crate::base::fsx;
use crate::base::net::{Cidr, DnsName, HostName, Port};
use crate::base::words::count;
use crate::host::reach;
use crate::inventory::draft::{self, Draft, DraftHost, Login, SCHEMA};
use crate::inventory::load;
use crate::inventory::manual::Manual;
use crate::inventory::site::{Engine, Role};
use crate::report::Reporter;

mod questions;
mod sources;

use questions::Questions;
use sources::Mapping;

/// Most bytes of another tool's file.
const SOURCE: u64 = 10 << 20;

/// The configuration of ssh where no other is named.
const DEFAULT_SSH: &str = "~/.ssh/config";

/// `init`.
#[derive(Debug, Clone, clap::Args)]
pub struct Init {
    /// The inventory to write
    #[arg(value_name = "FILE", default_value = "inventory.yml")]
    pub file: PathBuf,
    /// The name of the infrastructure: one DNS label (the first label of the site)
    #[arg(long)]
    pub name: Option<HostName>,
    /// The first site, by its name
    #[arg(long, value_name = "NAME")]
    pub domain: Option<DnsName>,
    /// One machine for everything: load balancer, web and application
    #[arg(long, value_name = "ADDRESS", value_parser = address, conflicts_with_all = ["lb", "web", "app", "from_ansible", "from_ssh_config"])]
    pub single: Option<IpAddr>,
    /// Load balancers
    #[arg(long, value_name = "ADDRESS", value_parser = address, value_delimiter = ',')]
    pub lb: Vec<IpAddr>,
    /// Web hosts
    #[arg(long, value_name = "ADDRESS", value_parser = address, value_delimiter = ',')]
    pub web: Vec<IpAddr>,
    /// Hosts of your program; none for a site of files alone
    #[arg(long, value_name = "ADDRESS", value_parser = address, value_delimiter = ',')]
    pub app: Vec<IpAddr>,
    /// Database hosts, the writer first
    #[arg(long, value_name = "ADDRESS", value_parser = address, value_delimiter = ',')]
    pub db: Vec<IpAddr>,
    /// Networks that may open SSH (the address by which this machine reaches the hosts)
    #[arg(long, value_name = "NETWORK", value_delimiter = ',')]
    pub manage_from: Vec<Cidr>,
    /// Who logs in: root, or a user with sudo (as ~/.ssh/config decides)
    #[arg(long)]
    pub user: Option<String>,
    /// Who signs certificates: letsencrypt, letsencrypt-staging, internal, or the URL of an ACME directory
    #[arg(long)]
    pub issuer: Option<String>,
    /// The mail address of the account at the issuer (hostmaster at the site)
    #[arg(long, value_name = "MAIL")]
    pub contact: Option<String>,
    /// The port at which your program listens on loopback (8080)
    #[arg(long, value_name = "PORT")]
    pub app_port: Option<Port>,
    /// The path at which your program answers 200 when it is well (/)
    #[arg(long, value_name = "PATH")]
    pub health: Option<String>,
    /// The database: mariadb or mysql (mariadb)
    #[arg(long, value_enum)]
    pub engine: Option<EngineWord>,
    /// Take the hosts from an inventory of Ansible (INI or YAML)
    #[arg(long, value_name = "FILE", conflicts_with_all = ["lb", "web", "app", "db", "from_ssh_config"])]
    pub from_ansible: Option<PathBuf>,
    /// Take the hosts from ~/.ssh/config, or from `=FILE`
    #[arg(long, value_name = "FILE", num_args = 0..=1, require_equals = true, default_missing_value = DEFAULT_SSH, conflicts_with_all = ["lb", "web", "app", "db"])]
    pub from_ssh_config: Option<PathBuf>,
    /// Which role a group of Ansible has, or hosts whose name fits a pattern: webservers=web, 'www*=web'
    #[arg(long, value_name = "GROUP=ROLE", value_delimiter = ',')]
    pub map: Vec<Mapping>,
}

/// The engines by their words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum EngineWord {
    /// `MariaDB`
    Mariadb,
    /// `MySQL`
    Mysql,
}

fn address(text: &str) -> Result<IpAddr, String> {
    draft::address(text).map_err(|invalid| invalid.to_string())
}

/// Names that no public authority signs for (RFC 2606, RFC 6762, RFC 8375, ICANN's `.internal`); examples are taken for what they stand for.
const INSIDE: [&str; 8] = ["test", "invalid", "localhost", "local", "internal", "lan", "home", "arpa"];

/// Keeps what infra makes out of git.
const IGNORE: &str = ".gitignore";

pub(super) fn run(init: &Init, reporter: &Reporter) -> Done {
    if fs_err::symlink_metadata(&init.file).is_ok() {
        return Err(Stop::Refused(
            format!("`{}` is there already, and nothing is overwritten", init.file.display()),
            vec!["name another file: `infra init … OTHER.yml`".to_owned()],
        ));
    }
    if init.file.file_name().is_some_and(|name| name == SCHEMA || name == IGNORE) {
        return Err(Stop::Refused(
            format!("`{}` is the name of a file that `init` writes beside the inventory", init.file.display()),
            vec!["name another file: `infra init … OTHER.yml`".to_owned()],
        ));
    }
    let mut questions = Questions::new(reporter);
    let draft = gather(init, &mut questions, reporter)?;
    let text = draft.text();
    let loaded = load::load_text(&text, &init.file);
    // What the answers make is judged like any inventory, before a file has it.
    let (site, warnings) =
        loaded.map_err(|mistakes| Stop::Input(mistakes.into_iter().map(|one| of_answers(init, one)).collect()))?;
    write_new(&init.file, &text).map_err(|error| {
        let help = "name a file in a folder that is there, and that you may write to".to_owned();
        Stop::Refused(format!("the inventory cannot be written: {error}"), vec![help])
    })?;
    let ignored = ignore(&init.file);
    let schema = for_editors(&init.file)?;
    if !warnings.is_empty() {
        reporter.diagnostics(&warnings)?;
    }
    let file = init.file.display();
    let words = format!("{file} is written: {}, {}, {}", site.name, count(site.hosts.len(), "host"), draft.domain);
    reporter.written(&init.file, &[], &words)?;
    reporter.note(&ignored);
    reporter.note(&schema);
    reporter.note(&format!(
        "next: read it, then `infra check {file}`; `infra trust --all {file}` accepts the hosts' SSH keys, `infra diff {file}` shows what would change"
    ));
    Ok(exit::DONE)
}

/// All answers, from wherever they come; what is missing where nobody can be asked is told at once.
fn gather(init: &Init, questions: &mut Questions<'_>, reporter: &Reporter) -> Result<Draft, Stop> {
    let domain = questions.needed(
        init.domain.clone(),
        "--domain shop.example.com",
        "the name of the first site, such as shop.example.com",
        None,
        |text| text.parse::<DnsName>().map_err(|invalid| format!("`{text}` {invalid}")),
    )?;
    let usual = domain.as_ref().and_then(usual_name);
    let name = questions.usual(init.name.clone(), "a short name for the infrastructure", usual, |text| {
        text.parse::<HostName>().map_err(|invalid| format!("`{text}` {invalid}"))
    })?;
    let (Some(domain), Some(name)) = (domain, name) else { return Err(questions.missing()) };
    let mut hosts = if let Some(file) = &init.from_ansible {
        let bytes = fsx::read_named(file, SOURCE).map_err(|error| unread(file, &error.to_string()))?;
        sources::ansible(file, &String::from_utf8_lossy(&bytes), &init.map, &name, questions, reporter)?
    } else if let Some(file) = &init.from_ssh_config {
        let file = Some(file.as_path()).filter(|file| *file != Path::new(DEFAULT_SSH));
        sources::ssh_config(file, &init.map, &name, questions, reporter)?
    } else {
        if !init.map.is_empty() {
            return Err(Stop::Refused(
                "`--map` says which role the hosts of another tool's file have, and no file is named".to_owned(),
                vec!["add `--from-ansible FILE` or `--from-ssh-config`".to_owned()],
            ));
        }
        by_flags(init, &name, questions)?
    };
    if let Some(user) = &init.user {
        for host in &mut hosts {
            host.login.user = Some(user.clone());
        }
    } else if init.from_ansible.is_none() && init.from_ssh_config.is_none() && questions.can() {
        let user = questions.ask(
            "who logs in by SSH: root, or a user with sudo; `-` for whom ~/.ssh/config says",
            Some("-"),
            |text| {
                let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
                match text {
                    "-" => Ok(None),
                    text if text.chars().all(plain) => Ok(Some(text.to_owned())),
                    text => Err(format!("`{text}` is not a user name")),
                }
            },
        )?;
        for host in &mut hosts {
            host.login.user.clone_from(&user);
        }
    }
    let manage_from = manage_from(init, &hosts, questions, reporter)?;
    let (issuer, contact) = certificates(init, &domain, questions)?;
    if questions.lacks() {
        return Err(questions.missing());
    }
    let engine = match init.engine {
        None | Some(EngineWord::Mariadb) => Engine::Mariadb,
        Some(EngineWord::Mysql) => Engine::Mysql,
    };
    let app_port = init.app_port.unwrap_or(Port::PROGRAM);
    let health = init.health.clone().unwrap_or_else(|| "/".to_owned());
    let ssh_config = init.from_ssh_config.as_deref().filter(|file| *file != Path::new(DEFAULT_SSH));
    let ssh_config = ssh_config.map(whole).transpose()?;
    let draft = Draft { name, hosts, domain, app_port, health, ssh_config, manage_from, issuer, contact, engine };
    unused(init, &draft)?;
    Ok(draft)
}

/// A file by a path that holds wherever the inventory is used from.
fn whole(file: &Path) -> Result<String, Stop> {
    let path = std::path::absolute(file).map_err(|error| unread(file, &error.to_string()))?;
    let text = path.to_str().ok_or_else(|| unread(file, "its path is not UTF-8, which an inventory cannot name"))?;
    Ok(text.to_owned())
}

/// Refuses a flag of which nothing would stand in the inventory.
fn unused(init: &Init, draft: &Draft) -> Result<(), Stop> {
    let (app, db) = (draft.has(Role::App), draft.has(Role::Db));
    let program = ("is about your program, and no host has the role app", "name its hosts: `--app ADDRESS`");
    let database = ("is about a database, and no host has the role db", "name its hosts: `--db ADDRESS`");
    let account =
        ("is about an account at an issuer, and the internal CA has none", "leave it out, or name another `--issuer`");
    let all = [
        ("--app-port", init.app_port.is_some() && !app, program),
        ("--health", init.health.is_some() && !app, program),
        ("--engine", init.engine.is_some() && !db, database),
        ("--contact", init.contact.is_some() && draft.contact.is_none(), account),
    ];
    match all.into_iter().find(|(_, lost, _)| *lost) {
        Some((flag, _, (why, help))) => Err(Stop::Refused(format!("`{flag}` {why}"), vec![help.to_owned()])),
        None => Ok(()),
    }
}

/// A mistake of the inventory that the answers make: there is no file yet in which it could be looked at, so it is told by the flag.
fn of_answers(init: &Init, mistake: Diagnostic) -> Diagnostic {
    let place = mistake.span.as_ref().and_then(|span| span.source.text.get(span.range.clone()));
    let value = place.map(|text| text.trim_matches('"'));
    let flags = [
        ("--user", init.user.as_deref()),
        ("--issuer", init.issuer.as_deref()),
        ("--contact", init.contact.as_deref()),
        ("--health", init.health.as_deref()),
    ];
    let flag = flags.iter().find(|(_, given)| given.is_some() && *given == value).map(|(flag, _)| *flag);
    let message = flag.map_or_else(|| mistake.message.clone(), |flag| format!("`{flag}`: {}", mistake.message));
    Diagnostic { message, span: None, label: None, related: Vec::new(), ..mistake }
}

fn unread(file: &Path, why: &str) -> Stop {
    let error = Diagnostic::error(format!("`{}` cannot be read: {why}", file.display()));
    let mut files: Vec<PathBuf> = fs_err::read_dir(file)
        .into_iter()
        .flatten()
        .flatten()
        .map(|e| e.path())
        .filter(|path| path.is_file())
        .collect();
    files.sort();
    let names: Vec<String> = files.iter().take(4).map(|path| format!("`{}`", path.display())).collect();
    if names.is_empty() { error.into() } else { error.help(format!("name a file in it: {}", names.join(", "))).into() }
}

/// The first label of a site that says something.
fn usual_name(domain: &DnsName) -> Option<String> {
    let labels = domain.as_str().split('.').filter(|label| !["www", "*"].contains(label));
    labels.map(|label| label.chars().take(40).collect::<String>()).find(|label| label.parse::<HostName>().is_ok())
}

/// The hosts that flags or a person name by their addresses.
fn by_flags(init: &Init, name: &HostName, questions: &mut Questions<'_>) -> Result<Vec<DraftHost>, Stop> {
    let given = [(Role::Lb, &init.lb), (Role::Web, &init.web), (Role::App, &init.app), (Role::Db, &init.db)];
    let mut single = init.single;
    let none = given.iter().take(3).all(|(_, addresses)| addresses.is_empty());
    if single.is_none() && none && questions.can() && questions.yes("is all of it on one machine: yes or no")? {
        single = questions.needed(None, "--single 192.0.2.10", "its address", None, address)?;
    }
    if let Some(address) = single {
        let roles = [Role::Lb, Role::Web, Role::App].into();
        let reason = Some("one machine for everything, until there are more".to_owned());
        let host = host("one", Role::Lb, vec![address], roles, reason, (name, &BTreeSet::new()))?;
        let mut hosts = vec![host];
        let taken = hosts.iter().map(|host| host.name.clone()).collect();
        hosts.extend(of_role(Role::Db, init.db.clone(), name, taken)?);
        return Ok(once(hosts)?);
    }
    let mut hosts: Vec<DraftHost> = Vec::new();
    for (role, addresses) in given {
        let (needed, question) = match role {
            Role::Lb => (true, "addresses of the load balancers, with commas"),
            Role::Web => (true, "addresses of the web hosts"),
            Role::App => (false, "addresses of the hosts of your program (none: a site of files)"),
            _ => (false, "addresses of the database hosts, the writer first (none)"),
        };
        let all = Some(addresses.clone()).filter(|all| !all.is_empty());
        let read = |text: &str| {
            let words = text.split([',', ' ']).filter(|word| !word.is_empty());
            let all: Result<Vec<IpAddr>, String> =
                words.map(|word| address(word).map_err(|why| format!("`{word}` {why}"))).collect();
            all.and_then(
                |all| if needed && all.is_empty() { Err("at least one is needed".to_owned()) } else { Ok(all) },
            )
        };
        let all = if needed {
            questions.needed(all, &format!("--{role} ADDRESS`, or `--single ADDRESS"), question, None, read)?
        } else if questions.can() && none {
            questions.usual(all, question, Some(String::new()), read)?
        } else {
            all
        };
        let taken = hosts.iter().map(|host| host.name.clone()).collect();
        hosts.extend(of_role(role, all.unwrap_or_default(), name, taken)?);
    }
    Ok(once(hosts)?)
}

/// `web1`, `web2` …
fn of_role(
    role: Role,
    addresses: Vec<IpAddr>,
    site: &HostName,
    mut taken: BTreeSet<HostName>,
) -> Result<Vec<DraftHost>, Stop> {
    let mut hosts = Vec::new();
    for (number, address) in addresses.into_iter().enumerate() {
        let given = format!("{role}{}", number + 1);
        let host = host(&given, role, vec![address], [role].into(), None, (site, &taken))?;
        taken.insert(host.name.clone());
        hosts.push(host);
    }
    Ok(hosts)
}

/// A host by the name that it has elsewhere.
fn host(
    given: &str,
    role: Role,
    addresses: Vec<IpAddr>,
    roles: BTreeSet<Role>,
    reason: Option<String>,
    (site, taken): (&HostName, &BTreeSet<HostName>),
) -> Result<DraftHost, Stop> {
    let name = draft::host_name(given, role, site, taken)
        .ok_or_else(|| Diagnostic::error(format!("no name can be made for the host `{given}` beside `{site}`")))?;
    Ok(DraftHost { name, addresses, roles, reason, login: Login::default() })
}

/// Refuses an address that two hosts have.
fn once(hosts: Vec<DraftHost>) -> Result<Vec<DraftHost>, Diagnostic> {
    for (at, host) in hosts.iter().enumerate() {
        for other in hosts.iter().take(at) {
            if let Some(twice) = host.addresses.iter().find(|address| other.addresses.contains(address)) {
                let error =
                    Diagnostic::error(format!("`{twice}` is given for `{}` and for `{}`", other.name, host.name));
                return Err(
                    error.help("each role has hosts of its own; `--single ADDRESS` puts everything on one machine")
                );
            }
        }
    }
    Ok(hosts)
}

/// Who may open SSH: what was said, or the addresses by which this machine reaches the hosts.
fn manage_from(
    init: &Init,
    hosts: &[DraftHost],
    questions: &mut Questions<'_>,
    reporter: &Reporter,
) -> Result<Vec<Cidr>, Stop> {
    let reached = || hosts.iter().filter(|host| host.login.jump.is_none()).flat_map(|host| &host.addresses);
    let ways = || reached().filter_map(|to| Some((*to, reach::local_address(*to)?)));
    let local: BTreeSet<IpAddr> = ways().map(|(_, from)| from).filter(|from| !from.is_loopback()).collect();
    let usual = local.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    let given = Some(init.manage_from.clone()).filter(|given| !given.is_empty());
    let asked = given.is_none();
    let usual = Some(usual).filter(|usual| !usual.is_empty());
    let question = "networks that may open SSH, with commas; this machine's must be among them";
    let read = |text: &str| {
        let words = text.split([',', ' ']).filter(|word| !word.is_empty());
        let all: Result<Vec<Cidr>, String> =
            words.map(|word| word.parse().map_err(|invalid| format!("`{word}` {invalid}"))).collect();
        all.and_then(|all| if all.is_empty() { Err("at least one is needed".to_owned()) } else { Ok(all) })
    };
    let nets = questions.needed(given, "--manage-from 198.51.100.0/24", question, usual.as_deref(), read)?;
    // Behind NAT the hosts see another address than this machine has.
    if asked && !questions.can() && ways().any(|(to, from)| draft::is_public(to) && !draft::is_public(from)) {
        reporter.note(
            "warning: hosts on the internet see this machine by another address than its own: put that one under \
             `manage_from`; `infra diff` names it, and nothing is applied that would cut this machine off",
        );
    }
    Ok(nets.unwrap_or_default())
}

/// Who signs, and the account's address.
fn certificates(
    init: &Init,
    domain: &DnsName,
    questions: &mut Questions<'_>,
) -> Result<(String, Option<String>), Stop> {
    let inside = domain.as_str().rsplit('.').next().is_some_and(|top| INSIDE.contains(&top));
    let issuer = init.issuer.clone().unwrap_or_else(|| {
        let public = !inside && !domain.is_wildcard();
        if public || init.contact.is_some() { "letsencrypt" } else { "internal" }.to_owned()
    });
    if issuer == "internal" {
        return Ok((issuer, None));
    }
    let bare = domain.as_str().trim_start_matches("*.");
    let bare = bare.strip_prefix("www.").unwrap_or(bare);
    let usual = Some(format!("hostmaster@{bare}"));
    let contact = questions.usual(
        init.contact.clone(),
        "your mail address, for the account at the certificate authority",
        usual,
        |text| {
            let parts = text.split_once('@').filter(|(local, domain)| !local.is_empty() && domain.contains('.'));
            parts.map(|_| text.to_owned()).ok_or_else(|| format!("`{text}` is not a mail address"))
        },
    )?;
    Ok((issuer, contact))
}

/// Writes a file that is not there, whole or not at all.
fn write_new(file: &Path, text: &str) -> io::Result<()> {
    let mut open = fs_err::OpenOptions::new().write(true).create_new(true).open(file)?;
    let written = open.write_all(text.as_bytes()).and_then(|()| open.sync_all());
    if written.is_err() {
        // A full disk, say: what is told is why it could not be written.
        let _ = fs_err::remove_file(file);
    }
    written
}

/// Puts the schema beside the inventory, where the first line of that says; gives a sentence about that.
fn for_editors(inventory: &Path) -> Result<String, Stop> {
    let file = inventory.with_file_name(SCHEMA);
    let (shown, again) = (file.display(), format!("`infra schema inventory > {}`", file.display()));
    match fs_err::symlink_metadata(&file) {
        Ok(there) if there.is_file() => {
            return Ok(format!("{shown} is there already and stays; {again} makes it that of this version"));
        }
        Ok(_) => return Ok(format!("warning: {shown} is no file, so your editor does not find the keys there")),
        Err(_) => {}
    }
    let schema = serde_json::to_string_pretty(&Manual::read()?.schema())? + "\n";
    if let Err(error) = write_new(&file, &schema) {
        return Ok(format!("warning: your editor does not get the schema of the inventory: {error}"));
    }
    Ok(format!("{shown} lets your editor complete and check the keys; after an update of infra: {again}"))
}

/// Whether a `.gitignore` keeps the state out, as far as its lines name the folder: the last one that does decides (gitignore(5)).
fn keeps_out(text: &str) -> bool {
    let names = |line: &str| {
        let line = line.trim_start_matches("**/").trim_start_matches('/');
        ["state", "state/", "state/*", "state/**", "*", "**"].contains(&line)
    };
    let said = |line: &str| match line.trim().strip_prefix('!') {
        // Whatever comes back of it may be a key.
        Some(kept) => (names(kept) || kept.trim_start_matches('/').starts_with("state/")).then_some(false),
        None => names(line.trim()).then_some(true),
    };
    text.lines().filter_map(said).next_back().unwrap_or(false)
}

/// Sees to it that the state, which holds keys, does not come into git; gives a sentence about that.
fn ignore(inventory: &Path) -> String {
    let file = inventory.with_file_name(IGNORE);
    let not_kept = |error: io::Error| format!("warning: {error}; see to it that `state/` does not come into git");
    let old = match fsx::read_bounded(&file, SOURCE) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let text =
                "# Keys, certificates and passwords that infra makes: back this folder up, never commit it.\nstate/\n";
            return match write_new(&file, text) {
                Ok(()) => format!("{} keeps `state/` out of git: keys and passwords will be there", file.display()),
                Err(error) => not_kept(error),
            };
        }
        Err(error) => return not_kept(error),
    };
    let text = String::from_utf8_lossy(&old);
    if keeps_out(&text) {
        return format!("{} keeps `state/` out of git already", file.display());
    }
    format!("add `state/` to {}: keys and passwords will be there, and that file is yours", file.display())
}
