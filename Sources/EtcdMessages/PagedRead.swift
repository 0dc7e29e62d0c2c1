// A read of any size, in pages of one revision: no answer gets larger than what one may be.

public import Cluster

/// How far a read has come.
public struct PagedRead: Sendable {
    /// What a page should have, in octets.
    private static let pageOctets = 1 << 20
    private static let limits = 1...4096
    /// All pages together; a node could not keep more.
    private static let octetsMaximum = 4 << 30
    /// After so many compactions in the middle of it something else is wrong.
    private static let restartsMaximum = 8

    private let keys: KeySpace
    private let range: KeyRange
    private var limit = 16
    private var revision: UInt64?
    private var lastKey: [UInt8] = []
    private var pairs: [CoordinationPair] = []
    private var octets = 0
    private var restarts = 0
    private var isComplete = false
    /// Keys that no node can have written, as they are not UTF-8.
    public private(set) var foreignKeys = 0

    /// A read of all keys with `prefix`; before these stands `keyPrefix` in etcd.
    public init(keyPrefix: String, prefix: String) {
        keys = KeySpace(prefix: keyPrefix)
        range = keys.range(of: prefix)
    }

    /// What is asked next.
    package var question: EtcdQuestion {
        var rest = range
        // The smallest key above the last one.
        if !lastKey.isEmpty { rest.first = lastKey + [0] }
        return .read(rest, limit: limit, at: revision)
    }

    /// All pairs, when they are there.
    public var reply: CoordinationReply? {
        isComplete ? .pairs(pairs, revision: revision ?? 0) : nil
    }

    /// Takes a page. After an error the read is over.
    public mutating func take(_ answer: EtcdAnswer) throws(MalformedAnswer) {
        guard answer.revision > 0, answer.pairs.count <= limit else {
            throw MalformedAnswer("a page of another read")
        }
        let revision = revision ?? answer.revision
        self.revision = revision
        var pageOctets = 0
        for pair in answer.pairs {
            guard range.contains(pair.key), lastKey.lexicographicallyPrecedes(pair.key),
                pair.modRevision <= revision
            else { throw MalformedAnswer("a pair that was not asked for") }
            lastKey = pair.key
            pageOctets += pair.key.count + pair.value.count + 32
            if let known = pair.coordinationPair(keys) {
                pairs.append(known)
            } else {
                foreignKeys += 1
            }
        }
        octets += pageOctets
        guard octets <= Self.octetsMaximum, !answer.more || !answer.pairs.isEmpty else {
            throw MalformedAnswer("pages without end")
        }
        isComplete = !answer.more
        guard !answer.pairs.isEmpty else { return }
        let fitting = Self.pageOctets * answer.pairs.count / pageOctets
        let wanted = min(fitting, limit * 4)
        limit = min(max(wanted, Self.limits.lowerBound), Self.limits.upperBound)
    }

    /// Begins again, as the revision is gone. False if that was tried often enough.
    package mutating func restart() -> Bool {
        restarts += 1
        guard restarts <= Self.restartsMaximum else { return false }
        revision = nil
        lastKey = []
        pairs = []
        octets = 0
        return true
    }

    /// Asks for less at a time. False if that is not possible.
    package mutating func shrink() -> Bool {
        guard limit > Self.limits.lowerBound else { return false }
        limit = max(limit / 8, Self.limits.lowerBound)
        return true
    }
}
