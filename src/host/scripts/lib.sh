# What every changing script begins with. The caller sets RUN before. Output on stdout is NUL-separated pairs, as the probe's.
umask 077
LC_ALL=C DEBIAN_FRONTEND=noninteractive
export LC_ALL DEBIAN_FRONTEND
# A broken connection or an impatient terminal must not stop a change half-way: the host finishes on its own.
trap '' HUP PIPE INT TERM
infra="$ROOT/var/lib/infra"
run="$infra/runs/$RUN"
# A step that outlived its controller is waited for, so that no two ever work on a host at once.
mkdir -p "$infra" && exec 8>>"$infra/step.lock" && flock -w 600 8 || exit 1
emit() { printf '%s\0%s\0' "$1" "$2"; }
# A journal line is on disk before what it announces is done.
journal() { printf '%s\n' "$*" >>"$run/journal" && sync "$run/journal"; }
