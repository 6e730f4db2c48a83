//! What is done on a host beside files, units and rules, as data: what it is, what it needs, how it is taken back, and what becomes
//! true by it. A service wants it, the plan decides whether it is due.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::base::secret;
use crate::plan::body::Body;
use crate::plan::phase::Phase;

/// What is done on a host and is no file: a schema is made, data is copied. It is carried out as root, after the files and the units
/// of its phase and before the phase's probes, and only where not all that it makes is true already.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Task {
    /// The service.
    pub service: &'static str,
    /// The phase in which it is carried out; those of one phase in the order of their names.
    pub phase: Phase,
    /// As a person would say it: `make the schema shop`.
    pub title: String,
    /// sh text; exit 0 = done, else its output says why not. A line that it writes to file descriptor 3 tells a person how far
    /// it is (`42 %, 1.3 of 3.1 GB`). It may be carried out again after it was cut off half-way.
    pub script: String,
    /// What it gets on its standard input. Secrets stand in it as sentinels, and reach a host in no other way.
    pub input: Body,
    /// How long it may take; the host ends it then.
    pub limit: Duration,
    /// sh text that takes it back, begun or done; it gets no input. It is carried out when the phase fails on this host, and by
    /// the next run where the host went down in the phase; so it must do no harm when it is carried out twice, and work with the
    /// files of before the phase as with those of after it. `None`: what it has done stays.
    pub undo: Option<String>,
    /// The facts that are true once it is done, each with its value: what is compared with
    /// [`Observed::made`](crate::plan::state::Observed::made).
    pub makes: BTreeMap<String, String>,
}

impl Task {
    /// The names of the secrets that it gets.
    pub fn secrets(&self) -> BTreeSet<&str> {
        secret::names(&self.input.text).into_iter().collect()
    }
}

/// A phase in which tasks were begun and that has not come to its end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CutOff {
    /// The run.
    pub run: String,
    /// The phase's name.
    pub phase: String,
    /// How long it may take until the tasks that were begun are taken back: the sum of their limits.
    pub limit: Duration,
}
