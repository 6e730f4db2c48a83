//! Networks that many hosts have in their rules: takes a set of them once, gives it to each host without another copy.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::hash::{Hash, Hasher};
use std::ops::Deref;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::base::net::Cidr;

/// A set of networks. A copy of it is the same set, not another one with the same members.
#[derive(Debug, Clone, Default)]
pub struct Nets(Arc<Set>);

#[derive(Debug, Default)]
struct Set {
    all: BTreeSet<Cidr>,
    /// Those of more than one address: few, and only these have to be gone through for an address.
    wide: Vec<Cidr>,
}

impl Nets {
    /// What is in either of the two; one of them itself, where it holds the other.
    #[must_use]
    pub fn union(self, other: Self) -> Self {
        if self.is_same(&other) || self.is_superset(&other) {
            self
        } else if other.is_superset(&self) {
            other
        } else {
            BTreeSet::union(&self, &other).copied().collect()
        }
    }

    /// Whether one of them holds all of `net`.
    pub fn hold(&self, net: &Cidr) -> bool {
        self.contains(net) || self.0.wide.iter().any(|wide| wide.net().contains(&net.net()))
    }

    /// Whether the two are one in memory, which tells at once that they are equal.
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Deref for Nets {
    type Target = BTreeSet<Cidr>;
    fn deref(&self) -> &BTreeSet<Cidr> {
        &self.0.all
    }
}

impl From<BTreeSet<Cidr>> for Nets {
    fn from(nets: BTreeSet<Cidr>) -> Self {
        let wide = nets.iter().filter(|net| !net.is_one()).copied().collect();
        Self(Arc::new(Set { all: nets, wide }))
    }
}

impl FromIterator<Cidr> for Nets {
    fn from_iter<I: IntoIterator<Item = Cidr>>(nets: I) -> Self {
        nets.into_iter().collect::<BTreeSet<_>>().into()
    }
}

impl PartialEq for Nets {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Nets {}

impl PartialOrd for Nets {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Nets {
    fn cmp(&self, other: &Self) -> Ordering {
        if self.is_same(other) { Ordering::Equal } else { BTreeSet::cmp(self, other) }
    }
}

impl Hash for Nets {
    fn hash<H: Hasher>(&self, state: &mut H) {
        BTreeSet::hash(self, state);
    }
}

impl Serialize for Nets {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (**self).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Nets {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        BTreeSet::deserialize(deserializer).map(Self::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nets(all: &[&str]) -> Nets {
        all.iter().map(|net| net.parse::<Cidr>().unwrap()).collect()
    }

    #[test]
    fn a_union_is_no_copy_where_one_holds_the_other() {
        let (wide, narrow) = (nets(&["10.0.0.1", "10.0.0.2"]), nets(&["10.0.0.2"]));
        for union in [wide.clone().union(narrow.clone()), narrow.clone().union(wide.clone())] {
            assert!(union.is_same(&wide));
        }
        assert_eq!(narrow.union(nets(&["10.0.0.3"])), nets(&["10.0.0.2", "10.0.0.3"]));
    }

    #[test]
    fn what_is_in_a_network_is_held_by_it() {
        let nets = nets(&["10.0.0.1", "10.1.0.0/16", "fd00::/64"]);
        for (net, held) in [
            ("10.0.0.1", true),
            ("10.0.0.2", false),
            ("10.1.2.3", true),
            ("10.1.2.0/24", true),
            ("10.0.0.0/8", false),
            ("fd00::1", true),
            ("fd01::1", false),
        ] {
            assert_eq!(nets.hold(&net.parse().unwrap()), held, "{net}");
        }
    }
}
