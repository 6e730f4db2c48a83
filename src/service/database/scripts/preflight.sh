# What this host, which shall write, can tell before anything is changed: a line a fact, columns by tabs. hosts has the others, each as
# NAME/ADDRESS; writer is the one of them that writes now.
sql_limit=10
for host in $hosts; do
	name=${host%%/*} at=${host#*/}
	if said=$(echo 'SELECT 1;' | sql_at "$at" 2>&1); then said=yes; fi
	printf 'reach\t%s\t%s\n' "$name" "$(printf '%s' "$said" | tail -n 1 | tr '\t' ' ')"
	[ "$said" != yes ] || printf 'logs\t%s\t%s\n' "$name" "$(shows_passwords_sql | sql_at "$at")"
	printf 'account\t%s\t%s\n' "$name" "$(sql "SELECT COUNT(*) FROM mysql.user WHERE user = 'infra_repl' AND host = '$at'")"
	[ "$name" != "$writer" ] || echo "SELECT 'long', TIMESTAMPDIFF(SECOND, t.trx_started, NOW()), CONCAT(p.user, '@', p.host), p.id,
		t.trx_rows_modified FROM information_schema.innodb_trx t JOIN information_schema.processlist p ON p.id = t.trx_mysql_thread_id
		WHERE p.user NOT LIKE 'infra\\_%' ORDER BY 2 DESC LIMIT 20;" | sql_at "$at" 2>/dev/null || true
done
