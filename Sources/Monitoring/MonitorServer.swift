// A node's metrics and health over HTTP, in a thread of its own: what is asked here, however often
// and however badly, costs the node's loop one look at its own state ten times a second at most.

public import GatewayIO
internal import Glibc
internal import NIOCore
internal import NIOPosix
internal import Wire

/// Why metrics can't be served; one line that says what to do.
public struct MonitorError: Error, CustomStringConvertible {
    /// What is wrong.
    public let description: String
}

/// An HTTP server: `GET /metrics` for Prometheus, `GET /healthz` for whoever wants to know whether
/// the node serves. No encryption and no passwords: nothing secret is told, but who may know where
/// tunnels are is for the network to decide.
public final class MonitorServer: MonitorBackend {
    private let group: MultiThreadedEventLoopGroup
    private let desk: MonitorDesk
    private let channel: any Channel
    /// Where it listens; a port of 0 was replaced by one that was free.
    public let address: MonitorAddress

    /// Listens. `more`: metrics of the node's surroundings, asked for in the server's thread. Where
    /// signals are to be read from a file, they must be blocked before.
    public init(
        _ address: MonitorAddress, more: @escaping @Sendable () -> [Metric] = { [] }
    ) throws(MonitorError) {
        let desk = try MonitorDesk()
        group = MultiThreadedEventLoopGroup(numberOfThreads: 1)
        let connections = ConnectionCount()
        do {
            channel = try ServerBootstrap(group: group)
                .serverChannelOption(.backlog, value: 16)
                .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
                .childChannelInitializer { channel in
                    channel.eventLoop.makeCompletedFuture {
                        try MonitorHandler.prepare(channel, desk, connections, more)
                    }
                }
                .bind(host: "\(address.address)", port: Int(address.port)).wait()
        } catch {
            try? group.syncShutdownGracefully()
            throw MonitorError(
                description: "metrics can't be served at \(address): \(Self.reason(error)); "
                    + "choose another node.monitor")
        }
        self.desk = desk
        let port = channel.localAddress?.port.flatMap { UInt16(exactly: $0) } ?? address.port
        self.address = MonitorAddress(address: address.address, port: port)
    }

    /// Ends all connections and the thread. Must not be called by that thread.
    deinit {
        try? channel.close().wait()
        try? group.syncShutdownGracefully()
    }

    private static func reason(_ error: any Error) -> String {
        (error as? IOError).map { String(cString: strerror($0.errnoCode)) } ?? "\(error)"
    }

    /// See ``MonitorBackend``.
    public var file: Int32 { desk.file }

    /// See ``MonitorBackend``.
    public func takeQuestion() -> Bool { desk.takeQuestion() }

    /// See ``MonitorBackend``.
    public func answer(_ reading: NodeReading) { desk.answer(reading) }
}
