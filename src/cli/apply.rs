//! `apply`: the same plan, confirmed once, executed.

use super::args::{Apply, Global};
use super::{Done, Stop, not_built};
use crate::report::text::count;
use crate::report::{Reporter, prompt};

// The flow, to be wired:
// 1. load, resolve, select the hosts (`--limit`), observe, plan, `reporter.plan`, as `diff` does. Unreachable hosts end it here
//    with `Stop::Unreachable`, unless `--skip-unreachable`. With `--plan FILE`: that plan, refused where a fingerprint differs.
// 2. nothing to do: `reporter.outcome` with all hosts unchanged, `exit::DONE`.
// 3. `confirm(plan.changed().count(), args.yes)?`
// 4. `interrupt.watch(exit::INTERRUPTED.into())?` and `reporter.during(&interrupt, |events| execute(…, &interrupt, events))`.
// 5. `reporter.outcome(&outcome, &next, exit::of(&outcome))`, keep it in the state for `--limit failed`; `exit::of(&outcome)`.
pub(super) fn run(apply: &Apply, _: &Global, _: &Reporter) -> Done {
    confirm(0, apply.yes)?;
    not_built("apply")
}

/// Asks once, unless `--yes` was given. A no is [`Stop::Interrupted`]'s sibling: nothing was touched, exit code 130.
fn confirm(hosts: usize, yes: bool) -> Result<(), Stop> {
    if yes {
        return Ok(());
    }
    match prompt::confirm(&format!("apply to {}?", count(hosts, "host"))) {
        Ok(true) => Ok(()),
        Ok(false) => Err(Stop::Interrupted),
        Err(error) => Err(Stop::Refused(
            error.to_string(),
            vec!["add `--yes` to apply without being asked, or run `infra diff --out FILE` and `infra apply --plan FILE --yes`".to_owned()],
        )),
    }
}
