// Two endpoints set up an IKE SA with a pair of CHILD SAs whose keys agree.

import Crypto
import ESP
import IKEStub
import Testing
import Wire

@Suite struct SetUp {
    @Test(arguments: [
        "aes256gcm16-prfsha384-x25519", "aes128gcm16-prfsha256-ecp256",
        "chacha20poly1305-prfsha512-ecp384", "aes256-sha512-modp2048",
        "aes128-sha256-ecp521",
    ])
    func aSharedKeyIsEnough(ike: String) throws {
        var configuration = PairConfiguration()
        configuration.ike = [ike]
        let pair = try configuration.pair()
        try pair.connect()
        #expect(pair.left.children.count == 1)
        pair.expectAgreement()
    }
}
