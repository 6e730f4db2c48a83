# Takes a seed back, wherever it stopped. Where the server runs already on the new data, which were whole, they stay.
[ -d "$seed" ] || exit 0
case $(cat "$seed/state" 2>/dev/null) in
whole)
	if wait_up 60 >/dev/null 2>&1; then
		forget_seed && systemctl daemon-reload
		exit
	fi
	;;
'' | copy)
	# The server may be down while its copy is tried.
	forget_seed && systemctl daemon-reload && systemctl start "$unit"
	exit
	;;
esac
systemctl stop "$unit" && data_back && forget_seed && systemctl daemon-reload && systemctl start "$unit"
