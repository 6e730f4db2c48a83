# Makes the user infra-telegraf with the number $uid, with nothing that anybody could log in by.
if holder=$(getent passwd "$uid" | cut -d: -f1) && [ -n "$holder" ]; then
	[ "$holder" = infra-telegraf ] && exit 0
	echo "the user number $uid is taken by $holder; give $holder another one (usermod --uid)"
	exit 1
fi
if getent passwd infra-telegraf >/dev/null; then
	echo "a user infra-telegraf is there with another number than $uid; remove it (userdel infra-telegraf)"
	exit 1
fi
getent group infra-telegraf >/dev/null || groupadd --system --gid "$uid" infra-telegraf || exit 1
# It warns that the number is no usual one for a user of the system.
useradd --system --uid "$uid" --gid infra-telegraf --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin \
	infra-telegraf 2>&1
