//! Questions to a person: takes a question, gives the answer, or the refusal to guess where nobody sits at the terminal.

use std::fs::File;
use std::io::{self, BufRead, IsTerminal, Read as _, Write};

use rustix::termios::{self, LocalModes, OptionalActions, Termios};

use crate::base::secret::Secret;
use crate::base::visible;

/// Most bytes of an answer that are read.
const LONGEST: u64 = 1024;

/// Nobody can be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("nobody can be asked: standard input is not a terminal")]
pub struct NoTerminal;

/// Asks `QUESTION [y/N]` on stderr and reads a line of stdin. Only `y` and `yes` are a yes; the end of input is a no.
///
/// # Errors
/// [`NoTerminal`] where stdin or stderr is not a terminal.
pub fn confirm(question: &str) -> Result<bool, NoTerminal> {
    if !possible() {
        return Err(NoTerminal);
    }
    Ok(ask(question, &mut io::stdin().lock(), &mut io::stderr().lock()).unwrap_or(false))
}

/// Asks `QUESTION WORD: ` in the same way; only the word itself is a yes.
///
/// # Errors
/// As for [`confirm`].
pub fn typed(question: &str, word: &str) -> Result<bool, NoTerminal> {
    if !possible() {
        return Err(NoTerminal);
    }
    let answer =
        line(&format!("{question}; to go on, type {word}: "), &mut io::stdin().lock(), &mut io::stderr().lock());
    Ok(answer.is_ok_and(|answer| answer.trim() == word))
}

/// Asks `QUESTION [USUAL]: ` in the same way; an empty answer means the usual one. `None` is the end of input.
///
/// # Errors
/// As for [`confirm`].
pub fn answer(question: &str, usual: Option<&str>) -> Result<Option<String>, NoTerminal> {
    if !possible() {
        return Err(NoTerminal);
    }
    let usual_shown = usual.map_or(String::new(), |usual| format!(" [{usual}]"));
    let given =
        text(&format!("{question}{usual_shown}: "), &mut io::stdin().lock(), &mut io::stderr().lock()).ok().flatten();
    Ok(given.map(|given| match given.trim() {
        "" => usual.unwrap_or_default().to_owned(),
        given => given.to_owned(),
    }))
}

/// A line; `None` is the end of input. What is no text is asked for again, so that one wrong byte does not cost the answers before it.
fn text(question: &str, input: &mut dyn BufRead, out: &mut dyn Write) -> io::Result<Option<String>> {
    loop {
        match line(question, input, out) {
            Ok(given) => return Ok(Some(given).filter(|given| !given.is_empty())),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => writeln!(out, "{error}; once more, please")?,
            Err(error) => return Err(error),
        }
    }
}

/// Whether a person sits at the terminal.
pub fn possible() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal()
}

/// Asks for a password without echo; nothing where there is no terminal or no answer.
pub fn hidden(question: &str) -> Option<Secret> {
    if !possible() {
        return None;
    }
    // Off before the question is on the screen: what is typed at once, or ahead, is not shown either.
    let _quiet = Quiet::begin().ok()?;
    let mut out = io::stderr().lock();
    write!(out, "{}", visible::line(question)).and_then(|()| out.flush()).ok()?;
    let answer = rpassword::read_password().ok()?;
    (!answer.is_empty()).then(|| Secret::new("a password that was typed", answer))
}

/// The terminal without echo, until it is dropped.
struct Quiet {
    terminal: File,
    before: Termios,
}

impl Quiet {
    fn begin() -> io::Result<Self> {
        let terminal = File::open("/dev/tty")?;
        let before = termios::tcgetattr(&terminal)?;
        let mut quiet = before.clone();
        quiet.local_modes.remove(LocalModes::ECHO);
        termios::tcsetattr(&terminal, OptionalActions::Now, &quiet)?;
        Ok(Self { terminal, before })
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        // A terminal that is gone needs no echo.
        let _ = termios::tcsetattr(&self.terminal, OptionalActions::Now, &self.before);
    }
}

fn ask(question: &str, input: &mut dyn BufRead, out: &mut dyn Write) -> io::Result<bool> {
    let answer = line(&format!("{question} [y/N] "), input, out)?;
    Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}

fn line(question: &str, input: &mut dyn BufRead, out: &mut dyn Write) -> io::Result<String> {
    write!(out, "{}", visible::line(question))?;
    out.flush()?;
    let mut line = Vec::new();
    (&mut *input).take(LONGEST).read_until(b'\n', &mut line)?;
    let odd = |what: &str| Err(io::Error::new(io::ErrorKind::InvalidData, format!("this answer is {what}")));
    if line.len() as u64 == LONGEST && !line.ends_with(b"\n") {
        // The rest of it is no answer to the next question.
        input.skip_until(b'\n')?;
        return odd(&format!("longer than {LONGEST} bytes"));
    }
    String::from_utf8(line).or_else(|_| odd("not UTF-8 text"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_text_is_asked_for_again() {
        let long = [&[b'x'; 5000][..], b"\nshop\n"].concat();
        for (input, expected, again) in [
            (&b"shop\n"[..], Some("shop\n"), ""),
            (b"\n", Some("\n"), ""),
            (b"", None, ""),
            (b"sh\xffop\nshop\n", Some("shop\n"), "not UTF-8 text; once more"),
            (b"\xff\xfe\n\xff", None, "not UTF-8 text; once more"),
            (&long, Some("shop\n"), "longer than 1024 bytes; once more"),
        ] {
            let (mut out, mut from) = (Vec::new(), input);
            assert_eq!(text("name: ", &mut from, &mut out).unwrap().as_deref(), expected, "{input:?}");
            assert!(String::from_utf8(out).unwrap().contains(again), "{input:?}");
        }
        let mut from = &b"y\xff\n"[..];
        assert!(!ask("apply?", &mut from, &mut Vec::new()).unwrap_or(false));
    }

    #[test]
    fn only_a_yes_is_a_yes() {
        for (answer, expected) in [("y\n", true), ("YES\n", true), ("\n", false), ("", false), ("yep\n", false)] {
            let mut out = Vec::new();
            assert_eq!(ask("apply to 6 hosts?", &mut answer.as_bytes(), &mut out).unwrap(), expected, "{answer:?}");
            assert_eq!(out, b"apply to 6 hosts? [y/N] ");
        }
    }
}
