# Lets the kernel tell what becomes of new connections to some ports for SECONDS, and what listens. It marks packets and judges none.
# $watched: lines of rules that mark; $seconds.
emit listens "$(ss -Hltn 2>/dev/null)"
emit own "$(ip -o addr show 2>/dev/null)"
if [ -z "$ROOT" ] && command -v nft >/dev/null; then
	untrace() { nft delete table inet infra_trace 2>/dev/null || :; }
	untrace
	trap untrace EXIT
	trap 'exit 1' HUP INT TERM PIPE
	if nft -f - <<END_OF_TRACE
table inet infra_trace {
	chain watched {
		type filter hook prerouting priority -450; policy accept;
$watched
	}
}
END_OF_TRACE
	then
		# It ends by the signal; its words are read as far as they go.
		traced=$(timeout "$seconds" nft monitor trace 2>/dev/null | head -c 200000)
		emit traced "$traced"
	fi
	untrace
	trap - EXIT
fi
