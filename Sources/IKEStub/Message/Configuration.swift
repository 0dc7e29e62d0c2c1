// The Configuration payload: inner addresses for remote peers (RFC 7296 §3.15).

public import Wire

/// What a peer asks to be configured with, or is told.
public struct Configuration: Hashable, Sendable {
    /// RFC 7296 §3.15.
    public enum Kind: UInt8, Sendable {
        case request = 1
        case reply
        case set
        case acknowledgement
    }

    /// The attributes that have accessors here (RFC 7296 §3.15.1).
    public enum AttributeType: UInt16, CaseIterable, Sendable {
        case ip4Address = 1
        case ip4Netmask = 2
        case ip4DNS = 3
        case applicationVersion = 7
        case ip6Address = 8
        case ip6DNS = 10
        case ip4Subnet = 13
        case supportedAttributes = 14
        case ip6Subnet = 15
    }

    /// One attribute.
    public struct Attribute: Hashable, Sendable {
        /// The type as a number of 15 bits.
        public let type: UInt16
        /// Empty in a request: "whatever you have".
        public let value: [UInt8]

        /// Precondition: the type has 15 bits.
        public init(type: UInt16, value: [UInt8]) {
            precondition(type < 0x8000)
            self.type = type
            self.value = value
        }

        /// A known attribute.
        public init(_ type: AttributeType, value: [UInt8] = []) {
            self.init(type: type.rawValue, value: value)
        }
    }

    /// Request, reply, set or acknowledgement.
    public let kind: Kind
    /// In the order of the message; several of one type may stand for several values.
    public let attributes: [Attribute]

    /// Any attributes.
    public init(_ kind: Kind, _ attributes: [Attribute]) {
        self.kind = kind
        self.attributes = attributes
    }

    init(_ reader: inout MessageReader) throws(MessageFault) {
        let place = reader.offset
        let number = try reader.next8(.payloadBody)
        _ = try reader.next(3, .payloadBody)
        guard let kind = Kind(rawValue: number) else {
            throw .malformed(.configurationType, at: place)
        }
        var attributes: [Attribute] = []
        while reader.left > 0 {
            let type = try reader.next16(.attributeLength) & 0x7FFF
            let length = Int(try reader.next16(.attributeLength))
            attributes.append(
                Attribute(type: type, value: try reader.next(length, .attributeLength)))
        }
        self.init(kind, attributes)
    }

    func write(_ writer: inout MessageWriter) {
        writer.put([kind.rawValue, 0, 0, 0])
        for attribute in attributes {
            precondition(attribute.value.count <= 0xFFFF)
            writer.put16(attribute.type)
            writer.put16(UInt16(attribute.value.count))
            writer.put(attribute.value)
        }
    }
}

// MARK: Values

extension Configuration.Attribute {
    /// INTERNAL_IP4_ADDRESS, or INTERNAL_IP6_ADDRESS with its prefix length.
    public static func address(_ address: IPAddress, prefixLength: UInt8 = 128) -> Self {
        switch address.family {
        case .v4: Self(.ip4Address, value: octets(address))
        case .v6: Self(.ip6Address, value: octets(address) + [prefixLength])
        }
    }

    /// INTERNAL_IP4_DNS or INTERNAL_IP6_DNS.
    public static func dns(_ address: IPAddress) -> Self {
        Self(address.family == .v4 ? .ip4DNS : .ip6DNS, value: octets(address))
    }

    /// INTERNAL_IP4_SUBNET or INTERNAL_IP6_SUBNET. Precondition: the length fits the family.
    public static func subnet(_ address: IPAddress, prefixLength: Int) -> Self {
        let prefix = address.prefixRange(length: prefixLength)
        guard address.family == .v4 else {
            return Self(.ip6Subnet, value: octets(prefix.first) + [UInt8(prefixLength)])
        }
        let mask = IPAddress(v4: ~UInt32(truncatingIfNeeded: prefix.first.low ^ prefix.last.low))
        return Self(.ip4Subnet, value: octets(prefix.first) + octets(mask))
    }

    private static func octets(_ address: IPAddress) -> [UInt8] {
        var writer = MessageWriter()
        writer.put(address)
        return writer.octets
    }
}

/// A value of another length than RFC 7296 §3.15.1 gives it is passed over, as an unknown attribute
/// is; empty values ask, and are found with `asks(for:)`.
extension Configuration {
    /// The values of one type.
    public func values(_ type: AttributeType) -> [[UInt8]] {
        attributes.compactMap { $0.type == type.rawValue ? $0.value : nil }
    }

    /// True when there is such an attribute, with a value or without.
    public func asks(for type: AttributeType) -> Bool {
        attributes.contains { $0.type == type.rawValue }
    }

    /// INTERNAL_IP4_ADDRESS.
    public var ip4Addresses: [IPAddress] { values(.ip4Address).compactMap { Self.address($0) } }

    /// INTERNAL_IP4_NETMASK as a prefix length.
    public var ip4PrefixLength: Int? {
        values(.ip4Netmask).compactMap { Self.prefixLength(mask: $0) }.first
    }

    /// INTERNAL_IP6_ADDRESS with its prefix length, at most 128.
    public var ip6Addresses: [(address: IPAddress, prefixLength: Int)] {
        values(.ip6Address).compactMap { Self.ip6Prefix($0) }
    }

    /// INTERNAL_IP4_DNS and INTERNAL_IP6_DNS.
    public var dnsServers: [IPAddress] {
        attributes.compactMap { attribute in
            switch AttributeType(rawValue: attribute.type) {
            case .ip4DNS where attribute.value.count == 4,
                .ip6DNS where attribute.value.count == 16:
                Self.address(attribute.value)
            default: nil
            }
        }
    }

    /// INTERNAL_IP4_SUBNET and INTERNAL_IP6_SUBNET.
    public var subnets: [(address: IPAddress, prefixLength: Int)] {
        attributes.compactMap { attribute in
            switch AttributeType(rawValue: attribute.type) {
            case .ip4Subnet where attribute.value.count == 8:
                if let address = Self.address(Array(attribute.value[..<4])),
                    let length = Self.prefixLength(mask: Array(attribute.value[4...]))
                {
                    (address, length)
                } else {
                    nil
                }
            case .ip6Subnet: Self.ip6Prefix(attribute.value)
            default: nil
            }
        }
    }

    /// APPLICATION_VERSION, where it is text.
    public var applicationVersion: String? {
        values(.applicationVersion).first.flatMap { String(validating: $0, as: UTF8.self) }
    }

    /// SUPPORTED_ATTRIBUTES: the types that the sender knows.
    public var supportedAttributes: [UInt16] {
        values(.supportedAttributes).filter { $0.count.isMultiple(of: 2) }.flatMap { value in
            stride(from: 0, to: value.count, by: 2).map {
                UInt16(value[$0]) << 8 | UInt16(value[$0 + 1])
            }
        }
    }

    private static func address(_ value: [UInt8]) -> IPAddress? {
        guard value.count == 4 || value.count == 16 else { return nil }
        return value.withUnsafeBytes { bytes in
            bytes.baseAddress.map { IPAddress(value.count == 4 ? .v4 : .v6, at: $0, 0) }
        }
    }

    private static func ip6Prefix(_ value: [UInt8]) -> (address: IPAddress, prefixLength: Int)? {
        guard value.count == 17, value[16] <= 128, let address = address(Array(value[..<16]))
        else { return nil }
        return (address, Int(value[16]))
    }

    private static func prefixLength(mask value: [UInt8]) -> Int? {
        guard value.count == 4 else { return nil }
        let mask = value.reduce(0) { $0 << 8 | UInt32($1) }
        return ~mask & (~mask &+ 1) == 0 ? mask.nonzeroBitCount : nil
    }
}
