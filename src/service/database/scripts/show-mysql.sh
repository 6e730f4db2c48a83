# The transactions of $errant, a set of GTIDs which the writer does not have: each with its time, as rows or as the statement that it is.
logs=$(sql 'SHOW BINARY LOGS' | cut -f 1) || exit 1
cd "$(dirname "$(sql 'SELECT @@log_bin_basename')")" || exit 1
mysqlbinlog --no-defaults --base64-output=DECODE-ROWS --verbose --include-gtids="$errant" $logs 2>&1 | awk -F '\t' '
	/^ERROR/ { print; next }
	$2 == "GTID" { when = "20" substr($1, 2, 2) "-" substr($1, 4, 2) "-" substr($1, 6, 11); query = 0; next }
	/^SET @@SESSION.GTID_NEXT= .AUTOMATIC/ { next }
	/^SET @@SESSION.GTID_NEXT= / { split($0, part, "\047"); print "-- " part[2] ", " when; next }
	/^###/ { print; next }
	/^#/ { query = $2 == "Query"; next }
	query && !/^(SET |BEGIN$|COMMIT|use |\/\*!)/ { sub(/\/\*!\*\/;$/, ""); if ($0 != "") print }'
