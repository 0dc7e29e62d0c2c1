"""Writes ike-messages/: captures.json (every IKE message of captures/, opened and compared with what NAME.verify.json says),
generated.json (every payload and suite, and fragments) and refused.json (messages that are wrong in one place, or by
chance).  Reads and writes messages by RFC 7296, section 3, and RFC 7383, with code of its own."""

import glob
import json
import os
import struct

import espmodel as m
import ikev2_keys

FORM = "spindle-ike-messages-1"
NAMES = {33: "SA", 34: "KE", 35: "IDi", 36: "IDr", 37: "CERT", 38: "CERTREQ", 39: "AUTH", 40: "No", 42: "D", 43: "V"}
NAMES.update({44: "TSi", 45: "TSr", 47: "CP", 48: "EAP"})
SUITES = [t for t in m.TRANSFORMS if t[0] not in ("AES_GMAC", "AES_CTR", "NULL")]
FAMILIES = [("AES_GCM_16", 256, None), ("AES_CCM_8", 128, None), ("CHACHA20_POLY1305", 256, None)]
FAMILIES.append(("AES_CBC", 128, "HMAC_SHA2_256_128"))
SPI_I, SPI_R = m.stream("ike/spi-i", 8), m.stream("ike/spi-r", 8)


class Fault(Exception):
    pass


# Reading


class Cursor:
    def __init__(self, data):
        self.data, self.at = data, 0

    @property
    def left(self):
        return len(self.data) - self.at

    def take(self, count, fault):
        if count < 0 or count > self.left:
            raise Fault(fault)
        self.at += count
        return self.data[self.at - count : self.at]

    def number(self, size, fault):
        return int.from_bytes(self.take(size, fault), "big")


def require(condition, fault):
    if not condition:
        raise Fault(fault)


def transform(body):
    follower, _, size = struct.unpack("!BBH", body.take(4, "transformLength"))
    inner = Cursor(body.take(size - 4, "transformLength"))
    require(follower == (3 if body.left else 0), "lastSubstructure")
    inner.take(4, "transformLength")
    while inner.left:
        kind, value = inner.number(2, "attributeLength"), inner.number(2, "attributeLength")
        if not kind & 0x8000:
            inner.take(value, "attributeLength")


def association(body):
    require(body.left, "proposalCount")
    count = 0
    while body.left:
        count += 1
        require(count <= 255, "proposalCount")
        follower, _, size = struct.unpack("!BBH", body.take(4, "proposalLength"))
        inner = Cursor(body.take(size - 4, "proposalLength"))
        require(follower == (2 if body.left else 0), "lastSubstructure")
        _, protocol, spi = inner.take(3, "proposalLength")
        require(spi in {1: (0, 8), 2: (4,), 3: (4,)}.get(protocol, range(256)), "spiSize")
        wanted = inner.number(1, "proposalLength")
        inner.take(spi, "spiSize")
        while inner.left:
            require(wanted, "transformCount")
            wanted -= 1
            transform(inner)
        require(not wanted, "transformCount")


def selectors(body):
    count = body.number(1, "payloadBody")
    body.take(3, "payloadBody")
    require(count, "selectorCount")
    while body.left:
        require(count, "selectorCount")
        count -= 1
        kind, _, size = struct.unpack("!BBH", body.take(4, "selectorLength"))
        inner = body.take(size - 4, "selectorLength")
        if kind not in (7, 8):
            continue
        width = 4 if kind == 7 else 16
        require(len(inner) == 4 + 2 * width, "selectorLength")
        low, high = struct.unpack("!HH", inner[:4])
        require(inner[4 : 4 + width] <= inner[4 + width :], "selectorRange")
        require(low <= high or (low, high) == (65535, 0), "selectorRange")
    require(not count, "selectorCount")


def delete(body):
    protocol, size = body.number(1, "payloadBody"), body.number(1, "payloadBody")
    count = body.number(2, "payloadBody")
    require(size == {1: 0, 2: 4, 3: 4}.get(protocol, size), "spiSize")
    require(body.left == size * count and (size or not count), "spiCount")


def configuration(body):
    kind = body.number(1, "payloadBody")
    body.take(3, "payloadBody")
    require(1 <= kind <= 4, "configurationType")
    while body.left:
        body.take(2, "attributeLength")
        body.take(body.number(2, "attributeLength"), "attributeLength")


def payload(kind, critical, body):
    """the payload's name"""
    if kind == 33:
        association(body)
    elif kind in (34, 39):
        body.take(4, "payloadBody")
    elif kind in (35, 36):
        size = {1: 4, 5: 16}.get(body.take(4, "payloadBody")[0], body.left)
        require(body.left == size, "identityLength")
    elif kind in (37, 38):
        body.take(1, "payloadBody")
    elif kind == 40:
        require(16 <= body.left <= 256, "nonceLength")
    elif kind == 41:
        _, spi, what = struct.unpack("!BBH", body.take(4, "payloadBody"))
        body.take(spi, "spiSize")
        return "N(%d)" % what
    elif kind == 42:
        delete(body)
    elif kind in (44, 45):
        selectors(body)
    elif kind == 47:
        configuration(body)
    elif kind not in (43, 48):
        require(not critical, "unsupportedCriticalPayload")
    return NAMES.get(kind, str(kind))


def chain(kind, data):
    """the names of payloads, and (fragment, first type, where its IV begins) of an Encrypted one"""
    body, names = Cursor(data), []
    while kind:
        require(len(names) < 64, "payloadCount")
        following, flags, size = struct.unpack("!BBH", body.take(4, "payloadLength"))
        inner = Cursor(body.take(size - 4, "payloadLength"))
        if kind in (46, 53):
            part = None
            if kind == 53:
                part = (inner.number(2, "fragmentNumber"), inner.number(2, "fragmentNumber"))
                require(0 < part[0] <= part[1], "fragmentNumber")
            require(not body.left, "encryptedPayload")
            return names, (part, following, body.at - inner.left)
        names.append(payload(kind, flags & 0x80, inner))
        kind = following
    require(not body.left, "chainEnd")
    return names, None


def read(message):
    require(len(message) >= 28, "header")
    require(message[17] >> 4 == 2, "majorVersion")
    require(any(message[:8]), "initiatorSPI")
    require(struct.unpack("!I", message[24:28])[0] == len(message) <= 65535, "messageLength")
    names, sealed = chain(message[16], message[28:])
    return names, sealed and (sealed[0], sealed[1], sealed[2] + 28)


def open_sealed(keys, message, start):
    """IV, content and padding"""
    size, icv = m.ENCR[keys["encr"]][1], icv_bytes(keys)
    iv, text, tag = message[start : start + size], message[start + size : len(message) - icv], message[-icv:]
    block = 16 if keys["encr"] == "AES_CBC" else 1
    require(len(message) - icv > start + size and len(text) % block == 0, "length")
    plain = decrypt(keys, message[:start], iv, text, tag)
    require(plain is not None, "integrity")
    require(plain[-1] < len(plain), "padding")
    end = len(plain) - 1 - plain[-1]
    return iv, plain[:end], plain[end:-1]


def icv_bytes(keys):
    return m.INTEG[keys["integ"]][2] if keys["integ"] else m.ENCR[keys["encr"]][3]


def parts(keys):
    size = keys["key_bits"] // 8
    key = bytes.fromhex(keys["encr_key"])
    return key[:size], key[size:]


def decrypt(keys, aad, iv, text, tag):
    key, salt = parts(keys)
    encr = keys["encr"]
    try:
        if encr.startswith("AES_GCM"):
            context = m.Cipher(m.algorithms.AES(key), m.modes.GCM(salt + iv, tag, min_tag_length=8)).decryptor()
            context.authenticate_additional_data(aad)
            return context.update(text) + context.finalize()
        if encr.startswith("AES_CCM"):
            return m.AESCCM(key, tag_length=len(tag)).decrypt(salt + iv, text + tag, aad)
        if encr == "CHACHA20_POLY1305":
            return m.ChaCha20Poly1305(key).decrypt(salt + iv, text + tag, aad)
    except m.InvalidTag:
        return None
    if checksum(keys, aad + iv + text) != tag:
        return None
    return m.cipher({"encr": encr}, key, salt, iv, text, False)


def checksum(keys, data):
    return m.hmac_of({**keys, "icv_len": icv_bytes(keys)}, data)


# Writing


def message(first, body, exchange=35, flags=0x08, number=1, version=0x20):
    head = SPI_I + (SPI_R if exchange != 34 else bytes(8)) + bytes([first, version, exchange, flags])
    return head + struct.pack("!II", number, 28 + len(body)) + body


def joined(payloads):
    """the chain of [(type, body), …] or [(type, body, flags), …]"""
    kinds = [p[0] for p in payloads[1:]] + [0]
    return b"".join(
        struct.pack("!BBH", kind, p[2] if len(p) > 2 else 0, 4 + len(p[1])) + p[1] for kind, p in zip(kinds, payloads)
    )


def clear(payloads, **more):
    return message(payloads[0][0] if payloads else 0, joined(payloads), **more)


def sealed(keys, content, first, iv, part=None, padding=None, **more):
    block = 16 if keys["encr"] == "AES_CBC" else 1
    if padding is None:
        padding = bytes(-(len(content) + 1) % block)
    plain = content + padding + bytes([len(padding)])
    return sealed_plain(keys, plain, first, iv, part, **more)


def sealed_plain(keys, plain, first, iv, part=None, before=b"", **more):
    position = struct.pack("!HH", *part) if part else b""
    size = 4 + len(position) + len(iv) + len(plain) + icv_bytes(keys)
    kind = 53 if part else 46
    ahead = struct.pack("!BBH", kind, 0, 4 + len(before)) + before if before else b""
    head = ahead + struct.pack("!BBH", first, 0, size) + position
    whole = message(43 if before else kind, head + bytes(size - 4 - len(position)), **more)
    aad, (key, salt), encr = whole[: 28 + len(head)], parts(keys), keys["encr"]
    if encr.startswith("AES_GCM"):
        text = m.AESGCM(key).encrypt(salt + iv, plain, aad)[: len(plain) + icv_bytes(keys)]
    elif encr.startswith("AES_CCM"):
        text = m.AESCCM(key, tag_length=icv_bytes(keys)).encrypt(salt + iv, plain, aad)
    elif encr == "CHACHA20_POLY1305":
        text = m.ChaCha20Poly1305(key).encrypt(salt + iv, plain, aad)
    else:
        text = m.cipher({"encr": encr}, key, salt, iv, plain, True)
        text += checksum(keys, aad + iv + text)
    return aad + iv + text


def substructures(items, more):
    return b"".join(
        struct.pack("!BBH", more if i + 1 < len(items) else 0, 0, 4 + len(item)) + item for i, item in enumerate(items)
    )


def proposal(number, protocol, spi, transforms):
    bodies = [
        struct.pack("!BBH", kind, 0, ident) + (struct.pack("!HH", 0x800E, bits) if bits else b"")
        for kind, ident, bits in transforms
    ]
    return bytes([number, protocol, len(spi), len(transforms)]) + spi + substructures(bodies, 3)


def ts4(first, last, protocol=0, low=0, high=65535):
    return struct.pack("!BBHHH", 7, protocol, 16, low, high) + m.address(first) + m.address(last)


def ts6(first, last, protocol=0, low=0, high=65535):
    return struct.pack("!BBHHH", 8, protocol, 40, low, high) + m.address(first) + m.address(last)


def notify(kind, data=b"", protocol=0, spi=b""):
    return (41, struct.pack("!BBH", protocol, len(spi), kind) + spi + data)


def attribute(kind, value=b""):
    return struct.pack("!HH", kind, len(value)) + value


IKE = [(1, 20, 256), (1, 12, 128), (2, 5, 0), (3, 12, 0), (4, 31, 0), (4, 19, 0)]
CHILD = [(1, 20, 256), (5, 0, 0), (5, 1, 0)]
SPI = m.stream("ike/child-spi", 4)
PAYLOADS = {
    "sa-ike": (33, substructures([proposal(1, 1, b"", IKE)], 2)),
    "sa-rekey": (33, substructures([proposal(1, 1, m.stream("ike/new-spi", 8), IKE)], 2)),
    "sa-child": (33, substructures([proposal(1, 3, SPI, CHILD), proposal(2, 3, SPI, CHILD[:2])], 2)),
    "sa-unknown": (33, substructures([proposal(1, 200, b"\1\2", [(9, 77, 0)])], 2)),
    "ke": (34, struct.pack("!HH", 31, 0) + m.stream("ike/ke", 32)),
    "idi-v4": (35, bytes([1, 0, 0, 0]) + m.address("192.0.2.1")),
    "idi-fqdn": (35, bytes([2, 0, 0, 0]) + b"gw.example.org"),
    "idi-reserved": (35, bytes([2, 1, 2, 3]) + b"gw.example.org"),
    "idi-email": (35, bytes([3, 0, 0, 0]) + b"user@example.org"),
    "idi-not-text": (35, bytes([2, 0, 0, 0]) + b"gw\0\xff\xfe"),
    "idr-v6": (36, bytes([5, 0, 0, 0]) + m.address("2001:db8::1")),
    "idr-dn": (36, bytes([9, 0, 0, 0]) + bytes.fromhex("300d310b3009060355040613024348")),
    "idr-key-id": (36, bytes([11, 0, 0, 0]) + m.stream("ike/key-id", 9)),
    "idr-other": (36, bytes([201, 0, 0, 0]) + b"?"),
    "cert": (37, b"\4" + m.stream("ike/cert", 600)),
    "certreq": (38, b"\4" + m.stream("ike/certreq", 40)),
    "auth": (39, bytes([2, 0, 0, 0]) + m.stream("ike/auth", 32)),
    "nonce": (40, m.stream("ike/nonce", 32)),
    "nonce-16": (40, m.stream("ike/nonce", 16)),
    "nonce-256": (40, m.stream("ike/nonce", 256)),
    "notify": notify(16388, m.stream("ike/nat", 20)),
    "notify-spi": notify(16393, b"", 3, SPI),
    "notify-unknown": notify(40123, b"\1\2\3", 77, b"\1\2\3\4\5\6\7"),
    "delete-ike": (42, bytes([1, 0, 0, 0])),
    "delete-esp": (42, bytes([3, 4, 0, 2]) + m.stream("ike/gone", 8)),
    "vendor-id": (43, b"vendor"),
    "tsi": (44, bytes([2, 0, 0, 0]) + ts4("10.1.0.0", "10.1.255.255") + ts4("10.2.0.1", "10.2.0.1", 17, 53, 53)),
    "tsr": (45, bytes([1, 0, 0, 0]) + ts6("fd00::", "fd00::ffff", 58, 0x8000, 0x80FF)),
    "ts-opaque": (45, bytes([1, 0, 0, 0]) + ts4("10.1.0.0", "10.1.255.255", 17, 65535, 0)),
    "ts-unknown": (44, bytes([2, 0, 0, 0]) + ts4("10.1.0.0", "10.1.0.0") + b"\x0a\0\0\7abc"),
    "cp": (47, bytes([1, 0, 0, 0]) + attribute(1) + attribute(3) + attribute(8) + attribute(10) + attribute(14)),
    "cp-reply": (47, bytes([2, 0, 0, 0]) + attribute(1, m.address("10.9.0.7")) + attribute(13, bytes([10, 9, 0, 0, 255, 255, 0, 0]))),
    "eap": (48, bytes([1, 7, 0, 5, 1])),
    "unknown": (200, b"skipped"),
    "empty-unknown": (201, b""),
}


def keys_for(label, suite):
    encr, bits, integ = suite
    size = bits // 8 + m.ENCR[encr][0]
    key, auth = m.stream(label + "/key", size), m.stream(label + "/auth", m.INTEG[integ][1]) if integ else b""
    return {"encr": encr, "key_bits": bits, "integ": integ, "encr_key": key.hex(), "integ_key": auth.hex()}


def case_of(name, messages, keys, result, **more):
    result = {"payloads": result} if isinstance(result, list) else {"fault": result}
    return {"name": name, "messages": [x.hex() for x in messages], **(keys or {}), **result, **more}


def captured(path):
    """every message of one capture, compared with what NAME.verify.json says"""
    with open(path, encoding="utf-8") as file:
        capture = json.load(file)
    with open(path[:-5] + ".verify.json", encoding="utf-8") as file:
        expected = iter(json.load(file)["ike"])
    if not capture["ike"]:
        return
    (ike,) = capture["ike"]
    pcap = os.path.join(os.path.dirname(path), capture["pcap"])
    for number, whole in enumerate(ikev2_keys.ike_datagrams(pcap), 1):
        name, keys, check, more = f"{capture['name']}/{number}", None, ["encode"], {}
        names, part = read(whole)
        if part:
            side = "i" if whole[19] & 8 else "r"
            keys = {k: ike[k] for k in ("encr", "key_bits", "integ")}
            keys.update({"encr_key": ike["sk_e" + side], "integ_key": ike.get("sk_a" + side) or ""})
            iv, content, padding = open_sealed(keys, whole, part[2])
            names, _ = chain(part[1], content)
            block = 16 if ike["encr"] == "AES_CBC" else 1
            if padding == bytes(-(len(content) + 1) % block):
                check.append("seal")
            more = {"content": content.hex(), "iv": iv.hex()}
        assert names == next(expected)["payloads"], name
        yield case_of(name, [whole], keys, names, check=check, **more)
    assert next(expected, None) is None


def generated():
    for name, item in PAYLOADS.items():
        whole = clear([item], exchange=34)
        yield case_of("clear/" + name, [whole], None, read(whole)[0], check=["encode"])
    every = list(PAYLOADS.values())
    yield case_of("clear/all", [clear(every)], None, read(clear(every))[0], check=["encode"])
    yield case_of("clear/none", [clear([])], None, [], check=["encode"])
    loose = {
        "critical-known": clear([(40, bytes(32), 0x80)]),
        "reserved-flags": clear([(40, bytes(32), 0x7F)]),
        "minor-version": clear([PAYLOADS["nonce"]], version=0x2F),
        "flags": clear([PAYLOADS["nonce"]], flags=0xFF),
        "unknown-attribute": clear([(33, substructures([bytes([1, 1, 0, 1]) + substructures([b"\1\0\0\x0c\x80\x0e\0\x80\0\x63\0\2xy"], 3)], 2))]),
        "key-length-twice": clear([(33, substructures([bytes([1, 1, 0, 1]) + substructures([b"\1\0\0\x0c" + b"\x80\x0e\0\x80" * 2], 3)], 2))]),
    }
    for name, whole in loose.items():
        exact = name in ("flags", "unknown-attribute", "key-length-twice")
        yield case_of("loose/" + name, [whole], None, read(whole)[0], check=["encode"] if exact else [])
    for suite in SUITES:
        label = m.short_name(suite)
        keys = keys_for("ike/" + label, suite)
        iv = m.stream(label + "/iv", m.ENCR[suite[0]][1])
        some = [PAYLOADS[name] for name in ("idi-fqdn", "auth", "sa-child", "tsi", "tsr")]
        for name, items in (("some", some), ("none", []), ("one", [PAYLOADS["delete-esp"]])):
            content, first = joined(items), items[0][0] if items else 0
            whole = sealed(keys, content, first, iv, exchange=37, flags=0x20, number=7)
            names, _ = chain(first, content)
            yield case_of(f"{label}/{name}", [whole], keys, names, content=content.hex(), iv=iv.hex(), check=["encode", "seal"])
        padded = sealed(keys, content, first, iv, padding=b"\xa5" * (255 - len(content) % 16))
        yield case_of(f"{label}/padded", [padded], keys, names, content=content.hex(), iv=iv.hex(), check=["encode"])
        # Authenticated beside an Encrypted payload, but without meaning.
        beside = sealed(keys, content, first, iv, before=b"vendor")
        yield case_of(f"{label}/beside-clear", [beside], keys, names, content=content.hex(), iv=iv.hex(), check=[])
        if suite in FAMILIES:
            content, first = joined(every), every[0][0]
            yield from fragmented(label, keys, content, first, chain(first, content)[0])


def fragmented(label, keys, content, first, names):
    size = m.ENCR[keys["encr"]][1]
    maximum = m.number(label + "/maximum", 200, 700)
    room = maximum - 28 - 8 - size - icv_bytes(keys)
    piece = (room - room % 16 if keys["encr"] == "AES_CBC" else room) - 1
    pieces = [content[at : at + piece] for at in range(0, len(content), piece)]
    messages = []
    for index, part in enumerate(pieces):
        position, iv = (index + 1, len(pieces)), (index + 5).to_bytes(size, "big")
        messages.append(sealed(keys, part, first if index == 0 else 0, iv, part=position, exchange=35))
    iv = (5).to_bytes(size, "big").hex()
    more = {"content": content.hex(), "iv": iv, "length_maximum": maximum, "check": ["encode", "seal"]}
    yield case_of(f"{label}/fragments", messages, keys, names, **more)
    order = sorted(range(len(messages)), key=lambda i: m.stream(f"{label}/{i}", 4))
    more.update({"check": ["encode"], "content": content.hex()})
    yield case_of(f"{label}/fragments-shuffled", [messages[i] for i in order], keys, names, **more)


def outcome(whole, keys=None):
    try:
        names, part = read(whole)
        if part and keys:
            _, content, _ = open_sealed(keys, whole, part[2])
            return chain_inside(part[1], content)
        return names
    except Fault as fault:
        return str(fault)


def chain_inside(first, content):
    names, part = chain(first, content)
    require(part is None, "encryptedPayload")
    return names


def patched(data, at, value):
    return data[:at] + bytes([value]) + data[at + 1 :]


def refused():
    good = clear([PAYLOADS["sa-ike"], PAYLOADS["ke"], PAYLOADS["nonce"]], exchange=34)
    for size in list(range(0, 60)) + [len(good) - 1]:
        yield f"cut/{size}", good[:size], None
        if size >= 28:
            yield f"cut-adjusted/{size}", good[:24] + struct.pack("!I", size) + good[28:size], None
    yield "tail", good + b"\0", None
    yield "tail-adjusted", good[:24] + struct.pack("!I", len(good) + 1) + good[28:] + b"\0", None
    yield "huge-length", good[:24] + b"\xff\xff\xff\xff" + good[28:], None
    yield "spi-zero", bytes(8) + good[8:], None
    for version in (0x00, 0x10, 0x30, 0xF0):
        yield f"version-{version >> 4}", patched(good, 17, version), None
    yield "payloads-64", clear([PAYLOADS["vendor-id"]] * 64), None
    yield "payloads-65", clear([PAYLOADS["vendor-id"]] * 65), None
    yield "duplicate", clear([PAYLOADS["nonce"]] * 2), None
    # Bounds.
    yield "proposals-255", clear([(33, substructures([proposal(1, 1, b"", [])] * 255, 2))]), None
    yield "proposals-256", clear([(33, substructures([proposal(1, 1, b"", [])] * 256, 2))]), None
    yield "transforms-255", clear([(33, substructures([proposal(1, 1, b"", IKE[:1] * 255)], 2))]), None
    for kind in (32, 49, 52, 54, 200, 255):
        yield f"critical-{kind}", clear([(kind, b"x", 0x80)]), None
    for kind in (46, 53):
        yield f"not-last-{kind}", clear([(kind, bytes(64)), PAYLOADS["nonce"]])[:16] + bytes([kind]) + clear([(kind, bytes(64)), PAYLOADS["nonce"]])[17:], None
    yield "nonce-15", clear([(40, bytes(15))]), None
    yield "nonce-257", clear([(40, bytes(257))]), None
    yield "delete-absurd", clear([(42, bytes([9, 0, 255, 255]))]), None
    yield "delete-ike-spi", clear([(42, bytes([1, 8, 0, 1]) + bytes(8))]), None
    yield "selector-backwards", clear([(44, bytes([1, 0, 0, 0]) + ts4("10.2.0.0", "10.1.0.0"))]), None
    yield "selector-ports", clear([(44, bytes([1, 0, 0, 0]) + ts4("10.1.0.0", "10.1.0.0", 6, 9, 8))]), None
    yield "selectors-none", clear([(44, bytes(4))]), None
    for name, item in PAYLOADS.items():
        kind, body = item[0], item[1]
        # Cut everywhere near the start, with all outer lengths right; then longer by some octets.
        for size in range(min(len(body), 24)):
            yield f"{name}/cut-{size}", clear([(kind, body[:size])]), None
        yield f"{name}/longer", clear([(kind, body + b"\0")]), None
        for at in range(min(len(body), 48)):
            for value in sorted({0, 255, body[at] ^ 1} - {body[at]}):
                whole = clear([(kind, patched(body, at, value))])
                # Most octets of data may be anything.
                if isinstance(outcome(whole), str) or value == body[at] ^ 1 and at < 8:
                    yield f"{name}/octet-{at}-{value}", whole, None
    yield from refused_sealed()


def refused_sealed():
    for suite in FAMILIES:
        label = m.short_name(suite)
        keys = keys_for("ike/" + label, suite)
        iv = m.stream(label + "/refused-iv", m.ENCR[suite[0]][1])
        content = joined([PAYLOADS["notify"]])
        good = sealed(keys, content, 41, iv)
        for at in range(len(good)):
            # The octets that are looked at before the ICV have cases of their own.
            if at not in (16, 17) and not 24 <= at < 28 and at not in (30, 31):
                yield f"{label}/altered-{at}", patched(good, at, good[at] ^ 0x10), keys
        for size in range(32, len(good)):
            short = good[:24] + struct.pack("!I", size) + good[28:30] + struct.pack("!H", size - 28) + good[32:size]
            yield f"{label}/cut-{size}", short, keys
        block = 16 if suite[0] == "AES_CBC" else 1
        yield f"{label}/padding", sealed_plain(keys, bytes(15) + b"\x10", 0, iv), keys
        yield f"{label}/padding-whole", sealed_plain(keys, bytes(15) + b"\x0f", 0, iv), keys
        yield f"{label}/nested", sealed(keys, joined([(46, bytes(32))]), 46, iv), keys
        yield f"{label}/first-none", sealed(keys, content, 0, iv), keys
        yield f"{label}/first-other", sealed(keys, content, 42, iv), keys
        yield f"{label}/inner-cut", sealed(keys, content[:-1], 41, iv, padding=bytes(-len(content) % block)), keys
        yield f"{label}/critical", sealed(keys, joined([(99, b"", 0x80)]), 99, iv), keys
        for position in ((0, 0), (0, 1), (2, 1), (1, 0)):
            yield f"{label}/fragment-{position[0]}-of-{position[1]}", sealed(keys, content, 41, iv, part=position), keys


def by_chance():
    """octets of good messages changed by chance; most are refused, and what is not must be read alike"""
    base = [clear(list(PAYLOADS.values())), clear([PAYLOADS["sa-child"], PAYLOADS["tsi"], PAYLOADS["tsr"], PAYLOADS["cp-reply"]])]
    base += [clear([PAYLOADS[n]]) for n in ("sa-ike", "sa-child", "tsi", "cp", "delete-esp", "notify-spi", "ts-unknown")]
    for number in range(300):
        whole = base[number % len(base)]
        for change in range(m.number(f"chance/{number}/count", 1, 3)):
            at = m.number(f"chance/{number}/{change}/at", 16, min(len(whole) - 1, 300))
            whole = patched(whole, at, m.stream(f"chance/{number}/{change}", 1)[0])
        yield f"chance/{number}", whole, None


def rfc7634():
    """RFC 7634, appendix B, transcribed: SET_WINDOW_SIZE in an INFORMATIONAL request"""
    whole = bytes.fromhex(
        "c0c1c2c3c4c5c6c7 d0d1d2d3d4d5d6d7 2e202500 00000009 00000045 29000029 1011121314151617"
        "61039470 1f8d017f 7c129248 89 6b71bfe2 5236efd7 cdc67066 906315b2"
    )
    key = bytes(range(0x80, 0xA0)) + bytes.fromhex("a0a1a2a3")
    keys = {"encr": "CHACHA20_POLY1305", "key_bits": 256, "integ": None, "encr_key": key.hex(), "integ_key": ""}
    more = {"content": "0000000c000040010000000a", "iv": "1011121314151617"}
    return case_of("appendix B", [whole], keys, ["N(16385)"], check=["encode", "seal"], **more)


if __name__ == "__main__":
    paths = sorted(p for p in glob.glob(os.path.join(m.ROOT, "captures", "*.json")) if not p.endswith(".verify.json"))
    SOURCE = "vectors/generators/ike_messages.py"
    m.write("ike-messages/captures.json", FORM, "vectors/captures, by " + SOURCE, [c for p in paths for c in captured(p)])
    m.write("ike-messages/rfc7634.json", FORM, "RFC 7634, appendix B", [rfc7634()])
    m.write("ike-messages/generated.json", FORM, SOURCE, list(generated()))
    cases = [case_of(name, [whole], keys, outcome(whole, keys), check=[]) for name, whole, keys in [*refused(), *by_chance()]]
    m.write("ike-messages/refused.json", FORM, SOURCE, cases)
