// Tunnels' state as octets: numbers as varints, because most tunnels have not come far, and a
// datagram of checkpoints then holds some fifty of them.

internal import Wire

extension TunnelState {
    /// SPI, seven numbers of one octet, no window.
    private static let bytesMinimum = 12

    var encodedBytes: Int {
        var bytes = 5 + 8 * window.count
        bytes += OctetWriter.varintBytes(sent) + OctetWriter.varintBytes(sentPackets)
        bytes += OctetWriter.varintBytes(sentBytes) + OctetWriter.varintBytes(received)
        bytes += OctetWriter.varintBytes(receivedPackets) + OctetWriter.varintBytes(receivedBytes)
        bytes += OctetWriter.varintBytes(exposedThrough)
        return bytes
    }

    static func encode(_ states: [TunnelState], into writer: inout OctetWriter) {
        writer.listCount(states.count)
        for state in states { state.encode(into: &writer) }
    }

    private func encode(into writer: inout OctetWriter) {
        precondition(window.count <= Self.windowWordsMaximum)
        writer.uint32(spi.value)
        writer.varint(sent)
        writer.varint(sentPackets)
        writer.varint(sentBytes)
        writer.varint(received)
        writer.varint(receivedPackets)
        writer.varint(receivedBytes)
        writer.varint(exposedThrough)
        writer.uint8(UInt8(window.count))
        for word in window { writer.uint64(word) }
    }

    static func list(_ reader: inout OctetReader) throws(EncodingFault) -> [TunnelState] {
        let count = Int(try reader.uint16())
        return try reader.list(count, bytesMinimum: bytesMinimum) {
            reader throws(EncodingFault) in try TunnelState(&reader)
        }
    }

    private init(_ reader: inout OctetReader) throws(EncodingFault) {
        spi = try reader.spi()
        sent = try reader.varint()
        sentPackets = try reader.varint()
        sentBytes = try reader.varint()
        received = try reader.varint()
        receivedPackets = try reader.varint()
        receivedBytes = try reader.varint()
        exposedThrough = try reader.varint()
        let count = Int(try reader.uint8())
        guard count <= Self.windowWordsMaximum else { throw .range }
        window = try reader.list(count, bytesMinimum: 8) { reader throws(EncodingFault) in
            try reader.uint64()
        }
    }
}

extension Checkpoints {
    /// Identifier, generation, number of states.
    private static let fixedBytes = 6

    /// Any number of states as messages that fit one datagram each, in the given order; none for
    /// none.
    public static func split(
        identifier: DistributionIdentifier, generation: UInt16, states: [TunnelState]
    ) -> [Checkpoints] {
        cut(states, room: HALink.messageMaximum - 1 - fixedBytes) { $0.encodedBytes }.map {
            Checkpoints(identifier: identifier, generation: generation, states: Array($0))
        }
    }

    var encodedBytes: Int { states.reduce(Self.fixedBytes) { $0 + $1.encodedBytes } }

    func encode(_ kind: HALinkMessage.Kind, into writer: inout OctetWriter) {
        writer.uint8(kind.rawValue)
        writer.identifier(identifier)
        writer.generation(generation)
        TunnelState.encode(states, into: &writer)
    }

    init(_ reader: inout OctetReader) throws(EncodingFault) {
        identifier = try reader.identifier()
        generation = try reader.generation()
        states = try TunnelState.list(&reader)
    }
}

extension Handover {
    /// Identifier, generation, part, parts, number of states, number of digests.
    private static let fixedBytes = 12
    private static let digestBytes = 8

    /// States and digests as parts that fit one datagram each, in the given order; one empty part
    /// for none. Precondition: at most 65535 parts come of it.
    public static func split(
        identifier: DistributionIdentifier, generation: UInt16, states: [TunnelState],
        sentDigests: [UInt64]
    ) -> [Handover] {
        let room = HALink.messageMaximum - 1 - fixedBytes
        var bodies = cut(states, room: room) { $0.encodedBytes }
            .map { (states: Array($0), sentDigests: [UInt64]()) }
        if bodies.isEmpty { bodies.append(([], [])) }
        // The last datagram of states has room for the first digests.
        let used = bodies[bodies.count - 1].states.reduce(0) { $0 + $1.encodedBytes }
        let first = min((room - used) / digestBytes, sentDigests.count)
        bodies[bodies.count - 1].sentDigests = Array(sentDigests[..<first])
        bodies += cut(Array(sentDigests[first...]), room: room / digestBytes) { _ in 1 }
            .map { (states: [], sentDigests: Array($0)) }
        let parts = UInt16(bodies.count)
        return bodies.enumerated().map { index, body in
            Handover(
                identifier: identifier, generation: generation, part: UInt16(index), parts: parts,
                states: body.states, sentDigests: body.sentDigests)
        }
    }

    var encodedBytes: Int {
        states.reduce(Self.fixedBytes + Self.digestBytes * sentDigests.count) {
            $0 + $1.encodedBytes
        }
    }

    func encode(_ kind: HALinkMessage.Kind, into writer: inout OctetWriter) {
        precondition(part < parts)
        writer.uint8(kind.rawValue)
        writer.identifier(identifier)
        writer.generation(generation)
        writer.uint16(part)
        writer.uint16(parts)
        TunnelState.encode(states, into: &writer)
        writer.listCount(sentDigests.count)
        for digest in sentDigests { writer.uint64(digest) }
    }

    init(_ reader: inout OctetReader) throws(EncodingFault) {
        identifier = try reader.identifier()
        generation = try reader.generation()
        part = try reader.uint16()
        parts = try reader.uint16()
        guard part < parts else { throw .range }
        states = try TunnelState.list(&reader)
        let count = Int(try reader.uint16())
        sentDigests = try reader.list(count, bytesMinimum: Self.digestBytes) {
            reader throws(EncodingFault) in try reader.uint64()
        }
    }
}
