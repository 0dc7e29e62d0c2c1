"""Writes the published packets (data/*.ini) as JSON, after checking every one of them:
rfc3602.json, rfc7634.json, gcm-esp.json, dpdk-esp.json, linux-esp.json."""

import configparser
import os

import espmodel as m

DATA = os.path.join(os.path.dirname(os.path.abspath(__file__)), "data")


def read(name):
    parser = configparser.ConfigParser(interpolation=None)
    with open(os.path.join(DATA, name), encoding="ascii") as file:
        parser.read_file(file)
    return {s: {k: raw_value(k, v) for k, v in parser[s].items()} for s in parser.sections()}


def raw_value(key, value):
    return value if key in ("mode", "encr", "integ", "kernel") else "".join(value.split())


def association(encr, key, salt, spi, mode, outer=None, integ=None, integ_key="", esn=False):
    src, dst = "192.0.2.1", "198.51.100.7"
    if outer:
        packet = bytes.fromhex(outer)
        width, at = (4, 12) if packet[0] >> 4 == 4 else (16, 8)
        src, dst = (str(m.ipaddress.ip_address(packet[i : i + width])) for i in (at, at + width))
    icv = m.INTEG[integ][2] if integ else m.ENCR[encr][3]
    return {
        "spi": spi,
        "src": src,
        "dst": dst,
        "sport": None,
        "dport": None,
        "mode": mode,
        "encr": encr,
        "key_bits": 4 * len(key),
        "encr_key": key,
        "salt": salt,
        "integ": integ,
        "integ_key": integ_key,
        "icv_len": icv,
        "esn": esn,
    }


def esp_of(outer):
    """the ESP part; the outer header must be right"""
    packet = bytes.fromhex(outer)
    if packet[0] >> 4 == 4:
        assert m.checksum(packet[:20]) == 0 and packet[0] == 0x45 and packet[9] == m.ESP
        assert int.from_bytes(packet[2:4], "big") == len(packet)
        return packet[20:]
    assert packet[6] == m.ESP and int.from_bytes(packet[4:6], "big") == len(packet) - 40
    return packet[40:]


def finish(name, a, sequence, esp, packet, payload, next_header, **more):
    """opens and seals with the model; "seal" is left out where the padding is not the shortest"""
    assert esp[:4].hex() == a["spi"] and int.from_bytes(esp[4:8], "big") == sequence & 0xFFFFFFFF
    plaintext = m.unprotect(a, esp, sequence)
    assert plaintext is not None, name
    size = plaintext[-2]
    assert plaintext[-2 - size : -2] == bytes(range(1, size + 1)) and plaintext[-1] == next_header, name
    assert plaintext[: -2 - size] == payload, name
    iv = esp[8 : 8 + m.ENCR[a["encr"]][1]]
    check = ["open", "seal"] if m.seal(a, sequence, iv, payload, next_header) == esp else ["open"]
    case = {"name": name, "association": a, "sequence": sequence, "iv": iv.hex()}
    case.update(packet)
    return {**case, "check": check, "result": "accepted", **more}


def rfc3602():
    cases = []
    for name, d in read("rfc3602.ini").items():
        esp = esp_of(d["outer"])
        a = association("AES_CBC", d["key"], "", esp[:4].hex(), d["mode"], d["outer"])
        inner = bytes.fromhex(d["inner"])
        payload, following = (inner, m.IPIP) if d["mode"] == "tunnel" else (inner[20:], inner[9])
        packet = {"outer": d["outer"], "inner": d["inner"]}
        sequence = int.from_bytes(esp[4:8], "big")
        cases.append(finish(name, a, sequence, esp, packet, payload, following, encryption_only=True))
    m.write("rfc3602.json", "spindle-esp-1", "RFC 3602, section 4, cases 5 to 8 (no ICV)", cases)


def rfc7634():
    d = read("rfc7634.ini")["esp"]
    esp = esp_of(d["outer"])
    a = association("CHACHA20_POLY1305", d["keymat"][:64], d["keymat"][64:], esp[:4].hex(), "tunnel", d["outer"])
    packet = {"outer": d["outer"], "inner": d["inner"]}
    case = finish("appendix-a", a, 5, esp, packet, bytes.fromhex(d["inner"]), m.IPIP)
    assert case["iv"] == d["iv"]
    m.write("rfc7634.json", "spindle-esp-1", "RFC 7634, appendix A", [case])


def gcm_draft():
    cases = []
    for name, d in read("gcm-draft.ini").items():
        encr = "AES_GMAC" if name.startswith("gmac") else "AES_GCM_16"
        esn = len(d["sequence"]) == 16
        a = association(encr, d["key"], d["nonce"][:8], d["spi"], "transport", esn=esn)
        plaintext = bytes.fromhex(d["plaintext"])
        sealed = d["sealed"] if encr != "AES_GMAC" else d["plaintext"] + d["sealed"]
        esp = d["spi"] + d["sequence"][-8:] + d["nonce"][8:] + sealed
        payload = plaintext[: len(plaintext) - 2 - plaintext[-2]]
        packet = {"esp": esp, "payload": payload.hex(), "next_header": plaintext[-1]}
        sequence = int(d["sequence"], 16)
        cases.append(finish(name, a, sequence, bytes.fromhex(esp), packet, payload, plaintext[-1]))
    m.write("gcm-esp.json", "spindle-esp-1", "draft-mcgrew-gcm-test-01: AES-GCM cases 1 to 14 and AES-GMAC", cases)


def dpdk():
    cases = []
    for name, d in read("dpdk.ini").items():
        esp = esp_of(d["outer"])
        more = {"integ": d.get("integ"), "integ_key": d.get("integ_key", "")}
        a = association(d["encr"], d["key"], d.get("salt", ""), esp[:4].hex(), "tunnel", d["outer"], **more)
        inner = bytes.fromhex(d["inner"])
        packet = {"outer": d["outer"], "inner": d["inner"]}
        cases.append(finish(name, a, 1, esp, packet, inner, m.tunnel_next_header(inner)))
        assert cases[-1]["iv"] == d["iv"]
    source = "DPDK/dpdk app/test/test_cryptodev_security_ipsec_test_vectors.h (BSD-3-Clause)"
    m.write("dpdk-esp.json", "spindle-esp-1", source, cases)


def linux():
    cases = []
    for name, d in read("scapy-kernel.ini").items():
        key, salt = d["keymat"][:32], d["keymat"][32:]
        assert len(salt) == 2 * m.ENCR[d["encr"]][0]
        esn = "high" in d
        a = association(d["encr"], key, salt, "00000222", "tunnel", esn=esn)
        a.update({"src": "10.125.0.2", "dst": "10.125.0.1"})
        sequence = int(d["sequence"]) | int(d.get("high", "0")) << 32
        esp = bytes.fromhex(a["spi"] + "%08x" % (sequence & 0xFFFFFFFF) + d["esp"])
        plaintext = m.unprotect(a, esp, sequence)
        inner = plaintext[: -2 - plaintext[-2]]
        assert m.checksum(inner[:20]) == 0 and m.checksum(inner[20:]) == 0 and inner[9] == m.ICMP
        more = {"encryption_only": True} if not a["icv_len"] else {}
        packet = {"esp": esp.hex(), "inner": inner.hex()}
        cases.append(finish("linux-" + name, a, sequence, esp, packet, inner, m.IPIP, **more))
    source = "packets of Linux's kernel recorded in secdev/scapy test/scapy/layers/ipsec.uts (GPL-2.0; numbers only)"
    m.write("linux-esp.json", "spindle-esp-1", source, cases)


if __name__ == "__main__":
    rfc3602()
    rfc7634()
    gcm_draft()
    dpdk()
    linux()
