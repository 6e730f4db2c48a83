# What says which rules are live, and what is read at boot. Needs lib.sh.
records='/var/lib/infra/firewall.rules /var/lib/infra/firewall.live /var/lib/infra/firewall.boot
/etc/infra/firewall.nft /etc/infra/firewall.v4 /etc/infra/firewall.v6 /etc/infra/firewall.sh
/etc/systemd/system/infra-firewall.service'

# keep_records: they stand in $dir/was as they are now, all of them or none that counts.
keep_records() {
	rm -rf "$dir/was" && mkdir "$dir/was" || return 1
	for file in $records; do
		[ ! -L "$ROOT$file" ] && [ -f "$ROOT$file" ] || continue
		cp -p "$ROOT$file" "$dir/was/${file##*/}" || return 1
	done
	: >"$dir/was/whole"
}

# records_back: each stands again as it was kept, where any were kept: the old rules with the record of new ones would look like
# somebody else's doing.
records_back() {
	[ -e "$dir/was/whole" ] || return 0
	entry=$ROOT/etc/systemd/system/$unit left='' reads=''
	for file in $records; do
		was=$dir/was/${file##*/}
		if [ ! -e "$was" ]; then
			[ -e "$ROOT$file" ] || continue
			[ "$ROOT$file" != "$entry" ] || { reads=1; ! systemd || systemctl disable --quiet "$unit" >/dev/null 2>&1 || :; }
			rm -f "$ROOT$file" || left="$left $file"
			continue
		fi
		[ "$(sha256sum <"$was")" != "$(sha256sum <"$ROOT$file" 2>/dev/null)" ] || continue
		mode=600
		[ "$ROOT$file" != "$entry" ] || { mode=644; reads=1; }
		put "$ROOT$file" $mode <"$was" || left="$left $file"
	done
	[ -z "$reads" ] || ! systemd || systemctl daemon-reload || :
	[ -z "$left" ] || say "the old rules are back, and these files still tell of the new ones:$left"
}
