# Says what is not so: takes socket, where the host tells its servers; backends, how the names of those that count begin; host; and mode:
# `alone`, host is the only one that is well; `leaving`, requests still go there; `returning`, requests do not go there yet.
said=$(echo 'show stat -1 4 -1' | socat -T 5 -t 5 - "UNIX-CONNECT:$socket" 2>&1) && [ -n "$said" ] ||
	{ echo "it does not tell where it sends requests: $said"; exit 1; }
# The columns are those of HAProxy's management guide, section 9.1.
printf '%s\n' "$said" | awk -F, -v host="$host" -v mode="$mode" -v backends="^$backends" '
# What is under way: a request, a stream, a websocket. Kept connections without one are none.
mode == "leaving" && $2 == host && $1 ~ /^web(\.|$)/ { busy += $5 }
$1 !~ backends { next }
$2 == host { state[$1] = $18; words[$1] = $18 " " $37 " " $38; next }
$18 ~ /^(UP|no check)/ { others[$1]++ }
END {
	for (one in state) {
		seen = 1
		program = one
		what = sub(/^program-/, "", program) ? "the program on port " program : "the site"
		well = state[one] ~ /^(UP|no check)/
		if (mode == "alone" && !others[one]) say = say "; has no other host than " host " that is well for " what
		if (mode == "leaving" && well) say = say "; still sends requests to " host
		# where no program is well, all are asked
		if (mode == "leaving" && !well && !others[one] && one ~ /^program-/) say = say "; sends requests to " host " all the same, as " what " is well on no other host"
		if (mode == "returning" && !well) { sub(/ +$/, "", words[one]); say = say "; sends no requests to " host " yet, for " what ": it sees it as " words[one] }
	}
	if (busy) say = say "; still has " busy (busy == 1 ? " request" : " requests") " under way on " host
	if (mode == "returning" && !seen) say = "; does not know of " host
	if (say == "") exit 0
	print substr(say, 3)
	exit 1
}'
