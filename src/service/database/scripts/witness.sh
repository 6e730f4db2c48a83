# What this host sees of the writer that is taken for dead: a word for each way to it. old_at is its address; socket is the one of the
# database proxy, where there is one, which asks the writer for its role twice a second.
command -v socat >/dev/null || exit 0
# A server says who it is before it is asked.
seen=$(timeout 4 socat -u "TCP:${old_at}:3306,connect-timeout=3" STDOUT 2>/dev/null | head -c 1 | wc -c)
if [ "$seen" -gt 0 ]; then echo "server answers"; else echo "server silent"; fi
[ -S "$socket" ] || exit 0
echo 'show stat' | socat -t 5 - "UNIX-CONNECT:$socket" |
	awk -F, -v old="$old" '($1 == "writer" || $1 == "reader") && $2 == old && $18 ~ /^UP/ { up = 1 }
		END { print up ? "role answers" : "role silent" }'
