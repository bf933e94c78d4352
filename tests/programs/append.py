#!/usr/bin/env python3
"""Delivers standard input to a mailbox, as an MDA does.

    append.py mbox MAILBOX USER <MESSAGE
    append.py maildir MAILDIR USER <MESSAGE

For an mbox it takes the fcntl lock and writes to the end. Its exit status is 0
only when the disk has the message.
"""
import fcntl
import grp
import os
import pwd
import re
import socket
import sys
import time

FROM = b"From sender@example.org Mon Nov 23 05:00:00 2026\n"


def give(descriptor, user):
    """Makes the file the user's."""
    os.fchown(descriptor, pwd.getpwnam(user).pw_uid,
              grp.getgrnam("mail").gr_gid)
    os.fchmod(descriptor, 0o660)


def lock(descriptor):
    """Waits for the lock, at most 60 seconds."""
    for _ in range(3000):
        try:
            return fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            time.sleep(0.02)
    sys.exit(75)


def missing_end(box):
    """Returns what is missing before the next From line. If a host has died
    while its MDA wrote, the mailbox may end in the middle of a message.
    """
    # On a mount that is not coherent the size may be an old one without this.
    os.fsync(box)
    size = os.fstat(box).st_size
    end = os.pread(box, 2, max(0, size - 2))
    if size == 0 or end == b"\n\n":
        return b""
    return b"\n" if end.endswith(b"\n") else b"\n\n"


def to_mbox(path, user, message):
    """Appends the message, with its From line and an empty line after it."""
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
    box = os.open(path, flags, 0o660)
    lock(box)
    if os.fstat(box).st_uid == 0:
        give(box, user)
    quoted = re.sub(rb"(?m)^From ", b">From ", message)
    text = missing_end(box) + FROM + quoted + b"\n"
    if os.write(box, text) != len(text):
        sys.exit("a short write")
    os.fsync(box)
    os.close(box)


def to_maildir(path, user, message):
    """Writes the message to tmp, and renames it to new."""
    name = f"{time.time():.6f}.P{os.getpid()}.{socket.gethostname()}"
    file = os.open(f"{path}/tmp/{name}", os.O_WRONLY | os.O_CREAT | os.O_EXCL,
                   0o600)
    give(file, user)
    if os.write(file, message) != len(message):
        sys.exit("a short write")
    os.fsync(file)
    os.close(file)
    os.rename(f"{path}/tmp/{name}", f"{path}/new/{name}")
    new = os.open(f"{path}/new", os.O_RDONLY | os.O_DIRECTORY)
    os.fsync(new)
    os.close(new)


STORES = {"mbox": to_mbox, "maildir": to_maildir}

if __name__ == "__main__":
    STORES[sys.argv[1]](sys.argv[2], sys.argv[3], sys.stdin.buffer.read())
