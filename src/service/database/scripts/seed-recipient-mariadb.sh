# Gets a copy of a MariaDB server's files from the donor, prepares it, and makes this host a replica by it.
# Set before, beside what seed-lib.sh needs: donor_address, writer_address, patience (seconds).

# ask VERB: one question to the donor, in place of the shell that asks. The fifo has no end, so that a donor who is still busy is not cut off.
case $donor_address in *:*) peer="[$donor_address]" ;; *) peer=$donor_address ;; esac
peer="OPENSSL:$peer:4444,openssl-commonname=$donor,cafile=$infra_db/ca.crt,cert=$infra_db/client.crt,key=$infra_db/client.key"
peer="$peer,verify=1,openssl-min-proto-version=TLS1.2,connect-timeout=10,keepalive,keepidle=10,keepintvl=5,keepcnt=3"
ask() {
	rm -f "$seed/ask" && mkfifo "$seed/ask" && exec 5<>"$seed/ask" && echo "$1" >&5 || return 1
	exec socat -b 1048576 -T 600 - "$peer" <&5 2>"$seed/socat.log" 3>&-
}
said() { sed -n '$s/^.* [EW] //p' "$seed/socat.log"; }

may_be_replaced
begin

# --- the donor, and whether it fits
tries=0
until answer=$(ask hello) && [ -n "$answer" ]; do
	tries=$((tries + 1))
	[ "$tries" -lt 15 ] || fail "$donor does not answer on port 4444: $(said)"
	sleep 1
done
theirs=$(echo "$answer" | sed -n 1p) size=$(echo "$answer" | sed -n 2p)
ours=$(mariadbd --version | sed 's/^.*Ver \([0-9.]*\).*/\1/')
[ "${theirs%%-*}" = "$ours" ] ||
	fail "$donor has version ${theirs%%-*} and this host has $ours: a copy of files needs the same version on both"
case $size in '' | *[!0-9]*) fail "$donor does not say how large its data are" ;; esac
room "$size"

# --- the copy
mkfifo "$seed/stream" || exit 1
read -r began _ </proc/uptime
(ask copy >"$seed/stream") &
socat=$!
(
	was=0
	while sleep 1 && kill -0 "$socat" 2>/dev/null; do
		while read -r key value; do [ "$key" != wchar: ] || got=$value; done 2>/dev/null <"/proc/$socat/io" || break
		far "$got" "$size" "$was"
		was=$got
	done
) 5>&- &
watch=$!
mbstream -x -C "$seed/new" <"$seed/stream" >"$seed/mbstream.log" 2>&1
unpacked=$?
wait "$socat"
kill "$watch" 2>/dev/null
if [ ! -e "$seed/new/infra-seed-whole" ]; then
	free=$(df -B1 --output=avail "$seed" | tail -n 1)
	[ "$free" -gt 10000000 ] || fail "the disk beside $data became full while the copy came"
	why=$(ask why)
	fail "the copy from $donor broke off: $(said) $(cat "$seed/mbstream.log")
$why"
fi
[ "$unpacked" = 0 ] || fail "the copy could not be unpacked: $(cat "$seed/mbstream.log")"
rm -f "$seed/new/infra-seed-whole"
read -r ended _ </proc/uptime
logger -t infra-seed "$(du -sb "$seed/new" | cut -f 1) bytes in $(echo "$ended $began" | awk '{ printf "%.2f", $1 - $2 }') s from $donor"

tell "prepares the copy"
memory=$(awk '/^MemAvailable/ { printf "%.0f", $2 * 1024 / 4 }' /proc/meminfo)
[ "$memory" -lt 1073741824 ] || memory=1073741824
mariadb-backup --prepare --target-dir="$seed/new" --use-memory="$memory" >"$seed/prepare.log" 2>&1 ||
	fail "the copy could not be prepared: $(tail -n 3 "$seed/prepare.log")"

# The position of the copy: what the donor had in its own log, or, in a domain where that is less, what it had applied as a replica.
position=$(cat "$seed/new/mariadb_backup_binlog_info" "$seed/new/xtrabackup_binlog_info" 2>/dev/null | head -n 1 | cut -f 3)
applied=$(cat "$seed/new/mariadb_backup_slave_info" "$seed/new/xtrabackup_slave_info" 2>/dev/null | sed -n "s/^SET GLOBAL gtid_slave_pos *= *'\(.*\)'.*/\1/p" | head -n 1)
position=$(printf '%s\n' "$position,$applied" | tr , '\n' | awk -F- '
	NF == 3 && (!($1 in best) || $3 + 0 > best[$1] + 0) { best[$1] = $3; all[$1] = $0 }
	END { for (domain in all) { printf "%s%s", comma, all[domain]; comma = "," } }')
case $position in *[!0-9,-]*) fail "the copy has a position that does not read: $position" ;; esac
rm -f "$seed/new"/xtrabackup_* "$seed/new"/mariadb_backup_* "$seed/new/backup-my.cnf"
# What belongs to this installation and not to the data.
for file in "$data"/debian-*.flag "$data"/mysql_upgrade_info "$data"/mariadb_upgrade_info; do
	[ ! -e "$file" ] || [ -e "$seed/new/${file##*/}" ] || cp -a "$file" "$seed/new/" || exit 1
done
chown -R mysql:mysql "$seed/new" || exit 1

# It tells nobody that it has a commit: it is no replica yet, and a master of semi-synchronous replication may hang over one that comes
# and goes at once.
tell "starts on the copy"
try_with 600 mariadbd --user=mysql --datadir="$seed/new" --socket="$seed/run/sock" --pid-file="$seed/run/pid" --skip-networking \
	--read-only=ON --skip-slave-start --event-scheduler=OFF --rpl-semi-sync-master-enabled=OFF \
	--rpl-semi-sync-slave-enabled=OFF \
	--innodb-buffer-pool-size=134217728 --log-error="$seed/run/log"
{
	# Whoever follows this host later finds the position in its log.
	echo "RESET MASTER; SET GLOBAL gtid_binlog_state = '$position'; SET GLOBAL gtid_slave_pos = '$position';"
	forget_source_sql
	point_sql "$writer_address"
} | sql >"$seed/point.log" 2>&1 || fail "the copy could not be pointed at the writer: $(cat "$seed/point.log")"
# It follows up to a transaction at which the donor has told its checksums. Nobody else starts or stops it here.
tell "compares with the donor"
(ask compare) >"$seed/theirs" || fail "$donor did not tell its checksums: $(said)"
wanted=$(sed -n 1p "$seed/theirs") all=$(sed -n 2p "$seed/theirs")
sed 1,2d "$seed/theirs" | sort >"$seed/their-sums"
sql "START SLAVE UNTIL master_gtid_pos = '$wanted'" && reach "$wanted" "$patience" ||
	fail "the copy does not follow the writer up to $wanted: $(errors)"
sed "s/\t.*//; s/\./\`.\`/; s/.*/CHECKSUM TABLE \`&\`;/" "$seed/their-sums" | sql >"$seed/sums" && sort "$seed/sums" >"$seed/our-sums" ||
	fail "nothing could be compared"
differ=$(comm -3 "$seed/their-sums" "$seed/our-sums" | sed 's/^\t*//; s/\t.*//' | sort -u | tr '\n' ' ')
[ -z "$differ" ] || fail "the copy differs from $donor in $differ"
compared=$(wc -l <"$seed/our-sums")
if [ "$compared" = "$all" ]; then
	tell "all $all tables are equal by checksum"
else
	tell "$compared of $all tables are equal by checksum, the others were not compared"
fi
stop_replica_sql | sql || fail "the copy does not stop to follow"
tried

exchange
start_replica_sql | sql || back "replication does not start"
running Slave_IO_Running Slave_SQL_Running

# --- the old data go, and the rest is caught up with
wanted=$(ask position)
(ask end) >/dev/null
forget_seed
[ -n "$wanted" ] || fail "the replica runs, but $donor does not tell how far it has to come: infra db status"
reach "$wanted" "$patience" || fail "the replica runs, and has not caught up with $donor at $wanted: $(errors)"
# From now on a commit waits until it is here too.
semi_sync_sql on | sql_at "$writer_address" || fail "the replica runs, and the writer could not be told to wait for it: infra apply"
# A former writer that a failover had fenced is a replica like any other by now.
rm -f /var/lib/infra/db/fenced
