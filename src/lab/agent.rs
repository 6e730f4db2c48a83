//! The monitoring agent that no distribution has: gives a package repository with a real Telegraf in it, signed by a key of this machine's
//! own, built once by Go's own client and kept under a digest of the recipe. Without Go there is none.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::place::hold;
use super::{Error, Progress, command, place, requirements, root};
use crate::base::fsx;

/// What is built.
const VERSION: &str = "1.37.2";
/// Only what the templates of the agent use: all of Telegraf takes five times as long.
const TAGS: &str = "custom,inputs.conntrack,inputs.cpu,inputs.disk,inputs.diskio,inputs.file,inputs.haproxy,inputs.http_response,\
                    inputs.internal,inputs.kernel_vmstat,inputs.mem,inputs.mysql,inputs.net,inputs.net_response,inputs.nginx,\
                    inputs.processes,inputs.swap,inputs.system,inputs.systemd_units,inputs.timex,outputs.file,\
                    outputs.sumologic,parsers.prometheus,serializers.influx,serializers.prometheus";
const SCRIPT: &str = include_str!("agent.sh");
/// A file that is there once all is.
const FINISHED: &str = "fingerprint";

/// The repository of the agent's maker, as the lab has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Maker {
    /// `dists/` and `pool/` of the repository.
    pub repository: PathBuf,
    /// The public key that signs it, armoured.
    pub key: PathBuf,
    /// The key's fingerprint.
    pub fingerprint: String,
}

/// The repository; `None` where this machine has no Go to build with.
///
/// # Errors
/// [`Error::Command`] with the last words of what failed; [`Error::Io`].
pub fn ensure(progress: Progress<'_>) -> Result<Option<Maker>, Error> {
    place::private_root()?;
    let all = root().join("agents");
    fsx::private_dir(&all)?;
    let recipe = format!("{VERSION}\n{TAGS}\n{SCRIPT}");
    let dir = all.join(format!("telegraf-{}", command::hex(Sha256::digest(recipe).as_slice(), 8)));
    let lock = hold(&all)?;
    if !dir.join(FINISHED).exists() {
        let Some(go) = go() else { return Ok(None) };
        progress(&format!("building Telegraf {VERSION} (once; some minutes)"));
        if dir.exists() {
            fs_err::remove_dir_all(&dir)?;
        }
        fsx::private_dir(&dir)?;
        let mut build = Command::new("sh");
        build.args(["-c", SCRIPT, "sh"]).arg(&dir).arg(go).args([VERSION, TAGS]);
        command::run("build Telegraf", &mut build)?;
    }
    drop(lock);
    let fingerprint = fs_err::read_to_string(dir.join(FINISHED))?.trim().to_owned();
    Ok(Some(Maker { repository: dir.join("debian"), key: dir.join("maker.asc"), fingerprint }))
}

/// Go's own client, also where its maker's archive puts it.
fn go() -> Option<PathBuf> {
    let own = Path::new("/usr/local/go/bin/go");
    requirements::find("go").or_else(|| own.exists().then(|| own.to_owned()))
}
