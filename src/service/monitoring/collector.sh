# Gives the user of the collector's package, otelcol-sumo, the number $uid; its files stay its own.
name=otelcol-sumo
holder=$(getent passwd "$uid" | cut -d: -f1)
if [ -n "$holder" ] && [ "$holder" != "$name" ]; then
	echo "the user number $uid is taken by $holder; give $holder another one (usermod --uid)"
	exit 1
fi
owner=$(getent group "$uid" | cut -d: -f1)
if [ -n "$owner" ] && [ "$owner" != "$name" ]; then
	echo "the group number $uid is taken by $owner; give $owner another one (groupmod --gid)"
	exit 1
fi
user=$(id -u "$name" 2>/dev/null) group=$(getent group "$name" | cut -d: -f3)
[ -n "$user" ] && [ -n "$group" ] || { echo "the collector's package made no user $name"; exit 1; }
[ "$user" = "$uid" ] && [ "$group" = "$uid" ] && exit 0
systemctl stop otelcol-sumo.service 2>/dev/null
[ "$group" = "$uid" ] || groupmod --gid "$uid" "$name" || exit 1
[ "$user" = "$uid" ] || usermod --uid "$uid" --gid "$uid" "$name" 2>&1 || exit 1
for folder in /etc/otelcol-sumo /var/lib/otelcol-sumo /var/log/otelcol-sumo; do
	[ -d "$folder" ] || continue
	find "$folder" -xdev -uid "$user" -exec chown -h "$uid" {} + &&
		find "$folder" -xdev -gid "$group" -exec chgrp -h "$uid" {} + || exit 1
done
