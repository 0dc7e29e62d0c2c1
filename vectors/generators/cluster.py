"""Writes cluster/*.jsonl: datagrams of the HA link and stored records, accepted and refused, from the text of
docs/cluster-protocol.md."""

import hashlib
import hmac
import ipaddress
import json
import os
import struct

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

import espmodel as m

SOURCE = "vectors/generators/cluster.py, from docs/cluster-protocol.md"
KEY = m.stream("cluster/key", 32)
ONE, TWO, THREE = (1, 0x1122334455667788), (2, 0xFFEEDDCCBBAA9988), (40000, 0x0000000000000003)
TOP = 2**64 - 1


def u8(value):
    return struct.pack(">B", value)


def u16(value):
    return struct.pack(">H", value)


def u32(value):
    return struct.pack(">I", value)


def u64(value):
    return struct.pack(">Q", value)


def varint(value):
    octets = []
    while True:
        octets.append(value & 127 | (128 if value > 127 else 0))
        value >>= 7
        if not value:
            return bytes(octets)


def write(name, cases, **head):
    names = [case["name"] for case in cases]
    assert len(set(names)) == len(names), name
    folder = os.path.join(m.ROOT, "cluster")
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, name + ".jsonl"), "w") as file:
        for line in [{"format": f"spindle-cluster-{name}-1", "source": SOURCE, **head}] + cases:
            file.write(json.dumps(line, separators=(",", ":")) + "\n")
    print(f"cluster/{name}.jsonl: {len(cases)} cases")


# Keys


def derive(key, data):
    return hmac.new(key, data, hashlib.sha256).digest()


def cluster_tag(key):
    return derive(key, b"spindle cluster tag 1")[:6]


def record_key(key):
    return derive(key, b"spindle record key 1")


def link_key(key, sender, receiver):
    ends = u16(sender[0]) + u16(receiver[0]) + u64(sender[1]) + u64(receiver[1])
    return derive(key, b"spindle ha link 1" + cluster_tag(key) + ends)


def key_cases():
    cases = []
    for size in (32, 33, 63, 64, 65, 128, 200):
        key = m.stream(f"cluster/keys/{size}", size)
        case = {"name": f"{size}-octets", "cluster_key": key.hex(), "tag": cluster_tag(key).hex()}
        case["cookie_key"] = derive(key, b"spindle cookie key 1")[:20].hex()
        case["record_key"] = record_key(key).hex()
        links = [(ONE, TWO), (TWO, ONE), (THREE, ONE), ((1, 0), (65535, TOP))]
        case["links"] = [
            {"sender": s[0], "receiver": r[0], "sender_incarnation": s[1], "receiver_incarnation": r[1],
             "key": link_key(key, s, r).hex()}
            for s, r in links
        ]
        cases.append(case)
    return cases


# Messages


def header(sender, receiver, counter, tag):
    return b"SPHA" + u8(1) + u8(0) + tag + u16(sender[0]) + u16(receiver[0]) + u64(sender[1]) + u64(receiver[1]) + u64(counter)


def datagram(sender, receiver, counter, message, key=KEY, tag=None, head=None):
    """`head` replaces the header that is sent and authenticated, not the one that chooses the key"""
    head = head or header(sender, receiver, counter, tag or cluster_tag(key))
    nonce = bytes(4) + u64(counter)
    return head + AESGCM(link_key(key, sender, receiver)).encrypt(nonce, message, head)


FLAGS = {"storeAway": 1, "withinLease": 2, "tableComplete": 4, "serving": 8, "draining": 16}


def heartbeat(number, echo=0, grant=0, epoch=0, revision=0, flags=0, suspects=()):
    body = u64(number) + u64(echo) + u64(grant) + u64(epoch) + u64(revision) + u8(flags) + u8(len(suspects))
    body += b"".join(u16(node) for node in suspects)
    fields = {"number": number, "echo": echo, "grant": grant, "epoch": epoch, "revision": revision}
    return 1, {**fields, "flags": flags, "suspects": list(suspects)}, body


def state(
    spi, sent=0, sent_packets=0, sent_bytes=0, received=0, received_packets=0, received_bytes=0, exposed=0, window=()
):
    numbers = (sent, sent_packets, sent_bytes, received, received_packets, received_bytes, exposed)
    names = ("sent", "sentPackets", "sentBytes", "received", "receivedPackets", "receivedBytes", "exposedThrough")
    octets = u32(spi) + b"".join(varint(n) for n in numbers) + u8(len(window)) + b"".join(u64(w) for w in window)
    return {"spi": spi, **dict(zip(names, numbers)), "window": list(window)}, octets


def random_state(label, words=0):
    numbers = [m.number(f"{label}/{i}", 0, 2 ** m.number(f"{label}/bits-{i}", 0, 64) - 1) for i in range(7)]
    window = [m.number(f"{label}/word-{i}", 0, TOP) for i in range(words)]
    return state(m.number(label + "/spi", 256, 2**32 - 1), *numbers, window)


def checkpoints(identifier, generation, states):
    body = u16(identifier) + u16(generation) + u16(len(states)) + b"".join(octets for _, octets in states)
    return 2, {"identifier": identifier, "generation": generation, "states": [s for s, _ in states]}, body


def foreign_entry(request, identifier, spi, sealed, sends=0, replaces=0):
    body = u64(request) + u16(identifier) + u32(spi) + u8(sends) + u32(replaces) + u16(len(sealed)) + sealed
    fields = {"request": request, "identifier": identifier, "spi": spi, "sends": bool(sends), "replaces": replaces}
    return 3, {**fields, "sealed": sealed.hex()}, body


def answer(request, code):
    return 4, {"request": request, "code": code}, u64(request) + u8(code)


def moves(kind, pairs):
    body = u16(len(pairs)) + b"".join(u16(i) + u16(g) for i, g in pairs)
    return kind, {"moves": [{"identifier": i, "generation": g} for i, g in pairs]}, body


def handover(identifier, generation, part, parts, states, digests):
    body = u16(identifier) + u16(generation) + u16(part) + u16(parts) + u16(len(states))
    body += b"".join(octets for _, octets in states) + u16(len(digests)) + b"".join(u64(d) for d in digests)
    fields = {"identifier": identifier, "generation": generation, "part": part, "parts": parts}
    return 7, {**fields, "states": [s for s, _ in states], "sentDigests": list(digests)}, body


def load(loads):
    body = u16(len(loads)) + b"".join(u16(i) + u32(p) + u32(t) for i, p, t in loads)
    names = ("identifier", "packetsPerSecond", "tunnels")
    return 8, {"loads": [dict(zip(names, entry)) for entry in loads]}, body


def whole(message):
    return u8(message[0]) + message[2]


def fill(make, parts):
    """the longest prefix of `parts` that fits one datagram"""
    while len(whole(make(parts))) > 1344:
        parts = parts[:-1]
    return make(parts)


def messages():
    ramp = [(0, 1), (1, 65535), (255, 2), (4095, 77)]
    edges = [2**bits + delta for bits in range(7, 64, 7) for delta in (-1, 0)] + [TOP]
    many = [random_state(f"cluster/state/{i}") for i in range(200)]
    return {
        "heartbeat-first": heartbeat(1),
        "heartbeat-usual": heartbeat(4711, 4709, 4709, 12, 90210, FLAGS["withinLease"] | FLAGS["serving"] | 4),
        "heartbeat-largest": heartbeat(TOP, TOP, TOP, TOP, TOP, 31, [1, 2, 65535]),
        "heartbeat-past-32-bits": heartbeat(2**32, 2**33 + 1, 2**34 + 2, 2**35 + 3, 2**36 + 4),
        "heartbeat-all-suspects": heartbeat(2, 1, 0, 1, 1, FLAGS["storeAway"], range(300, 555)),
        **{f"heartbeat-flag-{name}": heartbeat(9, flags=bit) for name, bit in FLAGS.items()},
        "checkpoints-none": checkpoints(0, 1, []),
        "checkpoints-zero": checkpoints(17, 3, [state(256)]),
        "checkpoints-varint-edges": checkpoints(
            4095, 65535, [state(0xFFFFFFFF - i, *edges[i : i + 7]) for i in range(len(edges) - 6)]),
        "checkpoints-widest-window": checkpoints(5, 6, [random_state("cluster/wide", 128)]),
        "checkpoints-unordered": checkpoints(5, 6, [state(9000, 1), state(300, 2), state(9000, 3)]),
        "checkpoints-full": fill(lambda states: checkpoints(200, 9, states), many),
        "foreign-entry-shortest": foreign_entry(0, 0, 0, b"\1"),
        "foreign-entry-longest": foreign_entry(TOP, 4095, 2**32 - 1, m.stream("cluster/foreign", 1322), 1, 2**32 - 1),
        "foreign-entry-sends": foreign_entry(7, 77, 256, b"\1\2", 1, 0x4D000001),
        "foreign-entry-only-sends": foreign_entry(8, 77, 256, b"", 1),
        **{f"answer-{code}": answer(2**40 + code, code) for code in range(1, 6)},
        "move-offer": moves(5, ramp),
        "move-offer-none": moves(5, []),
        "move-offer-longest": moves(5, [(3 * i, 1 + i) for i in range(335)]),
        "move-ready": moves(6, ramp[1:]),
        "handover-empty": handover(3, 1, 0, 1, [], []),
        "handover-part": handover(3, 2, 1, 3, many[:5] + [random_state("cluster/narrow", 2)], [0, 1, TOP]),
        "handover-last-part": handover(4095, 65535, 65534, 65535, [], [m.number(f"cluster/d{i}", 0, TOP) for i in range(166)]),
        "load-none": load([]),
        "load": load([(0, 0, 0), (16, 2**32 - 1, 2**32 - 1), (4095, 1, 2)]),
        "load-longest": load([(i, i * i, 7) for i in range(134)]),
    }


def message_cases():
    cases = []
    for index, (name, message) in enumerate(messages().items()):
        counter = [1, 2, 2**32 - 1, 2**32, 2**63, TOP - 1][index % 6]
        kind, fields, _ = message
        sealed = datagram(ONE, TWO, counter, whole(message))
        assert len(sealed) <= 1400, name
        case = {"name": name, "counter": counter, "kind": kind, "fields": fields}
        cases.append({**case, "message": whole(message).hex(), "datagram": sealed.hex()})
    return cases


def malformed():
    """bodies that a receiver must refuse although they are authentic"""
    good = {name: whole(message) for name, message in messages().items()}
    beat = bytearray(good["heartbeat-first"])
    result = {
        "kind-0": b"\0", "kind-9": b"\x09" + beat[1:], "kind-255": b"\xff", "heartbeat-number-0": whole(heartbeat(0)),
        "heartbeat-flag-unknown": whole(heartbeat(1, flags=32)), "heartbeat-suspect-0": whole(heartbeat(1, suspects=[0])),
        "heartbeat-suspect-twice": whole(heartbeat(1, suspects=[4, 4])),
        "heartbeat-suspects-descend": whole(heartbeat(1, suspects=[4, 3])),
        "heartbeat-suspects-missing": bytes(beat[:42]) + b"\1",
        "checkpoints-identifier": whole(checkpoints(4096, 1, [])), "checkpoints-generation-0": whole(checkpoints(1, 0, [])),
        "checkpoints-count-lies": b"\2" + u16(1) + u16(1) + u16(65535) + state(256)[1],
        "checkpoints-window-129": whole(checkpoints(1, 1, [random_state("cluster/wider", 129)])),
        "foreign-entry-none": whole(foreign_entry(1, 1, 256, b"")),
        "foreign-entry-identifier": whole(foreign_entry(1, 4096, 256, b"\1")),
        "foreign-entry-flag-unknown": whole(foreign_entry(1, 1, 256, b"\1", 2)),
        "foreign-entry-short": whole(foreign_entry(1, 1, 256, b"\1\2"))[:-1],
        "answer-0": whole(answer(1, 0)), "answer-6": whole(answer(1, 6)),
        "moves-generation-0": whole(moves(5, [(1, 0)])), "moves-twice": whole(moves(6, [(1, 1), (1, 2)])),
        "moves-descend": whole(moves(5, [(2, 1), (1, 1)])), "moves-identifier": whole(moves(6, [(4096, 1)])),
        "handover-part-is-parts": whole(handover(1, 1, 1, 1, [], [])), "handover-parts-0": whole(handover(1, 1, 0, 0, [], [])),
        "handover-digests-lie": whole(handover(1, 1, 0, 1, [], []))[:-2] + u16(1) + bytes(7),
        "load-twice": whole(load([(1, 1, 1), (1, 1, 1)])), "load-descend": whole(load([(2, 1, 1), (1, 1, 1)])),
        "load-identifier": whole(load([(4096, 1, 1)])),
    }
    lead = b"\2" + u16(1) + u16(1) + u16(1) + u32(256)
    bad = {"padded": b"\x80\x00", "padded-more": b"\xff\x80\x00", "eleven": b"\x80" * 10 + b"\x01",
           "65-bits": b"\xff" * 9 + b"\x02", "endless": b"\xff" * 12}
    for name, octets in bad.items():
        result["varint-" + name] = lead + octets + bytes(6)
    for name in ("heartbeat-usual", "checkpoints-zero", "foreign-entry-shortest", "answer-1", "move-offer", "move-ready",
                 "handover-part", "load"):
        result[name + "-longer"] = good[name] + b"\0"
        for cut in range(1, len(good[name])):
            result[f"{name}-cut-{cut}"] = good[name][:cut]
    return result


def refused_cases():
    """what node 2 gets from nodes 1 and 40000, in this order"""
    cases, beat, tag = [], whole(heartbeat(7, 6, 6)), cluster_tag(KEY)

    def add(name, octets, refusal=None):
        cases.append({"name": name, "datagram": octets.hex(), "refusal": refusal})

    good = datagram(ONE, TWO, 5, beat)
    for size in (0, 1, 4, 39, 40, 55, 56):
        add(f"truncated-{size}", good[:size], "truncated")
    add("truncated-zeros", bytes(56), "truncated")
    add("magic", b"SPHB" + good[4:], "magic")
    add("zeros", bytes(57), "magic")
    for at, name in ((4, "version"), (5, "reserved")):
        for value in (0, 2, 255) if at == 4 else (1, 128):
            head = bytearray(header(ONE, TWO, 5, tag))
            head[at] = value
            add(f"{name}-{value}", datagram(ONE, TWO, 5, beat, head=bytes(head)), "version")
    add("too-long", datagram(ONE, TWO, 5, beat + bytes(1345 - len(beat))), "malformed")
    add("foreign-cluster", datagram(ONE, TWO, 5, beat, key=m.stream("cluster/other", 32)), "foreignCluster")
    add("foreign-cluster-our-key", datagram(ONE, TWO, 5, beat, tag=bytes(6)), "foreignCluster")
    add("not-for-us", datagram(ONE, THREE, 5, beat), "notForUs")
    add("for-node-0", datagram(ONE, (0, TWO[1]), 5, beat), "notForUs")
    for sender in ((0, ONE[1]), (7, ONE[1]), (65535, ONE[1]), TWO):
        add(f"unknown-sender-{sender[0]}", datagram(sender, TWO, 5, beat), "unknownSender")
    add("stale-sender", datagram((1, ONE[1] - 1), TWO, 5, beat), "staleIncarnation")
    add("stale-receiver", datagram(ONE, (2, TWO[1] ^ 1), 5, beat), "staleIncarnation")
    add("counter-0", datagram(ONE, TWO, 0, beat), "replayed")
    for at in list(range(40, len(good), 7)) + [len(good) - 1]:
        octets = bytearray(good)
        octets[at] ^= 1 << at % 8
        add(f"forged-bit-in-{at}", bytes(octets), "forged")
    add("forged-counter", good[:39] + u8(good[39] ^ 3) + good[40:], "forged")
    add("forged-reflected", datagram(TWO, ONE, 5, beat, head=header(ONE, TWO, 5, tag)), "forged")
    add("forged-other-pair", datagram(THREE, TWO, 5, beat, head=header(ONE, TWO, 5, tag)), "forged")
    add("forged-cut", good[:-1], "forged")
    add("forged-longer", good + b"\0", "forged")
    add("accepted", good)
    add("replayed", good, "replayed")
    add("late", datagram(ONE, TWO, 3, beat))
    add("late-replayed", datagram(ONE, TWO, 3, beat), "replayed")
    add("other-peer-same-counter", datagram(THREE, TWO, 5, beat))
    add("ahead", datagram(ONE, TWO, 2000, beat))
    add("window-bottom", datagram(ONE, TWO, 2000 - 1023, beat))
    add("below-window", datagram(ONE, TWO, 2000 - 1024, beat), "replayed")
    add("far-ahead", datagram(ONE, TWO, 2**32 * 5 + 10, beat))
    add("high-half-late", datagram(ONE, TWO, 2**32 * 5 - 10, beat))
    add("high-half-late-replayed", datagram(ONE, TWO, 2**32 * 5 - 10, beat), "replayed")
    add("same-low-half", datagram(ONE, TWO, 2**32 * 4 + 9, beat), "replayed")
    add("same-low-half-above", datagram(ONE, TWO, 2**32 * 6 + 9, beat))
    counter = 2**40
    for name, octets in malformed().items():
        counter += 1
        add("malformed-" + name, datagram(ONE, TWO, counter, octets), "malformed")
    add("malformed-is-used-up", datagram(ONE, TWO, counter, beat), "replayed")
    add("accepted-last", datagram(ONE, TWO, TOP, beat))
    return cases


# Records


def entry_key(identifier, spi):
    return "spindle/entry/%04x/%08x" % (identifier, spi)


def seal(key_text, plain, label, version=1, key=KEY):
    nonce = m.stream(f"cluster/nonce/{label}", 12)
    return u8(version) + nonce + AESGCM(record_key(key)).encrypt(nonce, plain, b"spindle record 1" + key_text.encode())


def allocation(epoch, nodes, owners, generations, successors, overruns):
    plain = u8(1) + u64(epoch) + u16(len(nodes)) + b"".join(map(u16, nodes)) + u16(len(owners))
    for entry in zip(owners, generations, successors, overruns):
        plain += b"".join(map(u16, entry))
    fields = {"epoch": epoch, "nodes": nodes, "owners": owners, "generations": generations}
    return "allocation", "spindle/allocation", {**fields, "successors": successors, "overruns": overruns}, plain


def leases(identifier, generation, entries):
    plain = u8(1) + u16(identifier) + u16(generation) + varint(len(entries))
    for spi, send, edge, limit in entries:
        plain += u32(spi) + varint(send) + varint(edge) + varint(limit - edge)
    names = ("spi", "sendLimit", "receiveEdge", "receiveLimit")
    fields = {"identifier": identifier, "generation": generation, "leases": [dict(zip(names, e)) for e in entries]}
    return "lease", "spindle/lease/%04x" % identifier, fields, plain


def member(node, incarnation, address=None, port=0, station=None):
    fields = {"node": node, "incarnation": incarnation}
    plain = u8(1) + u64(incarnation)
    if address is None:
        return "member", "spindle/member/%05d" % node, fields, plain + u8(0)
    octets = ipaddress.ip_address(address).packed
    fields["endpoint"] = {"address": address, "port": port, "station": station}
    plain += u8(4 if len(octets) == 4 else 6) + octets + u16(port) + bytes.fromhex(station.replace(":", ""))
    return "member", "spindle/member/%05d" % node, fields, plain


def weight(node, value):
    return "weight", "spindle/weight/%05d" % node, {"node": node, "weight": value}, u8(1) + u16(value)


ENCRYPTION = {"NULL": 11, "AES_CBC": 12, "AES_CTR": 13, "AES_CCM_8": 14, "AES_CCM_12": 15, "AES_CCM_16": 16, "AES_GCM_8": 18,
              "AES_GCM_12": 19, "AES_GCM_16": 20, "AES_GMAC": 21, "CHACHA20_POLY1305": 28}
INTEGRITY = {None: 0, "HMAC_SHA1_96": 2, "HMAC_SHA2_256_128": 12, "HMAC_SHA2_384_192": 13, "HMAC_SHA2_512_256": 14}
LIMITS = ("softPackets", "hardPackets", "softBytes", "hardBytes", "softNanoseconds", "hardNanoseconds")


def selector(first, last, protocol=0, ports=(0, 65535)):
    a, b = m.address(first), m.address(last)
    octets = u8(4 if len(a) == 4 else 6) + u8(protocol) + u16(ports[0]) + u16(ports[1]) + a + b
    return {"first": first, "last": last, "protocol": protocol, "firstPort": ports[0], "lastPort": ports[1]}, octets


def association(label, transform, spi, outbound, src="192.0.2.1", dst="198.51.100.7", **o):
    """fields and octets; `o` holds what is not the default"""
    encr, bits, integ = transform
    salt, integ_bytes = m.ENCR[encr][0], m.INTEG[integ][1] if integ else 0
    keys = [m.stream(f"{label}/{part}", size) for part, size in (("key", bits // 8), ("integ", integ_bytes), ("salt", salt))]
    g = lambda name, default=0: o.get(name, default)
    dscp, hops, udp, lifetimes = g("dscp", None), g("hopLimit", 64), g("udp", None), g("lifetimes", {})
    flags = [outbound, g("transport"), g("esn"), udp, ":" in src, dscp is not None, hops is not None, g("hop")]
    plain = u8(1) + u8(sum(1 << i for i, flag in enumerate(flags) if flag)) + u8(g("df")) + u8(g("ecn"))
    plain += u8(ENCRYPTION[encr]) + u8(INTEGRITY[integ]) + u16(bits) + u32(spi) + u16(g("window", 64))
    plain += u64(g("first", 1)) + u64(g("created")) + u8(dscp or 0) + u8(hops or 0) + u16(g("tfc")) + u16(g("mtu", 65535))
    plain += m.address(src) + m.address(dst) + (u16(udp[0]) + u16(udp[1]) if udp else b"")
    plain += u8(sum(1 << i for i, name in enumerate(LIMITS) if name in lifetimes))
    plain += b"".join(u64(lifetimes[name]) for name in LIMITS if name in lifetimes)
    sources, destinations = g("sources", []), g("destinations", [])
    plain += u8(len(sources)) + u8(len(destinations)) + b"".join(octets for _, octets in sources + destinations)
    fields = {"spi": spi, "outbound": outbound, "encr": encr, "bits": bits, "integ": integ, "src": src, "dst": dst}
    fields.update({"transport": bool(g("transport")), "esn": bool(g("esn")), "df": g("df"), "ecn": g("ecn")})
    fields.update({"window": g("window", 64), "first": g("first", 1), "created": g("created"), "dscp": dscp, "hopLimit": hops})
    fields.update({"hop": bool(g("hop")), "tfc": g("tfc"), "mtu": g("mtu", 65535), "udp": udp, "lifetimes": lifetimes})
    fields.update({"sources": [s for s, _ in sources], "destinations": [d for d, _ in destinations]})
    fields.update(dict(zip(("encr_key", "integ_key", "salt"), (key.hex() for key in keys))))
    return fields, plain + b"".join(keys)


def tunnel(identifier, generation, send, receive, inbound, outbound, origin=0):
    plain = u8(1) + u16(identifier) + u16(generation) + u64(send) + u64(receive) + u8(origin)
    plain += u32(len(inbound[1])) + inbound[1]
    plain += u32(len(outbound[1])) + outbound[1] if outbound else u32(0)
    fields = {"identifier": identifier, "generation": generation, "sendLimit": send, "receiveLimit": receive}
    fields["isNegotiated"] = bool(origin)
    fields.update({"inbound": inbound[0], "outbound": outbound[0] if outbound else None})
    return "tunnel", entry_key(identifier, inbound[0]["spi"]), fields, plain


def pair(label, transform, spi, **more):
    ends = {"src": "198.51.100.7", "dst": "192.0.2.1"} if "src" not in more else {"src": more["dst"], "dst": more["src"]}
    inbound = association(label + "/in", transform, spi, False, **{**more, **ends})
    return inbound, association(label + "/out", transform, spi ^ 0x55555555, True, **more)


def records():
    gcm = ("AES_GCM_16", 256, None)
    nets = [selector("10.1.0.0", "10.1.255.255"), selector("10.2.0.5", "10.2.0.9", 6, (443, 443))]
    nets6 = [selector("fd00::", "fd00::ffff", 58, (128 * 256, 129 * 256 + 255))]
    rich = dict(src="2001:db8:1::1", dst="2001:db8:2::7", esn=True, window=1024, first=2**40, created=2**60, dscp=46,
                hopLimit=None, hop=True, tfc=1280, mtu=1400, df=2, ecn=1, udp=(4500, 40000), sources=nets6,
                destinations=nets + nets6, lifetimes={name: 10**9 + i for i, name in enumerate(LIMITS)})
    some = dict(dscp=0, hopLimit=255, df=1, window=0, sources=nets, udp=(4500, 4500), lifetimes={"hardPackets": 2**32 - 1})
    result = {
        "allocation-smallest": allocation(1, [1], [1] * 16, [1] * 16, [0] * 16, [0] * 16),
        "allocation": allocation(
            77, [1, 2, 9], [(1, 2, 9)[i * 3 // 256] for i in range(256)], [1 + i % 5 for i in range(256)],
            [(0, 9, 0, 0)[i % 4] if i < 100 else 0 for i in range(256)], [i % 2 for i in range(256)]),
        "allocation-largest": allocation(
            2**63 - 1, [1, 65535], [1 + 65534 * (i % 2) for i in range(4096)], [65535] * 4096,
            [65535 - 65534 * (i % 2) for i in range(4096)], [65535] * 4096),
        "lease-none": leases(0, 1, []),
        "lease": leases(0xABC, 7, [(256, 0, 0, 0), (257, 128, 127, 255), (2**32 - 1, TOP, TOP, TOP)]),
        "lease-many": leases(4095, 65535, [(1000 + i, i * i, i, i + 2 ** (i % 60)) for i in range(300)]),
        "member": member(3, 0x0123456789ABCDEF), "member-65535": member(65535, 0),
        "member-v4": member(1, 1, "10.99.0.1", 4501, "02:00:00:00:00:01"),
        "member-v6": member(2, 2**64 - 1, "fd99::2", 65535, "fe:dc:ba:98:76:54"),
        "weight": weight(3, 100),
        "weight-drain": weight(12345, 0), "weight-largest": weight(1, 65535),
        "tunnel": tunnel(7, 3, 4096, 8192, *pair("cluster/tunnel", gcm, 0x1001)),
        "tunnel-inbound-only": tunnel(7, 3, 0, TOP, pair("cluster/half", gcm, 0x1002)[0], None),
        "tunnel-rich": tunnel(
            4095, 65535, TOP, 2**40, *pair("cluster/rich", ("AES_CBC", 256, "HMAC_SHA2_512_256"), 2**32 - 1, **rich)),
        "tunnel-some": tunnel(1, 1, 1, 1, *pair("cluster/some", ("CHACHA20_POLY1305", 256, None), 256, **some)),
        "tunnel-negotiated": tunnel(7, 3, 4096, 8192, *pair("cluster/negotiated", gcm, 0x1003), 1),
        "tunnel-transport": tunnel(1, 1, 1, 1, *pair("cluster/transport", gcm, 300, transport=True)),
        "tunnel-used-up": tunnel(1, 1, 2**32 - 1, 1, *pair("cluster/used-up", gcm, 301, first=2**32)),
        "tunnel-used-up-esn": tunnel(1, 1, TOP, 1, *pair("cluster/used-up-esn", gcm, 302, first=0, esn=True)),
    }
    for index, transform in enumerate(m.TRANSFORMS):
        label = "cluster/" + m.short_name(transform)
        result["tunnel-" + m.short_name(transform)] = tunnel(index, 1, 1, 1, *pair(label, transform, 4096 + index))
    return result


def record_cases():
    cases = []
    for name, (kind, key_text, fields, plain) in records().items():
        sealed = seal(key_text, plain, name)
        case = {"name": name, "kind": kind, "key": key_text, "fields": fields, "nonce": sealed[1:13].hex()}
        cases.append({**case, "plain": plain.hex(), "sealed": sealed.hex()})
    return cases


def refused_record_cases():
    """`stage`: what refuses it, the seal or the record"""
    cases, all_records = [], records()

    def add(name, kind, key_text, sealed, stage):
        cases.append({"name": name, "kind": kind, "key": key_text, "sealed": sealed.hex(), "stage": stage})

    def bad(name, kind, key_text, plain):
        add(name, kind, key_text, seal(key_text, plain, "refused/" + name), "record")

    kind, text, _, plain = all_records["tunnel"]
    good = seal(text, plain, "good")
    for size in (0, 1, 13, 28, len(good) - 1):
        add(f"seal-cut-{size}", kind, text, good[:size], "seal")
    add("seal-longer", kind, text, good + b"\0", "seal")
    for at in list(range(1, len(good), 13)) + [len(good) - 1]:
        octets = bytearray(good)
        octets[at] ^= 1 << at % 8
        add(f"seal-bit-in-{at}", kind, text, bytes(octets), "seal")
    for version in (0, 2, 255):
        add(f"seal-version-{version}", kind, text, seal(text, plain, "version", version), "seal")
    add("seal-other-place", kind, text, seal(entry_key(7, 0x1002), plain, "place"), "seal")
    add("seal-other-cluster", kind, text, seal(text, plain, "cluster", key=m.stream("cluster/other", 32)), "seal")

    for name in ("allocation-smallest", "lease", "member", "member-v4", "member-v6", "weight", "tunnel", "tunnel-inbound-only"):
        kind, text, _, plain = all_records[name]
        bad(f"{name}-version-2", kind, text, b"\2" + plain[1:])
        bad(f"{name}-longer", kind, text, plain + b"\0")
        for cut in range(len(plain)):
            bad(f"{name}-cut-{cut}", kind, text, plain[:cut])

    for name, lead in {
        "family": u8(5) + bytes(4), "unspecified": u8(4) + bytes(4), "multicast": u8(4) + bytes([224, 0, 0, 1]),
    }.items():
        bad("member-" + name, "member", "spindle/member/00001", u8(1) + u64(1) + lead + u16(1) + bytes(6))
    lead = u8(1) + u64(1) + u8(4) + bytes([10, 0, 0, 1])
    bad("member-port-0", "member", "spindle/member/00001", lead + u16(0) + bytes(6))
    bad("member-group", "member", "spindle/member/00001", lead + u16(1) + b"\1" + bytes(5))

    def bad_allocation(name, epoch=1, nodes=(1, 2), count=16, owner=1, generation=1, successor=0, overrun=0):
        columns = ([value] + [other] * (count - 1) for value, other in ((owner, 1), (generation, 1), (successor, 0), (overrun, 0)))
        kind, text, _, plain = allocation(epoch, list(nodes), *columns)
        bad("allocation-" + name, kind, text, plain)

    bad_allocation("epoch-0", epoch=0)
    bad_allocation("epoch-high", epoch=2**63)
    bad_allocation("no-nodes", nodes=())
    bad_allocation("node-0", nodes=(0, 1))
    bad_allocation("node-twice", nodes=(1, 1))
    bad_allocation("nodes-descend", nodes=(2, 1))
    bad_allocation("too-many-nodes", nodes=range(1, 18))
    for count in (1, 8, 17, 8192):
        bad_allocation(f"identifiers-{count}", count=count)
    bad_allocation("owner-0", owner=0)
    bad_allocation("owner-stranger", owner=3)
    bad_allocation("generation-0", generation=0)
    bad_allocation("successor-owns", successor=1)
    bad_allocation("successor-stranger", successor=3)
    bad_allocation("overrun-high", overrun=2)
    entry = (256, 1, 1, 1)
    for name, record in {
        "identifier": leases(4096, 1, []), "generation-0": leases(1, 0, []), "twice": leases(1, 1, [entry, entry]),
        "descend": leases(1, 1, [(257, 1, 1, 1), entry]),
    }.items():
        bad("lease-" + name, "lease", "spindle/lease/0001", record[3])
    lead, text = u8(1) + u16(1) + u16(1), "spindle/lease/0001"
    bad("lease-count-lies", "lease", text, lead + varint(2) + u32(256) + b"\1\1\1")
    bad("lease-count-high", "lease", text, lead + varint(2**63) + u32(256) + b"\1\1\1")
    bad("lease-count-padded", "lease", text, lead + b"\x81\x00" + u32(256) + b"\1\1\1")
    bad("lease-overflow", "lease", text, lead + b"\1" + u32(256) + varint(1) + varint(TOP) + varint(1))
    inbound, outbound = pair("cluster/refused", ("AES_GCM_16", 256, None), 0x2001)
    for name, record in {
        "identifier": tunnel(4096, 1, 1, 1, inbound, outbound), "generation-0": tunnel(1, 0, 1, 1, inbound, outbound),
        "origin-unknown": tunnel(1, 1, 1, 1, inbound, outbound, 2),
        "turned-around": tunnel(1, 1, 1, 1, outbound, inbound), "two-inbound": tunnel(1, 1, 1, 1, inbound, inbound),
    }.items():
        bad("tunnel-" + name, "tunnel", entry_key(1, 0x2001), record[3])
    for at, value in ((0, 2), (2, 3), (3, 2), (4, 0), (5, 12), (7, 1), (10, 255), (13, 1), (30, 1)):
        octets = bytearray(inbound[1])
        octets[at] = value
        octets = octets[:8] + bytes(4) + octets[12:] if at == 10 else octets
        record = tunnel(1, 1, 1, 1, (inbound[0], bytes(octets)), None)
        bad(f"tunnel-association-octet-{at}", *record[:2], record[3])
    return cases


if __name__ == "__main__":
    ends = {"cluster_key": KEY.hex()}
    for name, end in (("sender", ONE), ("receiver", TWO)):
        ends.update({name: end[0], name + "_incarnation": end[1]})
    write("keys", key_cases())
    write("messages", message_cases(), **ends)
    write("refused", refused_cases(), **ends, other_sender=THREE[0], other_sender_incarnation=THREE[1])
    write("records", record_cases(), cluster_key=KEY.hex())
    write("refused-records", refused_record_cases(), cluster_key=KEY.hex())
