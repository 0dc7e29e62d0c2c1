// Whether a certificate is for the host that was asked for (RFC 9525 §6).
//
// NIOSSL alone would also take a certificate with the address that is connected to, whatever name
// was asked for: then `serverName` would mean little.

internal import Crypto
internal import Glibc

/// The name or address that a certificate must have.
enum ServerName: Equatable {
    /// In lower case, without a dot at the end.
    case name(String)
    /// 4 octets of IPv4 or 16 of IPv6.
    case address([UInt8])

    init(_ text: String) {
        if let octets = Self.octets(text, AF_INET, 4) ?? Self.octets(text, AF_INET6, 16) {
            self = .address(octets)
        } else {
            let lower = text.lowercased()
            self = .name(lower.hasSuffix(".") ? String(lower.dropLast()) : lower)
        }
    }

    private static func octets(_ text: String, _ family: Int32, _ count: Int) -> [UInt8]? {
        var octets = [UInt8](repeating: 0, count: count)
        return inet_pton(family, text, &octets) == 1 ? octets : nil
    }

    /// What is asked for in the handshake: addresses are no server names (RFC 6066 §3).
    var indication: String? {
        if case .name(let name) = self { name } else { nil }
    }

    /// Whether a certificate with these alternative names is for this host. Common names of
    /// subjects are not looked at.
    func matches(_ names: [AlternativeName]) -> Bool {
        names.contains { name in
            switch (self, name) {
            case (.address(let wanted), .ip(let octets)): wanted == octets
            case (.name(let wanted), .dns(let pattern)): Self.matches(wanted, pattern)
            default: false
            }
        }
    }

    /// A star stands for the whole first label, and never for a name directly below the root.
    private static func matches(_ name: String, _ pattern: String) -> Bool {
        let pattern = pattern.lowercased()
        guard pattern.hasPrefix("*.") else { return name == pattern }
        guard let dot = name.firstIndex(of: "."), dot != name.startIndex else { return false }
        let rest = pattern.dropFirst(2)
        return rest.contains(".") && name[name.index(after: dot)...] == rest
    }
}
