# A replica follows its source with the password that stands in the file of credentials. Where it follows nobody, or by an account that
# is not infra's, there is nothing to do. What it has received is carried out first: changing the source throws its relay log away.
wait_up 60 || exit 1
source=$(replica_field '[A-Z][a-z]*_Host') || exit 1
[ -n "$source" ] && [ "$(replica_field '[A-Z][a-z]*_User')" = infra_repl ] || exit 0
io=$(replica_field '[A-Z][a-z]*_IO_Running') applies=$(replica_field '[A-Z][a-z]*_SQL_Running')
if [ "$applies" = Yes ]; then
	sql 'STOP REPLICA IO_THREAD' && wait_for "$(received)" 60 || {
		start_replica_sql | sql
		exit 1
	}
fi
statements=$(
	point_sql "$source" || exit 1
	[ "$io $applies" = 'No No' ] || start_replica_sql
) || exit 1
printf '%s\n' "$statements" | sql || exit 1
[ "$io $applies" != 'No No' ] || exit 0
until=$(($(date +%s) + 60))
until [ "$(replica_field '[A-Z][a-z]*_IO_Running')" = Yes ]; do
	[ "$(date +%s)" -lt "$until" ] || { echo "it does not follow $source: $(replica_field Last_IO_Error)"; exit 1; }
	sleep 0.2
done
