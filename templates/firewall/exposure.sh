# Prints who listens on a host and who is connected, a line each, for the plan of its first rules:
#   listen|in|out PROTO ADDRESS PORT PEER PORT USER PROGRAM, where `-` is not known or does not matter
#   translated PROTO PORT ADDRESS    a port that is forwarded to a container or another host
#   range LOW HIGH                   the ports that the kernel gives to those who ask for none
#   blind, or more NUMBER            what could not be looked at, and what was left out
if ! command -v ss >/dev/null 2>&1; then
	printf 'blind\n'
else
	read -r fw_low fw_high </proc/sys/net/ipv4/ip_local_port_range && printf 'range %s %s\n' "$fw_low" "$fw_high"
	ss -Htunape 2>/dev/null | awk '
		function address(s) {
			sub(/:[^:]*$/, "", s); sub(/%.*/, "", s); gsub(/\[|\]/, "", s); sub(/^::ffff:/, "", s)
			return s
		}
		function port(s) { sub(/.*:/, "", s); return s }
		function tell(line) { if (!(line in told)) { told[line] = 1; if (++lines <= 400) print line } }
		{
			uid = 0
			if (match($0, / uid:[0-9]+/)) uid = substr($0, RSTART + 5, RLENGTH - 5)
			# Its program has ended, and with it is forgotten whose it was.
			if ($2 == "TIME-WAIT" || $2 == "FIN-WAIT-2" && $0 !~ /users:/) uid = "-"
			program = "-"
			if (match($0, /users:\(\("[^"]*"/)) program = substr($0, RSTART + 9, RLENGTH - 10)
			here = address($5) " " port($5)
			if ($2 == "LISTEN" || $2 == "UNCONN") {
				listens[$1 port($5)] = 1
				tell("listen " $1 " " here " - - " uid " " program)
			} else {
				many++
				kind[many] = $1; ours[many] = port($5); from[many] = address($5); to[many] = address($6); theirs[many] = port($6)
				who[many] = uid " " program
			}
		}
		END {
			# All that listens is known only now, and by it who was asked.
			for (i = 1; i <= many; i++) {
				if ((kind[i] ours[i]) in listens) tell("in " kind[i] " " from[i] " " ours[i] " " to[i] " - " who[i])
				else tell("out " kind[i] " " from[i] " - " to[i] " " theirs[i] " " who[i])
			}
			if (lines > 400) print "more " lines - 400
		}'
fi
# Ports of containers reach nobody who listens here. The tools of iptables are asked only where somebody uses them: to ask
# makes the kernel keep track of connections.
fw_guests=
for fw_line in /sys/class/net/docker0 /sys/class/net/br-* /sys/class/net/podman* /sys/class/net/cni* /sys/class/net/virbr*; do
	[ -e "$fw_line" ] && fw_guests=1
done
{
	if command -v nft >/dev/null 2>&1; then nft list ruleset 2>/dev/null; fi
	if [ -n "$fw_guests" ]; then
		for fw_line in iptables-save ip6tables-save; do
			command -v $fw_line >/dev/null 2>&1 && $fw_line -t nat 2>/dev/null
		done
	fi
} | awk '
	/ -j DNAT| dnat / {
		if (!match($0, /dport [0-9]+/)) next
		number = substr($0, RSTART + 6, RLENGTH - 6)
		proto = $0 ~ /udp/ ? "udp" : "tcp"
		where = "-"
		if (match($0, / -d [0-9a-f.:]+/)) where = substr($0, RSTART + 4, RLENGTH - 4)
		else if (match($0, / daddr [0-9a-f.:]+/)) where = substr($0, RSTART + 7, RLENGTH - 7)
		print "translated " proto " " number " " where
	}' | sort -u
