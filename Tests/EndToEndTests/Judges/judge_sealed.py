"""judge_sealed.py FOLDER independent|scapy|tshark: did `spindle seal` protect the packets of interop.py?

Each judge opens FOLDER/sealed.pcap with its own idea of ESP and compares every inner packet, bit for bit, with what
was to be sealed. Prints a JSON object: for each transform how many packets were opened, how many of them with the
ICV checked, and why the rest was not. Exit code 1 with a list of differences."""

import collections
import json
import os
import struct
import subprocess
import sys

import capturefile
import espmodel as m
import interop

BOTH, HALF = "opened, ICV checked", "opened"


class Verdicts:
    """what became of the packets of each transform"""

    def __init__(self):
        self.counts = collections.defaultdict(collections.Counter)
        self.wrong = []

    def note(self, entry, kind):
        name = entry["encr"] + (" " + entry["integ"] if entry["integ"] else "")
        self.counts["%s %d" % (name, entry["key_bits"])][kind] += 1

    def check(self, good, entry, number, text):
        if not good:
            self.wrong.append("%s, packet %s: %s" % (entry["name"], number, text))

    def leave(self):
        if self.wrong:
            print("%d differences\n" % len(self.wrong) + "\n".join(self.wrong[:20]))
            sys.exit(1)
        print(json.dumps(self.counts))


class Expected:
    """one sealed packet and what must be in it"""

    def __init__(self, entry, number, inner, sequence, time, octets):
        self.entry, self.number, self.inner, self.sequence = entry, number, inner, sequence
        self.time, self.octets = time, octets


def load(folder):
    """every sealed packet beside what it must hold, in the order of sealing"""
    associations = interop.plan()
    order = interop.sealed_order(associations)
    link, sealed = capturefile.read(os.path.join(folder, "sealed.pcap"))
    assert link == capturefile.RAW and len(sealed) == len(order), "%d packets" % len(sealed)
    _, given = capturefile.read(os.path.join(folder, "inner.pcap"))
    sent = collections.Counter()
    result, clock = [], -1
    for (index, number), (time, octets) in zip(order, sealed):
        entry, packets = associations[index]
        inner = None if number is None else packets[number]
        clock += inner is not None
        assert time == given[clock][0], "the time of the inner packet"
        assert inner is None or inner == given[clock][1]
        result.append(Expected(entry, number, inner, entry["first_seq"] + sent[index], time, octets))
        sent[index] += 1
    return result


def outer_payload(e, check):
    """checks the outer header of a packet and gives the octets from the SPI on"""
    octets, entry = e.octets, e.entry
    at, offset = capturefile.transport(octets)
    check(capturefile.network(capturefile.RAW, octets) == octets, "outer length")
    if octets[0] >> 4 == 4:
        check(capturefile.folded(octets[:offset]) == 0xFFFF, "outer checksum")
        check(octets[12:20] == m.address(entry["src"]) + m.address(entry["dst"]), "outer addresses")
    else:
        check(octets[8:40] == m.address(entry["src"]) + m.address(entry["dst"]), "outer addresses")
    if entry["sport"] is None:
        check(octets[at] == m.ESP, "outer protocol")
        return octets[offset:]
    check(octets[at] == m.UDP, "outer protocol")
    source, destination, length, total = struct.unpack("!HHHH", octets[offset : offset + 8])
    check((source, destination) == (entry["sport"], entry["dport"]), "ports")
    check(length == len(octets) - offset, "UDP length")
    pseudo = m.pseudo(entry["src"], entry["dst"], m.UDP, length)
    check(
        (total == 0 and octets[0] >> 4 == 4) or capturefile.folded(pseudo + octets[offset:]) == 0xFFFF,
        "UDP checksum (RFC 3948 2.1: zero, or right; never zero over IPv6)",
    )
    return octets[offset + 8 :]


def class_of(packet):
    return packet[1] if packet[0] >> 4 == 4 else struct.unpack("!H", packet[:2])[0] >> 4 & 0xFF


def independent():
    """espmodel: python `cryptography`, every transform, every option"""
    verdicts, ivs = Verdicts(), set()
    for e in load(sys.argv[1]):
        entry = e.entry
        check = lambda good, text: verdicts.check(good, entry, e.number, text)
        esp = outer_payload(e, check)
        iv = esp[8 : 8 + m.ENCR[entry["encr"]][1]]
        check(esp[:4].hex() == entry["spi"], "SPI")
        check(struct.unpack("!I", esp[4:8])[0] == e.sequence & 0xFFFFFFFF, "sequence number")
        check(not iv or (entry["spi"], iv) not in ivs, "an IV came twice")
        ivs.add((entry["spi"], iv))
        # --generation 1, the default: no other owner can use these (RFC 6054).
        check(len(iv) != 8 or iv[:2] == b"\0\1", "generation in the IV")
        plain = m.unprotect(entry, esp, e.sequence)
        if plain is None:
            check(False, "ICV")
            continue
        pad, following = plain[-2], plain[-1]
        payload, padding = plain[: len(plain) - 2 - pad], plain[len(plain) - 2 - pad : -2]
        check(padding == bytes(range(1, pad + 1)), "padding")
        check(pad < m.ENCR[entry["encr"]][2], "more padding than needed")
        if e.inner is None:
            check(following == m.NONE, "a dummy has next header 59")
        else:
            contents(e, payload, following, check)
        verdicts.note(entry, BOTH)
    verdicts.leave()


def contents(e, payload, following, check):
    """the payload of a packet that is no dummy"""
    tfc = e.entry.get("tfc_bytes", 0)
    if e.entry["mode"] == "tunnel":
        check(following == (m.IPIP if e.inner[0] >> 4 == 4 else m.IPV6), "next header")
        check(payload[: len(e.inner)] == e.inner, "inner packet")
        check(payload[len(e.inner) :] == bytes(max(0, tfc - len(e.inner))), "TFC padding")
        check(class_of(e.octets) == class_of(e.inner), "DSCP and ECN of the outer header")
        return
    at, offset = capturefile.transport(e.inner)
    check(payload == e.inner[offset:], "payload")
    check(following == e.inner[at], "next header")
    inner, outer = bytearray(e.inner[:offset]), bytearray(e.octets[:offset])
    for side in (inner, outer):  # protocol, length, checksum
        side[at] = 0
        side[2:4] = b"\0\0" if side[0] >> 4 == 4 else side[2:4]
        side[10:12] = b"\0\0" if side[0] >> 4 == 4 else side[10:12]
        side[4:6] = b"\0\0" if side[0] >> 4 == 6 else side[4:6]
    check(inner == outer, "IP header of the transported packet")


SCAPY = {
    "AES_GCM_16": "AES-GCM",
    "AES_CCM_16": "AES-CCM",
    "AES_CCM_12": "AES-CCM",
    "AES_CCM_8": "AES-CCM",
    "CHACHA20_POLY1305": "CHACHA20-POLY1305",
    "AES_CBC": "AES-CBC",
    "AES_CTR": "AES-CTR",
    "NULL": "NULL",
    None: None,
    "HMAC_SHA1_96": "HMAC-SHA1-96",
    "HMAC_SHA2_256_128": "SHA2-256-128",
    "HMAC_SHA2_384_192": "SHA2-384-192",
    "HMAC_SHA2_512_256": "SHA2-512-256",
}


def scapy_cannot(e):
    """limits of scapy 2.5"""
    if e.entry["encr"] not in SCAPY:
        return "unknown"
    if e.entry["integ"] and e.entry["esn"]:
        return "leaves the high half out of the HMAC"
    if e.entry["mode"] == "transport" and e.entry["sport"] is not None and ":" in e.entry["src"]:
        return "leaves the UDP header in IPv6 transport"
    return "dummy" if e.inner is None else None


def scapy():
    from scapy.layers.inet import IP, UDP
    from scapy.layers.inet6 import IPv6
    from scapy.layers.ipsec import ESP, SecurityAssociation

    verdicts, known = Verdicts(), {}
    for e in load(sys.argv[1]):
        entry, reason = e.entry, scapy_cannot(e)
        if reason:
            verdicts.note(entry, reason)
            continue
        family = IPv6 if ":" in entry["src"] else IP
        if entry["spi"] not in known:
            tunnel = family(src=entry["src"], dst=entry["dst"]) if entry["mode"] == "tunnel" else None
            known[entry["spi"]] = SecurityAssociation(
                ESP,
                spi=int(entry["spi"], 16),
                crypt_algo=SCAPY[entry["encr"]],
                crypt_key=bytes.fromhex(entry["encr_key"] + entry["salt"]),
                crypt_icv_size=entry["icv_len"] if not entry["integ"] else None,
                auth_algo=SCAPY[entry["integ"]],
                auth_key=bytes.fromhex(entry["integ_key"]),
                tunnel_header=tunnel,
                nat_t_header=UDP(sport=4500, dport=4500) if entry["sport"] else None,
                esn_en=entry["esn"],
            )
        try:
            opened = known[entry["spi"]].decrypt(family(e.octets), esn=e.sequence >> 32)
            result = bytes(opened)
        except Exception as error:
            verdicts.check(False, entry, e.number, repr(error))
            continue
        size = len(e.inner)
        good = result[:size] == e.inner and not any(result[size:])
        if entry["mode"] == "transport" or not entry.get("tfc_bytes"):
            good = result == e.inner
        verdicts.check(good, entry, e.number, "inner packet")
        verdicts.note(entry, BOTH)
    verdicts.leave()


TSHARK = {
    "AES_GCM_16": "AES-GCM with 16 octet ICV [RFC4106]",
    "AES_GCM_12": "AES-GCM with 12 octet ICV [RFC4106]",
    "AES_GCM_8": "AES-GCM with 8 octet ICV [RFC4106]",
    "AES_CBC": "AES-CBC [RFC3602]",
    "AES_CTR": "AES-CTR [RFC3686]",
    "NULL": "NULL",
    None: "NULL",
    "HMAC_SHA1_96": "HMAC-SHA-1-96 [RFC2404]",
    "HMAC_SHA2_256_128": "HMAC-SHA-256-128 [RFC4868]",
    "HMAC_SHA2_384_192": "HMAC-SHA-384-192 [RFC4868]",
    "HMAC_SHA2_512_256": "HMAC-SHA-512-256 [RFC4868]",
}
FIELDS = ["frame.number", "esp.spi", "esp.sequence", "esp.icv_good", "esp.decrypted_data"]


def tshark_rows(folder, entries):
    """{frame: fields}"""
    # Its own configuration, so that nobody's preferences decide; there the table may be long, too.
    home = os.path.join(folder, "wireshark")
    os.makedirs(home)
    with open(os.path.join(home, "esp_sa"), "w", encoding="ascii") as file:
        for entry in entries:
            columns = ["IPv6" if ":" in entry["src"] else "IPv4", entry["src"], entry["dst"], "0x" + entry["spi"]]
            columns += [TSHARK[entry["encr"]], key(entry["encr_key"] + entry["salt"])]
            columns += [TSHARK[entry["integ"]], key(entry["integ_key"])]
            file.write(",".join('"%s"' % column for column in columns) + "\n")
    command = ["tshark", "-r", os.path.join(folder, "sealed.pcap"), "-T", "fields", "-E", "occurrence=f"]
    command += ["-o", "esp.enable_encryption_decode:TRUE", "-o", "esp.enable_authentication_check:TRUE"]
    command += ["-o", "ip.defragment:FALSE"]
    for field in FIELDS:
        command += ["-e", field]
    environment = dict(os.environ, WIRESHARK_CONFIG_DIR=home)
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    assert "UAT" not in done.stderr, done.stderr
    rows = [line.split("\t") for line in done.stdout.splitlines()]
    return {int(row[0]): row[1:] for row in rows}


def key(digits):
    return "0x" + digits if digits else ""


def tshark():
    verdicts, expected = Verdicts(), load(sys.argv[1])
    entries = {e.entry["spi"]: e.entry for e in expected if e.entry["encr"] in TSHARK}
    rows = tshark_rows(sys.argv[1], entries.values())
    for frame, e in enumerate(expected, 1):
        entry = e.entry
        if entry["encr"] not in TSHARK:
            verdicts.note(entry, "unknown")
            continue
        spi, sequence, good, data = rows[frame]
        check = lambda fine, text: verdicts.check(fine, entry, e.number, "frame %d: %s" % (frame, text))
        check(spi == "0x" + entry["spi"], "SPI " + spi)
        check(sequence == str(e.sequence & 0xFFFFFFFF), "sequence number " + sequence)
        tshark_contents(e, bytes.fromhex(data), check)
        if entry["esn"]:
            # Wireshark 4.0 does not know the high half, which is part of what the ICV covers.
            verdicts.note(entry, HALF + ", ICV with ESN unknown")
        else:
            check(good == "1", "ICV")
            verdicts.note(entry, BOTH)
    verdicts.leave()


def tshark_contents(e, data, check):
    """everything that was encrypted, down to the trailer"""
    if e.inner is None:
        check(data[-1:] == bytes([m.NONE]), "next header of a dummy")
        return
    payload, following = e.inner, m.IPIP if e.inner[0] >> 4 == 4 else m.IPV6
    if e.entry["mode"] == "transport":
        at, offset = capturefile.transport(payload)
        following, payload = payload[at], payload[offset:]
    payload += bytes(max(0, e.entry.get("tfc_bytes", 0) - len(payload)))
    check(data == payload + m.trailer(e.entry["encr"], len(payload), following), "decrypted octets")


if __name__ == "__main__":
    {"independent": independent, "scapy": scapy, "tshark": tshark}[sys.argv[2]]()
