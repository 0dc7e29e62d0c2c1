// Anti-replay (RFC 4303 §3.4.3) with extended sequence numbers (Appendix A), over a ring of words
// as in RFC 6479: sliding clears whole words instead of shifting bits.
//
//        highest - bits + 1                    highest
//     ───┼──────────── window ──────────────────┼───────────▶ sequence numbers
//      tooOld        replayed or accept          accept, slides
//
// The ring has at least bits + 64 places, so that a number's word is never also the word of a
// number still inside the window.

/// What the window says of a number, before the ICV is checked.
public enum ReplayVerdict: Equatable, Sendable {
    /// New: go on with the full 64-bit number.
    case accept(UInt64)
    case replayed
    case tooOld
    case sequenceZero
}

/// The arithmetic of a window; the bits live elsewhere, in an association's record or in a
/// `ReplayWindow`.
struct ReplayRing {
    /// Width of the window in numbers; 0: no replay protection.
    let bits: UInt64
    let words: UnsafeMutablePointer<UInt64>
    /// Number of words - 1; the number is a power of two.
    let mask: UInt64
    let usesESN: Bool

    /// Words a ring needs for a window: a power of two, at least `bits` + 64 places.
    static func wordCount(bits: Int) -> Int {
        var words = 2
        while words * 64 < bits + 64 { words *= 2 }
        return words
    }

    /// Infers the high half (RFC 4303 §A2.2) and looks the number up. Changes nothing.
    @inline(__always)
    func check(_ low: UInt32, highest: UInt64) -> ReplayVerdict {
        var full = UInt64(low)
        if bits == 0 { return .accept(full) }
        if usesESN {
            let top = UInt32(truncatingIfNeeded: highest)
            let width = UInt32(truncatingIfNeeded: bits)
            let bottom = top &- width &+ 1
            var high = highest >> 32
            if top >= width - 1 {
                if low < bottom {
                    if high == UInt64(UInt32.max) { return .tooOld }
                    high += 1
                }
            } else if low >= bottom {
                if high == 0 { return .tooOld }
                high -= 1
            }
            full |= high << 32
        }
        if full == 0 { return .sequenceZero }
        if full > highest { return .accept(full) }
        if highest &- full >= bits { return .tooOld }
        let isMarked = words[Int((full >> 6) & mask)] &>> (full & 63) & 1
        return isMarked == 0 ? .accept(full) : .replayed
    }

    /// Marks an authenticated number that `check` accepted, and slides the window up to it.
    @inline(__always)
    func mark(_ full: UInt64, highest: inout UInt64) {
        guard bits != 0 else {
            highest = max(highest, full)
            return
        }
        if full > highest {
            let from = highest >> 6
            let steps = min((full >> 6) &- from, mask &+ 1)
            var step: UInt64 = 1
            while step <= steps {
                words[Int((from &+ step) & mask)] = 0
                step &+= 1
            }
            highest = full
        }
        words[Int((full >> 6) & mask)] |= 1 &<< (full & 63)
    }
}

// A window that changes hands. Every operation only adds to what counts as received.
extension ReplayRing {
    /// Counts all numbers up to `edge` as received.
    func close(upTo edge: UInt64, highest: inout UInt64) {
        guard bits != 0, edge != 0 else {
            highest = max(highest, edge)
            return
        }
        let last = edge >> 6
        if edge > highest {
            // Sliding over whole words clears them, so bits of words beyond the edge do no harm.
            for index in 0...Int(mask) { words[index] = .max }
            words[Int(last & mask)] = Self.bits(upTo: edge)
            highest = edge
            return
        }
        let first = highest >= bits ? (highest &- bits &+ 1) >> 6 : 0
        guard first <= last else { return }
        for word in first..<last { words[Int(word & mask)] = .max }
        words[Int(last & mask)] |= Self.bits(upTo: edge)
    }

    /// Adds what another ring of the same width has marked.
    func merge(
        _ other: UnsafeBufferPointer<UInt64>, highest otherHighest: UInt64,
        into highest: inout UInt64
    ) {
        guard bits != 0, otherHighest != 0 else {
            highest = max(highest, otherHighest)
            return
        }
        // Its edge counts as received, and it slides the window like a packet.
        if otherHighest > highest { mark(otherHighest, highest: &highest) }
        let last = otherHighest >> 6
        // From here to the edge, a word has one meaning in both rings.
        let first = highest >> 6 >= mask ? highest >> 6 &- mask : 0
        guard first <= last else { return }
        for word in first..<last { words[Int(word & mask)] |= other[Int(word & mask)] }
        // What it says of numbers beyond its own edge is left from long ago.
        words[Int(last & mask)] |= other[Int(last & mask)] & Self.bits(upTo: otherHighest)
    }

    /// The bits of a number's word up to its own.
    private static func bits(upTo number: UInt64) -> UInt64 { (2 &<< (number & 63)) &- 1 }
}

/// A replay window that owns its bits: the very arithmetic of the packet path, for known answers.
public struct ReplayWindow: ~Copyable {
    /// The widths an association may ask for, beside 0 for none.
    public static let allowedBits = 32...4096

    /// The highest number accepted so far; 0: none.
    public private(set) var highest: UInt64
    private let ring: ReplayRing

    /// `bits` numbers wide (0: off), as if `highest` and nothing else had been received.
    public init(bits: Int, usesESN: Bool, highest: UInt64 = 0) {
        precondition(bits == 0 || Self.allowedBits.contains(bits))
        let count = ReplayRing.wordCount(bits: bits)
        let words = UnsafeMutablePointer<UInt64>.allocate(capacity: count)
        words.initialize(repeating: 0, count: count)
        ring = ReplayRing(
            bits: UInt64(bits), words: words, mask: UInt64(count - 1), usesESN: usesESN)
        self.highest = highest
        if highest != 0 { words[Int((highest >> 6) & ring.mask)] |= 1 << (highest & 63) }
    }

    deinit { ring.words.deallocate() }

    /// Looks up the number whose low half came in a packet.
    public borrowing func check(_ low: UInt32) -> ReplayVerdict {
        ring.check(low, highest: highest)
    }

    /// Marks an authenticated number that `check` accepted.
    public mutating func mark(_ full: UInt64) { ring.mark(full, highest: &highest) }
}
