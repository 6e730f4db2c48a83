//! What makes a reboot in the middle of a change harmless: a unit that, before any daemon starts, puts back the files of a
//! phase that was cut off. The next run then makes the change anew.

use std::collections::BTreeMap;

use crate::base::diagnostic::Diagnostic;
use crate::plan::state::{Access, File, Follow, Phase, UnitWanted};
use crate::service::claims::Claims;
use crate::service::{Context, Service, WAYS};

/// Where the script stands on the host.
const SCRIPT: &str = "/var/lib/infra/recover";
/// The unit, and its file.
const UNIT: &str = "infra-recover.service";
const UNIT_FILE: &str = "/etc/systemd/system/infra-recover.service";

/// The service of every host.
#[derive(Debug)]
pub struct Recovery;

impl Service for Recovery {
    fn name(&self) -> &'static str {
        "recovery"
    }

    fn want(&self, context: &Context<'_>, out: &mut Claims) -> Result<(), Diagnostic> {
        let script = format!(
            "#!/bin/sh\n# Made by infra. Runs at boot, before the daemons.\nROOT=''\ninfra=/var/lib/infra\n\
             {WAYS}\n# Our own records are root's: what is none of them is neither followed nor waited for.\n\
             real_way /var/lib/infra/runs/- && plain_or_none $infra/step.lock && plain $infra/unfinished || exit 0\n\
             # A step that is under way right now is not cut off.\nexec 9>>$infra/step.lock\nflock -n 9 || exit 0\nread -r run phase 2>/dev/null <$infra/unfinished || exit 0\n\
             old=$infra/runs/$run/old/$phase\nplain \"$old.paths\" || exit 0\n{}\nrestore_files\n[ -z \"$bad\" ]\n",
            include_str!("restore.sh")
        );
        let unit = "# Made by infra.\n[Unit]\nDescription=Put back the files of a change that a reboot cut off\nDefaultDependencies=no\n\
             RequiresMountsFor=/var/lib/infra /etc\nAfter=local-fs.target\nBefore=sysinit.target shutdown.target\nConflicts=shutdown.target\n\n\
             [Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/var/lib/infra/recover\nTimeoutStartSec=2min\n\n[Install]\nWantedBy=sysinit.target\n";
        let file = |text: String, mode, then| -> Result<File, Diagnostic> {
            let body = context.body(text)?;
            Ok(File { service: "recovery", phase: Phase::Widen, access: Access::root(mode), body, then, about: None })
        };
        out.file(SCRIPT, file(script, 0o700, BTreeMap::new())?)?;
        let then = BTreeMap::from([(UNIT.to_owned(), Follow::Restart)]);
        out.file(UNIT_FILE, file(unit.to_owned(), 0o644, then)?)?;
        out.unit(UNIT, UnitWanted { phase: Phase::Widen })
    }
}
