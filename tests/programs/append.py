#!/usr/bin/env python3
"""Delivers standard input to a mailbox, as an MDA does.

    append.py MAILBOX USER <MESSAGE

Takes the fcntl lock, and writes the message to the end with O_APPEND. Its exit
status is 0 only when the disk has the message. A mailbox may end in the middle
of a message, if a host has died while its MDA wrote; then the program first
ends that message.
"""
import fcntl
import grp
import os
import pwd
import re
import sys
import time

FROM = b"From sender@example.org Mon Nov 23 05:00:00 2026\n"


def lock(descriptor):
    """Waits for the lock, at most 60 seconds."""
    for _ in range(3000):
        try:
            return fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            time.sleep(0.02)
    sys.exit(75)


def append(path, user, message):
    """Appends the message, with its From line and an empty line after it."""
    box = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC,
                  0o660)
    lock(box)
    if os.fstat(box).st_uid == 0:
        os.fchown(box, pwd.getpwnam(user).pw_uid, grp.getgrnam("mail").gr_gid)
        os.fchmod(box, 0o660)
    # The size of a file may be an old one on a mount that is not coherent,
    # unless it was synced.
    os.fsync(box)
    size = os.fstat(box).st_size
    end = os.pread(box, 2, max(0, size - 2))
    missing = b"" if size == 0 else b"\n\n"[len(end) - len(
        end.lstrip(b"\n")) if end.strip(b"\n") == b"" else
        (1 if end.endswith(b"\n") else 0):]
    text = missing + FROM + re.sub(rb"(?m)^From ", b">From ", message) + b"\n"
    if os.write(box, text) != len(text):
        sys.exit("a short write")
    os.fsync(box)
    os.close(box)


if __name__ == "__main__":
    append(sys.argv[1], sys.argv[2], sys.stdin.buffer.read())
