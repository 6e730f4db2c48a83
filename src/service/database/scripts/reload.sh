# Lets the unit $unit take the files of /etc/infra/db that have changed. It is the user's own: where it is not there, or does not run,
# it reads them when it starts, and nothing is to be done.
[ "$(systemctl show -p LoadState --value "$unit")" = loaded ] || exit 0
verb=try-reload-or-restart
# A running process keeps its environment, whatever it does at a reload.
case $(systemctl show -p EnvironmentFiles --value "$unit") in */etc/infra/db/*) verb=try-restart ;; esac
ran=$(systemctl is-active "$unit")
systemctl "$verb" "$unit" && { [ "$ran" != active ] || systemctl -q is-active "$unit"; } && exit 0
systemctl --no-pager --lines=8 status "$unit"
exit 1
