//! What the services claim on one host: takes the files, folders, units and packages of one service after the other, gives the
//! [`DesiredHost`] that they make together, or an error that names the two that contradict each other.

use std::collections::BTreeMap;
use std::fmt;

use crate::base::diagnostic::Diagnostic;
use crate::base::sh::{AbsolutePath, PackageName, UnitName};
use crate::plan::ruleset::Ruleset;
use crate::plan::state::{Check, DesiredHost, Drain, File, Folder, Look, Probe, UnitWanted};
use crate::plan::task::Task;
use crate::service::demand;

/// A host on which services claim one after the other.
#[derive(Debug, Default)]
pub struct Claims {
    host: DesiredHost,
    /// The service whose turn it is.
    service: &'static str,
    /// Who was the first to claim a path or a unit.
    first: BTreeMap<String, &'static str>,
    refused: Vec<Diagnostic>,
}

impl Claims {
    /// What follows is claimed by this service.
    pub fn turn_of(&mut self, service: &'static str) {
        self.service = service;
    }

    /// The service whose turn it is.
    pub fn service(&self) -> &'static str {
        self.service
    }

    /// A file; it belongs to one service alone.
    ///
    /// # Errors
    /// A path that is not [`AbsolutePath`], a unit that is not [`UnitName`], a phase in which nothing is changed, or another claim
    /// to the path or to one above it.
    pub fn file(&mut self, path: &str, file: File) -> Result<(), Diagnostic> {
        let checked = demand::file(self.service, path, &file)?;
        let taken = self.host.files.contains_key(path) || self.host.folders.contains_key(path);
        let above = checked.above().find(|above| self.host.files.contains_key(*above));
        let below = self.below(path);
        if let Some(other) = taken.then_some(path).or(above).or(below) {
            return Err(self.contradiction(other, format_args!("the file `{path}`")));
        }
        self.hold(path);
        self.host.files.insert(path.to_owned(), file);
        Ok(())
    }

    /// A folder, which several services may claim with the same access; it is made in the first phase in which one needs it.
    ///
    /// # Errors
    /// A path that is not [`AbsolutePath`], a phase in which nothing is changed, another access, or a file where a folder is needed.
    pub fn folder(&mut self, path: &str, folder: Folder) -> Result<(), Diagnostic> {
        let checked: AbsolutePath = demand::word(self.service, path)?;
        demand::phase(self.service, folder.phase, format_args!("the folder `{path}`"))?;
        if let Some(file) = checked.above().chain([path]).find(|above| self.host.files.contains_key(*above)) {
            return Err(self.contradiction(file, format_args!("the folder `{path}`")));
        }
        if let Some(before) = self.host.folders.get_mut(path) {
            if before.access == folder.access {
                before.phase = before.phase.min(folder.phase);
                return Ok(());
            }
            return Err(self.contradiction(path, format_args!("another access of the folder `{path}`")));
        }
        self.hold(path);
        self.host.folders.insert(path.to_owned(), folder);
        Ok(())
    }

    /// A unit, which several services may claim in the same phase.
    ///
    /// # Errors
    /// A name that is not [`UnitName`], a phase in which nothing is changed, or another phase.
    pub fn unit(&mut self, name: &str, unit: UnitWanted) -> Result<(), Diagnostic> {
        demand::word::<UnitName>(self.service, name)?;
        demand::phase(self.service, unit.phase, format_args!("the unit `{name}`"))?;
        if self.host.units.get(name).is_some_and(|before| *before != unit) {
            return Err(self.contradiction(name, format_args!("the unit `{name}` in the phase `{}`", unit.phase)));
        }
        self.hold(name);
        self.host.units.insert(name.to_owned(), unit);
        Ok(())
    }

    /// How a unit takes files while it runs, as in [`DesiredHost::swaps`].
    ///
    /// # Errors
    /// A name that is not [`UnitName`], or another way that is claimed already.
    pub fn swap(&mut self, unit: &str, script: &str) -> Result<(), Diagnostic> {
        demand::word::<UnitName>(self.service, unit)?;
        if self.host.swaps.get(unit).is_some_and(|before| before != script) {
            return Err(self.contradiction(unit, format_args!("another way to swap files of `{unit}`")));
        }
        self.hold(unit);
        self.host.swaps.insert(unit.to_owned(), script.to_owned());
        Ok(())
    }

    /// How a running unit is told what stands in a file with [`Follow::Set`](crate::plan::state::Follow::Set).
    ///
    /// # Errors
    /// A name that is not [`UnitName`], or another way for the same unit.
    pub fn setter(&mut self, unit: &str, script: &str) -> Result<(), Diagnostic> {
        demand::word::<UnitName>(self.service, unit)?;
        if self.host.setters.get(unit).is_some_and(|before| before != script) {
            return Err(self.contradiction(unit, format_args!("the way to tell `{unit}` of a file")));
        }
        self.hold(unit);
        self.host.setters.insert(unit.to_owned(), script.to_owned());
        Ok(())
    }

    /// A task; its name and the facts that it makes begin with the service's name and a `/`.
    ///
    /// # Errors
    /// Other names, no fact, a phase in which nothing is changed, another task of that name, or one that makes another value of a
    /// fact: both would be due in every run.
    pub fn task(&mut self, name: &str, task: Task) -> Result<(), Diagnostic> {
        demand::task(self.service, name, &task)?;
        for (other, before) in &self.host.tasks {
            let differs = |(fact, value): &(&String, &String)| before.makes.get(*fact).is_some_and(|v| v != *value);
            if let Some((fact, _)) = task.makes.iter().find(differs) {
                let wanted = format_args!("another value of the fact `{fact}` by the task `{name}`");
                return Err(self.contradiction(other, wanted));
            }
        }
        if self.host.tasks.contains_key(name) {
            return Err(self.contradiction(name, format_args!("the step `{name}`")));
        }
        self.hold(name);
        self.host.tasks.insert(name.to_owned(), task);
        Ok(())
    }

    /// Whether a service has claimed the unit so far.
    pub fn has_unit(&self, name: &str) -> bool {
        self.host.units.contains_key(name)
    }

    /// Whether a service has claimed the file so far.
    pub fn has_file(&self, path: &str) -> bool {
        self.host.files.contains_key(path)
    }

    /// A package.
    ///
    /// # Errors
    /// A name that is not [`PackageName`].
    pub fn package(&mut self, name: &str) -> Result<(), Diagnostic> {
        demand::word::<PackageName>(self.service, name)?;
        self.host.packages.insert(name.to_owned());
        Ok(())
    }

    /// The rules of the host's firewall.
    ///
    /// # Errors
    /// Rules that another service has given.
    pub fn firewall(&mut self, rules: Ruleset) -> Result<(), Diagnostic> {
        if self.host.firewall.is_some() {
            return Err(self.contradiction(FIREWALL, format_args!("the rules of the firewall")));
        }
        self.hold(FIREWALL);
        self.host.firewall = Some(rules);
        Ok(())
    }

    /// Something to look at before packages come.
    pub fn look(&mut self, look: Look) {
        self.host.looks.push(look);
    }

    /// A check of what is staged.
    pub fn check(&mut self, check: Check) {
        self.host.checks.push(check);
    }

    /// Something that must be seen after a phase.
    pub fn probe(&mut self, probe: Probe) {
        self.host.probes.push(probe);
    }

    /// Who may still use what is replaced.
    pub fn drain(&mut self, drain: Drain) {
        self.host.drains.push(drain);
    }

    /// One of several mistakes of the inventory that a service finds; there is no host with any.
    pub fn refuse(&mut self, mistake: Diagnostic) {
        self.refused.push(mistake);
    }

    /// What was refused so far.
    pub fn refused(&mut self) -> Vec<Diagnostic> {
        std::mem::take(&mut self.refused)
    }

    /// All claims together.
    ///
    /// # Errors
    /// A file whose unit no service has claimed: nobody would look whether it runs.
    pub fn into_host(self) -> Result<DesiredHost, Diagnostic> {
        for (path, file) in &self.host.files {
            if let Some(unit) = file.then.keys().find(|unit| !self.has_unit(unit)) {
                let service = file.service;
                let message = format!(
                    "`{service}` wants `{unit}` to follow the file `{path}`, but no service has claimed that unit"
                );
                return Err(Diagnostic::error(message));
            }
        }
        Ok(self.host)
    }

    /// A claimed path below `path`, which thereby is a folder.
    fn below(&self, path: &str) -> Option<&str> {
        let start = format!("{path}/");
        let (found, _) = self.first.range(start.clone()..).next()?;
        found.starts_with(&start).then_some(found)
    }

    fn hold(&mut self, what: &str) {
        self.first.entry(what.to_owned()).or_insert(self.service);
    }

    fn contradiction(&self, held: &str, wanted: fmt::Arguments<'_>) -> Diagnostic {
        let holder = self.first.get(held).copied().unwrap_or(self.service);
        let message = format!("`{}` wants {wanted}, but `{holder}` has claimed `{held}`", self.service);
        Diagnostic::error(message)
            .help("one path or unit of a host belongs to one service: take one of the two out of the inventory")
    }
}

/// How the rules stand among the claims.
const FIREWALL: &str = "firewall";

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::plan::state::{Access, Body, Digest, Follow, Phase};

    fn file(units: &[&str]) -> File {
        let then = units.iter().map(|unit| ((*unit).to_owned(), Follow::Reload)).collect();
        let body = Body { text: "".into(), digest: Digest::of(b""), origin: None };
        File { service: "t", phase: Phase::Web, access: Access::root(0o644), body, then, about: None }
    }

    fn folder(phase: Phase, mode: u32) -> Folder {
        Folder { phase, access: Access::root(mode) }
    }

    fn task(phase: Phase, makes: &[(&str, &str)]) -> Task {
        let makes = makes.iter().map(|(fact, value)| ((*fact).to_owned(), (*value).to_owned())).collect();
        let (title, script, input) = (String::new(), String::new(), file(&[]).body);
        Task { service: "t", phase, title, script, input, limit: Duration::ZERO, undo: None, makes }
    }

    /// A service claims first, another one then.
    type Claim = fn(&mut Claims) -> Result<(), Diagnostic>;

    #[test]
    fn a_contradiction_names_both_services() {
        let cases: [(Claim, Claim, &str); 8] = [
            (
                |c| c.file("/etc/x", file(&[])),
                |c| c.file("/etc/x", file(&[])),
                "the file `/etc/x`, but `one` has claimed `/etc/x`",
            ),
            (
                |c| c.file("/etc/x", file(&[])),
                |c| c.file("/etc/x/y", file(&[])),
                "`/etc/x/y`, but `one` has claimed `/etc/x`",
            ),
            (
                |c| c.file("/etc/x/y", file(&[])),
                |c| c.file("/etc/x", file(&[])),
                "`/etc/x`, but `one` has claimed `/etc/x/y`",
            ),
            (
                |c| c.folder("/etc/x", folder(Phase::Web, 0o755)),
                |c| c.file("/etc/x", file(&[])),
                "`one` has claimed `/etc/x`",
            ),
            (
                |c| c.file("/etc/x", file(&[])),
                |c| c.folder("/etc/x/y", folder(Phase::Web, 0o755)),
                "the folder `/etc/x/y`, but `one`",
            ),
            (
                |c| c.folder("/etc/x", folder(Phase::Web, 0o755)),
                |c| c.folder("/etc/x", folder(Phase::Web, 0o700)),
                "another access of the folder `/etc/x`, but `one`",
            ),
            (
                |c| c.unit("x.service", UnitWanted { phase: Phase::Web }),
                |c| c.unit("x.service", UnitWanted { phase: Phase::App }),
                "the unit `x.service` in the phase `app`, but `one`",
            ),
            (
                |c| c.firewall(Ruleset::default()),
                |c| c.firewall(Ruleset::default()),
                "the rules of the firewall, but `one`",
            ),
        ];
        for (first, then, expected) in cases {
            let mut claims = Claims::default();
            claims.turn_of("one");
            first(&mut claims).unwrap();
            claims.turn_of("two");
            let before = claims.host.clone();
            let error = then(&mut claims).unwrap_err().message;
            assert!(error.starts_with("`two` wants ") && error.contains(expected), "{error}");
            assert_eq!(claims.into_host().unwrap(), before);
        }
    }

    #[test]
    fn what_agrees_is_shared() {
        let mut claims = Claims::default();
        for (service, phase) in [("one", Phase::Web), ("two", Phase::App)] {
            claims.turn_of(service);
            claims.folder("/etc/x", folder(phase, 0o700)).unwrap();
            claims.unit("x.service", UnitWanted { phase: Phase::Web }).unwrap();
            claims.package("nginx").unwrap();
            claims.file(&format!("/etc/x/{service}"), file(&["x.service"])).unwrap();
        }
        assert!(claims.has_unit("x.service") && !claims.has_unit("y.service"));
        let host = claims.into_host().unwrap();
        assert_eq!(host.folders["/etc/x"].phase, Phase::App);
        assert_eq!((host.files.len(), host.units.len(), host.packages.len()), (2, 1, 1));
    }

    #[test]
    fn what_could_not_be_carried_out_is_refused() {
        let cases: [(Claim, &str); 13] = [
            (|c| c.file("/etc/a b", file(&[])), "`one` wants `/etc/a b`, which has the character ` `"),
            (|c| c.file("/etc/x", file(&["x"])), "`x`, which does not end in a type of unit"),
            (|c| c.folder("etc", folder(Phase::Web, 0o755)), "`etc`, which is not an absolute path"),
            (|c| c.unit("*.service", UnitWanted { phase: Phase::Web }), "which has the character `*`"),
            (|c| c.package("--help x"), "which has the character ` `"),
            (
                |c| c.file("/etc/x", File { phase: Phase::Verify, ..file(&[]) }),
                "`one` wants the file `/etc/x` in the phase `verify`, in which nothing is changed",
            ),
            (|c| c.folder("/etc/x", folder(Phase::Stage, 0o755)), "the folder `/etc/x` in the phase `stage`"),
            (
                |c| c.unit("x.service", UnitWanted { phase: Phase::Verify }),
                "the unit `x.service` in the phase `verify`",
            ),
            (|c| c.task("one/a", task(Phase::Verify, &[("one/f", "1")])), "the task `one/a` in the phase `verify`"),
            (|c| c.task("one/a", task(Phase::Web, &[])), "the task `one/a`, which makes no fact true"),
            (
                |c| c.task("a", task(Phase::Web, &[("one/f", "1")])),
                "with the name `a`, which does not begin with `one/`",
            ),
            (|c| c.task("one/a", task(Phase::Web, &[("ones/f", "1")])), "with the name `ones/f`, which does not begin"),
            (
                |c| {
                    let mut both = Claims { service: c.service, ..Claims::default() };
                    both.task("one/a", task(Phase::Web, &[("one/f", "1"), ("one/g", "1")]))?;
                    both.task("one/b", task(Phase::Web, &[("one/g", "1")]))?;
                    both.task("one/c", task(Phase::Web, &[("one/f", "2")]))
                },
                "another value of the fact `one/f` by the task `one/c`, but `one` has claimed `one/a`",
            ),
        ];
        for (claim, expected) in cases {
            let mut claims = Claims::default();
            claims.turn_of("one");
            let error = claim(&mut claims).unwrap_err().message;
            assert!(error.contains(expected), "{error}");
            assert_eq!(claims.into_host().unwrap(), DesiredHost::default());
        }
    }

    #[test]
    fn a_file_asks_for_units_that_are_claimed() {
        let mut claims = Claims::default();
        claims.turn_of("one");
        claims.file("/etc/x", file(&["x.service"])).unwrap();
        let error = claims.into_host().unwrap_err().message;
        let expected = "`t` wants `x.service` to follow the file `/etc/x`, but no service has claimed that unit";
        assert_eq!(error, expected);
    }
}
