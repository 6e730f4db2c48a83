//! An inventory of Ansible: takes the text of a file, in its INI form or as YAML, gives the hosts with the groups that they are in and the
//! variables that say how they are reached, also from files beside it (`group_vars`, `host_vars`). Templates in variables are not read.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::base::net::Invalid;

/// Most hosts that patterns may stand for.
const MOST: usize = 10_000;
/// How deep groups of groups may be.
const DEPTH: usize = 32;

/// A host of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// As it stands there.
    pub name: String,
    /// All groups that it is in, without `all` and `ungrouped`.
    pub groups: BTreeSet<String>,
    /// Its variables, and those of its groups.
    pub vars: BTreeMap<String, String>,
}

#[derive(Debug, Clone, Default)]
struct Group {
    hosts: BTreeSet<String>,
    children: BTreeSet<String>,
    vars: BTreeMap<String, String>,
}

#[derive(Debug, Default)]
struct Inventory {
    groups: BTreeMap<String, Group>,
    /// In the order in which they stand there.
    order: Vec<String>,
    vars: BTreeMap<String, BTreeMap<String, String>>,
}

/// Variables by their names.
pub type Variables = BTreeMap<String, String>;

/// Gives the variables that files beside an inventory have of a group or a host.
pub type Beside<'b> = dyn FnMut(Of, &str) -> Result<Variables, Invalid> + 'b;

/// Whose variables a file beside an inventory has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Of {
    /// A group, `all` among them.
    Group,
    /// A host.
    Host,
}

impl Of {
    /// The folder in which such files are.
    pub fn folder(self) -> &'static str {
        match self {
            Self::Group => "group_vars",
            Self::Host => "host_vars",
        }
    }
}

/// Reads the text of an inventory; YAML where it is that. `beside` gives those of files beside it.
///
/// # Errors
/// What does not read, with its line; and what `beside` says.
pub fn read(text: &str, beside: &mut Beside<'_>) -> Result<Vec<Host>, Invalid> {
    let mut inventory = Inventory::default();
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if is_sealed(text) {
        return Err(Invalid::new(
            "is encrypted by ansible-vault: decrypt a copy of it (`ansible-vault view`), and name that one",
        ));
    }
    if text.contains('\0') {
        return Err(Invalid::new("is no text"));
    }
    let first = text.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with(['#', ';']));
    // A section begins with `[`, and a host of the INI form has no colon behind its first word.
    let key =
        |line: &str| line.find(':').and_then(|at| line.get(..at)).is_some_and(|key| !key.contains(['=', ' ', '[']));
    let yaml = first.is_some_and(|line| {
        line == "---" || line.starts_with('{') || ((line.ends_with(':') || line.contains(": ")) && key(line))
    });
    if yaml {
        let value: Value = serde_yaml::from_str(text).map_err(|error| Invalid::new(unread(&error)))?;
        let Value::Object(groups) = value else {
            return Err(Invalid::new("is no map of groups, as `all:` begins one"));
        };
        // `ansible-inventory --list` gives the variables of all hosts beside the groups.
        for (name, group) in groups.iter().filter(|(name, _)| *name != "_meta") {
            inventory.yaml(name, group, DEPTH)?;
        }
        for (host, vars) in named(groups.get("_meta").and_then(|meta| meta.get("hostvars"))) {
            inventory.host(host, &texts(vars))?;
        }
    } else {
        inventory.ini(text)?;
    }
    inventory.hosts(beside)
}

/// Reads the text of a file beside an inventory.
///
/// # Errors
/// Where it is no map of variables, half a sentence.
pub fn variables(text: &str) -> Result<Variables, Invalid> {
    match serde_yaml::from_str(text).map_err(|error| Invalid::new(unread(&error)))? {
        Value::Null => Ok(BTreeMap::new()),
        value @ Value::Object(_) => Ok(texts(&value)),
        _ => Err(Invalid::new("is no map of variables")),
    }
}

/// Whether ansible-vault has encrypted a text as a whole.
pub fn is_sealed(text: &str) -> bool {
    text.trim_start().starts_with("$ANSIBLE_VAULT")
}

/// Whether a value is no text that means itself: a template, or encrypted.
pub fn is_opaque(value: &str) -> bool {
    value.contains("{{") || is_sealed(value)
}

/// Where a text does not read. What stands there may be a password, so nothing of it is said.
fn unread(error: &serde_yaml::Error) -> String {
    let at = error.location().map_or(String::new(), |at| format!(" at line {}, column {}", at.line(), at.column()));
    format!("does not read as YAML{at}")
}

/// Names that are the keys of a map, with what stands under them, or a list.
fn named(value: Option<&Value>) -> Vec<(&str, &Value)> {
    match value {
        Some(Value::Object(map)) => map.iter().map(|(name, value)| (name.as_str(), value)).collect(),
        Some(Value::Array(list)) => list.iter().filter_map(|name| Some((name.as_str()?, &Value::Null))).collect(),
        _ => Vec::new(),
    }
}

impl Inventory {
    fn host(&mut self, name: &str, vars: &BTreeMap<String, String>) -> Result<Vec<String>, Invalid> {
        let names = expanded(name)?;
        for name in &names {
            if !self.vars.contains_key(name) {
                self.order.push(name.clone());
            }
            self.vars.entry(name.clone()).or_default().extend(vars.clone());
        }
        if self.order.len() > MOST {
            return Err(Invalid::new(format!("has more than {MOST} hosts")));
        }
        Ok(names)
    }

    fn ini(&mut self, text: &str) -> Result<(), Invalid> {
        let mut section = ("ungrouped".to_owned(), "hosts".to_owned());
        for (number, line) in text.lines().enumerate() {
            let wrong = |why: &str| Invalid::new(format!("does not read at line {}: {why}", number + 1));
            let line = line.trim();
            if line.is_empty() || line.starts_with(['#', ';']) {
                continue;
            }
            if let Some(head) = line.strip_prefix('[').and_then(|rest| rest.split_once(']')).map(|(head, _)| head) {
                let (group, kind) = head.split_once(':').unwrap_or((head, "hosts"));
                if !["hosts", "children", "vars"].contains(&kind) {
                    return Err(wrong("a section is `[GROUP]`, `[GROUP:children]` or `[GROUP:vars]`"));
                }
                section = (group.trim().to_owned(), kind.to_owned());
                self.groups.entry(section.0.clone()).or_default();
                continue;
            }
            let (group, kind) = &section;
            if kind == "vars" {
                let (key, value) = line.split_once('=').ok_or_else(|| wrong("a variable is `NAME=VALUE`"))?;
                let value = shlex::split(value.trim()).map_or_else(|| value.trim().to_owned(), |words| words.join(" "));
                self.groups.entry(group.clone()).or_default().vars.insert(key.trim().to_owned(), value);
                continue;
            }
            let words = shlex::split(line).ok_or_else(|| wrong("a quote is not closed"))?;
            let Some((name, rest)) = words.split_first() else { continue };
            if kind == "children" {
                self.groups.entry(group.clone()).or_default().children.insert(name.clone());
                continue;
            }
            let mut vars: BTreeMap<String, String> = rest
                .iter()
                .filter_map(|word| word.split_once('='))
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .collect();
            let name = match name.rsplit_once(':') {
                Some((host, port)) if !host.contains(':') && port.parse::<u16>().is_ok() => {
                    vars.entry("ansible_port".to_owned()).or_insert_with(|| port.to_owned());
                    host
                }
                _ => name,
            };
            let names = self.host(name, &vars).map_err(|invalid| wrong(&invalid.reason))?;
            self.groups.entry(group.clone()).or_default().hosts.extend(names);
        }
        Ok(())
    }

    fn yaml(&mut self, name: &str, group: &Value, depth: usize) -> Result<(), Invalid> {
        if depth == 0 {
            return Err(Invalid::new("has groups in groups without an end"));
        }
        self.groups.entry(name.to_owned()).or_default();
        let Value::Object(fields) = group else { return Ok(()) };
        for (host, vars) in named(fields.get("hosts")) {
            let names = self.host(host, &texts(vars))?;
            self.groups.entry(name.to_owned()).or_default().hosts.extend(names);
        }
        let vars = fields.get("vars").map(texts).unwrap_or_default();
        self.groups.entry(name.to_owned()).or_default().vars.extend(vars);
        for (child, value) in named(fields.get("children")) {
            self.groups.entry(name.to_owned()).or_default().children.insert(child.to_owned());
            self.yaml(child, value, depth - 1)?;
        }
        Ok(())
    }

    /// Groups that have this one, from the farthest on.
    fn above<'a>(&'a self, group: &str, depth: usize, found: &mut Vec<&'a String>) {
        let parents = self.groups.iter().filter(|(_, other)| depth > 0 && other.children.contains(group));
        for (parent, _) in parents {
            if !found.contains(&parent) {
                self.above(parent, depth - 1, found);
                found.push(parent);
            }
        }
    }

    fn hosts(&self, beside: &mut Beside<'_>) -> Result<Vec<Host>, Invalid> {
        let all = "all".to_owned();
        let mut files = BTreeMap::new();
        for group in self.groups.keys().chain([&all]) {
            files.insert(group, beside(Of::Group, group)?);
        }
        let of = |name: &String| {
            let mut groups: Vec<&String> = Vec::new();
            let direct: Vec<&String> =
                self.groups.iter().filter(|(_, group)| group.hosts.contains(name)).map(|(group, _)| group).collect();
            for group in &direct {
                self.above(group, DEPTH, &mut groups);
            }
            for group in direct {
                groups.retain(|known| *known != group);
                groups.push(group);
            }
            // What stands nearer to the host wins; `all` is the farthest. A file wins over the inventory.
            groups.retain(|group| *group != "all");
            let each = || [&all].into_iter().chain(groups.iter().copied());
            let mut vars = BTreeMap::new();
            each().filter_map(|group| self.groups.get(group)).for_each(|group| vars.extend(group.vars.clone()));
            each().filter_map(|group| files.get(group)).for_each(|file| vars.extend(file.clone()));
            vars.extend(self.vars.get(name).cloned().unwrap_or_default());
            vars.extend(beside(Of::Host, name)?);
            let groups = groups.into_iter().filter(|group| *group != "ungrouped").cloned().collect();
            Ok(Host { name: name.clone(), groups, vars })
        };
        self.order.iter().map(of).collect()
    }
}

/// Values that are one text each.
fn texts(value: &Value) -> BTreeMap<String, String> {
    let text = |value: &Value| match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(yes) => Some(yes.to_string()),
        _ => None,
    };
    value.as_object().into_iter().flatten().filter_map(|(key, value)| Some((key.clone(), text(value)?))).collect()
}

/// The hosts that `web[01:12]` and `db-[a:c]` stand for; a step may follow (`[1:9:2]`).
fn expanded(name: &str) -> Result<Vec<String>, Invalid> {
    let Some((before, (range, after))) = name.split_once('[').and_then(|(b, rest)| Some((b, rest.split_once(']')?)))
    else {
        return Ok(vec![name.to_owned()]);
    };
    let wrong = || Invalid::new(format!("`{name}` has a range that is neither `[01:12]` nor `[a:f]`"));
    let mut parts = range.split(':');
    let (Some(from), Some(to)) = (parts.next(), parts.next()) else { return Err(wrong()) };
    let step: usize = parts.next().map_or(Ok(1), str::parse).map_err(|_| wrong())?;
    let middle: Vec<String> = match (from.parse::<usize>(), to.parse::<usize>(), from.as_bytes(), to.as_bytes()) {
        (Ok(low), Ok(high), ..) if low <= high && high - low <= MOST => {
            let width = if from.starts_with('0') { from.len() } else { 0 };
            (low..=high).step_by(step.max(1)).map(|number| format!("{number:0width$}")).collect()
        }
        (_, _, [low], [high]) if low.is_ascii_alphabetic() && high.is_ascii_alphabetic() && low <= high => {
            (*low..=*high).step_by(step.max(1)).map(|letter| char::from(letter).to_string()).collect()
        }
        _ => return Err(wrong()),
    };
    let rest = expanded(after)?;
    if middle.len().saturating_mul(rest.len()) > MOST {
        return Err(Invalid::new(format!("`{name}` stands for more than {MOST} hosts")));
    }
    Ok(middle.iter().flat_map(|one| rest.iter().map(move |rest| format!("{before}{one}{rest}"))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Without files beside it.
    fn read(text: &str) -> Result<Vec<Host>, Invalid> {
        super::read(text, &mut |_, _| Ok(BTreeMap::new()))
    }

    const INI: &str = "bastion.example.com ansible_user=root\n\n[webservers]\nweb[01:03].example.com http_port=80\n10.0.2.9:2222\n\n\
                       [dbs]\n# a comment\ndb-[a:b] ansible_host=10.0.4.1 ansible_ssh_common_args='-o ProxyJump=ops@bastion'\n\n\
                       [prod:children]\nwebservers\ndbs\n[prod:vars]\nansible_user = deploy\n[all:vars]\nansible_user=all\nansible_port=22\n";

    #[test]
    fn ini_and_yaml_say_the_same() {
        let hosts = read(INI).unwrap();
        let names: Vec<&str> = hosts.iter().map(|host| host.name.as_str()).collect();
        let web = ["web01.example.com", "web02.example.com", "web03.example.com"];
        assert_eq!(names, [&["bastion.example.com"][..], &web, &["10.0.2.9", "db-a", "db-b"]].concat());
        let vars = |name: &str, key: &str| {
            hosts.iter().find(|host| host.name == name).and_then(|host| host.vars.get(key)).cloned().unwrap_or_default()
        };
        assert_eq!(vars("bastion.example.com", "ansible_user"), "root");
        assert_eq!(vars("web01.example.com", "ansible_user"), "deploy");
        assert_eq!((vars("10.0.2.9", "ansible_port"), vars("db-a", "ansible_port")), ("2222".into(), "22".into()));
        assert_eq!(vars("db-b", "ansible_ssh_common_args"), "-o ProxyJump=ops@bastion");
        assert_eq!(hosts[1].groups, ["prod", "webservers"].map(ToOwned::to_owned).into());
        let yaml = "---\nall:\n  vars: { ansible_user: all, ansible_port: 22 }\n  hosts:\n    bastion.example.com: { ansible_user: root }\n  \
                    children:\n    prod:\n      vars: { ansible_user: deploy }\n      children:\n        webservers:\n          hosts:\n            \
                    web[01:03].example.com:\n            10.0.2.9: { ansible_port: 2222 }\n        dbs:\n          hosts:\n            db-[a:b]:\n";
        let same = read(yaml).unwrap();
        let mut all: Vec<_> = same.iter().map(|host| (host.name.clone(), host.groups.clone())).collect();
        let mut others: Vec<_> = hosts.iter().map(|host| (host.name.clone(), host.groups.clone())).collect();
        all.sort();
        others.sort();
        assert_eq!(all, others);
        let user = |name: &str| same.iter().find(|host| host.name == name).unwrap().vars["ansible_user"].clone();
        assert_eq!((user("bastion.example.com"), user("db-a")), ("root".into(), "deploy".into()));
    }

    #[test]
    fn what_does_not_read_is_told_with_its_line() {
        for (text, words) in [
            ("[web]\nweb1 a='b\n", "line 2: a quote"),
            ("[web:hosts2]\n", "line 1: a section"),
            ("[all:vars]\nx\n", "line 2: a variable"),
            ("[web]\nweb[5:1]\n", "line 2: `web[5:1]` has a range"),
            ("[web]\nweb[c:a]\n", "line 2: `web[c:a]` has a range"),
            ("[web]\nweb[1-3]\n", "line 2: `web[1-3]` has a range"),
            ("[web]\nweb[1:99999][1:99999]\n", "line 2: `web[1:99999][1:99999]` has a range"),
            ("---\n- a\n", "is no map of groups"),
            ("$ANSIBLE_VAULT;1.1;AES256\n6162\n", "is encrypted"),
            ("[web]\nweb1\0\n", "is no text"),
            ("all: [\n", "does not read as YAML"),
        ] {
            let invalid = read(text).unwrap_err();
            assert!(invalid.reason.contains(words), "{text:?}: {}", invalid.reason);
        }
        assert_eq!(read("").unwrap(), []);
        // A password that stands beside the mistake is not told.
        for text in [
            "all:\n  vars:\n    ansible_password: hunter2\n   x: [\n",
            "all: { a: hunter2, a: hunter2 }\n",
            "all: hunter2: x\n",
        ] {
            let why = read(text).unwrap_err().reason;
            assert!(why.contains("does not read as YAML at line") && !why.contains("hunter2"), "{text:?}: {why}");
        }
    }

    #[test]
    fn what_ansible_itself_lists_reads_too() {
        let list = "\u{feff}{\"_meta\": {\"hostvars\": {\"web1\": {\"ansible_host\": \"10.0.2.11\"}}}, \"all\": {\"children\": [\"ungrouped\", \"web\"]}, \
                    \"web\": {\"hosts\": [\"web1\", \"web2\"]}}";
        let hosts = read(list).unwrap();
        let names: Vec<&str> = hosts.iter().map(|host| host.name.as_str()).collect();
        assert_eq!(names, ["web1", "web2"]);
        assert_eq!(hosts[0].groups, ["web".to_owned()].into());
        assert_eq!(hosts[0].vars["ansible_host"], "10.0.2.11");
    }

    #[test]
    fn what_stands_nearer_to_a_host_wins_and_a_file_over_the_inventory() {
        let text = "[web]\nw1 a=host b=host\nw2\n[prod:children]\nweb\n[web:vars]\nc=web\nd=web\n[all:vars]\ne=all\n";
        let files = [
            (Of::Host, "w1", "a: file\n"),
            (Of::Group, "web", "b: file\nc: file\n"),
            (Of::Group, "prod", "c: far\nd: file\n"),
            (Of::Group, "all", "---\nd: farthest\ne: file\n"),
        ];
        let mut beside = |of, name: &str| {
            let text = files.iter().find(|file| (file.0, file.1) == (of, name)).map_or("", |file| file.2);
            variables(text)
        };
        let hosts = super::read(text, &mut beside).unwrap();
        let told = |at: usize| {
            hosts[at].vars.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(told(0), "a=file b=host c=file d=file e=file");
        assert_eq!(told(1), "b=file c=file d=file e=file");
        assert_eq!(variables("- a\n").unwrap_err().reason, "is no map of variables");
        let vault = variables("a: !vault |\n  $ANSIBLE_VAULT;1.1;AES256\n  33\nb: 7\n").unwrap();
        assert!(vault.get("a").is_none_or(|value| is_opaque(value)) && vault["b"] == "7", "{vault:?}");
    }
}
