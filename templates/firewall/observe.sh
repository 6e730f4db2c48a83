# Prints what the firewall is, beside what its looks tell, a line a fact; our rules as nft has them come last, behind a line `ruleset`.
# Reads only. Where nobody else has rules, and none of the old interface are there, nft is the only process.
fw_backend=
[ -f var/lib/infra/firewall.rules ] && read -r fw_line fw_backend <var/lib/infra/firewall.rules
if [ "$fw_backend" = iptables ]; then printf 'live %s\n' "$({ LIVE_IPTABLES; } | sha256sum)"; fi
for fw_line in etc/systemd/system/infra-firewall.service.d/*; do
	if [ -e "$fw_line" ]; then printf 'boot %s\n' "$fw_line"; fi
done
# Tables of the old interface: the files name them only where they were made. Their size is always told as 0.
if read -r fw_line 2>/dev/null </proc/net/ip_tables_names || read -r fw_line 2>/dev/null </proc/net/ip6_tables_names; then
	for fw_line in iptables-legacy-save ip6tables-legacy-save; do
		# Rules that accept, and those of containers, decide nothing against ours; our own may stand there too.
		command -v $fw_line >/dev/null 2>&1 && $fw_line -t filter 2>/dev/null | grep -v INFRA- |
			grep -qE '^:(INPUT|OUTPUT) DROP|^-A (INPUT|OUTPUT) .*-j (DROP|REJECT)' && printf 'legacy %s\n' "$fw_line"
	done
fi
# Docker, podman, libvirt and their kind: bridges of their own, and forwarding switched on.
if [ -d sys/class/net/docker0 ] || [ -e etc/docker ]; then printf 'guest docker\n'; fi
fw_line=0
read -r fw_line 2>/dev/null </proc/sys/net/ipv4/ip_forward || :
if [ "$fw_line" = 1 ]; then
	for fw_line in /sys/class/net/docker0 /sys/class/net/br-* /sys/class/net/podman* /sys/class/net/cni* /sys/class/net/virbr* /sys/class/net/lxdbr* /sys/class/net/incusbr*; do
		[ -e "$fw_line" ] && printf 'guest %s\n' "${fw_line##*/}"
	done
fi
command -v nft >/dev/null 2>&1 || exit 0
# Without the elements of sets, of which others may have very many. Ours has some only where it says so.
fw_live=$(nft -s -t list ruleset 2>/dev/null)
fw_others=
IFS='
'
set -f
for fw_line in $fw_live; do
	case $fw_line in
	'table inet infra {' | 'table inet infra_block {') ;;
	'table '*) fw_others=1 && break ;;
	esac
done
set +f
unset IFS
case $fw_live in
*'table inet infra {
	set '* | *'table inet infra {
	map '*) fw_all=1 ;;
*) fw_all= ;;
esac
# What others do with what comes in and goes out, by their rules and not by their policy alone: a chain that all of a hook goes through,
# also by jumps that ask nothing, and that ends in a refusal; and a rule that asks for nothing but a port, and refuses it.
if [ -z "$fw_others" ]; then
	printf 'ruleset\n%s\n' "$fw_live"
else
	printf '%s\n' "$fw_live" | awk '
		/^table inet infra(_block)? [{]/ { ours = 1 }
		ours { kept = kept $0 "\n" }
		/^}/ { ours = 0 }
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
			printf "ruleset\n%s", kept
		}'
fi
if [ -n "$fw_all" ]; then
	printf 'all\n' && nft -s list table inet infra 2>&1
fi
