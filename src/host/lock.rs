//! The host lock: takes a connection, gives a hold that dies with it, or the name of the one who holds it.

use crate::host::transport::{Hold, Script, Transport, TransportError};

/// Who has the lock.
#[derive(Debug)]
pub enum Locked {
    /// We have, until this is dropped.
    Ours(Box<dyn Hold>),
    /// Someone else: who, from where, since when, in which run.
    Held(String),
}

/// Takes the lock of a host by `flock(1)` in a script that lives as long as the connection; nothing is left to expire.
///
/// # Errors
/// [`TransportError`], also when the host cannot make its state folder (read-only, full).
pub fn take(transport: &mut dyn Transport, who: &str, run: &str) -> Result<Locked, TransportError> {
    let then = r#"	# A step of a run whose controller died is still on its way: it ends by itself. What waits must not hold our lock.
	flock -w 600 "$infra/step.lock" true 9>&-
	# A step that was itself killed has left half a phase: it is put back now, and the run that sees that makes a new plan.
	if [ -e "$infra/unfinished" ] && [ -x "$infra/recover" ]; then "$infra/recover" >/dev/null 2>&1 9>&-; fi
"#;
    hold(transport, "take the host lock", &script("lock", "lock.holder", then, who, run))
}

/// Takes the lock of a site's orders, which stands on its first load balancer from before an order until what came of it is on
/// all of them; the host lock is taken and given back in between.
///
/// # Errors
/// As for [`take`].
pub fn take_orders(transport: &mut dyn Transport, who: &str, run: &str) -> Result<Locked, TransportError> {
    hold(transport, "take the lock of orders", &script("orders.lock", "orders.holder", "", who, run))
}

/// Holds the file `lock` and says in `holder` by whom; `then` is done under it, before it is told.
fn script(lock: &str, holder: &str, then: &str, who: &str, run: &str) -> String {
    let quoted = shlex::try_quote(who).map_or_else(|_| "someone".into(), std::borrow::Cow::into_owned);
    format!(
        r#"umask 077
infra="$ROOT/var/lib/infra"
mkdir -p "$infra" || exit 1
exec 9>>"$infra/{lock}"
if flock -n 9; then
	echo {quoted}", since $(date -u +%H:%M:%S) UTC, run {run}" >"$infra/{holder}" || exit 1
{then}	echo ours
	# The lock goes with this process alone: nothing that is started here may inherit it.
	exec cat >/dev/null
fi
echo "held by $(cat "$infra/{holder}" 2>/dev/null)"
"#
    )
}

fn hold(transport: &mut dyn Transport, title: &str, text: &str) -> Result<Locked, TransportError> {
    let (line, hold) = transport.hold(&Script::new(title, text))?;
    Ok(match line.strip_prefix("held by ") {
        Some(holder) => Locked::Held(holder.chars().filter(|c| !c.is_control()).collect()),
        None => Locked::Ours(hold),
    })
}
