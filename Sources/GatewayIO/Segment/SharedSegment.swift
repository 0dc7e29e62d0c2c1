// A node's place on a segment where all nodes hear what is sent to the cluster: what comes in, what
// is answered, and what goes out (docs/decisions/0021).

internal import Cluster
internal import ESP
internal import Gateway
internal import Glibc
internal import IKEStub
internal import Wire

/// Which nodes own what, as far as a segment must know.
struct OwnerView {
    /// This node handles the identifier's packets.
    let isOwner: (DistributionIdentifier) -> Bool
    /// The MAC address of another node that does; nil: there is none, or it is this one.
    let station: (DistributionIdentifier) -> MACAddress?
}

/// What a segment wants the node to know.
enum SegmentNews: Equatable {
    /// Somebody else claims a cluster address.
    case conflict(AddressConflict)
    /// An ICMP error that quotes something of ours.
    case error(ICMPError)
}

/// A captured segment. One owner, one thread.
final class SharedSegment {
    /// What comes from a segment, and what it is for.
    enum Side {
        /// Peers: ESP, which a filter of the owned identifiers lets through.
        case outside(OwnerFilter)
        /// The protected network: packets for the tunnels, which all nodes read.
        case inside
    }

    private static let newsMaximum = 64

    let device: SegmentDevice
    private let side: Side
    private let shared: MACAddress
    private let distribution: Distribution
    private let front: ClusterFront
    private let capture: SegmentCapture
    private let sender: SegmentSender
    private var responder: ClusterAddressResponder
    private var assembly = PacketAssembly()
    private var news: [SegmentNews] = []
    private var identification: UInt32 = 0
    /// Fragments that were refused, by nobody's fault but the sender's.
    private(set) var refusedFragments: UInt64 = 0

    init(
        _ device: SegmentDevice, side: Side, front: ClusterFront, distribution: Distribution,
        shared: MACAddress, sources: [IPAddress], routes: [SegmentRoute]
    ) throws(NodeError) {
        self.device = device
        self.side = side
        self.shared = shared
        self.front = front
        self.distribution = distribution
        capture = try SegmentCapture(
            device, program: Self.program(side, device, owned: [DistributionIdentifier]()))
        try capture.join(shared)
        sender = try SegmentSender(device, sources: sources, routes: routes)
        responder = ClusterAddressResponder(
            distribution: distribution, front: front, shared: shared, own: device.address)
    }

    /// Readable when something came.
    var fileNumber: Int32 { capture.fileNumber }
    var captured: SegmentCapture.Statistics { capture.statistics }
    var sent: SegmentSender.Counters { sender.counters }
    var answered: ClusterAddressResponder.Counters { responder.counters }

    // MARK: Ownership

    private static func program(
        _ side: Side, _ device: SegmentDevice, owned: some Sequence<DistributionIdentifier>
    ) -> [FilterInstruction] {
        switch side {
        case .outside(let filter):
            filter.program(owned: owned, view: .frames(own: device.address))
        case .inside: OwnerFilter.insideProgram()
        }
    }

    /// Has the kernel drop what is not of these identifiers, where that can be seen.
    func hear(_ owned: some Sequence<DistributionIdentifier>) throws(NodeError) {
        guard case .outside = side else { return }
        try capture.replaceFilter(Self.program(side, device, owned: owned))
    }

    /// Says whose MAC address the cluster addresses have.
    func announce(nowNanoseconds now: UInt64) { responder.announce(nowNanoseconds: now) }

    // MARK: In

    /// Puts packets for the gateway into `room`, but those that `isForeign` says, and deals with
    /// everything else by itself. Returns how many frames there were.
    func receive(
        into room: PacketRoom, _ owners: OwnerView, nowNanoseconds now: UInt64,
        isForeign: (UnsafeRawBufferPointer) -> Bool = { _ in false }
    ) -> Int {
        let count = capture.receive(
            into: room,
            sort: { frame in
                guard isForTunnels(frame) else { return .other }
                let packet = UnsafeRawBufferPointer(rebasing: frame[EthernetHeader.byteCount...])
                return isForeign(packet) ? .none : .packet
            }, other: { takeOther($0, room, owners, now) })
        sender.flush()
        return count
    }

    /// What came that the node should know; bounded.
    func takeNews() -> [SegmentNews] { exchange(&news, with: []) }

    /// True for most packets: ESP without ado outside, packets to the cluster as their router
    /// inside.
    private func isForTunnels(_ frame: UnsafeRawBufferPointer) -> Bool {
        guard let base = frame.baseAddress else { return false }
        let packet = base + EthernetHeader.byteCount
        let bytes = frame.count - EthernetHeader.byteCount
        let isV4 = load16(base, 12) == EthernetHeader.ipv4
        guard bytes >= (isV4 ? IPPacket.ipv4HeaderBytes : IPPacket.ipv6HeaderBytes) else {
            return false
        }
        switch side {
        case .outside:
            return isV4
                ? load8(packet, 9) == IPProtocol.esp && load16(packet, 6) & 0x3FFF == 0
                : load8(packet, 6) == IPProtocol.esp
        case .inside:
            // What is for the node itself is the kernel's.
            guard MACAddress(at: base, 0) == shared else { return false }
            return !front.has(
                isV4 ? IPAddress(.v4, at: packet, 16) : IPAddress(.v6, at: packet, 24))
        }
    }

    private func takeOther(
        _ frame: UnsafeRawBufferPointer, _ room: PacketRoom, _ owners: OwnerView, _ now: UInt64
    ) {
        switch responder.receive(frame, nowNanoseconds: now, isOwner: owners.isOwner) {
        case .reply(let answer): return sender.send(frame: answer)
        case .conflict(let conflict): note(.conflict(conflict))
        case .none: break
        }
        guard frame.count > EthernetHeader.byteCount, let base = frame.baseAddress else { return }
        guard load16(base, 12) != EthernetHeader.arp, NeighborMessage(frame: frame) == nil else {
            return sender.learn(frame, nowNanoseconds: now)
        }
        guard case .outside = side else { return }
        let packet = UnsafeRawBufferPointer(rebasing: frame[EthernetHeader.byteCount...])
        if let error = ICMPError(packet: packet) { return note(.error(error)) }
        if FragmentHeader(packet: packet) != nil {
            takeFragment(packet, room, owners, now)
        } else if case .owner = distribution.share(ofPacket: packet, front: front) {
            // ESP behind options or extension headers.
            append(packet, room)
        }
    }

    private func note(_ item: SegmentNews) {
        if news.count < Self.newsMaximum { news.append(item) }
    }

    private func append(_ packet: UnsafeRawBufferPointer, _ room: PacketRoom) {
        guard packet.count <= PacketRoom.packetMaximum, room.free > 0,
            let base = packet.baseAddress
        else { return }
        room.piece.copyMemory(from: base, byteCount: packet.count)
        room.appendPiece(of: 0, before: 0, count: packet.count)
    }

    // MARK: Fragments

    /// One node puts the fragments of a packet together, whoever owns it.
    private func takeFragment(
        _ fragment: UnsafeRawBufferPointer, _ room: PacketRoom, _ owners: OwnerView, _ now: UInt64
    ) {
        switch assembly.take(fragment, nowNanoseconds: now) {
        case .waiting: break
        case .refused: refusedFragments += 1
        case .whole(let packet):
            packet.withUnsafeBytes { bytes in
                guard
                    case .owner(let identifier) = distribution.share(ofPacket: bytes, front: front)
                else { return }
                if let station = owners.station(identifier) {
                    relay(bytes, to: station)
                } else {
                    append(bytes, room)
                }
            }
        }
    }

    private func relay(_ packet: UnsafeRawBufferPointer, to station: MACAddress) {
        identification &+= 1
        let fragments = PacketSplitter.fragments(
            of: packet, linkBytes: device.mtu, identification: identification)
        for fragment in fragments ?? [] {
            fragment.withUnsafeBytes { sender.send($0, to: station) }
        }
    }

    // MARK: Out

    /// Takes a packet for its destination on the segment or beyond; ``flush()`` sends it.
    func send(_ packet: UnsafeRawBufferPointer, nowNanoseconds now: UInt64) {
        sender.send(packet, nowNanoseconds: now)
    }

    /// Relays a datagram of a row that came in another node's place.
    func relay(
        _ payload: UnsafeRawBufferPointer, path: DatagramPath, to station: MACAddress
    ) -> Bool {
        sender.relay(payload, path: path, to: station)
    }

    /// Sends what was taken.
    func flush() { sender.flush() }

    // MARK: Time

    /// When ``tick(_:nowNanoseconds:)`` may have something to do. Neighbors and announcements are
    /// matters of seconds.
    private(set) var nextDeadline: UInt64 = 0
    private static let tickNanoseconds: UInt64 = 100_000_000

    /// Asks neighbors, and announces, as is due.
    func tick(_ owners: OwnerView, nowNanoseconds now: UInt64) {
        guard now >= nextDeadline else { return }
        nextDeadline = now + Self.tickNanoseconds
        assembly.expire(nowNanoseconds: now)
        for frame in responder.tick(nowNanoseconds: now, isOwner: owners.isOwner) {
            sender.send(frame: frame)
        }
        sender.tick(nowNanoseconds: now)
        sender.flush()
    }
}
