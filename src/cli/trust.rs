//! `trust`: a host's SSH key is accepted after a person has compared its fingerprint.

use super::args::{Global, Trust};
use super::{Done, Stop, exit, stages};
use crate::base::diagnostic::{Diagnostic, did_you_mean};
use crate::base::net::HostName;
use crate::fleet::connect;
use crate::host::known_hosts::{self, HostKey};
use crate::host::ssh::{self, Options};
use crate::report::{Reporter, prompt};

pub(super) fn run(trust: &Trust, _: &Global, reporter: &Reporter) -> Done {
    let site = stages::site(&trust.inventory.inventory, reporter)?;
    let Some(host) = site.hosts.get(&trust.host) else {
        let error = Diagnostic::error(format!("`{}` has no host `{}`", site.name, trust.host));
        let near = did_you_mean(trust.host.as_str(), site.hosts.keys().map(HostName::as_str));
        return Err(near.map_or(error.clone(), |near| error.help(near)).into());
    };
    let options = Options { config: connect::config(host), ..Options::default() };
    let (to, keys) = ssh::presented_keys(&connect::target(host), &options).map_err(anyhow::Error::from)?;
    let key = choose(trust, &keys, reporter)?;
    let Some(key) = key else {
        reporter.note("nothing was written");
        return Ok(exit::FAILED);
    };
    let Some(file) = to.known_hosts_files().into_iter().next() else {
        return Err(Stop::Refused(
            "no known_hosts file is configured".into(),
            vec!["set `UserKnownHostsFile` in ~/.ssh/config".into()],
        ));
    };
    let (name, port) = to.key_name();
    known_hosts::trust(&file, name, port, key, &key.fingerprint()).map_err(anyhow::Error::from)?;
    reporter.note(&format!("{}: {} {} is in {}", trust.host, key.kind(), key.fingerprint(), file.display()));
    Ok(exit::DONE)
}

/// The key with the fingerprint that was given, or the one that the person has compared.
fn choose<'a>(trust: &Trust, keys: &'a [HostKey], reporter: &Reporter) -> Result<Option<&'a HostKey>, Stop> {
    if let Some(wanted) = &trust.fingerprint {
        let found = keys.iter().find(|key| key.fingerprint() == wanted.as_str());
        return found.map(Some).ok_or_else(|| {
            let shown = keys.iter().map(|key| format!("it shows {} {}", key.kind(), key.fingerprint())).collect();
            Stop::Refused(format!("{} shows no key with the fingerprint {}", trust.host, wanted.as_str()), shown)
        });
    }
    for key in keys {
        reporter.note(&format!("{} shows {} {}", trust.host, key.kind(), key.fingerprint()));
    }
    let Some(key) = keys.first() else { return Ok(None) };
    let question =
        format!("is {} what `ssh-keygen -lf` prints on {}, seen by another way?", key.fingerprint(), trust.host);
    match prompt::confirm(&question) {
        Ok(yes) => Ok(yes.then_some(key)),
        Err(error) => Err(Stop::Refused(
            error.to_string(),
            vec![format!("compare, then: infra trust {} --fingerprint {}", trust.host, key.fingerprint())],
        )),
    }
}
