# Functions of all firewall scripts. ROOT is empty on a real host.
set -u
umask 077
PATH=$PATH:/usr/sbin:/sbin
ROOT=${ROOT-}
etc=$ROOT/etc/infra
state=$ROOT/var/lib/infra
marker=$ROOT/run/infra/firewall.armed
unit=infra-firewall.service
timer=infra-firewall-rollback
closer=infra-firewall-close

say() { printf '%s\n' "$*" >&2; }
has() { command -v "$1" >/dev/null 2>&1; }
systemd() { [ -d "$ROOT/run/systemd/system" ]; }

# put FILE MODE: stdin becomes FILE, whole and on disk, or FILE stays as it was. What stands there, or at the name of the new
# copy, is replaced and never written through.
put() {
	rm -f "$1.new" && cat >"$1.new" && chmod "$2" "$1.new" && sync "$1.new" && mv -fT "$1.new" "$1" && sync "${1%/*}"
}

# own_jumps SAVE TABLE: lines that remove the jumps to our chains that are there now.
own_jumps() {
	"$1" -t "$2" 2>/dev/null | sed -n 's/^-A \([A-Z]* -j INFRA-[A-Z]*\)$/-D \1/p'
}

# load_family iptables|ip6tables FILE: one transaction; our jumps come first again, bans stay.
load_family() {
	"$1" -w 10 -t raw -N INFRA-BAN 2>/dev/null || :
	{
		sed '/^# jumps of raw$/,$d' "$2"
		own_jumps "$1-save" raw
		sed -n '/^# jumps of raw$/,/^# jumps of filter$/p' "$2"
		own_jumps "$1-save" filter
		sed '1,/^# jumps of filter$/d' "$2"
	} | "$1-restore" -w 10 --noflush
}

# unload_family iptables|ip6tables: our jumps and chains are removed, if there are any.
unload_family() {
	has "$1-save" || return 0
	saved=$("$1-save" 2>/dev/null | grep -e '^\*' -e '^:INFRA-' -e '^-A [A-Z]* -j INFRA-[A-Z]*$') || :
	case $saved in *INFRA-*) ;; *) return 0 ;; esac
	printf '%s\n' "$saved" | awk '
		function done() { if (chains != "") print "*" table "\n" jumps flush chains "COMMIT"; jumps = flush = chains = "" }
		/^\*/ { done(); table = substr($0, 2) }
		/^:/ { name = substr($1, 2); flush = flush "-F " name "\n"; chains = chains "-X " name "\n" }
		/^-A [A-Z]* -j/ && $2 !~ /^INFRA-/ { jumps = jumps "-D " $2 " -j " $4 "\n" }
		END { done() }' | "$1-restore" -w 10 --noflush
}

unload_nft() {
	has nft || return 0
	printf '%s\n' 'table inet infra' 'delete table inet infra' 'table inet infra_block' 'delete table inet infra_block' | nft -f -
}

# snapshot_nft FILE: what brings our tables back as they are now; what was not there is deleted.
snapshot_nft() {
	has nft || return 0
	{
		printf '%s\n' 'table inet infra' 'delete table inet infra'
		nft -s list table inet infra 2>/dev/null
		if block=$(nft -s list chain inet infra_block pre 2>/dev/null); then
			# Temporary bans stay as they are at the time of the rollback: only the chain is refilled.
			printf '%s\n' 'add table inet infra_block' \
				'add set inet infra_block banned4 { type ipv4_addr; flags interval, timeout; auto-merge; }' \
				'add set inet infra_block banned6 { type ipv6_addr; flags interval, timeout; auto-merge; }' \
				'add chain inet infra_block pre { type filter hook prerouting priority -310; policy accept; }' \
				'flush chain inet infra_block pre' "$block"
		else
			printf '%s\n' 'table inet infra_block' 'delete table inet infra_block'
		fi
	} >"$1"
	nft -c -f "$1"
}

# snapshot_family iptables|ip6tables FILE: our chains in the form that load_family reads; an empty file if there are none.
snapshot_family() {
	has "$1-save" || return 0
	"$1-save" 2>/dev/null | awk '
		function add(t, text) { if (t == "raw") raw = raw text "\n"; else if (t == "filter") filter = filter text "\n" }
		/^\*/ { table = substr($0, 2); chains = "" }
		/^:INFRA-BAN / { next }
		/^:INFRA-/ { any = 1; add(table, $1 " - [0:0]") }
		/^-A INFRA-BAN / { next }
		/^-A INFRA-/ { add(table, $0) }
		/^-A [A-Z]* -j INFRA-[A-Z]*$/ && $2 !~ /^INFRA-/ { jumps[table] = jumps[table] "-I " $2 " 1 -j " $4 "\n" }
		END {
			if (any) printf "*raw\n%s# jumps of raw\n%sCOMMIT\n*filter\n%s# jumps of filter\n%sCOMMIT\n", raw, jumps["raw"], filter, jumps["filter"]
		}' >"$2"
}

# restore DIR: back to the snapshot in DIR. Rules of the old kind stand before those of the new kind go.
restore() {
	bad=0
	for f in iptables ip6tables; do
		if [ -s "$1/old.$f" ]; then load_family "$f" "$1/old.$f" || bad=1; fi
	done
	if [ -s "$1/old.nft" ]; then nft -f "$1/old.nft" || bad=1; fi
	for f in iptables ip6tables; do
		if [ -e "$1/old.$f" ] && [ ! -s "$1/old.$f" ]; then unload_family "$f" || bad=1; fi
	done
	return $bad
}

disarm() {
	if systemd; then
		systemctl stop "$timer.timer" >/dev/null 2>&1 || :
		systemctl reset-failed "$timer.service" >/dev/null 2>&1 || :
	fi
	# Without systemd the waiting shell ends by itself: its token is gone.
}
