# What a switchover and a failover share: this host becomes the writer, and the others follow it. Set before: me, the name of this
# host, and here, its address; epoch, the one that holds until now; others, the addresses of the hosts that shall follow; strict, set
# where no commit may ever go on without a replica.
book=/var/lib/infra/db
umask 077
mkdir -p "$book"
next=$((epoch + 1))

# Hundredths of a second since the start of this machine, in now.
clock() {
	read -r now _ </proc/uptime
	now=${now%.*}${now#*.}
}

far() { echo "$1" >&3; }
say() { echo "$*" >>"$book/change.new"; }

# Each statement by a client of its own would stop the writes for longer: one client speaks to the server of this host all along, and
# one to that of the old writer. They go on after a statement that failed, so that what counts is what they see afterwards.
talk() {
	ends="$book/$1"
	shift
	rm -f "$ends.in" "$ends.out"
	mkfifo "$ends.in" "$ends.out" || return 1
	(
		sql_session=1
		"$@"
	) <"$ends.in" >"$ends.out" 2>"$ends.err" &
}

# Reads the answer up to its end from standard input, into answer.
listen() {
	answer=''
	while IFS= read -r line; do
		[ "$line" != '.' ] || return 0
		answer="$answer${answer:+
}$line"
	done
	return 1
}
here_asks() { printf "%s\nSELECT '.';\n" "$1" >&8 && listen <&9; }
old_asks() { printf "%s\nSELECT '.';\n" "$1" >&6 && listen <&7; }

# As long as this session lives, no other change begins here, and the old writer is not opened by its own agent after a restart.
alone() { here_asks "SELECT GET_LOCK('infra_switch', 0);" && [ "$answer" = 1 ]; }

role_sql() { echo "SELECT CONCAT(epoch, ' ', writer) FROM infra.role WHERE one = 1;"; }

# The one moment from which on nothing is put back: the first write of the new writer names it with the next epoch, while its fence
# still stands. No commit waits for a replica here, as none follows yet.
promote() {
	here_asks "$(
		semi_sync_sql off
		stop_replica_sql
		admit_root_sql
		echo "UPDATE infra.role SET epoch = $next, writer = '$me', since = UTC_TIMESTAMP(6) WHERE one = 1 AND epoch = $epoch;"
		role_sql
	)" && [ "$answer" = "$next $me" ]
}

# Whether the host at $1 may be told a password from here; tells why not. Its own root keeps it out of the log, in the next `infra apply`.
shows_passwords() { echo "$1 is not told whom to follow: its general log would show the password of replication"; }
keeps_secrets() { [ "$(shows_passwords_sql | sql_at "$1")" = 0 ] || { shows_passwords "$1" && false; }; }

# What makes a host follow this one; $1 is `demote` for the one that was the writer.
follow_me_sql() {
	patient_sql 4
	fence_sql
	semi_sync_sql off
	point_sql "$here" "$1"
	start_replica_sql
}

# From the moment at which this host is named until it takes writes: first a replica is attached, so that already the first commit
# is held by two hosts; $1 is for how many seconds it is waited for.
open_up() {
	here_asks "$(forget_source_sql)" || return 1
	clock
	until=$((now + $1 * 100))
	while here_asks "$(semi_clients_sql)" && [ "${answer:-0}" -eq 0 ] && [ "$now" -lt "$until" ]; do
		sleep 0.02
		clock
	done
	attached=${answer:-0}
	here_asks "$(
		[ "$attached" -eq 0 ] && [ -z "$strict" ] || semi_sync_sql on
		unfence_sql
		echo 'SELECT @@GLOBAL.read_only;'
	)" && [ "$answer" = 0 ] || return 1
	clock
	opened_at=$now
	say "attached $attached"
}

# A row is written here, and looked for on the hosts at the addresses $*; tells who does not have it after 10 s.
prove() {
	here_asks "INSERT INTO infra.heartbeat (one, at, writer, semi_sync) VALUES (1, UTC_TIMESTAMP(6), '$me', '')
		ON DUPLICATE KEY UPDATE at = UTC_TIMESTAMP(6), writer = '$me'; $(executed_sql)" && [ -n "$answer" ] || return 1
	wrote=$answer
	say "position $wrote"
	for at in "$@"; do
		got=$({
			wait_for_sql "$wrote" 10
			role_sql
		} | sql_at "$at" 2>&1)
		if [ "$got" = "0
$next $me" ]; then
			say "follows $at"
		else
			say "behind $at $(printf '%s' "$got" | tr '\n' ' ')"
		fi
	done
}
