# /etc as it will be, and the daemons' word on it, in a shell of its own whose mounts are its own where `apart` says so. Changes nothing
# outside of $view and $over. The caller sets RUN, staged_files and gones, and defines make_folders, and calls stage_view and check.
umask 077
LC_ALL=C
export LC_ALL
ROOT=$1 apart=$2
run="$ROOT/var/lib/infra/runs/$RUN"
view="$run/view" over="$run/view.over"
late=''
trap 'late=1' TERM
refuse() {
	emit failed "$1"
	emit words "$2"
	exit 10
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

# laid_over: the view is /etc itself with what is written kept elsewhere, in memory; nobody outside sees it, and it ends with us. Not
# where something is mounted below /etc, which it would not show, and not where the kernel has it not.
laid_over() {
	[ -n "$apart" ] && ! grep -q " $ROOT/etc/" /proc/self/mountinfo && mkdir "$over" && mount -t tmpfs -o mode=700 tmpfs "$over" &&
		mkdir "$over/etc" "$over/work" && chown --reference="$ROOT/etc" "$over/etc" && chmod --reference="$ROOT/etc" "$over/etc" &&
		mount -t overlay -o "lowerdir=$ROOT/etc,upperdir=$over/etc,workdir=$over/work" overlay "$view"
}

# stage_view with|without: /etc as it will be; with what is to be removed last, or without it. Where it cannot be laid over the one that
# is there, it is a copy, in which what is neither a file nor a folder is what it is. A view that is not exactly what the daemons will
# read must not be believed.
stage_view() {
	if [ -n "$apart" ]; then umount "$view" "$over" 2>/dev/null; fi
	rm -rf "$view" "$over"
	mkdir "$view" || refuse 'a view of /etc for the checks' "$view cannot be made"
	if ! laid_over 2>/dev/null; then
		words=$(cp -a "$ROOT/etc/." "$view/" 2>&1) || refuse 'a copy of /etc for the checks' "$words"
	fi
	words=$(make_folders 2>&1) || refuse 'a view of /etc for the checks' "$words"
	if [ "$1" = without ]; then
		for gone in $gones; do
			case $gone in /etc/*) words=$(rm -f "$view/${gone#/etc/}" 2>&1) || refuse "$gone" "$words" ;; esac
		done
	fi
	for staged in $staged_files; do
		words=$(put_in_view "${staged%%:*}" "${staged#*:}" 2>&1) || refuse "${staged#*:}" "$words"
	done
}

# check TITLE COMMAND: the daemon's own word, with the view standing at /etc in a mount namespace of its own.
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
