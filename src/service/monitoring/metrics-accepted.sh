# The agent's own count of what was accepted grows, or it began to count a moment ago. It is written down with each delivery.
written() { sed -n 's/.*[ ,]metrics_written=\([0-9]*\)i.*/\1/p' /run/infra-telegraf/delivery 2>/dev/null | tail -n 1; }
since() {
	read -r up rest </proc/uptime
	began=$(systemctl show -p ActiveEnterTimestampMonotonic --value telegraf.service)
	echo $((${up%.*} - ${began:-0} / 1000000))
}
systemctl -q is-active telegraf.service || { echo 'telegraf does not run'; exit 1; }
before=$(written) tries=0
while [ "$tries" -lt 28 ]; do
	now=$(written)
	[ "${now:-0}" -gt "${before:-0}" ] && exit 0
	[ "${now:-0}" -gt 0 ] && [ "$(since)" -lt 120 ] && exit 0
	tries=$((tries + 1))
	sleep 0.5
done
why=$(journalctl -u telegraf.service -n 20 -o cat --no-pager 2>/dev/null | grep 'E!' | tail -n 1)
echo "none was accepted so far${why:+: }$why"
exit 1
