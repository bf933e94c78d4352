# Fetches mail with Python's poplib: fetch.py kpop|gssapi|stls|pop3s HOST PORT
# CA [KPOPC]. Prints all messages and removes them.
#
# "kpop" uses kpopc. "gssapi" uses AUTH GSSAPI of python3-gssapi, in cleartext.
# "stls" uses AUTH GSSAPI after STLS. "pop3s" uses it in TLS from the first
# byte.
import poplib, socket, ssl, subprocess, sys
from base64 import b64decode, b64encode

# Mail has longer lines than the 2048 bytes that poplib accepts.
poplib._MAXLINE = 1 << 20
how, host, port, ca = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]


class KPOP(poplib.POP3):
    """Speaks POP3 with a kpopc that it starts, so no port is open to others."""

    def _create_socket(self, timeout):
        ours, theirs = socket.socketpair()
        subprocess.Popen(
            [sys.argv[5], self.host, str(self.port)],
            stdin=theirs,
            stdout=theirs,
        )
        theirs.close()
        return ours


def auth_gssapi(pop, user):
    """Chooses no security layer (RFC 4752)."""
    import gssapi

    name = gssapi.Name('pop@' + host, gssapi.NameType.hostbased_service)
    context = gssapi.SecurityContext(name=name, usage='initiate')
    line, token = 'AUTH GSSAPI', None
    while not context.complete:
        challenge = b64decode(pop._shortcmd(line)[2:])
        line = b64encode(context.step(challenge or None) or b'').decode()
    offer = context.unwrap(b64decode(pop._shortcmd(line)[2:])).message
    assert offer[0] & 1, 'the server requires a layer'
    pop._shortcmd(
        b64encode(
            context.wrap(b'\1\0\0\0' + user.encode(), False).message
        ).decode()
    )


verify = ssl.create_default_context(cafile=ca)
if how == 'kpop':
    pop = KPOP(host, port, timeout=20)
    pop.user('alice')
    pop.pass_('x')
else:
    pop = (
        poplib.POP3_SSL(host, port, context=verify, timeout=20)
        if how == 'pop3s'
        else poplib.POP3(host, port, timeout=20)
    )
    if how == 'stls':
        pop.stls(context=verify)
    auth_gssapi(pop, 'alice')
for entry in pop.uidl()[1]:
    number = int(entry.split()[0])
    sys.stdout.buffer.write(b'\n'.join(pop.retr(number)[1]) + b'\n')
    pop.dele(number)
pop.quit()
