// The keys of a cluster against python's HMAC.

import Crypto
import TestSupport
import Testing
import Wire

@testable import Cluster

private struct Head: Decodable { let format: String }

private struct KeyCase: Decodable {
    struct Link: Decodable {
        let sender, receiver: UInt16
        let senderIncarnation, receiverIncarnation: UInt64
        let key: String
    }
    let name, clusterKey, tag, cookieKey, recordKey: String
    let links: [Link]
}

@Suite struct ClusterSecretTests {
    @Test func everyKeyIsTheDocumentedOne() throws {
        for one in try ClusterVectors<Head, KeyCase>("keys").cases {
            let comment = Comment(rawValue: one.name)
            let cluster = try ClusterSecret(key: secret(hex(one.clusterKey)))
            #expect(cluster.tag == number([0, 0] + hex(one.tag)), comment)
            #expect(try cluster.cookieKey() == CookieKey(bytes: hex(one.cookieKey)), comment)
            #expect(octets(of: cluster.recordKey()) == hex(one.recordKey), comment)
            for link in one.links {
                let key = cluster.linkKey(
                    from: HALinkEnd(
                        node: NodeID(link.sender), incarnation: link.senderIncarnation),
                    to: HALinkEnd(
                        node: NodeID(link.receiver), incarnation: link.receiverIncarnation))
                #expect(octets(of: key) == hex(link.key), comment)
            }
            #expect(octets(of: cluster.copy().recordKey()) == hex(one.recordKey), comment)
        }
    }

    @Test(arguments: [0, 1, 31])
    func shortKeysAreRefused(count: Int) throws {
        #expect(throws: ClusterSecretError.tooShort(bytes: count)) {
            _ = try ClusterSecret(key: SecretBytes(count: count))
        }
        #expect("\(ClusterSecretError.tooShort(bytes: count))".contains("32 or more"))
    }

    private func octets(of secret: borrowing SecretBytes) -> [UInt8] {
        secret.withUnsafeBytes { Array($0) }
    }
}
