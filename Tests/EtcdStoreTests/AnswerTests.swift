// Answers as octets: real ones of etcd 3.4.23, and what nobody should send.

import Cluster
import Foundation
import TestSupport
import Testing

@testable import EtcdMessages
@testable import EtcdStore

@Suite struct Answers {
    private static let header = """
        "header":{"cluster_id":"14841639068965178418","member_id":"10276657743932975437",\
        "revision":"2","raft_term":"2"}
        """

    private static let recorded: [(EtcdAnswer.Form, String)] = [
        (
            .transaction,
            "{\(header),\"succeeded\":true,\"responses\":[{\"response_put\":"
                + "{\"header\":{\"revision\":\"2\"}}}]}"
        ),
        (
            .range,
            "{\(header),\"kvs\":[{\"key\":\"YS8x\",\"create_revision\":\"2\","
                + "\"mod_revision\":\"2\",\"version\":\"1\",\"value\":\"dg==\"}],"
                + "\"more\":true,\"count\":\"2\"}"
        ),
        (.lease, "{\(header),\"ID\":\"7587899113139801097\",\"TTL\":\"5\"}"),
        (.keptAlive, "{\"result\":{\(header),\"ID\":\"123\"}}\n"),
        (.revoked, "{\(header)}"),
        (.watch, "{\"result\":{\(header),\"created\":true}}"),
        (
            .watch,
            "{\"result\":{\(header),\"events\":[{\"kv\":{\"key\":\"YS8x\",\"create_revision\":"
                + "\"2\",\"mod_revision\":\"2\",\"version\":\"1\",\"value\":\"dg==\"}},"
                + "{\"type\":\"DELETE\",\"kv\":{\"key\":\"YS8y\",\"mod_revision\":\"3\"}}]}}"
        ),
        (.watch, "{\"result\":{\(header),\"canceled\":true,\"compact_revision\":\"3\"}}"),
        (
            .watch,
            "{\"error\":{\"grpc_code\":14,\"http_code\":503,\"message\":"
                + "\"etcdserver: no leader\",\"http_status\":\"Service Unavailable\"}}"
        ),
    ]

    private func read(_ index: Int) throws -> EtcdAnswer {
        let (form, text) = Self.recorded[index]
        return try EtcdAnswer.read(Array(text.utf8), as: form)
    }

    @Test func realAnswersAreRead() throws {
        let transaction = try read(0)
        #expect(transaction.succeeded && transaction.revision == 2)
        #expect(transaction.cluster == 14_841_639_068_965_178_418)
        let range = try read(1)
        #expect(range.more && range.pairs.count == 1)
        #expect(range.pairs.first?.key == Array("a/1".utf8))
        #expect(range.pairs.first?.value == Array("v".utf8))
        let lease = try read(2)
        #expect(lease.lease == 7_587_899_113_139_801_097 && lease.seconds == 5)
        #expect(try read(3).seconds == 0)
        #expect(try read(5).created)
        #expect(try read(6).events.map(\.isDelete) == [false, true])
        #expect(try read(7).compactRevision == 3)
        #expect(try read(8).refusal?.isNoLeader == true)
    }

    /// Later versions write what they have as they like (protojson): blanks, other orders, more
    /// fields.
    @Test func otherWritingsAreRead() throws {
        let text = """
             { "more" : true , "count":"2", "new":{"a":[1,-2.5e3,null,{"b":"\\u00e9"}],"c":[]},
              "kvs":[ {"value":"", "mod_revision": 7 ,"key":"\\u0059Q\\/v","lease":"-1"} ],
              "header" : {"revision":"9"} }
            """
        let answer = try EtcdAnswer.read(Array(text.utf8), as: .range)
        #expect(answer.more && answer.revision == 9)
        #expect(answer.pairs.first?.key == [0x61, 0x0F, 0xEF])
        #expect(answer.pairs.first?.lease == -1)
        let refusal = try EtcdRefusal.read(
            Array(
                #"{"code":5,"message":"etcdserver: requested lease not found","details":[]}"#.utf8)
        )
        #expect(refusal.isUnknownLease && refusal.isSurelyNotDone)
    }

    @Test func piecesOfAnswersAreRefused() throws {
        for (form, text) in Self.recorded {
            let octets = Array(text.utf8)
            let whole = text.hasSuffix("\n") ? octets.count - 1 : octets.count
            for count in 0..<whole {
                #expect(throws: MalformedAnswer.self) {
                    try EtcdAnswer.read(Array(octets[..<count]), as: form)
                }
            }
            #expect(throws: MalformedAnswer.self) {
                try EtcdAnswer.read(octets + Array("}".utf8), as: form)
            }
        }
    }

    @Test func changedAnswersDoNotTrap() {
        var generator = SeededGenerator()
        var refused = 0
        for _ in 0..<20_000 {
            let (form, text) = Self.recorded[Int(generator.next() % UInt64(Self.recorded.count))]
            var octets = Array(text.utf8)
            for _ in 0...generator.next() % 3 {
                let place = Int(generator.next() % UInt64(octets.count))
                switch generator.next() % 3 {
                case 0: octets[place] = UInt8(truncatingIfNeeded: generator.next())
                case 1: octets.remove(at: place)
                default: octets.insert(contentsOf: octets[..<place], at: place)
                }
            }
            do throws(MalformedAnswer) {
                _ = try EtcdAnswer.read(octets, as: form)
            } catch {
                refused += 1
            }
        }
        #expect(refused > 10_000)
    }

    @Test(arguments: [
        "", "[]", "{", "{\"a\"}", "{\"a\":}", "{\"a\":1,}", "{,\"a\":1}", "{\"a\":1 \"b\":2}",
        "{\"header\":{\"revision\":\"-1\"}}", "{\"header\":{\"revision\":\"+1\"}}",
        "{\"header\":{\"revision\":\"9223372036854775808\"}}", "{\"header\":[]}",
        "{\"more\":1}", "{\"more\":tru}", "{\"kvs\":[{\"key\":\"YQ==\"}]}",
        "{\"kvs\":[{\"key\":\"Y\",\"mod_revision\":\"1\"}]}",
        "{\"kvs\":[{\"key\":\"YR==\",\"mod_revision\":\"1\"}]}",
        "{\"kvs\":[{\"key\":\"Y=Q=\",\"mod_revision\":\"1\"}]}",
        "{\"kvs\":[{\"mod_revision\":\"1\"}]}",
        "{\"kvs\":[{\"key\":\"YQ==\",\"mod_revision\":\"1\",\"create_revision\":\"2\"}]}",
        "{\"a\":\"\\ud800\", \"b\":\"\u{1}\"}",
    ])
    func whatIsNoAnswerIsRefused(text: String) {
        #expect(throws: MalformedAnswer.self) {
            try EtcdAnswer.read(Array(text.utf8), as: .range)
        }
        let deep = String(repeating: "{\"a\":", count: 100_000)
        #expect(throws: MalformedAnswer.self) {
            try EtcdAnswer.read(Array(deep.utf8), as: .range)
        }
    }

    @Test func base64IsWhatFoundationHas() {
        var generator = SeededGenerator()
        for count in 0..<200 {
            let octets = (0..<count).map { _ in UInt8(truncatingIfNeeded: generator.next()) }
            var text: [UInt8] = []
            Base64.append(octets, to: &text)
            #expect(String(decoding: text, as: UTF8.self) == Data(octets).base64EncodedString())
            #expect(Base64.octets(of: text[...]) == octets)
        }
    }

    @Test func endpointsAreRead() throws {
        for (text, host, port) in [
            ("a.example:1", "a.example", 1), ("10.0.0.1", "10.0.0.1", 2379),
            ("[::1]:65535", "::1", 65535), ("[fe80::1%eth0]", "fe80::1%eth0", 2379),
        ] {
            let endpoint = try EtcdEndpoint(parsing: text)
            #expect(endpoint == EtcdEndpoint(host: host, port: UInt16(port)))
            #expect(try EtcdEndpoint(parsing: "\(endpoint)") == endpoint)
        }
        for text in [
            "", ":1", "a:", "a:0", "a:65536", "a:+1", "a b", "::1", "[::1", "[::1]1", "[]:1",
            "http://a:1", "a:1:2", "a\n",
        ] {
            #expect(throws: EtcdError.endpoint(text)) { try EtcdEndpoint(parsing: text) }
        }
    }
}

@Suite struct Assemblies {
    private func event(_ key: String, _ revision: UInt64, isDelete: Bool = false)
        -> EtcdAnswer.Event
    {
        var pair = EtcdAnswer.Pair()
        pair.key = Array(key.utf8)
        pair.modRevision = revision
        pair.createRevision = isDelete ? 0 : revision
        return EtcdAnswer.Event(isDelete: isDelete, pair: pair)
    }

    private func answer(_ events: [EtcdAnswer.Event], fragment: Bool = false) -> EtcdAnswer {
        var answer = EtcdAnswer()
        answer.events = events
        answer.fragment = fragment
        return answer
    }

    /// Whatever way the same events are cut into answers, and wherever the stream breaks: the same
    /// whole revisions come out.
    @Test func anyCutGivesTheSameRevisions() throws {
        var generator = SeededGenerator()
        for _ in 0..<300 {
            var events: [EtcdAnswer.Event] = []
            var revision: UInt64 = 5
            while events.count < 40 {
                revision += 1 + generator.next() % 3
                for index in 0...generator.next() % 5 {
                    events.append(event("k/\(index)", revision))
                }
            }
            var assembly = WatchAssembly(keyPrefix: "", prefix: "k/", from: 6)
            var told: [CoordinationChange] = []
            while assembly.next <= revision {
                // A stream from where it is wanted, which ends somewhere.
                assembly.restart()
                var rest = events.filter { $0.pair.modRevision >= assembly.startRevision }[...]
                while !rest.isEmpty, generator.next() % 8 > 0 {
                    let count = Int(1 + generator.next() % 7)
                    let piece = Array(rest.prefix(count))
                    rest = rest.dropFirst(count)
                    // Only at the end of a revision an answer may be over.
                    let isWhole = rest.first?.pair.modRevision != piece.last?.pair.modRevision
                    let isOver = isWhole && generator.next() % 2 == 0
                    let new = try assembly.take(answer(piece, fragment: !isOver))
                    if let first = new.first { #expect(first.revision > told.last?.revision ?? 0) }
                    told += new
                }
            }
            #expect(told.map(\.revision) == events.map(\.pair.modRevision))
            #expect(told.map(\.key) == events.map { String(decoding: $0.pair.key, as: UTF8.self) })
        }
    }

    @Test func whatNoWatchTellsIsRefused() throws {
        for events in [
            [event("k/1", 7), event("k/1", 6)], [event("other", 7)], [event("k/1", 3)],
        ] {
            var assembly = WatchAssembly(keyPrefix: "", prefix: "k/", from: 6)
            #expect(throws: MalformedAnswer.self) { try assembly.take(answer(events)) }
        }
        var assembly = WatchAssembly(keyPrefix: "lab/", prefix: "", from: 1)
        var foreign = event("lab/", 2)
        foreign.pair.key += [0xFF]
        let told = try assembly.take(answer([foreign, event("lab/a", 2, isDelete: true)]))
        #expect(told == [CoordinationChange(revision: 2, kind: .delete(key: "a"))])
        #expect(assembly.foreignKeys == 1)
    }

    @Test func rangesAreThoseOfEtcd() {
        let space = KeySpace(prefix: "")
        #expect(space.range(of: "a").end == Array("b".utf8))
        #expect(space.range(of: "").first == [0] && space.range(of: "").end == [0])
        #expect(KeySpace(prefix: "x/").range(of: "").end == Array("x0".utf8))
    }

    @Test func pagesThatDoNotFollowAreRefused() throws {
        func page(_ keys: [String], more: Bool) -> EtcdAnswer {
            var page = EtcdAnswer()
            page.pairs = keys.map { event($0, 3).pair }
            page.more = more
            page.revision = 4
            return page
        }
        var read = PagedRead(keyPrefix: "", prefix: "k/")
        try read.take(page(["k/1", "k/2"], more: true))
        #expect(read.reply == nil)
        for (keys, more) in [(["k/2"], true), (["l"], false), (["k/4", "k/3"], false), ([], true)] {
            var copy = read
            #expect(throws: MalformedAnswer.self) { try copy.take(page(keys, more: more)) }
        }
        try read.take(page(["k/3"], more: false))
        guard case .pairs(let pairs, 4) = read.reply else { throw TestTrouble("no pairs") }
        #expect(pairs.map(\.key) == ["k/1", "k/2", "k/3"])
    }
}
