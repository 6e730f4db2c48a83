# Installs packages without letting them start anything: what serves is decided by configuration that comes later.
# The caller sets PACKAGES.
policy="$ROOT/usr/sbin/policy-rc.d"
mark='# made by infra for the time of an installation'
if [ -e "$policy" ] && ! grep -qxF "$mark" "$policy"; then
	ours=''
else
	ours=1
	printf '#!/bin/sh\n%s\nexit 101\n' "$mark" >"$policy" && chmod 755 "$policy"
fi
done_with() {
	[ -n "$ours" ] && rm -f "$policy"
	[ "$2" = 0 ] && exit 0
	emit failed "$1"
	emit words "$(printf '%s\n' "$out" | tail -n 12)"
	exit 10
}
# An installation that was cut off earlier is finished first.
out=$(dpkg --configure -a 2>&1) || done_with 'dpkg --configure -a' 1
out=$(apt-get -q -o DPkg::Lock::Timeout=120 -o Acquire::Retries=2 update 2>&1) || done_with 'apt-get update' 1
out=$(apt-get -q -y --no-install-recommends -o DPkg::Lock::Timeout=120 -o Dpkg::Options::=--force-confold -o Dpkg::Options::=--force-confdef install $PACKAGES 2>&1)
done_with "apt-get install" $?
