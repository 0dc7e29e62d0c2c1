"""What the interop test seals: one association for every transform, mode and outer family, and the
inner packets for it. `interop.py FOLDER` writes sas.json and inner.pcap there and prints how many there are."""

import json
import os
import sys

import capturefile
import espmodel as m

DUMMY_EVERY = 50
START = 1_700_000_000_000_000_000
# Sizes of the data in the inner packets: every residue of a cipher block, and around powers of two.
SIZES = list(range(16)) + [255, 1400]
LARGE = [100, 512, 1001, 1472, 9000, 60000]


def association(index, transform, mode, family):
    """keys from the label; unique addresses, so that the selectors lead each packet to its own"""
    low, high = index & 255, index >> 8
    src, dst = "192.0.%d.%d" % (2 + high, low), "198.51.%d.%d" % (100 + high, low)
    if family == 6:
        src, dst = "2001:db8:a::%x" % (index + 1), "2001:db8:b::%x" % (index + 1)
    step = m.TRANSFORMS.index(transform) + (mode == "transport") + 2 * (family == 6)
    more = {"name": "%s %s over IPv%d" % (m.short_name(transform), mode, family)}
    if mode == "tunnel":
        more["ts_src"] = ["10.%d.%d.0/24" % (1 + high, low), "fd00:1:%x::/48" % index]
        more["ts_dst"] = ["10.%d.%d.0/24" % (101 + high, low), "fd00:2:%x::/48" % index]
        if step % 4 == 1:
            more["tfc_bytes"] = 300
    else:
        more["ts_src"], more["ts_dst"] = [src], [dst]
    esn = step % 2 == 1
    # Some begin close to the end of the low half, in some the high half is not 0 (the
    # counter in an IV has 48 bits).
    first = {0: 1, 1: 2**32 - 7, 2: (0x1234 << 32) + 1}[index % 3] if esn else 1
    return m.association(
        "interop/%d" % index, transform, mode, src, dst, udp=index % 3 == 0, esn=esn, first_seq=first, **more
    )


def segment(src, dst, number, data):
    """UDP, TCP and ICMP by turns; (protocol, octets)"""
    kind = number % 3
    if kind == 0:
        return m.UDP, m.udp(src, dst, 1000 + number, 2000, data)
    if kind == 1:
        return m.TCP, m.tcp(src, dst, 1000 + number, 443, data, seq=number)
    return (m.ICMPV6 if ":" in src else m.ICMP), m.echo(src, dst, data, sequence=number)


def inner(entry, index, number, size):
    """tunnels carry both families by turns; in transport mode the packet has the outer addresses"""
    src, dst = entry["src"], entry["dst"]
    if entry["mode"] == "tunnel":
        low, high = index & 255, index >> 8
        src, dst = "10.%d.%d.1" % (1 + high, low), "10.%d.%d.2" % (101 + high, low)
        if number % 2:
            src, dst = "fd00:1:%x::1" % index, "fd00:2:%x::1" % index
    data = m.stream("interop/%d/%d" % (index, number), size)
    protocol, body = segment(src, dst, number, data)
    # Every ECN field and several DSCPs; ECN 3 stays away, since Not-ECT and CE do not mix.
    more = {"tclass": (number * 4 & 0xFC) | (number % 3)}
    if ":" in src:
        if entry["mode"] == "transport" and number % 5 == 4:
            body, protocol = bytes([protocol, 0, 1, 4, 0, 0, 0, 0]) + body, m.HOPOPT
        return m.ip(src, dst, protocol, body, flow=number, **more)
    if number % 5 == 3:
        more["options"] = bytes([1, 1, 1, 0])
    more["fragment"] = 0x4000 if number % 4 == 0 else 0
    return m.ip(src, dst, protocol, body, ident=number + 1, **more)


def plan():
    """[(association, [inner packets])]"""
    result = []
    for transform in m.TRANSFORMS:
        for mode in ("tunnel", "transport"):
            for family in (4, 6):
                index = len(result)
                entry = association(index, transform, mode, family)
                sizes = SIZES + [LARGE[index % len(LARGE)]]
                packets = [inner(entry, index, number, size) for number, size in enumerate(sizes)]
                result.append((entry, packets))
    return result


def sealed_order(associations):
    """[(index of the association, number of the packet in it or None for a dummy)], as sealed"""
    order, count = [], 0
    for number in range(max(len(packets) for _, packets in associations)):
        for index, (_, packets) in enumerate(associations):
            if number >= len(packets):
                continue
            order.append((index, number))
            count += 1
            if count % DUMMY_EVERY == 0:
                order.append((0, None))
    return order


def main():
    associations = plan()
    assert len({entry["spi"] for entry, _ in associations}) == len(associations)
    order = [place for place in sealed_order(associations) if place[1] is not None]
    packets = [associations[index][1][number] for index, number in order]
    capturefile.write(
        os.path.join(sys.argv[1], "inner.pcap"),
        [(START + 1_000_003 * number, packet) for number, packet in enumerate(packets)],
    )
    with open(os.path.join(sys.argv[1], "sas.json"), "w", encoding="ascii") as file:
        json.dump({"esp": [entry for entry, _ in associations]}, file, indent=1)
    dummies = len(packets) // DUMMY_EVERY
    print(json.dumps({"associations": len(associations), "packets": len(packets), "dummies": dummies}))


if __name__ == "__main__":
    main()
