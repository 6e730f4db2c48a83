# own_records NAME…: none of these records of ours is a link, or a FIFO that would hold us up; else odd says which is.
own_records() {
	for record in "$@"; do
		plain_or_none "$ROOT/var/lib/infra/$record" && continue
		odd="/var/lib/infra/$record is not a regular file: move it away"
		return 1
	done
}
