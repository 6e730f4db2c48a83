# Arguments: socket mark, time-out in milliseconds, how many at a time, and by which user, where that is not nobody. Handle 3: a line `ADDRESS PORT` each. Prints them with what came of it.
use strict;
use warnings;
use Socket qw(AF_INET AF_INET6 SOCK_STREAM SOL_SOCKET SO_ERROR inet_pton pack_sockaddr_in pack_sockaddr_in6);
use Fcntl qw(F_GETFL F_SETFL O_NONBLOCK);
use Errno qw(EINPROGRESS ECONNREFUSED ETIMEDOUT);

my ($mark, $wait, $together, $uid) = @ARGV;
$uid //= 65534;
open(my $list, '<&=', 3) or die "no targets: $!\n";
my @targets = map { [split] } <$list>;
$| = 1;

sub word {
    my ($error) = @_;
    return 'OPEN' if !$error;
    return 'REFUSED' if $error == ECONNREFUSED;
    return 'DROP' if $error == ETIMEDOUT;
    return 'UNREACHABLE';
}

while (my @some = splice(@targets, 0, $together)) {
    my %open;
    for my $target (@some) {
        my ($address, $port) = @$target;
        my $six = $address =~ /:/;
        # The owner of a socket is who made it: seldom root, who may do more.
        $> = $uid;
        my $made = socket(my $socket, $six ? AF_INET6 : AF_INET, SOCK_STREAM, 0);
        $> = 0;
        $made or die "socket: $!\n";
        setsockopt($socket, SOL_SOCKET, 36, pack('L', $mark)) or die "the mark of a socket cannot be set: $!\n";
        fcntl($socket, F_SETFL, fcntl($socket, F_GETFL, 0) | O_NONBLOCK);
        my $ip = inet_pton($six ? AF_INET6 : AF_INET, $address);
        my $where = $six ? pack_sockaddr_in6($port, $ip) : pack_sockaddr_in($port, $ip);
        if (connect($socket, $where) || $! != EINPROGRESS) {
            my $error = connect_error($socket, $!);
            print "$address $port ", word($error), "\n";
        }
        else {
            $open{fileno $socket} = [$socket, $address, $port];
        }
    }
    # Linux tells what is left of the time; Time::HiRes is not in perl-base.
    my $left = $wait / 1000;
    while (%open && $left > 0) {
        my $bits = '';
        vec($bits, $_, 1) = 1 for keys %open;
        my ($count, $rest) = select(undef, my $ready = $bits, undef, $left);
        $left = $rest;
        next if $count <= 0;
        for my $number (keys %open) {
            next if !vec($ready, $number, 1);
            my ($socket, $address, $port) = @{delete $open{$number}};
            print "$address $port ", word(unpack('i', getsockopt($socket, SOL_SOCKET, SO_ERROR))), "\n";
        }
    }
    print "$_->[1] $_->[2] DROP\n" for values %open;
}

# A connect that ended at once: joined (loopback), or its error.
sub connect_error {
    my ($socket, $error) = @_;
    return getpeername($socket) ? 0 : 0 + $error;
}
