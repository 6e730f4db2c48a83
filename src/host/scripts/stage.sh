# Takes a tar stream on stdin, PHASE/PATH for each new file, and asks the daemons. Changes nothing outside of $run.
# The caller's lines after this text: own, gone, folder, then stage_view, check, and stage_end.
for earlier in "$infra"/runs/*; do
	# What was staged there is in place or was given up; the kept copies of the last ten runs stay.
	rm -rf "$earlier/new" "$earlier/view"
done
ls -1d "$infra"/runs/* 2>/dev/null | sort -r | tail -n +10 | xargs -r rm -rf
rm -rf "$run"
mkdir -p "$run/new" "$run/old" && tar -C "$run/new" --no-same-owner --no-same-permissions -xf - || {
	emit failed 'upload' && exit 10
}
: >"$run/journal"
journal "staged by $WHO"
view="$run/view"
views=''

# own PHASE PATH OWNER GROUP MODE: the access that the file will have, set while nobody can reach it.
own() {
	words=$(chown "$3:$4" "$run/new/$1$2" 2>&1 && chmod "$5" "$run/new/$1$2" 2>&1) && return
	emit failed "$2"
	emit words "$words"
	exit 10
}

# stage_view with|without: /etc as it will be, in a copy; with what is to be removed last, or without it.
stage_view() {
	rm -rf "$view"
	mkdir -p "$view"
	cp -a "$ROOT/etc/." "$view/" || exit 1
	[ "$1" = with ] || for gone in $gones; do
		case $gone in /etc/*) rm -f "$view/${gone#/etc/}" ;; esac
	done
	for staged in "$run"/new/*/etc; do
		[ -d "$staged" ] && cp -a "$staged/." "$view/"
	done
	# Folders come into being with the access of the staging folder: let the daemons' own users through.
	for folder in $folders; do
		case $folder in /etc/*) mkdir -p "$view/${folder#/etc/}" ;; esac
	done
}

# check TITLE COMMAND: the daemon's own word, with the copy standing at /etc in a mount namespace of its own.
check() {
	if [ -n "$ROOT" ]; then
		words=$(sh -c "$2" 2>&1 </dev/null)
	else
		words=$(unshare --mount --propagation private sh -c 'mount --bind "$1" /etc && exec sh -c "$2"' sh "$view" "$2" 2>&1 </dev/null)
	fi && return
	emit failed "$1"
	emit words "$words"
	rm -rf "$view"
	exit 10
}

stage_end() {
	rm -rf "$view"
	find "$run/new" -type f -exec sync {} +
}
