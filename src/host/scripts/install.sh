# Installs packages without letting them start anything: what serves is decided by configuration that comes later.
# The caller sets packages, and has files of apt's own in place.

# Nothing asks anybody anything, restarts what serves, or opens an editor: debconf, needrestart, ucf, apt-listchanges.
quiet_apt() {
	DEBIAN_FRONTEND=noninteractive DEBIAN_PRIORITY=critical NEEDRESTART_SUSPEND=1 NEEDRESTART_MODE=l UCF_FORCE_CONFFOLD=1 \
		APT_LISTCHANGES_FRONTEND=none APT_LISTBUGS_FRONTEND=none
	export DEBIAN_FRONTEND DEBIAN_PRIORITY NEEDRESTART_SUSPEND NEEDRESTART_MODE UCF_FORCE_CONFFOLD APT_LISTCHANGES_FRONTEND \
		APT_LISTBUGS_FRONTEND
}

# patiently WHAT COMMAND…: again while another process holds a lock of apt, dpkg or debconf, until 10 minutes are over or the run
# that waits has ended; who holds it is told once. Sets out.
patiently() {
	title=$1 known=''
	shift
	uptime
	end=$((up + 600))
	until out=$(quiet_apt && "$@" 2>&1 </dev/null 8>&-); do
		case $out in
		*'Could not get lock'* | *'Unable to lock'* | *'lock was locked by'* | *'is locked by another process'* | \
			*'Unable to acquire the dpkg frontend lock'*) ;;
		*) fail "$title" "$(printf '%s\n' "$out" | tail -n 12)" || return 1 ;;
		esac
		uptime
		if [ "$up" -ge "$end" ] || [ -n "$late" ]; then
			fail "$title" "another process still works with the packages of this host: $out"
			return 1
		fi
		pid=$(printf '%s\n' "$out" | sed -n 's/.*held by process \([0-9]*\).*/\1/p; s/.*with pid \([0-9]*\).*/\1/p' | head -n 1)
		holder=$([ -n "$pid" ] && cat "/proc/$pid/comm" 2>/dev/null)
		if [ "$known" != "x$pid" ]; then
			known="x$pid"
			emit note "$title waits, because ${holder:-another process}${pid:+ (pid $pid)} works with the packages of this host"
		fi
		# Where nobody listens any more, nothing is begun behind their back later.
		emit progress "waits for ${holder:-another process}" 2>/dev/null || fail "$title" 'nobody waits for it any more' || return 1
		sleep 2
	done
}

# update SOURCES: fetches the lists of just this repository, and takes no warning for success: a signature that does not fit.
update() {
	patiently "apt-get update of ${1##*/}" apt-get -q -o "Dir::Etc::SourceList=$ROOT$1" -o Dir::Etc::SourceParts=/dev/null \
		-o APT::Get::List-Cleanup=0 -o APT::Update::Error-Mode=any -o Acquire::Retries=2 update
}

install_packages() {
	sources=''
	for path in $files; do
		# With another key, or other pins, a repository is another one.
		case $path in
		/etc/apt/sources.list.d/*.sources) source=$path ;;
		/etc/apt/keyrings/infra-*.asc | /etc/apt/preferences.d/infra-*)
			source=${path##*/}
			source=/etc/apt/sources.list.d/${source%.asc}.sources
			[ -e "$ROOT$source" ] || continue
			;;
		*) continue ;;
		esac
		case " $sources " in *" $source "*) ;; *) sources="$sources $source" ;; esac
	done
	[ -n "$packages$sources" ] || return 0
	policy="$ROOT/usr/sbin/policy-rc.d" mark='# made by infra for the time of an installation' ours=''
	if [ ! -e "$policy" ] && [ ! -L "$policy" ] || { plain "$policy" && grep -qxF "$mark" "$policy"; }; then
		# Made anew, so that nothing is written through what stood there.
		rm -f "$policy" && printf '#!/bin/sh\n%s\nexit 101\n' "$mark" >"$policy" && chmod 755 "$policy" && ours=1
	fi
	installed=0
	install_all || installed=1
	[ -z "$ours" ] || rm -f "$policy"
	return "$installed"
}

install_all() {
	# An installation that was cut off earlier is finished first.
	patiently 'dpkg --configure -a' dpkg --force-confdef --force-confold --configure -a || {
		words="$words
an installation was cut off here earlier, and cannot be finished: \`dpkg --audit\` names its packages; mend or remove them"
		return 1
	}
	[ -z "$out" ] || emit note 'an installation that was cut off earlier was finished first'
	for path in $sources; do update "$path" || return 1; done
	[ -n "$packages" ] || return 0
	patiently 'apt-get update' apt-get -q -o Acquire::Retries=2 update || return 1
	patiently 'apt-get install' apt-get -q -y -o Dpkg::Use-Pty=0 --no-install-recommends -o Dpkg::Options::=--force-confold \
		-o Dpkg::Options::=--force-confdef install $packages
}
