// Between which addresses and ports the messages of an IKE SA travel.

public import Wire

/// The two ends of a UDP flow, as this gateway sees them.
public struct IKEPath: Hashable, Sendable {
    /// Our address.
    public var local: IPAddress
    /// Our port: 500, or 4500 with the non-ESP marker before each message (RFC 7296 §2.23).
    public var localPort: UInt16
    /// The peer's address.
    public var remote: IPAddress
    /// The peer's port.
    public var remotePort: UInt16
    /// True when a marker of four zero octets stands before each message, because ESP shares the
    /// port (RFC 3948 §2.2). It is put there and taken away by whoever holds the socket.
    public var hasMarker: Bool

    /// See the properties.
    public init(
        local: IPAddress, localPort: UInt16, remote: IPAddress, remotePort: UInt16, hasMarker: Bool
    ) {
        self.local = local
        self.localPort = localPort
        self.remote = remote
        self.remotePort = remotePort
        self.hasMarker = hasMarker
    }
}

extension IKEPath: CustomStringConvertible {
    /// `local:port - remote:port`, IPv6 addresses in brackets.
    public var description: String {
        "\(Self.text(local, localPort)) - \(Self.text(remote, remotePort))"
    }

    private static func text(_ address: IPAddress, _ port: UInt16) -> String {
        address.family == .v4 ? "\(address):\(port)" : "[\(address)]:\(port)"
    }
}
