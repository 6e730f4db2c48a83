SELECT 'server' AS `-`, @@version, @@server_id, @@super_read_only, @@log_bin, @@log_replica_updates, @@gtid_mode = 'ON', NULL, @@log_bin_basename, 1, @@ssl_cert;
SELECT 'uid' AS `-`, @@server_uuid;
SELECT 'semi_sync' AS `-`, @@rpl_semi_sync_source_enabled;
SELECT 'schema' AS `-`, schema_name FROM information_schema.schemata WHERE schema_name NOT IN ('information_schema', 'mysql', 'performance_schema', 'sys');
SELECT 'tables' AS `-`, COUNT(*) FROM information_schema.tables WHERE table_schema NOT IN ('information_schema', 'mysql', 'performance_schema', 'sys', 'infra');
SELECT 'role' AS `-`, epoch, writer, since FROM infra.role;
SELECT 'heartbeat' AS `-`, TIMESTAMPDIFF(MICROSECOND, at, UTC_TIMESTAMP(6)), writer, semi_sync FROM infra.heartbeat;
SHOW REPLICA STATUS;
SELECT 'gtid' AS `-`, @@GLOBAL.gtid_executed, @@GLOBAL.gtid_executed;
SELECT 'purged' AS `-`, @@GLOBAL.gtid_purged;
SELECT 'status' AS `-`, variable_name, variable_value FROM performance_schema.global_status WHERE variable_name IN ('Rpl_semi_sync_source_status', 'Rpl_semi_sync_source_clients', 'Ssl_server_not_after', 'Uptime');
SELECT 'running' AS `-`, variable_name, LEFT(variable_value, 200), variable_source FROM performance_schema.variables_info JOIN performance_schema.global_variables USING (variable_name) WHERE variable_source IN ('DYNAMIC', 'COMMAND_LINE') AND variable_name NOT REGEXP 'pass|auth|token|secret';
SELECT 'persisted' AS `-`, variable_name, LEFT(variable_value, 200) FROM performance_schema.persisted_variables WHERE variable_name NOT REGEXP 'pass|auth|token|secret';
SELECT 'replica' AS `-`, host FROM performance_schema.processlist WHERE command LIKE 'Binlog Dump%';
SELECT 'sessions' AS `-`, COUNT(*) FROM performance_schema.processlist WHERE id <> CONNECTION_ID() AND user NOT LIKE 'infra\_%' AND user NOT IN ('system user', 'event_scheduler') AND command NOT LIKE 'Binlog Dump%' AND command <> 'Daemon';
SELECT 'size' AS `-`, SUM(file_size) FROM information_schema.innodb_tablespaces;
SET SESSION group_concat_max_len = 1048576;
SELECT 'event' AS `-`, CONCAT(event_schema, '.', event_name), definer, @@GLOBAL.event_scheduler FROM information_schema.events WHERE status = 'ENABLED' AND event_schema NOT IN ('mysql', 'sys') LIMIT 20;
SELECT 'user' AS `-`, User, Host FROM mysql.user;
SELECT 'account' AS `-`, accounts.user, accounts.host, COALESCE(live.digest = accounts.digest, 0) FROM infra.accounts LEFT JOIN (
DIGESTS
) AS live ON live.account = CONCAT('''', accounts.user, '''@''', accounts.host, '''');
