# The server reads its option files as for a start, prints its settings, and starts nothing. What it would take otherwise than written
# it says as a warning.
said=$(mariadbd --user=mysql --verbose --help 2>&1 >/dev/null) || { printf '%s\n' "$said" | tail -n 5; exit 1; }
odd=$(printf '%s\n' "$said" | grep -e '\[ERROR\]' -e 'adjusted to') || exit 0
printf '%s\n' "$odd"
exit 1
