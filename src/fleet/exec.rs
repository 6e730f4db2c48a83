//! A command of a person's own on many hosts: takes hosts, a way to connect and the command, gives what each said. The tool keeps no
//! record of it: what such a command changes shows as drift.

use std::collections::BTreeMap;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Serialize;

use crate::base::net::HostName;
use crate::base::sh::quote;
use crate::fleet::run;
use crate::fleet::survey::Connector;
use crate::host::transport::{Script, TransportError};
use crate::inventory::site::{Become, Host};

/// Most bytes of an answer that are taken.
const ANSWER: usize = 1 << 20;

/// What came of it on one host.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case", tag = "end")]
pub enum End {
    /// It ended.
    Ended {
        /// Its exit code; 128 + n for a signal n.
        code: i32,
        /// Its stdout.
        stdout: String,
        /// Its stderr.
        stderr: String,
    },
    /// It was not run to its end.
    Failed {
        /// Why.
        why: String,
    },
    /// The host cannot be reached.
    Unreachable {
        /// Why.
        why: String,
    },
}

impl End {
    /// Whether it ended with 0.
    pub fn is_well(&self) -> bool {
        matches!(self, Self::Ended { code: 0, .. })
    }
}

/// A command and how it is run.
#[derive(Debug, Clone)]
pub struct Command {
    /// One word is a text for `sh`; several are a program and its arguments, exactly.
    pub words: Vec<String>,
    /// Whether it runs as root, by the way that the inventory says.
    pub root: bool,
    /// How long it may take.
    pub limit: Duration,
}

impl Command {
    fn text(&self) -> String {
        match self.words.as_slice() {
            [text] => text.clone(),
            words => words.iter().map(|word| quote(word)).collect::<Vec<_>>().join(" "),
        }
    }

    /// Runs it on each host, `parallel` at the same time. It gets no input.
    pub fn each(&self, hosts: Vec<&Host>, connector: &dyn Connector, parallel: usize) -> BTreeMap<HostName, End> {
        let script = Script::new("the command", self.text()).within(self.limit).up_to(ANSWER);
        let ends = run::each(hosts, parallel, |host| {
            let mut as_user = host.clone();
            if !self.root {
                as_user.ssh.r#become = Some(Become::None);
            }
            let end = match connector.connect(&as_user) {
                // Nothing was run there.
                Err(error) => {
                    End::Unreachable { why: error.to_string().lines().map(str::trim).collect::<Vec<_>>().join("; ") }
                }
                Ok(mut transport) => self.end(transport.run(&script, b"")),
            };
            (host.name.clone(), end)
        });
        ends.into_iter().collect()
    }

    fn end(&self, end: Result<crate::host::transport::Output, TransportError>) -> End {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        match end {
            Ok(output) => {
                End::Ended { code: output.status, stdout: text(&output.stdout), stderr: text(&output.stderr) }
            }
            Err(TransportError::TooMuch { .. }) => End::Failed {
                why: "it printed more than 1 MiB and was stopped, and nothing of that is shown: let it print less, such as by \
                      `… | tail -n 100`, or into a file there"
                    .to_owned(),
            },
            Err(TransportError::Ended { .. }) => End::Failed {
                why: format!(
                    "it took longer than {} s, and the host has ended it; nothing that it printed is shown: `--timeout` gives it more",
                    self.limit.as_secs()
                ),
            },
            // A host that is too slow to say that it has ended a command was reached.
            Err(error @ TransportError::Timeout { .. }) => End::Failed { why: error.to_string() },
            Err(error) if error.is_unreachable() => End::Unreachable { why: error.to_string() },
            Err(error) => End::Failed { why: error.to_string() },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_word_is_a_text_and_several_are_exact() {
        let text = |words: &[&str]| {
            let words = words.iter().map(|word| (*word).to_owned()).collect();
            Command { words, root: false, limit: Duration::from_secs(1) }.text()
        };
        assert_eq!(text(&["df -h | tail"]), "df -h | tail");
        assert_eq!(text(&["echo", "a  b", "$HOME"]), "'echo' 'a  b' '$HOME'");
    }
}
