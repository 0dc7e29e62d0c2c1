// A whole IKE message (RFC 7296 §3.1).

internal import Wire

/// A message by what it says. Whether it goes in the clear or protected is the sender's choice:
/// ``encoded()``, or `MessageProtection.seal`.
public struct IKEMessage: Hashable, Sendable {
    /// More octets than these are refused: UDP carries no more.
    public static let lengthMaximum = 65_535
    /// More payloads than these are refused. Real messages have less than twenty.
    public static let payloadMaximum = 64

    /// SPIi.
    public var initiatorSPI: UInt64
    /// SPIr; 0 in the first message.
    public var responderSPI: UInt64
    /// The exchange as a number; see ``exchangeType``.
    public var exchange: UInt8
    /// Who sends it, and whether it is a response.
    public var flags: IKEHeader.Flags
    /// The number of the exchange.
    public var messageID: UInt32
    /// In order.
    public var payloads: [Payload]

    /// The exchange, where it is one of RFC 7296.
    public var exchangeType: ExchangeType? { ExchangeType(rawValue: exchange) }

    /// A message to send. SPIi must not be 0.
    public init(
        initiatorSPI: UInt64, responderSPI: UInt64, exchange: ExchangeType,
        flags: IKEHeader.Flags, messageID: UInt32, payloads: [Payload]
    ) {
        self.initiatorSPI = initiatorSPI
        self.responderSPI = responderSPI
        self.exchange = exchange.rawValue
        self.flags = flags
        self.messageID = messageID
        self.payloads = payloads
    }

    /// What was received with this header.
    public init(_ header: IKEHeader, payloads: [Payload]) {
        initiatorSPI = header.initiatorSPI
        responderSPI = header.responderSPI
        exchange = header.exchange
        flags = header.flags
        messageID = header.messageID
        self.payloads = payloads
    }

    /// The message in the clear: IKE_SA_INIT, and errors outside of an IKE SA.
    ///
    /// Precondition: at most ``payloadMaximum`` payloads, and ``lengthMaximum`` octets in all.
    public func encoded() -> [UInt8] {
        var writer = MessageWriter(capacity: 512)
        writeHeader(&writer, nextPayload: payloads.first?.type ?? 0)
        Payload.write(payloads, to: &writer)
        Self.finish(&writer)
        return writer.octets
    }

    /// The header with the length left out.
    func writeHeader(_ writer: inout MessageWriter, nextPayload: UInt8) {
        writer.put64(initiatorSPI)
        writer.put64(responderSPI)
        writer.put([nextPayload, 0x20, exchange, flags.rawValue])
        writer.put32(messageID)
        writer.put32(0)
    }

    /// Fills the length in.
    static func finish(_ writer: inout MessageWriter) {
        precondition(writer.octets.count <= lengthMaximum, "UDP carries no more")
        writer.patch32(UInt32(writer.octets.count), at: 24)
    }

    /// Reads a datagram (without a non-ESP marker): the payloads in the clear, and where the
    /// Encrypted payload stands. All lengths are checked before anything is copied.
    public static func read(
        _ datagram: UnsafeRawBufferPointer
    ) throws(MessageFault) -> ParsedMessage {
        let header = try IKEHeader(reading: datagram)
        var reader = MessageReader(datagram)
        _ = try reader.part(IKEHeader.byteCount, .header)
        var chain = PayloadChain(reader, first: header.nextPayload)
        var payloads: [Payload] = []
        var content: ProtectedContent?
        while var item = try chain.next() {
            switch PayloadType(rawValue: item.type) {
            case .encrypted, .encryptedFragment:
                content = try ProtectedContent(&item)
                try chain.finish()
            default:
                payloads.append(try item.payload())
            }
        }
        return ParsedMessage(header: header, payloads: payloads, protected: content)
    }
}

/// Which part of a message a fragment is (RFC 7383 §2.5).
public struct FragmentPosition: Hashable, Sendable {
    /// From 1 to ``total``.
    public let number: UInt16
    /// How many there are.
    public let total: UInt16
}

/// Where the Encrypted payload stands in a datagram.
public struct ProtectedContent: Hashable, Sendable {
    /// nil: the whole content (SK); else a part of it (SKF).
    public let fragment: FragmentPosition?
    /// The type of the first payload inside; 0 when there is none, and in later fragments.
    public let firstType: UInt8
    /// IV, ciphertext and ICV; reaches to the end of the datagram. What stands before it is
    /// authenticated, but not encrypted.
    public let body: Range<Int>

    fileprivate init(_ item: inout PayloadChain.Item) throws(MessageFault) {
        firstType = item.next
        if item.type == PayloadType.encryptedFragment.rawValue {
            let place = item.body.offset
            let number = try item.body.next16(.fragmentNumber)
            let total = try item.body.next16(.fragmentNumber)
            guard number > 0, number <= total else {
                throw .malformed(.fragmentNumber, at: place)
            }
            fragment = FragmentPosition(number: number, total: total)
        } else {
            fragment = nil
        }
        body = item.body.offset..<item.body.end
    }
}

/// What stands in a datagram for everyone to read.
public struct ParsedMessage: Hashable, Sendable {
    /// The header.
    public let header: IKEHeader
    /// The payloads in the clear. Beside an Encrypted payload nothing has vouched for them: they
    /// are not to be acted on.
    public let payloads: [Payload]
    /// Where the Encrypted payload stands, if there is one.
    public let protected: ProtectedContent?

    /// The message with its payloads in the clear.
    public var message: IKEMessage { IKEMessage(header, payloads: payloads) }
}
