// A fingerprint of a whole run: two runs of one seed that differ anywhere have different ones.

/// A 64-bit hash of a sequence of words, in their order. Each step is a bijection of the state, and
/// of the word: one changed word alone always shows.
public struct TraceHash: Hashable, Sendable {
    private var state: UInt64 = 0x5350_494E_444C_4501

    /// Of an empty sequence.
    public init() {}

    /// Adds two words.
    public mutating func mix(_ a: UInt64, _ b: UInt64 = 0) {
        step(a)
        step(b)
    }

    /// Adds octets and their number.
    public mutating func mix(_ octets: UnsafeRawBufferPointer) {
        step(UInt64(octets.count))
        var offset = 0
        while offset + 8 <= octets.count {
            // Little-endian whatever the machine, so that fingerprints can be compared.
            step(
                UInt64(littleEndian: octets.loadUnaligned(fromByteOffset: offset, as: UInt64.self)))
            offset += 8
        }
        var tail: UInt64 = 0
        for octet in octets[offset...] { tail = tail << 8 | UInt64(octet) }
        step(tail)
    }

    /// The fingerprint so far.
    public var value: UInt64 {
        var mixed = state
        mixed = (mixed ^ mixed >> 33) &* 0xC2B2_AE3D_27D4_EB4F
        mixed = (mixed ^ mixed >> 29) &* 0x1656_67B1_9E37_79F9
        return mixed ^ mixed >> 32
    }

    /// The round of xxHash64 (Collet).
    @inline(__always)
    private mutating func step(_ word: UInt64) {
        var lane = word &* 0xC2B2_AE3D_27D4_EB4F
        lane = (lane << 31 | lane >> 33) &* 0x9E37_79B1_85EB_CA87
        state ^= lane
        state = (state << 27 | state >> 37) &* 0x9E37_79B1_85EB_CA87 &+ 0x85EB_CA77_C2B2_AE63
    }
}
