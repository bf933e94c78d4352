#!/usr/bin/env python3
"""Keeps a lock, and shows what its descriptor does after the lock was lost
(hosts.bats).

    hosts-lock.py ofd|posix FILE TEXT

Takes the lock as kpopd does (an open-file-description lock) or as MDAs do
(POSIX), writes TEXT to the file, and prints "locked". For each line of standard
input it then reads the file, writes TEXT, syncs, and takes the lock again, all
through the same descriptor, and prints what came of each.
"""
import errno
import fcntl
import os
import struct
import sys
import time

COMMANDS = {"ofd": 37, "posix": fcntl.F_SETLK}  # F_OFD_SETLK


def take(descriptor, kind):
    """Takes the lock, or raises OSError."""
    whole = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
    fcntl.fcntl(descriptor, COMMANDS[kind], whole)


def outcome(call, *arguments):
    """Returns "ok", or the name of the error."""
    try:
        call(*arguments)
        return "ok"
    except OSError as error:
        return errno.errorcode[error.errno]


def main(kind, path, text):
    """Runs the program."""
    file = os.open(path, os.O_RDWR | os.O_CREAT)
    while outcome(take, file, kind) != "ok":
        time.sleep(0.02)
    os.pwrite(file, text.encode(), 0)
    os.fsync(file)
    print("locked", flush=True)
    for _ in sys.stdin:
        print("read", outcome(os.pread, file, 100, 0),
              "write", outcome(os.pwrite, file, text.encode(), 0),
              "sync", outcome(os.fsync, file),
              "lock", outcome(take, file, kind), flush=True)


main(*sys.argv[1:])
