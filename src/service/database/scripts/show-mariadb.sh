# The transactions of $errant, which the writer does not have, as rows: of each stream those after the last one of $known. Both are
# positions by GTID, DOMAIN-SERVER-NUMBER with commas between.
logs=$(sql 'SHOW BINARY LOGS' | cut -f 1) || exit 1
cd "$(dirname "$(sql 'SELECT @@log_bin_basename')")" || exit 1
IFS=,
for last in $errant; do
	stream=${last%-*} since=''
	for seen in $known; do [ "${seen%-*}" != "$stream" ] || since=$seen; done
	echo "-- $last${since:+, after $since}"
	IFS='
'
	mariadb-binlog --no-defaults --base64-output=DECODE-ROWS --verbose --server-id="${stream#*-}" \
		${since:+--start-position="$since"} --stop-position="$last" $logs 2>&1 | grep -E '^(#[0-9]|###)' | grep -E 'GTID|^###|Query'
	IFS=,
done
