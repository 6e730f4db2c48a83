//! Workers of before a reload, which live on with what they hold: takes a daemon and how it tells them, gives the drain that a
//! run waits for before it closes what they may still use.

use crate::base::sh::quote;
use crate::plan::state::Drain;
use crate::service::claims::Claims;

/// What they hold, from their process ids in `$former`. A kept connection without a request counts too: with its next
/// request the worker opens a connection to where its own configuration says.
const HELD: &str = r#"count=0 pids=''
for pid in $former; do
	if [ -d "/proc/$pid" ]; then count=$((count + 1)) pids="$pids $pid"; fi
done
[ "$count" -gt 0 ] || exit 0
held=$(ss -Htnp | awk -v pids="$pids" '
BEGIN { split(pids, all, " ") }
{ for (i in all) if (index($0, ",pid=" all[i] ",")) { held++; break } }
END { print held + 0 }')
workers='former worker' verb='still holds' connections=connections
[ "$count" = 1 ] || workers='former workers' verb='still hold'
[ "$held" != 1 ] || connections=connection
echo "$count $workers of $daemon $verb $held $connections (pid$pids)"
exit 1"#;

/// Adds the drain of `daemon`: `former` is sh text that sets `$former` to the process ids of its workers of before a reload,
/// and exits 0 where the daemon does not run, or otherwise than 0 with words where it does not tell.
pub(crate) fn add(service: &'static str, daemon: &str, former: &str, out: &mut Claims) {
    out.drain(Drain { service, command: format!("daemon={}\n{former}\n{HELD}", quote(daemon)) });
}
