// Who a peer says it is (RFC 7296 §3.5).

public import Wire

/// The content of an Identification payload.
///
/// Two identities are equal when their octets are. Swift compares texts by what they mean, and some
/// texts with different octets mean the same; so only printable ASCII becomes a text here, which
/// RFC 7296 asks of domain names anyway, and all else stays octets, as ``other(type:_:)``.
public enum Identity: Hashable, Sendable {
    /// ID_IPV4_ADDR.
    case ipv4(IPAddress)
    /// ID_FQDN, printable ASCII.
    case fqdn(String)
    /// ID_RFC822_ADDR, printable ASCII.
    case email(String)
    /// ID_IPV6_ADDR.
    case ipv6(IPAddress)
    /// ID_DER_ASN1_DN: a Name as DER.
    case distinguishedName([UInt8])
    /// ID_KEY_ID: opaque.
    case keyID([UInt8])
    /// A kind without a name here, or a text that is not printable ASCII.
    case other(type: UInt8, [UInt8])

    /// Reads an identity; nil when an address does not have 4 or 16 octets.
    public init?(type: UInt8, data: [UInt8]) {
        switch type {
        case 1, 5:
            let family: IPAddress.Family = type == 1 ? .v4 : .v6
            guard data.count == (family == .v4 ? 4 : 16) else { return nil }
            let address = data.withUnsafeBytes { bytes in
                bytes.baseAddress.map { IPAddress(family, at: $0, 0) }
            }
            guard let address else { return nil }
            self = family == .v4 ? .ipv4(address) : .ipv6(address)
        case 2 where Self.isPrintable(data): self = .fqdn(String(decoding: data, as: UTF8.self))
        case 3 where Self.isPrintable(data): self = .email(String(decoding: data, as: UTF8.self))
        case 9: self = .distinguishedName(data)
        case 11: self = .keyID(data)
        default: self = .other(type: type, data)
        }
    }

    private static func isPrintable(_ data: [UInt8]) -> Bool {
        data.allSatisfy { (0x20...0x7E).contains($0) }
    }

    /// The ID Type field.
    public var type: UInt8 {
        switch self {
        case .ipv4: 1
        case .fqdn: 2
        case .email: 3
        case .ipv6: 5
        case .distinguishedName: 9
        case .keyID: 11
        case .other(let type, _): type
        }
    }

    /// The identification data.
    public var data: [UInt8] {
        switch self {
        case .ipv4(let address), .ipv6(let address):
            var writer = MessageWriter()
            writer.put(address)
            return writer.octets
        case .fqdn(let text), .email(let text): return Array(text.utf8)
        case .distinguishedName(let data), .keyID(let data), .other(_, let data): return data
        }
    }

    /// RestOfIDPayload, which AUTH signs (RFC 7296 §2.15): type, three reserved octets, data.
    public var body: [UInt8] { body(reserved: 0) }

    /// The same with the reserved octets that a peer sent, in the lower 24 bits: it signed those.
    public func body(reserved: UInt32) -> [UInt8] {
        if case .ipv4(let address) = self { precondition(address.family == .v4) }
        if case .ipv6(let address) = self { precondition(address.family == .v6) }
        var writer = MessageWriter()
        writer.put32(UInt32(type) << 24 | reserved & 0xFF_FFFF)
        writer.put(data)
        return writer.octets
    }
}
