# What the database server of this host is: a line a fact, columns by tabs. Nothing where there is no data folder; one call of a client
# for all that the server itself can tell, which ends after 5 s: a server may hang. STATEMENTS are those of each engine.
[ -d var/lib/mysql ] || exit 0
if [ -e usr/sbin/mariadbd ]; then engine=mariadb; elif [ -e usr/sbin/mysqld ]; then engine=mysql; else engine=none; fi
printf 'engine\t%s\n' "$engine"
# Each schema is a folder, whether a server runs or not; `infra` is the one in which it stands who writes.
for folder in var/lib/mysql/*/; do
	folder=${folder%/} folder=${folder##*/}
	case $folder in '*' | '#'* | lost+found | mysql | sys | performance_schema) ;; *) printf 'folder\t%s\n' "$folder" ;; esac
done
# Tables of engines that lose on a crash what was acknowledged, tables at all, and the logs that replicas read.
files=$(find var/lib/mysql/ -mindepth 1 -maxdepth 2 '(' -name '#*' -o -path var/lib/mysql/mysql -o -path var/lib/mysql/sys -o \
	-path var/lib/mysql/performance_schema -o -path var/lib/mysql/infra ')' -prune -o \
	'(' -name '*.MYI' -o -name '*.MAI' -o -name '*.ARZ' ')' -printf 'other\t%P\n' -o \
	-name '*.[0-9][0-9][0-9][0-9][0-9][0-9]*' ! -name '*relay*' ! -name 'aria_log*' -printf 'binlog\t%f\t%s\t%Ts\n' 2>/dev/null | sort | awk -F '\t' '
	$1 == "other" { if (++others <= 20) print; next }
	{ if (!logs++) { name = $2; since = $4 } bytes += $3 }
	END { if (logs) printf "binlogs\t%s\t%d\t%.0f\t%s\n", name, logs, bytes, since }')
printf '%s\n' "$files"
# The first log, by name, of a server that keeps them in its data folder.
first=''
case $files in *binlogs*) first=${files##*binlogs	} first=${first%%	*} ;; esac
case $first in *[!-a-zA-Z0-9._]*) first='' ;; esac
set -- $(stat -f -c '%a %S' var/lib/mysql)
printf 'free\t%s\n' "$((${1:-0} * ${2:-0}))"
[ "$engine" != none ] || exit 0
# The option files in the order in which the server reads them (both manuals, «Using Option Files»): lines for the server of infra's own
# two files, with a 1 those that come after the first of them, and with a 2 those that come after both. What may be a secret stays here.
case $engine in
mariadb) ours='-v folder=etc/mysql/mariadb.conf.d -v first=98-infra.cnf -v second=99-infra-live.cnf' ;;
*) ours='-v folder=etc/mysql/mysql.conf.d -v first=zz-98-infra.cnf -v second=zz-99-infra-live.cnf' ;;
esac
LC_ALL=C awk $ours '
	function bare(text) { sub(/^[ \t\r]+/, "", text); sub(/[ \t\r]+$/, "", text); return text }
	function below(path) { sub(/^\/+/, "", path); sub(/\/+$/, "", path); return path }
	function all_of(path, depth,   quoted, list, name) {
		quoted = path
		gsub(/\047/, "\047\\\047\047", quoted)
		list = "ls \047" quoted "\047 2>/dev/null"
		while ((list | getline name) > 0) {
			if (path == folder) { rank = name > second ? 2 : name > first; own = name == first || name == second }
			if (name ~ /\.cnf$/) take(path "/" name, depth)
			own = 0
		}
		close(list)
		if (path == folder) rank = 2
	}
	function take(path, depth,   line, number, group, at, name, value) {
		while (depth < 10 && (getline line < path) > 0) {
			number++
			line = bare(line)
			if (line ~ /^!includedir[ \t]/) all_of(below(bare(substr(line, 12))), depth + 1)
			else if (line ~ /^!include[ \t]/) take(below(bare(substr(line, 9))), depth + 1)
			else if (line ~ /^\[/) { group = line; gsub(/^\[[ \t]*|[ \t]*\].*$/, "", group) }
			else if ((rank || own) && line !~ /^([#;!]|$)/ && group ~ /^(mysqld|server|mariadbd?|client-server|galera)(-[0-9.]+)?$/) {
				at = index(line, "=")
				name = bare(at ? substr(line, 1, at - 1) : line)
				value = at ? bare(substr(line, at + 1)) : ""
				sub(/[ \t]+#.*$/, "", value)
				if (tolower(name) !~ /pass|auth|token|secret/ && told++ < 400)
					printf "option\t%d\t/%s\t%d\t%s\t%s\t%s\n", own ? 0 : rank, path, number, group, name, substr(value, 1, 200)
			}
		}
		close(path)
	}
	BEGIN {
		take("etc/my.cnf", 0)
		take("etc/mysql/my.cnf", 0)
		if (!rank) print "unread"
		while ((getline line < "etc/passwd") > 0) if (split(line, of, ":") > 5 && of[1] == "mysql") home = below(of[6])
		if (home != "") take(home "/.my.cnf", 0)
	}'
[ -S run/mysqld/mysqld.sock ] || { printf 'down\tit does not run\n'; exit 0; }
# How long its last restart took, from the first moment in which it ended to the one in which it answered, in microseconds; not of a
# server that was down for a while in between.
systemctl show -p ActiveExitTimestampMonotonic -p InactiveEnterTimestampMonotonic -p InactiveExitTimestampMonotonic \
	-p ActiveEnterTimestampMonotonic "$engine.service" 2>/dev/null | awk -F '[=]' '{ at[$1] = $2 + 0 } END {
	ended = at["ActiveExitTimestampMonotonic"]; gone = at["InactiveEnterTimestampMonotonic"]
	began = at["InactiveExitTimestampMonotonic"]; ready = at["ActiveEnterTimestampMonotonic"]
	if (ended > 0 && ended <= gone && gone <= began && began < ready && began - gone < 1000000) printf "restart\t%.0f\n", ready - ended }'
# The agent that tells the role follows another host for a moment, to fetch what this one has lost in a crash.
[ ! -s run/infra-db-fetches ] || { read -r from <run/infra-db-fetches && printf 'fetches\t%s\n' "$from"; }
mariadb_asks() {
	cat <<'SQL'
MARIADB_STATEMENTS
SQL
	[ -z "$first" ] || printf "SELECT 'purged' AS %s, BINLOG_GTID_POS('%s', 4);\n" '`-`' "$first"
}
mysql_asks() {
	cat <<'SQL'
MYSQL_STATEMENTS
SQL
}
"${engine}_asks" | timeout 5 "$engine" --no-defaults --protocol=socket --socket=run/mysqld/mysqld.sock --user=root --batch --force \
	--connect-timeout=5 2>&1
case $? in
0) ;;
124) printf '\ndown\tit does not answer within 5 s\n' ;;
# Without the socket's server, or with an error in a statement, which is no failure.
*) printf '\nended\n' ;;
esac
