#!/bin/sh
# Runs on a fresh Debian tree: image.sh TREE DEBS REPOSITORY PACKAGE…
# Fetches the packages (with what the tree lacks for them) into DEBS, then makes the tree what a bare host of a lab is.
set -eu
tree=$1 debs=$2 repository=$3
shift 3

mkdir -p "$debs/partial"
APT_CONFIG=$MMDEBSTRAP_APT_CONFIG apt-get -q --yes --no-install-recommends --download-only \
  -o Dir::Cache::archives="$debs" -o APT::Sandbox::User=root install "$@"
rm -rf "$debs/partial" "$debs/lock"

# Packages come from the lab's own repository and from nowhere else.
rm -rf "$tree"/etc/apt/sources.list "$tree"/etc/apt/sources.list.d/* "$tree/etc/apt/apt.conf.d/99mmdebstrap"
echo "deb [trusted=yes] http://$repository/ ./" >"$tree/etc/apt/sources.list"
echo 'Acquire::Languages "none";' >"$tree/etc/apt/apt.conf.d/90lab"

# What makes a machine itself is written for each host.
rm -f "$tree"/etc/ssh/ssh_host_* "$tree/etc/resolv.conf" "$tree/etc/hostname" "$tree/var/lib/dbus/machine-id"
: >"$tree/etc/machine-id"

# Units that a host in a lab cannot need and that make its boot slow or its packages move.
for unit in apt-daily.service apt-daily.timer apt-daily-upgrade.service apt-daily-upgrade.timer console-getty.service \
  dpkg-db-backup.timer e2scrub_all.timer e2scrub_reap.service fstrim.timer getty.target systemd-pstore.service; do
  ln -sf /dev/null "$tree/etc/systemd/system/$unit"
done
# Else the first boot rebuilds what the image has (ConditionNeedsUpdate in systemd.unit(5)).
touch "$tree/etc/.updated" "$tree/var/.updated"
