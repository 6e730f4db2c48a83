//! How a script travels: takes a [`Script`], gives a constant remote command and the bytes of its stdin, and takes
//! the answer apart again. The text goes over stdin before the script's own input, so neither is ever in an argv.
//!
//! The command prints a mark on both outputs (what a login shell or sudo said before it is no part of the answer),
//! skips input up to a line with the mark (`sudo -S` may or may not have eaten the password line before it), reads exactly
//! as many bytes as that line says, and evaluates them only when they are complete. The rest of stdin is the script's.
//!
//! The host itself keeps the time: `timeout`(1) ends the script, and everything that it has started in its process group, also
//! when nobody is left who would give up on it.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::{Duration, Instant};

use super::transport::{ASIDE, Output, Script};
use crate::base::sh::quote;
use crate::base::visible;

/// Starts [`PROGRAM`], its first argument, under the host's own clock; a host without `timeout` is no Debian, and is told so by
/// the observation. `sh` stands before `timeout` because sudo may let a user run nothing else. No quote, backslash, `!` or newline in
/// either, so that sh, bash, zsh, fish and csh as a login shell pass them on alike.
const LIMITED: &str = "PATH=$PATH:/usr/bin:/bin; t=; command -v timeout >/dev/null && t=\"timeout -k $1 $2\"; \
    exec $t sh -c \"$0\" sh $3 \"$4\"";

/// What a wrapped shell runs. It outlives the signal by which `timeout` ends the script, to say how the script ended. sudo drops
/// the variable that says who is connected. `dd` and not `head -c`: its one full read takes no byte too many from a pipe.
const PROGRAM: &str = "trap : TERM; SSH_CONNECTION=$2; export SSH_CONNECTION; echo $1; echo $1 >&2; \
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

/// Looks for a text in an output that grows: each byte is looked at once, however often one asks.
#[derive(Debug, Clone)]
pub(crate) struct Seek {
    needle: Vec<u8>,
    /// Where the next look begins.
    from: usize,
    /// One after the needle, once it was found by [`Seek::after`].
    found: Option<usize>,
}

impl Seek {
    pub(crate) fn new(needle: &[u8]) -> Self {
        Self { needle: needle.to_vec(), from: 0, found: None }
    }

    /// The place after the first needle in `output`, of which only the end may have changed since the last look.
    pub(crate) fn after(&mut self, output: &[u8]) -> Option<usize> {
        if self.found.is_none() {
            self.found = self.next(output);
        }
        self.found
    }

    /// The same, of what stands at `start` or behind it.
    pub(crate) fn after_in(&mut self, output: &[u8], start: usize) -> Option<usize> {
        self.from = self.from.max(start);
        self.after(output)
    }

    /// The place after the next needle that was not told yet.
    pub(crate) fn next(&mut self, output: &[u8]) -> Option<usize> {
        let at = find(output.get(self.from..)?, &self.needle).map(|at| self.from + at + self.needle.len());
        // The beginning of a needle may stand at the end.
        let unseen = output.len().saturating_sub(self.needle.len().saturating_sub(1));
        self.from = at.unwrap_or_else(|| self.from.max(unseen));
        at
    }
}

/// An answer taken apart.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Unwrapped {
    /// The outputs between the marks; all of them where the shell never started.
    pub(crate) output: Output,
    /// What came on both outputs before the mark, fit for a person; empty where nothing did.
    pub(crate) before: String,
    /// Whether the shell started.
    pub(crate) started: bool,
    /// The status that the shell itself reported; none when it was killed before the script's end.
    pub(crate) ended: Option<i32>,
}

impl Unwrapped {
    /// Whether the host has ended the script because its time was over. `status` is that of the whole command: `timeout`(1) gives
    /// 124, or 137 where it had to kill, as it does where somebody else killed. A script that has put things back in its grace has
    /// a status of its own, which counts.
    pub(crate) fn late(&self, status: i32, script: &Script, began: Instant) -> bool {
        began.elapsed() >= script.timeout
            && self.started
            && matches!(status, 124 | 137)
            && matches!(self.ended, None | Some(137 | 143))
    }
}

/// The longest that a held script may live: nobody holds a lock longer.
const HOLD: Duration = Duration::from_hours(24);

/// The limit and the grace of a script in whole seconds, as `timeout`(1) takes them everywhere.
fn limits(script: &Script, held: bool) -> [String; 2] {
    let seconds = |time: Duration| (time.as_secs() + u64::from(time.subsec_nanos() > 0)).max(1).to_string();
    [seconds(script.grace), seconds(if held { HOLD } else { script.timeout })]
}

impl Wrap {
    pub(crate) fn new() -> Self {
        let random = || RandomState::new().build_hasher().finish();
        Self { mark: format!("infra-{:016x}{:016x}", random(), random()) }
    }

    /// The arguments of a local `sh`.
    pub(crate) fn args(&self, script: &Script, held: bool) -> [String; 7] {
        let [grace, limit] = limits(script, held);
        ["-c".to_owned(), LIMITED.to_owned(), PROGRAM.to_owned(), grace, limit, self.mark.clone(), String::new()]
    }

    /// The same as one line for any login shell, after a prefix such as `sudo -n --`.
    pub(crate) fn command(&self, prefix: &str, script: &Script, held: bool) -> String {
        let [grace, limit] = limits(script, held);
        format!("{prefix}sh -c '{LIMITED}' '{PROGRAM}' {grace} {limit} {} \"$SSH_CONNECTION\"", self.mark)
    }

    /// What goes to stdin before the script's own input.
    pub(crate) fn head(&self, script: &Script, place: &Place) -> Vec<u8> {
        let root = quote(&place.root);
        let mut path = String::new();
        for dir in &place.path_prefix {
            path.push_str(dir);
            path.push(':');
        }
        path.push_str("/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        let text = format!(
            "ROOT={root}\nPATH={}\nLC_ALL=C\nexport PATH LC_ALL\numask 022\ncd /\n{}\n#{}",
            quote(&path),
            script.text,
            self.mark
        );
        format!("{} {}\n{text}", self.mark, text.len()).into_bytes()
    }

    /// Looks for the end of the mark's line in an output that grows.
    pub(crate) fn seek(&self) -> Seek {
        Seek::new(format!("{}\n", self.mark).as_bytes())
    }

    /// Whether `stdout` or `stderr` so far shows that the shell has started; the place after the mark's line.
    pub(crate) fn start(&self, output: &[u8]) -> Option<usize> {
        let line = format!("{}\n", self.mark);
        find(output, line.as_bytes()).map(|at| at + line.len())
    }

    /// Takes both outputs apart.
    pub(crate) fn answer(&self, mut stdout: Vec<u8>, mut stderr: Vec<u8>) -> Unwrapped {
        let begun = self.start(&stdout);
        let before = self.before(&stdout, &stderr);
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
        Unwrapped { output, before, started: begun.is_some(), ended }
    }

    /// What a host prints before the shell starts: the words of a forced command, of a login that is closed, of sudo.
    pub(crate) fn before(&self, stdout: &[u8], stderr: &[u8]) -> String {
        let mark = self.mark.as_bytes();
        let until = |output: &[u8]| find(output, mark).and_then(|at| output.get(..at)).unwrap_or(output).to_vec();
        greeting(&[until(stdout), until(stderr)].join(&b'\n'))
    }
}

/// Most lines of a greeting that are shown.
const GREETING: usize = 12;

/// A host's own words to whoever logs in, fit for a person: one line, the first and the last lines of a long text, bounded, no
/// control characters.
pub(crate) fn greeting(bytes: &[u8]) -> String {
    let head =
        String::from_utf8_lossy(bytes.get(..bytes.len().min(ASIDE)).unwrap_or_default()).replace(SUDO_PROMPT, "");
    let mut lines: Vec<&str> = head.lines().map(str::trim).filter(|l| !l.is_empty()).collect();
    if lines.len() > GREETING {
        let cut = lines.len() - GREETING / 2;
        lines.splice(GREETING / 2..cut, ["…"]);
    }
    let shown: Vec<_> = lines.into_iter().map(|line| visible::short(line, 200).into_owned()).collect();
    visible::line(&visible::short(&shown.join("; "), 800)).into_owned()
}

/// The words of a remote program, fit for a person: last lines, no control characters, bounded.
pub(crate) fn words(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes).replace(SUDO_PROMPT, "");
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|l| !l.is_empty()).collect();
    let last = lines.get(lines.len().saturating_sub(4)..).unwrap_or_default().join("; ");
    visible::line(&visible::short(&last, 400)).into_owned()
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
        assert_eq!(answer.before, "motd; lecture");
        assert!(!wrap.answer(vec![], b"no such user\n".to_vec()).started);
        assert_eq!(wrap.answer(b"M\n".to_vec(), b"M\nKilled".to_vec()).ended, None);
    }

    #[test]
    fn the_program_needs_nothing_of_a_login_shell_but_single_quotes() {
        for program in [PROGRAM, LIMITED] {
            assert!(!program.contains(['\'', '\\', '!', '\n']));
        }
    }

    #[test]
    fn words_are_short_and_clean() {
        assert_eq!(words(b"\x1b[31msudo: no\n\n  way \n"), "\\u{1b}[31msudo: no; way");
        assert!(words(&vec![b'x'; 5_000_000]).chars().count() < 450);
    }

    #[test]
    fn a_greeting_keeps_its_beginning_and_its_end() {
        let wrap = Wrap { mark: "M".into() };
        assert_eq!(wrap.before(b"Please login as \x1b[1m\"ops\"\n", b""), "Please login as \\u{1b}[1m\"ops\"");
        let long: String = "line 0\n".to_owned() + &"another line\n".repeat(1000);
        let said = wrap.before(long.as_bytes(), b"the end");
        assert!(said.starts_with("line 0; ") && said.ends_with("; the end") && said.len() < 300, "{said}");
        assert!(wrap.before(&vec![b'x'; 5_000_000], b"").chars().count() < 300);
        assert_eq!(wrap.before(b"M\nthe answer", b""), "");
    }

    #[test]
    fn what_grows_is_looked_at_once() {
        let whole = b"motd\nMARK\nline one\nline two\nask:ask:as";
        for cut in 1..=whole.len() {
            let (mut mark, mut line, mut ask) = (Seek::new(b"MARK\n"), Seek::new(b"\n"), Seek::new(b"ask:"));
            let mut asked = 0;
            for end in (0..whole.len()).step_by(cut).chain([whole.len()]) {
                let seen = &whole[..end];
                assert_eq!(mark.after(seen), find(seen, b"MARK\n").map(|at| at + 5), "{cut} {end}");
                if let Some(start) = mark.after(seen) {
                    let expected = find(&seen[start..], b"\n").map(|at| start + at + 1);
                    assert_eq!(line.after_in(seen, start), expected, "{cut} {end}");
                }
                while ask.next(seen).is_some() {
                    asked += 1;
                }
            }
            assert_eq!(asked, 2, "{cut}");
        }
    }
}
