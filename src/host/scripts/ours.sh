# lost: whether the lock of this run is another's by now, because the link was silent for too long; what was planned under it may
# not be true any more. Says so in words. The caller sets RUN.
lost() {
	[ -e "$ROOT/var/lib/infra/lock.holder" ] || return 1
	IFS= read -r holder <"$ROOT/var/lib/infra/lock.holder"
	case $holder in
	*", run $RUN") return 1 ;;
	esac
	words="this run does not hold the lock any more, because its connection was silent; it was taken by $holder"
}
