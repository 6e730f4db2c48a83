# The proxy of this host leads the writes to $writer, and to nobody else; $socket is where it tells so.
until=$(($(date +%s) + 15))
while :; do
	# Without a proxy there is nothing to lead.
	[ -S "$socket" ] || exit 0
	up=$(echo 'show stat' | socat -t 5 - "UNIX-CONNECT:$socket" |
		awk -F, '$1 == "writer" && $2 != "BACKEND" && $18 ~ /^UP/ { printf "%s ", $2 }')
	[ "$up" != "$writer " ] || exit 0
	[ "$(date +%s)" -lt "$until" ] || break
	sleep 0.1
done
echo "the database proxy leads writes to ${up:-nobody }after 15 s, and not to $writer: its log says why (journalctl -u infra-db-proxy)"
exit 1
