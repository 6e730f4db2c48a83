//! How many connections a host has room for: takes what is known of it, gives numbers by one rule for all tiers, so that none of them
//! stops before the one that asks it.

use crate::base::net::HostName;
use crate::plan::facts::Facts;
use crate::plan::said::Said;

/// From this share of the room on, in percent, it is told that it is nearly taken.
pub(crate) const NEARLY: u64 = 90;

/// Clients for whom there is room in any memory, and where it is not known.
const LEAST: u64 = 8000;
/// What a client and its connection to a web host take of memory, where nothing flows; half of a host's may go to them.
const KIB_A_CLIENT: u64 = 80;
/// What a connection that is led on as it is takes, where nothing flows.
const KIB_LED: u64 = 16;
/// Ports that one address has towards one port of another (`net.ipv4.ip_local_port_range`: 32768 to 60999), but for some that are on
/// their way out.
const PORTS: u64 = 28_000;
/// Files that a process has open beside its connections: listeners, logs, checks, what it serves.
const BESIDE: u64 = 200;
/// Files of one process where the host does not say how many it may have: containers often have so many and no more.
const FILES: u64 = 20_000;
/// More connections a worker of nginx is not given: each takes 0.4 KB before it is used.
const CONNECTIONS: u64 = 65_536;

/// How many clients a load balancer takes at one time, each with a connection to one of `servers` web hosts: what its memory, its
/// files and its ports allow.
pub(crate) fn clients(facts: &Facts, servers: usize) -> u64 {
    let memory = (facts.memory * 1024 / 2 / KIB_A_CLIENT).max(LEAST);
    let ports = PORTS * u64::try_from(servers.max(1)).unwrap_or(1);
    memory.min(ports).min(files(facts).saturating_sub(BESIDE) / 2).max(1)
}

/// How many files one process may open.
fn files(facts: &Facts) -> u64 {
    match facts.files {
        0 => FILES,
        files => files,
    }
}

/// How many connections a web host leads to `servers` app hosts at one time: by its files, its ports, and a quarter of its memory. What
/// passes there is not read, so that each takes little. Hosts of nearly the same memory have room for the same number, as their
/// configuration is one for all of them.
pub(crate) fn led(facts: &Facts, servers: usize) -> u64 {
    let memory = rounded(facts.memory * 1024 / 4 / KIB_LED).max(LEAST);
    let ports = PORTS * u64::try_from(servers.max(1)).unwrap_or(1);
    memory.min(ports).min(files(facts).saturating_sub(BESIDE) / 2).max(1)
}

/// The next lower number of three binary digits and zeros: 4, 5, 6, 7, 8, 10, 12, …
fn rounded(number: u64) -> u64 {
    let zeros = number.checked_ilog2().unwrap_or(0).saturating_sub(2);
    number >> zeros << zeros
}

/// Files and connections of a worker of nginx. It takes all that the host gives: which load balancers send how much is not its choice.
pub(crate) fn worker(facts: &Facts) -> (u64, u64) {
    let files = match facts.files {
        0 => 2 * CONNECTIONS,
        files => files.min(2 * CONNECTIONS),
    };
    (files, files.saturating_sub(BESIDE).clamp(512, CONNECTIONS))
}

/// How much of a room is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Taken {
    pub(crate) are: u64,
    /// 0 where it is not known.
    pub(crate) most: u64,
}

impl Taken {
    /// Whether it is nearly all.
    pub(crate) fn is_nearly_all(self) -> bool {
        self.most > 0 && self.are * 100 >= self.most * NEARLY
    }

    /// Tells of a host that nearly all is taken: `who` has so many of `what`.
    pub(crate) fn find(self, host: &HostName, (who, what): (&str, &str), help: &str, said: &mut Said) {
        if self.is_nearly_all() {
            let Self { are, most } = self;
            said.find(
                Some(host),
                are < most,
                format!("{who}has {are} of the {most} {what} that it has room for"),
                help,
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_are_as_many_as_memory_files_and_ports_allow() {
        for (memory, files, servers, clients) in [
            (0, 0, 2, 8000),
            (512, 0, 2, 8000),
            (64 << 10, 0, 2, 9900),
            (64 << 10, 20_000, 2, 9900),
            (64 << 10, 4096, 2, 1948),
            (2048, 1_048_576, 2, 13_107),
            (4096, 1_048_576, 1, 26_214),
            (64 << 10, 1_048_576, 1, 28_000),
            (64 << 10, 1_048_576, 2, 56_000),
            (64 << 10, 1_073_741_816, 40, 419_430),
            (64 << 10, 1, 2, 1),
        ] {
            let facts = Facts { memory, files, ..Facts::of_release("debian", "12") };
            assert_eq!(super::clients(&facts, servers), clients, "{memory} MiB, {files} files, {servers} servers");
        }
    }

    #[test]
    fn what_is_led_on_follows_memory_files_and_ports() {
        for (memory, files, servers, led) in [
            (0, 0, 2, 8000),
            (64 << 10, 0, 2, 9900),
            (1024, 1_048_576, 2, 16_384),
            (960, 1_048_576, 2, 14_336),
            (1920, 1_048_576, 2, 28_672),
            (1984, 1_048_576, 2, 28_672),
            (64 << 10, 1_048_576, 2, 56_000),
            (64 << 10, 20_000, 2, 9900),
        ] {
            let facts = Facts { memory, files, ..Facts::of_release("debian", "12") };
            assert_eq!(super::led(&facts, servers), led, "{memory} MiB, {files} files, {servers} servers");
        }
    }

    #[test]
    fn nearly_all_is_nine_of_ten() {
        for (are, most, told) in [(0, 0, false), (9, 0, false), (89, 100, false), (90, 100, true), (100, 100, true)] {
            assert_eq!(Taken { are, most }.is_nearly_all(), told, "{are} of {most}");
        }
    }

    #[test]
    fn a_worker_takes_what_it_is_given() {
        for (files, worker) in
            [(0, (131_072, 65_536)), (20_000, (20_000, 19_800)), (1_048_576, (131_072, 65_536)), (300, (300, 512))]
        {
            assert_eq!(super::worker(&Facts { files, ..Facts::of_release("debian", "12") }), worker, "{files}");
        }
    }
}
