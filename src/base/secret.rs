//! Values that must not leave their place: takes bytes and a name, shows the name only.
//!
//! Rendered text never holds a secret's value. It holds a sentinel, `\u{E000}name\u{E001}` (private-use characters that no
//! daemon's configuration contains), until the moment a body is written to a host or hashed for comparison. Where the text around it
//! has a syntax of its own, a sentinel says in which [`Form`] the value is written: `\u{E000}name|hex\u{E001}`.

use std::borrow::Cow;
use std::fmt::{self, Write as _};

use secrecy::{ExposeSecret, SecretString};

use crate::base::material::Material;

/// Begins a sentinel.
pub const OPEN: char = '\u{E000}';
/// Ends a sentinel.
pub const CLOSE: char = '\u{E001}';

/// A value with a name. No `Display`, `Serialize`, `Clone` or `PartialEq`: what shows it must say [`Secret::reveal`].
pub struct Secret {
    name: String,
    value: SecretString,
}

impl Secret {
    /// Takes the name it is known by (`pki/web1/server.key`) and its text.
    pub fn new(name: impl Into<String>, value: impl Into<String>) -> Self {
        Self { name: name.into(), value: SecretString::from(value.into()) }
    }

    /// The name, fit for a person's eyes.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The value itself. Called where a body is written to a host or hashed, where a password is sent, and nowhere else.
    pub fn reveal(&self) -> &str {
        self.value.expose_secret()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret({})", self.name)
    }
}

/// Between a material's spelling, which never has it, and the form.
const AS: char = '|';

/// How a value is written, so that its reader takes it as it is, whatever characters it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// As it is.
    Plain,
    /// Two digits a byte, as in the `x'…'` of SQL.
    Hex,
    /// A word of sh, which systemd reads the same in an `EnvironmentFile=` (systemd.exec(5)).
    Shell,
    /// A value in an option file of `MySQL` or `MariaDB` (`MySQL` reference manual, «Using Option Files»).
    Option,
}

impl Form {
    const ALL: [Self; 4] = [Self::Plain, Self::Hex, Self::Shell, Self::Option];

    fn as_str(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Hex => "hex",
            Self::Shell => "shell",
            Self::Option => "option",
        }
    }

    /// The form of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|form| form.as_str() == name)
    }

    /// The value in this form; `None` where the form has no way to write one of its characters.
    pub fn write(self, value: &str) -> Option<Cow<'_, str>> {
        let quoted = match self {
            Self::Plain => return Some(Cow::Borrowed(value)),
            Self::Hex => {
                let mut out = String::with_capacity(2 * value.len());
                value.bytes().for_each(|byte| {
                    let _ = write!(out, "{byte:02x}");
                });
                return Some(Cow::Owned(out));
            }
            Self::Shell => r#""\$`"#,
            Self::Option => r#""\"#,
        };
        // systemd takes none of them in a value, and an option file has no line but one.
        if value.chars().any(char::is_control) {
            return None;
        }
        // What needs no quotes has none: some readers of such files do not know them.
        let plain = |c: char| c.is_ascii_alphanumeric() || "_-.,:/@%+".contains(c);
        if !value.is_empty() && value.chars().all(plain) {
            return Some(Cow::Borrowed(value));
        }
        let mut out = String::with_capacity(value.len() + 2);
        out.push('"');
        for c in value.chars() {
            if quoted.contains(c) {
                out.push('\\');
            }
            out.push(c);
        }
        out.push('"');
        Some(Cow::Owned(out))
    }
}

/// What stands in a rendered text for a material, by its spelling.
pub fn sentinel(material: impl fmt::Display) -> String {
    format!("{OPEN}{material}{CLOSE}")
}

/// As [`sentinel`], for a value that is written in a form.
pub fn sentinel_as(material: impl fmt::Display, form: Form) -> String {
    format!("{OPEN}{material}{AS}{}{CLOSE}", form.as_str())
}

/// A material's spelling and the form, of what stands between the marks of a sentinel. A form that nobody knows is a part of the
/// spelling, which then is no material's.
pub fn parts(held: &str) -> (&str, Form) {
    held.split_once(AS).and_then(|(name, form)| Some((name, Form::named(form)?))).unwrap_or((held, Form::Plain))
}

/// Text as a person may see it: each sentinel as `‹name›`.
pub fn display(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for (at, tail) in text.split(OPEN).enumerate() {
        match tail.split_once(CLOSE).filter(|_| at > 0) {
            Some((held, after)) => out.extend(["‹", parts(held).0, "›", after]),
            None if at > 0 => out.extend(["‹", tail]),
            None => out.push_str(tail),
        }
    }
    out.replace(CLOSE, "›")
}

/// The spellings in all sentinels of `text`, in order, with repetitions.
pub fn names(text: &str) -> Vec<&str> {
    text.split(OPEN).skip(1).filter_map(|tail| tail.split_once(CLOSE).map(|(held, _)| parts(held).0)).collect()
}

/// The materials of all sentinels of `text`, in order, with repetitions.
pub fn held(text: &str) -> Vec<Material> {
    names(text).into_iter().filter_map(|name| name.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_secret_is_shown_by_name() {
        let text = format!("password {}\n{}{}", sentinel("db/app"), sentinel(Material::HopAuthorities), sentinel("x"));
        assert_eq!(display(&text), "password ‹db/app›\n‹pki/ca.crt›‹x›");
        assert_eq!(names(&text), ["db/app", "pki/ca.crt", "x"]);
        assert_eq!(held(&text), ["db/app", "pki/ca.crt"].map(|name| name.parse().unwrap()));
        assert_eq!(format!("{:?}", Secret::new("db/app", "hunter22")), "Secret(db/app)");
        let text = format!("x'{}' {OPEN}a|b{CLOSE} {OPEN}c", sentinel_as("db/app", Form::Hex));
        assert_eq!((names(&text), display(&text).as_str()), (vec!["db/app", "a|b"], "x'‹db/app›' ‹a|b› ‹c"));
    }

    #[test]
    fn a_form_writes_what_its_reader_takes_for_the_value() {
        for (value, hex, shell, option) in [
            ("a1B", "613142", "a1B", "a1B"),
            ("", "", "\"\"", "\"\""),
            ("a b#", "61206223", "\"a b#\"", "\"a b#\""),
            ("\"$\\`'", "22245c6027", r#""\"\$\\\`'""#, r#""\"$\\`'""#),
            ("ü", "c3bc", "\"ü\"", "\"ü\""),
        ] {
            let all = [hex, shell, option, value].map(|text| Some(text.to_owned()));
            let written = [Form::Hex, Form::Shell, Form::Option, Form::Plain].map(|form| form.write(value));
            assert_eq!(written.map(|text| text.map(Cow::into_owned)), all);
        }
        assert_eq!((Form::Shell.write("a\nb"), Form::Option.write("a\u{7}b")), (None, None));
    }

    /// What sh makes of the word.
    fn by_sh(word: &str) -> String {
        let mut command = std::process::Command::new("sh");
        let output = command.args(["-c", &format!("VALUE={word}\nprintf %s \"$VALUE\"")]).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn sh_reads_any_word_back(value in "[ -~äß€]{0,24}") {
            let word = Form::Shell.write(&value).unwrap().into_owned();
            prop_assert_eq!(by_sh(&word), value);
        }
    }
}
