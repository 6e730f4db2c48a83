# Makes the donor of a seed ready: a unit of its own that gives a copy of the running server to those of the group who show their
# certificate, and ends by itself: when all have theirs, when nobody has asked for a quarter of an hour, or at its limit.
# Set before: allowed (internal names), address, seconds; serve_text is a function that prints the script of one connection.
set -u
folder=/run/infra/seed
systemctl stop infra-seed.service 2>/dev/null
wait_up 30 || exit 1
rm -rf "$folder" && mkdir -p "$folder" && chmod 700 "$folder" && serve_text >"$folder/serve" || exit 1
case $address in *:*) family=pf=ip6,bind="[$address]" ;; *) family=pf=ip4,bind="$address" ;; esac
cat >"$folder/listen" <<END
socat -b 1048576 -T 600 \
	"OPENSSL-LISTEN:4444,$family,fork,max-children=4,reuseaddr,keepalive,keepidle=10,keepintvl=5,keepcnt=3,cert=$infra_db/server.crt,key=$infra_db/server.key,cafile=$infra_db/ca.crt,verify=1,openssl-min-proto-version=TLS1.2" \
	"EXEC:sh $folder/serve" &
socat=\$! idle=0
while kill -0 "\$socat" 2>/dev/null && [ ! -e $folder/end ] && [ "\$idle" -lt 900 ]; do
	sleep 2
	read -r children <"/proc/\$socat/task/\$socat/children" || children=''
	if [ -n "\$children" ]; then idle=0; else idle=\$((idle + 2)); fi
done
[ ! -e $folder/end ] && [ "\$idle" -lt 900 ] && exit 1
kill "\$socat"
END
systemd-run --quiet --collect --unit=infra-seed --description='infra: gives a copy of the database to a new replica' \
	--property=RuntimeMaxSec="$seconds" --property=Nice=10 --property=IOSchedulingClass=best-effort --property=IOSchedulingPriority=7 \
	--property=LimitNOFILE=1048576 --property=PrivateTmp=yes --property=ProtectHome=yes --property=ProtectSystem=strict \
	--property=ReadWritePaths="$folder" --property=NoNewPrivileges=yes --property=KillMode=control-group \
	sh "$folder/listen" || exit 1
# Those who come in a later phase find it open.
tries=0
until ss -Hltn "sport = :4444" | grep -q .; do
	tries=$((tries + 1))
	if [ "$tries" -gt 100 ] || ! systemctl -q is-active infra-seed.service; then
		echo "the donor does not listen on port 4444"
		journalctl -q --no-pager -o cat -n 5 -u infra-seed.service
		exit 1
	fi
	sleep 0.1
done
