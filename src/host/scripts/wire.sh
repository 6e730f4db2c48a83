# How a script tells what it finds: pairs of key and value, each ended by a NUL, which wire.rs reads.

# emit KEY VALUE
emit() { printf '%s\0%s\0' "$1" "$2"; }

# pour KEY COMMAND…: the value is all that the command prints, its last line end too.
pour() {
	printf '%s\0' "$1"
	shift
	"$@" | tr -d '\0'
	printf '\0'
}

# hear COMMAND…: what it says, the first 64 KiB, as heard; gives its status. Daemons may print without end. It reads the file in
# from, or nothing.
from=''
hear() {
	heard=$(
		# The signal that ends a step reaches all of these: who tells the status must outlive it.
		trap : TERM
		{
			trap : TERM
			"$@" 2>&1 <"${from:-/dev/null}" 8>&- &
			ended "$!"
			printf '\n=%d' "$?"
		} | { trap '' TERM && head -c 65536; tail -c 5; }
	)
	# Where even so nobody has told it, it did not come to its end.
	status=${heard##*
=}
	case $status in
	"$heard" | '' | *[!0-9]*) status=124 ;;
	*)
		heard=${heard%
*}
		heard=${heard%
}
		;;
	esac
	return "$status"
}

# ended PID: waits for what was started with &, and gives its status. A signal that we get while we wait is passed on to it, so
# that it is never left alone; and where it is a timeout, which has a process group of its own, nothing of that outlives it. The
# caller traps TERM.
ended() {
	while wait "$1"; status=$?; [ "$status" -gt 128 ] && kill "$1" 2>/dev/null; do :; done
	kill -s KILL -- "-$1" 2>/dev/null
	return "$status"
}
