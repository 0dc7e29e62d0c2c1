// One live node: sockets toward the peers, a TUN device toward the protected network, the gateway
// between them, and one loop that lets each have its turn.

internal import CLinux
internal import Cluster
internal import Crypto
internal import ESP
internal import Gateway
internal import Glibc
internal import IKEStub
internal import Wire

/// A running node. One thread makes it and runs it.
public final class LiveNode {
    /// How much a line of the log matters.
    public enum LogLevel: String, Sendable { case info, warning }

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

    private(set) var configuration: NodeConfiguration
    let log: (LogLevel, String) -> Void
    let member: SoleMember
    let device: TunnelDevice
    let routes: RouteTable?
    let datagramSockets: [DatagramSocket]
    let espSockets: [ESPSocket]
    let control: ControlListener
    var sessions: [Int32: ControlSession] = [:]
    var pairs: [SPI: Pair] = [:]
    /// Names of manually keyed tunnels, by inbound SPI.
    var manual: [SPI: String] = [:]
    /// Virtual addresses of ours that the device has, by local SPI.
    var ownAddresses: [UInt64: [IPAddress]] = [:]
    var counters: [String: UInt64] = [:]

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

    /// Opens everything. Lines of the log go to `log`.
    public init(
        _ configuration: NodeConfiguration, log: @escaping (LogLevel, String) -> Void
    ) throws(NodeError) {
        precondition(!configuration.addresses.isEmpty)
        self.configuration = configuration
        self.log = log
        signals = try SignalQueue()
        poller = try Poller()
        var random = SystemRandomSource()
        let library: CryptoLibrary
        do {
            library = try CryptoLibrary()
        } catch {
            throw .library("\(error)")
        }
        var store = CoordinationStore()
        var journal: StateJournal?
        var manual: ManualTunnels?
        if let path = configuration.stateDirectory {
            (journal, manual) = try Self.openState(path, configuration, &store, &random)
        } else if let file = configuration.associations {
            throw .needsState(
                "\(file.name): sequence numbers of manually keyed associations must go on after a "
                    + "restart")
        }
        member = try SoleMember(
            capacity: configuration.cardCapacity, journal: journal, store: store,
            ike: configuration.ike, library: library, random: &random,
            now: Self.worldNanoseconds())
        clockBase = Self.monotonic() &- member.founded
        control = try ControlListener(path: configuration.controlSocket)
        datagramSockets = try Self.openDatagramSockets(configuration)
        var espSockets: [ESPSocket] = []
        for address in configuration.addresses { espSockets.append(try ESPSocket(address)) }
        self.espSockets = espSockets
        device = try TunnelDevice(
            name: configuration.tunnelDevice, mtu: configuration.tunnelMTU)
        routes = configuration.setsRoutes ? try RouteTable(device: device.index) : nil
        for socket in datagramSockets { poller.watch(socket.descriptor) }
        for socket in espSockets { poller.watch(socket.descriptor) }
        poller.watch(device.descriptor)
        poller.watch(control.descriptor)
        poller.watch(signals.descriptor)
        if let news = member.news { poller.watch(news) }
        if let manual { begin(manual) }
        // Only card and tables have the keys from now on.
        self.configuration.associations = nil
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
    private static func seconds() -> Int64 { Int64(time(nil)) }

    // MARK: The loop

    /// Serves until a signal ends it, and all is said to the peers, or two seconds are over.
    public func run() {
        let text = configuration.addresses.map(\.description).joined(separator: ", ")
        log(.info, "serving \(text) through \(device.name)")
        while !isOver {
            let ready = poller.wait(milliseconds: patience())
            advance()
            for number in ready { serve(number) }
            flush()
        }
        leave()
        routes?.removeAll()
        log(.info, "stopped")
    }

    private var isOver: Bool {
        guard let stopsAt else { return false }
        return farewell == .handover || member.gateway.associationCount == 0 || now >= stopsAt
    }

    /// Milliseconds until something is due.
    private func patience() -> Int32 {
        let now = now
        var next = member.gateway.nextDeadline(nowNanoseconds: now)
        next = min(next, stopsAt ?? .max)
        guard next > now else { return 0 }
        return Int32(clamping: min((next - now + 999_999) / 1_000_000, 3_600_000))
    }

    /// Does what is due.
    private func advance() {
        let now = now
        member.gateway.secondsSince1970 = Self.seconds()
        if member.gateway.nextDeadline(nowNanoseconds: now) <= now {
            member.gateway.tick(nowNanoseconds: now)
            carry()
        }
    }

    private func serve(_ number: Int32) {
        if number == device.descriptor.number {
            sendPackets()
        } else if let socket = datagramSockets.first(where: { $0.descriptor.number == number }) {
            receiveDatagrams(socket)
        } else if let socket = espSockets.first(where: { $0.descriptor.number == number }) {
            receivePackets(socket)
        } else if number == signals.descriptor.number {
            while let signal = signals.next() { take(signal) }
        } else if number == member.news?.number {
            carry()
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
            return log(.info, "SIGHUP: the configuration was read again")
        }
        // A second signal does not wait for the peers.
        stopsAt = stopsAt == nil ? now + Self.stopNanoseconds : now
        guard farewell == .delete else { return }
        let now = now
        for summary in member.gateway.associations() {
            member.gateway.command(.delete, localSPI: summary.localSPI, nowNanoseconds: now)
        }
        carry()
    }
}
