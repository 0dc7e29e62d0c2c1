"""Writes generated/*.json: packets that must be accepted (and dummies), for every transform."""

import espmodel as m

SOURCE = "vectors/generators/accepted.py"
V4, V6 = ("192.0.2.1", "198.51.100.7"), ("2001:db8:1::1", "2001:db8:2::7")
IN4, IN6 = ("10.1.2.3", "10.9.8.7"), ("fd00:1::3", "fd00:9::7")
TUNNELS = {"4in4": (V4, IN4), "6in6": (V6, IN6), "4in6": (V6, IN4), "6in4": (V4, IN6)}


def message(label, src, dst, size=None):
    """an upper-layer message and its protocol, chosen by the label"""
    size = m.number(label + "/size", 0, 90) if size is None else size
    data = m.stream(label + "/data", size)
    kind = m.number(label + "/kind", 0, 2)
    if kind == 0:
        return m.UDP, m.udp(src, dst, 40000, 53, data)
    if kind == 1:
        return m.TCP, m.tcp(src, dst, 49152, 443, data, seq=m.number(label, 0, 2**32 - 1))
    return (m.ICMPV6 if ":" in src else m.ICMP), m.echo(src, dst, data)


def inner_packet(label, ends, size=None, **more):
    protocol, segment = message(label, *ends, size)
    if "." in ends[0]:
        more.setdefault("ident", m.number(label + "/id", 0, 65535))
    return m.ip(*ends, protocol, segment, **more)


def random_sequence(label):
    return m.number(label + "/sequence", 1, 2**32 - 1)


def tunnel(label, transform, kind, sequence=None, udp=False, esn=False, size=None, **more):
    outer, inner = TUNNELS[kind]
    a = m.association(label, transform, src=outer[0], dst=outer[1], udp=udp, esn=esn)
    sequence = random_sequence(label) if sequence is None else sequence
    iv = m.iv_for(label, transform[0])
    return m.tunnel_case(label, a, sequence, iv, inner_packet(label, inner, size), **more)


def option(kind, size, filler=0):
    """an IPv6 hop-by-hop or destination options header of 8-byte units holding one unknown-skip option and padding"""
    body = bytes([kind, size]) + bytes([filler] * size)
    pad = -(2 + len(body)) % 8
    body += bytes(pad) if pad < 2 else bytes([1, pad - 2]) + bytes(pad - 2)
    return lambda following: bytes([following, (2 + len(body)) // 8 - 1]) + body


HOP = (m.HOPOPT, option(0x1E, 2, 7))
DST = (m.DSTOPT, option(0x1E, 12, 9))
DST_LONG = (m.DSTOPT, option(0x1E, 22, 3))
ROUTE = (m.ROUTING, lambda following: bytes([following, 2, 253, 0]) + bytes(4) + m.address("2001:db8:f::1"))
CHAINS = {  # extension headers before ESP, and after it
    "plain": ([], []),
    "hop": ([HOP], []),
    "destination": ([], [DST]),
    "hop-destination": ([HOP], [DST]),
    "routing": ([ROUTE], []),
    "hop-destination-routing-destination": ([HOP, DST, ROUTE], [DST_LONG]),
}


def chain(headers, last, payload):
    """extension headers in front of a payload: the first protocol number and the bytes"""
    for protocol, build in reversed(headers):
        payload, last = build(last) + payload, protocol
    return last, payload


def transport6(label, transform, headers="plain", sequence=None, udp=False, esn=False, size=None):
    before, after = CHAINS[headers]
    a = m.association(label, transform, "transport", *V6, udp=udp, esn=esn)
    sequence = random_sequence(label) if sequence is None else sequence
    iv = m.iv_for(label, transform[0])
    following, payload = chain(after, *message(label, *V6, size))
    flow, hops = m.number(label + "/flow", 0, 0xFFFFF), m.number(label + "/hops", 1, 255)
    esp, protocol = m.seal(a, sequence, iv, payload, following), m.ESP
    if udp:
        esp, protocol = m.udp(*V6, 4500, 4500, esp), m.UDP
    original = m.ip6(*V6, *chain(before, following, payload), tclass=0x20, flow=flow, hops=hops)
    outer = m.ip6(*V6, *chain(before, protocol, esp), tclass=0x20, flow=flow, hops=hops)
    return transport_case(label, a, sequence, iv, outer, original)


def transport4(label, transform, options=b"", sequence=None, udp=False, esn=False, size=None):
    a = m.association(label, transform, "transport", *V4, udp=udp, esn=esn)
    sequence = random_sequence(label) if sequence is None else sequence
    iv = m.iv_for(label, transform[0])
    protocol, payload = message(label, *V4, size)
    more = {"ident": m.number(label + "/id", 0, 65535), "ttl": 57, "tos": 0x48, "fragment": 0x4000, "options": options}
    esp, outside = m.seal(a, sequence, iv, payload, protocol), m.ESP
    if udp:
        esp, outside = m.udp(*V4, 4500, 4500, esp, zero_checksum=True), m.UDP
    outer, original = m.ip4(*V4, outside, esp, **more), m.ip4(*V4, protocol, payload, **more)
    return transport_case(label, a, sequence, iv, outer, original)


def transport_case(label, a, sequence, iv, outer, original):
    case = {"name": label, "association": a, "sequence": sequence, "iv": iv.hex()}
    return {**case, "outer": outer.hex(), "inner": original.hex(), "check": ["open", "seal"], "result": "accepted"}


def transforms():
    tunnels, transports = [], []
    for transform in m.TRANSFORMS:
        name = m.short_name(transform)
        for kind in TUNNELS:
            tunnels.append(tunnel(f"{name}/{kind}", transform, kind))
        transports.append(transport4(f"{name}/transport4", transform))
        transports.append(transport4(f"{name}/transport4-options", transform, bytes([0x94, 4, 0, 0])))
        transports.append(transport6(f"{name}/transport6", transform))
        transports.append(transport6(f"{name}/transport6-hop-destination", transform, "hop-destination"))
    for transform in m.FAMILIES:
        for headers in CHAINS:
            transports.append(transport6(f"{m.short_name(transform)}/chain/{headers}", transform, headers))
    m.write("generated/tunnel.json", "spindle-esp-1", SOURCE, tunnels)
    m.write("generated/transport.json", "spindle-esp-1", SOURCE, transports)


def udp_encapsulation():
    cases = []
    for transform in m.TRANSFORMS:
        name = m.short_name(transform)
        for kind in ("4in4", "6in6"):
            cases.append(tunnel(f"{name}/udp-{kind}", transform, kind, udp=True))
    for transform in m.FAMILIES:
        name = m.short_name(transform)
        for kind in ("6in4", "4in6"):
            cases.append(tunnel(f"{name}/udp-{kind}", transform, kind, udp=True))
        cases.append(transport4(f"{name}/udp-transport4", transform, udp=True))
        cases.append(transport6(f"{name}/udp-transport6", transform, udp=True))
        case = tunnel(f"{name}/udp-other-port", transform, "4in4", udp=True)
        case["association"]["sport"] = 61234
        esp = bytes.fromhex(case["outer"])[28:]
        case["outer"] = m.wrap(case["association"], esp).hex()
        cases.append(case)
        case = tunnel(f"{name}/udp-checksum", transform, "4in4", udp=True)
        case["outer"] = m.wrap(case["association"], bytes.fromhex(case["outer"])[28:], zero_checksum=False).hex()
        cases.append(case)
    m.write("generated/udp.json", "spindle-esp-1", SOURCE, cases)


ESN = {  # sequence number, highest number accepted before
    "high0": (0x00000000_00000007, 6),
    "high1": (0x00000001_80000000, 0x00000001_7FFFFFFF),
    "last-before-wrap": (0x00000000_FFFFFFFF, 0x00000000_FFFFFFFE),
    "first-after-wrap": (0x00000001_00000000, 0x00000000_FFFFFFFF),
    "jump-over-wrap": (0x00000003_00000011, 0x00000002_FFFFFFF0),
    "late-over-wrap": (0x00000000_FFFFFFF9, 0x00000001_00000005),
    "far-high": (0xFEDCBA98_76543210, 0xFEDCBA98_7654320F),
}


def extended_sequence():
    cases = []
    for index, transform in enumerate(m.TRANSFORMS):
        for name, (sequence, highest) in ESN.items():
            label = f"{m.short_name(transform)}/esn-{name}"
            kind = list(TUNNELS)[index % 4]
            case = tunnel(label, transform, kind, sequence, esn=True, size=8)
            cases.append({**case, "replay_window": 64, "highest": highest})
        label = f"{m.short_name(transform)}/esn-transport"
        build = transport6 if index % 2 else transport4
        case = build(label, transform, sequence=0x00000002_00000009, udp=index % 3 == 0, esn=True)
        cases.append({**case, "replay_window": 128, "highest": 0x00000002_00000003})
    m.write("generated/esn.json", "spindle-esp-1", SOURCE, cases)


def traffic_flow_confidentiality():
    cases, dummies = [], []
    for index, transform in enumerate(m.TRANSFORMS):
        name, kind = m.short_name(transform), list(TUNNELS)[index % 4]
        sizes = [m.number(f"{name}/tfc", 1, 200)]
        if transform in m.FAMILIES:
            sizes = [1, 2, 3, 4, 15, 16, 17, 255, 256, 700]
        for size in sizes:
            label = f"{name}/tfc-{size}"
            case = tunnel(label, transform, kind, size=20, check=("open",), tfc_bytes=size)
            inner = bytes.fromhex(case["inner"])
            filler = bytes(size) if size % 2 else m.stream(label + "/filler", size)
            a, iv = case["association"], bytes.fromhex(case["iv"])
            esp = m.seal(a, case["sequence"], iv, inner + filler, m.tunnel_next_header(inner))
            cases.append({**case, "outer": m.wrap(a, esp).hex()})
        for size in (0, 64, 333) if transform in m.FAMILIES else (40,):
            dummies.append(dummy(f"{name}/dummy-{size}", transform, kind, size))
    m.write("generated/tfc.json", "spindle-esp-1", SOURCE, cases)
    m.write("generated/dummy.json", "spindle-esp-1", SOURCE, dummies)


def dummy(label, transform, kind, size):
    case = tunnel(label, transform, kind, check=("open",), result="dummy")
    del case["inner"]
    a, iv = case["association"], bytes.fromhex(case["iv"])
    esp = m.seal(a, case["sequence"], iv, m.stream(label + "/noise", size), m.NONE)
    return {**case, "outer": m.wrap(a, esp).hex()}


def pad_lengths():
    """every pad length; the inner packet's size is what makes the padding fit"""
    for transform in (("AES_GCM_16", 128, None), ("AES_CBC", 256, "HMAC_SHA2_256_128")):
        name, block, cases = m.short_name(transform), m.ENCR[transform[0]][2], []
        a = m.association(name + "/pad", transform)
        for pad in range(256):
            label = f"{name}/pad-{pad}"
            inner = m.udp_packet(*IN4, m.stream(label, -(28 + pad + 2) % block))
            iv = m.iv_for(label, transform[0])
            esp = m.seal(a, pad + 1, iv, inner, m.IPIP, pad=pad)
            case = {"name": label, "association": a, "sequence": pad + 1, "iv": iv.hex(), "outer": m.wrap(a, esp).hex()}
            cases.append({**case, "inner": inner.hex(), "check": ["open"], "result": "accepted"})
        m.write(f"generated/padding-{name}.json", "spindle-esp-1", SOURCE, cases)


NOT_ECT, ECT1, ECT0, CE = 0, 1, 2, 3
ECN_NAMES = {NOT_ECT: "notect", ECT1: "ect1", ECT0: "ect0", CE: "ce"}
DECAPSULATION = {  # RFC 6040, figure 4: inner, then outer Not-ECT, ECT(0), ECT(1), CE; None is a drop
    NOT_ECT: (NOT_ECT, NOT_ECT, NOT_ECT, None),
    ECT0: (ECT0, ECT0, ECT1, CE),
    ECT1: (ECT1, ECT1, ECT1, CE),
    CE: (CE, CE, CE, CE),
}


def congestion():
    cases, transform = [], ("AES_GCM_16", 256, None)
    for kind, (outer, ends) in TUNNELS.items():
        for inside, row in DECAPSULATION.items():
            for outside, result in zip((NOT_ECT, ECT0, ECT1, CE), row):
                label = f"{kind}/inner-{ECN_NAMES[inside]}/outer-{ECN_NAMES[outside]}"
                a = m.association(label, transform, src=outer[0], dst=outer[1])
                sequence, iv = random_sequence(label), m.iv_for(label, transform[0])
                arriving = inner_packet(label, ends, 16, tclass=0xB8 | inside)
                esp = m.seal(a, sequence, iv, arriving, m.tunnel_next_header(arriving))
                packet = m.wrap(a, esp, tclass=0x28 | outside).hex()
                case = {"name": label, "association": a, "sequence": sequence, "iv": iv.hex(), "outer": packet}
                if result is not None:
                    case["inner"] = inner_packet(label, ends, 16, tclass=0xB8 | result).hex()
                cases.append({**case, "check": ["open"], "result": "ecn" if result is None else "accepted"})
    m.write("generated/ecn.json", "spindle-esp-1", SOURCE + ", after RFC 6040 section 4.2", cases)


if __name__ == "__main__":
    transforms()
    udp_encapsulation()
    extended_sequence()
    traffic_flow_confidentiality()
    pad_lengths()
    congestion()
