# The writer of until now takes no writes any more, whatever state it is in: its server is stopped, and whoever starts it again finds
# the mark, so that it stays fenced. Set before: unit, and writer, the one that comes.
book=/var/lib/infra/db
umask 077
mkdir -p "$book"
printf 'a failover made %s the writer; `infra db rejoin` brings this host back\n' "$writer" >"$book/fenced.new" &&
	sync "$book/fenced.new" && mv "$book/fenced.new" "$book/fenced" && sync "$book" || exit 1
echo "the database server is stopped" >&3
timeout 20 systemctl stop "$unit" 2>/dev/null || systemctl kill --signal=KILL "$unit"
for tenth in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
	state=$(systemctl show --property=ActiveState --value "$unit")
	case $state in inactive | failed) exit 0 ;; esac
	sleep 0.5
done
echo "$unit does not end: it is $state"
exit 1
