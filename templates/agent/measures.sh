#!/bin/sh
# written by infra: every 30 s what only root sees of this host, in the form of Prometheus (text, version 0.0.4)
set -u
LC_ALL=C PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export LC_ALL PATH
folder={{ folder }}
umask 022
mkdir -p "$folder"
# what stays there would be told for ever
trap 'rm -f "$folder/.new" "$folder/infra.prom"; exit 0' TERM

# Whether the firewall stands, and what it has refused.
firewall() {
{%- if backend == "nftables" %}
	nft list table inet infra 2>/dev/null | awk -v families=1 '
		/hook input .*policy drop/ { input = 1 }
		/hook output .*policy drop/ { output = 1 }
		/comment "default deny (in|out)"/ {
			way = /default deny in/ ? "in" : "out"
			for (i = 1; i < NF; i++) if ($i == "packets") refused[way] += $(i + 1)
		}
{%- else %}
	{ iptables-save -c -t filter; ip6tables-save -c -t filter; } 2>/dev/null | awk -v families=2 '
		/^\[.*-A INPUT -j INFRA-/ { input++ }
		/^\[.*-A OUTPUT -j INFRA-/ { output++ }
		/ -A INFRA-DENY-IN -j DROP/ { refused["in"] += substr($1, 2) }
		/ -A INFRA-DENY-OUT .*-j REJECT/ { refused["out"] += substr($1, 2) }
{%- endif %}
		END {
			print "infra_firewall_loaded " (input >= families && output >= families)
			for (way in refused) printf "infra_firewall_refused_packets_total{direction=\"%s\"} %.0f\n", way, refused[way]
		}'
}

# From when and until when each certificate of this host is valid.
certificates() {
	for file in /etc/infra/ca.crt /etc/haproxy/sites/*.pem /etc/haproxy/tls/*.pem /etc/nginx/tls/*.crt /etc/mysql/infra/*.crt \
		/etc/prometheus/infra/*.crt; do
		[ -f "$file" ] && dates=$(openssl x509 -noout -dates -in "$file" 2>/dev/null) || continue
		from=${dates#notBefore=} from=$(date -d "${from%%notAfter*}" +%s) until=$(date -d "${dates##*notAfter=}" +%s)
{%- if reader == "telegraf" %}
		# as Telegraf's own input has it, which cannot read all of them
		echo "x509_cert_age{source=\"$file\"} $((now - from))"
		echo "x509_cert_expiry{source=\"$file\"} $((until - now))"
{%- else %}
		echo "infra_certificate_not_before_seconds{file=\"$file\"} $from"
		echo "infra_certificate_not_after_seconds{file=\"$file\"} $until"
{%- endif %}
	done
}

# What a run has put in place and did not tell the unit of yet.
owed() {
	for file in /var/lib/infra/owed/*; do
		[ -f "$file" ] && [ ! -L "$file" ] && since=$(stat -c %Y "$file") || continue
		echo "infra_owed_seconds{unit=\"${file##*/}\"} $((now - since))"
	done
}
{%- if reader == "telegraf" %}

# What the shipper of logs has handed over, holds back and has thrown away.
logs() {
	syslog-ng-ctl stats 2>/dev/null | awk -F ';' '
		$1 == "dst.http" && $5 ~ /^(written|queued|dropped)$/ {
			split($2, name, "#")
			print "infra_logs_" $5 "{stream=\"" name[1] "\"} " $6
		}'
}

# Units that failed, as Telegraf's own input tells them; that needs D-Bus, and does not start without it.
failed() {
	systemctl list-units --failed --plain --no-legend --no-pager 2>/dev/null | while read -r unit rest; do
		echo "systemd_units_active_code{name=\"$unit\",active=\"failed\"} 3"
	done
}

began=$(date +%s) written= accepted=
{%- endif %}
{%- if reader == "collector" %}

# What the collector has handed over, holds back and could not hand over, by its own counters.
sent() {
	curl -q -s -m 5 --noproxy '*' http://127.0.0.1:8888/metrics | awk '
		/^otelcol_exporter_/ {
			name = $1; sub(/[{].*/, "", name); sub(/_total$/, "", name); sub(/^otelcol_exporter_/, "", name)
			what = name ~ /log_records$/ || /data_type="logs"/ ? "logs" : name ~ /metric_points$/ || /data_type="metrics"/ ? "measures" : ""
			if (what == "") next
			answered = 1
			if (name ~ /^sent_/) sent[what] += $NF
			if (name == "queue_size") waiting[what] += $NF
			if (name ~ /^(send|enqueue)_failed_/) dropped[what] += $NF
		}
		END {
			for (n = split("measures logs", all, " "); answered && n; n--)
				printf "infra_sent{what=\"%s\"} %.0f\ninfra_waiting{what=\"%s\"} %.0f\ninfra_dropped{what=\"%s\"} %.0f\n", \
					all[n], sent[all[n]], all[n], waiting[all[n]], all[n], dropped[all[n]]
		}'
}

began=$(date +%s) answered= sent_measures= sent_logs= accepted_measures= accepted_logs=
{%- endif %}
while :; do
	now=$(date +%s)
{%- if reader == "telegraf" %}
	shipped=$(logs | sort) before=$written
	written=$(echo "$shipped" | awk '/^infra_logs_written/ { all += $NF } END { printf "%.0f", all }')
	# a shipper that began anew has delivered nothing by that
	[ "$written" -le "${before:-$written}" ] || accepted=$now
{%- endif %}
{%- if reader == "collector" %}
	counted=$(sent | sort)
	[ -z "$counted" ] || answered=$now
	for what in measures logs; do
		count=$(echo "$counted" | sed -n "s/^infra_sent{what=\"$what\"} //p") count=${count:-0}
		eval "before=\${sent_$what:-$count}"
		# one that began anew has delivered nothing by that
		[ "$count" -le "$before" ] || eval "accepted_$what=$now"
		eval "sent_$what=$count"
	done
{%- endif %}
	# Who reads it sees the file of before or this one, never half of it; the measures of one name stand together.
	{
		firewall
		certificates | sort
		owed
{%- if reader == "telegraf" %}
		[ -z "$shipped" ] || echo "$shipped"
		[ -z "$accepted" ] || echo "infra_logs_accepted_seconds $accepted"
		echo "infra_logs_watched_seconds $began"
		failed
{%- endif %}
{%- if reader == "collector" %}
		[ -z "$counted" ] || echo "$counted"
		[ -z "$accepted_logs" ] || echo "infra_accepted_seconds{what=\"logs\"} $accepted_logs"
		[ -z "$accepted_measures" ] || echo "infra_accepted_seconds{what=\"measures\"} $accepted_measures"
		[ -z "$answered" ] || echo "infra_collector_answered_seconds $answered"
		echo "infra_collector_watched_seconds $began"
{%- endif %}
		echo "infra_measured_seconds $now"
	} >"$folder/.new" && mv -f "$folder/.new" "$folder/infra.prom"
	sleep 30
done
