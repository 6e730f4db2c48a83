# Answers what a host is, as NUL-separated pairs of key and value on stdout. Reads what is asked for on stdin, a line each:
#   F DIGEST PATH   a file, its text too where the digest differs      S PATH   a file, never its text
#   D PATH          a folder                                           U NAME   a unit          P NAME   a package
# Few forks, because this is the whole of a run that finds nothing to do.
umask 077
LC_ALL=C
export LC_ALL
infra="$ROOT/var/lib/infra"
cd "$ROOT/" || exit 1
# A step that outlived its controller is let through first: half of a change is no state to plan from.
if [ -e "$infra/step.lock" ]; then flock -w 45 "$infra/step.lock" true; fi
emit() { printf '%s\0%s\0' "$1" "$2"; }

texts='' files='' folders='' units='' packages=''
while read -r kind one two; do
	case $kind in
	F) files="$files .$two" texts="$texts $one:.$two" ;;
	S) files="$files .$one" ;;
	D) folders="$folders .$one" ;;
	U) units="$units $one" ;;
	P) packages="$packages $one" ;;
	esac
done

if [ -r etc/os-release ]; then
	# In a subshell: it sets whatever it likes.
	emit os "$(. ./etc/os-release; echo "$ID $VERSION_ID")"
fi
[ -d "$ROOT/run/systemd/system" ] && emit init systemd
emit clock "$(date +%s)"
# Blocks that anyone may use, and their size.
set -- $(stat -f -c '%a %S' "$ROOT/var/lib")
emit free "$((${1:-0} * ${2:-0} / 1024))"

# sudo drops SSH_CONNECTION; it is still in the environment of one of our parents.
pid=$$ ssh=${SSH_CONNECTION-} parents=''
while [ -z "$ssh" ] && [ "${#parents}" -lt 160 ] && [ "$pid" -gt 1 ]; do
	read -r stat </proc/$pid/stat || break
	stat=${stat##*) }
	set -- $stat
	pid=$2 parents="$parents /proc/$2/environ"
done
[ -n "$parents" ] && ssh=$(grep -shzm 1 '^SSH_CONNECTION=' $parents | tr '\0' '\n')
ssh=${ssh#SSH_CONNECTION=}
ssh=${ssh%%
*}
emit ssh "$ssh"

if command -v dpkg-query >/dev/null; then
	emit packages "$(dpkg-query -W -f '${db:Status-Status} ${Package} ${Version}\n' $packages 2>/dev/null)"
else
	emit nodpkg 1
fi

if [ -r "$infra/manifest" ]; then
	printf 'manifest\0'
	while read -r digest then path; do
		files="$files .$path"
		printf '%s %s %s\n' "$digest" "$then" "$path"
	done <"$infra/manifest"
	printf '\0'
fi
for owed in "$infra"/owed/*; do
	[ -f "$owed" ] && emit owed "${owed##*/} $(cat "$owed")"
done

there='' regular=''
for path in $files $folders; do
	if [ -e "$path" ] || [ -L "$path" ]; then
		case " $there " in *" $path "*) continue ;; esac
		there="$there $path"
		[ -f "$path" ] && [ ! -L "$path" ] && regular="$regular $path"
	fi
done
[ -n "$there" ] && emit stat "$(stat -c '%F|%a|%U|%G|%n' -- $there)"
sums=''
[ -n "$regular" ] && sums=$(sha256sum -- $regular)
emit sums "$sums"
for text in $texts; do
	path=${text#*:}
	case "$sums" in
	*"${text%%:*}  $path"*) ;;
	*) [ -f "$path" ] && [ ! -L "$path" ] && emit "text $path" "$(head -c 262144 "$path" | tr -d '\0')" ;;
	esac
done

# One question for our units and for the firewalls that may be rivals: systemd is the slowest to answer, most of all about
# units that no file stands for.
if [ -d "$ROOT/run/systemd/system" ]; then
	for unit in FW_UNITS; do
		for file in etc/systemd/system/$unit usr/lib/systemd/system/$unit lib/systemd/system/$unit run/systemd/system/$unit \
			run/systemd/transient/$unit run/systemd/generator/$unit run/systemd/generator.late/$unit; do
			[ -e "$file" ] && units="$units $unit" && break
		done
	done
	[ -n "$units" ] &&
		fw_units=$(systemctl show --no-pager -p Id -p LoadState -p ActiveState -p UnitFileState -- $units 2>/dev/null)
	emit units "${fw_units-}"
fi
if [ -d sys/class/net/docker0 ] || [ -e etc/docker ]; then emit guest 1; fi
