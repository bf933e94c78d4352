#!/usr/bin/env python3
"""Connects to the socket of a kept kpopd-tls again and again.

Arguments: SOCKET NUMBER BYTES. Sends a request of BYTES zeros with two
descriptors on each connection, and waits for its end. With BYTES 0 sends
nothing, does not wait, and leaves all connections open until standard input
ends. Prints the number of connections that were made.
"""
import socket
import sys

path, number, size = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
held = []
for _ in range(number):
    s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    s.setblocking(size > 0)
    try:
        s.connect(path)
    except BlockingIOError:
        break
    held.append(s)
    if size > 0:
        socket.send_fds(s, [bytes(size)], [0, 1])
        try:
            s.recv(1)
        except ConnectionResetError:
            pass
        s.close()
print(len(held), flush=True)
if size == 0:
    sys.stdin.read()
