// The store in memory as the model of etcd: the same requests, the same answers and the same
// histories of watches. What would fool it is a mistake that both have: hence etcdctl in the other
// tests, and a model that has a reference of its own (ClusterTests).

import EtcdMessages
import EtcdStore
import TestSupport
import Testing

@testable import Cluster

extension LiveEtcd {
    @Suite struct Model {
        @Test(arguments: ["", "lab/ü/"])
        func answersAndWatchesAreEqual(prefix: String) throws {
            let server = try EtcdServer.alone()
            var generator = SeededGenerator()
            var walk = try ModelWalk(server, prefix: prefix)
            for _ in 0..<600 { try walk.step(&generator) }
            try walk.finish()
        }
    }
}

/// One client, one model, and what must be equal.
private struct ModelWalk {
    private struct WatchBook {
        var prefix: String
        var next: UInt64
        var expected: [CoordinationChange] = []
    }

    /// Several of these are equal to Swift, or begin with each other, but not for etcd.
    private static let keys = [
        "a", "a/1", "a/2", "a/22", "ab", "é", "e\u{301}", "e", "e\u{301}x", "\u{10FFFF}", "b/\0",
        "b/ \"\\",
    ]
    private static let prefixes = ["", "a", "a/", "e", "é", "b/", "nothing"]

    private let server: EtcdServer
    private let driver: StoreDriver
    private let prefix: String
    private var model = CoordinationStore()
    /// Leases of the model, and what etcd calls them.
    private var leases: [(model: UInt64, etcd: UInt64)] = []
    private var watches: [UInt64: WatchBook] = [:]

    init(_ server: EtcdServer, prefix: String) throws {
        self.server = server
        self.prefix = prefix
        var configuration = EtcdConfiguration(endpoints: [server.endpoint], keyPrefix: prefix)
        // Most watches here look where nothing happens; one that is begun anew would be lost when
        // its revision was compacted since.
        configuration.stallNanoseconds = 3600 * 1_000_000_000
        configuration.requestNanoseconds = 20_000_000_000
        configuration.probeNanoseconds = 5_000_000_000
        driver = try StoreDriver(configuration)
    }

    mutating func step(_ generator: inout SeededGenerator) throws {
        switch generator.next() % 100 {
        case 0..<60: try transact(&generator)
        case 60..<70: try compare(.read(prefix: pick(Self.prefixes, &generator)))
        case 70..<78: try watch(&generator)
        case 78..<83: try grant(seconds: Int(generator.next() % 3000) + 600)
        case 83..<88: try compare(keepAlive: true, &generator)
        case 88..<92: try compare(keepAlive: false, &generator)
        case 92..<94: try compact(&generator)
        case 94..<96: try endWatch()
        default: try refuse(&generator)
        }
        follow()
    }

    private func pick<Element>(_ all: [Element], _ generator: inout SeededGenerator) -> Element {
        all[Int(generator.next() % UInt64(all.count))]
    }

    /// Lets the model answer, too. Leases in requests are the model's.
    @discardableResult
    private mutating func compare(_ request: CoordinationRequest) throws -> CoordinationReply {
        let expected = model.handle(request, nowNanoseconds: 0)
        let reply = inModel(try driver.ask(inEtcd(request)))
        #expect(reply == expected, "\(request)")
        return reply
    }

    private mutating func transact(_ generator: inout SeededGenerator) throws {
        var transaction = CoordinationTransaction(operations: [])
        for _ in 0..<generator.next() % 3 {
            let key = pick(Self.keys, &generator)
            var revision: UInt64 = 0
            if case .pairs(let pairs, _) = model.handle(.read(prefix: key), nowNanoseconds: 0),
                let pair = pairs.first, pair.key.utf8.elementsEqual(key.utf8)
            {
                revision = pair.modRevision
            }
            // Often right.
            if generator.next() % 5 == 0 { revision = generator.next() % (model.revision + 3) }
            if generator.next() % 40 == 0 { revision = .max - generator.next() % 2 }
            transaction.conditions.append(.init(key: key, modRevision: revision))
        }
        for _ in 0..<generator.next() % 5 {
            let key = pick(Self.keys, &generator)
            if generator.next() % 3 == 0 {
                transaction.operations.append(.delete(key: key))
                continue
            }
            let value = (0..<generator.next() % 40).map { _ in
                UInt8(truncatingIfNeeded: generator.next())
            }
            var lease = generator.next() % 3 == 0 ? leases.last?.model : nil
            // Never granted.
            if generator.next() % 20 == 0 { lease = pick([0, 1 << 40, .max], &generator) }
            transaction.operations.append(.put(key: key, value: value, lease: lease))
        }
        try compare(.transaction(transaction))
    }

    private mutating func grant(seconds: Int) throws {
        let request = CoordinationRequest.grantLease(seconds: seconds)
        guard case .lease(let known) = model.handle(request, nowNanoseconds: 0),
            case .lease(let etcd) = try driver.ask(request)
        else { throw TestTrouble("no lease of \(seconds) s") }
        leases.append((known, etcd))
    }

    private mutating func compare(keepAlive: Bool, _ generator: inout SeededGenerator) throws {
        let known = leases.map(\.model) + [0, 1 << 41, .max]
        let lease = pick(known, &generator)
        try compare(keepAlive ? .keepAlive(lease: lease) : .revoke(lease: lease))
    }

    private mutating func compact(_ generator: inout SeededGenerator) throws {
        guard model.revision > 3 else { return }
        let revision = 2 + generator.next() % (model.revision - 2)
        guard revision >= model.oldestRevision else { return }
        // A watch that has not told what is there yet would rightly be lost.
        for id in watches.keys.sorted() { try requireEqual(id) }
        let done = try server.etcdctl("compaction", "\(revision)").code
        #expect(done == 0)
        // Of the revision itself etcd drops deletions: see WatchAssembly.
        model.compact(before: revision + 1)
    }

    /// What no store takes.
    private mutating func refuse(_ generator: inout SeededGenerator) throws {
        let put = CoordinationTransaction.Operation.put(key: "a", value: [], lease: nil)
        let key = "a/" + String(repeating: "x", count: Int(generator.next() % 3))
        try compare(
            pick(
                [
                    .grantLease(seconds: 0), .grantLease(seconds: .max),
                    .transaction(CoordinationTransaction(operations: [put, put])),
                    .transaction(
                        CoordinationTransaction(
                            conditions: Array(
                                repeating: .init(key: key, modRevision: 0), count: 129),
                            operations: [])),
                ], &generator))
    }

    // MARK: Watches

    private mutating func watch(_ generator: inout SeededGenerator) throws {
        let prefix = pick(Self.prefixes, &generator)
        let from = generator.next() % (model.revision + 4)
        let request = CoordinationRequest.watch(prefix: prefix, from: from)
        let expected = model.handle(request, nowNanoseconds: 0)
        let id = driver.submit(request)
        let reply = try driver.answer(id)
        #expect(reply == expected, "watch from \(from)")
        if reply == .watching { watches[id] = WatchBook(prefix: prefix, next: max(from, 1)) }
    }

    private mutating func endWatch() throws {
        guard watches.count > 12, let id = watches.keys.min() else { return }
        try requireEqual(id)
        driver.client.endWatch(id)
        watches[id] = nil
    }

    private mutating func follow() {
        for (id, book) in watches where book.next <= model.revision {
            let new = model.changes(prefix: book.prefix, from: book.next) ?? []
            watches[id]?.expected += new
            watches[id]?.next = model.revision + 1
        }
    }

    mutating func finish() throws {
        for id in watches.keys.sorted() { try requireEqual(id) }
        let statistics = driver.client.statistics
        #expect(statistics.malformed == 0 && statistics.broken == 0)
        #expect(!watches.isEmpty)
    }

    /// A watch has told what it should; or it is lost, as etcd looks only ten times a second for
    /// those that begin in the past, and it was compacted in between.
    private mutating func requireEqual(_ id: UInt64) throws {
        let expected = watches[id]?.expected ?? []
        try driver.wait("watch \(id) has told \(expected.count) changes") {
            driver.changes[id, default: []].count >= expected.count
                || driver.lost.contains(id)
        }
        let told = driver.changes[id, default: []].map(inModel)
        if driver.lost.contains(id) {
            #expect(told.isEmpty && model.oldestRevision > 1, "watch \(id)")
            watches[id] = nil
        } else {
            #expect(told == expected, "watch \(id)")
        }
    }

    // MARK: Leases

    private func etcdLease(_ lease: UInt64) -> UInt64 {
        leases.first { $0.model == lease }?.etcd ?? lease
    }

    private func modelLease(_ lease: UInt64) -> UInt64 {
        leases.first { $0.etcd == lease }?.model ?? lease
    }

    private func inEtcd(_ request: CoordinationRequest) -> CoordinationRequest {
        switch request {
        case .transaction(var transaction):
            transaction.operations = transaction.operations.map { operation in
                guard case .put(let key, let value, let lease?) = operation else {
                    return operation
                }
                return .put(key: key, value: value, lease: etcdLease(lease))
            }
            return .transaction(transaction)
        case .keepAlive(let lease): return .keepAlive(lease: etcdLease(lease))
        case .revoke(let lease): return .revoke(lease: etcdLease(lease))
        default: return request
        }
    }

    private func inModel(_ reply: CoordinationReply) -> CoordinationReply {
        switch reply {
        case .pairs(let pairs, let revision): .pairs(pairs.map(inModel), revision: revision)
        case .lease(let lease): .lease(modelLease(lease))
        default: reply
        }
    }

    private func inModel(_ pair: CoordinationPair) -> CoordinationPair {
        var pair = pair
        pair.lease = pair.lease.map(modelLease)
        return pair
    }

    private func inModel(_ change: CoordinationChange) -> CoordinationChange {
        guard case .put(let pair) = change.kind else { return change }
        return CoordinationChange(revision: change.revision, kind: .put(inModel(pair)))
    }
}
