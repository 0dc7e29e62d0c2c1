"""A client of strongSwan's control protocol (vici), as far as measuring needs it.

A message is a length (4 octets), a type (1), a name (its length in 1 octet), and elements:
sections, keys with values, lists. `swanctl` speaks the same, but a process for every set-up takes
longer than the set-up."""
import socket
import struct

SECTION, SECTION_END, VALUE, LIST, ITEM, LIST_END = 1, 2, 3, 4, 5, 6
COMMAND, ANSWER, UNKNOWN, REGISTER, _, CONFIRM, NO_EVENT, EVENT = range(8)


class ViciError(Exception):
    pass


def encode(values):
    octets = b""
    for key, value in values.items():
        key = bytes([len(key)]) + key.encode()
        value = value.encode()
        octets += bytes([VALUE]) + key + struct.pack("!H", len(value)) + value
    return octets


def decode(octets):
    """Dictionaries of texts, lists and dictionaries."""
    place = 0

    def take(form):
        nonlocal place
        (count,) = struct.unpack_from(form, octets, place)
        place += struct.calcsize(form) + count
        return octets[place - count : place].decode(errors="replace")

    top, open_sections, items = {}, [], None
    section = top
    while place < len(octets):
        kind = octets[place]
        place += 1
        if kind == SECTION:
            open_sections.append(section)
            section[take("!B")] = section = {}
        elif kind == SECTION_END:
            section = open_sections.pop()
        elif kind == VALUE:
            key = take("!B")
            section[key] = take("!H")
        elif kind == LIST:
            section[take("!B")] = items = []
        elif kind == ITEM:
            items.append(take("!H"))
    return top


class Vici:
    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(30)
        self.socket.connect(path)

    def send(self, kind, name, octets=b""):
        message = bytes([kind, len(name)]) + name.encode() + octets
        self.socket.sendall(struct.pack("!I", len(message)) + message)

    def receive(self):
        def exactly(count):
            octets = b""
            while len(octets) < count:
                more = self.socket.recv(count - len(octets))
                if not more:
                    raise ViciError("strongSwan ended the connection: did it crash?")
                octets += more
            return octets

        (count,) = struct.unpack("!I", exactly(4))
        message = exactly(count)
        return message[0], message[1:]

    def command(self, name, values=None):
        """Gives a command; the answer, or an error when strongSwan says that it failed."""
        self.send(COMMAND, name, encode(values or {}))
        kind, octets = self.receive()
        if kind != ANSWER:
            raise ViciError(f"strongSwan does not know the command {name}")
        answer = decode(octets)
        if answer.get("success", "yes") != "yes":
            raise ViciError(f"{name}: {answer.get('errmsg', 'failed')}")
        return answer

    def register(self, name):
        """From now on events of that name come to this connection."""
        self.send(REGISTER, name)
        if self.receive()[0] != CONFIRM:
            raise ViciError(f"strongSwan does not know the event {name}")

    def event(self, seconds):
        """The next event that comes."""
        self.socket.settimeout(seconds)
        try:
            kind, octets = self.receive()
        except TimeoutError:
            raise ViciError(f"nothing happened for {seconds} s")
        return decode(octets[1 + octets[0] :]) if kind == EVENT else {}

    def listed(self, name, event):
        """All events of that name that come while a command is carried out."""
        self.register(event)
        self.send(COMMAND, name)
        found = []
        while True:
            kind, octets = self.receive()
            if kind != EVENT:
                break
            found.append(decode(octets[1 + octets[0] :]))
        self.send(4, event)
        self.receive()
        return found
