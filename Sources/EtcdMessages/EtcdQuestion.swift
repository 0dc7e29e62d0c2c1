// What the gateway of etcd is asked: a path, and JSON.

package import Cluster

/// One request of HTTP.
package struct EtcdQuestion {
    /// Where it goes.
    package let path: String
    /// The JSON.
    package let body: [UInt8]

    /// What the answer looks like.
    package let form: EtcdAnswer.Form

    private init(_ path: String, _ form: EtcdAnswer.Form, _ body: JSONText) {
        self.path = path
        self.form = form
        self.body = body.octets
    }

    /// Changes keys if conditions hold.
    package static func transaction(
        _ transaction: CoordinationTransaction, _ keys: KeySpace
    ) -> Self {
        var text = JSONText(capacity: 1024)
        text.begin("{\"compare\":[")
        for condition in transaction.conditions {
            text.element("{\"target\":\"MOD\",\"key\":")
            text.octets(keys.octets(of: condition.key))
            // An absent key has revision 0 in comparisons, which is what 0 stands for here. No key
            // has the highest one.
            let revision = min(condition.modRevision, UInt64(Int64.max))
            text.add(",\"mod_revision\":\"\(revision)\"}")
        }
        text.begin("],\"success\":[")
        for operation in transaction.operations {
            switch operation {
            case .put(let key, let value, let lease):
                text.element("{\"request_put\":{\"key\":")
                text.octets(keys.octets(of: key))
                text.add(",\"value\":")
                text.octets(value)
                if let lease { text.add(",\"lease\":\"\(Self.number(ofLease: lease))\"") }
                text.add("}}")
            case .delete(let key):
                text.element("{\"request_delete_range\":{\"key\":")
                text.octets(keys.octets(of: key))
                text.add("}}")
            }
        }
        text.add("]}")
        return Self("/v3/kv/txn", .transaction, text)
    }

    /// Reads at most `limit` pairs; at a revision if one is given.
    package static func read(_ range: KeyRange, limit: Int, at revision: UInt64?) -> Self {
        var text = JSONText(capacity: 128)
        text.add("{\"key\":")
        text.octets(range.first)
        text.add(",\"range_end\":")
        text.octets(range.end)
        text.add(",\"limit\":\"\(limit)\"")
        if let revision { text.add(",\"revision\":\"\(revision)\"") }
        text.add("}")
        return Self("/v3/kv/range", .range, text)
    }

    /// Reads nothing, but through a majority, and tells whether a revision is still kept.
    package static func probe(at revision: UInt64? = nil) -> Self {
        var text = JSONText(capacity: 64)
        text.add("{\"key\":\"AA==\"")
        if let revision { text.add(",\"revision\":\"\(revision)\"") }
        text.add("}")
        return Self("/v3/kv/range", .range, text)
    }

    /// Begins a lease.
    package static func grant(seconds: Int) -> Self {
        Self("/v3/lease/grant", .lease, JSONText("{\"TTL\":\"\(seconds)\"}"))
    }

    /// Lets a lease begin again.
    package static func keepAlive(_ lease: UInt64) -> Self {
        Self(
            "/v3/lease/keepalive", .keptAlive,
            JSONText("{\"ID\":\"\(number(ofLease: lease))\"}"))
    }

    /// Ends a lease.
    package static func revoke(_ lease: UInt64) -> Self {
        // The path that 3.3 and all later versions have.
        Self(
            "/v3/kv/lease/revoke", .revoked,
            JSONText("{\"ID\":\"\(number(ofLease: lease))\"}"))
    }

    /// Follows the changes of a range.
    package static func watch(_ range: KeyRange, from revision: UInt64) -> Self {
        var text = JSONText(capacity: 192)
        text.add("{\"create_request\":{\"key\":")
        text.octets(range.first)
        text.add(",\"range_end\":")
        text.octets(range.end)
        text.add(",\"start_revision\":\"\(revision)\",\"fragment\":true}}")
        return Self("/v3/watch", .watch, text)
    }

    /// Leases have the same 64 bits in etcd, as a signed number. 0 stands for "no lease" there: a
    /// number that etcd never gives takes its place, so that it is as unknown as it should be.
    static func number(ofLease lease: UInt64) -> Int64 {
        lease == 0 ? .min : Int64(bitPattern: lease)
    }
}

/// A JSON text under way.
private struct JSONText {
    private(set) var octets: [UInt8] = []
    private var isFirst = true

    init(capacity: Int) { octets.reserveCapacity(capacity) }

    init(_ text: String) { octets = Array(text.utf8) }

    mutating func add(_ text: String) { octets += text.utf8 }

    /// Adds a text that opens an array.
    mutating func begin(_ text: String) {
        add(text)
        isFirst = true
    }

    /// Adds the beginning of an element, behind the one before.
    mutating func element(_ text: String) {
        if !isFirst { octets.append(UInt8(ascii: ",")) }
        isFirst = false
        add(text)
    }

    mutating func octets(_ value: [UInt8]) {
        octets.reserveCapacity(octets.count + value.count / 3 * 4 + 64)
        octets.append(UInt8(ascii: "\""))
        Base64.append(value, to: &octets)
        octets.append(UInt8(ascii: "\""))
    }
}
