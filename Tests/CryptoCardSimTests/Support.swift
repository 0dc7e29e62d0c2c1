// Packets for a card, and its refusals as values.

import CryptoCardSim
import TestSupport

let innerPacket = IPv4Packet().bytes

/// Outer packets for the inbound association of this SPI, as its peer makes them.
func sealed(_ spi: UInt32, count: Int = 1) throws -> [[UInt8]] {
    let peer = try Station(capacity: 1)
    let handle = try peer.add(parameters(spi))
    return (0..<count).compactMap { _ in peer.seal(innerPacket, handle).bytes }
}

func errorOf(_ body: () throws -> some Any) -> CardError? {
    do {
        _ = try body()
        return nil
    } catch {
        return error as? CardError
    }
}
