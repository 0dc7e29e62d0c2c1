// IP packets from their parts, built without the code under test.

/// An IPv4 packet to be.
package struct IPv4Packet {
    package var source: UInt32 = 0x0A01_0001
    package var destination: UInt32 = 0x0A02_0002
    package var transport: UInt8 = 17
    package var tos: UInt8 = 0
    package var ttl: UInt8 = 64
    package var identification: UInt16 = 0x1234
    /// Flags and fragment offset.
    package var fragment: UInt16 = 0
    package var options: [UInt8] = []
    package var payload: [UInt8]

    package init(payload: [UInt8] = Array(repeating: 0xAB, count: 40)) { self.payload = payload }

    package var bytes: [UInt8] {
        precondition(options.count.isMultiple(of: 4))
        var header: [UInt8] = [0x45 + UInt8(options.count / 4), tos]
        header += bigEndian(UInt16(20 + options.count + payload.count))
        header += bigEndian(identification) + bigEndian(fragment)
        header += [ttl, transport, 0, 0] + bigEndian(source) + bigEndian(destination) + options
        header.replaceSubrange(10..<12, with: bigEndian(naiveChecksum(header)))
        return header + payload
    }
}

/// An IPv6 packet to be.
package struct IPv6Packet {
    /// An extension header: its own number and its octets, of which the first is filled in.
    package struct Extension: Sendable {
        package let number: UInt8
        package let body: [UInt8]

        package init(_ number: UInt8, bytes: Int = 8) {
            precondition(bytes.isMultiple(of: 8) && bytes >= 8)
            self.number = number
            body = [0, UInt8(bytes / 8 - 1)] + Array(repeating: 0, count: bytes - 2)
        }

        /// A fragment header (RFC 8200 §4.5).
        package init(fragmentOffset: UInt16, more: Bool) {
            number = 44
            body = [0, 0] + bigEndian(fragmentOffset << 3 | (more ? 1 : 0)) + [0, 0, 0, 9]
        }
    }

    package var source: (UInt64, UInt64) = (0x2001_0DB8_0001_0000, 1)
    package var destination: (UInt64, UInt64) = (0x2001_0DB8_0002_0000, 2)
    package var transport: UInt8 = 17
    package var trafficClass: UInt8 = 0
    package var flowLabel: UInt32 = 0
    package var hopLimit: UInt8 = 64
    package var extensions: [Extension] = []
    package var payload: [UInt8]

    package init(payload: [UInt8] = Array(repeating: 0xCD, count: 40)) { self.payload = payload }

    package var bytes: [UInt8] {
        var rest: [UInt8] = []
        for (index, part) in extensions.enumerated() {
            let next = index + 1 < extensions.count ? extensions[index + 1].number : transport
            rest += [next] + part.body.dropFirst()
        }
        rest += payload
        var header = bigEndian(6 << 28 | UInt32(trafficClass) << 20 | flowLabel)
        header += bigEndian(UInt16(rest.count)) + [extensions.first?.number ?? transport, hopLimit]
        header += bigEndian(source.0) + bigEndian(source.1)
        header += bigEndian(destination.0) + bigEndian(destination.1)
        return header + rest
    }
}

/// A UDP datagram without a checksum. `length` replaces the true length field.
package func udpDatagram(
    from source: UInt16, to destination: UInt16, _ body: [UInt8], length: UInt16? = nil
) -> [UInt8] {
    bigEndian(source) + bigEndian(destination) + bigEndian(length ?? UInt16(8 + body.count))
        + [0, 0] + body
}

/// An IKE message's fixed header (RFC 7296 §3.1) and `body` after it.
package func ikeMessage(
    initiator: UInt64, responder: UInt64 = 0, exchange: UInt8 = 34, messageID: UInt32 = 0,
    body: [UInt8] = [], length: UInt32? = nil
) -> [UInt8] {
    bigEndian(initiator) + bigEndian(responder) + [33, 0x20, exchange, 0x08]
        + bigEndian(messageID) + bigEndian(length ?? UInt32(28 + body.count)) + body
}
