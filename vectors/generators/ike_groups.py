#!/usr/bin/env python3
"""Writes key-agreement.json: key agreements in IKEv2's groups, and public values to be refused.

The arithmetic is Python's own: MODP by pow(), with primes from the formula of RFC 3526; ECP by the
affine formulas, with the parameters of RFC 5903 section 3; X25519 by the ladder of RFC 7748 section 5.
Where python3-cryptography is installed, every agreement is compared with it as well.
"""
import random
import sys

import espmodel as m

RANDOM = random.Random("ike-groups 1")


def pi_times_two_to(bits):
    """floor(pi * 2^bits), by Machin's formula with 64 spare bits."""
    one = 1 << (bits + 64)

    def arctan(inverse):
        total = term = one // inverse
        n, sign = 3, -1
        while term:
            term //= inverse * inverse
            total += sign * (term // n)
            n, sign = n + 2, -sign
        return total

    return 4 * (4 * arctan(5) - arctan(239)) >> 64


def modp_prime(bits, addend):
    """RFC 3526: p = 2^bits - 2^(bits-64) - 1 + 2^64 * ([2^(bits-130) pi] + addend)."""
    return 2**bits - 2 ** (bits - 64) - 1 + 2**64 * (pi_times_two_to(bits - 130) + addend)


MODP = {
    14: (modp_prime(2048, 124476), 40),
    15: (modp_prime(3072, 1690314), 53),
    16: (modp_prime(4096, 240904), 60),
}


def spelled(*lines):
    """A number in the RFC's groups of digits."""
    return int("".join(lines).replace(" ", ""), 16)


# RFC 5903 section 3: prime, b, order, generator; a is -3.
CURVES = {
    19: (
        2**256 - 2**224 + 2**192 + 2**96 - 1,
        spelled(
            "5AC635D8 AA3A93E7 B3EBBD55 769886BC 651D06B0 CC53B0F6 3BCE3C3E 27D2604B",
        ),
        spelled(
            "FFFFFFFF 00000000 FFFFFFFF FFFFFFFF BCE6FAAD A7179E84 F3B9CAC2 FC632551",
        ),
        spelled(
            "6B17D1F2 E12C4247 F8BCE6E5 63A440F2 77037D81 2DEB33A0 F4A13945 D898C296",
        ),
        spelled(
            "4FE342E2 FE1A7F9B 8EE7EB4A 7C0F9E16 2BCE3357 6B315ECE CBB64068 37BF51F5",
        ),
    ),
    20: (
        2**384 - 2**128 - 2**96 + 2**32 - 1,
        spelled(
            "B3312FA7 E23EE7E4 988E056B E3F82D19 181D9C6E FE814112 0314088F 5013875A",
            "C656398D 8A2ED19D 2A85C8ED D3EC2AEF",
        ),
        spelled(
            "FFFFFFFF FFFFFFFF FFFFFFFF FFFFFFFF FFFFFFFF FFFFFFFF C7634D81 F4372DDF",
            "581A0DB2 48B0A77A ECEC196A CCC52973",
        ),
        spelled(
            "AA87CA22 BE8B0537 8EB1C71E F320AD74 6E1D3B62 8BA79B98 59F741E0 82542A38",
            "5502F25D BF55296C 3A545E38 72760AB7",
        ),
        spelled(
            "3617DE4A 96262C6F 5D9E98BF 9292DC29 F8F41DBD 289A147C E9DA3113 B5F0B8C0",
            "0A60B1CE 1D7E819D 7A431D7C 90EA0E5F",
        ),
    ),
    21: (
        2**521 - 1,
        spelled(
            "0051953E B9618E1C 9A1F929A 21A0B685 40EEA2DA 725B99B3 15F3B8B4 89918EF1",
            "09E15619 3951EC7E 937B1652 C0BD3BB1 BF073573 DF883D2C 34F1EF45 1FD46B50",
            "3F00",
        ),
        spelled(
            "01FFFFFF FFFFFFFF FFFFFFFF FFFFFFFF FFFFFFFF FFFFFFFF FFFFFFFF FFFFFFFF",
            "FFFA5186 8783BF2F 966B7FCC 0148F709 A5D03BB5 C9B8899C 47AEBB6F B71E9138",
            "6409",
        ),
        spelled(
            "00C6858E 06B70404 E9CD9E3E CB662395 B4429C64 8139053F B521F828 AF606B4D",
            "3DBAA14B 5E77EFE7 5928FE1D C127A2FF A8DE3348 B3C1856A 429BF97E 7E31C2E5",
            "BD66",
        ),
        spelled(
            "01183929 6A789A3B C0045C8A 5FB42C7D 1BD998F5 4449579B 446817AF BD17273E",
            "662C97EE 72995EF4 2640C550 B9013FAD 0761353C 7086A272 C24088BE 94769FD1",
            "6650",
        ),
    ),
}


def add(curve, one, two):
    prime = curve[0]
    if one is None or two is None:
        return two if one is None else one
    if one[0] == two[0]:
        if (one[1] + two[1]) % prime == 0:
            return None
        slope = (3 * one[0] ** 2 - 3) * pow(2 * one[1], -1, prime)
    else:
        slope = (two[1] - one[1]) * pow(two[0] - one[0], -1, prime)
    x = (slope * slope - one[0] - two[0]) % prime
    return x, (slope * (one[0] - x) - one[1]) % prime


def multiply(curve, scalar, point):
    result = None
    for bit in bin(scalar)[2:]:
        result = add(curve, result, result)
        if bit == "1":
            result = add(curve, result, point)
    return result


X25519_PRIME = 2**255 - 19


def x25519(scalar, u):
    """RFC 7748 section 5; octets in and out."""
    k = int.from_bytes(scalar, "little") & ~7 & (2**255 - 1) | 2**254
    k &= 2**255 - 1
    p, x1 = X25519_PRIME, int.from_bytes(u, "little") % 2**255 % X25519_PRIME
    x2, z2, x3, z3, swap = 1, 0, x1, 1, 0
    for t in range(254, -1, -1):
        bit = k >> t & 1
        if swap ^ bit:
            x2, x3, z2, z3 = x3, x2, z3, z2
        swap = bit
        a, b, c, d = x2 + z2, x2 - z2, x3 + z3, x3 - z3
        aa, bb, da, cb = a * a % p, b * b % p, d * a % p, c * b % p
        e = aa - bb
        x3, z3 = (da + cb) ** 2 % p, x1 * (da - cb) ** 2 % p
        x2, z2 = aa * bb % p, e * (aa + 121665 * e) % p
    if swap:
        x2, z2 = x3, z3
    return (x2 * pow(z2, p - 2, p) % p).to_bytes(32, "little")


def modp_case(group, private, other, name):
    prime, size = MODP[group]
    length = prime.bit_length() // 8
    peer = pow(2, other, prime)
    return {
        "name": name, "group": group, "private": private.to_bytes(size, "big").hex(),
        "public": pow(2, private, prime).to_bytes(length, "big").hex(),
        "peer": peer.to_bytes(length, "big").hex(),
        "shared": pow(peer, private, prime).to_bytes(length, "big").hex(),
    }


def point_text(point, length):
    return (point[0].to_bytes(length, "big") + point[1].to_bytes(length, "big")).hex()


def curve_case(group, private, other, name):
    curve = CURVES[group]
    length = (curve[0].bit_length() + 7) // 8
    base = curve[3], curve[4]
    peer = multiply(curve, other, base)
    return {
        "name": name, "group": group, "private": private.to_bytes(length, "big").hex(),
        "public": point_text(multiply(curve, private, base), length),
        "peer": point_text(peer, length),
        "shared": multiply(curve, private, peer)[0].to_bytes(length, "big").hex(),
    }


def x25519_case(private, other, name):
    base = (9).to_bytes(32, "little")
    peer = x25519(other, base)
    return {
        "name": name, "group": 31, "private": private.hex(), "public": x25519(private, base).hex(),
        "peer": peer.hex(), "shared": x25519(private, peer).hex(),
    }


def until_short(make, name):
    """The first random case whose shared secret begins with a zero octet."""
    while True:
        case = make(name)
        if case["shared"].startswith("00"):
            return case


def agreements():
    for group, (prime, size) in MODP.items():
        def make(name, group=group, size=size):
            return modp_case(group, RANDOM.getrandbits(8 * size), RANDOM.getrandbits(8 * size), name)
        yield from (make(f"random {n}") for n in range(3))
        yield until_short(make, "shared secret with a leading zero")
        yield modp_case(group, 2, 2, "smallest exponents")
        yield modp_case(group, 2 ** (8 * size) - 1, 3, "largest exponent, peer 8")
        yield modp_case(group, 5, (prime - 1) // 2 - 1, "peer of the largest exponent")
    for group, curve in CURVES.items():
        def make(name, group=group, order=curve[2]):
            return curve_case(group, RANDOM.randrange(1, order), RANDOM.randrange(1, order), name)
        yield from (make(f"random {n}") for n in range(3))
        yield until_short(make, "shared secret with a leading zero")
        yield curve_case(group, 1, 1, "both private keys are 1")
        yield curve_case(group, curve[2] - 1, 2, "private key is the order less 1")
    yield from (
        x25519_case(RANDOM.randbytes(32), RANDOM.randbytes(32), f"random {n}") for n in range(3))
    yield until_short(
        lambda name: x25519_case(RANDOM.randbytes(32), RANDOM.randbytes(32), name),
        "shared secret with a leading zero")
    yield x25519_case(bytes(32), bytes([255] * 32), "all bits clear, all bits set")


def refusals():
    for group, (prime, _) in MODP.items():
        length = prime.bit_length() // 8
        names = {"0": 0, "1": 1, "p - 1": prime - 1, "p": prime, "p + 1": prime + 1,
                 "all ones": 2 ** (8 * length) - 1}
        for name, value in names.items():
            yield {"name": name, "group": group, "peer": value.to_bytes(length, "big").hex()}
    for group, curve in CURVES.items():
        prime, b, _, x, y = curve
        length = (prime.bit_length() + 7) // 8
        twist = next(
            x for x in range(1, 99)
            if pow(x**3 - 3 * x + b, (prime - 1) // 2, prime) == prime - 1)
        points = {
            "0, 0": (0, 0), "y + 1": (x, y + 1), "x + 1": (x + 1, y), "x and y exchanged": (y, x),
            "x alone": (x, 0), "no point has this x": (twist, y), "x = p": (prime, y),
            "y = p": (x, prime),
            "all ones": (2 ** (8 * length) - 1, 2 ** (8 * length) - 1),
        }
        if x + prime < 2 ** (8 * length):
            points["x + p"] = (x + prime, y)
            points["y + p"] = (x, y + prime)
        for name, point in points.items():
            yield {"name": name, "group": group, "peer": point_text(point, length)}
    # The points of small order, each canonical or not, and with the bit that RFC 7748 masks.
    eight = [
        "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
        "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
    ]
    numbers = [0, 1, X25519_PRIME - 1, X25519_PRIME, X25519_PRIME + 1]
    values = [value.to_bytes(32, "little") for value in numbers]
    for value in values + [bytes.fromhex(text) for text in eight]:
        for masked in (0, 0x80):
            octets = value[:31] + bytes([value[31] | masked])
            assert x25519(RANDOM.randbytes(32), octets) == bytes(32)
            yield {"name": f"small order, bit {masked:#x}", "group": 31, "peer": octets.hex()}


def compare(case):
    """The same agreement by python3-cryptography."""
    from cryptography.hazmat.primitives.asymmetric import dh, ec, x25519 as x
    private, peer = bytes.fromhex(case["private"]), bytes.fromhex(case["peer"])
    if case["group"] in MODP:
        parameters = dh.DHParameterNumbers(MODP[case["group"]][0], 2)
        public = dh.DHPublicNumbers(int(case["public"], 16), parameters)
        key = dh.DHPrivateNumbers(int.from_bytes(private, "big"), public).private_key()
        other = dh.DHPublicNumbers(int.from_bytes(peer, "big"), parameters).public_key()
        shared = key.exchange(other).rjust(len(peer), b"\0")
    elif case["group"] in CURVES:
        curve = {19: ec.SECP256R1, 20: ec.SECP384R1, 21: ec.SECP521R1}[case["group"]]()
        key = ec.derive_private_key(int.from_bytes(private, "big"), curve)
        other = ec.EllipticCurvePublicKey.from_encoded_point(curve, b"\4" + peer)
        shared = key.exchange(ec.ECDH(), other)
    else:
        key = x.X25519PrivateKey.from_private_bytes(private)
        shared = key.exchange(x.X25519PublicKey.from_public_bytes(peer))
    assert shared.hex() == case["shared"], case


def main():
    cases = list(agreements())
    try:
        import cryptography
        for case in cases:
            compare(case)
        print(f"python3-cryptography {cryptography.__version__} agrees with all")
    except ImportError:
        print("NOT COMPARED: python3-cryptography is not installed", file=sys.stderr)
    for case in refusals():
        cases.append({"name": case.pop("name"), **case, "shared": None})
    for number, case in enumerate(cases):
        case["name"] = f"group {case['group']}, {case['name']}, case {number}"
    m.write("key-agreement.json", "spindle-key-agreement-1", "vectors/generators/ike_groups.py", cases)


if __name__ == "__main__":
    main()
