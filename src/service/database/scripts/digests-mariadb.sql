SELECT CONVERT(account USING ascii) COLLATE ascii_bin AS account,
	CONVERT(SHA2(GROUP_CONCAT(line ORDER BY line SEPARATOR '\n'), 256) USING ascii) COLLATE ascii_bin AS digest FROM (
SELECT CONCAT('''', User, '''@''', Host, '''') AS account, CONCAT('is ', Priv) AS line FROM mysql.global_priv
UNION ALL SELECT GRANTEE, CONCAT_WS(' ', 'schema', TABLE_SCHEMA, PRIVILEGE_TYPE, IS_GRANTABLE) FROM information_schema.SCHEMA_PRIVILEGES
UNION ALL SELECT CONCAT('''', User, '''@''', Host, ''''), CONCAT_WS(' ', 'table', Db, Table_name, Table_priv, Column_priv) FROM mysql.tables_priv
UNION ALL SELECT CONCAT('''', User, '''@''', Host, ''''), CONCAT_WS(' ', 'column', Db, Table_name, Column_name, Column_priv) FROM mysql.columns_priv
UNION ALL SELECT CONCAT('''', User, '''@''', Host, ''''), CONCAT_WS(' ', 'routine', Db, Routine_name, Routine_type, Proc_priv) FROM mysql.procs_priv
UNION ALL SELECT CONCAT('''', User, '''@''', Host, ''''), CONCAT_WS(' ', 'role', Role, Admin_option) FROM mysql.roles_mapping
UNION ALL SELECT CONCAT('''', User, '''@''', Host, ''''), CONCAT_WS(' ', 'proxy', Proxied_host, Proxied_user, With_grant) FROM mysql.proxies_priv
) AS parts GROUP BY account
