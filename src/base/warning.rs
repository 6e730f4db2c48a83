//! The warnings that a person may silence on purpose: takes the word that `silence` of an inventory has, gives the warning, and the
//! other way round. Each is told once, says its word itself, and stops nothing.

use std::str::FromStr;

/// Declares the warnings: what each is about, how the code calls it, and its word in an inventory.
macro_rules! warnings {
    ($($(#[doc = $about:literal])+ $variant:ident = $word:literal,)+) => {
        /// What a warning is about.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Warning {
            $($(#[doc = $about])+ $variant,)+
        }

        impl Warning {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// Its word in an inventory.
            pub fn word(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }
        }
    };
}

warnings! {
    /// A role has one host, where another has more.
    SingleHost = "single-host",
    /// `allow_mixed_roles` stands where nothing is mixed.
    NeedlessReason = "needless-reason",
    /// App hosts, and no site with a program.
    NoProgram = "no-program",
    /// Load balancers, and no site.
    NoSite = "no-site",
    /// Database hosts, and no `database`.
    NoDatabase = "no-database",
    /// Sites, and no `certificates`.
    NoCertificates = "no-certificates",
    /// A program without a path that tells whether it is well.
    NoHealth = "no-health",
    /// A host that is to watch, and nothing to watch.
    IdleMonitor = "idle-monitor",
    /// An agent that no test could run as its maker ships it.
    UntriedAgent = "untried-agent",
    /// A network stands in a list twice.
    NetworkTwice = "network-twice",
    /// The whole internet may try to log in.
    OpenSsh = "open-ssh",
    /// The whole internet reaches the databases.
    OpenDatabase = "open-database",
    /// A part of the networks that manage the hosts is blocked.
    BlockedPart = "blocked-part",
    /// A setting of the database that no known version has.
    UnknownSetting = "unknown-setting",
    /// A file that is to hold a secret is not there.
    AbsentSecret = "absent-secret",
    /// A certificate that was bought ends soon.
    CertificateEnds = "certificate-ends",
    /// A certificate asks for what the load balancers do not give.
    MustStaple = "must-staple",
    /// No authority that this machine trusts vouches for a certificate.
    Untrusted = "untrusted",
    /// Browsers trust the certificate that a site shows, and not the one that replaces it.
    TrustLost = "trust-lost",
    /// The hosts trust an internal authority that is not in the state folder.
    NewAuthority = "new-authority",
    /// A template beside the inventory that takes the place of none.
    StrayTemplate = "stray-template",
    /// As far as this machine can tell, the new firewall does not let it in.
    WayIn = "way-in",
    /// What hosts are about to serve is not there yet: a folder of static files, a program.
    NotThereYet = "not-there-yet",
    /// Programs of a host that may disturb the rules of the firewall.
    OtherRules = "other-rules",
}

impl Warning {
    /// How it is silenced, as a help line.
    pub fn silencing(self) -> String {
        format!("if it is meant, add `{}: \"the reason\"` to `silence`", self.word())
    }
}

impl FromStr for Warning {
    type Err = ();
    fn from_str(word: &str) -> Result<Self, ()> {
        Self::ALL.iter().copied().find(|warning| warning.word() == word).ok_or(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_warning_has_a_word_of_its_own() {
        let words: BTreeSet<&str> = Warning::ALL.iter().map(|warning| warning.word()).collect();
        assert_eq!(words.len(), Warning::ALL.len());
        for warning in Warning::ALL {
            assert_eq!(warning.word().parse(), Ok(*warning));
        }
        assert_eq!("single_host".parse::<Warning>(), Err(()));
    }
}
