# What only the agent that tells the role needs of the dialect of MySQL.

# A server that is asked for its role waits a moment first.
await_change() { echo 'DO SLEEP(0.2)'; }

# How it tells of its replication.
replication_question="SELECT 'running', IF((SELECT COUNT(*) FROM performance_schema.replication_connection_status WHERE service_state = 'ON') > 0
		AND (SELECT COUNT(*) FROM performance_schema.replication_applier_status WHERE service_state = 'ON') > 0, 'ON', 'OFF');
	SELECT 'semi_on', variable_value = 'ON' FROM performance_schema.global_variables WHERE variable_name = 'rpl_semi_sync_source_enabled';
	SHOW GLOBAL STATUS WHERE Variable_name IN ('Rpl_semi_sync_source_status', 'Rpl_semi_sync_source_clients')"
# How many replicas have been sent all; and that commits wait for one, unless a fence stands meanwhile.
caught_up_question="SELECT COUNT(*) FROM performance_schema.processlist WHERE command LIKE 'Binlog Dump%' AND state LIKE '%has sent all binlog%'"
wait_for_replica_sql='SET GLOBAL rpl_semi_sync_source_enabled = NOT @@GLOBAL.read_only'

# What another host of the group is asked beside its role, and its answer as lines of a word and its value: those of its role,
# position (what it has received, or else carried out), source.
peer_question() {
	echo "SELECT 'source', host FROM performance_schema.replication_connection_configuration WHERE channel_name = '';
		SELECT 'position', REPLACE(GTID_SUBTRACT(CONCAT_WS(',', NULLIF(@@GLOBAL.gtid_executed, ''), NULLIF((SELECT received_transaction_set
			FROM performance_schema.replication_connection_status WHERE channel_name = ''), '')), ''), '\n', '');"
}
peer_answer() { cat; }

# Whether this server lacks something of the set $1.
lacks() { [ "$(sql "SELECT GTID_SUBSET('$1', @@GLOBAL.gtid_executed)")" = 0 ]; }

# The address of the source, nothing where none is set.
replica_source() { replica_field Source_Host; }

# Goes on to follow the source at the address $1. A server that crashed after it was told of a source, and before anything had come from
# there, does not start to follow until it is told again.
resume_replica() {
	{ semi_sync_sql off && start_replica_sql; } | sql && return
	[ "$(replica_field Source_User)" = infra_repl ] && { point_sql "$1" && start_replica_sql; } | sql
}
