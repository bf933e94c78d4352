#!/usr/bin/perl
# Writes a file again and again, as editors and scripts do, run by config.bats:
#
#	rewrite.pl HOW CONTENT FILE REST
#
# HOW is: "in place" (from empty, in pieces), "by line" (with a moment after
# each line), or "beside" (after the old file was renamed). Half of the time the
# file is empty, incomplete or absent. At SIGUSR1 it writes to REST, after the
# next write, the longest time between two writes of a file since the last
# SIGUSR1, in milliseconds.
use strict;
use warnings;
use Time::HiRes qw(clock_gettime sleep CLOCK_MONOTONIC);

my ($how, $content, $file, $rest) = @ARGV;
my ($last, $longest, $is_asked) = (0, 0, 0);

$SIG{USR1} = sub { $is_asked = 1 };

# Notes the time since the last step.
sub step {
	my $now = clock_gettime(CLOCK_MONOTONIC);
	my $ms = int(1000 * ($now - $last));

	$longest = $ms if $last != 0 && $ms > $longest;
	$last = $now;
	return unless $is_asked;
	open my $out, '>', "$rest.new" or die "$rest.new: $!\n";
	print $out $longest + 1;
	close $out or die "$rest.new: $!\n";
	rename "$rest.new", $rest or die "$rest: $!\n";
	($longest, $is_asked) = (0, 0);
}

open my $in, '<', $content or die "$content: $!\n";
my @lines = <$in>;
close $in or die "$content: $!\n";
while (1) {
	if ($how eq 'beside') {
		rename $file, "$file~" or die "$file: $!\n";
		step();
		sleep 0.002;
	}
	open my $out, '>', $file or die "$file: $!\n";
	step();
	sleep 0.002 if $how eq 'in place';
	for my $line (@lines) {
		defined syswrite $out, $line or die "$file: $!\n";
		step();
		sleep 0.002 if $how eq 'by line';
	}
	close $out or die "$file: $!\n";
	sleep 0.001 * rand 4;
}
