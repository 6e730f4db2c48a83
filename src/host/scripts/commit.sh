# One phase on one host: keeps the old copies, puts the new ones in place, lets the daemons follow, looks whether they
# work, and puts everything back if not. The new manifest comes on stdin. The caller sets PHASE and defines:
#   files    paths to put in place         gones   paths to remove
#   follows  UNIT=swap|reload|restart|stop ...                     swaps   those of files that a running daemon is given
#   make_folders, probes   functions of this run
failed='' words='' advice=''

fail() {
	failed=$1 words=$2
	return 1
}

keep() {
	mkdir -p "$old" && : >"$old.absent" && printf '%s\n' $files $gones >"$old.paths" || return 1
	for path in $files $gones; do
		if [ -e "$ROOT$path" ] || [ -L "$ROOT$path" ]; then
			mkdir -p "$(dirname "$old$path")" && cp -a "$ROOT$path" "$old$path" || return 1
		else
			echo "$path" >>"$old.absent" || return 1
		fi
	done
	: >"$old.inactive"
	for entry in $follows; do
		systemctl -q is-active "${entry%%=*}" || echo "${entry%%=*}" >>"$old.inactive"
	done
	if [ -e "$infra/manifest" ]; then cp -a "$infra/manifest" "$old.manifest"; fi
	find "$old" "$old".* -type f -exec sync {} +
	# From here to the end, a boot puts the old copies back: never half of a phase.
	echo "$RUN $PHASE" >"$infra/.unfinished" && sync "$infra/.unfinished" && mv -fT "$infra/.unfinished" "$infra/unfinished" && sync "$infra"
}

owe() {
	mkdir -p "$infra/owed"
	for entry in $follows; do
		owed=${entry#*=}
		# A reload reads what is on disk, so it pays for a swap too.
		[ "$owed" = swap ] && owed=reload
		echo "$owed" >"$infra/owed/${entry%%=*}" && sync "$infra/owed/${entry%%=*}" || return 1
	done
	sync "$infra/owed"
}

put() {
	for path in $files; do
		out=$(mkdir -p "$(folder_of "$path")" 2>&1 && swap "$new$path" "$path" 2>&1) || fail "$path" "$out" || return 1
	done
	for path in $gones; do
		out=$(rm -f "$ROOT$path" 2>&1 && sync "$(folder_of "$path")") || fail "$path" "$out" || return 1
	done
}

save_manifest() {
	printf '%s' "$manifest" >"$infra/.manifest.new" && sync "$infra/.manifest.new" &&
		mv -fT "$infra/.manifest.new" "$infra/manifest" && sync "$infra"
}

said_by() {
	systemctl --no-pager -n 0 status "$1" 2>&1 | sed -n '3,5p'
	journalctl -q --no-pager -o cat -n 12 -u "$1" --since "@$began" 2>/dev/null
}

# follow UNIT swap|reload|restart|stop: a unit that does not run is started, so that a first run and a dead daemon need no other way.
follow() {
	began=$(date +%s)
	if [ "$2" = stop ]; then
		out=$(systemctl disable --now "$1" 2>&1) || fail "$1" "$out"
		return
	fi
	case $(systemctl is-enabled "$1" 2>/dev/null) in
	enabled* | static | alias | generated | indirect | transient) ;;
	*) out=$(systemctl -q enable "$1" 2>&1) || fail "$1" "$out" || return 1 ;;
	esac
	if systemctl -q is-active "$1"; then verb=$2; else verb=start && systemctl -q reset-failed "$1" 2>/dev/null; fi
	if [ "$verb" = swap ]; then
		swap_all && return
		verb=reload
		why=$(printf '%s' "$why" | tr '\n' ' ')
		journal "$PHASE reload $1, as it could not be swapped: $why"
		emit advice "${1%.service} was reloaded, as the certificate could not be given to it while it runs: $why"
	fi
	out=$(timeout 120 systemctl "$verb" "$1" 2>&1) && systemctl -q is-active "$1" && return
	fail "$1" "$out
$(said_by "$1")"
}

follow_all() {
	for path in $files $gones; do
		case $path in /etc/systemd/system/*) systemctl daemon-reload && break ;; esac
	done
	for entry in $follows; do
		journal "$PHASE ${entry#*=} ${entry%%=*}"
		follow "${entry%%=*}" "${entry#*=}" || return 1
	done
}

# probe advisory|binding SECONDS TITLE COMMAND: again and again until it is seen or the time is over.
probe() {
	end=$(($(date +%s) + $2))
	until out=$(timeout 20 sh -c "$4" 2>&1 </dev/null); do
		if [ "$(date +%s)" -ge "$end" ]; then
			if [ "$1" = advisory ]; then emit advice "$3: $out" && return 0; fi
			fail "$3" "$out"
			return 1
		fi
		sleep 0.2
	done
}

# The old copies come back, and the daemons with them. What did not run before is stopped again.
put_back() {
	restore_files
	systemctl daemon-reload 2>/dev/null
	units=''
	for entry in $follows; do
		unit=${entry%%=*}
		if grep -qxF "$unit" "$old.inactive" 2>/dev/null; then
			systemctl -q stop "$unit" 2>/dev/null
			units="$units, $unit stopped again as before"
		elif [ "${entry#*=}" = stop ] && systemctl enable --now "$unit" 2>/dev/null; then
			units="$units, $unit runs again"
		elif { [ "${entry#*=}" != restart ] && systemctl -q is-active "$unit" && systemctl reload "$unit" 2>/dev/null; } ||
			systemctl restart "$unit" 2>/dev/null; then
			units="$units, $unit runs with the old configuration"
		else
			bad="$bad $unit"
		fi
	done
	if [ -n "$bad" ]; then
		journal "$PHASE put back in part:$bad"
		emit put_back "not everything could be put back:$bad"
		exit 11
	fi
	for entry in $follows; do rm -f "$infra/owed/${entry%%=*}"; done
	journal "$PHASE put back"
	files_word=files
	[ "$count" = 1 ] && files_word=file
	emit put_back "$count $files_word put back$units"
	exit 10
}

commit() {
	manifest=$(cat; echo .)
	# A controller that died while it sent leaves half a manifest: nothing is begun then.
	case $manifest in *"# end
.") manifest=${manifest%"# end
."} ;; *) exit 1 ;; esac
	old="$run/old/$PHASE" new="$run/new/$PHASE"
	journal "$PHASE begins"
	if keep && owe && make_folders && put && save_manifest && follow_all && probes; then
		rm -f "$infra/unfinished"
		for entry in $follows; do rm -f "$infra/owed/${entry%%=*}"; done
		journal "$PHASE done"
		exit 0
	fi
	emit failed "${failed:-$PHASE}"
	emit words "${words:-the disk may be full or read-only}"
	journal "$PHASE failed at ${failed:-unknown}"
	put_back
}
