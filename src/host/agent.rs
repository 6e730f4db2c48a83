//! The keys of an ssh-agent: takes where it is, gives its socket and its keys with their comments.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use super::descriptors::patiently;
use super::host_key::{HostKey, string};
use super::key_file::reason;
use super::ssh_config::{AgentAt, home};

/// How long an agent may take to list its keys.
const AGENT_PATIENCE: Duration = Duration::from_secs(5);

/// The agent's socket and keys with their comments; nothing when there is no agent. Asked by ourselves first, with a
/// time-out, since libssh2 would wait for a silent agent for ever.
#[expect(clippy::type_complexity, reason = "used once, by the login")]
pub(super) fn agent_keys(agent: &AgentAt) -> Result<Option<(PathBuf, Vec<(HostKey, String)>)>, String> {
    let socket = match agent {
        AgentAt::Nowhere => return Ok(None),
        AgentAt::Socket(path) => path.clone(),
        AgentAt::Environment => match std::env::var_os("SSH_AUTH_SOCK").filter(|p| !p.is_empty()) {
            Some(path) => PathBuf::from(path),
            None => return Ok(None),
        },
    };
    let socket = socket.strip_prefix("~").map(|rest| home().join(rest)).unwrap_or(socket);
    let name = format!("the agent at {}", socket.display());
    let list = || -> std::io::Result<Vec<(HostKey, String)>> {
        let mut stream = patiently(|| UnixStream::connect(&socket))?;
        stream.set_read_timeout(Some(AGENT_PATIENCE))?;
        stream.set_write_timeout(Some(AGENT_PATIENCE))?;
        // SSH_AGENTC_REQUEST_IDENTITIES (11), answered by SSH_AGENT_IDENTITIES_ANSWER (12): draft-ietf-sshm-ssh-agent §3.5.
        stream.write_all(&[0, 0, 0, 1, 11])?;
        let mut length = [0; 4];
        stream.read_exact(&mut length)?;
        let length = u32::from_be_bytes(length) as usize;
        if length > 4 << 20 {
            return Err(std::io::Error::other("its answer is too long"));
        }
        let mut answer = vec![0; length];
        stream.read_exact(&mut answer)?;
        let Some(mut rest) = answer.strip_prefix(&[12]).and_then(|r| r.get(4..)) else {
            return Err(std::io::Error::other("it is locked or refuses to list its keys"));
        };
        let mut keys = Vec::new();
        while let Some((blob, (comment, after))) = string(rest).and_then(|(blob, r)| Some((blob, string(r)?))) {
            keys.push((HostKey::new(blob), String::from_utf8_lossy(comment).into_owned()));
            rest = after;
        }
        Ok(keys)
    };
    match list() {
        Ok(keys) => Ok(Some((socket, keys))),
        Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => {
            Err(format!("{name}: no answer within {} s", AGENT_PATIENCE.as_secs()))
        }
        Err(e) => Err(format!("{name}: {}", reason(&e))),
    }
}
