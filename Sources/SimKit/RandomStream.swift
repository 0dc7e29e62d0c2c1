// Randomness of a simulation: everything that is drawn follows from one seed, on every machine.
// Integers only, as floating point may round differently elsewhere.

/// xoshiro256** (Blackman, Vigna 2018), seeded by SplitMix64.
///
/// A stream that is forked off depends on the seed and the label alone, not on what was drawn
/// before: a part of the simulation that draws more does not change what other parts draw.
public struct SimulationRandom: RandomNumberGenerator, Hashable, Sendable {
    private let seed: UInt64
    private var s0: UInt64
    private var s1: UInt64
    private var s2: UInt64
    private var s3: UInt64

    /// The stream of a seed; any number will do.
    public init(seed: UInt64) {
        self.seed = seed
        var state = seed
        s0 = Self.splitMix(&state)
        s1 = Self.splitMix(&state)
        s2 = Self.splitMix(&state)
        s3 = Self.splitMix(&state)
    }

    /// A given state, for known answers.
    init(state: (UInt64, UInt64, UInt64, UInt64)) {
        seed = 0
        (s0, s1, s2, s3) = state
    }

    /// SplitMix64 (Steele, Lea, Flood 2014).
    static func splitMix(_ state: inout UInt64) -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var mixed = state
        mixed = (mixed ^ mixed >> 30) &* 0xBF58_476D_1CE4_E5B9
        mixed = (mixed ^ mixed >> 27) &* 0x94D0_49BB_1331_11EB
        return mixed ^ mixed >> 31
    }

    /// 64 random bits.
    public mutating func next() -> UInt64 {
        let product = s1 &* 5
        let result = (product << 7 | product >> 57) &* 9
        let shifted = s1 << 17
        s2 ^= s0
        s3 ^= s1
        s1 ^= s2
        s0 ^= s3
        s2 ^= shifted
        s3 = s3 << 45 | s3 >> 19
        return result
    }

    /// Evenly from 0 to `bound` - 1 (Lemire 2019). Precondition: `bound` is not 0.
    public mutating func below(_ bound: UInt64) -> UInt64 {
        precondition(bound > 0, "there is no number below 0")
        var product = next().multipliedFullWidth(by: bound)
        if product.low < bound {
            let threshold = (0 &- bound) % bound
            while product.low < threshold { product = next().multipliedFullWidth(by: bound) }
        }
        return product.high
    }

    /// Evenly from `first` to `last`, both included. Precondition: `first` <= `last`.
    public mutating func between(_ first: UInt64, _ last: UInt64) -> UInt64 {
        precondition(first <= last, "the range runs backwards")
        let width = last &- first
        return width == .max ? next() : first &+ below(width + 1)
    }

    /// True in `count` of `total` cases. Precondition: `total` is not 0.
    public mutating func chance(_ count: UInt32, in total: UInt32) -> Bool {
        below(UInt64(total)) < UInt64(count)
    }

    /// An independent stream for one part of the simulation.
    public func fork(_ label: UInt64) -> SimulationRandom {
        var state = seed ^ 0x5349_4D4B_4954_0001
        let base = Self.splitMix(&state)
        // Both steps are bijections: two labels never give the same stream.
        var labelled = base ^ label
        return SimulationRandom(seed: Self.splitMix(&labelled))
    }
}
