# Sends the recorded output of a large client: play.py DIALOGUE HOST PORT
# [KPOPC]. Prints the messages that the server sends.
#
# A line of DIALOGUE is one write of the client. After each write, the client
# waits for the answers. {token} stands for GSSAPI's next token. If the line is
# "?WORD TEXT", TEXT is sent only if the server's capabilities contain WORD. The
# last line may be sent after the server has closed the connection.
import os, re, socket, subprocess, sys
from base64 import b64decode, b64encode

host, port, lists = sys.argv[2], int(sys.argv[3]), []
challenge = b''


def connection():
    if len(sys.argv) < 5:
        return socket.create_connection((host, port))
    ours, theirs = socket.socketpair()
    subprocess.Popen(
        [sys.argv[4], host, str(port)], stdin=theirs, stdout=theirs
    )
    theirs.close()
    return ours


def tokens():
    """Yields the answer to each challenge. The last one chooses no layer."""
    import gssapi

    context = gssapi.SecurityContext(
        name=gssapi.Name('pop@' + host, gssapi.NameType.hostbased_service),
        usage='initiate',
    )
    while not context.complete:
        yield context.step(challenge or None) or b''
    context.unwrap(challenge)
    yield context.wrap(b'\1\0\0\0alice', False).message


def hear(command):
    """Reads one answer to this command, with its list or message."""
    global challenge
    line = stream.readline()
    if not re.match(rb'\+OK.*\r\n$|\+ .*\r\n$', line):
        sys.exit('to %r the server said %r' % (command, line))
    challenge = b64decode(line[2:]) if line.startswith(b'+ ') else b''
    name, *arguments = command.split()[:2] or [b'']
    if name != b'RETR' and not (
        name in (b'CAPA', b'LIST', b'UIDL') and not arguments
    ):
        return
    for line in iter(stream.readline, b'.\r\n'):
        if not line:
            sys.exit('the answer to %r has no end' % command)
        if name == b'CAPA':
            lists.append(line.split()[0])
        elif name == b'RETR':
            sys.stdout.buffer.write(
                line[1:] if line.startswith(b'..') else line
            )


client = connection()
client.settimeout(8)
stream = client.makefile('rb')
token = tokens()
hear(b'')
writes = open(sys.argv[1]).read().splitlines()
for n, write in enumerate(writes):
    if write.startswith('?'):
        word, write = write[1:].split(' ', 1)
        if word.encode() not in lists:
            continue
    while '{token}' in write:
        write = write.replace('{token}', b64encode(next(token)).decode(), 1)
    write = write.replace('\\r\\n', '\r\n').encode()
    try:
        client.sendall(write)
    except OSError:
        if n == len(writes) - 1:
            break
        raise
    if n and writes[n - 1] == writes[n] == 'QUIT\\r\\n':
        break
    for command in write.removesuffix(b'\r\n').split(b'\r\n'):
        hear(command)
