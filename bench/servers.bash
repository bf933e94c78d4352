# Starts the servers that are compared. Each has its own mailboxes. bench/run
# loads this in tests/world.

domain=mail.kpopd.test

# Each user is named SERVER_MAILBOX, so that no server finds what another one
# has left.
servers="kpopd popa3d dovecot tuned floor"
mailboxes="s20 s201 s202 s203 s204 s205 s206 s207 big mil maildir plot"

# bench_users: makes accounts, homes and tickets. The password is "bench", with
# the cheapest kind of hash.
bench_users() {
	local server mailbox user uid=3000 hash
	hash=$(openssl passwd -1 -salt bench bench)
	mkdir -p "$WORLD/tickets"
	for server in $servers; do
		for mailbox in $mailboxes; do
			user=${server}_$mailbox uid=$((uid + 1))
			echo "$user:x:$uid:$uid::/home/$user:/bin/sh" \
			    >>/etc/passwd
			echo "$user:$hash:19000:0:99999:7:::" >>/etc/shadow
			echo "$user:x:$uid:" >>/etc/group
			install -d -o "$uid" -g "$uid" -m 700 "/home/$user"
			echo "addprinc -randkey $user"
			echo "ktadd -k $WORLD/bench.keytab $user"
		done
	done >"$WORLD/principals"
	kadmin.local <"$WORLD/principals" >"$WORLD/kadmin.log" 2>&1
	for user in $(sed -n 's/^addprinc -randkey //p' "$WORLD/principals"); do
		kinit -c "$WORLD/tickets/$user" -k -t "$WORLD/bench.keytab" \
		    "$user"
	done
}

# xinetd_service NAME PORT SERVER ARGUMENTS [LINE [VARIABLE]]: prints the
# configuration of a service.
xinetd_service() {
	cat <<-END
	service $1
	{
		type = UNLISTED
		port = $2
		protocol = tcp
		socket_type = stream
		user = root
		server = $3
		${4:+server_args = $4}
		flags = NODELAY KEEPALIVE IPv4
		passenv =
		env = ${6-NOTHING=here} ${SANITIZER-}
		umask = 077
		instances = UNLIMITED
		per_source = UNLIMITED
		cps = 100000 1
		log_type = SYSLOG daemon info
		log_on_success =
		log_on_failure = HOST
		${5-wait = no}
	}
	END
}

# The port of each way to reach kpopd and of each other server, and the options
# of bench/client for it.
declare -A port=(
	[kpopd]=1109 [kpopd-p]=1111 [kpopd-p-tls]=1112
	[kpopd-p-layer]=1111 [kpopd-accept]=1113 [kpopd-maildir]=1114
	[popa3d]=1120 [floor]=1130 [floor-big]=1131
	[dovecot]=1140 [tuned]=1141)
declare -A speaks=(
	[kpopd]="-a kpop"
	[kpopd-p]="-a gssapi" [kpopd-p-tls]="-a gssapi -l tls"
	[kpopd-p-layer]="-a gssapi -l gssapi" [kpopd-accept]="-a kpop"
	[kpopd-maildir]="-a kpop"
	[popa3d]="-a pass" [floor]="-a kpop" [floor-big]="-a pass"
	[dovecot]="-a gssapi" [tuned]="-a gssapi")

# The processes that count for each server. They include those that Dovecot
# keeps for the next session.
declare -A processes=([kpopd]=kpopd,kpopd-tls [popa3d]=popa3d
    [dovecot]=pop3,pop3-login [tuned]=pop3,pop3-login [floor]=floor)

# The certificates of the servers that speak TLS: one with an RSA-2048 key, and
# one with a key on the curve P-256.
certificates="rsa p256"
# The ways to a server in TLS are named WAY-CERTIFICATE. kpopd-kept is kpopd
# started by xinetd, with a kpopd-tls beside it that serves all connections.
# kpopd-accept-kept is the listener with a kpopd-tls of this kind.
tls_ways="dovecot tuned kpopd kpopd-accept kpopd-kept kpopd-accept-kept"
in_tls=
next_port=1150
for certificate in $certificates; do
	for way in $tls_ways; do
		in_tls+=" $way-$certificate"
		port[$way-$certificate]=$((next_port++))
		speaks[$way-$certificate]="-a kpop -l tls"
		case $way in dovecot | tuned)
			speaks[$way-$certificate]="-a gssapi -l tls" ;;
		esac
	done
done

# make_certificates: makes both certificates, as $WORLD/tls/CERTIFICATE.pem and
# .key. The same CA has signed them.
make_certificates() {
	local name=subjectAltName=DNS:mail.kpopd.test
	tls_make
	certificate p256 "-days 30" /CN=mail.kpopd.test "$name" ca
	ln "$WORLD/tls/server.pem" "$WORLD/tls/rsa.pem"
	ln "$WORLD/tls/server.key" "$WORLD/tls/rsa.key"
}

# files_of CERTIFICATE: prints kpopd's options for this certificate.
files_of() {
	echo "-c $WORLD/tls/$1.pem -K $WORLD/tls/$1.key"
}

# lack_in_tls WAY REASON: records that this way cannot be measured in TLS.
lack_in_tls() {
	local certificate
	for certificate in $certificates; do
		lacks[$1-$certificate]=$2
	done
}

# find_kept: finds which ways to kpopd in TLS can be measured. A listener that
# can have a kept kpopd-tls starts it by itself.
find_kept() {
	local why=
	if [ "$KEPT" = no ]; then
		why="KEPT is no"
	elif ! "$KPOPD_BUILD"/${KEPT% *} --help 2>&1 |
	    grep -q -e "${KEPT#* }"; then
		why="this build has no $KEPT"
	fi
	if [ -n "$why" ]; then
		lack_in_tls kpopd-kept "$why"
		lack_in_tls kpopd-accept-kept "$why"
	else
		lack_in_tls kpopd-accept "this listener keeps a kpopd-tls"
	fi
	[ -z "${lacks[kpopd-accept]-}" ] || {
		lack_in_tls kpopd-accept "${lacks[kpopd-accept]}"
		lack_in_tls kpopd-accept-kept "${lacks[kpopd-accept]}"
	}
}

# kept_options WAY: prints kpopd's options for a way with a kept kpopd-tls. Each
# has its own state directory, because STATE/tls.sock belongs to one kpopd-tls.
kept_options() {
	echo "-d $disk/$1 -k $WORLD/server.keytab $(files_of "${1##*-}")"
}

# start_keepers: starts the kept kpopd-tls of each certificate, for the kpopd
# that xinetd starts.
start_keepers() {
	local certificate way
	for certificate in $certificates; do
		way=kpopd-kept-$certificate
		[ -z "${lacks[$way]-}" ] || continue
		mkdir "$disk/$way"
		"$KPOPD_BUILD"/$KEPT $(kept_options "$way") </dev/null \
		    >"$WORLD/$way.log" 2>&1 3>&- &
		await 10 "[ -S '$disk/$way/tls.sock' ]" ||
		    { cat "$WORLD/$way.log" >&2; return 1; }
	done
}

# accept_service NAME OPTIONS: prints the configuration of a listener, unless it
# cannot run.
accept_service() {
	[ -n "${lacks[$1]-}" ] ||
	    xinetd_service "$1" "${port[$1]}" "$KPOPD_BUILD/kpopd" \
		"$accept_options $2" "wait = yes" \
		LD_BIND_NOW=1 # as kpopd(8) advises
}

# tls_services CERTIFICATE OPTIONS: prints the configuration of the services of
# kpopd with this certificate.
tls_services() {
	local kpopd=$KPOPD_BUILD/kpopd kept=kpopd-kept-$1
	xinetd_service "kpopd-$1" "${port[kpopd-$1]}" "$kpopd" \
	    "$2 $(files_of "$1")"
	accept_service "kpopd-accept-$1" "$2 $(files_of "$1")"
	accept_service "kpopd-accept-kept-$1" \
	    "$(kept_options "kpopd-accept-kept-$1")"
	[ -n "${lacks[$kept]-}" ] ||
	    xinetd_service "$kept" "${port[$kept]}" "$kpopd" \
		"$(kept_options "$kept")"
}

# xinetd_configure: configures the services that xinetd starts.
xinetd_configure() {
	local kpopd="$KPOPD_BUILD/kpopd" certificate \
	    options="-d $state -k $WORLD/server.keytab"
	{
		xinetd_service kpopd "${port[kpopd]}" "$kpopd" "$options"
		for certificate in $certificates; do
			tls_services "$certificate" "$options"
		done
		xinetd_service kpopd-p "${port[kpopd-p]}" "$kpopd" "-p $options"
		xinetd_service kpopd-p-tls "${port[kpopd-p-tls]}" "$kpopd" \
		    "-p $options $(files_of rsa)"
		xinetd_service kpopd-maildir "${port[kpopd-maildir]}" "$kpopd" \
		    "-m maildir:~/Maildir $options"
		accept_service kpopd-accept "$options"
		xinetd_service floor "${port[floor]}" \
		    "$KPOPD_BUILD/bench/floor" "login $WORLD/server.keytab"
		xinetd_service floor-big "${port[floor-big]}" \
		    "$KPOPD_BUILD/bench/floor" "serve /var/mail/floor_big"
		[ -n "${lacks[popa3d]-}" ] ||
		    xinetd_service popa3d "${port[popa3d]}" "$popa3d" ""
	} >"$WORLD/xinetd.conf"
}

# accepts: returns true if kpopd still runs a second after it was started with a
# listening standard input.
accepts() {
	timeout 10 perl -e '
		use IO::Socket::INET;
		use POSIX ":sys_wait_h";
		my $s = IO::Socket::INET->new(Listen => 5,
			LocalAddr => "127.0.0.1") or die;
		my $pid = fork;
		if (!$pid) {
			open STDIN, "<&", $s;
			exec @ARGV;
			exit 1;
		}
		for (1 .. 20) {
			select undef, undef, undef, 0.05;
			exit 1 if waitpid $pid, WNOHANG;
		}
		kill "TERM", $pid;
		waitpid $pid, 0' \
	    "$KPOPD_BUILD/kpopd" -d "$state" -k "$WORLD/server.keytab"
}

# find_popa3d: sets $popa3d. The package popa3d conflicts with Dovecot's
# packages, so it may only be unpacked.
find_popa3d() {
	popa3d=$(command -v popa3d ||
	    echo "$KPOPD_BUILD/popa3d/usr/sbin/popa3d")
	[ -z "${WITHOUT_PEERS-}" ] && [ -x "$popa3d" ] ||
	    { lacks[popa3d]="not installed"; return 0; }
	id popa3d >/dev/null 2>&1 ||
	    useradd --system --home-dir /nonexistent --shell /usr/sbin/nologin \
		popa3d
	mkdir -p /var/lib/popa3d
	[ -e /etc/pam.d/popa3d ] ||
	    printf '@include common-auth\n@include common-account\n' \
		>/etc/pam.d/popa3d
}

# dovecot_configure NAME: configures Dovecot as Debian does, for this realm,
# with the changes on standard input.
dovecot_configure() {
	cat - >"$WORLD/$1.changes"
	cat >"$WORLD/$1.conf" <<-END
	base_dir = /run/$1
	instance_name = $1
	protocols = pop3
	listen = 127.0.0.1
	log_path = $WORLD/$1.log
	ssl = no
	disable_plaintext_auth = no
	auth_mechanisms = gssapi
	auth_krb5_keytab = $WORLD/server.keytab
	auth_gssapi_hostname = "\$ALL"
	login_trusted_networks =
	first_valid_uid = 1000
	mail_location = mbox:~/mail:INBOX=/var/mail/%u
	mail_privileged_group = mail
	mail_max_userip_connections = 1000
	passdb {
		driver = passwd-file
		args = $WORLD/dovecot.users
	}
	userdb {
		driver = passwd-file
		args = $WORLD/dovecot.users
	}
	service auth {
		user = root
	}
	service pop3-login {
		inet_listener pop3 {
			port = ${port[$1]}
		}
		inet_listener pop3s {
			port = 0
		}
	}
	!include $WORLD/$1.changes
	END
}

# dovecot_tuned: prints the settings that make Dovecot fast.
dovecot_tuned() {
	cat <<-END
	service pop3-login {
		service_count = 0
		process_min_avail = 2
	}
	service pop3 {
		process_min_avail = 8
	}
	mbox_dirty_syncs = yes
	mbox_very_dirty_syncs = yes
	maildir_very_dirty_syncs = yes
	pop3_fast_size_lookups = yes
	END
}

# dovecot_tls CERTIFICATE: prints the settings for TLS, as Debian has them.
dovecot_tls() {
	cat <<-END
	ssl = yes
	ssl_cert = <$WORLD/tls/$1.pem
	ssl_key = <$WORLD/tls/$1.key
	ssl_dh = </usr/share/dovecot/dh.pem
	END
}

# find_dovecot: starts Dovecot as Debian configures it, and tuned; each without
# TLS, and with each certificate.
find_dovecot() {
	local name certificate names="dovecot tuned"
	for certificate in $certificates; do
		names+=" dovecot-$certificate tuned-$certificate"
	done
	if [ -n "${WITHOUT_PEERS-}" ] || ! command -v dovecot >/dev/null ||
	    [ ! -e /usr/lib/dovecot/pop3 ]; then
		for name in $names; do
			lacks[$name]="not installed"
		done
		return 0
	fi
	grep -E '^[a-z0-9]+_[a-z0-9]+:' /etc/passwd |
	    while IFS=: read -r user _ uid gid _ home _; do
		mail=
		[ "${user#*_}" != maildir ] ||
		    mail="userdb_mail=maildir:~/Maildir"
		echo "$user:{PLAIN}bench:$uid:$gid::$home::$mail"
	done >"$WORLD/dovecot.users"
	dovecot_configure dovecot </dev/null
	dovecot_configure tuned < <(dovecot_tuned)
	for certificate in $certificates; do
		dovecot_configure "dovecot-$certificate" \
		    < <(dovecot_tls "$certificate")
		dovecot_configure "tuned-$certificate" \
		    < <(dovecot_tuned; dovecot_tls "$certificate")
	done
	for name in $names; do
		dovecot -F -c "$WORLD/$name.conf" </dev/null \
		    >"$WORLD/$name.out" 2>&1 3>&- &
	done
}

# The servers that cannot run, and the reasons.
declare -A lacks=()
# The limits of this kpopd's -a are too high to be reached.
accept_options=

# servers_start: starts all servers that can run.
servers_start() {
	local server
	make_certificates
	find_popa3d
	find_dovecot
	accepts || lacks[kpopd-accept]="this kpopd takes no listening socket"
	! "$KPOPD_BUILD/kpopd" --help | grep -q '^  -a' ||
	    accept_options="-a 10000:10000:100000:0"
	find_kept
	start_keepers
	xinetd_configure
	xinetd_run
	for server in dovecot tuned {dovecot,tuned}-{rsa,p256}; do
		[ -n "${lacks[$server]-}" ] ||
		    await 10 "ss -Hltn sport = ${port[$server]} | grep -q ." ||
		    { cat "$WORLD/$server".{out,log} >&2; return 1; }
	done
}
