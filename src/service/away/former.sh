# Says what workers of before a reload still hold: takes former, their process ids, and filter, the host and its ports as ss names them.
[ -n "$former" ] || exit 0
lines=$(ss -Htnp state established "( $filter )" 2>&1) || { echo "ss does not tell its connections: $lines"; exit 1; }
held=$(printf '%s\n' "$lines" | awk -v pids="$former" '
BEGIN { split(pids, all, " ") }
{ for (i in all) if (index($0, ",pid=" all[i] ",")) { held++; break } }
END { print held + 0 }')
[ "$held" != 0 ] || exit 0
connections=connections
[ "$held" != 1 ] || connections=connection
echo "still holds $held $connections to it, by a worker of before a reload"
exit 1
