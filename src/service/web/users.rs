//! Who may see what a site asks a password for: takes the lines of a file of users, says which of them nginx cannot read or should
//! not, and gives the expression of the paths that are asked for.

use std::collections::BTreeSet;

use crate::inventory::site::{Auth, WebSite};
use crate::plan::state::Digest;

/// bcrypt's: 2^12 rounds take a quarter of a second, in which a worker of nginx does nothing else.
const COSTS: std::ops::RangeInclusive<u32> = 4..=12;
/// Those of SHA-crypt, 5,000 where a hash does not say.
const ROUNDS: std::ops::RangeInclusive<u32> = 1000..=200_000;

/// What the service calls the users of one path: `users-shop_example_com-1a2b3c4d`.
pub(super) fn name(site: &WebSite, auth: &Auth) -> String {
    let plain: String = site.name.as_str().replace('*', "any").replace('.', "_").chars().take(40).collect();
    let Digest(digest) = Digest::of(format!("{} {}", site.name, auth.path).as_bytes());
    format!("users-{plain}-{}", digest.get(..8).unwrap_or_default())
}

/// Refuses what is no file of users (nginx's `ngx_http_auth_basic_module`, with the hashes of crypt(5) that resist guessing).
///
/// # Errors
/// The number of the line, and what is wrong with it; never a part of it.
pub(super) fn admit(text: &str) -> Result<(), String> {
    let mut names = BTreeSet::new();
    for (number, line) in (1..).zip(text.lines()) {
        let told = |why: &str| Err(format!("has a mistake in line {number}: {why}"));
        if line.trim().is_empty() || line.starts_with('#') {
            continue;
        }
        let Some((name, hash)) = line.split_once(':') else {
            return told("it is not NAME:HASH, as `htpasswd -B` writes it");
        };
        if name.is_empty() || name.len() > 255 || name.chars().any(|c| c.is_control() || c.is_whitespace()) {
            return told("the name before the `:` is empty, too long, or has a space in it");
        }
        if !names.insert(name) {
            return told("the name stands in a line above already");
        }
        if let Err(why) = admit_hash(hash) {
            return told(why);
        }
    }
    if names.is_empty() { Err("names no user".to_owned()) } else { Ok(()) }
}

fn admit_hash(hash: &str) -> Result<(), &'static str> {
    const WAYS: &str = "its password is no hash of bcrypt, SHA-512, SHA-256 or yescrypt: make one by `htpasswd -B` or `openssl passwd -6`";
    let plain = |text: &str| text.chars().all(|c| c.is_ascii_alphanumeric() || "./".contains(c));
    let parts: Vec<&str> = hash.split('$').collect();
    let whole = |salt: &str, rest: &str, length: usize| {
        (1..=16).contains(&salt.len()) && plain(salt) && rest.len() == length && plain(rest)
    };
    match parts[..] {
        ["", "2a" | "2b" | "2y", cost, rest] if rest.len() == 53 && plain(rest) => match cost.parse() {
            Ok(cost) if COSTS.contains(&cost) => Ok(()),
            Ok(_) => Err("its bcrypt cost is not between 4 and 12: each request is checked, and would take seconds"),
            Err(_) => Err(WAYS),
        },
        ["", kind @ ("5" | "6"), salt, rest] if whole(salt, rest, length(kind)) => Ok(()),
        ["", kind @ ("5" | "6"), rounds, salt, rest] if whole(salt, rest, length(kind)) => {
            match rounds.strip_prefix("rounds=").map(str::parse) {
                Some(Ok(rounds)) if ROUNDS.contains(&rounds) => Ok(()),
                Some(Ok(_)) => Err("its rounds are not between 1000 and 200000: each request is checked by them"),
                _ => Err(WAYS),
            }
        }
        ["", "y", "j9T", salt, rest] if salt.len() <= 86 && plain(salt) && rest.len() == 43 && plain(rest) => Ok(()),
        _ => Err(WAYS),
    }
}

/// Characters of the hash itself.
fn length(kind: &str) -> usize {
    if kind == "6" { 86 } else { 43 }
}

/// What `$uri` is for the paths of `prefix`, as an expression without regard to case. nginx has resolved escapes, dots and double
/// slashes by then; `;` and what follows it in a part of a path is no part of its name to some programs (RFC 3986 section 3.3).
pub(super) fn expression(prefix: &str) -> String {
    let escaped = |part: &str| part.replace('.', "\\.").replace('+', "\\+");
    let parts = prefix.split('/').filter(|part| !part.is_empty());
    let parts = parts.map(|part| format!("/{}(;[^/]*)?", escaped(part))).collect::<Vec<_>>().concat();
    if parts.is_empty() { "~^/".to_owned() } else { format!("~*^{parts}(/|$)") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_users_are_known_by_their_form_and_told_by_their_number() {
        let sha512 = format!("$6$saltsalt${}", "a".repeat(86));
        let bcrypt = format!("$2y$10${}", "b".repeat(53));
        for hash in [
            sha512.clone(),
            bcrypt.clone(),
            bcrypt.replace("2y", "2b"),
            sha512.replace("$6$", "$6$rounds=50000$"),
            format!("$5$salt${}", "c".repeat(43)),
            format!("$y$j9T$abc./${}", "d".repeat(43)),
        ] {
            assert_eq!(admit(&format!("# ours\n\nops:{hash}\ndev:{hash}\n")), Ok(()), "{hash}");
        }
        for (line, why) in [
            ("ops", "it is not NAME:HASH"),
            (":x", "the name before"),
            ("o ps:x", "the name before"),
            ("ops:hunter2", "its password is no hash"),
            ("ops:$apr1$abcdefgh$0123456789012345678901", "its password is no hash"),
            ("ops:{SHA}2jmj7l5rSw0yVb/vlWAYkK/YBwk=", "its password is no hash"),
            ("ops:{PLAIN}hunter2", "its password is no hash"),
            (&format!("ops:{}", bcrypt.replace("$10$", "$14$")), "its bcrypt cost"),
            (&format!("ops:{}", sha512.replace("$6$", "$6$rounds=9000000$")), "its rounds"),
            (&format!("ops:{sha512}x"), "its password is no hash"),
            (&format!("first:{bcrypt}"), "the name stands"),
        ] {
            let said = admit(&format!("first:{bcrypt}\n{line}\n")).unwrap_err();
            assert!(said.starts_with(&format!("has a mistake in line 2: {why}")), "{line}: {said}");
            assert!(!said.contains("hunter2") && !said.contains("ops"), "{said}");
        }
        assert!(admit("# nobody\n").is_err());
    }

    #[test]
    fn names_of_users_are_names_of_secrets() {
        for (prefix, expression_of) in
            [("/", "~^/"), ("/admin/", "~*^/admin(;[^/]*)?(/|$)"), ("/a.b/c/", "~*^/a\\.b(;[^/]*)?/c(;[^/]*)?(/|$)")]
        {
            assert_eq!(expression(prefix), expression_of);
        }
    }
}
