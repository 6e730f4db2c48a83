# Takes a tar stream on stdin, PHASE/PATH for each new file and PHASE.tasks/ for what is no file, and asks the daemons. Changes
# nothing outside of $run, and takes room elsewhere for a moment.
# The caller sets files, gones and folders, as for a commit, and also, what else will be written; its lines after this text: own, then
# in_views, and stage_end.

# A folder that is a link would take what we write into it elsewhere, here in the copy as there on the host.
ways_hold $files $gones /var/lib/infra/runs/- || refuse "${odd%% *}" "$odd"
set -- "$infra"/runs/*
# What was staged there is in place or was given up; the kept copies of the last ten runs stay, and of those that something is to be
# put back from still.
spared=' ' kept=''
# find_kept PHASE PATH DIGEST: which of the copies of before has these bytes, for what nobody but the host knows any more.
find_kept() {
	for copy in "$infra"/runs/*/old/*"$2"; do
		plain "$copy" && [ "$(sha256sum <"$copy")" = "$3  -" ] || continue
		from_run=${copy#"$infra/runs/"}
		spared="$spared${from_run%%/*} " kept="$kept$1:$2:$copy
"
		return
	done
	refuse "$2" 'the copy of it that this host kept is gone'
}
find_all_kept
# The last two that changed this host as a whole stay: what it is to be, and what it was before.
latest=''
for folder in "$@"; do
	plain "$folder/wanted" && plain "$folder/journal" && grep -qE '^[a-z]* (done|put back in part:.*)$' "$folder/journal" &&
		latest="${folder##*/} ${latest%% *}"
done
spared="$spared$latest "
for record in "$infra/undo" "$infra/unfinished"; do
	[ -e "$record" ] && read -r named phase <"$record" && spared="$spared$named "
done
while [ $# -gt 9 ]; do
	case $spared in *" ${1##*/} "*) ;; *) rm -rf "$1" ;; esac
	shift
done
for earlier in "$@"; do
	[ -L "$earlier" ] || rm -rf "$earlier/new" "$earlier/view" "$earlier/view.over"
done
if [ ! -d "$run" ] || [ -L "$run" ]; then rm -rf "$run"; fi
rm -rf "$run/new" "$run/view" "$run/view.over"
mkdir -p "$run/new" "$run/old" && tar -C "$run/new" --no-same-owner --no-same-permissions -xf - || {
	emit failed 'upload' && exit 10
}
while IFS=: read -r phase path copy; do
	[ -n "$copy" ] || continue
	mkdir -p "$run/new/$phase${path%/*}" && words=$(cp -T "$copy" "$run/new/$phase$path" 2>&1) || refuse "$path" "$words"
done <<END_OF_KEPT
$kept
END_OF_KEPT
# may_change PATH…: what stands there, and the folder that holds it, can be changed: it is not on a file system that may only be
# read, and is not immutable (chattr(1)). A view does not show that. The kernel says it of both to whoever asks whether he may write
# (access(2)), and nothing is touched by that: services tell by the times of their files whether they have read them. Only what seems
# not to change is tried, by the time of its last access, for the kernel's own words. Of a folder that is there nothing but its access
# changes, so the one above it may be as it likes. Sets holding: the folders.
may_change() {
	holding='' known=' '
	for path in "$@"; do
		if [ -d "$ROOT$path" ] && [ ! -L "$ROOT$path" ]; then
			holding="$holding $ROOT$path"
			continue
		fi
		folder=${path%/*}
		while [ -n "$folder" ] && [ ! -d "$ROOT$folder" ]; do folder=${folder%/*}; done
		case $known in *" $folder "*) ;; *) known="$known$folder " holding="$holding $ROOT$folder/." ;; esac
		[ ! -e "$ROOT$path" ] && [ ! -L "$ROOT$path" ] || holding="$holding $ROOT$path"
	done
	refusing=''
	for path in $holding; do
		[ -L "$path" ] || [ -w "$path" ] || refusing="$refusing $path"
	done
	# What may only grow is written to, and yet not replaced.
	[ -n "$refusing" ] || refusing=$(lsattr -d -- $holding 2>/dev/null | while read -r attributes path; do
		case $attributes in *[ai]*) printf ' %s' "$path" ;; esac
	done)
	[ -n "$refusing" ] || return 0
	words=$(touch -a -c -h -- $refusing 2>&1) && return
	# One of them is told, with its own reason.
	words=${words%%
*}
	path=${words#*\'}
	path=${path%%\'*}
	path=${path#"$ROOT"}
	path=${path%/.}
	case $words in
	*'Read-only file system'*)
		refuse "$path" "it is on a file system that may only be read: \`findmnt -T $path\` shows which, \`dmesg\` may say why"
		;;
	*'Operation not permitted' | *'Permission denied')
		refuse "$path" "${words##*: }; it is immutable most often then (an i or a in \`lsattr -d $path\`), which \`chattr -ia $path\` ends"
		;;
	esac
	refuse "$path" "$words"
}

# has_room FILE BYTES WHAT: so many find room there for a moment. As a new file only: who may write there could have put a link in its
# place.
has_room() {
	rm -f "$1"
	words=$(set -C && { head -c "$2" /dev/zero 2>&1 >"$1"; } 2>&1) || {
		rm -f "$1"
		refuse "$3" "$words"
	}
	rm -f "$1"
}

# room_elsewhere: what is new finds room also where a folder is on another file system than our own records.
room_elsewhere() {
	folders=''
	for path in $holding; do case $path in */.) folders="$folders $path" ;; esac done
	elsewhere=$(stat -c '%d %n' -- "$run/." $folders | awk 'NR == 1 { ours = $1 } $1 != ours')
	[ -n "$elsewhere" ] || return 0
	# What each of these file systems gets, by whole blocks, and one of the folders for it.
	needed=$(find "$run/new" -type f -printf '%s %P\n' | ELSEWHERE=$elsewhere awk -v root="$ROOT" '
		BEGIN {
			many = split(ENVIRON["ELSEWHERE"], lines, "\n")
			for (i = 1; i <= many; i++) { split(lines[i], words, " "); device[words[2]] = words[1] }
		}
		{
			path = $2
			sub(/^[^\/]*/, "", path)
			while (sub(/\/[^\/]*$/, "", path) && path != "") {
				folder = root path "/."
				if (folder in device) { all[device[folder]] += int($1 / 4096 + 1) * 4096; at[device[folder]] = folder; break }
			}
		}
		END { for (one in all) printf "%.0f %s\n", all[one], at[one] }')
	while read -r bytes path; do
		[ -n "$bytes" ] || continue
		folder=${path#"$ROOT"}
		has_room "$path/.infra-room" "$bytes" "${folder%/.}"
	done <<END_OF_NEEDED
$needed
END_OF_NEEDED
}

# What was before this run, whole or not at all, and what this run wants: the way back.
if [ ! -d "$run/before" ]; then
	rm -rf "$run/.before" && mkdir "$run/.before" || refuse 'the record of what was before' 'the disk may be full or read-only'
	for record in manifest firewall.rules; do
		plain "$infra/$record" || continue
		words=$(cp -T "$infra/$record" "$run/.before/$record" 2>&1) || refuse 'the record of what was before' "$words"
	done
	mv -T "$run/.before" "$run/before" || refuse 'the record of what was before' 'the disk may be full or read-only'
fi
for record in "$run"/new/records/*; do
	plain "$record" || continue
	mv -fT "$record" "$run/${record##*/}" || refuse 'the record of this run' 'the disk may be full or read-only'
done
# Room for what the phases keep of before is tried here: a host that has none refuses before any is changed.
room=$(for path in $files $gones; do
	[ ! -f "$ROOT$path" ] || stat -c %s "$ROOT$path"
done | awk '{ all += $1 } END { printf "%.0f", all + 262144 }')
has_room "$run/room" "$room" 'the copies of before'
may_change $files $gones $folders $also /var/lib/infra/manifest
room_elsewhere
journal "staged by $WHO"
# However this ends, what was laid over /etc or copied of it goes.
trap 'rm -rf "$run/view" "$run/view.over" "$run/view.sh"' EXIT

# own PHASE PATH OWNER GROUP MODE: the access that the file will have, set while nobody can reach it.
own() {
	words=$(chown "$3:$4" "$run/new/$1$2" 2>&1 && chmod "$5" "$run/new/$1$2" 2>&1) || refuse "$2" "$words"
}

# in_views TEXT: the lines of view.sh, and what is to be seen in the views, in a shell of its own; apart from all mounts of the host
# where that is possible. What it tells, and a refusal, is as if this script had told it.
in_views() {
	rm -f "$run/view.sh" && printf '%s\n' "$1" >"$run/view.sh" || refuse 'a view of /etc for the checks' 'the disk may be full or read-only'
	if [ -z "$ROOT" ] || unshare --mount --propagation private true 2>/dev/null; then
		unshare --mount --propagation private sh "$run/view.sh" "$ROOT" apart
	else
		sh "$run/view.sh" "$ROOT" ''
	fi
	case $? in
	0) ;;
	10) exit 10 ;;
	*) emit failed 'a view of /etc for the checks' && exit 10 ;;
	esac
}

stage_end() {
	find "$run/new" -type f -exec sync {} +
}
