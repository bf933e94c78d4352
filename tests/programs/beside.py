# Lets Dovecot, MDAs and POP3 clients use alice's mailbox at the same time, and
# checks what becomes of each message: beside.py mbox|maildir SEED COUNT.
#
# COUNT is the number of operations. An operation is one of these:
#
#   - a delivery by procmail or dovecot-lda
#   - a command of IMAP: APPEND, STORE, UID EXPUNGE, COPY, MOVE, CHECK, FETCH
#   - a command of doveadm: index, force-resync
#   - a session of KPOP, by a real login: UIDL, TOP of all messages, RETR, DELE,
#     then QUIT, or the client's end without QUIT
#   - a kill
#
# A process is killed only where its program loses no mail by that:
#
#   kpopd        at any time, above all in QUIT; only sessions, so that the
#                broker finishes the removal
#   imap         Maildir: at any time. mbox: between two commands, because
#                Dovecot moves messages within the file without a journal
#   dovecot-lda  Maildir: at any time. mbox: by SIGTERM
#   procmail     Maildir: at any time. mbox: never, because it leaves a part of
#                a message, even after SIGTERM, to which the next message is
#                then appended
#
# What was not acknowledged may have happened or not. These must be true at the
# end, byte for byte:
#
#   - Each message that was delivered and not removed is there once.
#   - Each message that was removed is not there.
#   - Of the others, none is there twice or in part.
#
# Each session must list all messages that were delivered before it began and
# were not removed. No message gets another UIDL, and no two messages get the
# same. RETR sends the whole message. It may refuse a message that is there, but
# not in two sessions in a row. QUIT leaves a message only if Dovecot may have
# removed it. No client fails twice in a row. It is no failure if this program
# has killed the session, or if the other client has the mailbox.
#
# $WITHOUT contains what is left out: "procmail"; "anywhere", which kills
# Dovecot's processes in a Maildir as in an mbox, because a killed one may leave
# a lock for which the others wait for two minutes; "kpopd"; "kill"; or "care",
# which lets SIGKILL end any program at any time. The last three are for
# experiments with Dovecot.
import glob, imaplib, os, random, re, select, signal, subprocess, sys
import threading, time, traceback

store, seed, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
world, home = os.environ['WORLD'], '/home/alice'
without = os.environ.get('WITHOUT', '').split()
# Dovecot's processes may be killed at any time.
is_killed_anywhere = 'care' in without or (
    store == 'maildir' and 'anywhere' not in without
)
mailbox = '/var/mail/alice' if store == 'mbox' else home + '/Maildir'
archive = home + '/mail/Archive' if store == 'mbox' else mailbox + '/.Archive'
conf = world + '/dovecot.conf'
# The fields that Dovecot, its LDA or procmail add to a header or change in it.
added = re.compile(
    rb'(Status|X-Status|X-UID|X-IMAPbase|X-IMAP|X-Keywords|Content-Length'
    rb'|Return-Path|Delivered-To):',
    re.I,
)


class Wrong(Exception):
    """Something that must not happen."""


class Books:
    """What is known of each message. Every method takes the lock."""

    def __init__(self):
        self.lock = threading.RLock()
        self.text, self.uidl, self.owner = {}, {}, {}
        self.delivered, self.archived = set(), set()
        self.doomed, self.gone, self.refused = {}, {}, {}
        self.history = {}
        self.counts, self.done, self.made = {}, 0, 0
        self.problems, self.kills = [], []
        self.begun = time.monotonic()
        self.size = 0  # of the mailbox in the last list of it

    def seconds(self):
        return time.monotonic() - self.begun

    def op(self, name):
        with self.lock:
            self.done += 1
            self.note(name)

    def note(self, name, n=1):
        with self.lock:
            self.counts[name] = self.counts.get(name, 0) + n

    def tell(self, tokens, event):
        """Keeps what happens to these messages, for the report."""
        line = '%.3f %s: %s' % (
            self.seconds(),
            threading.current_thread().name,
            event,
        )
        with self.lock:
            for token in tokens:
                self.history.setdefault(token, []).append(line)

    def wrong(self, text):
        with self.lock:
            for token in set(re.findall(r'token-\d+\.', text)):
                text += '\n#\t%s: %s' % (
                    token,
                    '\n#\t\t'.join(self.history.get(token, [])),
                )
            self.problems.append(text)
            print('# %.1f s: %s' % (self.seconds(), text), flush=True)

    def make(self, how, dice):
        """Makes a message. Returns its token and text."""
        with self.lock:
            self.made += 1
            token = 'token-%d.' % self.made
        size = dice.choice((1, 3, 3, 10, 40, 400, 4000))
        lines = [
            dice.choice(
                ('', '.', '..dots', '>From there', 'a \t', 'x' * 900)
                if dice.random() < 0.1
                else [
                    '%s line %d %s'
                    % (token, i, 'abc ' * dice.randrange(15))
                ]
            )
            for i in range(dice.randint(1, size))
        ]
        text = (
            'Received: from nowhere by mail.kpopd.test with id %d; '
            'Mon, 23 Nov 2026 05:00:00 +0000\n'
            'Message-ID: <%s@kpopd.test>\nFrom: sender@kpopd.test\n'
            'To: alice@kpopd.test\nSubject: %s by %s\n\n%s\nend of %s\n'
            % (self.made, token, token, how, '\n'.join(lines), token)
        ).encode()
        with self.lock:
            self.text[token] = text
        return token, text

    def take(self, token):
        """Records that the delivery was acknowledged."""
        with self.lock:
            self.delivered.add(token)
        self.tell([token], 'delivered')

    def doom(self, tokens, by):
        """Records that the removal of these messages begins."""
        self.tell(tokens, 'to be removed by ' + by)
        with self.lock:
            for token in tokens:
                self.doomed.setdefault(token, set()).add(by)

    def remove(self, tokens, by):
        """Records that the removal was acknowledged."""
        self.tell(tokens, 'removed by ' + by)
        with self.lock:
            for token in tokens:
                self.gone.setdefault(token, set()).add(by)

    def certain(self):
        """Returns the messages that must be there."""
        with self.lock:
            return {t for t in self.delivered if t not in self.doomed}

    def names(self, token, uidl):
        """Checks the UIDL of a message."""
        with self.lock:
            if self.uidl.setdefault(token, uidl) != uidl:
                self.wrong(
                    'UIDL: %s had %s and has %s'
                    % (token, self.uidl[token], uidl)
                )
            if self.owner.setdefault(uidl, token) != token:
                self.wrong(
                    'UIDL: %s was that of %s and is that of %s'
                    % (uidl, self.owner[uidl], token)
                )

    def show(self, token, answer):
        """Records the answer to TOP or RETR.

        While Dovecot moves messages within the file, a session cannot read
        them. The next session must.
        """
        with self.lock:
            if answer.startswith('+OK'):
                self.refused.pop(token, None)
                return
            self.note('TOP or RETR: ' + answer)
            if token in self.certain():
                self.note('TOP or RETR refused, although the message is there')
                self.refused[token] = self.refused.get(token, 0) + 1
                if self.refused[token] > 1:
                    self.wrong('%s was refused twice: %s' % (token, answer))

    def killed_since(self, when):
        with self.lock:
            return any(t >= when for t in self.kills)


books = Books()


def plain(text):
    """Returns a message without the fields that others add."""
    header, _, body = text.partition(b'\n\n')
    lines = [l for l in header.split(b'\n') if not added.match(l)]
    return b'\n'.join(lines) + b'\n\n' + body


def token_of(text):
    found = re.search(rb'^Message-ID: <(token-\d+\.)@', text, re.M)
    return found and found.group(1).decode()


def check_text(where, text, token):
    if plain(text) != books.text[token]:
        name = '%s/wrong.%s%d' % (world, token, len(books.problems))
        with open(name, 'wb') as f:
            f.write(text)
        with open(name + '.sent', 'wb') as f:
            f.write(books.text[token])
        books.wrong('%s: %s is not as it was sent' % (where, token))


def pause(dice, most):
    time.sleep(dice.random() * most)


class Actor(threading.Thread):
    """A program that uses the mailbox until enough operations are done."""

    def __init__(self, name):
        super().__init__(name=name)
        self.dice = random.Random('%s %s' % (seed, name))

    def run(self):
        try:
            while books.done < count and len(books.problems) < 5:
                self.step()
            self.end()
        except Exception:
            books.wrong('%s: %s' % (self.name, traceback.format_exc()))

    def end(self):
        pass


class Mda(Actor):
    """Delivers with procmail or dovecot-lda."""

    def step(self):
        if books.size > 40:
            return pause(self.dice, 0.1)
        how = self.dice.choice(
            [how for how in ('procmail', 'dovecot-lda') if how not in without]
        )
        token, text = books.make(how, self.dice)
        command = (
            ['procmail', '-f', 'sender@kpopd.test', '-d', 'alice']
            if how == 'procmail'
            else ['/usr/lib/dovecot/dovecot-lda', '-c', conf, '-d', 'alice']
        )
        with open('%s/message.%s' % (world, self.name), 'w+b') as f:
            f.write(text)
            f.seek(0)
            mda = subprocess.Popen(
                command,
                stdin=f,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        hard = is_killed_anywhere or (
            store == 'maildir' and how == 'procmail'
        )
        doomed = (
            'kill' not in without
            and (hard or how == 'dovecot-lda')
            and self.dice.random() < 0.1
        )
        if doomed:
            pause(self.dice, 0.03)
            books.op('MDA killed')
            mda.send_signal(signal.SIGKILL if hard else signal.SIGTERM)
        begun = time.monotonic()
        status = mda.wait()
        books.op('delivery by ' + how)
        if status == 0:
            books.take(token)
        elif not doomed:
            books.note('%s ended with %d' % (how, status))
        if time.monotonic() - begun > 9:
            books.note(how + ' waited for more than 9 s')
        pause(self.dice, 0.1)


class Imap(Actor):
    """An IMAP client."""

    validity = None

    def __init__(self, name):
        super().__init__(name)
        self.imap = None

    def connect(self):
        self.imap = imaplib.IMAP4('127.0.0.1', 2143, timeout=200)
        self.imap.login('alice', 'x')
        port = self.imap.sock.getsockname()[1]
        ss = subprocess.run(
            ['ss', '-Htnp', 'sport = 2143 and dport = %d' % port],
            stdout=subprocess.PIPE,
        ).stdout.decode()
        self.server = int(re.search(r'"imap",pid=(\d+)', ss).group(1))
        self.must('select', 'INBOX')
        validity = self.imap.response('UIDVALIDITY')[1][0]
        if validity != Imap.validity:
            books.note('UIDVALIDITY')
            Imap.validity = validity
        self.left = self.dice.randint(1, 15)

    def must(self, name, *words):
        answer, data = getattr(self.imap, name)(*words)
        if answer != 'OK':
            raise Wrong('%s %s: %s %s' % (name, words, answer, data))
        return data

    def listing(self):
        """Returns the pairs of UID and token."""
        data = self.must(
            'uid', 'FETCH', '1:*', '(UID BODY.PEEK[HEADER.FIELDS (MESSAGE-ID)])'
        )
        found = []
        for part in data:
            if isinstance(part, tuple):
                uid = re.search(rb'UID (\d+)', part[0])
                token = token_of(part[1])
                if not token:
                    raise Wrong('Dovecot shows %r' % (part,))
                if uid:
                    found.append((uid.group(1).decode(), token))
        books.size = len(found)
        return found

    def killer(self):
        """May kill the server during the next command."""
        if (
            'kill' not in without
            and is_killed_anywhere
            and self.dice.random() < 0.03
        ):
            delay = self.dice.random() * 0.01
            threading.Timer(delay, self.kill).start()

    def kill(self):
        try:
            os.kill(self.server, signal.SIGKILL)
            books.op('imap killed in a command')
        except ProcessLookupError:
            pass

    def end(self):
        if self.imap:
            try:
                self.imap.logout()
            except (imaplib.IMAP4.error, OSError):
                pass
            self.imap = None

    def step(self):
        begun = time.monotonic()
        try:
            if not self.imap:
                self.connect()
            self.command()
            self.left -= 1
            if 'kill' not in without and self.dice.random() < 0.02:
                os.kill(self.server, signal.SIGKILL)
                books.op('imap killed between commands')
                self.imap = None
            elif self.left <= 0:
                self.end()
        except (imaplib.IMAP4.error, OSError, Wrong) as e:
            text = re.sub(r'\d+', 'N', str(e))[:90]
            books.note('IMAP %s: %s' % (type(e).__name__, text))
            self.imap = None
        if time.monotonic() - begun > 9:
            books.note('IMAP waited for more than 9 s')
        pause(self.dice, 0.2)

    def to_archive(self, command, some):
        """Copies or moves messages. Records which ones Dovecot has copied.

        It leaves out, without an error, those that another client has removed.
        """
        self.imap.untagged_responses.clear()
        self.must('uid', command, ','.join(u for u, _ in some), 'Archive')
        copied = self.imap.response('COPYUID')[1][0]
        if copied is None:
            return
        uids = set()
        for part in copied.decode().split()[1].split(','):
            first, _, last = part.partition(':')
            uids.update(range(int(first), int(last or first) + 1))
        with books.lock:
            books.archived.update(t for u, t in some if int(u) in uids)
        books.note('copies in the archive', len(uids))

    def command(self):
        does = self.dice.choice(
            ('flags', 'flags', 'expunge', 'move', 'copy', 'append', 'check')
            + ('fetch',)
        )
        if does == 'append':
            if books.size > 40:
                return
            token, text = books.make('APPEND', self.dice)
            self.killer()
            text = text.replace(b'\n', b'\r\n')
            self.must('append', 'INBOX', None, None, text)
            books.take(token)
            return books.op('IMAP append')
        if does == 'check':
            self.must(self.dice.choice(('check', 'noop')))
            return books.op('IMAP check')
        there = self.listing()
        if not there:
            return pause(self.dice, 0.1)
        some = self.dice.sample(there, min(len(there), self.dice.randint(1, 4)))
        uids, tokens = ','.join(u for u, _ in some), [t for _, t in some]
        if does == 'fetch':
            uid, token = some[0]
            for part in self.must('uid', 'FETCH', uid, '(BODY.PEEK[])'):
                if isinstance(part, tuple):
                    check_text('IMAP', part[1].replace(b'\r\n', b'\n'), token)
            return books.op('IMAP fetch')
        self.killer()
        if does == 'flags':
            sign = self.dice.choice('+-')
            flag = self.dice.choice(
                ('\\Seen', '\\Flagged', '\\Answered', 'work', '$Forwarded')
            )
            self.must('uid', 'STORE', uids, sign + 'FLAGS', '(%s)' % flag)
        elif does == 'copy':
            self.to_archive('COPY', some)
        elif books.size > 12:
            books.doom(tokens, 'imap')
            if does == 'move':
                self.to_archive('MOVE', some)
            else:
                self.must('uid', 'STORE', uids, '+FLAGS', '(\\Deleted)')
                self.must('uid', 'EXPUNGE', uids)
            # Dovecot answers OK for a UID that a new index has changed, too.
            shown = {token for _, token in self.listing()}
            books.remove([t for t in tokens if t not in shown], 'imap')
            books.note('IMAP OK, but not removed', len(shown & set(tokens)))
        books.tell(tokens, 'IMAP ' + does)
        books.op('IMAP ' + does)


class Doveadm(Actor):
    """Makes Dovecot's index again."""

    def step(self):
        command = self.dice.choice(('index', 'force-resync'))
        status = subprocess.run(
            ['doveadm', '-c', conf, command, '-u', 'alice', 'INBOX'],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ).returncode
        books.op('doveadm ' + command)
        books.tell(books.certain(), 'doveadm ' + command)
        if status:
            books.note('doveadm %s ended with %d' % (command, status))
        pause(self.dice, 1)


class Lost(Exception):
    """The connection has ended, or the server does not answer."""


class Kpop(Actor):
    """A POP3 client."""

    def __init__(self, name):
        super().__init__(name)
        self.failures = 0

    def line(self):
        while b'\n' not in self.got:
            if not select.select([self.pipe], [], [], 30)[0]:
                raise Lost('no answer for 30 s')
            more = os.read(self.pipe.fileno(), 65536)
            if not more:
                raise Lost('the connection has ended')
            self.got += more
        line, _, self.got = self.got.partition(b'\n')
        return line.rstrip(b'\r').decode('latin-1')

    def ask(self, command):
        self.say(command)
        return self.line()

    def say(self, *commands):
        try:
            self.client.stdin.write(
                ''.join(c + '\r\n' for c in commands).encode()
            )
        except OSError as e:
            raise Lost(str(e))

    def lines(self):
        found = []
        while (line := self.line()) != '.':
            found.append(line[1:] if line.startswith('.') else line)
        return found

    def text(self):
        return '\n'.join(self.lines() + ['']).encode('latin-1')

    def step(self, kind=None):
        begun = time.monotonic()
        kind = kind or self.dice.choice(
            ('look', 'quit', 'quit', 'quit', 'leave', 'kill', 'kill quit')
        )
        if 'kill' in without:
            kind = kind.split()[-1].replace('kill', 'look')
        self.got, failure = b'', None
        self.client = subprocess.Popen(
            [os.environ['KPOPC'], 'mail.kpopd.test'],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
        )
        self.pipe = self.client.stdout
        try:
            failure = self.session(kind)
        except Lost as e:
            failure = str(e)
        finally:
            self.client.kill()
            self.client.wait()
            self.client.stdin.close()
            self.pipe.close()
        books.op('KPOP session: ' + kind)
        took = time.monotonic() - begun
        if took > 5:
            books.note('KPOP session of more than 5 s')
        if failure and books.killed_since(begun):
            books.note('KPOP session that was killed')
        elif failure and 'another session' in failure:
            books.note('KPOP client that found another session')
        elif failure:
            self.failures += 1
            books.note('KPOP failure: ' + re.sub(r'\d+', 'N', failure))
            print('# %.1f s: %s: %s' % (books.seconds(), self.name, failure))
            if self.failures > 1:
                books.wrong('two failures in a row, the last: ' + failure)
        else:
            self.failures = 0
        pause(self.dice, 0.1)

    def kill_session(self):
        """Kills one of kpopd's sessions. They have the client's socket."""
        pids = subprocess.run(
            ['pgrep', '-x', 'kpopd', '-U', 'alice'], stdout=subprocess.PIPE
        ).stdout.split()
        for pid in pids:
            try:
                client = os.readlink('/proc/%d/fd/0' % int(pid))
                if client.startswith('socket:'):
                    with books.lock:
                        books.kills.append(time.monotonic())
                    os.kill(int(pid), signal.SIGKILL)
                    return books.op('session killed')
            except OSError:
                pass

    def session(self, kind):
        """Runs a session. Returns the reason if it fails."""
        certain = books.certain()
        self.line()
        self.ask('USER alice')
        answer = self.ask('PASS x')
        if not answer.startswith('+OK'):
            return answer
        self.ask('UIDL')
        ids = [line.split(' ') for line in self.lines()]
        books.size = len(ids)
        self.say(*('TOP %s 0' % n for n, _ in ids))
        there = {}
        for n, uidl in ids:
            answer = self.line()
            if answer.startswith('+OK'):
                text = self.text()
                token = token_of(text)
                if not token:
                    books.wrong('message %s is none of ours: %r' % (n, text))
                    continue
                books.names(token, uidl)
                if token in there.values():
                    books.wrong('%s is there twice' % token)
                there[n] = token
            elif uidl in books.owner:
                there[n] = books.owner[uidl]
            books.show(there.get(n), answer)
        missing = (certain & books.certain()) - set(there.values())
        if missing and len(there) == len(ids):
            books.wrong('the list lacks %s' % sorted(missing))
        self.retrieve(there)
        return self.finish(kind, there)

    def retrieve(self, there):
        for n in self.dice.sample(sorted(there), min(len(there), 3)):
            answer = self.ask('RETR ' + n)
            if answer.startswith('+OK'):
                check_text('RETR', self.text(), there[n])
            books.show(there[n], answer)

    def finish(self, kind, there):
        share = self.dice.choice((0.05, 0.1, 0.2, 1 if len(there) < 9 else 0.3))
        marks = [n for n in there if self.dice.random() < share]
        if kind in ('look', 'kill') or books.size < 6:
            marks = []
        for n in marks:
            answer = self.ask('DELE ' + n)
            if not answer.startswith('+OK'):
                return answer
        tokens = [there[n] for n in marks]
        pause(self.dice, self.dice.choice((0, 0.01, 0.3)))
        if kind == 'kill':
            self.kill_session()
        if kind == 'leave':
            return None
        books.doom(tokens, 'kpop')
        if kind == 'kill quit':
            timer = threading.Timer(
                self.dice.random() * 0.02, self.kill_session
            )
            timer.start()
        answer = self.ask('QUIT')
        if answer.startswith('+OK'):
            books.remove(tokens, 'kpop')
            return None
        if answer.startswith('-ERR some'):
            books.note('QUIT: ' + answer)
            if not any('imap' in books.doomed[t] for t in tokens):
                books.wrong('QUIT left one of %s: %s' % (tokens, answer))
            return None
        return answer


def mbox_messages(path):
    """Returns the messages of an mbox file."""
    with open(path, 'rb') as f:
        text = f.read()
    # The last byte of a message is followed by an empty line.
    parts = re.split(rb'(?:\A|(?<=\n\n))From [^\n]*\n', text)
    if parts[0]:
        books.wrong('%s begins with %r' % (path, parts[0][:80]))
    found = []
    for n, part in enumerate(parts[1:]):
        if n == 0 and b'\nX-IMAP: ' in b'\n' + part.partition(b'\n\n')[0]:
            continue
        if not part.endswith(b'\n\n'):
            books.wrong('%s: message %d ends with %r' % (path, n, part[-80:]))
        found.append(part[:-1])
    return found


def maildir_messages(path):
    found = []
    for name in glob.glob(path + '/new/*') + glob.glob(path + '/cur/*'):
        with open(name, 'rb') as f:
            found.append(f.read())
    return found


def tokens_in(path):
    """Returns the tokens of the messages of a mailbox, which must be whole."""
    read = mbox_messages if store == 'mbox' else maildir_messages
    found = []
    for text in read(path):
        token = token_of(text)
        if token not in books.text:
            books.wrong('%s: none of ours: %r' % (path, text[:200]))
            continue
        check_text(path, text, token)
        found.append(token)
    return found


def judge():
    """Compares the mailbox with the books. Returns a summary."""
    kept = tokens_in(mailbox)
    for token in {t for t in kept if kept.count(t) > 1}:
        books.wrong('%s is kept %d times' % (token, kept.count(token)))
    kept = set(kept)
    for token in sorted(books.certain() - kept):
        books.wrong('%s is lost' % token)
    for token in sorted(kept & set(books.gone)):
        by = ' and '.join(books.gone[token])
        books.wrong('%s is there again, removed by %s' % (token, by))
    if store == 'maildir' or os.path.exists(archive):
        lost = books.archived - set(tokens_in(archive))
        if lost:
            books.wrong('in the archive are not %s' % sorted(lost))
    parts = {'kept': len(kept & books.delivered)}
    for token in books.delivered - kept:
        who = ' and '.join(sorted(books.gone.get(token, ['an unsure removal'])))
        parts['removed by ' + who] = parts.get('removed by ' + who, 0) + 1
    unsure = set(books.doomed) - set(books.gone)
    half = set(books.text) - books.delivered
    return (
        '%d delivered = %s; not acknowledged: %d removals (%d are kept), '
        '%d deliveries (%d are kept)'
        % (
            len(books.delivered),
            ' + '.join('%d %s' % (n, what) for what, n in parts.items()),
            len(unsure),
            len(unsure & kept),
            len(half),
            len(half & kept),
        )
    )


def look():
    """Lets kpopd and Dovecot list the mailbox once more, alone."""
    kept = set(tokens_in(mailbox))
    if 'kpopd' not in without:
        Kpop('last').step('look')
    imap = Imap('last')
    imap.connect()
    shown = {token for _, token in imap.listing()}
    imap.end()
    if shown != kept:
        books.wrong('Dovecot shows %s' % sorted(shown ^ kept))


subprocess.run(
    ['doveadm', '-c', conf, 'mailbox', 'create', '-u', 'alice', 'Archive'],
    check=True,
)
actors = [Mda('mda%d' % n) for n in range(4)]
actors += [Imap('imap%d' % n) for n in range(3)]
actors += [Doveadm('doveadm')]
if 'kpopd' not in without:
    actors += [Kpop('kpop1'), Kpop('kpop2')]
for actor in actors:
    actor.start()
for actor in actors:
    actor.join()
# The broker of a session that was killed goes on with the removal.
while not subprocess.call(['pgrep', '-x', 'kpopd'], stdout=subprocess.DEVNULL):
    time.sleep(0.05)
summary = judge()
look()
for name, n in sorted(books.counts.items()):
    print('#   %6d %s' % (n, name))
print('# beside Dovecot, %s, seed %s: %s' % (store, seed, summary))
print(
    '# beside Dovecot, %s, seed %s, %d s: %d points, %d bad'
    % (
        store,
        seed,
        books.seconds(),
        books.done,
        len(books.problems),
    )
)
sys.exit(bool(books.problems))
