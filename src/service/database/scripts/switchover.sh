# This host becomes the writer in place of the one at $old_at, named $old; patience is how many seconds the old one may stay fenced
# before it is put back to work. Until the promotion every failure puts it back; after it, never.
sql_limit=$((patience + 20))
stage=before

put_back() {
	trap '' TERM
	[ -z "${late-}" ] || kill "$late" 2>/dev/null
	[ "$stage" != promoting ] || start_replica_sql | sql
	[ "$stage" != before ] || return 0
	# By the same session where it lives: a fence that is still being set would stand after all.
	if old_asks "$(unfence_sql) SELECT @@GLOBAL.read_only;" && [ "${answer##*
}" = 0 ] || unfence_sql | sql_at "$old_at"; then
		echo "$old takes writes again"
	else
		echo "$old could not be asked to take writes again: it stays fenced, and nobody writes until \`infra apply\` sees all hosts of the group"
	fi
}
refuse() {
	echo "$1"
	put_back
	exit 1
}
trap 'refuse "it was told to end"' TERM

: >"$book/change.new"
talk here sql && exec 8>"$book/here.in" 9<"$book/here.out" || refuse "no client for the database could be started"
here_asks "$(role_sql)" || refuse "the database server of $me does not answer: $(cat "$book/here.err")"
role=$answer
alone || refuse "another change of the writer is under way on $me"
if [ "$role" != "$next $me" ]; then
	[ "$role" = "$epoch $old" ] || refuse "meanwhile the databases name another writer: epoch and writer are $role"
	talk old sql_at "$old_at" && exec 6>"$book/old.in" 7<"$book/old.out" || refuse "no client for the database could be started"
	old_asks "$(role_sql)" || refuse "$old does not let $me in: $(cat "$book/old.err")"
	[ "$answer" = "$epoch $old" ] || refuse "meanwhile $old names another writer: epoch and writer are $answer"

	far "$old takes no more writes"
	clock
	fenced_at=$now
	stage=fenced
	# Who writes for long would hold the fence up; who does not is through by then.
	(
		for time in 0.2 0.5 1 1; do
			sleep "$time"
			kill_clients "$old_at"
		done
	) >/dev/null 2>&1 &
	late=$!
	old_asks "$(
		patient_sql 3
		fence_sql
		echo 'SELECT @@GLOBAL.read_only;'
		sessions_sql
	)" || refuse "$old cannot be reached any more: $(cat "$book/old.err")"
	kill "$late" 2>/dev/null
	late=''
	case $answer in
	1*) ;;
	*) refuse "$old could not be fenced: something there writes and cannot be ended" ;;
	esac
	# Who was let in before still reads, and a few may write behind a fence.
	for session in ${answer#1}; do echo "KILL $session;"; done >&6

	far "$me takes over what $old has written"
	until=$((fenced_at + patience * 100))
	last=none
	while :; do
		old_asks "SELECT @@GLOBAL.read_only; $(executed_sql)" || refuse "$old cannot be reached any more: $(cat "$book/old.err")"
		case $answer in
		1*) ;;
		*) refuse "$old is no longer fenced" ;;
		esac
		# It is still fenced, and has nothing that this host does not have.
		[ "$answer" != "$last" ] || break
		last=$answer
		clock
		[ "$now" -lt "$until" ] || refuse "$me did not catch up with $old within $patience s"
		here_asks "$(wait_for_sql "${answer#1
}" $(((until - now) / 100 + 1)))" && [ "$answer" = 0 ] || refuse "$me did not catch up with $old within $patience s"
	done

	stage=promoting
	if ! promote; then
		[ "$(role_sql | sql)" = "$next $me" ] || refuse "$me could not be made the writer: $(cat "$book/here.err")"
	fi
	trap '' TERM
	if old_asks "$(shows_passwords_sql)" && [ "$answer" = 0 ]; then
		follows=$(follow_me_sql demote)
		old_asks "$follows" || echo "$old could not be made to follow $me: $(cat "$book/old.err")"
	else
		shows_passwords "$old"
	fi
fi
trap '' TERM
far "$me is the writer, and the others follow"
for at in $others; do { keeps_secrets "$at" && follow_me_sql '' | sql_at "$at"; } & done
open_up 3 || {
	echo "$me is named as the writer and does not take writes yet: run \`infra apply\`: $(cat "$book/here.err")"
	exit 1
}
say "epoch $next"
[ -z "${fenced_at-}" ] || say "stopped $((opened_at - fenced_at))"
prove "$old_at" $others || {
	echo "$me takes writes, but a row could not be written as a trial: $(cat "$book/here.err")"
	exit 1
}
exec 6>&- 8>&-
rm -f "$book"/here.* "$book"/old.*
mv "$book/change.new" "$book/change"
