// The cursors of the association's encoding: one that checks every length before it reads, and one
// that writes into memory whose length was computed before.

import Wire

extension IPAddress.Family {
    /// Octets of an address.
    var octets: Int { self == .v4 ? 4 : 16 }
}

/// Reads big-endian numbers from front to back.
struct OctetReader {
    private let octets: UnsafeRawBufferPointer
    private var offset = 0

    init(_ octets: UnsafeRawBufferPointer) { self.octets = octets }

    /// Octets that have not been read.
    var left: Int { octets.count - offset }

    /// The next `count` octets; they stay where they are.
    mutating func next(_ count: Int) throws(AssociationCodingError) -> UnsafeRawBufferPointer {
        guard count <= left else { throw .truncated }
        defer { offset += count }
        return UnsafeRawBufferPointer(rebasing: octets[offset..<offset + count])
    }

    mutating func next8() throws(AssociationCodingError) -> UInt8 {
        load8(try pointer(1), 0)
    }

    mutating func next16() throws(AssociationCodingError) -> UInt16 {
        load16(try pointer(2), 0)
    }

    mutating func next32() throws(AssociationCodingError) -> UInt32 {
        load32(try pointer(4), 0)
    }

    mutating func next64() throws(AssociationCodingError) -> UInt64 {
        load64(try pointer(8), 0)
    }

    mutating func nextAddress(
        _ family: IPAddress.Family
    ) throws(AssociationCodingError) -> IPAddress {
        IPAddress(family, at: try pointer(family.octets), 0)
    }

    mutating func nextSelectors(_ count: Int) throws(AssociationCodingError) -> [TrafficSelector] {
        var selectors: [TrafficSelector] = []
        for _ in 0..<count {
            guard let family = IPAddress.Family(rawValue: try next8()) else {
                throw .field(.selector)
            }
            let ipProtocol = try next8()
            let (firstPort, lastPort) = (try next16(), try next16())
            let (first, last) = (try nextAddress(family), try nextAddress(family))
            guard
                let selector = TrafficSelector(
                    first: first, last: last, ipProtocol: ipProtocol, firstPort: firstPort,
                    lastPort: lastPort)
            else { throw .field(.selector) }
            selectors.append(selector)
        }
        return selectors
    }

    private mutating func pointer(_ count: Int) throws(AssociationCodingError) -> UnsafeRawPointer {
        guard let base = try next(count).baseAddress else { throw .truncated }
        return base
    }
}

/// Writes big-endian numbers from front to back. The caller vouches for the room.
struct OctetWriter {
    private let base: UnsafeMutableRawPointer
    /// Octets written.
    var offset = 0

    init(_ base: UnsafeMutableRawPointer) { self.base = base }

    mutating func put8(_ value: UInt8) {
        store8(value, base, offset)
        offset += 1
    }

    mutating func put16(_ value: UInt16) {
        store16(value, base, offset)
        offset += 2
    }

    mutating func put32(_ value: UInt32) {
        store32(value, base, offset)
        offset += 4
    }

    mutating func put64(_ value: UInt64) {
        store64(value, base, offset)
        offset += 8
    }

    mutating func put(_ address: IPAddress) {
        switch address.family {
        case .v4: put32(UInt32(truncatingIfNeeded: address.low))
        case .v6:
            put64(address.high)
            put64(address.low)
        }
    }

    mutating func put(_ selector: TrafficSelector) {
        put8(selector.first.family.rawValue)
        put8(selector.ipProtocol)
        put16(selector.firstPort)
        put16(selector.lastPort)
        put(selector.first)
        put(selector.last)
    }
}
