//! Which lab is meant: takes what the command line says about one, gives its name, or the lab itself where it is up.

use crate::base::net::HostName;
use crate::cli::stop::Stop;
use crate::lab::{self, Release};

/// Which lab.
#[derive(Debug, Clone, clap::Args)]
pub struct LabName {
    /// The lab's name, where several stand side by side; else the inventory's, or the one that is up
    #[arg(long, value_name = "NAME")]
    pub name: Option<HostName>,
}

/// What a lab is made of.
#[derive(Debug, Clone, clap::Args)]
pub struct LabImage {
    /// The lab's name
    #[command(flatten)]
    pub lab: LabName,
    /// Release of the hosts: bookworm, trixie or sid of Debian; jammy, noble or resolute of Ubuntu
    #[arg(long, value_name = "RELEASE", default_value = "bookworm")]
    pub release: Release,
    /// Install the packages that the lab needs on this machine, with apt
    #[arg(long)]
    pub install: bool,
}

/// The lab that is meant: by its name, or the only one that there is.
pub(super) fn name(args: &LabName) -> Result<String, Stop> {
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

pub(super) fn open(args: &LabName) -> Result<lab::Lab, Stop> {
    Ok(lab::Lab::open(&name(args)?)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_named_lab_is_meant_even_if_there_are_others() {
        let twin = "twin".parse().unwrap();
        assert_eq!(name(&LabName { name: Some(twin) }).unwrap(), "twin");
    }
}
