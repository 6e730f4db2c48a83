# Answers what a host is, behind ways.sh and wire.sh and these lines of the request, with all paths below the root as `./etc/x`:
#   asked   files whose text is told where it differs and everyone may read it   digests   what sha256sum says of them where none differs
#   secret  files whose text is never told    wanted   folders                   on_ways   each folder on the way to one of all these
#   units, packages     names                 coming   packages of which the version that would come is told where they are not there
# Few forks, and the shell itself reads nothing that has more than a few bytes, as each of them takes a system call: this is the whole
# of a run that finds nothing to do.
umask 077
LC_ALL=C
export LC_ALL
infra="$ROOT/var/lib/infra" own=./var/lib/infra line_end='
'
cd "$ROOT/" || exit 1

# Nothing is read through a link that we did not make, and nothing that could hold us up: odd is what is in the way, and where
# there is any, the host is told what it is and nothing behind it is looked at.
odd=''
real_folders() {
	for on in "$@"; do
		if [ -L "$on" ] || { [ -e "$on" ] && [ ! -d "$on" ]; }; then odd="$odd $on"; fi
	done
}
real_folders $on_ways
for path in $own/lock $own/lock.holder $own/orders.lock $own/orders.holder $own/step.lock $own/manifest $own/unfinished $own/undo \
	$own/owed/* $own/made/* ./run/infra/held/* ./run/infra/untold/* RECORDS; do
	plain_or_none "$path" || odd="$odd $path"
done

# One process reads the lines of all that is told by its lines, each file by the rules of who asks for it. What there is to read is
# listed while nobody is at work: a step that outlived its controller is let through first, as half of a change is no state to plan
# from. Where the lock is not given back, or flock is one that forks, it is read all the same.
told=$line_end$line_end$line_end
look() {
	by=$1
	set --
	for path in ./etc/os-release ./proc/meminfo; do [ ! -f "$path" ] || set -- "$@" who=system "$path"; done
	# The kernel gives such a number to one reader in one go, which the shell's own is not.
	[ ! -f ./proc/sys/fs/nr_open ] || set -- "$@" who=bound ./proc/sys/fs/nr_open
	if [ -z "$odd" ]; then
		[ ! -f $own/manifest ] || set -- "$@" who=manifest $own/manifest
		for path in $own/owed/*; do [ ! -f "$path" ] || set -- "$@" who=owed "$path"; done
		for path in $own/made/*; do [ ! -f "$path" ] || set -- "$@" who=made "$path"; done
		LOOKS
	fi
	[ $# -gt 0 ] || return 0
	told=$($by awk AWK "known=$asked $secret $wanted" "on_ways=$on_ways" "$@")
}
if [ -n "$odd" ] || [ ! -e "$own/step.lock" ] || ! look "flock -s -n -F $own/step.lock" 2>/dev/null; then
	[ -n "$odd" ] || [ ! -e "$own/step.lock" ] || flock -s -w 45 "$own/step.lock" true
	# What goes away between the list and its reading, such as an interface, ends awk: then once more.
	look '' 2>/dev/null || look '' || exit 1
fi
more=${told%%"$line_end"*}
told=${told#"$more$line_end"}
on=${told%%"$line_end"*}
told=${told#"$on$line_end"}
bound=${told%%"$line_end"*}
told=${told#"$bound$line_end"}
real_folders $on
on_ways="$on_ways$on"
emit told "$told"

[ -d "$ROOT/run/systemd/system" ] && emit init systemd
[ -r sys/devices/system/cpu/online ] && read -r number <sys/devices/system/cpu/online && emit cores "$number"
emit ssh "${SSH_CONNECTION-}"

# What dpkg itself keeps, where it is not at work: the line of a package and those behind it, up to its version.
updates=''
for path in var/lib/dpkg/updates/*; do [ ! -e "$path" ] || updates=1; done
if [ -f var/lib/dpkg/status ] && [ -z "$updates" ]; then
	set --
	for package in $packages; do set -- "$@" -e "Package: $package"; done
	installed=$(grep -xF -A 14 "$@" var/lib/dpkg/status)
	emit status "$installed"
elif command -v dpkg-query >/dev/null; then
	installed=$(dpkg-query -W -f '${db:Status-Status} ${Package} ${Version}\n' $packages 2>/dev/null)
	emit packages "$installed"
else
	emit nodpkg 1
	coming=''
fi
missing=''
for package in $coming; do
	stanza="${line_end}Package: $package${line_end}Status:"
	case "$line_end$installed" in
	*"${line_end}installed $package "* | *"$stanza install ok installed$line_end"* | *"$stanza hold ok installed$line_end"*) ;;
	*) missing="$missing $package" ;;
	esac
done
# Without the lines that tell where it would come from.
[ -n "$missing" ] && emit candidates "$(apt-cache policy $missing 2>/dev/null | sed -n '/^[^ ]/p; /^  Candidate:/p')"

for path in ./run/infra/held/* ./run/infra/untold/*; do
	[ -z "$odd" ] && [ -f "$path" ] || continue
	case $path in */held/*) emit held "${path##*/}" ;; *) emit untold "${path##*/}" ;; esac
done
if [ -z "$odd" ] && [ -f $own/undo ]; then
	read -r value <$own/undo
	emit cut_off "$value"
	# What was begun and is taken back soon is not true, whatever can be seen of it now.
	set -- $value
	cut="$infra/runs/$1/old/$2"
	limits=0
	plain "$cut.begun" && while read -r task; do
		plain "$cut.tasks/$task.limit" && read -r limit <"$cut.tasks/$task.limit" && case $limit in
		'' | *[!0-9]* | ?????????*) ;;
		*) limits=$((limits + limit)) ;;
		esac
		plain "$cut.tasks/$task.makes" && while read -r fact value; do emit doubted "$fact"; done <"$cut.tasks/$task.makes"
	done <"$cut.begun"
	emit undo_limit "$limits"
fi

if [ -n "$odd" ]; then asked=$odd digests='' secret='' more='' wanted='' on_ways=''; fi
# Most is root's, and is asked for without names, as stat reads the files of users and groups anew for each file that it names. That
# the user is root is seen by a folder that is always root's.
there='' roots='' regular='' links=''
if [ -O /proc/sys ] && [ -G /proc/sys ]; then root=1; else root=''; fi
stands() {
	if [ -n "$root" ] && [ -O "$1" ] && [ -G "$1" ]; then roots="$roots $1"; else there="$there $1"; fi
}
for path in $asked $secret $more; do
	if [ -L "$path" ]; then
		there="$there $path" links="$links $path"
	elif [ -e "$path" ]; then
		stands "$path"
		if [ -f "$path" ]; then regular="$regular $path"; fi
	fi
done
for path in $wanted $on_ways; do
	if [ -L "$path" ]; then
		there="$there $path" links="$links $path"
	elif [ -e "$path" ]; then
		stands "$path"
	fi
done
[ -z "$odd" ] && for path in DIGESTS; do
	if [ -f "$path" ] && [ ! -L "$path" ]; then regular="$regular $path"; fi
done
if [ -n "$there$roots" ]; then
	printf 'stat\0'
	[ -z "$roots" ] || stat -c '%F|%a|root|root|%n' -- $roots
	[ -z "$there" ] || stat -c '%F|%a|%U|%G|%n' -- $there
	printf '\0'
fi
# A line each, whatever stands in them.
[ -n "$links" ] && emit links "$(QUOTING_STYLE=escape stat -c '%N' -- $links)"
# In the same process, what root may give one: the kernel's own bound (proc_sys_fs(5)), or where a container may not go there, its
# hard limit.
sums=$(
	[ -z "$bound" ] || ulimit -n "$bound" 2>/dev/null
	ulimit -Hn
	[ -z "$regular" ] || exec sha256sum -- $regular
)
[ -z "$bound" ] || emit files "${sums%%"$line_end"*}"
case $sums in *"$line_end"*) sums=${sums#*"$line_end"} ;; *) sums='' ;; esac
emit sums "$sums"
# texts LINE…: the texts of those of which the line of sha256sum is another.
texts() {
	for line in "$@"; do
		case "$sums" in *"$line"*) continue ;; esac
		path=${line##* }
		# What others may not read here may hold a secret of before, and stays here.
		[ -f "$path" ] && [ ! -L "$path" ] && case $(stat -c %A -- "$path") in
		???????r*) emit "text $path" "$(head -c 262144 "$path" | tr -d '\0')" ;;
		esac
	done
}
case "$sums" in
"$digests"*) ;;
*)
	IFS=$line_end
	set -- $digests
	IFS=' 	'$line_end
	texts "$@"
	;;
esac

# One question for all units, also for those that services ask about by themselves, for what they do now. What is done at boot is
# what links say. What systemd keeps on the disk does not do instead: /run/systemd/units names a unit also while it starts and while it
# stops, and one whose main process has died has processes in its group too, for as long as another one does not end. A unit that is
# to run and is not, that no link starts, or whose file is itself a link, is asked for by all that systemd knows of it, which takes it
# four times as long.
note_running() { if [ "$2 $3" = 'loaded active' ]; then running="$running$1 "; fi; }
if [ -d "$ROOT/run/systemd/system" ]; then
	others='' linked='' running=' ' open=''
	for unit in UNITS; do
		case " $units " in *" $unit "*) continue ;; esac
		for file in etc/systemd/system/$unit usr/lib/systemd/system/$unit lib/systemd/system/$unit run/systemd/system/$unit \
			run/systemd/transient/$unit run/systemd/generator/$unit run/systemd/generator.late/$unit; do
			[ -e "$file" ] && others="$others $unit" && break
		done
	done
	listed=''
	[ -z "$units$others" ] || listed=$(systemctl list-units --all --full --plain --no-legend --no-pager -- $units $others 2>/dev/null) ||
		{ open="$units$others" others=''; }
	if [ -z "$open" ]; then
		IFS=$line_end
		set -f
		set -- $listed
		IFS=' 	'$line_end
		for line in "$@"; do note_running $line; done
		set +f
		starts=''
		for on in etc/systemd/system/*.wants etc/systemd/system/*.requires; do [ -d "$on" ] && starts="$starts $on"; done
		for unit in $units $others; do
			link=''
			for on in $starts; do [ -L "$on/$unit" ] && link=1 && break; done
			[ -z "$link" ] || linked="$linked $unit"
			if [ -L "etc/systemd/system/$unit" ] || [ -L "run/systemd/system/$unit" ]; then open="$open $unit" && continue; fi
			if [ -e "etc/systemd/system/$unit" ] && [ ! -s "etc/systemd/system/$unit" ]; then open="$open $unit" && continue; fi
			case " $units " in *" $unit "*) ;; *) continue ;; esac
			case $running in *" $unit "*) [ -n "$link" ] && continue ;; esac
			open="$open $unit"
		done
	fi
	emit others "$others"
	emit listed "$listed"
	emit linked "$linked"
	[ -z "$open" ] || emit units "$(systemctl show --no-pager -p Id -p LoadState -p ActiveState -p UnitFileState -- $open 2>/dev/null)"
fi
