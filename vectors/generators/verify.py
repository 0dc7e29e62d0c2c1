"""Reads every spindle-esp-1 file again with a receiver of its own and compares the results, seals again where the
case says so, and runs every spindle-replay-1 file through a bitmap.  Run it after the generators."""

import glob
import ipaddress
import json
import os
import sys

import espmodel as m


class Refused(Exception):
    pass


def require(condition, reason):
    if not condition:
        raise Refused(reason)


def ip_parts(packet, bad):
    """header (with IPv6 extension headers that stay outside ESP), protocol, payload"""
    require(packet and packet[0] >> 4 in (4, 6), bad)
    if packet[0] >> 4 == 4:
        require(len(packet) >= 20, bad)
        head, size = (packet[0] & 15) * 4, int.from_bytes(packet[2:4], "big")
        require(20 <= head <= size <= len(packet), bad)
        return packet[:head], packet[9], packet[head:size], size
    require(len(packet) >= 40, bad)
    size = 40 + int.from_bytes(packet[4:6], "big")
    require(size <= len(packet), bad)
    return packet[:40], packet[6], packet[40:size], size


def outer_of(a, packet):
    head, protocol, rest, size = ip_parts(packet, "truncated")
    assert size == len(packet), "trailing bytes"
    if head[0] >> 4 == 4:
        assert m.checksum(head) == 0, "outer checksum"
    at = 6
    while protocol in (m.HOPOPT, m.ROUTING, m.DSTOPT):
        length = 8 + 8 * rest[1]
        at, protocol, head, rest = len(head), rest[0], head + rest[:length], rest[length:]
    if a["sport"] is not None:
        require(protocol == m.UDP and len(rest) >= 8, "truncated")
        assert int.from_bytes(rest[4:6], "big") == len(rest)
        assert int.from_bytes(rest[0:2], "big") == a["sport"] and int.from_bytes(rest[2:4], "big") == a["dport"]
        rest = rest[8:]
    else:
        assert protocol == m.ESP
    return head, at, rest


def infer(low, highest, window):
    """RFC 4303, A2.2"""
    top_high, top_low, edge = highest >> 32, highest & 0xFFFFFFFF, (highest - window + 1) & 0xFFFFFFFF
    if top_low >= window - 1:
        high = top_high if low >= edge else top_high + 1
    else:
        high = top_high - 1 if low >= edge else top_high
    require(high >= 0, "tooOld")
    return high << 32 | low


def full_number(a, case, esp):
    low, window = int.from_bytes(esp[4:8], "big"), case.get("replay_window", 64)
    highest = case.get("highest", max(case["sequence"] - 1, 0))
    full = infer(low, highest, window) if a["esn"] else low
    require(full or not window, "sequenceZero")
    if window and full <= highest:
        require(full > highest - window, "tooOld")
        require(full != highest, "replayed")
    return full


def receive(case):
    a = case["association"]
    if "outer" in case:
        packet = bytes.fromhex(case["outer"])
        head, at, esp = outer_of(a, packet)
    else:
        head, at, esp = b"", 0, bytes.fromhex(case["esp"])
    _, iv, block, _, _ = m.ENCR[a["encr"]]
    body = len(esp) - 8 - iv - a["icv_len"]
    require(body > 0, "truncated")
    require(body >= block, ("truncated", "ciphertextLength"))
    require(body % block == 0, "ciphertextLength")
    require(esp[:4].hex() == a["spi"], "unknownSPI")
    full = full_number(a, case, esp)
    assert full == case["sequence"], "sequence %d" % full
    plaintext = m.unprotect(a, esp, full)
    require(plaintext is not None, "integrity")
    pad, following = plaintext[-2], plaintext[-1]
    payload = plaintext[: max(0, len(plaintext) - 2 - pad)]
    require(pad <= len(plaintext) - 2 and plaintext[-2 - pad : -2] == bytes(range(1, pad + 1)), "padding")
    if "esp" in case and "payload" in case:
        assert following == case["next_header"]
        return payload, payload, following
    require(following != m.NONE, "dummy")
    if a["mode"] == "transport":
        inner = restore(head, at, payload, following)
        check_selectors(case, inner)
        return inner, payload, following
    require(following in (m.IPIP, m.IPV6), "nextHeader")
    _, _, _, size = ip_parts(payload, "innerMalformed")
    require((payload[0] >> 4 == 4) == (following == m.IPIP), "innerMalformed")
    assert len(payload) - size == case.get("tfc_bytes", 0), "TFC"
    inner = payload[:size]
    if head:
        inner = congestion(inner, traffic_class(head) & 3)
    check_selectors(case, inner)
    return inner, payload, following


def restore(head, at, payload, following):
    if head[0] >> 4 == 4:
        head = head[:2] + (len(head) + len(payload)).to_bytes(2, "big") + head[4:9] + bytes([following, 0, 0]) + head[12:]
        return head[:10] + m.checksum(head).to_bytes(2, "big") + head[12:] + payload
    head = head[:at] + bytes([following]) + head[at + 1 :]
    return head[:4] + (len(head) - 40 + len(payload)).to_bytes(2, "big") + head[6:] + payload


def traffic_class(packet):
    return packet[1] if packet[0] >> 4 == 4 else (packet[0] & 15) << 4 | packet[1] >> 4


def congestion(inner, outside):
    """RFC 6040, section 4.2, as its rules in words"""
    inside = traffic_class(inner) & 3
    require(not (inside == 0 and outside == 3), "ecn")
    severity = [0, 2, 1, 3]
    result = inside if inside == 0 or severity[inside] >= severity[outside] else outside
    if result == inside:
        return inner
    if inner[0] >> 4 == 4:
        head = inner[:1] + bytes([inner[1] & 0xFC | result]) + inner[2:10] + bytes(2) + inner[12:20]
        return head[:10] + m.checksum(head).to_bytes(2, "big") + inner[12:]
    return inner[:1] + bytes([inner[1] & 0xCF | result << 4]) + inner[2:]


def selected(text, ip, protocol, port):
    where, _, rest = text.partition("[")
    low, _, high = where.partition("-")
    if not high:
        network = ipaddress.ip_network(low)
        low, high = network[0], network[-1]
    low, high = ipaddress.ip_address(low), ipaddress.ip_address(high)
    if low.version != ip.version or not low <= ip <= high:
        return False
    if not rest:
        return True
    wanted, _, ports = rest.rstrip("]").partition("/")
    if {"icmp": 1, "tcp": 6, "udp": 17}.get(wanted) != protocol and wanted != str(protocol):
        return False
    if not ports:
        return True
    first, _, last = ports.partition("-")
    return port is not None and int(first) <= port <= int(last or first)


def check_selectors(case, inner):
    if "ts_src" not in case:
        return
    head, protocol, rest, _ = ip_parts(inner, "innerMalformed")
    first = head[0] >> 4 == 6 or int.from_bytes(head[6:8], "big") & 0x1FFF == 0
    while head[0] >> 4 == 6 and protocol in (m.HOPOPT, m.ROUTING, m.DSTOPT, 44):
        if protocol == 44:
            first, protocol, rest = int.from_bytes(rest[2:4], "big") >> 3 == 0, rest[0], rest[8:]
        else:
            protocol, rest = rest[0], rest[8 + 8 * rest[1] :]
    sport = dport = None
    if first and protocol in (m.TCP, m.UDP):
        sport, dport = int.from_bytes(rest[0:2], "big"), int.from_bytes(rest[2:4], "big")
    elif first and protocol in (m.ICMP, m.ICMPV6):
        sport = dport = int.from_bytes(rest[0:2], "big")
    wide = 4 if head[0] >> 4 == 4 else 16
    start = 12 if wide == 4 else 8
    src, dst = (ipaddress.ip_address(head[start + i : start + i + wide]) for i in (0, wide))
    require(any(selected(text, src, protocol, sport) for text in case["ts_src"]), "selector")
    require(any(selected(text, dst, protocol, dport) for text in case["ts_dst"]), "selector")


def check(case):
    allowed = case["result"] if isinstance(case["result"], list) else [case["result"]]
    try:
        inner, payload, following = receive(case)
    except Refused as refusal:
        reason = refusal.args[0]
        assert [reason] == allowed or list(reason) == allowed, f"{reason} and not {allowed}"
        assert "inner" not in case and "seal" not in case["check"]
        return
    assert allowed == ["accepted"], f"accepted and not {allowed}"
    assert inner.hex() == case.get("inner", case.get("payload")), "inner packet"
    if "seal" in case["check"]:
        esp = m.seal(case["association"], case["sequence"], bytes.fromhex(case["iv"]), payload, following)
        assert case.get("outer", case.get("esp")).endswith(esp.hex()), "seal"


def check_replay(case):
    """the window as one big integer: bit n stands for highest - n"""
    window, highest = case["window"], case["highest"]
    bits = 1 if highest else 0
    for step in case["steps"]:
        full, verdict, low = step["seq"], "accept", step["seq"]
        try:
            full = infer(low, highest, window) if case["esn"] else low
        except Refused:
            full, verdict = None, "tooOld"
        if window and full is not None and full <= highest:
            back = highest - full
            verdict = "tooOld" if back >= window else "replayed" if bits >> back & 1 else "accept"
        if window and full == 0:
            verdict = "sequenceZero"
        assert (full, verdict) == (step["full"], step["verdict"]), f"{step} {full} {verdict}"
        if verdict != "accept" or not step.get("authentic", True):
            continue
        if full > highest:
            bits, highest = (bits << full - highest if full - highest < window else 0) | 1, full
        elif window:
            bits |= 1 << highest - full
        bits &= (1 << window) - 1
    assert case["highest_after"] == (highest if window else None), "highest after"


def main():
    checks = {"spindle-esp-1": check, "spindle-replay-1": check_replay}
    total = failures = 0
    for path in sorted(glob.glob(os.path.join(m.ROOT, "**", "*.json"), recursive=True)):
        with open(path, encoding="utf-8") as file:
            data = json.load(file)
        if data.get("format") not in checks:
            continue
        for case in data["cases"]:
            total += 1
            try:
                checks[data["format"]](case)
            except AssertionError as error:
                failures += 1
                print(os.path.relpath(path, m.ROOT), case["name"], error)
    print(f"{total} cases, {failures} failures")
    sys.exit(failures > 0)


if __name__ == "__main__":
    main()
