//! How many connections a host has room for: takes what is known of it, gives numbers by one rule for all tiers, so that none of them
//! stops before the one that asks it.

use crate::plan::facts::Facts;

/// Clients for whom there is room in any memory, and where it is not known.
const LEAST: u64 = 8000;
/// What a client and its connection to a web host take of memory, where nothing flows; half of a host's may go to them.
const KIB_A_CLIENT: u64 = 80;
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

/// Files and connections of a worker of nginx. It takes all that the host gives: which load balancers send how much is not its choice.
pub(crate) fn worker(facts: &Facts) -> (u64, u64) {
    let files = match facts.files {
        0 => 2 * CONNECTIONS,
        files => files.min(2 * CONNECTIONS),
    };
    (files, files.saturating_sub(BESIDE).clamp(512, CONNECTIONS))
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
    fn a_worker_takes_what_it_is_given() {
        for (files, worker) in
            [(0, (131_072, 65_536)), (20_000, (20_000, 19_800)), (1_048_576, (131_072, 65_536)), (300, (300, 512))]
        {
            assert_eq!(super::worker(&Facts { files, ..Facts::of_release("debian", "12") }), worker, "{files}");
        }
    }
}
