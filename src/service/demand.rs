//! What holds of everything that a service asks for, whether it claims it on a host or decides it over the fleet: takes one such
//! thing, gives an error that names the service and what is wrong with it.

use std::fmt;
use std::str::FromStr;

use crate::base::diagnostic::Diagnostic;
use crate::base::net::Invalid;
use crate::base::sh::{AbsolutePath, PackageName, UnitName};
use crate::plan::plan::Action;
use crate::plan::state::{File, Phase};
use crate::plan::task::Task;

/// A path, a unit or a package, which scripts expand.
pub(super) fn word<T: FromStr<Err = Invalid>>(service: &str, text: &str) -> Result<T, Diagnostic> {
    text.parse()
        .map_err(|e: Invalid| Diagnostic::error(format!("`{service}` wants `{}`, which {e}", text.escape_debug())))
}

/// The phase of a change. A run only looks at the hosts in two of them.
pub(super) fn phase(service: &str, phase: Phase, what: fmt::Arguments<'_>) -> Result<(), Diagnostic> {
    match phase {
        Phase::Stage | Phase::Verify => Err(Diagnostic::error(format!(
            "`{service}` wants {what} in the phase `{phase}`, in which nothing is changed"
        ))),
        _ => Ok(()),
    }
}

/// A file; gives its path.
pub(super) fn file(service: &str, path: &str, file: &File) -> Result<AbsolutePath, Diagnostic> {
    let checked = word(service, path)?;
    file.then.keys().try_for_each(|unit| word::<UnitName>(service, unit).map(drop))?;
    phase(service, file.phase, format_args!("the file `{path}`"))?;
    Ok(checked)
}

/// A task: its name and its facts are its service's own, and it is due until a fact is true.
pub(super) fn task(service: &str, name: &str, task: &Task) -> Result<(), Diagnostic> {
    phase(service, task.phase, format_args!("the task `{name}`"))?;
    let own = |text: &str| text.strip_prefix(service).is_some_and(|rest| rest.starts_with('/'));
    if let Some(other) = [name].into_iter().chain(task.makes.keys().map(String::as_str)).find(|text| !own(text)) {
        let message = format!(
            "`{service}` wants the task `{name}` with the name `{other}`, which does not begin with `{service}/`"
        );
        return Err(Diagnostic::error(message));
    }
    if task.makes.is_empty() {
        let message = format!("`{service}` wants the task `{name}`, which makes no fact true: it would never be done");
        return Err(Diagnostic::error(message));
    }
    Ok(())
}

/// An action that is done in `in_phase`.
pub(super) fn action(service: &str, in_phase: Phase, action: &Action) -> Result<(), Diagnostic> {
    phase(service, in_phase, format_args!("a change"))?;
    let path = |path: &str| word::<AbsolutePath>(service, path).map(drop);
    let unit = |unit: &str| word::<UnitName>(service, unit).map(drop);
    match action {
        Action::Install { packages } => {
            packages.iter().try_for_each(|name| word::<PackageName>(service, name).map(drop))
        }
        Action::MakeFolder { path: at, .. } | Action::Remove { path: at, .. } => path(at),
        Action::Write { path, file: wanted, .. } => file(service, path, wanted).map(drop),
        Action::Adopt { path: at, recorded } => path(at).and_then(|()| recorded.then.keys().try_for_each(|u| unit(u))),
        Action::Follow { unit: name, .. } | Action::Hold { unit: name } => unit(name),
        Action::Set { unit: name, path: at, .. } => unit(name).and_then(|()| path(at)),
        Action::Perform { name, task: wanted } => task(service, name, wanted),
        Action::Firewall { .. } | Action::Undo { .. } => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::path::Path;
    use std::time::Duration;

    use super::*;
    use crate::inventory::load::load_text;
    use crate::inventory::site::Site;
    use crate::plan::decision::{Decided, Memory};
    use crate::plan::plan::Because;
    use crate::plan::state::{Access, Body, Digest, Facts, Follow, Observed, ObservedFleet};
    use crate::service::claims::Claims;
    use crate::service::{Context, Service, Services};

    /// Decides what could not be carried out.
    struct Wild;

    /// Each with what is said of it.
    fn decided() -> Vec<(Phase, Action, &'static str)> {
        let folder = |path: &str| Action::MakeFolder { path: path.into(), access: Access::root(0o755), exists: false };
        let follow =
            |unit: &str| Action::Follow { unit: unit.into(), follow: Follow::Reload, because: Because::Changed };
        let perform = |name: &str, fact: &str| {
            let input = Body { text: "".into(), digest: Digest::of(b""), origin: None };
            let (title, script, limit) = (String::new(), String::new(), Duration::ZERO);
            let makes = BTreeMap::from([(fact.to_owned(), "1".to_owned())]);
            let task = Task { service: "wild", phase: Phase::Web, title, script, input, limit, undo: None, makes };
            Action::Perform { name: name.into(), task }
        };
        vec![
            (
                Phase::Verify,
                folder("/srv/x"),
                "`wild` wants a change in the phase `verify`, in which nothing is changed",
            ),
            (
                Phase::Stage,
                follow("x.service"),
                "`wild` wants a change in the phase `stage`, in which nothing is changed",
            ),
            (Phase::Web, folder("/srv/a b"), "`wild` wants `/srv/a b`, which has the character ` `"),
            (
                Phase::Web,
                Action::Remove { path: "x".into(), drift: false },
                "`wild` wants `x`, which is not an absolute path",
            ),
            (Phase::Web, follow("*.service"), "`wild` wants `*.service`, which has the character `*`"),
            (Phase::Web, Action::Hold { unit: "x y".into() }, "`wild` wants `x y`, which has the character ` `"),
            (
                Phase::Web,
                Action::Install { packages: vec!["-y;x".into()] },
                "`wild` wants `-y;x`, which has the character `;`",
            ),
            (
                Phase::Web,
                perform("wild/x", "tame/f"),
                "`wild` wants the task `wild/x` with the name `tame/f`, which does not begin with `wild/`",
            ),
        ]
    }

    impl Service for Wild {
        fn name(&self) -> &'static str {
            "wild"
        }

        fn want(&self, _: &Context<'_>, _: &mut Claims) -> Result<(), Diagnostic> {
            Ok(())
        }

        fn decide(&self, _: &Site, observed: &ObservedFleet, _: &Memory) -> Result<Decided, Diagnostic> {
            let mut all = Decided::default();
            for host in observed.keys() {
                for (phase, action, _) in decided() {
                    all.act(host, phase, action);
                }
                let (path, access) = ("/srv/x".to_owned(), Access::root(0o755));
                all.act(host, Phase::Web, Action::MakeFolder { path, access, exists: false });
            }
            Ok(all)
        }
    }

    #[test]
    fn what_is_decided_and_could_not_be_carried_out_is_refused() {
        let text = "name: shop
hosts:
  a: { address: 10.0.1.11, roles: [lb] }
  b: { address: 10.0.1.12, roles: [web] }
firewall: { manage_from: [10.0.0.0/24] }
sites: { a.example.com: { static: { root: /srv/x, prefix: / } } }
certificates: { issuer: internal }
";
        let site = load_text(text, Path::new("inventory.yml")).unwrap_or_else(|e| panic!("{e:?}")).0;
        let facts = Facts::of_release("debian", "12");
        let observed = site.hosts.keys().map(|host| (host.clone(), Observed::bare(facts.clone()))).collect();
        let (nobody, mut undecided) = (BTreeSet::new(), BTreeMap::new());
        let answer = Services(&[&Wild]).decide(&site, (&observed, &nobody), &Memory::at(0), &mut undecided);
        let Err(errors) = answer else { panic!("decided") };
        let messages: BTreeSet<&str> = errors.iter().map(|error| error.message.as_str()).collect();
        assert_eq!(messages, decided().iter().map(|(_, _, expected)| *expected).collect());
    }
}
