// ESP packets whose insides no sender of ours would make, with a right ICV all the same.

import Crypto
package import ESP
import Wire

extension Transform {
    /// What `craftESP` speaks: the insides can be read and written.
    package static let plain = find(.null, 0, .hmacSHA256)
}

/// HMAC by way of the hash's name, keyed for this one call.
package func macOracle(_ name: String, key: [UInt8], data: [UInt8]) throws -> [UInt8] {
    let digest = try NamedDigest(name: name)
    return try key.withUnsafeBytes { key in
        try data.withUnsafeBytes { data in try digest.hmac(key: key, data: data) }
    }
}

/// An IPv4 packet with ESP under `Transform.plain` and the key of the SPI: `body` is payload,
/// padding, pad length and next header as they are to arrive.
package func craftESP(
    _ spi: UInt32 = 0x1001, sequence: UInt32, body: [UInt8], trafficClass: UInt8 = 0,
    hasWrongICV: Bool = false
) throws -> [UInt8] {
    let esp = bigEndian(spi) + bigEndian(sequence) + body
    let key = keyOctets(SPI(spi), .plain)
    var icv = Array(try macOracle("SHA2-256", key: key, data: esp)[..<16])
    if hasWrongICV { icv[0] ^= 1 }
    var packet = IPv4Packet(payload: esp + icv)
    packet.transport = 50
    packet.tos = trafficClass
    return packet.bytes
}

/// A payload with the padding of RFC 4303 §2.4 behind it.
package func paddedBody(_ payload: [UInt8], next: UInt8, alignment: Int = 4) -> [UInt8] {
    var pad = 0
    while (payload.count + pad + 2) % alignment != 0 { pad += 1 }
    return payload + (0..<pad).map { UInt8($0 + 1) } + [UInt8(pad), next]
}
