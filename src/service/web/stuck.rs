//! Visitors who stay with an app host: takes the sites and their programs, gives for each program what a visitor's cookie says of each
//! of its hosts. nginx as Debian has it keeps no such table itself.

use data_encoding::HEXLOWER;
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use crate::inventory::site::Site;
use crate::service::programs::{Program, Server};

/// A program to which visitors come back.
#[derive(Serialize)]
pub(super) struct Stuck {
    /// As its upstream is called; the cookie is too.
    key: String,
    hosts: Vec<Host>,
}

/// One of its hosts.
#[derive(Serialize)]
struct Host {
    /// What the cookie says: the same on every web host, and nothing that tells of the host.
    word: String,
    #[serde(flatten)]
    server: Server,
}

/// Those programs that a site with `sticky: true` leads to.
pub(super) fn stuck(site: &Site, programs: &[Program]) -> Vec<Stuck> {
    let is_stuck = |program: &&Program| {
        let leads = site.sites.values().filter(|web| web.sticky).flat_map(|web| &web.programs);
        leads.into_iter().any(|one| one.port == program.at && one.hosts == program.hosts)
    };
    programs.iter().filter(is_stuck).map(|program| of(site, program)).collect()
}

fn of(site: &Site, program: &Program) -> Stuck {
    let host = |server: &Server| Host { word: word(site, program, &server.host), server: server.clone() };
    Stuck { key: program.key.clone(), hosts: program.servers.iter().map(host).collect() }
}

fn word(site: &Site, program: &Program, host: &str) -> String {
    let digest = HEXLOWER.encode(&Sha256::digest(format!("{} {} {host}", site.name, program.key)));
    digest.chars().take(16).collect()
}
