// What the Security Association payload offers or chooses (RFC 7296 §3.3).

/// The protocol that a proposal, a Notify or a Delete payload is about (RFC 7296 §3.3.1).
public enum SecurityProtocol: UInt8, Sendable {
    case ike = 1
    case ah = 2
    case esp = 3
}

/// The kind of a transform (RFC 7296 §3.3.2).
public enum TransformType: UInt8, CaseIterable, Sendable {
    /// ENCR.
    case encryption = 1
    /// PRF.
    case pseudoRandomFunction
    /// INTEG.
    case integrity
    /// D-H; "Key Exchange Method" since RFC 9370.
    case keyAgreement
    /// ESN.
    case extendedSequenceNumbers
}

/// One algorithm of a proposal.
public struct ProposalTransform: Hashable, Sendable {
    /// The kind as a number; see ``TransformType``.
    public let type: UInt8
    /// The algorithm, by IANA's number for the kind.
    public let id: UInt16
    /// The Key Length attribute.
    public let keyBits: Int?
    /// All other attributes, as they stand in the message.
    public let otherAttributes: [UInt8]

    /// True when an attribute is not understood, repeated, or not in the form of RFC 7296 §3.3.5:
    /// the transform must not be chosen (§3.3.6), but the message is valid.
    public var unknownAttributes: Bool { !otherAttributes.isEmpty }

    /// A transform to send. Precondition: the key length fits 16 bits.
    public init(_ type: TransformType, id: UInt16, keyBits: Int? = nil) {
        self.init(type: type.rawValue, id: id, keyBits: keyBits, otherAttributes: [])
    }

    init(type: UInt8, id: UInt16, keyBits: Int?, otherAttributes: [UInt8]) {
        precondition(keyBits.map { (0...0xFFFF).contains($0) } ?? true)
        self.type = type
        self.id = id
        self.keyBits = keyBits
        self.otherAttributes = otherAttributes
    }
}

/// One alternative: a protocol with one algorithm of each kind out of those listed.
public struct Proposal: Hashable, Sendable {
    /// From 1 on in an offer; in an answer, the one that was chosen. Not checked here.
    public let number: UInt8
    /// The protocol as a number; see ``securityProtocol``.
    public let `protocol`: UInt8
    /// The sender's SPI: 8 octets or none for IKE, 4 for ESP and AH.
    public let spi: [UInt8]
    /// In the order of the sender's preference.
    public let transforms: [ProposalTransform]

    /// The protocol, where it is one of RFC 7296.
    public var securityProtocol: SecurityProtocol? { SecurityProtocol(rawValue: `protocol`) }

    /// A proposal to send. Precondition: at most 255 transforms, and 255 octets of SPI.
    public init(
        number: UInt8, protocol: SecurityProtocol, spi: [UInt8] = [],
        transforms: [ProposalTransform]
    ) {
        self.init(
            number: number, protocol: `protocol`.rawValue, spi: spi, transforms: transforms)
    }

    /// The same for a protocol by its number, such as one that a peer named.
    public init(
        number: UInt8, protocol: UInt8, spi: [UInt8], transforms: [ProposalTransform]
    ) {
        precondition(spi.count <= 255 && transforms.count <= 255)
        self.number = number
        self.protocol = `protocol`
        self.spi = spi
        self.transforms = transforms
    }
}

// MARK: Coding

/// "Last substructure": 0, or what follows.
private enum Substructure {
    static let last: UInt8 = 0
    static let proposal: UInt8 = 2
    static let transform: UInt8 = 3
}

private let keyLengthAttribute: UInt16 = 14
/// Set in an attribute of two octets without a length of its own.
private let shortFormat: UInt16 = 0x8000

extension Proposal {
    /// RFC 7296 asks for one at least; more than 255 have no numbers.
    static func readList(_ reader: inout MessageReader) throws(MessageFault) -> [Proposal] {
        var proposals: [Proposal] = []
        repeat {
            guard proposals.count < 255 else { throw .malformed(.proposalCount, at: reader.offset) }
            proposals.append(try Proposal(&reader))
        } while reader.left > 0
        return proposals
    }

    private init(_ reader: inout MessageReader) throws(MessageFault) {
        let start = reader.offset
        let follower = try reader.next8(.proposalLength)
        _ = try reader.next8(.proposalLength)
        let length = Int(try reader.next16(.proposalLength))
        var body = try reader.part(length - 4, .proposalLength)
        guard follower == (reader.left == 0 ? Substructure.last : Substructure.proposal) else {
            throw .malformed(.lastSubstructure, at: start)
        }
        let number = try body.next8(.proposalLength)
        let identifier = try body.next8(.proposalLength)
        let place = body.offset
        let spiBytes = Int(try body.next8(.proposalLength))
        guard Self.isPossible(spiBytes, identifier) else {
            throw .malformed(.spiSize, at: place)
        }
        let count = Int(try body.next8(.proposalLength))
        let spi = try body.next(spiBytes, .spiSize)
        var transforms: [ProposalTransform] = []
        while body.left > 0 {
            guard transforms.count < count else {
                throw .malformed(.transformCount, at: body.offset)
            }
            transforms.append(try ProposalTransform(&body))
        }
        guard transforms.count == count else { throw .malformed(.transformCount, at: body.offset) }
        self.init(number: number, protocol: identifier, spi: spi, transforms: transforms)
    }

    private static func isPossible(_ spiBytes: Int, _ identifier: UInt8) -> Bool {
        switch SecurityProtocol(rawValue: identifier) {
        case .ike: spiBytes == 0 || spiBytes == 8
        case .ah, .esp: spiBytes == 4
        case nil: true
        }
    }

    func write(_ writer: inout MessageWriter, isLast: Bool) {
        writer.putMeasured([isLast ? Substructure.last : Substructure.proposal, 0]) { writer in
            writer.put([number, `protocol`, UInt8(spi.count), UInt8(transforms.count)])
            writer.put(spi)
            for (index, transform) in transforms.enumerated() {
                transform.write(&writer, isLast: index == transforms.count - 1)
            }
        }
    }
}

extension ProposalTransform {
    fileprivate init(_ reader: inout MessageReader) throws(MessageFault) {
        let start = reader.offset
        let follower = try reader.next8(.transformLength)
        _ = try reader.next8(.transformLength)
        let length = Int(try reader.next16(.transformLength))
        var body = try reader.part(length - 4, .transformLength)
        guard follower == (reader.left == 0 ? Substructure.last : Substructure.transform) else {
            throw .malformed(.lastSubstructure, at: start)
        }
        let type = try body.next8(.transformLength)
        _ = try body.next8(.transformLength)
        let id = try body.next16(.transformLength)
        var keyBits: Int?
        var others = MessageWriter()
        while body.left > 0 {
            let attribute = try body.next16(.attributeLength)
            let value = try body.next16(.attributeLength)
            if attribute == shortFormat | keyLengthAttribute, keyBits == nil {
                keyBits = Int(value)
                continue
            }
            others.put16(attribute)
            others.put16(value)
            if attribute & shortFormat == 0 {
                others.put(try body.next(Int(value), .attributeLength))
            }
        }
        self.init(type: type, id: id, keyBits: keyBits, otherAttributes: others.octets)
    }

    fileprivate func write(_ writer: inout MessageWriter, isLast: Bool) {
        writer.putMeasured([isLast ? Substructure.last : Substructure.transform, 0]) { writer in
            writer.put([type, 0])
            writer.put16(id)
            if let keyBits {
                writer.put16(shortFormat | keyLengthAttribute)
                writer.put16(UInt16(keyBits))
            }
            writer.put(otherAttributes)
        }
    }
}
