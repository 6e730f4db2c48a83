#!/usr/bin/perl
# The lab's web program: app.pl PORT. Answers /healthz with `ok`, and most else with what it saw of the request. Where the host has what
# leads to a database, POST /orders writes a row by the port for writes, GET /orders/ID reads it by the port for reads, and GET /orders
# counts.
use strict;
use warnings;
use IO::Socket::INET;
use IO::Select;
use POSIX ();

my $port = shift // die "usage: app.pl PORT\n";
my $host = (POSIX::uname())[1];
my $listener = IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => $port, Proto => 'tcp', Listen => 1024, ReuseAddr => 1)
  or die "cannot listen on 127.0.0.1:$port: $@\n";
$listener->blocking(0);
$SIG{PIPE} = 'IGNORE';

# Some children share the listener; each serves many connections, so that one that stays open holds up nobody.
my %children;
$SIG{TERM} = sub { kill 'TERM', keys %children; exit 0 };
sub start {
  my $pid = fork() // die "cannot fork: $!\n";
  if ($pid) { $children{$pid} = 1; return }
  $SIG{TERM} = 'DEFAULT';
  serve();
}
start() for 1 .. 4;
while ((my $pid = wait()) > 0) { delete $children{$pid}; start() }

# What a stock client says to SQL, as one who logs in by the files that infra made; and whether it was carried out. No secret is in
# its words. `$group` is the suffix of a group of the file.
sub sql {
  my ($group, $sql) = @_;
  my ($file) = grep { -r } glob '/etc/infra/db/*.cnf' or return ("no database leads here\n", 0);
  my $client = -x '/usr/bin/mariadb' ? 'mariadb' : 'mysql';
  my @group = $group ? "--defaults-group-suffix=$group" : ();
  my $pid = open(my $said, '-|') // return ("cannot fork: $!\n", 0);
  if (!$pid) {
    open STDERR, '>&', \*STDOUT;
    exec('timeout', '5', $client, "--defaults-file=$file", @group, qw(--connect-timeout=5 --batch --skip-column-names -e), $sql)
      or POSIX::_exit(127);
  }
  my $text = join '', <$said>;
  return ($text, close $said);
}

# Carried out by any program that wants to outlive a change of the writer: what failed is tried again, under the same number, so that
# it is written once whatever happened.
sub order {
  my ($method, $path) = @_;
  my $until = time + 10;
  if ($method eq 'POST') {
    open my $random, '<', '/dev/urandom' or return ("500 Internal Server Error", "no number: $!\n");
    sysread $random, my $bytes, 8;
    my $id = unpack 'H*', $bytes;
    my $insert = "INSERT INTO orders (id, taken_by) VALUES ('$id', '$host') ON DUPLICATE KEY UPDATE id = id; SELECT \@\@hostname";
    while (1) {
      my ($text, $done) = sql('', $insert);
      return ("201 Created", "order $id: taken by $host, written to $text") if $done;
      return ("503 Service Unavailable", $text) if time >= $until;
      sql('', 'CREATE TABLE IF NOT EXISTS orders (id CHAR(16) PRIMARY KEY, taken_by VARCHAR(63) NOT NULL)') if $text =~ /^ERROR 1146 /m;
      select undef, undef, undef, 0.1;
    }
  }
  my ($id) = $path =~ m{^/orders/([0-9a-f]{16})$};
  my $select = $id ? "SELECT CONCAT('order ', id, ': taken by ', taken_by, ', read on ', \@\@hostname) FROM orders WHERE id = '$id'"
    : "SELECT CONCAT('orders: ', COUNT(*), ', read on ', \@\@hostname) FROM orders";
  while (1) {
    my ($text, $done) = sql('_read', $select);
    return ("200 OK", $text) if $done && length $text;
    return $done ? ("404 Not Found", "there is no such order\n") : ("503 Service Unavailable", $text) if time >= $until - 8;
    select undef, undef, undef, 0.1;
  }
}

sub answer {
  my ($head) = @_;
  my ($method, $path) = $head =~ m{^(\S+) (\S+) HTTP/1\.[01]\r?\n};
  return ("400 Bad Request", "bad request\n") unless defined $path;
  return ("200 OK", "ok\n") if $path =~ m{^/healthz(\?|$)};
  my $text = "host: $host\nmethod: $method\npath: $path\n";
  for my $name (qw(Host X-Forwarded-For X-Forwarded-Proto)) {
    my ($value) = $head =~ /^\Q$name\E:[ \t]*(.*?)[ \t]*\r?$/mi;
    $text .= lc($name) . ': ' . ($value // '-') . "\n";
  }
  # A wish for another protocol is told where there is one, and not granted.
  $text .= "upgrade: $1\n" if $head =~ /^Upgrade:[ \t]*(.*?)[ \t]*\r?$/mi;
  return ("200 OK", $text);
}

sub serve {
  $SIG{CHLD} = 'IGNORE';
  my $select = IO::Select->new($listener);
  my %in;
  while (1) {
    for my $socket ($select->can_read) {
      if ($socket == $listener) {
        my $new = $listener->accept or next;
        $select->add($new);
        $in{fileno $new} = '';
        next;
      }
      my $id = fileno $socket;
      my $got = sysread $socket, $in{$id}, 65536, length $in{$id};
      my $open = $got;
      while ($open && $in{$id} =~ /\r?\n\r?\n/) {
        my ($head, $rest) = (substr($in{$id}, 0, $-[0]) . "\r\n", substr($in{$id}, $+[0]));
        my ($length) = $head =~ /^Content-Length:\s*(\d+)/mi;
        last if length $rest < ($length // 0) && length $in{$id} < 1_048_576;
        $in{$id} = substr $rest, $length // 0 < length $rest ? $length // 0 : length $rest;
        # What has to wait for a database has a process of its own, so that it holds up nobody.
        if ($head =~ m{^(GET|POST) (/orders(?:/\S*)?) }) {
          my ($method, $path) = ($1, $2);
          $open = 0;
          last if fork() // 1;
          $SIG{CHLD} = 'DEFAULT';
          my ($status, $text) = order($method, $path);
          syswrite $socket, "HTTP/1.1 $status\r\nContent-Type: text/plain\r\nContent-Length: " . length($text)
            . "\r\nConnection: close\r\n\r\n$text";
          POSIX::_exit(0);
        }
        my ($status, $text) = answer($head);
        my $keep = $head =~ m{^\S+ \S+ HTTP/1\.1} ? $head !~ /^Connection:.*close/mi : $head =~ /^Connection:.*keep-alive/mi;
        my $connection = $keep ? 'keep-alive' : 'close';
        my $body = $head =~ /^HEAD / ? '' : $text;
        my $reply = "HTTP/1.1 $status\r\nContent-Type: text/plain\r\nContent-Length: " . length($text)
          . "\r\nConnection: $connection\r\n\r\n$body";
        $open = defined(syswrite $socket, $reply) && $keep;
      }
      $open = 0 if length $in{$id} > 1_048_576;
      next if $open;
      $select->remove($socket);
      delete $in{$id};
      close $socket;
    }
  }
}
