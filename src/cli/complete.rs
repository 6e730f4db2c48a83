//! What completes a word of the command line beside the verbs and options: takes the definition of the command line, gives it with hosts,
//! roles, sites, users, runs, keys and files, as the inventory, its state and the templates have them. Whatever fails gives no words.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use clap::Command;
use clap_complete::engine::{ArgValueCompleter, CompletionCandidate};

use super::{explain, stages};
use crate::fleet::journals;
use crate::inventory::load;
use crate::inventory::manual::Manual;
use crate::inventory::site::{Role, Site};
use crate::lab::Release;
use crate::service::{ALL, away};

/// Gives the words that may stand there.
type Words = fn() -> Vec<String>;

/// Arguments by their names, with what they take.
const ARGUMENTS: [(&str, Words); 18] = [
    ("host", hosts),
    ("yes_wipe", hosts),
    ("close", hosts),
    ("limit", terms),
    ("from", ends),
    ("to", ends),
    ("run", runs),
    ("site", sites),
    ("force", sites),
    ("user", users),
    ("key", keys),
    ("what", kept),
    ("file", files),
    ("units", units),
    ("issuer", || words(&["letsencrypt", "letsencrypt-staging", "internal"])),
    ("firewall", || words(&["open", "closed"])),
    ("release", || Release::ALL.map(|release| release.to_string()).into()),
    ("adopt", Vec::new),
];

/// Verbs whose host is one of those that they would not refuse.
const HOSTS: [(&[&str], Words); 3] = [
    (&["seed", "switchover", "failover", "rejoin"], databases),
    (&["drain", "undrain"], drained),
    (&["exec"], machines),
];

/// Adds them to every verb that has such an argument.
pub(super) fn onto(command: Command) -> Command {
    let of_verb = HOSTS.iter().find(|(verbs, _)| verbs.contains(&command.get_name())).map(|(_, words)| *words);
    let takes = |arg: &clap::Arg| {
        let (name, words) = ARGUMENTS.iter().find(|(name, _)| arg.get_id() == *name)?;
        let words = of_verb.as_ref().filter(|_| ["host", "yes_wipe"].contains(name)).unwrap_or(words);
        // A path is completed by what is there, and a switch takes nothing.
        let is_path = arg.get_value_hint() != clap::ValueHint::Unknown;
        (arg.get_action().takes_values() && !is_path).then_some(*words)
    };
    command
        .mut_args(|arg| match takes(&arg) {
            Some(words) => arg.add(ArgValueCompleter::new(move |current: &OsStr| fitting(current, words))),
            None => arg,
        })
        .mut_subcommands(onto)
}

/// The words that go on where a person has begun; of a list behind commas, its last part.
fn fitting(current: &OsStr, words: Words) -> Vec<CompletionCandidate> {
    let Some(current) = current.to_str() else { return Vec::new() };
    let (before, last) = current.rsplit_once(',').map_or(("", current), |(before, last)| (before, last));
    let (sign, last) = last.strip_prefix('!').map_or(("", last), |last| ("!", last));
    let before = if before.is_empty() { String::new() } else { format!("{before},") };
    let fit = words().into_iter().filter(|word| word.starts_with(last));
    fit.map(|word| CompletionCandidate::new(format!("{before}{sign}{word}"))).collect()
}

/// The inventory that the words name, or the one that would be taken.
fn inventory() -> PathBuf {
    let named = std::env::args().rev().find(|word| {
        let path = Path::new(word);
        path.extension().is_some_and(|end| end == "yml" || end == "yaml") && path.is_file()
    });
    let set = || std::env::var_os(load::VARIABLE).filter(|set| !set.is_empty());
    named.map(PathBuf::from).or_else(|| set().map(PathBuf::from)).unwrap_or_else(|| load::DEFAULT.into())
}

fn site() -> Option<Site> {
    stages::loaded(&inventory()).ok().map(|(site, _)| site)
}

fn of(words: impl Fn(&Site) -> Vec<String>) -> Vec<String> {
    site().map(|site| words(&site)).unwrap_or_default()
}

fn hosts() -> Vec<String> {
    of(|site| site.hosts.keys().map(ToString::to_string).collect())
}

/// Those of which one may be the writer.
fn databases() -> Vec<String> {
    of(|site| site.with_role(Role::Db).map(|host| host.name.to_string()).collect())
}

/// Those that may be out of traffic.
fn drained() -> Vec<String> {
    of(|site| site.hosts.values().filter(|host| away::admit(host).is_ok()).map(|host| host.name.to_string()).collect())
}

/// Those of a lab.
fn machines() -> Vec<String> {
    hosts().into_iter().chain(words(&["controller", "outside"])).collect()
}

fn roles(site: &Site) -> Vec<String> {
    let roles: BTreeSet<Role> = site.hosts.values().flat_map(|host| host.roles.iter().copied()).collect();
    roles.into_iter().map(|role| role.to_string()).collect()
}

fn terms() -> Vec<String> {
    of(|site| {
        let roles = roles(site).into_iter().map(|role| format!("role:{role}"));
        site.hosts.keys().map(ToString::to_string).chain(roles).chain(["failed".to_owned()]).collect()
    })
}

fn ends() -> Vec<String> {
    of(|site| {
        let hosts = site.hosts.keys().map(ToString::to_string);
        hosts.chain(roles(site)).chain(["internet".to_owned()]).collect()
    })
}

fn runs() -> Vec<String> {
    of(|site| journals::remembered(&site.state).runs.into_keys().rev().collect())
}

fn sites() -> Vec<String> {
    of(|site| site.sites.keys().map(ToString::to_string).collect())
}

fn users() -> Vec<String> {
    of(|site| site.database.iter().flat_map(|database| database.users.keys().map(ToString::to_string)).collect())
}

fn keys() -> Vec<String> {
    Manual::read().map(|manual| manual.paths().map(ToOwned::to_owned).collect()).unwrap_or_default()
}

/// Of what is kept on it, the files.
fn files() -> Vec<String> {
    kept().into_iter().filter(|name| name.starts_with('/')).collect()
}

/// What runs on any host.
fn units() -> Vec<String> {
    let Some(site) = site() else { return Vec::new() };
    let all = site.hosts.keys().filter_map(|host| explain::names(&site, host, ALL)).flatten();
    all.filter(|name| !name.starts_with('/') && name.contains('.')).collect::<BTreeSet<_>>().into_iter().collect()
}

fn words(all: &[&str]) -> Vec<String> {
    all.iter().map(|word| (*word).to_owned()).collect()
}

/// What is kept on the first host that the words name.
fn kept() -> Vec<String> {
    let Some(site) = site() else { return Vec::new() };
    let host = std::env::args().find_map(|word| site.hosts.keys().find(|host| host.as_str() == word).cloned());
    host.and_then(|host| explain::names(&site, &host, ALL)).unwrap_or_default()
}
