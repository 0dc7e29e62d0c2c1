"""Writes ikev2-keys.json from captures/ (nonces out of the IKE_SA_INIT frames, every key derived again and compared:
RFC 7296, 2.13, 2.14, 2.17) and ikev2-keys-generated.json (seeded: more PRFs and suites, PFS, IKE SA rekeys)."""

import glob
import hmac
import json
import os
import struct

import espmodel as m

FORM = "spindle-ikev2-keys-1"
PRF = {"PRF_HMAC_SHA1": "sha1", "PRF_HMAC_SHA2_256": "sha256", "PRF_HMAC_SHA2_384": "sha384", "PRF_HMAC_SHA2_512": "sha512"}


def prf(name, key, data):
    return hmac.new(key, data, PRF[name]).digest()


def prf_plus(name, key, seed, size):
    result, last, counter = b"", b"", 1
    while len(result) < size:
        last = prf(name, key, last + seed + bytes([counter]))
        result, counter = result + last, counter + 1
    return result[:size]


def split(data, sizes):
    parts = []
    for size in sizes:
        parts.append(data[:size])
        data = data[size:]
    return parts


def integ_size(integ):
    return m.INTEG[integ][1] if integ else 0


def ike_keys(name, encr, bits, integ, ni, nr, spi_i, spi_r, secret, old=None):
    """SKEYSEED and the SK_ keys in hex; `old` is the PRF and SK_d of the IKE SA that is rekeyed"""
    skeyseed = prf(old[0], old[1], secret + ni + nr) if old else prf(name, ni + nr, secret)
    size = m.hashlib.new(PRF[name]).digest_size
    auth, cipher = integ_size(integ), bits // 8 + m.ENCR[encr][0]
    sizes = [size, auth, auth, cipher, cipher, size, size]
    parts = split(prf_plus(name, skeyseed, ni + nr + spi_i + spi_r, sum(sizes)), sizes)
    names = ("sk_d", "sk_ai", "sk_ar", "sk_ei", "sk_er", "sk_pi", "sk_pr")
    return {"skeyseed": skeyseed.hex(), **{n: p.hex() for n, p in zip(names, parts)}}


def child_keys(name, sk_d, encr, bits, integ, seed, secret):
    key, salt, auth = bits // 8, m.ENCR[encr][0], integ_size(integ)
    sizes = [key, salt, auth] * 2
    parts = split(prf_plus(name, sk_d, (secret or b"") + seed, sum(sizes)), sizes)
    ends = ("initiator", "responder")
    names = [f"{end}_{part}" for end in ends for part in ("encr_key", "salt", "integ_key")]
    head = {"encr": encr, "key_bits": bits, "salt_bytes": salt, "integ": integ, "seed": seed.hex()}
    head["shared_secret"] = secret.hex() if secret is not None else None
    return {**head, **{n: p.hex() for n, p in zip(names, parts)}}


def ike_datagrams(path):
    """IKE messages of a little-endian Ethernet pcap"""
    with open(path, "rb") as file:
        data = file.read()
    assert data[:4] == b"\xd4\xc3\xb2\xa1" and data[20:24] == b"\1\0\0\0"
    at = 24
    while at < len(data):
        size = struct.unpack("<I", data[at + 8 : at + 12])[0]
        frame, at = data[at + 16 : at + 16 + size], at + 16 + size
        if frame[12:14] != b"\x08\x00" or frame[23] != m.UDP:
            continue
        segment = frame[14 + 4 * (frame[14] & 15) :]
        ports, message = set(struct.unpack("!HH", segment[:4])), segment[8 : struct.unpack("!H", segment[4:6])[0]]
        if 4500 in ports and message[:4] == bytes(4):
            message = message[4:]
        elif 500 not in ports:
            continue
        yield message


def payloads(message):
    found, kind, at = {}, message[16], 28
    while kind and at + 4 <= len(message) and kind not in (46, 53):
        following, size = message[at], struct.unpack("!H", message[at + 2 : at + 4])[0]
        found[kind] = message[at + 4 : at + size]
        kind, at = following, at + size
    return found


def nonces(path, spi_i, spi_r):
    """Ni and Nr of the IKE_SA_INIT exchange of that IKE SA: the last request before the response with both SPIs"""
    ni = None
    for message in ike_datagrams(path):
        found = payloads(message)
        if message[18] != 34 or message[:8] != spi_i or 40 not in found:
            continue
        if not message[19] & 0x20:
            ni = found[40]
        elif message[8:16] == spi_r:
            return ni, found[40]
    raise ValueError(path)


def from_capture(path):
    with open(path, encoding="utf-8") as file:
        capture = json.load(file)
    if not capture["ike"]:
        return None
    (ike,) = capture["ike"]
    spi_i, spi_r = bytes.fromhex(ike["spi_i"]), bytes.fromhex(ike["spi_r"])
    ni, nr = nonces(os.path.join(os.path.dirname(path), capture["pcap"]), spi_i, spi_r)
    secret = bytes.fromhex(ike["ke_shared_secret"])
    keys = ike_keys(ike["prf"], ike["encr"], ike["key_bits"], ike["integ"], ni, nr, spi_i, spi_r, secret)
    for name, value in keys.items():
        assert ike.get(name, "") == value, (path, name)
    children = []
    for first in capture["esp"]:
        if first["direction"][0] != first["exchange_initiator"]:
            continue
        (second,) = [e for e in capture["esp"] if e["seed_ni_nr"] == first["seed_ni_nr"] and e is not first]
        seed = bytes.fromhex(first["seed_ni_nr"])
        pfs = bytes.fromhex(first["ke_shared_secret"]) if first["ke_shared_secret"] else None
        kind = (first["encr"], first["key_bits"], first["integ"])
        child = child_keys(ike["prf"], bytes.fromhex(keys["sk_d"]), *kind, seed, pfs)
        for end, sa in (("initiator", first), ("responder", second)):
            for part in ("encr_key", "salt", "integ_key"):
                assert child[f"{end}_{part}"] == sa[part], (path, sa["spi"], part)
        children.append(child)
    assert 2 * len(children) == len(capture["esp"]) and bytes.fromhex(children[0]["seed"]) == ni + nr
    suite = (ike["prf"], ike["encr"], ike["key_bits"], ike["integ"])
    return case_of(capture["name"], *suite, ni, nr, spi_i, spi_r, secret, keys, children)


def case_of(name, prf_name, encr, bits, integ, ni, nr, spi_i, spi_r, secret, keys, children):
    head = {"name": name, "prf": prf_name, "encr": encr, "key_bits": bits, "integ": integ, "ni": ni.hex(), "nr": nr.hex()}
    head.update({"spi_i": spi_i.hex(), "spi_r": spi_r.hex(), "shared_secret": secret.hex()})
    return {**head, **keys, "children": children}


def generated():
    cases, suites = [], [t for t in m.TRANSFORMS if t[0] not in ("AES_GMAC", "NULL")]
    for index, prf_name in enumerate(PRF):
        old = None
        for number in range(10):
            label = f"{prf_name.lower()}/{number}"
            encr, bits, integ = suites[(index * 10 + number) % len(suites)]
            ni = m.stream(label + "/ni", (16, 32, 64, 256, 20)[number % 5])
            nr = m.stream(label + "/nr", (32, 16, 64, 128, 33)[number % 5])
            spi_i, spi_r = m.stream(label + "/spi-i", 8), m.stream(label + "/spi-r", 8)
            secret = m.stream(label + "/secret", (32, 48, 66, 256, 384)[(number + index) % 5])
            more = {"rekeyed_prf": old[0], "rekeyed_sk_d": old[1].hex()} if old and number % 2 else {}
            keys = ike_keys(prf_name, encr, bits, integ, ni, nr, spi_i, spi_r, secret, old if more else None)
            sk_d, children = bytes.fromhex(keys["sk_d"]), []
            for child in range(3):
                kind = m.TRANSFORMS[(number * 3 + child + index * 13) % len(m.TRANSFORMS)]
                seed = ni + nr if child == 0 else m.stream(f"{label}/seed-{child}", 64)
                pfs = m.stream(f"{label}/pfs-{child}", 32 if number % 2 else 256) if child == 2 else None
                children.append(child_keys(prf_name, sk_d, *kind, seed, pfs))
            case = case_of(label, prf_name, encr, bits, integ, ni, nr, spi_i, spi_r, secret, keys, children)
            cases.append({**case, **more})
            old = (prf_name, sk_d)
    m.write("ikev2-keys-generated.json", FORM, "vectors/generators/ikev2_keys.py", cases)


if __name__ == "__main__":
    paths = sorted(glob.glob(os.path.join(m.ROOT, "captures", "*.json")))
    captured = [from_capture(path) for path in paths if not path.endswith(".verify.json")]
    m.write("ikev2-keys.json", FORM, "vectors/captures, by vectors/generators/ikev2_keys.py", [c for c in captured if c])
    generated()
