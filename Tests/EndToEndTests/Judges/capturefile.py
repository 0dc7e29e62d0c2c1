"""pcap files and the IP packets in their frames, for the judges. Shares no code with the gateway."""

import os
import struct
import sys

sys.dont_write_bytecode = True
HERE = os.path.dirname(os.path.abspath(__file__))
GENERATORS = os.path.join(HERE, "..", "..", "..", "vectors", "generators")
sys.path.insert(0, GENERATORS)

RAW, ETHERNET = 101, 1
MAGICS = {0xA1B2C3D4: 1000, 0xA1B23C4D: 1}


def read(path):
    """(link type, [(nanoseconds, octets)])"""
    with open(path, "rb") as file:
        data = file.read()
    order = "<" if struct.unpack("<I", data[:4])[0] in MAGICS else ">"
    unit = MAGICS[struct.unpack(order + "I", data[:4])[0]]
    link = struct.unpack(order + "I", data[20:24])[0]
    packets, offset = [], 24
    while offset < len(data):
        seconds, fraction, length, _ = struct.unpack(order + "IIII", data[offset : offset + 16])
        offset += 16
        assert offset + length <= len(data), path + ": cut off"
        packets.append((seconds * 10**9 + fraction * unit, data[offset : offset + length]))
        offset += length
    return link, packets


def write(path, packets, link=RAW, original=None):
    """packets: [(nanoseconds, octets)]; original: {index: octets on the wire}"""
    with open(path, "wb") as file:
        file.write(struct.pack("<IHHIIII", 0xA1B23C4D, 2, 4, 0, 0, 262144, link))
        for index, (time, octets) in enumerate(packets):
            length = (original or {}).get(index, len(octets))
            file.write(struct.pack("<IIII", time // 10**9, time % 10**9, len(octets), length))
            file.write(octets)


def network(link, frame):
    """the IP packet of a frame, without what stands behind it"""
    if link == ETHERNET:
        assert frame[12:14] in (b"\x08\x00", b"\x86\xdd"), frame[:14].hex()
        frame = frame[14:]
    if frame[0] >> 4 == 4:
        return frame[: struct.unpack("!H", frame[2:4])[0]]
    return frame[: 40 + struct.unpack("!H", frame[4:6])[0]]


def transport(packet):
    """(offset of the octet that names the protocol, offset of the payload); steps over the
    extension headers that may stand before ESP"""
    if packet[0] >> 4 == 4:
        return 9, (packet[0] & 15) * 4
    place, offset = 6, 40
    while packet[place] in (0, 43, 60):
        place, offset = offset, offset + 8 + packet[offset + 1] * 8
    return place, offset


def folded(data):
    """the ones' complement sum; 0xFFFF when a checksum inside is right"""
    data += bytes(len(data) % 2)
    total = sum(struct.unpack("!%dH" % (len(data) // 2), data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total
