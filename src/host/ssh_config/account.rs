//! The account that this program runs under, as `ssh` sees it: gives its name and its home folder. `ssh` goes by the machine's accounts
//! and not by `HOME` and `USER`, so another `HOME` (`sudo -E`, a container) leads to the same keys and host keys as for `ssh`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use crate::base::fsx;
use crate::host::process::{Conversation, Ended};

/// How long `ssh` may take to say it, where accounts come over the network.
const PATIENCE: Duration = Duration::from_secs(10);

/// An account of this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Account {
    /// What `%u` stands for.
    pub(crate) name: String,
    /// What `~` and `%d` stand for.
    pub(crate) home: PathBuf,
}

/// Our own account.
pub(crate) fn own() -> &'static Account {
    static OWN: OnceLock<Account> = OnceLock::new();
    OWN.get_or_init(|| {
        let listed = fsx::read_bounded(Path::new("/etc/passwd"), fsx::SSH_BYTES).unwrap_or_default();
        let listed = of_list(&String::from_utf8_lossy(&listed), rustix::process::getuid().as_raw());
        listed.or_else(of_ssh).unwrap_or_else(of_environment)
    })
}

/// As the list of the machine's own accounts has it (passwd(5)): the first line with that number.
fn of_list(text: &str, number: u32) -> Option<Account> {
    let number = number.to_string();
    let fields = |line: &'_ str| line.split(':').map(ToOwned::to_owned).collect::<Vec<_>>();
    let own = text.lines().map(fields).find(|fields| fields.get(2) == Some(&number))?;
    account(own.first()?, own.get(5)?)
}

/// As `ssh` says it: it knows accounts that come over the network too.
fn of_ssh() -> Option<Account> {
    let mut command = Command::new("ssh");
    command.args(["-G", "-F", "none", "-o", "ControlPath=%u:%d", "--", "host"]);
    let mut child = Conversation::start(&mut command).ok()?;
    let ended = child.until(&[], true, Instant::now() + PATIENCE, |_| false);
    matches!(ended, Ok(Ended::Exit(0))).then(|| of_words(&String::from_utf8_lossy(&child.stdout)))?
}

/// Reads it from what `ssh -G` prints.
fn of_words(text: &str) -> Option<Account> {
    let line = text.lines().find_map(|line| line.strip_prefix("controlpath "))?;
    let (name, home) = line.split_once(':')?;
    account(name, home)
}

/// As the environment has it, where nobody else knows.
fn of_environment() -> Account {
    let name = std::env::var("USER").or_else(|_| std::env::var("LOGNAME")).unwrap_or_default();
    Account { name, home: std::env::home_dir().unwrap_or_else(|| PathBuf::from("/")) }
}

fn account(name: &str, home: &str) -> Option<Account> {
    (home.starts_with('/') && !name.is_empty()).then(|| Account { name: name.to_owned(), home: home.into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_is_read_from_the_list_and_from_what_ssh_says() {
        let list =
            "root:x:0:0:root:/root:/bin/sh\n+::::::\nops:x:1000:1000:A, B:/home/ops:/bin/sh\nodd:x:7:7:::/bin/sh\n";
        let is = |name: &str, home: &str| Some(Account { name: name.into(), home: home.into() });
        for (number, expected) in [(0, is("root", "/root")), (1000, is("ops", "/home/ops")), (7, None), (8, None)] {
            assert_eq!(of_list(list, number), expected, "{number}");
        }
        assert_eq!(of_words("user x\ncontrolpath ops:/home/o:p\n"), is("ops", "/home/o:p"));
        // A version of `ssh` that leaves the tokens as they are says nothing.
        assert_eq!(of_words("controlpath %u:%d\n"), None);
    }

    #[test]
    fn ssh_and_the_list_agree() {
        assert_eq!(of_ssh().as_ref(), Some(own()));
    }
}
