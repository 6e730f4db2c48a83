# Says who holds a connection: takes filter, the ports as ss names them, and names, ADDRESS=HOST.
look() { lines=$(ss -Htn state established "( $filter )") && printf '%s\n' "$lines" | awk 'NF { print $3, $4 }'; }
command -v ss >/dev/null || { echo 'it has no `ss` (package iproute2), which tells its connections'; exit 1; }
first=$(look) && sleep 1 && second=$(look) || { echo 'ss does not tell its connections'; exit 1; }
printf '%s\n-\n%s\n' "$first" "$second" | awk -v names="$names" '
BEGIN { split(names, all, " "); for (i in all) { split(all[i], pair, "="); name[pair[1]] = pair[2] } }
$1 == "-" { again = 1; next }
!again { before[$0] = 1; next }
$0 != "" && before[$0] {
	held++
	peer = $2
	sub(/:[0-9]+$/, "", peer)
	from[peer in name ? name[peer] : peer]++
}
END {
	if (!held) exit 0
	for (one in from) list = list (list == "" ? "" : ", ") one
	print "still holds " held (held == 1 ? " connection" : " connections") ", from " list
	exit 1
}'
