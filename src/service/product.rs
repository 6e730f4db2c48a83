//! What templates depend on, as constants that services own: takes the facts of a host, gives the version of a product, or whether
//! it has a feature. There is an answer for every host.

use std::collections::BTreeMap;

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
