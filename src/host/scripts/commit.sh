# One phase on one host: keeps the old copies, puts the new ones in place, lets the daemons follow, looks whether they
# work, and puts everything back if not. The new manifest comes on stdin. The caller sets PHASE and defines:
#   files    paths to put in place         gones   paths to remove
#   folders  paths to make, or to give their access                packages  names to install
#   follows  UNIT=swap|reload|restart|stop ...
#   tells    units that are told of files   holds   units that must restart once a person has confirmed it
#   marks    our own records of facts that a put-back takes back   undo    set where an earlier run's tasks are taken back
#   make_folders, sets, performs, probes   functions of this run; they call make, tell, perform, probe
#   leave   a function that tells who of before still serves, when all is done
#   receive                a function that takes the manifest and the input of each task from stdin
#   swap_by UNIT           gives a running unit its files, or fails and sets why
failed='' words='' advice=''

fail() {
	failed=$1 words=$2
	return 1
}

# take NAME BYTES: so many of stdin. A controller that died while it sent leaves fewer: nothing is begun then.
take() {
	taken=$(dd bs="$2" count=1 iflag=fullblock 2>/dev/null; echo .)
	[ "${#taken}" = "$(($2 + 1))" ] || exit 10
	taken=${taken%.}
	eval "$1=\$taken"
}

# What cannot be kept is told in the system's own words, most often that the disk is full.
keep() {
	out=$(keep_records 2>&1) || fail 'the copies of before' "$out" || return 1
	# What is kept until a restart is only ever made here; a boot takes it away, as it should.
	for mark in $holds; do [ -e "$ROOT/run/infra/held/$mark" ] || marks="$marks /run/infra/held/$mark"; done
	# By cat, as the shell does not say why it could not write.
	out=$(printf '%s\n' $files $gones $marks | cat 2>&1 >"$old.paths") || fail 'the copies of before' "$out" || return 1
	for path in $files $gones $marks; do
		if [ -e "$ROOT$path" ] || [ -L "$ROOT$path" ]; then
			# A link is kept as the link that it is.
			out=$(mkdir -p "$(dirname "$old$path")" 2>&1 && cp -aT "$ROOT$path" "$old$path" 2>&1) || fail "$path" "$out" || return 1
		else
			echo "$path" >>"$old.absent" || return 1
		fi
	done
	: >"$old.inactive"
	for entry in $follows; do
		systemctl -q is-active "${entry%%=*}" || echo "${entry%%=*}" >>"$old.inactive"
	done
	out=$(find "$old" "$old".* -type f -exec sync {} + 2>&1) || fail 'the copies of before' "$out" || return 1
	# From here to the end, a boot puts the old copies back: never half of a phase.
	out=$(record "$infra/unfinished" "$RUN $PHASE
" 2>&1) || fail "$infra/unfinished" "$out"
}

keep_records() {
	rm -rf "$old" "$old".*
	mkdir -p "$old" && : >"$old.absent" && : >"$old.begun" || return 1
	if [ -e "$infra/manifest" ]; then
		cp -aT "$infra/manifest" "$old.manifest" || return 1
	else
		: >"$old.no-manifest" || return 1
	fi
	[ ! -d "$new.tasks" ] || mv -T "$new.tasks" "$old.tasks"
}

owe() {
	mkdir -p "$infra/owed"
	for mark in $marks; do
		case $mark in /run/*) mkdir -p "$ROOT${mark%/*}" && record "$ROOT$mark" '' || return 1 ;; esac
	done
	# No put-back by itself takes these away: who was told of the new file must be told of the old one.
	for unit in $tells; do mkdir -p "$ROOT/run/infra/untold" && record "$ROOT/run/infra/untold/$unit" '' || return 1; done
	for entry in $follows; do
		owed=${entry#*=}
		# A reload reads what is on disk, so it pays for a swap too.
		[ "$owed" = swap ] && owed=reload
		record "$infra/owed/${entry%%=*}" "$owed
" || return 1
	done
}

put() {
	for path in $files; do
		out=$(mkdir -p "$(folder_of "$path")" 2>&1 && swap "$new$path" "$path" 2>&1) || fail "$path" "$out" || return 1
	done
	for path in $gones; do
		out=$(drop "$path" 2>&1) || fail "$path" "$out" || return 1
	done
}

# make FOLDER OWNER:GROUP MODE, for make_folders. What is not a folder is neither made one nor given away.
make() {
	out=$({ real_way "$1/-" || { echo "$odd" && false; }; } && mkdir -p "$ROOT$1" 2>&1 && chown "$2" "$ROOT$1" 2>&1 && chmod "$3" "$ROOT$1" 2>&1) ||
		fail "$1" "$out"
}

save_manifest() { record "$infra/manifest" "$manifest"; }

said_by() {
	systemctl --no-pager -n 0 status "$1" 2>&1 | sed -n '3,5p'
	journalctl -q --no-pager -o cat -n 12 -u "$1" --since "@$began" 2>/dev/null
}

# starts UNIT: whether a link starts it at boot, where its file is none that masks it. Forks nothing.
starts() {
	[ ! -L "$ROOT/etc/systemd/system/$1" ] && [ ! -L "$ROOT/run/systemd/system/$1" ] || return 1
	for link in "$ROOT"/etc/systemd/system/*.wants/"$1" "$ROOT"/etc/systemd/system/*.requires/"$1"; do
		[ -L "$link" ] && return 0
	done
	return 1
}

# follow UNIT swap|reload|restart|stop: a unit that does not run is started, so that a first run and a dead daemon need no other way.
follow() {
	began=$(date +%s)
	[ -z "$late" ] || fail "$1" 'the time for this step is over' || return 1
	if [ "$2" = stop ]; then
		out=$(timeout 120 systemctl disable --now "$1" 2>&1) || fail "$1" "$out"
		return
	fi
	starts "$1" || case $(systemctl is-enabled "$1" 2>/dev/null) in
	enabled* | static | alias | generated | indirect | transient) ;;
	*) out=$(systemctl -q enable "$1" 2>&1) || fail "$1" "$out" || return 1 ;;
	esac
	if systemctl -q is-active "$1"; then verb=$2; else verb=start && systemctl -q reset-failed "$1" 2>/dev/null; fi
	if [ "$verb" = swap ]; then
		swap_by "$1" && return
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

# tell UNIT PATH SCRIPT: a running daemon takes what stands in the file now. Nobody can tell it of a file that has gone again.
known_to=' '
tell() {
	if [ ! -e "$ROOT$2" ]; then
		case $known_to in *" $1:$2 "*) bad="$bad $1" ;; esac
		return 0
	fi
	known_to="$known_to$1:$2 "
	began=$(date +%s)
	journal "$PHASE tells $1 of $2"
	from="$ROOT$2"
	hear timeout -k 5 120 sh -c "$3" sh "$2" || fail "$1" "$heard
$(said_by "$1")"
	told=$?
	from=''
	return "$told"
}

forget_tells() { for unit in $tells; do rm -f "$ROOT/run/infra/untold/$unit"; done; }

# probe advisory|binding SECONDS TITLE COMMAND: again and again until it is seen or the time is over.
probe() {
	uptime
	end=$((up + $2))
	until hear timeout -k 2 20 sh -c "$4"; do
		uptime
		if [ "$up" -ge "$end" ] || [ -n "$late" ]; then
			if [ "$1" = advisory ]; then emit advice "$3: $heard" && return 0; fi
			fail "$3" "$heard"
			return 1
		fi
		sleep 0.2
	done
}

# What was begun is taken back, the old copies come back, and the daemons with them. What did not run before is stopped again.
put_back() {
	undo_begun || unready=" $failed: $words"
	restore_files
	bad="$bad${unready-}"
	systemctl daemon-reload 2>/dev/null
	units=''
	for entry in $follows; do
		unit=${entry%%=*}
		if grep -qxF "$unit" "$old.inactive" 2>/dev/null; then
			timeout 60 systemctl -q stop "$unit" 2>/dev/null
			units="$units, $unit stopped again as before"
		elif [ "${entry#*=}" = stop ] && timeout 60 systemctl enable --now "$unit" 2>/dev/null; then
			units="$units, $unit runs again"
		elif { [ "${entry#*=}" != restart ] && systemctl -q is-active "$unit" && timeout 60 systemctl reload "$unit" 2>/dev/null; } ||
			timeout 90 systemctl restart "$unit" 2>/dev/null; then
			units="$units, $unit runs with the old configuration"
		else
			bad="$bad $unit"
		fi
	done
	sets || bad="$bad $failed"
	if [ -n "$bad" ]; then
		journal "$PHASE put back in part:$bad"
		emit put_back "not everything could be put back:$bad"
		exit 11
	fi
	for entry in $follows; do rm -f "$infra/owed/${entry%%=*}"; done
	forget_tells
	journal "$PHASE put back"
	files_word=files
	[ "$count" = 1 ] && files_word=file
	# Where nothing but packages was to come there is nothing to tell.
	[ -n "$packages" ] && [ "$count$units$undone$stays" = 0 ] && exit 10
	emit put_back "$count $files_word put back$undone$units$stays"
	[ -z "$stays" ] || exit 12
	exit 10
}

commit() {
	# What is told while a task runs goes where all answers go.
	exec 4>&1
	receive
	old="$run/old/$PHASE" new="$run/new/$PHASE"
	# Since all was staged, another may have been at work here.
	ways_hold $files $gones $marks "/var/lib/infra/runs/$RUN/old/-" /var/lib/infra/owed/- || refuse "${odd%% *}" "$odd"
	mkdir -p "$run" || exit 10
	journal "$PHASE begins"
	[ -z "$undo" ] || undo_earlier
	keep || {
		# Nothing was begun, and half a copy must not come back over what it was made from.
		rm -f "$infra/unfinished"
		refuse "${failed:-$PHASE}" "${words:-the disk may be full or read-only}"
	}
	if owe && make_folders && put && save_manifest && install_packages && follow_all && sets && performs && probes; then
		rm -f "$infra/unfinished"
		for entry in $follows; do
			rm -f "$infra/owed/${entry%%=*}"
			case ${entry#*=} in
			restart | stop) ;;
			*) grep -qxF "${entry%%=*}" "$old.inactive" || continue ;;
			esac
			rm -f "$ROOT/run/infra/held/${entry%%=*}" "$ROOT/run/infra/untold/${entry%%=*}"
		done
		forget_tells
		journal "$PHASE done"
		leave
		exit 0
	fi
	emit failed "${failed:-$PHASE}"
	emit words "${words:-the disk may be full or read-only}"
	journal "$PHASE failed at ${failed:-unknown}"
	put_back
}
