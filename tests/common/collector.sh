# Makes and installs a package that stands for Sumo Logic's collector, which cannot be had: the files, the user and the unit of the
# maker's package (github.com/SumoLogic/sumologic-otel-collector-packaging), and a program that has its `validate` and its counters.
set -eu
umask 022
cd "$(mktemp -d)"
mkdir -p tree/DEBIAN tree/usr/local/bin tree/usr/share/otelcol-sumo tree/lib/systemd/system tree/etc/otelcol-sumo/conf.d \
  tree/etc/otelcol-sumo/env
cat >tree/DEBIAN/control <<'END'
Package: otelcol-sumo
Version: 0.155.0-1
Architecture: all
Maintainer: infra lab <lab@example.com>
Description: stands for the collector of Sumo Logic in a lab
END
printf '/etc/otelcol-sumo/sumologic.yaml\n/etc/otelcol-sumo/env/token.env\n' >tree/DEBIAN/conffiles
echo 'SUMOLOGIC_INSTALLATION_TOKEN=' >tree/etc/otelcol-sumo/env/token.env
cat >tree/etc/otelcol-sumo/sumologic.yaml <<'END'
extensions:
  sumologic:
    installation_token: ${SUMOLOGIC_INSTALLATION_TOKEN}
  health_check:
  file_storage:
receivers:
  otlp:
processors:
  memory_limiter:
  batch:
exporters:
  sumologic:
service:
  pipelines:
    logs/default:
      receivers: [otlp]
      exporters: [sumologic]
END
cat >tree/DEBIAN/preinst <<'END'
#!/bin/sh
id otelcol-sumo >/dev/null 2>&1 || useradd --system --user-group --no-create-home --shell /bin/false otelcol-sumo
END
cat >tree/DEBIAN/postinst <<'END'
#!/bin/sh
mkdir -p /var/lib/otelcol-sumo/credentials
chown -R otelcol-sumo:otelcol-sumo /var/lib/otelcol-sumo
chown -R root:otelcol-sumo /etc/otelcol-sumo
chmod 750 /etc/otelcol-sumo /etc/otelcol-sumo/env
systemctl enable otelcol-sumo || true
systemctl daemon-reload || true
END
cat >tree/lib/systemd/system/otelcol-sumo.service <<'END'
[Unit]
Description=stands for the collector of Sumo Logic

[Service]
User=otelcol-sumo
Group=otelcol-sumo
EnvironmentFile=-/etc/otelcol-sumo/env/*.env
ExecStart=/usr/share/otelcol-sumo/otelcol-sumo.sh

[Install]
WantedBy=multi-user.target
END
cat >tree/usr/share/otelcol-sumo/otelcol-sumo.sh <<'END'
#!/bin/sh
if [ -f /etc/otelcol-sumo/sumologic-remote.yaml ]; then
  exec /usr/local/bin/otelcol-sumo --remote-config opamp:/etc/otelcol-sumo/sumologic-remote.yaml
fi
exec /usr/local/bin/otelcol-sumo --config /etc/otelcol-sumo/sumologic.yaml --config 'glob:/etc/otelcol-sumo/conf.d/*.yaml'
END
cat >tree/usr/local/bin/otelcol-sumo <<'END'
#!/usr/bin/perl
# validate: what a pipeline names is defined, no tab, no environment variable that is not set. Without that word: it also tells its
# counters at 127.0.0.1:8888, lines of the journal that it may read, and points by the second.
use strict;
use warnings;
use IO::Socket::INET;
my $validate = @ARGV && $ARGV[0] eq 'validate';
my (%defined, @named, @wrong);
for my $config (grep { !/^(validate|--config)$/ } @ARGV) {
  for my $file ($config =~ s/^glob:// ? sort glob $config : $config) {
    open my $in, '<', $file or do { push @wrong, "$file: $!"; next };
    my ($section, $depth) = ('', 0);
    while (my $line = <$in>) {
      push @wrong, "$file:$.: found a tab" if $line =~ /^ *\t/;
      next if $line =~ /^\s*#/;
      $section = $1 if $line =~ /^(\w+):/;
      $defined{"$section $1"} = 1 if $line =~ /^  ([\w\/-]+):/;
      $defined{"$section $1"} = 1 if $line =~ /^\w+: \{ ([\w\/-]+):/;
      while ($line =~ /\$\{(?:env:)?(\w+)\}/g) {
        push @wrong, "$file:$.: the variable $1 is empty" unless length($ENV{$1} // '');
      }
      if ($section eq 'service' && $line =~ /^\s+(receivers|processors|exporters): \[(.*)\]/) {
        push @named, map { [$file, "$1 $_"] } split /, */, $2;
      }
    }
  }
}
for (@named) {
  my ($file, $what) = @$_;
  push @wrong, "$file: references $what which is not configured" unless $defined{$what};
}
if (@wrong) { print STDERR "$_\n" for @wrong; exit 1 }
exit 0 if $validate;
my $listen = IO::Socket::INET->new(LocalAddr => '127.0.0.1:8888', Listen => 8, ReuseAddr => 1) or die "127.0.0.1:8888: $!\n";
my $began = time;
while (1) {
  my $client = $listen->accept or next;
  while (my $line = <$client>) { last if $line =~ /^\r?\n$/ }
  my $lines = () = qx(journalctl -q -o cat --no-pager 2>/dev/null) =~ /\n/g;
  my $points = 10 * (time - $began);
  my $body = "otelcol_exporter_sent_metric_points_total{exporter=\"sumologic\"} $points\n"
    . "otelcol_exporter_sent_log_records_total{exporter=\"sumologic\"} $lines\n"
    . "otelcol_exporter_queue_size{data_type=\"logs\",exporter=\"sumologic\"} 0\n";
  print $client "HTTP/1.1 200 OK\r\nContent-Length: " . length($body) . "\r\nConnection: close\r\n\r\n$body";
  close $client;
}
END
chmod 755 tree/DEBIAN/preinst tree/DEBIAN/postinst tree/usr/local/bin/otelcol-sumo tree/usr/share/otelcol-sumo/otelcol-sumo.sh
dpkg-deb --root-owner-group -Zgzip -z1 --build tree otelcol-sumo.deb >/dev/null
dpkg --force-confold -i otelcol-sumo.deb >/dev/null
systemctl disable otelcol-sumo 2>/dev/null || true
rm -rf "$PWD"
