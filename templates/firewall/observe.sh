# Prints what the firewall is, a line a fact. Reads only, few forks.
fw_state=$ROOT/var/lib/infra
fw_backend=
if plain "$fw_state/firewall.rules"; then
	while read -r fw_word fw_rest; do
		printf 'rule %s %s\n' "$fw_word" "$fw_rest"
		case $fw_word in backend) fw_backend=$fw_rest ;; esac
	done <"$fw_state/firewall.rules"
	fw_sum= fw_want=
	if plain "$fw_state/firewall.live"; then read -r fw_want <"$fw_state/firewall.live" || :; fi
	case $fw_backend in
	nftables) fw_sum=$({ LIVE_NFTABLES; } | sha256sum) fw_now=$( BOOT_NFTABLES ) ;;
	iptables) fw_sum=$({ LIVE_IPTABLES; } | sha256sum) fw_now=$( BOOT_IPTABLES ) ;;
	*) fw_now= ;;
	esac
	[ -n "$fw_want" ] && [ "${fw_sum%% *}" = "$fw_want" ] && printf 'intact\n'
	fw_old=
	if plain "$fw_state/firewall.boot"; then
		while IFS= read -r fw_line; do fw_old="$fw_old${fw_old:+
}$fw_line"; done <"$fw_state/firewall.boot"
	fi
	[ -n "$fw_old" ] && [ "$fw_now" = "$fw_old" ] && printf 'boot\n'
fi
if plain "$ROOT/run/infra/firewall.armed" && read -r fw_line <"$ROOT/run/infra/firewall.armed"; then printf 'armed\n'; fi
# These two are others' own: a link of theirs to a file is read as their daemons read it.
# ufw's unit is active even where ufw is switched off.
if [ -f "$ROOT/etc/ufw/ufw.conf" ]; then
	while read -r fw_line; do case $fw_line in ENABLED=yes*) printf 'ufw on\n' ;; esac; done <"$ROOT/etc/ufw/ufw.conf"
fi
if [ -f "$ROOT/etc/nftables.conf" ]; then
	while read -r fw_line; do case $fw_line in 'flush ruleset'*) printf 'flushes /etc/nftables.conf\n' ;; esac; done <"$ROOT/etc/nftables.conf"
fi
# Tables of the old interface: the files name them only where they were made. Their size is always told as 0.
if read -r fw_line 2>/dev/null </proc/net/ip_tables_names || read -r fw_line 2>/dev/null </proc/net/ip6_tables_names; then
	for fw_line in iptables-legacy-save ip6tables-legacy-save; do
		# Rules that accept, and those of containers, decide nothing against ours; our own may stand there too.
		command -v $fw_line >/dev/null 2>&1 && $fw_line -t filter 2>/dev/null | grep -v INFRA- |
			grep -qE '^:(INPUT|OUTPUT) DROP|^-A (INPUT|OUTPUT) .*-j (DROP|REJECT)' && printf 'legacy %s\n' "$fw_line"
	done
fi
# What others do with what comes in and goes out, by their rules and not by their policy alone: a chain that all of a hook goes through,
# also by jumps that ask nothing, and that ends in a refusal; and a rule that asks for nothing but a port, and refuses it.
if command -v nft >/dev/null 2>&1; then
	nft -s -t list ruleset 2>/dev/null | awk '
		/^table / { table = $2 " " $3; next }
		/^\tchain / { chain = table SUBSEP $2; of[chain] = table; over = table ~ /^inet infra/ || $2 ~ /^INFRA-/; next }
		chain == "" { next }
		/^\t}/ { chain = ""; next }
		/^\t\ttype .* hook / {
			for (i = 1; i < NF; i++) if ($i == "hook") hook = $(i + 1)
			if (!over && hook != "forward") { bases[++many] = chain; hooks[chain] = hook; ends[chain] = /policy drop/ }
			next
		}
		over { next }
		{
			gsub(/^[ \t]+|counter (name "[^"]*" |packets [0-9]+ bytes [0-9]+ )?| comment ".*"$/, "")
			gsub(/log( prefix "[^"]*")?( group [0-9]+)?( level [a-z]+)?( flags (all|ether|skuid|ip options|tcp [a-z,]+))? /, "")
			if (/^(drop|reject|xt target "(DROP|REJECT)")/) over = ends[chain] = 1
			else if (/^(accept|return)$/) { over = 1; if (/^accept/) ends[chain] = 0 }
			else if (/^(jump|goto) [^ ]+$/) jumps[chain] = jumps[chain] " " $2
			else if (/^(iif(name)? "?[^ ]+"? )?((meta l4proto|ip protocol) (tcp|udp) )?(tcp|udp) dport (\{ [0-9, -]+ \}|[0-9-]+) (drop|reject)/) {
				match($0, /(tcp|udp) dport (\{ [0-9, -]+ \}|[0-9-]+)/)
				ports = substr($0, RSTART, RLENGTH)
				proto = substr(ports, 1, 3)
				gsub(/[^0-9,-]/, "", ports)
				shut[chain] = shut[chain] " " proto ":" ports
			}
		}
		function walk(c,   n, i, to) {
			if (seen[c]++) return
			if (ends[c]) dead = 1
			found = found shut[c]
			n = split(jumps[c], to, " ")
			for (i = 1; i <= n; i++) walk(of[c] SUBSEP to[i])
		}
		END {
			for (b = 1; b <= many; b++) {
				c = bases[b]; dead = 0; found = ""
				split("", seen)
				walk(c)
				if (dead) print "drops " hooks[c] " " of[c]
				n = split(found, one, " ")
				for (i = 1; i <= n; i++) { split(one[i], part, ":"); print "shuts " hooks[c] " " part[1] " " part[2] " " of[c] }
			}
		}'
fi
# Who forwards: the switch of a family, or of one of its interfaces.
for fw_line in /proc/sys/net/ipv4/ip_forward /proc/sys/net/ipv6/conf/all/forwarding /proc/sys/net/ipv[46]/conf/*/forwarding; do
	case $fw_line in */default/* | */lo/*) continue ;; esac
	fw_rest=0
	read -r fw_rest 2>/dev/null <"$fw_line" || :
	if [ "$fw_rest" = 1 ]; then printf 'forwards %s\n' "${fw_line#/proc/sys/}"; break; fi
done
# Whom the host asks for names, packages and time, without what may be secret in an address.
for fw_line in "$ROOT/run/systemd/resolve/resolv.conf" "$ROOT/etc/resolv.conf"; do
	[ -f "$fw_line" ] || continue
	while read -r fw_word fw_rest; do
		case $fw_word in nameserver) printf 'asks udp 53 %s its name server\n' "${fw_rest%%[ 	%]*}" ;; esac
	done <"$fw_line"
	break
done
cat "$ROOT"/etc/apt/apt.conf "$ROOT"/etc/apt/apt.conf.d/* 2>/dev/null |
	sed -n 's|^[^#/]*[Pp]roxy[^"]*"[a-z]*://\([^"/]*@\)*\([^"/@]*\):\([0-9][0-9]*\).*|asks tcp \3 \2 the proxy of apt|p'
cat "$ROOT"/etc/chrony/chrony.conf "$ROOT"/etc/chrony/conf.d/*.conf "$ROOT"/etc/chrony/sources.d/*.sources 2>/dev/null | awk '
	/^[ \t]*(server|pool|peer)[ \t]/ {
		port = 123
		for (i = 3; i < NF; i++) if ($i == "port") port = $(i + 1)
		print "asks udp " port " " $2 " its time server"
		nts = 0; port = 4460
		for (i = 3; i <= NF; i++) { if ($i == "nts") nts = 1; if ($i == "ntsport") port = $(i + 1) }
		if (nts) print "asks tcp " port " " $2 " its time server (NTS)"
	}'
# Docker, podman, libvirt and their kind: bridges of their own, and forwarding switched on.
if [ -d "$ROOT/sys/class/net/docker0" ] || [ -e "$ROOT/etc/docker" ]; then printf 'guest docker\n'; fi
fw_line=0
read -r fw_line 2>/dev/null </proc/sys/net/ipv4/ip_forward || :
if [ "$fw_line" = 1 ]; then
	for fw_line in /sys/class/net/docker0 /sys/class/net/br-* /sys/class/net/podman* /sys/class/net/cni* /sys/class/net/virbr* /sys/class/net/lxdbr* /sys/class/net/incusbr*; do
		[ -e "$fw_line" ] && printf 'guest %s\n' "${fw_line##*/}"
	done
fi
