# Gives certificates that stand on disk already to the running HAProxy over its admin socket, so that it need not reload.
# The caller sets swaps: their paths, as HAProxy's configuration names them. Sets why and returns 1 where one was not taken: then
# nothing of ours is left open, and a reload reads all of them from disk.
#
# Below 3.1 the clients of the socket share one transaction, and a PEM goes into whichever is open (HAProxy's commit 984d2cfb6).
# So no answer counts but the one that says that a transaction of just this certificate was begun.

# The PEM comes on stdin, so that no key is seen among the processes.
haproxy_says() { timeout 60 socat -t 30 - "UNIX-CONNECT:$ROOT/run/haproxy/admin.sock" 2>&1; }

swap_one() {
	said=$(echo 'show ssl cert' | haproxy_says)
	case $said in *'# transaction'*) why='somebody else has a transaction open on its socket' && return 1 ;; esac
	said=$(echo "show ssl cert $1" | haproxy_says)
	printf '%s\n' "$said" | grep -qx 'Status: Used' || { why="it does not use $1: $said" && return 1; }
	# An empty line ends what is sent.
	said=$({ echo "set ssl cert $1 <<" && grep . "$ROOT$1" && echo; } | haproxy_says)
	if [ "$said" != "Transaction created for certificate $1!" ]; then
		# What follows the first line answers lines of the PEM that were taken for commands, and may repeat them.
		why=$(printf '%s\n' "$said" | head -n 1)
		# What another had begun since we looked holds our PEM now: better that its commit fails than that it is believed.
		other=$(printf '%s\n' "$said" | sed -n 's/^Transaction updated for certificate \(.*\)!$/\1/p')
		echo "abort ssl cert ${other:-$1}" | haproxy_says >/dev/null
		return 1
	fi
	said=$(echo "commit ssl cert $1" | haproxy_says)
	if ! printf '%s\n' "$said" | grep -qx 'Success!'; then
		why=$said
		echo "abort ssl cert $1" | haproxy_says >/dev/null
		return 1
	fi
	said=$(echo "show ssl cert $1" | haproxy_says | sed -n 's/^SHA1 FingerPrint: //p')
	disk=$(openssl x509 -in "$ROOT$1" -noout -fingerprint -sha1 | tr -d :)
	[ -n "$said" ] && [ "$said" = "${disk#*=}" ] || { why='it holds another certificate than the one on disk' && return 1; }
}

why='no certificate is named'
for path in $swaps; do
	swap_one "$path" || return 1
done
[ -n "$swaps" ]
