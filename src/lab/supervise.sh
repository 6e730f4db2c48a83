#!/bin/sh
# Runs one host of a lab until it powers off; a reboot inside (exit code 133 of systemd-nspawn) boots it again.
# usage: supervise.sh run|boot DIR NETNS HOSTNAME TREE [CGROUP]
set -u
verb=$1 dir=$2 netns=$3 hostname=$4 tree=$5 cgroup=${6-}

# Each boot begins with an empty control group of its own: else the hosts' systemd would meet in ours.
join() {
  [ -n "$1" ] && mkdir -p "$1" && echo $$ >"$1/cgroup.procs" || :
}

if [ "$verb" = boot ]; then
  # Here in a mount namespace of our own: what is mounted goes when the host does.
  join "$cgroup"
  mkdir -p /run/systemd/nspawn
  # systemd-nspawn expects /run to be a tmpfs.
  mount -t tmpfs -o mode=0755 tmpfs /run/systemd/nspawn || exit 97
  layers="lowerdir=$tree,upperdir=$dir/disk/upper,workdir=$dir/disk/work"
  mount -t overlay -o "$layers,volatile" overlay "$dir/root" 2>/dev/null ||
    mount -t overlay -o "$layers" overlay "$dir/root" || exit 96
  # As root of a real machine, root there may lock memory: what keeps secrets in it does.
  # Of /proc/sys, what belongs to the network is the host's own.
  export SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1 SYSTEMD_NSPAWN_API_VFS_WRITABLE=network
  exec systemd-nspawn -q --register=no --keep-unit --settings=no --resolv-conf=off --timezone=off --link-journal=no \
    --console=pipe --directory="$dir/root" --network-namespace-path="/run/netns/$netns" --machine="$netns" \
    --hostname="$hostname" --capability=CAP_NET_ADMIN,CAP_NET_RAW,CAP_IPC_LOCK --boot
fi

join "${cgroup%/*}"
while :; do
  sh "$dir/net.sh" up || exit 98
  [ -z "$cgroup" ] || [ ! -d "$cgroup" ] || find "$cgroup" -depth -type d -exec rmdir {} + 2>/dev/null
  # A layer that was mounted `volatile` says so until it is forgotten.
  rm -rf "$dir/disk/work"
  mkdir -p "$dir/disk/work"
  unshare --mount --propagation slave sh "$0" boot "$dir" "$netns" "$hostname" "$tree" "$cgroup"
  code=$?
  echo "$(date -u +%FT%TZ) ended with $code" >>"$dir/boots"
  [ "$code" -eq 133 ] || break
done
# A machine that is off answers nothing.
sh "$dir/net.sh" down
