# What only the agent that tells the role needs of the dialect of MySQL.

# Clients that ask again and again over one connection, statements on standard input: as root, and as infra's agent, which no fence lets
# through. Where the connection ends, or a statement fails, so do they.
keep_asking() {
	exec mysql --no-defaults --protocol=socket --socket="$infra_socket" --user=root --batch --skip-column-names --unbuffered \
		--skip-reconnect --connect-timeout=3
}
keep_beating() {
	exec mysql --defaults-file="$infra_db/agent.cnf" --protocol=socket --socket="$infra_socket" --batch --skip-column-names --unbuffered \
		--skip-reconnect --connect-timeout=3
}

# What a server is asked for its role: first it waits a moment. Then it tells all, a line each; lag is in milliseconds, by the writer's
# heartbeat.
await_change() { echo 'DO SLEEP(0.2)'; }
fence_question="SELECT 'open', @@GLOBAL.read_only = 0"
role_question="$fence_question; SELECT 'role', epoch, writer FROM infra.role WHERE one = 1;
	SELECT 'lag', TIMESTAMPDIFF(MICROSECOND, at, UTC_TIMESTAMP(6)) DIV 1000 FROM infra.heartbeat WHERE one = 1;
	SELECT 'running', IF((SELECT COUNT(*) FROM performance_schema.replication_connection_status WHERE service_state = 'ON') > 0
		AND (SELECT COUNT(*) FROM performance_schema.replication_applier_status WHERE service_state = 'ON') > 0, 'ON', 'OFF');
	SHOW GLOBAL STATUS LIKE 'Rpl_semi_sync_source_status'"

# What another host of the group is asked before this one is opened, and its answer as lines of a word and its value: open, role (epoch
# and writer), position (what it has received, or else carried out), source.
peer_question() {
	echo "$fence_question; SELECT 'role', epoch, writer FROM infra.role WHERE one = 1;
		SELECT 'source', host FROM performance_schema.replication_connection_configuration WHERE channel_name = '';
		SELECT 'position', REPLACE(GTID_SUBTRACT(CONCAT_WS(',', NULLIF(@@GLOBAL.gtid_executed, ''), NULLIF((SELECT received_transaction_set
			FROM performance_schema.replication_connection_status WHERE channel_name = ''), '')), ''), '\n', '');"
}
peer_answer() { cat; }

# Whether this server lacks something of the set $1.
lacks() { [ "$(sql "SELECT GTID_SUBSET('$1', @@GLOBAL.gtid_executed)")" = 0 ]; }

# The address of the source, nothing where none is set.
replica_source() { replica_field Source_Host; }
