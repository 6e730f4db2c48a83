//! What `ssh -G` prints: takes its text, gives the values of each option by its name in lower case, in order.

use std::collections::BTreeMap;

/// Options and their values.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Settings(BTreeMap<String, Vec<String>>);

impl Settings {
    /// Takes lines of an option and its value.
    pub(super) fn of(text: &str) -> Self {
        let mut settings = BTreeMap::<String, Vec<String>>::new();
        for (name, value) in text.lines().filter_map(|line| line.trim().split_once(' ')) {
            settings.entry(name.to_ascii_lowercase()).or_default().push(value.trim().to_owned());
        }
        Self(settings)
    }

    /// All values of an option.
    pub(super) fn all(&self, name: &str) -> &[String] {
        self.0.get(name).map_or(&[], Vec::as_slice)
    }

    /// The value of an option that has one.
    pub(super) fn one(&self, name: &str) -> Option<&str> {
        self.all(name).first().map(String::as_str).filter(|value| !value.eq_ignore_ascii_case("none"))
    }

    /// Whether an option is on; `usual` where nothing is said.
    pub(super) fn is(&self, name: &str, usual: bool) -> bool {
        self.one(name).map_or(usual, |value| matches!(value, "yes" | "true"))
    }

    /// The value of an option where it is not what it is in `usual`.
    pub(super) fn unlike(&self, usual: &Self, name: &str) -> Option<String> {
        self.one(name).filter(|value| usual.one(name) != Some(value)).map(ToOwned::to_owned)
    }

    /// Each option with its values.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &[String])> {
        self.0.iter().map(|(name, values)| (name.as_str(), values.as_slice()))
    }

    /// The same settings for another host of the same group; nothing where one of them depends on what is `first`'s own, for which
    /// they were printed.
    pub(super) fn for_another(&self, first: &Called, other: &Called) -> Option<Self> {
        if first == other {
            return Some(self.clone());
        }
        if self.one("canonicalizehostname").is_some_and(|value| !matches!(value, "no" | "false")) {
            return None;
        }
        // `ssh` tells it in small letters, so that it is not found again.
        if first.name.bytes().any(|b| b.is_ascii_uppercase()) {
            return None;
        }
        let mut all = self.clone();
        for (option, own) in &other.own {
            // What ssh made something else of is its own to say.
            let values = all
                .0
                .get_mut(*option)
                .filter(|values| first.own.get(option).is_some_and(|was| values[..] == [&**was]))?;
            *values = vec![own.clone()];
        }
        let differs = |(option, was): &(&&str, &String)| other.own.get(**option) != Some(was);
        let gone: Vec<&String> = first.own.iter().filter(differs).map(|(_, was)| was).collect();
        for (option, values) in all.0.iter_mut().filter(|(option, _)| !other.own.contains_key(option.as_str())) {
            let is_name = matches!(option.as_str(), "host" | "hostname");
            for value in values {
                if first.name != other.name && value.contains(&first.name) {
                    if !is_name || *value != first.name {
                        return None;
                    }
                    other.name.clone_into(value);
                } else if gone.iter().any(|was| names(value, was)) {
                    return None;
                }
            }
        }
        Some(all)
    }
}

/// One host of a group: what is its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Called {
    /// By which name `ssh` is asked.
    pub(super) name: String,
    /// Options that its own block gives.
    pub(super) own: BTreeMap<&'static str, String>,
}

/// Whether `word` stands in `text` by itself.
fn names(text: &str, word: &str) -> bool {
    let part = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
    let alone = |(at, _): (usize, &str)| {
        let (before, after) = (text.get(..at), text.get(at + word.len()..));
        !part(before.and_then(|b| b.chars().next_back())) && !part(after.and_then(|a| a.chars().next()))
    };
    text.match_indices(word).any(alone)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_depends_on_a_name_is_not_shared() {
        let called = |name: &str, own: &[(&'static str, &str)]| Called {
            name: name.to_owned(),
            own: own.iter().map(|(option, value)| (*option, (*value).to_owned())).collect(),
        };
        let settings = Settings::of("host web1\nhostname web1\nuser ops\nidentityfile ~/.ssh/id_%h\n");
        let (web1, web2) = (called("web1", &[]), called("web2", &[]));
        let other = settings.for_another(&web1, &web2).unwrap();
        assert_eq!((other.one("hostname"), other.one("user")), (Some("web2"), Some("ops")));
        assert_eq!(Settings::of("host Web1\nhostname web1\n").for_another(&called("Web1", &[]), &web2), None);
        for depends in ["proxycommand nc web1 22\n", "hostname web1.example.com\n", "canonicalizehostname always\n"] {
            assert_eq!(Settings::of(depends).for_another(&web1, &web2), None);
        }
        let (web1, web2) = (
            called("web1", &[("hostname", "10.0.2.11"), ("port", "22")]),
            called("web2", &[("hostname", "10.0.2.12"), ("port", "2222")]),
        );
        let shared = "host web1\nhostname 10.0.2.11\nport 22\nciphers a228-22x\nrekeylimit 0 0\n";
        let other = Settings::of(shared).for_another(&web1, &web2).unwrap();
        assert_eq!(
            (other.one("host"), other.one("hostname"), other.one("port")),
            (Some("web2"), Some("10.0.2.12"), Some("2222"))
        );
        for depends in ["controlpath /run/%C-22\n", "remotecommand echo 10.0.2.11\n", "ipqos 22\n"] {
            assert_eq!(Settings::of(&format!("{shared}{depends}")).for_another(&web1, &web2), None, "{depends}");
        }
        // As ssh itself made it another name.
        assert_eq!(Settings::of("hostname web1.lan\nport 22\n").for_another(&web1, &web2), None);
    }
}
