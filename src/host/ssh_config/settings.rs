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

    /// The same settings for another host of the same blocks; nothing where one of them depends on the name of `first`, for which
    /// they were printed.
    pub(super) fn renamed(&self, first: &str, name: &str) -> Option<Self> {
        if first == name {
            return Some(self.clone());
        }
        let mut own = self.clone();
        for (option, values) in &mut own.0 {
            let is_name = matches!(option.as_str(), "host" | "hostname");
            for value in values.iter_mut().filter(|value| value.contains(first)) {
                if !is_name || value != first {
                    return None;
                }
                name.clone_into(value);
            }
        }
        Some(own)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_depends_on_a_name_is_not_shared() {
        let settings = Settings::of("host web1\nhostname web1\nuser ops\nidentityfile ~/.ssh/id_%h\n");
        let other = settings.renamed("web1", "web2").unwrap();
        assert_eq!((other.one("hostname"), other.one("user")), (Some("web2"), Some("ops")));
        for depends in ["proxycommand nc web1 22\n", "hostname web1.example.com\n"] {
            assert_eq!(Settings::of(depends).renamed("web1", "web2"), None);
        }
    }
}
