#!/usr/bin/env python3
"""Removes mail on one host while another host delivers, and checks that each
message stays until it is removed (hosts.bats).

    hosts-loss.py deliver HOST mbox|maildir DIRECTORY USER
        delivers the messages that "trial" asks for, on this host
    hosts-loss.py trial mbox|maildir USER COUNT
        removes COUNT times all, some, the first or the last messages. The other
        host delivers a second or a moment before QUIT, or during it. The next
        session, on any of the hosts, must find exactly what is left.

The two talk through pipes in the directory $STORM.
"""
import collections
import importlib
import os
import random
import sys
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
append = importlib.import_module("append")
storm = importlib.import_module("hosts-storm")

KINDS = ["all", "some", "first", "last"]
TIMES = ["a second before", "a moment before", "during"]


def to_mbox(path, user, message):
    """Appends the message as a plain MDA does: it believes no size, and does
    not always sync.
    """
    box = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o660)
    append.lock(box)
    if os.fstat(box).st_uid == 0:
        append.give(box, user)
    quoted = message.replace(b"\nFrom ", b"\n>From ")
    os.write(box, append.FROM + quoted + b"\n")
    if random.random() < 0.5:
        os.fsync(box)
    os.close(box)


def deliver(host, store, directory, user):
    """Delivers what "trial" asks for, until it asks for 0."""
    while True:
        with open(f"{storm.STORM}/ask.{host}", encoding="utf-8") as pipe:
            number = int(pipe.read())
        if number != 0:
            to = to_mbox if store == "mbox" else append.to_maildir
            to(f"{directory}/{user}", user, storm.make(number))
        with open(f"{storm.STORM}/done.{host}", "w", encoding="utf-8") as pipe:
            pipe.write("done")
        if number == 0:
            break


def ask(host, number):
    """Lets the host deliver message NUMBER, and waits for that."""
    with open(f"{storm.STORM}/ask.{host}", "w", encoding="utf-8") as pipe:
        pipe.write(str(number))
    with open(f"{storm.STORM}/done.{host}", encoding="utf-8") as pipe:
        pipe.read()


class Trial(storm.Client):
    """A client that also knows what was delivered."""

    def __init__(self, store, user):
        super().__init__(store, "", user)
        self.delivered, self.number = [], 0
        self.tries = collections.Counter()

    def deliver(self, host):
        """Delivers a message on the host."""
        self.number += 1
        ask(host, self.number)
        self.delivered.append(self.number)

    def judge(self, now):
        """Also finds messages that no session has seen."""
        super().judge(now)
        for number in self.delivered:
            if number not in now and number not in self.removed:
                self.bad(f"lost: {number}, of {len(self.delivered)}")
                self.removed.add(number)

    def enter(self, host):
        """Begins a session on the host and reads all messages."""
        self.server = f"{host}.example.org"
        self.open()
        self.hear()
        self.must(f"USER {self.user}")
        self.must("PASS x")
        self.judge(self.look())

    def marks(self, kind):
        """Returns the indexes of the messages to remove."""
        n = len(self.listed)
        return {"all": range(n), "first": [0], "last": [n - 1],
                "some": sorted(random.sample(range(n), (n + 1) // 2))}[kind]

    def leave(self, marks):
        """Removes the marked messages."""
        for at in marks:
            self.must(f"DELE {at + 1}")
        self.marked, self.answer = [self.listed[at] for at in marks], "none"
        answer = self.ask("QUIT")
        self.answer = answer.split()[0]
        if self.answer != "+OK":
            self.failures[answer[:60]] += 1

    def attempt(self, kind, when):
        """Removes and delivers once. Returns false if no session was to be
        had.
        """
        host, other = random.sample("ab", 2)
        for _ in range(random.randrange(1, 4)):
            self.deliver(random.choice([host, other, other]))
        time.sleep(random.choice([0, 0, 0.2, 1.2]))
        thread = threading.Thread(target=self.deliver, args=[other])
        try:
            self.enter(host)
            if when != "during":
                self.deliver(other)
                time.sleep(1 if when == "a second before" else 0)
            else:
                thread.start()
                time.sleep(random.uniform(0, 0.03))
            self.leave(self.marks(kind))
            self.tries[f"{kind}, {when}"] += 1
            return True
        except storm.Broken as error:
            self.failures[str(error)] += 1
            return False
        finally:
            if thread.ident is not None:
                thread.join()
            self.close()

    def run(self, count):
        """Removes COUNT times, looks once more, and prints the sums."""
        done = 0
        while done < count and sum(self.failures.values()) < 20 + count:
            done += self.attempt(KINDS[done % 4], TIMES[done // 4 % 3])
        self.enter("a")
        self.close()
        for host in "ab":
            ask(host, 0)
        print(f"# hosts: {self.store}: {self.number} delivered, {done} "
              "removals: " + "; ".join(
                  f"{n} {name}" for name, n in sorted(self.tries.items())))
        print("# hosts: " + "; ".join(
            f"{name}: {n}" for name, n in
            sorted((self.outcomes + self.failures).items())))
        return done == count


def main(command, *arguments):
    """Runs the command."""
    if command == "deliver":
        deliver(*arguments)
        return 0
    return 0 if Trial(*arguments[:2]).run(int(arguments[2])) else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
