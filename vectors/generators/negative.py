"""Writes negative/*.json: packets that must be refused, with the reason, and near misses that must be accepted.
Reasons are decided in the order length, SPI, replay, ICV, padding and next header, inner header, selectors."""

import espmodel as m

SOURCE = "vectors/generators/negative.py"
FORM = "spindle-esp-1"
V4, V6 = ("192.0.2.1", "198.51.100.7"), ("2001:db8:1::1", "2001:db8:2::7")
IN4, IN6 = ("10.1.2.3", "10.9.8.7"), ("fd00:1::3", "fd00:9::7")
GCM, CBC = m.FAMILIES[0], m.FAMILIES[4]
OTHER_HEADERS = {0, 1, 2, 3, 4, 5, 6, 17, 40, 41, 42, 43, 44, 47, 50, 51, 58, 60, 97, 143, 254, 255}


def case_of(label, a, sequence, iv, outer, result, inner=None, **more):
    case = {"name": label, "association": a, "sequence": sequence, "iv": iv.hex(), "outer": outer.hex()}
    if inner is not None:
        case["inner"] = inner.hex()
    return {**case, "check": ["open"], "result": result, **more}


def build(label, transform, inner, sequence=9, next_header=None, wire=None, **options):
    """a sealed packet: association, IV and ESP bytes; `wire` are options of the padding"""
    a = m.association(label, transform, **options)
    iv = m.iv_for(label, transform[0])
    following = m.tunnel_next_header(inner) if next_header is None else next_header
    return a, iv, m.seal(a, sequence, iv, inner, following, **(wire or {}))


def flip(data, at, bit):
    return data[:at] + bytes([data[at] ^ 1 << bit]) + data[at + 1 :]


def altered():
    for transform in m.FAMILIES:
        name = m.short_name(transform)
        sequence, window = 0x01020305, 64
        a, iv, esp = build(name + "/altered", transform, m.udp_packet(*IN4, b""), sequence)
        more = {"replay_window": window, "highest": sequence - 1}
        inner = m.udp_packet(*IN4, b"")
        cases = [case_of(name + "/unaltered", a, sequence, iv, m.wrap(a, esp), "accepted", inner, **more)]
        for at in range(len(esp)):
            wrong, number = flip(esp, at, (at * 5 + 3) % 8), sequence
            result = "integrity"
            if at < 4:
                result = "unknownSPI"
            elif at < 8:
                number = int.from_bytes(wrong[4:8], "big")
                if number <= sequence - 1 - window:
                    result = "tooOld"
                elif number == sequence - 1:
                    result = "replayed"
            part = "icv" if at >= len(esp) - a["icv_len"] else "iv" if 8 <= at < 8 + len(iv) else "body"
            part = ("spi" if at < 4 else "sequence") if at < 8 else part
            cases.append(case_of(f"{name}/{part}-byte-{at}", a, number, iv, m.wrap(a, wrong), result, **more))
        m.write(f"negative/altered-{name}.json", FORM, SOURCE, cases)


def integrity():
    """keys, salts and high sequence halves that are not the sender's"""
    cases = []
    for transform in m.FAMILIES:
        name, inner = m.short_name(transform), m.udp_packet(*IN4, b"payload")
        for field in ("encr_key", "salt", "integ_key"):
            a, iv, esp = build(f"{name}/other-{field}", transform, inner)
            if not a[field] or (field == "encr_key" and transform[2]):
                continue
            wrong = {**a, field: flip(bytes.fromhex(a[field]), 1, 6).hex()}
            if field == "salt" and transform[2]:
                continue
            cases.append(case_of(f"{name}/other-{field}", wrong, 9, iv, m.wrap(a, esp), "integrity"))
        for label, sealed, opened in (("high-half-ahead", 1, 0), ("high-half-behind", 1, 2), ("high-half-lost", 5, 2)):
            label = f"{name}/{label}"
            a, iv, esp = build(label, transform, inner, sealed << 32 | 100, esn=True)
            more = {"replay_window": 64, "highest": opened << 32 | 90}
            cases.append(case_of(label, a, opened << 32 | 100, iv, m.wrap(a, esp), "integrity", **more))
        for label, sender, receiver in (("sender-without-esn", False, True), ("sender-with-esn", True, False)):
            a, iv, esp = build(f"{name}/{label}", transform, inner, esn=sender)
            cases.append(case_of(f"{name}/{label}", {**a, "esn": receiver}, 9, iv, m.wrap(a, esp), "integrity"))
        a, iv, esp = build(f"{name}/zero-icv", transform, inner)
        cleared = esp[: -a["icv_len"]] + bytes(a["icv_len"])
        cases.append(case_of(f"{name}/zero-icv", a, 9, iv, m.wrap(a, cleared), "integrity"))
    m.write("negative/integrity.json", FORM, SOURCE, cases)


def cut_result(a, size):
    """what an ESP packet of that size, cut from a longer one, must be refused for"""
    _, iv, block, _, _ = m.ENCR[a["encr"]]
    body = size - 8 - iv - a["icv_len"]
    if body <= 0:
        return "truncated"
    if body < block:
        return ["truncated", "ciphertextLength"]
    return "ciphertextLength" if body % block else "integrity"


def truncated():
    kinds = [(t, V4, IN4, False) for t in m.FAMILIES] + [(GCM, V6, IN6, False), (CBC, V4, IN4, True), (GCM, V6, IN4, True)]
    for transform, ends, inside, udp in kinds:
        name = m.short_name(transform) + ("-v6" if ends == V6 else "") + ("-udp" if udp else "")
        inner = m.udp_packet(*inside, b"")
        a, iv, esp = build(name, transform, inner, 9, src=ends[0], dst=ends[1], udp=udp)
        outer = m.wrap(a, esp)
        cases = [case_of(name + "/whole", a, 9, iv, outer, "accepted", inner)]
        for size in range(len(esp)):
            packet = m.wrap(a, esp[:size])
            cases.append(case_of(f"{name}/adjusted-{size}", a, 9, iv, packet, cut_result(a, size)))
        for size in range(1, len(outer)):
            cases.append(case_of(f"{name}/cut-{size}", a, 9, iv, outer[:size], "truncated"))
        m.write(f"negative/truncated-{name}.json", FORM, SOURCE, cases)


def padding():
    cases = []
    for transform in m.FAMILIES:
        name, block = m.short_name(transform), m.ENCR[transform[0]][2]
        sizes = [-(28 + extra + 2) % block + (block if block == 4 else 0) for extra in range(4)]
        for extra, pad in enumerate(sizes):
            inner = m.udp_packet(*IN4, bytes(extra))
            right = bytes(range(1, pad + 1))
            variants = {f"byte-{at}": (flip(right, at, (at + extra) % 8), pad) for at in range(pad)}
            variants["zeros"], variants["reversed"] = (bytes(pad), pad), (right[::-1], pad)
            variants["from-zero"] = (bytes(range(pad)), pad)
            variants["one-too-long"] = (right, pad + 1)
            variants["many-too-long"] = (right, pad + 20)
            variants["header-eaten"] = (right, pad + 29)
            variants["beyond-payload"] = (right, len(inner) + pad + 1)
            variants["255"] = (right, 255)
            for variant, (bytes_, field) in variants.items():
                if pad < 2 and variant == "reversed" or pad == 0 and variant in ("zeros", "from-zero"):
                    continue
                label = f"{name}/pad-{pad}/{variant}"
                a, iv, esp = build(label, transform, inner, wire={"pad_bytes": bytes_, "pad_field": field})
                cases.append(case_of(label, a, 9, iv, m.wrap(a, esp), "padding"))
        label = f"{name}/all-padding"
        a, iv, esp = build(label, transform, b"", next_header=m.IPIP, wire={"pad": 58 if block == 4 else 62})
        cases.append(case_of(label, a, 9, iv, m.wrap(a, esp), "innerMalformed"))
    m.write("negative/padding.json", FORM, SOURCE, cases)


def next_header():
    cases = []
    for transform in (GCM, CBC):
        for inside in (IN4, IN6):
            name = f"{m.short_name(transform)}/v{4 if inside == IN4 else 6}"
            inner, right = m.udp_packet(*inside, b"abc"), m.IPIP if inside == IN4 else m.IPV6
            for value in sorted(OTHER_HEADERS - {right}):
                label = f"{name}/next-header-{value}"
                a, iv, esp = build(label, transform, inner, next_header=value)
                result = "innerMalformed" if value in (m.IPIP, m.IPV6) else "nextHeader"
                cases.append(case_of(label, a, 9, iv, m.wrap(a, esp), result))
    m.write("negative/next-header.json", FORM, SOURCE, cases)


def inner_headers():
    cases = []
    data = m.udp(*IN4, 1, 2, b"0123456789")
    whole = 20 + len(data)
    broken4 = {f"length-{n}": m.ip4(*IN4, m.UDP, data, length=n) for n in (0, 1, 19, whole + 1, whole + 2, 64, 1500, 65535)}
    broken4.update({f"version-{n}": m.ip4(*IN4, m.UDP, data, version=n) for n in (0, 1, 3, 5, 6, 7, 15)})
    broken4.update({f"ihl-{n}": m.ip4(*IN4, m.UDP, data, ihl=n) for n in (0, 1, 4, 10, 15)})
    broken4.update({f"cut-{n}": m.ip4(*IN4, m.UDP, data)[:n] for n in (0, 1, 8, 19, 20, 27, whole - 1)})
    data6 = m.udp(*IN6, 1, 2, b"0123456789")
    size6 = len(data6)
    broken6 = {f"length-{n}": m.ip6(*IN6, m.UDP, data6, length=n) for n in (size6 + 1, size6 + 2, 64, 1500, 65535)}
    broken6.update({f"version-{n}": m.ip6(*IN6, m.UDP, data6, version=n) for n in (0, 1, 4, 5, 7, 15)})
    broken6.update({f"cut-{n}": m.ip6(*IN6, m.UDP, data6)[:n] for n in (0, 1, 20, 39, 40, 47, 40 + size6 - 1)})
    for transform in m.FAMILIES:
        for family, table, following in (("v4", broken4, m.IPIP), ("v6", broken6, m.IPV6)):
            for variant, inner in table.items():
                label = f"{m.short_name(transform)}/{family}-{variant}"
                a, iv, esp = build(label, transform, inner, next_header=following)
                cases.append(case_of(label, a, 9, iv, m.wrap(a, esp), "innerMalformed"))
    m.write("negative/inner-header.json", FORM, SOURCE, cases)


def replay():
    cases = []
    for transform in (GCM, CBC):
        for window in (32, 64, 128, 1024, 4096):
            for top in (window + 1000, 0xFFFFFFFE):
                table = {
                    "highest": (top, "replayed"),
                    "next": (top + 1, "accepted"),
                    "one-below": (top - 1, "accepted"),
                    "left-edge": (top - window + 1, "accepted"),
                    "beyond-left-edge": (top - window, "tooOld"),
                    "far-below": (top - window - 500, "tooOld"),
                    "one": (1, "tooOld"),
                    "zero": (0, "sequenceZero"),
                }
                for variant, (sequence, result) in table.items():
                    cases.append(replay_case(transform, False, window, top, variant, sequence, result))
            base = 7 << 32
            table = {
                "highest": (base + 9, base + 9, "replayed"),
                "wrapped-down": (base + 9, base - 5, "accepted"),
                "left-edge-over-wrap": (base + 9, base + 10 - window, "accepted"),
                "low-half-zero": (base + 9, base, "accepted"),
                "highest-over-wrap": (base - 1, base, "accepted"),
                "zero": (3, 0, "sequenceZero"),
                "next-subspace": (base + 9, base + 10 - window + 2**32 - 1, "accepted"),
            }
            for variant, (top, sequence, result) in table.items():
                cases.append(replay_case(transform, True, window, top, variant, sequence, result))
            low = 2**32 + 10 - window
            cases.append(replay_case(transform, True, window, 9, "below-first-subspace", low, "tooOld"))
    m.write("negative/replay.json", FORM, SOURCE, cases)


def replay_case(transform, esn, window, top, variant, sequence, result):
    label = f"{m.short_name(transform)}/{'esn/' if esn else ''}window-{window}/highest-{top}/{variant}"
    inner = m.udp_packet(*IN4, b"replay")
    a, iv, esp = build(label, transform, inner, sequence, esn=esn)
    inner = inner if result == "accepted" else None
    return case_of(label, a, sequence, iv, m.wrap(a, esp), result, inner, replay_window=window, highest=top)


if __name__ == "__main__":
    altered()
    integrity()
    truncated()
    padding()
    next_header()
    inner_headers()
    replay()
