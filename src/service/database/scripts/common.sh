# What the dialects of both engines share: sh functions by which every script speaks to a server, of this host or of another one.
# Statements come on standard input or as the one argument; what is secret comes on standard input alone, and credentials stand in
# files of root's. A function that ends in _sql prints statements, for `sql` and `sql_at` alike; each of them may be carried out again.
# The dialect that follows sets infra_client, the name of the client, infra_verify, its option by which the name of a server is
# checked, and infra_sessions, the table of all sessions.
infra_db=/etc/mysql/infra
infra_socket=/run/mysqld/mysqld.sock

# The server of this host, as root over its socket; a value a line, columns by tabs. Where sql_limit is set, it and sql_at end after
# so many seconds; with sql_session they answer each statement at once, and go on after one that failed.
sql() {
	if [ $# -gt 0 ]; then printf '%s\n' "$1"; else cat; fi |
		${sql_limit:+timeout "$sql_limit"} "$infra_client" --no-defaults --protocol=socket --socket="$infra_socket" --user=root \
			--batch --skip-column-names --connect-timeout=5 ${sql_session:+--unbuffered --force}
}

# The server at the address $1, as the administrator of the group, over verified TLS; statements come on standard input.
sql_at() {
	${sql_limit:+timeout "$sql_limit"} "$infra_client" --defaults-file="$infra_db/admin.cnf" --protocol=tcp --host="$1" \
		--batch --skip-column-names --connect-timeout=5 ${sql_session:+--unbuffered --force} \
		"$infra_verify" --ssl-ca="$infra_db/ca.crt" --ssl-cert="$infra_db/client.crt" --ssl-key="$infra_db/client.key"
}

# Whether the server of this host answers; one that hangs does not.
is_up() {
	timeout 5 "$infra_client" --no-defaults --protocol=socket --socket="$infra_socket" --user=root --batch --connect-timeout=5 \
		--execute='SELECT 1' >/dev/null
}

# Until it answers, $1 seconds at most.
wait_up() {
	up_until=$(($(date +%s) + $1))
	until is_up 2>/dev/null; do
		[ "$(date +%s)" -lt "$up_until" ] || { echo "the database server does not answer after $1 s"; return 1; }
		sleep 0.2
	done
}

# The field $1 of the status of replication, nothing where no source is set.
replica_field() {
	"$infra_client" --no-defaults --protocol=socket --socket="$infra_socket" --user=root --batch --vertical --connect-timeout=5 \
		--execute='SHOW REPLICA STATUS' | sed -n "s/^ *$1: //p"
}

# What this server has carried out, as a position by GTID or a set of them.
executed() { executed_sql | sql; }

# Until this server has carried out $1, $2 seconds at most.
wait_for() {
	came=$(wait_for_sql "$1" "$2" | sql) || return 1
	[ "$came" = 0 ] || { echo "the transactions up to $1 were not carried out here within $2 s"; return 1; }
}

# What comes next in this session does not wait longer than $1 seconds for others.
patient_sql() { echo "SET SESSION lock_wait_timeout = $1;"; }

# The sessions of all users, also of those that no fence holds; not its own, not those that replicate, nor infra's.
sessions_sql() {
	cat <<SQL
SELECT id FROM $infra_sessions WHERE id <> CONNECTION_ID() AND user NOT LIKE 'infra\_%'
AND user NOT IN ('system user', 'event_scheduler') AND command NOT LIKE 'Binlog Dump%' AND command <> 'Daemon';
SQL
}

# Text as a string of SQL.
quoted() { printf "'%s'" "$(printf '%s' "$1" | sed "s/\\\\/\\\\\\\\/g; s/'/''/g")"; }

# The password that stands in the file of credentials $1, as a string of SQL. It goes to a server by a pipe, and nowhere else.
quoted_password() {
	its_password=$(sed -n 's/^ *password *= *//p' "$infra_db/$1.cnf") || return 1
	[ -n "$its_password" ] || { echo "$infra_db/$1.cnf has no password" >&2; return 1; }
	its_password=${its_password#[\"\']} its_password=${its_password%[\"\']}
	quoted "$its_password"
}

stop_replica_sql() { echo 'STOP REPLICA;'; }
start_replica_sql() { echo 'START REPLICA;'; }
# Takes nothing more from its source, and carries on with what it has taken.
stop_receiving_sql() { echo 'STOP REPLICA IO_THREAD; START REPLICA SQL_THREAD;'; }
# No source, and nothing of its relay log: only after all of it was carried out.
forget_source_sql() { echo 'STOP REPLICA; RESET REPLICA ALL;'; }
