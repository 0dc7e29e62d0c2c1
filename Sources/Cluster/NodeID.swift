// The name of a member, as the allocation and the messages between nodes use it.

/// A node of the cluster, numbered from 1; 0 is left free to mean "no node" on the wire.
public struct NodeID: Hashable, Comparable, Sendable {
    /// At least 1.
    public let value: UInt16

    /// Names the node `value`, which must be at least 1: anything else is a bug of the caller.
    /// Numbers that come from outside go through ``init(exactly:)``.
    public init(_ value: UInt16) {
        precondition(value >= 1, "nodes are numbered from 1")
        self.value = value
    }

    /// Names a node by a number from a file or a message; nil unless it is 1…65535.
    public init?(exactly number: some BinaryInteger) {
        guard let value = UInt16(exactly: number), value >= 1 else { return nil }
        self.value = value
    }

    /// Orders by ``value``; every tie in this module goes to the lower node.
    public static func < (left: Self, right: Self) -> Bool { left.value < right.value }
}

extension NodeID: CustomStringConvertible {
    /// The bare number, as in "node 3" of a log line.
    public var description: String { String(value) }
}

extension NodeID: Codable {
    /// Reads the bare number; throws `DecodingError` for one that is no node's.
    public init(from decoder: any Decoder) throws {
        let container = try decoder.singleValueContainer()
        guard let node = NodeID(exactly: try container.decode(UInt16.self)) else {
            throw DecodingError.dataCorruptedError(
                in: container, debugDescription: "nodes are numbered from 1")
        }
        self = node
    }

    /// Writes the bare number.
    public func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        try container.encode(value)
    }
}
