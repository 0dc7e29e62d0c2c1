// An association as octets, keys included, so that it can go to another node or into a store. The
// octets are as secret as the keys: whoever lets them leave the process seals them first.

public import Crypto
import Wire

/// Why octets are not an encoded association.
public enum AssociationCodingError: Error, Equatable, CustomStringConvertible {
    /// They end too early.
    case truncated
    /// More octets than the association needs.
    case trailing(octets: Int)
    /// Written by a later release.
    case version(UInt8)
    /// A field that no encoder writes.
    case field(AssociationField)
    /// Fields that are well formed but not an association together.
    case invalid(AssociationError)

    /// One line: what is wrong, and what to do about it.
    public var description: String {
        switch self {
        case .truncated: "the encoded association is cut off: read it again from another member"
        case .trailing(let octets):
            "\(octets) octets too many after the encoded association: read it again"
        case .version(let version):
            "encoded associations of version \(version) are unknown (this release reads "
                + "\(SecurityAssociation.encodingVersion)): update this node"
        case .field(let field):
            "the encoded association has an impossible \(field.rawValue): it is damaged, or "
                + "written by another program"
        case .invalid(let error): "the encoded association is impossible: \(error)"
        }
    }
}

/// The fields of an encoded association that have fewer values than octets can hold.
public enum AssociationField: String, Sendable {
    case dontFragment = "don't-fragment policy"
    case ecn = "ECN policy"
    case transform = "combination of algorithms"
    case dscp = "DSCP"
    case hopLimit = "hop limit"
    case lifetimes = "lifetime"
    case selector = "traffic selector"
}

// Version 1. All numbers are big-endian.
//
//      0  1  version             1  1  flags (EncodedFlags)
//      2  1  don't fragment      3  1  ECN
//      4  1  encryption, by its IKEv2 transform number (IANA)
//      5  1  integrity, likewise; 0: none
//      6  2  bits of cipher key
//      8  4  SPI                12  2  replay window
//     14  8  first sequence number; one more than the last possible when all are used up
//     22  8  created, nanoseconds
//     30  1  DSCP, 0 without    31  1  hop limit, 0 without
//     32  2  TFC padding        34  2  path MTU
//     36  4 or 16 each: outer source and destination; 2 each: UDP ports, if any
//      …  1  which lifetimes are limited (bit 0: first of the list below), then 8 for each of them
//      …  1  number of source selectors, 1 of destination selectors, then the selectors:
//            family (4 or 6), protocol, first port, last port, first address, last address
//      …     cipher key, integrity key, salt
extension SecurityAssociation {
    /// The first octet of what `encode` writes.
    public static let encodingVersion: UInt8 = 1

    /// Everything there is to know of the association, keys included.
    public borrowing func encode() -> SecretBytes {
        var bytes = SecretBytes(
            count: Self.encodedBytes(parameters) + parameters.transform.secretBytes)
        let parameters = parameters
        bytes.withUnsafeMutableBytes { target in
            guard let base = target.baseAddress else { preconditionFailure("never empty") }
            var writer = OctetWriter(base)
            Self.write(parameters, &writer)
            secret.withUnsafeBytes { octets in
                UnsafeMutableRawBufferPointer(rebasing: target[writer.offset...])
                    .copyMemory(from: octets)
                writer.offset += octets.count
            }
            precondition(writer.offset == target.count, "the length was computed before")
        }
        return bytes
    }

    /// Reads what `encode` wrote, and nothing else: each association has one encoding.
    public static func decode(
        _ octets: UnsafeRawBufferPointer
    ) throws(AssociationCodingError) -> SecurityAssociation {
        var reader = OctetReader(octets)
        let version = try reader.next8()
        guard version == encodingVersion else { throw .version(version) }
        let parameters = try parameters(&reader)
        let transform = parameters.transform
        let cipherKey = SecretBytes(copying: try reader.next(transform.keyBytes))
        let integrityKey = SecretBytes(copying: try reader.next(transform.integrityKeyBytes))
        let salt = SecretBytes(copying: try reader.next(transform.saltBytes))
        guard reader.left == 0 else { throw .trailing(octets: reader.left) }
        do {
            return try SecurityAssociation(
                resuming: parameters, cipherKey: cipherKey, integrityKey: integrityKey, salt: salt)
        } catch {
            throw .invalid(error)
        }
    }

    /// The same from octets that are kept secret already.
    public static func decode(
        _ octets: borrowing SecretBytes
    ) throws(AssociationCodingError) -> SecurityAssociation {
        // `withUnsafeBytes` returns nothing that can't be copied.
        var decoded: SecurityAssociation?
        try octets.withUnsafeBytes { (bytes) throws(AssociationCodingError) in
            decoded = try decode(bytes)
        }
        guard let association = decoded.take() else {
            preconditionFailure("decoding returns or throws")
        }
        return association
    }

    // MARK: Writing

    private static func encodedBytes(_ parameters: AssociationParameters) -> Int {
        let address = parameters.source.family.octets
        let selectors = parameters.selectors
        let lists = selectors.source + selectors.destination
        return 36 + 2 * address + (parameters.udp == nil ? 0 : 4)
            + 1 + 8 * parameters.lifetimes.fields.count { $0 != .max }
            + 2 + lists.reduce(0) { $0 + 6 + 2 * $1.first.family.octets }
    }

    private static func write(_ parameters: AssociationParameters, _ writer: inout OctetWriter) {
        let headers = parameters.headers
        let transform = parameters.transform
        writer.put8(encodingVersion)
        writer.put8(EncodedFlags(parameters).rawValue)
        writer.put8(headers.dontFragment.rawValue)
        writer.put8(headers.ecn.rawValue)
        writer.put8(transform.encryption.transformNumber)
        writer.put8(transform.integrity?.transformNumber ?? 0)
        writer.put16(UInt16(transform.keyBits))
        writer.put32(parameters.spi.value)
        writer.put16(UInt16(parameters.replayWindow))
        writer.put64(parameters.firstSequence)
        writer.put64(parameters.createdNanoseconds)
        writer.put8(headers.dscp ?? 0)
        writer.put8(headers.hopLimit ?? 0)
        writer.put16(headers.tfcBytes)
        writer.put16(headers.pathMTU)
        writer.put(parameters.source)
        writer.put(parameters.destination)
        if let udp = parameters.udp {
            writer.put16(udp.source)
            writer.put16(udp.destination)
        }
        let lifetimes = parameters.lifetimes.fields
        var limited: UInt8 = 0
        for index in lifetimes.indices where lifetimes[index] != .max { limited |= 1 << index }
        writer.put8(limited)
        for value in lifetimes where value != .max { writer.put64(value) }
        let selectors = parameters.selectors
        // `check` allows no more than fit into an octet.
        writer.put8(UInt8(selectors.source.count))
        writer.put8(UInt8(selectors.destination.count))
        for selector in selectors.source + selectors.destination { writer.put(selector) }
    }

    // MARK: Reading

    private static func parameters(
        _ reader: inout OctetReader
    ) throws(AssociationCodingError) -> AssociationParameters {
        let flags = EncodedFlags(rawValue: try reader.next8())
        let family: IPAddress.Family = flags.contains(.isV6) ? .v6 : .v4
        var headers = TunnelHeaderPolicy()
        guard let dontFragment = TunnelHeaderPolicy.DontFragment(rawValue: try reader.next8())
        else { throw .field(.dontFragment) }
        headers.dontFragment = dontFragment
        guard let ecn = TunnelHeaderPolicy.ECN(rawValue: try reader.next8()) else {
            throw .field(.ecn)
        }
        headers.ecn = ecn
        let transform = try transform(&reader)
        let spi = SPI(try reader.next32())
        let replayWindow = Int(try reader.next16())
        let firstSequence = try reader.next64()
        let createdNanoseconds = try reader.next64()
        headers.dscp = try optional(
            reader.next8(), isPresent: flags.contains(.hasDSCP), .dscp)
        headers.hopLimit = try optional(
            reader.next8(), isPresent: flags.contains(.hasHopLimit), .hopLimit)
        headers.decrementsInnerHopLimit = flags.contains(.decrementsInnerHopLimit)
        headers.tfcBytes = try reader.next16()
        headers.pathMTU = try reader.next16()
        var parameters = AssociationParameters(
            spi: spi, direction: flags.contains(.isOutbound) ? .outbound : .inbound,
            mode: flags.contains(.isTransport) ? .transport : .tunnel, transform: transform,
            source: try reader.nextAddress(family), destination: try reader.nextAddress(family))
        parameters.headers = headers
        parameters.usesESN = flags.contains(.usesESN)
        parameters.replayWindow = replayWindow
        parameters.firstSequence = firstSequence
        parameters.createdNanoseconds = createdNanoseconds
        if flags.contains(.usesUDP) {
            parameters.udp = UDPPorts(
                source: try reader.next16(), destination: try reader.next16())
        }
        parameters.lifetimes = try lifetimes(&reader)
        let (sources, destinations) = (Int(try reader.next8()), Int(try reader.next8()))
        parameters.selectors.source = try reader.nextSelectors(sources)
        parameters.selectors.destination = try reader.nextSelectors(destinations)
        return parameters
    }

    private static func transform(
        _ reader: inout OctetReader
    ) throws(AssociationCodingError) -> Transform {
        let encryption = EncryptionAlgorithm(transformNumber: try reader.next8())
        let integrityNumber = try reader.next8()
        let integrity = IntegrityAlgorithm(transformNumber: integrityNumber)
        let keyBits = Int(try reader.next16())
        guard let encryption, integrityNumber == 0 || integrity != nil,
            let transform = try? Transform(encryption, keyBits: keyBits, integrity: integrity)
        else { throw .field(.transform) }
        return transform
    }

    private static func optional(
        _ value: UInt8, isPresent: Bool, _ field: AssociationField
    ) throws(AssociationCodingError) -> UInt8? {
        guard isPresent || value == 0 else { throw .field(field) }
        return isPresent ? value : nil
    }

    private static func lifetimes(
        _ reader: inout OctetReader
    ) throws(AssociationCodingError) -> Lifetimes {
        let limited = try reader.next8()
        var fields = Lifetimes().fields
        guard Int(limited) < 1 << fields.count else { throw .field(.lifetimes) }
        for index in fields.indices where limited >> index & 1 != 0 {
            fields[index] = try reader.next64()
            guard fields[index] != .max else { throw .field(.lifetimes) }
        }
        var lifetimes = Lifetimes()
        lifetimes.fields = fields
        return lifetimes
    }
}

private struct EncodedFlags: OptionSet {
    let rawValue: UInt8
    static let isOutbound = EncodedFlags(rawValue: 1)
    static let isTransport = EncodedFlags(rawValue: 2)
    static let usesESN = EncodedFlags(rawValue: 4)
    static let usesUDP = EncodedFlags(rawValue: 8)
    /// The outer addresses are IPv6.
    static let isV6 = EncodedFlags(rawValue: 16)
    static let hasDSCP = EncodedFlags(rawValue: 32)
    static let hasHopLimit = EncodedFlags(rawValue: 64)
    static let decrementsInnerHopLimit = EncodedFlags(rawValue: 128)
}

extension EncodedFlags {
    init(_ parameters: AssociationParameters) {
        self = []
        if parameters.direction == .outbound { insert(.isOutbound) }
        if parameters.mode == .transport { insert(.isTransport) }
        if parameters.usesESN { insert(.usesESN) }
        if parameters.udp != nil { insert(.usesUDP) }
        if parameters.source.family == .v6 { insert(.isV6) }
        if parameters.headers.dscp != nil { insert(.hasDSCP) }
        if parameters.headers.hopLimit != nil { insert(.hasHopLimit) }
        if parameters.headers.decrementsInnerHopLimit { insert(.decrementsInnerHopLimit) }
    }
}

extension Lifetimes {
    /// In the order of the encoding.
    fileprivate var fields: [UInt64] {
        get {
            [softPackets, hardPackets, softBytes, hardBytes, softNanoseconds, hardNanoseconds]
        }
        set {
            softPackets = newValue[0]
            hardPackets = newValue[1]
            softBytes = newValue[2]
            hardBytes = newValue[3]
            softNanoseconds = newValue[4]
            hardNanoseconds = newValue[5]
        }
    }
}

extension EncryptionAlgorithm {
    /// IANA, IKEv2 Transform Type 1: numbers that never change, whatever this program calls them.
    fileprivate var transformNumber: UInt8 {
        switch self {
        case .null: 11
        case .aesCBC: 12
        case .aesCTR: 13
        case .aesCCM8: 14
        case .aesCCM12: 15
        case .aesCCM16: 16
        case .aesGCM8: 18
        case .aesGCM12: 19
        case .aesGCM16: 20
        case .aesGMAC: 21
        case .chaCha20Poly1305: 28
        }
    }

    fileprivate init?(transformNumber: UInt8) {
        guard let found = Self.allCases.first(where: { $0.transformNumber == transformNumber })
        else { return nil }
        self = found
    }
}

extension IntegrityAlgorithm {
    /// IANA, IKEv2 Transform Type 3.
    fileprivate var transformNumber: UInt8 {
        switch self {
        case .hmacSHA1: 2
        case .hmacSHA256: 12
        case .hmacSHA384: 13
        case .hmacSHA512: 14
        }
    }

    fileprivate init?(transformNumber: UInt8) {
        guard let found = Self.allCases.first(where: { $0.transformNumber == transformNumber })
        else { return nil }
        self = found
    }
}
