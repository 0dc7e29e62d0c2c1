// The store against a reference that remembers nothing but what happened, and derives every answer
// by going through all of it again.

import TestSupport
import Testing

@testable import Cluster

/// One key at one moment: nil as value stands for a deletion.
private struct Event {
    var revision: UInt64
    var key: [UInt8]
    var text: String
    var value: [UInt8]?
    var lease: UInt64?
}

/// etcd's rules, as slow as they can be written down.
private struct Reference {
    var events: [Event] = []
    var revision: UInt64 = 1
    var oldest: UInt64 = 1
    var leases: [UInt64: (nanoseconds: UInt64, end: UInt64)] = [:]
    var granted: UInt64 = 0
    let maximum: Int

    func last(_ key: String) -> Event? {
        let event = events.last { $0.key == Array(key.utf8) }
        return event?.value == nil ? nil : event
    }

    func pairs(_ prefix: String) -> [CoordinationPair] {
        var found: [CoordinationPair] = []
        var seen: [[UInt8]] = []
        for event in events.reversed() where !seen.contains(event.key) {
            seen.append(event.key)
            guard event.key.starts(with: Array(prefix.utf8)), let value = event.value else {
                continue
            }
            let life = events.filter { $0.key == event.key }.reversed().prefix { $0.value != nil }
            found.append(
                CoordinationPair(
                    key: event.text, value: value, createRevision: life.last?.revision ?? 0,
                    modRevision: event.revision, lease: event.lease))
        }
        return found.sorted { Array($0.key.utf8).lexicographicallyPrecedes(Array($1.key.utf8)) }
    }

    func changes(_ prefix: String, _ from: UInt64) -> [CoordinationChange]? {
        if max(1, from) < oldest { return nil }
        return events.indices.filter {
            events[$0].revision >= from && events[$0].key.starts(with: Array(prefix.utf8))
        }.map { index in
            let event = events[index]
            guard event.value != nil else {
                return CoordinationChange(
                    revision: event.revision, kind: .delete(key: event.text))
            }
            var then = self
            then.events.removeSubrange((index + 1)...)
            let pair = then.pairs("").first { Array($0.key.utf8) == event.key }
            return CoordinationChange(
                revision: event.revision,
                kind: pair.map { .put($0) } ?? .delete(key: "the reference is wrong"))
        }
    }

    mutating func add(_ new: [Event]) {
        guard !new.isEmpty else { return }
        revision += 1
        events += new
        // Whole revisions go, oldest first, but never the newest.
        while events.filter({ $0.revision >= oldest }).count > maximum,
            let first = events.first(where: { $0.revision >= oldest }), first.revision < revision
        {
            oldest = first.revision + 1
        }
    }

    mutating func end(_ number: UInt64) {
        leases[number] = nil
        add(
            pairs("").filter { $0.lease == number }.map {
                Event(revision: revision + 1, key: Array($0.key.utf8), text: $0.key)
            })
    }

    mutating func expire(_ now: UInt64) {
        for lease in leases.sorted(by: { ($0.value.end, $0.key) < ($1.value.end, $1.key) })
        where lease.value.end <= now {
            end(lease.key)
        }
    }

    mutating func extend(_ now: UInt64) {
        leases = leases.mapValues { ($0.nanoseconds, now + $0.nanoseconds) }
    }

    mutating func commit(_ transaction: CoordinationTransaction, _ now: UInt64)
        -> CoordinationReply
    {
        let keys = transaction.operations.map { Array($0.key.utf8) }
        for (index, key) in keys.enumerated() where keys[..<index].contains(key) {
            let twice = keys.filter { key in keys.filter { $0 == key }.count > 1 }
            let least = twice.min { $0.lexicographicallyPrecedes($1) } ?? key
            return .failed(.duplicateKey(String(decoding: least, as: UTF8.self)))
        }
        let holds = transaction.conditions.allSatisfy {
            (last($0.key)?.revision ?? 0) == $0.modRevision
        }
        guard holds else { return .conflict(revision: revision) }
        var new: [Event] = []
        for operation in transaction.operations {
            var event = Event(
                revision: revision + 1, key: Array(operation.key.utf8), text: operation.key)
            switch operation {
            case .put(_, let value, let lease):
                if let lease, leases[lease].map({ $0.end > now }) != true {
                    return .failed(.leaseUnknown)
                }
                event.value = value
                event.lease = lease
                new.append(event)
            case .delete(let key):
                if last(key) != nil { new.append(event) }
            }
        }
        add(new)
        return .committed(revision: revision)
    }

    mutating func handle(_ request: CoordinationRequest, _ now: UInt64) -> CoordinationReply {
        switch request {
        case .transaction(let transaction):
            return commit(transaction, now)
        case .read(let prefix):
            return .pairs(pairs(prefix), revision: revision)
        case .watch(let prefix, let from):
            return changes(prefix, from) == nil
                ? .failed(.compacted(oldest: oldest)) : .watching
        case .grantLease(let seconds):
            granted += 1
            let nanoseconds = UInt64(seconds) * 1_000_000_000
            leases[granted] = (nanoseconds, now + nanoseconds)
            return .lease(granted)
        case .keepAlive(let number):
            guard let lease = leases[number], lease.end > now else {
                return .failed(.leaseUnknown)
            }
            leases[number] = (lease.nanoseconds, now + lease.nanoseconds)
            return .lease(number)
        case .revoke(let number):
            guard leases[number] != nil else { return .failed(.leaseUnknown) }
            end(number)
            return .committed(revision: revision)
        }
    }
}

/// Keys around the edges of each other's prefixes; two are equal to Swift but not in octets.
private let keys = [
    "a", "a/", "a/b", "a/b/", "a/bc", "a0", "a/\u{FF}", "b", "caf\u{E9}", "cafe\u{301}", "cafe",
    "\u{10FFFF}",
]
private let prefixes = keys + ["", "c", "a/b/c", "\u{10FFFF}\u{10FFFF}"]

private struct Chooser {
    var random: SeededGenerator

    mutating func below(_ bound: Int) -> Int { Int.random(in: 0..<bound, using: &random) }

    mutating func of(_ list: [String]) -> String { list[below(list.count)] }

    mutating func transaction(_ reference: Reference) -> CoordinationTransaction {
        var transaction = CoordinationTransaction(operations: [])
        for _ in 0..<below(3) {
            let key = of(keys)
            // Mostly what holds, or few transactions would come through.
            let now = reference.last(key)?.revision ?? 0
            transaction.conditions.append(
                .init(key: key, modRevision: below(4) > 0 ? now : UInt64(below(20))))
        }
        for _ in 0..<below(5) {
            let key = of(keys)
            if below(3) == 0 {
                transaction.operations.append(.delete(key: key))
            } else {
                let lease = below(3) == 0 ? UInt64(below(Int(reference.granted) + 2)) : nil
                let value = [UInt8(below(256)), UInt8(below(256))]
                transaction.operations.append(.put(key: key, value: value, lease: lease))
            }
        }
        return transaction
    }

    mutating func request(_ reference: Reference) -> CoordinationRequest {
        let lease = UInt64(below(Int(reference.granted) + 2))
        switch below(20) {
        case 0: return .grantLease(seconds: 1 + below(5))
        case 1: return .keepAlive(lease: lease)
        case 2 where below(3) == 0: return .revoke(lease: lease)
        case 3, 4: return .read(prefix: of(prefixes))
        case 5: return .watch(prefix: of(prefixes), from: revision(reference))
        default: return .transaction(transaction(reference))
        }
    }

    mutating func revision(_ reference: Reference) -> UInt64 {
        UInt64(below(Int(reference.revision) + 3))
    }
}

@Suite struct CoordinationModelTests {
    // What would fool us: each rule holds alone, and two of them break each other: a key that
    // leaves its lease, a lease that ends in a compacted store, a deletion inside of a transaction
    // that is refused.
    @Test(arguments: [3, 30, 100_000])
    func storeAnswersLikeTheReference(historyMaximum: Int) {
        var chooser = Chooser(random: SeededGenerator())
        for _ in 0..<12 {
            var reference = Reference(maximum: historyMaximum)
            var store = CoordinationStore(historyMaximum: historyMaximum)
            var now: UInt64 = 0
            for _ in 0..<90 {
                now += UInt64(chooser.below(1_000_000_000))
                let request = chooser.request(reference)
                #expect(
                    store.handle(request, nowNanoseconds: now) == reference.handle(request, now))
                switch chooser.below(30) {
                case 0:
                    store.extendLeases(nowNanoseconds: now)
                    reference.extend(now)
                case 1:
                    let before = chooser.revision(reference)
                    store.compact(before: before)
                    reference.oldest = max(reference.oldest, min(before, reference.revision))
                case 2...9:
                    store.expire(nowNanoseconds: now)
                    reference.expire(now)
                default: break
                }
                let prefix = chooser.of(prefixes)
                let from = chooser.revision(reference)
                #expect(store.revision == reference.revision)
                #expect(store.oldestRevision == reference.oldest)
                #expect(store.nextExpiry == reference.leases.values.map(\.end).min())
                #expect(
                    store.changes(prefix: prefix, from: from) == reference.changes(prefix, from))
            }
            #expect(
                store.handle(.read(prefix: ""), nowNanoseconds: now)
                    == .pairs(reference.pairs(""), revision: reference.revision))
        }
    }

    // What would fool us: with few keys all pairs lie in one chunk, and no chunk is ever cut,
    // joined or emptied. The sizes swing between nothing and several dozen chunks.
    @Test func manyKeysStaySorted() {
        var random = SeededGenerator()
        var pairs = SortedPairs()
        var expected: [String: CoordinationPair] = [:]
        for round: UInt64 in 1...6 {
            let fills = !round.isMultiple(of: 2)
            for _ in 0..<(fills ? 2_500 : 9_000) {
                let key = "k/\(Int.random(in: 0..<3_000, using: &random))"
                if fills {
                    let pair = pairs.put(key: key, value: [], lease: 1, revision: round)
                    #expect(pair.createRevision == expected[key]?.createRevision ?? round)
                    expected[key] = pair
                } else {
                    #expect(pairs.remove(key) == (expected.removeValue(forKey: key) != nil))
                }
            }
            if round == 6 {
                let removed = expected.keys.filter { pairs.remove($0) }
                #expect(removed.count == expected.count)
                expected = [:]
            }
            let sorted = expected.values.sorted { $0.key < $1.key }
            #expect(pairs.pairs(prefix: "") == sorted)
            #expect(pairs.keys(lease: 1) == sorted.map(\.key))
            for prefix in ["k", "k/", "k/1", "k/29", "k/2999", "k/30", "l", "j"] {
                #expect(
                    pairs.pairs(prefix: prefix) == sorted.filter { $0.key.hasPrefix(prefix) })
            }
            for number in 0..<3_000 {
                let key = "k/\(number)"
                #expect(pairs[key] == expected[key])
                #expect(pairs.modRevision(of: key) == expected[key]?.modRevision ?? 0)
            }
        }
    }

    // What would fool us: the search for a prefix ends behind the last pair of a chunk, and what
    // it looks for begins the next one. Here every chunk begins a prefix.
    @Test func prefixThatBeginsAChunkIsFound() {
        var pairs = SortedPairs()
        for number in 0..<1_000 {
            _ = pairs.put(key: "\(number)/x", value: [], lease: nil, revision: 2)
        }
        for number in 0..<1_000 {
            #expect(pairs.pairs(prefix: "\(number)/").map(\.key) == ["\(number)/x"])
        }
    }

    // What would fool us: reads and changes are both right, but do not meet: the follower misses
    // what happened between them, or sees half of a transaction. Every transaction here keeps two
    // keys equal.
    @Test func followerSeesEveryStateOfTheStore() {
        var random = SeededGenerator()
        var store = CoordinationStore(historyMaximum: 20)
        var copy: [String: [UInt8]] = [:]
        var seen: UInt64 = 0
        var (reads, catchesUp) = (0, 0)
        for _ in 0..<2_000 {
            let value = [UInt8.random(in: 0...255, using: &random)]
            let operations: [CoordinationTransaction.Operation] = ["x", "y"].map {
                value[0] < 60 ? .delete(key: $0) : .put(key: $0, value: value, lease: nil)
            }
            _ = store.handle(
                .transaction(CoordinationTransaction(operations: operations)), nowNanoseconds: 0)
            guard Int.random(in: 0..<8, using: &random) == 0 else { continue }
            if let changes = store.changes(prefix: "", from: seen + 1), seen > 0 {
                catchesUp += 1
                for change in changes {
                    if change.revision > seen { #expect(copy["x"] == copy["y"]) }
                    seen = change.revision
                    switch change.kind {
                    case .put(let pair): copy[pair.key] = pair.value
                    case .delete(let key): copy[key] = nil
                    }
                }
            } else if case .pairs(let pairs, let revision) = store.handle(
                .read(prefix: ""), nowNanoseconds: 0)
            {
                reads += 1
                copy = Dictionary(uniqueKeysWithValues: pairs.map { ($0.key, $0.value) })
                seen = revision
            }
            #expect(seen == store.revision && copy["x"] == copy["y"])
            if case .pairs(let pairs, _) = store.handle(.read(prefix: ""), nowNanoseconds: 0) {
                #expect(pairs.map(\.key) == copy.keys.sorted())
                #expect(pairs.allSatisfy { copy[$0.key] == $0.value })
            }
        }
        #expect(reads > 5 && catchesUp > 50)
    }
}
