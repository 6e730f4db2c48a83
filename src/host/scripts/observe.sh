# Answers what a host is, behind ways.sh and wire.sh. Reads what is asked for on stdin, a line each:
#   F DIGEST PATH   a file, its text too where the digest differs and everyone may read it   S PATH   a file, never its text
#   D PATH          a folder                                           U NAME   a unit          P NAME   a package
#   C NAME          a package, and where it is not installed the version that would be
# Few forks, because this is the whole of a run that finds nothing to do.
umask 077
LC_ALL=C
export LC_ALL
infra="$ROOT/var/lib/infra"
cd "$ROOT/" || exit 1

# Nothing is read through a link that we did not make, and nothing that could hold us up: odd is what is in the way, and where
# there is any, the host is told what it is and nothing behind it is looked at.
odd='' ways=' '
# way PATH: looks at each folder on the way to it, once.
way() {
	on=${1%/*}
	while [ "$on" != . ]; do
		case $ways in *" $on "*) return ;; esac
		ways="$ways$on "
		if [ -L "$on" ] || { [ -e "$on" ] && [ ! -d "$on" ]; }; then odd="$odd $on"; fi
		on=${on%/*}
	done
}
for path in var/lib/infra/runs var/lib/infra/owed var/lib/infra/made run/infra/held run/infra/untold etc/infra \
	etc/systemd/system; do way "./$path/-"; done
own=./var/lib/infra
for path in $own/lock $own/lock.holder $own/orders.lock $own/orders.holder $own/step.lock $own/manifest $own/unfinished $own/undo \
	$own/owed/* $own/made/* ./run/infra/held/* ./run/infra/untold/* RECORDS; do
	plain_or_none "$path" || odd="$odd $path"
done
# A step that outlived its controller is let through first: half of a change is no state to plan from.
if [ -z "$odd" ] && [ -e "$infra/step.lock" ]; then flock -w 45 "$infra/step.lock" true; fi

texts='' files='' folders='' units='' packages='' coming=''
while read -r kind one two; do
	case $kind in
	F) files="$files .$two" texts="$texts $one:.$two" && way ".$two" ;;
	S) files="$files .$one" && way ".$one" ;;
	D) folders="$folders .$one" && way ".$one" ;;
	U) units="$units $one" ;;
	P) packages="$packages $one" ;;
	C) packages="$packages $one" coming="$coming $one" ;;
	esac
done

# A link that the distribution ships.
if [ -f etc/os-release ]; then
	# In a subshell: it sets whatever it likes.
	emit os "$(. ./etc/os-release; echo "$ID ${VERSION_ID:-${VERSION_CODENAME-}}")"
fi
[ -d "$ROOT/run/systemd/system" ] && emit init systemd
emit clock "$(date +%s)"
# By the shell itself: a number is not worth a process.
[ -r proc/meminfo ] && while read -r name number unit; do
	[ "$name" = MemTotal: ] && { emit memory "$number"; break; }
done <proc/meminfo
[ -r sys/devices/system/cpu/online ] && read -r number <sys/devices/system/cpu/online && emit cores "$number"
# What root may give a process: the kernel's own bound (proc_sys_fs(5)), or where a container may not go there, its hard limit.
[ -r proc/sys/fs/nr_open ] && read -r number <proc/sys/fs/nr_open && emit files "$(
	ulimit -n "$number" 2>/dev/null
	ulimit -Hn
)"
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
	installed=$(dpkg-query -W -f '${db:Status-Status} ${Package} ${Version}\n' $packages 2>/dev/null)
	emit packages "$installed"
	missing=''
	for package in $coming; do
		case "
$installed" in *"
installed $package "*) ;; *) missing="$missing $package" ;; esac
	done
	# Without the lines that tell where it would come from.
	[ -n "$missing" ] && emit candidates "$(apt-cache policy $missing 2>/dev/null | sed -n '/^[^ ]/p; /^  Candidate:/p')"
else
	emit nodpkg 1
fi

if [ -z "$odd" ] && plain "$infra/manifest"; then
	printf 'manifest\0'
	while read -r digest then path; do
		files="$files .$path"
		way ".$path"
		printf '%s %s %s\n' "$digest" "$then" "$path"
	done <"$infra/manifest"
	printf '\0'
fi
for owed in "$infra"/owed/*; do
	[ -z "$odd" ] && plain "$owed" && emit owed "${owed##*/} $(cat "$owed")"
done

for made in "$infra"/made/* "$infra/undo" "$ROOT"/run/infra/held/* "$ROOT"/run/infra/untold/*; do
	[ -z "$odd" ] && plain "$made" || continue
	read -r value <"$made"
	case $made in
	*/made/*) emit made "${made##*/} $value" ;;
	*/infra/undo)
		emit cut_off "$value"
		# What was begun and is taken back soon is not true, whatever can be seen of it now.
		set -- $value
		cut="$infra/runs/$1/old/$2"
		limits=0
		plain "$cut.begun" && while read -r number; do
			plain "$cut.tasks/$number.limit" && read -r limit <"$cut.tasks/$number.limit" && case $limit in
			'' | *[!0-9]* | ?????????*) ;;
			*) limits=$((limits + limit)) ;;
			esac
			plain "$cut.tasks/$number.makes" && while read -r fact value; do emit doubted "$fact"; done <"$cut.tasks/$number.makes"
		done <"$cut.begun"
		emit undo_limit "$limits"
		;;
	*/held/*) emit held "${made##*/}" ;;
	*) emit untold "${made##*/}" ;;
	esac
done

if [ -n "$odd" ]; then files=$odd folders='' ways='' texts=''; fi
there='' regular='' links=''
for path in $files $folders $ways; do
	if [ -e "$path" ] || [ -L "$path" ]; then
		case " $there " in *" $path "*) continue ;; esac
		there="$there $path"
		if [ -L "$path" ]; then links="$links $path"; elif [ -f "$path" ]; then regular="$regular $path"; fi
	fi
done
[ -n "$there" ] && emit stat "$(stat -c '%F|%a|%U|%G|%n' -- $there)"
# A line each, whatever stands in them.
[ -n "$links" ] && emit links "$(QUOTING_STYLE=escape stat -c '%N' -- $links)"
sums=''
[ -n "$regular" ] && sums=$(sha256sum -- $regular)
emit sums "$sums"
for text in $texts; do
	path=${text#*:}
	case "$sums" in
	*"${text%%:*}  $path"*) ;;
	*)
		# What others may not read here may hold a secret of before, and stays here.
		[ -f "$path" ] && [ ! -L "$path" ] && case $(stat -c %A -- "$path") in
		???????r*) emit "text $path" "$(head -c 262144 "$path" | tr -d '\0')" ;;
		esac
		;;
	esac
done

# One question for all units, also for those that services ask about by themselves: systemd is the slowest to answer, most of
# all about units that no file stands for.
if [ -d "$ROOT/run/systemd/system" ]; then
	for unit in UNITS; do
		for file in etc/systemd/system/$unit usr/lib/systemd/system/$unit lib/systemd/system/$unit run/systemd/system/$unit \
			run/systemd/transient/$unit run/systemd/generator/$unit run/systemd/generator.late/$unit; do
			[ -e "$file" ] && units="$units $unit" && break
		done
	done
	[ -n "$units" ] &&
		shown=$(systemctl show --no-pager -p Id -p LoadState -p ActiveState -p UnitFileState -- $units 2>/dev/null)
	emit units "${shown-}"
fi
