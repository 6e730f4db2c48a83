# What only the agent that tells the role needs of the dialect of MariaDB.

# Clients that ask again and again over one connection, statements on standard input: as root, and as infra's agent, which no fence lets
# through. Where the connection ends, or a statement fails, so do they.
keep_asking() {
	exec mariadb --no-defaults --protocol=socket --socket="$infra_socket" --user=root --batch --skip-column-names --unbuffered \
		--skip-reconnect --connect-timeout=3
}
keep_beating() {
	exec mariadb --defaults-file="$infra_db/agent.cnf" --protocol=socket --socket="$infra_socket" --batch --skip-column-names --unbuffered \
		--skip-reconnect --connect-timeout=3
}

# What a server is asked for its role: first it waits, a second at most, as long as read_only is $1.
# Then it tells all, a line each; lag is in milliseconds, by the writer's heartbeat.
await_change() {
	echo "BEGIN NOT ATOMIC
		DECLARE waited INT DEFAULT 0;
		WHILE waited < 5 AND @@GLOBAL.read_only = $1 DO DO SLEEP(0.2); SET waited = waited + 1; END WHILE;
	END"
}
fence_question="SELECT 'open', @@GLOBAL.read_only = 0"
role_question="$fence_question; SELECT 'role', epoch, writer FROM infra.role WHERE one = 1;
	SELECT 'lag', TIMESTAMPDIFF(MICROSECOND, at, UTC_TIMESTAMP(6)) DIV 1000 FROM infra.heartbeat WHERE one = 1;
	SHOW GLOBAL STATUS WHERE Variable_name IN ('Slave_running', 'Rpl_semi_sync_master_status')"

# What another host of the group is asked before this one is opened, and its answer as lines of a word and its value: open, role (epoch
# and writer), position (what it has received, or else carried out), source.
peer_question() {
	echo "$fence_question; SELECT 'role', epoch, writer FROM infra.role WHERE one = 1;
		SELECT 'position', @@GLOBAL.gtid_current_pos; SHOW SLAVE STATUS;"
}
peer_answer() {
	awk -F '\t' -v OFS='\t' '$1 == "position" { position = $2; next }
		NF <= 3 { print; next }
		{ print "source", $2; for (i = 3; i < NF; i++) if ($i ~ /^(Slave|Current)_Pos$/ && $(i + 1) != "") position = $(i + 1) }
		END { print "position", position }'
}

# Whether this server lacks something of the position $1; the sequences of a domain count, whoever wrote them.
lacks() {
	mine=$(executed) || return 1
	for theirs in $(printf '%s\n' "$1" | tr ',' ' '); do
		have=0
		for its in $(printf '%s\n' "$mine" | tr ',' ' '); do
			[ "${its%%-*}" != "${theirs%%-*}" ] || have=${its##*-}
		done
		[ "${theirs##*-}" -le "$have" ] || return 0
	done
	return 1
}

# The address of the source, nothing where none is set.
replica_source() { replica_field Master_Host; }
