// What a member of a cluster has at its edge beside what a node alone has: the two segments, and
// filters in the kernel that follow the allocation.

internal import CLinux
internal import Cluster
internal import ESP
internal import Gateway
internal import Glibc
internal import IKEStub
internal import Wire

/// What to say of the node's right to serve: an interruption of a moment is no news.
struct ServingRight {
    enum News { case began, ended }

    private static let momentNanoseconds: UInt64 = 200_000_000

    private var isKnown = false
    private var lostAt: UInt64?

    /// Notes whether the node may serve now; what is new about it.
    mutating func note(_ isServing: Bool, _ now: UInt64) -> News? {
        guard isServing != isKnown else {
            if isServing { lostAt = nil }
            return nil
        }
        let since = lostAt ?? now
        lostAt = since
        guard isServing || now - min(now, since) >= Self.momentNanoseconds else { return nil }
        lostAt = nil
        isKnown = isServing
        return isServing ? .began : .ended
    }
}

/// What to say of a node that was busy, or stopped, for so long that the others may give it up.
struct Lateness {
    private static let silenceNanoseconds: UInt64 = 1_000_000_000

    private let limit: UInt64
    private var dueAt: UInt64 = .max
    private var nextWordAt: UInt64 = 0
    /// How often the node was late.
    private(set) var count: UInt64 = 0

    /// Half of the detection time is late.
    init(_ timing: ClusterTiming) { limit = timing.detectionNanoseconds / 2 }

    /// Notes when the next thing is due.
    mutating func expect(_ time: UInt64) { dueAt = time }

    /// Notes that the node looks after what is due. Returns by how much it is late, if that is to
    /// be told: at most once a second.
    mutating func note(_ now: UInt64) -> UInt64? {
        let late = now - min(now, dueAt)
        guard late > limit else { return nil }
        count += 1
        guard now >= nextWordAt else { return nil }
        nextWordAt = now + Self.silenceNanoseconds
        return late
    }
}

/// The edge of a member.
final class ClusterEdge {
    let node: NodeID
    let outside: SharedSegment
    let inside: SharedSegment
    private let filter: OwnerFilter
    private let routerAddresses: [IPAddress]
    /// The longest inner packet, in octets.
    private let insideBytes: Int
    /// By identifier, in words of 64: what the filters let through.
    private var heard: [UInt64]
    private var wanted: [UInt64]
    private var noticeLimit = RateLimit(perSecond: 1000, burst: 100)
    private var identification: UInt32 = 0
    /// Packets of the protected network that a device had joined so that nobody can cut them.
    private(set) var joined: UInt64 = 0
    /// ICMP errors that quoted packets of ours.
    var icmpErrors: UInt64 = 0
    /// Whoever works on the gateway holds it.
    let lock: InheritingLock
    let lines = LogQueue()
    /// Has something to read when control has left something for the node to do.
    let calls: FileDescriptor
    var thread: ControlThread?
    /// When the node looks whether its thread has a higher priority, and whether it did.
    var begun: UInt64 = 0
    var hasWarned = false
    /// For the log.
    var right = ServingRight()
    var lateness: Lateness

    init(
        _ cluster: ClusterConfiguration, _ configuration: NodeConfiguration,
        _ distribution: Distribution, outsideDevice: SegmentDevice
    ) throws(NodeError) {
        node = cluster.node
        lock = try InheritingLock()
        let number = eventfd(0, Int32(EFD_CLOEXEC) | Int32(EFD_NONBLOCK))
        guard number >= 0 else { throw .last("making a file for events") }
        calls = FileDescriptor(number)
        lateness = Lateness(cluster.timing)
        let shared = cluster.key.secret.sharedAddress(cluster.sharedAddressForm)
        let front = ClusterFront(
            addresses: configuration.addresses, ikePort: configuration.ikePort,
            encapsulationPort: configuration.encapsulationPort, capturesDatagrams: false)
        filter = OwnerFilter(distribution: distribution, front: front)
        outside = try SharedSegment(
            outsideDevice, side: .outside(filter), front: front, distribution: distribution,
            shared: shared, sources: [], routes: [])
        let device = try SegmentDevice(name: cluster.inside.device)
        let places = try Self.places(on: device, besides: cluster.inside.addresses)
        let linked = places.map {
            SegmentRoute($0.address, length: $0.prefixLength, gateway: nil)
        }
        let routed = cluster.inside.routes.map {
            SegmentRoute($0.prefix, length: $0.length, gateway: $0.gateway)
        }
        var sources: [IPAddress] = []
        for family in [IPAddress.Family.v4, .v6] {
            sources += places.map(\.address).filter { $0.family == family }.prefix(1)
        }
        inside = try SharedSegment(
            device, side: .inside, front: ClusterFront(addresses: cluster.inside.addresses),
            distribution: distribution, shared: shared, sources: sources, routes: linked + routed)
        routerAddresses = cluster.inside.addresses
        insideBytes = configuration.tunnelMTU
        heard = Array(repeating: 0, count: (distribution.identifierCount + 63) / 64)
        wanted = heard
    }

    /// The node's own addresses on the inner segment, by which it asks for neighbors.
    private static func places(
        on device: SegmentDevice, besides shared: [IPAddress]
    ) throws(NodeError) -> [DeviceAddress] {
        let all = try device.addresses().filter { !shared.contains($0.address) }
        for address in shared where !all.contains(where: { $0.address.family == address.family }) {
            throw .system(
                doing: "using \(device.name) for the inner segment",
                reason: "it has no \(address.family == .v4 ? "IPv4" : "IPv6") address of its own: "
                    + "give it one, as in `ip address add 10.0.0.2/24 dev \(device.name)`")
        }
        // A link-local address asks for everything on the link, but is routed to last.
        return all.filter { !$0.address.isLinkLocal } + all.filter(\.address.isLinkLocal)
    }

    /// What the segments counted, for `spindle status`.
    var counts: [String: UInt64] {
        [
            "outside.captured": outside.captured.accepted,
            "outside.overrun": outside.captured.dropped,
            "outside.refusedFragments": outside.refusedFragments,
            "outside.icmpErrors": icmpErrors, "outside.claims": outside.answered.conflicts,
            "inside.captured": inside.captured.accepted,
            "inside.overrun": inside.captured.dropped, "inside.joined": joined,
            "inside.sent": inside.sent.sent, "inside.unreachable": inside.sent.unreachable,
        ]
    }

    // MARK: The two threads

    /// Lets the other thread in, if it waits.
    func yield() {
        lock.unlock()
        lock.lock()
    }

    /// Wakes the node's own thread.
    func call() {
        var one: UInt64 = 1
        // Only a counter near 2^64 could refuse it.
        _ = write(calls.number, &one, 8)
    }

    /// Hears that the other thread called.
    func hear() {
        var count: UInt64 = 0
        _ = read(calls.number, &count, 8)
    }

    // MARK: Ownership

    /// Has the kernel let through what this node handles now, and nothing else; true when that
    /// changed.
    func follow(_ gateway: borrowing Gateway, _ sockets: [DatagramSocket]) throws(NodeError) -> Bool
    {
        gateway.writeHeard(to: &wanted)
        guard wanted != heard else { return false }
        heard = wanted
        let owned = identifiers
        try outside.hear(owned)
        for hasMarker in [false, true] {
            let program = filter.program(owned: owned, view: .datagrams(hasMarker: hasMarker))
            for socket in sockets where socket.hasMarker == hasMarker {
                try socket.attach(program)
            }
        }
        return true
    }

    /// True when packets of the identifier come here.
    func hears(_ identifier: DistributionIdentifier) -> Bool {
        heard[Int(identifier.value) >> 6] >> UInt64(identifier.value & 63) & 1 != 0
    }

    /// True when nothing comes here any more.
    var isDeaf: Bool { !heard.contains { $0 != 0 } }

    private var identifiers: [DistributionIdentifier] {
        (0..<filter.distribution.identifierCount)
            .map { DistributionIdentifier(UInt16($0)) }
            .filter(hears)
    }

    /// Whose the payload of a datagram is, if another node's: its MAC address.
    func otherStation(
        of payload: UnsafeRawBufferPointer, hasMarker: Bool, _ owners: OwnerView
    ) -> MACAddress? {
        guard
            case .owner(let identifier) = filter.distribution.share(
                ofPayload: payload, hasMarker: hasMarker), !hears(identifier)
        else { return nil }
        return owners.station(identifier)
    }

    /// When one of the segments has something to do.
    var nextDeadline: UInt64 { min(outside.nextDeadline, inside.nextDeadline) }

    // MARK: Packets of the protected network

    /// What a router has to do with a packet of the protected network before it goes into a tunnel.
    enum Passage {
        /// It may go.
        case passes
        /// It may not, and its source was told if that is this node's to do.
        case ends
        /// It was joined, and is to be cut.
        case row(OffloadHeader)
        /// It must be cut into these.
        case pieces([[UInt8]])
    }

    /// True for a packet of which a router has nothing to tell, whoever has the tunnel.
    func isPlain(_ packet: UnsafeRawBufferPointer) -> Bool {
        guard let base = packet.baseAddress, packet.count >= IPPacket.ipv6HeaderBytes else {
            return false
        }
        let hops = load8(base, load8(base, 0) >> 4 == 4 ? 8 : 7)
        // What is longer than the link was joined on it.
        return hops > 1 && (packet.count <= insideBytes || packet.count > inside.device.mtu)
    }

    /// Takes one off the hop limit of a packet, looks at its length, and completes its checksum.
    /// All nodes hear the packet; the owner of the identifier that its source hashes to tells it,
    /// whoever has the tunnel.
    func admit(
        _ packet: UnsafeMutableRawBufferPointer, _ owners: OwnerView, nowNanoseconds now: UInt64
    ) -> Passage {
        guard let base = packet.baseAddress, packet.count >= IPPacket.ipv4HeaderBytes else {
            return .ends
        }
        let isV4 = load8(base, 0) >> 4 == 4
        guard isV4 || packet.count >= IPPacket.ipv6HeaderBytes else { return .ends }
        let header = OffloadHeader(
            captured: UnsafeRawBufferPointer(packet), linkBytes: inside.device.mtu,
            packetBytes: insideBytes)
        guard let header else {
            joined += 1
            return .ends
        }
        if header.row != .none {
            return HopLimit.decrement(base) ? .row(header) : .ends
        }
        // Without what Ethernet filled it up with.
        let total = isV4 ? Int(load16(base, 2)) : Int(load16(base, 4)) + IPPacket.ipv6HeaderBytes
        guard total <= packet.count,
            header.completeChecksum(UnsafeMutableRawBufferPointer(rebasing: packet[..<total]))
        else { return .ends }
        guard total <= insideBytes else {
            return admit(long: packet, isV4: isV4, owners, now)
        }
        guard !HopLimit.decrement(base) else { return .passes }
        tell(.timeExceeded, about: packet, isV4: isV4, owners, now)
        return .ends
    }

    /// A packet that is longer than a tunnel takes.
    private func admit(
        long packet: UnsafeMutableRawBufferPointer, isV4: Bool, _ owners: OwnerView, _ now: UInt64
    ) -> Passage {
        guard let base = packet.baseAddress, isV4, load16(base, 6) & 0x4000 == 0 else {
            tell(.tooBig(mtu: insideBytes), about: packet, isV4: isV4, owners, now)
            return .ends
        }
        identification &+= 1
        guard HopLimit.decrement(base),
            let pieces = PacketSplitter.fragments(
                of: UnsafeRawBufferPointer(packet), linkBytes: insideBytes,
                identification: identification)
        else { return .ends }
        return .pieces(pieces)
    }

    private func tell(
        _ notice: ICMPNotice, about packet: UnsafeMutableRawBufferPointer, isV4: Bool,
        _ owners: OwnerView, _ now: UInt64
    ) {
        guard let base = packet.baseAddress,
            let router = routerAddresses.first(where: { ($0.family == .v4) == isV4 })
        else { return }
        let source = isV4 ? IPAddress(.v4, at: base, 12) : IPAddress(.v6, at: base, 8)
        guard owners.isOwner(filter.distribution.identifier(ofSource: source)),
            noticeLimit.take(nowNanoseconds: now),
            let message = notice.packet(about: UnsafeRawBufferPointer(packet), from: router)
        else { return }
        message.withUnsafeBytes { inside.send($0, nowNanoseconds: now) }
    }
}

extension IPAddress {
    /// RFC 4291 §2.5.6; RFC 3927.
    fileprivate var isLinkLocal: Bool {
        family == .v4 ? low >> 16 == 0xA9FE : high >> 54 == 0xFE80 >> 6
    }
}
