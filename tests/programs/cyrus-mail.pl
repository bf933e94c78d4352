# Puts messages into Cyrus and takes them out of it:
#
#	perl cyrus-mail.pl append FILE ...
#	perl cyrus-mail.pl mbox DIRECTORY
#	perl cyrus-mail.pl maildir DIRECTORY MAILDIR
#
# The first form prints commands of IMAP that append the files to INBOX. The
# others read the messages that Cyrus has below DIRECTORY, and print a spool, or
# add files to a Maildir. helpers/oldserver.bash and uidl-servers.bats run it.
use strict;
use warnings;
use File::Find;

binmode STDOUT;
my ($form, @rest) = @ARGV;

# Returns the content of the file.
sub content {
	my ($name) = @_;

	open my $file, '<:raw', $name or die "$name: $!\n";
	local $/;
	return <$file>;
}

if ($form eq 'append') {
	for my $name (@rest) {
		my $message = content($name) =~ s/\n/\r\n/gr;
		printf "a APPEND INBOX {%d+}\r\n%s\r\n", length $message,
		    $message;
	}
	print "b LOGOUT\r\n";
	exit;
}
my ($directory, $maildir) = @rest;
my %files; # by uid
find(sub { $files{$1} = $File::Find::name if /^([1-9][0-9]*)\.$/ },
    $directory);
for my $uid (sort { $a <=> $b } keys %files) {
	my $message = content($files{$uid}) =~ s/\r\n/\n/gr;
	if ($form eq 'mbox') {
		print "From s\@kpopd.test Mon Nov 23 05:00:00 2026\n",
		    "$message\n";
		next;
	}
	my $name = sprintf '%s/cur/%d.M%d.host:2,', $maildir,
	    1700000000 + $uid, $uid;
	open my $file, '>:raw', $name or die "$name: $!\n";
	print $file $message;
	close $file or die "$name: $!\n";
}
