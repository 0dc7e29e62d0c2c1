// Packets that wait for the end of a planned move.

import Cluster
import ESP

/// A packet kept as it came.
struct HeldPacket {
    let identifier: DistributionIdentifier
    /// True: from the untrusted side.
    let isOuter: Bool
    let octets: [UInt8]
    /// What `sentDigests` of a handover is compared with; 0 for outer packets.
    let digest: UInt64
}

/// A bounded queue, in order of arrival.
struct HeldPackets {
    static let maximum = 4096
    private(set) var packets: [HeldPacket] = []

    /// False when the queue is full.
    mutating func append(_ packet: HeldPacket) -> Bool {
        guard packets.count < Self.maximum else { return false }
        packets.append(packet)
        return true
    }

    /// Takes the packets of one identifier out.
    mutating func take(_ identifier: DistributionIdentifier) -> [HeldPacket] {
        let taken = packets.filter { $0.identifier == identifier }
        packets.removeAll { $0.identifier == identifier }
        return taken
    }
}

/// Tells packets apart, so that a successor knows which of those it holds were sent already. Not
/// for adversaries: who sends two packets of one digest loses one of his own.
func packetDigest(_ packet: UnsafeRawBufferPointer) -> UInt64 {
    // Multiply and fold, eight octets at a time.
    var state: UInt64 = 0x9E37_79B9_7F4A_7C15 ^ UInt64(packet.count)
    var offset = 0
    while offset < packet.count {
        var word: UInt64 = 0
        let count = min(8, packet.count - offset)
        for index in 0..<count { word |= UInt64(packet[offset + index]) << (8 * UInt64(index)) }
        let product = (state ^ word).multipliedFullWidth(by: 0xD6E8_FEB8_6659_FD93)
        state = product.high ^ product.low ^ word
        offset += 8
    }
    return state
}
