// The unit in which tunnels are spread over nodes and moved between them.

/// A distribution identifier (DI): the number that all packets of one tunnel hash to.
///
/// The patent calls it "distribution identifier" and keeps it in every table entry
/// ("distribution information"), so that the owner of an entry is known without hashing again.
public struct DistributionIdentifier: Hashable, Comparable, Sendable {
    /// From 0 to one below the identifier count of the ``Distribution`` that made it.
    public let value: UInt16

    /// Names the identifier `value`; whether it exists depends on the ``Distribution`` in force.
    public init(_ value: UInt16) { self.value = value }

    /// Orders by ``value``: the order of every list of identifiers in this module.
    public static func < (left: Self, right: Self) -> Bool { left.value < right.value }
}

extension DistributionIdentifier: CustomStringConvertible {
    /// The bare number, as in "DI 17" of a log line.
    public var description: String { String(value) }
}
