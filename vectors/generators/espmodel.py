"""Shared model of the vector generators: an ESP writer and reader (RFC 4303 and the transforms' RFCs)
over python `cryptography`, small IP, UDP, TCP and ICMP writers, and the JSON writer."""

import hashlib
import hmac
import ipaddress
import json
import os
import struct

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESCCM, AESGCM, ChaCha20Poly1305

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
HOPOPT, ICMP, IPIP, TCP, UDP, IPV6, ROUTING, ESP, ICMPV6, NONE, DSTOPT = 0, 1, 4, 6, 17, 41, 43, 50, 58, 59, 60

INTEG = {  # name: hash, key bytes, ICV bytes
    "HMAC_SHA1_96": ("sha1", 20, 12),
    "HMAC_SHA2_256_128": ("sha256", 32, 16),
    "HMAC_SHA2_384_192": ("sha384", 48, 24),
    "HMAC_SHA2_512_256": ("sha512", 64, 32),
}
ENCR = {  # name: salt bytes, IV bytes, alignment, ICV bytes of the AEADs, key sizes
    "AES_GCM_16": (4, 8, 4, 16, (128, 192, 256)),
    "AES_GCM_12": (4, 8, 4, 12, (128, 192, 256)),
    "AES_GCM_8": (4, 8, 4, 8, (128, 192, 256)),
    "CHACHA20_POLY1305": (4, 8, 4, 16, (256,)),
    "AES_CCM_16": (3, 8, 4, 16, (128, 192, 256)),
    "AES_CCM_12": (3, 8, 4, 12, (128, 192, 256)),
    "AES_CCM_8": (3, 8, 4, 8, (128, 192, 256)),
    "AES_GMAC": (4, 8, 4, 16, (128, 192, 256)),
    "AES_CBC": (0, 16, 16, 0, (128, 192, 256)),
    "AES_CTR": (4, 8, 4, 0, (128, 192, 256)),
    "NULL": (0, 0, 4, 0, (0,)),
}
TRANSFORMS = [
    (encr, bits, integ)
    for encr, (_, _, _, icv, sizes) in ENCR.items()
    for bits in sizes
    for integ in ([None] if icv else list(INTEG))
]
FAMILIES = [  # one transform of each construction
    ("AES_GCM_16", 256, None),
    ("CHACHA20_POLY1305", 256, None),
    ("AES_CCM_16", 128, None),
    ("AES_GMAC", 128, None),
    ("AES_CBC", 128, "HMAC_SHA2_256_128"),
    ("AES_CTR", 128, "HMAC_SHA2_256_128"),
    ("NULL", 0, "HMAC_SHA1_96"),
]


def stream(label, count):
    """deterministic bytes: SHA-256 of the label and a block counter"""
    blocks = (count + 31) // 32
    return b"".join(hashlib.sha256(f"{label}/{i}".encode()).digest() for i in range(blocks))[:count]


def number(label, low, high):
    return low + int.from_bytes(stream(label, 8), "big") % (high - low + 1)


def short_name(transform):
    return "-".join(str(x).lower().replace("_", "") for x in transform if x)


def association(label, transform, mode="tunnel", src="192.0.2.1", dst="198.51.100.7", udp=False, esn=False, **more):
    """an association with keys drawn from the label"""
    encr, bits, integ = transform
    salt, _, _, icv, _ = ENCR[encr]
    result = {
        "spi": "%08x" % number(label + "/spi", 0x100, 0xFFFFFFFE),
        "src": src,
        "dst": dst,
        "sport": 4500 if udp else None,
        "dport": 4500 if udp else None,
        "mode": mode,
        "encr": encr,
        "key_bits": bits,
        "encr_key": stream(label + "/key", bits // 8).hex(),
        "salt": stream(label + "/salt", salt).hex(),
        "integ": integ,
        "integ_key": stream(label + "/integ", INTEG[integ][1]).hex() if integ else "",
        "icv_len": INTEG[integ][2] if integ else icv,
        "esn": esn,
    }
    result.update(more)
    return result


def checksum(data):
    data += bytes(len(data) % 2)
    total = sum(struct.unpack("!%dH" % (len(data) // 2), data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF


def address(text):
    return ipaddress.ip_address(text).packed


def ip4(src, dst, protocol, payload, tos=0, ttl=64, ident=1, fragment=0, options=b"", version=4, ihl=None, length=None):
    header = struct.pack(
        "!BBHHHBBH4s4s",
        version << 4 | (5 + len(options) // 4 if ihl is None else ihl),
        tos,
        20 + len(options) + len(payload) if length is None else length,
        ident,
        fragment,
        ttl,
        protocol,
        0,
        address(src),
        address(dst),
    )
    header += options
    return header[:10] + struct.pack("!H", checksum(header)) + header[12:] + payload


def ip6(src, dst, next_header, payload, tclass=0, flow=0, hops=64, version=6, length=None):
    first = version << 28 | tclass << 20 | flow
    size = len(payload) if length is None else length
    return struct.pack("!IHBB", first, size, next_header, hops) + address(src) + address(dst) + payload


def ip(src, dst, protocol, payload, tclass=0, **more):
    """an IPv4 or IPv6 packet, as the addresses say"""
    if ":" in src:
        return ip6(src, dst, protocol, payload, tclass=tclass, **more)
    return ip4(src, dst, protocol, payload, tos=tclass, **more)


def pseudo(src, dst, protocol, size):
    if ":" in src:
        return address(src) + address(dst) + struct.pack("!II", size, protocol)
    return address(src) + address(dst) + struct.pack("!HH", protocol, size)


def with_checksum(src, dst, protocol, segment, at):
    value = checksum(pseudo(src, dst, protocol, len(segment)) + segment)
    if protocol == UDP and value == 0:
        value = 0xFFFF
    return segment[:at] + struct.pack("!H", value) + segment[at + 2 :]


def udp(src, dst, sport, dport, data, zero_checksum=False):
    segment = struct.pack("!HHHH", sport, dport, 8 + len(data), 0) + data
    return segment if zero_checksum else with_checksum(src, dst, UDP, segment, 6)


def tcp(src, dst, sport, dport, data, seq=1, ack=1, flags=0x18):
    segment = struct.pack("!HHIIBBHHH", sport, dport, seq, ack, 0x50, flags, 8192, 0, 0) + data
    return with_checksum(src, dst, TCP, segment, 16)


def echo(src, dst, data, ident=1, sequence=1):
    if ":" in src:
        return with_checksum(src, dst, ICMPV6, struct.pack("!BBHHH", 128, 0, 0, ident, sequence) + data, 2)
    message = struct.pack("!BBHHH", 8, 0, 0, ident, sequence) + data
    return message[:2] + struct.pack("!H", checksum(message)) + message[4:]


def udp_packet(src, dst, data, sport=1001, dport=2002, **more):
    return ip(src, dst, UDP, udp(src, dst, sport, dport, data), **more)


def trailer(encr, size, next_header, pad=None, pad_bytes=None, pad_field=None):
    """padding, pad length and next header for a payload of that size; the defaults give the shortest legal one"""
    if pad is None:
        pad = -(size + 2) % ENCR[encr][2]
    padding = bytes(range(1, pad + 1)) if pad_bytes is None else pad_bytes
    return padding + bytes([len(padding) if pad_field is None else pad_field, next_header])


def protect(a, sequence, iv, plaintext):
    """the ESP packet, SPI to ICV, of a plaintext that has its trailer already"""
    header = bytes.fromhex(a["spi"]) + struct.pack("!I", sequence & 0xFFFFFFFF)
    high = struct.pack("!I", sequence >> 32) if a["esn"] else b""
    key, salt = bytes.fromhex(a["encr_key"]), bytes.fromhex(a["salt"])
    aad = header[:4] + high + header[4:]
    encr = a["encr"]
    if encr.startswith("AES_GCM"):
        sealed = AESGCM(key).encrypt(salt + iv, plaintext, aad)
        return header + iv + sealed[: len(plaintext) + a["icv_len"]]
    if encr.startswith("AES_CCM"):
        return header + iv + AESCCM(key, tag_length=a["icv_len"]).encrypt(salt + iv, plaintext, aad)
    if encr == "CHACHA20_POLY1305":
        return header + iv + ChaCha20Poly1305(key).encrypt(salt + iv, plaintext, aad)
    if encr == "AES_GMAC":
        return header + iv + plaintext + AESGCM(key).encrypt(salt + iv, b"", aad + iv + plaintext)
    body = header + iv + cipher(a, key, salt, iv, plaintext, True)
    return body + hmac_of(a, body + high)


def cipher(a, key, salt, iv, data, encrypt):
    if a["encr"] == "NULL":
        return data
    mode = modes.CBC(iv) if a["encr"] == "AES_CBC" else modes.CTR(salt + iv + bytes([0, 0, 0, 1]))
    context = Cipher(algorithms.AES(key), mode)
    context = context.encryptor() if encrypt else context.decryptor()
    return context.update(data) + context.finalize()


def hmac_of(a, data):
    if not a["integ"]:
        return b""
    return hmac.new(bytes.fromhex(a["integ_key"]), data, INTEG[a["integ"]][0]).digest()[: a["icv_len"]]


def unprotect(a, esp, sequence):
    """the plaintext with its trailer, or None when the ICV is wrong"""
    high = struct.pack("!I", sequence >> 32) if a["esn"] else b""
    key, salt = bytes.fromhex(a["encr_key"]), bytes.fromhex(a["salt"])
    size, icv = ENCR[a["encr"]][1], a["icv_len"]
    iv, body, tag = esp[8 : 8 + size], esp[8 + size : len(esp) - icv], esp[len(esp) - icv :]
    aad = esp[:4] + high + esp[4:8]
    encr = a["encr"]
    try:
        if encr.startswith("AES_GCM"):
            mode = modes.GCM(salt + iv, tag, min_tag_length=8)
            context = Cipher(algorithms.AES(key), mode).decryptor()
            context.authenticate_additional_data(aad)
            return context.update(body) + context.finalize()
        if encr.startswith("AES_CCM"):
            return AESCCM(key, tag_length=icv).decrypt(salt + iv, body + tag, aad)
        if encr == "CHACHA20_POLY1305":
            return ChaCha20Poly1305(key).decrypt(salt + iv, body + tag, aad)
        if encr == "AES_GMAC":
            AESGCM(key).decrypt(salt + iv, tag, aad + iv + body)
            return body
    except InvalidTag:
        return None
    if not hmac.compare_digest(hmac_of(a, esp[: len(esp) - icv] + high), tag):
        return None
    return cipher(a, key, salt, iv, body, False)


def seal(a, sequence, iv, payload, next_header, **padding):
    return protect(a, sequence, iv, payload + trailer(a["encr"], len(payload), next_header, **padding))


def wrap(a, esp, tclass=0, ident=1, zero_checksum=None):
    """the outer packet of a tunnel, with a UDP header where the association says so"""
    protocol = ESP
    if a["sport"] is not None:
        zero = ":" not in a["src"] if zero_checksum is None else zero_checksum
        protocol, esp = UDP, udp(a["src"], a["dst"], a["sport"], a["dport"], esp, zero_checksum=zero)
    more = {"ident": ident} if "." in a["src"] else {}
    return ip(a["src"], a["dst"], protocol, esp, tclass=tclass, **more)


def tunnel_next_header(inner):
    return IPIP if inner[0] >> 4 == 4 else IPV6


def tunnel_case(name, a, sequence, iv, inner, result="accepted", check=("open", "seal"), **more):
    esp = seal(a, sequence, iv, inner, tunnel_next_header(inner))
    case = {"name": name, "association": a, "sequence": sequence, "iv": iv.hex(), "outer": wrap(a, esp).hex()}
    case.update({"inner": inner.hex(), "check": list(check), "result": result})
    case.update(more)
    return case


def iv_for(label, encr):
    return stream(label + "/iv", ENCR[encr][1])


def write(path, form, source, cases):
    """one case on each line; the names must be unique"""
    names = [case["name"] for case in cases]
    assert len(set(names)) == len(names), "%s: %s" % (path, [n for n in names if names.count(n) > 1][:3])
    path = os.path.join(ROOT, path)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    head = json.dumps({"format": form, "source": source})[:-1]
    lines = ",\n".join(json.dumps(case, separators=(",", ":")) for case in cases)
    with open(path, "w", encoding="ascii") as file:
        file.write(head + ', "cases": [\n' + lines + "\n]}\n")
    print("%-40s %5d cases %7d bytes" % (os.path.relpath(path, ROOT), len(cases), os.path.getsize(path)))
