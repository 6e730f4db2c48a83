# What a host that is seeded does whatever its engine: functions between which each engine gets its copy. What the server has is
# touched only when the copy is whole and a server of its own without a way in has started on it; it stays aside until the new one
# replicates. Set before: unit, host, donor, wipe (1 or empty), and back_text, a function that prints what a boot in the moment of
# the exchange carries out.
set -u

fail() { echo "$1"; exit 1; }
tell() { echo "$1" >&3; }

# amount BYTES OF: in the unit that fits the second.
amount() {
	if [ "$2" -ge 1000000000 ]; then
		echo "$(($1 / 1000000000)).$(($1 % 1000000000 / 100000000))"
	else
		echo "$(($1 / 1000000))"
	fi
}
in_words() { if [ "$1" -ge 1000000000 ]; then echo "$(amount "$1" "$1") GB"; else echo "$(amount "$1" "$1") MB"; fi; }

# far BYTES SIZE BEFORE: `42 %, 1.3 of 3.1 GB, 110 MB/s`, a second after it was at BEFORE.
far() {
	percent=$(($1 * 100 / ($2 + 1)))
	so_far=$1
	# What the donor writes meanwhile comes too.
	[ "$percent" -lt 99 ] || percent=99
	[ "$so_far" -le "$2" ] || so_far=$2
	tell "$percent %, $(amount "$so_far" "$2") of $(in_words "$2"), $((($1 - $3) / 1000000)) MB/s"
}

# Whether it may be done. A server that does not even start may be replaced by a person's word.
may_be_replaced() {
	if wait_up 30 >&2; then
		has() { sql "SELECT COUNT(*) FROM information_schema.tables WHERE $1"; }
		[ "$(has "table_schema = 'infra' AND table_name = 'role'")" = 0 ] ||
			[ "$(sql "SELECT COUNT(*) FROM infra.role WHERE writer = '$host' AND NOT @@read_only")" = 0 ] ||
			fail "this host is the writer: its data are not replaced"
		tables=$(has "table_schema NOT IN ('mysql', 'sys', 'information_schema', 'performance_schema', 'infra')") ||
			fail "it cannot be seen what this host holds"
		[ -n "$wipe" ] || [ "$tables" = 0 ] ||
			fail "this host holds data, $tables tables, which are not replaced: infra db seed $host --wipe"
	elif [ -z "$wipe" ]; then
		fail "the server of this host does not answer, so that nobody knows what it holds"
	fi
}

# What an earlier seed has left goes first; then there is a new folder.
begin() {
	case $(cat "$seed/state" 2>/dev/null) in
	out | in | whole) systemctl stop "$unit" && data_back || fail "the data that an earlier seed put aside could not be put back" ;;
	esac
	forget_seed
	mkdir -m 711 "$seed" && mkdir "$seed/new" "$seed/old" && install -d -m 700 -o mysql -g mysql "$seed/run" && state copy || exit 1
	chown mysql:mysql "$seed/old" "$seed/new" && chmod --reference="$data" "$seed/old" "$seed/new" || exit 1
}

# room SIZE: it fits beside what is there.
room() {
	free=$(df -B1 --output=avail "$seed" | tail -n 1)
	needed=$(($1 + $1 / 10 + 300000000))
	[ "$free" -ge "$needed" ] || fail "the copy needs $(in_words "$needed"), and $(in_words "$free") are free beside $data, where the \
old data are kept until the new are in use"
}

# try_with SECONDS COMMAND…: in place of this host's server another one of ours, on the copy say; sql and is_up speak to it until tried.
try_with() {
	systemctl stop "$unit" || exit 1
	patient=$1
	shift
	"$@" </dev/null >"$seed/run/out" 2>&1 3>&- &
	server=$!
	infra_socket="$seed/run/sock"
	until is_up 2>/dev/null; do
		kill -0 "$server" 2>/dev/null && [ "$patient" -gt 0 ] ||
			fail "a server does not start on its data: $(grep -h ERROR "$seed/run/log" "$seed/run/out" | tail -n 3)"
		patient=$((patient - 1))
		sleep 1
	done
}
tried() {
	kill "$server"
	wait "$server" || fail "a server did not end well: $(grep ERROR "$seed/run/log" | tail -n 3)"
	infra_socket=/run/mysqld/mysqld.sock
}

# The old data go aside, the new come in their place, and the server starts on them. Cut off, a boot, the next run or the undo of
# this step puts the old data back.
exchange() {
	tell "takes the copy into use"
	find "$seed/new" -type f -exec sync {} + || exit 1
	back_text >"$seed/back" && mkdir -p "${guard%/*}" && cat >"$guard" <<END || exit 1
# written by infra for the moment in which a seed exchanges the data, and removed after it
[Service]
ExecStartPre=+/bin/sh -c 'if [ -e $seed/back ]; then exec /bin/sh $seed/back; fi'
END
	sync "$seed/back" "$guard" "${guard%/*}" && systemctl daemon-reload || exit 1
	state out && move_all "$data" "$seed/old" && state in && move_all "$seed/new" "$data" && state whole ||
		fail "the data could not be exchanged"
	rm -f "$guard" && systemctl daemon-reload
	systemctl start "$unit" && wait_up 120 ||
		back "the server does not start on the copy: $(journalctl -q --no-pager -o cat -n 5 -u "$unit" 2>/dev/null)"
}

# back WHY: the old data are put back, and the seed has failed.
back() {
	why=$1
	systemctl stop "$unit" && data_back && systemctl start "$unit" && fail "$why"
	fail "$why; the old data could not be put back"
}

# running IO SQL: both threads run, by the names that the engine gives them.
running() {
	tries=0
	until [ "$(replica_field "$1")" = Yes ] && [ "$(replica_field "$2")" = Yes ]; do
		tries=$((tries + 1))
		[ "$tries" -lt 60 ] || back "the replica does not run: $(errors)"
		sleep 0.5
	done
}
errors() { echo "$(replica_field Last_IO_Error) $(replica_field Last_SQL_Error)"; }

# reach GTIDS SECONDS: all of it is carried out here.
reach() {
	late=$(($(date +%s) + $2))
	until wait_for "$1" 2 >/dev/null; do
		[ -z "$(errors | tr -d ' ')" ] && [ "$(date +%s)" -lt "$late" ] || return 1
		tell "catches up: $(executed) of $1"
	done
}
