// Packets to a cluster of every kind that its filters tell apart, with whose they are, said from
// the numbers that went into them.

package import Cluster
package import Wire

/// A packet, and the share that it must have.
package struct SharedPacket {
    package let name: String
    package let octets: [UInt8]
    package let share: PacketShare
}

/// Makes packets to one of the addresses of a front.
package struct SegmentPackets {
    private let distribution: Distribution
    private let front: ClusterFront
    package private(set) var random: SeededGenerator

    package init(distribution: Distribution, front: ClusterFront, random: SeededGenerator) {
        self.distribution = distribution
        self.front = front
        self.random = random
    }

    private mutating func word() -> UInt32 { UInt32(truncatingIfNeeded: random.next()) }

    /// True for what comes by sockets, where the front says so.
    private func isLeftOut(_ kind: UInt8) -> Bool { !front.capturesDatagrams && kind == 17 }

    /// What is for one owner, in UDP or not: protocol, payload, share.
    private mutating func transport() -> (String, UInt8, [UInt8], PacketShare) {
        let (name, kind, payload, share) = anyTransport()
        return (name, kind, payload, isLeftOut(kind) ? .nobody : share)
    }

    private mutating func anyTransport() -> (String, UInt8, [UInt8], PacketShare) {
        let spi = word() | 1
        let ofSPI = PacketShare.owner(distribution.identifier(of: SPI(spi)))
        let cookie = random.next() | 1
        let ofCookie = PacketShare.owner(distribution.identifier(ofInitiatorCookie: cookie))
        let esp = bigEndian(spi) + bigEndian(word()) + random.bytes(Int(random.next() % 64))
        let port = UInt16(truncatingIfNeeded: random.next())
        let message = ikeMessage(initiator: cookie, body: random.bytes(12))
        switch random.next() % 7 {
        case 0: return ("ESP", 50, esp, ofSPI)
        case 1: return ("ESP in UDP", 17, udpDatagram(from: port, to: 4500, esp), ofSPI)
        case 2: return ("IKE", 17, udpDatagram(from: port, to: 500, message), ofCookie)
        case 3:
            let marked = [0, 0, 0, 0] + message
            return ("IKE on 4500", 17, udpDatagram(from: port, to: 4500, marked), ofCookie)
        case 4:
            // As Ethernet pads it.
            let padded = udpDatagram(from: port, to: 4500, [0xFF]) + Array(repeating: 0, count: 17)
            var datagram = padded
            datagram.replaceSubrange(4..<6, with: bigEndian(UInt16(9)))
            return ("keepalive", 17, datagram, .nobody)
        case 5:
            let other = port == 500 || port == 4500 ? 53 : port
            return ("UDP", 17, udpDatagram(from: 4500, to: other, esp), .nobody)
        default: return ("TCP", 6, random.bytes(20), .nobody)
        }
    }

    private mutating func packetV4(to destination: IPAddress) -> SharedPacket {
        let (name, kind, payload, share) = transport()
        var packet = IPv4Packet(payload: payload)
        packet.source = word()
        packet.destination = UInt32(truncatingIfNeeded: destination.low)
        packet.transport = kind
        packet.identification = UInt16(truncatingIfNeeded: random.next())
        packet.options = Array(repeating: 1, count: 4 * Int(random.next() % 11))
        let source = IPAddress(v4: packet.source)
        switch random.next() % 5 {
        case 0:
            // Fragments: the first, later ones, the last.
            packet.fragment = [0x2000, 0x2001, 0x1FFF, 0x0007][Int(random.next() % 4)]
            if isLeftOut(kind) {
                return SharedPacket(name: "left out", octets: packet.bytes, share: .nobody)
            }
            let identifier = distribution.identifier(
                ofFragmentFrom: source, identification: UInt32(packet.identification))
            return SharedPacket(
                name: "fragment", octets: packet.bytes, share: .owner(identifier))
        case 1:
            packet.transport = 1
            let type = [8, 3, 11, 12, 0, 5, 13][Int(random.next() % 7)] as UInt8
            packet.payload = [type, 0, 0, 0] + random.bytes(32)
            let ofSource = PacketShare.owner(distribution.identifier(ofSource: source))
            let share: PacketShare =
                type == 8 ? ofSource : [3, 11, 12].contains(type) ? .everyone : .nobody
            return SharedPacket(name: "ICMP \(type)", octets: packet.bytes, share: share)
        default:
            // Don't fragment says nothing of fragments.
            packet.fragment = random.next() & 1 == 0 ? 0x4000 : 0
            return SharedPacket(name: name, octets: packet.bytes, share: share)
        }
    }

    private mutating func packetV6(to destination: IPAddress) -> SharedPacket {
        let (name, kind, payload, share) = transport()
        var packet = IPv6Packet(payload: payload)
        packet.source = (random.next(), random.next())
        packet.destination = (destination.high, destination.low)
        packet.transport = kind
        let count = Int(random.next() % 5)
        packet.extensions = (0..<count).map { _ in
            let number = [0, 43, 60][Int(random.next() % 3)] as UInt8
            return IPv6Packet.Extension(number, bytes: 8 * (1 + Int(random.next() % 4)))
        }
        let source = IPAddress(high: packet.source.0, low: packet.source.1)
        switch random.next() % 5 {
        case 0 where count < 4:
            packet.extensions.append(
                .init(fragmentOffset: UInt16(random.next() % 3), more: true))
            if isLeftOut(kind) {
                return SharedPacket(name: "left out", octets: packet.bytes, share: .nobody)
            }
            let identifier = distribution.identifier(ofFragmentFrom: source, identification: 9)
            return SharedPacket(
                name: "fragment", octets: packet.bytes, share: .owner(identifier))
        case 1:
            packet.transport = 58
            let type = [128, 1, 2, 3, 4, 129, 133, 135, 136][Int(random.next() % 9)] as UInt8
            packet.payload = [type, 0, 0, 0] + random.bytes(32)
            let share: PacketShare =
                switch type {
                case 128: .owner(distribution.identifier(ofSource: source))
                case 1...4: .everyone
                case 135, 136: count == 0 ? .everyone : .nobody
                default: .nobody
                }
            return SharedPacket(
                name: "ICMPv6 \(type)", octets: packet.bytes, share: count > 3 ? .nobody : share)
        default:
            return SharedPacket(
                name: "\(name) behind \(count) extensions", octets: packet.bytes,
                share: count > 3 ? .nobody : share)
        }
    }

    /// One for the cluster, or, sometimes, for another address.
    package mutating func next() -> SharedPacket {
        let address = front.addresses[Int(random.next() % UInt64(front.addresses.count))]
        guard random.next() % 16 == 0 else {
            return address.family == .v4 ? packetV4(to: address) : packetV6(to: address)
        }
        let other =
            address.family == .v4
            ? IPAddress(v4: UInt32(truncatingIfNeeded: address.low) ^ 1 << (word() % 32))
            : IPAddress(high: address.high ^ 1 << UInt64(word() % 64), low: address.low)
        guard !front.addresses.contains(other) else { return next() }
        let packet = other.family == .v4 ? packetV4(to: other) : packetV6(to: other)
        // Neighbors are told and asked at other addresses, too.
        let isDiscovery = packet.name.hasSuffix(" 135") || packet.name.hasSuffix(" 136")
        return SharedPacket(
            name: "\(packet.name) to another", octets: packet.octets,
            share: isDiscovery ? packet.share : .nobody)
    }

    /// An Ethernet frame with the packet in it.
    package static func frame(_ packet: [UInt8], to destination: MACAddress) -> [UInt8] {
        let type: UInt16 = (packet.first ?? 0) >> 4 == 6 ? 0x86DD : 0x0800
        return Array(bigEndian(destination.value)[2...]) + [2, 0, 0, 0, 0, 0x99] + bigEndian(type)
            + packet
    }
}

/// The front of the tests: two addresses of each family.
package let segmentFront = ClusterFront(
    addresses: ["10.77.0.1", "192.0.2.200", "fd77::1", "2001:db8::ffff:1"].compactMap {
        IPAddress($0)
    })

/// The same, where UDP comes by sockets.
package let socketFront = ClusterFront(
    addresses: segmentFront.addresses, capturesDatagrams: false)

/// A set of identifiers: everything, nothing, one, runs, or scattered.
package func randomSet(
    _ count: Int, _ random: inout SeededGenerator
) -> [DistributionIdentifier] {
    let all = (0..<count).map { DistributionIdentifier(UInt16($0)) }
    switch random.next() % 6 {
    case 0: return all
    case 1: return []
    case 2: return [all[Int(random.next() % UInt64(count))]]
    case 3:
        let first = Int(random.next() % UInt64(count))
        return Array(all[first...])
    case 4:
        var owns = false
        return all.filter { _ in
            if random.next() % 16 == 0 { owns.toggle() }
            return owns
        }
    default: return all.filter { _ in random.next() & 1 == 0 }
    }
}

extension PacketShare {
    /// True when a node with these identifiers gets it.
    package func isFor(_ owned: [DistributionIdentifier]) -> Bool {
        switch self {
        case .owner(let identifier): owned.contains(identifier)
        case .everyone: true
        case .nobody: false
        }
    }
}
