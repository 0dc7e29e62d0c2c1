// The messages of the HA link as octets: kind, then body (docs/cluster-protocol.md).

internal import Wire

extension HALinkMessage {
    /// The first octet of an encoded message.
    enum Kind: UInt8 {
        case heartbeat = 1
        case checkpoints, foreignEntry, foreignEntryAnswer, moveOffer, moveReady, handover, load
    }

    /// Octets of the encoding, with the kind.
    var encodedBytes: Int {
        switch self {
        case .heartbeat(let body): 1 + body.encodedBytes
        case .checkpoints(let body): 1 + body.encodedBytes
        case .foreignEntry(let body): 1 + body.encodedBytes
        case .foreignEntryAnswer: 1 + ForeignEntryAnswer.encodedBytes
        case .moveOffer(let body), .moveReady(let body): 1 + body.encodedBytes
        case .handover(let body): 1 + body.encodedBytes
        case .load(let body): 1 + body.encodedBytes
        }
    }

    /// The message before it is sealed. Precondition: it keeps the bounds of its type.
    public func encode() -> [UInt8] {
        OctetWriter.array(count: encodedBytes) { encode(into: &$0) }
    }

    /// Reads an opened message; throws ``EncodingFault``.
    public init(decoding bytes: UnsafeRawBufferPointer) throws(EncodingFault) {
        var reader = OctetReader(bytes)
        let number = try reader.uint8()
        guard let kind = Kind(rawValue: number) else { throw .unknown }
        switch kind {
        case .heartbeat: self = .heartbeat(try Heartbeat(&reader))
        case .checkpoints: self = .checkpoints(try Checkpoints(&reader))
        case .foreignEntry: self = .foreignEntry(try ForeignEntry(&reader))
        case .foreignEntryAnswer: self = .foreignEntryAnswer(try ForeignEntryAnswer(&reader))
        case .moveOffer: self = .moveOffer(try MoveNotice(&reader))
        case .moveReady: self = .moveReady(try MoveNotice(&reader))
        case .handover: self = .handover(try Handover(&reader))
        case .load: self = .load(try LoadReport(&reader))
        }
        try reader.end()
    }

    func encode(into writer: inout OctetWriter) {
        switch self {
        case .heartbeat(let body): body.encode(.heartbeat, into: &writer)
        case .checkpoints(let body): body.encode(.checkpoints, into: &writer)
        case .foreignEntry(let body): body.encode(.foreignEntry, into: &writer)
        case .foreignEntryAnswer(let body): body.encode(.foreignEntryAnswer, into: &writer)
        case .moveOffer(let body): body.encode(.moveOffer, into: &writer)
        case .moveReady(let body): body.encode(.moveReady, into: &writer)
        case .handover(let body): body.encode(.handover, into: &writer)
        case .load(let body): body.encode(.load, into: &writer)
        }
    }
}

extension Heartbeat {
    private static let fixedBytes = 42

    fileprivate var encodedBytes: Int { Self.fixedBytes + 2 * suspects.count }

    fileprivate func encode(_ kind: HALinkMessage.Kind, into writer: inout OctetWriter) {
        precondition(number >= 1, "heartbeats are numbered from 1")
        precondition(flags.rawValue & ~Flags.known == 0)
        precondition(suspects.count <= Self.suspectsMaximum && suspects.ascends { $0 })
        writer.uint8(kind.rawValue)
        writer.uint64(number)
        writer.uint64(echo)
        writer.uint64(grant)
        writer.uint64(epoch)
        writer.uint64(revision)
        writer.uint8(flags.rawValue)
        writer.uint8(UInt8(suspects.count))
        for node in suspects { writer.uint16(node.value) }
    }

    fileprivate init(_ reader: inout OctetReader) throws(EncodingFault) {
        number = try reader.uint64()
        echo = try reader.uint64()
        grant = try reader.uint64()
        epoch = try reader.uint64()
        revision = try reader.uint64()
        flags = Flags(rawValue: try reader.uint8())
        let count = Int(try reader.uint8())
        suspects = try reader.list(count, bytesMinimum: 2) { reader throws(EncodingFault) in
            try reader.node()
        }
        guard number >= 1 else { throw .range }
        guard flags.rawValue & ~Flags.known == 0 else { throw .unknown }
        guard suspects.ascends(by: { $0 }) else { throw .order }
    }
}

extension ForeignEntry {
    static let fixedBytes = 21

    fileprivate var encodedBytes: Int { Self.fixedBytes + sealed.count }

    fileprivate func encode(_ kind: HALinkMessage.Kind, into writer: inout OctetWriter) {
        precondition(((sends ? 0 : 1)...Self.sealedMaximum).contains(sealed.count))
        writer.uint8(kind.rawValue)
        writer.uint64(request)
        writer.identifier(identifier)
        writer.uint32(spi.value)
        writer.uint8(sends ? 1 : 0)
        writer.uint32(replaces.value)
        writer.listCount(sealed.count)
        sealed.withUnsafeBytes { writer.octets($0) }
    }

    fileprivate init(_ reader: inout OctetReader) throws(EncodingFault) {
        request = try reader.uint64()
        identifier = try reader.identifier()
        spi = try reader.spi()
        let flags = try reader.uint8()
        guard flags <= 1 else { throw .unknown }
        sends = flags == 1
        replaces = try reader.spi()
        let count = Int(try reader.uint16())
        guard ((sends ? 0 : 1)...Self.sealedMaximum).contains(count) else { throw .range }
        sealed = Array(try reader.octets(count))
    }
}

extension ForeignEntryAnswer {
    fileprivate static let encodedBytes = 9

    fileprivate func encode(_ kind: HALinkMessage.Kind, into writer: inout OctetWriter) {
        writer.uint8(kind.rawValue)
        writer.uint64(request)
        writer.uint8(code.rawValue)
    }

    fileprivate init(_ reader: inout OctetReader) throws(EncodingFault) {
        request = try reader.uint64()
        guard let code = Code(rawValue: try reader.uint8()) else { throw .unknown }
        self.code = code
    }
}

extension MoveNotice {
    private static let moveBytes = 4

    /// The most moves that fit one datagram.
    public static let movesMaximum = (HALink.messageMaximum - 3) / moveBytes

    /// Any number of moves as notices that fit one datagram each, in ascending order; none for
    /// none. Precondition: each identifier once.
    public static func split(_ moves: [Move]) -> [MoveNotice] {
        cut(moves.sorted { $0.identifier < $1.identifier }, room: movesMaximum) { _ in 1 }
            .map { MoveNotice(moves: Array($0)) }
    }

    fileprivate var encodedBytes: Int { 2 + Self.moveBytes * moves.count }

    fileprivate func encode(_ kind: HALinkMessage.Kind, into writer: inout OctetWriter) {
        precondition(moves.count <= Self.movesMaximum && moves.ascends { $0.identifier })
        writer.uint8(kind.rawValue)
        writer.listCount(moves.count)
        for move in moves {
            writer.identifier(move.identifier)
            writer.generation(move.generation)
        }
    }

    fileprivate init(_ reader: inout OctetReader) throws(EncodingFault) {
        let count = Int(try reader.uint16())
        moves = try reader.list(count, bytesMinimum: Self.moveBytes) {
            reader throws(EncodingFault) in
            Move(identifier: try reader.identifier(), generation: try reader.generation())
        }
        guard moves.ascends(by: { $0.identifier }) else { throw .order }
    }
}

extension LoadReport {
    private static let loadBytes = 10

    /// The most loads that fit one datagram.
    public static let loadsMaximum = (HALink.messageMaximum - 3) / loadBytes

    /// Any number of loads as reports that fit one datagram each, in ascending order; none for
    /// none. Precondition: each identifier once.
    public static func split(_ loads: [Load]) -> [LoadReport] {
        cut(loads.sorted { $0.identifier < $1.identifier }, room: loadsMaximum) { _ in 1 }
            .map { LoadReport(loads: Array($0)) }
    }

    fileprivate var encodedBytes: Int { 2 + Self.loadBytes * loads.count }

    fileprivate func encode(_ kind: HALinkMessage.Kind, into writer: inout OctetWriter) {
        precondition(loads.count <= Self.loadsMaximum && loads.ascends { $0.identifier })
        writer.uint8(kind.rawValue)
        writer.listCount(loads.count)
        for load in loads {
            writer.identifier(load.identifier)
            writer.uint32(load.packetsPerSecond)
            writer.uint32(load.tunnels)
        }
    }

    fileprivate init(_ reader: inout OctetReader) throws(EncodingFault) {
        let count = Int(try reader.uint16())
        loads = try reader.list(count, bytesMinimum: Self.loadBytes) {
            reader throws(EncodingFault) in
            Load(
                identifier: try reader.identifier(), packetsPerSecond: try reader.uint32(),
                tunnels: try reader.uint32())
        }
        guard loads.ascends(by: { $0.identifier }) else { throw .order }
    }
}

/// Cuts a list, in its order, into runs whose sizes add up to at most `room`. Precondition: each
/// element fits alone.
func cut<Element>(
    _ elements: [Element], room: Int, size: (Element) -> Int
) -> [ArraySlice<Element>] {
    var runs: [ArraySlice<Element>] = []
    var start = 0
    var used = 0
    for (index, element) in elements.enumerated() {
        let bytes = size(element)
        precondition(bytes <= room, "an element is larger than a datagram")
        if used + bytes > room {
            runs.append(elements[start..<index])
            start = index
            used = 0
        }
        used += bytes
    }
    if start < elements.count { runs.append(elements[start...]) }
    return runs
}
