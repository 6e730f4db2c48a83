# Gets a copy of a MySQL server by its clone plugin, into a folder of its own, and makes this host a replica by it.
# Set before, beside what seed-lib.sh needs: donor_address, writer_address, patience (seconds).

# A server of its own on the data folder $2, which has $1 seconds to start.
copy_server() {
	try_with "$1" mysqld --user=mysql --datadir="$2" --socket="$seed/run/sock" --pid-file="$seed/run/pid" --skip-networking \
		--mysqlx=OFF --loose-rpl-semi-sync-replica-enabled=OFF --super-read-only=ON --skip-replica-start --event-scheduler=OFF --innodb-buffer-pool-size=134217728 \
		--log-error="$seed/run/log"
}

may_be_replaced
# Where AppArmor confines the server, it writes into folders that are named to AppArmor, and into no others.
confined=$(cat "/proc/$(systemctl show --property=MainPID --value "$unit")/attr/current" 2>/dev/null)
named=/etc/apparmor.d/local/usr.sbin.mysqld
case $confined in
*'(enforce)') grep -qsF "$seed/**" "$named" || fail "AppArmor keeps the database server of this host from $seed, where the copy comes to: add the \
line \`$seed/** rwk,\` to $named, run \`apparmor_parser -r /etc/apparmor.d/usr.sbin.mysqld\`, then run this again" ;;
esac
begin
# The plugin makes the folder itself.
rmdir "$seed/new" && install -d -m 700 -o mysql -g mysql "$seed/clone" || exit 1

size=$(echo 'SELECT SUM(file_size) FROM information_schema.innodb_tablespaces' | sql_at "$donor_address") ||
	fail "$donor does not answer on port 3306"
room "$size"

# --- the copy. It is a server that fetches it: the one of this host, or, where that does not answer, one that holds nothing. The
# password goes by a pipe, and the server writes it nowhere.
served=''
if ! is_up 2>/dev/null; then
	mysqld --user=mysql --initialize-insecure --datadir="$seed/clone/empty" --log-error="$seed/run/log" || fail "no server could be made to fetch the copy"
	copy_server 120 "$seed/clone/empty"
	served=1
fi
password=$(quoted_password replication) || fail "$infra_db/replication.cnf has no password"
{
	echo "SET GLOBAL clone_valid_donor_list = '$donor_address:3306';
	SET GLOBAL clone_ssl_ca = '$infra_db/ca.crt'; SET GLOBAL clone_ssl_cert = '$infra_db/client.crt';
	SET GLOBAL clone_ssl_key = '$infra_db/client.key';
	CLONE INSTANCE FROM 'infra_repl'@'$donor_address':3306 IDENTIFIED BY $password
		DATA DIRECTORY = '$seed/clone/new' REQUIRE SSL;"
} | sql >"$seed/clone.log" 2>&1 &
clone=$!
was=0
while sleep 1 && kill -0 "$clone" 2>/dev/null; do
	got=$(sql "SELECT data FROM performance_schema.clone_progress WHERE stage = 'FILE COPY'" 2>/dev/null)
	case $got in '' | *[!0-9]*) continue ;; esac
	far "$got" "$size" "$was"
	was=$got
done
wait "$clone" || fail "the copy from $donor failed: $(tail -n 3 "$seed/clone.log")"
[ -z "$served" ] || tried
mv -T "$seed/clone/new" "$seed/new" || exit 1
# This server stays who it is.
[ ! -e "$data/auto.cnf" ] || cp -a "$data/auto.cnf" "$seed/new/" || exit 1
for file in "$data"/debian-*.flag; do [ ! -e "$file" ] || cp -a "$file" "$seed/new/" || exit 1; done

tell "starts on the copy"
copy_server 600 "$seed/new"
{ point_sql "$writer_address" && start_replica_sql; } | sql >"$seed/point.log" 2>&1 ||
	fail "the copy could not be pointed at the writer: $(cat "$seed/point.log")"
# A server does not go on after a restart unless something has come from its source before. It tells nobody that it has a commit: it is no
# replica yet.
tries=0
until [ -n "$(replica_field Relay_Source_Log_File)" ]; do
	tries=$((tries + 1))
	[ "$tries" -lt 120 ] && [ -z "$(errors | tr -d ' ')" ] || fail "the copy does not follow the writer: $(errors)"
	sleep 0.5
done
stop_replica_sql | sql || fail "the copy does not stop to follow"
tried
exchange
tell "follows; the plugin has checked each page by its checksum, and tables were not compared"
start_replica_sql | sql || back "replication does not start"
running Replica_IO_Running Replica_SQL_Running

# --- the old data go, and the rest is caught up with
wanted=$(executed_sql | sql_at "$donor_address")
forget_seed
[ -n "$wanted" ] || fail "the replica runs, but $donor does not tell how far it has to come: infra db status"
reach "$wanted" "$patience" || fail "the replica runs, and has not caught up with $donor at $wanted: $(errors)"
# From now on a commit waits until it is here too.
semi_sync_sql on | sql_at "$writer_address" || fail "the replica runs, and the writer could not be told to wait for it: infra apply"
# A former writer that a failover had fenced is a replica like any other by now.
rm -f /var/lib/infra/db/fenced
