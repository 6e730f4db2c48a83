# This host becomes the writer, as $old at $old_at is dead; patience is how many seconds what was received from it may take to be carried
# out. Nothing is put back: until this host is named as the writer nothing has changed but that it receives nothing more.
sql_limit=$((patience + 30))
refuse() {
	echo "$1"
	exit 1
}

: >"$book/change.new"
talk here sql && exec 8>"$book/here.in" 9<"$book/here.out" || refuse "no client for the database could be started"
here_asks "$(role_sql)" || refuse "the database server of $me does not answer: $(cat "$book/here.err")"
role=$answer
alone || refuse "another change of the writer is under way on $me"
if [ "$role" != "$next $me" ]; then
	[ "$role" = "$epoch $old" ] || refuse "meanwhile the databases name another writer: epoch and writer are $role"
	if answer=$(echo 'SELECT @@GLOBAL.read_only;' | sql_limit=5 sql_at "$old_at" 2>/dev/null) && [ "$answer" = 0 ]; then
		refuse "$me sees that $old is alive and takes writes: nothing was changed"
	fi
	# Somebody who waits there for an acknowledgement never gets it from here.
	here_asks "$(stop_receiving_sql)"
	far "$me carries out what it has received from $old"
	got=$(received) || refuse "$me does not tell what it has received"
	here_asks "$(wait_for_sql "$got" "$patience")" && [ "$answer" = 0 ] ||
		refuse "$me has received transactions up to $got, and did not carry them out within $patience s: $(cat "$book/here.err")"
	here_asks "SELECT CONCAT(at, ' ', COALESCE(NULLIF(semi_sync, ''), 'unknown')) FROM infra.heartbeat WHERE one = 1;" &&
		say "heartbeat $answer"
	say "received $got"
	if ! promote; then
		[ "$(role_sql | sql)" = "$next $me" ] || refuse "$me could not be made the writer: $(cat "$book/here.err")"
	fi
fi
trap '' TERM
far "$me is the writer"
for at in $others; do { keeps_secrets "$at" && follow_me_sql '' | sql_at "$at"; } & done
if [ -n "$others" ]; then wait=5; else wait=0; fi
open_up "$wait" || refuse "$me is named as the writer and does not take writes yet: run \`infra apply\`: $(cat "$book/here.err")"
say "epoch $next"
# Where every commit waits for a replica and none is there, a trial would wait too.
if [ -z "$strict" ] || [ "$attached" -gt 0 ]; then
	prove $others || refuse "$me takes writes, but a row could not be written as a trial: $(cat "$book/here.err")"
fi
exec 8>&-
rm -f "$book"/here.*
mv "$book/change.new" "$book/change"
