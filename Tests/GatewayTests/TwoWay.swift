// Tunnels with both directions, and inner packets for them.

import Cluster
import ESP
import TestSupport
import Testing
import Wire

@testable import Gateway

/// A tunnel of a node, with its peer's ends.
struct TwoWay {
    let spi: SPI
    let inbound: AssociationParameters
    let outbound: AssociationParameters
    private let destination: UInt32
    private let peer: Station
    private let sending: AssociationHandle
    private let receiving: AssociationHandle

    /// The numbers of two tunnels differ. `flow`: with the selectors of the tunnel of that number.
    init(
        _ identifier: UInt16, _ number: UInt32, flow: UInt32? = nil, inUDP: Bool = false
    ) throws {
        spi = try tunnelSPI(identifier, number)
        var inbound = parameters(spi.value, .inbound, .gcm)
        if inUDP { inbound.udp = UDPPorts(source: 4500, destination: 4500) }
        self.inbound = inbound
        destination = 0x0A02_0000 + (flow ?? number)
        let address = IPAddress(v4: destination)
        var outbound = parameters(0x9000_0000 + number, .outbound, .gcm)
        outbound.selectors.destination = [
            try #require(TrafficSelector(first: address, last: address))
        ]
        outbound.udp = inbound.udp
        self.outbound = outbound
        peer = try Station()
        sending = try peer.add(inbound.reversedDirection)
        receiving = try peer.add(outbound.reversedDirection)
    }

    /// The next packet of the peer.
    func packet() throws -> [UInt8] {
        try #require(peer.seal(IPv4Packet().bytes, sending).bytes)
    }

    /// An inner packet that goes to the peer.
    var inner: [UInt8] {
        var packet = IPv4Packet()
        packet.destination = destination
        return packet.bytes
    }

    /// True when the peer takes an outer packet, and finds what was sent in it.
    func accepts(_ outer: [UInt8]) -> Bool { peer.open(outer, receiving).bytes == inner }

    /// Sequence number and generation of a packet sealed with GCM under IPv4.
    static func numbers(_ outer: [UInt8]) -> (sequence: UInt32, generation: UInt16) {
        (number(outer[24..<28]), number(outer[28..<30]))
    }
}

extension Node {
    /// Agrees upon a tunnel; returns why it was refused, if it was.
    func add(_ tunnel: TwoWay, replacing old: SPI? = nil) throws -> String? {
        let already = news.count
        gateway.establish(
            inbound: try association(tunnel.inbound), outbound: try association(tunnel.outbound),
            replacing: old, nowNanoseconds: clock)
        settle()
        for case .refused(tunnel.spi, let reason) in news[already...] { return reason }
        return nil
    }

    /// Another node tells of a tunnel that it agreed upon.
    func learn(_ tunnel: TwoWay) throws {
        learn(try association(tunnel.inbound), outbound: try association(tunnel.outbound))
    }

    /// The owner tells how far it has come, both ways.
    func follow(_ tunnel: TwoWay, sent: UInt64, received: UInt64) {
        gateway.plane.apply(
            TunnelState(
                spi: tunnel.spi, sent: sent, sentPackets: sent, sentBytes: sent * 40,
                received: received, receivedPackets: received, receivedBytes: received * 40))
    }

    /// Sends an inner packet of a tunnel; nil: it was refused, or is another node's.
    func send(_ tunnel: TwoWay) -> [UInt8]? {
        let inner = tunnel.inner
        let room = ESPOverhead.headroom + inner.count + ESPOverhead.tailroom
        let memory = UnsafeMutableRawPointer.allocate(byteCount: room, alignment: 16)
        defer { memory.deallocate() }
        (memory + ESPOverhead.headroom).copyMemory(from: inner, byteCount: inner.count)
        packets.initializeElement(
            at: 0,
            to: PacketDescriptor(
                buffer: memory, capacity: room, offset: ESPOverhead.headroom,
                length: inner.count))
        let used = UnsafeMutableBufferPointer(rebasing: packets[..<1])
        gateway.send(used, verdicts: verdicts, nowNanoseconds: clock, packetTime: 0)
        return verdicts[0] == .delivered ? Array(packets[0].packet) : nil
    }

    /// Both ways of a tunnel work, and what is sent opens at the peer.
    func serves(_ tunnel: TwoWay) throws -> Bool {
        let isIn = receive([try tunnel.packet()]) == [.delivered]
        let isOut = send(tunnel).map(tunnel.accepts) ?? false
        return isIn && isOut
    }

    /// Time passes for the node, though not on the clock.
    func tick() {
        gateway.tick(nowNanoseconds: clock)
        settle()
    }
}
