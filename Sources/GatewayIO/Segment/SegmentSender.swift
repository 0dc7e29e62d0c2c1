// IP packets out to a shared segment, with MAC addresses that the node finds out itself: the kernel
// would ask with addresses of its own choice, and a cluster address as the asker of an ARP request
// would give it the node's own MAC address in every neighbor's table.

internal import CLinux
internal import Cluster
internal import Glibc
internal import Wire

/// Where packets go that are for no address of the segment itself.
struct SegmentRoute {
    /// Destinations from the first address to the last.
    let first: IPAddress
    let last: IPAddress
    /// The router; nil: the destination is on the segment.
    let gateway: IPAddress?

    /// A route to the prefix of `length` bits that holds `address`.
    init(_ address: IPAddress, length: Int, gateway: IPAddress?) {
        (first, last) = address.prefixRange(length: length)
        self.gateway = gateway
    }
}

/// Sends IP packets on one device. One owner, one thread.
final class SegmentSender {
    /// What was not sent, and why; and what was.
    struct Counters: Equatable {
        var sent: UInt64 = 0
        /// The kernel took no more.
        var congested: UInt64 = 0
        /// No route, or the neighbor does not answer.
        var unreachable: UInt64 = 0
        /// Too many waited for a neighbor's address, or too many neighbors.
        var overflowed: UInt64 = 0
    }

    private static let slots = PacketRoom.slots
    /// What a slot holds: what the kernel is to do (OffloadHeader), Ethernet's header, the packet.
    private static let frameOffset = OffloadHeader.byteCount
    private static let packetOffset = frameOffset + EthernetHeader.byteCount
    private static let slotBytes = packetOffset + PacketRoom.packetMaximum
    /// Packets that wait for neighbors' addresses.
    private static let waitingMaximum = 128

    let device: SegmentDevice
    /// The node's own addresses on the segment, by which it asks; one of each family at most.
    private let sources: [IPAddress]
    private let routes: [SegmentRoute]
    private let descriptor: FileDescriptor
    private var neighbors: NeighborTable
    private var waiting: [(neighbor: IPAddress, packet: [UInt8])] = []
    private let memory: UnsafeMutableRawPointer
    private let headers: UnsafeMutablePointer<mmsghdr>
    private let pieces: UnsafeMutablePointer<iovec>
    /// By slot: how many packets are in it, and whether they are several UDP datagrams.
    private var rows = [(packets: UInt64, isOfDatagrams: Bool)](
        repeating: (1, false), count: slots)
    private var count = 0
    /// The last frame, as far as others may follow in it.
    private var train: SegmentTrain?
    private var joinsDatagrams = true
    private(set) var counters = Counters()

    /// Opens a socket on the device. Of several routes to a destination the first counts.
    init(
        _ device: SegmentDevice, sources: [IPAddress], routes: [SegmentRoute],
        neighbors: NeighborTable = NeighborTable()
    ) throws(NodeError) {
        self.device = device
        self.sources = sources
        self.routes = routes
        self.neighbors = neighbors
        let kind =
            Int32(SOCK_RAW.rawValue) | Int32(SOCK_CLOEXEC.rawValue)
            | Int32(SOCK_NONBLOCK.rawValue)
        // Protocol 0: it sends only.
        let number = socket(AF_PACKET, kind, 0)
        guard number >= 0 else { throw .last("opening a packet socket on \(device.name)") }
        descriptor = FileDescriptor(number)
        memory = .allocate(byteCount: Self.slots * Self.slotBytes, alignment: 64)
        headers = .allocate(capacity: Self.slots)
        headers.initialize(repeating: mmsghdr(), count: Self.slots)
        pieces = .allocate(capacity: Self.slots)
        pieces.initialize(repeating: iovec(), count: Self.slots)
        var address = sockaddr_ll()
        address.sll_family = UInt16(AF_PACKET)
        address.sll_ifindex = device.index
        let size = socklen_t(MemoryLayout<sockaddr_ll>.size)
        let isBound = withUnsafePointer(to: address) { pointer in
            UnsafeRawPointer(pointer).withMemoryRebound(to: sockaddr.self, capacity: 1) {
                bind(number, $0, size)
            }
        }
        guard isBound == 0 else { throw .last("binding a packet socket to \(device.name)") }
        _ = number.trySet(SOL_SOCKET, SO_SNDBUFFORCE, 8 << 20)
        // Rows go out in one piece, and the device or the kernel cuts them.
        try number.set(SOL_PACKET, PACKET_VNET_HDR, 1)
    }

    deinit {
        memory.deallocate()
        headers.deallocate()
        pieces.deallocate()
    }

    // MARK: Packets

    /// Takes a packet for its destination; ``flush()`` sends it. The octets are copied.
    func send(_ packet: UnsafeRawBufferPointer, nowNanoseconds now: UInt64) {
        guard let base = packet.baseAddress, packet.count >= IPPacket.ipv4HeaderBytes,
            packet.count <= PacketRoom.packetMaximum
        else { return }
        let isV4 = load8(base, 0) >> 4 == 4
        guard isV4 || packet.count >= IPPacket.ipv6HeaderBytes else { return }
        if joins(packet) { return }
        let destination = IPAddress(isV4 ? .v4 : .v6, at: base, isV4 ? 16 : 24)
        guard let neighbor = nextHop(to: destination) else {
            counters.unreachable += 1
            return
        }
        switch neighbors.resolve(neighbor, nowNanoseconds: now) {
        case .address(let address):
            send(packet, to: address)
            train = SegmentTrain(
                place(count - 1) + Self.packetOffset, count: packet.count,
                joinsDatagrams: joinsDatagrams)
        case .unreachable: counters.unreachable += 1
        case .tableFull: counters.overflowed += 1
        case .pending:
            if waiting.count < Self.waitingMaximum {
                waiting.append((neighbor, Array(packet)))
            } else {
                counters.overflowed += 1
            }
        }
        sendQuestions()
    }

    /// Takes a packet for a station, such as the node that a fragment is relayed to.
    func send(_ packet: UnsafeRawBufferPointer, to address: MACAddress) {
        guard let first = packet.first, packet.count <= PacketRoom.packetMaximum else { return }
        let type = first >> 4 == 4 ? EthernetHeader.ipv4 : EthernetHeader.ipv6
        append(bytes: EthernetHeader.byteCount + packet.count) { place in
            EthernetHeader.write(place, to: address, from: device.address, type: type)
            guard let base = packet.baseAddress else { return }
            (place + EthernetHeader.byteCount).copyMemory(from: base, byteCount: packet.count)
        }
    }

    /// Takes a whole frame.
    func send(frame: [UInt8]) {
        append(bytes: frame.count) { place in
            frame.withUnsafeBytes { bytes in
                guard let base = bytes.baseAddress else { return }
                place.copyMemory(from: base, byteCount: bytes.count)
            }
        }
    }

    private func nextHop(to destination: IPAddress) -> IPAddress? {
        for route in routes
        where route.first.family == destination.family
            && IPAddress.isOrdered(route.first, destination)
            && IPAddress.isOrdered(destination, route.last)
        {
            return route.gateway ?? destination
        }
        return nil
    }

    private func place(_ slot: Int) -> UnsafeMutableRawPointer { memory + slot * Self.slotBytes }

    /// Puts a packet into the last frame, if it is what follows there; both then have one
    /// destination.
    private func joins(_ packet: UnsafeRawBufferPointer) -> Bool {
        guard let base = packet.baseAddress, let end = pieces[max(count, 1) - 1].iov_base,
            let segment = train?.append(
                UnsafeMutableRawPointer(mutating: base), count: packet.count)
        else { return false }
        (end + pieces[count - 1].iov_len).copyMemory(
            from: base + segment.headerBytes, byteCount: segment.payloadBytes)
        pieces[count - 1].iov_len += segment.payloadBytes
        return true
    }

    /// Says what is to be done with the last frame: nothing follows in it.
    private func finishTrain() {
        guard let train else { return }
        self.train = nil
        train.finish().behind(EthernetHeader.byteCount).write(place(count - 1))
        rows[count - 1] = (UInt64(train.count), train.count > 1 && train.isOfDatagrams)
    }

    /// Has `write` fill the next frame.
    func append(bytes: Int, _ write: (UnsafeMutableRawPointer) -> Void) {
        precondition(bytes <= Self.slotBytes - Self.frameOffset)
        finishTrain()
        if count == Self.slots { flush() }
        let place = place(count)
        OffloadHeader.complete.write(place)
        write(place + Self.frameOffset)
        rows[count] = (1, false)
        pieces[count] = iovec(iov_base: place, iov_len: Self.frameOffset + bytes)
        headers[count].msg_hdr = msghdr()
        headers[count].msg_hdr.msg_iov = pieces + count
        headers[count].msg_hdr.msg_iovlen = 1
        count += 1
    }

    /// Sends what was taken.
    func flush() {
        finishTrain()
        var sent = 0
        while sent < count {
            let taken = sendmmsg(descriptor.number, headers + sent, UInt32(count - sent), 0)
            if taken > 0 {
                for slot in sent..<sent + Int(taken) { counters.sent += rows[slot].packets }
                sent += Int(taken)
            } else if errno != EINTR {
                // One that can't be sent must not hold up the others.
                if errno == EINVAL, rows[sent].isOfDatagrams { joinsDatagrams = false }
                counters.congested += rows[sent].packets
                sent += 1
            }
        }
        count = 0
    }

    // MARK: Neighbors

    /// Reads an ARP message or an advertisement, and sends what waited for it.
    func learn(_ frame: UnsafeRawBufferPointer, nowNanoseconds now: UInt64) {
        let said: (IPAddress, MACAddress, isAnswer: Bool)
        if let message = ARPMessage(frame: frame) {
            let isAnswer =
                !message.isRequest && message.targetMAC == device.address
                && sources.contains(message.target)
            said = (message.sender, message.senderMAC, isAnswer)
        } else if let message = NeighborMessage(frame: frame), !message.isSolicitation,
            let address = message.linkAddress
        {
            let isAnswer = message.isSolicited && sources.contains(message.destination)
            said = (message.target, address, isAnswer)
        } else {
            return
        }
        let isNew = neighbors.learn(
            said.0, at: said.1, isAnswer: said.isAnswer, nowNanoseconds: now)
        guard isNew else { return }
        for entry in waiting where entry.neighbor == said.0 {
            entry.packet.withUnsafeBytes { send($0, to: said.1) }
        }
        waiting.removeAll { $0.neighbor == said.0 }
    }

    /// Asks again, and gives up what waits for neighbors that don't answer.
    func tick(nowNanoseconds now: UInt64) {
        neighbors.tick(nowNanoseconds: now)
        let before = waiting.count
        waiting.removeAll { entry in
            neighbors.resolve(entry.neighbor, nowNanoseconds: now) == .unreachable
        }
        counters.unreachable += UInt64(before - waiting.count)
        sendQuestions()
        flush()
    }

    /// When ``tick(nowNanoseconds:)`` has something to do.
    var nextDeadline: UInt64 { neighbors.nextDeadline }

    private func sendQuestions() {
        for question in neighbors.takeQuestions() {
            let family = question.address.family
            guard let source = sources.first(where: { $0.family == family }) else { continue }
            if family == .v4 {
                let message = ARPMessage(
                    isRequest: true, senderMAC: device.address, sender: source,
                    targetMAC: MACAddress(0), target: question.address)
                send(
                    frame: message.frame(
                        to: question.destination ?? .broadcast, from: device.address))
                continue
            }
            let group = NeighborMessage.solicitedNodeGroup(of: question.address)
            let message = NeighborMessage(
                isSolicitation: true, source: source,
                destination: question.destination == nil ? group : question.address,
                target: question.address, linkAddress: device.address)
            send(
                frame: message.frame(
                    to: question.destination ?? MACAddress(group: group), from: device.address))
        }
    }
}
