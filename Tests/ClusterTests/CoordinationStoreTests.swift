// The rules of the coordination store one by one, with revisions counted by hand.

import Testing

@testable import Cluster

private let second: UInt64 = 1_000_000_000

private func put(_ key: String, _ value: [UInt8] = [1], lease: UInt64? = nil)
    -> CoordinationTransaction.Operation
{
    .put(key: key, value: value, lease: lease)
}

private func pair(
    _ key: String, _ value: [UInt8] = [1], created: UInt64, modified: UInt64, lease: UInt64? = nil
) -> CoordinationPair {
    CoordinationPair(
        key: key, value: value, createRevision: created, modRevision: modified, lease: lease)
}

extension CoordinationStore {
    fileprivate mutating func commit(
        if conditions: [String: UInt64] = [:],
        _ operations: CoordinationTransaction.Operation..., at now: UInt64 = 0
    ) -> CoordinationReply {
        let conditions = conditions.sorted { $0.key < $1.key }.map {
            CoordinationTransaction.Condition(key: $0.key, modRevision: $0.value)
        }
        return handle(
            .transaction(CoordinationTransaction(conditions: conditions, operations: operations)),
            nowNanoseconds: now)
    }

    fileprivate mutating func keys(_ prefix: String = "") -> [String] {
        guard case .pairs(let pairs, _) = handle(.read(prefix: prefix), nowNanoseconds: 0) else {
            return ["no answer"]
        }
        return pairs.map(\.key)
    }

    fileprivate func deletions(from: UInt64) -> [CoordinationChange] {
        (changes(prefix: "", from: from) ?? []).filter {
            if case .delete = $0.kind { true } else { false }
        }
    }
}

@Suite struct CoordinationTransactionTests {
    @Test func revisionsCountTransactionsThatChangeSomething() {
        var store = CoordinationStore()
        #expect(store.revision == 1)
        #expect(
            store.handle(.read(prefix: ""), nowNanoseconds: 0) == .pairs([], revision: 1))
        #expect(store.commit() == .committed(revision: 1))
        #expect(store.commit(.delete(key: "a")) == .committed(revision: 1))
        #expect(store.commit(put("a"), put("b")) == .committed(revision: 2))
        #expect(store.commit(put("a")) == .committed(revision: 3))
        #expect(store.commit(.delete(key: "none"), .delete(key: "a")) == .committed(revision: 4))
        #expect(store.commit(put("a", [2])) == .committed(revision: 5))
        #expect(
            store.handle(.read(prefix: ""), nowNanoseconds: 0)
                == .pairs(
                    [
                        pair("a", [2], created: 5, modified: 5),
                        pair("b", created: 2, modified: 2),
                    ], revision: 5))
        #expect(store.deletions(from: 1) == [.init(revision: 4, kind: .delete(key: "a"))])
    }

    // What would fool us: a condition that compares with the key's creation, or one that holds for
    // a key which was deleted and written anew.
    @Test func conditionsNameTheLastChange() {
        var store = CoordinationStore()
        #expect(store.commit(if: ["a": 1], put("a")) == .conflict(revision: 1))
        #expect(store.commit(if: ["a": 0], put("a")) == .committed(revision: 2))
        #expect(store.commit(if: ["a": 0], put("a")) == .conflict(revision: 2))
        #expect(store.commit(if: ["a": 2], put("a", [2])) == .committed(revision: 3))
        #expect(store.commit(if: ["a": 2], put("a")) == .conflict(revision: 3))
        #expect(store.commit(if: ["a": 3], .delete(key: "a")) == .committed(revision: 4))
        #expect(store.commit(if: ["a": 4], put("a")) == .conflict(revision: 4))
        #expect(store.commit(if: ["a": 0], put("a")) == .committed(revision: 5))
        #expect(store.commit(if: ["a": 3], put("a")) == .conflict(revision: 5))
        // One of several does not hold, and a key that is only asked about counts too.
        #expect(store.commit(if: ["a": 5, "b": 1], put("c")) == .conflict(revision: 5))
        #expect(store.commit(if: ["a": 5, "b": 0], put("c")) == .committed(revision: 6))
    }

    // What would fool us: the first operations are done before a later one is refused.
    @Test func refusedTransactionsChangeNothing() {
        var store = CoordinationStore()
        _ = store.commit(put("a"))
        let refusals: [(CoordinationReply, CoordinationReply)] = [
            (store.commit(put("b"), put("c", lease: 7)), .failed(.leaseUnknown)),
            (store.commit(put("b"), put("a"), put("a")), .failed(.duplicateKey("a"))),
            (store.commit(put("a"), .delete(key: "a")), .failed(.duplicateKey("a"))),
            (store.commit(.delete(key: "x"), .delete(key: "x")), .failed(.duplicateKey("x"))),
            (store.commit(if: ["b": 2], put("b")), .conflict(revision: 2)),
            // What is wrong in itself is refused whether or not the conditions hold; a lease is
            // looked up only then.
            (store.commit(if: ["b": 2], put("x"), put("x")), .failed(.duplicateKey("x"))),
            (store.commit(if: ["b": 2], put("b", lease: 7)), .conflict(revision: 2)),
        ]
        for (reply, expected) in refusals { #expect(reply == expected) }
        #expect(store.keys() == ["a"] && store.revision == 2)
        #expect(store.changes(prefix: "", from: 1)?.count == 1)
    }

    @Test func limitsAreExact() {
        var store = CoordinationStore()
        func transaction(conditions: Int, operations: Int) -> CoordinationRequest {
            .transaction(
                CoordinationTransaction(
                    conditions: (0..<conditions).map { .init(key: "\($0)", modRevision: 0) },
                    operations: (0..<operations).map { put("\($0)") }))
        }
        let most = transaction(conditions: 128, operations: 128)
        #expect(store.handle(most, nowNanoseconds: 0) == .committed(revision: 2))
        #expect(
            store.handle(transaction(conditions: 129, operations: 1), nowNanoseconds: 0)
                == .failed(.tooManyOperations(129)))
        #expect(
            store.handle(transaction(conditions: 0, operations: 130), nowNanoseconds: 0)
                == .failed(.tooManyOperations(130)))

        let large = [UInt8](repeating: 7, count: 1 << 20)
        #expect(store.commit(put("a", large)) == .committed(revision: 3))
        #expect(store.commit(put("a", large), put("b", [])) == .committed(revision: 4))
        #expect(
            store.commit(put("a", large + [0])) == .failed(.valueTooLarge(bytes: 1 << 20 + 1)))
        // etcd limits the request, not the value.
        #expect(
            store.commit(put("a", large), put("b", [0, 0]))
                == .failed(.valueTooLarge(bytes: 1 << 20 + 2)))
    }

    @Test func failuresSayWhatToDoInOneLine() {
        let failures: [CoordinationFailure] = [
            .unavailable, .outcomeUnknown, .compacted(oldest: 17), .leaseUnknown,
            .tooManyOperations(129), .duplicateKey("a/b"), .valueTooLarge(bytes: 1_048_577),
            .leaseSeconds(0),
        ]
        for failure in failures {
            let line = String(describing: failure)
            #expect(line.contains(": ") && !line.contains("\n") && line.count < 120, "\(line)")
        }
        #expect(Set(failures.map { String(describing: $0) }).count == failures.count)
    }
}

@Suite struct CoordinationLeaseTests {
    @Test func leaseEndsToTheNanosecond() {
        var store = CoordinationStore()
        #expect(store.nextExpiry == nil)
        #expect(store.handle(.grantLease(seconds: 2), nowNanoseconds: 5) == .lease(1))
        #expect(store.nextExpiry == 2 * second + 5)
        #expect(store.commit(put("a", lease: 1), put("b"), at: 5) == .committed(revision: 2))
        store.expire(nowNanoseconds: 2 * second + 4)
        #expect(store.keys() == ["a", "b"])
        store.expire(nowNanoseconds: 2 * second + 5)
        #expect(store.keys() == ["b"] && store.revision == 3 && store.nextExpiry == nil)
        #expect(store.deletions(from: 1) == [.init(revision: 3, kind: .delete(key: "a"))])
        #expect(
            store.handle(.keepAlive(lease: 1), nowNanoseconds: 0) == .failed(.leaseUnknown))
        #expect(store.handle(.revoke(lease: 1), nowNanoseconds: 0) == .failed(.leaseUnknown))
        // The number is not given again: who held the old lease must not hold the new one.
        #expect(store.handle(.grantLease(seconds: 1), nowNanoseconds: 0) == .lease(2))
    }

    @Test func keepAliveBeginsTheTimeAgain() {
        var store = CoordinationStore()
        _ = store.handle(.grantLease(seconds: 2), nowNanoseconds: 0)
        _ = store.commit(put("a", lease: 1))
        #expect(store.handle(.keepAlive(lease: 1), nowNanoseconds: second) == .lease(1))
        store.expire(nowNanoseconds: 3 * second - 1)
        #expect(store.keys() == ["a"] && store.nextExpiry == 3 * second)
    }

    // What would fool us: etcd deletes some time after the end, and a simulation that calls expire
    // late looks the same. In between the lease must look ended to whoever holds it.
    @Test func endedLeaseTakesNothingEvenBeforeItsKeysGo() {
        var store = CoordinationStore()
        _ = store.handle(.grantLease(seconds: 1), nowNanoseconds: 0)
        _ = store.commit(put("a", lease: 1))
        #expect(
            store.handle(.keepAlive(lease: 1), nowNanoseconds: second) == .failed(.leaseUnknown))
        #expect(store.commit(put("b", lease: 1), at: second) == .failed(.leaseUnknown))
        #expect(store.keys() == ["a"] && store.nextExpiry == second)
        var revoked = store
        #expect(
            revoked.handle(.revoke(lease: 1), nowNanoseconds: second) == .committed(revision: 3))
        #expect(revoked.keys().isEmpty)
        // A new leader gives it its full time again.
        store.extendLeases(nowNanoseconds: 5 * second)
        store.expire(nowNanoseconds: 6 * second - 1)
        #expect(store.keys() == ["a"])
        #expect(
            store.handle(.keepAlive(lease: 1), nowNanoseconds: 6 * second - 1) == .lease(1))
        store.expire(nowNanoseconds: 7 * second - 1)
        #expect(store.keys().isEmpty)
    }

    // What would fool us: the end of the old lease takes a key along that left it.
    @Test func keysFollowTheLeaseOfTheirLastChange() {
        var store = CoordinationStore()
        _ = store.handle(.grantLease(seconds: 1), nowNanoseconds: 0)
        _ = store.handle(.grantLease(seconds: 2), nowNanoseconds: 0)
        _ = store.commit(put("gone", lease: 1), put("kept", lease: 1), put("moved", lease: 1))
        _ = store.commit(put("kept"), put("moved", lease: 2))
        _ = store.commit(.delete(key: "gone"))
        #expect(store.revision == 4)
        store.expire(nowNanoseconds: second)
        #expect(store.keys() == ["kept", "moved"])
        #expect(store.revision == 4, "a lease without keys makes no revision")
        store.expire(nowNanoseconds: 2 * second)
        #expect(store.keys() == ["kept"] && store.revision == 5)
    }

    @Test func leasesEndOneRevisionEachInTheOrderOfTheirEnds() {
        var store = CoordinationStore()
        for seconds in [3, 1, 2, 1] {
            _ = store.handle(.grantLease(seconds: seconds), nowNanoseconds: 0)
        }
        _ = store.commit(
            put("l3", lease: 3), put("l1", lease: 1), put("l4", lease: 4), put("l2b", lease: 2),
            put("l2a", lease: 2))
        store.expire(nowNanoseconds: 10 * second)
        let expected: [(UInt64, String)] = [
            (3, "l2a"), (3, "l2b"), (4, "l4"), (5, "l3"), (6, "l1"),
        ]
        #expect(
            store.deletions(from: 1)
                == expected.map { .init(revision: $0.0, kind: .delete(key: $0.1)) })
    }

    @Test func leaseTimesHaveLimitsAndDoNotOverflow() {
        var store = CoordinationStore()
        for seconds in [0, -1, .min, .max, 9_000_000_001] {
            #expect(
                store.handle(.grantLease(seconds: seconds), nowNanoseconds: 0)
                    == .failed(.leaseSeconds(seconds)))
        }
        let late = UInt64.max - second
        #expect(
            store.handle(.grantLease(seconds: 9_000_000_000), nowNanoseconds: late) == .lease(1))
        #expect(store.nextExpiry == .max)
        store.expire(nowNanoseconds: .max)
        #expect(store.nextExpiry == nil)
    }
}

@Suite struct CoordinationWatchTests {
    // What would fool us: keys of Swift's string order, where é can be two different keys and
    // a combining mark is swallowed by the letter before it.
    @Test func prefixesAndOrderGoByOctets() {
        var store = CoordinationStore()
        let ascending = [
            "a", "a/", "a/0", "a/z", "a0", "ab", "e\u{301}", "z", "\u{E9}", "\u{FFFD}", "\u{10000}",
        ]
        for key in ascending.reversed() { _ = store.commit(put(key)) }
        #expect(store.keys().map { Array($0.utf8) } == ascending.map { Array($0.utf8) })
        #expect(store.keys("a/") == ["a/", "a/0", "a/z"])
        #expect(store.keys("a") == ["a", "a/", "a/0", "a/z", "a0", "ab"])
        #expect(store.keys("e").map { Array($0.utf8) } == [[0x65, 0xCC, 0x81]])
        #expect(store.keys("a/z/") == [] && store.keys("\u{10FFFF}") == [])
        #expect(store.commit(put("e\u{301}"), put("\u{E9}")) == .committed(revision: 13))
        #expect(store.changes(prefix: "e", from: 13)?.count == 1)
        #expect(store.commit(.delete(key: "\u{E9}")) == .committed(revision: 14))
        #expect(store.keys().count == ascending.count - 1)
    }

    @Test func changesComeInTheOrderTheyWereMade() {
        var store = CoordinationStore()
        _ = store.commit(put("b"), put("a", [2]))
        _ = store.commit(.delete(key: "b"), put("c"), .delete(key: "none"))
        _ = store.commit(put("a", [3]))
        let changes: [CoordinationChange] = [
            .init(revision: 2, kind: .put(pair("b", created: 2, modified: 2))),
            .init(revision: 2, kind: .put(pair("a", [2], created: 2, modified: 2))),
            .init(revision: 3, kind: .delete(key: "b")),
            .init(revision: 3, kind: .put(pair("c", created: 3, modified: 3))),
            .init(revision: 4, kind: .put(pair("a", [3], created: 2, modified: 4))),
        ]
        #expect(store.changes(prefix: "", from: 0) == changes)
        #expect(store.changes(prefix: "", from: 2) == changes)
        #expect(store.changes(prefix: "", from: 3) == Array(changes[2...]))
        #expect(store.changes(prefix: "a", from: 1) == [changes[1], changes[4]])
        #expect(store.changes(prefix: "", from: 5) == [])
        #expect(store.changes(prefix: "", from: .max) == [])
        #expect(
            store.handle(.watch(prefix: "", from: .max), nowNanoseconds: 0) == .watching)
        #expect(changes.map(\.key) == ["b", "a", "b", "c", "a"])
    }

    @Test func compactionForgetsChangesAndKeepsKeys() {
        var store = CoordinationStore()
        for number: UInt8 in 0..<5 { _ = store.commit(put("a", [number])) }
        #expect(store.revision == 6)
        store.compact(before: 4)
        store.compact(before: 2)
        #expect(store.oldestRevision == 4)
        #expect(store.changes(prefix: "", from: 3) == nil)
        #expect(store.changes(prefix: "other", from: 0) == nil)
        #expect(store.changes(prefix: "", from: 4)?.map(\.revision) == [4, 5, 6])
        #expect(
            store.handle(.watch(prefix: "", from: 3), nowNanoseconds: 0)
                == .failed(.compacted(oldest: 4)))
        #expect(store.handle(.watch(prefix: "", from: 4), nowNanoseconds: 0) == .watching)
        store.compact(before: .max)
        #expect(store.oldestRevision == 6 && store.revision == 6)
        #expect(store.changes(prefix: "", from: 6)?.map(\.revision) == [6])
        #expect(
            store.handle(.read(prefix: "a"), nowNanoseconds: 0)
                == .pairs([pair("a", [4], created: 2, modified: 6)], revision: 6))
    }

    // What would fool us: a bound that cuts a revision in two, so that a watch gets half of a
    // transaction and takes it for all of it.
    @Test func historyIsBoundedByWholeRevisions() {
        var store = CoordinationStore(historyMaximum: 3)
        _ = store.commit(put("a"), put("b"))
        _ = store.commit(put("a"))
        #expect(store.oldestRevision == 1)
        _ = store.commit(put("b"))
        #expect(store.oldestRevision == 3)
        #expect(store.changes(prefix: "", from: 2) == nil)
        #expect(store.changes(prefix: "", from: 3)?.map(\.revision) == [3, 4])
        // The newest revision stays whole even if it is larger than the bound.
        _ = store.commit(put("a"), put("b"), put("c"), put("d"))
        #expect(store.oldestRevision == 5)
        #expect(store.changes(prefix: "", from: 5)?.map(\.key) == ["a", "b", "c", "d"])
        _ = store.commit(put("a"))
        #expect(store.changes(prefix: "", from: 5) == nil)
        #expect(store.changes(prefix: "", from: 6)?.map(\.key) == ["a"])
    }
}
