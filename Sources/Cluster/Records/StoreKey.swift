// The names of the values in the coordination store. Numbers have a fixed width, so that the
// store's order of keys is the order of numbers.

public import Wire

/// The key of a value in the store.
public enum StoreKey: Hashable, Sendable {
    /// The one ``AllocationRecord``.
    case allocation
    /// A node's ``MemberRecord``.
    case member(NodeID)
    /// A node's ``WeightRecord``.
    case weight(NodeID)
    /// An identifier's ``LeaseRecord``.
    case lease(DistributionIdentifier)
    /// A tunnel's ``TunnelRecord``, by the SPI of its inbound association.
    case entry(DistributionIdentifier, SPI)
    /// The ``IKERecord`` of an IKE SA, by the identifier whose owner speaks for it and the SPI that
    /// the cluster chose for it.
    case ike(DistributionIdentifier, UInt64)

    /// What all keys begin with.
    public static let prefix = "spindle/"

    /// What the keys of all tunnels and IKE SAs of an identifier begin with, and no others.
    public static func entries(of identifier: DistributionIdentifier) -> String {
        "spindle/entry/" + hexadecimal(identifier) + "/"
    }

    /// The key as the store knows it.
    public var text: String {
        switch self {
        case .allocation: "spindle/allocation"
        case .member(let node): "spindle/member/" + Self.decimal(node)
        case .weight(let node): "spindle/weight/" + Self.decimal(node)
        case .lease(let identifier): "spindle/lease/" + Self.hexadecimal(identifier)
        case .entry(let identifier, let spi):
            "spindle/entry/" + Self.hexadecimal(identifier) + "/" + spi.description
        case .ike(let identifier, let localSPI):
            Self.entries(of: identifier) + "ike/" + Self.hexadecimal(localSPI)
        }
    }

    /// Reads a key; nil unless it is exactly what ``text`` would give.
    public init?(text: String) {
        let parts = text.utf8.split(separator: UInt8(ascii: "/"), omittingEmptySubsequences: false)
            .map { Array($0) }
        guard parts.count >= 2, let key = Self.key(of: parts), key.text == text else { return nil }
        self = key
    }

    /// Lenient: the caller compares the canonical text.
    private static func key(of parts: [[UInt8]]) -> StoreKey? {
        let kind = String(decoding: parts[1], as: UTF8.self)
        switch (kind, parts.count) {
        case ("allocation", 2): return .allocation
        case ("member", 3): return node(parts[2]).map { .member($0) }
        case ("weight", 3): return node(parts[2]).map { .weight($0) }
        case ("lease", 3): return identifier(parts[2]).map { .lease($0) }
        case ("entry", 4):
            guard let identifier = identifier(parts[2]), let spi = number(parts[3], radix: 16)
            else { return nil }
            return .entry(identifier, SPI(spi))
        case ("entry", 5):
            guard let identifier = identifier(parts[2]),
                let spi = UInt64(String(decoding: parts[4], as: UTF8.self), radix: 16)
            else { return nil }
            return .ike(identifier, spi)
        default: return nil
        }
    }

    private static func node(_ digits: [UInt8]) -> NodeID? {
        number(digits, radix: 10).flatMap { NodeID(exactly: $0) }
    }

    private static func identifier(_ digits: [UInt8]) -> DistributionIdentifier? {
        guard let value = number(digits, radix: 16), let short = UInt16(exactly: value),
            short < Distribution.identifierCountRange.upperBound
        else { return nil }
        return DistributionIdentifier(short)
    }

    private static func number(_ digits: [UInt8], radix: Int) -> UInt32? {
        UInt32(String(decoding: digits, as: UTF8.self), radix: radix)
    }

    private static func decimal(_ node: NodeID) -> String {
        let digits = String(node.value)
        return String(repeating: "0", count: 5 - digits.count) + digits
    }

    private static func hexadecimal(_ identifier: DistributionIdentifier) -> String {
        hexadecimal(UInt64(identifier.value), digits: 4)
    }

    private static func hexadecimal(_ number: UInt64, digits count: Int = 16) -> String {
        let digits = String(number, radix: 16)
        return String(repeating: "0", count: count - digits.count) + digits
    }
}
