# A client of KPOP that ends TLS in an unusual way: alert.py HOW FILE LINE ...
#
# Sends FILE, which contains the exchange, and then STLS. Inside TLS, sends each
# LINE and reads an answer to it. Then sends HOW, which is either the number of
# a fatal alert or a text to send in cleartext. Uses GnuTLS, because GnuTLS can
# send any alert at any time.
import ctypes
import socket
import sys

how, exchange, lines = sys.argv[1], sys.argv[2], sys.argv[3:]
gnutls = ctypes.CDLL("libgnutls.so.30")
server = socket.create_connection(("127.0.0.1", 1109), 10)
session, nobody = ctypes.c_void_p(), ctypes.c_void_p()
answer = ctypes.create_string_buffer(4096)


def hear_line(heard=b""):
    while not heard.endswith(b"\n"):
        heard += server.recv(1) or sys.exit("the server has closed")


with open(exchange, "rb") as said:
    server.sendall(said.read())
hear_line()
server.sendall(b"STLS\r\n")
hear_line()
# Remove the socket's time limit. A socket with a time limit does not block, but
# GnuTLS needs a blocking socket.
server.settimeout(None)
gnutls.gnutls_init(ctypes.byref(session), 2)
gnutls.gnutls_certificate_allocate_credentials(ctypes.byref(nobody))
gnutls.gnutls_credentials_set(session, 1, nobody)
gnutls.gnutls_set_default_priority(session)
gnutls.gnutls_transport_set_int2(session, server.fileno(), server.fileno())
if gnutls.gnutls_handshake(session) != 0:
    sys.exit("no handshake")
for line in lines:
    gnutls.gnutls_record_send(session, line.encode() + b"\r\n", len(line) + 2)
    if gnutls.gnutls_record_recv(
        session, answer, len(answer)
    ) <= 0 or not answer.value.startswith(b"+OK"):
        sys.exit(line)
if how.isdigit():
    gnutls.gnutls_alert_send(session, 2, int(how))
else:
    server.sendall(how.encode() + b"\r\n\r\n")
server.close()
