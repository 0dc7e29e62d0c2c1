// Fooled by: equal times that leave in another order, a last group with fewer children, payloads
// that are lost or freed twice while the heap moves them.

import SimKit
import TestSupport
import Testing

@Suite struct EventQueueTests {
    @Test func isASortedListWhateverTheOrder() {
        var generator = SeededGenerator()
        for bound in [1, 2, 5, 1000] as [UInt64] {
            var queue = EventQueue<Int>(capacity: 0)
            var model: [(time: UInt64, payload: Int)] = []
            for number in 0..<4000 {
                // First it mostly grows, then it mostly shrinks.
                if generator.next() % 10 < (number < 2000 ? 7 : 3) {
                    let time = generator.next() % bound
                    queue.push(at: time, number)
                    let place = model.firstIndex { $0.time > time } ?? model.count
                    model.insert((time, number), at: place)
                } else {
                    let nextTime = queue.nextTime
                    #expect(nextTime == model.first?.time)
                    let event = queue.pop()
                    #expect(event?.time == model.first?.time)
                    #expect(event?.payload == model.first?.payload)
                    if !model.isEmpty { model.removeFirst() }
                }
                let count = queue.count
                #expect(count == model.count)
            }
            while let event = queue.pop() {
                #expect(event.payload == model.removeFirst().payload)
            }
            let nextTime = queue.nextTime
            #expect(model.isEmpty && nextTime == nil)
        }
    }

    @Test func theLastMomentIsATimeToo() {
        var queue = EventQueue<Character>()
        for letter in "abc" { queue.push(at: .max, letter) }
        queue.push(at: 0, "z")
        var left = ""
        var last: UInt64 = 0
        while let event = queue.pop() {
            left.append(event.payload)
            last = event.time
        }
        #expect(left == "zabc" && last == .max)
    }

    private final class Tracked {
        let onEnd: () -> Void
        init(_ onEnd: @escaping () -> Void) { self.onEnd = onEnd }
        deinit { onEnd() }
    }

    @Test func payloadsEndOnce() {
        var ended = 0
        do {
            var queue = EventQueue<Tracked>()
            for number in 0..<300 as Range<UInt64> {
                queue.push(at: number * 7919 % 301, Tracked { ended += 1 })
            }
            for _ in 0..<100 { _ = queue.pop() }
            #expect(ended == 100)
        }
        #expect(ended == 300)
    }
}
