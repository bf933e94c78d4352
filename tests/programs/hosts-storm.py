#!/usr/bin/env python3
"""Delivers mail on several hosts while POP3 clients fetch and remove it, and
checks what becomes of each message (hosts.bats).

    hosts-storm.py deliver HOST mbox|maildir DIRECTORY USER ...
        delivers messages to the users' mailboxes in the directory, on this
        host, until it is killed or the storm ends
    hosts-storm.py client mbox|maildir SERVER USER
        runs sessions of the user until the storm ends
    hosts-storm.py strike PHASE HOST PID USER ...
        waits until a client is in this phase (login, retr, quit, any), and a
        random time longer; then ends the host
    hosts-storm.py check mbox|maildir USER ...
        compares what was delivered with what was kept and removed

Keeps its records in the directory $STORM, which outlives the hosts:

    tried.HOST, taken.HOST  the messages that an MDA began to deliver, and those
                            that the disk has, one "NUMBER USER" on each line
    phase.USER              what the client is doing
    books.USER              what the client has seen and removed, at the end
    parts                   messages of which a client has got only a part
    bad                     what was wrong, one line each
    stop                    exists when the storm ends
"""
import collections
import json
import os
import random
import re
import select
import signal
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import append  # noqa: E402

STORM = os.environ["STORM"]
# No client may be without its mailbox for longer, in seconds.
LONGEST = 60
ODD = ["", ".", "..", ". dot", ">From there", "x" * 900, "\xe4\xf6 \t"]


def is_over():
    """Returns true if the storm ends."""
    return os.path.exists(f"{STORM}/stop")


def note(name, text):
    """Appends a line to a record."""
    with open(f"{STORM}/{name}", "a", encoding="utf-8") as file:
        file.write(text + "\n")


def make(number):
    """Returns message NUMBER. Some are large, and some lines odd."""
    chance = random.Random(number)
    lines = [f"Message-ID: <{number}@example.org>", "From: sender@example.org",
             "Received: from nowhere by example.org", f"Subject: {number}", ""]
    count = 6000 if chance.random() < 0.1 else chance.randrange(1, 80)
    for line in range(count):
        usual = f"{number} line {line} " + "abc " * chance.randrange(20)
        lines.append(chance.choice(ODD) if chance.random() < 0.2 else usual)
    return ("\n".join(lines) + "\nend\n").encode("latin-1")


def deliver(host, store, directory, users):
    """Delivers messages. The numbers of the hosts a and b do not overlap."""
    try:
        with open(f"{STORM}/tried.{host}", encoding="utf-8") as file:
            count = len(file.readlines())
    except FileNotFoundError:
        count = 0
    while not is_over():
        count += 1
        number = count * 2 + "ab".index(host)
        user = random.choice(users)
        note(f"tried.{host}", f"{number} {user}")
        try:
            append.STORES[store](f"{directory}/{user}", user, make(number))
            note(f"taken.{host}", f"{number} {user}")
        except OSError as error:
            note(f"refused.{host}", f"{number} {error}")
        time.sleep(random.uniform(0, 0.8))


class Broken(Exception):
    """The session has ended before its time, which is no mistake."""


class Client:
    """A POP3 client of one user, which remembers all that it has seen."""

    def __init__(self, store, server, user):
        self.store, self.server, self.user = store, server, user
        self.listed, self.marked, self.answer = [], [], "+OK"
        self.removed, self.uidl = set(), {}
        self.outcomes = collections.Counter()
        self.failures = collections.Counter()
        self.fragments, self.longest, self.sessions = set(), 0, 0
        self.kpopc, self.buffer = None, b""

    def bad(self, text):
        """Records a mistake of the server."""
        note("bad", f"{time.time():.3f} {self.user}: {text}")

    def phase(self, name):
        """Records what the client is doing, for "strike"."""
        with open(f"{STORM}/phase.{self.user}", "w", encoding="utf-8") as file:
            file.write(name)

    def open(self):
        """Connects."""
        self.buffer = b""
        environment = dict(os.environ, KRB5CCNAME=f"FILE:/run/{self.user}")
        self.kpopc = subprocess.Popen(
            [os.environ["KPOPD_BUILD"] + "/kpopc", self.server, "1109"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL, env=environment)

    def close(self):
        """Ends the connection, however far the session is."""
        self.kpopc.kill()
        self.kpopc.stdin.close()
        self.kpopc.stdout.close()
        self.kpopc.wait()

    def hear(self):
        """Returns a line, or ends the session if there is none."""
        pipe = self.kpopc.stdout.fileno()
        while b"\n" not in self.buffer:
            if not select.select([pipe], [], [], LONGEST)[0]:
                self.bad(f"no answer within {LONGEST} s")
                raise Broken("silence")
            more = os.read(pipe, 1 << 20)
            if not more:
                raise Broken("the end")
            self.buffer += more
        line, self.buffer = self.buffer.split(b"\n", 1)
        return line.removesuffix(b"\r")

    def ask(self, command):
        """Sends a command, and returns the answer."""
        try:
            self.kpopc.stdin.write(command.encode() + b"\r\n")
            self.kpopc.stdin.flush()
        except BrokenPipeError as error:
            raise Broken("the end") from error
        return self.hear().decode("latin-1")

    def must(self, command):
        """Sends a command. Any answer but +OK ends the session. Only an answer
        that the mailbox cannot be had now is no mistake.
        """
        answer = self.ask(command)
        if answer.startswith("+OK"):
            return answer
        if not re.match(r"-ERR \[(IN-USE|SYS/TEMP)\]", answer):
            self.bad(f"{command}: {answer}")
        raise Broken(f"{command.split()[0]}: {answer[:40]}")

    def lines(self):
        """Returns the lines of an answer."""
        found = []
        while (line := self.hear()) != b".":
            found.append(line[1:] if line.startswith(b".") else line)
        return found

    def number_of(self, uidl, at):
        """Reads message AT, and returns its number. The message must be as it
        was delivered. Only the beginning of a message may be there if its MDA
        has died.
        """
        self.must(f"RETR {at}")
        text = b"\n".join(self.lines()) + b"\n"
        found = re.match(rb"Message-ID: <(\d+)@", text)
        if not found:
            self.bad(f"message {at} is none of ours: {text[:200]!r}")
            return uidl
        number = int(found[1])
        if text != make(number):
            if not make(number).startswith(text.rstrip(b"\n")):
                self.bad(f"message {number} is not as it was delivered")
            self.fragments.add(number)
            note("parts", f"{time.time():.3f} {self.user}: {number} has "
                 f"{len(text)} of {len(make(number))} octets, as message {at}")
        if self.uidl.setdefault(number, uidl) != uidl:
            self.bad(f"the UIDL of message {number} has changed")
        return number

    def look(self):
        """Reads the whole mailbox, and returns the numbers in order."""
        self.must("UIDL")
        ids = [line.decode().split()[1] for line in self.lines()]
        self.phase("retr")
        return [self.number_of(uidl, at + 1) for at, uidl in enumerate(ids)]

    def judge(self, now):
        """Compares the mailbox with what it was after the last QUIT."""
        gone = [n for n in self.marked if n not in now]
        right = {"+OK": len(gone) == len(self.marked),
                 "none": not gone or len(gone) == len(self.marked)
                 or self.store == "maildir",
                 "-ERR": not gone or len(gone) == len(self.marked)
                 or self.store == "maildir"}[self.answer]
        if not right:
            self.bad(f"of {self.marked} {gone} are gone after {self.answer}")
        if self.marked:
            share = "some" if gone else "none"
            share = "all" if len(gone) == len(self.marked) else share
            self.outcomes[f"{self.answer}: {share} gone"] += 1
        self.removed.update(gone)
        kept = [n for n in self.listed if n not in self.removed]
        lost = [n for n in kept if n not in now]
        again = [n for n in now if n in self.removed]
        twice = [n for n in set(now) if now.count(n) > 1]
        if lost or again or twice:
            self.bad(f"lost {lost}, again {again}, twice {twice}")
        if self.store == "mbox" and not lost and now[:len(kept)] != kept:
            self.bad(f"the order was {kept}, and is {now}")
        self.listed, self.marked, self.answer = now, [], "+OK"

    def quit(self):
        """Removes some messages."""
        share = random.choice([0.1, 0.3, 0.5, 0.9, 1])
        count = len(self.listed)
        marks = [at for at in range(count) if random.random() < share]
        for at in marks:
            self.must(f"DELE {at + 1}")
        self.phase("quit")
        self.marked, self.answer = [self.listed[at] for at in marks], "none"
        answer = self.ask("QUIT")
        self.answer = answer.split()[0]
        if self.answer not in ("+OK", "-ERR"):
            self.bad(f"QUIT: {answer}")
        if self.answer == "-ERR":
            self.failures[f"QUIT: {answer[:40]}"] += 1

    def session(self, removes, begin):
        """Runs a session. BEGIN is when the client first wanted one."""
        self.phase("login")
        self.open()
        try:
            self.hear()
            self.must(f"USER {self.user}")
            self.must("PASS x")
            self.longest = max(self.longest, time.monotonic() - begin)
            self.judge(self.look())
            if removes:
                self.quit()
            self.sessions += 1
            return True
        except Broken as error:
            self.failures[str(error)] += 1
            return False
        finally:
            self.phase("away")
            self.close()

    def wanted(self, removes):
        """Runs sessions until one is whole."""
        begin = time.monotonic()
        while not self.session(removes, begin):
            if time.monotonic() - begin > LONGEST:
                self.bad(f"no session for {time.monotonic() - begin:.0f} s")
                begin = time.monotonic()
            time.sleep(0.2)

    def run(self):
        """Runs sessions until the storm ends, and then looks once more."""
        while not is_over():
            self.wanted(True)
            time.sleep(random.uniform(0, 0.8))
        while not os.path.exists(f"{STORM}/calm"):
            time.sleep(0.1)
        self.wanted(False)
        with open(f"{STORM}/books.{self.user}", "w", encoding="utf-8") as file:
            json.dump({"kept": self.listed, "removed": sorted(self.removed),
                       "fragments": sorted(self.fragments),
                       "longest": self.longest, "sessions": self.sessions,
                       "outcomes": self.outcomes, "failures": self.failures},
                      file)


def phase_is(user, phase):
    """Returns true if the user's client is in the phase."""
    try:
        with open(f"{STORM}/phase.{user}", encoding="utf-8") as file:
            return file.read() == phase
    except FileNotFoundError:
        return False


def strike(phase, host, pid, users):
    """Ends the host, whose first process has this pid: takes its network and
    kills its processes, while a client is in the phase.
    """
    end = time.monotonic() + 20
    while (phase != "any" and time.monotonic() < end
           and not any(phase_is(user, phase) for user in users)):
        time.sleep(0.001)
    time.sleep(random.uniform(0, 1 if phase == "any" else 0.06))
    subprocess.run(["ip", "link", "del", f"v-{host}"], check=True)
    os.kill(int(pid), signal.SIGKILL)


def records(name):
    """Returns what both hosts have in a record: the users of the numbers."""
    found = {}
    for host in "ab":
        try:
            with open(f"{STORM}/{name}.{host}", encoding="utf-8") as file:
                for line in file:
                    number, user = line.split()
                    found[int(number)] = user
        except FileNotFoundError:
            pass
    return found


def check(store, users):
    """Compares. Prints the sums, and what is wrong."""
    tried, taken = records("tried"), records("taken")
    wrong, sums, longest = [], collections.Counter(), 0
    results = collections.Counter()
    for user in users:
        with open(f"{STORM}/books.{user}", encoding="utf-8") as file:
            books = json.load(file)
        has = books["kept"] + books["removed"]
        own = {n for n, to in taken.items() if to == user}
        wrong += [f"{user}: {n} was delivered and is not there"
                  for n in own if n not in has]
        wrong += [f"{user}: {n} is there and was not delivered"
                  for n in has if tried.get(n) != user]
        wrong += [f"{user}: {n} is there in part"
                  for n in books["fragments"] if n in own]
        wrong += [f"{user}: {n} is there {times} times" for n, times
                  in collections.Counter(has).items() if times > 1]
        if books["longest"] > LONGEST:
            wrong.append(f"{user}: no session for {books['longest']:.0f} s")
        sums.update(kept=len(books["kept"]), removed=len(books["removed"]),
                    sessions=books["sessions"])
        results.update(books["outcomes"])
        results.update(books["failures"])
        longest = max(longest, books["longest"])
    print(f"# hosts: {store}: {len(taken)} delivered, "
          f"{len(tried) - len(taken)} begun; {sums['kept']} kept, "
          f"{sums['removed']} removed in {sums['sessions']} sessions; "
          f"longest wait for one {longest:.1f} s")
    print("# hosts: " + "; ".join(f"{name}: {results[name]}"
                                  for name in sorted(results)))
    for line in wrong:
        print(line)
    sys.exit(1 if wrong or not taken or not sums["removed"] else 0)


def main(command, *arguments):
    """Runs the command."""
    if command == "deliver":
        deliver(*arguments[:3], arguments[3:])
    elif command == "client":
        Client(*arguments).run()
    elif command == "strike":
        strike(*arguments[:3], arguments[3:])
    else:
        check(arguments[0], arguments[1:])


if __name__ == "__main__":
    main(*sys.argv[1:])
