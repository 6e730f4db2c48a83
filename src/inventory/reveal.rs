//! The value of a secret that the inventory refers to: takes the reference and the inventory's folder, gives the value. Nothing
//! of it is in an error.

use std::io::Read as _;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::base::secret::Secret;
use crate::inventory::site::SecretRef;

/// More than this no key, token or password is, bytes.
const LONGEST: u64 = 64 * 1024;

/// Reads a secret. White space at its ends is no part of it.
///
/// # Errors
/// A sentence that names the place where the value should be, never the value.
pub fn reveal(name: &str, reference: &SecretRef, folder: &Path) -> Result<Secret, String> {
    let text = match reference {
        SecretRef::Env(variable) => std::env::var(variable)
            .map_err(|_| format!("`{name}` is in the variable `{variable}`, which is not set"))?,
        SecretRef::File(path) => {
            let path = folder.join(path);
            let mut text = String::new();
            let read = std::fs::File::open(&path).and_then(|file| file.take(LONGEST).read_to_string(&mut text));
            read.map_err(|e| format!("`{name}` is in `{}`, which cannot be read: {}", path.display(), e.kind()))?;
            text
        }
        SecretRef::Command(argv) => {
            said(argv, folder).map_err(|why| format!("`{name}` is what a command prints: {why}"))?
        }
    };
    match text.trim() {
        "" => Err(format!("`{name}` is empty")),
        value => Ok(Secret::new(name, value)),
    }
}

fn said(argv: &[String], folder: &Path) -> Result<String, String> {
    let Some((program, arguments)) = argv.split_first() else { return Err("none is named".to_owned()) };
    // What it asks a person, or says to them, goes to the terminal.
    let output = Command::new(program).args(arguments).current_dir(folder).stderr(Stdio::inherit()).output();
    let output = output.map_err(|e| format!("`{program}` cannot be started: {}", e.kind()))?;
    if !output.status.success() {
        return Err(format!("`{program}` failed ({})", output.status));
    }
    String::from_utf8(output.stdout).map_err(|_| format!("what `{program}` printed is no text"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_reference_is_read_and_no_error_holds_a_value() {
        let dir = tempfile::tempdir().unwrap();
        fs_err::write(dir.path().join("key"), "c2VjcmV0\n").unwrap();
        let read = |reference: &SecretRef| reveal("eab", reference, dir.path());
        let value = |reference| read(&reference).map(|s| s.reveal().to_owned());
        let command = |script: &str| SecretRef::Command(["sh", "-c", script].map(ToOwned::to_owned).to_vec());
        assert_eq!(value(SecretRef::File("key".into())).unwrap(), "c2VjcmV0");
        assert_eq!(value(command("cat key")).unwrap(), "c2VjcmV0");
        for (reference, words) in [
            (SecretRef::Env("NO_SUCH_VARIABLE_OF_INFRA".into()), "which is not set"),
            (SecretRef::File("none".into()), "cannot be read"),
            (command("cat key; exit 3"), "`sh` failed"),
            (command("true"), "is empty"),
            (SecretRef::Command(vec!["./no-such-program".into()]), "cannot be started"),
        ] {
            let why = value(reference).unwrap_err();
            assert!(why.contains(words) && !why.contains("c2Vj"), "{why}");
        }
    }
}
