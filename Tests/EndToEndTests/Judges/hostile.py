"""hostile.py FOLDER NAME: a capture with what a network or an attacker may do to ESP packets, and what must
become of each packet. NAME is a scenario below. Writes sas.json, NAME.pcap, NAME.expected.pcap (the inner packets, in
order, with times) and NAME.json (the counts). The oracle keeps a plain set of sequence numbers for each SPI."""

import collections
import json
import os
import struct
import sys

import capturefile
import espmodel as m

WINDOW, EACH, TICK = 64, 160, 1_000_003
START = 1_700_000_000_000_000_000
ASSOCIATIONS = [
    (("AES_GCM_16", 256, None), {}),
    (("AES_CBC", 128, "HMAC_SHA2_256_128"), {"udp": True}),
    (
        ("CHACHA20_POLY1305", 256, None),
        {"esn": True, "first_seq": 2**32 - 70, "src": "2001:db8::1", "dst": "2001:db8::2"},
    ),
    (("AES_CTR", 192, "HMAC_SHA2_384_192"), {"esn": True, "first_seq": 1}),
    (("AES_CCM_8", 128, None), {"mode": "transport"}),
]
SPECIAL = ["padding", "dummy", "nextHeader", "innerMalformed", "ecn", "selector"]


class Packet:
    """what comes in; `fate` is what it would get if it were fresh, None: delivered"""

    def __init__(self, octets, entry=None, sequence=None, inner=None, fate=None, early=None, authentic=True, cut=None):
        self.octets, self.entry, self.sequence, self.inner = octets, entry, sequence, inner
        # `early` is decided before the replay window is asked.
        self.fate, self.early, self.authentic, self.cut = fate, early, authentic, cut

    def altered(self, octets, **more):
        values = dict(entry=self.entry, sequence=self.sequence, inner=self.inner, fate=self.fate)
        values.update(more)
        return Packet(octets, **values)


class Window:
    """RFC 4303, 3.4.3 and A2"""

    def __init__(self, entry):
        self.esn, self.seen = entry["esn"], set()
        self.highest = entry["first_seq"] - 1 if entry["first_seq"] > 1 else 0

    def infer(self, low):
        if not self.esn:
            return low
        top, high = self.highest & 0xFFFFFFFF, self.highest >> 32
        edge = top - WINDOW + 1
        if edge >= 0:
            return low | (high if low >= edge else high + 1) << 32
        return low | (high - 1 if low >= edge % 2**32 else high) << 32

    def check(self, low):
        """(inferred number, reason)"""
        full = self.infer(low)
        if full < 0 or full == 0 or (low == 0 and not self.esn):
            return full, "sequenceZero" if full == 0 else "tooOld"
        if full <= self.highest - WINDOW:
            return full, "tooOld"
        return full, "replayed" if full in self.seen else None

    def mark(self, full):
        self.seen.add(full)
        self.highest = max(self.highest, full)


def make_association(index):
    transform, more = ASSOCIATIONS[index]
    values = dict(src="192.0.2.1", dst="198.51.100.%d" % (index + 1), first_seq=1)
    values.update(more)
    entry = m.association("hostile/%d" % index, transform, replay_window=WINDOW, **values)
    if entry["mode"] == "tunnel":
        entry["ts_src"], entry["ts_dst"] = ["10.%d.0.0/24" % index], ["10.%d.1.0/24" % index]
    else:
        entry["ts_src"], entry["ts_dst"] = [entry["src"]], [entry["dst"]]
    return entry


def good(entry, index, number, special=None):
    """packet `number` of an association, authentic; `special` is a defect under a right ICV"""
    sequence = entry["first_seq"] + number
    data = m.stream("hostile/%d/%d" % (index, number), 1 + number * 7 % 120)
    iv = m.iv_for("hostile/%d/%d" % (index, number), entry["encr"])
    if entry["mode"] == "transport":
        inner = m.udp_packet(entry["src"], entry["dst"], data, ident=number + 1)
        size, protocol = 20, m.UDP
    else:
        inner = m.udp_packet("10.%d.0.1" % index, "10.%d.1.1" % index, data, ident=number + 1)
        size, protocol = 0, m.IPIP
    payload, trailer, tclass = inner[size:], {}, 0
    if special == "padding":
        trailer = {"pad_bytes": bytes(range(2, 2 + -(len(payload) + 2) % m.ENCR[entry["encr"]][2] + 16))}
    elif special == "dummy":
        protocol = m.NONE
    elif special == "nextHeader":
        protocol = m.UDP
    elif special == "innerMalformed":
        payload = payload[:2] + struct.pack("!H", 2000) + payload[4:]
    elif special == "ecn":
        tclass = 3
    elif special == "selector":
        payload = m.udp_packet("10.99.0.1", "10.%d.1.1" % index, data)
    esp = m.seal(entry, sequence, iv, payload, protocol, **trailer)
    return Packet(m.wrap(entry, esp, tclass=tclass, ident=number + 1), entry, sequence, inner, special)


def streams(special_every=0):
    """one list of packets for each association"""
    result = []
    for index in range(len(ASSOCIATIONS)):
        entry, packets, turn = make_association(index), [], 0
        for number in range(EACH):
            special = None
            if special_every and number % special_every == special_every - 1:
                kinds = SPECIAL if entry["mode"] == "tunnel" else ["padding", "dummy"]
                special, turn = kinds[turn % len(kinds)], turn + 1
            packets.append(good(entry, index, number, special))
        result.append(packets)
    return result


def interleave(lists):
    result = []
    for number in range(max(map(len, lists))):
        result += [packets[number] for packets in lists if number < len(packets)]
    return result


# What is done to packets


def esp_offset(packet):
    offset = capturefile.transport(packet.octets)[1]
    return offset + 8 if packet.entry["sport"] is not None else offset


def with_bit(octets, bit):
    at = bit // 8
    return octets[:at] + bytes([octets[at] ^ 0x80 >> bit % 8]) + octets[at + 1 :]


def resized(octets, change, at):
    """`change` octets cut off or added at the end, lengths in the headers adjusted; `at`: end of the IP header"""
    octets = octets[:change] if change < 0 else octets + bytes(change)
    if octets[0] >> 4 == 6:
        octets = octets[:4] + struct.pack("!H", len(octets) - 40) + octets[6:]
    else:
        header = octets[:2] + struct.pack("!H", len(octets)) + octets[4:10] + b"\0\0" + octets[12:20]
        octets = header[:10] + struct.pack("!H", m.checksum(header)) + header[12:] + octets[20:]
    protocol = octets[9] if octets[0] >> 4 == 4 else octets[6]
    if protocol == m.UDP:
        octets = octets[: at + 4] + struct.pack("!H", len(octets) - at) + octets[at + 6 :]
    return octets


def forged(packet):
    """copies of a packet that nobody with the keys has made: all are to be refused"""
    octets, at, end = packet.octets, esp_offset(packet), len(packet.octets)
    iv = m.ENCR[packet.entry["encr"]][1]
    wrong = lambda bit, **more: packet.altered(with_bit(octets, bit), authentic=False, **more)
    yield wrong((end - 1) * 8 + packet.sequence % 8)  # last octet of the ICV
    yield wrong((end - packet.entry["icv_len"]) * 8)  # first octet of the ICV
    yield wrong((at + 8 + iv) * 8 + packet.sequence % 8)  # first octet of the ciphertext
    if iv:
        yield wrong((at + 8) * 8)  # IV
    yield wrong((at + 4) * 8, sequence=packet.sequence ^ 0x80000000)  # sequence number, far away
    yield wrong((at + 5) * 8 + 7, sequence=packet.sequence ^ 0x10000)
    yield packet.altered(with_bit(octets, at * 8 + packet.sequence % 8), early="unknownSPI")
    reserved = octets[:at] + struct.pack("!I", packet.sequence % 255 + 1) + octets[at + 4 :]
    yield packet.altered(reserved, early="reservedSPI")
    zero = octets[: at + 4] + bytes(4) + octets[at + 8 :]
    yield packet.altered(zero, sequence=packet.sequence & ~0xFFFFFFFF, authentic=False)


def shortened(packet):
    """cut off by the capture (snaplen), with and without adjusted lengths, and contradictory headers"""
    octets, at, end = packet.octets, esp_offset(packet), len(packet.octets)
    header = capturefile.transport(octets)[1]
    for cut in (1, 5, header, at, at + 7, at + 8, end - 1):
        yield packet.altered(octets, cut=cut, early="truncated")
    yield packet.altered(octets, cut=0, early="other")
    yield packet.altered(resized(octets, -1, header), early="ciphertextLength")
    yield packet.altered(resized(octets, 1, header), early="ciphertextLength")
    yield packet.altered(resized(octets, at + 8 - end, header), early="truncated")
    if packet.entry["sport"] is not None:
        short = octets[: header + 4] + struct.pack("!H", 7) + octets[header + 6 :]
        yield packet.altered(short, early="malformed")
        long = octets[: header + 4] + struct.pack("!H", end - header + 1) + octets[header + 6 :]
        yield packet.altered(long, early="truncated")
    if octets[0] >> 4 == 4:
        # Without a header length nobody can say where the ports of UDP are.
        anybody = packet.entry["sport"] is not None
        yield packet.altered(bytes([0x44]) + octets[1:], early="other" if anybody else "malformed")
        yield packet.altered(octets[:2] + struct.pack("!H", end + 1) + octets[4:], early="truncated")


def fragments(packet):
    """the two halves of the outer packet; a later fragment of UDP has no ports, so it is anybody's"""
    octets = packet.octets
    at = capturefile.transport(octets)[1]
    half = at + 16
    if octets[0] >> 4 == 4:
        for flags, body, first in ((0x2000, octets[at:half], True), (2, octets[half:], False)):
            piece = m.ip4(packet.entry["src"], packet.entry["dst"], octets[9], body, fragment=flags)
            later_udp = octets[9] == m.UDP and not first
            yield packet.altered(piece, early="other" if later_udp else "fragment")
        return
    for flags, body in ((1, octets[at:half]), (16, octets[half:])):
        body = struct.pack("!BBHI", octets[6], 0, flags, 77) + body
        yield packet.altered(m.ip6(packet.entry["src"], packet.entry["dst"], 44, body), early="fragment")


def strangers():
    """packets of the untrusted side that are not ESP"""
    address = dict(src="192.0.2.1", dst="198.51.100.2")
    yield Packet(m.udp_packet(address["src"], address["dst"], b"\xff", 4500, 4500), early="natKeepalive")
    yield Packet(m.udp_packet(address["src"], address["dst"], bytes(12), 4500, 4500), early="other")
    yield Packet(m.udp_packet(address["src"], address["dst"], b"hello", 53, 53), early="other")
    yield Packet(b"\x55" * 40, early="other")


# Scenarios


def duplicates():
    return [packet for packet in interleave(streams()) for _ in range(2)]


def reordered():
    """swapped neighbours, then blocks of 60 turned round: all inside the window"""
    result = []
    for packets in streams():
        swapped = packets[:40]
        swapped[0::2], swapped[1::2] = packets[1:40:2], packets[0:40:2]
        rest = packets[40:]
        blocks = [rest[at : at + 60][::-1] for at in range(0, len(rest), 60)]
        result.append(swapped + [packet for block in blocks for packet in block])
    return interleave(result)


def late():
    """moved behind 63 later ones: just inside; behind 64: just outside; behind 90: outside"""
    result = []
    for packets in streams():
        packets = list(packets)
        for at, behind in ((5, 63), (10, 64), (15, 90), (20, 62)):
            moved = next(packet for packet in packets if packet.sequence == packet.entry["first_seq"] + at)
            packets.remove(moved)
            place = [packet.sequence for packet in packets].index(moved.sequence + behind)
            packets.insert(place + 1, moved)
        result.append(packets)
    return interleave(result)


def damaged():
    """before every third packet a forged copy, around others shortened ones and fragments: what is
    forged comes first, so that it may not use up the number of the good one"""
    result, makers = [], {}
    for number, packet in enumerate(interleave(streams(special_every=7))):
        key = packet.entry["spi"]
        if key not in makers:
            makers[key] = collections.deque()
        if not makers[key]:
            makers[key].extend([forged, shortened, fragments])
        if number % 3 == 0:
            result += makers[key][0](packet)
            makers[key].rotate(-1)
        result.append(packet)
        if number % 50 == 25:
            result += strangers()
    return result


def combined():
    """all of it, and then everything again: nothing may pass a second time"""
    half = damaged()[: len(damaged()) // 2]
    rest = [packet for packet in damaged()[len(half) :] for _ in range(2)]
    for at in range(0, len(rest) - 8, 16):
        rest[at : at + 8] = rest[at : at + 8][::-1]
    return half + half + rest + half[::5]


def judge(packets):
    """fates in order"""
    windows, fates = {}, []
    for packet in packets:
        if packet.early:
            fates.append(packet.early)
            continue
        window = windows.setdefault(packet.entry["spi"], Window(packet.entry))
        full, reason = window.check(packet.sequence & 0xFFFFFFFF)
        if reason is None and (not packet.authentic or (packet.entry["esn"] and full != packet.sequence)):
            reason = "integrity"
        if reason is None:
            window.mark(full)
            reason = packet.fate or "delivered"
        fates.append(reason)
    return fates


def main():
    folder, name = sys.argv[1:]
    entries = [make_association(index) for index in range(len(ASSOCIATIONS))]
    with open(os.path.join(folder, "sas.json"), "w", encoding="ascii") as file:
        json.dump({"esp": entries}, file, indent=1)
    packets = SCENARIOS[name]()
    fates = judge(packets)
    times = [START + TICK * number for number in range(len(packets))]
    capturefile.write(
        os.path.join(folder, name + ".pcap"),
        [(time, packet.octets[: packet.cut]) for time, packet in zip(times, packets)],
        original={number: len(packet.octets) for number, packet in enumerate(packets)},
    )
    passed = [(t, p.inner) for t, p, fate in zip(times, packets, fates) if fate == "delivered"]
    assert len({inner for _, inner in passed}) == len(passed), "an inner packet came twice"
    capturefile.write(os.path.join(folder, name + ".expected.pcap"), passed)
    counts = collections.Counter(fates)
    kinds = {kind: counts.pop(kind, 0) for kind in ("delivered", "other", "natKeepalive")}
    with open(os.path.join(folder, name + ".json"), "w", encoding="ascii") as file:
        json.dump({"total": len(packets), "dropped": counts, **kinds}, file)


SCENARIOS = {make.__name__: make for make in (duplicates, reordered, late, damaged, combined)}

if __name__ == "__main__":
    main()
