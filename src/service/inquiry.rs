//! What services ask of hosts by themselves: takes a list of services, gives the parts of the one observing script that are theirs, and
//! lets each read its own answer.

use crate::plan::state::Observed;
use crate::service::Services;

/// What a service asks of every host, beside the files, units and packages that it wants there.
#[derive(Debug, Clone, Copy)]
pub struct Inquiry {
    /// Files of infra's own that the script reads, such as `var/lib/infra/x`, below the root. Where one is there and is not a regular file, the host is
    /// left alone and the script does not run.
    pub records: &'static [&'static str],
    /// Units that are asked for, with all others at once, where a file stands for them: [`Observed::units`] has them.
    pub units: &'static [&'static str],
    /// Packages that are asked for, with all others at once: [`Observed::packages`] has them.
    pub packages: &'static [&'static str],
    /// Lines of sh that only look, in a subshell of their own on every host: begin with the cheapest test of whether there is
    /// anything to ask. The functions of [`WAYS`](super::WAYS) and `ROOT` are set, the working folder is the root, and what they print is the answer.
    pub script: fn() -> String,
    /// Puts the answer into what was observed, in which all else but files stands already. Pure and total: an answer may be anything.
    pub read: fn(&str, &mut Observed),
}

impl Services {
    /// What they ask, by the name of the service.
    pub fn inquiries(self) -> impl Iterator<Item = (&'static str, Inquiry)> {
        self.0.iter().filter_map(|service| Some((service.name(), service.inquiry()?)))
    }
}
