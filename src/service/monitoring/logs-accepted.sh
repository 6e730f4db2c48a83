# A line that is written now is accepted: the shipper's own count of lines that were grows. What it tells names the URL: numbers alone are kept.
written() { syslog-ng-ctl stats 2>/dev/null | sed -n 's/^dst\.http;.*;written;\([0-9]*\)$/\1/p' | awk '{ all += $1 } END { print all + 0 }'; }
systemctl -q is-active syslog-ng.service || { echo 'syslog-ng does not run'; exit 1; }
before=$(written) tries=0
logger -t infra 'a run of infra looks whether the lines of this host are accepted'
while [ "$tries" -lt 12 ]; do
	[ "$(written)" -gt "$before" ] && exit 0
	tries=$((tries + 1))
	sleep 1
done
why=$(journalctl -t syslog-ng -n 20 -o cat --no-pager 2>/dev/null | grep -i -e error -e 'server returned' -e failed | tail -n 1)
echo "none was accepted so far; what waits is kept${why:+: }$why"
exit 1
