#!/bin/sh
# Written by infra: what only root sees of this host, as measures that the node exporter passes on.
set -u
LC_ALL=C PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export LC_ALL PATH
folder=/var/lib/prometheus/node-exporter
new=$folder/infra.new
now=$(date +%s)

firewall() {
{%- if backend == "nftables" %}
	nft list table inet infra 2>/dev/null | awk '
		/hook input .*policy drop/ { input = 1 }
		/hook output .*policy drop/ { output = 1 }
		/comment "default deny (in|out)"/ {
			way = /default deny in/ ? "in" : "out"
			for (i = 1; i < NF; i++) if ($i == "packets") refused[way] += $(i + 1)
		}
		END { print "infra_firewall_loaded " input * output
			for (way in refused) printf "infra_firewall_refused_packets_total{direction=\"%s\"} %.0f\n", way, refused[way] }'
{%- else %}
	{ iptables-save -c -t filter; ip6tables-save -c -t filter; } 2>/dev/null | awk '
		/ -A INPUT -j INFRA-/ { input++ }
		/ -A OUTPUT -j INFRA-/ { output++ }
		/ -A INFRA-DENY-IN -j DROP/ { refused["in"] += substr($1, 2) + 0 }
		/ -A INFRA-DENY-OUT .*-j REJECT/ { refused["out"] += substr($1, 2) + 0 }
		END { print "infra_firewall_loaded " (input > 1 && output > 1)
			for (way in refused) printf "infra_firewall_refused_packets_total{direction=\"%s\"} %.0f\n", way, refused[way] }'
{%- endif %}
}

# What a run has put in place and did not tell the unit of yet.
owed() {
	for file in /var/lib/infra/owed/*; do
		[ -f "$file" ] && [ ! -L "$file" ] || continue
		since=$(stat -c %Y "$file") || continue
		printf 'infra_owed_seconds{unit="%s"} %d\n' "${file##*/}" $((now - since))
	done
}

certificates() {
	for file in /etc/infra/ca.crt /etc/haproxy/sites/*.pem /etc/haproxy/tls/*.pem /etc/nginx/tls/*.crt /etc/mysql/infra/*.crt \
		/etc/prometheus/infra/*.crt; do
		[ -f "$file" ] || continue
		dates=$(openssl x509 -in "$file" -noout -dates 2>/dev/null) || continue
		from=${dates#notBefore=} from=${from%%notAfter*} until=${dates##*notAfter=}
		printf 'infra_certificate_not_before_seconds{file="%s"} %s\n' "$file" "$(date -d "$from" +%s)"
		printf 'infra_certificate_not_after_seconds{file="%s"} %s\n' "$file" "$(date -d "$until" +%s)"
	done
}

# What reads this sees the file of before or this one, never half of it; the measures of one name stand together.
{
	firewall
	owed
	certificates | sort
	printf 'infra_measured_seconds %s\n' "$now"
} >"$new" && chmod 644 "$new" && mv -f "$new" "$folder/infra.prom"
