# What a seed has left on the host that was to get it is put back or put right: functions that need the dialect for the last state
# only. While data folders are exchanged the server is down, and a boot in that moment puts the old data back before it starts.
data=$(readlink -f /var/lib/mysql)
if mountpoint -q "$data"; then seed="$data/.infra-seed"; else seed="${data%/*}/.infra-seed"; fi
guard="/etc/systemd/system/$unit.d/infra-seed.conf"

# move_all FROM TO: every entry but our own folder and what the file system has for itself.
move_all() {
	for entry in "$1"/* "$1"/.[!.]*; do
		[ -e "$entry" ] || [ -L "$entry" ] || continue
		case $entry in "$seed" | */lost+found) continue ;; esac
		mv -t "$2" -- "$entry" || return 1
	done
	sync "$1" "$2"
}

# state WORD: copy (the data are untouched), out (the old data go aside), in (the new data come), whole (they are there).
state() { echo "$1" >"$seed/state.new" && sync "$seed/state.new" && mv -T "$seed/state.new" "$seed/state" && sync "$seed"; }

# The old data are where they were; may be cut off and done again.
data_back() {
	case $(cat "$seed/state" 2>/dev/null) in
	in | whole) mkdir -p "$seed/gone" && state in && move_all "$data" "$seed/gone" && state out || return 1 ;;
	esac
	case $(cat "$seed/state" 2>/dev/null) in
	out) move_all "$seed/old" "$data" && state copy ;;
	esac
}

forget_seed() {
	rm -f "$guard" && rmdir "${guard%/*}" 2>/dev/null
	rm -rf "$seed"
}
