# Makes this host, `me`, the first writer of its group: infra's own schema, in which it stands who writes, and `schemas`. Each part may be
# done already. Where nothing is anybody's yet (`fresh`), its log begins with these statements. `semi` says whether its commits wait for a
# replica from now on; `forget` is `yes` where it still has the source that it followed before it was named as the writer. The fence is lifted last, also one that was kept by a change of the writer that did not come to its end.
set -e
wait_up 60
[ "$fresh" != yes ] || [ "$(sql 'SELECT @@log_bin')" = 1 ] || { echo "the server has no binary log yet: it has not been restarted with its settings"; exit 1; }
own=$(sql "SELECT COUNT(*) FROM information_schema.tables WHERE table_schema = 'infra' AND table_name = 'role'")
writer=''
[ "$own" = 0 ] || writer=$(sql 'SELECT writer FROM infra.role')
fenced=$(sql 'SELECT @@read_only')
[ "$fenced" = 0 ] || admit_root_sql | sql
case $writer in
'') [ "$fresh" != yes ] || forget_log_sql | sql ;;
"$me") ;;
*) echo "infra.role says that $writer writes, and not $me"; exit 1 ;;
esac
[ "$forget" != yes ] || forget_source_sql | sql
[ -z "$(replica_field '[A-Z][a-z]*_Host')" ] || { echo "it replicates from another server"; exit 1; }
[ "$semi" != off ] || semi_sync_sql off | sql
{
	cat <<SQL
CREATE DATABASE IF NOT EXISTS infra CHARACTER SET utf8mb4;
CREATE TABLE IF NOT EXISTS infra.role (one TINYINT NOT NULL PRIMARY KEY CHECK (one = 1), epoch BIGINT UNSIGNED NOT NULL,
	writer VARCHAR(63) NOT NULL, since DATETIME(6) NOT NULL) ENGINE = InnoDB;
CREATE TABLE IF NOT EXISTS infra.heartbeat (one TINYINT NOT NULL PRIMARY KEY CHECK (one = 1), at DATETIME(6) NOT NULL,
	writer VARCHAR(63) NOT NULL, semi_sync VARCHAR(8) NOT NULL) ENGINE = InnoDB;
INSERT IGNORE INTO infra.heartbeat VALUES (1, UTC_TIMESTAMP(6), '$me', 'OFF');
SQL
	for schema in $schemas; do printf 'CREATE DATABASE IF NOT EXISTS `%s`;\n' "$schema"; done
	# Whoever sees this row sees all that comes before it.
	printf "INSERT IGNORE INTO infra.role VALUES (1, 1, '%s', UTC_TIMESTAMP(6));\n" "$me"
} | sql
rm -f /var/lib/infra/db/fenced
{
	[ "$semi" != on ] || semi_sync_sql on
	unfence_sql
} | sql
