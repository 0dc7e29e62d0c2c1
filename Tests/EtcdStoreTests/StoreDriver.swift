// Uses the client as the loop of a node does: it waits for the file, then takes what there is.

import Cluster
import EtcdMessages
import EtcdStore
import Glibc
import Testing

/// A client, with everything that it told.
final class StoreDriver {
    let client: EtcdClient
    private(set) var replies: [UInt64: CoordinationReply] = [:]
    private(set) var changes: [UInt64: [CoordinationChange]] = [:]
    private(set) var lost: Set<UInt64> = []
    private var lastID: UInt64 = 0

    init(_ configuration: EtcdConfiguration) throws {
        client = try EtcdClient(configuration)
    }

    /// A client of these servers. A `patient` one is for tests in which nothing is to fail, on
    /// machines that have much else to do.
    convenience init(
        _ servers: [EtcdServer], prefix: String = "", patient: Bool = false
    ) throws {
        var configuration = EtcdConfiguration(
            endpoints: servers.map(\.endpoint), keyPrefix: prefix)
        if patient {
            configuration.requestNanoseconds = 20_000_000_000
            configuration.probeNanoseconds = 5_000_000_000
        }
        try self.init(configuration)
    }

    /// Asks, without waiting.
    func submit(_ request: CoordinationRequest) -> UInt64 {
        lastID += 1
        client.submit(request, id: lastID)
        return lastID
    }

    /// Takes what comes, for a while at most.
    func take(milliseconds: Int32) {
        var ready = pollfd(fd: client.file, events: Int16(POLLIN), revents: 0)
        guard poll(&ready, 1, milliseconds) > 0 else { return }
        for event in client.takeEvents() {
            switch event {
            case .reply(let reply, let id):
                #expect(replies.updateValue(reply, forKey: id) == nil, "two answers to \(id)")
            case .changes(let new, let watch):
                #expect(!lost.contains(watch), "a lost watch goes on")
                changes[watch, default: []] += new
            case .watchLost(let watch):
                #expect(lost.insert(watch).inserted, "a watch was lost twice")
            }
        }
    }

    /// Takes what comes until it is so.
    func wait(_ what: String, seconds: Double = 20, _ condition: () -> Bool) throws {
        let end = ContinuousClock.now + .seconds(seconds)
        while !condition() {
            guard ContinuousClock.now < end else {
                let trouble = client.trouble.map { "\($0)" } ?? "none"
                throw TestTrouble(
                    "after \(seconds) s still not so: \(what); trouble: \(trouble), "
                        + "\(client.statistics)")
            }
            take(milliseconds: 20)
        }
    }

    /// The answer to a request that is under way.
    func answer(_ id: UInt64, seconds: Double = 20) throws -> CoordinationReply {
        try wait("request \(id) is answered", seconds: seconds) { replies[id] != nil }
        return replies[id] ?? .failed(.outcomeUnknown)
    }

    /// Asks and waits.
    func ask(_ request: CoordinationRequest) throws -> CoordinationReply {
        try answer(submit(request))
    }

    /// Writes a key, however often it takes until etcd is there again.
    func write(_ key: String, _ text: String = "value", seconds: Double = 20) throws -> UInt64 {
        let end = ContinuousClock.now + .seconds(seconds)
        while ContinuousClock.now < end {
            if case .committed(let revision) = try ask(.put(key, text)) { return revision }
        }
        throw TestTrouble("\(key) can't be written: \(client.trouble.map { "\($0)" } ?? "")")
    }
}

extension CoordinationRequest {
    /// Writes one key.
    static func put(_ key: String, _ text: String = "value", lease: UInt64? = nil) -> Self {
        .transaction(
            CoordinationTransaction(operations: [
                .put(key: key, value: Array(text.utf8), lease: lease)
            ]))
    }
}
