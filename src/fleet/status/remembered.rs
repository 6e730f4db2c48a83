//! What gauges read at the last look: takes the state folder, gives it by host with its time, and keeps the next. It is a hint, from
//! which rates are taken without a second read: losing it costs a second.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::base::net::HostName;
use crate::inventory::site::Site;
use crate::pki::internal_store::{self, load, save};
use crate::service::status::Earlier;

/// A rate over less than this is a matter of luck; one over more says nothing of now. Seconds.
const AGE: RangeInclusive<i64> = 2..=120;
/// What is younger than this is not replaced, so that of two readings one is always old enough, however often it is looked. Seconds.
const STEP: i64 = 4;

/// What was read on a host.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Reading {
    /// When, seconds since 1970 by the controller's clock.
    at: i64,
    /// By service.
    parts: BTreeMap<String, Value>,
}

/// All that was read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Remembered {
    /// The inventory's name.
    site: HostName,
    /// The last two of each host, the older one first.
    hosts: BTreeMap<HostName, Vec<Reading>>,
}

fn path(state: &Path) -> PathBuf {
    state.join("status.json")
}

impl Remembered {
    /// Nothing.
    pub fn none(site: &Site) -> Self {
        Self { site: site.name.clone(), hosts: BTreeMap::new() }
    }

    /// What the state folder holds; nothing where that is another inventory's, or does not read.
    pub fn of(site: &Site) -> Self {
        let kept = load::<Self>(&path(&site.state)).ok().flatten();
        kept.filter(|kept| kept.site == site.name).unwrap_or_else(|| Self::none(site))
    }

    /// The newest of each host that is neither too fresh nor too old for a rate.
    pub fn usable(&self, now: i64) -> Earlier {
        let usable = |readings: &Vec<Reading>| readings.iter().rev().find(|one| AGE.contains(&(now - one.at))).cloned();
        self.hosts.iter().filter_map(|(host, readings)| Some((host.clone(), usable(readings)?.parts))).collect()
    }

    /// Takes what was read now. Hosts that are no longer in the inventory are forgotten.
    pub fn take(&mut self, site: &Site, now: i64, read: Earlier) {
        self.hosts.retain(|host, _| site.hosts.contains_key(host));
        for (host, parts) in read.into_iter().filter(|(_, parts)| !parts.is_empty()) {
            let readings = self.hosts.entry(host).or_default();
            // A clock that was set back has made them of no use.
            readings.retain(|one| one.at <= now);
            if readings.last().is_none_or(|last| now - last.at >= STEP) {
                readings.push(Reading { at: now, parts });
                let more = readings.len().saturating_sub(2);
                readings.drain(..more);
            }
        }
    }

    /// Keeps it, where there is a state folder: a look makes none.
    ///
    /// # Errors
    /// Where the file cannot be written.
    pub fn keep(&self, site: &Site) -> Result<(), internal_store::Error> {
        if !site.state.is_dir() || self.hosts.is_empty() {
            return Ok(());
        }
        save(&path(&site.state), self)
    }
}
