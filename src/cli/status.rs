//! `status`: the fleet on one screen, by one exec a host. It changes nothing but what is remembered for the next rate.

use std::collections::BTreeMap;
use std::num::NonZeroU16;
use std::path::PathBuf;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use time::OffsetDateTime;

use super::global::{Global, Inventory};
use super::output::{Kind, Output};
use super::stop::{Done, Stop};
use super::{exit, stages};
use crate::base::net::HostName;
use crate::fleet::connect::SshConnector;
use crate::fleet::memory;
use crate::fleet::status::look::{Look, Way};
use crate::fleet::status::remembered::Remembered;
use crate::fleet::status::{Facts, View, Wanted, judge, wanted};
use crate::fleet::survey::Sessions;
use crate::inventory::site::{Host, Site};
use crate::pki::known;
use crate::report::Reporter;
use crate::report::interrupt::Interrupt;
use crate::report::status::{figures, page};
use crate::service::Services;
use crate::service::status::Seen;

/// How often the flag of an interrupt is looked at.
const TICK: Duration = Duration::from_millis(50);

/// `status`.
#[derive(Debug, Clone, clap::Args)]
pub struct Status {
    /// The inventory
    #[command(flatten)]
    pub inventory: Inventory,
    /// Look again every so many seconds (5), until Ctrl-C
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "5", value_parser = pause)]
    pub watch: Option<NonZeroU16>,
    /// Also write the figures into FILE, for the textfile collector of Prometheus' node exporter
    #[arg(long, value_name = "FILE")]
    pub prometheus: Option<PathBuf>,
    /// Also write a page for a browser into FILE, with the tiers drawn
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
}

fn pause(text: &str) -> Result<NonZeroU16, String> {
    let seconds: Option<NonZeroU16> = text.parse().ok().filter(|n: &NonZeroU16| n.get() <= 3600);
    seconds.ok_or_else(|| "write seconds from 1 to 3600; an inventory stands before `--watch`".to_owned())
}

/// What all looks share.
struct Watch<'a> {
    site: &'a Site,
    services: Services,
    hosts: Vec<&'a Host>,
    wanted: BTreeMap<HostName, Wanted>,
    connector: SshConnector,
    parallel: usize,
    sessions: Sessions,
    remembered: Remembered,
    figures: Option<Output>,
    page: Option<Output>,
}

impl Watch<'_> {
    /// One look; `reporter` tells its progress where it is the only one: a screen that is drawn anew needs none.
    fn look(&mut self, reporter: Option<&Reporter>) -> Result<View, Stop> {
        let began = OffsetDateTime::now_utc();
        let now = began.unix_timestamp();
        let earlier = self.remembered.usable(now);
        let (services, parallel, keep) = (self.services, self.parallel, reporter.is_none());
        let (hosts, sessions) = (self.hosts.clone(), &mut self.sessions);
        let mut look = |events| {
            let way = Way { services, connector: &self.connector, parallel, keep, events };
            way.look(hosts.clone(), &self.wanted, &earlier, sessions)
        };
        let Look { observed, away, clocks } = match reporter {
            Some(reporter) => reporter.during(&Interrupt::default(), look),
            None => look(mpsc::channel().0),
        };
        let memory = memory::kept(self.site, services, began)?;
        let overview = known::known(self.site, &self.site.state, began)?;
        let seen = Seen { site: self.site, observed: &observed, away: &away, earlier: &earlier, memory: &memory, now };
        let view = judge(services, Facts { seen, wanted: &self.wanted, overview: &overview, clocks: &clocks });
        let read = observed.iter().map(|(host, observed)| (host.clone(), services.readings(observed)));
        self.remembered.take(self.site, now, read.collect());
        Ok(view)
    }
}

pub(super) fn run(status: &Status, global: &Global, services: Services, reporter: &Reporter) -> Done {
    let output = |file: &Option<PathBuf>, kind| file.as_deref().map(|file| Output::new(file, kind)).transpose();
    let (figures, page) = (output(&status.prometheus, Kind::Figures)?, output(&status.html, Kind::Page)?);
    let site = stages::site(&status.inventory.inventory, reporter)?;
    let selected = stages::selected(&site, global)?;
    let templates = stages::templates(services, &site, reporter)?;
    let mut wanted = stages::offline(&site, &templates, reporter, |_, desired| wanted::of(desired))?;
    wanted.retain(|host, _| selected.contains(host));
    let mut watch = Watch {
        site: &site,
        services,
        hosts: selected.iter().filter_map(|name| site.hosts.get(name)).collect(),
        wanted,
        connector: stages::connector((reporter, global), &site, &selected),
        parallel: global.at_once(),
        sessions: Sessions::new(),
        remembered: Remembered::of(&site),
        figures,
        page,
    };
    let Some(pause) = status.watch else {
        return once(&mut watch, status, reporter, false);
    };
    let interrupt = Interrupt::default();
    interrupt.watch(exit::INTERRUPTED.into())?;
    let pause = Duration::from_secs(pause.get().into());
    let mut again = false;
    while !interrupt.is_set() {
        let began = Instant::now();
        once(&mut watch, status, reporter, again)?;
        again = true;
        while !interrupt.is_set() && began.elapsed() < pause {
            std::thread::sleep(TICK.min(pause));
        }
    }
    Ok(exit::INTERRUPTED)
}

/// Looks, and shows what came of it in every form that was asked for.
fn once(watch: &mut Watch<'_>, status: &Status, reporter: &Reporter, again: bool) -> Done {
    let view = watch.look((status.watch.is_none()).then_some(reporter))?;
    if let Err(error) = watch.remembered.keep(watch.site) {
        reporter.note(&format!("warning: what was read cannot be remembered for the next rate: {error}"));
    }
    let code = if view.is_any_away() {
        exit::UNREACHABLE
    } else if view.is_well() {
        exit::DONE
    } else {
        exit::FAILED
    };
    reporter.status(watch.site, &view, code, status.watch.map(|_| again))?;
    if let Some(output) = &watch.figures {
        output.write(figures::draw(watch.site, &view).as_bytes())?;
    }
    if let Some(output) = &watch.page {
        output.write(page::draw(watch.site, &view).map_err(anyhow::Error::from)?.as_bytes())?;
    }
    Ok(code)
}
