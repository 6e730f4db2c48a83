# What the collector itself has counted as handed over grows, or it began to count a moment ago. $what is what it counts.
written() {
	curl -q -s -m 5 --noproxy '*' http://127.0.0.1:8888/metrics |
		awk -v name="otelcol_exporter_sent_$what" 'index($1, name) == 1 { all += $NF } END { printf "%.0f\n", all }'
}
systemctl -q is-active otelcol-sumo.service || { echo 'the collector does not run'; exit 1; }
before=$(written) tries=0
[ "$what" != log_records ] || logger -t infra 'a run of infra looks whether the lines of this host are accepted'
while [ "$tries" -lt 50 ]; do
	[ "$(written)" -gt "$before" ] && exit 0
	tries=$((tries + 1))
	sleep 1
done
why=$(journalctl -u otelcol-sumo.service -n 50 -o cat --no-pager 2>/dev/null | grep -i -e error -e failed | tail -n 1)
echo "none was accepted so far${why:+: }$why"
exit 1
