//! A first inventory: takes what a person has answered, gives the text of the file with a word about each part. What is written is
//! short, and passes `check`: whoever writes it to a file loads it before.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::IpAddr;

use crate::base::net::{Cidr, DnsName, HostName, Invalid, Port};
use crate::base::visible;
use crate::inventory::resolve::{RESERVED, unfit};
use crate::inventory::site::{Engine, Role};

pub mod ansible;

/// The schema of the inventory, which stands beside it for editors.
pub const SCHEMA: &str = "inventory.schema.json";

/// The longest internal name of a host, `HOST.NAME.infra.internal` (RFC 5280, `ub-common-name`).
const MAX_INTERNAL: usize = 64;

/// How a host is logged in to, where `~/.ssh/config` does not decide.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Login {
    /// Who logs in.
    pub user: Option<String>,
    /// The TCP port.
    pub port: Option<Port>,
    /// A private key's file.
    pub identity: Option<String>,
    /// As `ssh -J` takes it.
    pub jump: Option<String>,
    /// What is connected to, where that is not the host's address.
    pub address: Option<String>,
}

impl Login {
    /// Key and value, in the order of the manual.
    fn fields(&self) -> Vec<(&'static str, String)> {
        let text = |text: &Option<String>| text.as_ref().map(|text| scalar(text));
        let all = [
            ("user", text(&self.user)),
            ("port", self.port.map(|port| port.to_string())),
            ("identity", text(&self.identity)),
            ("jump", text(&self.jump)),
            ("address", text(&self.address)),
        ];
        all.into_iter().filter_map(|(key, value)| Some((key, value?))).collect()
    }

    /// What this one says and `common` does not.
    fn beside(&self, common: &Self) -> Self {
        fn other<T: Clone + PartialEq>(own: Option<&T>, common: Option<&T>) -> Option<T> {
            own.filter(|own| Some(*own) != common).cloned()
        }
        Self {
            user: other(self.user.as_ref(), common.user.as_ref()),
            port: other(self.port.as_ref(), common.port.as_ref()),
            identity: other(self.identity.as_ref(), common.identity.as_ref()),
            jump: other(self.jump.as_ref(), common.jump.as_ref()),
            address: self.address.clone(),
        }
    }
}

/// A host of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DraftHost {
    /// Its name.
    pub name: HostName,
    /// One address, or one of each family.
    pub addresses: Vec<IpAddr>,
    /// What it does.
    pub roles: BTreeSet<Role>,
    /// Why it has several roles, where it has.
    pub reason: Option<String>,
    /// How it is logged in to.
    pub login: Login,
}

/// What a person has answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draft {
    /// Of the infrastructure.
    pub name: HostName,
    /// The hosts, in the order in which they are written.
    pub hosts: Vec<DraftHost>,
    /// The first site.
    pub domain: DnsName,
    /// The port of the program on loopback of the app hosts.
    pub app_port: Port,
    /// The path that says whether the program is well.
    pub health: String,
    /// The configuration of ssh that is meant, where that is not ~/.ssh/config.
    pub ssh_config: Option<String>,
    /// Who may open SSH.
    pub manage_from: Vec<Cidr>,
    /// Who signs: a word or a directory's URL.
    pub issuer: String,
    /// The mail address of the account; none for the internal authority.
    pub contact: Option<String>,
    /// The database's engine, where a host has the role.
    pub engine: Engine,
}

/// An address that a host can have by which others reach it.
///
/// # Errors
/// What is wrong with it, half a sentence.
pub fn address(text: &str) -> Result<IpAddr, Invalid> {
    let address: IpAddr = text.parse().map_err(|_| Invalid::new("is not an IPv4 or IPv6 address"))?;
    unfit(address).map_or(Ok(address), |why| Err(Invalid::new(why)))
}

/// Whether the internet may reach an address (RFC 1918, RFC 6598, RFC 4193).
pub fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            let [a, b, ..] = v4.octets();
            !(v4.is_private() || v4.is_loopback() || v4.is_link_local() || (a == 100 && (64..128).contains(&b)))
        }
        IpAddr::V6(v6) => !(v6.is_unique_local() || v6.is_loopback() || v6.is_unicast_link_local()),
    }
}

/// A host's name of one label, made of any name that it has elsewhere, other than all in `taken`. `site` is that of the
/// infrastructure, for the length; `role` names a host that has only an address.
pub fn host_name(given: &str, role: Role, site: &HostName, taken: &BTreeSet<HostName>) -> Option<HostName> {
    let most = MAX_INTERNAL.saturating_sub(site.as_str().len() + "..infra.internal".len()).min(63);
    let plain = |text: &str| {
        let text: String = text
            .chars()
            .map(|c| c.to_ascii_lowercase())
            .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
            .collect();
        text.trim_matches('-').to_owned()
    };
    let whole = if given.parse::<IpAddr>().is_ok() { role.as_str().to_owned() } else { plain(given) };
    let first = if given.parse::<IpAddr>().is_ok() {
        String::new()
    } else {
        plain(given.split('.').next().unwrap_or_default())
    };
    let numbered = |base: &str| (1..10_000).map(|number| format!("{base}{number}")).collect::<Vec<_>>();
    let shorter = whole.chars().take(most.saturating_sub(4)).collect::<String>();
    let candidates = [first, whole.clone()].into_iter().chain(numbered(&shorter)).chain(numbered(role.as_str()));
    let fits = |name: &String| name.len() <= most && !RESERVED.contains(&name.as_str());
    candidates.filter(fits).filter_map(|name| name.parse().ok()).find(|name| !taken.contains(name))
}

/// A text as YAML reads it back, in block and flow: plain where nothing in it means something else.
fn scalar(text: &str) -> String {
    let plain = text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '/' || c == '~')
        && (text.len() > 1 || text == "/")
        && text.parse::<f64>().is_err()
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "._/@~-".contains(c))
        && !["null", "true", "false", "yes", "no", "on", "off"].contains(&text.to_ascii_lowercase().as_str());
    if plain {
        return text.to_owned();
    }
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c.is_control() => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out + "\""
}

/// One value as it is, several as a list.
fn list(values: &[String]) -> String {
    match values {
        [one] => one.clone(),
        _ => format!("[{}]", values.join(", ")),
    }
}

fn addresses(all: &[IpAddr]) -> String {
    list(&all.iter().map(|address| scalar(&address.to_string())).collect::<Vec<_>>())
}

/// A flow map of fields.
fn map(fields: &[(&str, String)]) -> String {
    let fields: Vec<String> = fields.iter().map(|(key, value)| format!("{key}: {value}")).collect();
    format!("{{ {} }}", fields.join(", "))
}

/// The name of a schema and of its user, made of the infrastructure's.
fn schema(name: &HostName) -> String {
    let text: String = name.as_str().replace('-', "_").chars().take(28).collect();
    let taken = ["mysql", "sys", "information_schema", "performance_schema", "root", "mariadb", "infra"];
    match text {
        text if !text.starts_with(|c: char| c.is_ascii_lowercase()) => format!("db_{text}"),
        text if taken.contains(&text.as_str()) || text.starts_with("infra_") => format!("db_{text}"),
        text => text,
    }
}

/// The login that most hosts have in common.
fn common(hosts: &[DraftHost]) -> Login {
    fn of<T: Clone + PartialEq>(hosts: &[DraftHost], field: impl Fn(&Login) -> &Option<T>) -> Option<T> {
        let first = field(&hosts.first()?.login).clone()?;
        hosts.iter().all(|host| field(&host.login).as_ref() == Some(&first)).then_some(first)
    }
    Login {
        user: of(hosts, |login| &login.user),
        port: of(hosts, |login| &login.port),
        identity: of(hosts, |login| &login.identity),
        jump: of(hosts, |login| &login.jump),
        address: None,
    }
}

impl Draft {
    /// Whether a host has a role.
    pub fn has(&self, role: Role) -> bool {
        self.hosts.iter().any(|host| host.roles.contains(&role))
    }

    /// The text of the inventory.
    pub fn text(&self) -> String {
        let mut out = String::new();
        let common = common(&self.hosts);
        let _ = writeln!(
            out,
            "# yaml-language-server: $schema={SCHEMA}\n\
             # The infrastructure `{}`. `infra check` shows every mistake, `infra diff` what would change, `infra apply` changes it.\n\
             # `infra docs` lists all keys that can stand here, `infra docs KEY` says what one is for.\n\
             name: {}                            # of the state, of the internal CA and of the lock on the hosts\n",
            self.name,
            scalar(self.name.as_str())
        );
        let mut fields = common.fields();
        fields.extend(self.ssh_config.iter().map(|file| ("config", scalar(file))));
        let decides = self.ssh_config.as_deref().unwrap_or("~/.ssh/config");
        let _ = writeln!(
            out,
            "# What is not said here is decided by {} and the agent, as for ssh itself.",
            visible::line(decides)
        );
        let _ = match fields.as_slice() {
            [] => writeln!(out, "# ssh: {{ user: ops }}                 # root, or a user with sudo\n"),
            fields => writeln!(out, "ssh: {}\n", map(fields)),
        };
        self.hosts_into(&mut out, &common);
        let nets: Vec<String> = self.manage_from.iter().map(|net| scalar(&net.to_string())).collect();
        let _ = writeln!(
            out,
            "# What the roles imply is open, all else is closed, in and out.\n\
             firewall:\n  manage_from: [{}]   # who may open SSH: your own networks, this machine's among them\n",
            nets.join(", ")
        );
        self.site_into(&mut out);
        let _ = writeln!(out, "certificates:\n  issuer: {}", scalar(&self.issuer));
        match &self.contact {
            Some(contact) => {
                let _ = writeln!(out, "  contact: {}", scalar(contact));
            }
            None => out.push_str(
                "  # The CA of infra itself: browsers do not know it. For certificates that they know:\n  \
                 # issuer: letsencrypt\n  # contact: ops@example.com\n",
            ),
        }
        self.rest_into(&mut out);
        out
    }

    fn hosts_into(&self, out: &mut String, common: &Login) {
        out.push_str(
            "# Requests go lb (HAProxy), web (nginx), app (your program), db. `public` is what the internet sees of a load balancer.\n\
             hosts:\n",
        );
        let names: Vec<String> = self.hosts.iter().map(|host| scalar(host.name.as_str())).collect();
        let wide = names.iter().map(String::len).max().unwrap_or_default().min(24) + 1;
        for (host, name) in self.hosts.iter().zip(names) {
            let roles: Vec<&str> = host.roles.iter().map(|role| role.as_str()).collect();
            let mut fields =
                vec![("address", addresses(&host.addresses)), ("roles", format!("[{}]", roles.join(", ")))];
            let seen: Vec<IpAddr> = host.addresses.iter().copied().filter(|address| is_public(*address)).collect();
            if host.roles.contains(&Role::Lb) && !seen.is_empty() && !host.roles.contains(&Role::Db) {
                fields.push(("public", addresses(&seen)));
            }
            let own = host.login.beside(common).fields();
            if !own.is_empty() {
                fields.push(("ssh", map(&own)));
            }
            if let Some(reason) = host.reason.as_ref().filter(|_| host.roles.len() > 1) {
                fields.push(("allow_mixed_roles", scalar(reason)));
            }
            let line = format!("  {:wide$} {}", format!("{name}:"), map(&fields));
            if line.chars().count() <= 120 {
                let _ = writeln!(out, "{line}");
                continue;
            }
            let _ = writeln!(out, "  {name}:");
            for (key, value) in fields {
                let _ = writeln!(out, "    {key}: {value}");
            }
        }
        out.push('\n');
    }

    fn site_into(&self, out: &mut String) {
        let name = &self.name;
        let _ = writeln!(out, "sites:\n  {}:", scalar(self.domain.as_str()));
        if self.has(Role::App) {
            let _ = writeln!(
                out,
                "    # Your program: it listens on loopback of every app host, and `health` answers 200 when it is well.\n    \
                 app: {{ port: {}, health: {} }}\n    \
                 # Files that the web hosts serve themselves:\n    \
                 # static: {{ root: /srv/{name}/public, prefix: /static/ }}\n",
                self.app_port,
                scalar(&self.health)
            );
        } else {
            let _ = writeln!(
                out,
                "    # A folder of the web hosts, with the site's files and nothing else.\n    static: {{ root: /srv/{name} }}\n"
            );
        }
    }

    fn rest_into(&self, out: &mut String) {
        let first = self.hosts.iter().find(|host| host.roles.contains(&Role::Db));
        if let Some(first) = first {
            let (schema, engine) = (
                schema(&self.name),
                match self.engine {
                    Engine::Mariadb => "mariadb",
                    Engine::Mysql => "mysql",
                },
            );
            let from = if self.has(Role::App) { Role::App } else { Role::Web };
            let _ = writeln!(
                out,
                "\ndatabase:\n  engine: {engine}                     # mariadb | mysql\n  primary: {}                        \
                 # the first writer; a later switchover is remembered\n  schemas: [{schema}]\n  users:\n    \
                 # infra makes the password; /etc/infra/db/{schema}.env on the {from} hosts has it, with all that a program needs.\n    \
                 {schema}: {{ schema: {schema}, from: {from} }}",
                scalar(first.name.as_str())
            );
        }
        let _ = writeln!(
            out,
            "\n# Who watches: a host of its own with `roles: [monitor]`, and\n# monitoring: {{ service: prometheus }}"
        );
    }
}

#[cfg(test)]
mod tests;
