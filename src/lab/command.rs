//! Programs of this machine: takes a command, gives its output or an error with the program's own words; finds and ends
//! the processes of a lab.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::Error;

/// Runs `command` to its end without input, gives its stdout.
pub(super) fn run(what: &str, command: &mut Command) -> Result<String, Error> {
    run_with(what, command, b"")
}

/// The same with `stdin`, which must fit in a pipe's buffer (64 KiB) unless the program reads it before it writes.
pub(super) fn run_with(what: &str, command: &mut Command, stdin: &[u8]) -> Result<String, Error> {
    let failed = |reason: String| Error::Command { what: what.to_owned(), reason };
    let name = command.get_program().to_string_lossy().into_owned();
    let path = search_path();
    command.env("PATH", path).env("LC_ALL", "C.UTF-8");
    command.stdin(if stdin.is_empty() { Stdio::null() } else { Stdio::piped() });
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|e| failed(format!("`{name}`: {e}")))?;
    if let Some(mut pipe) = child.stdin.take() {
        // A program that ends before it has read everything says why by itself.
        let _ = pipe.write_all(stdin);
    }
    let output = child.wait_with_output().map_err(|e| failed(format!("`{name}`: {e}")))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    let words = if stderr.trim().is_empty() { String::from_utf8_lossy(&output.stdout) } else { stderr };
    Err(failed(format!("`{name}` ended with {}: {}", output.status, last_lines(&words, 6))))
}

/// Starts `argv` in a session of its own, with `log` for its words. It outlives this process and is nobody's child.
pub(super) fn detach(what: &str, log: &Path, argv: &[&OsStr]) -> Result<(), Error> {
    let mut shell = Command::new("sh");
    shell
        .args(["-c", "log=$1; shift; cd /; exec setsid --fork \"$@\" >>\"$log\" 2>&1 </dev/null", "sh"])
        .arg(log)
        .args(argv);
    run(what, &mut shell)?;
    Ok(())
}

/// The person's `PATH` and the folders that it may lack.
pub(super) fn search_path() -> String {
    let own = std::env::var("PATH").unwrap_or_default();
    let separator = if own.is_empty() { "" } else { ":" };
    format!("{own}{separator}/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
}

/// The last `count` lines that hold something, joined by ` · `.
pub(super) fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|l| !l.is_empty()).collect();
    lines.iter().skip(lines.len().saturating_sub(count)).copied().collect::<Vec<_>>().join(" · ")
}

/// The first `count` bytes in hexadecimal.
pub(super) fn hex(bytes: &[u8], count: usize) -> String {
    bytes.iter().take(count).fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}"); // writing to a string cannot fail
        text
    })
}

/// Whether this process is root (the effective user of /proc/self/status).
pub(super) fn is_root() -> Result<bool, Error> {
    let status = fs_err::read_to_string("/proc/self/status")?;
    let uids = status.lines().find_map(|l| l.strip_prefix("Uid:")).unwrap_or_default();
    Ok(uids.split_whitespace().nth(1) == Some("0"))
}

/// A process as /proc shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Process {
    pub(super) pid: u32,
    pub(super) argv: Vec<String>,
}

impl Process {
    /// Whether one of its arguments is exactly `text`.
    pub(super) fn has(&self, text: &str) -> bool {
        self.argv.iter().any(|a| a == text)
    }

    /// Whether its program is called `name`.
    pub(super) fn is(&self, name: &str) -> bool {
        self.argv.first().is_some_and(|a| Path::new(a).file_name().is_some_and(|f| f == name))
    }
}

/// Every process with an argument list. One that ends meanwhile is left out.
pub(super) fn processes() -> Vec<Process> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.flatten().filter_map(|e| e.file_name().to_str()?.parse().ok());
    pids.filter_map(|pid: u32| {
        let bytes = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let argv: Vec<String> = text.split_terminator('\0').map(ToOwned::to_owned).collect();
        if argv.is_empty() { None } else { Some(Process { pid, argv }) }
    })
    .collect()
}

/// SIGKILL for all of `pids`; one that is gone already is what was wanted.
pub(super) fn kill(pids: &[u32]) {
    if !pids.is_empty() {
        let _ = run("end processes", Command::new("kill").arg("-9").args(pids.iter().map(u32::to_string)));
    }
}

/// Asks `condition` until it gives something, at most until `deadline`.
pub(super) fn wait_for<T>(deadline: Instant, pause: Duration, mut condition: impl FnMut() -> Option<T>) -> Option<T> {
    loop {
        if let Some(value) = condition() {
            return Some(value);
        }
        if Instant::now() >= deadline {
            return None;
        }
        thread::sleep(pause);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failing_program_is_quoted() {
        let error = run("try", Command::new("sh").args(["-c", "echo one >&2; echo two >&2; exit 3"])).unwrap_err();
        assert_eq!(error.to_string(), "cannot try: `sh` ended with exit status: 3: one · two");
        assert!(run("try", &mut Command::new("no-such-program-of-infra")).is_err());
        assert_eq!(run_with("try", &mut Command::new("cat"), b"x").unwrap(), "x");
    }

    #[test]
    fn this_test_is_a_process() {
        assert!(processes().iter().any(|p| p.pid == std::process::id()));
    }
}
