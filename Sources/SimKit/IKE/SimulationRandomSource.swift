// Randomness of a simulation where cryptography asks for it.

import Crypto

/// Octets that follow from a seed: for keys that protect nothing but a simulation.
struct SimulationRandomSource: RandomSource {
    private var random: SimulationRandom

    init(_ random: SimulationRandom) { self.random = random }

    mutating func fill(_ bytes: UnsafeMutableRawBufferPointer) {
        var word: UInt64 = 0
        for index in bytes.indices {
            if index % 8 == 0 { word = random.next() }
            bytes[index] = UInt8(truncatingIfNeeded: word >> UInt64(8 * (index % 8)))
        }
    }
}
