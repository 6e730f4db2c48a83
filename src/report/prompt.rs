//! Questions to a person: takes a question, gives the answer, or the refusal to guess where nobody sits at the terminal.

use std::io::{self, BufRead, IsTerminal, Write};

use crate::base::secret::Secret;

/// Nobody can be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("nobody can be asked: standard input is no terminal")]
pub struct NoTerminal;

/// Asks `QUESTION [y/N]` on stderr and reads a line of stdin. Only `y` and `yes` are a yes; the end of input is a no.
///
/// # Errors
/// [`NoTerminal`] where stdin or stderr is no terminal.
pub fn confirm(question: &str) -> Result<bool, NoTerminal> {
    if !possible() {
        return Err(NoTerminal);
    }
    Ok(ask(question, &mut io::stdin().lock(), &mut io::stderr().lock()).unwrap_or(false))
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
    let answer = rpassword::prompt_password(question).ok()?;
    (!answer.is_empty()).then(|| Secret::new("a password that was typed", answer))
}

fn ask(question: &str, input: &mut dyn BufRead, out: &mut dyn Write) -> io::Result<bool> {
    write!(out, "{question} [y/N] ")?;
    out.flush()?;
    let mut line = String::new();
    input.read_line(&mut line)?;
    Ok(matches!(line.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_yes_is_a_yes() {
        for (answer, expected) in [("y\n", true), ("YES\n", true), ("\n", false), ("", false), ("yep\n", false)] {
            let mut out = Vec::new();
            assert_eq!(ask("apply to 6 hosts?", &mut answer.as_bytes(), &mut out).unwrap(), expected, "{answer:?}");
            assert_eq!(out, b"apply to 6 hosts? [y/N] ");
        }
    }
}
