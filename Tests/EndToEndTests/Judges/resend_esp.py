"""Sends the frames of a capture (Ethernet, pcap) that carry ESP over IPv4 with an SPI once more, as
somebody on the wire would. Usage: resend_esp.py CAPTURE SPI DEVICE; prints how many."""

import socket
import struct
import sys

with open(sys.argv[1], "rb") as file:
    octets = file.read()
if octets[:4] not in (b"\xd4\xc3\xb2\xa1", b"\x4d\x3c\xb2\xa1"):
    sys.exit("not a little-endian pcap file")
wanted = bytes.fromhex(sys.argv[2])
wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
wire.bind((sys.argv[3], 0))
place, count = 24, 0
while place + 16 <= len(octets):
    length = struct.unpack_from("<I", octets, place + 8)[0]
    frame = octets[place + 16 : place + 16 + length]
    place += 16 + length
    start = 14 + 4 * (frame[14] & 15)
    if frame[12:14] == b"\x08\x00" and frame[23] == 50 and frame[start : start + 4] == wanted:
        wire.send(frame)
        count += 1
print(count)
