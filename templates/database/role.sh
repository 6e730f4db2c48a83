#!/bin/bash
# written by infra: tells which role the database server of this host has, by files in /run/infra-db that nginx serves to the group:
#   writer   the server takes writes, and the databases name this host
#   reader   it is a replica that runs, and no further behind than the inventory allows
#   epoch    the epoch, the writer that it names, and whether this server is `open` to writes or `fenced`
# What is not known for certain is not there. Once after each start of the server it also opens the writer, or starts a replica, where
# the whole group agrees on that; and it fences a writer whose place another host has taken. It never changes who writes.
{{ dialect }}
me={{ host }}
unit={{ unit }}
# the addresses of this host, and the other database hosts as NAME/ADDRESS, the one that they are asked at, then all others of theirs
own=({% for address in own %} {{ address }}{% endfor %} )
peers=({% for peer in peers %} {{ peer.name }}/{{ peer.address }}{% for other in peer.others %}/{{ other }}{% endfor %}{% endfor %} )
# milliseconds; a replica that was further behind is read again once it is no more than half as far behind
max_lag={{ max_lag }}
# set where no commit may ever go on without a replica
strict={% if strict %}yes{% endif %}
roles=/run/infra-db
# for which start of the server all was done that is done once, and why it waits
begun=/run/infra-db-begun why=/run/infra-db-waits
# from whom this host fetches what it has lost in a crash; as long as it is there, that source is not somebody's
fetches=/run/infra-db-fetches
# where a verb of infra keeps this host fenced
kept=/var/lib/infra/db/fenced

# Clients that ask again and again over one connection, statements on standard input: as root, and as infra's agent, which no fence lets
# through. Where the connection ends, or a statement fails, so do they.
keep_asking() {
	exec "$infra_client" --no-defaults --protocol=socket --socket="$infra_socket" --user=root --batch --skip-column-names --unbuffered \
		--skip-reconnect --connect-timeout=3
}
keep_beating() {
	exec "$infra_client" --defaults-file="$infra_db/agent.cnf" --protocol=socket --socket="$infra_socket" --batch --skip-column-names \
		--unbuffered --skip-reconnect --connect-timeout=3
}

# What a server of the group is asked for its role, and this host's own beside: all is told in lines; lag is in milliseconds, by the
# writer's heartbeat.
role_question="SELECT 'open', @@GLOBAL.read_only = 0; SELECT 'role', epoch, writer FROM infra.role WHERE one = 1;"
own_question="$role_question SELECT 'lag', TIMESTAMPDIFF(MICROSECOND, at, UTC_TIMESTAMP(6)) DIV 1000 FROM infra.heartbeat WHERE one = 1;
	$replication_question"

mkdir -p "$roles"
# Where a script of infra has made the folder above, it is root's alone; nginx, which is not root, goes through it.
chmod go+x "${roles%/*}"
# Nothing ever comes out of this pipe: to wait for it takes no process.
exec {never}<> <(:)
pause() { read -rt "$1" -u "$never" _; }

declare -A shown
for file in writer reader epoch; do shown[$file]=$(cat "$roles/$file" 2>/dev/null); done
# From now on the file $1 says $2; where that is nothing, the file is not there.
show() {
	[ "${shown[$1]-}" != "$2" ] || return 0
	if [ -n "$2" ]; then printf '%s\n' "$2" >"$roles/$1"; else rm -f "$roles/$1"; fi
	shown[$1]=$2
}

# The client that asks lives as long as its connection; when it ends, its answers do.
connect() {
	[ -z "$asker" ] || { kill "$asker" 2>/dev/null; exec {questions}>&- {answers}<&-; }
	exec {questions}<> <(:)
	exec {answers}< <(keep_asking <&"$questions" 2>/dev/null)
	asker=$!
	echo 'DELIMITER //' >&"$questions"
}

# What the server answers to $1, in `lines`; fails where it does not, or not in time.
ask() {
	local line
	lines=()
	printf "%s; SELECT '.'//\n" "$1" >&"$questions"
	while IFS= read -rt 2.5 -u "$answers" line || ended=$?; [ -z "$ended" ]; do
		[ "$line" != . ] || return 0
		lines+=("$line")
	done
	return 1
}

# The same; where somebody has ended the connection, over another one.
ask_surely() {
	ended=''
	ask "$1" && return
	# above 128 the time was over
	[ "$ended" -le 128 ] || return 1
	ended=''
	connect
	ask "$1"
}

# open, epoch, writer, lag, running, as the server tells them when it is asked $1, and of semi-synchronous replication semi_on (whether
# it is switched on), semi_sync (its state) and attached (replicas that acknowledge); what it does not tell is empty.
learn() {
	ask_surely "$1" || return 1
	open='' epoch='' writer='' lag='' running='' semi_on='' semi_sync='' attached=''
	for line in "${lines[@]}"; do
		IFS=$'\t' read -r what value more <<<"$line"
		case $what in
		open) open=$value ;;
		role) epoch=$value writer=$more ;;
		lag) lag=$value ;;
		running | Slave_running) running=$value ;;
		semi_on) semi_on=$value ;;
		Rpl_semi_sync_*_status) semi_sync=$value ;;
		Rpl_semi_sync_*_clients) attached=$value ;;
		esac
	done
}

tell() {
	local role='' limit=$max_lag
	[ -n "${shown[reader]-}" ] || limit=$((max_lag / 2))
	if [ "$open$writer" = "1$me" ]; then
		role=writer
	elif [ "$open$running" = 0ON ] && [ "$writer" != "$me" ] && [ -n "$lag" ] && [ "$lag" -le "$limit" ]; then
		role=reader
	fi
	for file in writer reader; do
		if [ "$file" = "$role" ]; then show "$file" "$me"; else show "$file" ''; fi
	done
	if [ "$open" = 1 ]; then file=open; else file=fenced; fi
	show epoch "${epoch:+$epoch $writer $file}"
}

# The writer's sign of life. Its commit may wait for a replica, so it has a connection of its own; its account has no right to write
# past a fence.
beat() {
	if [ -n "$beater" ] && read -rt 0 -u "$beats"; then
		if read -r -u "$beats" _; then awaited=''; else exec {beat}>&- {beats}<&-; beater=''; fi
	fi
	if [ -z "$beater" ]; then
		exec {beat}<> <(:)
		exec {beats}< <(keep_beating <&"$beat" 2>/dev/null)
		beater=$! awaited=''
	fi
	[ -z "$awaited" ] || return 0
	printf '%s\n' "UPDATE infra.heartbeat SET at = UTC_TIMESTAMP(6), writer = '$me', semi_sync = '$semi_sync' WHERE one = 1; SELECT 1;" >&"$beat"
	awaited=$SECONDS
}

# A replica whose host has lost its power leaves a connection that nobody ends. When that replica is back, the server ends the old one
# itself, and MariaDB hangs over that: nobody can log in any more, until the kernel gives the connection up, a quarter of an hour later.
# (The thread of the old connection waits for the one that reads acknowledgements, and that one for a word of the old connection.) So
# the connections of database hosts whose kernel has not answered, though a packet was sent again five times, for 6 s, end here. Where
# the kernel of this host cannot do that, nothing happens.
cut_silent() {
	local known=/ peer other
	for peer in "${peers[@]}"; do known+="${peer#*/}/"; done
	ss -Htno state established sport = :3306 2>/dev/null | awk -v known="$known" '
		match($0, /timer:\(on,[^,]*,[0-9]+\)/) {
			split(substr($0, RSTART + 7, RLENGTH - 8), timer, ",")
			from = $4
			sub(/:[0-9]+$/, "", from)
			gsub(/[][]|::ffff:/, "", from)
			if (timer[3] >= 5 && index(known, "/" from "/")) print $4
		}' | while read -r other; do
		echo "ends the connection of $other: nothing was heard of that host for too long"
		ss -HK state established sport = :3306 dst "$other" >/dev/null 2>&1
	done
}

# Whether a commit waits for a word of a replica, or has waited in vain.
misses_replica() {
	[ "$semi_on$semi_sync" = 1OFF ] || { [ -n "$awaited" ] && [ $((SECONDS - awaited)) -ge 3 ]; }
}

# From now on commits wait for the replica that is attached and has all: it came after this host had begun to write without one.
wait_for_replica() {
	[ "$semi_on" = 0 ] && [ "${attached:-0}" -gt 0 ] && [ ! -e "$kept" ] || return 0
	ask_surely "$caught_up_question" && [ "${lines[0]:-0}" -gt 0 ] || return 0
	ask_surely "$wait_for_replica_sql" && echo "commits wait for a replica from now on: one is attached"
}

# Why this host waits, to the journal, the same thing once; and to who asks for it on the host.
waits() {
	[ "$(cat "$why" 2>/dev/null)" = "$1" ] || { printf '%s\n' "$1" && printf '%s\n' "$1" >"$why"; }
	return 1
}

# What the database host $1 at $2 is: sets their_epoch, their_writer, their_open, their_source, their_position.
meet() {
	local seen
	seen=$({ echo "$role_question"; peer_question; } | sql_at "$2" 2>&1) || { waits "$1 does not answer: $(printf '%s\n' "$seen" | tail -n 1)"; return 1; }
	their_epoch='' their_writer='' their_open='' their_source='' their_position=''
	while IFS=$'\t' read -r what value more; do
		case $what in
		open) their_open=$value ;;
		role) their_epoch=$value their_writer=$more ;;
		source) their_source=$value ;;
		position) their_position=$value ;;
		esac
	done < <(printf '%s\n' "$seen" | peer_answer)
	[ -n "$their_epoch" ] || waits "$1 does not know who writes"
}

# Sets name and at, the address that it is asked at, of one of peers.
of_peer() { name=${1%%/*} at=${1#*/} at=${at%%/*}; }

is_own() { for address in "${own[@]}"; do [ "$1" != "$address" ] || return 0; done; return 1; }

# Nothing more is fetched.
fetched() { forget_source_sql | sql && rm -f "$fetches"; }

# This host is the writer that the databases name: it takes writes again when every other host agrees. What the server has lost in a
# crash, as no client was told that it was kept, may stand on a replica already: that is fetched first.
open_writer() {
	local follow=()
	[ ! -e "$kept" ] || { waits "this host stays fenced: $(cat "$kept")"; return 1; }
	# One that was cut off in the middle still has its source.
	[ ! -e "$fetches" ] || fetched || return 1
	for peer in "${peers[@]}"; do
		of_peer "$peer"
		meet "$name" "$at" || return 1
		[ "$their_epoch" -le "$epoch" ] || { waits "$name names $their_writer as the writer of epoch $their_epoch, after this host in $epoch"; return 1; }
		[ "$their_open" = 0 ] || { waits "$name takes writes"; return 1; }
		if lacks "$their_position"; then
			echo "fetches from $name what was lost here in a crash, up to $their_position"
			printf '%s\n' "$name" >"$fetches" && { point_sql "$at" demote && start_replica_sql; } | sql && wait_for "$their_position" 30
			came=$?
			fetched && [ "$came" = 0 ] || { waits "$name has what this host has lost, and it did not come: $their_position"; return 1; }
		fi
		! is_own "$their_source" || follow+=("$at")
	done
	for at in "${follow[@]}"; do start_replica_sql | sql_at "$at"; done
	# Already the first commit shall be held by two hosts.
	local until=$((SECONDS + 5)) attached=0
	while [ "$attached" = 0 ] && [ "${follow[*]}" ] && [ "$SECONDS" -lt "$until" ]; do
		pause 0.1
		attached=$(semi_clients_sql | sql)
	done
	if [ "$attached" = 0 ] && [ -z "$strict" ]; then semi_sync_sql off; else semi_sync_sql on; fi | sql
	[ ! -e "$kept" ] && unfence_sql | sql && echo "takes writes again: it is the writer of epoch $epoch, and all of the group agree"
}

# This host is a replica: it goes on where its source is still the writer.
start_replica() {
	source=$(replica_source)
	# Without one, it is for `infra apply` to say whom it follows.
	[ -n "$source" ] || return 0
	for peer in "${peers[@]}"; do
		case "$peer/" in *"/$source/"*) of_peer "$peer" ;; *) continue ;; esac
		meet "$name" "$at" || return 1
		[ "$their_writer" = "$name" ] && [ "$their_epoch" -ge "$epoch" ] ||
			{ waits "it follows $name, but the writer of epoch $their_epoch is $their_writer: infra apply"; return 1; }
		resume_replica "$source" && echo "follows $name again"
		return
	done
	waits "it follows $source, which is no host of the group: infra apply"
}

# Another host was made the writer while nobody could reach this one: as soon as a host of the group says so, it takes no more writes.
# By then the programs of the fleet may be led elsewhere, and whoever still writes here writes what nobody else will have.
step_down() {
	local peer what value more sql_limit=10
	for peer in "${peers[@]}"; do
		of_peer "$peer"
		while IFS=$'\t' read -r what value more; do
			[ "$what" = role ] && [ "$value" -gt "$epoch" ] && [ "$more" != "$me" ] || continue
			# Asked once more: it may have been made the writer again meanwhile.
			[ "$(sql "SELECT COUNT(*) FROM infra.role WHERE epoch < $value AND NOT @@GLOBAL.read_only")" = 1 ] || continue
			echo "takes no more writes: $name names $more as the writer of epoch $value, after this host in $epoch"
			{ patient_sql 3 && fence_sql; } | sql
			kill_clients
			return
		done < <(echo "$role_question" | sql_at "$at" 2>/dev/null)
	done
}

# What is done once after a start of the server, by a process of its own, as other hosts may be slow.
begin() {
	if [ "$writer" = "$me" ]; then open_writer; else start_replica; fi || return 1
	printf '%s\n' "$started" >"$begun"
	rm -f "$why"
}

# Sees to it that this is done, unless it was before this agent started, or somebody else has done it since.
settle() {
	# A writer that fetches what it has lost follows too, and is not through with that.
	if [ "$open" = 1 ] || { [ "$running" = ON ] && [ ! -e "$fetches" ]; }; then printf '%s\n' "$started" >"$begun"; fi
	settled=$(cat "$begun" 2>/dev/null)
	[ "$settled" != "$started" ] || { rm -f "$why"; return; }
	if [ -n "$starter" ] && kill -0 "$starter" 2>/dev/null; then
		[ "$SECONDS" -lt "$patience" ] || kill -- "-$starter"
	elif [ "$SECONDS" -ge "$again" ]; then
		# in a group of its own, so that its clients end with it
		set -m
		begin &
		set +m
		starter=$! patience=$((SECONDS + 60)) again=$((SECONDS + 3))
	fi
}

# where the server takes writes now, where it does not, and where that is not known
declare -A wait=([1]="$(await_change 0)" [0]="$(await_change 1)" [unknown]='DO 0')
asker='' beater='' open='' started='' settled='' starter='' again=0 looker='' look=0
connect
while :; do
	# The server itself waits, so that a change is seen at once and nothing else costs much.
	if learn "${wait[${open:-unknown}]}; $own_question"; then
		tell
		if [ -n "${shown[writer]-}" ]; then
			beat
			wait_for_replica
			! misses_replica || cut_silent
			if [ "$SECONDS" -ge "$look" ] && ! { [ -n "$looker" ] && kill -0 "$looker" 2>/dev/null; }; then
				step_down &
				looker=$! look=$((SECONDS + 10))
			fi
		fi
		[ -n "$started" ] || started=$(systemctl show -p InvocationID --value "$unit")
		[ -z "$epoch" ] || [ "$settled" = "$started" ] || settle
	else
		for file in writer reader epoch; do show "$file" ''; done
		started='' open=''
		cut_silent
		pause 1
		connect
	fi
done
