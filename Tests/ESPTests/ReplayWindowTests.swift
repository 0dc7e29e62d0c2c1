import TestSupport
import Testing

@testable import ESP

/// The same promises with a set of all numbers ever accepted: RFC 4303 §3.4.3 and Appendix A read
/// literally, without bits and words.
private struct Model {
    let bits: UInt64
    let usesESN: Bool
    var highest: UInt64 = 0
    var accepted: Set<UInt64> = []

    func check(_ low: UInt32) -> ReplayVerdict {
        if bits == 0 { return .accept(UInt64(low)) }
        var full = UInt64(low)
        if usesESN {
            // §A2.1: the number with this low half that lies in the window, or else the first to
            // the right of it. The window may reach below zero, where nothing was ever sent.
            let bottom = Int128(highest) - Int128(bits) + 1
            var candidate = Int128(low) + ((bottom >> 32) << 32)
            if candidate < bottom { candidate += 1 << 32 }
            if candidate < 0 || candidate > Int128(UInt64.max) { return .tooOld }
            full = UInt64(candidate)
        }
        if full == 0 { return .sequenceZero }
        if full > highest { return .accept(full) }
        if highest - full >= bits { return .tooOld }
        return accepted.contains(full) ? .replayed : .accept(full)
    }

    mutating func mark(_ full: UInt64) {
        accepted.insert(full)
        highest = max(highest, full)
    }
}

@Suite struct ReplayWindowTests {
    // What would fool us: a ring whose words are cleared one too late or too early, which shows
    // only for certain jumps. Jumps of all sizes, near and across word, window and 2^32 boundaries.
    @Test(
        arguments: [0, 32, 33, 63, 64, 65, 127, 128, 192, 193, 256, 1000, 1024, 4096],
        [false, true])
    func agreesWithASet(bits: Int, usesESN: Bool) {
        if bits == 0 && usesESN { return }
        var random = SeededGenerator()
        let starts: [UInt64] =
            usesESN
            ? [
                0, 1, UInt64(bits) - 1, 1 << 32 - 5, 1 << 32, 1 << 32 + UInt64(bits), 1 << 48,
                7 << 32,
            ]
            : [0, 1, 63, 64, 1 << 32 - 5000]
        for start in starts {
            var model = Model(bits: UInt64(bits), usesESN: usesESN)
            var window = ReplayWindow(bits: bits, usesESN: usesESN, highest: start)
            if start != 0 { model.mark(start) }
            for _ in 0..<400 {
                let low = pick(&random, near: model.highest, bits: bits, usesESN: usesESN)
                let verdict = window.check(low)
                #expect(verdict == model.check(low), "\(low) at \(model.highest)")
                // Sometimes the ICV is wrong, and nothing is marked.
                guard case .accept(let full) = verdict, Int.random(in: 0..<5, using: &random) > 0
                else { continue }
                window.mark(full)
                model.mark(full)
                #expect(window.highest == model.highest)
                if bits > 0 { #expect(window.check(low) == .replayed) }
            }
        }
    }

    /// A number to try: most near the edge or the bottom of the window, some far ahead.
    private func pick(
        _ random: inout SeededGenerator, near highest: UInt64, bits: Int, usesESN: Bool
    ) -> UInt32 {
        let reach = Int64(max(bits, 64))
        let offset: Int64
        switch Int.random(in: 0..<10, using: &random) {
        case 0..<4: offset = Int64.random(in: -reach - 3...3, using: &random)
        case 4..<6: offset = -reach + Int64.random(in: -2...2, using: &random)
        case 6..<8: offset = Int64.random(in: 1...70, using: &random)
        case 8: offset = Int64.random(in: 1...reach * 3, using: &random)
        default: return UInt32(truncatingIfNeeded: random.next())
        }
        let wanted = Int64(truncatingIfNeeded: highest) &+ offset
        return usesESN
            ? UInt32(truncatingIfNeeded: wanted) : UInt32(clamping: wanted)
    }

    @Test func edgesOfTheWindow() {
        var window = ReplayWindow(bits: 64, usesESN: false)
        #expect(window.check(0) == .sequenceZero)
        window.mark(100)
        #expect(window.check(36) == .tooOld && window.check(37) == .accept(37))
        #expect(window.check(100) == .replayed && window.check(101) == .accept(101))
        window.mark(37)
        #expect(window.check(37) == .replayed)
        #expect(window.check(.max) == .accept(UInt64(UInt32.max)))
        window.mark(UInt64(UInt32.max))
        #expect(window.check(1) == .tooOld && window.check(.max) == .replayed)
    }

    @Test func highHalfCannotLeaveItsRange() {
        // Behind the last number of all there is none, before the first there is none.
        let last = ReplayWindow(bits: 64, usesESN: true, highest: .max)
        #expect(last.check(0) == .tooOld && last.check(.max) == .replayed)
        let first = ReplayWindow(bits: 64, usesESN: true, highest: 10)
        #expect(first.check(.max) == .tooOld)
        #expect(first.check(0) == .sequenceZero)
        // 2^32 has the low half 0, and is not number 0.
        let middle = ReplayWindow(bits: 64, usesESN: true, highest: 1 << 32 - 1)
        #expect(middle.check(0) == .accept(1 << 32))
    }

    @Test func withoutProtectionEverythingPasses() {
        var window = ReplayWindow(bits: 0, usesESN: false)
        for low: UInt32 in [0, 5, 5, 0, .max, 1] {
            #expect(window.check(low) == .accept(UInt64(low)))
            window.mark(UInt64(low))
        }
        #expect(window.highest == UInt64(UInt32.max))
    }

    @Test func ringsHaveAWordToSpare() {
        for bits in [0] + Array(32...4096) {
            let words = ReplayRing.wordCount(bits: bits)
            #expect(words.nonzeroBitCount == 1 && words >= 2)
            #expect(words * 64 >= bits + 64)
            #expect(words == 2 || words / 2 * 64 < bits + 64, "no larger than needed")
            #expect(words - 1 <= Int(UInt8.max), "a record keeps the mask in one octet")
        }
        #expect(ReplayRing.wordCount(bits: AssociationRecord.inlineWindowBits) == 4)
        #expect(ReplayRing.wordCount(bits: AssociationRecord.inlineWindowBits + 1) == 8)
        #expect(ReplayRing.wordCount(bits: 4096) == 128)
    }

    @Test func otherWidthsAreACallersBug() async {
        await #expect(processExitsWith: .failure) { _ = ReplayWindow(bits: 31, usesESN: false) }
        await #expect(processExitsWith: .failure) { _ = ReplayWindow(bits: 4097, usesESN: true) }
    }
}
