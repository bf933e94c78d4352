# Speaks plain POP3 with kpopc --listen: local-pop.py HOST PORT COMMAND ...
#
#	fetch           prints all messages and removes them, with poplib
#	pace            fetches all messages and removes them, prints for each
#	                the ms that its RETR takes
#	login           logs in and quits; prints poplib's error if that fails
#	say LINE ...    sends these lines at once, prints all answers
#	hold N [stop]   connects N times, logs in over the first connection,
#	                prints greetings that are refusals and the number of
#	                others; without "stop" waits until it is killed
#	row N           logs in N times in a row
#	together N      connects N times, and then logs in over each connection
#	from PORT FILE LINE ...
#	                connects from this port and sends the lines; when FILE
#	                exists, resets the connection
#	again PORT      connects from this port and logs in
import os, poplib, socket, struct, sys, time

poplib._MAXLINE = 1 << 20
host, port, command = sys.argv[1], int(sys.argv[2]), sys.argv[3]
rest = sys.argv[4:]


def login():
    pop = poplib.POP3(host, port, timeout=30)
    pop.user('alice')
    pop.pass_('any password')
    return pop


def connect_from(own):
    s = socket.socket(socket.AF_INET6 if ':' in host else socket.AF_INET)
    s.settimeout(30)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.bind((host, own))
    s.connect((host, port))
    return s


def connect_many(n):
    held = []
    for _ in range(n):
        try:
            held.append(poplib.POP3(host, port, timeout=30))
        except poplib.error_proto as e:
            print(e.args[0].decode())
    return held


def finish(pop):
    pop.user('alice')
    pop.pass_('any password')
    pop.stat()
    pop.quit()
    return 1


def answers(s):
    data = b''
    try:
        while chunk := s.recv(65536):
            data += chunk
    except ConnectionResetError:
        data += b'(reset)\n'
    sys.stdout.write(data.decode().replace('\r', ''))


if command == 'fetch':
    pop = login()
    for entry in pop.uidl()[1]:
        number = int(entry.split()[0])
        sys.stdout.buffer.write(b'\n'.join(pop.retr(number)[1]) + b'\n')
        pop.dele(number)
    pop.quit()
elif command == 'pace':
    pop = login()
    for number in range(1, pop.stat()[0] + 1):
        begin = time.monotonic()
        pop.retr(number)
        print(round((time.monotonic() - begin) * 1000))
        pop.dele(number)
    pop.quit()
elif command == 'login':
    try:
        login().quit()
        print('served')
    except poplib.error_proto as e:
        print(e.args[0].decode())
elif command == 'say':
    s = socket.create_connection((host, port), 30)
    s.sendall(''.join(line + '\r\n' for line in rest).encode())
    answers(s)
elif command == 'hold':
    held = connect_many(int(rest[0]))
    if held and len(rest) == 1:
        held[0].user('alice')
        held[0].pass_('any password')
    print('held', len(held), flush=True)
    if len(rest) == 1:
        time.sleep(600)
elif command == 'row':
    n = int(rest[0])
    print('served', sum(finish(connect_many(1)[0]) for _ in range(n)))
elif command == 'together':
    print('served', sum(finish(pop) for pop in connect_many(int(rest[0]))))
elif command == 'from':
    s = connect_from(int(rest[0]))
    s.sendall(''.join(line + '\r\n' for line in rest[2:]).encode())
    print('sent', flush=True)
    while not os.path.exists(rest[1]):
        time.sleep(0.05)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
    s.close()
elif command == 'again':
    s = connect_from(int(rest[0]))
    print('connected', flush=True)
    s.sendall(b'USER alice\r\nPASS x\r\nQUIT\r\n')
    answers(s)
