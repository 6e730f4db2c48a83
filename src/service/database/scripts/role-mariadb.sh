# What only the agent that tells the role needs of the dialect of MariaDB.

# A server that is asked for its role waits first, a second at most, as long as read_only is $1.
await_change() {
	echo "BEGIN NOT ATOMIC
		DECLARE waited INT DEFAULT 0;
		WHILE waited < 5 AND @@GLOBAL.read_only = $1 DO DO SLEEP(0.2); SET waited = waited + 1; END WHILE;
	END"
}

# How it tells of its replication.
replication_question="SELECT 'semi_on', @@GLOBAL.rpl_semi_sync_master_enabled;
	SHOW GLOBAL STATUS WHERE Variable_name IN ('Slave_running', 'Rpl_semi_sync_master_status', 'Rpl_semi_sync_master_clients')"
# How many replicas have been sent all; and that commits wait for one, unless a fence stands meanwhile.
caught_up_question="SELECT COUNT(*) FROM information_schema.processlist WHERE command LIKE 'Binlog Dump%' AND state LIKE '%has sent all binlog%'"
wait_for_replica_sql='SET GLOBAL rpl_semi_sync_master_enabled = NOT @@GLOBAL.read_only'

# What another host of the group is asked beside its role, and its answer as lines of a word and its value: those of its role,
# position (what it has received, or else carried out), source.
peer_question() { echo "SELECT 'position', @@GLOBAL.gtid_current_pos; SHOW REPLICA STATUS;"; }
peer_answer() {
	awk -F '\t' -v OFS='\t' '$1 == "position" { position = $2; next }
		NF <= 3 { print; next }
		{ print "source", $2; for (i = 3; i < NF; i++) if ($i ~ /^(Slave|Current)_Pos$/ && $(i + 1) != "") position = $(i + 1) }
		END { print "position", position }'
}

# Whether this server lacks something of the position $1; the sequences of a domain count, whoever wrote them. Its log counts too: of
# what it wrote under a number that it had before, its own position knows nothing.
lacks() {
	mine=$(sql "SELECT CONCAT(@@gtid_current_pos, ',', @@gtid_binlog_pos)") || return 1
	for theirs in $(printf '%s\n' "$1" | tr ',' ' '); do
		have=0
		for its in $(printf '%s\n' "$mine" | tr ',' ' '); do
			[ "${its%%-*}" != "${theirs%%-*}" ] || [ "${its##*-}" -le "$have" ] || have=${its##*-}
		done
		[ "${theirs##*-}" -le "$have" ] || return 0
	done
	return 1
}

# The address of the source, nothing where none is set.
replica_source() { replica_field Master_Host; }

# Goes on to follow the source.
resume_replica() { { semi_sync_sql off && start_replica_sql; } | sql; }
