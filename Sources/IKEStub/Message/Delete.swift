// The Delete payload (RFC 7296 §3.11).

public import Wire

/// Which SAs the sender has deleted: its own inbound ones.
public struct Delete: Hashable, Sendable {
    /// The protocol as a number.
    public let `protocol`: UInt8
    /// 4 octets each for ESP and AH, none for the IKE SA itself.
    public let spis: [[UInt8]]

    /// The IKE SA that carries the message.
    public static let ike = Delete(SecurityProtocol.ike.rawValue, [])

    /// ESP SAs by the SPIs that the sender receives with.
    public init(esp spis: [SPI]) {
        self.init(
            SecurityProtocol.esp.rawValue,
            spis.map { spi in (0..<4).map { UInt8(truncatingIfNeeded: spi.value >> (24 - 8 * $0)) }
            }
        )
    }

    private init(_ identifier: UInt8, _ spis: [[UInt8]]) {
        precondition(spis.count <= 0xFFFF)
        self.protocol = identifier
        self.spis = spis
    }

    /// The protocol, where it is one of RFC 7296.
    public var securityProtocol: SecurityProtocol? { SecurityProtocol(rawValue: `protocol`) }

    /// The SPIs of ESP SAs; nil when it is about something else.
    public var espSPIs: [SPI]? {
        guard securityProtocol == .esp else { return nil }
        return spis.map { spi in SPI(spi.reduce(0) { $0 << 8 | UInt32($1) }) }
    }

    /// Octets of SPI that a protocol has; nil: not known.
    private static func spiBytes(_ identifier: UInt8) -> Int? {
        switch SecurityProtocol(rawValue: identifier) {
        case .ike: 0
        case .ah, .esp: 4
        case nil: nil
        }
    }

    init(_ reader: inout MessageReader) throws(MessageFault) {
        let identifier = try reader.next8(.payloadBody)
        let place = reader.offset
        let size = Int(try reader.next8(.payloadBody))
        let count = Int(try reader.next16(.payloadBody))
        guard size == Self.spiBytes(identifier) ?? size else {
            throw .malformed(.spiSize, at: place)
        }
        // SPIs of no octets can't be told from each other: there are none.
        guard reader.left == size * count, size > 0 || count == 0 else {
            throw .malformed(.spiCount, at: place + 1)
        }
        var spis: [[UInt8]] = []
        for _ in 0..<count { spis.append(try reader.next(size, .spiCount)) }
        self.init(identifier, spis)
    }

    func write(_ writer: inout MessageWriter) {
        let size = Self.spiBytes(`protocol`) ?? spis.first?.count ?? 0
        writer.put([`protocol`, UInt8(size)])
        writer.put16(UInt16(spis.count))
        for spi in spis { writer.put(spi) }
    }
}
