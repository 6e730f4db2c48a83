//! `accept`: takes what somebody changed by hand in a file of a host into a template beside the inventory, so that the next apply leaves it
//! as it is. Shows the template's change and every other file that changes by it before it writes; nothing is changed on any host.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use similar::TextDiff;

use super::explain::View;
use super::global::{Global, Inventory};
use super::stop::{Done, Stop};
use super::work::{Consent, Work};
use super::{exit, stages};
use crate::base::diagnostic::{Diagnostic, did_you_mean};
use crate::base::net::HostName;
use crate::base::{fsx, secret, visible};
use crate::inventory::site::Site;
use crate::plan::state::{DesiredHost, Facts, File, ObservedFile};
use crate::report::Reporter;
use crate::service::render::Templates;
use crate::service::{Services, shadow};

/// `accept`.
#[derive(Debug, Clone, clap::Args)]
pub struct Accept {
    /// A host of the inventory
    pub host: HostName,
    /// The file on it, or the end of its path
    #[arg(value_name = "FILE")]
    pub file: String,
    /// The inventory
    #[command(flatten)]
    pub inventory: Inventory,
    /// Show what would be written and do nothing; exits 3
    #[arg(long)]
    pub dry_run: bool,
    /// Do not ask for confirmation
    #[arg(short, long)]
    pub yes: bool,
}

pub(super) fn run(accept: &Accept, global: &Global, services: Services, reporter: &Reporter) -> Done {
    let inventory = accept.inventory.inventory.as_path();
    let site = stages::site(inventory, reporter)?;
    let host = stages::host(&site, &accept.host)?;
    let hosts = BTreeSet::from([host.name.clone()]);
    let work = Work::new(&site, &hosts, String::new(), global, services, reporter)?;
    let (_, prepared) = work.planned(&hosts)?;
    if !prepared.survey.unreachable.is_empty() {
        stages::unreached(&prepared.survey.unreachable, ("its files are not known", None), inventory, reporter)?;
        return Err(Stop::Unreachable);
    }
    if let Some(reason) = prepared.survey.refused.get(&host.name) {
        return Err(Stop::Refused(format!("{} is left alone: {reason}", host.name), Vec::new()));
    }
    let (Some(observed), Some(desired)) = (prepared.survey.observed.get(&host.name), prepared.desired.get(&host.name))
    else {
        return Err(Stop::Unreachable);
    };
    let path = chosen(desired, accept)?;
    let refuse = |message: String, help: &str| Stop::Refused(message, vec![help.to_owned()]);
    let Some(file) = desired.files.get(path) else { return Err(Stop::Unreachable) };
    let seen = observed.files.get(path);
    if seen.is_some_and(|seen| seen.digest.as_ref() == Some(&file.body.digest)) {
        reporter.note(&format!("{path} on {} holds what the inventory wants: there is nothing to accept", host.name));
        return Ok(exit::DONE);
    }
    if !secret::names(&file.body.text).is_empty() {
        let help = "change it by the inventory or by a template of your own; a host's secrets never come here";
        return Err(refuse(format!("{path} holds secrets or certificates, so its text is not read from hosts"), help));
    }
    let live = readable(seen, (path, &host.name), reporter)?;
    let templates = stages::templates(services, &site, reporter)?;
    let facts = prepared.survey.facts();
    let (marked, trace) = templates.traced()?;
    let view = View::with(&site, &marked, facts.clone())?;
    let body = view.desire(&site, &host.name)?.files.remove(path).map_or_else(|| file.body.clone(), |file| file.body);
    let (rendered, origins) = trace.read(&body.text);
    let own = || "infra makes it by itself: change the inventory instead".to_owned();
    let name = origins.iter().flatten().next().map(|line| line.template.clone());
    let Some(name) = name.filter(|_| *rendered == *file.body.text) else {
        return Err(Stop::Refused(format!("{path} comes from no template"), vec![own()]));
    };
    let source = templates.text(&name).unwrap_or_default();
    let text = shadow::taken((&name, source), (&rendered, &origins), live).map_err(|made| {
        let error = |made: shadow::Made| {
            let by = made.by.map_or(String::new(), |line| {
                format!(", which line {} of `{}` makes of values", line.number, line.template)
            });
            Diagnostic::error(format!("line {} of {path} was changed: `{}`{by}", made.line, made.text))
        };
        let help = format!(
            "change the values: `infra explain {} {path}:LINE` names them; or write the template by hand",
            host.name
        );
        Stop::Input(made.into_iter().map(error).chain([Diagnostic::error("nothing was written").help(help)]).collect())
    })?;
    let changed = templates.with(&name, &text)?;
    let now = View::with(&site, &changed, facts.clone())?.desire(&site, &host.name)?;
    if now.files.get(path).is_none_or(|file| *file.body.text != *live) {
        let message = format!("no change of `{name}` alone makes what stands in {path} on {}", host.name);
        return Err(refuse(message, "the template has a changed line more than once, as in a loop: write it by hand"));
    }
    let to = site.folder.join("templates").join(&name);
    let diff = TextDiff::from_lines(source, text.as_str());
    let from = templates.path(&name).map(|path| path.display().to_string()).unwrap_or_default();
    reporter.data(&visible::text(&diff.unified_diff().header(&from, &to.display().to_string()).to_string()))?;
    let also = others(&site, (&templates, &changed), &facts, (&host.name, path))?;
    if !also.is_empty() {
        reporter.note("the template is for others too; the next apply changes these with it:");
        for line in &also {
            reporter.note(&format!("  {line}"));
        }
    }
    if accept.dry_run {
        return Ok(exit::PENDING);
    }
    let question = format!("write {}?", to.display());
    let consent = if accept.yes { Consent::Given } else { Consent::Asked(&question) };
    if consent.given()? != Some(true) {
        reporter.note("nothing was written");
        return Ok(exit::DECLINED);
    }
    written(&to, &text)?;
    let words = format!("{} is written; `infra diff` shows what is left to do", to.display());
    reporter.written(&to, &[], &words)?;
    Ok(exit::DONE)
}

/// The one file that the word means.
fn chosen<'d>(desired: &'d DesiredHost, accept: &Accept) -> Result<&'d str, Stop> {
    let (word, host) = (&accept.file, &accept.host);
    let end = format!("/{}", word.trim_start_matches('/'));
    let paths: Vec<&str> = desired.files.keys().map(String::as_str).filter(|path| path.ends_with(&end)).collect();
    match paths[..] {
        [path] => Ok(path),
        [] => {
            let near = did_you_mean(word, desired.files.keys().map(String::as_str));
            let list = format!("`infra explain {host}` lists all that infra keeps there");
            let help = near.into_iter().chain([list]).collect();
            Err(Stop::Refused(format!("infra keeps no file `{word}` on {host}"), help))
        }
        ref some => {
            let message = format!("several files end with `{word}`: {}", some.join(", "));
            Err(Stop::Refused(message, vec!["name one by its whole path".to_owned()]))
        }
    }
}

/// What stands in a file of a host, where it can be a template's word.
fn readable<'o>(
    seen: Option<&'o ObservedFile>,
    (path, host): (&str, &HostName),
    reporter: &Reporter,
) -> Result<&'o str, Stop> {
    let refuse = |message: String, help: &str| Stop::Refused(message, vec![help.to_owned()]);
    let Some(live) = seen.and_then(|seen| seen.text.as_deref()) else {
        let message =
            format!("the text of {path} on {host} cannot be read: it is gone, no file, or not for everyone to read");
        return Err(refuse(message, &format!("look at it on the host: `infra ssh {host}`")));
    };
    if let Some(line) =
        live.split('\n').position(|line| line.contains(|c| visible::hides(c) || c == char::REPLACEMENT_CHARACTER))
    {
        let message = format!("line {} of {path} on {host} has bytes or characters that are no visible text", line + 1);
        return Err(refuse(
            message,
            &format!("a template cannot have them: look at the file on the host (`infra ssh {host}`)"),
        ));
    }
    if reporter.hidden().text(live) != live {
        let help =
            "take it out of the file on the host, and change it where it is used: every user of that host can read it";
        return Err(refuse(format!("{path} on {host} holds a secret now"), help));
    }
    Ok(live)
}

/// Writes a template beside the inventory.
fn written(to: &Path, text: &str) -> Result<(), Stop> {
    let folder = to.parent().map_or(Ok(()), std::fs::create_dir_all);
    folder.and_then(|()| fsx::write_atomic(to, text.as_bytes(), 0o644)).map_err(|error| {
        let message = format!("`{}` cannot be written: {error}", to.display());
        Stop::Refused(message, vec!["nothing was changed on any host".to_owned()])
    })
}

/// The other files that another text of a template changes: a line each.
fn others(
    site: &Site,
    (before, after): (&Templates, &Templates),
    facts: &BTreeMap<HostName, Facts>,
    but: (&HostName, &str),
) -> Result<Vec<String>, Stop> {
    let (before, after) = (View::with(site, before, facts.clone())?, View::with(site, after, facts.clone())?);
    let mut all = Vec::new();
    for host in site.hosts.keys() {
        let (old, new) = (before.desire(site, host)?, after.desire(site, host)?);
        let differs = |(path, file): &(&String, &File)| {
            old.files.get(*path).is_none_or(|old| old.body.digest != file.body.digest) && (host, path.as_str()) != but
        };
        all.extend(new.files.iter().filter(differs).map(|(path, _)| format!("{host} {path}")));
    }
    Ok(all)
}
