// One live node: sockets toward the peers, a TUN device or a segment toward the protected network,
// the gateway between them, and one loop that lets each have its turn.

internal import CLinux
public import Cluster
internal import Crypto
internal import ESP
internal import Gateway
internal import Glibc
internal import IKEStub
internal import Wire

/// A running node. One thread makes it and runs it.
public final class LiveNode {
    /// How much a line of the log matters.
    public enum LogLevel: String, Sendable { case debug, info, warning }

    /// Makes the way to the coordination store, once signals wait in a file.
    public typealias Store = () throws(NodeError) -> any CoordinationBackend

    /// What a node does when it is told to stop.
    public enum Farewell: Sendable {
        /// The peers are told, and the IKE SAs are over.
        case delete
        /// The peers are told nothing: a successor goes on.
        case handover
    }

    /// A pair of CHILD SAs that is installed.
    struct Pair {
        /// What the peer protects.
        let remote: [TrafficSelector]
        /// False while it is over, but for packets on the way.
        var hasRoutes = true
    }

    static let stopNanoseconds: UInt64 = 2_000_000_000
    /// What a member of a cluster has to hand over its tunnels before it goes.
    static let leaveNanoseconds: UInt64 = 15_000_000_000

    private(set) var configuration: NodeConfiguration
    private let sink: (LogLevel, String) -> Void
    let member: Member
    /// Nil in a cluster.
    let sole: SoleMember?
    let cluster: ClusterEdge?
    let protected: ProtectedSide
    let datagramSockets: [DatagramSocket]
    let espSockets: [ESPSocket]
    let control: ControlListener
    var sessions: [Int32: ControlSession] = [:]
    var pairs: [SPI: Pair] = [:]
    /// Names of manually keyed tunnels, by inbound SPI.
    var manual: [SPI: String] = [:]
    /// Virtual addresses of ours that the device has, by local SPI.
    var ownAddresses: [UInt64: [IPAddress]] = [:]

    let room = PacketRoom()
    /// Datagrams that came in, and datagrams on their way out.
    let arrivals = DatagramBatch()
    let batch = DatagramBatch()
    private let poller: Poller
    private let signals: SignalQueue
    private let clockBase: UInt64
    private var stopsAt: UInt64?
    /// Called on SIGHUP: the configuration to go on with; nil: none, as it is faulty.
    public var reload: (() -> NodeConfiguration?)?
    /// Called on SIGTERM or SIGINT.
    public var farewell = Farewell.delete
    /// Who asks for readings; nil: nobody.
    public var monitor: (any MonitorBackend)? {
        didSet { if let monitor { poller.watch(number: monitor.file) } }
    }

    /// Opens everything. Lines of the log go to `log`; a member of a cluster reaches what all
    /// members have in common by what `store` makes.
    public init(
        _ configuration: NodeConfiguration, store: Store? = nil,
        log: @escaping (LogLevel, String) -> Void
    ) throws(NodeError) {
        precondition(!configuration.addresses.isEmpty)
        precondition((configuration.cluster == nil) == (store == nil))
        self.configuration = configuration
        sink = log
        // Before there is another thread.
        signals = try SignalQueue()
        poller = try Poller()
        let library: CryptoLibrary
        do {
            library = try CryptoLibrary()
        } catch {
            throw .library("\(error)")
        }
        var manual: ManualTunnels?
        var segment: SharedSegment?
        if let cluster = configuration.cluster, let store {
            let parts = try Self.join(cluster, configuration, store, library)
            (member, sole, self.cluster) = (parts.member, nil, parts.edge)
            segment = parts.edge.inside
            clockBase = Self.monotonic() &- parts.start
        } else {
            let sole: SoleMember
            (sole, manual) = try Self.found(configuration, library)
            (member, self.sole, cluster) = (sole, sole, nil)
            clockBase = Self.monotonic() &- sole.founded
        }
        control = try ControlListener(path: configuration.controlSocket)
        datagramSockets = try Self.openDatagramSockets(configuration)
        if let segment {
            protected = .segment(segment)
        } else {
            protected = try Self.openDevice(configuration)
        }
        var espSockets: [ESPSocket] = []
        for address in configuration.addresses {
            espSockets.append(try ESPSocket(address, receives: cluster == nil))
        }
        self.espSockets = espSockets
        watchFiles()
        if let manual { begin(manual) }
        // Only card and tables have the keys from now on.
        self.configuration.associations = nil
    }

    private func watchFiles() {
        for socket in datagramSockets { poller.watch(socket.descriptor) }
        for socket in espSockets {
            if let descriptor = socket.descriptor { poller.watch(descriptor) }
        }
        switch protected {
        case .device(let device, _): poller.watch(device.descriptor)
        case .segment(let inside): poller.watch(number: inside.fileNumber)
        }
        poller.watch(control.descriptor)
        poller.watch(signals.descriptor)
        if let cluster {
            poller.watch(number: cluster.outside.fileNumber)
            poller.watch(cluster.calls)
        } else {
            for number in member.news { poller.watch(number: number) }
        }
    }

    /// A node alone, with what it finds of its former life.
    private static func found(
        _ configuration: NodeConfiguration, _ library: CryptoLibrary
    ) throws(NodeError) -> (SoleMember, ManualTunnels?) {
        var random = SystemRandomSource()
        var store = CoordinationStore()
        var journal: StateJournal?
        var manual: ManualTunnels?
        if let path = configuration.stateDirectory {
            (journal, manual) = try openState(path, configuration, &store, &random)
        } else if let file = configuration.associations {
            throw .needsState(
                "\(file.name): sequence numbers of manually keyed associations must go on after a "
                    + "restart")
        }
        let member = try SoleMember(
            capacity: configuration.cardCapacity, journal: journal, store: store,
            ike: configuration.ike, library: library, random: &random, now: worldNanoseconds())
        return (member, manual)
    }

    /// What outlives the process, as it was left, without what the configuration has no more.
    private static func openState(
        _ path: String, _ configuration: NodeConfiguration, _ store: inout CoordinationStore,
        _ random: inout some RandomSource
    ) throws(NodeError) -> (StateJournal, ManualTunnels) {
        let journal: StateJournal
        do throws(StateError) {
            journal = try StateJournal(path: path, random: &random)
            store = try journal.takeStore()
        } catch {
            throw .state(error)
        }
        var manual = try ManualTunnels(
            configuration.associations, addresses: configuration.addresses, journal)
        try manual.reconcile(&store, file: configuration.associations?.name ?? "")
        return (journal, manual)
    }

    private static func openDevice(
        _ configuration: NodeConfiguration
    ) throws(NodeError) -> ProtectedSide {
        let device = try TunnelDevice(
            name: configuration.tunnelDevice, mtu: configuration.tunnelMTU)
        return .device(
            device, configuration.setsRoutes ? try RouteTable(device: device.index) : nil)
    }

    private static func openDatagramSockets(
        _ configuration: NodeConfiguration
    ) throws(NodeError) -> [DatagramSocket] {
        var sockets: [DatagramSocket] = []
        for address in configuration.addresses {
            sockets.append(
                try DatagramSocket(address, port: configuration.ikePort, hasMarker: false))
            sockets.append(
                try DatagramSocket(
                    address, port: configuration.encapsulationPort, hasMarker: true))
        }
        return sockets
    }

    // MARK: Time

    private static func monotonic() -> UInt64 {
        var time = timespec()
        clock_gettime(CLOCK_MONOTONIC, &time)
        return UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
    }

    /// Of the node's clock.
    var now: UInt64 { Self.monotonic() &- clockBase }

    /// Since 1970.
    static func seconds() -> Int64 { Int64(time(nil)) }

    // MARK: The loop

    /// Serves until a signal ends it, and all is said to the peers, or two seconds are over; a
    /// member of a cluster, until others have what it served.
    public func run() {
        cluster?.lock.lock()
        warnOfAbsentAddresses()
        announce()
        while !isOver {
            let patience = patience()
            let ready = unlocked { poller.wait(milliseconds: patience) }
            advance()
            for number in ready {
                serve(number)
                cluster?.yield()
            }
            flush()
        }
        leave()
        if case .device(_, let routes) = protected { routes?.removeAll() }
        log(.info, "stopped")
        unlocked { cluster?.thread?.stop() }
        cluster?.lock.unlock()
    }

    /// Does something that needs no gateway while others may use it.
    private func unlocked<Result>(_ body: () -> Result) -> Result {
        guard let cluster else { return body() }
        let lines = cluster.lines.take()
        cluster.lock.unlock()
        for (level, text) in lines { sink(level, text) }
        defer { cluster.lock.lock() }
        return body()
    }

    /// A line of the log. In a cluster it is written when nobody waits.
    func log(_ level: LogLevel, _ text: String) {
        guard let cluster else { return sink(level, text) }
        cluster.lines.append(level, text)
    }

    private func announce() {
        let text = configuration.addresses.map(\.description).joined(separator: ", ")
        switch protected {
        case .device(let device, _): log(.info, "serving \(text) through \(device.name)")
        case .segment: announceMember(text)
        }
    }

    /// A signal told it to end.
    var isStopping: Bool { stopsAt != nil }

    private var isOver: Bool {
        guard let stopsAt else { return false }
        if now >= stopsAt { return true }
        if cluster != nil { return hasLeft }
        return farewell == .handover || member.gateway.associationCount == 0
    }

    /// Milliseconds until something is due.
    private func patience() -> Int32 {
        let now = now
        // A cluster's gateway is the control thread's.
        var next = cluster?.nextDeadline ?? member.gateway.nextDeadline(nowNanoseconds: now)
        next = min(next, stopsAt ?? .max)
        if sessions.values.contains(where: { $0.operation != nil }) {
            next = min(next, now + ClusterOperation.lookNanoseconds)
        }
        return milliseconds(until: next, now)
    }

    func milliseconds(until next: UInt64, _ now: UInt64) -> Int32 {
        guard next > now else { return 0 }
        return Int32(clamping: min((next - now + 999_999) / 1_000_000, 3_600_000))
    }

    /// Does what is due.
    private func advance() {
        let now = now
        if cluster != nil { return advanceMember(now) }
        member.gateway.secondsSince1970 = Self.seconds()
        if member.gateway.nextDeadline(nowNanoseconds: now) <= now {
            member.gateway.tick(nowNanoseconds: now)
            carry()
        }
    }

    private func serve(_ number: Int32) {
        if let socket = datagramSockets.first(where: { $0.descriptor.number == number }) {
            receiveDatagrams(socket)
        } else if let socket = espSockets.first(where: { $0.descriptor?.number == number }) {
            receivePackets(socket)
        } else if case .device(let device, _) = protected, number == device.descriptor.number {
            sendPackets(device)
        } else if let cluster, number == cluster.inside.fileNumber {
            forward(cluster)
        } else if let cluster, number == cluster.outside.fileNumber {
            receiveSegment(cluster)
        } else if number == signals.descriptor.number {
            while let signal = signals.next() { take(signal) }
        } else if let cluster, number == cluster.calls.number {
            cluster.hear()
            carry()
        } else if member.news.contains(number) {
            carry()
        } else if let monitor, number == monitor.file {
            answer(monitor)
        } else if number == control.descriptor.number {
            while let session = control.accept() {
                sessions[session.descriptor.number] = session
                poller.watch(session.descriptor)
            }
        } else if let session = sessions[number] {
            session.flush()
            if let request = session.receive() { answer(request, session) }
        }
    }

    /// Forgets connections that said everything, and waits for room where something is unsent.
    private func flush() {
        stepOperations()
        for session in sessions.values {
            if session.isFinished {
                sessions[session.descriptor.number] = nil
            } else if session.hasUnsent != session.waitsForRoom {
                session.waitsForRoom = session.hasUnsent
                poller.watch(session.descriptor, writes: session.hasUnsent)
            }
        }
    }

    private func take(_ signal: Int32) {
        guard signal != SIGHUP else {
            guard let reload else { return log(.info, "SIGHUP: there is nothing to read again") }
            guard let new = reload() else {
                return log(.warning, "SIGHUP: the configuration is as it was, for its faults")
            }
            member.gateway.ikeConfiguration = new.ike
            configuration.ike = new.ike
            configuration.remotePorts = new.remotePorts
            for name in configuration.fixedSettings(changedIn: new) {
                log(.warning, "SIGHUP: \(name) was changed: the next start takes that over")
            }
            return log(.info, "SIGHUP: the configuration was read again")
        }
        // A second signal waits for nobody.
        let patience = cluster == nil ? Self.stopNanoseconds : Self.leaveNanoseconds
        stopsAt = stopsAt == nil ? now + patience : now
        guard cluster == nil else { return beginLeaving() }
        guard farewell == .delete else { return }
        let now = now
        for summary in member.gateway.associations() {
            member.gateway.command(.delete, localSPI: summary.localSPI, nowNanoseconds: now)
        }
        carry()
    }
}
