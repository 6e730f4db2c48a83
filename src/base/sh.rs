//! What sh on a host is given: takes text, gives paths, units and packages that may stand unquoted in a list of a script, and
//! one quoted word of anything else.

use std::borrow::Borrow;
use std::ops::Deref;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::base::net::{Invalid, text_newtype};

/// One word of sh, whatever the text; a NUL, which no word can hold, is left out. Other login shells read it alike.
pub fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\0', "").replace('\'', r"'\''"))
}

/// No character but letters and digits of ASCII and `others`: no glob, space, quote, line end or variable.
fn plain(text: &str, others: &str) -> Result<(), Invalid> {
    match text.chars().find(|c| !(c.is_ascii_alphanumeric() || others.contains(*c))) {
        None => Ok(()),
        Some(c) => Err(Invalid::new(format!("has the character `{}`", c.escape_default()))),
    }
}

macro_rules! word {
    ($name:ident) => {
        text_newtype!($name);
        impl Deref for $name {
            type Target = str;
            fn deref(&self) -> &str {
                &self.0
            }
        }
        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
        impl FromStr for $name {
            type Err = Invalid;
            fn from_str(text: &str) -> Result<Self, Invalid> {
                Self::check(text)?;
                Ok(Self(text.to_owned()))
            }
        }
    };
}

/// The absolute path of a file or folder of a host, without any way back.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AbsolutePath(String);
word!(AbsolutePath);

impl AbsolutePath {
    fn check(text: &str) -> Result<(), Invalid> {
        let Some(parts) = text.strip_prefix('/') else { return Err(Invalid::new("is not an absolute path")) };
        plain(text, "/._-+@%~=:")?;
        if parts.split('/').any(|part| matches!(part, "" | "." | "..")) {
            return Err(Invalid::new("has a part that is empty, `.` or `..`"));
        }
        Ok(())
    }

    /// The folders above it, without `/`, the outermost first.
    pub fn above(&self) -> impl Iterator<Item = &str> {
        self.match_indices('/').skip(1).map(|(end, _)| &self[..end])
    }
}

/// The name of a unit of systemd with its type, e.g. `nginx.service` (systemd.unit(5)).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct UnitName(String);
word!(UnitName);

impl UnitName {
    fn check(text: &str) -> Result<(), Invalid> {
        plain(text, "._-@:")?;
        match text.rsplit_once('.') {
            Some((name, "service" | "socket" | "timer" | "target" | "path" | "mount")) if !name.is_empty() => Ok(()),
            _ => Err(Invalid::new("does not end in a type of unit, such as `.service`")),
        }
    }
}

/// The name of a package of the distribution (Debian Policy 5.6.7).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PackageName(String);
word!(PackageName);

impl PackageName {
    fn check(text: &str) -> Result<(), Invalid> {
        plain(text, "+-.")?;
        if text.len() < 2 || !text.starts_with(|c: char| c.is_ascii_alphanumeric()) {
            return Err(Invalid::new("is not the name of a package"));
        }
        match text.chars().find(char::is_ascii_uppercase) {
            None => Ok(()),
            Some(c) => Err(Invalid::new(format!("has the upper-case letter `{c}`"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_sh_leaves_alone_is_a_word() {
        for good in ["/etc", "/etc/nginx/conf.d/shop-web-8443.conf", "/srv/a+b@c%d~e=f:g", "/.well-known"] {
            assert_eq!(good.parse::<AbsolutePath>().map(String::from), Ok(good.to_owned()));
        }
        for bad in
            ["", "/", "etc", "/etc/", "//etc", "/a/../b", "/a/.", "/a b", "/a*", "/a\nb", "/a$b", "/a'b", "/[a]", "/ä"]
        {
            assert!(bad.parse::<AbsolutePath>().is_err(), "{bad:?}");
        }
        for good in ["nginx.service", "a@b-c.timer", "infra-recover.service"] {
            assert!(good.parse::<UnitName>().is_ok(), "{good}");
        }
        for bad in ["nginx", ".service", "a.service=stop", "a b.service", "../a.service", "*.service", "a.service\n"] {
            assert!(bad.parse::<UnitName>().is_err(), "{bad:?}");
        }
        for good in ["nginx", "libssl3t64", "docker.io", "g++"] {
            assert!(good.parse::<PackageName>().is_ok(), "{good}");
        }
        for bad in ["", "a", "-y", "nginx;", "Nginx", "a b", "a=1", "../a"] {
            assert!(bad.parse::<PackageName>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn folders_above_a_path_are_told_from_outside_in() {
        let path: AbsolutePath = "/etc/nginx/tls/ca.crt".parse().unwrap();
        assert_eq!(path.above().collect::<Vec<_>>(), ["/etc", "/etc/nginx", "/etc/nginx/tls"]);
    }

    #[test]
    fn a_quoted_word_is_read_back_by_sh() {
        for text in ["", "a b", "it's", "$HOME `id` \\ \"x\"", "a\nb", "*"] {
            let out =
                std::process::Command::new("sh").arg("-c").arg(format!("printf %s {}", quote(text))).output().unwrap();
            assert_eq!(String::from_utf8(out.stdout).unwrap(), text);
        }
        assert_eq!(quote("a\0b"), "'ab'");
    }
}
