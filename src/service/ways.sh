# What stands on the way to a path. Nothing of ours is read, written, removed or given away through a link that we did not
# make, nor in a folder where anybody but root could put one: such a way is refused, and odd says why. ROOT is empty on a host.

# plain FILE: a regular file stands there, and no link to one.
plain() { [ -f "$1" ] && [ ! -L "$1" ]; }

# plain_or_none FILE: neither a link nor anything that could hold up or swallow what is written.
plain_or_none() { plain "$1" || { [ ! -e "$1" ] && [ ! -L "$1" ]; }; }

# real_way PATH: all folders on the way to it, as far as there are any, are real ones. Forks nothing.
real_way() {
	way='' left=${1#/}
	while :; do
		case $left in */*) way=$way/${left%%/*} left=${left#*/} ;; *) return 0 ;; esac
		if [ -L "$ROOT$way" ]; then
			odd="$way is a link, which is not followed: put a real folder there (a bind mount may bring the same files to it)"
			return 1
		fi
		[ -d "$ROOT$way" ] && continue
		[ -e "$ROOT$way" ] || return 0
		odd="$way is not a folder: move it away"
		return 1
	done
}

# ways_hold PATH…: the ways to all of them are real, and nobody but root may change what stands on them. The access of folders
# in $folders is set before anything is put there, so theirs may be wrong still.
ways_hold() {
	for folder in ${folders-}; do set -- "$@" "$folder/-"; done
	known=' '
	for path in "$@"; do
		real_way "$path" || return 1
		path=${path%/*}
		while [ -n "$path" ]; do
			case $known in *" $path "*) break ;; esac
			known="$known$path " path=${path%/*}
		done
	done
	set --
	for path in $known; do
		case " ${folders-} " in *" $path "*) ;; *) [ ! -d "$ROOT$path" ] || set -- "$@" "$ROOT$path" ;; esac
	done
	[ $# = 0 ] && return
	odd=$(find "$@" -maxdepth 0 '(' ! -user root -o -perm /022 ')' -print -quit) || {
		odd='the folders on the way cannot be looked at'
		return 1
	}
	[ -z "$odd" ] && return
	odd="${odd#"$ROOT"} can be changed by others than root: chown root and chmod go-w it"
	return 1
}
