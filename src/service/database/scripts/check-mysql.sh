# The server reads its option files as for a start, and starts nothing. It says [ERROR] and ends well where a plugin is missing, and what it
# would take otherwise than written it says as a warning.
said=$(mysqld --user=mysql --validate-config --log-error=stderr --log-error-verbosity=2 2>&1) || { printf '%s\n' "$said" | tail -n 5; exit 1; }
odd=$(printf '%s\n' "$said" | grep -e '\[ERROR\]' -e 'adjusted to') || exit 0
printf '%s\n' "$odd"
exit 1
