
# Run when rules were loaded that are to be open while a run lasts. Whoever works on this host has its lock, or a step under way; the
# lock alone is waited for, as a step of a live run must never wait for us. was: the digest of the rules that were recorded then.
dir=${0%/*}
for file in lock step.lock firewall.rules; do plain_or_none "$state/$file" || exit 1; done
exec 9>>"$state/lock" 8>>"$state/step.lock"
until flock 9 && flock -n 8; do
	flock -u 9
	sleep 2
done
[ "$(sha256sum <"$state/firewall.rules")" = "$was" ] || exit 0
printf '%s\n' 'this host itself, which closes what a run has left open' >"$state/lock.holder"
