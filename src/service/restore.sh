# Renames into place, and puts kept copies back. Used while a phase fails and, at boot, after one that was cut off.
# The caller sets infra, old and ROOT.
folder_of() { d=${1%/*}; printf '%s' "$ROOT${d:-/}"; }

# swap SOURCE PATH: rename into place on the same file system, with the bytes and the folder on disk.
swap() {
	dir=$(folder_of "$2")
	temp="$dir/.${2##*/}.infra-new"
	cp -a "$1" "$temp" && sync "$temp" && mv -fT "$temp" "$ROOT$2" && sync "$dir" && return
	rm -f "$temp"
	return 1
}

# same SOURCE PATH: what stands there is the kept copy still, so that nothing is written on a disk that may be full.
same() {
	[ -f "$1" ] && [ ! -L "$1" ] && [ ! -L "$ROOT$2" ] && cmp -s "$1" "$ROOT$2" &&
		[ "$(stat -c %a:%u:%g "$1")" = "$(stat -c %a:%u:%g "$ROOT$2")" ]
}

# restore_files: every path of the phase as it was before. Sets bad and count.
restore_files() {
	bad='' count=0
	while read -r path; do
		if same "$old$path" "$path"; then
			:
		elif [ -e "$old$path" ] || [ -L "$old$path" ]; then
			swap "$old$path" "$path" 2>/dev/null || bad="$bad $path"
		elif grep -qxF "$path" "$old.absent" 2>/dev/null; then
			rm -f "$ROOT$path" || bad="$bad $path"
		else
			continue
		fi
		count=$((count + 1))
	done <"$old.paths"
	if [ -e "$old.manifest" ]; then
		cp -a "$old.manifest" "$infra/.manifest.new" && mv -fT "$infra/.manifest.new" "$infra/manifest"
	else
		rm -f "$infra/manifest"
	fi
	rm -f "$infra/unfinished"
}
