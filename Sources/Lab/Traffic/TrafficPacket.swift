// The packets that go through the tunnels: numbered, and with the time at which they left.
//
//     0        4        8        12       16                24        100
//     +--------+--------+--------+--------+-----------------+---------+
//     | "SpLb" | tunnel | number | way    | nanoseconds     | zeros   |
//     +--------+--------+--------+--------+-----------------+---------+
//
// All numbers big-endian; the time is the kernel's monotonic clock, which all namespaces share.

/// Which way a packet goes.
public enum TrafficWay: UInt32, Codable, CaseIterable, Sendable {
    /// From the peer's side to the protected network.
    case up = 0
    /// From the protected network to the peer's side.
    case down = 1
}

/// One packet's contents.
struct TrafficPacket: Hashable, Sendable {
    /// Octets of each packet's UDP payload.
    static let octets = 100
    private static let mark: UInt32 = 0x5370_4C62

    var tunnel: UInt32
    var number: UInt32
    var way: TrafficWay
    /// When it left, in nanoseconds.
    var sent: UInt64

    /// Writes it to `room`, which has ``octets``.
    func write(to room: UnsafeMutableRawBufferPointer) {
        precondition(room.count == Self.octets)
        room.initializeMemory(as: UInt8.self, repeating: 0)
        room.storeBytes(of: Self.mark.bigEndian, toByteOffset: 0, as: UInt32.self)
        room.storeBytes(of: tunnel.bigEndian, toByteOffset: 4, as: UInt32.self)
        room.storeBytes(of: number.bigEndian, toByteOffset: 8, as: UInt32.self)
        room.storeBytes(of: way.rawValue.bigEndian, toByteOffset: 12, as: UInt32.self)
        room.storeBytes(of: sent.bigEndian, toByteOffset: 16, as: UInt64.self)
    }

    init(tunnel: UInt32, number: UInt32, way: TrafficWay, sent: UInt64) {
        (self.tunnel, self.number, self.way, self.sent) = (tunnel, number, way, sent)
    }

    /// Reads what came; nil: it is none of ours, or was changed on its way.
    init?(_ octets: UnsafeRawBufferPointer) {
        func word(_ offset: Int) -> UInt32 {
            UInt32(bigEndian: octets.loadUnaligned(fromByteOffset: offset, as: UInt32.self))
        }
        guard octets.count == Self.octets, word(0) == Self.mark,
            let way = TrafficWay(rawValue: word(12)), octets[24...].allSatisfy({ $0 == 0 })
        else { return nil }
        self.init(
            tunnel: word(4), number: word(8), way: way,
            sent: UInt64(bigEndian: octets.loadUnaligned(fromByteOffset: 16, as: UInt64.self)))
    }
}
