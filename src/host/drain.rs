//! Who of before still serves on a host: takes a connection and the drains of its services, gives those that are not over, in
//! the services' words. It changes nothing.

use std::time::Duration;

use crate::base::sh::quote;
use crate::host::report;
use crate::host::transport::{Transport, TransportError};
use crate::host::wire::{self, Pairs};
use crate::plan::state::Drain;

/// How long one of them may take.
pub(super) const LIMIT: Duration = Duration::from_secs(20);

/// The lines that tell each of them that is not over, as `former`.
pub(super) fn lines(drains: &[Drain]) -> String {
    let limit = LIMIT.as_secs();
    let mut text = String::new();
    for drain in drains {
        let command = quote(&drain.command);
        // A drain that says nothing is named all the same.
        text.push_str(&format!(
            "hear timeout {limit} sh -c {command} || emit former \"${{heard:-{} does not tell which former workers still serve}}\"\n",
            drain.service
        ));
    }
    text
}

/// The same as they were told, in the services' words.
pub(super) fn former(told: &Pairs) -> Vec<String> {
    told.all("former").map(|words| report::words(words).join(" ")).collect()
}

/// Asks once, in one exec. Empty means that nobody is left.
///
/// # Errors
/// What the transport says, or that the host did not carry the question out.
pub fn ask(transport: &mut dyn Transport, drains: &[Drain]) -> Result<Vec<String>, TransportError> {
    let output = transport.run(&wire::question("ask for former workers", &lines(drains)), b"")?;
    let told = wire::pairs(&output.stdout);
    if !told.is_whole() {
        let said = report::words(&String::from_utf8_lossy(&output.stderr)).join(" ");
        return Err(TransportError::Setup(format!(
            "the question which former workers still serve ended with {}: {said}",
            output.status
        )));
    }
    Ok(former(&told))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::dir::DirTransport;

    #[test]
    fn who_is_left_is_told_in_the_services_words() {
        let dir = tempfile::tempdir().unwrap();
        let said_to = |commands: &[&str]| {
            let drain = |command: &&str| Drain { service: "x", command: (*command).to_owned() };
            let drains: Vec<Drain> = commands.iter().map(drain).collect();
            ask(&mut DirTransport::new(dir.path()), &drains).unwrap()
        };
        let silent = "x does not tell which former workers still serve";
        let cases: [(&[&str], &[&str]); 7] = [
            (&[], &[]),
            (&["exit 0", "echo nobody"], &[]),
            (&["echo 1 former worker; exit 1", "exit 0"], &["1 former worker"]),
            (&["echo one; exit 1", "echo \"two 'quoted' % $(echo \\\\)\"; exit 1"], &["one", "two 'quoted' % \\"]),
            (&["exit 1"], &[silent]),
            (&["if"], &["sh: 1: Syntax error: end of file unexpected (expecting \"then\")"]),
            (&["printf 'a\\nb\\033[31m\\n'; exit 3"], &["a b\\u{1b}[31m"]),
        ];
        for (commands, expected) in cases {
            let said = said_to(commands);
            assert_eq!(said.len(), expected.len(), "{commands:?}: {said:?}");
            for (said, expected) in said.iter().zip(expected) {
                assert!(said.contains(expected), "{commands:?}: {said}");
            }
        }
    }
}
