// The header of an IKE message, whole; its layout is drawn at `Wire.ISAKMPHeader`, which reads only
// what distribution needs.

internal import Wire

/// RFC 7296 §3.1.
public struct IKEHeader: Hashable, Sendable {
    /// Octets of the header.
    public static let byteCount = 28

    /// The bits of the flags octet.
    public struct Flags: OptionSet, Hashable, Sendable {
        /// The octet; bits without a name are ignored (RFC 7296 §3.1).
        public let rawValue: UInt8

        /// Any octet.
        public init(rawValue: UInt8) { self.rawValue = rawValue }

        /// Sent by the original initiator of the IKE SA.
        public static let initiator = Flags(rawValue: 0x08)
        /// The sender speaks a higher major version too.
        public static let version = Flags(rawValue: 0x10)
        /// A response.
        public static let response = Flags(rawValue: 0x20)
    }

    /// SPIi; never 0.
    public let initiatorSPI: UInt64
    /// SPIr; 0 in the first message.
    public let responderSPI: UInt64
    /// The type of the first payload; 0: none.
    public let nextPayload: UInt8
    /// 2.
    public let majorVersion: UInt8
    /// 0; ignored (RFC 7296 §2.5).
    public let minorVersion: UInt8
    /// The exchange as a number; see ``exchangeType``.
    public let exchange: UInt8
    /// The flags octet.
    public let flags: Flags
    /// The number of the exchange.
    public let messageID: UInt32
    /// Octets of the message with this header.
    public let length: Int

    /// The exchange, where it is one of RFC 7296.
    public var exchangeType: ExchangeType? { ExchangeType(rawValue: exchange) }

    /// Reads the header of a datagram (without a non-ESP marker).
    ///
    /// The length must be the datagram's: RFC 7296 does not say what octets behind a message would
    /// mean, and nothing authenticates them, so that a message with a tail is somebody's forgery.
    public init(reading datagram: UnsafeRawBufferPointer) throws(MessageFault) {
        guard let base = datagram.baseAddress, datagram.count >= Self.byteCount else {
            throw .malformed(.header, at: 0)
        }
        initiatorSPI = load64(base, 0)
        responderSPI = load64(base, 8)
        nextPayload = load8(base, 16)
        majorVersion = load8(base, 17) >> 4
        minorVersion = load8(base, 17) & 15
        exchange = load8(base, 18)
        flags = Flags(rawValue: load8(base, 19))
        messageID = load32(base, 20)
        length = Int(load32(base, 24))
        // First, because other versions may give the other fields other meanings.
        guard majorVersion == 2 else { throw .majorVersion(majorVersion) }
        guard initiatorSPI != 0 else { throw .malformed(.initiatorSPI, at: 0) }
        guard length == datagram.count, length <= IKEMessage.lengthMaximum else {
            throw .malformed(.messageLength, at: 24)
        }
    }
}
