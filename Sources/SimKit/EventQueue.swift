// What happens next: events by time, and among equal times in the order in which they were put in,
// so that a run depends on nothing but its seed.

/// A priority queue of events, a heap with four children a node.
///
/// Keys and payloads lie apart: the four keys that one step of a sift compares fill one cache line.
public struct EventQueue<Payload>: ~Copyable {
    /// Time above, order below: one comparison for both. Places behind the last key hold the
    /// largest one, so that a node always has four children to compare.
    @usableFromInline var keys: UnsafeMutablePointer<UInt128>
    @usableFromInline var payloads: UnsafeMutablePointer<Payload>
    @usableFromInline var memory: UnsafeMutableRawPointer
    @usableFromInline var capacity: Int
    @usableFromInline var order: UInt64 = 0
    @usableFromInline var events = 0

    /// An empty queue with room for `capacity` events before it grows. Precondition: not negative.
    public init(capacity: Int = 1024) {
        precondition(capacity >= 0)
        self.capacity = max(capacity, 16)
        (memory, keys) = Self.makeKeys(self.capacity)
        payloads = .allocate(capacity: self.capacity)
    }

    deinit {
        payloads.deinitialize(count: events)
        payloads.deallocate()
        memory.deallocate()
    }

    /// Children 4n + 1 … 4n + 4 shall share a cache line, so key 1 begins one.
    private static func makeKeys(
        _ capacity: Int
    ) -> (UnsafeMutableRawPointer, UnsafeMutablePointer<UInt128>) {
        let total = 3 + capacity + 4
        let memory = UnsafeMutableRawPointer.allocate(
            byteCount: total * MemoryLayout<UInt128>.stride, alignment: 64)
        let all = memory.initializeMemory(as: UInt128.self, repeating: .max, count: total)
        return (memory, all + 3)
    }

    /// Events waiting.
    @inlinable
    public var count: Int { events }

    /// When the next event happens; nil when none waits.
    @inlinable
    public var nextTime: UInt64? {
        events == 0 ? nil : UInt64(truncatingIfNeeded: keys[0] >> 64)
    }

    /// Puts in an event. Of events at the same time, the first one put in comes out first.
    @inlinable
    public mutating func push(at time: UInt64, _ payload: consuming Payload) {
        if events == capacity { grow() }
        let key = UInt128(time) << 64 | UInt128(order)
        order &+= 1
        var place = events
        events &+= 1
        while place > 0 {
            let parent = (place &- 1) >> 2
            guard key < keys[parent] else { break }
            keys[place] = keys[parent]
            (payloads + place).moveInitialize(from: payloads + parent, count: 1)
            place = parent
        }
        keys[place] = key
        (payloads + place).initialize(to: payload)
    }

    /// Takes out the next event; nil when none waits.
    @inlinable
    public mutating func pop() -> (time: UInt64, payload: Payload)? {
        guard events > 0 else { return nil }
        let time = UInt64(truncatingIfNeeded: keys[0] >> 64)
        let payload = payloads.move()
        events &-= 1
        let last = events
        let key = keys[last]
        keys[last] = .max
        guard last > 0 else { return (time, payload) }
        var place = 0
        while true {
            let first = place &* 4 &+ 1
            guard first < last else { break }
            let left = first &+ (keys[first &+ 1] < keys[first] ? 1 : 0)
            let right = first &+ (keys[first &+ 3] < keys[first &+ 2] ? 3 : 2)
            let least = keys[right] < keys[left] ? right : left
            guard keys[least] < key else { break }
            keys[place] = keys[least]
            (payloads + place).moveInitialize(from: payloads + least, count: 1)
            place = least
        }
        keys[place] = key
        (payloads + place).moveInitialize(from: payloads + last, count: 1)
        return (time, payload)
    }

    @usableFromInline
    mutating func grow() {
        let (newMemory, newKeys) = Self.makeKeys(capacity * 2)
        newKeys.update(from: keys, count: events)
        let newPayloads = UnsafeMutablePointer<Payload>.allocate(capacity: capacity * 2)
        newPayloads.moveInitialize(from: payloads, count: events)
        memory.deallocate()
        payloads.deallocate()
        (memory, keys, payloads, capacity) = (newMemory, newKeys, newPayloads, capacity * 2)
    }
}
