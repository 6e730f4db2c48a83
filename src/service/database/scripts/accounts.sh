# Makes the accounts of this server by the statements that come on standard input. Nobody else is told of it: not the binlog, and no
# log of statements. The table infra.accounts has what infra made, each with a digest of all that it is, so that what somebody
# changes is seen; first of all those that are no longer so are marked, to be made anew.
wait_up 60 || exit 1
digests() {
	cat <<'SQL'
LEFT JOIN (
DIGESTS
) AS live ON live.account = CONCAT('''', accounts.user, '''@''', accounts.host, '''')
SQL
}
said=$({
	cat <<'SQL'
CREATE DATABASE IF NOT EXISTS infra;
CREATE TABLE IF NOT EXISTS infra.accounts (user VARCHAR(80) NOT NULL, host VARCHAR(255) NOT NULL, wanted CHAR(64) NOT NULL,
	digest CHAR(64) NOT NULL, PRIMARY KEY (user, host)) ENGINE = InnoDB CHARACTER SET ascii COLLATE ascii_bin;
SQL
	echo 'UPDATE infra.accounts'
	digests
	echo "SET accounts.digest = '' WHERE accounts.digest <> COALESCE(live.digest, '');"
	cat
	echo 'UPDATE infra.accounts'
	digests
	echo "SET accounts.digest = COALESCE(live.digest, '');"
} | sql_here 2>&1) && exit 0
# The client quotes the statement that fails, which may hold a password; what is wrong with it is told without.
printf '%s\n' "$said" | sed -n "s/ near '.*//; /^ERROR/p"
exit 1
