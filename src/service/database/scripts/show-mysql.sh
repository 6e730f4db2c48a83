# The transactions of $errant, a set of GTIDs which the writer does not have, as rows.
logs=$(sql 'SHOW BINARY LOGS' | cut -f 1) || exit 1
cd "$(dirname "$(sql 'SELECT @@log_bin_basename')")" || exit 1
mysqlbinlog --no-defaults --base64-output=DECODE-ROWS --verbose --include-gtids="$errant" $logs 2>&1 |
	grep -E '^(#[0-9]|###|SET @@SESSION.GTID_NEXT)' | grep -E 'GTID|^###|Query'
