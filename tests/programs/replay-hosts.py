"""Shows each AP-REQ to several servers: replay-hosts.py FILE MODE HOST:PORT ...

FILE contains AP-REQs, each after its length in four bytes. The program sends
each of them to each server by KPOP. MODE is "after": to one server after the
other, beginning with another one each time; or "once": to all servers at once,
by two connections each. Prints how many AP-REQs were accepted never, once and
more often, and the median and the longest time of an accepted one in
milliseconds.
"""
import socket
import statistics
import struct
import sys
import threading
import time

HELLO = b"".join(
    struct.pack(">I", len(text)) + text
    for text in (b"KRB5_SENDAUTH_V1.0\0", b"KPOPV1.0\0")
)
ACCEPTED = b"\0" * 5  # both versions, and the length 0 in place of an error


def show(server, request, start=None):
    """Returns the seconds until the server accepted the request, or None."""
    host, port = server.rsplit(":", 1)
    with socket.create_connection((host, int(port)), 30) as s:
        s.sendall(HELLO)
        heard = s.recv(1)
        if start:
            start.wait()
        begin = time.monotonic()
        s.sendall(struct.pack(">I", len(request)) + request)
        while len(heard) < len(ACCEPTED):
            more = s.recv(4096)
            if not more:
                break
            heard += more
        took = time.monotonic() - begin
        if not heard:
            sys.exit("replay-hosts: no answer")
        return took if heard.startswith(ACCEPTED) else None


def show_after(servers, request):
    return [show(server, request) for server in servers]


def show_at_once(servers, request):
    start = threading.Barrier(2 * len(servers))
    results = []
    threads = [
        threading.Thread(
            target=lambda s=s: results.append(show(s, request, start))
        )
        for s in servers * 2
    ]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    if len(results) != len(threads):
        sys.exit("replay-hosts: a connection failed")
    return results


def requests(name):
    with open(name, "rb") as f:
        while length := f.read(4):
            yield f.read(struct.unpack(">I", length)[0])


def main(name, mode, *servers):
    counts = [0, 0, 0]
    times = []
    for n, request in enumerate(requests(name)):
        order = servers[n % len(servers) :] + servers[: n % len(servers)]
        shown = (show_after if mode == "after" else show_at_once)(
            order, request
        )
        accepted = [t * 1000 for t in shown if t is not None]
        times += accepted
        counts[min(len(accepted), 2)] += 1
    print(
        f"never {counts[0]}, once {counts[1]}, more {counts[2]}, "
        f"median {statistics.median(times or [0]):.1f} ms, "
        f"longest {max(times or [0]):.1f} ms"
    )


main(*sys.argv[1:])
