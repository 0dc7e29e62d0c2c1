// The payloads of IKEv2 (RFC 7296 §3.3 to §3.16), and chains of them.

/// One payload. The Encrypted payload is not among them: it is what they are carried in.
public enum Payload: Hashable, Sendable {
    /// Offers, or the one that was chosen.
    case securityAssociation([Proposal])
    /// A public value of a Diffie-Hellman group.
    case keyExchange(group: UInt16, data: [UInt8])
    /// IDi. `reserved`: the three octets behind the type as the peer sent them, because it signed
    /// them; see ``identityBody``.
    case initiatorIdentity(Identity, reserved: UInt32 = 0)
    /// IDr, likewise.
    case responderIdentity(Identity, reserved: UInt32 = 0)
    case certificate(encoding: UInt8, data: [UInt8])
    case certificateRequest(encoding: UInt8, data: [UInt8])
    case authentication(method: UInt8, data: [UInt8])
    /// Precondition of encoding: 16 to 256 octets.
    case nonce([UInt8])
    case notify(Notify)
    case delete(Delete)
    case vendorID([UInt8])
    /// TSi.
    case initiatorSelectors(SelectorList)
    /// TSr.
    case responderSelectors(SelectorList)
    case configuration(Configuration)
    /// An EAP message as RFC 3748 has it.
    case extensibleAuthentication([UInt8])
    /// One that may be skipped when it was read; `isCritical` matters in those that are sent.
    case unknown(type: UInt8, isCritical: Bool, data: [UInt8])

    /// The number of its type.
    public var type: UInt8 {
        if case .unknown(let type, _, _) = self { type } else { knownType?.rawValue ?? 0 }
    }

    /// Its type, where it is known.
    public var knownType: PayloadType? {
        switch self {
        case .securityAssociation: .securityAssociation
        case .keyExchange: .keyExchange
        case .initiatorIdentity: .initiatorIdentity
        case .responderIdentity: .responderIdentity
        case .certificate: .certificate
        case .certificateRequest: .certificateRequest
        case .authentication: .authentication
        case .nonce: .nonce
        case .notify: .notify
        case .delete: .delete
        case .vendorID: .vendorID
        case .initiatorSelectors: .initiatorSelectors
        case .responderSelectors: .responderSelectors
        case .configuration: .configuration
        case .extensibleAuthentication: .extensibleAuthentication
        case .unknown: nil
        }
    }

    /// RestOfIDPayload of an identity as it was sent: what AUTH signs (RFC 7296 §2.15).
    public var identityBody: [UInt8]? {
        switch self {
        case .initiatorIdentity(let identity, let reserved),
            .responderIdentity(let identity, let reserved):
            identity.body(reserved: reserved)
        default: nil
        }
    }

    /// RFC 7296 §1.2's short name, with the type of a Notify: `SA`, `N(16388)`; or the number.
    public var notation: String {
        if case .notify(let notify) = self { return "N(\(notify.type))" }
        return knownType?.notation ?? String(type)
    }
}

// MARK: Coding

extension Payload {
    /// Reads the body of a payload of a known type.
    init(_ type: PayloadType, _ reader: inout MessageReader) throws(MessageFault) {
        switch type {
        case .securityAssociation:
            guard reader.left > 0 else { throw .malformed(.proposalCount, at: reader.offset) }
            self = .securityAssociation(try Proposal.readList(&reader))
        case .keyExchange:
            let group = try reader.next16(.payloadBody)
            _ = try reader.next16(.payloadBody)
            self = .keyExchange(group: group, data: reader.rest())
        case .initiatorIdentity:
            let (identity, reserved) = try Self.identity(&reader)
            self = .initiatorIdentity(identity, reserved: reserved)
        case .responderIdentity:
            let (identity, reserved) = try Self.identity(&reader)
            self = .responderIdentity(identity, reserved: reserved)
        case .certificate:
            self = .certificate(encoding: try reader.next8(.payloadBody), data: reader.rest())
        case .certificateRequest:
            self = .certificateRequest(
                encoding: try reader.next8(.payloadBody), data: reader.rest())
        case .authentication:
            let method = try reader.next8(.payloadBody)
            _ = try reader.next(3, .payloadBody)
            self = .authentication(method: method, data: reader.rest())
        case .nonce:
            guard (16...256).contains(reader.left) else {
                throw .malformed(.nonceLength, at: reader.offset)
            }
            self = .nonce(reader.rest())
        case .notify: self = .notify(try Notify(&reader))
        case .delete: self = .delete(try Delete(&reader))
        case .vendorID: self = .vendorID(reader.rest())
        case .initiatorSelectors: self = .initiatorSelectors(try SelectorList(&reader))
        case .responderSelectors: self = .responderSelectors(try SelectorList(&reader))
        case .configuration: self = .configuration(try Configuration(&reader))
        case .extensibleAuthentication: self = .extensibleAuthentication(reader.rest())
        case .encrypted, .encryptedFragment:
            throw .malformed(.encryptedPayload, at: reader.offset)
        }
    }

    private static func identity(
        _ reader: inout MessageReader
    ) throws(MessageFault) -> (Identity, reserved: UInt32) {
        let place = reader.offset
        let head = try reader.next32(.payloadBody)
        guard let identity = Identity(type: UInt8(head >> 24), data: reader.rest()) else {
            throw .malformed(.identityLength, at: place)
        }
        return (identity, head & 0xFF_FFFF)
    }

    private func writeBody(_ writer: inout MessageWriter) {
        switch self {
        case .securityAssociation(let proposals):
            precondition(!proposals.isEmpty, "a Security Association payload offers something")
            for (index, proposal) in proposals.enumerated() {
                proposal.write(&writer, isLast: index == proposals.count - 1)
            }
        case .keyExchange(let group, let data):
            writer.put16(group)
            writer.put16(0)
            writer.put(data)
        case .initiatorIdentity(let identity, let reserved),
            .responderIdentity(let identity, let reserved):
            writer.put(identity.body(reserved: reserved))
        case .certificate(let encoding, let data), .certificateRequest(let encoding, let data):
            writer.put8(encoding)
            writer.put(data)
        case .authentication(let method, let data):
            writer.put([method, 0, 0, 0])
            writer.put(data)
        case .nonce(let data):
            precondition((16...256).contains(data.count), "RFC 7296 §3.9")
            writer.put(data)
        case .notify(let notify): notify.write(&writer)
        case .delete(let delete): delete.write(&writer)
        case .initiatorSelectors(let list), .responderSelectors(let list): list.write(&writer)
        case .configuration(let configuration): configuration.write(&writer)
        case .vendorID(let data), .extensibleAuthentication(let data), .unknown(_, _, let data):
            writer.put(data)
        }
    }

    /// Writes payloads one after the other; each names the type of the next one.
    static func write(_ payloads: [Payload], to writer: inout MessageWriter) {
        precondition(payloads.count <= IKEMessage.payloadMaximum)
        for (index, payload) in payloads.enumerated() {
            let next = index + 1 < payloads.count ? payloads[index + 1].type : 0
            var flags: UInt8 = 0
            if case .unknown(_, true, _) = payload { flags = PayloadHeader.critical }
            writer.putMeasured([next, flags]) { payload.writeBody(&$0) }
        }
    }

    /// Reads the decrypted content of an Encrypted payload: a chain that begins with a payload of
    /// type `first` (0: there is none) and fills `content`.
    public static func readChain(
        _ content: UnsafeRawBufferPointer, first: UInt8
    ) throws(MessageFault) -> [Payload] {
        var chain = PayloadChain(MessageReader(content), first: first)
        var payloads: [Payload] = []
        while var item = try chain.next() { payloads.append(try item.payload()) }
        return payloads
    }

    /// What ``readChain(_:first:)`` reads. Precondition: at most ``IKEMessage/payloadMaximum``
    /// payloads, each of at most 65535 octets, as RFC 7296 §3 lets them be.
    public static func chain(_ payloads: [Payload]) -> [UInt8] {
        var writer = MessageWriter(capacity: 512)
        write(payloads, to: &writer)
        return writer.octets
    }
}

/// The generic payload header (RFC 7296 §3.2).
enum PayloadHeader {
    static let byteCount = 4
    /// The sender refuses to have the payload skipped.
    static let critical: UInt8 = 0x80
}

/// Walks over payloads without a look into them.
struct PayloadChain {
    struct Item {
        let type: UInt8
        let next: UInt8
        let isCritical: Bool
        /// Where its header begins.
        let start: Int
        var body: MessageReader

        /// The payload. A critical one of an unknown type is a fault.
        mutating func payload() throws(MessageFault) -> Payload {
            guard let known = PayloadType(rawValue: type) else {
                guard !isCritical else { throw .unsupportedCriticalPayload(type, at: start) }
                return .unknown(type: type, isCritical: false, data: body.rest())
            }
            // RFC 7296 §3.2: the critical bit of a payload that is understood is ignored.
            return try Payload(known, &body)
        }
    }

    private(set) var reader: MessageReader
    private var type: UInt8
    private var count = 0

    init(_ reader: MessageReader, first: UInt8) {
        self.reader = reader
        type = first
    }

    /// The next payload, or nil behind the last one.
    mutating func next() throws(MessageFault) -> Item? {
        guard type != 0 else {
            guard reader.left == 0 else { throw .malformed(.chainEnd, at: reader.offset) }
            return nil
        }
        let start = reader.offset
        guard count < IKEMessage.payloadMaximum else { throw .malformed(.payloadCount, at: start) }
        let next = try reader.next8(.payloadLength)
        let flags = try reader.next8(.payloadLength)
        let length = Int(try reader.next16(.payloadLength))
        let body = try reader.part(length - PayloadHeader.byteCount, .payloadLength)
        let item = Item(
            type: type, next: next, isCritical: flags & PayloadHeader.critical != 0, start: start,
            body: body)
        count += 1
        type = next
        return item
    }

    /// Ends the walk: what follows is not a chain.
    mutating func finish() throws(MessageFault) {
        type = 0
        guard reader.left == 0 else { throw .malformed(.encryptedPayload, at: reader.offset) }
    }
}
