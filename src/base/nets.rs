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
pub struct Nets(Arc<BTreeSet<Cidr>>);

impl Nets {
    /// What is in either of the two; one of them itself, where it holds the other.
    #[must_use]
    pub fn union(self, other: Self) -> Self {
        if Arc::ptr_eq(&self.0, &other.0) || self.0.is_superset(&other.0) {
            self
        } else if other.0.is_superset(&self.0) {
            other
        } else {
            self.0.union(&other.0).copied().collect()
        }
    }
}

impl Deref for Nets {
    type Target = BTreeSet<Cidr>;
    fn deref(&self) -> &BTreeSet<Cidr> {
        &self.0
    }
}

impl From<BTreeSet<Cidr>> for Nets {
    fn from(nets: BTreeSet<Cidr>) -> Self {
        Self(Arc::new(nets))
    }
}

impl FromIterator<Cidr> for Nets {
    fn from_iter<I: IntoIterator<Item = Cidr>>(nets: I) -> Self {
        Self(Arc::new(nets.into_iter().collect()))
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
        if Arc::ptr_eq(&self.0, &other.0) { Ordering::Equal } else { self.0.cmp(&other.0) }
    }
}

impl Hash for Nets {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
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
            assert!(Arc::ptr_eq(&union.0, &wide.0));
        }
        assert_eq!(narrow.union(nets(&["10.0.0.3"])), nets(&["10.0.0.2", "10.0.0.3"]));
    }
}
