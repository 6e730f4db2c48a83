//! The host lock: takes a connection, gives a hold that dies with it, or the name of the one who holds it.
//!
//! The lock is the kernel's (`flock`(2)): it ends with the process that has it, and that ends with the connection. A connection
//! that breaks without a word, such as a laptop that is closed, is noticed by the host: what it sends is not acknowledged.

use std::time::Duration;

use data_encoding::BASE64;

use crate::base::sh::quote;
use crate::host::report;
use crate::host::transport::{Hold, Script, Transport, TransportError};
use crate::host::wire::{self, WIRE};
use crate::service::WAYS;

/// The sh function that looks whether our own records are no links; it needs [`WAYS`].
pub(crate) const RECORDS: &str = include_str!("scripts/records.sh");

/// Who has the lock.
#[derive(Debug)]
pub enum Locked {
    /// We have, until this is dropped.
    Ours(Box<dyn Hold>),
    /// Someone else: who, from where, since when, in which run.
    Held(String),
}

/// Under the lock, before anything else.
const AFTER_OTHERS: &str = r#"	# A step of a run whose controller died is still on its way: it ends by itself. What waits must not hold our lock.
	if ! timeout 50 flock "$infra/step.lock" true 9>&-; then
		emit held "the last step of $before, which is still under way and ends by itself" && echo
		exit 0
	fi
	# A step that was itself killed has left half a phase: it is put back now, and the run that sees that makes a new plan.
	if [ -e "$infra/unfinished" ] && plain "$infra/recover" && [ -x "$infra/recover" ]; then
		timeout 300 "$infra/recover" >/dev/null 2>&1 9>&-
	fi
	# An installation that was killed has left behind what keeps daemons from starting while it lasts: no other would start one either.
	policy="$ROOT/usr/sbin/policy-rc.d"
	if plain "$policy" && grep -qxF '# made by infra for the time of an installation' "$policy"; then rm -f "$policy"; fi
"#;

const TITLE: &str = "take the host lock";

/// Takes the lock of a host by `flock(1)` in a script that lives as long as the connection; nothing is left to expire.
///
/// # Errors
/// [`TransportError`], also when the host cannot make its state folder (read-only, full).
pub fn take(transport: &mut dyn Transport, who: &str, run: &str) -> Result<Locked, TransportError> {
    Ok(hold(transport, &Script::new(TITLE, script("lock", "lock.holder", (AFTER_OTHERS, ""), who, run)))?.0)
}

/// The same, and carries `look` out under the lock in the same exec: a script that changes nothing and reads nothing. Gives what it
/// answered too; nothing where it did not come to its end.
///
/// # Errors
/// As for [`take`].
pub fn take_and_look(
    transport: &mut dyn Transport,
    (who, run): (&str, &str),
    look: &Script,
) -> Result<(Locked, Option<Vec<u8>>), TransportError> {
    // A shell of its own, bounded as in an exec of its own, that does not hold the lock. A held script tells one line, so the answer is
    // one word of it.
    let (end, seconds, text) = ("END_OF_INFRA_LOOK", look.timeout.as_secs().max(1), &look.text);
    let under_it = format!(
        "seen=$(\n\texec 9>&-\n\
         \t{{ ROOT=$ROOT timeout -k 5 {seconds} sh /dev/fd/3 3<<'{end}' </dev/null 2>/dev/null && echo {WHOLE}; }} | base64 -w 0\n\
         {text}\n{end}\n)\nemit seen \"$seen\"\n"
    );
    let take = Script::new(TITLE, script("lock", "lock.holder", (AFTER_OTHERS, &under_it), who, run))
        .within(look.timeout + Duration::from_mins(1))
        .up_to(look.answer.saturating_mul(3) / 2);
    hold(transport, &take)
}

/// Stands behind an answer that is whole.
const WHOLE: &str = "whole";

/// Takes the lock of a site's orders, which stands on its first load balancer from before an order until what came of it is on
/// all of them; the host lock is taken and given back in between.
///
/// # Errors
/// As for [`take`].
pub fn take_orders(transport: &mut dyn Transport, who: &str, run: &str) -> Result<Locked, TransportError> {
    let text = script("orders.lock", "orders.holder", ("", ""), who, run);
    Ok(hold(transport, &Script::new("take the lock of orders", text))?.0)
}

/// How long a run waits for one that began after it and has a host that it needs, seconds: until that one was refused by another host
/// (two of these), and has given back what it has.
const GIVES_WAY: u32 = 12;

/// How often the host looks whether the holder is still there, and says a word to it, seconds.
const LOOK: u32 = 10;

/// How often the host may have sent a packet again without an answer (`retrnsmt` in `proc_pid_net`(5)). TCP doubles the time
/// between two of them, from 0.2 s on: nothing has come for some 50 s then.
const SILENT: u32 = 8;

/// Holds the file `lock` and says in `holder` by whom; `first` is done before that, and `then` behind it.
fn script(lock: &str, holder: &str, (first, then): (&str, &str), who: &str, run: &str) -> String {
    let (quoted, name) = (quote(who), quote(run));
    format!(
        r#"umask 077
infra="$ROOT/var/lib/infra"
{WAYS}
{WIRE}
{RECORDS}
real_way /var/lib/infra/{lock} && own_records {lock} {holder} step.lock unfinished || {{ echo "$odd" >&2; exit 1; }}
mkdir -p "$infra" || exit 1
exec 9>>"$infra/{lock}"
before=$(head -n 1 "$infra/{holder}" 2>/dev/null)
# later: the run that has the lock began after ours (names of runs sort as time does). Where two begin at the same moment, each may
# have hosts that the other needs: the later one is refused and gives them back, and the earlier one waits for that.
later() {{
	other=$(sed -n '1s/.*, run //p' "$infra/{holder}" 2>/dev/null) &&
		[ "$(printf '%s\n' "$other" {name} | LC_ALL=C sort | tail -n 1)" != {name} ]
}}
# A moment of patience: the lock of a run that has just ended is about to be free.
if ! flock -w 2 9 && ! {{ later && flock -w {GIVES_WAY} 9; }}; then
	emit held "$(head -n 1 "$infra/{holder}" 2>/dev/null)" && echo
	exit 0
fi
{first}echo {quoted}", since $(date -u +%H:%M:%S) UTC, run {run}" >"$infra/{holder}" || exit 1
# silent: our own connection is there, and what goes to the other end is not acknowledged any more.
silent() {{
	set -- $SSH_CONNECTION
	[ "$#" = 4 ] || return 1
	here=$(printf '%04X' "$4") there=$(printf '%04X' "$2")
	while read -r number near far state queues timer again rest; do
		case $near/$far/$state in
		*:"$here"/*:"$there"/01) [ "$((0x$again))" -ge {SILENT} ] && return 0 ;;
		esac
	done <<END
$(grep -h ":$here [0-9A-F]*:$there 01 " /proc/net/tcp /proc/net/tcp6 2>/dev/null)
END
	return 1
}}
{then}emit ours '' && echo
# The lock goes with this shell alone: nothing that is started here may inherit it. The other end says nothing while it is well,
# and closes when it is done.
while timeout {LOOK} cat >/dev/null 9>&-; [ "$?" = 124 ]; do
	silent 9>&- && exit 1
	echo
done
"#
    )
}

/// Who has the lock, and what was seen under it.
fn hold(transport: &mut dyn Transport, script: &Script) -> Result<(Locked, Option<Vec<u8>>), TransportError> {
    let (line, hold) = transport.hold(script)?;
    let told = wire::pairs(line.as_bytes());
    let seen = told.last("seen").and_then(|word| BASE64.decode(word.as_bytes()).ok());
    let end = format!("{WHOLE}\n");
    let seen = seen.and_then(|seen| Some(seen.strip_suffix(end.as_bytes())?.to_vec()));
    let locked = match told.last("ours") {
        Some(_) => Locked::Ours(hold),
        None => Locked::Held(report::phrase(told.last("held").unwrap_or("someone"))),
    };
    Ok((locked, seen))
}
