// The coordination store in etcd, as the loop of a node uses it: requests go in from one thread,
// and answers and changes are fetched when a file says that there are some.

public import Cluster
public import EtcdMessages
internal import NIOCore
internal import NIOPosix

/// What happened since the start.
public struct EtcdStatistics: Hashable, Sendable {
    /// Requests that were answered by etcd.
    public var answered: UInt64 = 0
    /// Requests that got no answer in time after they were sent.
    public var timedOut: UInt64 = 0
    /// Requests that were not sent in time, as no member could be used.
    public var unsent: UInt64 = 0
    /// Connections that were opened.
    public var connections: UInt64 = 0
    /// Connections that could not be opened, or ended by themselves.
    public var broken: UInt64 = 0
    /// Answers that are not etcd's.
    public var malformed: UInt64 = 0
    /// How often another member was chosen.
    public var failovers: UInt64 = 0
    /// How often a watch went on on a new connection.
    public var resumptions: UInt64 = 0
    /// How often that was because it had fallen silent.
    public var stalls: UInt64 = 0
    /// Keys below the nodes' prefix that no node can have written.
    public var foreignKeys: UInt64 = 0
}

/// A client of an etcd cluster, with a thread of its own.
///
/// All calls may come from any thread. Requests are answered in whatever order etcd answers them:
/// they go over several connections, so that none waits for a slow one of another kind.
public final class EtcdClient: CoordinationBackend {
    private let group: MultiThreadedEventLoopGroup
    private let outbox: Outbox
    private let engine: EtcdEngine

    /// Reads the files that the configuration names, and begins to look for a member that
    /// answers. Where signals are to be read from a file, they must be blocked before.
    public init(_ configuration: EtcdConfiguration) throws(EtcdError) {
        guard !configuration.endpoints.isEmpty else { throw .noEndpoint }
        let security = try configuration.tls.map { tls throws(EtcdError) in
            try tls.context()
        }
        outbox = try Outbox()
        group = MultiThreadedEventLoopGroup(numberOfThreads: 1)
        let loop = group.next()
        engine = EtcdEngine(configuration, security, loop: loop, outbox: outbox)
        loop.execute { [engine] in engine.start() }
    }

    /// Ends all connections and the thread. Requests under way are not answered any more; what
    /// they ask may be done or not. Must not be called by the client's own thread.
    deinit {
        let loop = group.next()
        try? loop.submit { [engine] in engine.stop() }.wait()
        try? group.syncShutdownGracefully()
    }

    /// The number of a file that has something to read when ``takeEvents()`` has something to
    /// return. It belongs to the client.
    public var file: Int32 { outbox.file }

    /// Asks for something. The answer comes as ``CoordinationEvent/reply(_:to:)`` with the same
    /// number, once, within the time limit. Precondition: the number is not that of a request that
    /// waits or of a watch that goes on; no key is empty.
    public func submit(_ request: CoordinationRequest, id: UInt64) {
        if let refusal = request.refusal {
            outbox.post(.reply(.failed(refusal), to: id))
            return
        }
        group.next().execute { [engine] in engine.submit(request, id: id) }
    }

    /// Ends a watch, named by the number of its request. What it has told already may still be
    /// among the events.
    public func endWatch(_ id: UInt64) {
        group.next().execute { [engine] in engine.endWatch(id) }
    }

    /// Takes what came since the last call.
    public func takeEvents() -> [CoordinationEvent] { outbox.take() }

    /// What happened since the start.
    public var statistics: EtcdStatistics { outbox.statistics }

    /// Why etcd can't be used just now; nil while it can. For a log.
    public var trouble: EtcdError? { outbox.trouble }

    /// ``trouble`` in one line.
    public var troubleText: String? { trouble?.description }
}
