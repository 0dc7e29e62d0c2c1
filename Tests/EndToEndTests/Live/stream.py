"""stream.py serve ADDRESS PORT: takes one TCP connection, answers with the digest of what came and
as much of its own; then answers datagrams with their digest.
stream.py send SOURCE ADDRESS PORT OCTETS: the other end. Exit code 0: everything came as it was.

The datagrams go to the kernel in rows (UDP_SEGMENT), as those of fast programs do."""
import hashlib
import random
import socket
import sys

UDP_SEGMENT = 103
DATAGRAM, ROW = 1200, 20


def family(address):
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def receive(connection, count):
    octets = bytearray()
    while len(octets) < count:
        more = connection.recv(min(1 << 16, count - len(octets)))
        if not more:
            raise SystemExit(f"the stream ended after {len(octets)} of {count} octets")
        octets += more
    return bytes(octets)


def digest(octets):
    return hashlib.sha256(octets).digest()


def serve(address, port):
    listener = socket.create_server((address, port), family=family(address))
    datagrams = socket.socket(family(address), socket.SOCK_DGRAM)
    datagrams.bind((address, port))
    datagrams.settimeout(20)
    print("listening", flush=True)
    connection, _ = listener.accept()
    connection.settimeout(20)
    count = int.from_bytes(receive(connection, 8), "big")
    octets = receive(connection, count)
    connection.sendall(digest(octets) + octets)
    for _ in range(ROW):
        octets, sender = datagrams.recvfrom(1 << 16)
        datagrams.sendto(digest(octets), sender)


def send(source, address, port, count):
    connection = socket.create_connection((address, port), 20, (source, 0))
    octets = random.Random(count).randbytes(count)
    connection.sendall(count.to_bytes(8, "big") + octets)
    if receive(connection, 32 + count) != digest(octets) + octets:
        raise SystemExit("other octets came than were sent")
    datagrams = socket.socket(family(address), socket.SOCK_DGRAM)
    datagrams.bind((source, 0))
    datagrams.connect((address, port))
    datagrams.settimeout(20)
    row = random.Random(1).randbytes(DATAGRAM * (ROW - 1) + 100)
    segment = DATAGRAM.to_bytes(2, sys.byteorder)
    datagrams.sendmsg([row], [(socket.IPPROTO_UDP, UDP_SEGMENT, segment)])
    awaited = {digest(row[start : start + DATAGRAM]) for start in range(0, len(row), DATAGRAM)}
    while awaited:
        awaited.remove(datagrams.recv(1 << 16))


if sys.argv[1] == "serve":
    serve(sys.argv[2], int(sys.argv[3]))
else:
    send(sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5]))
