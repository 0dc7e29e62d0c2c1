// The fixed header of an IKE message (RFC 7296 §3.1; "ISAKMP header" in the older RFC 2408).

/// What distribution needs of an IKE message.
///
///      0                   1                   2                   3
///      0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
///     |                  IKE SA initiator's SPI ("cookie")           |
///     |                                                               |
///     |                  IKE SA responder's SPI                       |
///     |                                                               |
///     | next payload  |  version      | exchange type |     flags     |
///     |                          message ID                           |
///     |                            length                             |
public struct ISAKMPHeader: Equatable, Sendable {
    /// Octets of the fixed header.
    public static let byteCount = 28

    /// The initiator's cookie: 64 bits chosen by whoever started the IKE SA.
    public let initiatorCookie: UInt64
    /// The responder's cookie; 0 in the first message.
    public let responderCookie: UInt64
    /// 34 IKE_SA_INIT … 37 INFORMATIONAL.
    public let exchangeType: UInt8
    /// The number of the exchange.
    public let messageID: UInt32

    /// Reads the header at `base`, of which `count` octets are there; nil when they are too few,
    /// the cookie is 0 (RFC 7296 §3.1 forbids it), or the length field exceeds them.
    public init?(at base: UnsafeRawPointer, count: Int) {
        guard count >= Self.byteCount else { return nil }
        initiatorCookie = load64(base, 0)
        responderCookie = load64(base, 8)
        exchangeType = load8(base, 18)
        messageID = load32(base, 20)
        let length = Int(load32(base, 24))
        guard initiatorCookie != 0, length >= Self.byteCount, length <= count else { return nil }
    }
}
