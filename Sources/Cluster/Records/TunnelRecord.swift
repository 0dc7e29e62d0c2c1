// A tunnel as the store keeps it: both directions with their keys, so that any node can go on with
// it. Its plain octets live in `SecretBytes` only.

public import Crypto
public import ESP
internal import Wire

/// Both directions of a tunnel, with keys. Frozen, so that other modules may take it apart.
@frozen
public struct TunnelRecord: ~Copyable {
    /// The identifier of the tunnel.
    public let identifier: DistributionIdentifier
    /// The generation of the identifier when it was written, at least 1.
    public let generation: UInt16
    /// Outbound numbers below or equal to this may have been used, unless a lease says more.
    public let sendLimit: UInt64
    /// Inbound numbers up to this may be accepted, unless a lease says more.
    public let receiveLimit: UInt64
    /// An IKE SA made it. Where the store has no record that names such a tunnel, it is over.
    public let isNegotiated: Bool
    /// What the gateway receives; its SPI names the tunnel.
    public let inbound: SecurityAssociation
    /// What the gateway sends; nil: it only receives.
    public let outbound: SecurityAssociation?

    /// Version, identifier, generation, both limits, origin, both lengths.
    private static let fixedBytes = 30

    /// A record; see the properties. Precondition: the directions are right.
    public init(
        identifier: DistributionIdentifier, generation: UInt16, sendLimit: UInt64,
        receiveLimit: UInt64, isNegotiated: Bool = false,
        inbound: consuming SecurityAssociation, outbound: consuming SecurityAssociation?
    ) {
        precondition(inbound.parameters.direction == .inbound)
        precondition(outbound?.parameters.direction != .inbound)
        self.identifier = identifier
        self.generation = generation
        self.sendLimit = sendLimit
        self.receiveLimit = receiveLimit
        self.isNegotiated = isNegotiated
        self.inbound = inbound
        self.outbound = outbound
    }

    /// The record as it is sealed.
    public borrowing func encode() -> SecretBytes {
        let inbound = inbound.encode()
        let outbound = outbound?.encode() ?? SecretBytes(count: 0)
        var octets = SecretBytes(count: Self.fixedBytes + inbound.count + outbound.count)
        octets.withUnsafeMutableBytes { bytes in
            var writer = OctetWriter(bytes)
            writer.recordVersion()
            writer.identifier(identifier)
            writer.generation(generation)
            writer.uint64(sendLimit)
            writer.uint64(receiveLimit)
            writer.uint8(isNegotiated ? 1 : 0)
            writer.uint32(UInt32(inbound.count))
            inbound.withUnsafeBytes { writer.octets($0) }
            writer.uint32(UInt32(outbound.count))
            outbound.withUnsafeBytes { writer.octets($0) }
            precondition(writer.count == bytes.count)
        }
        return octets
    }

    /// Reads an opened record.
    public init(decoding bytes: UnsafeRawBufferPointer) throws(RecordError) {
        self = try decodeRecord(bytes) { reader throws(RecordError) in
            try TunnelRecord(fields: &reader)
        }
    }

    private init(fields reader: inout OctetReader) throws(RecordError) {
        let identifier = try field { () throws(EncodingFault) in try reader.identifier() }
        let generation = try field { () throws(EncodingFault) in try reader.generation() }
        let sendLimit = try field { () throws(EncodingFault) in try reader.uint64() }
        let receiveLimit = try field { () throws(EncodingFault) in try reader.uint64() }
        let origin = try field { () throws(EncodingFault) in
            let octet = try reader.uint8()
            guard octet <= 1 else { throw .unknown }
            return octet
        }
        let inbound = try Self.association(&reader, .inbound)
        let outbound = try Self.optionalAssociation(&reader)
        self.init(
            identifier: identifier, generation: generation, sendLimit: sendLimit,
            receiveLimit: receiveLimit, isNegotiated: origin == 1, inbound: inbound,
            outbound: outbound)
    }

    private static func optionalAssociation(
        _ reader: inout OctetReader
    ) throws(RecordError) -> SecurityAssociation? {
        var ahead = reader
        let count = try field { () throws(EncodingFault) in try ahead.uint32() }
        guard count != 0 else {
            reader = ahead
            return nil
        }
        return try association(&reader, .outbound)
    }

    private static func association(
        _ reader: inout OctetReader, _ direction: Direction
    ) throws(RecordError) -> SecurityAssociation {
        let bytes = try field { () throws(EncodingFault) in
            try reader.octets(Int(try reader.uint32()))
        }
        let association: SecurityAssociation
        do {
            association = try SecurityAssociation.decode(bytes)
        } catch {
            throw .association(error.description)
        }
        guard association.parameters.direction == direction else { throw .direction }
        return association
    }
}
