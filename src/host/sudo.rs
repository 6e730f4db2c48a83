//! What sudo says where it does not let us: takes its words in English and lower case, gives the way out. Pure.

/// Words of a refusal, and what a person does about it on the host; `USER` stands for the name. The first that fits counts.
const WAYS: [(&str, &str); 14] = [
    ("must have a tty", "`Defaults:USER !requiretty` in /etc/sudoers.d lets the user do without a terminal"),
    ("unable to allocate pty", "mount /dev/pts there, or write `Defaults:USER !use_pty` in /etc/sudoers.d"),
    ("sudo: command not found", NONE),
    ("sudo: not found", NONE),
    ("sudo': no such file", NONE),
    ("sudo’: no such file", NONE),
    ("command not found", "the `secure_path` of its sudoers does not have the folder of `sh`, mostly /usr/bin: add it"),
    ("not in the sudoers", RULE),
    ("may not run sudo", RULE),
    ("is not allowed to", RULE),
    (
        "expired",
        "`chage -l USER`, as root there, shows what has expired; `chage -E -1 -M -1 USER` takes both ends away",
    ),
    ("account validation failure", "`passwd -S USER`, as root there, tells whether the account is locked"),
    (
        "no new privileges",
        "what started sshd there set `NoNewPrivileges`, under which nobody becomes root: take that away",
    ),
    (
        "setuid bit",
        "as root there: `chown root: /usr/bin/sudo && chmod 4755 /usr/bin/sudo`, on a filesystem without `nosuid`",
    ),
];

const NONE: &str = "install it there, or log in as `root`";
const RULE: &str = "a line `USER ALL=(ALL:ALL) NOPASSWD: ALL` in /etc/sudoers.d, written with `visudo`, lets the user";

/// The way out of a refusal, where it is a known one.
pub(crate) fn way_out(said: &str, user: &str) -> Option<String> {
    let known = WAYS.iter().find(|(words, _)| said.contains(words));
    let broken =
        ["sudoers source", "/etc/sudoers", "unable to initialize policy"].iter().any(|words| said.contains(words));
    let way = match known {
        Some((_, way)) => way,
        None if broken => "`visudo -c`, as root there, says what is wrong with its sudoers",
        None => return None,
    };
    Some(way.replace("USER", user))
}

/// Whether it wants a password, and not something else that it calls required.
pub(crate) fn asks(said: &str) -> bool {
    said.contains("required") && !said.contains("tty") && !said.contains("expired")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_refusal_has_a_way_out() {
        for (said, way) in [
            ("sudo: sorry, you must have a tty to run sudo", "`Defaults:ops !requiretty`"),
            ("sudo: unable to allocate pty: No such device", "`Defaults:ops !use_pty`"),
            ("bash: line 1: sudo: command not found", "install it"),
            ("sh: 1: sudo: not found", "install it"),
            ("env: 'sudo': No such file or directory", "install it"),
            ("env: ‘sudo’: No such file or directory", "install it"),
            ("sudo: sh: command not found", "`secure_path`"),
            ("ops is not in the sudoers file.", "`ops ALL=(ALL:ALL) NOPASSWD: ALL`"),
            ("Sorry, user ops may not run sudo on web1.", "`ops ALL=(ALL:ALL) NOPASSWD: ALL`"),
            ("Sorry, user ops is not allowed to execute '/usr/bin/sh' as root on web1.", "NOPASSWD"),
            ("sudo: Account or password is expired, reset your password and try again", "`chage -l ops`"),
            (
                "sudo: Account expired or PAM config lacks an \"account\" section for sudo, contact your system administrator",
                "`chage -l ops`",
            ),
            ("sudo: account validation failure, is your account locked?", "`passwd -S ops`"),
            ("sudo: The \"no new privileges\" flag is set, which prevents sudo from running as root.", "sshd"),
            ("sudo: /usr/bin/sudo must be owned by uid 0 and have the setuid bit set", "chmod 4755"),
            ("sudo: no valid sudoers sources found, quitting", "`visudo -c`"),
            ("/etc/sudoers.d/ops:1:5: syntax error", "`visudo -c`"),
        ] {
            let said = said.to_lowercase();
            let found = way_out(&said, "ops").unwrap_or_default();
            assert!(found.contains(way) && !found.contains("USER"), "{said}: {found}");
            assert!(!asks(&said), "{said}");
        }
        assert_eq!(way_out("", "ops"), None);
        assert_eq!(way_out("the lecture of the day", "ops"), None);
        assert!(asks("sudo: a password is required"));
        assert!(!asks("you are required to change your password immediately (password expired)."));
    }
}
