# Changes the access file again and again, and compares what logins may do with
# an own reading of kpopd.access(5): access-storm.py files|logins SEED COUNT.
#
# With "files" each of COUNT points is a login by a file of random lines, valid
# and wrong. tests/programs/access-ask answers.
#
# With "logins" each point is a real login. Each of three users has clients that
# log in with the tickets of many principals. Meanwhile one thread replaces
# /etc/kpopd.access, writes it in place, removes it, and changes its mode. The
# answer must be that of a file that was there during the login. A file that is
# written in place has many states. One that lasts less than a tenth of a second
# must give no right. A session with the right read removes nothing, and one
# with the right full removes what it marks.
#
# The last line has the number of points, and of those with a wrong answer.
import ipaddress, os, random, re, subprocess, sys, threading, time

mode, seed, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
world, build = os.environ['WORLD'], os.environ['KPOPD_BUILD']
dice = random.Random('%s %s' % (mode, seed))
tally = {}


def note(what):
    tally[what] = tally.get(what, 0) + 1


# ---- what kpopd.access(5) says ----

component = r'(?:\\[/@\\tnb0]|[^\\/@\t\n\b])+'
principal_form = re.compile('%s(?:/%s)*@%s' % (3 * (component,)), re.S)


class Mistake(Exception):
    pass


def name_of(word):
    """Decodes a name of the file."""
    if any(b > 126 or b < 33 for b in word):
        raise Mistake('a byte that is not printable')
    text = word.decode('ascii')
    if re.search(r'\\(?![0-3][0-7][0-7])', text) or '\\000' in text:
        raise Mistake('a backslash')
    return re.sub(
        r'\\([0-7]{3})', lambda octal: chr(int(octal[1], 8)), text
    )


def pattern_of(word):
    text = name_of(word)
    if not principal_form.fullmatch(text):
        raise Mistake('no principal')
    parts = split(text)
    if any('*' in part and part != '*' for part in parts):
        raise Mistake('a part of a component')
    return text


def split(principal):
    """Returns the components with their separators, and last the realm."""
    parts, part, rest = [], '', principal
    while rest:
        if rest[0] == '\\':
            part, rest = part + rest[:2], rest[2:]
        elif rest[0] in '/@':
            parts += [part, rest[0]]
            part, rest = '', rest[1:]
        else:
            part, rest = part + rest[0], rest[1:]
    return parts + [part]


def networks_of(word):
    networks = word.split(',')
    if len(networks) > 32:
        raise Mistake('too many networks')
    return [network_of(text) for text in networks]


def network_of(text):
    if text == 'local':
        return text
    address, slash, bits = text.partition('/')
    if '%' in address or slash and not re.fullmatch('[0-9]+', bits):
        raise Mistake('no network')
    try:
        a = ipaddress.ip_address(address)
        return ipaddress.ip_network(
            '%s/%d' % (a, int(bits) if slash else a.max_prefixlen),
            strict=False,
        )
    except ValueError:
        raise Mistake('no network')


def rule_of(line):
    """Returns a rule, or None for a line without one."""
    line = line.strip(b' \t')
    if not line or line.startswith(b'#'):
        return None
    words = re.split(rb'[ \t]+', line)
    if len(words) < 3 or words[2] not in (b'read', b'full', b'deny'):
        raise Mistake('no right')
    pattern, user = pattern_of(words[0]), name_of(words[1])
    right = words[2].decode()
    conditions = {}
    for word in words[3:]:
        name, equals, value = word.partition(b'=')
        if name in conditions or right == 'deny':
            raise Mistake('a condition too many')
        if word in (b'tls', b'layer'):
            conditions[name] = True
        elif name == b'from' and equals:
            conditions[name] = networks_of(value.decode('latin-1'))
        else:
            raise Mistake('no condition')
    if user == '*' and right != 'deny':
        raise Mistake('every user')
    return pattern, user, right, conditions


def rules_of(text):
    """Returns the rules of a file, or None if it has a mistake."""
    if not text.endswith(b'\n'):
        return None
    try:
        rules = [rule_of(line) for line in text[:-1].split(b'\n')]
    except Mistake:
        return None
    return [rule for rule in rules if rule]


def has_name(pattern, principal):
    a, b = split(pattern), split(principal)
    return len(a) == len(b) and all(
        x == '*' and y not in ('/', '@') or x == y for x, y in zip(a, b)
    )


def lower(text):
    """Only ASCII letters have another case."""
    return ''.join(c.lower() if c < '\x80' else c for c in text)


def is_met(conditions, address, layer):
    if b'tls' in conditions and layer != 'tls':
        return False
    if b'layer' in conditions and layer == 'none':
        return False
    if b'from' not in conditions:
        return True
    for network in conditions[b'from']:
        if network == 'local' or address is None:
            continue
        if address.version == network.version and address in network:
            return True
        # IPv4 written as IPv6
        if (
            address.version == 4
            and network.version == 6
            and network.prefixlen >= 96
            and ipaddress.ip_address('::ffff:%s' % address) in network
        ):
            return True
    return False


def decide(text, principal, user, address, layer):
    """Returns full, read, deny, mistake, or unnamed."""
    rules = rules_of(text)
    if rules is None:
        return 'mistake'
    is_named = is_other_case = False
    for pattern, of, right, conditions in rules:
        if of not in ('*', user):
            continue
        if not has_name(lower(pattern), lower(principal)):
            continue
        is_named = True
        if right == 'deny':
            return right
        if not has_name(pattern, principal):
            is_other_case = True
        elif is_other_case and '*' in split(pattern):
            pass
        elif is_met(conditions, address, layer):
            return right
    return 'deny' if is_named else 'unnamed'


# ---- random files ----


class Kind:
    """What random files are made of."""

    def __init__(self, names, realms, users, networks):
        self.names, self.realms, self.users = names, realms, users
        self.networks = networks
        self.logins = []  # principals and users that log in

    def pattern(self):
        if self.logins and dice.random() < 0.6:
            return ''.join(
                '*' if part not in '/@' and dice.random() < 0.2 else part
                for part in split(dice.choice(self.logins)[0])
            )
        number = dice.choice((1, 1, 1, 2, 2, 3))
        names = dice.choices(self.names + ['*'], k=number)
        return '/'.join(names) + '@' + dice.choice(self.realms + ['*'])

    def line(self):
        x = dice.random()
        if x < 0.08:
            return dice.choice(('', ' \t', '# a comment', '  #x', '#'))
        right = dice.choice(('full', 'full', 'read', 'read', 'deny'))
        users = self.users + (['*'] if right == 'deny' else [])
        words = [self.pattern(), dice.choice(users), right]
        if right != 'deny':
            if dice.random() < 0.15:
                words.append(dice.choice(('tls', 'layer')))
            if dice.random() < 0.2:
                words.append(
                    'from='
                    + ','.join(
                        dice.choices(self.networks, k=dice.randint(1, 3))
                    )
                )
        blank = dice.choice((' ', ' ', '\t', '  \t'))
        return (
            dice.choice(('', '', '', ' '))
            + blank.join(words)
            + dice.choice(('', '', '', ' '))
        )

    def file(self, most, wrong, is_closed=False):
        """Returns random lines. If is_closed, the last ones deny the rest."""
        text = ''.join(
            self.line() + '\n' for _ in range(dice.randint(1, most))
        ).encode()
        if is_closed:
            text += b'*@* * deny\n*/*@* * deny\n'
        while dice.random() < wrong:
            text = spoil(text)
        return text


# Bytes that are special somewhere.
special = [b' ', b'\t', b'\n', b'*', b'/', b'@', b'\\', b'#', b',', b'=', b'.']
special += [b'0', b'1', b'3', b'7', b':', b'a', b'A', b'\r', b'\0', b'\xc3']
special += [b'\\052', b'\\100', b'\\134', b'\\134/', b'\\134t', b'\\303\\274']
special += [b'\\000', b'full', b'deny', b'tls', b'layer', b'from=', b'local']


def spoil(text):
    """Changes a place of the text."""
    at, x = dice.randrange(len(text) + 1), dice.random()
    if x < 0.4:
        return text[:at] + dice.choice(special) + text[at:]
    if x < 0.7:
        return text[:at] + text[at + dice.choice((1, 1, 1, 5)) :]
    if x < 0.9:
        return text[:at] + dice.choice(special) + text[at + 1 :]
    return text[:at]


def sum_up(done, bad):
    counts = ', '.join('%d %s' % (tally[k], k) for k in sorted(tally))
    print('# access %s, seed %s: %s' % (mode, seed, counts))
    print('# access %s: %d points, %d bad' % (mode, done, bad))
    sys.exit(bad > 0 or done < count)


# ---- files: the decision alone ----


def compare_files():
    path = world + '/access.random'
    kind = Kind(
        ['alice', 'Alice', 'bob', 'cron', 'a\\134/b', '\\134@', '\\303\\274'],
        ['R', 'r', 'S'],
        ['alice', 'bob', 'Alice', 'a\\040b'],
        ['10.0.0.0/8', '10.1.2.3', '10.1.2.3/30', '0.0.0.0/0', '::/0', 'local']
        + ['2001:db8::/32', '::ffff:10.0.0.0/104', '2001:db8::1/127', '::1'],
    )
    names = ['alice', 'Alice', 'bob', 'cron', 'a\\/b', '\\@', '\xfc', '']
    addresses = ['10.1.2.3', '10.1.2.1', '10.7.7.7', '192.0.2.1', '2001:db8::1']
    addresses += ['2001:db9::1', '::1', None]
    ask = subprocess.Popen(
        [build + '/tests/programs/access-ask', path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    done = bad = 0
    while done < count and bad < 5:
        text = kind.file(dice.choice((2, 5, 12)), 0.3)
        with open(path, 'wb') as f:
            f.write(text)
        # The reading of a file that has just changed takes longer.
        os.utime(path, (1, 1))
        for _ in range(5):
            number = dice.choice((1, 1, 2, 3))
            principal = '/'.join(dice.choices(names, k=number))
            principal += '@' + dice.choice(('R', 'R', 'r', 'S'))
            user = dice.choice(('alice', 'alice', 'bob', 'Alice', 'a b', ''))
            rules = rules_of(text)
            if rules and dice.random() < 0.8:
                # A login that a line names, perhaps.
                principal = ''.join(
                    dice.choice(names) if part == '*' else part
                    for part in split(dice.choice(rules)[0])
                )
                if dice.random() < 0.2:
                    principal = principal.swapcase()
            address = dice.choice(addresses)
            layer = dice.choice(('none', 'layer', 'tls'))
            form = '[%s]:1' if address and ':' in address else '%s:1'
            login = [principal, user, form % address if address else '-', layer]
            ask.stdin.write(('\t'.join(login) + '\n').encode('latin-1'))
            ask.stdin.flush()
            answer = ask.stdout.readline().decode().strip()
            right = decide(
                text,
                principal,
                user,
                address and ipaddress.ip_address(address),
                layer,
            )
            done += 1
            note(right)
            if answer != right:
                bad += 1
                print('# %s: %s, not %s, by %r' % (login, answer, right, text))
    ask.stdin.close()
    ask.wait()
    sum_up(done, bad)


# ---- logins: real ones, while the file changes ----

path = '/etc/kpopd.access'
# What reads the file waits so long for another change; less the time that may
# pass between a change and its time.
PATIENCE = 0.09


class State:
    """The file between two changes."""

    def __init__(self, begun, written, text, is_usable=True):
        self.begun = begun  # just before the change
        self.ended = None  # just after the next change
        self.written = written  # not later than the time of the file
        self.text = text  # None: there is no file
        self.is_usable = is_usable
        # The next change is to the same file, so what has been read is noticed
        # to be old. Or there is no file, and one is waited for.
        self.ends_in_place = False
        self.is_removed = False  # by the next change

    def answer(self, login):
        if self.text is None:
            return 'unnamed'
        return decide(self.text, *login) if self.is_usable else 'mistake'

    def is_passing(self):
        return (
            self.ends_in_place
            and self.ended is not None
            and self.ended - self.written < PATIENCE
        )


class Writer(threading.Thread):
    """Changes the file."""

    def __init__(self, kind):
        super().__init__()
        self.kind, self.states = kind, []
        self.is_ended, self.problem = False, None
        self.lock = threading.Lock()
        self.replace(b'# nothing\n')

    def change(
        self, action, text, in_place=False, is_usable=True, written=None
    ):
        """Runs the action, after which the file has this text.

        written: when the text was written, if not now.
        """
        begun = time.monotonic()
        if written is None:
            written = begun
        with self.lock:
            new = State(begun, written, text, is_usable)
            if self.states:
                last = self.states[-1]
                last.ends_in_place = in_place or last.text is None
                last.is_removed = text is None
            self.states.append(new)
        action()
        with self.lock:
            if len(self.states) > 1:
                self.states[-2].ended = time.monotonic()

    def replace(self, text):
        name, written = path + '.new', time.monotonic()
        with open(name, 'wb') as f:
            f.write(text)
        os.chmod(name, 0o644)
        if dice.random() < 0.5:
            os.utime(name, (1, 1))
            written = 0
        self.change(lambda: os.rename(name, path), text, written=written)
        note('files renamed')

    def random(self, most):
        wrong = dice.choice((0, 0, 0, 0.3))
        return self.kind.file(most, wrong, dice.random() < 0.7)

    def write(self):
        """Writes the file anew, in pieces."""
        text = self.random(6)
        fd = os.open(path, os.O_WRONLY | os.O_CREAT, 0o644)
        self.change(lambda: os.ftruncate(fd, 0), b'', True)
        pieces = text.splitlines(True)
        if dice.random() < 0.5:
            pieces = re.findall(b'.{1,40}', text, re.S)
        written = b''
        for piece in pieces:
            if dice.random() < 0.7:
                time.sleep(dice.random() * 0.03)
            written += piece
            self.change(lambda: os.write(fd, piece), written, True)
        os.close(fd)
        note('files written in place')

    def patch(self):
        """Changes two lines, and not the size. Between, a line permits."""
        p, user = dice.choice(self.kind.logins)
        old = ('%s %s deny\n%s %s full\n' % (p, user, p, user)).encode()
        new = b'#' + old[1:-5] + b'deny\n'
        self.replace(old)
        time.sleep(dice.random() * 0.2)
        fd = os.open(path, os.O_WRONLY)
        between = b'#' + old[1:]
        self.change(lambda: os.pwrite(fd, b'#', 0), between, True)
        time.sleep(dice.choice((0, 0.001, 0.003, 0.02)))
        at = len(old) - 5
        self.change(lambda: os.pwrite(fd, b'deny', at), new, True)
        os.close(fd)
        note('files patched in place')

    def remove(self):
        """Removes the file, for a moment or longer."""
        self.replace(self.kind.file(2, 0, True))
        time.sleep(dice.random() * 0.2)
        self.change(lambda: os.unlink(path), None)
        time.sleep(dice.choice((0, 0.01, 0.04, 0.3)))
        self.replace(self.kind.file(2, 0, True))
        note('files removed')

    def forbid(self):
        last = self.states[-1]
        text, written = last.text, last.written
        self.change(
            lambda: os.chmod(path, 0o666),
            text,
            is_usable=False,
            written=written,
        )
        time.sleep(dice.random() * 0.1)
        self.change(lambda: os.chmod(path, 0o644), text, written=written)
        note('modes changed')

    def run(self):
        try:
            while not self.is_ended:
                x = dice.random()
                if x < 0.4:
                    self.replace(self.random(8))
                elif x < 0.7:
                    self.write()
                elif x < 0.8:
                    self.patch()
                elif x < 0.95:
                    self.remove()
                else:
                    self.forbid()
                time.sleep(dice.random() * dice.choice((0.05, 0.6)))
        except Exception as e:
            self.problem = e

    def states_of(self, begun, ended):
        with self.lock:
            return [
                s
                for s in self.states
                if s.begun <= ended and (s.ended is None or s.ended >= begun)
            ]


class User(threading.Thread):
    """Logs in as a user, with the tickets of all principals."""

    def __init__(self, name, writer, tickets, problems):
        super().__init__()
        self.name, self.writer, self.tickets = name, writer, tickets
        self.dice = random.Random('%s %s' % (seed, name))
        self.problems, self.made = problems, 0
        self.spool = '/var/mail/' + name
        self.fill()

    def fill(self):
        """Makes a mailbox of 50 messages."""
        self.mail = []
        for _ in range(50):
            self.made += 1
            self.mail.append(
                b'From s@kpopd.test Mon Nov 23 05:00:00 2026\n'
                b'Message-ID: <%s-%d@kpopd.test>\n\nbody\n\n'
                % (self.name.encode(), self.made)
            )
        with open(self.spool, 'wb') as f:
            f.write(b''.join(self.mail))
        subprocess.run(['chown', self.name + ':mail', self.spool], check=True)
        os.chmod(self.spool, 0o660)

    def run(self):
        try:
            while tally.get('points', 0) < count and len(self.problems) < 5:
                note('points')
                self.login()
        except Exception as e:
            self.problems.append('%s: %r' % (self.name, e))

    def login(self):
        principal = self.dice.choice(sorted(self.tickets))
        if self.dice.random() < 0.4:
            principal = self.name + '@KPOPD.TEST'
        layer = self.dice.choice(('none', 'none', 'tls'))
        family = self.dice.choice('46')
        command = ['timeout', '60', build + '/kpopc', '-' + family]
        if layer == 'tls':
            command += ['--tls', '-C', world + '/tls/ca.pem']
        commands = ['USER ' + self.name, 'PASS x', 'DELE 1', 'QUIT']
        begun = time.monotonic()
        client = subprocess.run(
            command + ['mail.kpopd.test', '1109'],
            input=''.join(c + '\r\n' for c in commands).encode(),
            env=dict(os.environ, KRB5CCNAME=self.tickets[principal]),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        ended = time.monotonic()
        answers = client.stdout.decode().split('\r\n')[2:]
        got = self.understand(answers)
        address = ipaddress.ip_address('127.0.0.1' if family == '4' else '::1')
        self.judge(
            (principal, self.name, address, layer), got, begun, ended, answers
        )
        with open(self.spool, 'rb') as f:
            if f.read() != b''.join(self.mail):
                self.problems.append(
                    '%s has the wrong mail after %s' % (self.name, got)
                )
        if len(self.mail) < 5:
            self.fill()

    def understand(self, answers):
        """Returns what the answers to PASS, DELE and QUIT mean."""
        text = '\n'.join(answers)
        if text.startswith('-ERR [AUTH] this ticket does not open'):
            return 'deny'
        if text.startswith('-ERR [SYS/TEMP] the mailbox cannot be opened now'):
            return 'mistake'
        found = re.match(r'\+OK (\d+) messages\n', text)
        if found and int(found[1]) == len(self.mail):
            if re.search(
                r'\n-ERR \[SYS/PERM\] this login may only read\n\+OK bye, %d '
                % len(self.mail),
                text,
            ):
                return 'read'
            if re.search(
                r'\n\+OK message 1 deleted\n\+OK bye, %d '
                % (len(self.mail) - 1),
                text,
            ):
                del self.mail[0]
                return 'full'
        return text

    def judge(self, login, got, begun, ended, answers):
        states = self.writer.states_of(begun, ended)
        rights = set()
        for state in states:
            # Every change in place may be noticed, and a removal.
            if state.ends_in_place or state.is_removed:
                rights.add('mistake')
            right = state.answer(login)
            if right == 'unnamed':
                right = 'full' if has_account(*login[:2]) else 'deny'
            if right == 'mistake' or not state.is_passing():
                rights.add(right)
        note('answers: ' + got.split('\n')[0])
        if len(rights) > 1:
            note('logins with several possible answers')
        if got not in rights:
            self.problems.append(
                '%s was given %r, not %s, by %s'
                % (
                    login,
                    got,
                    sorted(rights),
                    [(s.text, s.is_usable, s.is_passing()) for s in states],
                )
            )


def has_account(principal, user):
    """Returns true if .k5login or the name lets the principal in."""
    realm = '@KPOPD.TEST'
    if user == 'carol':
        return principal in ('carol' + realm, 'mallory' + realm)
    return principal == user + realm


def compare_logins():
    kind = Kind(
        ['alice', 'bob', 'carol', 'mallory', 'Alice', 'cron'],
        ['KPOPD.TEST', 'KPOPD.TEST', 'OTHER.TEST'],
        ['alice', 'bob', 'carol'],
        ['127.0.0.0/8', '127.0.0.1', '::1', '192.0.2.0/24', '2001:db8::/32']
        + ['local', '::/0'],
    )
    tickets = {}
    for line in open(world + '/tickets'):
        principal, cache = line.split()
        tickets[principal] = cache
    kind.logins = [
        (p, u) for p in sorted(tickets) for u in ('alice', 'bob', 'carol')
    ]
    writer, problems = Writer(kind), []
    users = [
        User(name, writer, tickets, problems)
        for name in ('alice', 'bob', 'carol')
    ]
    for thread in [writer] + users:
        thread.start()
    for user in users:
        user.join()
    writer.is_ended = True
    writer.join()
    if writer.problem:
        problems.append(repr(writer.problem))
    for problem in problems:
        print('# ' + problem)
    sum_up(tally.get('points', 0), len(problems))


if mode == 'files':
    compare_files()
else:
    compare_logins()
