// Keyed contexts, bounded in number. A context is 1 KiB over 15 cache lines: with many associations
// the misses on it cost more than running the key schedule again. So only associations that come
// back soon own a context; the others share one, re-keyed for each.

import Crypto

/// Lends a context with the right key for a record.
struct KeyPool: ~Copyable {
    /// Place 0 is shared by all associations that don't come back soon.
    private let contexts: UnsafeMutablePointer<KeyedContext>
    /// The slot whose key a place holds; `UInt32.max`: none.
    private let owners: UnsafeMutablePointer<UInt32>
    private let library: CryptoLibrary
    private let shapes: UnsafePointer<TransformShape>
    /// Places, the shared one included.
    private let places: UInt32
    private var hand: UInt32 = 0
    /// Counts packets: "soon" means within `places` * 2 packets.
    private var clock: UInt32 = 0
    /// How often a key schedule was run.
    private(set) var keyings: UInt64 = 0
    /// Refuses this many keyings: an injected fault.
    var failures = 0

    /// `capacity` contexts beside the shared one.
    init(capacity: Int, library: CryptoLibrary, shapes: UnsafePointer<TransformShape>) {
        precondition((0...65_536).contains(capacity))
        places = UInt32(capacity) + 1
        contexts = .allocate(capacity: Int(places))
        for place in 0..<Int(places) { (contexts + place).initialize(to: KeyedContext()) }
        owners = .allocate(capacity: Int(places))
        owners.initialize(repeating: .max, count: Int(places))
        self.library = library
        self.shapes = shapes
    }

    deinit {
        contexts.deinitialize(count: Int(places))
        contexts.deallocate()
        owners.deallocate()
    }

    /// The context that holds the record's key; nil when OpenSSL failed to take the key.
    @inline(__always)
    mutating func context(
        for record: RecordPointer, slot: UInt32
    ) -> UnsafeMutablePointer<KeyedContext>? {
        clock &+= 1
        let place = record.pointee.context
        if owners[Int(place)] == slot {
            record.pointee.lastUsed = clock
            return contexts + Int(place)
        }
        return miss(record, slot)
    }

    @inline(never)
    private mutating func miss(
        _ record: RecordPointer, _ slot: UInt32
    ) -> UnsafeMutablePointer<KeyedContext>? {
        let age = clock &- record.pointee.lastUsed
        let comesBackSoon = record.pointee.lastUsed != 0 && age <= places &* 2 && places > 1
        record.pointee.lastUsed = clock
        var place: UInt32 = 0
        if comesBackSoon {
            hand = hand &+ 1 == places ? 1 : max(hand &+ 1, 1)
            place = hand
        }
        owners[Int(place)] = .max
        guard failures == 0 else {
            failures -= 1
            contexts[Int(place)].erase()
            return nil
        }
        let shape = shapes + Int(record.pointee.transform)
        let isOutbound = record.pointee.flags.contains(.isOutbound)
        keyings &+= 1
        do {
            try contexts[Int(place)].key(
                isOutbound ? shape.pointee.recipeOut : shape.pointee.recipeIn, library: library,
                key: record.keyBytes,
                hashKey: record.keyBytes + Int(shape.pointee.cipherKeyBytes))
        } catch {
            // No owner, no key: what was there before must not stay.
            contexts[Int(place)].erase()
            return nil
        }
        owners[Int(place)] = slot
        record.pointee.context = place
        return contexts + Int(place)
    }

    /// Wipes the context of an association that leaves.
    mutating func forget(_ record: RecordPointer, slot: UInt32) {
        let place = Int(record.pointee.context)
        guard owners[place] == slot else { return }
        owners[place] = .max
        contexts[place].erase()
    }

    /// Wipes all contexts.
    mutating func forgetAll() {
        for place in 0..<Int(places) {
            owners[place] = .max
            contexts[place].erase()
        }
    }
}

/// One shape per transform, in the order of `Transform.all`.
enum TransformShapes {
    private static let numbers: [Transform: UInt8] = Dictionary(
        uniqueKeysWithValues: Transform.all.enumerated().map { ($1, UInt8($0)) })

    /// The number that a record stores.
    static func number(of transform: Transform) -> UInt8 {
        guard let number = numbers[transform] else {
            preconditionFailure("Transform.all lists every valid transform")
        }
        return number
    }

    /// The caller deallocates.
    static func makeTable() -> UnsafeMutablePointer<TransformShape> {
        let table = UnsafeMutablePointer<TransformShape>.allocate(capacity: Transform.all.count)
        for (index, transform) in Transform.all.enumerated() {
            (table + index).initialize(to: TransformShape(transform))
        }
        return table
    }
}
