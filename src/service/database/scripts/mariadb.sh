# The dialect of MariaDB: sh functions by which every script speaks to a server, of this host or of another one. Statements come on
# standard input or as the one argument; what is secret comes on standard input alone, and credentials stand in files of root's.
# A function that ends in _sql prints statements, for `sql` and `sql_at` alike; each of them may be carried out again.
infra_db=/etc/mysql/infra
infra_socket=/run/mysqld/mysqld.sock

# The server of this host, as root over its socket; a value a line, columns by tabs. Where sql_limit is set, it and sql_at end after
# so many seconds; with sql_session they answer each statement at once, and go on after one that failed.
sql() {
	if [ $# -gt 0 ]; then printf '%s\n' "$1"; else cat; fi |
		${sql_limit:+timeout "$sql_limit"} mariadb --no-defaults --protocol=socket --socket="$infra_socket" --user=root \
			--batch --skip-column-names --connect-timeout=5 ${sql_session:+--unbuffered --force}
}

# The server at the address $1, as the administrator of the group, over verified TLS; statements come on standard input.
sql_at() {
	${sql_limit:+timeout "$sql_limit"} mariadb --defaults-file="$infra_db/admin.cnf" --protocol=tcp --host="$1" \
		--batch --skip-column-names --connect-timeout=5 ${sql_session:+--unbuffered --force} \
		--ssl-ca="$infra_db/ca.crt" --ssl-cert="$infra_db/client.crt" --ssl-key="$infra_db/client.key" --ssl-verify-server-cert
}

# Whether the server of this host answers; one that hangs does not.
is_up() {
	timeout 5 mariadb --no-defaults --protocol=socket --socket="$infra_socket" --user=root --batch --connect-timeout=5 \
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
	mariadb --no-defaults --protocol=socket --socket="$infra_socket" --user=root --batch --vertical --connect-timeout=5 \
		--execute='SHOW SLAVE STATUS' | sed -n "s/^ *$1: //p"
}

# What this server has carried out, as a position by GTID.
executed_sql() { echo 'SELECT @@gtid_current_pos;'; }
executed() { executed_sql | sql; }

# What this server has, whether it is carried out or waits in its relay log.
received() {
	got=$(replica_field Gtid_IO_Pos) || return 1
	if [ -n "$got" ]; then printf '%s\n' "$got"; else executed; fi
}

# Until this server has carried out $1, $2 seconds at most; gives 0 where it has.
wait_for_sql() { printf "SELECT MASTER_GTID_WAIT('%s', %s);\n" "$1" "$2"; }
wait_for() {
	came=$(wait_for_sql "$1" "$2" | sql) || return 1
	[ "$came" = 0 ] || { echo "the transactions up to $1 were not carried out here within $2 s"; return 1; }
}

# Nobody but who has READ ONLY ADMIN may write. It waits for statements that write now.
fence_sql() { echo 'SET GLOBAL read_only = ON;'; }
unfence_sql() { echo 'SET GLOBAL read_only = OFF;'; }
# What comes next in this session does not wait longer than $1 seconds for others.
patient_sql() { echo "SET SESSION lock_wait_timeout = $1;"; }
# Root may write behind the fence; here it may always.
admit_root_sql() { :; }

# The sessions of all users, also of those that no fence holds; not its own, not those that replicate, nor infra's.
sessions_sql() {
	cat <<'SQL'
SELECT id FROM information_schema.processlist WHERE id <> CONNECTION_ID() AND user NOT LIKE 'infra\_%'
AND user NOT IN ('system user', 'event_scheduler') AND command NOT LIKE 'Binlog Dump%' AND command <> 'Daemon';
SQL
}

# Ends them.
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

# Text as a string of SQL.
quoted() { printf "'%s'" "$(printf '%s' "$1" | sed "s/\\\\/\\\\\\\\/g; s/'/''/g")"; }

# Follows the server at the address $1 by GTID over verified TLS, from the position that was carried out as a replica. With `demote`
# as $2 what it has written itself counts too: of a former writer that has nothing which the new one lacks. It does not start.
# This text holds the password of replication: it goes to the server by a pipe, and nowhere else.
point_sql() {
	pointed=$(sed -n 's/^ *password *= *//p' "$infra_db/replication.cnf") || return 1
	[ -n "$pointed" ] || { echo "$infra_db/replication.cnf has no password" >&2; return 1; }
	pointed=${pointed#[\"\']} pointed=${pointed%[\"\']}
	stop_replica_sql
	# This server writes statements into its logs with all that stands in them. Who may not keep them from all is let off here.
	echo "SET SESSION slow_query_log = 0; EXECUTE IMMEDIATE IF(CURRENT_USER() = 'root@localhost', 'SET SESSION sql_log_off = 1', 'DO 0');"
	echo "CHANGE MASTER TO MASTER_HOST=$(quoted "$1"), MASTER_PORT=3306, MASTER_USER='infra_repl', MASTER_PASSWORD=$(quoted "$pointed"),
	MASTER_USE_GTID=slave_pos, MASTER_SSL=1, MASTER_SSL_CA='$infra_db/ca.crt', MASTER_SSL_VERIFY_SERVER_CERT=1,
	MASTER_HEARTBEAT_PERIOD=2, MASTER_CONNECT_RETRY=2${2:+, MASTER_DEMOTE_TO_SLAVE=1};"
}

stop_replica_sql() { echo 'STOP SLAVE;'; }
start_replica_sql() { echo 'START SLAVE;'; }
# Takes nothing more from its source, and carries on with what it has taken.
stop_receiving_sql() { echo 'STOP SLAVE IO_THREAD; START SLAVE SQL_THREAD;'; }
# No source, and nothing of its relay log: only after all of it was carried out.
forget_source_sql() { echo 'STOP SLAVE; RESET SLAVE ALL;'; }

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
	sql 'STOP SLAVE IO_THREAD; START SLAVE SQL_THREAD;' || return 1
	file=$(replica_field Master_Log_File) at=$(replica_field Read_Master_Log_Pos) || return 1
	came=$(sql "SELECT MASTER_POS_WAIT('$file', $at, $2)") || return 1
	case $came in NULL | -1) echo "what it has received up to $file $at was not carried out within $2 s"; return 1 ;; esac
	sql 'STOP SLAVE' || return 1
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
