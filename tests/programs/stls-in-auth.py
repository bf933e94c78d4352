# A man in the middle who begins AUTH before a client's STLS: python3
# stls-in-auth.py CAFILE TOKENFILE cancel|command. before.bats runs it.
#
# Sends AUTH GSSAPI with the token. Within the exchange sends "*" (cancel) or
# STLS (command). Then sends USER and STLS. Inside TLS, sends lines that could
# continue the exchange. Prints the beginning of each answer.
import base64
import socket
import ssl
import sys

ca_file, token_file, how = sys.argv[1:]


def answer(connection):
    """Reads a line."""
    line = b""
    while not line.endswith(b"\n"):
        byte = connection.recv(1)
        if not byte:
            break
        line += byte
    return line


def ask(connection, command):
    """Sends a line and reads the answer."""
    connection.sendall(command + b"\r\n")
    return answer(connection)


server = socket.create_connection(("127.0.0.1", 1109))
answer(server)
with open(token_file, "rb") as file:
    token = base64.b64encode(file.read())
print("token", ask(server, b"AUTH GSSAPI " + token)[:2])
print("in the exchange", ask(server, b"*" if how == "cancel" else b"STLS")[:4])
ask(server, b"USER alice")
print("stls", ask(server, b"STLS")[:3])
context = ssl.create_default_context(cafile=ca_file)
inside = context.wrap_socket(server, server_hostname="mail.kpopd.test")
response = base64.b64encode(b"x" * 60)
for command in b"", response, b"PASS x", b"STAT", b"STLS":
    print("inside", ask(inside, command)[:4])
inside.close()
