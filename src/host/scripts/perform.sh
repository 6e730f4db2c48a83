# Tasks that are no files, and the way back from them. Before the next one is begun, $old.begun has its number; $old.tasks has
# for each NUMBER: .do, .undo where there is one, .title, .limit (seconds), .makes (FILE VALUE for each fact); and while one runs
# .far and .says, through which it speaks, and .heard.

# told TITLE: how far it is, from stdin, to whoever looks on; a line a second, and after a minute one in ten: an answer has a bound.
told() {
	next=0 first=''
	while IFS= read -r line; do
		uptime
		[ "$up" -ge "$next" ] || continue
		next=$((up + 1)) first=${first:-$up}
		[ "$((up - first))" -lt 60 ] || next=$((up + 10))
		printf 'progress\0%.200s\0' "$1: $line" >&4
	done
}

# attempt SCRIPT: runs it in a process group of its own, of which nothing is left when this ends. Its input is in input. Sets heard,
# the first 64 KiB of what it says, and gives its status. Who has left its group, and holds its outputs still, is not waited for.
attempt() {
	heard='' result=1
	rm -f "$task.far" "$task.says" "$task.heard" && mkfifo "$task.far" "$task.says" || return 1
	(trap '' TERM && exec 8>&- <"$task.far" && told "$title") &
	far=$!
	# Written as it is read, so that all of it is there whenever this is ended.
	(trap '' TERM && exec 4>&- 8>&- 2>/dev/null <"$task.says" >"$task.heard" &&
		dd bs=4096 count=65536 iflag=count_bytes && exec cat >/dev/null) &
	says=$!
	{ (exec 2>/dev/null 4>&- 8>&- && printf '%s' "$input") & } |
		timeout -k 5 "$limit" sh "$1" >"$task.says" 2>&1 3>"$task.far" 4>&- 8>&- &
	ended "$!"
	result=$?
	(exec >/dev/null 2>&1 4>&- 8>&- && sleep 5 && kill -s KILL "$far" "$says") &
	wait "$far" "$says"
	kill "$!" 2>/dev/null
	heard=$(cat "$task.heard")
	rm -f "$task.far" "$task.says" "$task.heard"
	return "$result"
}

# perform NUMBER: its input is in input_NUMBER, and goes to it through a pipe and no other way.
perform() {
	task="$old.tasks/$1"
	IFS= read -r title <"$task.title" && read -r limit <"$task.limit" || return 1
	[ -z "$late" ] || fail "$title" 'the time for this phase is over' || return 1
	echo "$1" >>"$old.begun" && sync "$old.begun" && journal "$PHASE performs $title" || return 1
	eval "input=\$input_$1"
	attempt "$task.do" || {
		[ "$result" = 124 ] && heard="$heard
it did not end within $limit s"
		fail "$title" "$heard"
		return 1
	}
	mkdir -p "$infra/made" || return 1
	while read -r fact value; do
		record "$infra/made/$fact" "$value
" || return 1
	done <"$task.makes"
}

# undo_begun: takes back what was begun, the last one first. Says in undone what was, and in stays what cannot be; failed and
# words are those of the one that does not let itself be taken back.
undo_begun() {
	undone='' stays=''
	while [ -s "$old.begun" ]; do
		begun=$(cat "$old.begun")
		task="$old.tasks/${begun##*
}"
		IFS= read -r title <"$task.title" && read -r limit <"$task.limit" || { failed=$task words='its record is gone' && return 1; }
		if [ -e "$task.undo" ]; then
			journal "$PHASE undoes $title"
			input=''
			attempt "$task.undo" || { failed="undo of «$title»" words=$heard && return 1; }
			undone="$undone, «$title» undone"
		else
			stays="$stays, «$title» cannot be undone"
		fi
		case $begun in
		*'
'*) record "$old.begun" "${begun%
*}
" ;;
		*) record "$old.begun" '' ;;
		esac || return 1
	done
}

# undo_earlier: the same for the phase of an earlier run in which the host went down.
undo_earlier() {
	read -r earlier phase <"$infra/undo" || return 0
	ours=$old old="$infra/runs/$earlier/old/$phase"
	plain "$old.paths" || refuse "undo of $phase in run $earlier" "its records are gone from /var/lib/infra/runs: see what that \
run was to do, take it back by hand, and remove /var/lib/infra/undo"
	undo_begun || refuse "$failed" "$words"
	rm -f "$infra/undo" && sync "$infra" && old=$ours
	[ -z "$undone$stays" ] || emit note "of run $earlier, which was cut off: ${undone#, }${undone:+${stays:+, }}${stays#, }"
}
