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
if command -v nft >/dev/null 2>&1; then
	nft list chains 2>/dev/null | awk '
		/^table / { table = $2 " " $3 }
		/hook (input|output) .*policy drop/ && table !~ /^inet infra/ { for (i = 1; i < NF; i++) if ($i == "hook") print "drops " $(i + 1) " " table }'
fi
# Docker, podman, libvirt and their kind: bridges of their own, and forwarding switched on.
if [ -d "$ROOT/sys/class/net/docker0" ] || [ -e "$ROOT/etc/docker" ]; then printf 'guest docker\n'; fi
fw_line=0
read -r fw_line 2>/dev/null </proc/sys/net/ipv4/ip_forward || :
if [ "$fw_line" = 1 ]; then
	for fw_line in /sys/class/net/docker0 /sys/class/net/br-* /sys/class/net/podman* /sys/class/net/cni* /sys/class/net/virbr* /sys/class/net/lxdbr* /sys/class/net/incusbr*; do
		[ -e "$fw_line" ] && printf 'guest %s\n' "${fw_line##*/}"
	done
fi
