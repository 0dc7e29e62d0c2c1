// Which peers a connection is for, by the identities that they claim (RFC 7296 §3.5) and prove.

public import Crypto
internal import Wire

/// A set of identities.
public enum IdentityPattern: Hashable, Sendable, CustomStringConvertible {
    /// Every identity.
    case any
    /// This one only; see ``Identity/isSame(as:)``.
    case exactly(Identity)
    /// `*.lab.example`: every name that ends so, with at least one label in front.
    case fqdnBelow(String)
    /// `*@lab.example`: every mailbox of the domain.
    case emailAt(String)
    /// `C=CH, O=Lab, CN=*`: every distinguished name with these attributes.
    case distinguishedNames(DistinguishedNamePattern)

    /// True when the identity is in the set.
    public func matches(_ identity: Identity) -> Bool {
        switch (self, identity) {
        case (.any, _): true
        case (.exactly(let own), _): own.isSame(as: identity)
        case (.fqdnBelow(let domain), .fqdn(let name)):
            Self.isBelow(name, separator: ".", domain)
        case (.emailAt(let domain), .email(let address)):
            Self.isBelow(address, separator: "@", domain)
        case (.distinguishedNames(let pattern), .distinguishedName(let der)):
            (try? DistinguishedName(der: der)).map(pattern.matches) ?? false
        default: false
        }
    }

    private static func isBelow(_ name: String, separator: String, _ domain: String) -> Bool {
        name.lowercased().hasSuffix(separator + domain.lowercased())
            && name.utf8.count > domain.utf8.count + 1
    }

    /// As it is configured.
    public var description: String {
        switch self {
        case .any: "%any"
        case .exactly(let identity): identity.description
        case .fqdnBelow(let domain): "*." + domain
        case .emailAt(let domain): "*@" + domain
        case .distinguishedNames(let pattern): pattern.description
        }
    }
}

extension Identity {
    /// Equality of what is named: of names without regard to case (RFC 4343), of distinguished
    /// names as X.509 compares them.
    public func isSame(as other: Identity) -> Bool {
        if self == other { return true }
        switch (self, other) {
        case (.fqdn(let left), .fqdn(let right)), (.email(let left), .email(let right)):
            return left.utf8.elementsEqual(right.utf8) { $0.foldedCase == $1.foldedCase }
        case (.distinguishedName(let left), .distinguishedName(let right)):
            guard let left = try? DistinguishedName(der: left),
                let right = try? DistinguishedName(der: right)
            else { return false }
            return left.matches(right)
        default: return false
        }
    }
}

extension UInt8 {
    /// An octet of a name without regard to the case of ASCII letters.
    fileprivate var foldedCase: UInt8 { (0x41...0x5A).contains(self) ? self | 0x20 : self }
}

extension Identity: CustomStringConvertible {
    /// As it is configured: `gw.lab.example`, `user@lab.example`, an address, a distinguished
    /// name, or `#` and the octets in hexadecimal.
    public var description: String {
        switch self {
        case .ipv4(let address), .ipv6(let address): return address.description
        case .fqdn(let name), .email(let name): return name
        case .distinguishedName(let der):
            return (try? DistinguishedName(der: der))?.description ?? "#" + Self.hex(der)
        case .keyID(let octets), .other(_, let octets): return "#" + Self.hex(octets)
        }
    }

    private static func hex(_ octets: [UInt8]) -> String {
        octets.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
    }
}
