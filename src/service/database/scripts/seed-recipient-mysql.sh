# Gets a copy of a MySQL server by its clone plugin, into a folder of its own, and makes this host a replica by it.
# Set before, beside what seed-lib.sh needs: donor_address, writer_address, patience (seconds).

may_be_replaced
begin
# The plugin makes the folder itself.
rmdir "$seed/new" && install -d -m 700 -o mysql -g mysql "$seed/clone" || exit 1

size=$(echo 'SELECT SUM(file_size) FROM information_schema.innodb_tablespaces' | sql_at "$donor_address") ||
	fail "$donor does not answer on port 3306"
room "$size"

# --- the copy. The password goes by a pipe, and the server writes it nowhere.
password=$(sed -n 's/^ *password *= *//p' "$infra_db/admin.cnf")
password=${password#[\"\']} password=${password%[\"\']}
[ -n "$password" ] || fail "$infra_db/admin.cnf has no password"
{
	echo "SET GLOBAL clone_valid_donor_list = '$donor_address:3306';
	SET GLOBAL clone_ssl_ca = '$infra_db/ca.crt'; SET GLOBAL clone_ssl_cert = '$infra_db/client.crt';
	SET GLOBAL clone_ssl_key = '$infra_db/client.key';
	CLONE INSTANCE FROM 'infra_admin'@'$donor_address':3306 IDENTIFIED BY $(quoted "$password")
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
mv -T "$seed/clone/new" "$seed/new" || exit 1
# This server stays who it is.
[ ! -e "$data/auto.cnf" ] || cp -a "$data/auto.cnf" "$seed/new/" || exit 1
for file in "$data"/debian-*.flag; do [ ! -e "$file" ] || cp -a "$file" "$seed/new/" || exit 1; done

try_with 600 mysqld --user=mysql --datadir="$seed/new" --socket="$seed/run/sock" --pid-file="$seed/run/pid" --skip-networking \
	--mysqlx=OFF --super-read-only=ON --skip-replica-start --event-scheduler=OFF --innodb-buffer-pool-size=134217728 \
	--log-error="$seed/run/log"
{ forget_source_sql && point_sql "$writer_address"; } | sql >"$seed/point.log" 2>&1 ||
	fail "the copy could not be pointed at the writer: $(cat "$seed/point.log")"
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
