# An LMTP server to which getmail delivers: lmtp.py SOCKET FILE. Appends each
# message to FILE, after a line "== message".
#
# For other kinds of delivery, getmail starts a child process. If the child ends
# before getmail waits for the child, getmail may wait for a minute. For LMTP
# getmail starts no child.
import os, socketserver, sys


class LMTP(socketserver.StreamRequestHandler):
    def say(self, line):
        self.wfile.write(line + b'\r\n')

    def handle(self):
        self.say(b'220 here')
        for line in iter(self.rfile.readline, b''):
            verb = line.split()[0].upper()
            if verb == b'DATA':
                self.say(b'354 go on')
                with open(sys.argv[2], 'ab') as f:
                    f.write(b'== message\n')
                    for line in iter(self.rfile.readline, b'.\r\n'):
                        f.write(line.removeprefix(b'.').replace(b'\r\n', b'\n'))
            self.say(b'221 bye' if verb == b'QUIT' else b'250 good')
            if verb == b'QUIT':
                return


server = socketserver.ThreadingUnixStreamServer(sys.argv[1], LMTP)
os.chmod(sys.argv[1], 0o666)
server.serve_forever()
