# The dialect of MySQL, with the functions of the one of MariaDB.
infra_client=mysql
infra_verify=--ssl-mode=VERIFY_IDENTITY
infra_sessions=performance_schema.processlist

# What this server has carried out, as a set of GTIDs.
executed_sql() { printf '%s\n' "SELECT REPLACE(@@GLOBAL.gtid_executed, '\n', '');"; }

# What this server has, whether it is carried out or waits in its relay log. Subtracting nothing gives the set in its one form.
received() {
	sql "SELECT REPLACE(GTID_SUBTRACT(CONCAT_WS(',', NULLIF(@@GLOBAL.gtid_executed, ''), NULLIF((SELECT received_transaction_set
		FROM performance_schema.replication_connection_status WHERE channel_name = ''), '')), ''), '\n', '')"
}

# Until a server has carried out $1, $2 seconds at most; gives 0 where it has.
wait_for_sql() { printf "SELECT WAIT_FOR_EXECUTED_GTID_SET('%s', %s);\n" "$1" "$2"; }

# Nobody may write. It waits for statements that write now.
fence_sql() { echo 'SET GLOBAL super_read_only = ON;'; }
unfence_sql() { echo 'SET GLOBAL super_read_only = OFF; SET GLOBAL read_only = OFF;'; }
# Root may write behind the fence; nobody else may.
admit_root_sql() { echo 'SET GLOBAL super_read_only = OFF; SET GLOBAL read_only = ON;'; }

# Ends the sessions of all users, on this host or at the address $1. One that has ended by itself meanwhile is no failure.
kill_clients() {
	sessions=$(sessions_sql | if [ $# -gt 0 ]; then sql_at "$1"; else sql; fi) || return 1
	for session in $sessions; do
		echo "KILL $session;" | if [ $# -gt 0 ]; then sql_at "$1"; else sql; fi 2>/dev/null || true
	done
}

# Follows the server at the address $1 by GTID over verified TLS. A former writer needs no other words here. It does not start. The
# source of before is forgotten first: where a crash came before anything had come from it, the server would not start to follow.
# This text holds the password of replication: it goes to the server by a pipe, and nowhere else.
point_sql() {
	pointed=$(quoted_password replication) || return 1
	forget_source_sql
	echo "CHANGE REPLICATION SOURCE TO SOURCE_HOST=$(quoted "$1"), SOURCE_PORT=3306, SOURCE_USER='infra_repl',
	SOURCE_PASSWORD=$pointed, SOURCE_AUTO_POSITION=1, SOURCE_SSL=1, SOURCE_SSL_CA='$infra_db/ca.crt',
	SOURCE_SSL_VERIFY_SERVER_CERT=1, SOURCE_HEARTBEAT_PERIOD=2, SOURCE_CONNECT_RETRY=2;"
}

# Whether a server writes whole statements into a log, with the passwords in them: it leaves these out, unless it was told not to.
shows_passwords_sql() { echo 'SELECT @@GLOBAL.general_log AND @@GLOBAL.log_raw;'; }

# Nothing in the binary log, and no position: of a server that holds nobody's data, on which the package's own steps may be logged.
# The statement has its name from 8.2 on, and the one of before until 8.4 (reference manual 8.4, «RESET BINARY LOGS AND GTIDS»).
forget_log_sql() {
	case $(sql 'SELECT @@version') in
	8.0.* | 8.1.*) echo 'RESET MASTER;' ;;
	*) echo 'RESET BINARY LOGS AND GTIDS;' ;;
	esac
}

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
