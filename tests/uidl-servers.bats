#!/usr/bin/env bats
# Checks that messages keep the unique ids that another POP3 server gave them:
# each server serves a mailbox of more than 200 messages, then kpopd does
# (--uidl, or --import-uidl). The servers are those of Debian,
# tests/tools/old-servers unpacks them.

load helpers/all
load helpers/oldserver

box=/home/alice/Maildir

setup_file() {
	tls_make
	old_accounts
}

setup() {
	[ -z "${SANITIZER-}" ] ||
	    skip "unit tests and fuzzers read these ids with sanitizers"
	begin_test
	rm -rf "$box" /home/alice/mail "$WORLD"/{got,ids}.* \
	    "$WORLD"/{getmail,lmtp}
	realm_login alice
	tunnel= lmtp=
}

teardown() {
	[ -z "${SANITIZER-}" ] || return 0
	for pid in $tunnel $lmtp; do
		kill "$pid" 2>/dev/null || true
		wait "$pid" 2>/dev/null || true
	done
	old_stop
	server_stop
	rm -rf "$box" /home/alice/mail /etc/spop3d.conf
	end_test
}

# mail mbox|maildir FIRST LAST: adds these varied messages to alice's mailbox.
mail() {
	local program=$BATS_TEST_DIRNAME/programs/old-mail.pl
	if [ "$1" = mbox ]; then
		perl "$program" mbox "$2" "$3" >>/var/mail/alice
		chown alice:mail /var/mail/alice
		chmod 660 /var/mail/alice
	else
		mkdir -p "$box"/{tmp,new,cur}
		perl "$program" maildir "$box" "$2" "$3"
		chown -R alice: "$box"
	fi
}

# ids PORT [NUMBER ...]: prints subjects and ids, and removes these messages.
ids() {
	perl "$BATS_TEST_DIRNAME/programs/ids.pl" "$1" alice "${@:2}"
}

# old_ids mbox|maildir PORT: makes the mailbox, with which the old server works
# meanwhile: messages arrive and are removed. Writes the ids to $WORLD/old.
old_ids() {
	mail "$1" 1 120
	ids "$2" 1 2 50 120 >/dev/null
	mail "$1" 121 230
	ids "$2" 3 60 >"$WORLD/before"
	ids "$2" >"$WORLD/old"
	[ "$(wc -l <"$WORLD/old")" -eq 224 ]
	[ "$(comm -12 "$WORLD/before" "$WORLD/old" | wc -l)" -eq 224 ]
	old_stop
}

# kpopd_starts FORMAT SCHEME [PORT]: starts kpopd, and a tunnel to it on this
# port (2110 by default).
kpopd_starts() {
	local place=mbox:/var/mail/%u
	[ "$1" = mbox ] || place='maildir:~/Maildir'
	server_start -m "$place" --uidl "$2"
	tunnel_starts "${3-2110}" mail.kpopd.test 1109
}

# tunnel_starts PORT KPOPC-ARGUMENT ...: makes kpopc forward this port.
tunnel_starts() {
	socat "TCP-LISTEN:$1,bind=127.0.0.1,reuseaddr,fork" \
	    EXEC:"$KPOPD_BUILD/kpopc ${*:2}" 3>&- 2>/dev/null &
	tunnel=$!
	await 5 "ss -Hltn sport = $1 | grep -q ."
}

# tunnel_stops: ends the tunnel.
tunnel_stops() {
	kill "$tunnel"
	await 5 "! kill -0 $tunnel 2>/dev/null"
	tunnel=
}

# kpopd_stops: ends kpopd and the tunnel, and removes what kpopd has kept.
kpopd_stops() {
	tunnel_stops
	server_stop
	rm -rf "$state/users"
}

# keeps_ids FORMAT SCHEME: returns true if kpopd gives all messages the ids in
# $WORLD/old.
keeps_ids() {
	kpopd_starts "$@"
	ids 2110 >"$WORLD/new"
	diff "$WORLD/old" "$WORLD/new" >"$WORLD/differences" || {
		echo "$(grep -c '^<' "$WORLD/differences") ids differ:"
		head -n 20 "$WORLD/differences"
		log_lines
		return 1
	} >&2
	log_has "uidl .*scheme=$2 computed=224 own=0 mailbox="
}

# later_changes_keep_ids FORMAT: mail arrives, message 1 is removed, and mutt
# changes flags. No message's id changes, and the new ones have other ids.
later_changes_keep_ids() {
	local folder=$box
	[ "$1" = maildir ] || folder=/var/mail/alice
	mail "$1" 301 310
	ids 2110 1 >"$WORLD/more"
	[ "$(wc -l <"$WORLD/more")" -eq 234 ]
	[ "$(comm -12 "$WORLD/more" "$WORLD/old" | wc -l)" -eq 224 ]
	[ "$(cut -d' ' -f2 "$WORLD/more" | sort -u | wc -l)" -eq 234 ]
	printf '%s\n' 'set quit=yes move=no wait_key=no beep=no delete=yes' \
	    'set folder=~ sort=mailbox-order' \
	    'push "<first-entry><flag-message><next-entry><toggle-new><next-entry><delete-message><sync-mailbox><exit>"' >"$WORLD/marks"
	chmod 755 "$WORLD"
	in_terminal "mutt -n -F $WORLD/marks -f $folder"
	ids 2110 >"$WORLD/later"
	[ "$(wc -l <"$WORLD/later")" -eq 232 ]
	[ "$(comm -12 "$WORLD/more" "$WORLD/later" | wc -l)" -eq 232 ]
	log_count 1 'uidl '
}

@test "Dovecot's messages in an mbox keep their unique ids with --uidl dovecot" {
	old_dovecot mbox
	old_ids mbox 110
	keeps_ids mbox dovecot
	later_changes_keep_ids mbox
}

@test "Dovecot's messages in a Maildir keep their unique ids with --uidl dovecot" {
	old_dovecot maildir
	old_ids maildir 110
	keeps_ids maildir dovecot
	later_changes_keep_ids maildir
}

@test "popa3d's messages keep their unique ids with --uidl popa3d" {
	old_require popa3d
	old_start popa3d
	old_ids mbox 2100
	keeps_ids mbox popa3d
	later_changes_keep_ids mbox
}

@test "solid-pop3d's messages in an mbox keep their unique ids with --uidl solid-pop3d" {
	old_require solid-pop3d
	old_start solid-pop3d
	old_ids mbox 2100
	keeps_ids mbox solid-pop3d
	later_changes_keep_ids mbox
}

@test "solid-pop3d's messages in a Maildir keep their unique ids with --uidl solid-pop3d" {
	old_require solid-pop3d
	printf '%s\n' '<Global>' 'MailDropName Maildir' 'MailDropType maildir' \
	    '</Global>' >/etc/spop3d.conf
	old_start solid-pop3d
	old_ids maildir 2100
	keeps_ids maildir solid-pop3d
	later_changes_keep_ids maildir
}

@test "the messages of mailutils' pop3d keep their unique ids with --uidl mailutils" {
	old_require mailutils
	old_start mailutils
	old_ids mbox 2100
	keeps_ids mbox mailutils
	later_changes_keep_ids mbox
}

@test "Courier's messages keep their unique ids with --uidl courier" {
	old_require courier
	old_start courier
	old_ids maildir 2100
	keeps_ids maildir courier
	later_changes_keep_ids maildir
}

@test "the messages of UW's ipop3d keep their unique ids with --uidl uw" {
	old_require uw
	old_start uw
	old_ids mbox 2100
	keeps_ids mbox uw
	later_changes_keep_ids mbox
}

# keeps_format FORMAT POP3_UIDL_FORMAT [SETTING ...]: Dovecot serves the mailbox
# with this format of its ids, then kpopd does.
keeps_format() {
	local format=$1 ids=$2
	rm -rf /home/alice/mail "$box"/dovecot*
	old_dovecot "$format" "$(old_uidl_format "$ids")" "${@:3}"
	ids 110 >"$WORLD/old"
	[ "$(wc -l <"$WORLD/old")" -eq 100 ]
	old_stop
	kpopd_starts "$format" "dovecot:$ids"
	ids 2110 | diff "$WORLD/old" - ||
	    { echo "of the format $ids"; log_lines; return 1; } >&2
	log_has "uidl .*scheme=dovecot:$ids computed=100 own=0 "
	kpopd_stops
}

@test "Dovecot's messages in an mbox keep unique ids of other formats with --uidl dovecot:FORMAT" {
	mail mbox 1 100
	for ids in %v.%u %08Xv%08Xu UID%u-%v %Xu.%010v %m %g; do
		keeps_format mbox $ids
	done
}

@test "Dovecot's messages in a Maildir keep unique ids of other formats with --uidl dovecot:FORMAT" {
	mail maildir 1 100
	for ids in %v.%u %08Xv%08Xu UID%u-%v %f %g-%u; do
		keeps_format maildir $ids
	done
}

@test "Dovecot's messages in a Maildir keep the unique ids that pop3_save_uidl has saved, with each format" {
	mail maildir 1 100
	keeps_format maildir UID%u-%v 'pop3_save_uidl = yes'
	kpopd_starts maildir dovecot
	ids 2110 | diff "$WORLD/old" -
}

@test "messages keep their unique ids with --uidl dovecot after Dovecot has moved the numbers to its internal message" {
	mail mbox 1 5
	old_dovecot mbox
	ids 110 1 2 3 4 5 >/dev/null
	grep -q '^X-IMAP: ' /var/mail/alice
	mail mbox 6 9
	ids 110 >"$WORLD/old"
	[ "$(wc -l <"$WORLD/old")" -eq 4 ]
	old_stop
	kpopd_starts mbox dovecot
	ids 2110 | diff "$WORLD/old" -
}

@test "messages keep their unique ids with --uidl dovecot if the first session removes message 1 without UIDL" {
	mail mbox 1 20
	old_dovecot mbox
	ids 110 >"$WORLD/old"
	old_stop
	kpopd_starts mbox dovecot
	pop alice 'DELE 1' QUIT
	refute grep -q '^X-IMAPbase:' /var/mail/alice
	ids 2110 | diff <(grep -v '^m1 ' "$WORLD/old") -
}

@test "popa3d gives two messages with the same header one unique id, and kpopd gives only the first one this id" {
	old_require popa3d
	for n in 1 2; do
		from_line
		printf 'Received: x\nSubject: m%s\n\nbody\n\n' $n
	done | store alice
	old_start popa3d
	ids 2100 >"$WORLD/old"
	[ "$(cut -d' ' -f2 "$WORLD/old" | sort -u | wc -l)" -eq 1 ]
	old_stop
	kpopd_starts mbox popa3d
	ids 2110 >"$WORLD/new"
	[ "$(comm -12 "$WORLD/old" "$WORLD/new" | cut -d' ' -f1)" = m1 ]
	[ "$(cut -d' ' -f2 "$WORLD/new" | sort -u | wc -l)" -eq 2 ]
	log_has 'uidl .*scheme=popa3d computed=1 own=1 '
}

@test "kpopd reads dovecot-uidlist while another program has Dovecot's lock on it" {
	mail maildir 1 20
	old_dovecot maildir
	ids 110 >"$WORLD/old"
	old_stop
	touch "$box/dovecot-uidlist.lock"
	kpopd_starts maildir dovecot
	ids 2110 | diff "$WORLD/old" -
}

@test "a scheme gives no ids to a mailbox that no other server has had, and later none either" {
	mail mbox 1 5
	kpopd_starts mbox dovecot
	ids 2110 >"$WORLD/old"
	log_has 'uidl .*scheme=dovecot computed=0 own=5 '
	sed -i '0,/^Subject:/s//X-IMAPbase: 5 9\nX-UID: 1\nSubject:/' \
	    /var/mail/alice
	forget_index
	ids 2110 | diff "$WORLD/old" -
	log_count 1 'uidl '
}

# polls CLIENT: polls port 110 with the client, which leaves all mail on the
# server. Returns true if the client has appended messages to $WORLD/got.CLIENT.
polls() {
	local status=0
	case $1 in
	fetchmail)
		printf '%s\n' 'poll 127.0.0.1 service 110 proto POP3 uidl' \
		    'user alice password none sslproto "" keep' \
		    "mda 'cat >>$WORLD/got.fetchmail'" >"$WORLD/fetchmailrc"
		chmod 600 "$WORLD/fetchmailrc"
		timeout 60 fetchmail --silent --nodetach --nosyslog \
		    -f "$WORLD/fetchmailrc" -i "$WORLD/ids.fetchmail" \
		    --pidfile "$WORLD/fetchmail.pid" || status=$?
		[ "$status" -le 1 ] # 1: no mail
		;;
	mpop)
		timeout 60 mpop --quiet --host=127.0.0.1 --port=110 --tls=off \
		    --auth=user --user=alice --passwordeval='echo none' \
		    --keep=on --received-header=off \
		    --uidls-file="$WORLD/ids.mpop" \
		    --delivery=mbox,"$WORLD/got.mpop"
		;;
	getmail)
		mkdir -p "$WORLD/getmail"
		printf '%s\n' '[retriever]' type=SimplePOP3Retriever \
		    server=127.0.0.1 port=110 username=alice password=none \
		    '[destination]' type=MDA_lmtp host="$WORLD/lmtp" \
		    override=alice '[options]' delete=false read_all=false \
		    >"$WORLD/getmail/getmailrc"
		timeout 60 getmail --quiet --getmaildir="$WORLD/getmail"
		;;
	esac
}

# has_fetched CLIENT COUNT: returns true if the client has fetched so many
# messages so far, and none of them twice.
has_fetched() {
	local all once
	all=$(grep -ac '^Subject: m[0-9]*.\?$' "$WORLD/got.$1")
	once=$(grep -a '^Subject: m[0-9]*.\?$' "$WORLD/got.$1" | sort -u |
	    wc -l)
	[ "$all" -eq "$2" ] && [ "$once" -eq "$2" ] ||
	    { echo "$1: $all messages, $once different ones" >&2; return 1; }
}

# clients_fetch_nothing_again FORMAT SCHEME: polls with each client what the old
# server serves on port 110, and then what kpopd serves there.
clients_fetch_nothing_again() {
	local client
	python3 "$BATS_TEST_DIRNAME/clients/lmtp.py" "$WORLD/lmtp" \
	    "$WORLD/got.getmail" 3>&- 2>/dev/null &
	lmtp=$!
	await 5 'unix_listens "$WORLD/lmtp"'
	mail "$1" 1 210
	for client in fetchmail mpop getmail; do
		polls $client
		has_fetched $client 210
	done
	old_stop
	kpopd_starts "$@" 110
	for client in fetchmail mpop getmail; do
		polls $client
		has_fetched $client 210
	done
	mail "$1" 211 213
	for client in fetchmail mpop getmail; do
		polls $client
		has_fetched $client 213
	done
	log_count 1 'uidl .*computed=210 own=0 '
}

@test "fetchmail, mpop and getmail, which keep mail in an mbox of Dovecot's, fetch nothing again from kpopd --uidl dovecot, and miss nothing new" {
	old_dovecot mbox
	clients_fetch_nothing_again mbox dovecot
}

@test "fetchmail, mpop and getmail, which keep mail in a Maildir of Dovecot's, fetch nothing again from kpopd --uidl dovecot, and miss nothing new" {
	old_dovecot maildir
	clients_fetch_nothing_again maildir dovecot
}

# makes_list KPOPC-OPTION ...: makes a list of the ids with kpopc.
makes_list() {
	timeout 60 "$KPOPD_BUILD/kpopc" --uidl-map -l alice "$@" \
	    >"$WORLD/list" 3>&-
}

# imports FORMAT: kpopd imports the list, and gives all messages the ids in
# $WORLD/old.
imports() {
	local place=mbox:/var/mail/%u
	[ "$1" = mbox ] || place='maildir:~/Maildir'
	"$KPOPD_BUILD/kpopd" --import-uidl alice -d "$state" -m "$place" \
	    <"$WORLD/list" 3>&-
	kpopd_starts "$1" none
	ids 2110 | diff "$WORLD/old" -
	kpopd_stops
}

# learns FORMAT PORT: makes a list of the ids, ends the old server, and imports
# the list.
learns() {
	(umask 077 && echo none >"$WORLD/password")
	makes_list --password-file "$WORLD/password" \
	    --command "socat - TCP:127.0.0.1:$2"
	old_stop
	imports "$1"
}

@test "the unique ids of a Dovecot with pop3_reuse_xuidl, which cannot be computed, are learnt from it" {
	local number=0
	mail maildir 1 100
	for file in "$box"/*/*[27].M*; do
		# Dovecot expects the size that such a name has.
		[[ $file != *,S=* ]] || continue
		sed -i "1iX-UIDL: x$((++number))" "$file"
	done
	chown -R alice: "$box"
	old_dovecot maildir 'protocol pop3 {' 'pop3_reuse_xuidl = yes' '}'
	ids 110 >"$WORLD/old"
	[ "$(grep -c ' x' "$WORLD/old")" -eq 14 ]
	learns maildir 110
	kpopd_starts maildir dovecot
	[ "$(ids 2110 | comm -12 "$WORLD/old" - | wc -l)" -eq 86 ]
}

@test "the unique ids of popa3d, solid-pop3d and Courier are learnt from them, too" {
	for server in popa3d solid-pop3d courier; do
		old_require $server
		format=mbox
		[ $server != courier ] || format=maildir
		rm -f /var/mail/alice
		mail $format 1 100
		old_start $server
		ids 2100 >"$WORLD/old"
		learns $format 2100
	done
}

# fills_from_cyrus mbox|maildir: makes alice's mailbox of the messages that
# Cyrus has, byte for byte, except for the CRs of their line ends.
fills_from_cyrus() {
	local program=$BATS_TEST_DIRNAME/programs/cyrus-mail.pl
	if [ "$1" = mbox ]; then
		perl "$program" mbox "$WORLD/cyrus/mail" | store alice
	else
		rm -rf "$box"
		mkdir -p "$box"/{cur,new,tmp}
		perl "$program" maildir "$WORLD/cyrus/mail" "$box"
		chown -R alice: "$box"
	fi
}

# hashes: prints the hash of each message in alice's Maildir, sorted.
hashes() {
	sha256sum "$box"/*/* | cut -d ' ' -f 1 | sort
}

# keeps_ids_of_cyrus FORMAT PATTERN: Cyrus serves a mailbox with this
# uidl_format, whose ids match the pattern. Then kpopd does, from an mbox and
# from a Maildir.
keeps_ids_of_cyrus() {
	rm -rf "$WORLD/cyrus" "$box"
	mail maildir 1 120
	old_cyrus "$1"
	old_cyrus_gets "$box"/*/*
	tunnel_starts 2110 -p mail.kpopd.test 2100
	ids 2110 1 2 50 120 >/dev/null
	mail maildir 121 230
	old_cyrus_gets "$box"/*/*M{12[1-9],1[3-9]?,2??}P1*
	ids 2110 >"$WORLD/old"
	[ "$(grep -Ecx "m[0-9]+ $2" "$WORLD/old")" -eq 226 ]
	tunnel_stops
	makes_list -p mail.kpopd.test 2100
	old_stop
	hashes >"$WORLD/sent"
	for format in mbox maildir; do
		fills_from_cyrus $format
		imports $format
	done
	# Cyrus has not changed the messages.
	[ "$(hashes | comm -12 "$WORLD/sent" - | wc -l)" -eq 226 ]
}

@test "Cyrus' messages keep their unique ids with each uidl_format: kpopc learns them by AUTH GSSAPI" {
	local n='[1-9][0-9]*' hex='[0-9a-f]{8}'
	old_require cyrus
	keeps_ids_of_cyrus uidonly "$n"
	keeps_ids_of_cyrus cyrus "$n\\.$n"
	keeps_ids_of_cyrus courier "$n-$n"
	keeps_ids_of_cyrus dovecot "$hex$hex"
}

@test "if the user replaces dovecot-uidlist by a symlink, a FIFO or a directory, UIDL is refused, and the mailbox is served otherwise" {
	local list=$box/dovecot-uidlist
	mail maildir 1 5
	printf '3 V5 N9\n1 :1700000001.M1P1.host\n' >"$box/other"
	chmod 644 "$box/other"
	kpopd_starts maildir dovecot
	for make in "ln -s $box/other" mkfifo mkdir; do
		rm -rf "$list"
		su alice -c "$make $list"
		run pop alice UIDL 'UIDL 1' 'TOP 1 0' 'DELE 5' RSET QUIT
		[ "$(grep -c '^-ERR \[SYS/PERM\] cannot read the unique ids$' \
		    <<<"$output")" -eq 2 ]
		[[ $output == *"Subject: m1"*"5 messages left"* ]]
		log_count 1 'failed .*what="reading the file dovecot-uidlist in the Maildir" error=.* mailbox=/home/alice/Maildir$'
		log_mark
	done
	rm -rf "$list"
	su alice -c "cp $box/other $list"
	pop alice UIDL QUIT | grep '^1 0000000100000005$'
	log_has 'uidl .*scheme=dovecot computed=1 own=4 '
}
