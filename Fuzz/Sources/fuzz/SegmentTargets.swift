// Bytes from a shared segment: fragments, questions and claims, errors that quote packets.

import Cluster
import Wire

/// Hands pieces of the input to `body`, each in memory that ends where it does: reading past it is
/// found by the sanitizer. Two octets of length stand before each piece.
private func forEachPiece(
    _ bytes: UnsafeRawBufferPointer, _ body: (UnsafeRawBufferPointer) -> Void
) {
    var place = 0
    while place + 2 <= bytes.count {
        let length = min(Int(bytes[place]) << 8 | Int(bytes[place + 1]), bytes.count - place - 2)
        let copy = UnsafeMutableRawBufferPointer.allocate(byteCount: length, alignment: 1)
        defer { copy.deallocate() }
        copy.copyMemory(
            from: UnsafeRawBufferPointer(rebasing: bytes[(place + 2)..<(place + 2 + length)]))
        body(UnsafeRawBufferPointer(copy))
        place += 2 + length
    }
}

func fragments(_ bytes: UnsafeRawBufferPointer) {
    var limits = PacketAssembly.Limits()
    limits.packets = 4
    limits.packetsOfSource = 3
    limits.octets = 100_000
    var assembly = PacketAssembly(limits: limits)
    var now: UInt64 = 0
    forEachPiece(bytes) { piece in
        now += 1_000_000_000
        if case .whole(let packet) = assembly.take(piece, nowNanoseconds: now) {
            packet.withUnsafeBytes { whole in
                guard let base = whole.baseAddress else { return }
                // What came as a packet's fragments is a packet.
                let parsed = try? IPPacket(at: base, count: whole.count)
                precondition(parsed == nil || parsed?.totalLength == whole.count)
                for linkBytes in [68, 576, 1280] {
                    let cut = PacketSplitter.fragments(
                        of: whole, linkBytes: linkBytes, identification: 1)
                    precondition(
                        cut?.allSatisfy { $0.count <= max(linkBytes, 0) } ?? true)
                }
            }
        }
        precondition(assembly.count <= 4 && assembly.octets <= 100_000 + 65_600)
        precondition(assembly.octets >= 0)
    }
    assembly.expire(nowNanoseconds: .max)
    precondition(assembly.count == 0 && assembly.octets == 0)
}

func icmpError(_ bytes: UnsafeRawBufferPointer) {
    forEachPiece(bytes) { piece in
        if let error = ICMPError(packet: piece), case .tooBig(let mtu) = error.reason {
            precondition(mtu >= 0)
        }
    }
}

/// A node that hears frames: what it answers must be frames that it can read itself.
final class SegmentTarget {
    private let distribution: Distribution
    private let front: ClusterFront
    private let shared = MACAddress(0x0300_0000_0001)
    private let own = MACAddress(0x0200_0000_0001)

    init() {
        guard let key = try? CookieKey(bytes: 1...20),
            let distribution = try? Distribution(cookieKey: key),
            let v4 = IPAddress("10.77.0.1"), let v6 = IPAddress("fd77::1")
        else { preconditionFailure("a cluster is needed") }
        self.distribution = distribution
        front = ClusterFront(addresses: [v4, v6])
    }

    func frame(_ bytes: UnsafeRawBufferPointer) {
        var responder = ClusterAddressResponder(
            distribution: distribution, front: front, shared: shared, own: own)
        var neighbors = NeighborTable(capacity: 4)
        var dispatcher = Dispatcher(distribution: distribution, front: front, own: own)
        if let allocation = try? Allocation(nodes: [NodeID(1)], identifierCount: 256) {
            dispatcher.follow(allocation, addresses: [NodeID(1): MACAddress(2)])
        }
        var now: UInt64 = 0
        forEachPiece(bytes) { frame in
            now += 100_000_000
            let action = responder.receive(frame, nowNanoseconds: now) { _ in true }
            if case .reply(let reply) = action {
                reply.withUnsafeBytes { octets in
                    guard let base = octets.baseAddress else { return }
                    precondition(MACAddress(at: base, 6) == own)
                    precondition(MACAddress(at: base, 0) != shared)
                    let again = responder.receive(octets, nowNanoseconds: now) { _ in true }
                    precondition(again == .none, "an answer is no question")
                }
            }
            if let message = ARPMessage(frame: frame) {
                _ = neighbors.resolve(message.target, nowNanoseconds: now)
                _ = neighbors.learn(
                    message.sender, at: message.senderMAC, isAnswer: !message.isRequest,
                    nowNanoseconds: now)
            }
            if let message = NeighborMessage(frame: frame), let address = message.linkAddress {
                _ = neighbors.resolve(message.target, nowNanoseconds: now)
                _ = neighbors.learn(
                    message.target, at: address, isAnswer: message.isSolicited,
                    nowNanoseconds: now)
            }
            neighbors.tick(nowNanoseconds: now)
            _ = neighbors.takeQuestions()
            precondition(neighbors.count <= 4)
            for frame in responder.tick(nowNanoseconds: now, isOwner: { _ in true }) {
                precondition(frame.count >= EthernetHeader.byteCount)
            }
            let copy = UnsafeMutableRawBufferPointer.allocate(byteCount: frame.count, alignment: 1)
            defer { copy.deallocate() }
            copy.copyMemory(from: frame)
            _ = dispatcher.dispatch(copy)
        }
    }
}
