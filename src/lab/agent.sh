# Builds Telegraf and makes a signed package repository of it: agent.sh FOLDER GO VERSION TAGS
set -eu
umask 022
folder=$1 go=$2 version=$3 tags=$4
cd "$folder"
HOME=${HOME:-/root}
export HOME

CGO_ENABLED=0 GOBIN="$folder/bin" GOFLAGS=-buildvcs=false "$go" install -trimpath \
  -ldflags="-s -w -X github.com/influxdata/telegraf/internal.Version=$version" -tags "$tags" \
  "github.com/influxdata/telegraf/cmd/telegraf@v$version"

arch=$(dpkg --print-architecture)
mkdir -p tree/DEBIAN tree/usr/bin tree/etc/telegraf tree/lib/systemd/system
mv bin/telegraf tree/usr/bin/telegraf
cat >tree/DEBIAN/control <<END
Package: telegraf
Version: $version-1
Architecture: $arch
Maintainer: infra lab <lab@example.com>
Description: a real Telegraf with the plugins that infra uses, packed for a lab
END
cat >tree/lib/systemd/system/telegraf.service <<END
[Unit]
Description=Telegraf
After=network-online.target
Wants=network-online.target

[Service]
Type=notify
NotifyAccess=all
EnvironmentFile=-/etc/default/telegraf
User=telegraf
ExecStart=/usr/bin/telegraf -config /etc/telegraf/telegraf.conf -config-directory /etc/telegraf/telegraf.d \$TELEGRAF_OPTS
ExecReload=/bin/kill -HUP \$MAINPID
Restart=on-failure

[Install]
WantedBy=multi-user.target
END
# As the maker's package, it makes a user, and enables its unit without starting it.
cat >tree/DEBIAN/preinst <<'END'
#!/bin/sh
id telegraf >/dev/null 2>&1 || useradd --system --user-group --no-create-home --shell /bin/false telegraf
END
cat >tree/DEBIAN/postinst <<'END'
#!/bin/sh
systemctl enable telegraf || true
systemctl daemon-reload || true
END
chmod 755 tree/DEBIAN/preinst tree/DEBIAN/postinst
index=dists/stable/main/binary-$arch
mkdir -p debian/pool "debian/$index"
dpkg-deb --root-owner-group -Zgzip -z1 --build tree "debian/pool/telegraf_$version-1_$arch.deb" >/dev/null
rm -rf tree bin
cd debian
apt-ftparchive packages pool >"$index/Packages"
gzip -1 -k "$index/Packages"
cd dists/stable
apt-ftparchive -o APT::FTPArchive::Release::Suite=stable -o APT::FTPArchive::Release::Codename=stable \
  -o APT::FTPArchive::Release::Components=main -o "APT::FTPArchive::Release::Architectures=$arch" release . >../Release
mv ../Release Release

mkdir -m 700 "$folder/gpg"
sign() { gpg --homedir "$folder/gpg" --batch --quiet --pinentry-mode loopback --passphrase '' "$@"; }
trap 'gpgconf --homedir "$folder/gpg" --kill all' EXIT
sign --quick-gen-key 'infra lab <lab@example.com>' ed25519 sign never
sign --clearsign -o InRelease Release
sign --armor --export >"$folder/maker.asc"
sign --with-colons --list-keys | sed -n 's/^fpr:*\([0-9A-F]*\):.*/\1/p' | head -n 1 >"$folder/.fingerprint"
mv "$folder/.fingerprint" "$folder/fingerprint"
