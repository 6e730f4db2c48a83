SELECT CONVERT(account USING ascii) COLLATE ascii_bin AS account,
	CONVERT(SHA2(GROUP_CONCAT(line ORDER BY line SEPARATOR '\n'), 256) USING ascii) COLLATE ascii_bin AS digest FROM (
SELECT CONCAT('''', User, '''@''', Host, '''') AS account, CONCAT_WS(' ', 'is', plugin, HEX(authentication_string), ssl_type, HEX(x509_issuer), HEX(x509_subject),
max_questions, max_updates, max_connections, max_user_connections, account_locked, password_expired, password_lifetime, User_attributes) AS line FROM mysql.user
UNION ALL SELECT GRANTEE, CONCAT_WS(' ', 'all', PRIVILEGE_TYPE, IS_GRANTABLE) FROM information_schema.USER_PRIVILEGES
UNION ALL SELECT GRANTEE, CONCAT_WS(' ', 'schema', TABLE_SCHEMA, PRIVILEGE_TYPE, IS_GRANTABLE) FROM information_schema.SCHEMA_PRIVILEGES
UNION ALL SELECT CONCAT('''', User, '''@''', Host, ''''), CONCAT_WS(' ', 'table', Db, Table_name, Table_priv, Column_priv) FROM mysql.tables_priv
UNION ALL SELECT CONCAT('''', User, '''@''', Host, ''''), CONCAT_WS(' ', 'column', Db, Table_name, Column_name, Column_priv) FROM mysql.columns_priv
UNION ALL SELECT CONCAT('''', User, '''@''', Host, ''''), CONCAT_WS(' ', 'routine', Db, Routine_name, Routine_type, Proc_priv) FROM mysql.procs_priv
UNION ALL SELECT CONCAT('''', TO_USER, '''@''', TO_HOST, ''''), CONCAT_WS(' ', 'role', FROM_USER, FROM_HOST, WITH_ADMIN_OPTION) FROM mysql.role_edges
UNION ALL SELECT CONCAT('''', User, '''@''', Host, ''''), CONCAT_WS(' ', 'proxy', Proxied_host, Proxied_user, With_grant) FROM mysql.proxies_priv
) AS parts GROUP BY account
