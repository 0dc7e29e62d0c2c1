// Three nodes behind one address on a shared segment, with Linux as the peer.
//
// What would fool us: a bridge that gives packets to one node only (so it is counted what a node
// without a filter sees); a peer that knows the address already (every lab is new); packets that
// come late (so the last ones are waited for, by number).

import CLinux
import Cluster
import Foundation
import Glibc
import TestSupport
import Testing
import Wire

@testable import GatewayIO

@Suite(.serialized, .enabled(if: SegmentLab.isPossible, SegmentLab.absence))
struct SharedSegmentTests {
    let distribution: Distribution
    let front: ClusterFront
    let lab: SegmentLab

    init() throws {
        distribution = try Distribution(cookieKey: CookieKey(bytes: 1...20))
        front = ClusterFront(addresses: ["10.77.0.1", "fd77::1"].compactMap { IPAddress($0) })
        lab = try SegmentLab()
    }

    /// Every third identifier.
    private func owned(_ index: Int) -> [DistributionIdentifier] {
        (0..<256).filter { $0 % 3 == index }.map { DistributionIdentifier(UInt16($0)) }
    }

    private func makeNodes(
        _ shared: MACAddress = MACAddress(0x0312_3456_789A)
    ) throws -> [SegmentNode] {
        let (distribution, front) = (distribution, front)
        return try SegmentLab.nodeNames.enumerated().map { index, name in
            let owned = owned(index)
            return try lab.inside(name) {
                try SegmentNode(distribution, front, shared, number: index + 1, owned: owned)
            }
        }
    }

    /// Has the nodes work until the condition holds; false: not within ten seconds.
    private func work(_ nodes: [SegmentNode], until condition: () throws -> Bool) rethrows -> Bool {
        let end = ContinuousClock.now + .seconds(10)
        var files = nodes.map { pollfd(fd: $0.capture.fileNumber, events: 1, revents: 0) }
        while ContinuousClock.now < end {
            for node in nodes { node.turn() }
            if try condition() { return true }
            poll(&files, nfds_t(files.count), 20)
        }
        return false
    }

    /// What a program in the peer's namespace says, while the nodes work.
    private func peer(_ nodes: [SegmentNode], _ arguments: [String]) throws -> String {
        let (process, output) = try lab.start(in: "peer", arguments)
        #expect(work(nodes) { !process.isRunning }, "\(arguments)")
        return String(
            decoding: output.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
    }

    // MARK: The address

    @Test(arguments: ["03:12:34:56:78:9a", "01:00:5e:12:34:56"])
    func linuxTakesTheSharedAddressAndHearsOneAnswer(text: String) throws {
        let nodes = try makeNodes(try #require(MACAddress(text)))
        var sent: UInt64 = 0
        for address in ["10.77.0.1", "fd77::1"] {
            let said = try peer(nodes, ["ping", "-c", "20", "-i", "0.01", "-w", "8", address])
            // It sends one more when the last answer is late.
            let words = said.split(separator: " ")
            let place = try #require(words.firstIndex(of: "packets"))
            sent += try #require(UInt64(words[place - 1].split(separator: "\n").last ?? ""))
            #expect(said.contains(" 0% packet loss"), "\(said)")
            #expect(!said.contains("DUP"), "\(said)")
            let known = try lab.execute(in: "peer", ["ip", "neigh", "show", address])
            #expect(known.contains(text), "\(known)")
        }
        let counters = nodes.map(\.responder.counters)
        #expect(counters.reduce(0) { $0 + $1.echoes } == sent && sent >= 40)
        #expect(counters.allSatisfy { $0.conflicts == 0 && $0.limited == 0 })
    }

    @Test func announcementsReplaceWhatThePeerKnew() throws {
        let nodes = try makeNodes()
        try lab.execute(
            in: "peer",
            ["ip", "neigh", "replace", "10.77.0.1", "lladdr", "02:00:00:00:00:77", "dev", "eth0"]
                + ["nud", "stale"])
        try lab.execute(
            in: "peer",
            ["ip", "-6", "neigh", "replace", "fd77::1", "lladdr", "02:00:00:00:00:77", "dev"]
                + ["eth0", "nud", "stale"])
        let now = SegmentNode.now()
        for node in nodes {
            node.responder.announce(nowNanoseconds: now)
            let frames = node.responder.tick(nowNanoseconds: now) { node.owned.contains($0) }
            for frame in frames { node.sender.send(frame: frame) }
            node.sender.flush()
        }
        let isKnown = try work(nodes) {
            let known = try lab.execute(in: "peer", ["ip", "neigh", "show"])
            return known.components(separatedBy: "03:12:34:56:78:9a").count == 3
        }
        #expect(isKnown)
        #expect(nodes.allSatisfy { $0.conflicts.isEmpty }, "nodes know each other's words")
    }

    @Test func aForeignClaimIsSeenByAll() throws {
        let nodes = try makeNodes()
        // The peer asks with the cluster address as its own: what a kernel does that has it on the
        // device.
        try lab.execute(in: "peer", ["ip", "address", "add", "10.77.0.1/24", "dev", "eth0"])
        _ = try? peer(nodes, ["ping", "-c", "1", "-W", "1", "-I", "10.77.0.1", "10.77.0.200"])
        let address = try #require(IPAddress("10.77.0.1"))
        #expect(nodes.allSatisfy { $0.conflicts.first?.address == address })
    }

    // MARK: Packets

    /// Sends ESP over IP and in UDP, and IKE, of random SPIs, while the nodes work; each ends with
    /// its number.
    private func sendAll(
        _ count: Int, to nodes: [SegmentNode], _ random: inout SeededGenerator
    ) throws -> [Int: Int] {
        var expected: [Int: Int] = [:]
        let sockets = try lab.inside("peer") {
            try ["10.77.0.9", "fd77::9"].compactMap { IPAddress($0) }.map { address in
                (
                    esp: try ESPSocket(address),
                    ike: try DatagramSocket(address, port: 500, hasMarker: false),
                    udp: try DatagramSocket(address, port: 4500, hasMarker: true)
                )
            }
        }
        for number in 0..<count {
            let spi = UInt32(truncatingIfNeeded: random.next()) | 0x100
            let cookie = random.next() | 1
            let isV6 = random.next() & 1 == 1
            let (socket, to) = (sockets[isV6 ? 1 : 0], front.addresses[isV6 ? 1 : 0])
            let tail = bigEndian(UInt32(number))
            let esp = bigEndian(spi) + bigEndian(UInt32(number + 1)) + random.bytes(24) + tail
            let identifier: DistributionIdentifier
            switch random.next() % 3 {
            case 0:
                identifier = distribution.identifier(of: SPI(spi))
                let header = OuterPackets.header(
                    from: socket.esp.address, to: to, protocol: 50, payload: esp)
                (header + esp).withUnsafeBytes { _ = socket.esp.send($0, to: to) }
            case 1:
                identifier = distribution.identifier(of: SPI(spi))
                socket.udp.send(esp, to: to, 4500)
            default:
                identifier = distribution.identifier(ofInitiatorCookie: cookie)
                socket.ike.send(ikeMessage(initiator: cookie, body: tail), to: to, 500)
            }
            expected[number] = Int(identifier.value) % 3
            // Never more on the way than the kernel holds between two devices (1000).
            if number % 250 == 249 {
                _ = work(nodes) { nodes.reduce(0) { $0 + $1.packets.count } > number }
            }
        }
        return expected
    }

    @Test func everyPacketComesToItsOwnerAlone() throws {
        var random = SeededGenerator()
        let nodes = try makeNodes()
        // The first packets ask for the address.
        _ = try peer(nodes, ["ping", "-c", "1", "10.77.0.1"])
        _ = try peer(nodes, ["ping", "-c", "1", "fd77::1"])
        for node in nodes { node.packets = [] }
        let count = 3000
        let expected = try sendAll(count, to: nodes, &random)
        _ = work(nodes) { nodes.reduce(0) { $0 + $1.packets.count } >= count }
        // What comes too much must have time to come.
        _ = try peer(nodes, ["ping", "-c", "2", "-i", "0.2", "10.77.0.1"])
        var owners = [Int](repeating: 0, count: count)
        for (index, node) in nodes.enumerated() {
            for packet in node.packets {
                let number = Int(number(packet.suffix(4)) as UInt32)
                owners[number] += 1
                #expect(expected[number] == index)
            }
            #expect(node.capture.statistics.dropped == 0)
        }
        #expect(owners.allSatisfy { $0 == 1 })
        #expect(nodes.allSatisfy { $0.packets.count > count / 4 })
    }

    // The peer's kernel cuts, and one node captures all fragments. It puts them together, and gives
    // the packet to another one, which captures what is relayed; both put together what Linux does.
    @Test func fragmentsComeTogetherAndAreRelayed() throws {
        var random = SeededGenerator()
        let nodes = try makeNodes()
        var holders = Set<Int>()
        for (target, text) in zip(front.addresses, ["10.77.0.9", "fd77::9"]) {
            _ = try peer(nodes, ["ping", "-c", "1", "\(target)"])
            let own = try #require(IPAddress(text))
            let socket = try lab.inside("peer") {
                try DatagramSocket(own, port: 4500, hasMarker: true)
            }
            let kernels = try SegmentLab.nodeNames.map { name in
                try lab.inside(name) { try DatagramSocket(target, port: 4500, hasMarker: true) }
            }
            for _ in 0..<20 {
                let datagram = random.bytes(4000)
                for node in nodes { node.packets = [] }
                socket.send(datagram, to: target, 4500)
                #expect(work(nodes) { nodes.contains { $0.packets.count == 3 } })
                #expect(nodes.filter { !$0.packets.isEmpty }.count == 1)
                let holder = try #require(nodes.firstIndex { !$0.packets.isEmpty })
                holders.insert(holder)
                let whole = try #require(assembled(nodes[holder].packets))
                #expect(Array(whole.suffix(datagram.count)) == datagram)
                let next = (holder + 1) % 3
                try relay(whole, nodes[holder], to: nodes[next].capture.device.address)
                #expect(work(nodes) { nodes[next].packets.count == 3 })
                #expect(assembled(nodes[next].packets) == whole)
                for (index, kernel) in kernels.enumerated() {
                    for _ in 0..<(index == next ? 2 : 1) {
                        #expect(read(kernel) == datagram)
                    }
                    #expect(read(kernel) == nil)
                }
            }
        }
        #expect(holders.count == 3, "the work is shared")
    }

    private func read(_ socket: DatagramSocket) -> [UInt8]? {
        var room = [UInt8](repeating: 0, count: 65_536)
        let length = recv(socket.descriptor.number, &room, room.count, 0)
        return length < 0 ? nil : Array(room[..<length])
    }

    private func assembled(_ fragments: [[UInt8]]) -> [UInt8]? {
        var assembly = PacketAssembly()
        for fragment in fragments {
            let result = fragment.withUnsafeBytes { assembly.take($0, nowNanoseconds: 0) }
            if case .whole(let octets) = result { return octets }
        }
        return nil
    }

    private func relay(_ whole: [UInt8], _ node: SegmentNode, to owner: MACAddress) throws {
        let fragments = whole.withUnsafeBytes {
            PacketSplitter.fragments(
                of: $0, linkBytes: node.sender.device.mtu, identification: 0x0102_0304)
        }
        for fragment in try #require(fragments) {
            fragment.withUnsafeBytes { node.sender.send($0, to: owner) }
        }
        node.sender.flush()
    }

    // MARK: Datagram sockets

    // Rows of datagrams of many SPIs: the kernel gives each row to the owner of its first datagram.
    @Test(arguments: [0, 1])
    func rowsAreTakenApartAndRelayed(family: Int) throws {
        var random = SeededGenerator()
        let nodes = try makeNodes()
        let target = front.addresses[family]
        _ = try peer(nodes, ["ping", "-c", "1", "\(target)"])
        let own = try #require(IPAddress(family == 0 ? "10.77.0.9" : "fd77::9"))
        let sender = try lab.inside("peer") {
            try DatagramSocket(own, port: 4500, hasMarker: true)
        }
        let filter = OwnerFilter(distribution: distribution, front: front)
        let sockets = try zip(nodes, SegmentLab.nodeNames).map { node, name in
            let socket = try lab.inside(name) {
                try DatagramSocket(target, port: 4500, hasMarker: true)
            }
            try socket.attach(
                filter.program(owned: node.owned, view: .datagrams(hasMarker: true)))
            return socket
        }
        let (rows, inRow, bytes) = (40, 12, 100)
        var datagrams: [[UInt8]] = []
        let batch = DatagramBatch()
        for _ in 0..<rows {
            let row = (0..<inRow).map { _ in
                let number = datagrams.count
                let spi = UInt32(truncatingIfNeeded: random.next()) | 0x100
                let filling = [UInt8](repeating: 0, count: bytes - 8)
                datagrams.append(bigEndian(spi) + filling + bigEndian(UInt32(number)))
                return datagrams[number]
            }
            try send(row, from: sender, to: target, batch)
        }
        var counts = [Int](repeating: 0, count: datagrams.count)
        var relayed = 0
        // One for each node: a batch keeps to one room.
        let arrivals = nodes.map { _ in DatagramBatch() }
        let isAll = work(nodes) {
            for index in nodes.indices {
                relayed += take(nodes, sockets, index, arrivals[index], &counts)
            }
            return counts.allSatisfy { $0 > 0 }
        }
        // A row that one node's kernel joined another's may have cut: then one comes twice.
        let twice = counts.count { $0 > 1 }
        print("\(datagrams.count) datagrams in rows, \(relayed) relayed, \(twice) came twice")
        #expect(isAll && relayed > 0)
    }

    /// Sends one row in one call.
    private func send(
        _ row: [[UInt8]], from socket: DatagramSocket, to target: IPAddress, _ batch: DatagramBatch
    ) throws {
        let octets = row.flatMap { $0 }
        try octets.withUnsafeBytes { bytes in
            batch.pieces[0] = iovec(
                iov_base: UnsafeMutableRawPointer(mutating: bytes.baseAddress),
                iov_len: bytes.count)
            batch.fill(
                0, pieces: 0, count: 1, to: SocketAddress(target, 4500), trafficClass: 0,
                segmentBytes: 0)
            let size = Int32(row[0].count)
            try socket.descriptor.number.set(SOL_UDP, UDP_SEGMENT, size)
            let sent = sendmsg(socket.descriptor.number, &batch.headers[0].msg_hdr, 0)
            #expect(sent == octets.count)
        }
    }

    /// Reads a node's socket: counts what is its own, relays the rest; how many it relayed.
    private func take(
        _ nodes: [SegmentNode], _ sockets: [DatagramSocket], _ index: Int, _ batch: DatagramBatch,
        _ counts: inout [Int]
    ) -> Int {
        let (socket, room) = (sockets[index], nodes[index].room)
        var relayed = 0
        for slot in 0..<batch.receive(socket.descriptor, room) {
            let row = UnsafeRawBufferPointer(
                start: room.address(slot), count: batch.length(slot))
            guard let (source, port) = batch.source(slot) else { continue }
            let bytes = batch.segmentBytes(slot)
            for place in stride(from: 0, to: row.count, by: bytes) {
                let one = UnsafeRawBufferPointer(
                    rebasing: row[place..<min(place + bytes, row.count)])
                guard
                    case .owner(let identifier) = distribution.share(
                        ofPayload: one, hasMarker: true)
                else { continue }
                let owner = Int(identifier.value) % 3
                if owner == index {
                    let value: UInt32 = number(one.suffix(4))
                    counts[Int(value)] += 1
                    continue
                }
                let path = DatagramPath(
                    source: source, sourcePort: port, destination: socket.address,
                    destinationPort: 4500, trafficClass: batch.trafficClass(slot))
                let isSent = nodes[index].sender.relay(
                    one, path: path, to: nodes[owner].capture.device.address)
                #expect(isSent)
                relayed += 1
            }
        }
        nodes[index].sender.flush()
        return relayed
    }

    // What would fool us: rows that the kernel takes and then drops, or cuts otherwise. Hence the
    // receiver is a plain UDP socket, which hears datagrams one by one.
    @Test(arguments: [0, 1])
    func rowsArriveAsTheDatagramsThatTheyWere(family: Int) throws {
        let nodes = try makeNodes()
        let address = try #require(IPAddress(family == 0 ? "10.77.0.9" : "fd77::9"))
        let (socket, other) = try lab.inside("peer") {
            (
                try DatagramSocket(address, port: 4500, hasMarker: true),
                try DatagramSocket(address, port: 4501, hasMarker: true)
            )
        }
        _ = socket.descriptor.number.trySet(SOL_UDP, UDP_GRO, 0)
        _ = other.descriptor.number.trySet(SOL_UDP, UDP_GRO, 0)
        // The neighbor is known, a stream that others interrupt, and one that is cut short.
        let lengths = [8] + [Int](repeating: 1200, count: 40) + [700, 1200, 1200, 1400, 1400]
        var expected: [[UInt8]] = []
        for (number, length) in lengths.enumerated() {
            let payload = (0..<length).map { UInt8(truncatingIfNeeded: $0 * 7 + number) }
            let port: UInt16 = number % 10 == 9 ? 4501 : 4500
            if port == 4500 { expected.append(payload) }
            let body = udpDatagram(from: 4500, to: port, payload)
            var packet =
                OuterPackets.header(
                    from: front.addresses[family], to: address, protocol: 17, payload: body)
                + body
            let start = packet.count - body.count
            let addresses = family == 0 ? packet[12..<20] : packet[8..<40]
            let pseudo = addresses + [0, 17] + bigEndian(UInt16(body.count))
            let sum = naiveChecksum(Array(pseudo) + body)
            packet.replaceSubrange(start + 6..<start + 8, with: bigEndian(sum))
            packet.withUnsafeBytes {
                nodes[0].sender.send($0, nowNanoseconds: SegmentNode.now())
            }
            if number == 0 { _ = work(nodes) { nodes[0].sender.counters.sent > 1 } }
        }
        var received: [[UInt8]] = []
        let isAll = work(nodes) {
            while let datagram = read(socket) { received.append(datagram) }
            return received.count >= expected.count
        }
        #expect(isAll && received == expected)
        #expect(nodes[0].sender.counters.congested == 0)
    }

    @Test func nodesFindTheirNeighbors() throws {
        let nodes = try makeNodes()
        for (own, family) in [("10.77.0.9", 0), ("fd77::9", 1)] {
            let address = try #require(IPAddress(own))
            let socket = try lab.inside("peer") {
                try DatagramSocket(address, port: 4500, hasMarker: true)
            }
            for number in 0..<5 {
                let body = udpDatagram(from: 4500, to: 4500, [7, 7, 7, UInt8(number)])
                var packet =
                    OuterPackets.header(
                        from: front.addresses[family], to: address, protocol: 17, payload: body)
                    + body
                if family == 1 {
                    let sum = naiveUDPChecksum(ipv6: packet, at: 40)
                    packet.replaceSubrange(46..<48, with: bigEndian(sum))
                }
                packet.withUnsafeBytes {
                    nodes[0].sender.send($0, nowNanoseconds: SegmentNode.now())
                }
            }
            var room = [UInt8](repeating: 0, count: 100)
            var received: [UInt8] = []
            let isReceived = work(nodes) {
                while recv(socket.descriptor.number, &room, 100, 0) == 4 {
                    received.append(room[3])
                }
                return received.count == 5
            }
            #expect(isReceived && received == [0, 1, 2, 3, 4])
        }
        #expect(nodes[0].sender.counters.unreachable == 0)
        // Nobody has this one: what waits for it is given up.
        let body = udpDatagram(from: 4500, to: 4500, [1])
        let nobody = try #require(IPAddress("10.77.0.250"))
        let packet =
            OuterPackets.header(
                from: front.addresses[0], to: nobody, protocol: 17, payload: body) + body
        var now = SegmentNode.now()
        packet.withUnsafeBytes { nodes[0].sender.send($0, nowNanoseconds: now) }
        for _ in 0..<3 {
            now += 1_000_000_000
            nodes[0].sender.tick(nowNanoseconds: now)
        }
        #expect(nodes[0].sender.counters.unreachable == 1)
    }
}

/// Headers of packets to the cluster.
enum OuterPackets {
    static func header(
        from source: IPAddress, to destination: IPAddress, protocol kind: UInt8,
        payload: [UInt8]
    ) -> [UInt8] {
        if source.family == .v4 {
            var packet = IPv4Packet(payload: payload)
            packet.source = UInt32(truncatingIfNeeded: source.low)
            packet.destination = UInt32(truncatingIfNeeded: destination.low)
            packet.transport = kind
            return Array(packet.bytes.prefix(20))
        }
        var packet = IPv6Packet(payload: payload)
        packet.source = (source.high, source.low)
        packet.destination = (destination.high, destination.low)
        packet.transport = kind
        return Array(packet.bytes.prefix(40))
    }
}
