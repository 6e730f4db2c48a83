# The dialect of MariaDB.
infra_client=mariadb
infra_verify=--ssl-verify-server-cert
infra_sessions=information_schema.processlist

# What this server has carried out, as a position by GTID.
executed_sql() { echo 'SELECT @@gtid_current_pos;'; }

# What this server has, whether it is carried out or waits in its relay log.
received() {
	got=$(replica_field Gtid_IO_Pos) || return 1
	if [ -n "$got" ]; then printf '%s\n' "$got"; else executed; fi
}

# Until a server has carried out $1, $2 seconds at most; gives 0 where it has.
wait_for_sql() { printf "SELECT MASTER_GTID_WAIT('%s', %s);\n" "$1" "$2"; }

# Nobody but who has READ ONLY ADMIN may write. It waits for statements that write now.
fence_sql() { echo 'SET GLOBAL read_only = ON;'; }
unfence_sql() { echo 'SET GLOBAL read_only = OFF;'; }
# Root may write behind the fence; here it may always.
admit_root_sql() { :; }

# Ends the sessions of all users.
kill_clients_sql() {
	cat <<SQL
DELIMITER //
BEGIN NOT ATOMIC
	DECLARE CONTINUE HANDLER FOR 1094 BEGIN END;
	FOR session IN ($(sessions_sql | tr -d ';')) DO EXECUTE IMMEDIATE CONCAT('KILL ', session.id); END FOR;
END//
DELIMITER ;
SQL
}

# The same on this host, or at the address $1.
kill_clients() {
	if [ $# -gt 0 ]; then kill_clients_sql | sql_at "$1"; else kill_clients_sql | sql; fi
}

# Follows the server at the address $1 by GTID over verified TLS, from the position that was carried out as a replica. With `demote`
# as $2 what it has written itself counts too: of a former writer that has nothing which the new one lacks. It does not start.
# This text holds the password of replication: it goes to the server by a pipe, and nowhere else.
point_sql() {
	pointed=$(quoted_password replication) || return 1
	stop_replica_sql
	# This server writes statements into its logs with all that stands in them. Who may not keep them from all is let off here.
	echo "SET SESSION slow_query_log = 0; EXECUTE IMMEDIATE IF(CURRENT_USER() = 'root@localhost', 'SET SESSION sql_log_off = 1', 'DO 0');"
	echo "CHANGE MASTER TO MASTER_HOST=$(quoted "$1"), MASTER_PORT=3306, MASTER_USER='infra_repl', MASTER_PASSWORD=$pointed,
	MASTER_USE_GTID=slave_pos, MASTER_SSL=1, MASTER_SSL_CA='$infra_db/ca.crt', MASTER_SSL_VERIFY_SERVER_CERT=1,
	MASTER_HEARTBEAT_PERIOD=2, MASTER_CONNECT_RETRY=2${2:+, MASTER_DEMOTE_TO_SLAVE=1};"
}

# Whether a server writes whole statements into a log, with the passwords in them; root may keep its own from that, and no other.
shows_passwords_sql() { echo "SELECT @@GLOBAL.general_log = 1 AND @@GLOBAL.log_output <> 'NONE';"; }

# Nothing in the binary log, and no position: of a server that holds nobody's data, on which the package's own steps may be logged.
forget_log_sql() { echo "RESET MASTER; SET GLOBAL gtid_slave_pos = '';"; }

# How many replicas are attached that tell of each transaction that they have it.
semi_clients_sql() {
	echo "SELECT variable_value FROM information_schema.global_status WHERE variable_name = 'Rpl_semi_sync_master_clients';"
}

# Whether a commit waits until a replica has it. On a replica it is off: it would wait for replicas of its own.
semi_sync_sql() {
	case $1 in
	on) echo 'SET GLOBAL rpl_semi_sync_master_enabled = ON;' ;;
	*) echo 'SET GLOBAL rpl_semi_sync_master_enabled = OFF;' ;;
	esac
}

# Takes the certificates that stand in its files by now; where it cannot, it says so and keeps those of before. In no binary log.
reload_tls_sql() { echo 'SET SESSION sql_log_bin = 0; FLUSH LOCAL SSL;'; }

# After replication by file and position from the address $1: what it has carried out, as a position by GTID, so that it can be followed
# by GTID from there. All of its relay log is carried out first, $2 seconds at most.
from_position() {
	stop_receiving_sql | sql || return 1
	file=$(replica_field Master_Log_File) at=$(replica_field Read_Master_Log_Pos) || return 1
	came=$(sql "SELECT MASTER_POS_WAIT('$file', $at, $2)") || return 1
	case $came in NULL | -1) echo "what it has received up to $file $at was not carried out within $2 s"; return 1 ;; esac
	stop_replica_sql | sql || return 1
	file=$(replica_field Relay_Master_Log_File) at=$(replica_field Exec_Master_Log_Pos) || return 1
	from=$(echo "SELECT BINLOG_GTID_POS('$file', $at)" | sql_at "$1") || return 1
	[ "$from" != NULL ] || { echo "the source does not have $file $at in its binary logs any more"; return 1; }
	sql "SET GLOBAL gtid_slave_pos = '$from'"
}

# Statements of standard input that concern this server alone, whether it is fenced or not: they reach no binlog, and no log.
sql_here() {
	{
		echo "SET SESSION sql_log_bin = 0, sql_log_off = 1, slow_query_log = 0, sql_mode = '', group_concat_max_len = 1048576;"
		echo "UPDATE performance_schema.threads SET INSTRUMENTED = 'NO', HISTORY = 'NO' WHERE PROCESSLIST_ID = CONNECTION_ID();"
		cat
	} | sql
}
