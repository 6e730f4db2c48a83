
# Run as: sh rollback.sh TOKEN. The old rules come back, unless someone else took the token (a confirmation) before.
trap '' HUP INT TERM PIPE
dir=${0%/*}
token=$1
mv "$token" "$dir/rolling-back" 2>/dev/null || exit 0
if restore "$dir" >"$dir/rollback.log" 2>&1; then
	records_back
	: >"$dir/rolled-back"
else
	: >"$dir/rollback-failed"
fi
if [ -f "$marker" ] && [ "$(cat "$marker" 2>/dev/null)" = "$token" ]; then rm -f "$marker"; fi
sync "$dir" 2>/dev/null || :
[ -e "$dir/rolled-back" ]
