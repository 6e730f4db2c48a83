//! What templates depend on, as constants that services own: takes the facts of a host, gives the version of a product, or whether
//! it has a feature. There is an answer for every host.

use std::collections::{BTreeMap, BTreeSet};

use crate::inventory::site::Role;
use crate::plan::state::{Facts, Version};
use crate::service::Services;
use crate::service::platform::{self, RELEASES};

/// A program whose version decides what its configuration may say.
#[derive(Debug, Clone, Copy)]
pub struct Product {
    /// Its name in [`Facts::versions`] and for a person, e.g. `haproxy`.
    pub name: &'static str,
    /// The packages that may carry it; the first that is installed tells its version.
    pub packages: &'static [&'static str],
    /// What each of [`RELEASES`] ships, in their order. Of a product that comes from its maker's repository, what that is known to have:
    /// before the repository stands on a host, apt cannot say it.
    pub shipped: [Version; RELEASES.len()],
}

impl Product {
    /// Its version on a host of these facts; where they say nothing, what the host's release ships, or the oldest one.
    pub fn of(&self, facts: &Facts) -> Version {
        let place = platform::place(&facts.distribution, &facts.release).unwrap_or(0);
        facts.versions.get(self.name).copied().unwrap_or(self.shipped[place])
    }
}

/// What a role needs of a product: with an older one the host is left alone.
#[derive(Debug, Clone, Copy)]
pub struct Floor {
    /// The role.
    pub role: Role,
    /// What it needs.
    pub product: Product,
    /// The oldest version that does.
    pub least: Version,
    /// What an older one does not have, for who reads it: the end of a sentence that begins with its version.
    pub lacks: &'static str,
}

/// Something that a host does or has, beside versions.
#[derive(Debug, Clone, Copy)]
pub struct Feature(pub &'static str);

impl Feature {
    /// Whether a host of these facts has it.
    pub fn of(self, facts: &Facts) -> bool {
        facts.features.contains(self.0)
    }

    /// Notes that a host has it.
    pub fn note(self, facts: &mut Facts) {
        facts.features.insert(self.0.to_owned());
    }
}

impl Services {
    /// The products of all services, each once.
    pub fn products(self) -> impl Iterator<Item = &'static Product> {
        let all: BTreeMap<&str, &Product> =
            self.0.iter().flat_map(|service| service.products()).map(|product| (product.name, product)).collect();
        all.into_values()
    }

    /// Why a host of these roles and facts is too old, if so: a sentence without its subject for each product.
    pub fn too_old(self, roles: &BTreeSet<Role>, facts: &Facts) -> Vec<String> {
        let floors = self.0.iter().flat_map(|service| service.floors()).filter(|floor| roles.contains(&floor.role));
        let below = floors.filter(|floor| floor.product.of(facts) < floor.least);
        let words = below.map(|floor| {
            format!(
                "it runs `{} {}`, whose `{} {}` is too old for the role `{}`, which needs {} or newer: {}",
                facts.distribution,
                facts.release,
                floor.product.name,
                floor.product.of(facts),
                floor.role,
                floor.least,
                floor.lacks
            )
        });
        words.collect()
    }

    /// The versions of the products that a host has, or would get: by package, what is installed and what its package manager
    /// would install.
    pub fn versions(
        self,
        installed: &BTreeMap<String, String>,
        candidates: &BTreeMap<String, String>,
    ) -> BTreeMap<String, Version> {
        let version = |product: &Product| {
            let told = |packages: &BTreeMap<String, String>| {
                product.packages.iter().find_map(|name| Version::of_package(packages.get(*name)?))
            };
            Some((product.name.to_owned(), told(installed).or_else(|| told(candidates))?))
        };
        self.products().filter_map(version).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::ALL;

    #[test]
    fn an_older_release_does_for_the_roles_whose_daemons_do() {
        let least = |role: Role, facts: &Facts| ALL.too_old(&BTreeSet::from([role]), facts);
        let all = [Role::Lb, Role::Web, Role::App, Role::Db, Role::Monitor];
        for (distribution, release) in RELEASES {
            let facts = Facts::of_release(distribution, release);
            let refused: Vec<Role> = all.into_iter().filter(|role| !least(*role, &facts).is_empty()).collect();
            let expected: &[Role] = if release == "22.04" { &[Role::Lb, Role::Web, Role::Monitor] } else { &[] };
            assert_eq!(refused, expected, "{distribution} {release}");
        }
        let mut facts = Facts::of_release("ubuntu", "22.04");
        let said = least(Role::Web, &facts).join("");
        assert!(said.contains("`nginx 1.18.0` is too old for the role `web`, which needs 1.19.10 or newer"), "{said}");
        // What counts is what a host has, wherever that comes from.
        facts.versions.insert("nginx".into(), Version(1, 24, 0));
        assert!(least(Role::Web, &facts).is_empty());
        facts.versions.insert("haproxy".into(), Version(2, 5, 14));
        assert!(least(Role::Lb, &facts).join("").contains("`haproxy 2.5.14`"));
    }
}
