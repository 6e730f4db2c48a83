# Takes a tar stream on stdin, PHASE/PATH for each new file and PHASE.tasks/ for what is no file, and asks the daemons. Changes
# nothing outside of $run.
# The caller sets files, gones and folders, as for a commit; its lines after this text: make_folders, own, then stage_view,
# check, and stage_end.

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
for record in "$infra/undo" "$infra/unfinished"; do
	[ -e "$record" ] && read -r named phase <"$record" && spared="$spared$named "
done
while [ $# -gt 9 ]; do
	case $spared in *" ${1##*/} "*) ;; *) rm -rf "$1" ;; esac
	shift
done
for earlier in "$@"; do
	[ -L "$earlier" ] || rm -rf "$earlier/new" "$earlier/view"
done
if [ ! -d "$run" ] || [ -L "$run" ]; then rm -rf "$run"; fi
rm -rf "$run/new" "$run/view"
mkdir -p "$run/new" "$run/old" && tar -C "$run/new" --no-same-owner --no-same-permissions -xf - || {
	emit failed 'upload' && exit 10
}
while IFS=: read -r phase path copy; do
	[ -n "$copy" ] || continue
	mkdir -p "$run/new/$phase${path%/*}" && words=$(cp -T "$copy" "$run/new/$phase$path" 2>&1) || refuse "$path" "$words"
done <<END_OF_KEPT
$kept
END_OF_KEPT
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
journal "staged by $WHO"
view="$run/view"
# However this ends, the copy of /etc goes.
trap 'rm -rf "$view"' EXIT

# own PHASE PATH OWNER GROUP MODE: the access that the file will have, set while nobody can reach it.
own() {
	words=$(chown "$3:$4" "$run/new/$1$2" 2>&1 && chmod "$5" "$run/new/$1$2" 2>&1) || refuse "$2" "$words"
}

# put_in_view PHASE PATH: as the commit will: what stands there goes first, and is never written through.
put_in_view() {
	case $2 in /etc/*) ;; *) return 0 ;; esac
	to="$view/${2#/etc/}"
	[ -d "${to%/*}" ] || mkdir -p "${to%/*}" || return 1
	rm -f "$to" && cp -aT "$run/new/$1$2" "$to" && plain "$to" && cmp "$run/new/$1$2" "$to"
}

# make FOLDER OWNER:GROUP MODE, for make_folders.
make() {
	case $1 in /etc/*) ;; *) return 0 ;; esac
	to="$view/${1#/etc/}"
	mkdir -p "$to" && chown "$2" "$to" && chmod "$3" "$to"
}

# stage_view with|without: /etc as it will be, in a copy; with what is to be removed last, or without it. What is neither a file
# nor a folder is copied as what it is. A copy that is not exactly what the daemons will read must not be believed.
stage_view() {
	rm -rf "$view"
	mkdir "$view" && words=$(cp -a "$ROOT/etc/." "$view/" 2>&1) || refuse 'a copy of /etc for the checks' "$words"
	words=$(make_folders 2>&1) || refuse 'a copy of /etc for the checks' "$words"
	if [ "$1" = without ]; then
		for gone in $gones; do
			case $gone in /etc/*) words=$(rm -f "$view/${gone#/etc/}" 2>&1) || refuse "$gone" "$words" ;; esac
		done
	fi
	for staged in $staged_files; do
		words=$(put_in_view "${staged%%:*}" "${staged#*:}" 2>&1) || refuse "${staged#*:}" "$words"
	done
}

# check TITLE COMMAND: the daemon's own word, with the copy standing at /etc in a mount namespace of its own.
check() {
	if [ -n "$ROOT" ]; then
		hear env VIEW="$view" timeout -k 5 60 sh -c "$2" && return
	else
		hear timeout -k 5 60 unshare --mount --propagation private sh -c 'mount --bind "$1" /etc && exec sh -c "$2"' sh "$view" "$2" && return
	fi
	words=$heard
	# Whoever opens a FIFO waits for another at its other end, and so would the daemon.
	if [ $status = 124 ] || [ $status = 137 ]; then
		fifos=$(cd "$view" && find . -type p | sed 's/^\./a FIFO may hold it up: \/etc/')
		words="$words
it did not end within 60 s
$fifos"
	fi
	refuse "$1" "$words"
}

stage_end() {
	find "$run/new" -type f -exec sync {} +
}
