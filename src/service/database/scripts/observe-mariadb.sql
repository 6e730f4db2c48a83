SELECT 'server' AS `-`, @@version, @@server_id, @@read_only, @@log_bin, @@log_slave_updates, @@gtid_strict_mode, @@rpl_semi_sync_master_enabled, @@log_bin_basename, @@have_ssl = 'YES', @@ssl_cert;
SELECT 'schema' AS `-`, schema_name FROM information_schema.schemata WHERE schema_name NOT IN ('information_schema', 'mysql', 'performance_schema', 'sys');
SELECT 'tables' AS `-`, COUNT(*) FROM information_schema.tables WHERE table_schema NOT IN ('information_schema', 'mysql', 'performance_schema', 'sys', 'infra');
SELECT 'role' AS `-`, epoch, writer, since FROM infra.role;
SELECT 'heartbeat' AS `-`, TIMESTAMPDIFF(MICROSECOND, at, UTC_TIMESTAMP(6)), writer, semi_sync FROM infra.heartbeat;
SHOW ALL SLAVES STATUS;
SELECT 'gtid' AS `-`, @@gtid_current_pos, @@gtid_binlog_state;
SELECT 'status' AS `-`, variable_name, variable_value FROM information_schema.global_status WHERE variable_name IN ('Rpl_semi_sync_master_status', 'Rpl_semi_sync_master_clients', 'Ssl_server_not_after', 'Uptime');
SELECT 'running' AS `-`, LOWER(variable_name), LEFT(global_value, 200), global_value_origin FROM information_schema.system_variables WHERE global_value_origin IN ('SQL', 'COMMAND-LINE') AND global_value IS NOT NULL AND variable_name NOT REGEXP 'PASS|AUTH|TOKEN|SECRET';
SELECT 'replica' AS `-`, host FROM information_schema.processlist WHERE command LIKE 'Binlog Dump%';
SELECT 'sessions' AS `-`, COUNT(*) FROM information_schema.processlist WHERE id <> CONNECTION_ID() AND user NOT LIKE 'infra\_%' AND user NOT IN ('system user', 'event_scheduler') AND command NOT LIKE 'Binlog Dump%' AND command <> 'Daemon';
SELECT 'size' AS `-`, SUM(file_size) FROM information_schema.innodb_sys_tablespaces;
SELECT DISTINCT 'unfenced' AS `-`, grantee FROM information_schema.user_privileges WHERE privilege_type IN ('SUPER', 'READ_ONLY ADMIN') AND grantee NOT LIKE '''infra\_%' AND grantee NOT IN ('''root''@''localhost''', '''mysql''@''localhost''', '''mariadb.sys''@''localhost''') LIMIT 20;
SELECT 'event' AS `-`, CONCAT(event_schema, '.', event_name), definer, @@GLOBAL.event_scheduler FROM information_schema.events WHERE status = 'ENABLED' AND event_schema NOT IN ('mysql', 'sys') LIMIT 20;
SELECT 'user' AS `-`, User, Host FROM mysql.user;
SELECT 'account' AS `-`, accounts.user, accounts.host, COALESCE(live.digest = accounts.digest, 0) FROM infra.accounts LEFT JOIN (
DIGESTS
) AS live ON live.account = CONCAT('''', accounts.user, '''@''', accounts.host, '''');
