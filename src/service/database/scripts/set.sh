# Tells the running server what stands in the file $1, which comes on standard input: settings one by one, or that certificates have
# changed. Warning 1292: it would take another value than the one that was written.
set_lines() {
	while IFS= read -r line; do
		case $line in [a-z]*' = '*) ;; *) continue ;; esac
		name=${line%% = *} value=${line#* = }
		name=${name#loose_} value=${value#\"} value=${value%\"}
		case ${value#-} in
		'' | *[!0-9.]*) value=$(quoted "$value") ;;
		esac
		echo "SET GLOBAL $name = $value; SHOW WARNINGS;"
		echo "$name" >&3
	done
}
case $1 in
*.crt | *.key)
	cat >/dev/null
	reload_tls_sql | sql
	;;
*)
	told=/run/infra/database.told
	mkdir -p /run/infra && : >"$told.new" || exit 1
	statements=$(set_lines 3>"$told.new") || exit 1
	# What was told before and is no longer wanted is as the server has it by itself.
	if [ -e "$told" ]; then
		gone=$(grep -vxFf "$told.new" "$told" | sed 's/.*/SET GLOBAL & = DEFAULT;/')
	else
		gone=''
	fi
	said=$(printf '%s\n' "$gone" "$statements" | sql 2>&1) || { printf '%s\n' "$said"; exit 1; }
	odd=$(printf '%s\n' "$said" | grep '	1292	') && { printf '%s\n' "$odd" | cut -f 3; exit 1; }
	mv "$told.new" "$told"
	;;
esac
