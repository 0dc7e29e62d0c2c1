// What the protocol demands of any store, with etcdctl as the other reader and writer.

import Cluster
import EtcdStore
import Foundation
import Testing

/// One etcd at a time: they share two cores and a disk.
@Suite(.serialized, .enabled(if: Etcd.isInstalled, Etcd.absence))
struct LiveEtcd {
    @Suite struct Rules {
        @Test func etcdctlSeesWhatIsWrittenAndIsSeen() throws {
            let server = try EtcdServer.alone()
            let driver = try StoreDriver([server], prefix: "lab/", patient: true)
            let revision = try driver.write("spindle/a", "one")
            #expect(try server.keys("lab/spindle/a") == ["lab/spindle/a": revision])
            #expect(
                try server.etcdctl("get", "--print-value-only", "lab/spindle/a").output
                    == "one\n")
            let watch = driver.submit(.watch(prefix: "spindle/", from: 0))
            #expect(try driver.answer(watch) == .watching)
            try server.etcdctl("put", "lab/spindle/b", "two")
            try server.etcdctl("put", "lab/spindl", "not below the prefix")
            try server.etcdctl("del", "lab/spindle/a")
            try driver.wait("three changes") { driver.changes[watch, default: []].count >= 3 }
            let told = driver.changes[watch, default: []]
            #expect(told.map(\.key) == ["spindle/a", "spindle/b", "spindle/a"])
            #expect(told.map(\.revision) == [revision, revision + 1, revision + 3])
            guard case .pairs(let pairs, revision + 3) = try driver.ask(.read(prefix: "spindle/"))
            else { throw TestTrouble("not the revision of etcdctl") }
            #expect(pairs.map(\.key) == ["spindle/b"])
            #expect(pairs.first?.value == Array("two".utf8))
        }

        /// Two clients raise one number. If a condition were not tested where the change is made,
        /// some increments would be lost.
        @Test func conditionsHoldAgainstOthers() throws {
            let server = try EtcdServer.alone()
            let drivers = try (0..<2).map { _ in try StoreDriver([server], patient: true) }
            var wins = 0
            var value = 0
            while wins < 60 {
                let reads = try drivers.map { try $0.ask(.read(prefix: "n")) }
                let ids = try zip(drivers, reads).map { driver, read in
                    guard case .pairs(let pairs, _) = read else { throw TestTrouble("\(read)") }
                    let text = pairs.first.map { String(decoding: $0.value, as: UTF8.self) }
                    value = text.flatMap { Int($0) } ?? 0
                    return driver.submit(
                        .transaction(
                            CoordinationTransaction(
                                conditions: [
                                    .init(key: "n", modRevision: pairs.first?.modRevision ?? 0)
                                ],
                                operations: [
                                    .put(key: "n", value: Array("\(value + 1)".utf8), lease: nil)
                                ])))
                }
                var winners = 0
                for (driver, id) in zip(drivers, ids) {
                    switch try driver.answer(id) {
                    case .committed: winners += 1
                    case .conflict: break
                    case let other: throw TestTrouble("\(other)")
                    }
                }
                #expect(winners == 1)
                wins += winners
            }
            #expect(try server.etcdctl("get", "--print-value-only", "n").output == "60\n")
        }

        @Test func leasesEndUnlessKeptAlive() throws {
            let server = try EtcdServer.alone()
            let driver = try StoreDriver([server], patient: true)
            guard case .lease(let lease) = try driver.ask(.grantLease(seconds: 1)),
                case .lease(let kept) = try driver.ask(.grantLease(seconds: 2))
            else { throw TestTrouble("no leases") }
            let watch = driver.submit(.watch(prefix: "", from: 1))
            #expect(try driver.answer(watch) == .watching)
            for (key, lease) in [("short", lease), ("kept", kept)] {
                guard case .committed = try driver.ask(.put(key, lease: lease)) else {
                    throw TestTrouble("\(key) can't be written")
                }
            }
            let end = ContinuousClock.now + .seconds(5)
            while ContinuousClock.now < end {
                #expect(try driver.ask(.keepAlive(lease: kept)) == .lease(kept))
                driver.take(milliseconds: 200)
            }
            #expect(driver.changes[watch, default: []].map(\.key) == ["short", "kept", "short"])
            #expect(driver.changes[watch]?.last?.kind == .delete(key: "short"))
            #expect(try driver.ask(.keepAlive(lease: lease)) == .failed(.leaseUnknown))
            #expect(try driver.ask(.put("x", lease: lease)) == .failed(.leaseUnknown))
            #expect(try server.keys("").keys.sorted() == ["kept"])
            guard case .committed(let revision) = try driver.ask(.revoke(lease: kept)) else {
                throw TestTrouble("no revocation")
            }
            try driver.wait("the end of the lease is told") {
                driver.changes[watch]?.last
                    == CoordinationChange(revision: revision, kind: .delete(key: "kept"))
            }
        }

        /// More than one page, more than one answer, and values as large as they may be.
        @Test func largeReadsAndRevisionsComeWhole() throws {
            let server = try EtcdServer.alone()
            let driver = try StoreDriver([server], patient: true)
            let watch = driver.submit(.watch(prefix: "big/", from: 1))
            var expected: [String: Int] = [:]
            var ids: [UInt64] = []
            for group in 0..<24 {
                let bytes = group < 3 ? (1 << 20) / 128 : group * 7
                let operations = (0..<128).map { index in
                    let key = "big/\(group)/\(index)"
                    expected[key] = bytes
                    return CoordinationTransaction.Operation.put(
                        key: key, value: [UInt8](repeating: UInt8(index), count: bytes),
                        lease: nil)
                }
                ids.append(
                    driver.submit(.transaction(CoordinationTransaction(operations: operations))))
            }
            for index in 0..<3 {
                let value = [UInt8](repeating: 0xFF, count: 1 << 20)
                let key = "big/one/\(index)"
                expected[key] = value.count
                ids.append(
                    driver.submit(
                        .transaction(
                            CoordinationTransaction(operations: [
                                .put(key: key, value: value, lease: nil)
                            ]))))
            }
            for id in ids {
                guard case .committed = try driver.answer(id) else {
                    throw TestTrouble("a transaction of the size allowed is refused")
                }
            }
            guard case .pairs(let pairs, _) = try driver.ask(.read(prefix: "big/")) else {
                throw TestTrouble("no pairs")
            }
            #expect(pairs.map(\.key).sorted() == pairs.map(\.key))
            #expect(
                Dictionary(pairs.map { ($0.key, $0.value.count) }) { $1 } == expected)
            // A second watch has everything to read at once: etcd splits it.
            let late = driver.submit(.watch(prefix: "big/", from: 1))
            for id in [watch, late] {
                try driver.wait("all changes", seconds: 40) {
                    driver.changes[id, default: []].count >= expected.count
                }
                #expect(driver.changes[id] == driver.changes[watch])
            }
            try requireWholeRevisions(driver.changes[late, default: []], perRevision: [1, 128])
        }

        private func requireWholeRevisions(
            _ changes: [CoordinationChange], perRevision: Set<Int>
        ) throws {
            let revisions = changes.map(\.revision)
            #expect(revisions == revisions.sorted())
            let counts = Dictionary(revisions.map { ($0, 1) }, uniquingKeysWith: +)
            #expect(Set(counts.values) == perRevision)
        }

        @Test func requestsDoNotWaitForReads() throws {
            let server = try EtcdServer.alone()
            let driver = try StoreDriver([server], patient: true)
            for index in 0..<8 {
                let value = [UInt8](repeating: 1, count: 1 << 20)
                _ = try driver.ask(
                    .transaction(
                        CoordinationTransaction(operations: [
                            .put(key: "big/\(index)", value: value, lease: nil)
                        ])))
            }
            let reads = (0..<3).map { _ in driver.submit(.read(prefix: "big/")) }
            let put = driver.submit(.put("small"))
            guard case .committed = try driver.answer(put) else { throw TestTrouble("no answer") }
            #expect(reads.contains { driver.replies[$0] == nil }, "the reads were too fast")
            for id in reads {
                guard case .pairs(let pairs, _) = try driver.answer(id) else {
                    throw TestTrouble("no pairs")
                }
                #expect(pairs.count == 8)
            }
        }
    }
}
