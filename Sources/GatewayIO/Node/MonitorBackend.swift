// What a node needs of whoever shows it to a monitoring system, whatever that speaks.

public import Wire

/// Where a node's metrics and health are asked for.
public struct MonitorAddress: Hashable, Sendable {
    /// The address to listen on.
    public var address: IPAddress
    /// The TCP port.
    public var port: UInt16

    /// An address and a port.
    public init(address: IPAddress, port: UInt16) {
        self.address = address
        self.port = port
    }
}

extension MonitorAddress: CustomStringConvertible {
    /// As in a URL.
    public var description: String {
        address.family == .v6 ? "[\(address)]:\(port)" : "\(address):\(port)"
    }
}

/// A thread that is asked for a node's state, and asks the node's loop. The loop never waits for
/// it. All calls may come from any thread.
public protocol MonitorBackend: AnyObject, Sendable {
    /// The number of a file that has something to read while a reading is wanted.
    var file: Int32 { get }

    /// True when a reading is wanted; asked once each time ``file`` has something to read.
    func takeQuestion() -> Bool

    /// Gives the reading that is wanted.
    func answer(_ reading: NodeReading)
}
