//! How a script travels: takes a [`Script`], gives a constant remote command and the bytes of its stdin, and takes
//! the answer apart again. The text goes over stdin before the script's own input, so neither is ever in an argv.
//!
//! The command prints a mark on both outputs (what a login shell or sudo said before it is no part of the answer),
//! skips input up to a line with the mark (`sudo -S` may or may not have eaten the password line before it), reads exactly
//! as many bytes as that line says, and evaluates them only when they are complete. The rest of stdin is the script's.

use std::hash::{BuildHasher, Hasher, RandomState};

use super::transport::{Output, Script};

/// What a wrapped shell runs. No quote, backslash, `!` or newline in it, so that sh, bash, zsh, fish and csh as a login
/// shell pass it on alike. `dd` and not `head -c`: its one full read takes no byte too many from a pipe.
const PROGRAM: &str = "PATH=$PATH:/usr/bin:/bin; echo $1; echo $1 >&2; \
    while read -r m n; do [ \"$m\" = $1 ] && break; done; [ \"$m\" = $1 ] || exit 124; \
    s=$(dd bs=$n count=1 iflag=fullblock 2>/dev/null); case $s in *\"#$1\") ;; *) exit 124;; esac; \
    (unset m n; eval \"$s\"); s=$?; echo $1 $s >&2; exit $s";

/// The prompt that sudo is told to print, so that it can be told from any other text.
pub(crate) const SUDO_PROMPT: &str = "infra-sudo-password:";

/// Where a script runs.
#[derive(Debug, Clone, Default)]
pub(crate) struct Place {
    /// The value of `ROOT`; empty on a real host.
    pub(crate) root: String,
    /// Folders in front of the usual `PATH`.
    pub(crate) path_prefix: Vec<String>,
}

/// One transport's way to wrap scripts; the mark differs between transports.
#[derive(Debug, Clone)]
pub(crate) struct Wrap {
    mark: String,
}

/// An answer taken apart.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    /// The outputs between the marks; all of them where the shell never started.
    pub(crate) output: Output,
    /// Whether the shell started.
    pub(crate) started: bool,
    /// The status that the shell itself reported; none when it was killed before the script's end.
    pub(crate) ended: Option<i32>,
}

impl Wrap {
    pub(crate) fn new() -> Self {
        let random = || RandomState::new().build_hasher().finish();
        Self { mark: format!("infra-{:016x}{:016x}", random(), random()) }
    }

    /// The argv of the shell.
    pub(crate) fn argv(&self) -> [&str; 5] {
        ["sh", "-c", PROGRAM, "sh", &self.mark]
    }

    /// The same as one line for any login shell, after a prefix such as `sudo -n --`.
    pub(crate) fn command(&self, prefix: &str) -> String {
        format!("{prefix}sh -c '{PROGRAM}' sh {}", self.mark)
    }

    /// What goes to stdin before the script's own input.
    pub(crate) fn head(&self, script: &Script, place: &Place) -> Vec<u8> {
        let root = shell_quote(&place.root);
        let mut path = String::new();
        for dir in &place.path_prefix {
            path.push_str(dir);
            path.push(':');
        }
        path.push_str("/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        let text = format!(
            "ROOT={root}\nPATH={}\nLC_ALL=C\nexport PATH LC_ALL\numask 022\ncd /\n{}\n#{}",
            shell_quote(&path),
            script.text,
            self.mark
        );
        format!("{} {}\n{text}", self.mark, text.len()).into_bytes()
    }

    /// Whether `stdout` or `stderr` so far shows that the shell has started; the place after the mark's line.
    pub(crate) fn start(&self, output: &[u8]) -> Option<usize> {
        let line = format!("{}\n", self.mark);
        find(output, line.as_bytes()).map(|at| at + line.len())
    }

    /// Takes both outputs apart.
    pub(crate) fn answer(&self, mut stdout: Vec<u8>, mut stderr: Vec<u8>) -> Answer {
        let begun = self.start(&stdout);
        if let Some(at) = begun {
            stdout.drain(..at);
        }
        if let Some(at) = self.start(&stderr) {
            stderr.drain(..at);
        }
        let mut ended = None;
        let end = format!("{} ", self.mark);
        if let Some(at) = rfind(&stderr, end.as_bytes()) {
            let tail = stderr.get(at + end.len()..).unwrap_or_default();
            let length = tail.iter().position(|b| *b == b'\n');
            let status = length.and_then(|n| tail.get(..n)).and_then(|n| std::str::from_utf8(n).ok()?.parse().ok());
            if let (Some(status), Some(length)) = (status, length) {
                ended = Some(status);
                stderr.drain(at..=at + end.len() + length);
            }
        }
        let output = Output { status: ended.unwrap_or(-1), stdout, stderr };
        Answer { output, started: begun.is_some(), ended }
    }
}

/// One POSIX shell word, whatever the text (a NUL cannot be in one and is left out).
pub(crate) fn shell_quote(text: &str) -> String {
    format!("'{}'", text.replace('\0', "").replace('\'', r"'\''"))
}

/// The words of a remote program, fit for a person: last lines, no control characters, bounded.
pub(crate) fn words(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes).replace(SUDO_PROMPT, "");
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|l| !l.is_empty()).collect();
    let last = lines.get(lines.len().saturating_sub(4)..).unwrap_or_default().join("; ");
    last.chars().filter(|c| !c.is_control()).take(400).collect()
}

pub(crate) fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len().max(1)).position(|w| w == needle)
}

fn rfind(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len().max(1)).rposition(|w| w == needle)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_what_stands_between_the_marks() {
        let wrap = Wrap { mark: "M".into() };
        let answer = wrap.answer(b"motd\nM\n1\0\nM\n".to_vec(), b"lecture\nM\nbad\nM 3\n".to_vec());
        assert_eq!(answer.output, Output { status: 3, stdout: b"1\0\nM\n".to_vec(), stderr: b"bad\n".to_vec() });
        assert!(answer.started);
        assert!(!wrap.answer(vec![], b"no such user\n".to_vec()).started);
        assert_eq!(wrap.answer(b"M\n".to_vec(), b"M\nKilled".to_vec()).ended, None);
    }

    #[test]
    fn the_program_needs_nothing_of_a_login_shell_but_single_quotes() {
        assert!(!PROGRAM.contains(['\'', '\\', '!', '\n']));
    }

    #[test]
    fn words_are_short_and_clean() {
        assert_eq!(words(b"\x1b[31msudo: no\n\n  way \n"), "[31msudo: no; way");
    }
}
