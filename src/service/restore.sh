# Renames into place, and puts kept copies back. Used while a phase fails and, at boot, after one that was cut off.
# The caller sets infra, old and ROOT, and has ways.sh before this text.
folder_of() { d=${1%/*}; printf '%s' "$ROOT${d:-/}"; }

# on_disk FILE: its bytes are. A link or a FIFO has none, and a link's are another's.
on_disk() { ! plain "$1" || sync "$1"; }

# record FILE TEXT: becomes one of our own records, whole and on disk; what stood there, or at the name of the new copy, goes. Written by
# cat, as the shell does not say that a disk is full.
record() {
	new_copy="${1%/*}/.${1##*/}.new"
	rm -f "$new_copy" && printf '%s' "$2" | cat >"$new_copy" && sync "$new_copy" && mv -fT "$new_copy" "$1" && sync "${1%/*}"
}

# swap SOURCE PATH: rename into place on the same file system, with the bytes and the folder on disk. What stands there is
# replaced, never written through: neither at the path nor at the name of the new copy.
swap() {
	real_way "$2" || { echo "$odd" && return 1; }
	dir=$(folder_of "$2")
	temp="$dir/.${2##*/}.infra-new"
	if rm -f "$temp" && cp -aT "$1" "$temp" && on_disk "$temp"; then
		# A link that points to its own place is «the same file» for mv.
		if [ -L "$temp" ]; then rm -f "$ROOT$2"; fi
		mv -fT "$temp" "$ROOT$2" && sync "$dir" && return
	fi
	rm -f "$temp"
	return 1
}

# drop PATH: what stands there goes, and nothing that it points to.
drop() {
	real_way "$1" || { echo "$odd" && return 1; }
	rm -f "$ROOT$1" || return 1
	dir=$(folder_of "$1")
	[ ! -d "$dir" ] || sync "$dir"
}

# same SOURCE PATH: what stands there is the kept copy still, so that nothing is written on a disk that may be full.
same() {
	real_way "$2" || return 1
	[ -f "$1" ] && [ ! -L "$1" ] && [ ! -L "$ROOT$2" ] && cmp -s "$1" "$ROOT$2" &&
		[ "$(stat -c %a:%u:%g "$1")" = "$(stat -c %a:%u:%g "$ROOT$2")" ]
}

# restore_files: every path of the phase as it was before. Sets bad and count.
restore_files() {
	bad='' count=0
	while read -r path; do
		[ -n "$path" ] || continue
		if same "$old$path" "$path"; then
			:
		elif [ -e "$old$path" ] || [ -L "$old$path" ]; then
			swap "$old$path" "$path" >/dev/null 2>&1 || bad="$bad $path"
		elif grep -qxF "$path" "$old.absent" 2>/dev/null; then
			drop "$path" >/dev/null 2>&1 || bad="$bad $path"
		else
			continue
		fi
		case $path in
		/var/lib/infra/made/* | /run/infra/held/*) ;;
		*) count=$((count + 1)) ;;
		esac
	done <"$old.paths"
	if [ -e "$old.manifest" ]; then
		rm -f "$infra/.manifest.new" && cp -aT "$old.manifest" "$infra/.manifest.new" && mv -fT "$infra/.manifest.new" "$infra/manifest"
	elif [ -e "$old.no-manifest" ]; then
		rm -f "$infra/manifest"
	fi
	# What was begun and is no file is taken back by the next run, when the daemons run.
	if [ -s "$old.begun" ]; then mv -fT "$infra/unfinished" "$infra/undo" && sync "$infra"; else rm -f "$infra/unfinished"; fi
}
