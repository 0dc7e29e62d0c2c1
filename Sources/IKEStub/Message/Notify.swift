// The Notify payload (RFC 7296 §3.10).

/// Something told beside the other payloads, or instead of them.
public struct Notify: Hashable, Sendable {
    /// The protocol as a number; 0 without an SPI.
    public let `protocol`: UInt8
    /// The SA that it is about; empty: the IKE SA, or none.
    public let spi: [UInt8]
    /// What is said as a number; see ``notifyType``.
    public let type: UInt16
    /// What else the type asks for.
    public let data: [UInt8]

    /// Any Notify. Precondition: at most 255 octets of SPI.
    public init(protocol: UInt8, spi: [UInt8], type: UInt16, data: [UInt8]) {
        precondition(spi.count <= 255)
        self.protocol = `protocol`
        self.spi = spi
        self.type = type
        self.data = data
    }

    /// About the IKE SA.
    public init(_ type: NotifyType, data: [UInt8] = []) {
        self.init(protocol: 0, spi: [], type: type.rawValue, data: data)
    }

    /// About another SA. Precondition: at most 255 octets of SPI.
    public init(
        _ type: NotifyType, protocol: SecurityProtocol, spi: [UInt8], data: [UInt8] = []
    ) {
        self.init(protocol: `protocol`.rawValue, spi: spi, type: type.rawValue, data: data)
    }

    /// What is said, where it is known.
    public var notifyType: NotifyType? { NotifyType(rawValue: type) }

    /// True for errors, unknown ones too (RFC 7296 §3.10.1: types below 16384).
    public var isError: Bool { type < 16384 }

    init(_ reader: inout MessageReader) throws(MessageFault) {
        let identifier = try reader.next8(.payloadBody)
        let spiBytes = Int(try reader.next8(.payloadBody))
        let type = try reader.next16(.payloadBody)
        let spi = try reader.next(spiBytes, .spiSize)
        self.init(protocol: identifier, spi: spi, type: type, data: reader.rest())
    }

    func write(_ writer: inout MessageWriter) {
        writer.put([`protocol`, UInt8(spi.count)])
        writer.put16(type)
        writer.put(spi)
        writer.put(data)
    }
}
