# This host, which was the writer, follows the one at $writer_at, named $writer. It has nothing that the writer does not have: that was
# seen when this was decided, and is seen again here by the server itself, which stops at the first transaction of another history.
# Set before too: epoch, the one that holds.
book=/var/lib/infra/db
sql_limit=60
wait_up 60 || exit 1
# What a fence was to keep out is kept out by the epoch from here on.
role=$(echo "SELECT CONCAT(epoch, ' ', writer) FROM infra.role WHERE one = 1;" | sql_at "$writer_at" 2>&1)
[ "$role" = "$epoch $writer" ] || { echo "$writer does not say that it is the writer of epoch $epoch: $role"; exit 1; }
{
	patient_sql 10
	fence_sql
	semi_sync_sql off
	point_sql "$writer_at" demote
	start_replica_sql
} | sql || exit 1
wrote=$(executed_sql | sql_at "$writer_at") || exit 1
echo "takes over what $writer has written" >&3
wait_for "$wrote" 45 || {
	echo "replication says: $(replica_field Last_IO_Error) $(replica_field Last_SQL_Error)"
	exit 1
}
# There is somebody again who acknowledges.
semi_sync_sql on | sql_at "$writer_at" || exit 1
rm -f "$book/fenced"
