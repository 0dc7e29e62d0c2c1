"""A NAT for IKE and ESP in UDP. Usage: nat.py PEER GATEWAY ADDRESS...

Datagrams from PEER to GATEWAY that come to this host (a neighbour entry of PEER brings them here)
leave with ADDRESS and a port of its own for each port of PEER; answers go back the same way. With
each SIGUSR1 all mappings are forgotten, and the next ADDRESS is used.
"""

import selectors
import signal
import socket
import struct
import sys

UDP = 17
IPV4 = 0x0800

peer, gateway, *addresses = sys.argv[1:]
inside = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(IPV4))
back = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
wake, alarm = socket.socketpair()
alarm.setblocking(False)
signal.set_wakeup_fd(alarm.fileno())
signal.signal(signal.SIGUSR1, lambda *_: None)
# Who starts us may have it blocked, as threads of libdispatch have.
signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGUSR1})
selector = selectors.DefaultSelector()
selector.register(inside, selectors.EVENT_READ)
selector.register(wake, selectors.EVENT_READ)
mappings = {}


def forward(packet):
    """Sends a datagram of the peer to the gateway."""
    head = (packet[0] & 15) * 4
    ends = (socket.inet_ntoa(packet[12:16]), socket.inet_ntoa(packet[16:20]))
    if packet[9] != UDP or ends != (peer, gateway):
        return
    ports = struct.unpack("!HH", packet[head : head + 4])
    if ports not in mappings:
        outside = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        outside.bind((addresses[0], 0))
        outside.connect((gateway, ports[1]))
        selector.register(outside, selectors.EVENT_READ, ports)
        mappings[ports] = outside
    (length,) = struct.unpack("!H", packet[head + 4 : head + 6])
    mappings[ports].send(packet[head + 8 : head + length])


def answer(payload, ports):
    """Sends a datagram of the gateway to the peer; the kernel fills in length and checksum."""
    header = struct.pack(
        "!BBHHHBBH4s4s", 0x45, 0, 0, 0, 0, 64, UDP, 0,
        socket.inet_aton(gateway), socket.inet_aton(peer),
    )
    datagram = struct.pack("!HHHH", ports[1], ports[0], 8 + len(payload), 0) + payload
    back.sendto(header + datagram, (peer, 0))


def forget():
    """Loses all mappings."""
    for outside in mappings.values():
        selector.unregister(outside)
        outside.close()
    mappings.clear()
    addresses.append(addresses.pop(0))
    print("now", addresses[0], flush=True)


print("ready", flush=True)
while True:
    for key, _ in selector.select():
        if key.fileobj is wake:
            wake.recv(1)
            forget()
            break
        try:
            if key.fileobj is inside:
                forward(inside.recv(65536))
            else:
                answer(key.fileobj.recv(65536), key.data)
        except ConnectionRefusedError:
            pass
