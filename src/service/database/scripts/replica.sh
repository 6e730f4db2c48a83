# Makes this host follow the writer of its group, `writer` at `address`. `from` says what it has: `nothing` that is anybody's; what it has
# as a `replica`, by `position` in a file, or as a former `writer` that has nothing which the new one lacks.
set -e
wait_up 60
{ fence_sql; semi_sync_sql off; } | sql
{ stop_replica_sql; } | sql
case $from in
nothing)
	held=$(sql "SELECT COUNT(*) FROM information_schema.schemata WHERE schema_name NOT IN ('information_schema', 'mysql', 'performance_schema',
		'sys', 'infra')")
	# Where it was cut off it follows already, and has got something by that.
	if [ -z "$(replica_field '[A-Z][a-z]*_Host')" ]; then
		[ "$held" = 0 ] || { echo "it holds $held schemas of somebody's: nothing is done to them"; exit 1; }
		forget_log_sql | sql
	fi
	statements=$(point_sql "$address")
	;;
position)
	from_position "$address" 300
	statements=$(point_sql "$address")
	;;
writer) statements=$(point_sql "$address" demote) ;;
*) statements=$(point_sql "$address") ;;
esac
printf '%s\n' "$statements" | sql
statements=''
start_replica_sql | sql
until=$(($(date +%s) + 60))
while :; do
	io=$(replica_field '[A-Z][a-z]*_IO_Running') applies=$(replica_field '[A-Z][a-z]*_SQL_Running')
	[ "$io $applies" != 'Yes Yes' ] || break
	# One that has stopped by itself does not start by itself.
	[ "$io" != No ] && [ "$applies" != No ] && [ "$(date +%s)" -lt "$until" ] || {
		echo "it does not follow $writer at $address:"
		replica_field Last_IO_Error
		replica_field Last_SQL_Error
		exit 1
	}
	sleep 0.2
done
goal=$(executed_sql | sql_at "$address")
if wait_for "$goal" 60; then
	says=$(sql 'SELECT writer FROM infra.role')
	[ "$says" = "$writer" ] || { echo "infra.role says that ${says:-nobody} writes, and not $writer"; exit 1; }
	# From now on a commit waits until it is here too.
	semi_sync_sql on | sql_at "$address"
else
	echo "it follows $writer, and has not caught up yet" >&3
fi
