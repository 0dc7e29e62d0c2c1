// What must hold when etcd dies, stops, forgets or can't be reached. What would fool these tests is
// a fault that never comes while something is under way: so each demands that some were hit.

import Cluster
import EtcdMessages
import EtcdStore
import Foundation
import Glibc
import TestSupport
import Testing

/// What was asked of etcd, and what it said.
struct WriteBook {
    private(set) var committed: [String: UInt64] = [:]
    private(set) var unavailable: Set<String> = []
    private(set) var unknown: Set<String> = []

    mutating func note(_ key: String, _ reply: CoordinationReply) {
        switch reply {
        case .committed(let revision): committed[key] = revision
        case .failed(.unavailable): unavailable.insert(key)
        case .failed(.outcomeUnknown): unknown.insert(key)
        default: Issue.record("\(key): \(reply)")
        }
    }

    /// What was acknowledged is there; what was surely not done is not; and the watch told
    /// everything once, in order.
    func requireHeld(
        by server: EtcdServer, watch told: [CoordinationChange], prefix: String = "w/"
    ) throws {
        let stored = try server.keys(prefix)
        for (key, revision) in committed {
            #expect(stored[key] == revision, "\(key) was acknowledged")
        }
        for key in unavailable {
            #expect(stored[key] == nil, "\(key) was surely not done")
        }
        for (key, revision) in stored where committed[key] == nil {
            #expect(unknown.contains(key), "nobody wrote \(key) at \(revision)")
        }
        let expected = stored.sorted { $0.value < $1.value }
        #expect(told.map(\.key) == expected.map(\.key))
        #expect(told.map(\.revision) == expected.map(\.value))
    }
}

/// Writes keys of their own, several at a time.
final class Writer {
    let driver: StoreDriver
    private(set) var book = WriteBook()
    private var underWay: [UInt64: String] = [:]
    private var count = 0

    init(_ driver: StoreDriver) { self.driver = driver }

    /// Goes on until so many more were acknowledged.
    func write(_ wanted: Int, atOnce: Int = 6, seconds: Double = 60) throws {
        let goal = book.committed.count + wanted
        try driver.wait("\(goal) writes are acknowledged", seconds: seconds) {
            settle()
            while underWay.count < atOnce, book.committed.count < goal {
                count += 1
                let key = "w/\(count)"
                underWay[driver.submit(.put(key))] = key
            }
            return book.committed.count >= goal
        }
    }

    /// Waits for what is under way.
    func finish() throws {
        try driver.wait("all writes are answered") {
            settle()
            return underWay.isEmpty
        }
    }

    private func settle() {
        for (id, key) in underWay {
            guard let reply = driver.replies[id] else { continue }
            book.note(key, reply)
            underWay[id] = nil
        }
    }
}

extension LiveEtcd {
    @Suite struct Faults {
        @Test func killedAndRestartedItLosesNothing() throws {
            let server = try EtcdServer.alone()
            let driver = try StoreDriver([server])
            let watch = driver.submit(.watch(prefix: "w/", from: 1))
            #expect(try driver.answer(watch) == .watching)
            let writer = Writer(driver)
            for _ in 0..<4 {
                try writer.write(40)
                // Some are under way.
                let late = (0..<6).map { driver.submit(.put("late/\($0)")) }
                server.kill()
                try driver.wait("all are answered") {
                    late.allSatisfy { driver.replies[$0] != nil }
                }
                #expect(driver.client.trouble != nil)
                try server.start()
            }
            try writer.write(40)
            try writer.finish()
            try driver.wait("the watch is there") {
                driver.changes[watch, default: []].count
                    >= writer.book.committed.count
            }
            _ = try driver.write("w/end")
            let end = try server.keys("w/").count
            try driver.wait("the watch has told all") {
                driver.changes[watch, default: []].count >= end
            }
            var told = driver.changes[watch, default: []]
            #expect(told.popLast()?.key == "w/end")
            try server.etcdctl("del", "w/end")
            try writer.book.requireHeld(by: server, watch: told)
            let statistics = driver.client.statistics
            #expect(statistics.broken > 0 && statistics.resumptions >= 4)
            #expect(driver.lost.isEmpty && statistics.malformed == 0)
        }

        /// A process that is stopped keeps its connections, and the kernel takes new ones for it.
        @Test func stoppedItIsUnavailableInTimeAndThenBack() throws {
            let server = try EtcdServer.alone()
            let driver = try StoreDriver([server])
            guard case .lease(let lease) = try driver.ask(.grantLease(seconds: 60)) else {
                throw TestTrouble("no lease")
            }
            let watch = driver.submit(.watch(prefix: "", from: 1))
            #expect(try driver.answer(watch) == .watching)
            _ = try driver.write("before")
            server.stop()
            defer { server.resume() }
            let start = ContinuousClock.now
            let requests: [CoordinationRequest] = [
                .put("during"), .read(prefix: ""), .keepAlive(lease: lease),
                .grantLease(seconds: 60), .watch(prefix: "", from: 1),
            ]
            for id in requests.map(driver.submit) {
                let reply = try driver.answer(id)
                #expect(
                    [.failed(.unavailable), .failed(.outcomeUnknown)].contains(reply),
                    "\(reply)")
            }
            #expect(ContinuousClock.now - start < .seconds(3))
            // By now nobody is chosen: nothing is sent, so nothing is uncertain.
            #expect(try driver.ask(.put("never")) == .failed(.unavailable))
            #expect(driver.client.trouble == .silent(server.endpoint))
            server.resume()
            let back = try driver.write("after")
            try driver.wait("the watch goes on") {
                driver.changes[watch, default: []].contains { $0.revision == back }
            }
            #expect(try server.keys("never").isEmpty)
            #expect(driver.client.trouble == nil)
            #expect(try driver.ask(.keepAlive(lease: lease)) == .lease(lease))
        }

        @Test func compactedWhileAwayTheWatchIsLost() throws {
            let server = try EtcdServer.alone()
            let between = try Interposer(to: server.endpoint)
            defer { between.end() }
            let driver = try StoreDriver(EtcdConfiguration(endpoints: [between.endpoint]))
            _ = try driver.write("a")
            let watch = driver.submit(.watch(prefix: "", from: 1))
            #expect(try driver.answer(watch) == .watching)
            try driver.wait("the first change") { driver.changes[watch]?.count == 1 }
            between.mode = .refuse
            try driver.wait("the client notices") { driver.client.trouble != nil }
            // The deletion is in the revision itself that etcd compacts at, and drops it.
            try server.etcdctl("put", "b", "1")
            try server.etcdctl("del", "a")
            let revision = try server.status().revision
            try server.etcdctl("compaction", "\(revision)")
            #expect(driver.lost.isEmpty)
            between.mode = .pass
            try driver.wait("the watch is lost") { driver.lost == [watch] }
            #expect(driver.changes[watch]?.count == 1)
            let reply = try driver.ask(.watch(prefix: "", from: 3))
            #expect(reply == .failed(.compacted(oldest: revision + 1)))
            #expect(try driver.ask(.watch(prefix: "", from: revision + 1)) == .watching)
        }

        /// The connections stay, new ones work: only the watch does not know what it misses.
        @Test func aWatchThatFallsSilentIsBegunAnew() throws {
            let server = try EtcdServer.alone()
            let between = try Interposer(to: server.endpoint)
            defer { between.end() }
            let driver = try StoreDriver(EtcdConfiguration(endpoints: [between.endpoint]))
            let watch = driver.submit(.watch(prefix: "", from: 1))
            #expect(try driver.answer(watch) == .watching)
            _ = try driver.write("a")
            try driver.wait("the first change") { driver.changes[watch]?.count == 1 }
            between.holdAll()
            try server.etcdctl("put", "b", "1")
            try server.etcdctl("del", "a")
            let start = ContinuousClock.now
            try driver.wait("the watch tells") { driver.changes[watch]?.count == 3 }
            #expect(ContinuousClock.now - start < .seconds(8))
            #expect(driver.changes[watch]?.map(\.key) == ["a", "b", "a"])
            #expect(driver.client.statistics.stalls > 0)
        }

        @Test(arguments: [Interposer.Mode.cut(after: 900), .cut(after: 5000)])
        func cutConnectionsLoseNothing(mode: Interposer.Mode) throws {
            let server = try EtcdServer.alone()
            let between = try Interposer(to: server.endpoint)
            defer { between.end() }
            let driver = try StoreDriver(EtcdConfiguration(endpoints: [between.endpoint]))
            let watch = driver.submit(.watch(prefix: "w/", from: 1))
            #expect(try driver.answer(watch) == .watching)
            let writer = Writer(driver)
            between.mode = mode
            try writer.write(120)
            between.cutAll()
            try writer.write(30)
            try writer.finish()
            between.mode = .pass
            let end = try server.keys("w/").count
            try driver.wait("the watch has told all") {
                driver.changes[watch, default: []].count >= end
            }
            try writer.book.requireHeld(by: server, watch: driver.changes[watch, default: []])
            #expect(driver.client.statistics.resumptions > 0 && driver.lost.isEmpty)
        }

        /// An etcd that begins with nothing has the same name for its cluster as before. Who goes
        /// on with it would give out numbers and generations for the second time.
        @Test func anEmptiedStoreIsRefused() throws {
            let server = try EtcdServer.alone()
            let driver = try StoreDriver([server])
            let watch = driver.submit(.watch(prefix: "", from: 1))
            #expect(try driver.answer(watch) == .watching)
            let revision = try driver.write("a")
            server.kill()
            try server.forget()
            try server.start()
            try server.waitUntilHealthy()
            try driver.wait("the client notices") {
                driver.client.trouble
                    == .wentBack(server.endpoint, revision: 1, known: revision)
            }
            #expect(try driver.ask(.put("a")) == .failed(.unavailable))
            #expect(try driver.ask(.read(prefix: "")) == .failed(.unavailable))
            #expect(try server.keys("").isEmpty)
        }

        /// Without TLS anybody may change anything: nothing is promised but that it ends.
        @Test func garbledAnswersAreSurvived() throws {
            let server = try EtcdServer.alone()
            let between = try Interposer(to: server.endpoint)
            defer { between.end() }
            let driver = try StoreDriver(EtcdConfiguration(endpoints: [between.endpoint]))
            let watch = driver.submit(.watch(prefix: "", from: 1))
            _ = try driver.answer(watch)
            between.mode = .garble
            let ids = (0..<300).map { number in
                driver.submit(number % 3 == 0 ? .read(prefix: "") : .put("g/\(number % 17)"))
            }
            try driver.wait("all are answered") { ids.allSatisfy { driver.replies[$0] != nil } }
            let statistics = driver.client.statistics
            #expect(statistics.malformed + statistics.broken > 0)
            between.mode = .pass
            // It may have been told of another cluster, or of revisions that are not: a client
            // that begins anew knows what is so.
            let fresh = try StoreDriver(EtcdConfiguration(endpoints: [between.endpoint]))
            _ = try fresh.write("after")
        }
    }
}
