# The dialect of MySQL, with the functions of the one of MariaDB.
infra_db=/etc/mysql/infra
infra_socket=/run/mysqld/mysqld.sock

# The server of this host, as root over its socket; a value a line, columns by tabs. Where sql_limit is set, it and sql_at end after
# so many seconds; with sql_session they answer each statement at once, and go on after one that failed.
sql() {
	if [ $# -gt 0 ]; then printf '%s\n' "$1"; else cat; fi |
		${sql_limit:+timeout "$sql_limit"} mysql --no-defaults --protocol=socket --socket="$infra_socket" --user=root \
			--batch --skip-column-names --connect-timeout=5 ${sql_session:+--unbuffered --force}
}

# The server at the address $1, as the administrator of the group, over verified TLS; statements come on standard input.
sql_at() {
	${sql_limit:+timeout "$sql_limit"} mysql --defaults-file="$infra_db/admin.cnf" --protocol=tcp --host="$1" \
		--batch --skip-column-names --connect-timeout=5 ${sql_session:+--unbuffered --force} \
		--ssl-mode=VERIFY_IDENTITY --ssl-ca="$infra_db/ca.crt" --ssl-cert="$infra_db/client.crt" --ssl-key="$infra_db/client.key"
}

# Whether the server of this host answers; one that hangs does not.
is_up() {
	timeout 5 mysql --no-defaults --protocol=socket --socket="$infra_socket" --user=root --batch --connect-timeout=5 \
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
	mysql --no-defaults --protocol=socket --socket="$infra_socket" --user=root --batch --vertical --connect-timeout=5 \
		--execute='SHOW REPLICA STATUS' | sed -n "s/^ *$1: //p"
}

# What this server has carried out, as a set of GTIDs.
executed_sql() { printf '%s\n' "SELECT REPLACE(@@GLOBAL.gtid_executed, '\n', '');"; }
executed() { executed_sql | sql; }

# What this server has, whether it is carried out or waits in its relay log. Subtracting nothing gives the set in its one form.
received() {
	sql "SELECT REPLACE(GTID_SUBTRACT(CONCAT_WS(',', NULLIF(@@GLOBAL.gtid_executed, ''), NULLIF((SELECT received_transaction_set
		FROM performance_schema.replication_connection_status WHERE channel_name = ''), '')), ''), '\n', '')"
}

# Until this server has carried out $1, $2 seconds at most; gives 0 where it has.
wait_for_sql() { printf "SELECT WAIT_FOR_EXECUTED_GTID_SET('%s', %s);\n" "$1" "$2"; }
wait_for() {
	came=$(wait_for_sql "$1" "$2" | sql) || return 1
	[ "$came" = 0 ] || { echo "the transactions of $1 were not carried out here within $2 s"; return 1; }
}

# Nobody may write. It waits for statements that write now.
fence_sql() { echo 'SET GLOBAL super_read_only = ON;'; }
unfence_sql() { echo 'SET GLOBAL super_read_only = OFF; SET GLOBAL read_only = OFF;'; }
# What comes next in this session does not wait longer than $1 seconds for others.
patient_sql() { echo "SET SESSION lock_wait_timeout = $1;"; }
# Root may write behind the fence; nobody else may.
admit_root_sql() { echo 'SET GLOBAL super_read_only = OFF; SET GLOBAL read_only = ON;'; }

# The sessions of all users; not its own, not those that replicate, nor infra's.
sessions_sql() {
	cat <<'SQL'
SELECT id FROM performance_schema.processlist WHERE id <> CONNECTION_ID() AND user NOT LIKE 'infra\_%'
AND user NOT IN ('system user', 'event_scheduler') AND command NOT LIKE 'Binlog Dump%' AND command <> 'Daemon';
SQL
}

# Ends them, on this host or at the address $1. One that has ended by itself meanwhile is no failure.
kill_clients() {
	sessions=$(sessions_sql | if [ $# -gt 0 ]; then sql_at "$1"; else sql; fi) || return 1
	for session in $sessions; do
		echo "KILL $session;" | if [ $# -gt 0 ]; then sql_at "$1"; else sql; fi 2>/dev/null || true
	done
}

# Text as a string of SQL.
quoted() { printf "'%s'" "$(printf '%s' "$1" | sed "s/\\\\/\\\\\\\\/g; s/'/''/g")"; }

# Follows the server at the address $1 by GTID over verified TLS. A former writer needs no other words here. It does not start.
# This text holds the password of replication: it goes to the server by a pipe, and nowhere else.
point_sql() {
	pointed=$(sed -n 's/^ *password *= *//p' "$infra_db/replication.cnf") || return 1
	[ -n "$pointed" ] || { echo "$infra_db/replication.cnf has no password" >&2; return 1; }
	pointed=${pointed#[\"\']} pointed=${pointed%[\"\']}
	stop_replica_sql
	echo "CHANGE REPLICATION SOURCE TO SOURCE_HOST=$(quoted "$1"), SOURCE_PORT=3306, SOURCE_USER='infra_repl',
	SOURCE_PASSWORD=$(quoted "$pointed"), SOURCE_AUTO_POSITION=1, SOURCE_SSL=1, SOURCE_SSL_CA='$infra_db/ca.crt',
	SOURCE_SSL_VERIFY_SERVER_CERT=1, SOURCE_HEARTBEAT_PERIOD=2, SOURCE_CONNECT_RETRY=2;"
}

stop_replica_sql() { echo 'STOP REPLICA;'; }
start_replica_sql() { echo 'START REPLICA;'; }
# Takes nothing more from its source, and carries on with what it has taken.
stop_receiving_sql() { echo 'STOP REPLICA IO_THREAD; START REPLICA SQL_THREAD;'; }
# No source, and nothing of its relay log: only after all of it was carried out.
forget_source_sql() { echo 'STOP REPLICA; RESET REPLICA ALL;'; }

# Nothing in the binary log, and no position: of a server that holds nobody's data, on which the package's own steps may be logged.
forget_log_sql() { echo "RESET BINARY LOGS AND GTIDS;"; }

# How many replicas are attached that tell of each transaction that they have it.
semi_clients_sql() {
	echo "SELECT variable_value FROM performance_schema.global_status WHERE variable_name = 'Rpl_semi_sync_source_clients';"
}

# Whether a commit waits until a replica has it. On a replica it is off: it would wait for replicas of its own.
semi_sync_sql() {
	case $1 in
	on) echo 'SET GLOBAL rpl_semi_sync_source_enabled = ON;' ;;
	*) echo 'SET GLOBAL rpl_semi_sync_source_enabled = OFF;' ;;
	esac
}

# Takes the certificates that stand in its files by now; where it cannot, it says so and keeps those of before. In no binary log.
reload_tls_sql() { echo 'SET SESSION sql_log_bin = 0; ALTER INSTANCE RELOAD TLS;'; }

# Where GTIDs are on, they are kept in replication by file and position too: there is nothing to find out.
from_position() { :; }

# Statements of standard input that concern this server alone, whether it is fenced or not: they reach no binlog, and no log. A strict
# fence refuses root too, so it is lifted meanwhile; the other one, which holds for all who are no administrators, stays.
sql_here() {
	strict=$(sql 'SELECT @@GLOBAL.super_read_only') || return 1
	{
		echo "SET SESSION sql_log_bin = 0, sql_log_off = 1, long_query_time = 31536000, sql_mode = '', group_concat_max_len = 1048576;"
		echo "UPDATE performance_schema.threads SET INSTRUMENTED = 'NO', HISTORY = 'NO' WHERE PROCESSLIST_ID = CONNECTION_ID();"
		[ "$strict" = 0 ] || echo 'SET GLOBAL super_read_only = OFF; SET GLOBAL read_only = ON;'
		cat
	} | sql
	result=$?
	[ "$strict" = 0 ] || sql 'SET GLOBAL super_read_only = ON' || return 1
	return "$result"
}
