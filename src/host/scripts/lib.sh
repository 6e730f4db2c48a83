# What every changing script begins with, behind ways.sh, wire.sh and records.sh. The caller sets RUN before.
umask 077
LC_ALL=C
export LC_ALL
# A broken connection or an impatient terminal must not stop a change half-way: the host finishes on its own.
trap '' HUP PIPE INT
# The end of the time that a step may take, by the host's own clock: what runs now is ended by the same signal, so that the step
# fails there, and puts back what it has to. A handler, and not the empty trap, which what is started here would inherit.
late=''
trap 'late=1' TERM
infra="$ROOT/var/lib/infra"
run="$infra/runs/$RUN"
# Our own records are root's alone.
real_way /var/lib/infra/runs/- && real_way /var/lib/infra/owed/- && own_records step.lock lock.holder manifest unfinished undo ||
	{ echo "$odd" >&2 && exit 10; }
# refuse WHAT WORDS: the end of a step that has changed nothing, which only the status 10 says.
refuse() {
	emit failed "$1"
	emit words "$2"
	exit 10
}
# A step that outlived its controller is waited for, so that no two ever work on a host at once.
mkdir -p "$infra" && exec 8>>"$infra/step.lock" || exit 10
flock -w 50 8 || refuse 'the host lock' 'a step of an earlier run is still under way on this host; it ends by itself'
# uptime: seconds since boot, for deadlines: it never jumps.
uptime() {
	read -r up rest </proc/uptime
	up=${up%.*}
}
# A journal line is on disk before what it announces is done.
journal() { printf '%s\n' "$*" >>"$run/journal" && sync "$run/journal"; }
