//! What the controller remembers of the group. It is a hint that is compared with what the databases themselves say, and never the truth:
//! another controller may have had a switchover of which this one does not know.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::NAME;
use crate::base::diagnostic::Diagnostic;
use crate::base::net::HostName;
use crate::plan::decision::Memory;

/// The service's part of the controller's memory.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Kept {
    /// The highest epoch that was seen; 0: none was.
    pub epoch: u64,
    /// Who writes by it.
    pub writer: Option<HostName>,
    /// The servers' numbers in the group. A host keeps its own whatever becomes of the inventory.
    pub server_ids: BTreeMap<HostName, u32>,
    /// Hosts to which no traffic goes until they have rejoined: writers of before, which were given up.
    pub closed: BTreeSet<HostName>,
    /// The longest restart of a server that was seen, in milliseconds; none was, where nothing is kept.
    pub restart_ms: Option<u64>,
}

impl Kept {
    /// What is remembered.
    ///
    /// # Errors
    /// When it is of another form.
    pub fn of(memory: &Memory) -> Result<Self, Diagnostic> {
        memory.of(NAME).map_err(|e| {
            Diagnostic::error(format!("what the controller remembers of the databases does not read: {e}"))
        })
    }
}
