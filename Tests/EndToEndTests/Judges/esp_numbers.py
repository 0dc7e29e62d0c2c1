"""Prints SPI, sequence number and the first eight octets of the payload (the IV of counter modes)
of every ESP packet over IPv4 or IPv6 of a capture: Ethernet, pcap, without extension headers."""

import struct
import sys


def packets(octets):
    if octets[:4] not in (b"\xd4\xc3\xb2\xa1", b"\x4d\x3c\xb2\xa1"):
        sys.exit("not a little-endian pcap file")
    place = 24
    while place + 16 <= len(octets):
        length = struct.unpack_from("<I", octets, place + 8)[0]
        yield octets[place + 16 : place + 16 + length]
        place += 16 + length


def payload(frame):
    kind = struct.unpack_from(">H", frame, 12)[0]
    if kind == 0x0800 and frame[23] == 50:
        return frame[14 + 4 * (frame[14] & 15) :]
    if kind == 0x86DD and frame[20] == 50:
        return frame[54:]
    return None


with open(sys.argv[1], "rb") as file:
    for frame in packets(file.read()):
        esp = payload(frame)
        if esp is not None:
            spi, sequence = struct.unpack_from(">II", esp)
            print(f"{spi:08x} {sequence} {esp[8:16].hex()}")
