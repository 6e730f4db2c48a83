#!/usr/bin/perl
# The lab's web program: app.pl PORT. Answers /healthz with `ok`, anything else with what it saw of the request.
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
  return ("200 OK", $text);
}

sub serve {
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
