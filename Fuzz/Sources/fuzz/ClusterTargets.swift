// Bytes from other nodes and from the coordination store.

import Cluster
import Crypto

private func clusterSecret() -> ClusterSecret {
    guard let secret = try? ClusterSecret(key: SecretBytes(count: 32)) else {
        preconditionFailure("OpenSSL is needed")
    }
    return secret
}

/// A node that knows one peer.
final class LinkTarget {
    private var link: HALink

    init() {
        link = HALink(node: NodeID(2), incarnation: 2, secret: clusterSecret())
        link.learn(NodeID(1), incarnation: 1)
    }

    /// Once as a datagram, and once as what an authentic one holds: whatever is accepted must be
    /// what would be sent.
    func message(_ bytes: UnsafeRawBufferPointer) {
        precondition(link.open(bytes) == nil, "a forgery was accepted")
        guard let message = try? HALinkMessage(decoding: bytes) else { return }
        precondition(message.encode().elementsEqual(bytes))
    }
}

/// Sealed and opened records.
final class RecordTarget {
    private let seal: RecordSeal

    init() {
        guard let seal = try? RecordSeal(clusterSecret()) else {
            preconditionFailure("OpenSSL is needed")
        }
        self.seal = seal
    }

    /// The first octet chooses the kind; the rest is the record. Whatever is accepted must be what
    /// would be stored.
    func record(_ bytes: UnsafeRawBufferPointer) {
        precondition((try? seal.open(bytes, key: .allocation)) == nil, "a forgery was accepted")
        guard let kind = bytes.first else { return }
        let octets = UnsafeRawBufferPointer(rebasing: bytes[1...])
        if kind >= 0xF0 {
            guard let record = try? IKERecord(decoding: octets) else { return }
            return record.encode().withUnsafeBytes { precondition($0.elementsEqual(octets)) }
        }
        switch kind % 6 {
        case 0: check((try? AllocationRecord(decoding: octets))?.encode(), octets)
        case 1: check((try? LeaseRecord(decoding: octets))?.encode(), octets)
        case 2: check((try? MemberRecord(decoding: octets))?.encode(), octets)
        case 3: check((try? WeightRecord(decoding: octets))?.encode(), octets)
        case 4:
            guard let record = try? TunnelRecord(decoding: octets) else { return }
            record.encode().withUnsafeBytes { precondition($0.elementsEqual(octets)) }
        default:
            let text = String(decoding: octets, as: UTF8.self)
            if let key = StoreKey(text: text) { precondition(key.text == text) }
        }
    }

    private func check(_ encoded: [UInt8]?, _ octets: UnsafeRawBufferPointer) {
        if let encoded { precondition(encoded.elementsEqual(octets)) }
    }
}
