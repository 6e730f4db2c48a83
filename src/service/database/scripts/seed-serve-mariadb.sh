# The donor's end of one connection of a seed. The caller has shown a certificate of our authority, whose name is in
# SOCAT_OPENSSL_X509_COMMONNAME; it asks by one line. Set before: allowed, the names that may ask; folder, where notes are kept.
case " $allowed " in
*" $SOCAT_OPENSSL_X509_COMMONNAME "*) ;;
*) echo "a seed was refused to ${SOCAT_OPENSSL_X509_COMMONNAME:-a caller without a name}" >&2 && exit 1 ;;
esac
notes="$folder/$SOCAT_OPENSSL_X509_COMMONNAME"
user_tables="engine = 'InnoDB' AND table_type = 'BASE TABLE' AND
	table_schema NOT IN ('mysql', 'sys', 'information_schema', 'performance_schema', 'infra')"
IFS= read -r verb || exit 1
case $verb in
hello)
	# What is not copied does not count: logs, and what the server makes anew.
	sql 'SELECT @@version'
	find "$(sql 'SELECT @@datadir')" -type f ! -name '*-bin.[0-9]*' ! -name 'relay-bin*' ! -name 'ib_logfile*' \
		! -name 'ib_buffer_pool' ! -name 'ibtmp*' -printf '%s\n' 2>/dev/null | awk '{ n += $1 } END { printf "%.0f\n", n }'
	;;
copy)
	# After the copy comes a file more, which says that all of it came.
	work=$(mktemp -d) && trap 'rm -rf "$work"' EXIT && mkdir "$work/target" "$work/end" && cd "$work/end" && echo whole >infra-seed-whole &&
		mariadb-backup --backup --stream=xbstream --parallel=2 --slave-info --user=root --socket=/run/mysqld/mysqld.sock \
			--target-dir="$work/target" 2>"$notes.log" && mbstream -c infra-seed-whole
	;;
why)
	# What a person can do something with, of some hundred lines.
	grep -vE '^\[00\] [0-9: -]*(Copying|Streaming|>> log scanned|\.\.\.done)' "$notes.log" | tail -n 4
	;;
compare)
	# Checksums of small tables as of one transaction, before which no other waits.
	sql "SELECT CONCAT('\`', table_schema, '\`.\`', table_name, '\`') FROM information_schema.tables
		WHERE $user_tables AND data_length < 16000000 AND CONCAT(table_schema, table_name) REGEXP '^[A-Za-z0-9_\$-]+\$' ORDER BY data_length, 1 LIMIT 20" >"$notes.tables" || exit 1
	{
		echo 'SET SESSION max_statement_time = 60;
		START TRANSACTION WITH CONSISTENT SNAPSHOT;
		SELECT BINLOG_GTID_POS(MAX(IF(variable_name = "BINLOG_SNAPSHOT_FILE", variable_value, NULL)),
			MAX(IF(variable_name = "BINLOG_SNAPSHOT_POSITION", variable_value, NULL))) FROM information_schema.session_status;
		SELECT COUNT(*) FROM information_schema.tables WHERE '"$user_tables;"
		while IFS= read -r table; do echo "CHECKSUM TABLE $table;"; done <"$notes.tables"
	} | sql
	;;
position) sql 'SELECT @@gtid_binlog_pos' ;;
end)
	# Once nobody is left the unit ends.
	: >"$notes.done"
	for name in $allowed; do [ -e "$folder/$name.done" ] || exit 0; done
	: >"$folder/end"
	;;
esac
