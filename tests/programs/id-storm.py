# Imports ids of another server again and again, and checks the ids that
# sessions give: id-storm.py mbox|maildir SEED COUNT.
#
# COUNT is the number of steps. A step is one of these, and then a session that
# lists all messages:
#
#   - deliveries by procmail
#   - a session that removes messages. Some are killed in QUIT, at the client or
#     at the server
#   - three sessions at the same time
#   - an import. Some are killed at any moment or in a system call, some have a
#     system call that fails, some have a full disk. Some run while sessions ask
#     for ids and mail arrives
#   - the loss of the index; in a Maildir also a change of a message's flags
#
# An import's list has lines of messages that are there or were removed. Some
# lines are wrong: they have the id of an earlier line, another id for a message
# that has one from an earlier import, or the id of another message.
#
# These must be true in each session:
#
#   - All messages that were delivered and not removed are listed. No two have
#     one id, and none has the id that another one has had.
#   - A message has the id that the last session has shown. Only an import may
#     change it, but not if it is from an earlier import.
#   - After an import that reports success, all its messages have their ids.
#   - Another import has changed all ids that it should change, or none.
#
# The last line has the number of steps, and of those after which something was
# not true. The seed repeats the choices, but not the moments of the kills.
import glob, os, random, re, signal, subprocess, sys, threading, time

store, seed, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
world, build = os.environ['WORLD'], os.environ['KPOPD_BUILD']
state = world + '/state'
box = '/home/alice/box'
place = 'mbox:/var/mail/%u' if store == 'mbox' else 'maildir:~/box'
dice = random.Random('%s %s' % (store, seed))
# System calls of an import, each with the highest number that is hit.
calls = {
    'openat': 40,
    'newfstatat,fstat': 30,
    'read,pread64': 40,
    'write,pwrite64': 6,
    'fsync': 3,
    'renameat,renameat2': 2,
    'unlinkat': 2,
    'mmap': 40,
    'close': 40,
    'sendto,sendmsg': 4,
    'recvfrom,recvmsg': 6,
    'fcntl': 20,
    'flock': 3,
    'getdents64': 3,
    'clone,clone3': 2,
    'wait4': 2,
}
tally = {}
messages = {}  # token -> message
owners = {}  # id -> the message that has or had it
pending = None  # the import that may have happened
lock = threading.Lock()


class Wrong(Exception):
    """Something that must not happen."""


def note(what):
    tally[what] = tally.get(what, 0) + 1


class Message:
    """A message, and what is known of it."""

    def __init__(self, number):
        self.token = 'token-%d.' % number
        # The header of such a message does not identify it.
        self.is_weak = dice.random() < 0.2
        self.text = '%sFrom: sender@kpopd.test\nSubject: %s\n\n%s' % (
            'Message-ID: <%s@kpopd.test>\n' % self.token
            if not self.is_weak
            else '',
            self.token,
            ('line of %s\n' % self.token) * dice.choice((1, 3, 30, 300)),
        )
        line = subprocess.run(
            [build + '/tests/programs/uidl-list', '-b', 'x'],
            input=self.text.encode(),
            stdout=subprocess.PIPE,
            check=True,
        ).stdout.decode()
        self.header, self.body, _ = line.split()
        # The other server has not had some messages.
        self.is_new = dice.random() < 0.3
        self.old = 'old%d' % number
        if dice.random() < 0.1:
            self.old = self.old.ljust(70, 'x')
        self.id = None  # that the last session has shown
        self.is_imported = False
        # It may have a line in the map that does not change its id, and then
        # it keeps this id.
        self.is_unsure = False
        # None: perhaps, because a delivery or removal has no answer yet.
        self.is_there = None

    def line(self, old):
        has_body = self.is_weak or dice.random() < 0.4
        return '%s %s %s' % (self.header, self.body if has_body else '-', old)


class Import:
    """What an import should change."""

    def __init__(self):
        self.wanted = {}  # message -> id
        self.maybe = {}  # the same, if an earlier import has given no id
        self.taken = set()  # the messages whose own id another one gets
        self.is_certain = False  # it has reported success
        self.is_faulty = False  # one of its system calls fails

    def may_give(self, m, id):
        return (
            id in (self.wanted.get(m), self.maybe.get(m))
            or m in self.taken
            and id.startswith(':')
        )


def there():
    return [m for m in messages.values() if m.is_there]


def deliver():
    m = Message(len(messages) + 1)
    messages[m.token] = m
    subprocess.run(
        ['procmail', '-f', 'sender@kpopd.test', '-d', 'alice'],
        input=m.text.encode(),
        check=True,
    )
    m.is_there = True
    note('deliveries')


class Client:
    """A session, by kpopc."""

    def __init__(self):
        self.kpopc = subprocess.Popen(
            [build + '/kpopc', 'mail.kpopd.test'],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        self.guard = threading.Timer(60, self.kpopc.kill)
        self.guard.start()
        self.line()

    def line(self):
        """Returns the next line, or None at the end."""
        line = self.kpopc.stdout.readline()
        return line.decode().rstrip('\r\n') if line else None

    def ask(self, *commands):
        """Sends all commands at once. Returns the lines of each answer."""
        answers = []
        try:
            text = ''.join(command + '\r\n' for command in commands)
            self.kpopc.stdin.write(text.encode())
            self.kpopc.stdin.flush()
        except BrokenPipeError:
            pass
        for command in commands:
            answer = [self.line() or '']
            if re.match('UIDL$|TOP', command) and answer[0].startswith('+OK'):
                while answer[-1] not in ('.', None):
                    answer.append(self.line())
            answers.append(answer)
        return answers

    def close(self):
        try:
            self.kpopc.stdin.close()
        except BrokenPipeError:
            pass
        self.kpopc.stdout.close()
        self.kpopc.wait()
        self.guard.cancel()


def read_list(answers):
    """Returns the messages with their ids, in the order of the mailbox."""
    login, listing, tops = answers[1][0], answers[2], answers[3:]
    if not re.match(r'\+OK \d+ messages$', login):
        raise Wrong('the login: %s' % answers[:3])
    total = int(login.split()[1])
    if len(listing) != total + 2 or listing[-1] != '.':
        raise Wrong('UIDL of %d messages: %s' % (total, listing[:3]))
    ids = {}
    for n in range(1, total + 1):
        number, id = listing[n].split()
        found = re.search(
            r'^Subject: (token-\d+\.)$',
            '\n'.join(line or '' for line in tops[n - 1]),
            re.M,
        )
        m = messages.get(found[1]) if found else None
        if int(number) != n or m is None or m in ids:
            raise Wrong('message %d: %s %s' % (n, listing[n], tops[n - 1]))
        ids[m] = id
    return ids


def session(then=None):
    """Runs a session, and checks its ids.

    The function `then` may use the session before QUIT; it gets the client and
    the messages in their order. Returns the ids, or None if the mailbox is in
    use.
    """
    known = there()
    most = sum(m.is_there is not False for m in messages.values()) + 8
    client = Client()
    try:
        answers = client.ask(
            'USER alice',
            'PASS x',
            'UIDL',
            *('TOP %d 0' % n for n in range(1, most + 1)),
        )
        if answers[1][0].startswith('-ERR [IN-USE]'):
            note('sessions told that the mailbox is in use')
            return None
        ids = read_list(answers)
        with lock:
            check(ids, known)
        if then:
            then(client, list(ids))
        else:
            client.ask('QUIT')
        return ids
    finally:
        client.close()


def check(ids, known):
    """Compares the ids of a session with what is known."""
    seen = {}
    for m, id in ids.items():
        if seen.setdefault(id, m) is not m:
            raise Wrong('%s and %s: %s' % (seen[id].token, m.token, id))
        if m.is_there is False:
            raise Wrong('%s was removed, and is listed' % m.token)
    for m in known:
        if m.is_there and m not in ids:
            raise Wrong('%s is not listed' % m.token)
    if pending:
        judge(ids)
    for m, id in ids.items():
        if m.id is None:
            m.id = id
            if owners.setdefault(id, m) is not m:
                raise Wrong(
                    '%s is new, and has the id %s of %s'
                    % (m.token, id, owners[id].token)
                )
        if id != m.id:
            raise Wrong('%s had the id %s, now %s' % (m.token, m.id, id))
    note('lists of ids checked')


def report():
    """Returns what the import has printed."""
    with open(world + '/said') as f:
        return f.read()


def unreadable():
    """Returns how many messages the import could not read."""
    found = re.search(r'not readable, see syslog: (\d+) of', report())
    return int(found[1]) if found else 0


def judge(ids):
    """Finds out whether the pending import has happened, and to whom."""
    global pending
    p = pending
    changed = [m for m in ids if m.id is not None and ids[m] != m.id]
    lacking = [m for m in p.wanted if m in ids and ids[m] != p.wanted[m]]
    if lacking and p.is_faulty and len(lacking) <= unreadable():
        for m in lacking:
            del p.wanted[m]
        lacking = []
    for m in changed:
        if not p.may_give(m, ids[m]):
            raise Wrong(
                'an import gave %s, which had the id %s, the id %s'
                % (m.token, m.id, ids[m])
            )
    if lacking and (changed or p.is_certain):
        m = lacking[0]
        raise Wrong(
            'an import %s, and %s has the id %s, not %s: %s'
            % (
                'was successful' if p.is_certain else 'was made in part',
                m.token,
                ids[m],
                p.wanted[m],
                report(),
            )
        )
    if not changed and not p.is_certain:
        return
    note('imports that were made')
    for m in changed:
        m.id = ids[m]
        owners[m.id] = m
        m.is_unsure = m in p.taken
        m.is_imported = not m.is_unsure
    for m in p.wanted.keys() & ids.keys():
        m.is_imported = True
    pending = None


def settle():
    """Waits until no process of kpopd runs."""
    for _ in range(3000):
        if subprocess.run(
            ['pgrep', '-x', 'kpopd'], stdout=subprocess.DEVNULL
        ).returncode:
            return
        time.sleep(0.01)
    raise Wrong('a process of kpopd does not end')


def shoot(pids):
    for pid in pids:
        try:
            os.kill(int(pid), signal.SIGKILL)
        except ProcessLookupError:
            pass


def pids_of(*options):
    return (
        subprocess.run(['pgrep', *options], stdout=subprocess.PIPE)
        .stdout.decode()
        .split()
    )


def remove():
    """Removes messages. May kill the client or the server in QUIT."""
    how = dice.choice(('quit', 'quit', 'client killed', 'server killed'))
    delay = dice.random() * 0.01

    def finish(client, order):
        some = dice.sample(order, dice.randint(0, len(order) // 2))
        for answer in client.ask(
            *('DELE %d' % (order.index(m) + 1) for m in some)
        ):
            if not answer[0].startswith('+OK'):
                raise Wrong('DELE: %s' % answer)
        for m in some:
            m.is_there = None
        killer = threading.Timer(delay, client.kpopc.kill)
        if how == 'server killed':
            killer = threading.Timer(
                delay, shoot, [pids_of('-x', 'kpopd', '-u', 'alice')]
            )
        if how != 'quit':
            killer.start()
        bye = client.ask('QUIT')[0][0]
        killer.cancel()
        if re.match(r'\+OK bye, %d ' % (len(order) - len(some)), bye):
            for m in some:
                m.is_there = False
        elif how == 'quit' or bye.startswith('+OK'):
            raise Wrong('QUIT: %s' % bye)
        note('removals, %s' % (how if not bye else 'answered'))

    if session(finish) is None:
        raise Wrong('the mailbox is in use by nobody')


def at_once(*functions):
    """Runs the functions in threads, and raises the first exception."""
    problems = []

    def run(function):
        try:
            function()
        except Exception as e:
            problems.append(e)

    threads = [threading.Thread(target=run, args=[f]) for f in functions]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    if problems:
        raise problems[0]


def lose_index():
    for name in glob.glob(state + '/users/*/*/index'):
        os.unlink(name)
    note('indexes lost')


def change_flags():
    names = glob.glob(box + '/new/*') + glob.glob(box + '/cur/*')
    for name in names[:2]:
        base = os.path.basename(name).split(':')[0]
        flags = dice.choice(('', 'S', 'FS'))
        os.rename(name, '%s/cur/%s:2,%s' % (box, base, flags))
    note('flags changed')


def make_list():
    """Writes a list. Returns the import that it should make."""
    plan, lines, used = Import(), [], set()
    alive = there()
    given = {m.id for m in alive if m.is_imported}
    for m in messages.values():
        if m.is_new or dice.random() < (0.2 if m.is_there else 0.9):
            continue
        old, other = m.old, dice.choice(alive)
        if m.is_imported and dice.random() < 0.3:
            old = 'other%d' % dice.randrange(10**9)
        elif dice.random() < 0.25 and not other.is_unsure:
            old = other.id
        if old in used:
            continue
        used.add(old)
        lines.append(m.line(old))
        if not m.is_there or m.is_imported or old in given:
            continue
        if m.is_unsure:
            plan.maybe[m] = old
            continue
        plan.wanted[m] = old
        if old == other.id and other is not m:
            plan.taken.add(other)
    plan.taken -= plan.wanted.keys()
    dice.shuffle(lines)
    if lines:
        # Only the first line with an id counts.
        absent = Message(10**6 + dice.randrange(10**6))
        lines.append(absent.line(lines[0].split()[2]))
    with open(world + '/list', 'w') as f:
        f.write('kpopd uidl list 1\n')
        f.writelines(line + '\n' for line in lines)
        f.write('end %d\n' % len(lines))
    return plan


def fill_disk():
    """Leaves no inode, or space for 0 to 2 pages. Returns the files made."""
    if dice.random() < 0.3:
        names = ['%s/users/inode%d' % (state, n) for n in range(1000)]
        made = []
        try:
            for name in names:
                os.close(os.open(name, os.O_CREAT))
                made.append(name)
        except OSError:
            return made
        raise Wrong('the file system has too many inodes')
    # The import would empty this file, and so have a page.
    for name in glob.glob(state + '/users/*/*/session'):
        os.truncate(name, 0)
    filler = state + '/users/filler'
    try:
        with open(filler, 'wb', buffering=0) as f:
            while f.write(bytes(4096)):
                pass
    except OSError:
        pass
    size = os.stat(filler).st_size
    os.truncate(filler, size - 4096 * dice.choice((0, 0, 0, 1, 2)))
    return [filler]


def wait_for_child(process):
    """Returns the pids of the process's children as soon as there are any."""
    while process.poll() is None:
        try:
            with open('/proc/%d/task/%d/children' % (2 * (process.pid,))) as f:
                children = f.read().split()
        except OSError:
            return []
        if children:
            return children
    return []


def run_import(how):
    """Imports the list. Returns the exit status."""
    command = [build + '/kpopd', '--import-uidl', 'alice', '-d', state]
    command += ['-m', place]
    delay, is_child = dice.random() * 0.01, dice.random() < 0.6
    fillers = []
    if how.startswith('call'):
        # strace would leave the descriptor open, but a close that fails closes
        # it. With the broker's socket left open, the import would end only at
        # its time limit.
        wrong = {'close'} if how == 'call fails' else set()
        call = dice.choice(sorted(calls.keys() - wrong))
        fault = 'signal=KILL'
        if how == 'call fails':
            fault = 'error=' + dice.choice(('ENOSPC', 'EIO', 'ENOMEM'))
        when = dice.randint(1, calls[call])
        strace = ['strace', '-f', '-qq', '-o', '/dev/null', '-e']
        strace += ['trace=' + call, '-e']
        command = strace + ['inject=%s:%s:when=%d' % (call, fault, when)] + (
            command
        )
    if how == 'full disk':
        fillers = fill_disk()
    with open(world + '/list') as f, open(world + '/said', 'wb') as said:
        kpopd = subprocess.Popen(command, stdin=f, stdout=said, stderr=said)
    if how == 'killed':
        victims = [kpopd.pid]
        if is_child:
            victims = wait_for_child(kpopd) or victims
        time.sleep(delay)
        shoot(victims)
    try:
        # A broker that does not end is killed after 60 seconds.
        status = kpopd.wait(150)
    except subprocess.TimeoutExpired:
        shoot([kpopd.pid])
        raise Wrong('an import (%s) does not end' % command)
    for filler in fillers:
        os.unlink(filler)
    return status


def do_import():
    global pending
    alive = there()
    if not alive:
        return
    plan = pending = make_list()
    how = dice.choice(
        ('plain', 'plain', 'killed', 'killed', 'call killed', 'call fails')
        + ('full disk',)
    )
    plan.is_faulty = how == 'call fails'
    beside = how != 'full disk' and dice.random() < 0.4
    mail = dice.random() < 0.5
    results, done = [], threading.Event()

    def work():
        try:
            results.append(run_import(how))
        finally:
            done.set()

    def look():
        while not done.is_set():
            session()

    if beside:
        at_once(work, look, *([deliver] if mail else []))
    else:
        work()
    settle()
    status = results[0]
    said = report()
    note('imports, %s: %s' % (how, status))
    if status == 0 and pending is plan:
        plan.is_certain = True
    elif status == 4 and beside or status == 3 and not plan.wanted:
        # Nothing may have changed.
        if pending is not plan:
            raise Wrong('an import was refused, and changed ids: %s' % said)
        pending = None
    elif how == 'plain' and status != 0 or status in (3, 4):
        raise Wrong('an import ended with %d: %s' % (status, said))


def step():
    global pending
    number = len(there())
    choice = dice.random()
    if number < 3 or choice < 0.2 and number < 25:
        for _ in range(dice.randint(1, 4)):
            deliver()
    elif choice < 0.65:
        do_import()
    elif choice < 0.8:
        remove()
    elif choice < 0.87:
        at_once(session, session, session)
    elif choice < 0.95 or store == 'mbox':
        lose_index()
    else:
        change_flags()
    settle()
    ids = session()
    if ids is None:
        raise Wrong('the mailbox is in use by nobody')
    if pending:
        for m, id in pending.wanted.items():
            m.is_unsure = m.is_unsure or m.id == id
    pending = None
    for m in messages.values():
        if m.is_there is None:
            m.is_there = m in ids
    settle()


bad = done = 0
try:
    while done < count:
        done += 1
        step()
except Wrong as e:
    # What comes after it would be no news.
    bad = 1
    print('# id-storm %s, seed %s, step %d: %s' % (store, seed, done, e))
print(
    '# id-storm %s, seed %s: %s'
    % (store, seed, ', '.join('%d %s' % (tally[k], k) for k in sorted(tally)))
)
print('# ids of %s: %d points, %d bad' % (store, done, bad))
sys.exit(bad or done != count)
