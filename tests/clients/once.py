# Checks that clients that leave mail on the server fetch each message once:
# once.py mbox|maildir SEED COUNT.
#
# Runs COUNT sequences. Each sequence begins with an empty mailbox. The seeds of
# the sequences are SEED, SEED + 1 and so on. In a sequence, procmail delivers,
# another client removes messages, and mutt and Dovecot change flags and
# expunge. In between, fetchmail (keep) and getmail (delete = false) poll. A
# poll must fetch, whole, all messages that the polling client has not fetched
# before, and nothing else.
import os, random, re, shutil, subprocess, sys

store, first, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
world, home = os.environ['WORLD'], '/home/alice'
mailbox = '/var/mail/alice' if store == 'mbox' else home + '/Maildir'
as_alice = [
    'setpriv',
    '--reuid=alice',
    '--regid=alice',
    '--init-groups',
    'env',
    '-C',
    home,
    'HOME=' + home,
    'USER=alice',
    'TERM=xterm',
]
steps = []


def run(*command, input=b'', good=(0,)):
    done = subprocess.run(
        ['timeout', '-k', '5', '20', *command],
        input=input,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    if done.returncode not in good:
        raise AssertionError(
            '%s ended with %d: %s'
            % (
                command[-8:],
                done.returncode,
                done.stdout.decode(errors='replace')[-2000:],
            )
        )
    return done.stdout.decode(errors='replace')


def text_of(path):
    return open(path, encoding='latin-1').read() if os.path.exists(path) else ''


class Box:
    """The mailbox. Lists the tokens of its messages, in any order."""

    def __init__(self, dice):
        self.dice, self.there, self.made, self.internal = dice, [], 0, False

    def deliver(self):
        for _ in range(self.dice.randint(1, 2)):
            self.made += 1
            token, kind = 'token-%d.' % self.made, self.dice.randrange(5)
            header = 'From: sender@kpopd.test\nSubject: some mail\n'
            if kind:  # A message of kind 0 has no identifying field.
                header = (
                    'Received: from nowhere by mail.kpopd.test with id %d; Mon, 23 Nov 2026 05:00:00 +0000\n'
                    % self.made
                    + header
                )
            if (
                kind > 1
            ):  # Kind 1 is resent: new Received, same Message-ID.
                header += 'Message-ID: <%d@kpopd.test>\n' % self.made
            elif kind == 1:
                header += 'Message-ID: <resent@kpopd.test>\n'
            if kind == 2:
                header += 'X-Is: %s end of %s\n' % (token, token)
                body = ''
            else:
                body = (
                    token
                    + '\n'
                    + 'a line\n' * self.dice.choice((1, 50, 3000))
                    + 'end of '
                    + token
                    + '\n'
                )
            run(
                'procmail',
                '-f',
                'sender@kpopd.test',
                '-d',
                'alice',
                input=(header + '\n' + body).encode(),
            )
            self.there.append(token)
            steps.append('deliver %s kind %d' % (token, kind))

    def look(self):
        """Reads the files, which any program may have changed.

        Dovecot may put its internal message first. mutt counts that message.
        """
        if store == 'mbox':
            text = text_of(mailbox)
            self.internal = text.startswith('From MAILER_DAEMON ')
        else:
            text = ''.join(
                text_of(os.path.join(mailbox, sub, name))
                for sub in ('new', 'cur')
                for name in os.listdir(os.path.join(mailbox, sub))
            )
        self.there = list(dict.fromkeys(re.findall(r'token-\d+\.', text)))

    def removes(self, how, n):
        before = self.there
        how(n)
        self.look()
        assert len(before) - len(self.there) == 1, '%s %d: %s' % (
            how.__name__,
            n,
            self.there,
        )
        steps.append(
            '%s %d removes %s'
            % (how.__name__, n, ' '.join(set(before) - set(self.there)))
        )

    def dele(self, n):
        dialogue = 'USER alice\r\nPASS x\r\nDELE %d\r\nQUIT\r\n' % n
        run(os.environ['KPOPC'], 'mail.kpopd.test', input=dialogue.encode())

    def mutt(self, n, keys='<delete-message>'):
        run(
            *as_alice,
            'script',
            '-qefc',
            'stty rows 24 cols 80; mutt -n -F %s/muttrc -f %s -e "push \'<jump>%d<enter>%s<sync-mailbox><exit>\'"'
            % (world, mailbox, n + self.internal, keys),
            '/dev/null'
        )

    def doveadm(self, n, *command):
        words = 2 if command[:1] == ('flags',) else 1
        command = list(command or ('expunge',))
        command[words:words] = os.environ['DOVEADM'].split()
        return run(
            *as_alice,
            'doveadm',
            '-o',
            'stats_writer_socket_path=',
            '-c',
            world + '/dovecot.conf',
            *command,
            'mailbox',
            'INBOX',
            str(n)
        )

    def act(self):
        """Does one random change that other programs make to the mailbox."""
        self.look()
        n = self.dice.randint(1, len(self.there) or 1)
        does = self.dice.choice(
            (
                'deliver',
                'deliver',
                'dele',
                'mutt',
                'doveadm',
                'mutt flags',
                'mutt flags',
                'doveadm flags',
                'doveadm flags',
            )
        )
        if does == 'deliver' or not self.there:
            self.deliver()
        elif does == 'mutt flags':
            keys = self.dice.choice(
                (
                    '<flag-message>',
                    '<toggle-new>',
                    '<set-flag>r',
                    '<clear-flag>*',
                )
            )
            self.mutt(n, keys)
            steps.append('mutt %s %d' % (keys, n))
        elif does == 'doveadm flags':
            flags = self.dice.choice(('add', 'remove')), self.dice.choice(
                ('\\Seen', '\\Flagged', '\\Answered', 'work', '$Forwarded')
            )
            self.doveadm(n, 'flags', *flags)
            steps.append('doveadm flags %s %s %d' % (*flags, n))
        else:
            self.removes(getattr(self, does), n)


class Client:
    """A client, and the tokens of the messages that it has fetched."""

    def __init__(self, name, folder):
        self.name, self.folder, self.had = name, folder, set()
        self.got = world + '/got.' + name

    def poll(self, box):
        open(self.got, 'w').close()
        getattr(self, self.name)()
        fetched = re.findall(
            r'token-\d+\.', re.sub(r'end of token-\d+\.', '', text_of(self.got))
        )
        ends = re.findall(r'end of (token-\d+\.)', text_of(self.got))
        wanted = [token for token in box.there if token not in self.had]
        steps.append('%s fetches %s' % (self.name, ' '.join(fetched)))
        assert text_of(self.got).count('== message\n') == len(fetched), (
            '%s fetched what nobody has delivered' % self.name
        )
        assert (
            sorted(fetched) == sorted(wanted) == sorted(ends)
        ), '%s fetched %s with the ends of %s, and should have fetched %s' % (
            self.name,
            fetched,
            ends,
            wanted,
        )
        self.had.update(fetched)

    def fetchmail(self):
        rc = self.folder + '/fetchmailrc'
        with open(rc, 'w') as f:
            f.write(
                'poll mail.kpopd.test proto KPOP auth kerberos_v5 user alice sslproto "" keep mda "{ echo == message; cat; } >>%s"\n'
                % self.got
            )
        os.chmod(rc, 0o600)
        run(
            'fetchmail',
            '--nodetach',
            '--nosyslog',
            '-f',
            rc,
            '-i',
            self.folder + '/ids',
            '--pidfile',
            self.folder + '/pid',
            good=(0, 1),
        )

    def getmail(self):
        with open(self.folder + '/getmailrc', 'w') as f:
            f.write(
                '[retriever]\ntype = SimplePOP3Retriever\nserver = 127.0.0.1\nport = 2110\nusername = alice\npassword = x\n'
                '[destination]\ntype = MDA_lmtp\nhost = %s/lmtp\noverride = alice\n[options]\ndelete = false\nread_all = false\n'
                % world
            )
        run('getmail', '--getmaildir=' + self.folder, '--rcfile=getmailrc')


def sequence(seed):
    dice = random.Random(seed)
    folder = '%s/once' % world
    for path in (mailbox, folder, home + '/mail', home + '/Maildir'):
        shutil.rmtree(path, ignore_errors=True) if os.path.isdir(
            path
        ) else os.path.exists(path) and os.unlink(path)
    box, clients = Box(dice), []
    for name in ('fetchmail', 'getmail'):
        os.makedirs(folder + '/' + name)
        clients.append(Client(name, folder + '/' + name))
    box.deliver()
    for _ in range(10):
        if dice.random() < 0.4:
            dice.choice(clients).poll(box)
        else:
            box.act()
    # Check that no client has mistaken one message for another because of the
    # other programs.
    box.look()
    for client in clients:
        client.poll(box)


bad = 0
for seed in range(first, first + count):
    steps.clear()
    try:
        sequence(seed)
    except (AssertionError, subprocess.TimeoutExpired) as e:
        bad += 1
        print('seed %d: %s\n\t%s' % (seed, e, '\n\t'.join(steps)))
print(
    'fetched once, %s, from seed %d: %d points, %d bad'
    % (store, first, count, bad)
)
sys.exit(bad > 0)
