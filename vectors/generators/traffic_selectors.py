"""Writes negative/selectors.json: traffic selector checks on the decrypted packet (RFC 4301, 5.2, step 4)."""

import espmodel as m

SOURCE = "vectors/generators/traffic_selectors.py"
GCM, CBC = m.FAMILIES[0], m.FAMILIES[4]
ICMP_REQUEST = 8 << 8
A, B, C = "10.1.2.3", "10.9.8.7", "172.16.5.5"
A6, B6, C6 = "fd00:1::3", "fd00:9::7", "2001:db8:77::1"


def udp(src, dst, sport=40000, dport=53):
    return m.ip(src, dst, m.UDP, m.udp(src, dst, sport, dport, b"query"))


def tcp(src, dst, sport=49152, dport=443):
    return m.ip(src, dst, m.TCP, m.tcp(src, dst, sport, dport, b"hello"))


def echo(src, dst):
    return m.ip(src, dst, m.ICMPV6 if ":" in src else m.ICMP, m.echo(src, dst, b"ping"))


def fragment4(offset, more=True):
    return m.ip4(A, B, m.UDP, udp(A, B)[20:] + bytes(3), fragment=(0x2000 if more else 0) | offset)


def fragment6(offset):
    header = bytes([m.UDP, 0]) + (offset << 3 | 1).to_bytes(2, "big") + b"\0\0\0\1"
    return m.ip6(A6, B6, 44, header + udp(A6, B6)[40:] + bytes(3))


def extended(protocol, segment):
    """an IPv6 packet with hop-by-hop and destination options in front of the segment"""
    options = bytes([m.DSTOPT, 0, 1, 4, 0, 0, 0, 0]) + bytes([protocol, 0, 1, 4, 0, 0, 0, 0])
    return m.ip6(A6, B6, m.HOPOPT, options + segment)


# name: inner packet, ts_src, ts_dst, accepted
TUNNEL = {
    "subnets": (udp(A, B), ["10.1.0.0/16"], ["10.9.0.0/16"], True),
    "source-outside": (udp(C, B), ["10.1.0.0/16"], ["10.9.0.0/16"], False),
    "destination-outside": (udp(A, C), ["10.1.0.0/16"], ["10.9.0.0/16"], False),
    "swapped": (udp(B, A), ["10.1.0.0/16"], ["10.9.0.0/16"], False),
    "host": (udp(A, B), ["10.1.2.3/32"], ["10.9.8.7/32"], True),
    "host-source-off-by-one": (udp("10.1.2.4", B), ["10.1.2.3/32"], ["10.9.8.7/32"], False),
    "host-destination-off-by-one": (udp(A, "10.9.8.6"), ["10.1.2.3/32"], ["10.9.8.7/32"], False),
    "any": (udp(C, B), ["0.0.0.0/0"], ["0.0.0.0/0"], True),
    "range-first": (udp("10.1.0.5", B), ["10.1.0.5-10.1.0.9"], ["10.9.0.0/16"], True),
    "range-last": (udp("10.1.0.9", B), ["10.1.0.5-10.1.0.9"], ["10.9.0.0/16"], True),
    "range-before": (udp("10.1.0.4", B), ["10.1.0.5-10.1.0.9"], ["10.9.0.0/16"], False),
    "range-after": (udp("10.1.0.10", B), ["10.1.0.5-10.1.0.9"], ["10.9.0.0/16"], False),
    "odd-prefix-in": (udp("10.1.3.255", B), ["10.1.2.0/23"], ["10.9.0.0/16"], True),
    "odd-prefix-out": (udp("10.1.4.0", B), ["10.1.2.0/23"], ["10.9.0.0/16"], False),
    "second-of-list": (udp(C, B), ["10.1.0.0/16", "172.16.5.0/24"], ["10.8.0.0/16", "10.9.0.0/16"], True),
    "none-of-list": (udp("172.16.6.1", B), ["10.1.0.0/16", "172.16.5.0/24"], ["10.8.0.0/16", "10.9.0.0/16"], False),
    "protocol": (udp(A, B), ["10.1.0.0/16[17]"], ["10.9.0.0/16[17]"], True),
    "protocol-name": (udp(A, B), ["10.1.0.0/16[udp]"], ["10.9.0.0/16[udp]"], True),
    "protocol-other": (tcp(A, B), ["10.1.0.0/16[17]"], ["10.9.0.0/16[17]"], False),
    "protocol-in-source-only": (tcp(A, B), ["10.1.0.0/16[17]"], ["10.9.0.0/16"], False),
    "protocol-in-destination-only": (tcp(A, B), ["10.1.0.0/16"], ["10.9.0.0/16[17]"], False),
    "protocol-icmp": (echo(A, B), ["10.1.0.0/16[icmp]"], ["10.9.0.0/16[icmp]"], True),
    "protocol-icmp-refuses-udp": (udp(A, B), ["10.1.0.0/16[1]"], ["10.9.0.0/16[1]"], False),
    "destination-port": (udp(A, B), ["10.1.0.0/16[17]"], ["10.9.0.0/16[17/53]"], True),
    "destination-port-tcp": (tcp(A, B), ["10.1.0.0/16[tcp]"], ["10.9.0.0/16[tcp/443]"], True),
    "destination-port-other": (udp(A, B, dport=54), ["10.1.0.0/16[17]"], ["10.9.0.0/16[17/53]"], False),
    "destination-port-is-source": (udp(A, B, 53, 40000), ["10.1.0.0/16[17]"], ["10.9.0.0/16[17/53]"], False),
    "destination-port-other-protocol": (tcp(A, B, dport=53), ["10.1.0.0/16[17]"], ["10.9.0.0/16[17/53]"], False),
    "source-port": (udp(A, B, 53, 40000), ["10.1.0.0/16[17/53]"], ["10.9.0.0/16[17]"], True),
    "source-port-other": (udp(A, B, 52, 40000), ["10.1.0.0/16[17/53]"], ["10.9.0.0/16[17]"], False),
    "source-port-is-destination": (udp(A, B), ["10.1.0.0/16[17/53]"], ["10.9.0.0/16[17]"], False),
    "both-ports": (tcp(A, B, 1000, 2000), ["10.1.0.0/16[6/1000]"], ["10.9.0.0/16[6/2000]"], True),
    "both-ports-source-wrong": (tcp(A, B, 1001, 2000), ["10.1.0.0/16[6/1000]"], ["10.9.0.0/16[6/2000]"], False),
    "both-ports-destination-wrong": (tcp(A, B, 1000, 2001), ["10.1.0.0/16[6/1000]"], ["10.9.0.0/16[6/2000]"], False),
    "port-range-first": (udp(A, B, dport=5000), ["10.1.0.0/16[17]"], ["10.9.0.0/16[17/5000-5100]"], True),
    "port-range-last": (udp(A, B, dport=5100), ["10.1.0.0/16[17]"], ["10.9.0.0/16[17/5000-5100]"], True),
    "port-range-before": (udp(A, B, dport=4999), ["10.1.0.0/16[17]"], ["10.9.0.0/16[17/5000-5100]"], False),
    "port-range-after": (udp(A, B, dport=5101), ["10.1.0.0/16[17]"], ["10.9.0.0/16[17/5000-5100]"], False),
    "port-in-second": (tcp(A, B), ["10.1.0.0/16"], ["10.9.0.0/16[17/53]", "10.9.0.0/16[6/443]"], True),
    "port-of-the-other": (udp(A, B, dport=443), ["10.1.0.0/16"], ["10.9.0.0/16[17/53]", "10.9.0.0/16[6/443]"], False),
    "icmp-type": (echo(A, B), [f"10.1.0.0/16[1/{ICMP_REQUEST}]"], [f"10.9.0.0/16[1/{ICMP_REQUEST}]"], True),
    "icmp-type-other": (echo(A, B), ["10.1.0.0/16[1/0]"], ["10.9.0.0/16[1/0]"], False),
    "fragment-first": (fragment4(0), ["10.1.0.0/16[17]"], ["10.9.0.0/16[17/53]"], True),
    "fragment-later-any-port": (fragment4(3), ["10.1.0.0/16[17]"], ["10.9.0.0/16[17]"], True),
    "fragment-later-with-port": (fragment4(3), ["10.1.0.0/16[17]"], ["10.9.0.0/16[17/53]"], False),
    "fragment-last-with-port": (fragment4(3, False), ["10.1.0.0/16[17]"], ["10.9.0.0/16[17/53]"], False),
    "fragment-other-protocol": (fragment4(3), ["10.1.0.0/16[6]"], ["10.9.0.0/16[6]"], False),
    "v6-subnets": (udp(A6, B6), ["fd00:1::/32"], ["fd00:9::/32"], True),
    "v6-any": (tcp(A6, B6), ["::/0"], ["::/0"], True),
    "v6-source-outside": (udp(C6, B6), ["fd00:1::/32"], ["fd00:9::/32"], False),
    "v6-destination-outside": (udp(A6, C6), ["fd00:1::/32"], ["fd00:9::/32"], False),
    "v6-range": (udp(A6, B6), ["fd00:1::-fd00:1::ff"], ["fd00:9::7-fd00:9::7"], True),
    "v6-range-after": (udp("fd00:1::100", B6), ["fd00:1::-fd00:1::ff"], ["fd00:9::7-fd00:9::7"], False),
    "v6-odd-prefix-in": (udp("fd00:1:7fff::1", B6), ["fd00:1::/33"], ["fd00:9::/32"], True),
    "v6-odd-prefix-out": (udp("fd00:1:8000::1", B6), ["fd00:1::/33"], ["fd00:9::/32"], False),
    "v6-under-v4-selectors": (udp(A6, B6), ["0.0.0.0/0"], ["0.0.0.0/0"], False),
    "v4-under-v6-selectors": (udp(A, B), ["::/0"], ["::/0"], False),
    "both-families": (udp(A6, B6), ["0.0.0.0/0", "::/0"], ["0.0.0.0/0", "::/0"], True),
    "v6-port": (tcp(A6, B6), ["fd00:1::/32[6]"], ["fd00:9::/32[6/443]"], True),
    "v6-port-other": (tcp(A6, B6, dport=80), ["fd00:1::/32[6]"], ["fd00:9::/32[6/443]"], False),
    "v6-icmp": (echo(A6, B6), ["fd00:1::/32[58]"], ["fd00:9::/32[58]"], True),
    "v6-behind-options": (extended(m.UDP, udp(A6, B6)[40:]), ["fd00:1::/32[17]"], ["fd00:9::/32[17/53]"], True),
    "v6-behind-options-other": (extended(m.TCP, tcp(A6, B6)[40:]), ["fd00:1::/32[17]"], ["fd00:9::/32[17/53]"], False),
    "v6-fragment-first": (fragment6(0), ["fd00:1::/32[17]"], ["fd00:9::/32[17/53]"], True),
    "v6-fragment-later-any-port": (fragment6(3), ["fd00:1::/32[17]"], ["fd00:9::/32[17]"], True),
    "v6-fragment-later-with-port": (fragment6(3), ["fd00:1::/32[17]"], ["fd00:9::/32[17/53]"], False),
}
HERE, THERE = "192.0.2.1/32", "198.51.100.7/32"
TRANSPORT = {
    "hosts": (m.UDP, 40000, 53, [HERE], [THERE], True),
    "protocol": (m.UDP, 1701, 1701, [HERE + "[17/1701]"], [THERE + "[17/1701]"], True),
    "protocol-other": (m.TCP, 1701, 1701, [HERE + "[17/1701]"], [THERE + "[17/1701]"], False),
    "source-port-other": (m.UDP, 1702, 1701, [HERE + "[17/1701]"], [THERE + "[17/1701]"], False),
    "destination-port-other": (m.UDP, 1701, 1700, [HERE + "[17/1701]"], [THERE + "[17/1701]"], False),
    "source-outside": (m.UDP, 1701, 1701, ["192.0.2.2/32"], [THERE], False),
    "destination-outside": (m.UDP, 1701, 1701, [HERE], ["198.51.100.8/32"], False),
}


def tunnel(transform, name, inner, ts_src, ts_dst, accepted):
    label = f"{m.short_name(transform)}/{name}"
    a = m.association(label, transform)
    iv = m.iv_for(label, transform[0])
    case = m.tunnel_case(label, a, 77, iv, inner, "accepted" if accepted else "selector", ("open",))
    if not accepted:
        del case["inner"]
    return {**case, "ts_src": ts_src, "ts_dst": ts_dst}


def transport(transform, name, protocol, sport, dport, ts_src, ts_dst, accepted):
    label = f"{m.short_name(transform)}/transport/{name}"
    a = m.association(label, transform, "transport")
    iv, build = m.iv_for(label, transform[0]), m.udp if protocol == m.UDP else m.tcp
    segment = build(a["src"], a["dst"], sport, dport, b"l2tp")
    outer = m.ip4(a["src"], a["dst"], m.ESP, m.seal(a, 77, iv, segment, protocol))
    case = {"name": label, "association": a, "sequence": 77, "iv": iv.hex(), "outer": outer.hex()}
    if accepted:
        case["inner"] = m.ip4(a["src"], a["dst"], protocol, segment).hex()
    result = "accepted" if accepted else "selector"
    return {**case, "check": ["open"], "result": result, "ts_src": ts_src, "ts_dst": ts_dst}


if __name__ == "__main__":
    cases = []
    for kind in (GCM, CBC):
        cases += [tunnel(kind, name, *row) for name, row in TUNNEL.items()]
        cases += [transport(kind, name, *row) for name, row in TRANSPORT.items()]
    m.write("negative/selectors.json", "spindle-esp-1", SOURCE, cases)
