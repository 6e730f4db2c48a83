# The proxy of this host sends nothing to $host any more ($verb is `disable`), or again (`enable`); $socket is where it takes commands.
[ -S "$socket" ] || exit 0
for backend in writer reader; do
	said=$(echo "$verb server $backend/$host" | socat -t 5 - "UNIX-CONNECT:$socket" | tr -d '\n')
	[ -z "$said" ] || { echo "the database proxy does not $verb $host: $said"; exit 1; }
	[ "$verb" != disable ] || echo "shutdown sessions server $backend/$host" | socat -t 5 - "UNIX-CONNECT:$socket" >/dev/null
done
