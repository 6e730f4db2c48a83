//! `lab …`: a twin of the inventory on this machine.

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use super::args::{Global, Lab, LabExec, LabName, LabUp};
use super::{Done, Stop, demo, exit};

use crate::inventory::load;
use crate::lab::{self, Power, Spec, Target, requirements};
use crate::report::Reporter;
use crate::report::text::count;

pub(super) fn run(verb: &Lab, _: &Global, reporter: &Reporter) -> Done {
    match verb {
        Lab::Up(args) => up(args, reporter),
        Lab::Exec(args) => exec(args),
        Lab::SshConfig(args) => {
            reporter.data(&open(args)?.ssh_config())?;
            Ok(exit::DONE)
        }
        Lab::Status(args) => status(args, reporter),
        Lab::Down(args) => down(args, reporter),
        Lab::Demo(args) => demo::run(args, reporter),
    }
}

impl From<lab::Error> for Stop {
    fn from(error: lab::Error) -> Self {
        match error {
            lab::Error::Missing(_) => Self::Refused(
                error.to_string(),
                vec!["or add `--install` to `infra lab up` or `infra lab demo`".to_owned()],
            ),
            lab::Error::Spec(_) | lab::Error::NotRoot | lab::Error::NotUp(_) | lab::Error::NoHost { .. } => {
                Self::Refused(error.to_string(), Vec::new())
            }
            other => Self::Failed(other.into()),
        }
    }
}

fn up(args: &LabUp, reporter: &Reporter) -> Done {
    let (site, warnings) = load::load(&args.inventory.inventory)?;
    reporter.diagnostics(&warnings)?;
    let progress = |line: &str| reporter.note(&format!("  {line}"));
    let name = args.image.lab.name.as_ref().unwrap_or(&site.name);
    let spec = Spec::of_site(&site, name.as_str(), args.image.release);
    if args.image.install {
        requirements::install(&requirements::packages(&spec), &progress)?;
    }
    let lab = lab::Lab::up(&spec, &progress)?;
    let hosts = count(lab.spec().hosts.len(), "host");
    let word = if lab.was_up() { "was up already" } else { "is up" };
    reporter.note(&format!("lab `{name}` with {hosts} {word}"));
    if let Some((server, key)) = lab.updates() {
        reporter.note(&format!(
            "its name server {server} takes challenges by dynamic update, with the key {}",
            key.display()
        ));
    }
    let inventory = args.inventory.inventory.display();
    reporter
        .note(&format!("next: `infra lab exec controller -- infra apply {inventory}`; `infra lab down` removes it"));
    Ok(exit::DONE)
}

/// The lab that is meant: by its name, or the only one that there is.
fn name(args: &LabName) -> Result<String, Stop> {
    if let Some(name) = &args.name {
        return Ok(name.to_string());
    }
    match lab::list()?.as_slice() {
        [only] => Ok(only.clone()),
        [] => Err(Stop::Refused("no lab is up".to_owned(), vec!["`infra lab up INVENTORY` starts one".to_owned()])),
        several => {
            let message = format!("there are several labs: {}", several.join(", "));
            Err(Stop::Refused(message, vec!["say which one is meant by `--name NAME`".to_owned()]))
        }
    }
}

fn open(args: &LabName) -> Result<lab::Lab, Stop> {
    Ok(lab::Lab::open(&name(args)?)?)
}

/// The command's own exit code is ours, as with `ssh`.
fn exec(args: &LabExec) -> Done {
    let status = open(&args.lab)?.exec(&Target::from(args.host.as_str()), &args.command)?;
    Ok(code(status))
}

pub(super) fn code(status: ExitStatus) -> u8 {
    // A signal counts as shells count it.
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(exit::FAILED)
}

fn status(args: &LabName, reporter: &Reporter) -> Done {
    let names = match &args.name {
        Some(name) => vec![name.to_string()],
        None => lab::list()?,
    };
    if names.is_empty() {
        reporter.note("no lab is up");
    }
    for name in names {
        let lab = match lab::Lab::open(&name) {
            Ok(lab) => lab,
            Err(lab::Error::NotUp(_)) if args.name.is_none() => {
                reporter
                    .note(&format!("lab `{name}` has crashed; `infra lab down --name {name}` removes what it left"));
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        let hosts = lab.status();
        if reporter.is_json() {
            reporter.line(&serde_json::json!({ "event": "lab", "name": name, "hosts": hosts }))?;
            continue;
        }
        let mut text = format!("lab {name}: {}\n", count(hosts.len(), "host"));
        for host in hosts {
            let addresses: Vec<String> = host.addresses.iter().map(ToString::to_string).collect();
            let power = match host.power {
                Power::Up => "up",
                Power::Booting => "booting",
                Power::Off => "off",
            };
            text.push_str(
                &[format!("  {:<12} {power:<8} ", host.name), addresses.join(", "), "\n".to_owned()].concat(),
            );
        }
        reporter.data(&text)?;
    }
    Ok(exit::DONE)
}

fn down(args: &LabName, reporter: &Reporter) -> Done {
    let names = match &args.name {
        None if lab::list()?.is_empty() => {
            reporter.note("no lab is up");
            return Ok(exit::DONE);
        }
        _ => name(args)?,
    };
    let there_was = lab::down(&names)?;
    reporter
        .note(&format!("lab `{names}` {}", if there_was { "is down, nothing of it is left" } else { "was not up" }));
    Ok(exit::DONE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_ends_with_its_own_code() {
        assert_eq!(code(ExitStatus::from_raw(3 << 8)), 3);
        assert_eq!(code(ExitStatus::from_raw(9)), 137);
    }

    #[test]
    fn a_named_lab_is_meant_even_if_there_are_others() {
        let twin = "twin".parse().unwrap();
        assert_eq!(name(&LabName { name: Some(twin) }).unwrap(), "twin");
    }
}
